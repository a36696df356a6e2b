"""Prepares photos in parallel: each is decoded, measured, cropped to what may be trained, and let go.

A thousand photos of twelve million pixels are 36 GB; at any time only as many are in memory as there are cores, and
only as many as fit a budget of pixels. What is kept of each is its crops on disk, with no more pixels than can be
trained, and what was measured. What a person would see at a glance (too dark, too bright, blurred, empty) is a finding
and no verdict: a good likeness may hide in a bad photo, so it is reported and the photo is kept.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from tintype.catalog.ideogram_v4_trainer import MOST_SIDE
from tintype.dataset.archive import Member
from tintype.dataset.coverage import Surroundings, look_around
from tintype.dataset.framing import Box, Window
from tintype.dataset.image import Photo, read_photo, register_heif
from tintype.dataset.sizes import MULTI_RESOLUTION, STEP, NamedSize, TrainingSize, buckets_of
from tintype.dataset.subject import MaskSource, Subject, SubjectFinder, mask_of, windows_of
from tintype.errors import ImageTooLarge, InputError
from tintype.files.disk import writing

SEVERAL_FRAMINGS = 60  # photos; of those after them one framing each is plenty, and their crops would fill the disk
SMALL_SIDE = 512  # pixels; below it an image teaches little detail
MOST_WORKERS = 8
_PIXELS_AT_ONCE = 130_000_000  # decoded at the same time; one image may be alone with more
_SEARCH_SIDE = 440  # pixels of the long side
_THUMBNAIL_SIDE = 256  # likewise
_OVERLAY_SIDE = 96  # likewise
_THUMBNAIL_QUALITY = 70

Levels = npt.NDArray[np.uint8]

SIGNATURE_SIDE = 32  # pixels of the tiny image by which copies are known
_TILE = 48  # pixels
_SHARPEST = 0.1  # the share of tiles that is looked at: a blurred background is no fault
# Second over first derivatives: about 0.4 in sharp photos, 0.16 after a Gaussian blur of two pixels, at any contrast.
_BLURRED = 0.17
_EMPTY = 4.0  # standard deviation of grey levels: below it there is nothing to see
_DARK, _BRIGHT = 40.0, 225.0  # mean grey level of the face
_DARK_WHOLE, _BRIGHT_WHOLE = 28.0, 242.0  # and of a whole image, which may well stand on black or white
_LEAST_REGION = 64  # pixels; a smaller face tells nothing about sharpness


@dataclass(frozen=True)
class DatasetOptions:
    """Says what differs between trainers, and what the person asked for.

    `default_caption` stands for absent captions where there is no trigger phrase; with `force_default_caption` for all.
    `canonical_caption` turns a caption, given the image's name, into the text that is trained and notes for the report.
    `choose_size` finds one size for all images once they are measured; without it each has its own by `area_sides`.
    `size_step` is the base's own, in nominal pixels. `count`: the fewest and most usable images that are taken.
    """

    trigger: str | None = None
    default_caption: str | None = None
    force_default_caption: bool = False
    canonical_caption: Callable[[str, str], tuple[str, Sequence[str]]] | None = None
    area_sides: tuple[int, ...] = MULTI_RESOLUTION
    choose_size: Callable[[Sequence[NamedSize]], TrainingSize] | None = None
    size_step: int = STEP
    subject_crop: bool = False
    create_masks: bool = False
    count: tuple[int, int] | None = None

    def largest_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Gives the largest width and height at which a crop of this size may be trained, whatever is decided later."""
        if self.choose_size is not None:
            return MOST_SIDE, MOST_SIDE
        largest = max(buckets_of(size, self.area_sides, self.size_step), key=lambda it: it.width * it.height)
        return largest.width, largest.height


@dataclass(frozen=True)
class ImageQuality:
    """Holds what was measured about one image. `signature` is (32, 32, 3): all of it in tiny, without its shape."""

    sharpness: float
    brightness: float
    contrast: float
    signature: Levels
    face: bool

    def findings(self) -> list[str]:
        """Lists what speaks against the image, each in a few words."""
        if self.contrast < _EMPTY:
            return ["hardly anything is to be seen in it"]
        found = []
        dark, bright = (_DARK, _BRIGHT) if self.face else (_DARK_WHOLE, _BRIGHT_WHOLE)
        where = "the face is " if self.face else ""
        if self.brightness < dark:
            found.append(f"{where}under-exposed (mean level {self.brightness:.0f} of 255)")
        if self.brightness > bright:
            found.append(f"{where}over-exposed (mean level {self.brightness:.0f} of 255)")
        if self.sharpness < _BLURRED:
            found.append(f"{where}blurred")
        return found


@dataclass(frozen=True)
class Crop:
    """Holds one window of a photo: an RGB file, and perhaps an "L" mask of its size.

    `mask_overlay` shows the mask in little: a PNG that is dark where the loss counts little.
    """

    window: Window
    path: Path
    mask: Path | None = None
    mask_source: MaskSource | None = None
    mask_overlay: bytes | None = None


@dataclass(frozen=True)
class PreparedImage:
    """Holds all that is kept of a photo; `thumbnail` is a JPEG."""

    name: str
    size: tuple[int, int]
    repairs: tuple[str, ...]
    subject: Subject
    quality: ImageQuality
    crops: tuple[Crop, ...]
    thumbnail: bytes
    surroundings: Surroundings

    def findings(self) -> list[str]:
        """Lists what speaks against the photo, each in a few words."""
        found = self.quality.findings()
        if min(self.size) < SMALL_SIDE:
            found.append(f"smaller than {SMALL_SIDE} pixels")
        if self.subject.faces > 1:
            found.append(f"{self.subject.faces} people; the most prominent one is taken")
        return found

    def discard(self) -> None:
        """Deletes what lies on disk."""
        for crop in self.crops:
            crop.path.unlink(missing_ok=True)
            if crop.mask is not None:
                crop.mask.unlink(missing_ok=True)


@dataclass(frozen=True)
class RejectedImage:
    """Names a file that could not be decoded, and why."""

    name: str
    why: InputError


class _PixelBudget:
    """Admits images to memory as long as their pixels fit. Each worker has at most one image inside."""

    def __init__(self, most: int) -> None:
        self._most, self._inside = most, 0
        self._changed = threading.Condition()

    def reserve(self, pixels: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._inside == 0 or self._inside + pixels <= self._most)
            self._inside += pixels

    def release(self, pixels: int) -> None:
        with self._changed:
            self._inside -= pixels
            self._changed.notify_all()


class ImagePreparer:
    """Prepares the images of one dataset; their crops go to `folder`, or are not made without one."""

    def __init__(
        self, folder: Path | None, options: DatasetOptions, find_subject: SubjectFinder, most_pixels: int
    ) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._options, self._find_subject = folder, options, find_subject
        self._most_pixels = most_pixels
        self._budget = _PixelBudget(_PIXELS_AT_ONCE)

    def prepare(self, members: Iterable[Member]) -> Iterator[PreparedImage | RejectedImage]:
        """Yields one result per member, in their order; their files are deleted. Raises ImageTooLarge for all of them.

        `members` is read only as fast as they are prepared, so whatever unpacks them works at the same time.
        """
        register_heif()
        workers = min(MOST_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
        waiting: deque[Future[PreparedImage | RejectedImage]] = deque()
        # Pillow warns of large images and odd tags. Filters belong to the whole process: set once, not by threads.
        with warnings.catch_warnings(), ThreadPoolExecutor(workers, "images") as pool:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)
            try:
                for number, member in enumerate(members):
                    waiting.append(pool.submit(self._decode, number, member))
                    if len(waiting) > 2 * workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _decode(self, number: int, member: Member) -> PreparedImage | RejectedImage:
        assert member.path is not None
        reserved = 0

        def reserve(pixels: int) -> None:
            nonlocal reserved
            self._budget.reserve(pixels)
            reserved = pixels

        try:
            photo = read_photo(member.path, member.name, most_pixels=self._most_pixels, reserve=reserve)
            return self._measure(number, photo, _chosen(member.crop, photo.size))
        except ImageTooLarge:
            raise  # not damage but a danger, and the person has to know before anything is trained
        except InputError as problem:
            return RejectedImage(member.name, problem)
        finally:
            if reserved:
                self._budget.release(reserved)
            member.path.unlink()

    def _measure(self, number: int, photo: Photo, chosen: Box | None) -> PreparedImage:
        overview = photo.crop(at_least=self._options.largest_size(photo.size))
        x, y = photo.size[0] / overview.width, photo.size[1] / overview.height
        # Among very many photos faces are looked for in small images: what is missed there is too far off to matter.
        shrink = 1 if number < SEVERAL_FRAMINGS else max(1, max(overview.size) // _SEARCH_SIDE)
        found = self._find_subject(overview if shrink == 1 else overview.reduce(shrink)).scaled(shrink, shrink)
        subject = found.scaled(x, y)
        windows = trained_windows(number, subject, photo.size, self._options, chosen)
        crops = tuple(
            self._crop(photo, window, subject, self._folder / f"{number:05d}-{at}", overview)
            for at, window in enumerate(windows)
            if self._folder is not None
        )
        quality = measure_quality(overview, found.box if found.kind == "face" else None)
        little, seen = _thumbnail(overview), look_around(overview, found)
        return PreparedImage(photo.name, photo.size, photo.repairs, subject, quality, crops, little, seen)

    def _crop(self, photo: Photo, window: Window, subject: Subject, place: Path, overview: Image.Image) -> Crop:
        box, at_least = window.box, self._options.largest_size(window.box.size)
        image = overview if box == photo.frame else photo.crop(box, at_least=at_least)
        path = place.with_suffix(".ppm")  # plain pixels: packing them would take longer than decoding the photo
        with writing(place.parent, 3 * image.width * image.height):
            image.save(path)
        if not self._options.create_masks:
            return Crop(window, path)
        made = mask_of(subject, box, image.size, photo.crop_alpha(box, at_least=at_least))
        if made is None:
            return Crop(window, path)
        mask, source = made
        with writing(place.parent, mask.width * mask.height):
            mask.save(place.with_suffix(".pgm"))
        return Crop(window, path, place.with_suffix(".pgm"), source, _overlay(mask))


def trained_windows(
    number: int, subject: Subject, size: tuple[int, int], options: DatasetOptions, chosen: Box | None
) -> tuple[Window, ...]:
    """Chooses what is trained of the photo of that number among all, whose subject is known."""
    windows = windows_of(subject, size, crop=options.subject_crop, chosen=chosen)
    return windows if number < SEVERAL_FRAMINGS else (windows[number % len(windows)],)


def _chosen(crop: tuple[float, float, float, float] | None, size: tuple[int, int]) -> Box | None:
    """What a person chose of a photo, in its pixels; None where nothing of it is left."""
    if crop is None:
        return None
    box = Box(*(round(share * side) for share, side in zip(crop, size * 2, strict=True))).within(Box(0, 0, *size))
    return box if box.width > 0 and box.height > 0 else None


def measure_quality(image: Image.Image, face: Box | None) -> ImageQuality:
    """Measures an RGB image of about the size it is trained at; `face` is in its pixels."""
    grey = np.asarray(image.convert("L"))
    region = grey[face.top : face.bottom, face.left : face.right] if face else grey
    if region.size == 0:
        region, face = grey, None
    sharp_in = region if min(region.shape) >= _LEAST_REGION else grey
    little = image.reduce(max(1, min(image.size) // (4 * SIGNATURE_SIDE)))
    signature = np.asarray(little.resize((SIGNATURE_SIDE, SIGNATURE_SIDE), Image.Resampling.BOX))
    contrast = float(np.asarray(little.convert("L")).std())
    return ImageQuality(sharpness(sharp_in), float(region.mean()), contrast, signature, face is not None)


def sharpness(grey: Levels) -> float:
    """Measures how fine the finest detail of (height, width) levels is, whatever its contrast: see `_BLURRED`."""
    calm = cv2.GaussianBlur(grey, (3, 3), 0)  # single noisy pixels are no detail
    curved = np.abs(cv2.Laplacian(calm, cv2.CV_16S))
    steep = np.abs(cv2.Sobel(calm, cv2.CV_16S, 1, 0, ksize=1)) + np.abs(cv2.Sobel(calm, cv2.CV_16S, 0, 1, ksize=1))
    tiles = (max(1, grey.shape[1] // _TILE), max(1, grey.shape[0] // _TILE))
    curves, slopes = (
        cv2.resize(values.astype(np.float32), tiles, interpolation=cv2.INTER_AREA).ravel() for values in (curved, steep)
    )
    richest = np.argsort(slopes)[-max(1, int(len(slopes) * _SHARPEST)) :]
    return float(curves[richest].mean() / (slopes[richest].mean() + 0.5))


def _overlay(mask: Image.Image) -> bytes:
    little = mask.reduce(max(1, max(mask.size) // _OVERLAY_SIDE))
    overlay = Image.merge("LA", (Image.new("L", little.size, 0), little.point(lambda level: (255 - level) * 3 // 5)))
    return _encoded(overlay, "PNG")


def _thumbnail(overview: Image.Image) -> bytes:
    little = overview.reduce(max(1, max(overview.size) // _THUMBNAIL_SIDE))
    return _encoded(little, "JPEG", quality=_THUMBNAIL_QUALITY)


def _encoded(image: Image.Image, form: str, **options: int) -> bytes:
    target = io.BytesIO()
    image.save(target, form, **options)
    return target.getvalue()
