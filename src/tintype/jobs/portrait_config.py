"""The config file of a portrait training: what was asked, what was done, and how to use what came out.

Whoever finds the LoRA in a year needs nothing but this file to reproduce it or to draw with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tintype import __version__
from tintype.catalog import File
from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER, PortraitTrainerInput
from tintype.dataset import MULTI_RESOLUTION, SINGLE_RESOLUTION, Dataset
from tintype.families.flux import FluxFamily
from tintype.jobs.context import JobContext
from tintype.sampling.sampler import DEFAULT_STEPS
from tintype.training.loop import Plan, Trained
from tintype.training.prove import Proof
from tintype.training.report import figures
from tintype.training.work import Work

_LONGEST_URL = 200  # characters; a data URI holds the photos themselves


@dataclass(frozen=True)
class Results:
    """The files of a training."""

    exports: dict[str, File]  # the LoRA in each of its forms
    report: File
    report_html: File
    loss_curve: File
    checkpoints: list[File]
    samples: list[File]

    @property
    def lora(self) -> File:
        """The one in diffusers' form."""
        return self.exports["diffusers"]


def describe_run(
    order: PortraitTrainerInput,
    plan: Plan,
    flux: FluxFamily,
    dataset: Dataset,
    trained: Trained,
    work: Work,
    proof: Proof,
    results: Results,
    context: JobContext,
) -> Path:
    """Writes the config file into the context's scratch folder."""

    def named(file: File) -> dict[str, Any]:
        return context.absolute(file).model_dump()

    config = {
        "endpoint": PORTRAIT_TRAINER.id,
        "tintype": __version__,
        "requested": _requested(order),
        "effective": _effective(order, plan, flux),
        "base": _base(flux),
        "trigger_phrase": order.trigger_phrase,
        "dataset": dataset.report.summary(),
        "training": figures(trained, flux.device) | work.figures(trained.steps_per_second),
        "proof": proof.to_json(),
        "exports": {form: named(file) for form, file in results.exports.items()},
        "report": named(results.report),
        "report_html": named(results.report_html),
        "loss_curve": named(results.loss_curve),
        "samples": [named(file) for file in results.samples],
        "checkpoints": [named(file) for file in results.checkpoints],
        "how_to_draw": _how_to_draw(order, flux, results.lora),
        "licence": flux.weights.licence,
    }
    path = context.scratch / "config.json"
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
    return path


def _requested(order: PortraitTrainerInput) -> dict[str, Any]:
    asked = order.model_dump()
    for name in ("images_data_url", "resume_from_checkpoint"):
        if len(asked[name]) > _LONGEST_URL:
            asked[name] = f"{asked[name][:40]}… ({len(asked[name])} characters)"
    return asked


def _effective(order: PortraitTrainerInput, plan: Plan, flux: FluxFamily) -> dict[str, Any]:
    habits = flux.habits
    return {
        **plan.to_json(),
        "requested_learning_rate": order.learning_rate,
        "learning_rate_scale": habits.learning_rate_scale,
        "rank": order.rank,
        "alpha": order.rank,
        "schedule": "linear warm-up, then constant",
        "area_sides": list(MULTI_RESOLUTION if order.multiresolution_training else SINGLE_RESOLUTION),
        "sigmas": {
            "distribution": "logit-normal",
            "mean": habits.sigma_mean,
            "std": habits.sigma_std,
            "shifted_as_in_sampling": habits.sigma_shift,
        },
        "target_layers": len(flux.adapter_targets),
        "max_sequence_length": flux.max_sequence_length,
        "device": str(flux.device),
        "precision": "bf16 autocast" if plan.autocast else str(flux.dtype).removeprefix("torch."),
    }


def _base(flux: FluxFamily) -> dict[str, Any]:
    return {
        "name": flux.name,
        "source": flux.weights.source,
        "miniature": flux.weights.miniature,
        "why": flux.weights.why,
        "traits": dict(flux.weights.traits),
        "licence": flux.weights.licence,
    }


def _how_to_draw(order: PortraitTrainerInput, flux: FluxFamily, lora: File) -> dict[str, Any]:
    """Exact arguments for a plain diffusers.FluxPipeline that draws what this server would."""
    width, height = flux.drawn_size(1024, 1024)
    return {
        "from_pretrained": str(flux.weights.folder) if flux.weights.miniature else flux.weights.source,
        "dtype": str(flux.dtype).removeprefix("torch."),
        "load_lora_weights": lora.file_name,
        "call": {
            "prompt": f"a portrait of {order.trigger_phrase or 'a person'}",
            "width": width,
            "height": height,
            "num_inference_steps": DEFAULT_STEPS,
            "guidance_scale": flux.guidance_scale,
            "max_sequence_length": flux.max_sequence_length,
        },
        "generator": 'torch.Generator("cpu").manual_seed(seed)',
    }
