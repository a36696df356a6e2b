"""Forgets a request: what it was given and what it made, from photos to pictures, with a receipt that proves it.

fal deletes outputs only. Here everything goes that belongs to the request and to nobody else: its input and output, the
files that it made or that were uploaded for it, encoded photos, checkpoints, its LoRA and the custom model. The row
that stays says when it ran, what it took, and the hashes of what was deleted.

Everything is marked first, in one transaction, and removed then: what a crash leaves in between, housekeeping removes.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import structlog

from tintype.errors import Json, StorageUnavailable
from tintype.files import Objects, public_url
from tintype.files.checkpoints import remove_published, remove_work
from tintype.settings import Settings
from tintype.store.records import Request, StoredFile
from tintype.web import usage_schema as schema
from tintype.web.operation import IDEMPOTENCY_KEY, operation
from tintype.web.services import Call, Services
from tintype.web.status import id_of, unknown_request
from tintype.web.time_spans import moment

IN_USE = "Another request that has not ended reads it; delete once more when it has."
_PIECE = 1024 * 1024

log = structlog.get_logger("tintype.web")


@operation(headers=(IDEMPOTENCY_KEY,))
async def delete_payloads(call: Call) -> schema.ForgetAnswer:
    """Answers `DELETE /v1/models/requests/{id}/payloads`, for whoever sent it and for ADMIN keys. Sent again it answers
    with the receipt."""
    request = await call.store.requests.get(id_of(call))
    may = request is not None and (
        await call.store.keys.is_admin(call.key_id) or await call.store.keys.owns(call.owner, request.key_id)
    )
    if request is None or not may:
        raise unknown_request()
    call.answer_as(request.id)
    results, request = await forget(call.services, request)
    receipt = request.receipt or {"things": [], "deleted_at": time.time()}
    return schema.ForgetAnswer(
        cdn_delete_results=[
            schema.DeletedFile(link=public_url(call.origin, file.id, file.file_name), exception=problem)
            for file, problem in results
        ],
        receipt=[schema.DeletedThing(**thing) for thing in receipt["things"]],
        deleted_at=moment(receipt["deleted_at"]),
    )


async def forget(services: Services, request: Request) -> tuple[list[tuple[StoredFile, str | None]], Request]:
    """Deletes all that a request was given and made. Returns its files, each with what kept it, and the request as it
    is now, with its receipt. Raises BadRequest for one that has not ended."""
    files, held = await services.store.payloads.files_of(request)
    things = (request.receipt or {"things": []})["things"]
    things = [*things, *await anyio.to_thread.run_sync(_describe, services, request, files)]
    receipt = {"deleted_at": time.time(), "things": things}
    forgotten = await services.store.payloads.forget(request.id, held, receipt)
    if forgotten is None:
        raise unknown_request()
    results: list[tuple[StoredFile, str | None]] = [(file, IN_USE) for file in held]
    for file in files:
        results.append((file, await _remove(services, file)))
    await anyio.to_thread.run_sync(_remove_work, services.settings, request.id, {file.id for file in held})
    await services.store.payloads.scrub()
    return results, forgotten


async def _remove(services: Services, file: StoredFile) -> str | None:
    try:
        await services.remove_file(file)
    except (OSError, StorageUnavailable) as problem:  # it has expired: housekeeping tries again
        log.warning("a file of a forgotten request stays for now", file_id=file.id, problem=str(problem))
        return f"It could not be removed yet, and cannot be read any more: {problem}"
    return None


def _remove_work(settings: Settings, request_id: str, held: Collection[str]) -> None:
    remove_published(settings, request_id, held)
    remove_work(settings, request_id)


def _describe(services: Services, request: Request, files: Iterable[StoredFile]) -> list[Json]:
    """Lists what is about to be deleted: of what kind, how large, and its hash."""
    things = [] if request.is_erased else [_of_json("input", request.input), _of_json("output", request.output)]
    things += [_thing("file", _read(services.objects, file.key)) for file in files]
    for path in sorted(_work_of(services.settings, request.id)):
        things.append(_thing("work", _pieces(path)))
    checkpoints = Objects.open(services.settings.checkpoint_url)
    return things + [_thing("checkpoint", _read(checkpoints, key)) for key in sorted(checkpoints.under(request.id))]


def _work_of(settings: Settings, request_id: str) -> Iterator[Path]:
    return (path for path in (settings.work_dir / request_id).rglob("*") if path.is_file())


def _of_json(kind: str, value: Any) -> Json:
    return _thing(kind, [json.dumps(value, separators=(",", ":"), sort_keys=True).encode()])


def _thing(kind: str, pieces: Iterable[bytes]) -> Json:
    digest, size = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return {"kind": kind, "sha256": digest.hexdigest(), "size": size}


def _read(objects: Objects, key: str) -> Iterator[bytes]:
    try:
        yield from objects.read(key)
    except FileNotFoundError:  # its row was left over
        return


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
