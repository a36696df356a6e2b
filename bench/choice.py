"""Whether the step that a training hands over is the good one, asked of the judge, which the product does not know.

Trains on ten photos of each subject with every candidate scored to the end of the run, and lets the judge read the same
pictures that the scores were taken from. Printed are the rank correlation of the two over the candidates of a run, and
how far the judged score of the chosen step is below that of the best.

    python bench/choice.py --subjects 9101 9102 9103 --steps 2500
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository's root: miniature is not installed

from miniature.likeness import TRIGGER, mean, score
from miniature.world import Subject, photograph, write_archive

from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER, PortraitTrainerInput
from tintype.jobs import train_portrait
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.settings import Settings, load_settings


@dataclass(frozen=True)
class Choice:
    """How one run's scores agree with the judge. `below_best` is in the judge's likeness times adherence."""

    subject: int
    chosen: int
    correlation: float
    judged: float
    below_best: float


def choice(seed: int, steps: int, models: ResidentModels, settings: Settings) -> Choice:
    """Trains on one subject and asks the judge about every candidate."""
    subject = Subject.from_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        context = LocalContext(Path(folder), settings, resident_models=models)
        archive = Path(folder) / "photos.zip"
        write_archive(archive, photograph(subject, 10), captions=False)
        url = context.offer(archive)
        body = {"images_data_url": url, "trigger_phrase": TRIGGER, "steps": steps, "stop": "off"}
        train_portrait.run(cast(PortraitTrainerInput, PORTRAIT_TRAINER.parse(body)), context)
        found = json.loads((context.output / "config.json").read_text())["candidates"]
        judged = {each["step"]: _judged(context, each["step"], found["prompts"], subject) for each in found["scored"]}
    totals = [each["likeness"] ** 2 * each["adherence"] * each["originality"] for each in found["scored"]]
    of_chosen = judged[found["chosen"]]
    best = max(judged.values())
    return Choice(seed, found["chosen"], rank_correlation(totals, list(judged.values())), of_chosen, best - of_chosen)


def _judged(context: LocalContext, step: int, prompts: list[str], subject: Subject) -> float:
    places = sorted((context.scratch / "kept").glob(f"candidate-{step:05d}-*.png"))
    read = mean(score([Image.open(place) for place in places], prompts, subject.marks))
    return read.likeness * read.adherence


def rank_correlation(one: list[float], other: list[float]) -> float:
    """Computes Spearman's, with mean ranks for ties; NaN where one of the two does not vary."""

    def ranks(values: list[float]) -> list[float]:
        return [statistics.fmean(n for n, each in enumerate(sorted(values)) if each == value) for value in values]

    if len(set(one)) < 2 or len(set(other)) < 2:
        return float("nan")
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=list(range(9101, 9111)))
    parser.add_argument("--steps", type=int, default=2500)
    chosen = parser.parse_args()
    settings = load_settings(flux_base="miniature")
    models = ResidentModels(settings, "cpu")
    table = Table("subject", "chosen", "correlation", "judged", "below_best", title=f"{chosen.steps} steps")
    found = []
    for seed in chosen.subjects:
        found.append(choice(seed, chosen.steps, models, settings))
        table.add_row(
            *(f"{value:.2f}" if isinstance(value, float) else str(value) for value in asdict(found[-1]).values())
        )
        Console().print(table)
    correlations = [each.correlation for each in found if each.correlation == each.correlation]
    below = statistics.fmean(each.below_best for each in found)
    Console().print(
        f"mean correlation {statistics.fmean(correlations or [float('nan')]):.2f}, mean below the best {below:.3f}"
    )


if __name__ == "__main__":
    main()
