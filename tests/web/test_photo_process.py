"""The process that looks at photos: it may die, and is there again for the next one."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from pathlib import Path

import pytest
from tests.support.images import blots

from tintype.errors import BadRequest, InputError
from tintype.web import photo_process
from tintype.web.photo_process import PhotoProcess

pytestmark = pytest.mark.anyio


async def test_a_process_that_dies_costs_one_piece_of_work_and_one_that_idles_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(blots(1, (64, 64)))
    bad.write_bytes(b"\xff\xd8\xff nothing")
    process = PhotoProcess()
    told = await process.ask("preview", path=str(good), name="good.png", side=64)
    assert base64.b64decode(told["jpeg"]).startswith(b"\xff\xd8")
    with pytest.raises(InputError, match=r"bad\.jpg is damaged") as refused:
        await process.ask("preview", path=str(bad), name="bad.jpg", side=64)
    assert refused.value.details[0]["type"] == "image_load_error"
    first = process._process
    assert first is not None
    os.kill(first.pid, signal.SIGSTOP)
    asked = asyncio.create_task(process.ask("preview", path=str(good), name="good.png", side=64))
    await asyncio.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(BadRequest, match="could not be looked at"):
        await asked
    monkeypatch.setattr(photo_process, "_IDLE_SECONDS", 0.01)
    assert await process.ask("preview", path=str(good), name="good.png", side=64) == told
    second = process._process
    if second is not None:  # it may have idled long enough already
        assert second.pid != first.pid
        assert await asyncio.wait_for(second.wait(), 30) == -signal.SIGKILL
    await process.close()
