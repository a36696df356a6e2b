"""What both Ideogram trainers do: pictures at one size, captions in the model's schema, then a LoRA as any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tintype.catalog import Endpoint, File
from tintype.catalog.ideogram_custom_models import CustomModelInput
from tintype.catalog.ideogram_v4_trainer import AUTO, IdeogramTrainerInput
from tintype.dataset import Dataset, DatasetOptions, open_dataset
from tintype.dataset.sizes import NamedSize, TrainingSize, largest_common_size, size_asked_for
from tintype.errors import about_input
from tintype.inference.presets import SPEEDS
from tintype.job import JobContext
from tintype.jobs.lora_training import Finished, Purpose, encode, new_adapter, plan_for, tell_of, train_and_prove
from tintype.jobs.residents import residents
from tintype.jobs.samples import Samples, with_ideogram
from tintype.jobs.training_config import describe_run
from tintype.models.ideogram4.captions import canonical
from tintype.models.ideogram4.model import Ideogram4Family

NEUTRAL = "a photo in my custom style"


def train_on_ideogram(
    endpoint: Endpoint,
    input: IdeogramTrainerInput | CustomModelInput,
    context: JobContext,
    *,
    title: str,
    count: tuple[int, int] | None = None,
) -> tuple[Finished, File]:
    """Trains, exports, proves, publishes; with the config file. `count`: the fewest and most images that are taken."""
    family = residents(context).ideogram4()
    context.log(f"Base model: {family.name}; {family.weights.why}.")
    scale = family.training_defaults.learning_rate_scale
    plan = plan_for(
        family.training_defaults,
        steps=input.steps,
        learning_rate=input.learning_rate * scale,
        seed=input.seed,
        keep_every=input.checkpoint_every,
    )

    dataset, size = _dataset(input, count, family, context)
    cache = encode(family, dataset, context)
    for remark in family.remarks:
        context.log(remark, "WARN")
    caption = _default_caption(input)
    purpose = Purpose(
        title=title,
        trigger="",
        resolution=str(size),
        requested_rate=input.learning_rate,
        samples=Samples([caption], input.seed, with_ideogram),
    )
    adapter = new_adapter(family, input.rank, input.seed)
    finished = train_and_prove(family, dataset, cache, adapter, plan, purpose, context)

    config = describe_run(
        endpoint.id,
        input,
        plan,
        family,
        dataset,
        finished,
        effective={"resolution": str(size), "resolution_because": size.why, "default_caption": caption},
        trigger=None,
        how_to_draw=_how_to_draw(caption, family, finished.results.exports["diffusers"]),
        context=context,
    )
    return finished, context.publish(config, "application/json", "config.json")


def _dataset(
    input: IdeogramTrainerInput | CustomModelInput,
    count: tuple[int, int] | None,
    family: Ideogram4Family,
    context: JobContext,
) -> tuple[Dataset, TrainingSize]:
    """The pictures at their one size, with captions as the model reads them."""

    def choose_size(images: Sequence[NamedSize]) -> TrainingSize:
        if input.resolution == AUTO:
            return largest_common_size(images)
        with about_input("resolution"):
            return size_asked_for(input.resolution, images)

    options = DatasetOptions(
        default_caption=_default_caption(input),
        force_default_caption=input.force_default_caption,
        canonical_caption=_canonical_caption,
        choose_size=choose_size,
        size_step=family.size_step,
        count=count,
    )
    with about_input("images_data_url"):
        dataset = open_dataset(
            context.fetch(input.images_data_url),
            context.scratch / "photos",
            options,
            find_subject=family.find_subject,
            log=lambda line: context.log(line, "WARN"),
            check=context.raise_if_cancelled,
        )
    assert dataset.size is not None, "it was chosen"
    context.log(dataset.size.why)
    tell_of(dataset, context)
    return dataset, dataset.size


def _default_caption(input: IdeogramTrainerInput | CustomModelInput) -> str:
    """The caption of pictures without their own."""
    return (input.default_caption or "").strip() or NEUTRAL


def _canonical_caption(text: str, name: str) -> tuple[str, Sequence[str]]:
    """A caption as one line of the model's schema, and what was repaired in one that was in it already."""
    ready = canonical(text, name=name)
    return ready.text, () if ready.wrapped else ready.notes


def _how_to_draw(caption: str, family: Ideogram4Family, lora: File) -> dict[str, Any]:
    """Exact arguments for a plain diffusers.Ideogram4Pipeline."""
    width, height = family.drawn_size(1024, 1024)
    preset = SPEEDS["BALANCED"]
    return {
        "from_pretrained": str(family.weights.folder) if family.weights.miniature else family.weights.source,
        "dtype": str(family.dtype).removeprefix("torch."),
        "load_lora_weights": lora.file_name,
        "call": {
            "prompt": canonical(caption).text,
            "width": width,
            "height": height,
            "num_inference_steps": preset.steps,
            "guidance_schedule": list(preset.guidance_schedule(family.guidance_strength)),
            "mu": family.schedule_mean(preset.mu),
            "std": preset.std,
        },
        "generator": 'torch.Generator("cpu").manual_seed(seed)',
    }
