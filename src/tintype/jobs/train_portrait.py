"""`fal-ai/flux-lora-portrait-trainer`, and `fal-ai/flux-lora-fast-training`: photos in, a LoRA of FLUX out."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from tintype.catalog import Endpoint, EndpointInput
from tintype.catalog.flux_lora_fast_training import FAST_TRAINING, FastTrainingInput, FastTrainingOutput
from tintype.catalog.flux_lora_portrait_trainer import (
    PORTRAIT_TRAINER,
    STOPPABLE_STEPS,
    PortraitTrainerInput,
    TrainerOutput,
)
from tintype.dataset import MULTI_RESOLUTION, SINGLE_RESOLUTION, Dataset, DatasetOptions
from tintype.errors import FileTooLarge, InputError, about_input
from tintype.inference.flux import FluxInference
from tintype.job import JobContext
from tintype.jobs.candidates import candidate_steps, identity_for
from tintype.jobs.images import MOST_LORA_BYTES
from tintype.jobs.lora_training import open_photos, train_lora
from tintype.jobs.recipe import PORTRAITS_ONLY, Recipe, plan_for
from tintype.jobs.resident_models import resident_models
from tintype.jobs.samples import Samples
from tintype.likeness.photos import INSTALL
from tintype.lora.lora import Lora
from tintype.models.flux.model import FluxFamily
from tintype.models.registry import TrainingDefaults
from tintype.settings import MIB
from tintype.training.optimizers import check_usable
from tintype.training.plan import Plan
from tintype.training.state_file import MOST_BYTES, is_state_file, unpack_state


def run(input: PortraitTrainerInput, context: JobContext) -> TrainerOutput:
    """Trains a portrait, exports, proves, and only then answers."""
    return _train(portrait_recipe(input, context), input, context)


def portrait_recipe(input: PortraitTrainerInput, context: JobContext) -> Recipe:
    """Says how a portrait is trained."""
    prompt = f"a portrait of {input.trigger_phrase or 'a person'}"
    title = f"Portrait of {input.trigger_phrase}" if input.trigger_phrase else "Portrait"
    return _recipe(PORTRAIT_TRAINER, input, input, prompt, title, context)


def run_fast(input: FastTrainingInput, context: JobContext) -> FastTrainingOutput:
    """Trains a person, a thing or a style, likewise."""
    prompt = input.trigger_word or "a photo"
    portrait = input.as_portrait()
    recipe = _recipe(FAST_TRAINING, input, portrait, prompt, input.trigger_word or "LoRA", context)
    trained = _train(recipe, portrait, context)
    return FastTrainingOutput(**dict(trained))


def _train(recipe: Recipe, input: PortraitTrainerInput, context: JobContext) -> TrainerOutput:
    trained = train_lora(recipe, open_portraits(recipe, input, context), context)
    return TrainerOutput(diffusers_lora_file=trained.exports["diffusers"], config_file=trained.config)


def _recipe(
    endpoint: Endpoint, asked: EndpointInput, input: PortraitTrainerInput, prompt: str, title: str, context: JobContext
) -> Recipe:
    flux = resident_models(context).family(FluxFamily)
    context.log(f"Base model: {flux.name}; {flux.weights.why}.")
    is_person, is_scored = endpoint is PORTRAIT_TRAINER, input.checkpoint == "best"
    identity = identity_for(flux) if is_person else None  # else it may be a thing or a style
    lacking = f"Nothing is installed that tells who is in a photo: {INSTALL}." if is_person else PORTRAITS_ONLY
    if is_scored and identity is None:
        context.log(f"Likeness is not measured, so the last step's LoRA is handed over: {INSTALL}.")
    plan = plan_of(input, flux, scored=is_scored and identity is not None)
    with about_input("optimizer"):
        check_usable(plan.optimizer, flux.device)
    start_from, done_before = _earlier(input, flux, context)
    return Recipe(
        endpoint,
        asked,
        flux,
        plan,
        rank=input.rank,
        learning_rate=input.learning_rate,
        title=title,
        trigger=input.trigger_phrase,
        resolution="1024x1024",
        samples=Samples(input.sample_prompts or [prompt], input.seed, FluxInference),
        effective={"area_sides": list(_area_sides(input)), "max_sequence_length": flux.max_sequence_length},
        pipeline_call=_pipeline_call(prompt, flux),
        start_from=start_from,
        identity=identity,
        why_no_identity=lacking,
        consent=input.consent,
        may_stop=input.stop == "auto" and input.steps > STOPPABLE_STEPS,
        done_before=done_before,
    )


def open_portraits(recipe: Recipe, input: PortraitTrainerInput, context: JobContext) -> Dataset:
    """Makes a dataset of the photos, with what the person should know about them in the log."""
    options = DatasetOptions(
        trigger=input.trigger_phrase,
        area_sides=_area_sides(input),
        subject_crop=input.subject_crop,
        create_masks=input.create_masks,
        size_step=recipe.family.size_step,
    )
    return open_photos(recipe.family, input.images_data_url, options, context, input.data_archive_format)


def _area_sides(input: PortraitTrainerInput) -> tuple[int, ...]:
    return MULTI_RESOLUTION if input.multiresolution_training else SINGLE_RESOLUTION


def _earlier(input: PortraitTrainerInput, flux: FluxFamily, context: JobContext) -> tuple[Lora | None, int]:
    """The LoRA to go on from, or how many steps of the training to go on with; found usable before anything costly."""
    if not input.resume_from_checkpoint:
        return None, 0
    with about_input("resume_from_checkpoint"):
        path = context.fetch(input.resume_from_checkpoint, max_bytes=MOST_BYTES)
        if is_state_file(path):
            return None, _take_up(path, input.steps, context)
        if path.stat().st_size > MOST_LORA_BYTES:
            limit = MOST_LORA_BYTES // MIB
            raise FileTooLarge(f"The LoRA is larger than {limit} MiB.", ctx={"max_size": MOST_LORA_BYTES})
        lora = flux.read_lora(path)
        lora.startable(flux.adapter_targets, input.rank)
    return lora, 0


def _take_up(path: Path, steps: int, context: JobContext) -> int:
    """Makes a training's state the first checkpoint of this request. Raises InputError."""
    with tempfile.TemporaryDirectory(dir=context.scratch) as folder:
        done = unpack_state(path, Path(folder))
        if done >= steps:
            raise InputError(
                f"That training has taken {done} steps already.", remedy=f"Ask for more than {done} steps in all."
            )
        if context.checkpoint.latest() is None:  # else an attempt before this one has gone further
            context.checkpoint.save(done, lambda place: shutil.copytree(folder, place, dirs_exist_ok=True))
    return done


def plan_of(input: PortraitTrainerInput, flux: FluxFamily, *, scored: bool = False) -> Plan:
    """Puts what was asked for and the defaults of the base into numbers."""
    return plan_for(
        flux.training_defaults,
        steps=input.steps,
        learning_rate=_effective_rate(input, flux.training_defaults),
        seed=input.seed,
        optimizer=input.optimizer,
        keep_every=input.checkpoint_every,
        score_at=candidate_steps(input.steps, flux.training_defaults.batch_size) if scored else (),
    )


def _effective_rate(input: PortraitTrainerInput, defaults: TrainingDefaults) -> float:
    """Prodigy finds its own rate and takes a factor near 1: the endpoint's default stands for just that."""
    if input.optimizer == "prodigy":
        return input.learning_rate / float(PortraitTrainerInput.model_fields["learning_rate"].default)
    return input.learning_rate * defaults.learning_rate_scale


def _pipeline_call(prompt: str, flux: FluxFamily) -> dict[str, Any]:
    """Exact arguments for a plain diffusers.FluxPipeline that draws what this server would."""
    width, height = flux.true_size(1024, 1024)
    return {
        "prompt": prompt,
        "width": width,
        "height": height,
        "num_inference_steps": flux.steps,
        "guidance_scale": flux.guidance_scale,
        "max_sequence_length": flux.max_sequence_length,
    }
