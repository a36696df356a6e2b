"""Whatever stands before a layer's name, and however its factors are called, the same LoRA is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.support.peer_loras import FUSED, SHAPES, Base, factors, keyed, written

from tintype.errors import UnusableAdapter
from tintype.lora.keys import LoraKeys, is_text
from tintype.lora.lora import Lora
from tintype.lora.read import read_lora
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS

IDEOGRAM = {f"layers.1.{name}": (8, 8) for name in ("attention.to_q", "attention.to_out.0", "feed_forward.w2")}
BASES: list[tuple[LoraKeys, dict[str, tuple[int, int]]]] = [
    (FLUX_KEYS, {**SHAPES, "proj_out": (8, 8), "x_embedder": (8, 8), "norm_out.linear": (8, 8)}),
    (FLUX_KEYS, {**FUSED, "img_in": (8, 8), "final_layer.linear": (8, 8)}),
    (IDEOGRAM_KEYS, IDEOGRAM),
    (IDEOGRAM_KEYS, {"layers.0.attention.qkv": (24, 8), "layers.0.attention.o": (8, 8)}),
]
PREFIXES = (
    "base_model.model.", "transformer.", "diffusion_model.", "conditional_transformer.", "model.", "unet.", "dit.",
    "default.", "module.", "_orig_mod.", "pipe.", "lora_unet_", "lora_transformer_", "lycoris_",
)  # fmt: skip
ENDINGS = (
    ("lora_A", "lora_B"), ("lora_down", "lora_up"), ("lora.down", "lora.up"), ("down", "up"),
    ("lora_A.default", "lora_B.default"), ("lora_A.default_0", "lora_B.default_0"), ("lora_A.ohwx", "lora_B.ohwx"),
    ("lora_linear_layer.down", "lora_linear_layer.up"),
)  # fmt: skip


def same(one: Lora, other: Lora) -> bool:
    return one.pairs.keys() == other.pairs.keys() and all(
        torch.equal(pair.down, other.pairs[name].down) and torch.equal(pair.up, other.pairs[name].up)
        for name, pair in one.pairs.items()
    )


@given(
    base=st.sampled_from(BASES),
    prefix=st.lists(st.sampled_from(PREFIXES), max_size=5).map("".join),
    ending=st.sampled_from(ENDINGS),
    dots=st.booleans(),
    suffix=st.sampled_from([".weight", ""]),
)
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_prefixes_and_endings_name_the_same_pairs(
    tmp_path: Path,
    base: tuple[LoraKeys, dict[str, tuple[int, int]]],
    prefix: str,
    ending: tuple[str, str],
    dots: bool,
    suffix: str,
) -> None:
    keys, shapes = base
    made = factors(shapes)
    plain = read_lora(written(tmp_path / "plain", keyed("", made, *ENDINGS[0], alpha=None, dots=True)), keys)
    named = keyed(prefix if dots else prefix.replace(".", "_"), made, *ending, alpha=None, dots=dots)
    named = {key.removesuffix(".weight") + suffix: tensor for key, tensor in named.items()}
    assert same(read_lora(written(tmp_path / "named", named), keys), plain)


@pytest.mark.parametrize(
    "prefix", ["transformer.base_model.model.", "base_model.model.transformer.", "diffusion_model.model.",
               "model.diffusion_model.", "lora_unet_diffusion_model_"],
)  # fmt: skip
def test_two_prefixes_are_as_none_where_training_goes_on_too(tmp_path: Path, prefix: str) -> None:
    named = keyed(prefix, factors(SHAPES), "lora_A", "lora_B", alpha=None, dots=True)
    lora = read_lora(written(tmp_path / "a", named), FLUX_KEYS)
    lora.check_fits(Base(), FLUX_KEYS)
    assert lora.startable(SHAPES, 2).keys() == SHAPES.keys()
    assert f"{len(SHAPES)} of {len(SHAPES)} layers start from it" in lora.account(SHAPES)[0]


def test_wrappers_are_passed_over_wherever_they_stand() -> None:
    for name in ("transformer._orig_mod.transformer_blocks.0.attn.to_q", "module.transformer_blocks.0.attn.to_q",
                 "transformer_blocks.0._checkpoint_wrapped_module.attn.to_q",
                 "transformer.transformer_blocks.0._fsdp_wrapped_module.attn._orig_mod.to_q"):  # fmt: skip
        place = FLUX_KEYS.place_of(name)
        assert place is not None, name
        assert place.layers == ("transformer_blocks.0.attn.to_q",)


def test_two_adapters_in_one_file_are_no_lora(tmp_path: Path) -> None:
    made = factors({"proj_out": (8, 8)})
    both = {
        key: tensor.clone()
        for name in ("one", "two")
        for key, tensor in keyed("", made, f"lora_A.{name}", f"lora_B.{name}", alpha=None, dots=True).items()
    }
    with pytest.raises(UnusableAdapter, match="proj_out twice"):
        read_lora(written(tmp_path / "a", both), FLUX_KEYS)


@pytest.mark.parametrize("key", ["base_model.model.text_model.encoder.layers.0.mlp.fc1.lora_A.weight",
                                 "model.text_encoders.t5xxl.transformer.shared.lora_A.weight",
                                 "transformer.text_encoder_2.x.lora_A.weight", "lora_te3_x.alpha"])  # fmt: skip
def test_text_encoders_are_known_behind_prefixes(key: str) -> None:
    assert is_text(key)
