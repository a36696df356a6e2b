"""A database that the version before wrote: today's store opens it, finds everything, and goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.previous_version import PreviousVersion, unpacked

from tintype.catalog.custom_models import ModelStatus
from tintype.files import Objects, own_file
from tintype.settings import Settings
from tintype.store import DeliveryState, Outcome, Status, Store
from tintype.store.database import stored_version
from tintype.store.schema import SCHEMA_VERSION
from tintype.store.usage import Which

pytestmark = pytest.mark.anyio


@pytest.fixture
def before(tmp_path: Path) -> PreviousVersion:
    return unpacked(tmp_path)


@pytest.fixture
async def opened(before: PreviousVersion) -> AsyncIterator[Store]:
    store = await Store.open(Settings(data_dir=before.data_dir).database_url)
    yield store
    await store.close()


async def test_its_schema_is_brought_up_to_date(opened: Store) -> None:
    async with opened._database._read() as connection:
        assert await connection.run_sync(stored_version) == SCHEMA_VERSION


async def test_its_keys_open_and_have_their_owners(opened: Store, before: PreviousVersion) -> None:
    ada, ada2, bob = [await opened.keys.check(before.keys[name]) for name in ("ada", "ada2", "bob")]
    assert ada is not None
    assert ada2 is not None
    assert bob is not None
    assert ada.owner == ada2.owner != bob.owner
    assert await opened.keys.check(before.keys["gone"]) is None
    first = await opened.keys.check((before.data_dir / "key").read_text().strip())
    assert first is not None
    request = await opened.requests.get(before.ids["training"])
    assert request is not None
    assert [await opened.keys.owns(key.owner, request.key_id) for key in (ada, ada2, bob)] == [True, True, False]


async def test_its_requests_have_the_kinds_of_today(opened: Store) -> None:
    kinds = [request.kind for request in await opened.requests.list()]
    assert sorted(kinds) == ["inference", "inference", "training", "training", "training"]


async def test_its_requests_count_with_what_they_took(opened: Store) -> None:
    ended = [request for request in await opened.requests.list() if request.status is Status.COMPLETED]
    assert ended
    for request in ended:
        attempts = await opened.requests.attempts(request.id)
        took = sum((attempt.ended_at or attempt.started_at) - attempt.started_at for attempt in attempts)
        assert request.device_seconds == pytest.approx(took)
        assert (request.status_code == 200) is (request.outcome is Outcome.OK)
    sums = await opened.usage.sums([(0.0, max(request.ended_at or 0.0 for request in ended) + 1)], Which())
    assert sum(line.requests for line in sums) == len(ended)


async def test_its_first_key_administers(opened: Store, before: PreviousVersion) -> None:
    first = await opened.keys.check((before.data_dir / "key").read_text().strip())
    ada = await opened.keys.check(before.keys["ada"])
    assert [await opened.keys.is_admin(key.id) for key in (first, ada) if key is not None] == [True, False]


async def test_its_requests_are_as_they_were(opened: Store, before: PreviousVersion) -> None:
    found = {name: await opened.requests.get(request_id) for name, request_id in before.ids.items()}
    assert {name: request and request.outcome for name, request in found.items()} == {
        "training": Outcome.OK,
        "drawing": Outcome.OK,
        "failed": Outcome.FAILED,
        "queued_drawing": None,
        "queued_training": None,
    }
    training, drawing, failed = found["training"], found["drawing"], found["failed"]
    assert training is not None
    assert drawing is not None
    assert failed is not None
    assert training.output is not None
    assert set(training.output) >= {"diffusers_lora_file", "config_file", "model_id", "custom_model_uri"}
    lines = await opened.requests.logs(training.id)
    assert [line.number for line in lines] == list(range(len(lines)))
    assert any("step" in line.message for line in lines)
    assert [attempt.ending for attempt in await opened.requests.attempts(training.id)] == ["ok"]
    assert drawing.output is not None
    assert drawing.output["seed"] == 3
    assert failed.failure is not None
    assert failed.failure.status == 422


async def test_its_files_are_there(opened: Store, before: PreviousVersion) -> None:
    objects = Objects.open(str(before.data_dir / "files"))
    named = own_file(before.upload, lambda host: True)
    assert named is not None
    upload = await opened.files.find(named[0])
    assert upload is not None
    assert objects.size(upload.key) == upload.size
    [picture] = await opened.files.of_request(before.ids["drawing"])
    assert objects.size(picture.key) == picture.size


async def test_its_model_is_its_owners(opened: Store, before: PreviousVersion) -> None:
    ada, bob = [await opened.keys.check(before.keys[name]) for name in ("ada2", "bob")]
    assert ada is not None
    assert bob is not None
    [model] = await opened.models.list(owner=ada.owner)
    assert (model.id, model.name, model.status) == (before.model_id, "My own style", ModelStatus.COMPLETED)
    assert model.uri == "model/my-own-style/version/1"
    assert await opened.models.list(owner=bob.owner) == []


async def test_its_webhooks_wait_and_are_signed_as_before(opened: Store, before: PreviousVersion) -> None:
    [done] = await opened.webhooks.list(before.ids["training"])
    [waiting] = await opened.webhooks.list(before.ids["failed"])
    assert (done.state, waiting.state, waiting.tries) == (DeliveryState.DELIVERED, DeliveryState.WAITING, 1)
    hurried = await opened.webhooks.replay(before.ids["failed"])
    assert hurried.id == waiting.id
    [claimed] = await opened.webhooks.claim(9)
    assert claimed.id == waiting.id
    assert claimed.message is not None
    await opened.webhooks.delivered(claimed, "Answered 200.")
    assert len(await opened.webhooks.signing_keys()) == 1


@pytest.mark.parametrize("name", ["queued_drawing", "queued_training"])
async def test_what_waited_is_claimed_and_completed(opened: Store, before: PreviousVersion, name: str) -> None:
    waiting = await opened.requests.get(before.ids[name])
    assert waiting is not None
    assert await opened.requests.position(waiting) == 0
    claim = await opened.leases.claim("worker", waiting.kind)
    assert claim is not None
    assert claim.request.id == waiting.id
    assert claim.request.input["seed" if name == "queued_drawing" else "steps"] in (4, 5)
    await opened.leases.heartbeat(claim, step=1, total=2)
    await opened.leases.complete(claim, {"done": True}, [])
    done = await opened.requests.get(waiting.id)
    assert done is not None
    assert (done.status, done.outcome, done.output) == (Status.COMPLETED, Outcome.OK, {"done": True})
