"""From an archive to what is trained: the one path every trainer takes, with a report of all that happened on it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from tintype.dataset import captions, metadata
from tintype.dataset.archive import LOC, Limits, Member, members
from tintype.dataset.buckets import Bucket
from tintype.dataset.captions import TRIGGER_TOKEN, Caption, caption_of, key_of, read_caption
from tintype.dataset.faces import finder_name
from tintype.dataset.image import SUFFIXES
from tintype.dataset.prepare import SEVERAL_FRAMINGS, Cut, DatasetOptions, ImagePreparer, PreparedImage, RejectedImage
from tintype.dataset.report import DatasetReport, FileNote, KeptImage, TrainedCrop, named
from tintype.dataset.similar import Print, compare
from tintype.dataset.subject import Finder
from tintype.errors import ImageLoadError, InputError, TooFewFiles, TooManyFiles

RECOMMENDED = 10  # pictures; the trainers' page says so
LEAST = 1  # picture; fewer cannot be trained at all
SMALL_SIDE = 512  # pixels; below it a picture teaches little detail


@dataclass(frozen=True)
class Example:
    """A picture with its caption, ready to be encoded at each of its sizes. Pixels stay on disk until asked for."""

    name: str
    picture: Image.Image | Path
    caption: str
    buckets: tuple[Bucket, ...]
    mask_picture: Image.Image | Path | None = None

    @property
    def image(self) -> Image.Image:
        return _loaded(self.picture)

    @property
    def mask(self) -> Image.Image | None:
        return None if self.mask_picture is None else _loaded(self.mask_picture)

    @functools.cached_property
    def digest(self) -> str:
        """Identity of everything that is trained about it."""
        image, mask = self.image, self.mask
        seen = hashlib.sha256(f"{image.size} {self.caption!r} {[str(b) for b in self.buckets]}".encode())
        seen.update(image.tobytes())
        if mask is not None:
            seen.update(mask.tobytes())
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
class _Texts:
    """Captions by the key of their picture; a picture's own file wins over a metadata file."""

    own: dict[str, str] = field(default_factory=dict)
    listed: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # of caption files, for saying which have no picture
    used: set[str] = field(default_factory=set)

    def about(self, name: str, wishes: DatasetOptions) -> Caption:
        """The caption of a picture. `photo.jpg.txt` belongs to `photo.jpg` as `photo.txt` does."""
        for key in (key_of(name), key_of(f"{name}.txt")):
            if key in self.own:
                self.used.add(key)
                return caption_of(self.own[key], wishes.trigger, wishes.default_caption)
        listed = self.listed.get(key_of(name))
        return caption_of(listed, wishes.trigger, wishes.default_caption, source="metadata")


def open_dataset(
    archive: Path,
    folder: Path,
    wishes: DatasetOptions,
    *,
    find: Finder,
    tell: Callable[[str], None],
    form: str | None = None,
    limits: Limits | None = None,
    each: Callable[[int], None] = lambda done: None,
) -> Dataset:
    """Unpacks, decodes, captions, crops and sizes. `tell` hears of what was repaired or left out.

    `each` is called after every picture with how many are done, and may raise. What `folder` holds afterwards belongs
    to the examples. Raises InputErrors at `images_data_url`: an archive that cannot be opened safely, too many files,
    no picture that can be used.
    """
    limits = limits or Limits()
    report, texts = DatasetReport(), _Texts()
    darkroom = ImagePreparer(folder / "cuts", wishes, find, limits.pixels)
    developed: list[PreparedImage] = []
    unpacked = members(archive, folder / "unpacked", form=form, limits=limits, check=lambda: each(len(developed)))
    pictures = _pictures(unpacked, texts, report, limits)
    spoilt: list[InputError] = []
    for done, result in enumerate(darkroom.develop(pictures), 1):
        if isinstance(result, RejectedImage):
            spoilt.append(result.why)
            report.dropped.append(FileNote(result.name, result.why.message))
        else:
            developed.append(result)
        each(done)
    if len(developed) < LEAST:
        raise _nothing_usable(spoilt, report)
    developed.sort(key=lambda photo: photo.name)
    kept = _without_copies(developed, texts, wishes, report)
    examples = [example for photo in kept for example in _examples(photo, texts, wishes, report)]
    _warn(report, texts, wishes)
    for line in report.lines():
        tell(line)
    return Dataset(examples, report)


def _pictures(found: Iterator[Member], texts: _Texts, report: DatasetReport, limits: Limits) -> Iterator[Member]:
    """The members that are pictures, while captions go to `texts` and all else to the report."""
    count = 0
    for member in found:
        if member.path is None:
            said = report.ignored if member.state == "junk" else report.dropped
            said.append(FileNote(member.name, member.reason))
        elif member.suffix in SUFFIXES or member.suffix == "":  # phones and messengers strip suffixes
            count += 1
            if count > limits.pictures:
                raise TooManyFiles(
                    f"The archive holds more than {limits.pictures} pictures.",
                    loc=LOC,
                    remedy="Send the best ones; 10 to 30 are plenty.",
                    ctx={"max_count": limits.pictures, "provided_count": count},
                )
            yield member
        else:
            _read_text(member, member.path, texts, report)
            member.path.unlink()


def _read_text(member: Member, path: Path, texts: _Texts, report: DatasetReport) -> None:
    if member.suffix in captions.SUFFIXES:
        key = key_of(member.name)
        texts.own[key] = read_caption(path)
        texts.names[key] = member.name
    elif member.suffix in metadata.SUFFIXES:
        table = metadata.read_table(path, member.name)
        texts.listed |= table.captions
        report.warnings += [f"{member.name}: {trouble}." for trouble in table.troubles]
        if not table.captions:
            report.dropped.append(FileNote(member.name, "no captions are in it"))
    else:
        report.dropped.append(FileNote(member.name, "not a picture, and not a caption of one"))


def _nothing_usable(spoilt: list[InputError], report: DatasetReport) -> InputError:
    reasons = " ".join(f"{said.name}: {said.what}." for said in report.dropped[:3])
    if spoilt:
        others = f" {len(spoilt) - 1} more cannot be read either." if len(spoilt) > 1 else ""
        return ImageLoadError(f"None of the pictures can be used. {spoilt[0].message}{others}", loc=LOC)
    return TooFewFiles(
        f"The archive holds no picture. {reasons}".strip(),
        loc=LOC,
        remedy=f"Send at least {RECOMMENDED} photos of the person, as JPEG, PNG, WebP or HEIC.",
        ctx={"min_count": LEAST, "provided_count": 0},
    )


def _without_copies(
    photos: list[PreparedImage], texts: _Texts, wishes: DatasetOptions, report: DatasetReport
) -> list[PreparedImage]:
    """All but the worse copies of a shot, whose caption goes to the better one if that has none."""
    verdict = compare([Print(photo.name, photo.size, photo.look) for photo in photos])
    for copy, better in sorted(verdict.copies.items()):
        left, stays = photos[copy], photos[better]
        why = f"the same shot as {stays.name}, which stays"
        caption = texts.about(left.name, wishes)
        if caption.written and not texts.about(stays.name, wishes).written:
            texts.listed[key_of(stays.name)] = caption.text
            why += " and takes over the caption"
        report.dropped.append(FileNote(left.name, why, left.thumbnail))
        left.discard()
    if verdict.alike:
        pairs = [f"{photos[one].name} and {photos[other].name}" for one, other in verdict.alike]
        report.warnings.append(f"These look much alike, and teach little more than one of them: {named(pairs)}.")
    return [photo for number, photo in enumerate(photos) if number not in verdict.copies]


def _examples(photo: PreparedImage, texts: _Texts, wishes: DatasetOptions, report: DatasetReport) -> list[Example]:
    caption = texts.about(photo.name, wishes)
    # Somebody who wrote "full body shot" meant the whole photo; a close-up under these words would teach nonsense.
    cuts = photo.cuts[:1] if caption.states_framing else photo.cuts
    said = [caption.framed(cut.window.framing) if wishes.subject_crop else caption.text for cut in cuts]
    subject = photo.subject
    report.kept.append(
        KeptImage(
            name=photo.name,
            width=photo.size[0],
            height=photo.size[1],
            caption=caption.text,
            caption_source=caption.source,
            subject=subject.kind,
            trained=[_trained(cut, text, photo.size) for cut, text in zip(cuts, said, strict=True)],
            face=list(subject.box.edges) if subject.kind == "face" else None,
            faces=subject.faces,
            findings=_findings(photo),
            thumbnail=photo.thumbnail,
        )
    )
    if photo.repairs:
        report.repaired.append(FileNote(photo.name, ", ".join(photo.repairs)))
    if subject.kind != "given":
        report.face_finder = finder_name()
    return [Example(photo.name, cut.path, text, cut.buckets, cut.mask) for cut, text in zip(cuts, said, strict=True)]


def _trained(cut: Cut, text: str, size: tuple[int, int]) -> TrainedCrop:
    box, window = cut.window.box, cut.window
    return TrainedCrop(
        caption=text,
        buckets=[str(bucket) for bucket in cut.buckets],
        framing=window.framing,
        box=None if box.size == size else list(box.edges),
        mask=cut.mask_source,
        veil=cut.veil,
    )


def _findings(photo: PreparedImage) -> list[str]:
    found = photo.look.findings()
    if min(photo.size) < SMALL_SIDE:
        found.append(f"smaller than {SMALL_SIDE} pixels")
    if photo.subject.faces > 1:
        found.append(f"{photo.subject.faces} people; the most prominent one is taken")
    return found


def _warn(report: DatasetReport, texts: _Texts, wishes: DatasetOptions) -> None:
    kept, warnings = report.kept, report.warnings
    if len(kept) < RECOMMENDED:
        warnings.append(f"{len(kept)} pictures are few: {RECOMMENDED} or more give a better likeness.")
    if wishes.subject_crop and len(kept) > SEVERAL_FRAMINGS and report.framings:
        warnings.append(f"Only {SEVERAL_FRAMINGS} photos are cut in several framings; the others in one each.")
    _warn_of_captions(report, texts, wishes)
    faceless = [picture.name for picture in kept if picture.subject == "whole"]
    if faceless and wishes.subject_crop:
        warnings.append(f"No face was found in {named(faceless)}; the whole picture is trained.")
    unmasked = [picture.name for picture in kept if any(cut.mask is None for cut in picture.trained)]
    if unmasked and wishes.create_masks:
        warnings.append(f"No mask could be made for {named(unmasked)}; every pixel counts the same there.")
    small = [picture.name for picture in kept if min(picture.width, picture.height) < SMALL_SIDE]
    if small:
        warnings.append(f"{named(small)}: smaller than {SMALL_SIDE} pixels; photos are never enlarged.")
    crowded = [picture.name for picture in kept if picture.faces > 1]
    if crowded:
        warnings.append(f"Several people are in {named(crowded)}; the largest and most central face is taken.")
    for word in ("blurred", "under-exposed", "over-exposed", "hardly anything"):
        names = [picture.name for picture in kept if any(word in finding for finding in picture.findings)]
        if names:
            warnings.append(f"{'Hardly anything to be seen' if word[0] == 'h' else word.capitalize()}: {named(names)}.")


def _warn_of_captions(report: DatasetReport, texts: _Texts, wishes: DatasetOptions) -> None:
    kept, warnings = report.kept, report.warnings
    phrase = (wishes.trigger or "").strip()
    written = [picture for picture in kept if picture.caption_source in ("file", "metadata")]
    if not phrase and wishes.default_caption:
        bare = [picture.name for picture in kept if picture.caption_source == "default"]
        if bare:
            warnings.append(f'Without a caption, trained as "{wishes.default_caption}": {named(bare)}.')
    elif not phrase:
        if any(picture.caption_source == "neutral" for picture in kept):
            warnings.append('No trigger phrase and no caption: such pictures are trained as "a photo of a person".')
        if written:
            warnings.append(f"No trigger phrase: {TRIGGER_TOKEN} in captions became 'a person'.")
    else:
        without = [picture.name for picture in written if phrase not in picture.caption]
        if without:
            warnings.append(f'The captions of {named(without)} do not name the trigger phrase "{phrase}".')
    lost = [name for key, name in sorted(texts.names.items()) if key not in texts.used]
    lost += sorted(set(texts.listed) - {key_of(picture.name) for picture in kept})
    if lost:
        warnings.append(f"No picture of the same name: {named(lost)}.")


def _loaded(picture: Image.Image | Path) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    with Image.open(picture) as opened:
        opened.load()
        return opened.copy()
