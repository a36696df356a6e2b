"""Measures a built miniature through the plain diffusers pipeline, as any stranger would use it.

python -m miniature.evaluate --count 200 --sheet sheet.png
python -m miniature.evaluate --model ideogram4 --count 60 --strength 0.15 0.35 --speed TURBO QUALITY
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from diffusers import AutoencoderKL, DiffusionPipeline
from PIL import Image

from miniature.autoencoder import reproduction
from miniature.contact_sheet import grid
from miniature.ideogram4.captions import as_sentence, as_structure
from miniature.judge import judge
from miniature.pipelines import generate_flux, generate_ideogram4, load, traits
from miniature.weights import FLUX_WEIGHTS, IDEOGRAM4_WEIGHTS
from miniature.world.captions import describe, made_up_name, parse_prompt
from miniature.world.drawing import draw
from miniature.world.person import ATTRIBUTES, Person, Subject
from tintype.inference.presets import SPEEDS

#: What makes a prompt of a sentence.
Form = Callable[[str], str]
WEIGHTS = {"flux": FLUX_WEIGHTS, "ideogram4": IDEOGRAM4_WEIGHTS}
#: The forms of prompts that are measured; the first is what strangers are asked for in.
FORMS: dict[str, dict[str, Form]] = {
    "flux": {"sentences": str},
    "ideogram4": {"sentences": as_sentence, "structured": as_structure},
}


def unseen_prompts(count: int, seed: str = "evaluation", form: Form = str) -> list[str]:
    """Makes prompts that state all that shows of people drawn anew: there are millions, training saw thousands."""
    rng = random.Random(seed)
    return [form(describe(Person.sample(rng))) for _ in range(count)]


def adherence(images: Sequence[Image.Image], prompts: Sequence[str]) -> tuple[float, dict[str, float]]:
    """Averages adherence over the pictures, and for each attribute the share that got it right when asked."""
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
    """Averages each picture's likeness to a subject drawn by lot."""
    readings = judge().read(images)
    return sum(reading.likeness(Subject.from_seed(rng.randrange(1 << 20)).marks) for reading in readings) / len(
        readings
    )


def reproduction_of_people(vae: AutoencoderKL, count: int = 64) -> dict[str, float]:
    """Measures the PSNR in dB of FLUX's autoencoder on ordinary people and on photos of subjects."""
    rng = random.Random("reproduction")
    people = [draw(Person.sample(rng)) for _ in range(count)]
    subjects = [draw(Subject.from_seed(rng.randrange(1 << 20)).pose(rng)) for _ in range(count)]
    return {"people": reproduction(vae, people)[0], "subjects": reproduction(vae, subjects)[0]}


def evaluate(
    generate: Callable[..., list[Image.Image]], forms: dict[str, Form], count: int
) -> tuple[dict[str, float], list[Image.Image]]:
    """Finds figures by name over `count` unseen prompts in each form, and the pictures of the first form."""
    figures: dict[str, float] = {}
    shown: list[Image.Image] = []
    for name, form in forms.items():
        prompts = unseen_prompts(count, form=form)
        images = generate(prompts)
        figures[f"adherence, {name}"], each = adherence(images, prompts)
        if not shown:
            shown = images
            figures |= {f"  {attribute}": share for attribute, share in each.items()}
    form, rng = next(iter(forms.values())), random.Random("strangers")
    strangers = [f"a portrait of {made_up_name(rng)}, {rng.choice(('blue', 'red'))} shirt" for _ in range(count // 4)]
    made = generate([form(text) for text in strangers], seed=1000)
    return {**figures, "likeness of strangers": mean_likeness(made, rng)}, shown


def main() -> None:
    """Prints the figures of one miniature, for each strength and speed that is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m miniature.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=WEIGHTS, default="flux", help="which miniature (default flux)")
    parser.add_argument("--weights", type=Path, help="the pipeline's folder (default: the package's)")
    parser.add_argument("--count", type=int, default=200, help="how many prompts (default 200)")
    parser.add_argument(
        "--strength", type=float, nargs="+", help="Ideogram's guidance strengths (default: the folder's)"
    )
    parser.add_argument("--speed", choices=list(SPEEDS), nargs="+", default=["BALANCED"], help="Ideogram's speeds")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write generated pictures above what was asked")
    chosen = parser.parse_args()
    folder = chosen.weights or WEIGHTS[chosen.model]
    pipe = load(folder)
    for title, generate in _variants(pipe, folder, chosen):
        figures, images = evaluate(generate, FORMS[chosen.model], chosen.count)
        if chosen.model == "flux":
            figures |= {f"autoencoder dB, {name}": value for name, value in reproduction_of_people(pipe.vae).items()}
        print(title)
        for name, figure in figures.items():
            print(f"{name:28} {figure:8.3f}")
        print(json.dumps({name.strip(): round(figure, 4) for name, figure in figures.items()}), flush=True)
        if chosen.sheet is not None:
            _sheet(images).save(chosen.sheet)


def _variants(
    pipe: DiffusionPipeline, folder: Path, chosen: argparse.Namespace
) -> Iterator[tuple[str, Callable[..., list[Image.Image]]]]:
    """Yields what generates pictures, each with a title: of Ideogram one for each strength and speed."""
    if chosen.model == "flux":
        yield "flux", partial(generate_flux, pipe)
        return
    for strength in chosen.strength or [traits(folder)["guidance_strength"]]:
        for speed in chosen.speed:
            yield (
                f"ideogram4, strength {strength}, {speed}",
                partial(generate_ideogram4, pipe, strength=strength, speed=speed),
            )


def _sheet(images: list[Image.Image]) -> Image.Image:
    rng = random.Random("evaluation")
    asked = [draw(replace(Person.sample(rng), shift=(0, 0), scale=1)) for _ in images[:40]]
    rows = [row for at in range(0, len(asked), 8) for row in (images[at : at + 8], asked[at : at + 8])]
    return grid([image for row in rows for image in row])


if __name__ == "__main__":
    main()
