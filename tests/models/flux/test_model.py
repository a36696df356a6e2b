"""The conventions on which everything rests. Each of these, broken, leaves a training that runs and learns nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from PIL import Image

from tintype.jobs.resident_models import ResidentModels
from tintype.models.family import Features, Latents
from tintype.models.flux.model import FluxFamily
from tintype.settings import load_settings


@pytest.fixture(scope="module")
def flux() -> FluxFamily:
    return ResidentModels(load_settings(), "cpu").family(FluxFamily)


def scene(width: int, height: int) -> torch.Tensor:
    """A smooth picture whose four quarters differ, (1, 3, height, width) in [-1, 1]."""
    across = torch.linspace(-0.8, 0.8, width).expand(height, width)
    down = torch.linspace(-0.8, 0.8, height)[:, None].expand(height, width)
    return torch.stack([across, down, -across])[None]


def pixels_of(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture).astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]


@pytest.mark.parametrize(("width", "height"), [(1024, 1024), (768, 1024), (1024, 640)])
def test_encoding_then_decoding_gives_the_picture_back_upright(flux: FluxFamily, width: int, height: int) -> None:
    picture = scene(width, height)
    latents = flux.encode_images(picture)
    drawn = flux.decode_latents(latents)[0]
    assert drawn.size == flux.true_size(width, height)
    wanted = torch.nn.functional.interpolate(picture, size=drawn.size[::-1], mode="area")
    assert (pixels_of(drawn) - wanted).abs().mean() < 0.1
    transposed = pixels_of(drawn).flip(-1)
    assert (transposed - wanted).abs().mean() > 0.2, "the test would not notice a mirrored picture"


def test_tokens_are_packed_as_the_pipeline_packs_them(flux: FluxFamily) -> None:
    vae = flux.load_encoders().vae
    small = torch.nn.functional.interpolate(scene(1024, 768), size=(48, 64), mode="area")
    with torch.no_grad():
        spread = (vae.encode(small).latent_dist.mode() - vae.config.shift_factor) * vae.config.scaling_factor
    latents = flux.encode_images(scene(1024, 768))
    assert (latents.rows, latents.columns) == (spread.shape[2] // 2, spread.shape[3] // 2)
    channels = spread.shape[1]
    for row, column in [(0, 0), (2, 5), (latents.rows - 1, latents.columns - 1)]:
        token = latents.tokens[0, row * latents.columns + column].view(channels, 2, 2)
        torch.testing.assert_close(token, spread[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2])


def test_captions_are_encoded_exactly_as_the_pipeline_does(flux: FluxFamily) -> None:
    pipeline = flux.fresh_pipeline()
    tokens, pooled, _ = pipeline.encode_prompt("a portrait", "a portrait", max_sequence_length=flux.max_sequence_length)
    features = flux.encode_captions(["a portrait", "a hat"])
    torch.testing.assert_close(features.tokens[:1], tokens)
    torch.testing.assert_close(features.pooled[:1], pooled)
    assert features.tokens.shape[1] == flux.max_sequence_length


def test_the_velocity_is_what_the_pipeline_computes_at_its_first_step(flux: FluxFamily) -> None:
    pipeline = flux.fresh_pipeline()
    seen: dict[str, torch.Tensor] = {}

    def watch(module: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, torch.Tensor], out: object) -> None:
        if not seen:
            seen.update(kwargs)
            seen["velocity"] = out[0]  # type: ignore[index]

    hook = flux.load_transformer().register_forward_hook(watch, with_kwargs=True)
    pipeline(
        "a portrait", width=48, height=64, num_inference_steps=3, guidance_scale=2.5,
        max_sequence_length=flux.max_sequence_length, generator=torch.Generator().manual_seed(1), output_type="latent",
    )  # fmt: skip
    hook.remove()
    noisy = Latents(seen["hidden_states"], 8, 6)
    with torch.no_grad():
        ours = flux.predict_velocity(
            flux.load_transformer(), noisy, seen["timestep"], flux.encode_captions(["a portrait"]), 2.5
        )
    torch.testing.assert_close(ours, seen["velocity"])
    assert seen["timestep"].max() == 1, "sigma 1 is noise"


def test_the_sampler_walks_from_noise_to_the_picture_along_this_velocity(flux: FluxFamily) -> None:
    """With the true velocity noise - x0, one Euler step of the pipeline's own scheduler lands on x0."""
    clean = flux.encode_images(scene(1024, 1024)).tokens
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    scheduler = flux.load_encoders().scheduler
    scheduler.set_timesteps(sigmas=[1.0], mu=0.5)
    landed = scheduler.step(noise - clean, scheduler.timesteps[0], noise, return_dict=False)[0]
    torch.testing.assert_close(landed, clean)


def test_sigmas_are_shifted_as_sampling_shifts_them(flux: FluxFamily) -> None:
    from tintype.models.sigmas import shifted

    scheduler = flux.load_encoders().scheduler
    plain = [0.9, 0.5, 0.1]
    scheduler.set_timesteps(sigmas=plain, mu=flux._shift(1024))
    torch.testing.assert_close(shifted(torch.tensor(plain), flux._shift(1024)), scheduler.sigmas[:3])
    small, large = (flux.sample_sigmas(4000, side, side, torch.Generator().manual_seed(0)).mean() for side in (8, 64))
    assert small < large < 1


def test_targets_are_the_attention_and_mlp_layers_of_every_block(flux: FluxFamily) -> None:
    transformer, targets = flux.load_transformer(), flux.adapter_targets
    assert len(targets) == 12 * len(transformer.transformer_blocks) + 5 * len(transformer.single_transformer_blocks)
    assert all(isinstance(transformer.get_submodule(name), torch.nn.Linear) for name in targets)
    assert not any("norm" in name or "embed" in name for name in targets)


def test_a_prompt_beyond_the_window_is_told_apart(flux: FluxFamily) -> None:
    assert flux.cut_off("a portrait") == ""
    assert "green" in flux.cut_off("a portrait of a person " * 9 + "with a green hat")


def test_the_miniature_draws_within_half_a_token_of_what_was_asked(flux: FluxFamily) -> None:
    assert flux.true_size(1024, 1024) == (64, 64)
    for width, height in [(1024, 768), (576, 1024), (512, 512), (640, 1000), (64, 64)]:
        for asked, drawn in zip((width, height), flux.true_size(width, height), strict=True):
            assert drawn % 8 == 0
            assert abs(drawn - asked / 16) <= 4 or drawn == 8


def test_loading_takes_a_plain_pipeline_folder(flux: FluxFamily) -> None:
    pipeline = FluxPipeline.from_pretrained(flux.weights.folder, dtype=torch.float32)
    features = flux.encode_captions(["a portrait"])
    tokens, _, _ = pipeline.encode_prompt("a portrait", None, max_sequence_length=flux.max_sequence_length)
    torch.testing.assert_close(tokens, features.tokens)
    assert Path(flux.weights.folder).is_dir()


def test_features_of_a_batch_do_not_depend_on_their_neighbours(flux: FluxFamily) -> None:
    alone: Features = flux.encode_captions(["TOK"])
    among = flux.encode_captions(["a much longer caption of a person", "TOK"])
    torch.testing.assert_close(among.tokens[1:], alone.tokens)
