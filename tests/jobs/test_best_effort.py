"""A LoRA that is trained is handed over, whatever fails of what follows; and what failed is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
import torch
from diffusers import FluxPipeline
from PIL import Image
from safetensors.torch import load_file
from tests.support.images import encoded, zipped
from tests.support.packed import pack

from tintype.catalog.fields import File
from tintype.catalog.flux_lora_portrait_trainer import PortraitTrainerInput, TrainerOutput
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.jobs.train_portrait import run
from tintype.models.flux.model import FluxFamily
from tintype.settings import load_settings


@pytest.fixture(scope="module")
def models() -> ResidentModels:
    return ResidentModels(load_settings(flux_base="miniature"), "cpu")


class Training:
    """A short training in a folder, with what it said."""

    def __init__(self, models: ResidentModels, folder: Path, **inputs: object) -> None:
        self.warned: list[str] = []
        self.context = LocalContext(
            folder, load_settings(), resident_models=models,
            on_log=lambda level, message: self.warned.append(message) if level == "WARN" else None,
        )  # fmt: skip
        photos = {"0.png": encoded(Image.new("RGB", (512, 512), (80, 120, 60)))}
        url = self.context.offer(zipped(folder / "photos.zip", photos))
        given = {"images_data_url": url, "steps": 4, "rank": 2, "multiresolution_training": False, **inputs}
        self.input = PortraitTrainerInput.model_validate(given)

    def run(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """(the LoRA's tensors, the config file)"""
        output: TrainerOutput = run(self.input, self.context)
        return load_file(local(output.diffusers_lora_file)), json.loads(local(output.config_file).read_text())


def local(file: File) -> Path:
    return Path(unquote(urlparse(file.url).path))


def failing(original: Callable[..., Any], error: Exception, times: int) -> Callable[..., Any]:
    """Fails so many times before it does what it should."""
    left = [error] * times

    def call(*args: Any, **options: Any) -> Any:
        if left:
            raise left.pop()
        return original(*args, **options)

    return call


@pytest.fixture(scope="module")
def undisturbed(models: ResidentModels, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    lora, config = Training(models, tmp_path_factory.mktemp("whole")).run()
    assert config["not_made"] == {}
    return lora


def same(lora: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return lora.keys() == other.keys() and all(torch.equal(lora[key], other[key]) for key in lora)


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory.")


@pytest.mark.parametrize(
    ("error", "times", "proven"),
    [(OUT_OF_MEMORY, 1, True), (OUT_OF_MEMORY, 9, False), (ImportError("no bitsandbytes"), 9, False)],
)
def test_a_proof_that_cannot_run_keeps_no_one_from_the_lora(
    models: ResidentModels,
    undisturbed: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    times: int,
    proven: bool,
) -> None:
    before = models.family(FluxFamily).load_transformer()
    monkeypatch.setattr(FluxPipeline, "load_lora_weights", failing(FluxPipeline.load_lora_weights, error, times))
    training = Training(models, tmp_path)
    lora, config = training.run()
    assert same(lora, undisturbed)
    if proven:
        assert config["proof"]["keys"] == len(lora)
        assert config["not_made"] == {}
    else:
        assert config["proof"] == f"not run: {config['not_made']['proof']}"
        assert any("without its proof" in line for line in training.warned)
    unloaded = models.family(FluxFamily).load_transformer() is not before
    assert unloaded == isinstance(error, torch.OutOfMemoryError)
    assert [entry["file_name"] for entry in config["samples"]] == ["sample-0.png"]


def test_samples_that_do_not_fit_cost_neither_the_run_nor_its_result(
    models: ResidentModels, undisturbed: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FluxPipeline, "__call__", failing(FluxPipeline.__call__, OUT_OF_MEMORY, 99))
    lora, config = Training(models, tmp_path, checkpoint_every=2).run()
    assert same(lora, undisturbed)
    assert config["samples"] == []
    assert set(config["not_made"]) == {"samples at step 2", "samples at step 4", "samples"}
    assert len(config["checkpoints"]) == 2
    assert config["proof"]["keys"] == len(lora)


def test_what_cannot_be_written_is_left_out_and_named(
    models: ResidentModels, undisturbed: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    training = Training(models, tmp_path)
    for name in ("loss.svg", "report.html", "report.json"):
        (training.context.scratch / name).mkdir()  # no file can take its place
    lora, config = training.run()
    assert same(lora, undisturbed)
    assert set(config["not_made"]) == {"loss_curve", "report_html", "report"}
    assert not config.keys() & {"loss_curve", "report_html", "report"}
    assert len(config["samples"]) == 1
    assert len([line for line in training.warned if "without its" in line]) == 3


def test_a_packed_base_trains_proves_and_generates(
    models: ResidentModels, undisturbed: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    models.unload()
    pack(models.family(FluxFamily).load_transformer())
    try:
        lora, config = Training(models, tmp_path).run()
    finally:
        models.unload()
    assert config["not_made"] == {}
    assert config["proof"]["keys"] == len(lora)
    for key, tensor in undisturbed.items():
        torch.testing.assert_close(lora[key], tensor, atol=1e-4, rtol=0)
