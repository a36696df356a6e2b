"""LoRA files that strangers send: read when they fit, refused with a sentence when not, never unpickled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tintype.errors import UnusableAdapter
from tintype.families.lora_file import METADATA_KEY, check_fits, linear_shapes, read_lora

LOC = ("body", "loras", 0, "path")


class Base(torch.nn.Module):
    """A transformer's outside: two linear layers with names."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.block = torch.nn.Linear(width, 6)
        self.other = torch.nn.Linear(6, width)


def factors(layer: str = "block", rank: int = 2, into: int = 8, out: int = 6) -> dict[str, torch.Tensor]:
    return {
        f"transformer.{layer}.lora_A.weight": torch.randn(rank, into),
        f"transformer.{layer}.lora_B.weight": torch.randn(out, rank),
    }


def written(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    save_file(tensors, path, metadata=metadata)
    return path


def test_a_fitting_file_is_read_with_its_alpha(tmp_path: Path) -> None:
    metadata = {METADATA_KEY: json.dumps({"transformer.r": 2, "transformer.lora_alpha": 1.0})}
    lora = read_lora(written(tmp_path / "a.safetensors", factors(), metadata), loc=LOC)
    check_fits(lora, Base(), loc=LOC)
    assert (lora.pairs["block"].rank, lora.pairs["block"].alpha) == (2, 1.0)


def test_alpha_tensors_and_missing_alphas_are_understood(tmp_path: Path) -> None:
    tensors = {**factors(), **factors("other", into=6, out=8), "transformer.block.alpha": torch.tensor(4.0)}
    pairs = read_lora(written(tmp_path / "a.safetensors", tensors), loc=LOC).pairs
    assert (pairs["block"].alpha, pairs["other"].alpha) == (4.0, 2.0)


def test_a_fetched_file_without_a_suffix_is_read_all_the_same(tmp_path: Path) -> None:
    assert read_lora(written(tmp_path / "fetched", factors()), loc=LOC).pairs


def test_a_pickle_is_refused_without_being_opened(tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (trap,)

    for legacy in (True, False):
        torch.save({"x": Trap()}, tmp_path / "a.safetensors", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(UnusableAdapter, match="pickle"):
            read_lora(tmp_path / "a.safetensors", loc=LOC)
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"\x10\0\0\0\0\0\0\0{not json at all", b"\xff" * 40])
def test_damaged_files_are_refused_at_their_place(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UnusableAdapter) as caught:
        read_lora(tmp_path / "a", loc=LOC)
    assert caught.value.details[0]["loc"] == ["body", "loras", 0, "path"]


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.safetensors", factors()).read_bytes()
    (tmp_path / "b.safetensors").write_bytes(whole[:-8])
    with pytest.raises(UnusableAdapter, match="damaged"):
        read_lora(tmp_path / "b.safetensors", loc=LOC)


def test_safetensors_without_a_lora_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", {"unet.conv.weight": torch.zeros(2, 2)})
    with pytest.raises(UnusableAdapter, match="no LoRA layer"):
        read_lora(path, loc=LOC)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (factors("elsewhere"), "another one"),
        (factors(into=9), "another size"),
        (factors(out=7), "another size"),
        ({**factors(), **factors("elsewhere")}, "1 of this LoRA's 2"),
    ],
)
def test_a_lora_of_another_base_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], said: str) -> None:
    lora = read_lora(written(tmp_path / "a.safetensors", tensors), loc=LOC)
    with pytest.raises(UnusableAdapter, match=said):
        check_fits(lora, Base(), loc=LOC)


def test_shapes_are_found_under_an_adapter_too() -> None:
    base = Base()
    wrapped = torch.nn.Module()
    wrapped.base_layer = base.block
    base.block = wrapped  # type: ignore[assignment]
    assert linear_shapes(base)["block"] == (6, 8)
