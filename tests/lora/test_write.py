"""Whatever is written in a form is the same LoRA when it is read, and its hashes are of what it holds."""

from __future__ import annotations

from pathlib import Path

import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.support.peer_loras import SHAPES

from tintype.lora.adapter import Adapter
from tintype.lora.lora import Lora
from tintype.lora.pairs import Pair, difference
from tintype.lora.read import read_lora
from tintype.lora.write import fused_pairs, write_lora
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.training.export import check_written

FORMS = [form.name for form in FLUX_KEYS.forms]


def filled() -> Adapter:
    adapter = Adapter(SHAPES, 4, 4.0, torch.device("cpu"))
    adapter.weights.data.normal_(generator=torch.Generator().manual_seed(0))
    return adapter


def save(lora: Lora, path: Path, form: str = "diffusers", **header: str) -> Path:
    return write_lora(lora, FLUX_KEYS, path, form=form, dtype=torch.float32, header=header)


def test_averaged_weights_are_written_where_they_are_given(tmp_path: Path) -> None:
    adapter = filled()
    path = save(adapter.lora(adapter.weights.data * 2), tmp_path / "a.safetensors")
    name = next(iter(SHAPES))
    torch.testing.assert_close(read_lora(path, FLUX_KEYS).pairs[name].down, 2 * adapter.layers[name][0].data)


layers = st.sets(st.sampled_from(sorted(SHAPES)), min_size=1)
kinds = st.tuples(st.integers(1, 6), st.sampled_from([0.5, 1.0, 3.0, 16.0]))


@given(form=st.sampled_from(FORMS), names=layers, kind=st.one_of(kinds, st.none()), data=st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_layers_ranks_and_alphas_survive_each_form(
    tmp_path: Path, form: str, names: set[str], kind: tuple[int, float] | None, data: st.DataObject
) -> None:
    """`kind`: the rank and alpha of all layers; None where each has its own."""
    pairs = {}
    for name in sorted(names):
        rank, alpha = kind or data.draw(kinds)
        out, into = SHAPES[name]
        pairs[name] = Pair(torch.randn(rank, into), torch.randn(out, rank), alpha)
    path = save(Lora(pairs), tmp_path / "a.safetensors", form)
    read = read_lora(path, FLUX_KEYS).pairs
    assert set(read) == set(pairs)
    assert all(difference(pair, read[name]) < 1e-5 for name, pair in pairs.items())
    check_written(path, Lora(pairs), FLUX_KEYS, dtype=torch.float32)


def test_a_factor_that_all_parts_share_is_written_once(tmp_path: Path) -> None:
    pairs = filled().lora().pairs
    names = [f"transformer_blocks.0.attn.{part}" for part in ("to_q", "to_k", "to_v")]
    shared = {name: Pair(pairs[names[0]].down, pairs[name].up, 4.0) for name in names}
    (fused,) = fused_pairs(shared, FLUX_KEYS).values()
    assert (fused.rank, fused.alpha) == (4, 4.0)
    again = read_lora(save(Lora(shared), tmp_path / "a.safetensors", "kohya"), FLUX_KEYS).pairs
    for name, pair in shared.items():
        assert torch.equal(again[name].change(), pair.change())


def test_the_hashes_stay_when_only_the_title_changes(tmp_path: Path) -> None:
    told = []
    for title in ("a", "a much longer title"):
        path = save(filled().lora(), tmp_path / "a.safetensors", "kohya", **{"modelspec.title": title})
        told.append(read_lora(path, FLUX_KEYS).header)
    assert told[0]["modelspec.title"] != told[1]["modelspec.title"]
    assert told[0]["sshs_model_hash"] == told[1]["sshs_model_hash"]
    assert told[0]["sshs_legacy_hash"] == told[1]["sshs_legacy_hash"]
