"""The one path of every trainer from an archive to what is trained.

Unpack, measure, decide the size, crop, caption, report: in this order; the report is built once, at the end.
What differs between trainers is in the DatasetOptions they give. Each photo is decoded once: what may be trained of it
goes to disk while it is measured, and at which sizes that is trained is decided when all are known.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from tintype.count import some_of
from tintype.dataset.archive import Limits, members
from tintype.dataset.captions import TRIGGER_TOKEN, WRITTEN, Caption, placeholders
from tintype.dataset.coverage import aspects_of
from tintype.dataset.faces import finder_name
from tintype.dataset.folder import folder_members
from tintype.dataset.intake import RECOMMENDED, Intake
from tintype.dataset.prepare import SEVERAL_FRAMINGS, SMALL_SIDE, Crop, DatasetOptions, ImagePreparer, PreparedImage
from tintype.dataset.report import DatasetReport, FileNote, KeptImage, TrainedCrop, describe_files
from tintype.dataset.sizes import Bucket, NamedSize, TrainingSize, buckets_of, check_count
from tintype.dataset.subject import SubjectFinder
from tintype.errors import InputError


@dataclass(frozen=True)
class Example:
    """Holds an image with its caption, to be encoded at each of its sizes. Pixels stay on disk until asked for."""

    name: str
    pixels: Image.Image | Path
    caption: str
    buckets: tuple[Bucket, ...]
    mask_pixels: Image.Image | Path | None = None

    @property
    def image(self) -> Image.Image:
        return _loaded(self.pixels)

    @property
    def mask(self) -> Image.Image | None:
        return None if self.mask_pixels is None else _loaded(self.mask_pixels)

    @functools.cached_property
    def digest(self) -> str:
        """Identifies everything that is trained about it."""
        image, mask = self.image, self.mask
        seen = hashlib.sha256(f"{image.size} {self.caption!r} {[str(b) for b in self.buckets]}".encode())
        seen.update(image.tobytes())
        if mask is not None:
            seen.update(mask.tobytes())
        return seen.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """Holds the examples of one training, the report on them, and their one size if the trainer chose one."""

    examples: list[Example]
    report: DatasetReport
    size: TrainingSize | None = None

    @property
    def digest(self) -> str:
        """Identifies the dataset: a checkpoint belongs to one."""
        return hashlib.sha256("".join(example.digest for example in self.examples).encode()).hexdigest()

    def without(self, names: Collection[str], finding: str) -> Dataset:
        """Leaves images out of what is trained; the report says by `finding` why."""
        kept = [
            replace(image, trained=[], findings=[*image.findings, finding]) if image.name in names else image
            for image in self.report.kept
        ]
        examples = [example for example in self.examples if example.name not in names]
        return Dataset(examples, replace(self.report, kept=kept), self.size)


def open_dataset(
    archive: Path,
    folder: Path,
    options: DatasetOptions,
    *,
    find_subject: SubjectFinder,
    log: Callable[[str], None],
    archive_format: str | None = None,
    limits: Limits | None = None,
    check: Callable[[], None] = lambda: None,
) -> Dataset:
    """Makes a dataset of an archive or a folder. `log` gets a line for what was repaired or left out.

    `check` is called for every piece that is unpacked and after every image, and may raise. What `folder` holds
    afterwards belongs to the examples. Raises InputErrors: an archive that cannot be opened safely, too many files, no
    image that can be used, and what `options` asks for.
    """
    limits = limits or Limits()
    intake = Intake(options)
    preparer = ImagePreparer(folder / "crops", options, find_subject, limits.pixels)
    if archive.is_dir():
        unpacked = folder_members(archive, folder / "unpacked", limits=limits, check=check)
    else:
        unpacked = members(archive, folder / "unpacked", form=archive_format, limits=limits, check=check)
    images = intake.usable(preparer.prepare(intake.images(unpacked, limits.pictures)), check)
    return dataset_of(images, intake, log)


def dataset_of(images: list[PreparedImage], intake: Intake, log: Callable[[str], None] = lambda line: None) -> Dataset:
    """Makes a dataset of prepared images, and of what the intake knows about them. Raises as `open_dataset`."""
    options = intake.options
    images = intake.without_copies(images)
    repaired = [FileNote(image.name, ", ".join(image.repairs)) for image in images if image.repairs]
    for line in describe_files(repaired, intake.dropped):
        log(line)
    if options.count is not None:
        check_count(len(images), *options.count)
    size = None
    if options.choose_size is not None:
        # Without crops around a face, the one crop is the whole image, or what a person chose of it.
        size = options.choose_size([NamedSize(image.name, *image.crops[0].window.box.size) for image in images])
    examples, kept = _captioned(images, intake, size)
    report = DatasetReport(
        kept=kept,
        repaired=repaired,
        dropped=intake.dropped,
        ignored=intake.ignored,
        captions=intake.captions.read,
        warnings=[*intake.warnings, *_warnings(images, kept, options)],
        name_encoding=intake.name_encoding,
        alike=intake.alike,
        coverage=aspects_of([image.name for image in images], [image.surroundings for image in images], intake.alike),
        face_finder=finder_name() if any(image.subject.kind != "given" for image in images) else None,
    )
    return Dataset(examples, report, size)


def _captioned(
    images: Sequence[PreparedImage], intake: Intake, size: TrainingSize | None
) -> tuple[list[Example], list[KeptImage]]:
    """Gives every crop its text and sizes; raises InputError that names the images of unreadable captions."""
    examples: list[Example] = []
    kept: list[KeptImage] = []
    unreadable: list[str] = []
    for image in images:
        caption = intake.caption_of(image.name)
        try:
            texts, notes = _texts(image, caption, intake.options)
        except InputError as problem:
            unreadable.append(problem.message)
            continue
        trained = []
        for text, crop in zip(texts, image.crops, strict=False):
            buckets = _buckets(crop, size, intake.options)
            examples.append(Example(image.name, crop.path, text, buckets, crop.mask))
            trained.append(_trained_crop(crop, text, buckets, image.size))
        kept.append(_kept_image(image, caption, trained, notes))
    if unreadable:
        more = f" So are {len(unreadable) - 5} more." if len(unreadable) > 5 else ""
        raise InputError(f"{' '.join(unreadable[:5])}{more}")
    return examples, kept


def _texts(image: PreparedImage, caption: Caption, options: DatasetOptions) -> tuple[list[str], Sequence[str]]:
    """The text of each crop that is trained, and notes on what was done to the caption."""
    # Somebody who wrote "full body shot" meant the whole photo; a close-up under these words would teach nonsense.
    crops = image.crops[:1] if caption.states_framing else image.crops
    texts = [caption.framed(crop.window.framing) if options.subject_crop else caption.text for crop in crops]
    if options.canonical_caption is None:
        return texts, (caption.note,) if caption.note else ()
    canonical = [options.canonical_caption(text, image.name) for text in texts]
    return [text for text, _ in canonical], canonical[0][1]


def _buckets(crop: Crop, size: TrainingSize | None, options: DatasetOptions) -> tuple[Bucket, ...]:
    if size is not None:
        return (size.bucket(options.size_step),)
    return buckets_of(crop.window.box.size, options.area_sides, options.size_step)


def _trained_crop(crop: Crop, text: str, buckets: Sequence[Bucket], size: tuple[int, int]) -> TrainedCrop:
    box = crop.window.box
    return TrainedCrop(
        caption=text,
        buckets=[str(bucket) for bucket in buckets],
        framing=crop.window.framing,
        box=None if box.size == size else list(box.edges),
        mask=crop.mask_source,
        mask_overlay=crop.mask_overlay,
    )


def _kept_image(
    image: PreparedImage, caption: Caption, trained: list[TrainedCrop], caption_notes: Sequence[str]
) -> KeptImage:
    subject = image.subject
    return KeptImage(
        name=image.name,
        width=image.size[0],
        height=image.size[1],
        caption=caption.text,
        caption_source=caption.source,
        subject=subject.kind,
        trained=trained,
        face=list(subject.box.edges) if subject.kind == "face" else None,
        faces=subject.faces,
        findings=image.findings() + [f"caption: {note}" for note in caption_notes],
        thumbnail=image.thumbnail,
    )


def _warnings(images: Sequence[PreparedImage], kept: Sequence[KeptImage], options: DatasetOptions) -> Iterator[str]:
    if len(kept) < RECOMMENDED:
        yield f"There are few pictures, {len(kept)}: {RECOMMENDED} or more give a better likeness."
    framed = any(crop.framing for image in kept for crop in image.trained)
    if options.subject_crop and len(kept) > SEVERAL_FRAMINGS and framed:
        yield f"Only {SEVERAL_FRAMINGS} photos are cut in several framings; the others in one each."
    yield from _caption_warnings(kept, options)
    if options.subject_crop and (faceless := [image.name for image in kept if image.subject == "whole"]):
        yield f"No face was found in {some_of(faceless)}; the whole picture is trained."
    unmasked = [image.name for image in kept if any(crop.mask is None for crop in image.trained)]
    if unmasked and options.create_masks:
        yield f"No mask could be made for {some_of(unmasked)}; every pixel counts the same there."
    if small := [image.name for image in kept if min(image.width, image.height) < SMALL_SIDE]:
        yield f"{some_of(small)}: smaller than {SMALL_SIDE} pixels; photos are never enlarged."
    if crowded := [image.name for image in kept if image.faces > 1]:
        yield f"Several people are in {some_of(crowded)}; the largest and most central face is taken."
    for word in ("blurred", "under-exposed", "over-exposed", "hardly anything"):
        if names := [image.name for image in images if any(word in finding for finding in image.findings())]:
            yield f"{'Hardly anything to be seen' if word[0] == 'h' else word.capitalize()}: {some_of(names)}."


def _caption_warnings(kept: Sequence[KeptImage], options: DatasetOptions) -> Iterator[str]:
    phrase, default = (options.trigger or "").strip(), options.default_caption
    written = [image for image in kept if image.caption_source in WRITTEN]
    if options.force_default_caption:
        yield f'All captions were replaced by "{default}", as asked for.'
    elif phrase:
        if without := [image.name for image in written if phrase not in image.caption]:
            yield f'The captions of {some_of(without)} do not name the trigger phrase "{phrase}".'
    elif default:
        if bare := [image.name for image in kept if image.caption_source == "default"]:
            yield f'Without a caption, trained as "{default}": {some_of(bare)}.'
    else:
        if any(image.caption_source == "neutral" for image in kept):
            yield 'No trigger phrase and no caption: such pictures are trained as "a photo of a person".'
        if written:
            yield f"No trigger phrase: {TRIGGER_TOKEN} in captions became 'a person'."
    spelt: dict[str, list[str]] = {}
    for image in written:
        for placeholder in placeholders(image.caption.replace(phrase, "") if phrase else image.caption):
            spelt.setdefault(placeholder, []).append(image.name)
    for placeholder, names in spelt.items():
        yield f"{placeholder} is trained as it stands, since only {TRIGGER_TOKEN} is replaced: {some_of(names)}."


def _loaded(pixels: Image.Image | Path) -> Image.Image:
    if isinstance(pixels, Image.Image):
        return pixels
    with Image.open(pixels) as opened:
        opened.load()
        return opened.copy()
