from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tintype.cli import app
from tintype.cli.data import with_store
from tintype.files import Objects
from tintype.settings import Settings
from tintype.store import NewRequest, Store, StoredFile


def gc(data_dir: Path, *arguments: str) -> dict[str, int]:
    done = CliRunner().invoke(app, ["gc", "--data-dir", str(data_dir), *arguments])
    assert done.exit_code == 0, done.output
    lines = [line.split(maxsplit=1) for line in done.output.splitlines()]
    return {what: int(count) for count, what in lines}


@pytest.fixture
def request_id(tmp_path: Path) -> str:
    """Of a request with a result and a file, in an installation that also has things nobody can use."""

    async def work(store: Store, settings: Settings) -> str:
        objects = Objects.open(settings.storage_url)
        request, _ = await store.requests.submit(NewRequest("a/b", "inference", {"prompt": "x"}))
        claim = await store.leases.claim("w", "inference")
        assert claim is not None
        picture = StoredFile("p" * 32, "a.png", "image/png", 1, time.time())
        gone = StoredFile("g" * 32, "b.png", "image/png", 1, time.time(), expires_at=time.time() - 1)
        for file in (picture, gone):
            objects.put_bytes(file.key, b"x")
        await store.files.add(gone)
        await store.leases.complete(claim, {"seed": 1}, [picture])
        objects.put_bytes(f"{'o' * 32}/orphan.png", b"x")
        os.utime(settings.data_dir / "files" / ("o" * 32) / "orphan.png", (0, 0))
        (settings.work_dir / request.id).mkdir(parents=True)
        settings.quantised_dir.mkdir()
        (settings.quantised_dir / "of-weights-that-are-gone.safetensors").touch()
        return request.id

    return with_store(tmp_path, work)


def test_what_nobody_can_use_goes_and_results_stay(tmp_path: Path, request_id: str) -> None:
    removed = gc(tmp_path)
    assert removed == {
        "results that were not to be kept": 0, "expired files": 1, "unfinished uploads": 0,
        "work folders of ended requests": 1, "rounded weights that nobody reads": 1, "files that nothing speaks of": 1,
    }  # fmt: skip
    assert [path.name for path in (tmp_path / "files").glob("*/*.png")] == ["a.png"]
    assert set(gc(tmp_path).values()) == {0}


def test_old_requests_go_when_that_is_asked_for(tmp_path: Path, request_id: str) -> None:
    assert gc(tmp_path, "--older-than", "1")["old requests"] == 0
    assert gc(tmp_path, "--older-than", "0")["old requests"] == 1
    assert not list((tmp_path / "files").glob("*/*.png"))
    assert with_store(tmp_path, lambda store, _: store.requests.get(request_id)).is_erased
