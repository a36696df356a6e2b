"""From an archive to what is trained: the one path every trainer takes, with a report of all that happened on it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tintype.dataset.archive import LOC, Limits, Member, Unpacked, unpack
from tintype.dataset.buckets import STEP, Bucket, buckets_of
from tintype.dataset.captions import TRIGGER_TOKEN, Caption, caption_of, read_caption
from tintype.dataset.masks import mask_of
from tintype.dataset.photo import SUFFIXES, Photo, read_photo
from tintype.dataset.report import DatasetReport, Kept, Said
from tintype.dataset.subject import Finder, Portrait, crop_to_subject, locate
from tintype.errors import ImageLoadError, ImageTooLarge, InputError, TooFewFiles, TooManyFiles

RECOMMENDED = 10  # pictures; the trainers' page says so
LEAST = 1  # picture; fewer cannot be trained at all
SMALL_SIDE = 512  # pixels; below it a picture teaches little detail


@dataclass(frozen=True)
class Example:
    """A picture with its caption, ready to be encoded at each of its sizes."""

    name: str
    image: Image.Image
    caption: str
    buckets: tuple[Bucket, ...]
    mask: Image.Image | None = None

    @property
    def digest(self) -> str:
        """Identity of everything that is trained about it."""
        seen = hashlib.sha256(f"{self.image.size} {self.caption!r} {[str(b) for b in self.buckets]}".encode())
        seen.update(self.image.tobytes())
        if self.mask is not None:
            seen.update(self.mask.tobytes())
        return seen.hexdigest()


@dataclass
class Dataset:
    """The examples of one training, and the report of how they came to be."""

    examples: list[Example]
    report: DatasetReport

    @property
    def digest(self) -> str:
        """Identity of the dataset: a checkpoint belongs to one."""
        return hashlib.sha256("".join(example.digest for example in self.examples).encode()).hexdigest()


@dataclass
class _Read:
    photos: list[Photo] = field(default_factory=list)
    captions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wishes:
    """What the person asked for about the pictures."""

    trigger: str | None
    area_sides: tuple[int, ...]
    subject_crop: bool = False
    create_masks: bool = False
    size_step: int = STEP  # nominal pixels: the base's `size_step`


def open_dataset(
    archive: Path,
    folder: Path,
    wishes: Wishes,
    *,
    find: Finder,
    tell: Callable[[str], None],
    form: str | None = None,
    limits: Limits | None = None,
) -> Dataset:
    """Unpacks, decodes, captions, crops and sizes. `tell` hears of each file that is repaired or dropped.

    Raises InputErrors at `images_data_url`: an archive that cannot be opened safely, too many files, no picture that
    can be used.
    """
    limits = limits or Limits()
    report = DatasetReport()
    photos, captions = _read(unpack(archive, folder, form=form, limits=limits), report, limits)
    examples = [_example(photo, captions, wishes, find, report) for photo in photos]
    _warn(report, wishes)
    for said in report.repaired:
        tell(f"{said.name}: {said.what}")
    for said in report.dropped:
        tell(f"{said.name} is left out: {said.what}")
    return Dataset(examples, report)


def _read(unpacked: Unpacked, report: DatasetReport, limits: Limits) -> tuple[list[Photo], dict[str, str]]:
    read = _Read()
    troubles: list[InputError] = []
    report.dropped += [Said(name, reason) for name, reason in unpacked.left]
    for member in sorted(unpacked.members, key=lambda member: member.name):
        if member.suffix == ".txt":
            read.captions[member.stem] = read_caption(member.path)
        elif member.suffix in SUFFIXES or _looks_like_a_picture(member):
            _read_one(member, read, report, troubles, limits)
        else:
            report.dropped.append(Said(member.name, "not a picture, and not a caption of one"))
        member.path.unlink()
    if len(read.photos) < LEAST:
        raise _nothing_usable(troubles, report)
    stems = {str(Path(photo.name).with_suffix("")) for photo in read.photos}
    report.warnings += [f"{stem}.txt has no picture of its name." for stem in sorted(set(read.captions) - stems)]
    return read.photos, read.captions


def _read_one(member: Member, read: _Read, report: DatasetReport, troubles: list[InputError], limits: Limits) -> None:
    if len(read.photos) >= limits.pictures:
        raise TooManyFiles(
            f"The archive holds more than {limits.pictures} pictures.",
            loc=LOC,
            remedy="Send the best ones; 10 to 30 are plenty.",
            ctx={"max_count": limits.pictures, "provided_count": limits.pictures + 1},
        )
    try:
        photo = read_photo(member.path, member.name, most_pixels=limits.pixels)
    except ImageTooLarge:
        raise  # not damage but a danger, and the person has to know before anything is trained
    except InputError as trouble:
        troubles.append(trouble)
        report.dropped.append(Said(member.name, trouble.message))
        return
    read.photos.append(photo)
    if photo.repairs:
        report.repaired.append(Said(photo.name, ", ".join(photo.repairs)))


def _looks_like_a_picture(member: Member) -> bool:
    """A file without a suffix may be one: phones and messengers strip them."""
    return member.suffix == ""


def _nothing_usable(troubles: Sequence[InputError], report: DatasetReport) -> InputError:
    reasons = " ".join(f"{said.name}: {said.what}." for said in report.dropped[:3])
    if troubles:
        first = troubles[0]
        return ImageLoadError(f"None of the pictures can be used. {first.message}", loc=LOC)
    return TooFewFiles(
        f"The archive holds no picture. {reasons}".strip(),
        loc=LOC,
        remedy=f"Send at least {RECOMMENDED} photos of the person, as JPEG, PNG, WebP or HEIC.",
        ctx={"min_count": LEAST, "provided_count": 0},
    )


def _example(photo: Photo, captions: dict[str, str], wishes: Wishes, find: Finder, report: DatasetReport) -> Example:
    caption = caption_of(captions.get(str(Path(photo.name).with_suffix(""))), wishes.trigger)
    portrait = locate(photo, find)
    if wishes.subject_crop:
        portrait = crop_to_subject(portrait)
    buckets = buckets_of(portrait.photo.image.size, wishes.area_sides, wishes.size_step)
    masked = mask_of(portrait) if wishes.create_masks else None
    report.kept.append(_kept(photo, portrait, caption, buckets, masked[1] if masked else None))
    largest = max(buckets, key=lambda bucket: bucket.width * bucket.height)
    image, mask = _reduced(portrait.photo.image, largest), masked[0] if masked else None
    return Example(photo.name, image, caption.text, tuple(buckets), mask.resize(image.size) if mask else None)


def _reduced(image: Image.Image, largest: Bucket) -> Image.Image:
    """No more pixels than the largest size needs: hundreds of photos have to fit in memory."""
    scale = max(largest.width / image.width, largest.height / image.height)
    if scale >= 1:
        return image
    size = (max(largest.width, round(image.width * scale)), max(largest.height, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _kept(photo: Photo, portrait: Portrait, caption: Caption, buckets: list[Bucket], mask: str | None) -> Kept:
    crop = portrait.crop
    return Kept(
        name=photo.name,
        width=photo.image.width,
        height=photo.image.height,
        caption=caption.text,
        caption_source=caption.source,
        subject=portrait.subject.kind,
        cropped_to=[crop.left, crop.top, crop.right, crop.bottom] if crop else None,
        mask=mask,
        buckets=[str(bucket) for bucket in buckets],
    )


def _warn(report: DatasetReport, wishes: Wishes) -> None:
    kept, warnings = report.kept, report.warnings
    if len(kept) < RECOMMENDED:
        warnings.append(f"{len(kept)} pictures are few: {RECOMMENDED} or more give a better likeness.")
    if not (wishes.trigger or "").strip():
        if any(picture.caption_source == "neutral" for picture in kept):
            warnings.append('No trigger phrase and no caption: such pictures are trained as "a photo of a person".')
        else:
            warnings.append(f"No trigger phrase: {TRIGGER_TOKEN} in captions became 'a person'.")
    faceless = [picture.name for picture in kept if picture.subject == "whole"]
    if faceless and wishes.subject_crop:
        warnings.append(f"No face was found in {_named(faceless)}; the whole picture is trained.")
    unmasked = [picture.name for picture in kept if picture.mask is None]
    if unmasked and wishes.create_masks:
        warnings.append(f"No mask could be made for {_named(unmasked)}; every pixel counts the same there.")
    small = [picture.name for picture in kept if min(picture.width, picture.height) < SMALL_SIDE]
    if small:
        warnings.append(f"{_named(small)}: smaller than {SMALL_SIDE} pixels; photos are never enlarged.")


def _named(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
