"""Which base is used, and that the decision is cheap, honest, and downloads nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from tintype.errors import WeightsMissing
from tintype.models import flux, ideogram4, weights
from tintype.models.weights import cached_snapshot, describe, resolve
from tintype.settings import GIB, load_settings


def snapshot(
    hub: Path, repository: str = flux.FAMILY.repository, missing: str = "", kind: str = "FluxPipeline"
) -> Path:
    """A complete-looking download, but for one file."""
    home = hub / f"models--{repository.replace('/', '--')}"
    folder = home / "snapshots" / "abc"
    files = {
        "model_index.json": json.dumps({"_class_name": kind}),
        "tokenizer/vocab.json": "{}",
        "tokenizer_2/spiece.model": "",
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
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_auto_without_a_gpu_is_the_miniature_and_says_why(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot(hub)
    monkeypatch.setattr(weights, "gpu_bytes", lambda setting: None)
    chosen = resolve(load_settings(flux_base="auto", device="auto"))
    assert chosen.miniature
    assert "no GPU" in chosen.why
    assert "weights pull flux" in describe(chosen)


def test_auto_needs_a_gpu_that_fits_and_the_weights(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(flux_base="auto", device="auto")
    monkeypatch.setattr(weights, "gpu_bytes", lambda setting: 141 * GIB)
    assert resolve(settings).miniature, "nothing is downloaded behind anyone's back"
    folder = snapshot(hub)
    real = resolve(settings)
    assert (real.miniature, real.folder, real.source) == (False, folder, flux.FAMILY.repository)
    assert "Non-Commercial" in real.licence
    monkeypatch.setattr(weights, "gpu_bytes", lambda setting: 8 * GIB)
    assert resolve(settings).miniature
    monkeypatch.setattr(weights, "gpu_bytes", lambda setting: 24 * GIB)
    assert (resolve(settings).miniature, resolve(settings).precision) == (False, "auto")
    assert resolve(load_settings(flux_base="auto", precision="stored")).miniature, "it fits rounded only"
    monkeypatch.setattr(weights, "gpu_bytes", lambda setting: 141 * GIB)
    assert resolve(load_settings(flux_base="auto", device="cpu")).miniature


@pytest.mark.parametrize(
    "missing",
    [
        "tokenizer/vocab.json",
        "transformer/t-2.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "model_index.json",
    ],
)
def test_an_interrupted_download_does_not_count(hub: Path, missing: str) -> None:
    snapshot(hub, missing=missing)
    assert cached_snapshot(flux.FAMILY) is None


def test_what_is_not_here_is_an_error_with_a_remedy(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMissing, match="weights pull"):
        resolve(load_settings(flux_base="someone/something"))
    for nowhere in (str(tmp_path / "nothing"), "./nothing", "models/flux1-dev.safetensors"):
        with pytest.raises(WeightsMissing, match="There is no file or folder"):
            resolve(load_settings(flux_base=nowhere))
    with pytest.raises(WeightsMissing, match=r"model_index\.json"):
        resolve(load_settings(flux_base=str(tmp_path)))


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
    folder = snapshot(hub, "a/b", missing="text_encoder_2/model-1.safetensors", kind="Ideogram4Pipeline")
    assert cached_snapshot(ideogram4.FAMILY, "a/b") is None
    (folder / "unconditional_transformer").mkdir()
    (folder / "unconditional_transformer" / "model.safetensors").write_text("")
    assert cached_snapshot(ideogram4.FAMILY, "a/b") == folder


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        ("Flux2Pipeline", "FLUX.2"),
        ("Flux2KleinPipeline", "FLUX.2"),
        ("FluxKontextPipeline", "FLUX.1 Kontext"),
        ("FluxFillPipeline", "FLUX.1 Fill"),
        ("StableDiffusionPipeline", "Stable Diffusion 1.5 or 2"),
        ("StableDiffusionXLPipeline", "Stable Diffusion XL"),
        ("StableDiffusion3Pipeline", "Stable Diffusion 3"),
        ("QwenImagePipeline", "Qwen-Image"),
        ("ZImagePipeline", "Z-Image"),
        ("ChromaPipeline", "Chroma"),
        ("WanPipeline", "Wan"),
        ("KolorsPipeline", "a KolorsPipeline"),
        ("Ideogram4Pipeline", "Ideogram 4"),
    ],
)
def test_another_model_is_named_wherever_it_lies(hub: Path, kind: str, model: str) -> None:
    folder = snapshot(hub, "me/mine", kind=kind)
    snapshot(hub, "me/begun", missing="text_encoder_2/model-1.safetensors", kind=kind)
    for named in ("me/mine", "me/begun", str(folder)):
        with pytest.raises(WeightsMissing, match=re.escape(model)) as problem:
            resolve(load_settings(flux_base=named))
        assert kind in problem.value.message
        assert "not on this machine" not in problem.value.message
        assert "TINTYPE_FLUX_BASE" in problem.value.message


@pytest.mark.parametrize(
    ("repository", "model"),
    [
        ("black-forest-labs/FLUX.2-dev", "FLUX.2 [dev]"),
        ("black-forest-labs/FLUX.1-Kontext-dev", "FLUX.1 Kontext [dev]"),
        ("black-forest-labs/FLUX.1-Fill-dev", "FLUX.1 Fill [dev]"),
        ("black-forest-labs/FLUX.1-Depth-dev", "FLUX.1 Canny or Depth [dev]"),
        ("stabilityai/stable-diffusion-xl-base-1.0", "Stable Diffusion XL"),
        ("stabilityai/stable-diffusion-3.5-large", "Stable Diffusion 3.5 Large"),
        ("Qwen/Qwen-Image", "Qwen-Image"),
        ("ideogram-ai/ideogram-4-nf4", "Ideogram 4"),
    ],
)
def test_nobody_is_told_to_fetch_one_model_for_another(hub: Path, repository: str, model: str) -> None:
    with pytest.raises(WeightsMissing, match=re.escape(f"holds {model}: another model than FLUX.1 [dev]")):
        resolve(load_settings(flux_base=repository))


def test_a_network_with_more_channels_is_not_taken(hub: Path) -> None:
    folder = snapshot(hub)
    (folder / "transformer" / "config.json").write_text('{"_class_name": "FluxTransformer2DModel", "in_channels": 384}')
    (folder / "vae" / "config.json").write_text('{"latent_channels": 16}')
    with pytest.raises(WeightsMissing, match="384 input channels"):
        resolve(load_settings(flux_base=str(folder)))


def test_the_cache_is_found_as_the_hubs_library_finds_it(tmp_path: Path) -> None:
    code = (
        "from tintype.models.weights import resolve; from tintype.settings import load_settings;"
        "print(resolve(load_settings(flux_base='a/b')).folder)"
    )
    for variable, place in (
        ("XDG_CACHE_HOME", "huggingface/hub"), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub"), ("HF_HUB_CACHE", "")
    ):  # fmt: skip
        home = tmp_path / variable
        folder = snapshot(home / place, "a/b")
        unset = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        found = subprocess.run(
            [sys.executable, "-c", code], env=environment | {variable: str(home)}, check=True, capture_output=True
        )
        assert found.stdout.decode().strip() == str(folder)


def test_what_a_download_lacks_is_named(hub: Path) -> None:
    snapshot(hub, "a/b", missing="transformer/t-2.safetensors")
    with pytest.raises(WeightsMissing, match=r"missing are transformer/t-2\.safetensors.*--repository a/b"):
        resolve(load_settings(flux_base="a/b"))
    snapshot(hub, missing="text_encoder/model.safetensors")
    with pytest.raises(WeightsMissing, match=r"missing are text_encoder\.") as problem:
        resolve(load_settings(flux_base=flux.FAMILY.repository))
    assert "--repository" not in problem.value.message


@pytest.mark.parametrize(
    ("repository", "configuration", "version", "licence"),
    [
        ("black-forest-labs/FLUX.1-Krea-dev", {"guidance_embeds": True}, "flux1-krea-dev", "Non-Commercial"),
        ("ostris/Flex.1-alpha", {"guidance_embeds": True}, "flex1-alpha", "Apache-2.0"),
        ("black-forest-labs/FLUX.1-schnell", {"guidance_embeds": False}, "flux1-schnell", "Apache-2.0"),
        ("a/copy", {"guidance_embeds": False}, "flux1-schnell", "Apache-2.0"),
        (
            "someone/portraits",
            {"guidance_embeds": True},
            "flux1 (someone/portraits)",
            "huggingface.co/someone/portraits",
        ),
        (flux.FAMILY.repository, {"guidance_embeds": True}, None, "Non-Commercial"),
    ],
)
def test_editions_and_fine_tunes_are_named_in_what_is_trained_on_them(
    hub: Path, repository: str, configuration: dict[str, bool], version: str | None, licence: str
) -> None:
    folder = snapshot(hub, repository)
    (folder / "transformer" / "config.json").write_text(json.dumps(configuration))
    chosen = resolve(load_settings(flux_base=repository))
    assert chosen.facts.get("ss_base_model_version") == version
    assert repository in chosen.facts.get("modelspec.description", repository)
    assert licence in chosen.licence
    assert chosen.own_traits == ({} if version != "flux1-schnell" else flux.EDITIONS[0].traits)


def test_a_folder_is_named_without_the_way_there(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = snapshot(hub)
    monkeypatch.chdir(folder.parent.parent)
    for named in (str(folder), "snapshots/abc"):
        chosen = resolve(load_settings(flux_base=named))
        assert (chosen.name, chosen.source, chosen.facts) == ("abc", str(folder), {})
        assert "huggingface.co/snapshots" not in chosen.licence
