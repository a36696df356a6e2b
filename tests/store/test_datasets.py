"""Datasets in the store: who may write which caption, what a version counts, and what deletion leaves."""

from __future__ import annotations

from typing import Any

import pytest

from tintype.errors import LimitReached
from tintype.files import new_file_id
from tintype.settings import Limits
from tintype.store import Store
from tintype.store.datasets import Datasets
from tintype.store.records import CaptionBy, NewPhoto, StoredFile

pytestmark = pytest.mark.anyio

MEASURED = {"subject": {"kind": "whole", "box": [0, 0, 8, 8], "others": []}}


def photo(name: str, content: str = "", **more: Any) -> NewPhoto:
    file = StoredFile(new_file_id(), "a.jpg", "image/jpeg", 100, 0.0, key_id="key")
    return NewPhoto(file, name, content or name, 8, 8, MEASURED, b"thumbnail", **more)


async def test_photos_are_added_captioned_cropped_and_deleted(store: Store) -> None:
    dataset = await store.datasets.create("Anna", "key")
    written = photo("b.jpg", caption="a file's\0", caption_by=CaptionBy.FILE)
    again = photo("other.jpg", "a.jpg")
    added, copies = await store.datasets.add(
        dataset.id, [photo("a.jpg"), written, photo("a.jpg", "of its own"), again]
    ) or ([], [])
    assert [(copy.file.id, name) for copy, name in copies] == [(again.file.id, "a.jpg")]
    photos = await store.datasets.photos(dataset.id)
    assert [(one.id, one.name) for one in photos] == list(zip(added, ["a.jpg", "b.jpg", "a (2).jpg"], strict=True))
    assert await store.datasets.thumbnail(photos[0]) == b"thumbnail"
    told = await store.datasets.find(dataset.id)
    assert (told.photos, told.captioned, told.size, told.first_photo_id, told.version) == (3, 1, 300, added[0], 2)

    words = dict.fromkeys(added, "a model's")
    assert await store.datasets.set_captions(dataset.id, words, CaptionBy.MODEL, "m") == [added[0], added[2]]
    assert await store.datasets.set_captions(dataset.id, {added[0]: "a person's\0"}, CaptionBy.PERSON) == [added[0]]
    for by in (CaptionBy.MODEL, CaptionBy.FILE):
        assert added[0] not in await store.datasets.set_captions(dataset.id, {added[0]: None}, by)
    assert await store.datasets.set_captions(dataset.id, {added[2]: "later"}, CaptionBy.FILE) == [added[2]]
    await store.datasets.set_crop(dataset.id, added[1], [1, 2, 3, 4])
    photos = await store.datasets.photos(dataset.id)
    assert [(one.caption, one.caption_by, one.captioner) for one in photos] == [
        ("a person's\ufffd", "person", None), ("a file's\ufffd", "file", None), ("later", "file", None),
    ]  # fmt: skip
    assert photos[1].crop == [1, 2, 3, 4]

    [gone] = await store.datasets.remove(dataset.id, [added[2]])
    assert gone.id == photos[2].file_id
    files = await store.datasets.delete(dataset.id)
    assert {file.id for file in files} == {one.file_id for one in photos[:2]}
    assert {file.id for file in await store.files.expired()} == {one.file_id for one in photos}
    assert await store.datasets.find(dataset.id) is None
    assert await store.datasets.photos(dataset.id) == []
    assert await store.datasets.add(dataset.id, [photo("a.jpg")]) is None


async def test_a_dataset_is_seen_by_its_owner_and_counts_as_stored(store: Store) -> None:
    ada, _ = await store.keys.create("ada")
    mine = await store.datasets.create("mine", ada.id)
    assert [one.id for one in await store.datasets.list(owner="ada")] == [mine.id]
    assert await store.datasets.list(owner="bob") == []
    assert await store.datasets.find(mine.id, owner="bob") is None
    bounded = Datasets(store._database, store.datasets._now, Limits(stored_bytes=250))
    new = [photo(f"{n}.jpg") for n in range(3)]
    theirs = await store.datasets.create("theirs", "key")
    with pytest.raises(LimitReached, match="stored bytes"):
        await bounded.add(theirs.id, new)
    assert await store.datasets.photos(theirs.id) == []  # all of them, or none
