"""What every LoRA training does once its photos are ready: encode, train, export, prove, and publish what came out.

The recipes (`train_portrait`, `train_ideogram`, `train_custom_model`) say what is trained; here is how.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tintype.catalog import File
from tintype.dataset import Dataset, write_page
from tintype.job import JobContext
from tintype.jobs.samples import Samples
from tintype.lora.adapter import Adapter
from tintype.lora.lora import Lora
from tintype.lora.write import write_lora
from tintype.models.family import Family, TrainingDefaults
from tintype.models.read_ahead import read_ahead
from tintype.training.cache import Cache, encode_once
from tintype.training.curve import draw_curve
from tintype.training.export import export_all, header
from tintype.training.flops import StepCost, step_cost_of
from tintype.training.loop import Plan, Trained, train
from tintype.training.prove import Proof, prove


@dataclass(frozen=True)
class Purpose:
    """What a LoRA is for, as its file and the log say it."""

    title: str
    trigger: str
    resolution: str
    requested_rate: float
    samples: Samples


@dataclass(frozen=True)
class Results:
    """The files of a training."""

    exports: Mapping[str, File]  # the LoRA in each of its forms
    report: File
    report_html: File
    loss_curve: File
    checkpoints: list[File]
    samples: list[File]


@dataclass(frozen=True)
class Finished:
    """A training that was proven: its figures and its files."""

    trained: Trained
    work: StepCost
    proof: Proof
    results: Results


def plan_for(
    training_defaults: TrainingDefaults,
    *,
    steps: int,
    learning_rate: float,
    seed: int = 0,
    optimizer: str = "adamw",
    keep_every: int | None = None,
) -> Plan:
    """What was ordered and the habits of the base, as numbers. `learning_rate` is the effective one."""
    return Plan(
        steps=steps,
        learning_rate=learning_rate,
        batch_size=training_defaults.batch_size,
        seed=seed,
        guidance=training_defaults.training_guidance,
        warmup_steps=training_defaults.warmup_steps,
        decay_power=training_defaults.decay_power,
        weight_decay=training_defaults.weight_decay,
        ema_decay=training_defaults.ema_decay,
        autocast=training_defaults.autocast,
        optimizer=optimizer,
        keep_every=keep_every,
    )


def tell_of(dataset: Dataset, context: JobContext) -> None:
    """What became of the photos, in the log."""
    report = dataset.report
    sizes = ", ".join(f"{count} at {size}" for size, count in report.buckets.items())
    context.log(f"{len(report.kept)} photos kept, {len(report.dropped)} left out. Sizes: {sizes}.")
    captions = sorted({example.caption for example in dataset.examples})
    context.log(f'Captions: "{captions[0]}"' + (f" and {len(captions) - 1} others." if captions[1:] else "."))
    for warning in report.warnings:
        context.log(warning, "WARN")


def encode(family: Family, dataset: Dataset, context: JobContext) -> Cache:
    """Latents and text features of all that is trained; the encoders' memory is given back. The transformer's files are
    read from disk meanwhile."""
    for caption in sorted({example.caption for example in dataset.examples}):
        if cut := family.cut_off(caption):
            context.log(f"A caption is longer than the model reads; left out: {cut}", "WARN")
    kept = context.lasting / "encoded"
    with nullcontext() if family.loaded else read_ahead(family.weights.folder / "transformer"):
        cache = encode_once(family, dataset, kept, each=lambda *_: context.raise_if_cancelled())
    family.release_encoders()
    return cache


def new_adapter(family: Family, rank: int, seed: int) -> Adapter:
    """One that changes nothing yet."""
    return Adapter.for_transformer(
        family.load_transformer(),
        family.adapter_targets,
        rank=rank,
        seed=seed,
        device=family.device,
        shared=family.fused_targets,
    )


def train_and_prove(
    family: Family,
    dataset: Dataset,
    cache: Cache,
    adapter: Adapter,
    plan: Plan,
    purpose: Purpose,
    context: JobContext,
) -> Finished:
    """Trains, exports in every form, proves the file, and publishes; raises UnprovenAdapter rather than hand over one
    that does nothing."""
    context.log(_announced(family, adapter, plan, purpose, cache))
    kept = context.scratch / "kept"
    on_snapshot = _snapshots(family, adapter, plan, purpose, kept, context)
    trained = train(family, adapter, cache, plan, context, snapshot_dir=kept, on_snapshot=on_snapshot)
    work = step_cost_of(family, adapter, cache, plan)
    context.log(_told(trained, work))

    facts = _header(family, adapter, plan, purpose)
    exports = export_all(trained.lora, family.lora_keys, context.scratch, dtype=_kept_dtype(family), header=facts)
    proof = prove(family, exports["diffusers"], trained.lora, cache)
    context.log(_proven(proof, exports))

    report = dataset.report
    results = Results(
        exports={form: context.publish(path, "application/octet-stream") for form, path in exports.items()},
        report=context.publish(report.write(context.scratch / "report.json"), "application/json"),
        report_html=context.publish(write_page(report, context.scratch / "report.html"), "text/html"),
        loss_curve=context.publish(_curve(trained, plan, context), "image/png"),
        checkpoints=[context.publish(path, "application/octet-stream") for path in sorted(kept.glob("*.safetensors"))],
        samples=[
            context.publish(path, "image/png") for path in _drawn(purpose.samples, exports["diffusers"], kept, context)
        ],
    )
    return Finished(trained, work, proof, results)


def _snapshots(
    family: Family, adapter: Adapter, plan: Plan, purpose: Purpose, folder: Path, context: JobContext
) -> Callable[[int, Lora], None]:
    """What happens at a snapshot: the LoRA as it is by then, and what it generates. Files that are there stay."""

    def on_snapshot(step: int, lora: Lora) -> None:
        path, facts = folder / f"lora-step-{step:05d}.safetensors", _header(family, adapter, plan, purpose, step)
        if not path.exists():
            write_lora(lora, family.lora_keys, path, form="diffusers", dtype=_kept_dtype(family), header=facts)
        count = len(purpose.samples.prompts)
        places = [folder / f"sample-step-{step:05d}-{number}.png" for number in range(count)]
        purpose.samples.at(path, places, context)

    return on_snapshot


def _drawn(samples: Samples, lora: Path, kept: Path, context: JobContext) -> list[Path]:
    """Those of the finished LoRA, then those of the kept checkpoints in their order."""
    places = [context.scratch / f"sample-{number}.png" for number in range(len(samples.prompts))]
    return [*samples.at(lora, places, context), *sorted(kept.glob("sample-*.png"))]


def _curve(trained: Trained, plan: Plan, context: JobContext) -> Path:
    kept = range(plan.keep_every, len(trained.losses) + 1, plan.keep_every) if plan.keep_every else ()
    return draw_curve(trained.losses, context.scratch / "loss.png", kept=kept)


def _header(family: Family, adapter: Adapter, plan: Plan, purpose: Purpose, step: int | None = None) -> dict[str, str]:
    settings: dict[str, Any] = {**plan.to_json(), "rank": adapter.rank, "alpha": adapter.alpha}
    return header(
        title=purpose.title,
        trigger=purpose.trigger,
        base=family.weights.source,
        steps=plan.steps if step is None else step,
        licence=family.weights.licence,
        resolution=purpose.resolution,
        settings=settings,
    )


def _kept_dtype(family: Family) -> torch.dtype:
    """A miniature's adapter is small enough to keep every bit; files for the real model are in its own precision."""
    return torch.float32 if family.weights.miniature and family.dtype == torch.float32 else torch.bfloat16


def _announced(family: Family, adapter: Adapter, plan: Plan, purpose: Purpose, cache: Cache) -> str:
    rate = purpose.requested_rate
    scaled = "" if plan.learning_rate == rate else f" ({plan.learning_rate:.2g} on this base)"
    trigger = f'trigger "{purpose.trigger}"' if purpose.trigger else "no trigger phrase"
    return (
        f"Training rank {adapter.rank}, {plan.steps} steps of {plan.batch_size}, learning rate {rate:g}"
        f"{scaled}, {len(cache.items)} encoded pictures, {trigger}."
    )


def _told(trained: Trained, work: StepCost) -> str:
    skipped = f" {trained.skipped} steps were skipped." if trained.skipped else ""
    pace = trained.steps_per_second
    return f"Trained in {trained.seconds:.0f} s ({pace:.1f} steps/s).{skipped} {work.said(pace)}"


def _proven(proof: Proof, exports: Mapping[str, Path]) -> str:
    others = ", ".join(form for form in exports if form != "diffusers")
    return (
        f"The file was loaded back: all {proof.keys} tensors arrived, at scale 0 the base is untouched, at scale 1 the "
        f"prediction changes by {proof.change:.0%}. The other forms ({others}), read back, change each layer alike."
    )
