"""Photos on their way into a dataset: measured by a process of its own, kept as files of their owner's, and entered.

Bytes are kept first, then the rows: what a crash leaves in between, housekeeping removes as it does with any file.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from tintype.files import new_file_id, safe_file_name
from tintype.files.formats import content_type_of_name
from tintype.store.records import CaptionBy, NewPhoto, StoredDataset, StoredFile
from tintype.web.dataset_archive import HIDDEN, unknown_dataset
from tintype.web.dataset_schema import LONGEST_CAPTION
from tintype.web.services import Services

_BATCH = 50  # photos that are entered at a time, with their thumbnails in memory


@dataclass
class Intake:
    """Tells what became of files that were sent."""

    added: list[str] = field(default_factory=list)  # ids of photos
    left_out: list[tuple[str, str]] = field(default_factory=list)  # names, and why
    captioned: list[str] = field(default_factory=list)  # ids of photos that were there
    notes: list[str] = field(default_factory=list)


async def add_files(
    services: Services, dataset: StoredDataset, key_id: str, files: Sequence[tuple[str, Path]], folder: Path
) -> Intake:
    """Adds the photos among files (by name and path), of which some may be archives or folders. What is in `folder`
    afterwards is of no use. Raises InputError, BadRequest, NotFound and LimitReached."""
    known = await services.store.datasets.known(dataset.id)
    ids, contents = {name: id for id, name, _ in known}, {sha256: name for _, name, sha256 in known}
    named = [[name, str(path)] for name, path in files]
    told = await services.photos.ask("measure", files=named, folder=str(folder), known=[*ids])
    intake = Intake(left_out=[(note["name"], note["what"]) for note in told["left_out"]], notes=told["notes"])
    for photo in told["photos"]:
        if photo["sha256"] in contents:
            intake.left_out.append((photo["name"], _copy_of(contents[photo["sha256"]])))
    fresh = [photo for photo in told["photos"] if photo["sha256"] not in contents]
    for at in range(0, len(fresh), _BATCH):
        await _enter(services, dataset, key_id, fresh[at : at + _BATCH], intake)
    captions: dict[str, str | None] = {ids[name]: text for name, text in told["captions"].items()}
    if captions:
        intake.captioned = await services.store.datasets.set_captions(dataset.id, captions, CaptionBy.FILE)
    return intake


async def _enter(
    services: Services, dataset: StoredDataset, key_id: str, measured: Sequence[dict[str, Any]], intake: Intake
) -> None:
    new: list[NewPhoto] = []
    try:
        for photo in measured:
            new.append(await _kept(services, key_id, photo))
        entered = await services.store.datasets.add(dataset.id, new)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await _discard(services, new)
        raise
    if entered is None:
        await _discard(services, new)
        raise unknown_dataset()
    added, copies = entered
    intake.added += added
    intake.left_out += [(photo.name, _copy_of(name)) for photo, name in copies]
    await _discard(services, [photo for photo, _ in copies])


async def _kept(services: Services, key_id: str, photo: dict[str, Any]) -> NewPhoto:
    """Keeps the bytes of a photo."""
    file_id, name = new_file_id(), safe_file_name(photo["name"], default="photo")
    content_type = content_type_of_name(photo["suffix"] or name)
    size = await services.objects.put_path_async(f"{file_id}/{name}", Path(photo["path"]), move=True)
    caption = photo["caption"]
    return NewPhoto(
        file=StoredFile(file_id, name, content_type, size, time.time(), key_id=key_id, acl=HIDDEN),
        name=photo["name"],
        sha256=photo["sha256"],
        width=photo["width"],
        height=photo["height"],
        measured=photo["measured"],
        thumbnail=await anyio.Path(photo["thumbnail"]).read_bytes(),
        caption=caption[:LONGEST_CAPTION] if caption else None,
        caption_by=CaptionBy(photo["caption_by"]) if caption else None,
        captioner=photo["captioner"],
        crop=photo["crop"],
    )


async def _discard(services: Services, new: Sequence[NewPhoto]) -> None:
    for photo in new:
        await services.remove_file(photo.file)


def _copy_of(name: str) -> str:
    return f"the very file that is here as {name}"
