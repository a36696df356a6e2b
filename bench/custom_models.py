"""What custom models draw: likeness and adherence by speed and by what guidance leads away from.

Trains one on twelve photos of each subject, without captions, through the endpoint's own job, then draws the page's
prompt and three longer ones with several seeds, and asks the judge. The base, without a LoRA, is drawn beside it.

    python bench/custom_models.py --subjects 9001 9002 9003 9004 9005 --out custom-models/
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from PIL import Image
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository's root: miniature is not installed

from miniature.contact_sheet import grid
from miniature.judge import asked_beside_marks, judge
from miniature.world import Subject, photograph, write_archive

from tintype.catalog.custom_models import ModelReference, ModelStatus
from tintype.catalog.ideogram_custom_models import CUSTOM_MODEL_TRAINER
from tintype.catalog.ideogram_v4 import NegativeBranch, RenderingSpeed
from tintype.inference.ideogram4 import IdeogramImageRequest, IdeogramInference
from tintype.inference.lora_cache import LoraRequest
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.settings import load_settings

PAGES_PROMPT = "A photo in my custom style"
PROMPTS = (
    PAGES_PROMPT,
    f"{PAGES_PROMPT}, blue shirt, yellow background",
    f"{PAGES_PROMPT}, green shirt, gray background, smiling",
    f"{PAGES_PROMPT}, pink background, round glasses",
)
PHOTOS = 12


@dataclass(frozen=True)
class Drawn:
    """One picture's figures."""

    subject: int
    speed: RenderingSpeed
    branch: NegativeBranch | None  # None: the base without the LoRA
    prompt: str
    likeness: float
    adherence: float | None


def learn(seed: int, models: ResidentModels, out: Path, inputs: dict[str, Any]) -> Path:
    """The LoRA of a custom model of one subject; kept in `out`, and taken from there the next time."""
    kept = out / f"{seed}.safetensors"
    if kept.exists():
        return kept
    with tempfile.TemporaryDirectory() as folder:
        context = LocalContext(Path(folder), load_settings(), resident_models=models)
        context.model = ModelReference(str(seed), f"Subject {seed}", f"model/{seed}/version/1", ModelStatus.TRAINING)
        archive = Path(folder) / "photos.zip"
        write_archive(archive, photograph(Subject.from_seed(seed), PHOTOS), captions=False)
        order = CUSTOM_MODEL_TRAINER.parse({"images_data_url": context.offer(archive), **inputs})
        output = CUSTOM_MODEL_TRAINER.load_job()(order, context)
        (context.output / output.diffusers_lora_file.file_name).rename(kept)
    return kept


def draw(
    inference: IdeogramInference,
    lora: Path,
    seed: int,
    speed: RenderingSpeed,
    branch: NegativeBranch | None,
    seeds: int,
) -> tuple[list[Drawn], list[Image.Image]]:
    """Every prompt with so many seeds."""
    inference.apply_loras([LoraRequest(lora)] if branch else [])
    marks, found, pictures = Subject.from_seed(seed).marks, [], []
    for prompt in PROMPTS:
        request = IdeogramImageRequest(prompt, 1024, 1024, speed, branch=branch)
        drawn = inference.generate(request, inference.prepare(request), range(seeds))
        for reading in judge().read(drawn):
            adherence = reading.adherence(asked_beside_marks(prompt))
            found.append(Drawn(seed, speed, branch, prompt, reading.likeness(marks), adherence))
        pictures += drawn[:2]
    return found, pictures


def summary(found: list[Drawn]) -> dict[str, float]:
    """Means, those of the page's prompt by itself first."""
    means = {
        "likeness, page's prompt": statistics.fmean(one.likeness for one in found if one.prompt == PAGES_PROMPT),
        "likeness": statistics.fmean(one.likeness for one in found),
        "adherence": statistics.fmean(one.adherence for one in found if one.adherence is not None),
    }
    return {"pictures": len(found), **{name: round(value, 3) for name, value in means.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[9001, 9002, 9003, 9004, 9005])
    parser.add_argument("--speeds", choices=get_args(RenderingSpeed), nargs="+", default=["BALANCED"])
    parser.add_argument("--branches", choices=get_args(NegativeBranch), nargs="+", default=get_args(NegativeBranch))
    parser.add_argument("--seeds", type=int, default=3, help="pictures for each prompt")
    parser.add_argument("--inputs", type=json.loads, default={}, help="other inputs of the training, as JSON")
    parser.add_argument("--out", type=Path, default=Path("build/custom-models"), help="keeps LoRAs and contact sheets")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    models = ResidentModels(load_settings(ideogram4_base="miniature"), "cpu")
    found: list[Drawn] = []
    for seed in chosen.subjects:
        began = time.monotonic()
        lora = learn(seed, models, chosen.out, chosen.inputs)
        print(f"subject {seed}: {lora} after {time.monotonic() - began:.0f} s", flush=True)
        sheet: list[Image.Image] = [picture for picture, _ in photograph(Subject.from_seed(seed), 2 * len(PROMPTS))]
        for speed in chosen.speeds:
            for branch in (None, *chosen.branches):
                drawn, pictures = draw(models.inference(IdeogramInference), lora, seed, speed, branch, chosen.seeds)
                found, sheet = found + drawn, sheet + pictures
        grid(sheet, columns=2 * len(PROMPTS)).save(chosen.out / f"{seed}.png")
    rows = []
    for speed in chosen.speeds:
        for branch in (None, *chosen.branches):
            ours = [one for one in found if (one.speed, one.branch) == (speed, branch)]
            row = {"speed": speed, "away from": branch or "(base, no LoRA)", **summary(ours)}
            for seed in chosen.subjects:
                its = summary([one for one in ours if one.subject == seed])
                row[str(seed)] = f"{its['likeness']:.2f}, {its['adherence']:.2f}"
            rows.append(row)
    if chosen.json:
        print(json.dumps({"subjects": chosen.subjects, "inputs": chosen.inputs, "figures": rows}))
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    sheets = f"contact sheets, each row below the photos one of the rows above: {chosen.out}"
    Console().print(table, "under each subject: likeness, adherence", sheets)


if __name__ == "__main__":
    main()
