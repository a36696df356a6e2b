"""Everything that writes asks for room first: on a disk with a kilobyte to spare each says so, and harms nothing."""

from __future__ import annotations

import base64
import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pytest
import torch
from PIL import Image

from tests.support.disk import leave_room
from tests.support.images import encoded, scene, zipped
from tintype.catalog.flux_lora import FluxInput
from tintype.dataset import DatasetOptions, open_dataset
from tintype.dataset.report import DatasetReport, FileNote
from tintype.dataset.report_page import write_page
from tintype.dataset.subject import whole
from tintype.errors import StorageFull
from tintype.files import Objects, fetch_input
from tintype.files.spool import Spool
from tintype.files.uploads import Uploads
from tintype.inference.flux import FluxInference
from tintype.jobs.images import Generated, published
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.tensor_file import write_tensors
from tintype.settings import load_settings
from tintype.store import Store

LARGE = b"x" * 1_000_000


@pytest.fixture
def nearly_full(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Fills the disk up but for a kilobyte, from the call on."""
    return lambda: leave_room(monkeypatch, 1000)


async def large() -> AsyncIterator[bytes]:
    yield LARGE


async def counted(size: int) -> None:
    """Allows any size."""


def spooled(folder: Path) -> None:
    spool = Spool(folder, limit=10**9)
    try:
        anyio.run(spool.receive, large())
    finally:
        spool.discard()


def stored(folder: Path) -> None:
    Objects.open(str(folder)).put_bytes("a/b", LARGE)


def copied_in(folder: Path) -> None:
    path = folder.with_name("outside")
    path.write_bytes(LARGE)
    Objects.open(str(folder)).put_path("a/b", path)


def copied_out(folder: Path) -> None:
    objects = Objects.open("memory:")
    objects.put_bytes("a/b", LARGE)
    objects.copy_to("a/b", folder / "copy")


def fetched(folder: Path) -> None:
    url = f"data:application/zip;base64,{base64.b64encode(LARGE).decode()}"
    fetch_input(url, folder, objects=Objects.open("memory:"), settings=load_settings())


def unpacked(folder: Path) -> None:
    _intake(zipped(folder.with_name("photos.zip"), {"a.png": encoded(scene())}), folder)


def cropped(folder: Path) -> None:
    photos = folder.with_name("photos")
    photos.mkdir()
    scene().save(photos / "a.png")
    _intake(photos, folder)


def _intake(source: Path, folder: Path) -> None:
    open_dataset(source, folder, DatasetOptions(trigger="TOK"), find_subject=whole, log=lambda line: None)


def tensors(folder: Path) -> None:
    write_tensors({"a": torch.zeros(10_000)}, folder / "a.safetensors")


def reported(folder: Path) -> None:
    DatasetReport(dropped=[FileNote("a", "b" * 2000)]).write(folder / "report.json")


def shown(folder: Path) -> None:
    write_page(DatasetReport(), folder / "report.html")


def generated(folder: Path) -> None:
    flux = ResidentModels(load_settings(), "cpu").inference(FluxInference)
    drawn = Generated([scene()], [0], "a hat", 0.1, flux)
    published(drawn, FluxInput(prompt="a hat"), "png", LocalContext(folder, load_settings()))


def handed_over(folder: Path) -> None:
    path = folder.with_name("lora.safetensors")
    path.write_bytes(LARGE)
    LocalContext(folder, load_settings()).publish(path, "application/octet-stream")


def migrated(folder: Path) -> None:
    async def again() -> None:
        store = await Store.open(f"sqlite+aiosqlite:///{folder / 'tintype.db'}")
        await store.close()

    with contextlib.closing(sqlite3.connect(folder / "tintype.db")) as older:
        older.execute("CREATE TABLE alembic_version AS SELECT '0001' AS version_num")
        older.execute("CREATE TABLE requests AS SELECT zeroblob(1000000) AS input")
        older.commit()
    anyio.run(again)


@pytest.mark.parametrize(
    "write",
    [spooled, stored, copied_in, copied_out, fetched, unpacked, cropped, tensors, reported, shown, generated,
     handed_over, migrated],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_it_is_written(
    tmp_path: Path, nearly_full: Callable[[], None], write: Callable[[Path], None]
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    nearly_full()
    with pytest.raises(StorageFull, match=r"disk has no room.*`tintype doctor`"):
        write(folder)
    kept = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink() and path.suffix != ".db"]
    assert sum(path.stat().st_size for path in kept) < 1000, kept


def test_parts_that_do_not_fit_as_one_file_stay_parts(tmp_path: Path, nearly_full: Callable[[], None]) -> None:
    uploads = Uploads(tmp_path, max_bytes=10**9)
    upload = uploads.begin(file_name="a", content_type="", key_id="k")
    etag = anyio.run(uploads.receive_part, upload, 1, large(), counted)
    nearly_full()
    with pytest.raises(StorageFull):
        uploads.assemble(upload, {1: etag})
    assert not list(uploads.spool_folder.iterdir())
    assert [path.stat().st_size for path in (tmp_path / upload.id).glob("part-*")] == [len(LARGE)]


@pytest.mark.slow
def test_the_command_line_says_so_in_a_sentence_and_an_earlier_lora_stays(tmp_path: Path) -> None:
    """A real process, which the operating system lets write no file of more than 300 kB."""
    Image.new("RGB", (700, 700)).save(tmp_path / "a.png")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "lora.safetensors").write_bytes(b"earlier")
    ended = subprocess.run(
        [sys.executable, "-m", "tintype", "train", ".", "--steps", "1"],
        cwd=tmp_path,
        env=os.environ | {"TINTYPE_DEVICE": "cpu"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("error The disk is full, or takes no file of this size."), ended.stderr
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "lora" / "lora.safetensors").read_bytes() == b"earlier"
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 1_000_000
