"""Which base is used, and that the decision is cheap, honest, and downloads nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tintype.errors import WeightsMissing
from tintype.models import flux, ideogram4, weights
from tintype.models.weights import cached_snapshot, describe, resolve
from tintype.settings import GIB, load_settings


def snapshot(hub: Path, repository: str = flux.FAMILY.repository, missing: str = "") -> Path:
    """A complete-looking download, but for one file."""
    home = hub / f"models--{repository.replace('/', '--')}"
    folder = home / "snapshots" / "abc"
    files = {
        "model_index.json": "{}",
        "vae/diffusion_pytorch_model.safetensors": "",
        "text_encoder/model.safetensors": "",
        "text_encoder_2/model-1.safetensors": "",
        "text_encoder_2/model.safetensors.index.json": json.dumps({"weight_map": {"a": "model-1.safetensors"}}),
        "transformer/t-1.safetensors": "",
        "transformer/t-2.safetensors": "",
        "transformer/t.safetensors.index.json": json.dumps(
            {"weight_map": {"a": "t-1.safetensors", "b": "t-2.safetensors"}}
        ),
    }
    for name, content in files.items():
        if name != missing:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text("abc")
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_auto_without_a_gpu_is_the_miniature_and_says_why(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot(hub)
    monkeypatch.setattr(weights, "gpu_bytes", lambda: None)
    chosen = resolve(load_settings(flux_base="auto", device="auto"))
    assert chosen.miniature
    assert "no NVIDIA GPU" in chosen.why
    assert "weights pull flux" in describe(chosen)


def test_auto_needs_a_gpu_that_fits_and_the_weights(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(flux_base="auto", device="auto")
    monkeypatch.setattr(weights, "gpu_bytes", lambda: 141 * GIB)
    assert resolve(settings).miniature, "nothing is downloaded behind anyone's back"
    folder = snapshot(hub)
    real = resolve(settings)
    assert (real.miniature, real.folder, real.source) == (False, folder, flux.FAMILY.repository)
    assert "Non-Commercial" in real.licence
    monkeypatch.setattr(weights, "gpu_bytes", lambda: 24 * GIB)
    assert resolve(settings).miniature
    monkeypatch.setattr(weights, "gpu_bytes", lambda: 141 * GIB)
    assert resolve(load_settings(flux_base="auto", device="cpu")).miniature


@pytest.mark.parametrize(
    "missing", ["transformer/t-2.safetensors", "vae/diffusion_pytorch_model.safetensors", "model_index.json"]
)
def test_an_interrupted_download_does_not_count(hub: Path, missing: str) -> None:
    snapshot(hub, missing=missing)
    assert cached_snapshot(flux.FAMILY) is None


def test_what_is_not_here_is_an_error_with_a_remedy(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="weights pull"):
        resolve(load_settings(flux_base="someone/something"))
    for nowhere in (str(tmp_path / "nothing"), "./nothing", str(tmp_path)):
        with pytest.raises(WeightsMissing, match=r"model_index\.json"):
            resolve(load_settings(flux_base=nowhere))


def test_a_folder_is_taken_as_it_is(hub: Path) -> None:
    folder = snapshot(hub)
    assert resolve(load_settings(flux_base=str(folder))).folder == folder
    assert not resolve(load_settings(flux_base=str(folder))).miniature


def test_deciding_needs_no_torch() -> None:
    code = (
        "import sys; from tintype.models.weights import describe, resolve;"
        "from tintype.settings import load_settings;"
        "print(describe(resolve(load_settings(flux_base='miniature'))));"
        "assert not {'torch', 'diffusers', 'transformers', 'numpy'} & set(sys.modules), 'too much was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


def test_ideogram_4_is_chosen_by_its_own_setting(ideogram_folder: Path) -> None:
    chosen = resolve(load_settings(ideogram4_base=str(ideogram_folder)), "ideogram4")
    assert (chosen.family, chosen.miniature) == ("ideogram4", False)
    assert "TINTYPE_IDEOGRAM4_BASE" in chosen.why
    assert "Ideogram Non-Commercial" in chosen.licence
    with pytest.raises(WeightsMissing, match="TINTYPE_IDEOGRAM4_BASE=miniature"):
        resolve(load_settings(ideogram4_base="nobody/nothing"), "ideogram4")


def test_an_ideogram_download_needs_both_transformers(hub: Path) -> None:
    folder = snapshot(hub, "a/b", missing="text_encoder_2/model-1.safetensors")
    assert cached_snapshot(ideogram4.FAMILY, "a/b") is None
    (folder / "unconditional_transformer").mkdir()
    (folder / "unconditional_transformer" / "model.safetensors").write_text("")
    assert cached_snapshot(ideogram4.FAMILY, "a/b") == folder
