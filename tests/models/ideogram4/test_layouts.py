"""Every layout people have loads into the same network, and what cannot be read is refused before it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import Ideogram4Transformer2DModel
from safetensors.torch import load_file, save_file

from tintype.errors import WeightsMissing
from tintype.models.ideogram4.layouts import read_text_projection, read_transformer
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.weights import BaseWeights

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"
Tensors = dict[str, torch.Tensor]


def fused(tensors: Tensors) -> Tensors:
    """The original layout: q, k and v in one matrix, and o."""
    kept: Tensors = {}
    for name, tensor in tensors.items():
        if ".to_q." in name:
            parts = [tensors[name.replace("to_q", which)] for which in ("to_q", "to_k", "to_v")]
            kept[name.replace("to_q", "qkv")] = torch.cat(parts)
        elif ".to_k." not in name and ".to_v." not in name:
            kept[name.replace("to_out.0", "o")] = tensor
    return kept


def prefixed(tensors: Tensors) -> Tensors:
    return {f"model.diffusion_model.{name}": tensor for name, tensor in tensors.items()}


def in_fp8(tensors: Tensors, suffix: str = ".weight_scale", by_row: bool = True) -> Tensors:
    """Matrices of the blocks in e4m3, with a scale for each output row or for the whole."""
    kept: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.ndim == 2 and "layers." in name:
            largest = tensor.abs().amax(1, keepdim=True) if by_row else tensor.abs().max().reshape(1)
            scale = largest / 448
            kept[name] = (tensor / scale).to(torch.float8_e4m3fn)
            kept[name.removesuffix(".weight") + suffix] = scale.squeeze(-1)
        else:
            kept[name] = tensor
    return kept


@pytest.fixture
def rewritten(ideogram_folder: Path, tmp_path: Path) -> Callable[[Callable[[Tensors], Tensors]], Path]:
    def rewrite(change: Callable[[Tensors], Tensors]) -> Path:
        folder = tmp_path / "transformer"
        shutil.copytree(ideogram_folder / "transformer", folder)
        save_file(
            {key: value.contiguous() for key, value in change(load_file(folder / WEIGHTS)).items()}, folder / WEIGHTS
        )
        return folder

    return rewrite


def same(first: torch.nn.Module, second: torch.nn.Module, tolerance: float) -> None:
    wanted = second.state_dict()
    assert first.state_dict().keys() == wanted.keys()
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(tensor, wanted[name], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        (fused, 0.0),
        (lambda tensors: prefixed(fused(tensors)), 0.0),
        (in_fp8, 0.07),
        (lambda tensors: prefixed(in_fp8(fused(tensors), ".scale_weight", by_row=False)), 0.07),
        (lambda tensors: {**in_fp8(fused(tensors)), "scaled_fp8": torch.zeros(1)}, 0.07),
    ],
)
def test_other_layouts_give_the_same_network(
    ideogram_folder: Path,
    rewritten: Callable[[Callable[[Tensors], Tensors]], Path],
    change: Callable[[Tensors], Tensors],
    tolerance: float,
) -> None:
    plain = read_transformer(ideogram_folder / "transformer", CPU, torch.float32)
    folder = rewritten(change)
    read = read_transformer(folder, CPU, torch.float32)
    same(read, plain, tolerance)
    assert torch.equal(read.rotary_emb.inv_freq, plain.rotary_emb.inv_freq)
    assert not any(weight.requires_grad for weight in read.parameters())
    projection = read_text_projection(folder, CPU, torch.float32)
    assert projection is not None
    torch.testing.assert_close(projection.llm_cond_proj.weight, plain.llm_cond_proj.weight)


def test_bf16_keeps_rotary_frequencies_exact(ideogram_folder: Path) -> None:
    read = read_transformer(ideogram_folder / "transformer", CPU, torch.bfloat16)
    assert read.dtype == torch.bfloat16
    assert read.rotary_emb.inv_freq.dtype == torch.float32
    assert isinstance(read, Ideogram4Transformer2DModel)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: {k: v for k, v in fused(tensors).items() if "final_layer" not in k}, "lack: final_layer"),
        (lambda tensors: {**fused(tensors), "txt_in.weight": torch.zeros(2)}, "do not belong there: txt_in"),
        (lambda tensors: {**fused(tensors), "input_proj.weight": torch.zeros(3, 3)}, "another shape: input_proj"),
        (lambda tensors: {k: v for k, v in in_fp8(tensors).items() if "scale" not in k}, "in fp8 without a scale"),
    ],
)
def test_files_of_something_else_are_refused_by_name(
    rewritten: Callable[[Callable[[Tensors], Tensors]], Path], change: Callable[[Tensors], Tensors], said: str
) -> None:
    with pytest.raises(WeightsMissing, match=said):
        read_transformer(rewritten(change), CPU, torch.float32)


def quantised(method: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "transformer" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": {"quant_method": method}}))

    return change


def of_another_kind(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (of_another_kind, "holds a FluxPipeline"),
        (
            lambda folder: [
                path.unlink() for path in (folder / "model_index.json", folder / "transformer" / "config.json")
            ],
            "no model_index.json",
        ),
        (lambda folder: (folder / "unconditional_transformer" / WEIGHTS).unlink(), "no safetensors"),
        (quantised("sdnq"), "quantised with sdnq"),
        (quantised("bitsandbytes"), "NVIDIA GPUs only"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_can(
    ideogram_folder: Path, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    folder = tmp_path / "base"
    shutil.copytree(ideogram_folder, folder)
    weights = BaseWeights("ideogram4", folder, str(folder), "a test")
    Ideogram4Family.check_loadable(weights, CPU)
    change(folder)
    with pytest.raises(WeightsMissing, match=said) as problem:
        Ideogram4Family.check_loadable(weights, CPU)
    assert "bf16" in problem.value.message
