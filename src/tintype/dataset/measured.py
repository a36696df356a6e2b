"""Photos that are kept: measured once when they come, and reported on ever after without being decoded again.

What is measured of a photo is kept as JSON beside it. A report is made of that exactly as a training makes its own, so
that both say the same; only pixels are missing, which no report looks at.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from tintype.dataset.archive import Limits, Member, members
from tintype.dataset.coverage import Surroundings
from tintype.dataset.dataset import dataset_of
from tintype.dataset.file_kind import HEAD, archive_kind
from tintype.dataset.folder import folder_members
from tintype.dataset.framing import Box
from tintype.dataset.image import SUFFIXES, read_photo
from tintype.dataset.intake import Intake
from tintype.dataset.names import shown
from tintype.dataset.prepare import (
    SIGNATURE_SIDE,
    Crop,
    DatasetOptions,
    ImagePreparer,
    ImageQuality,
    PreparedImage,
    trained_windows,
)
from tintype.dataset.report import DatasetReport, FileNote
from tintype.dataset.sizes import check_count
from tintype.dataset.subject import Subject, find_face, windows_of
from tintype.errors import InputError
from tintype.files.dataset_manifest import PhotoNote
from tintype.files.disk import write_file, writing
from tintype.files.formats import suffix_of_bytes

_PIECE = 1024 * 1024
_QUALITY = 85  # of a JPEG that shows a photo
_NOWHERE = Path("/nonexistent")  # where the pixels lie that no report looks at


@dataclass(frozen=True)
class SentFile:
    """Names a file that somebody sent: a photo, an archive of photos, or captions."""

    name: str
    path: Path


@dataclass(frozen=True)
class KeptPhoto:
    """Holds what a report is made of: what was measured, the caption, and what a person chose of the photo."""

    name: str
    measured: dict[str, Any]
    note: PhotoNote


def measure_files(sent: Sequence[SentFile], folder: Path, known: Collection[str]) -> dict[str, Any]:
    """Measures all photos among files, of which some may be archives or folders, and finds their captions.

    What is returned as `path` are the photos as they were sent, as `thumbnail` small JPEGs. `known` are names of photos
    that are kept already, and that captions may be about as well.

    Raises InputError for an archive that cannot be opened safely, and for too many photos.
    """
    plain = [file for file in sent if not (file.path.is_dir() or _is_archive(file.path))]
    told: dict[str, Any] = {"photos": [], "captions": {}, "left_out": [], "notes": []}
    if plain:
        _measure(_as_members(plain, folder / "plain"), folder / "plain", known, told)
    for number, file in enumerate(file for file in sent if file not in plain):
        place = folder / str(number)
        opened = folder_members if file.path.is_dir() else members
        _measure(opened(file.path, place / "unpacked"), place, known, told)
    return told


def _measure(unpacked: Iterable[Member], folder: Path, known: Collection[str], told: dict[str, Any]) -> None:
    limits, intake = Limits(), Intake(DatasetOptions(subject_crop=True))
    intake.expect(known)
    preparer = ImagePreparer(None, intake.options, find_face, limits.pixels)
    seen: dict[str, Member] = {}
    pictures = _kept(intake.images(unpacked, limits.pictures + len(known)), folder / "kept", seen)
    images = []
    for result in preparer.prepare(pictures):
        if isinstance(result, PreparedImage):
            images.append(result)
        else:
            intake.dropped.append(FileNote(result.name, result.why.message))
    intake.pair_captions({})
    for image in images:
        told["photos"].append(_described(image, seen[image.name], intake))
    told["captions"] |= {name: text for name in known if name not in seen and (text := intake.captions.find(name)[0])}
    told["left_out"] += [{"name": note.name, "what": note.what} for note in (*intake.dropped, *intake.ignored)]
    told["notes"] += intake.warnings


def _as_members(sent: Sequence[SentFile], folder: Path) -> Iterator[Member]:
    """Lists files that came by themselves as an archive lists those in it."""
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for number, file in enumerate(sent):
        name = shown(PurePosixPath(file.name).name or "photo", taken)
        taken.add(name)
        place = folder / f"{number:05d}"
        os.link(file.path, place)
        yield Member(name, place, identity=name)


def _kept(pictures: Iterator[Member], folder: Path, seen: dict[str, Member]) -> Iterator[Member]:
    """Keeps the file of each picture, which whoever prepares it deletes."""
    folder.mkdir(parents=True)
    for number, member in enumerate(pictures):
        assert member.path is not None
        place = folder / f"{number:05d}"
        if member.path.is_symlink():  # to a file in a folder of somebody's, who keeps it
            with writing(folder, member.path.stat().st_size):
                shutil.copyfile(member.path, place)
        else:
            os.link(member.path, place)
        seen[member.name] = replace(member, path=place)
        yield member


def _described(image: PreparedImage, member: Member, intake: Intake) -> dict[str, Any]:
    assert member.path is not None
    with member.path.open("rb") as file:
        suffix = suffix_of_bytes(file.read(HEAD))
        file.seek(0)
        digest = hashlib.sha256()
        while piece := file.read(_PIECE):
            digest.update(piece)
    thumbnail = member.path.with_suffix(".jpg")
    write_file(thumbnail, image.thumbnail)
    text, source = intake.captions.find(image.name)
    note = intake.note_of(member) or PhotoNote()
    by = (source if source in ("person", "model") else "file") if text else None
    crop = note.crop and [round(share * side) for share, side in zip(note.crop, image.size * 2, strict=True)]
    return {
        "path": str(member.path),
        "name": photo_name(member.identity, suffix or ".jpg"),
        "suffix": suffix,
        "sha256": digest.hexdigest(),
        "width": image.size[0],
        "height": image.size[1],
        "measured": measured_of(image),
        "thumbnail": str(thumbnail),
        "caption": text,
        "caption_by": by,
        "captioner": note.captioner if by == "model" else None,
        "crop": crop,
    }


def photo_name(identity: str, suffix: str) -> str:
    """Makes the name of a photo in its dataset, which may stand in an archive: no folder, not hidden, with a suffix."""
    plain = shown(PurePosixPath(identity).name).strip().lstrip(".").rstrip(":") or "photo"
    return plain if PurePosixPath(plain).suffix.lower() in SUFFIXES else plain + suffix


def measured_of(image: PreparedImage) -> dict[str, Any]:
    """Writes what was measured of a photo as JSON."""
    subject, quality = image.subject, image.quality
    return {
        "size": list(image.size),
        "repairs": list(image.repairs),
        "subject": {
            "kind": subject.kind,
            "box": list(subject.box.edges),
            "others": [list(other.edges) for other in subject.others],
        },
        "windows": [
            {"framing": window.framing, "box": list(window.box.edges)}
            for window in windows_of(subject, image.size, crop=True)
        ],
        "findings": image.findings(),
        "sharpness": quality.sharpness,
        "brightness": quality.brightness,
        "contrast": quality.contrast,
        "of_face": quality.face,
        "signature": base64.b64encode(quality.signature.tobytes()).decode(),
        "surroundings": image.surroundings.to_json(),
    }


def _prepared(number: int, photo: KeptPhoto, options: DatasetOptions) -> PreparedImage:
    """The photo of that number as it would be prepared for a training."""
    told = photo.measured
    width, height = told["size"]
    found = told["subject"]
    subject = Subject(Box(*found["box"]), found["kind"], tuple(Box(*other) for other in found["others"]))
    signature = np.frombuffer(base64.b64decode(told["signature"]), np.uint8)
    quality = ImageQuality(
        sharpness=told["sharpness"],
        brightness=told["brightness"],
        contrast=told["contrast"],
        signature=signature.reshape(SIGNATURE_SIDE, SIGNATURE_SIDE, 3),
        face=told["of_face"],
    )
    crop = photo.note.crop
    chosen = crop and Box(*(round(share * side) for share, side in zip(crop, (width, height) * 2, strict=True)))
    windows = trained_windows(number, subject, (width, height), options, chosen)
    crops = tuple(Crop(window, _NOWHERE) for window in windows)
    seen = Surroundings.from_json(told.get("surroundings") or {})
    return PreparedImage(photo.name, (width, height), tuple(told["repairs"]), subject, quality, crops, b"", seen)


def report_on(
    photos: Sequence[KeptPhoto], options: DatasetOptions, count: tuple[int, int] | None
) -> tuple[DatasetReport, dict[str, str], InputError | None]:
    """Makes the report that a training with these options would make. Returns it, the names of copies with those of the
    photos that stay for them, and the error that would end the training for the number of photos."""
    intake = Intake(options)
    images = [_prepared(number, photo, options) for number, photo in enumerate(photos)]
    for photo in photos:
        if photo.note.caption is not None:
            intake.captions.give(photo.name, photo.note.caption, photo.note.by)
    report = dataset_of(sorted(images, key=lambda image: image.name), intake).report
    problem = None
    if count is not None:
        try:
            check_count(len(report.kept), *count)
        except InputError as refused:
            problem = refused
    return report, intake.copies, problem


def preview_of(path: Path, name: str, side: int) -> bytes:
    """Makes a JPEG of a photo, upright and in sRGB, whose long side is at most so many pixels. Raises InputError."""
    photo = read_photo(path, name, most_pixels=Limits().pixels)
    shrink = min(1.0, side / max(photo.size))
    size = (max(1, round(photo.size[0] * shrink)), max(1, round(photo.size[1] * shrink)))
    target = io.BytesIO()
    photo.crop(at_least=size).resize(size, Image.Resampling.LANCZOS).save(target, "JPEG", quality=_QUALITY)
    return target.getvalue()


def _is_archive(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(archive_kind(file.read(HEAD)))
