"""Develops photos in parallel: each is decoded, looked at, cut into what will be trained, and let go.

A thousand photos of twelve million pixels are 36 GB; at any time only as many are in memory as there are cores, and
only as many as fit a budget of pixels. What is kept of each is its cuts on disk, already no larger than they are
trained, and a few numbers.
"""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tintype.dataset.archive import Member
from tintype.dataset.buckets import Bucket, buckets_of
from tintype.dataset.framing import Window
from tintype.dataset.image import Photo, know_heif, read_photo
from tintype.dataset.masks import Source, mask_of
from tintype.dataset.quality import Look, look_at
from tintype.dataset.subject import Finder, Subject, windows_of
from tintype.errors import ImageTooLarge, InputError

SEVERAL_FRAMINGS = 60  # photos; of those after them one framing each is plenty, and their cuts would fill the disk
MOST_WORKERS = 8
_ROOM = 130_000_000  # pixels decoded at the same time; one picture may be alone with more
_SEARCH_SIDE = 440  # pixels of the long side
_THUMBNAIL = 256  # pixels of the long side
_VEIL = 96  # likewise
_QUALITY = 70  # of the thumbnail's JPEG


@dataclass(frozen=True)
class DatasetOptions:
    """What the person asked for about the pictures. `size_step` is the base's own, in nominal pixels.

    `default_caption` is for pictures without a caption, where there is no trigger phrase; it takes its place.
    """

    trigger: str | None
    area_sides: tuple[int, ...]
    subject_crop: bool = False
    create_masks: bool = False
    size_step: int = 16
    default_caption: str | None = None


@dataclass(frozen=True)
class Cut:
    """One window of a photo as it will be trained: an RGB file, perhaps an "L" mask of its size, and its sizes.

    `veil` shows the mask in little: a PNG that is dark where the loss counts little.
    """

    window: Window
    path: Path
    buckets: tuple[Bucket, ...]
    mask: Path | None = None
    mask_source: Source | None = None
    veil: bytes | None = None


@dataclass(frozen=True)
class PreparedImage:
    """All that is kept of a photo; `thumbnail` is a JPEG."""

    name: str
    size: tuple[int, int]
    repairs: tuple[str, ...]
    subject: Subject
    look: Look
    cuts: tuple[Cut, ...]
    thumbnail: bytes

    def discard(self) -> None:
        """Deletes what lies on disk."""
        for cut in self.cuts:
            cut.path.unlink(missing_ok=True)
            if cut.mask is not None:
                cut.mask.unlink(missing_ok=True)


@dataclass(frozen=True)
class RejectedImage:
    """A file that could not be developed, and why."""

    name: str
    why: InputError


class _Room:
    """Lets pixels in as long as there is room for them. Each worker has at most one picture inside."""

    def __init__(self, most: int) -> None:
        self._most, self._inside = most, 0
        self._changed = threading.Condition()

    def enter(self, pixels: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._inside == 0 or self._inside + pixels <= self._most)
            self._inside += pixels

    def leave(self, pixels: int) -> None:
        with self._changed:
            self._inside -= pixels
            self._changed.notify_all()


class ImagePreparer:
    """Where the photos of one dataset are developed."""

    def __init__(self, folder: Path, wishes: DatasetOptions, find: Finder, most_pixels: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._wishes, self._find, self._most_pixels = folder, wishes, find, most_pixels
        self._room = _Room(_ROOM)

    def develop(self, members: Iterable[Member]) -> Iterator[PreparedImage | RejectedImage]:
        """One result per member, in their order; their files are deleted. Raises ImageTooLarge for all of them.

        `members` is drawn from only as fast as they are developed, so whatever unpacks them works at the same time.
        """
        know_heif()
        workers = min(MOST_WORKERS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
        waiting: deque[Future[PreparedImage | RejectedImage]] = deque()
        # Pillow warns of large pictures and odd tags. Filters belong to the whole process: set once, not by threads.
        with warnings.catch_warnings(), ThreadPoolExecutor(workers, "darkroom") as pool:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)
            try:
                for number, member in enumerate(members):
                    waiting.append(pool.submit(self._one, number, member))
                    if len(waiting) > 2 * workers:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _one(self, number: int, member: Member) -> PreparedImage | RejectedImage:
        assert member.path is not None
        inside = 0

        def admit(pixels: int) -> None:
            nonlocal inside
            self._room.enter(pixels)
            inside = pixels

        try:
            photo = read_photo(member.path, member.name, most_pixels=self._most_pixels, admit=admit)
            return self._print(number, photo)
        except ImageTooLarge:
            raise  # not damage but a danger, and the person has to know before anything is trained
        except InputError as problem:
            return RejectedImage(member.name, problem)
        finally:
            if inside:
                self._room.leave(inside)
            member.path.unlink()

    def _print(self, number: int, photo: Photo) -> PreparedImage:
        overview = photo.cut(at_least=self._enough(photo.size))
        x, y = photo.size[0] / overview.width, photo.size[1] / overview.height
        # Among very many photos faces are looked for in small pictures: what is missed there is too far off to matter.
        shrink = 1 if number < SEVERAL_FRAMINGS else max(1, max(overview.size) // _SEARCH_SIDE)
        found = self._find(overview if shrink == 1 else overview.reduce(shrink))
        seen = found if shrink == 1 else found.scaled(shrink, shrink)
        subject = seen.scaled(x, y)
        windows = windows_of(subject, photo.size, crop=self._wishes.subject_crop)
        if number >= SEVERAL_FRAMINGS:
            windows = (windows[number % len(windows)],)
        cuts = tuple(
            self._cut(photo, window, subject, self._folder / f"{number:05d}-{at}", overview)
            for at, window in enumerate(windows)
        )
        look = look_at(overview, seen.box if seen.kind == "face" else None)
        return PreparedImage(photo.name, photo.size, photo.repairs, subject, look, cuts, _thumbnail(overview))

    def _enough(self, size: tuple[int, int]) -> tuple[int, int]:
        """The largest size at which a picture of this size is trained."""
        largest = self._buckets(size)[-1]
        return largest.width, largest.height

    def _buckets(self, size: tuple[int, int]) -> list[Bucket]:
        return sorted(
            buckets_of(size, self._wishes.area_sides, self._wishes.size_step), key=lambda it: it.width * it.height
        )

    def _cut(self, photo: Photo, window: Window, subject: Subject, place: Path, overview: Image.Image) -> Cut:
        box, enough = window.box, self._enough(window.box.size)
        picture = overview if box == photo.frame else photo.cut(box, at_least=enough)
        path = place.with_suffix(".ppm")  # plain pixels: packing them would take longer than decoding the photo
        picture.save(path)
        buckets = tuple(buckets_of(box.size, self._wishes.area_sides, self._wishes.size_step))
        if not self._wishes.create_masks:
            return Cut(window, path, buckets)
        made = mask_of(subject, box, picture.size, photo.cut_alpha(box, at_least=enough))
        if made is None:
            return Cut(window, path, buckets)
        mask, source = made
        mask.save(place.with_suffix(".pgm"))
        return Cut(window, path, buckets, place.with_suffix(".pgm"), source, _veil(mask))


def _veil(mask: Image.Image) -> bytes:
    little = mask.reduce(max(1, max(mask.size) // _VEIL))
    veil = Image.merge("LA", (Image.new("L", little.size, 0), little.point(lambda level: (255 - level) * 3 // 5)))
    target = io.BytesIO()
    veil.save(target, "PNG")
    return target.getvalue()


def _thumbnail(overview: Image.Image) -> bytes:
    little = overview.reduce(max(1, max(overview.size) // _THUMBNAIL))
    target = io.BytesIO()
    little.save(target, "JPEG", quality=_QUALITY)
    return target.getvalue()
