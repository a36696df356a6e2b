"""The miniature's AutoencoderKL: three levels, 64 pixels to 16 x 16 x 8 latents, trained on drawings.

Four norm groups, because many groups on few channels normalise colour away. Most of the budget goes to 32-pixel
crops, four times cheaper than whole pictures; the last third sees whole pictures, because the statistics of group
normalisation depend on the extent. It also sees subjects and random shapes: it must reproduce people it never met.
"""

from __future__ import annotations

import math
import random
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image, ImageDraw

from miniature.training import Losses, Training, warm_cosine
from miniature.world.drawing import draw
from miniature.world.person import Person, Subject

CROP, WHOLE = 32, 64
_SHAPES = ((64, 64), (64, 64), (64, 64), (64, 48), (48, 64), (64, 40), (40, 64), (48, 48), (32, 32))


def new_autoencoder() -> AutoencoderKL:
    """Makes an untrained one: three levels, few norm groups, since many groups on few channels destroy colour."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=WHOLE,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


def pixels(images: list[Image.Image]) -> torch.Tensor:
    """Stacks pictures of one size as (batch, 3, height, width) in [-1, 1]."""
    stacked = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1


def pictures(batch: torch.Tensor) -> list[Image.Image]:
    """Inverts `pixels`, rounded to the nearest of 256 levels."""
    levels = ((batch.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(level.permute(1, 2, 0).cpu().numpy()) for level in levels]


def _random_shapes(rng: random.Random, width: int, height: int) -> Image.Image:
    def color() -> tuple[int, int, int]:
        return rng.randrange(256), rng.randrange(256), rng.randrange(256)

    image = Image.new("RGB", (width * 4, height * 4), color())
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randrange(2, 9)):
        x, y, r = rng.uniform(0, width * 4), rng.uniform(0, height * 4), rng.uniform(6, 80)
        box = (x - r, y - r * rng.uniform(0.3, 1), x + r, y + r * rng.uniform(0.3, 1))
        shape = rng.randrange(5)
        if shape == 0:
            pen.ellipse(box, fill=color())
        elif shape == 1:
            pen.rectangle(box, fill=color())
        elif shape == 2:
            pen.ellipse(box, outline=color(), width=rng.randrange(6, 16))
        elif shape == 3:
            pen.polygon([(x + rng.uniform(-r, r), y + rng.uniform(-r, r)) for _ in range(3)], fill=color())
        else:
            pen.arc(box, rng.randrange(360), rng.randrange(360), fill=color(), width=rng.randrange(6, 16))
    return image.reduce(4)


def sample_picture(rng: random.Random, width: int, height: int) -> Image.Image:
    """Draws what the autoencoder must be able to reproduce: a person, a subject, or shapes of any colour."""
    kind = rng.random()
    if kind < 0.2:
        return _random_shapes(rng, width, height)
    if kind < 0.55:
        return draw(Subject.from_seed(rng.randrange(1 << 20)).pose(rng), width, height)
    return draw(Person.sample(rng), width, height)


def _crops(rng: random.Random, count: int) -> torch.Tensor:
    cut: list[Image.Image] = []
    while len(cut) < count:
        image = sample_picture(rng, WHOLE, WHOLE)
        for _ in range(2):
            x, y = rng.randrange(WHOLE - CROP + 1), rng.randrange(WHOLE - CROP + 1)
            cut.append(image.crop((x, y, x + CROP, y + CROP)))
    return pixels(cut[:count])


def _edges(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return image[..., 1:] - image[..., :-1], image[..., 1:, :] - image[..., :-1, :]


def _reconstruction_loss(seen: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    edges = sum(F.l1_loss(a, b) for a, b in zip(_edges(seen), _edges(wanted), strict=True))
    return F.l1_loss(seen, wanted) + 2 * F.mse_loss(seen, wanted) + 0.25 * edges


def train_autoencoder(path: Path, minutes: float, device: torch.device) -> AutoencoderKL:
    """Trains or goes on training; the state lies at the path."""
    torch.manual_seed(0)
    vae = new_autoencoder().to(device)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4)

    def losses(training: Training) -> Losses:
        rng = training.rng
        if training.fraction < 0.65:
            wanted = _crops(rng, 32).to(device)
        else:
            width, height = rng.choice(_SHAPES)
            wanted = pixels([sample_picture(rng, width, height) for _ in range(10)]).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            posterior = vae.encode(wanted).latent_dist
            seen = vae.decode(posterior.sample()).sample.float()
        # The pull towards a unit Gaussian is just strong enough to keep the latents small and smooth.
        divergence = posterior.kl().float().mean() / posterior.mean[0].numel()
        loss = _reconstruction_loss(seen, wanted) + 1e-3 * divergence
        return loss, {"psnr": 10 * torch.log10(4 / F.mse_loss(seen.detach(), wanted)), "kl": divergence}

    Training(path, minutes, vae, [optimizer], partial(warm_cosine, floor=0.01)).run(losses)
    return measure(vae).eval()


def decibels(squared_error: float) -> float:
    """Gives the peak signal-to-noise ratio for pixels in [-1, 1]."""
    return 10 * math.log10(4 / max(squared_error, 1e-10))


@torch.no_grad()
def measure(vae: AutoencoderKL) -> AutoencoderKL:
    """Fills in shift_factor and scaling_factor, so that (latent - shift) · scaling has mean 0 and deviation 1."""
    rng = random.Random("latents")
    device = next(vae.parameters()).device
    generator = torch.Generator(device).manual_seed(0)  # every stage that measures finds the same
    drawn = [pixels([draw(Person.sample(rng)) for _ in range(32)]).to(device) for _ in range(16)]
    flat = torch.cat([vae.encode(batch).latent_dist.sample(generator) for batch in drawn]).float()
    vae.register_to_config(shift_factor=flat.mean().item(), scaling_factor=1 / flat.std().item())
    return vae


@torch.no_grad()
def reproduction(
    vae: AutoencoderKL, images: list[Image.Image], disturb: float = 0.0
) -> tuple[float, list[Image.Image]]:
    """Gives the mean PSNR in dB over pictures of one size, decoded from their posteriors' means, and those pictures.

    `disturb` adds noise to the latents, in units of their deviation, as an imperfect sampler would.
    """
    device = next(vae.parameters()).device
    wanted = pixels(images).to(device)
    latents = vae.encode(wanted).latent_dist.mean
    seen = vae.decode(latents + disturb * torch.randn_like(latents) / vae.config.scaling_factor).sample.clamp(-1, 1)
    errors = (seen - wanted).square().mean(dim=(1, 2, 3)).tolist()
    return sum(decibels(error) for error in errors) / len(errors), pictures(seen)
