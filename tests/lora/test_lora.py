"""What a LoRA says of itself, what it fits, and what PEFT is told of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.peer_loras import SHAPES, WIDTH, Base, factors, keyed, written

from tintype.errors import UnusableAdapter
from tintype.lora.lora import linear_shapes
from tintype.lora.read import read_lora
from tintype.models.flux.lora_keys import FLUX_KEYS

LAYER = "transformer_blocks.0.attn.to_q"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"transformer_blocks.5.attn.to_q": (WIDTH, WIDTH)}, "another one. Found: transformer_blocks.5"),
        ({LAYER: (1536, 1536)}, "another size, probably Stable Diffusion 3"),
        ({LAYER: (3072, 3072)}, "another size, probably FLUX.1: transformer_blocks.0"),
        ({LAYER: (6144, 6144)}, "another size, probably FLUX.2 [dev]"),
        (
            {LAYER: (WIDTH, WIDTH), "x_embedder": (WIDTH, 384)},
            "(x_embedder); it was made for another one, probably FLUX.1 Fill",
        ),
        ({"transformer_blocks.59.attn.to_q": (3072, 3072)}, "another one, probably Qwen-Image. Found: transformer"),
        ({LAYER: (WIDTH, WIDTH + 1)}, "8x9 in the file and 8x8 in the base"),
        ({LAYER: (WIDTH, WIDTH), "transformer_blocks.5.attn.to_q": (WIDTH, WIDTH)}, "1 of this LoRA's 2 layers"),
    ],
)
def test_a_lora_of_another_base_is_refused(tmp_path: Path, made: dict[str, tuple[int, int]], said: str) -> None:
    tensors = keyed("transformer.", factors(made), "lora_A", "lora_B", alpha=None, dots=True)
    lora = read_lora(written(tmp_path / "a.safetensors", tensors), FLUX_KEYS)
    with pytest.raises(UnusableAdapter) as caught:
        lora.check_fits(Base(), FLUX_KEYS)
    assert said in caught.value.message


def test_shapes_are_found_under_an_adapter_too() -> None:
    base = Base()
    wrapped = torch.nn.Module()
    attention = base.get_submodule("transformer_blocks.0.attn")
    wrapped.base_layer = attention.to_q
    attention.to_q = wrapped
    assert linear_shapes(base)[LAYER] == (WIDTH, WIDTH)


def test_the_account_names_what_is_not_gone_on_from(tmp_path: Path) -> None:
    shapes = {**SHAPES, "transformer_blocks.0.norm1.linear": (6 * WIDTH, WIDTH)}
    tensors = keyed("transformer.", factors(shapes), "lora_A", "lora_B", alpha=None, dots=True)
    lora = read_lora(written(tmp_path / "a", tensors | {"text_encoder.x.lora_A.weight": torch.zeros(1, 1)}), FLUX_KEYS)
    said = lora.account([*SHAPES, "single_transformer_blocks.1.proj_out"])
    assert "diffusers' form, rank 2: 17 of 18 layers start from it" in said[0]
    assert "norm1.linear" in said[1]
    assert "text_encoder.x" in said[2]


def test_a_name_that_ends_as_another_reaches_only_its_own_layer(tmp_path: Path) -> None:
    """PEFT matches names by their ending; the last layer's name ends every single block's too."""
    from peft import LoraConfig, inject_adapter_in_model

    shapes = {**SHAPES, "proj_out": (4, WIDTH)}
    tensors = keyed("transformer.", factors({"proj_out": (4, WIDTH)}), "lora_A", "lora_B", alpha=7.0, dots=True)
    config = read_lora(written(tmp_path / "a", tensors), FLUX_KEYS).config
    base = inject_adapter_in_model(
        LoraConfig(**{key.removeprefix("transformer."): value for key, value in config.items()}), Base(shapes)
    )
    assert [name for name, _ in base.named_parameters() if "lora_A" in name] == ["proj_out.lora_A.default.weight"]
