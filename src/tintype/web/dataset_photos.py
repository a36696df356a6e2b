"""The photos of a dataset over HTTP: added, listed, shown, captioned, cropped and removed.

Photos come one by one or many at a time: as the body itself, as a form with files, or as URLs, of this server or
elsewhere. Any of them may be an archive, or the text file with the caption of another.
"""

from __future__ import annotations

import base64
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

import anyio.to_thread
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import Response

from tintype.catalog.fields import FileUrl
from tintype.errors import BadRequest, NotFound
from tintype.files import internal_url, public_url
from tintype.files.data_uri import is_data_uri
from tintype.files.disk import writing
from tintype.files.urls import own_reference
from tintype.store.records import CaptionBy, DatasetPhoto
from tintype.web import dataset_schema as schema
from tintype.web.body import json_body
from tintype.web.dataset_archive import dataset_of, dataset_url
from tintype.web.dataset_intake import add_files
from tintype.web.datasets import describe
from tintype.web.inputs import InputFiles, local_copy
from tintype.web.operation import answers, operation
from tintype.web.platform_schema import Paged, page_after
from tintype.web.responses import json_response
from tintype.web.services import Call
from tintype.web.uploads import named_by_headers

_MOST_FILES = 1000  # of one form
_CACHED = "private, max-age=86400, immutable"  # a photo never changes; its id is another's when it is sent again
_REMEDY = 'Send a file as the body, a form with files, or {"urls": ["…"]}.'

Files = list[tuple[str, Path]]


class _Urls(BaseModel):
    urls: Annotated[list[FileUrl], Field(min_length=1, max_length=schema.MOST_URLS)]


@operation()
async def list_photos(call: Call, query: Paged) -> schema.PhotosAnswer:
    """Answers `GET /v1/datasets/{id}/photos`, in the order in which they came."""
    dataset = await dataset_of(call, call.params["id"])
    found = await call.store.datasets.photos(dataset.id, limit=query.limit + 1, offset=query.offset)
    shown = [describe_photo(call, photo) for photo in found[: query.limit]]
    return schema.PhotosAnswer(photos=shown, **page_after(query, found))


@answers(schema.AddedAnswer, status=(201,), body=({"urls": [str]}, "*/*"))
async def add_photos(call: Call) -> Response:
    """Answers `POST /v1/datasets/{id}/photos`: a photo or an archive as the body, a form with files, or {"urls": …}."""
    dataset = await dataset_of(call, call.params["id"])
    incoming = call.services.uploads.spool_folder
    incoming.mkdir(parents=True, exist_ok=True)
    async with _received(call) as files:
        with tempfile.TemporaryDirectory(dir=incoming) as folder:
            intake = await add_files(call.services, dataset, call.key_id, files, Path(folder))
    known = {photo.id: photo for photo in await call.store.datasets.photos(dataset.id)}
    answer = schema.AddedAnswer(
        dataset=describe(call, await dataset_of(call, dataset.id)),
        photos=[describe_photo(call, known[photo_id]) for photo_id in intake.added if photo_id in known],
        left_out=[schema.LeftOut(name=name, what=what) for name, what in intake.left_out],
        captioned=intake.captioned,
        notes=intake.notes,
    )
    return json_response(answer.model_dump(mode="json"), 201)


@operation()
async def show_photo(call: Call) -> schema.Photo:
    """Answers `GET /v1/datasets/{id}/photos/{photo_id}`."""
    return describe_photo(call, await _photo(call))


@operation()
async def change_photo(call: Call, body: schema.PhotoChange) -> schema.Photo:
    """Answers `PATCH /v1/datasets/{id}/photos/{photo_id}`: its caption, its crop, or both."""
    photo = await _photo(call)
    if "crop" in body.model_fields_set:
        await call.store.datasets.set_crop(photo.dataset_id, photo.id, _crop(body.crop, photo))
    if "caption" in body.model_fields_set:
        text = body.caption.strip() if body.caption else ""
        by = CaptionBy(body.by)
        await call.store.datasets.set_captions(photo.dataset_id, {photo.id: text or None}, by, body.captioner)
    return describe_photo(call, await _photo(call))


@operation(status=204)
async def delete_photo(call: Call) -> None:
    """Answers `DELETE /v1/datasets/{id}/photos/{photo_id}`."""
    photo = await _photo(call)
    for file in await call.store.datasets.remove(photo.dataset_id, [photo.id]):
        await call.services.remove_file(file)
    call.services.strangers.forget(photo.dataset_id, [photo.id])
    await call.store.payloads.scrub()


@answers("image/jpeg")
async def thumbnail(call: Call) -> Response:
    """Answers `GET …/photos/{photo_id}/thumbnail`: a small JPEG, upright."""
    return _picture(await call.store.datasets.thumbnail(await _photo(call)))


@answers("image/jpeg", query=schema.PreviewQuery)
async def preview(call: Call) -> Response:
    """Answers `GET …/photos/{photo_id}/preview`: a JPEG, upright, of at most `side` pixels."""
    photo = await _photo(call)
    try:
        query = schema.PreviewQuery.model_validate(dict(call.http.query_params))
    except ValidationError:
        raise BadRequest("side is a whole number from 16 to 4096.") from None
    async with local_copy(call, internal_url(photo.file_id, photo.file_name)) as path:
        told = await call.services.photos.ask("preview", path=str(path), name=photo.name, side=query.side)
    return _picture(base64.b64decode(told["jpeg"]))


def describe_photo(call: Call, photo: DatasetPhoto) -> schema.Photo:
    """Describes a photo as it is answered."""
    url = f"{dataset_url(call.origin, photo.dataset_id)}/photos/{photo.id}"
    subject = photo.measured["subject"]
    has_face = subject["kind"] == "face"
    return schema.Photo(
        photo_id=photo.id,
        dataset_id=photo.dataset_id,
        name=photo.name,
        width=photo.width,
        height=photo.height,
        size_bytes=photo.size,
        content_type=photo.content_type,
        caption=photo.caption,
        caption_by=photo.caption_by.value if photo.caption_by else None,
        captioner=photo.captioner,
        crop=photo.crop,
        windows=[schema.Window(**window) for window in photo.measured["windows"]],
        face=subject["box"] if has_face else None,
        faces=len(subject["others"]) + 1 if has_face else 0,
        findings=photo.measured["findings"],
        repairs=photo.measured["repairs"],
        thumbnail_url=f"{url}/thumbnail",
        preview_url=f"{url}/preview",
        file_url=public_url(call.origin, photo.file_id, photo.file_name),
        created_at=photo.created_at,
    )


async def _photo(call: Call) -> DatasetPhoto:
    """Finds the photo that a URL names. Raises NotFound."""
    dataset = await dataset_of(call, call.params["id"])
    photo = await call.store.datasets.photo(dataset.id, call.params["photo_id"])
    if photo is None:
        raise NotFound("There is no such photo in this dataset.", remedy="GET …/photos lists those that are.")
    return photo


def _picture(content: bytes) -> Response:
    headers = {"Cache-Control": _CACHED, "X-Content-Type-Options": "nosniff"}
    return Response(content, headers=headers, media_type="image/jpeg")


def _crop(crop: list[int] | None, photo: DatasetPhoto) -> list[int] | None:
    """Checks a box. Raises BadRequest for one that is empty or reaches beyond the photo."""
    if crop is None:
        return None
    left, top, right, bottom = crop
    if not (left < right <= photo.width and top < bottom <= photo.height):
        raise BadRequest(
            f"crop is [left, top, right, bottom] within the photo, which is {photo.width} wide and {photo.height} high."
        )
    return crop


@asynccontextmanager
async def _received(call: Call) -> AsyncIterator[Files]:
    """Receives what was sent as files by name, which are gone afterwards."""
    content_type = call.http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        async with _fetched(call) as files:
            yield files
        return
    call.services.uploads.check_size(call.announced_size)
    await call.store.files.check_room(call.key_id, call.announced_size, replaces="")
    if content_type == "multipart/form-data":
        async with _of_form(call) as files:
            yield files
        return
    spool = call.services.uploads.spool()
    try:
        await spool.receive(call.body())
        if not spool.size:
            raise BadRequest("Nothing was sent.", remedy=_REMEDY)
        yield [(named_by_headers(call)[0], spool.path)]
    finally:
        spool.discard()


@asynccontextmanager
async def _of_form(call: Call) -> AsyncIterator[Files]:
    """Receives the files of a form."""
    incoming = call.services.uploads.spool_folder
    incoming.mkdir(parents=True, exist_ok=True)
    parser = MultiPartParser(call.http.headers, _limited(call), max_files=_MOST_FILES, max_fields=100)
    try:
        form = await parser.parse()
    except MultiPartException as problem:
        raise BadRequest(f"The form was not understood: {problem.message}", remedy=_REMEDY) from None
    try:
        with tempfile.TemporaryDirectory(dir=incoming) as folder:
            files: Files = []
            for number, (_, value) in enumerate(form.multi_items()):
                if isinstance(value, UploadFile) and (value.size or value.filename):  # not a field left empty
                    files.append((value.filename or "photo", Path(folder) / f"{number:05d}"))
                    await anyio.to_thread.run_sync(_write, value, files[-1][1])
            if not files:
                raise BadRequest("The form holds no file.", remedy=_REMEDY)
            yield files
    finally:
        await form.close()


def _write(file: UploadFile, path: Path) -> None:
    with writing(path.parent), path.open("wb") as target:
        shutil.copyfileobj(file.file, target)


async def _limited(call: Call) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in call.body():
        size += len(chunk)
        call.services.uploads.check_size(size)
        yield chunk


@asynccontextmanager
async def _fetched(call: Call) -> AsyncIterator[Files]:
    """Fetches the files that a JSON body names."""
    async with json_body(call) as body, AsyncExitStack() as held:
        try:
            named = TypeAdapter(_Urls).validate_python(body.value)
        except ValidationError as problem:
            raise BadRequest(f"urls: {problem.errors()[0]['msg']}.", remedy='Send {"urls": ["…"]}.') from None
        given = list(named.urls)
        inputs = InputFiles(call, body.spools)
        held.push_async_callback(inputs.forget)
        await inputs.settle(named)
        files: Files = []
        for was, url in zip(given, named.urls, strict=True):
            path = await held.enter_async_context(local_copy(call, url))
            files.append((_name_of(was, url) or path.name, path))
        yield files


def _name_of(was: str, url: str) -> str:
    """Tells how a file is called by its URL; nothing where that is all data."""
    if own := own_reference(url):
        return own[1]
    return "" if is_data_uri(was) else unquote(urlsplit(was).path).rpartition("/")[2]
