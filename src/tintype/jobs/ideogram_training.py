"""What both Ideogram trainers do: images at one size, captions in the model's schema, then a LoRA as any other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tintype.catalog import Endpoint
from tintype.catalog.ideogram_custom_models import CustomModelInput
from tintype.catalog.ideogram_v4_trainer import AUTO, IdeogramTrainerInput
from tintype.dataset import Dataset, DatasetOptions
from tintype.dataset.sizes import NamedSize, TrainingSize, largest_common_size, size_asked_for
from tintype.errors import about_input
from tintype.inference.ideogram4 import IdeogramInference
from tintype.inference.presets import SPEEDS
from tintype.job import JobContext
from tintype.jobs.lora_training import TrainedFiles, open_photos, train_lora
from tintype.jobs.recipe import Recipe, plan_for
from tintype.jobs.resident_models import resident_models
from tintype.jobs.samples import Samples
from tintype.models.ideogram4.captions import canonical
from tintype.models.ideogram4.model import Ideogram4Family

NEUTRAL = "a photo in my custom style"
LONGEST_TRIGGER = 200  # characters of a default caption by which a LoRA is called in prompts


def train_on_ideogram(
    endpoint: Endpoint,
    input: IdeogramTrainerInput | CustomModelInput,
    context: JobContext,
    *,
    title: str,
    count: tuple[int, int] | None = None,
) -> TrainedFiles:
    """Trains, exports, proves, publishes. `count`: the fewest and most images that are taken."""
    family = resident_models(context).family(Ideogram4Family)
    context.log(f"Base model: {family.name}; {family.weights.why}.")
    plan = plan_for(
        family.training_defaults,
        steps=input.steps,
        learning_rate=input.learning_rate * family.training_defaults.learning_rate_scale,
        seed=input.seed,
        keep_every=input.checkpoint_every,
    )
    caption = (input.default_caption or "").strip() or NEUTRAL
    dataset, size = _dataset(input, caption, count, family, context)
    captions = Counter(example.caption for example in dataset.examples)
    most_trained, plain = captions.most_common(1)[0][0], canonical(caption)
    called_by = caption if plain.wrapped and plain.text in captions and len(caption) <= LONGEST_TRIGGER else None
    recipe = Recipe(
        endpoint,
        input,
        family,
        plan,
        rank=input.rank,
        learning_rate=input.learning_rate,
        title=title,
        trigger=called_by,
        resolution=str(size),
        samples=Samples([most_trained], input.seed, IdeogramInference),
        effective={"resolution": str(size), "resolution_because": size.why, "default_caption": caption},
        pipeline_call=_pipeline_call(most_trained, family),
        consent=input.consent,
    )
    return train_lora(recipe, dataset, context)


def _dataset(
    input: IdeogramTrainerInput | CustomModelInput,
    default_caption: str,
    count: tuple[int, int] | None,
    family: Ideogram4Family,
    context: JobContext,
) -> tuple[Dataset, TrainingSize]:
    """The images at their one size, with captions as the model reads them."""

    def choose_size(images: Sequence[NamedSize]) -> TrainingSize:
        most_pixels = context.settings.auto_resolution_pixels
        if input.resolution == AUTO:
            return largest_common_size(images, most_pixels)
        with about_input("resolution"):
            return size_asked_for(input.resolution, images, most_pixels)

    options = DatasetOptions(
        default_caption=default_caption,
        force_default_caption=input.force_default_caption,
        canonical_caption=_canonical_caption,
        choose_size=choose_size,
        size_step=family.size_step,
        count=count,
    )
    dataset = open_photos(family, input.images_data_url, options, context)
    assert dataset.size is not None, "it was chosen"
    return dataset, dataset.size


def _canonical_caption(text: str, name: str) -> tuple[str, Sequence[str]]:
    """A caption as one line of the model's schema, and what was repaired in one that was in it already."""
    ready = canonical(text, name=name)
    return ready.text, () if ready.wrapped else ready.notes


def _pipeline_call(caption: str, family: Ideogram4Family) -> dict[str, Any]:
    """Exact arguments for a plain diffusers.Ideogram4Pipeline."""
    width, height = family.true_size(1024, 1024)
    preset = SPEEDS["BALANCED"]
    return {
        "prompt": canonical(caption).text,
        "width": width,
        "height": height,
        "num_inference_steps": preset.steps,
        "guidance_schedule": list(preset.guidance_schedule(family.guidance_strength)),
        "mu": family.schedule_mean(preset.mu),
        "std": preset.std,
    }
