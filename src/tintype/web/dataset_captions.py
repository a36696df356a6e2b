"""Captions of many photos at once: written by a person or a model, found and replaced, put before or after."""

from __future__ import annotations

import re

from tintype.errors import BadRequest, NotFound
from tintype.store.records import CaptionBy
from tintype.web import dataset_schema as schema
from tintype.web.dataset_archive import dataset_of
from tintype.web.operation import operation
from tintype.web.services import Call


@operation()
async def set_captions(call: Call, body: schema.CaptionsBody) -> schema.CaptionsAnswer:
    """Answers `PATCH /v1/datasets/{id}/captions`: captions by the ids of photos. What a person wrote, no model
    replaces."""
    dataset = await dataset_of(call, call.params["id"])
    known = {photo_id for photo_id, _, _ in await call.store.datasets.known(dataset.id)}
    _check_known(body.captions.keys() - known)
    captions = {photo_id: (text or "").strip() or None for photo_id, text in body.captions.items()}
    changed = await call.store.datasets.set_captions(dataset.id, captions, CaptionBy(body.by), body.captioner)
    kept = [photo_id for photo_id in captions if photo_id not in changed]
    return schema.CaptionsAnswer(changed=changed, kept=kept)


@operation()
async def edit_captions(call: Call, body: schema.CaptionsEdit) -> schema.CaptionsEdited:
    """Answers `POST /v1/datasets/{id}/captions/edit`: finds and replaces, or puts something before or after."""
    if not (body.find or body.before or body.after):
        raise BadRequest("Nothing is edited.", remedy="Send find and replace, or before, or after.")
    dataset = await dataset_of(call, call.params["id"])
    photos = await call.store.datasets.photos(dataset.id)
    _check_known(set(body.photo_ids or ()) - {photo.id for photo in photos})
    edited = []
    for photo in photos:
        if photo.caption and (body.photo_ids is None or photo.id in body.photo_ids):
            caption = _edited(photo.caption, body)
            if len(caption) > schema.LONGEST_CAPTION:
                raise BadRequest(f"The caption of {photo.name} would be longer than {schema.LONGEST_CAPTION} letters.")
            if caption != photo.caption:
                told = schema.EditedCaption(photo_id=photo.id, name=photo.name, was=photo.caption, caption=caption)
                edited.append(told)
    if edited and not body.dry_run:
        captions = {one.photo_id: one.caption or None for one in edited}
        await call.store.datasets.set_captions(dataset.id, captions, CaptionBy.PERSON)
    return schema.CaptionsEdited(captions=edited, dry_run=body.dry_run)


def _edited(caption: str, body: schema.CaptionsEdit) -> str:
    if body.find:
        pattern = re.escape(body.find)
        if body.whole_words:
            pattern = rf"(?<!\w){pattern}(?!\w)"
        found = re.compile(pattern, 0 if body.match_case else re.IGNORECASE)
        caption, count = found.subn(lambda _: body.replace, caption)
        if not count and not (body.before or body.after):
            return caption
    return f"{body.before}{caption}{body.after}".strip()


def _check_known(unknown: set[str]) -> None:
    if unknown:
        raise NotFound(f"There is no photo {min(unknown)[:50]!r} in this dataset.", remedy="GET …/photos lists them.")
