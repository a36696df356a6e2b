"""LoRA files that strangers send: read whatever trainer wrote them, refused with a sentence when they do not fit."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors.torch import load_file, save
from tests.support.peer_loras import SHAPES, WIDTH, Base, every_peer, factors, keyed, written

from tintype.errors import UnusableAdapter
from tintype.lora.keys import METADATA_KEY, LoraKeys
from tintype.lora.lora import Lora
from tintype.lora.read import read_lora
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS

PEERS = every_peer()
DOWN_UP = ("lora_down", "lora_up")
LAYER = "transformer_blocks.0.attn.to_q"
ONE = keyed("transformer.", factors({LAYER: (WIDTH, WIDTH)}), "lora_A", "lora_B", alpha=None, dots=True)


def refused(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> str:
    with pytest.raises(UnusableAdapter) as caught:
        read_lora(written(path, tensors, metadata), FLUX_KEYS, known=[FLUX_KEYS, IDEOGRAM_KEYS])
    return caught.value.message


def change(lora: Lora, name: str) -> torch.Tensor:
    pair = lora.pairs[name]
    return pair.scale * pair.up.float() @ pair.down.float()


@pytest.mark.parametrize("peer", PEERS)
def test_each_trainers_file_changes_each_layer_as_it_should(tmp_path: Path, peer: str) -> None:
    tensors, changes = PEERS[peer]
    lora = read_lora(written(tmp_path / "a.safetensors", tensors), FLUX_KEYS)
    lora.check_fits(Base(), FLUX_KEYS)
    assert set(lora.pairs) == set(changes)
    for name, wanted in changes.items():
        torch.testing.assert_close(change(lora, name), wanted)
    assert (lora.text_keys, lora.shifts) == ((), {})
    assert "start from it" in lora.account(SHAPES)[0]


def test_a_fetched_file_without_a_suffix_is_read_all_the_same(tmp_path: Path) -> None:
    assert read_lora(written(tmp_path / "fetched", ONE), FLUX_KEYS).pairs


def test_alphas_from_tensors_from_the_header_and_from_nowhere(tmp_path: Path) -> None:
    names = [LAYER, "transformer_blocks.0.attn.to_k", "single_transformer_blocks.0.proj_out", "proj_out"]
    shapes = {**SHAPES, "proj_out": (4, WIDTH)}
    made = factors({name: shapes[name] for name in names})
    tensors = keyed("transformer.", made, "lora_A", "lora_B", alpha=None, dots=True)
    assert all(pair.alpha == 2.0 for pair in read_lora(written(tmp_path / "a", tensors), FLUX_KEYS).pairs.values())
    told = {"transformer.lora_alpha": 1.0, "transformer.alpha_pattern": {names[1]: 3, "^proj_out": 5.0}}
    pairs = read_lora(
        written(
            tmp_path / "b", tensors | {f"transformer.{LAYER}.alpha": torch.tensor(4)}, {METADATA_KEY: json.dumps(told)}
        ),
        FLUX_KEYS,
    ).pairs
    assert [pairs[name].alpha for name in names] == [4.0, 3.0, 1.0, 5.0]


@pytest.mark.parametrize(
    ("keys", "layer"), [(FLUX_KEYS, LAYER), (IDEOGRAM_KEYS, "layers.0.attention.to_q")], ids=lambda value: str(value)
)
def test_rank_stabilised_scaling_is_honoured_for_every_base(tmp_path: Path, keys: LoraKeys, layer: str) -> None:
    """rsLoRA divides alpha by the root of the rank; its files say so in the header alone."""
    tensors = keyed("transformer.", factors({layer: (WIDTH, WIDTH)}, rank=9), "lora_A", "lora_B", alpha=None, dots=True)
    for told, scale in (({"use_rslora": True}, 6.0 / 3), ({"use_rslora": False}, 6.0 / 9), ({}, 6.0 / 9)):
        settings = {f"transformer.{name}": value for name, value in {"lora_alpha": 6.0, **told}.items()}
        path = written(tmp_path / "a", tensors, {METADATA_KEY: json.dumps(settings)})
        assert read_lora(path, keys).pairs[layer].scale == pytest.approx(scale)
    patterned = {"transformer.alpha_pattern": {layer: 3.0}, "transformer.use_rslora": True}
    path = written(tmp_path / "b", tensors, {METADATA_KEY: json.dumps(patterned)})
    assert read_lora(path, keys).pairs[layer].scale == pytest.approx(3.0 / 3)


@pytest.mark.parametrize("told", ["{", "[]", '{"transformer.lora_alpha": "x"}', '{"transformer.alpha_pattern": [1]}',
                                  '{"transformer.lora_alpha": NaN}', "[" * 100_000])  # fmt: skip
def test_a_header_that_does_not_tell_alpha_properly_is_refused(tmp_path: Path, told: str) -> None:
    assert METADATA_KEY in refused(tmp_path / "a", ONE, {METADATA_KEY: told})


def test_convolutions_of_one_pixel_are_linear_layers(tmp_path: Path) -> None:
    tensors = {key: tensor[:, :, None, None] for key, tensor in ONE.items()}
    plain = read_lora(written(tmp_path / "a", ONE), FLUX_KEYS)
    torch.testing.assert_close(
        change(read_lora(written(tmp_path / "b", tensors), FLUX_KEYS), LAYER), change(plain, LAYER)
    )


def test_the_last_layers_halves_are_put_in_order(tmp_path: Path) -> None:
    made = factors({"final_layer.adaLN_modulation.1": (2 * WIDTH, WIDTH)})
    tensors = keyed("lora_unet_", made, *DOWN_UP, alpha=None, dots=False)
    (down, up) = made["final_layer.adaLN_modulation.1"]
    wanted = torch.cat([(up @ down)[WIDTH:], (up @ down)[:WIDTH]])
    torch.testing.assert_close(
        change(read_lora(written(tmp_path / "a", tensors), FLUX_KEYS), "norm_out.linear"), wanted
    )


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("which", [0, 1])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, wrong: float, which: int) -> None:
    tensors = {key: tensor.clone() for key, tensor in ONE.items()}
    list(tensors.values())[which][1, 1] = wrong
    assert "not finite" in refused(tmp_path / "a", tensors)
    assert "alpha" in refused(tmp_path / "b", ONE | {f"transformer.{LAYER}.alpha": torch.tensor(wrong)})


def test_values_that_would_only_overflow_are_refused_too(tmp_path: Path) -> None:
    assert "too large" in refused(tmp_path / "a", {key: tensor * 1e30 for key, tensor in ONE.items()})


def without(ending: str) -> dict[str, torch.Tensor]:
    return {key: tensor for key, tensor in ONE.items() if not key.endswith(ending)}


QKV = {"a.lora_down.weight": torch.randn(2, WIDTH), "a.lora_up.weight": torch.randn(3 * WIDTH + 1, 2)}
TWICE = keyed("lora_transformer_", factors({LAYER: (WIDTH, WIDTH)}, seed=9), *DOWN_UP, alpha=None, dots=False)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({}, "it is empty"),
        ({"conv.weight": torch.zeros(2, 2)}, "Found one tensor: conv.weight"),
        ({"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.zeros(2, 2)}, "text encoders only"),
        ({"transformer.layers.0.attention.to_q.lora_A.weight": torch.zeros(2, 4608)}, "Ideogram 4"),
        (without("lora_B.weight"), "only one of its two factors"),
        (ONE | {f"transformer.{LAYER}.lora_B.weight": torch.zeros(WIDTH, 3)}, "do not fit each other"),
        (ONE | {f"transformer.{LAYER}.lora_B.weight": torch.zeros(WIDTH)}, "do not fit each other"),
        ({key: tensor[..., :0] for key, tensor in ONE.items()}, "do not fit each other"),
        ({key: tensor.to(torch.int32) for key, tensor in ONE.items()}, "not floating point"),
        (ONE | {f"transformer.{LAYER}.alpha": torch.ones(2)}, "alpha"),
        (ONE | {f"transformer.{LAYER}.alpha": torch.tensor(1j)}, "C64"),
        (ONE | {f"transformer.{LAYER}.dora_scale": torch.ones(2)}, "a DoRA"),
        ({"lycoris_transformer_blocks_0_attn_to_q.lokr_w1": torch.ones(2, 2)}, "a LoKr"),
        ({key.replace("a.", "lora_unet_double_blocks_0_img_attn_qkv."): value for key, value in QKV.items()}, "25x8"),
        (ONE | TWICE, "twice"),
    ],
)  # fmt: skip
def test_what_is_no_flux_lora_is_told_what_it_is(tmp_path: Path, tensors: dict[str, torch.Tensor], said: str) -> None:
    assert said in refused(tmp_path / "a", tensors)


def test_a_layer_that_is_there_in_two_namings_with_the_same_values_counts_once(tmp_path: Path) -> None:
    again = keyed("lora_transformer_", factors({LAYER: (WIDTH, WIDTH)}), *DOWN_UP, alpha=None, dots=False)
    lora = read_lora(written(tmp_path / "a", ONE | again), FLUX_KEYS)
    assert list(lora.pairs) == [LAYER]


FUZZED = save(PEERS["kohya sd-scripts"][0], {METADATA_KEY: "{}"})


@given(data=st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_mutation_of_a_lora_causes_anything_but_a_refusal(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(FUZZED)
    header = 8 + int.from_bytes(FUZZED[:8], "little")
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(8, header + 300))] = data.draw(
            st.sampled_from(b'0123456789abFQ_.-"x{}[]\xff\x7f')
        )
    path = tmp_path / "mutated"
    path.write_bytes(content)
    with contextlib.suppress(UnusableAdapter):
        read_lora(path, FLUX_KEYS).check_fits(Base(), FLUX_KEYS)


@given(data=st.data())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_choice_of_keys_and_shapes_causes_anything_but_a_refusal(tmp_path: Path, data: st.DataObject) -> None:
    peer = data.draw(st.sampled_from(sorted(PEERS)))
    tensors = dict(PEERS[peer][0])
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(sorted(key for key in tensors if not tensors[key].is_complex())))
        tensor = tensors.pop(key)
        kind = data.draw(st.sampled_from(["drop", "rename", "reshape", "retype", "add"]))
        if kind == "rename":
            tensors[key.replace("0", data.draw(st.sampled_from(["1", "", "x", "00"])), 1)] = tensor
        elif kind == "reshape":
            tensors[key] = torch.zeros(data.draw(st.lists(st.integers(0, 9), max_size=4)))
        elif kind == "add":
            tensors[key] = tensor
            stem = key.split(".lora")[0].split(".down")[0].split(".up")[0].removesuffix(".alpha")
            ending = data.draw(st.sampled_from(["diff", "diff_b", "lora_B.bias", "lora_up.bias", "w_norm", "b_norm"]))
            shape = data.draw(st.one_of(st.just([8]), st.just([8, 8]), st.lists(st.integers(0, 9), max_size=4)))
            tensors[f"{stem}.{ending}"] = torch.ones(shape)
        elif kind == "retype":
            tensors[key] = tensor.to(data.draw(st.sampled_from([torch.int64, torch.bool, torch.complex64, torch.half])))
        if not tensors:
            return
    path = written(tmp_path / "changed", tensors)
    with contextlib.suppress(UnusableAdapter):
        read_lora(path, FLUX_KEYS).check_fits(Base(), FLUX_KEYS)
    assert set(load_file(path)) == set(tensors)  # reading leaves the file alone
