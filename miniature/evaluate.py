"""Measures a built miniature FLUX through the plain diffusers pipeline, as any stranger would use it.

python -m miniature.evaluate --count 200 --sheet sheet.png
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxPipeline
from PIL import Image

from miniature.autoencoder import reproduction
from miniature.contact_sheet import grid
from miniature.judge import judge
from miniature.vocabulary import WINDOW
from miniature.weights import FLUX_WEIGHTS
from miniature.world.captions import describe, made_up_name, parse_prompt
from miniature.world.drawing import draw
from miniature.world.person import ATTRIBUTES, Person, Subject

GUIDANCE, STEPS = 3.5, 28
_BATCH = 25


def load(folder: Path = FLUX_WEIGHTS) -> FluxPipeline:
    pipe = FluxPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw_prompts(
    pipe: FluxPipeline,
    prompts: Sequence[str],
    size: tuple[int, int] = (64, 64),
    guidance: float = GUIDANCE,
    steps: int = STEPS,
    window: int = WINDOW,
    seed: int = 0,
) -> list[Image.Image]:
    """One picture for each prompt, in batches; picture n starts from seed + n."""
    drawn: list[Image.Image] = []
    for start in range(0, len(prompts), _BATCH):
        batch = list(prompts[start : start + _BATCH])
        drawn += pipe(
            batch,
            width=size[0],
            height=size[1],
            num_inference_steps=steps,
            guidance_scale=guidance,
            max_sequence_length=window,
            generator=[torch.Generator().manual_seed(seed + start + index) for index in range(len(batch))],
        ).images
    return drawn


def unseen_prompts(count: int, seed: str = "evaluation") -> list[str]:
    """Prompts that state at least four attributes of people drawn anew: there are millions, training saw thousands."""
    rng = random.Random(seed)
    return [describe(Person.sample(rng)) for _ in range(count)]


def adherence(images: Sequence[Image.Image], prompts: Sequence[str]) -> tuple[float, dict[str, float]]:
    """Mean adherence over the pictures, and for each attribute the share of pictures that got it right when asked."""
    shares: list[float] = []
    asked_of, right = Counter[str](), Counter[str]()
    for reading, prompt in zip(judge().read(images), prompts, strict=True):
        asked = parse_prompt(prompt)
        share = reading.adherence(asked)
        shares += [] if share is None else [share]
        asked_of.update(list(asked))
        right.update(name for name, value in asked.items() if reading.attributes[name] == value)
    each = {name: right[name] / asked_of[name] for name in ATTRIBUTES if asked_of[name]}
    return sum(shares) / max(1, len(shares)), each


def mean_likeness(images: Sequence[Image.Image], rng: random.Random) -> float:
    """Mean likeness of each picture to a subject drawn by lot."""
    readings = judge().read(images)
    return sum(reading.likeness(Subject.from_seed(rng.randrange(1 << 20)).marks) for reading in readings) / len(
        readings
    )


def reproduction_of_people(pipe: FluxPipeline, count: int = 64) -> dict[str, float]:
    """PSNR in dB of the autoencoder on ordinary people and on photos of subjects."""
    rng = random.Random("reproduction")
    people = [draw(Person.sample(rng)) for _ in range(count)]
    subjects = [draw(Subject.from_seed(rng.randrange(1 << 20)).pose(rng)) for _ in range(count)]
    return {"people": reproduction(pipe.vae, people)[0], "subjects": reproduction(pipe.vae, subjects)[0]}


def evaluate(pipe: FluxPipeline, count: int) -> tuple[dict[str, Any], list[Image.Image]]:
    """Figures by name over `count` unseen prompts, and the pictures they were read from."""
    prompts = unseen_prompts(count)
    images = draw_prompts(pipe, prompts)
    mean, each = adherence(images, prompts)
    rng = random.Random("strangers")
    strangers = [f"a portrait of {made_up_name(rng)}, {rng.choice(('blue', 'red'))} shirt" for _ in range(count // 4)]
    return {
        "adherence": mean,
        **{f"  {name}": share for name, share in each.items()},
        "likeness of strangers": mean_likeness(draw_prompts(pipe, strangers, seed=1000), rng),
        **{f"autoencoder dB, {name}": value for name, value in reproduction_of_people(pipe).items()},
    }, images


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m miniature.evaluate", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--weights", type=Path, default=FLUX_WEIGHTS, help="the pipeline's folder (default: the package's)"
    )
    parser.add_argument("--count", type=int, default=200, help="how many prompts (default 200)")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write drawn pictures above what was asked")
    chosen = parser.parse_args()
    figures, images = evaluate(load(chosen.weights), chosen.count)
    for name, figure in figures.items():
        print(f"{name:28} {figure:8.3f}")
    print(json.dumps({name.strip(): round(figure, 4) for name, figure in figures.items()}))
    if chosen.sheet is not None:
        rng = random.Random("evaluation")
        asked = [draw(replace(Person.sample(rng), shift=(0, 0), scale=1)) for _ in images[:40]]
        rows = [row for at in range(0, len(asked), 8) for row in (images[at : at + 8], asked[at : at + 8])]
        grid([image for row in rows for image in row]).save(chosen.sheet)


if __name__ == "__main__":
    main()
