"""A base model is a folder and a line: here one is declared in this file, registered, and trained."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from tintype.checks import check_weights
from tintype.cli import app
from tintype.dataset import Bucket, Dataset, DatasetReport, Example
from tintype.errors import NotFound, UnusableAdapter
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.lora.keys import DIFFUSERS, Block, LoraKeys
from tintype.lora.write import write_lora
from tintype.models.family import Family, Features, Forward, Latents
from tintype.models.flux.model import FluxFamily
from tintype.models.licence import Licence
from tintype.models.registry import FamilySpec, TrainingDefaults, family_spec, family_specs
from tintype.settings import BASE_MODELS, load_settings
from tintype.training.cache import encode_once
from tintype.training.loop import train
from tintype.training.plan import Plan

WIDTH, CHANNELS = 16, 3
FAMILY = FamilySpec(
    name="toy",
    short_title="Toy",
    title="Toy 1",
    licence=Licence("None", "https://example.com", "a test.", "a test."),
    repository="nobody/toy",
    parts=("transformer",),
    gpu_bytes=1,
    text_window=8,
    implementation=f"{__name__}:ToyFamily",
    lora_keys=LoraKeys("Toy", "", (DIFFUSERS,), (Block("knots", "knots", {"proj": ("proj",)}),)),
    training_defaults=TrainingDefaults(warmup_steps=1),
)


class ToyNetwork(nn.Module):
    """Two residual layers on the image's tokens, moved by the mean of the text's."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_attention_heads=1, attention_head_dim=WIDTH, in_channels=CHANNELS)
        self.enter, self.leave = nn.Linear(CHANNELS, WIDTH), nn.Linear(WIDTH, CHANNELS)
        self.knots = nn.ModuleList(nn.ModuleDict({"proj": nn.Linear(WIDTH, WIDTH)}) for _ in range(2))

    def forward(self, tokens: torch.Tensor, sigma: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        states = self.enter(tokens) + text.mean(1, keepdim=True) + sigma[:, None, None]
        for block in self.knots:
            states = states + block["proj"](states).tanh()  # type: ignore[index]
        moved: torch.Tensor = self.leave(states)
        return moved


class ToyFamily(Family):
    spec = FAMILY

    def encode_images(self, pixels: torch.Tensor) -> Latents:
        small = nn.functional.interpolate(pixels, size=(4, 4), mode="area")
        return Latents(small.flatten(2).transpose(1, 2), 4, 4)

    def encode_captions(self, texts: Sequence[str]) -> Features:
        codes = [[float(ord(letter)) / 128 for letter in text.ljust(8)[:8]] for text in texts]
        return Features(torch.tensor(codes)[..., None].expand(-1, -1, WIDTH), torch.zeros(len(texts), 1))

    def count_tokens(self, text: str) -> int:
        return len(text)

    def cut_off(self, text: str) -> str:
        return text[self.max_sequence_length :]

    def predict_velocity(
        self, transformer: Any, noisy: Latents, sigma: torch.Tensor, features: Features, guidance: float
    ) -> torch.Tensor:
        predicted: torch.Tensor = transformer(noisy.tokens, sigma, features.tokens)
        return predicted

    @property
    def adapter_targets(self) -> tuple[str, ...]:
        return ("knots.0.proj", "knots.1.proj")

    def kept_values(self, forward: Forward) -> tuple[float, ...]:
        return (2.0, 2.0)

    def layer_tokens(self, name: str, image: int, text: int) -> tuple[int, int]:
        return image, image

    @staticmethod
    def blocks_of(transformer: Any) -> list[Any]:
        return list(transformer.knots)

    @contextmanager
    def adapted(self, adapter: Adapter, forward: Forward = Forward.OWN, **_: Any) -> Iterator[Any]:
        transformer = self.load_transformer()
        with adapter.attached(transformer):
            yield transformer

    def _read_transformer(self) -> Any:
        torch.manual_seed(0)
        return ToyNetwork().requires_grad_(False)


@pytest.fixture
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BASE_MODELS, "toy", __name__)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "model_index.json").write_text("{}")
    return tmp_path / "toy"


def test_importing_the_registry_and_every_declaration_takes_no_torch() -> None:
    code = (
        "import sys; from tintype.models.registry import family_specs; assert len(family_specs()) == 2;"
        "assert not {'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules), 'too much was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", list(BASE_MODELS))
def test_every_declaration_names_a_class_that_is_of_it(name: str) -> None:
    kind = family_spec(name).load()
    assert issubclass(kind, Family)
    assert kind.spec is family_spec(name)


def test_a_name_that_is_not_registered_is_refused_with_those_that_are() -> None:
    with pytest.raises(NotFound, match="flux, ideogram4"):
        family_spec("toy")


@pytest.mark.usefixtures("_registered")
def test_one_line_gives_it_a_setting_a_row_and_a_check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [spec.name for spec in family_specs()] == ["flux", "ideogram4", "toy"]
    settings = load_settings(toy_base=str(folder), device="cpu")
    assert [(found.name, found.good) for found in check_weights(settings)][-1] == ("toy weights", True)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("TINTYPE_TOY_BASE", "miniature")
    listed = CliRunner().invoke(app, ["weights", "list"]).output
    assert "nobody/toy" in listed
    assert "--model toy" in " ".join(listed.split()), "it has no miniature, and the list says so"
    assert "None: a test." in CliRunner().invoke(app, ["weights", "pull", "toy"], input="n\n").output


@pytest.mark.usefixtures("_registered")
def test_it_is_trained_and_its_lora_is_read_back(folder: Path, tmp_path: Path) -> None:
    settings = load_settings(toy_base=str(folder), device="cpu")
    models = ResidentModels(settings, "cpu")
    family = models.family(family_spec("toy").load())
    assert (family.name, family.training_defaults.warmup_steps) == (str(folder), 1)
    examples = [Example(c, Image.new("RGB", (64, 64), c), c, (Bucket(64, 64),)) for c in ("red", "blue")]
    cache = encode_once(family, Dataset(examples, DatasetReport()), tmp_path / "encoded")
    network = family.load_transformer()
    adapter = Adapter.for_transformer(network, family.adapter_targets, rank=4, seed=0, device=family.device)
    context = LocalContext(tmp_path / "work", settings, resident_models=models)
    plan = Plan(steps=200, learning_rate=2e-2, batch_size=2, warmup_steps=1)
    trained = train(family, adapter, cache, plan, context, snapshot_dir=tmp_path / "kept")
    assert len(trained.losses) == 200
    assert sum(trained.losses[-20:]) < 0.7 * sum(trained.losses[:20])
    path = tmp_path / "lora.safetensors"
    write_lora(trained.lora, FAMILY.lora_keys, path, form="diffusers", dtype=torch.float32, header={})
    again = family.read_lora(path)
    assert set(again.pairs) == set(family.adapter_targets)
    for name, pair in trained.lora.pairs.items():
        assert torch.equal(again.pairs[name].up, pair.up)


@pytest.mark.usefixtures("_registered")
def test_a_lora_of_it_is_known_by_its_keys_where_it_is_sent_for_another_base(tmp_path: Path) -> None:
    factors = {f"transformer.knots.0.proj.lora_{which}.weight": torch.ones(2, 2) for which in "AB"}
    save_file(factors, tmp_path / "lora.safetensors")
    flux = ResidentModels(load_settings(flux_base="miniature"), "cpu").family(FluxFamily)
    with pytest.raises(UnusableAdapter, match="probably for Toy"):
        flux.read_lora(tmp_path / "lora.safetensors")
