"""`fal-ai/flux-lora-portrait-trainer`: photos of a person in, a LoRA that draws them out."""

from __future__ import annotations

from typing import Any

from tintype.catalog import File
from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER, PortraitTrainerInput, TrainerOutput
from tintype.dataset import MULTI_RESOLUTION, SINGLE_RESOLUTION, Dataset, DatasetOptions, open_dataset
from tintype.errors import about_input
from tintype.inference.flux import DEFAULT_STEPS
from tintype.job import JobContext
from tintype.jobs.images import MOST_LORA_BYTES
from tintype.jobs.lora_training import Purpose, encode, new_adapter, plan_for, tell_of, train_and_prove
from tintype.jobs.residents import residents
from tintype.jobs.samples import Samples, with_flux
from tintype.jobs.training_config import describe_run
from tintype.lora.lora import Lora
from tintype.models.family import TrainingDefaults
from tintype.models.flux.model import FluxFamily
from tintype.training.optimizers import check_usable
from tintype.training.plan import Plan


def run(input: PortraitTrainerInput, context: JobContext) -> TrainerOutput:
    """Trains, exports, proves, and only then answers."""
    flux = residents(context).flux()
    context.log(f"Base model: {flux.name}; {flux.weights.why}.")
    plan = plan_of(input, flux)
    check_usable(plan.optimizer, flux.device)
    earlier = _earlier(input, flux, context)

    dataset = _dataset(input, flux, context)
    cache = encode(flux, dataset, context)
    adapter = new_adapter(flux, input.rank, input.seed)
    if earlier is not None:
        adapter.start_from(earlier)
        for said in earlier.account(adapter.layers):
            context.log(said)
    purpose = Purpose(
        title=f"Portrait of {input.trigger_phrase}" if input.trigger_phrase else "Portrait",
        trigger=input.trigger_phrase or "",
        resolution="1024x1024",
        requested_rate=input.learning_rate,
        samples=Samples(input.sample_prompts or [_prompt(input)], input.seed, with_flux),
    )
    finished = train_and_prove(flux, dataset, cache, adapter, plan, purpose, context)

    config = describe_run(
        PORTRAIT_TRAINER.id,
        input,
        plan,
        flux,
        dataset,
        finished,
        effective={
            "area_sides": list(_area_sides(input)),
            "max_sequence_length": flux.max_sequence_length,
        },
        trigger=input.trigger_phrase,
        how_to_draw=_how_to_draw(input, flux, finished.results.exports["diffusers"]),
        context=context,
    )
    return TrainerOutput(
        diffusers_lora_file=finished.results.exports["diffusers"],
        config_file=context.publish(config, "application/json", "config.json"),
    )


def _dataset(input: PortraitTrainerInput, flux: FluxFamily, context: JobContext) -> Dataset:
    """The photos, with everything said about them that the person should know."""
    options = DatasetOptions(
        trigger=input.trigger_phrase,
        area_sides=_area_sides(input),
        subject_crop=input.subject_crop,
        create_masks=input.create_masks,
        size_step=flux.size_step,
    )
    with about_input("images_data_url"):
        dataset = open_dataset(
            context.fetch(input.images_data_url),
            context.scratch / "photos",
            options,
            find_subject=flux.find_subject,
            log=lambda line: context.log(line, "WARN"),
            archive_format=input.data_archive_format,
            check=context.raise_if_cancelled,
        )
    tell_of(dataset, context)
    return dataset


def _area_sides(input: PortraitTrainerInput) -> tuple[int, ...]:
    return MULTI_RESOLUTION if input.multiresolution_training else SINGLE_RESOLUTION


def _earlier(input: PortraitTrainerInput, flux: FluxFamily, context: JobContext) -> Lora | None:
    """The LoRA to go on from, read and found usable before anything costly is done."""
    if not input.resume_from_checkpoint:
        return None
    with about_input("resume_from_checkpoint"):
        lora = flux.read_lora(context.fetch(input.resume_from_checkpoint, max_bytes=MOST_LORA_BYTES))
        lora.startable(flux.adapter_targets, input.rank)
    return lora


def plan_of(input: PortraitTrainerInput, flux: FluxFamily) -> Plan:
    """The input and the habits of the base, as numbers."""
    return plan_for(
        flux.training_defaults,
        steps=input.steps,
        learning_rate=_effective_rate(input, flux.training_defaults),
        seed=input.seed,
        optimizer=input.optimizer,
        keep_every=input.checkpoint_every,
    )


def _effective_rate(input: PortraitTrainerInput, training_defaults: TrainingDefaults) -> float:
    """Prodigy finds its own rate and takes a factor near 1: the endpoint's default stands for just that."""
    if input.optimizer == "prodigy":
        return input.learning_rate / float(PortraitTrainerInput.model_fields["learning_rate"].default)
    return input.learning_rate * training_defaults.learning_rate_scale


def _prompt(input: PortraitTrainerInput) -> str:
    return f"a portrait of {input.trigger_phrase or 'a person'}"


def _how_to_draw(input: PortraitTrainerInput, flux: FluxFamily, lora: File) -> dict[str, Any]:
    """Exact arguments for a plain diffusers.FluxPipeline that draws what this server would."""
    width, height = flux.drawn_size(1024, 1024)
    return {
        "from_pretrained": str(flux.weights.folder) if flux.weights.miniature else flux.weights.source,
        "dtype": str(flux.dtype).removeprefix("torch."),
        "load_lora_weights": lora.file_name,
        "call": {
            "prompt": _prompt(input),
            "width": width,
            "height": height,
            "num_inference_steps": DEFAULT_STEPS,
            "guidance_scale": flux.guidance_scale,
            "max_sequence_length": flux.max_sequence_length,
        },
        "generator": 'torch.Generator("cpu").manual_seed(seed)',
    }
