"""What both Ideogram trainers do: pictures at one size, captions in the model's schema, then a LoRA as any other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tintype.catalog import File
from tintype.catalog.endpoint import EndpointInput
from tintype.dataset import Dataset, DatasetOptions, open_dataset
from tintype.dataset.picture_count import check_count
from tintype.dataset.sizes import UNDECIDED, TrainingSize, at_one_size
from tintype.errors import InputError, about_input
from tintype.inference.presets import SPEEDS
from tintype.job import JobContext
from tintype.jobs.lora_training import Finished, Purpose, encode, new_adapter, plan_for, tell_of, train_and_prove
from tintype.jobs.residents import residents
from tintype.jobs.samples import Samples, with_ideogram
from tintype.jobs.training_config import describe_run
from tintype.models.ideogram4.captions import canonical
from tintype.models.ideogram4.model import Ideogram4Family

NEUTRAL = "a photo in my custom style"
_PHOTOS = ("body", "images_data_url")


@dataclass(frozen=True)
class IdeogramOrder:
    """What is asked of a training, by either endpoint. `count`: the fewest and most pictures that are taken."""

    endpoint: str
    given: EndpointInput
    title: str
    images: str
    steps: int
    rank: int
    learning_rate: float
    seed: int = 0
    checkpoint_every: int | None = None
    default_caption: str | None = None
    force_default_caption: bool = False
    resolution: str = "auto"
    count: tuple[int, int] | None = None

    @property
    def caption(self) -> str:
        """Of pictures without their own."""
        return (self.default_caption or "").strip() or NEUTRAL


def train_on_ideogram(input: IdeogramOrder, context: JobContext) -> tuple[Finished, File]:
    """Trains, exports, proves, publishes; with the config file."""
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

    dataset, size = _dataset(input, family, context)
    cache = encode(family, dataset, context)
    for remark in family.remarks:
        context.log(remark, "WARN")
    purpose = Purpose(
        title=input.title,
        trigger="",
        resolution=str(size),
        requested_rate=input.learning_rate,
        samples=Samples([input.caption], input.seed, with_ideogram),
    )
    adapter = new_adapter(family, input.rank, input.seed)
    finished = train_and_prove(family, dataset, cache, adapter, plan, purpose, context)

    config = describe_run(
        input.endpoint,
        input.given,
        plan,
        family,
        dataset,
        finished,
        effective={"resolution": str(size), "resolution_because": size.why, "default_caption": input.caption},
        trigger=None,
        how_to_draw=_how_to_draw(input, family, finished.results.exports["diffusers"]),
        context=context,
    )
    return finished, context.publish(config, "application/json", "config.json")


def _dataset(input: IdeogramOrder, family: Ideogram4Family, context: JobContext) -> tuple[Dataset, TrainingSize]:
    """The pictures at their one size, with captions as the model reads them."""
    with about_input("images_data_url"):
        dataset = open_dataset(
            context.fetch(input.images),
            context.scratch / "photos",
            DatasetOptions(trigger=None, default_caption=input.caption, area_sides=UNDECIDED),
            find=family.find_subject,
            tell=lambda said: context.log(said, "WARN"),
            each=lambda done: context.raise_if_cancelled(),
        )
    if input.count is not None:
        check_count(len(dataset.report.kept), *input.count)
    dataset, size = at_one_size(dataset, input.resolution, family.size_step)
    context.log(size.why)
    dataset = _captioned(dataset, input)
    tell_of(dataset, context)
    return dataset, size


def _captioned(dataset: Dataset, input: IdeogramOrder) -> Dataset:
    """Every caption as one line of the model's schema; the report shows them so, with what was done to each.

    Raises InputError that names every picture whose caption cannot be read.
    """
    report = dataset.report
    examples, unread = [], []
    if input.force_default_caption:
        report.warnings.append(f'All captions were replaced by "{input.caption}", as asked for.')
    kept = {picture.name: picture for picture in report.kept}
    for example in dataset.examples:
        try:
            ready = canonical(input.caption if input.force_default_caption else example.caption, name=example.name)
        except InputError as problem:
            unread.append(problem.message)
            continue
        examples.append(replace(example, caption=ready.text))
        picture = kept[example.name]
        if input.force_default_caption:
            picture.caption, picture.caption_source = input.caption, "default"
        for cut in picture.trained:
            cut.caption = ready.text
        picture.findings += [f"caption: {note}" for note in ready.notes if not ready.wrapped]
    if unread:
        raise InputError(f"{' '.join(unread[:5])}{_more(len(unread) - 5)}", loc=_PHOTOS)
    return Dataset(examples, report)


def _more(count: int) -> str:
    return f" So are {count} more." if count > 0 else ""


def _how_to_draw(input: IdeogramOrder, family: Ideogram4Family, lora: File) -> dict[str, Any]:
    """Exact arguments for a plain diffusers.Ideogram4Pipeline."""
    width, height = family.drawn_size(1024, 1024)
    preset = SPEEDS["BALANCED"]
    return {
        "from_pretrained": str(family.weights.folder) if family.weights.miniature else family.weights.source,
        "dtype": str(family.dtype).removeprefix("torch."),
        "load_lora_weights": lora.file_name,
        "call": {
            "prompt": canonical(input.caption).text,
            "width": width,
            "height": height,
            "num_inference_steps": preset.steps,
            "guidance_schedule": list(preset.guidance_schedule(family.guidance_strength)),
            "mu": family.schedule_mean(preset.mu),
            "std": preset.std,
        },
        "generator": 'torch.Generator("cpu").manual_seed(seed)',
    }
