"""`fal-ai/flux-lora-portrait-trainer`: photos of a person in, a LoRA that draws them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from tintype.catalog.flux_lora_portrait_trainer import PortraitTrainerInput, TrainerOutput
from tintype.dataset import MULTI_RESOLUTION, SINGLE_RESOLUTION, Dataset, Wishes, open_dataset, write_page
from tintype.families.family import Habits
from tintype.families.flux import FluxFamily
from tintype.families.lora_file import check_fits, read_lora
from tintype.jobs.context import JobContext
from tintype.jobs.pictures import MOST_LORA_BYTES
from tintype.jobs.portrait_config import Results, describe_run
from tintype.jobs.portrait_samples import draw_samples, prompts_of
from tintype.jobs.residents import residents
from tintype.training.adapters import Adapter
from tintype.training.cache import Cache, encode_once
from tintype.training.export import export_all, header, to_diffusers
from tintype.training.loop import Plan, Trained, train
from tintype.training.prove import Proof, prove
from tintype.training.report import draw_curve
from tintype.training.work import Work, work_of

_PHOTOS = ("body", "images_data_url")
_RESUME = ("body", "resume_from_checkpoint")


def run(order: PortraitTrainerInput, context: JobContext) -> TrainerOutput:
    """Trains, exports, proves, and only then answers."""
    families = residents(context)
    flux = families.flux()
    context.log(f"Base model: {flux.name}; {flux.weights.why}.")

    dataset = _dataset(order, flux, context)
    cache = _encode(flux, dataset, context)
    adapter = _adapter(order, flux, context)
    plan = plan_of(order, flux)

    context.log(_announced(order, plan, cache))
    kept = context.scratch / "kept"
    keep = _keeper(order, flux, adapter, plan, kept, context)
    trained = train(flux, adapter, cache, plan, context, keepsakes=kept, keep=keep)
    work = work_of(flux, adapter, cache, plan)
    context.log(_told(trained, work))

    exports = export_all(
        adapter, context.scratch, weights=trained.weights, dtype=_kept_dtype(flux), header=_header(order, flux, plan)
    )
    proof = prove(flux, exports["diffusers"], adapter, trained.weights, cache)
    context.log(_proven(proof))

    results = Results(
        exports={form: context.publish(path, "application/octet-stream") for form, path in exports.items()},
        report=context.publish(dataset.report.write(context.scratch / "report.json"), "application/json"),
        report_html=context.publish(write_page(dataset.report, context.scratch / "report.html"), "text/html"),
        loss_curve=context.publish(_curve(trained, plan, context), "image/png"),
        checkpoints=[context.publish(path, "application/octet-stream") for path in sorted(kept.glob("*.safetensors"))],
        samples=[context.publish(path, "image/png") for path in _samples(order, exports["diffusers"], kept, context)],
    )
    config = describe_run(order, plan, flux, dataset, trained, work, proof, results, context)
    return TrainerOutput(
        diffusers_lora_file=results.lora, config_file=context.publish(config, "application/json", "config.json")
    )


def _dataset(order: PortraitTrainerInput, flux: FluxFamily, context: JobContext) -> Dataset:
    """The photos, with everything said about them that the person should know."""
    archive = context.fetch(order.images_data_url, loc=_PHOTOS)
    wishes = Wishes(
        trigger=order.trigger_phrase,
        area_sides=MULTI_RESOLUTION if order.multiresolution_training else SINGLE_RESOLUTION,
        subject_crop=order.subject_crop,
        create_masks=order.create_masks,
        size_step=flux.size_step,
    )
    dataset = open_dataset(
        archive,
        context.scratch / "photos",
        wishes,
        form=order.data_archive_format,
        find=flux.find_subject,
        tell=lambda said: context.log(said, "WARN"),
        each=lambda done: context.raise_if_cancelled(),
    )
    report = dataset.report
    sizes = ", ".join(f"{count} at {size}" for size, count in report.buckets.items())
    context.log(f"{len(report.kept)} photos kept, {len(report.dropped)} left out. Sizes: {sizes}.")
    captions = sorted({example.caption for example in dataset.examples})
    context.log(f'Captions: "{captions[0]}"' + (f" and {len(captions) - 1} others." if captions[1:] else "."))
    for warning in report.warnings:
        context.log(warning, "WARN")
    return dataset


def _adapter(order: PortraitTrainerInput, flux: FluxFamily, context: JobContext) -> Adapter:
    """A new adapter, or one that starts where an earlier LoRA ended."""
    transformer = flux.load_transformer()
    adapter = Adapter.for_transformer(
        transformer, flux.adapter_targets, rank=order.rank, seed=order.seed, device=flux.device
    )
    if order.resume_from_checkpoint:
        path = context.fetch(order.resume_from_checkpoint, loc=_RESUME, max_bytes=MOST_LORA_BYTES)
        lora = read_lora(path, loc=_RESUME)
        check_fits(lora, transformer, loc=_RESUME)
        adapter.start_from(lora, loc=_RESUME)
        for said in lora.account(adapter.layers):
            context.log(said)
    return adapter


def plan_of(order: PortraitTrainerInput, flux: FluxFamily) -> Plan:
    """The order and the habits of the base, as numbers."""
    habits = flux.habits
    return Plan(
        steps=order.steps,
        learning_rate=_effective_rate(order, habits),
        batch_size=habits.batch_size,
        seed=order.seed,
        guidance=habits.training_guidance,
        warmup_steps=habits.warmup_steps,
        weight_decay=habits.weight_decay,
        ema_decay=habits.ema_decay,
        autocast=habits.autocast,
        optimizer=order.optimizer,
        keep_every=order.checkpoint_every,
    )


def _effective_rate(order: PortraitTrainerInput, habits: Habits) -> float:
    """Prodigy finds its own rate and takes a factor near 1: the endpoint's default stands for just that."""
    if order.optimizer == "prodigy":
        return order.learning_rate / float(PortraitTrainerInput.model_fields["learning_rate"].default)
    return order.learning_rate * habits.learning_rate_scale


def _encode(flux: FluxFamily, dataset: Dataset, context: JobContext) -> Cache:
    for caption in sorted({example.caption for example in dataset.examples}):
        if cut := flux.cut_off(caption):
            context.log(f"A caption is longer than the model reads; left out: {cut}", "WARN")
    cache = encode_once(flux, dataset, context.lasting / "latents", each=lambda *_: context.raise_if_cancelled())
    flux.release_encoders()
    return cache


def _keeper(
    order: PortraitTrainerInput, flux: FluxFamily, adapter: Adapter, plan: Plan, folder: Path, context: JobContext
) -> Callable[[int, torch.Tensor], None]:
    """What happens at a kept checkpoint: the LoRA as it is by then, and what it draws. Files that are there stay."""

    def keep(step: int, weights: torch.Tensor) -> None:
        path, facts = folder / f"lora-step-{step:05d}.safetensors", _header(order, flux, plan, step)
        if not path.exists():
            to_diffusers(adapter, path, weights=weights, dtype=_kept_dtype(flux), header=facts)
        places = [folder / f"sample-step-{step:05d}-{number}.png" for number in range(len(prompts_of(order)))]
        draw_samples(order, path, places, context)

    return keep


def _samples(order: PortraitTrainerInput, lora: Path, kept: Path, context: JobContext) -> list[Path]:
    """Those of the finished LoRA, then those of the kept checkpoints in their order."""
    places = [context.scratch / f"sample-{number}.png" for number in range(len(prompts_of(order)))]
    return [*draw_samples(order, lora, places, context), *sorted(kept.glob("sample-*.png"))]


def _curve(trained: Trained, plan: Plan, context: JobContext) -> Path:
    kept = range(plan.keep_every, len(trained.losses) + 1, plan.keep_every) if plan.keep_every else ()
    return draw_curve(trained.losses, context.scratch / "loss.png", kept=kept)


def _header(order: PortraitTrainerInput, flux: FluxFamily, plan: Plan, step: int | None = None) -> dict[str, str]:
    return header(
        title=f"Portrait of {order.trigger_phrase}" if order.trigger_phrase else "Portrait",
        trigger=order.trigger_phrase or "",
        base=flux.weights.source,
        steps=order.steps if step is None else step,
        licence=flux.weights.licence,
        architecture="flux-1-dev",
        settings={**plan.to_json(), "rank": order.rank, "alpha": order.rank},
    )


def _kept_dtype(flux: FluxFamily) -> torch.dtype:
    """A miniature's adapter is small enough to keep every bit; files for the real model are in its own precision."""
    return torch.float32 if flux.weights.miniature and flux.dtype == torch.float32 else torch.bfloat16


def _announced(order: PortraitTrainerInput, plan: Plan, cache: Cache) -> str:
    scaled = "" if plan.learning_rate == order.learning_rate else f" ({plan.learning_rate:.2g} on this base)"
    trigger = f'trigger "{order.trigger_phrase}"' if order.trigger_phrase else "no trigger phrase"
    return (
        f"Training rank {order.rank}, {plan.steps} steps of {plan.batch_size}, learning rate {order.learning_rate:g}"
        f"{scaled}, {len(cache.items)} encoded pictures, {trigger}."
    )


def _told(trained: Trained, work: Work) -> str:
    skipped = f" {trained.skipped} steps were skipped." if trained.skipped else ""
    pace = trained.steps_per_second
    return f"Trained in {trained.seconds:.0f} s ({pace:.1f} steps/s).{skipped} {work.said(pace)}"


def _proven(proof: Proof) -> str:
    return (
        f"The file was loaded back: all {proof.keys} tensors arrived, at scale 0 the base is untouched, at scale 1 the "
        f"prediction changes by {proof.change:.0%}. The kohya and ComfyUI forms, read back, change each layer "
        "alike."
    )
