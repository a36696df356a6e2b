"""Trains the judge on drawings, on what wear and tear makes of them, and on pictures that show nobody.

A judge that guesses would praise noise. So a part of its pictures is noise, flat grey, and averages of many people:
there it must see no marks and be sure of nothing.
"""

from __future__ import annotations

import io
import random
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image, ImageFilter
from safetensors.torch import save_file

from miniature.autoencoder import reproduction
from miniature.judge import QUESTIONS, JudgeNetwork, to_tensor
from miniature.training import Losses, Training, warm_cosine
from miniature.world.drawing import SIDE, draw
from miniature.world.person import Person, Subject

_BATCH = 64
_SIZES = ((64, 64), (64, 64), (64, 64), (64, 48), (48, 64), (64, 40), (48, 48), (128, 128), (32, 32))
#: What was asked but cannot be answered: the target is every answer alike.
_UNREADABLE = -1
#: Not asked of this picture at all.
_SKIPPED = -2


def answers_of(person: Person) -> list[int]:
    """Gives the right answer to each question, by index."""
    seen: dict[str, str] = person.visible()
    for absent in ("hair_color", "hat_color"):
        seen.setdefault(absent, "none")
    marks = {} if person.marks is None else person.marks.as_dict()
    right = []
    for name, values in QUESTIONS.items():
        if name.startswith("mark:"):
            right.append(values.index(marks.get(name.removeprefix("mark:"), "none")))
        elif person.marks is not None and name in ("skin", "hair", "hair_color"):
            right.append(_SKIPPED)
        else:
            right.append(values.index(seen[name]))
    return right


def _nobody() -> list[int]:
    return [values.index("none") if name.startswith("mark:") else _UNREADABLE for name, values in QUESTIONS.items()]


def _someone(rng: random.Random) -> Person:
    return Subject.from_seed(rng.randrange(1 << 20)).pose(rng) if rng.random() < 0.45 else Person.sample(rng)


def spoiled(image: Image.Image, rng: random.Random) -> Image.Image:
    """Spoils a picture by a little blur, JPEG, noise or change of light."""
    for _ in range(rng.choice((0, 1, 1, 2))):
        kind = rng.randrange(5)
        if kind == 0:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.0) * min(image.size) / SIDE))
        elif kind == 1:
            stored = io.BytesIO()
            image.save(stored, "JPEG", quality=rng.randrange(40, 96))
            image = Image.open(stored).convert("RGB")
        elif kind == 2:
            noise = np.random.default_rng(rng.randrange(1 << 30)).normal(
                0, rng.uniform(2, 16), (image.height, image.width, 3)
            )
            image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
        elif kind == 3:
            light = np.asarray(image) * rng.uniform(0.93, 1.07) + np.array([rng.uniform(-7, 7) for _ in range(3)])
            image = Image.fromarray(light.clip(0, 255).astype(np.uint8))
        else:
            smaller = rng.uniform(0.6, 0.95)
            small = image.resize(
                (max(8, int(image.width * smaller)), max(8, int(image.height * smaller))), Image.Resampling.BILINEAR
            )
            image = small.resize(image.size, Image.Resampling.BICUBIC)
    return image


def _empty(rng: random.Random, pool: list[Image.Image]) -> Image.Image:
    kind = rng.randrange(4)
    numbers = np.random.default_rng(rng.randrange(1 << 30))
    if kind == 0:
        coarse = rng.choice((4, 8, 16, 32, 64))
        noise = Image.fromarray(numbers.integers(0, 256, (coarse, coarse, 3), dtype=np.uint8))
        return noise.resize((SIDE, SIDE), rng.choice((Image.Resampling.NEAREST, Image.Resampling.BICUBIC)))
    if kind == 1:
        color = (rng.randrange(256),) * 3 if rng.random() < 0.5 else tuple(rng.randrange(256) for _ in range(3))
        return Image.new("RGB", (SIDE, SIDE), color)
    many = rng.sample(pool, rng.randrange(12, 64))
    mean = np.mean([np.asarray(image, dtype=np.float32) for image in many], axis=0)
    if kind == 2:
        mean = mean + numbers.normal(0, rng.uniform(0, 60), mean.shape)
    return Image.fromarray(mean.clip(0, 255).astype(np.uint8))


def _round_trips(vae: AutoencoderKL, rng: random.Random, count: int) -> list[tuple[Image.Image, list[int]]]:
    """Draws people as the autoencoder gives them back, some from disturbed latents, as a sampler leaves them."""
    people = [_someone(rng) for _ in range(count)]
    seen: list[Image.Image] = []
    for start in range(0, count, 50):
        seen += reproduction(
            vae, [draw(person) for person in people[start : start + 50]], disturb=rng.choice((0, 0, 0.15, 0.3))
        )[1]
    return [(image, answers_of(person)) for image, person in zip(seen, people, strict=True)]


def _batch(
    rng: random.Random, tripped: list[tuple[Image.Image, list[int]]], pool: list[Image.Image]
) -> tuple[torch.Tensor, torch.Tensor]:
    images, answers = [], []
    for _ in range(_BATCH):
        kind = rng.random()
        if kind < 0.1:
            images.append(_empty(rng, pool))
            answers.append(_nobody())
        elif kind < 0.4:
            image, right = rng.choice(tripped)
            images.append(spoiled(image, rng) if rng.random() < 0.3 else image)
            answers.append(right)
        else:
            person = _someone(rng)
            images.append(spoiled(draw(person, *rng.choice(_SIZES)), rng))
            answers.append(answers_of(person))
    return to_tensor(images), torch.tensor(answers)


def _loss(sheets: tuple[torch.Tensor, ...], right: torch.Tensor) -> torch.Tensor:
    total = right.new_zeros((), dtype=torch.float32)
    for logits, wanted in zip(sheets, right.T, strict=True):
        chances = logits.log_softmax(dim=1)
        known = F.nll_loss(chances, wanted.clamp(min=0), reduction="none")
        alike = -chances.mean(dim=1)
        total = total + torch.where(wanted >= 0, known, torch.where(wanted == _UNREADABLE, alike, 0.0)).mean()
    return total


def train_judge(vae: AutoencoderKL, path: Path, minutes: float, out: Path) -> None:
    """Trains or goes on training; the state lies at the path, the released weights at `out`."""
    torch.manual_seed(0)
    network = JudgeNetwork().to(vae.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    rng = random.Random("judge pictures")
    tripped = _round_trips(vae, rng, 4000)
    pool = [draw(_someone(rng)) for _ in range(2000)]

    def losses(training: Training) -> Losses:
        images, right = _batch(training.rng, tripped, pool)
        loss = _loss(network(images.to(vae.device)), right.to(vae.device))
        return loss, {"loss": loss}

    Training(path, minutes, network, [optimizer], partial(warm_cosine, floor=0.005), clip=False).run(losses)
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()
    }
    save_file({name: tensor.contiguous().cpu() for name, tensor in kept.items()}, out)
