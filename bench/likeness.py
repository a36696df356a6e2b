"""How well a LoRA learns a subject it has never seen: the figures of docs/miniature.md, and its contact sheets.

Trains on ten photos of each subject without captions, through the endpoint's own job, then draws three prompts with
two seeds each, with and without the LoRA, and asks the judge. A subject's LoRA stays in the folder of its length and
is taken from there the next time: to draw with it in another TINTYPE_PRECISION, say.

    python bench/likeness.py --subjects 9001 9002 9003 9004 9005 --steps 100 2500 --out likeness/
    python bench/likeness.py --defaults '{"weight_decay": 1e-4, "sigma_mean": 0.4}'
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from PIL import Image
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository's root: miniature is not installed

from miniature.contact_sheet import Row, contact_sheet
from miniature.likeness import CASES, TITLES, TRIGGER, Score, mean, score
from miniature.world import Subject, photograph, write_archive

from tintype.catalog.flux_lora import FLUX_LORA, FluxLoraInput
from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER, PortraitTrainerInput
from tintype.jobs import generate_flux, train_portrait
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.models.flux.model import FluxFamily
from tintype.settings import Settings, load_settings


@dataclass(frozen=True)
class Learned:
    """What one subject's LoRA came to."""

    subject: int
    seconds: float
    likeness: float
    likeness_of_base: float
    adherence: float
    adherence_of_base: float


def learn(
    seed: int, order: dict[str, Any], models: ResidentModels, settings: Settings, out: Path, photos: int
) -> Learned:
    """Trains on one subject and judges what is drawn; writes its contact sheet."""
    subject = Subject.from_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        context = LocalContext(Path(folder), settings, resident_models=models)
        taken = photograph(subject, photos)
        archive = Path(folder) / "photos.zip"
        write_archive(archive, taken, captions=False)
        body = {"images_data_url": context.offer(archive), "trigger_phrase": TRIGGER} | order
        began, kept = time.monotonic(), out / f"{seed}.safetensors"
        if not kept.exists():
            train_portrait.run(cast(PortraitTrainerInput, PORTRAIT_TRAINER.parse(body)), context)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(context.output / "lora.safetensors", kept)
        seconds = time.monotonic() - began
        lora = context.offer(kept)
        base, of_base = draw(context, [], subject, out / f"{seed}-base")
        ours, of_ours = draw(context, [{"path": lora}], subject, out / f"{seed}-lora")
        shown = [_saved(picture, Path(folder) / f"shown-{n}.png") for n, (picture, _) in enumerate(taken)]
        rows = [Row(f"photos of subject {seed}", shown, []), Row("base", base, TITLES), Row("with the LoRA", ours, [])]
        contact_sheet(rows, out / f"subject-{seed}.png")
    figures = of_ours.likeness, of_base.likeness, of_ours.adherence, of_base.adherence
    return Learned(seed, round(seconds, 1), *figures)


def draw(context: LocalContext, loras: list[Any], subject: Subject, out: Path) -> tuple[list[Path], Score]:
    """All prompts and seeds; returns the pictures' paths and the mean of their scores."""
    out.mkdir(parents=True, exist_ok=True)
    paths, scores = [], []
    for number, (prompt, seed) in enumerate(CASES):
        body = {"prompt": prompt, "seed": seed, "loras": loras, "image_size": "square_hd", "output_format": "png"}
        answer = generate_flux.run(cast(FluxLoraInput, FLUX_LORA.parse(body)), context)
        path = out / f"{number}.png"
        (context.output / str(answer.images[0].file_name)).rename(path)
        with Image.open(path) as picture:
            scores += score([picture], [prompt], subject.marks)
        paths.append(path)
    return paths, mean(scores)


def _saved(picture: Image.Image, path: Path) -> Path:
    picture.save(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[9001, 9002, 9003, 9004, 9005])
    parser.add_argument("--steps", type=int, nargs="+", default=[500])
    parser.add_argument("--photos", type=int, default=10)
    parser.add_argument("--order", type=json.loads, default={}, help="other inputs of the endpoint, as JSON")
    parser.add_argument("--defaults", type=json.loads, default={}, help="other training defaults of the base, as JSON")
    parser.add_argument("--out", type=Path, default=Path("build/likeness"))
    parser.add_argument("--json", action="store_true", help="print a JSON object for each length instead of a table")
    chosen = parser.parse_args()
    settings = load_settings(flux_base="miniature")
    models = ResidentModels(settings, "cpu")
    flux = models.family(FluxFamily)
    flux.training_defaults = replace(flux.training_defaults, **chosen.defaults)
    for steps in chosen.steps:
        report({"steps": steps} | chosen.order, models, settings, chosen)


def report(order: dict[str, Any], models: ResidentModels, settings: Settings, chosen: argparse.Namespace) -> None:
    """Learns every subject as ordered and prints what came of it; contact sheets lie in a folder for each length."""
    out = chosen.out / str(order["steps"])
    found = [learn(seed, order, models, settings, out, chosen.photos) for seed in chosen.subjects]
    means = {name: round(statistics.fmean(getattr(one, name) for one in found), 3)
             for name in ("seconds", "likeness", "likeness_of_base", "adherence", "adherence_of_base")}  # fmt: skip
    if chosen.json:
        print(json.dumps({"order": order, "subjects": [asdict(one) for one in found], "mean": means}))
        return
    columns = ("subject", "seconds", "likeness", "likeness_of_base", "adherence", "adherence_of_base")
    table = Table(*columns, title=f"{order['steps']} steps")
    for row in (*(asdict(one) for one in found), {"subject": "mean", **means}):
        table.add_row(*(f"{row[name]:.2f}" if isinstance(row[name], float) else str(row[name]) for name in columns))
    Console().print(table, f"contact sheets: {out}")


if __name__ == "__main__":
    main()
