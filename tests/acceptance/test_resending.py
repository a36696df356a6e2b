"""An answer that is lost on its way must not cost a second training: the clients send again by themselves."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fal_client
import pytest

from tests.support.javascript import node
from tests.support.server import Server
from tests.support.wiretap import Wiretap

pytestmark = [
    pytest.mark.usefixtures("swept"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TRAINER = "fal-ai/flux-lora-portrait-trainer"
PAINTER = "fal-ai/flux-lora"
DRAWING = {"prompt": "a portrait of a person", "num_inference_steps": 1, "image_size": "square"}


@pytest.fixture
def long_training(client: fal_client.SyncClient, photos: Path) -> dict[str, Any]:
    return {"images_data_url": client.upload_file(photos), "steps": 10_000, "trigger_phrase": str(uuid.uuid4())}


def submitted(tap: Wiretap, endpoint: str) -> list[str]:
    """The ids that were answered, also those that their client never heard of."""
    return [heard.request_id for heard in tap.heard if heard.line.startswith(f"POST /queue/{endpoint}")]


def test_a_training_whose_answer_was_lost_is_still_one(
    client: fal_client.SyncClient, tap: Wiretap, long_training: dict[str, Any]
) -> None:
    tap.losing = 1
    handle = client.submit(TRAINER, long_training)
    handle.cancel()
    assert submitted(tap, TRAINER) == [handle.request_id] * 2


def test_in_javascript_too(tap: Wiretap, server: Server, long_training: dict[str, Any]) -> None:
    tap.losing = 1
    photos_url = long_training["images_data_url"]
    seen = node("resending", TINTYPE_ORIGIN=tap.origin, FAL_KEY=server.key, PHOTOS=photos_url)
    assert submitted(tap, TRAINER) == [seen["training"]["value"]["request_id"]] * 2


def test_a_drawing_is_one_only_with_an_idempotency_key(client: fal_client.SyncClient, tap: Wiretap) -> None:
    tap.losing = 1
    handle = client.submit(PAINTER, DRAWING)
    first, second = submitted(tap, PAINTER)
    assert second == handle.request_id != first

    tap.heard.clear()
    tap.losing = 1
    handle = client.submit(PAINTER, DRAWING, headers={"Idempotency-Key": str(uuid.uuid4())})
    assert submitted(tap, PAINTER) == [handle.request_id] * 2


def test_sent_at_the_same_moment_trainings_are_one_and_drawings_several(
    client: fal_client.SyncClient, server: Server, long_training: dict[str, Any]
) -> None:
    def ids(endpoint: str, arguments: dict[str, Any]) -> set[str]:
        with ThreadPoolExecutor(4) as threads:
            sent = [threads.submit(client.submit, endpoint, arguments) for _ in range(4)]
            return {each.result().request_id for each in sent}

    (training,) = ids(TRAINER, long_training)
    client.cancel(TRAINER, training)
    assert len(ids(PAINTER, DRAWING)) == 4
