from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.s3 import Bucket, running_bucket

from tintype.errors import SettingsError, StorageFull, StorageUnavailable
from tintype.files.objects import Objects
from tintype.files.urls import new_file_id


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with running_bucket() as running:
        yield running


@pytest.fixture(params=["folder", "memory", "bucket"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Objects:
    if request.param != "bucket":
        return Objects.open(str(tmp_path / "objects") if request.param == "folder" else "memory:")
    bucket: Bucket = request.getfixturevalue("bucket")
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    return Objects.open(bucket.url)


def key_of(name: str = "a.zip") -> str:
    return f"{new_file_id()}/{name}"


def test_what_is_put_can_be_read_in_any_range(objects: Objects) -> None:
    key = key_of("ünï.zip")
    assert objects.put_chunks(key, [b"0123", b"456789"]) == 10
    assert objects.size(key) == 10
    assert b"".join(objects.read(key)) == b"0123456789"
    assert b"".join(objects.read(key, 3)) == b"3456789"
    assert b"".join(objects.read(key, 3, 5)) == b"34"
    assert b"".join(objects.read(key, 5, 5)) == b""


@pytest.mark.anyio
async def test_it_reads_the_same_asynchronously(objects: Objects) -> None:
    key = key_of()
    objects.put_bytes(key, b"x" * 600_000)
    assert b"".join([chunk async for chunk in objects.read_async(key, 1)]) == b"x" * 599_999


def test_an_empty_object_is_an_object(objects: Objects) -> None:
    key = key_of()
    objects.put_bytes(key, b"")
    assert objects.size(key) == 0
    assert objects.exists(key)
    assert b"".join(objects.read(key)) == b""


def test_a_missing_object_has_no_size_cannot_be_read_and_is_deleted_already(objects: Objects) -> None:
    key = key_of()
    assert objects.size(key) is None
    with pytest.raises(FileNotFoundError):
        list(objects.read(key))
    objects.delete(key)


def test_deleting_leaves_nothing_behind(tmp_path: Path) -> None:
    objects = Objects.open(str(tmp_path / "objects"))
    key = key_of()
    objects.put_bytes(key, b"x")
    objects.delete(key)
    assert not objects.exists(key)
    assert [path.name for path in (tmp_path / "objects").iterdir()] == [".incoming"]


def test_moving_a_file_in_takes_it_and_copying_leaves_it(objects: Objects, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"abc")
    first, second = key_of(), key_of()
    assert objects.put_path(first, source) == 3
    assert source.exists()
    assert objects.put_path(second, source, move=True) == 3
    assert not source.exists()
    assert b"".join(objects.read(first)) == b"".join(objects.read(second)) == b"abc"


def test_a_local_copy_has_the_same_bytes_and_survives_deletion(objects: Objects, tmp_path: Path) -> None:
    key = key_of()
    objects.put_bytes(key, b"abc")
    assert objects.copy_to(key, tmp_path / "copy") == 3
    objects.delete(key)
    assert (tmp_path / "copy").read_bytes() == b"abc"


def test_a_write_that_breaks_off_leaves_no_object(objects: Objects, tmp_path: Path) -> None:
    key = key_of()

    def broken() -> Iterator[bytes]:
        yield b"some"
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        objects.put_chunks(key, broken())
    assert objects.size(key) is None
    assert not list((tmp_path / "objects" / ".incoming").glob("*")) if (tmp_path / "objects").exists() else True


def test_a_large_object_goes_to_a_bucket_in_parts_and_a_broken_one_leaves_none(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    objects, large, broken = Objects.open(bucket.url), key_of(), key_of()
    (tmp_path / "large").write_bytes(os.urandom(12_000_000))
    objects.put_path(large, tmp_path / "large")
    assert b"".join(objects.read(large)) == (tmp_path / "large").read_bytes()
    assert objects.copy_to(large, tmp_path / "copy") == 12_000_000

    def breaking() -> Iterator[bytes]:
        yield from [b"x" * 6_000_000] * 2
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        objects.put_chunks(broken, breaking())
    assert objects.size(broken) is None
    assert "<Upload>" not in bucket.unfinished()


def test_a_bucket_that_is_not_there_is_said_to_be_missing(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in bucket.environment.items():
        monkeypatch.setenv(name, value)
    missing = Objects.open("s3://no-such-bucket/x")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StorageUnavailable, match=r"NoSuchBucket|not found"):
        missing.put_bytes(key_of(), b"x")
    with pytest.raises(StorageUnavailable):
        missing.put_path(key_of(), tmp_path / "file", move=True)
    assert (tmp_path / "file").exists()
    with pytest.raises(SettingsError, match="TINTYPE_STORAGE"):
        Objects.open("nonsense://photos")


def test_what_is_old_can_be_listed_and_what_a_killed_write_left_is_removed(objects: Objects, tmp_path: Path) -> None:
    keys = [key_of(f"{number} ünï.zip".replace(" ", "_")) for number in range(3)]
    for key in keys:
        objects.put_bytes(key, b"x")
    assert set(keys) <= {key for batch in objects.older_than(-60) for key in batch}
    assert not set(keys) & {key for batch in objects.older_than(3600) for key in batch}
    aside = tmp_path / "objects" / ".incoming"
    if aside.exists():
        (aside / "object-left").write_bytes(b"x")
        assert objects.discard_unfinished(3600) == 0
        assert objects.discard_unfinished(-60) == 1
        assert not list(aside.iterdir())
    assert all(objects.exists(key) for key in keys)


def test_a_stored_file_is_on_disk_before_it_is_called_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync of the bytes, then the rename, then fsync of the folders: in this order a crash loses nothing."""
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda *paths: (done.append("replace"), replace(*paths))[1])
    objects = Objects.open(str(tmp_path / "objects"))
    objects.put_bytes(key_of(), b"x")
    assert done == ["fsync", "replace", "fsync", "fsync"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full to have a full disk")
def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    objects = Objects.open(str(tmp_path / "objects"))

    def onto_a_full_disk() -> Iterator[bytes]:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
        yield b""

    with pytest.raises(StorageFull):
        objects.put_chunks(key_of(), onto_a_full_disk())


@pytest.mark.parametrize("key", ["../x/y", "a/../b", "a", "/etc/passwd", "a/b/c", "a/.b", ""])
def test_only_keys_of_an_id_and_a_name_are_keys(objects: Objects, key: str) -> None:
    with pytest.raises(ValueError, match="not an object key"):
        objects.put_bytes(key, b"x")
