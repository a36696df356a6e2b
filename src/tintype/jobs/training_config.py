"""The config file of a training: what was asked, what was done, and how to use what came out.

Whoever finds the LoRA in a year needs nothing but this file to reproduce it or to generate with it.
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
from tintype.dataset import DatasetReport
from tintype.files.disk import write_file
from tintype.job import JobContext
from tintype.jobs.recipe import Recipe
from tintype.models.family import Family
from tintype.training.curve import figures
from tintype.training.flops import StepCost
from tintype.training.loop import Trained
from tintype.training.prove import Proof

_LONGEST_URL = 200  # characters; a data URI holds the photos themselves


def write_config(
    recipe: Recipe,
    report: DatasetReport,
    trained: Trained,
    cost: StepCost | None,
    proof: Proof | None,
    files: Mapping[str, Any],
    candidates: Mapping[str, Any] | None,
    not_made: Mapping[str, str],
    context: JobContext,
) -> Path:
    """Writes the config file into the scratch folder; `files` are what was published, by their names in it.

    `candidates` tells how the step was chosen, `not_made` says why what is missing is.
    """
    family = recipe.family
    config = {
        "endpoint": recipe.endpoint.id,
        "tintype": __version__,
        "requested": requested(recipe.input),
        "effective": {**_effective(recipe), **recipe.effective},
        "base": _base(family),
        "trigger_phrase": recipe.trigger,
        "consent": recipe.consent or None,
        "dataset": report.summary(),
        "training": figures(trained, family.device) | (cost.figures(trained.steps_per_second) if cost else {}),
        "proof": asdict(proof) if proof else f"not run: {not_made['proof']}",
        **({"candidates": candidates} if candidates else {}),
        "not_made": dict(not_made),
        **_absolute(files, context),
        "how_to_draw": {
            "from_pretrained": str(family.weights.folder) if family.weights.miniature else family.weights.source,
            "dtype": str(family.dtype).removeprefix("torch."),
            "load_lora_weights": files["exports"]["diffusers"].file_name,
            "call": dict(recipe.pipeline_call),
            "generator": 'torch.Generator("cpu").manual_seed(seed)',
        },
        "licence": family.weights.licence,
    }
    return write_file(context.scratch / "config.json", json.dumps(config, indent=2, ensure_ascii=False))


def _absolute(files: Any, context: JobContext) -> Any:
    """The files with the URLs that a person would open, in the same lists and under the same names."""
    if isinstance(files, File):
        return context.absolute(files).model_dump()
    if isinstance(files, Mapping):
        return {name: _absolute(file, context) for name, file in files.items()}
    return [_absolute(file, context) for file in files]


def requested(input: EndpointInput) -> dict[str, Any]:
    """Gives the input as it came, but for files that it carries itself: those may be the photos."""
    asked = input.model_dump()
    for (*parents, last), url in file_references(input):
        if len(url) > _LONGEST_URL:
            place: Any = asked
            for part in parents:
                place = place[part]
            place[last] = f"{url[:40]}… ({len(url)} characters)"
    return asked


def _effective(recipe: Recipe) -> dict[str, Any]:
    family, plan, defaults = recipe.family, recipe.plan, recipe.family.training_defaults
    return {
        **plan.to_json(),
        "requested_learning_rate": recipe.learning_rate,
        "learning_rate_scale": defaults.learning_rate_scale,
        "rank": recipe.rank,
        "alpha": recipe.rank,
        "schedule": "linear warm-up, then "
        + (f"rate / (1 + step / {plan.decay_steps})" if plan.decay_steps else "constant"),
        "sigmas": {
            "distribution": "logit-normal",
            "mean": defaults.sigma_mean,
            "std": defaults.sigma_std,
            "shifted_by_size": defaults.sigma_shift,
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
        "precision": family.weights.precision,
        "precision_why": family.weights.precision_why,
        "traits": dict(family.weights.traits),
        "licence": family.weights.licence,
    }
