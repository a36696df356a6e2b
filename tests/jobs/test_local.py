"""A job's world in a folder."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tintype.errors import Cancelled, FileDownloadError, about_input
from tintype.jobs.local import LocalContext
from tintype.settings import load_settings


@pytest.fixture
def context(tmp_path: Path) -> LocalContext:
    return LocalContext(tmp_path / "run", load_settings())


def test_only_files_that_were_offered_are_fetched(context: LocalContext, tmp_path: Path) -> None:
    (tmp_path / "photos.zip").write_bytes(b"PK")
    assert context.fetch(context.offer(tmp_path / "photos.zip")).read_bytes() == b"PK"
    for url in ("tintype:files/local/9/photos.zip", "http://127.0.0.1:9/x"):
        with pytest.raises(FileDownloadError) as caught, about_input("x"):
            context.fetch(url)
        assert caught.value.details[0]["loc"] == ["body", "x"]


def test_data_uris_are_fetched(context: LocalContext) -> None:
    url = f"data:text/plain;base64,{base64.b64encode(b'hello').decode()}"
    assert context.fetch(url).read_bytes() == b"hello"


def test_what_is_published_lies_in_the_output_folder(context: LocalContext) -> None:
    made = context.scratch / "a.bin"
    made.write_bytes(b"123")
    file = context.publish(made, "application/octet-stream", "named.bin")
    assert (context.output / "named.bin").read_bytes() == b"123"
    assert (file.file_name, file.file_size) == ("named.bin", 3)
    assert file.url.startswith("file://")


def test_checkpoints_outlive_the_context(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        (folder / "x").write_text("1")

    LocalContext(tmp_path, load_settings()).checkpoint.save(4, write)
    kept = LocalContext(tmp_path, load_settings()).checkpoint.latest()
    assert kept is not None
    assert (kept.step, (kept.path / "x").read_text()) == (4, "1")


def test_a_cancelled_job_hears_of_it(context: LocalContext) -> None:
    context.raise_if_cancelled()
    context.cancelled = True
    with pytest.raises(Cancelled):
        context.raise_if_cancelled()
