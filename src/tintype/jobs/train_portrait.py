"""`fal-ai/flux-lora-portrait-trainer`: photos of a person in, a LoRA that draws them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from tintype.catalog import File
from tintype.catalog.flux_lora_portrait_trainer import PortraitTrainerInput, TrainerOutput
from tintype.dataset import MULTI_RESOLUTION, SINGLE_RESOLUTION, Dataset, Wishes, open_dataset
from tintype.families.flux import FluxFamily
from tintype.families.lora_file import check_fits, read_lora
from tintype.jobs.context import JobContext
from tintype.jobs.draw_flux import MOST_LORA_BYTES, encoded
from tintype.jobs.portrait_config import Results, describe_run
from tintype.jobs.residents import residents
from tintype.sampling.sampler import Wish
from tintype.sampling.shelf import Wanted
from tintype.training.adapters import Adapter
from tintype.training.cache import Cache, encode_once
from tintype.training.export import header, to_diffusers
from tintype.training.loop import Plan, Trained, train
from tintype.training.prove import Proof, prove
from tintype.training.report import draw_curve

_PHOTOS = ("body", "images_data_url")
_RESUME = ("body", "resume_from_checkpoint")
_SAMPLE_SIZE = (1024, 1024)  # nominal pixels


def run(order: PortraitTrainerInput, context: JobContext) -> TrainerOutput:
    """Trains, exports, proves, and only then answers."""
    families = residents(context)
    flux = families.flux()
    context.log(f"Base model: {flux.name}; {flux.weights.why}.")

    dataset = _dataset(order, flux, context)
    cache = _encode(flux, dataset, context)
    adapter = _adapter(order, flux, context)
    plan = _plan(order, flux)

    context.log(_announced(order, plan, cache))
    kept = context.scratch / "kept"
    trained = train(flux, adapter, cache, plan, context, keepsakes=kept, keep=_keeper(order, flux, adapter, kept))
    context.log(_told(trained))

    lora = _export(order, flux, adapter, context.scratch / "lora.safetensors", trained.weights, order.steps)
    proof = prove(flux, lora, adapter, trained.weights, cache)
    context.log(_proven(proof))

    results = Results(
        lora=context.publish(lora, "application/octet-stream"),
        report=context.publish(dataset.report.write(context.scratch / "report.json"), "application/json"),
        loss_curve=context.publish(draw_curve(trained.losses, context.scratch / "loss.png"), "image/png"),
        checkpoints=[context.publish(path, "application/octet-stream") for path in sorted(kept.glob("*.safetensors"))],
        samples=_samples(order, lora, context),
    )
    config = describe_run(order, plan, flux, dataset, trained, proof, results, context)
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
        taken = adapter.start_from(lora, loc=_RESUME)
        context.log(f"Going on from an earlier LoRA: {taken} of {len(adapter.layers)} layers start from it.")
    return adapter


def _plan(order: PortraitTrainerInput, flux: FluxFamily) -> Plan:
    habits = flux.habits
    return Plan(
        steps=order.steps,
        learning_rate=order.learning_rate * habits.learning_rate_scale,
        batch_size=habits.batch_size,
        seed=order.seed,
        guidance=habits.training_guidance,
        warmup_steps=habits.warmup_steps,
        weight_decay=habits.weight_decay,
        ema_decay=habits.ema_decay,
        autocast=habits.autocast,
        keep_every=order.checkpoint_every,
    )


def _encode(flux: FluxFamily, dataset: Dataset, context: JobContext) -> Cache:
    for caption in sorted({example.caption for example in dataset.examples}):
        if cut := flux.cut_off(caption):
            context.log(f"A caption is longer than the model reads; left out: {cut}", "WARN")
    cache = encode_once(flux, dataset, context.scratch / "latents", each=lambda *_: context.raise_if_cancelled())
    flux.release_encoders()
    return cache


def _keeper(
    order: PortraitTrainerInput, flux: FluxFamily, adapter: Adapter, folder: Path
) -> Callable[[int, torch.Tensor], None]:
    def keep(step: int, weights: torch.Tensor) -> None:
        _export(order, flux, adapter, folder / f"lora-step-{step:05d}.safetensors", weights, step)

    return keep


def _export(
    order: PortraitTrainerInput, flux: FluxFamily, adapter: Adapter, path: Path, weights: torch.Tensor, steps: int
) -> Path:
    facts = header(
        title=f"Portrait of {order.trigger_phrase}" if order.trigger_phrase else "Portrait",
        trigger=order.trigger_phrase or "",
        base=flux.weights.source,
        steps=steps,
        licence=flux.weights.licence,
        architecture="flux-1-dev",
    )
    # A miniature's adapter is small enough to keep every bit.
    dtype = torch.float32 if flux.weights.miniature else torch.bfloat16
    return to_diffusers(adapter, path, weights=weights, dtype=dtype, header=facts)


def _samples(order: PortraitTrainerInput, lora: Path, context: JobContext) -> list[File]:
    """The asked-for pictures, or one, drawn by the endpoint's own sampler from the very file that is handed over."""
    sampler = residents(context).flux_sampler()
    sampler.use([Wanted(lora, 1.0, ("body",))])
    prompts = order.sample_prompts or [f"a portrait of {order.trigger_phrase or 'a person'}"]
    published = []
    for number, prompt in enumerate(prompts):
        wish = Wish(prompt, *_SAMPLE_SIZE)
        picture = sampler.draw(wish, [order.seed], lambda *_: context.raise_if_cancelled())[0]
        path = context.scratch / f"sample-{number}.png"
        path.write_bytes(encoded(picture, "png"))
        published.append(context.publish(path, "image/png"))
    return published


def _announced(order: PortraitTrainerInput, plan: Plan, cache: Cache) -> str:
    scaled = "" if plan.learning_rate == order.learning_rate else f" ({plan.learning_rate:.2g} on this base)"
    trigger = f'trigger "{order.trigger_phrase}"' if order.trigger_phrase else "no trigger phrase"
    return (
        f"Training rank {order.rank}, {plan.steps} steps of {plan.batch_size}, learning rate {order.learning_rate:g}"
        f"{scaled}, {len(cache.items)} encoded pictures, {trigger}."
    )


def _told(trained: Trained) -> str:
    skipped = f" {trained.skipped} steps were skipped." if trained.skipped else ""
    return f"Trained in {trained.seconds:.0f} s ({trained.steps_per_second:.1f} steps/s).{skipped}"


def _proven(proof: Proof) -> str:
    return (
        f"The file was loaded back: all {proof.keys} tensors arrived, at scale 0 the base is untouched, at scale 1 the "
        f"prediction changes by {proof.change:.0%}."
    )
