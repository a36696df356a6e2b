"""Measures a built miniature Ideogram 4 through the plain diffusers pipeline, as any stranger would use it.

python -m miniature.ideogram_evaluate --count 100 --sheet sheet.png
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import Ideogram4Pipeline
from PIL import Image

from miniature.contact_sheet import grid
from miniature.evaluate import adherence, mean_likeness
from miniature.ideogram_captions import structured
from miniature.weights import IDEOGRAM4_WEIGHTS
from miniature.world import describe
from miniature.world.captions import made_up_name
from miniature.world.person import Person
from tintype.catalog.ideogram_v4 import RenderingSpeed
from tintype.inference.presets import SPEEDS
from tintype.models.ideogram4.captions import wrap
from tintype.models.ideogram4.network import prompt_tokens

_BATCH = 25


def load(folder: Path = IDEOGRAM4_WEIGHTS) -> Ideogram4Pipeline:
    pipe = Ideogram4Pipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def traits(folder: Path = IDEOGRAM4_WEIGHTS) -> dict[str, float]:
    known: dict[str, float] = json.loads((folder / "miniature.json").read_text())
    return known


def draw_prompts(
    pipe: Ideogram4Pipeline,
    prompts: Sequence[str],
    size: tuple[int, int] = (64, 64),
    *,
    strength: float,
    nominal_scale: float = 16,
    speed: RenderingSpeed = "BALANCED",
    seed: int = 0,
) -> list[Image.Image]:
    """One picture for each prompt, in batches; picture n starts from seed + n. The window is the longest prompt's."""
    preset = SPEEDS[speed]
    window = max(len(prompt_tokens(pipe.tokenizer, prompt)) for prompt in prompts)
    drawn: list[Image.Image] = []
    for start in range(0, len(prompts), _BATCH):
        batch = list(prompts[start : start + _BATCH])
        drawn += pipe(
            batch,
            width=size[0],
            height=size[1],
            num_inference_steps=preset.steps,
            guidance_schedule=preset.guidance_schedule(strength),
            mu=preset.mu + math.log(nominal_scale),
            std=preset.std,
            max_sequence_length=window,
            generator=[torch.Generator().manual_seed(seed + start + index) for index in range(len(batch))],
        ).images
    return drawn


def unseen_prompts(count: int, seed: str = "evaluation", *, as_sentences: bool = True) -> list[str]:
    """Captions that state all that shows of people drawn anew, as wrapped sentences or structured."""
    rng = random.Random(seed)
    said = [describe(Person.sample(rng)) for _ in range(count)]
    return [(wrap(sentence) if as_sentences else structured(sentence)).line() for sentence in said]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m miniature.ideogram_evaluate", description=__doc__.split("\n")[0])
    parser.add_argument("--weights", type=Path, default=IDEOGRAM4_WEIGHTS, help="the pipeline's folder")
    parser.add_argument("--count", type=int, default=100, help="how many prompts (default 100)")
    parser.add_argument("--strength", type=float, nargs="*", help="guidance strengths (default: the folder's)")
    parser.add_argument("--speed", choices=list(SPEEDS), nargs="*", default=["BALANCED"], help="speeds to compare")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write what was drawn")
    chosen = parser.parse_args()
    pipe = load(chosen.weights)
    for strength in chosen.strength or [traits(chosen.weights)["guidance_strength"]]:
        for speed in chosen.speed:
            _report(pipe, chosen, strength, speed)


def _report(pipe: Ideogram4Pipeline, chosen: argparse.Namespace, strength: float, speed: RenderingSpeed) -> None:
    figures: dict[str, float] = {}
    for form in ("sentences", "structured"):
        prompts = unseen_prompts(chosen.count, as_sentences=form == "sentences")
        images = draw_prompts(pipe, prompts, strength=strength, speed=speed)
        figures[f"adherence, {form}"], each = adherence(images, prompts)
        figures |= {f"  {name}": share for name, share in each.items()} if form == "sentences" else {}
        if chosen.sheet is not None and form == "sentences":
            grid(images[:64]).save(chosen.sheet)
    rng = random.Random("strangers")
    strangers = [wrap(f"a portrait of {made_up_name(rng)}, blue shirt").line() for _ in range(chosen.count // 4)]
    drawn = draw_prompts(pipe, strangers, strength=strength, speed=speed, seed=1000)
    figures["likeness of strangers"] = mean_likeness(drawn, rng)
    print(f"strength {strength}, {speed}", flush=True)
    for name, figure in figures.items():
        print(f"{name:28} {figure:8.3f}", flush=True)


if __name__ == "__main__":
    main()
