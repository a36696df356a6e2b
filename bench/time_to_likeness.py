"""Seconds of training until a LoRA draws its subject: our recipe against the plain one, on the miniature.

The plain recipe is what public example scripts do: diffusers' transformer with a PEFT adapter of the same rank on the
same layers, features cached, torch.optim.AdamW with its default betas and weight decay 1e-4 at a constant rate, one
picture a step, drawn by lot, sigma logit-normal (0, 1) without shift, guidance 1, gradients clipped to 1, no average
over steps. For each subject it has the best of three rates (--rates): the one that ours begins with, a third and a
ninth of it. Ours is the portrait endpoint's: the same cache, its own batch size, times, warm-up, decay and average.

Both are stopped every --every steps outside of the timing, and the weights they would hand over are judged: three
prompts, two seeds each. The time to likeness is that of the first of two judgements in a row at or above --target;
one alone may be luck. Nothing but steps is timed; `--cpu-time` counts the processor's time, for a busy machine.

    python bench/time_to_likeness.py --subjects 9001 9002 9003 [--json]
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from diffusers import FluxPipeline
from peft import LoraConfig
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository's root: miniature is not installed

from miniature.likeness import CASES, TRIGGER, Score, mean, score
from miniature.world import Subject, photograph, write_archive

from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER, PortraitTrainerInput
from tintype.dataset import MULTI_RESOLUTION, DatasetOptions, open_dataset
from tintype.inference.flux import FluxImageRequest, FluxInference
from tintype.jobs.resident_models import ResidentModels
from tintype.jobs.train_portrait import plan_of
from tintype.lora.adapter import Adapter
from tintype.models.flux.model import FluxFamily
from tintype.settings import load_settings
from tintype.training.cache import Cache, encode_once
from tintype.training.checkpoint import TrainingState
from tintype.training.step import Stepper

Clock = Callable[[], float]
Measure = Callable[[Adapter, torch.Tensor], Score]


class Recipe(Protocol):
    """A training that can be stopped between two steps."""

    def take(self) -> None: ...

    def handed_over(self) -> torch.Tensor:
        """The flat weights, as in Adapter, that a person would get now."""
        ...


class Ours:
    """The endpoint's step with the endpoint's training_defaults."""

    def __init__(self, flux: FluxFamily, cache: Cache, order: PortraitTrainerInput) -> None:
        self.adapter = new_adapter(flux, order)
        self.stepper = Stepper(flux, self.adapter, cache, plan_of(order, flux))
        self.state = TrainingState.new(self.adapter.weights.data)
        self.steps = self.stepper.prepared()
        self.steps.__enter__()

    def take(self) -> None:
        self.stepper.take(self.state)
        self.state.step += 1

    def handed_over(self) -> torch.Tensor:
        return self.state.average


class Plain:
    """See the module's text."""

    def __init__(self, flux: FluxFamily, cache: Cache, order: PortraitTrainerInput, rate: float) -> None:
        self.flux, self.cache = flux, cache
        self.adapter = new_adapter(flux, order)
        self.transformer = copy.deepcopy(flux.load_transformer()).requires_grad_(False)
        targets = list(flux.adapter_targets)
        self.transformer.add_adapter(LoraConfig(r=order.rank, lora_alpha=order.rank, target_modules=targets))
        self.layers = []
        for name, (down, up) in self.adapter.layers.items():
            layer = self.transformer.get_submodule(name)
            self.layers.append((layer.lora_A["default"].weight, layer.lora_B["default"].weight, down, up))
            self.layers[-1][0].data.copy_(down.data)
        self.trained = [parameter for parameter in self.transformer.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=rate, weight_decay=1e-4)
        self.generator = torch.Generator().manual_seed(order.seed)
        self.lots = random.Random(order.seed)

    def take(self) -> None:
        item = self.lots.choice(self.cache.items)
        features = self.cache.features_of([item])
        clean = item.latents[None]
        noise = torch.randn(clean.shape, generator=self.generator)
        sigma = torch.sigmoid(torch.randn(1, generator=self.generator))
        ids = FluxPipeline._prepare_latent_image_ids(1, item.rows, item.columns, clean.device, clean.dtype)
        predicted = self.transformer(
            hidden_states=torch.lerp(clean, noise, sigma[:, None, None]),
            timestep=sigma,
            guidance=torch.ones(1),
            pooled_projections=features.pooled,
            encoder_hidden_states=features.tokens,
            txt_ids=torch.zeros(features.tokens.shape[1], 3),
            img_ids=ids,
            return_dict=False,
        )[0]
        loss = torch.nn.functional.mse_loss(predicted, noise - clean)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def handed_over(self) -> torch.Tensor:
        for trained_down, trained_up, down, up in self.layers:
            down.data.copy_(trained_down.data)
            up.data.copy_(trained_up.data)
        return self.adapter.weights.data


@dataclass(frozen=True)
class Judged:
    """One judgement: after how many steps and seconds of them, and what it was."""

    step: int
    seconds: float
    likeness: float
    adherence: float


def score_of(adapter: Adapter, weights: torch.Tensor, models: ResidentModels, subject: Subject) -> Score:
    """Draws all prompts and seeds with weights that are in no file yet; the mean of what the judge reads."""
    with applied(adapter, weights, models.family(FluxFamily)):
        drawn = [
            models.inference(FluxInference).generate(FluxImageRequest(prompt, 1024, 1024), [seed])[0]
            for prompt, seed in CASES
        ]
    return mean(score(drawn, [prompt for prompt, _ in CASES], subject.marks))


@contextmanager
def applied(adapter: Adapter, weights: torch.Tensor, flux: FluxFamily) -> Iterator[None]:
    """The weights added to the resident transformer's own, and taken off again to the last bit."""
    transformer, before = flux.load_transformer(), {}
    for name, pair in adapter.lora(weights).pairs.items():
        layer = transformer.get_submodule(name)
        before[name] = layer.weight.data.clone()
        layer.weight.data.add_(pair.up @ pair.down, alpha=pair.scale)
    try:
        yield
    finally:
        for name, weight in before.items():
            transformer.get_submodule(name).weight.data.copy_(weight)


def follow(
    make: Callable[[], Recipe], measure: Measure, most: int, every: int, target: float, clock: Clock
) -> list[Judged]:
    """Trains until two judgements in a row reach the target, or `most` steps are done."""
    recipe = make()
    adapter = cast(Any, recipe).adapter
    found: list[Judged] = []
    seconds = 0.0
    for step in range(every, most + 1, every):
        began = clock()
        for _ in range(every):
            recipe.take()
        seconds += clock() - began
        seen = measure(adapter, recipe.handed_over())
        found.append(Judged(step, round(seconds, 3), round(seen.likeness, 3), round(seen.adherence, 3)))
        if len(found) > 1 and min(found[-1].likeness, found[-2].likeness) >= target:
            break
    return found


def reached(judged: list[Judged], target: float) -> Judged | None:
    """The first of two in a row at or above the target."""
    pairs = itertools.pairwise(judged)
    return next((one for one, after in pairs if min(one.likeness, after.likeness) >= target), None)


def new_adapter(flux: FluxFamily, order: PortraitTrainerInput) -> Adapter:
    return Adapter.for_transformer(
        flux.load_transformer(), flux.adapter_targets, rank=order.rank, seed=order.seed, device=flux.device
    )


def cache_of(flux: FluxFamily, subject: Subject, photos: int, folder: Path) -> Cache:
    archive = folder / "photos.zip"
    write_archive(archive, photograph(subject, photos), captions=False)
    options = DatasetOptions(trigger=TRIGGER, area_sides=MULTI_RESOLUTION, size_step=flux.size_step)
    dataset = open_dataset(archive, folder / "photos", options, find_subject=flux.find_subject, log=lambda line: None)
    return encode_once(flux, dataset, folder / "latents")


def compare(seed: int, chosen: argparse.Namespace, models: ResidentModels) -> dict[str, Any]:
    """One subject, both recipes; the plain one at each of its rates."""
    subject, flux = Subject.from_seed(seed), models.family(FluxFamily)
    order = cast(PortraitTrainerInput, PORTRAIT_TRAINER.parse({"images_data_url": "data:,", **chosen.order}))
    clock = time.process_time if chosen.cpu_time else time.perf_counter
    measure = partial(score_of, models=models, subject=subject)
    with tempfile.TemporaryDirectory() as folder:
        cache = cache_of(flux, subject, chosen.photos, Path(folder))
        scaled = order.learning_rate * flux.training_defaults.learning_rate_scale

        def run(make: Callable[[], Recipe], most: int) -> dict[str, Any]:
            judged = follow(make, measure, most, chosen.every, chosen.target, clock)
            first = reached(judged, chosen.target)
            return {"seconds": first and first.seconds, "steps": first and first.step,
                    "adherence": first and first.adherence, "judged": [vars(one) for one in judged]}  # fmt: skip

        ours = run(lambda: Ours(flux, cache, order), chosen.steps)
        plain = {
            f"{rate:.3g}": run(lambda rate=rate: Plain(flux, cache, order, rate), chosen.plain_steps)  # type: ignore[misc]
            for rate in (scaled * factor for factor in chosen.rates)
        }
    best = min((one["seconds"] for one in plain.values() if one["seconds"]), default=None)
    return {
        "subject": seed,
        "ours": ours,
        "plain": plain,
        "plain_seconds": best,
        "ratio": round(ours["seconds"] / best, 3) if ours["seconds"] and best else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[9001, 9002, 9003])
    parser.add_argument("--photos", type=int, default=10)
    parser.add_argument("--every", type=int, default=25, help="steps between two judgements")
    parser.add_argument("--steps", type=int, default=500, help="most steps of ours")
    parser.add_argument("--plain-steps", type=int, default=2000, help="most steps of the plain recipe")
    parser.add_argument("--rates", type=float, nargs="+", default=[1 / 9, 1 / 3, 1.0], help="of the plain recipe")
    parser.add_argument("--target", type=float, default=0.8)
    parser.add_argument("--order", type=json.loads, default={}, help="other inputs of the endpoint, as JSON")
    parser.add_argument("--cpu-time", action="store_true", help="processor time, whatever else runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    models = ResidentModels(load_settings(flux_base="miniature"), "cpu")
    rows = [compare(seed, chosen, models) for seed in chosen.subjects]
    ratios = [row["ratio"] for row in rows if row["ratio"]]
    median = round(statistics.median(ratios), 3) if ratios else None
    if chosen.json:
        print(json.dumps({"target": chosen.target, "threads": torch.get_num_threads(), "subjects": rows,
                          "median_ratio": median}))  # fmt: skip
        return
    table = Table("subject", "recipe", "seconds", "steps", "adherence then", title=f"Until likeness {chosen.target}")
    for row in rows:
        for name, one in (("ours", row["ours"]), *((f"plain, rate {rate}", one) for rate, one in row["plain"].items())):
            shown = [one["seconds"], one["steps"], one["adherence"]]
            table.add_row(str(row["subject"]), name, *("not reached" if it is None else f"{it:g}" for it in shown))
    Console().print(table, f"ours / best plain: {median if median is not None else 'not known'} (median of subjects)")


if __name__ == "__main__":
    main()
