"""Two real children, with real miniatures, on a device that holds what one of them needs: every order of work ends
well.

The device counts by itself what both children have on it (tests/support/fake_device.py), and runs out of memory.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.support.images import archive_of, blots
from tests.support.processes import SupervisorProcess, supervision

from tintype.files import Objects, internal_url, new_file_id
from tintype.settings import load_settings
from tintype.store import NewRequest, Outcome, Request, StoredFile
from tintype.store.records import Ending

pytestmark = [pytest.mark.anyio, pytest.mark.long]  # two processes that import torch

BUDGET = 36_000_000  # bytes: 31 MB to generate, 22 to 38 for steps; what is loaded alone takes 15
TRAINING, GENERATING = "fal-ai/flux-lora-portrait-trainer", "fal-ai/flux-lora"
WELL = {Ending.OK, Ending.WAITED}  # of attempts: none died, none ran out of memory


class Device:
    """A supervisor of the fake device, and what is asked of it."""

    def __init__(self, running: SupervisorProcess, account: Path, photos: str) -> None:
        self.running, self.account, self.photos = running, account, photos

    async def train(self, steps: int = 6) -> str:
        return await self._submit(
            TRAINING, "training", images_data_url=self.photos, steps=steps, rank=1, trigger_phrase="TOK",
            multiresolution_training=False, subject_crop=False, checkpoint="last",
        )  # fmt: skip

    async def generate(self, lora: str = "") -> str:
        loras = [{"path": lora}] if lora else []
        return await self._submit(GENERATING, "inference", prompt="TOK", num_inference_steps=1, seed=1, loras=loras)

    async def _submit(self, endpoint_id: str, kind: Literal["training", "inference"], **input: Any) -> str:
        new = NewRequest(endpoint_id, kind, input, origin="http://here:1")
        return (await self.running.store.requests.submit(new))[0].id

    async def ended_well(self, request_id: str) -> Request:
        request = await self.running.finished(request_id)
        assert request.outcome is Outcome.OK, (request.failure, await self.running.messages(request_id))
        assert {attempt.ending for attempt in await self.attempts(request_id)} <= WELL
        return request

    async def attempts(self, request_id: str) -> list[Any]:
        return await self.running.store.requests.attempts(request_id)

    def lora(self, trained: Request) -> tuple[Any, bytes]:
        """What its file says, whose entries are written in any order, and all its tensors' bytes."""
        content = self.content(trained.output["diffusers_lora_file"]["url"])  # type: ignore[index]
        ends = 8 + int.from_bytes(content[:8], "little")
        return json.loads(content[8:ends]), content[ends:]

    def content(self, url: str) -> bytes:
        key = url.removeprefix("tintype:files/")
        return (Path(self.running.settings.storage_url) / key).read_bytes()


@asynccontextmanager
async def device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Literal["wait", "pause"], budget: int = BUDGET
) -> AsyncIterator[Device]:
    account = tmp_path / "account"
    monkeypatch.setenv("FAKE_DEVICE", str(account))
    settings = load_settings(
        data_dir=tmp_path / "data", device="cpu", flux_base="miniature", heartbeat_seconds=1.0,
        device_memory_bytes=budget, draw_while_training=mode,
    )  # fmt: skip
    async with supervision(settings) as running:
        objects, photos = Objects.open(settings.storage_url), archive_of({f"{n}.png": blots(n) for n in range(2)})
        stored = StoredFile(new_file_id(), "photos.zip", "application/zip", len(photos), time.time())
        objects.put_bytes(stored.key, photos)
        await running.store.files.add(stored)
        running.start("tests.support.fake_device:ENDPOINTS")
        yield Device(running, account, internal_url(stored.id, "photos.zip"))
        assert json.loads(account.read_text())["fullest"] <= budget


async def test_every_order_of_work_ends_well_and_a_paused_training_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with device(tmp_path, monkeypatch, "pause") as on:
        # Train, then generate with the LoRA; the training's models are still there.
        alone = await on.ended_well(await on.train())
        url = alone.output["diffusers_lora_file"]["url"]  # type: ignore[index]
        picture = await on.ended_well(await on.generate(url))
        # Generate while a training runs, which stops for it; nor does what was generated before hinder the training.
        training = await on.train()
        await on.running.at_step(training, 1)
        again = await on.ended_well(await on.generate(url))
        paused = await on.ended_well(training)
        assert [attempt.ending for attempt in await on.attempts(training)].count(Ending.WAITED) >= 1
        assert on.lora(paused) == on.lora(alone)
        first, second = (on.content(one.output["images"][0]["url"]) for one in (picture, again))  # type: ignore[index]
        assert first == second
        # Generate with what is resident, train beside it, all at once.
        wanted = [await on.generate(), await on.train(2), await on.generate(url)]
        await asyncio.gather(*map(on.ended_well, wanted))


@pytest.mark.parametrize("mode", ["wait", "pause"])
async def test_thirty_random_interleavings_end_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Literal["wait", "pause"]
) -> None:
    async with device(tmp_path, monkeypatch, mode) as on:
        alone = on.lora(await on.ended_well(await on.train()))
        for seed in range(15):
            chance = random.Random(seed)
            trainings: list[str] = []
            images: list[str] = []
            for kind in chance.sample(["train", "train", "generate", "generate", "generate"], k=4):
                (trainings if kind == "train" else images).append(await getattr(on, kind)())
                await asyncio.sleep(chance.choice([0.0, 0.2, 1.0, 3.0]))
            ended = [await on.ended_well(one) for one in (*images, *trainings)]
            assert all(on.lora(training) == alone for training in ended[len(images) :])
