"""A dataset as one archive: what a training reads, as the dataset was when the request was sent, and what a person may
take along.

Photos are stored as they are, captions as text files that any trainer reads, and first of all a file that says who
wrote which caption, and what of each photo is trained (files/dataset_manifest.py).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import httpx

from tintype.errors import NotFound
from tintype.files import Objects
from tintype.files.acl import AccessList, Decision
from tintype.files.addresses import parsed_url
from tintype.files.dataset_manifest import MANIFEST, PhotoNote, crop_shares, write_manifest
from tintype.files.disk import check_room, writing
from tintype.store.records import CaptionBy, DatasetPhoto, StoredDataset
from tintype.web.services import Call

HIDDEN = AccessList(Decision.HIDE).to_json()  # from all but the owner
_PATH = re.compile(r"/v1/datasets/([A-Za-z0-9_-]{22})(?:/archive)?")


def dataset_url(origin: str, dataset_id: str) -> str:
    """Makes the URL under which a dataset is found, and used in a training."""
    return f"{origin}/v1/datasets/{dataset_id}"


def own_dataset(url: str, is_own_host: Callable[[str], bool]) -> str | None:
    """Reads the id of a dataset of this server from its URL, or that of its archive."""
    try:
        parsed = parsed_url(url)
    except httpx.InvalidURL:
        return None
    found = _PATH.fullmatch(parsed.path.rstrip("/"))
    is_ours = found and parsed.scheme in ("http", "https") and is_own_host(parsed.host.rstrip("."))
    return found[1] if found and is_ours else None


async def dataset_of(call: Call, dataset_id: str) -> StoredDataset:
    """Finds a dataset of the caller's. Raises NotFound, for another person's too."""
    dataset = await call.store.datasets.find(dataset_id, owner=call.owner)
    if dataset is None:
        raise unknown_dataset()
    return dataset


def unknown_dataset() -> NotFound:
    """Makes the error for a dataset that is not there, or is another person's."""
    return NotFound("There is no such dataset.", remedy="GET /v1/datasets lists yours.")


@asynccontextmanager
async def packed_dataset(call: Call, dataset: StoredDataset) -> AsyncIterator[Path]:
    """Packs a dataset as it is now; the archive is gone afterwards, unless it was moved away."""
    photos = await call.store.datasets.photos(dataset.id)
    spool = call.services.uploads.spool()
    spool.finish()
    try:
        check_room(spool.path.parent, sum(photo.size for photo in photos))
        await anyio.to_thread.run_sync(_pack, spool.path, photos, call.services.objects)
        yield spool.path
    finally:
        spool.discard()


def _pack(target: Path, photos: Sequence[DatasetPhoto], objects: Objects) -> None:
    with writing(target.parent), zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(MANIFEST, write_manifest({photo.name: note_of(photo) for photo in photos}))
        for photo in photos:
            with archive.open(photo.name, "w", force_zip64=True) as member:
                for piece in objects.read(photo.file_key):
                    member.write(piece)
            if photo.caption is not None:
                archive.writestr(f"{photo.name}.txt", photo.caption)


def note_of(photo: DatasetPhoto) -> PhotoNote:
    """Says of a photo what its archive says."""
    crop = photo.crop and crop_shares(photo.crop, photo.width, photo.height)
    by = photo.caption_by or CaptionBy.FILE
    return PhotoNote(photo.caption, by.value, photo.captioner, crop or None)
