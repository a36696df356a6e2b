"""The real model's layout (8-fold autoencoder, 16-pixel tokens, no traits, bf16) with few and narrow layers.

What is special about the real model is exercised here without its weights: nominal pixels are true pixels, rates are
taken as they are, and adapters train beside a bf16 base.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from tintype.catalog.flux_lora import FluxInput
from tintype.catalog.flux_lora_portrait_trainer import PortraitTrainerInput
from tintype.jobs.generate_flux import run as generate
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels, resident_models
from tintype.jobs.train_portrait import run
from tintype.models.flux.model import FluxFamily
from tintype.settings import Settings, load_settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings that name a folder with a narrow FLUX in it."""
    folder = tmp_path_factory.mktemp("narrow")
    narrow_pipeline().save_pretrained(folder)
    (folder / "LICENSE.md").write_text("The text as it came.")
    return load_settings(flux_base=str(folder), device="cpu")


def narrow_pipeline(guidance: bool = True) -> FluxPipeline:
    torch.manual_seed(0)
    small = ResidentModels(load_settings(flux_base="miniature"), "cpu").family(FluxFamily).fresh_pipeline()
    vae = AutoencoderKL(
        latent_channels=16,
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    transformer = FluxTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=small.text_encoder_2.config.d_model,
        pooled_projection_dim=small.text_encoder.config.hidden_size,
        guidance_embeds=guidance,
        axes_dims_rope=(4, 6, 6),
    )
    return FluxPipeline(**{**small.components, "vae": vae, "transformer": transformer})


def test_sizes_are_true_pixels_in_steps_of_a_token(settings: Settings) -> None:
    flux = ResidentModels(settings, "cpu").family(FluxFamily)
    assert not flux.weights.miniature
    assert (flux.size_step, flux.max_sequence_length) == (16, 512)
    published = [(1024, 1024), (512, 512), (768, 1024), (576, 1024), (1024, 768), (1024, 576)]
    assert [flux.true_size(*size) for size in published] == published
    assert flux.true_size(1000, 70) == (992, 64)
    latents = flux.encode_images(torch.zeros(1, 3, 96, 64))
    assert (latents.rows, latents.columns, latents.tokens.shape) == (6, 4, (1, 24, 64))


def test_the_loss_of_an_adapter_beside_a_bf16_base_has_finite_gradients(settings: Settings) -> None:
    from tintype.lora.adapter import Adapter
    from tintype.models.family import Latents

    flux = FluxFamily(ResidentModels(settings, "cpu").family(FluxFamily).weights, torch.device("cpu"), torch.bfloat16)
    transformer = flux.load_transformer()
    assert transformer.dtype == torch.bfloat16
    adapter = Adapter.for_transformer(transformer, flux.adapter_targets, rank=4, seed=0, device=flux.device)
    assert adapter.weights.dtype == torch.float32
    with adapter.attached(transformer):
        predicted = flux.predict_velocity(
            transformer, Latents(torch.randn(1, 24, 64), 6, 4), torch.tensor([0.5]), flux.encode_captions(["TOK"]), 1.0
        )
        predicted.float().square().mean().backward()
    gradient = adapter.weights.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_a_portrait_is_trained_at_the_rate_that_was_asked_for(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tintype.jobs.samples._SIZE", (128, 128))  # 1024 px would take half a minute
    settings = settings.model_copy(update={"data_dir": tmp_path, "bfl_license_key": "a key"})
    context = LocalContext(tmp_path, settings)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        target = io.BytesIO()
        Image.new("RGB", (160, 96), (200, 120, 60)).save(target, "PNG")
        archive.writestr("a.png", target.getvalue())
    order = {"images_data_url": context.offer(tmp_path / "photos.zip"), "trigger_phrase": "TOK", "steps": 2, "rank": 2}
    output = run(PortraitTrainerInput.model_validate(order), context)
    config = json.loads(Path(unquote(urlparse(output.config_file.url).path)).read_text())
    assert config["effective"]["learning_rate"] == 0.00009
    assert config["effective"]["batch_size"] == 1
    assert config["dataset"]["buckets"] == {"160x96": 1}
    assert "Non-Commercial" in config["licence"]
    [day] = (tmp_path / "generations" / "flux-1-dev").iterdir()
    assert day.stat().st_size == len(config["samples"]) == 1, "what is reported to the licensor"
    notice, text = (Path(unquote(urlparse(config[name]["url"]).path)) for name in ("notice", "license"))
    assert (notice.name, text.name, text.read_text()) == ("NOTICE", "LICENSE", "The text as it came.")
    lora = unquote(urlparse(output.diffusers_lora_file.url).path)
    with safe_open(lora, "pt") as opened:
        assert opened.metadata()["tintype.notice"] == notice.read_text(), "a LoRA travels alone"
    tensors = load_file(lora)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_schnell_is_known_by_its_configuration_and_generates_as_it_was_made_to(tmp_path: Path) -> None:
    narrow_pipeline(guidance=False).save_pretrained(tmp_path / "base")
    context = LocalContext(tmp_path, load_settings(flux_base=str(tmp_path / "base"), device="cpu"))
    order = {"prompt": "a cat", "image_size": {"width": 64, "height": 64}, "seed": 1}
    drawn = []
    for given in ({}, {"num_inference_steps": 4}, {"num_inference_steps": 3}):
        image = generate(FluxInput.model_validate(order | given), context).images[0]
        drawn.append(Image.open(unquote(urlparse(image.url).path)).tobytes())
    assert drawn[0] == drawn[1] != drawn[2]
    flux = resident_models(context).family(FluxFamily)
    assert (flux.max_sequence_length, flux.guidance_scale) == (256, 0.0)
    assert "Apache-2.0" in flux.weights.licence
