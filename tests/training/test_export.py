"""The file that is handed over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tintype.families.lora_file import METADATA_KEY, read_lora
from tintype.training.adapters import Adapter
from tintype.training.export import header, to_diffusers

HEADER = header(title="t", trigger="TOK", base="miniature", steps=3, licence="free", architecture="flux-1-dev")


@pytest.fixture
def adapter() -> Adapter:
    made = Adapter({"first": (6, 8), "blocks.0.out": (8, 6)}, 4, 4.0, torch.device("cpu"))
    made.weights.data.normal_(generator=torch.Generator().manual_seed(0))
    return made


def exported(adapter: Adapter, path: Path, weights: torch.Tensor | None = None) -> Path:
    return to_diffusers(adapter, path, weights=weights, dtype=torch.float32, header=HEADER)


def test_what_is_read_back_is_what_was_trained(adapter: Adapter, tmp_path: Path) -> None:
    adapter.alpha = 1.0
    lora = read_lora(exported(adapter, tmp_path / "a.safetensors"), loc=())
    assert set(lora.pairs) == {"first", "blocks.0.out"}
    for name, (down, up) in adapter.layers.items():
        pair = lora.pairs[name]
        assert torch.equal(pair.down, down)
        assert torch.equal(pair.up, up)
        assert pair.alpha == 1.0


def test_averaged_weights_are_written_where_they_are_given(adapter: Adapter, tmp_path: Path) -> None:
    lora = read_lora(exported(adapter, tmp_path / "a.safetensors", adapter.weights.data * 2), loc=())
    torch.testing.assert_close(lora.pairs["first"].down, 2 * adapter.layers["first"][0].data)


def test_the_header_says_what_the_file_is(adapter: Adapter, tmp_path: Path) -> None:
    with safe_open(exported(adapter, tmp_path / "a.safetensors"), framework="pt") as opened:
        metadata = opened.metadata()
        assert all(key.startswith("transformer.") for key in opened.keys())  # noqa: SIM118
    assert metadata["modelspec.trigger_phrase"] == "TOK"
    assert metadata["modelspec.license"] == "free"
    assert json.loads(metadata[METADATA_KEY])["transformer.r"] == 4
