"""The config file of a training: what was asked, what was done, and how to use what came out.

Whoever finds the LoRA in a year needs nothing but this file to reproduce it or to draw with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tintype import __version__
from tintype.catalog import File
from tintype.catalog.endpoint import EndpointInput
from tintype.catalog.fields import file_references
from tintype.dataset import Dataset
from tintype.job import JobContext
from tintype.jobs.lora_training import Finished
from tintype.models.family import Family
from tintype.training.curve import figures
from tintype.training.loop import Plan

_LONGEST_URL = 200  # characters; a data URI holds the photos themselves


def describe_run(
    endpoint: str,
    input: EndpointInput,
    plan: Plan,
    family: Family,
    dataset: Dataset,
    finished: Finished,
    *,
    effective: Mapping[str, Any],
    trigger: str | None,
    how_to_draw: Mapping[str, Any],
    context: JobContext,
) -> Path:
    """Writes the config file into the context's scratch folder. `effective` adds to what is so for every base."""

    def named(file: File) -> dict[str, Any]:
        return context.absolute(file).model_dump()

    results, work = finished.results, finished.work
    config = {
        "endpoint": endpoint,
        "tintype": __version__,
        "requested": _requested(input),
        "effective": {**_effective(input, plan, family), **effective},
        "base": _base(family),
        "trigger_phrase": trigger,
        "dataset": dataset.report.summary(),
        "training": figures(finished.trained, family.device) | work.figures(finished.trained.steps_per_second),
        "proof": asdict(finished.proof),
        "exports": {form: named(file) for form, file in results.exports.items()},
        "report": named(results.report),
        "report_html": named(results.report_html),
        "loss_curve": named(results.loss_curve),
        "samples": [named(file) for file in results.samples],
        "checkpoints": [named(file) for file in results.checkpoints],
        "how_to_draw": dict(how_to_draw),
        "licence": family.weights.licence,
    }
    path = context.scratch / "config.json"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
    return path


def _requested(input: EndpointInput) -> dict[str, Any]:
    """The input as it came, but for files that it carries itself: those may be the photos."""
    asked = input.model_dump()
    for (*parents, last), url in file_references(input):
        if len(url) > _LONGEST_URL:
            place: Any = asked
            for part in parents:
                place = place[part]
            place[last] = f"{url[:40]}… ({len(url)} characters)"
    return asked


def _effective(input: EndpointInput, plan: Plan, family: Family) -> dict[str, Any]:
    training_defaults = family.training_defaults
    asked = input.model_dump()
    return {
        **plan.to_json(),
        "requested_learning_rate": asked["learning_rate"],
        "learning_rate_scale": training_defaults.learning_rate_scale,
        "rank": asked["rank"],
        "alpha": asked["rank"],
        "schedule": "linear warm-up, then "
        + ("constant" if plan.decay_power == 0 else f"polynomial decay of power {plan.decay_power:g}"),
        "sigmas": {
            "distribution": "logit-normal",
            "mean": training_defaults.sigma_mean,
            "std": training_defaults.sigma_std,
            "shifted_by_size": training_defaults.sigma_shift,
        },
        "target_layers": len(family.adapter_targets),
        "device": str(family.device),
        "precision": "bf16 autocast" if plan.autocast else str(family.dtype).removeprefix("torch."),
    }


def _base(family: Family) -> dict[str, Any]:
    return {
        "name": family.name,
        "source": family.weights.source,
        "miniature": family.weights.miniature,
        "why": family.weights.why,
        "traits": dict(family.weights.traits),
        "licence": family.weights.licence,
    }
