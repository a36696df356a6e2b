"""A custom model's row and its training's row never tell different stories, on any database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from tintype.catalog.custom_models import ModelStatus
from tintype.errors import BadRequest, Cancelled, InputError, InternalError, LeaseLost
from tintype.store import Claim, CustomModel, Ending, NewModel, NewRequest, Request, Status, Store, StoredFile

pytestmark = pytest.mark.anyio

LORA = {"url": "tintype:files/l/lora.safetensors", "file_name": "lora.safetensors"}
OUTPUT = {"model_id": "x", "diffusers_lora_file": LORA, "config_file": {"url": "tintype:files/c/config.json"}}
FILES = [StoredFile("l", "lora.safetensors", "x/y", 1, 1.0), StoredFile("c", "config.json", "x/y", 1, 1.0)]


async def train(store: Store, name: str | None = "My own style", **given: Any) -> Request:
    fields: dict[str, Any] = {"endpoint_id": "t", "kind": "training", "input": {}} | given
    request, is_new = await store.requests.submit(NewRequest(**fields, makes_model=NewModel(name)))
    assert is_new
    return request


async def model_of(store: Store, request: Request) -> CustomModel:
    assert request.model_id is not None
    model = await store.models.find(request.model_id)
    assert model is not None
    return model


async def claimed(store: Store, lane: Any = "training") -> Claim:
    claim = await store.leases.claim("w", lane)
    assert claim is not None
    return claim


async def trained(store: Store, **given: Any) -> CustomModel:
    request = await train(store, **given)
    await store.leases.complete(await claimed(store), OUTPUT, FILES)
    return await model_of(store, request)


# --- a model's life ---------------------------------------------------------------------------------------------


async def test_a_model_is_there_with_its_request_and_completed_with_its_result(store: Store, clock: Any) -> None:
    request = await train(store, key_id="k")
    model = await model_of(store, request)
    assert (model.status, model.name, model.request_id, model.key_id) == ("CREATING", "My own style", request.id, "k")
    assert (model.uri, model.files, model.created_at) == ("model/my-own-style/version/1", {}, clock.now)
    claim = await claimed(store)
    assert claim.model == await model_of(store, request)
    assert claim.model is not None
    assert claim.model.status is ModelStatus.TRAINING
    clock.advance(9)
    await store.leases.complete(claim, OUTPUT, FILES)
    model = await model_of(store, request)
    assert (model.status, model.ended_at) == (ModelStatus.COMPLETED, clock.now)
    assert model.files == {"diffusers_lora_file": LORA, "config_file": OUTPUT["config_file"]}
    assert model.reference.usable_lora() == LORA["url"]


@pytest.mark.parametrize("ending", [Ending.DIED, Ending.KILLED])
async def test_a_worker_that_is_killed_leaves_the_model_training(store: Store, ending: Ending) -> None:
    request = await train(store)
    again = await store.leases.release(await claimed(store), ending, "killed")
    assert again.status is Status.IN_QUEUE
    assert (await model_of(store, request)).status is ModelStatus.TRAINING
    assert (await claimed(store)).attempt == 2
    assert (await model_of(store, request)).status is ModelStatus.TRAINING


async def test_a_lease_that_runs_out_leaves_the_model_training(store: Store, clock: Any) -> None:
    request = await train(store)
    await claimed(store)
    clock.advance(31)
    assert await store.leases.reap() == 1
    assert (await model_of(store, request)).status is ModelStatus.TRAINING


async def test_a_training_that_fails_leaves_the_model_errored_with_the_reason(store: Store) -> None:
    request = await train(store)
    await store.leases.fail(await claimed(store), InternalError("It broke.").failure())
    model = await model_of(store, request)
    assert (model.status, model.reason) == (ModelStatus.ERRORED, "It broke.")
    with pytest.raises(InputError, match="'My own style' is ERRORED, not COMPLETED: It broke"):
        model.reference.usable_lora()


async def test_three_deaths_leave_the_model_errored(store: Store) -> None:
    request = await train(store)
    for _ in range(3):
        await store.leases.release(await claimed(store), Ending.DIED, "signal 9")
    model = await model_of(store, request)
    assert model.status is ModelStatus.ERRORED
    assert "signal 9" in model.reason


@pytest.mark.parametrize("running", [False, True])
async def test_a_cancelled_training_leaves_the_model_errored(store: Store, running: bool) -> None:
    request = await train(store)
    if running:
        claim = await claimed(store)
        await store.requests.cancel(request.id)
        assert (await model_of(store, request)).status is ModelStatus.TRAINING
        await store.leases.fail(claim, Cancelled().failure())
    else:
        await store.requests.cancel(request.id)
    model = await model_of(store, request)
    assert (model.status, model.reason) == (ModelStatus.ERRORED, "Its training was cancelled.")


async def test_a_retry_brings_the_model_back(store: Store) -> None:
    request = await train(store)
    await store.requests.cancel(request.id)
    await store.requests.retry(request.id)
    model = await model_of(store, request)
    assert (model.status, model.reason, model.ended_at) == (ModelStatus.CREATING, "", None)
    await store.leases.complete(await claimed(store), OUTPUT, FILES)
    assert (await model_of(store, request)).status is ModelStatus.COMPLETED


async def test_a_worker_that_lost_its_lease_cannot_complete_the_model(store: Store) -> None:
    request = await train(store)
    stale = await claimed(store)
    await store.leases.release(stale, Ending.KILLED, "thought dead")
    await claimed(store)
    with pytest.raises(LeaseLost):
        await store.leases.complete(stale, OUTPUT, FILES)
    assert (await model_of(store, request)).status is ModelStatus.TRAINING


async def test_a_result_that_cannot_be_kept_completes_no_model(store: Store) -> None:
    request = await train(store)
    claim = await claimed(store)
    with pytest.raises(sa.exc.IntegrityError):
        await store.leases.complete(claim, OUTPUT, [FILES[0], FILES[0]])
    assert (await model_of(store, request)).status is ModelStatus.TRAINING
    assert (await model_of(store, request)).files == {}


async def test_the_files_of_a_model_outlive_what_its_request_said_of_them(store: Store, clock: Any) -> None:
    await trained(store, file_lifetime=5.0)
    clock.advance(60)
    assert await store.files.find("l") is not None


async def test_a_resent_training_makes_one_model(store: Store) -> None:
    request = await train(store, coalesce_key="same", idempotency_key="i", key_id="k")
    new = NewRequest("t", "training", {}, key_id="k", coalesce_key="same", makes_model=NewModel("My own style"))
    again, is_new = await store.requests.submit(new)
    assert (again.id, again.model_id, is_new) == (request.id, request.model_id, False)
    assert len(await store.models.list()) == 1


async def test_requests_without_models_have_none(store: Store, submit: Any) -> None:
    request = await submit()
    claim = await claimed(store)
    assert (request.model_id, claim.model) == (None, None)
    await store.leases.complete(claim, OUTPUT, FILES)
    assert await store.models.list() == []


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("My own style", "my-own-style"),
        ("  Crème -- Brûlée!", "creme-brulee"),
        ("我的自己风格", "model"),
        ("-----", "model"),
    ],
)
async def test_the_uri_is_made_of_the_name(store: Store, name: str, slug: str) -> None:
    assert (await model_of(store, await train(store, name))).uri == f"model/{slug}/version/1"


async def test_a_model_without_a_name_has_one_from_its_request(store: Store) -> None:
    request = await train(store, None)
    model = await model_of(store, request)
    assert model.name == f"model-{request.id[:8]}"
    assert model.slug == model.name


async def test_versions_of_a_name_are_counted_even_when_they_come_at_once(store: Store) -> None:
    requests = await asyncio.gather(*(train(store, name) for name in ["My style", "my STYLE", "My style", "my-style"]))
    versions = [(await model_of(store, request)).uri for request in requests]
    assert sorted(versions) == [f"model/my-style/version/{number}" for number in (1, 2, 3, 4)]


async def test_renaming_changes_the_display_name_alone(store: Store) -> None:
    model = await trained(store)
    renamed = await store.models.rename(model.id, "Another name")
    assert renamed is not None
    assert (renamed.name, renamed.uri, renamed.status) == ("Another name", model.uri, model.status)
    assert await store.models.find(model.id) == renamed
    assert await store.models.rename("nobody", "Another name") is None
    assert await store.models.rename("a\0", "Another name") is None


# --- archived and deleted ---------------------------------------------------------------------------------------


async def test_an_archived_model_is_hidden_unusable_and_keeps_its_files(store: Store) -> None:
    model = await trained(store)
    archived = await store.models.archive(model.id)
    assert archived is not None
    assert (archived.status, archived.files) == (ModelStatus.ARCHIVED, model.files)
    assert await store.models.list() == []
    assert await store.models.list(status=ModelStatus.ARCHIVED) == [archived]
    assert await store.files.find("l") is not None
    with pytest.raises(InputError, match="ARCHIVED"):
        archived.reference.usable_lora()
    assert await store.models.archive("nobody") is None


async def test_a_deleted_model_answers_archived_and_its_files_are_gone(store: Store, clock: Any) -> None:
    model = await trained(store)
    clock.advance(5)
    deleted = await store.models.delete(model.id)
    assert deleted is not None
    gone, files = deleted
    assert (gone.status, gone.files, gone.deleted_at) == (ModelStatus.ARCHIVED, {}, clock.now)
    assert {file.id for file in files} == {"l", "c"}
    assert await store.models.find(model.id) == gone
    assert await store.models.list(status=ModelStatus.ARCHIVED) == []
    assert await store.files.find("l") is None
    assert {file.id for file in await store.files.expired()} == {"l", "c"}
    assert await store.models.rename(model.id, "Another name") is None
    clock.advance(5)
    again = await store.models.delete(model.id)
    assert again is not None
    assert again[0] == gone


async def test_a_deleted_model_does_not_come_back_by_a_retry(store: Store) -> None:
    request = await train(store)
    await store.requests.cancel(request.id)
    assert await store.models.delete(request.model_id or "") is not None
    await store.requests.retry(request.id)
    await store.leases.complete(await claimed(store), OUTPUT, FILES)
    model = await model_of(store, request)
    assert (model.status, model.files) == (ModelStatus.ARCHIVED, {})


@pytest.mark.parametrize("running", [False, True])
async def test_a_model_in_training_is_neither_archived_nor_deleted(store: Store, running: bool) -> None:
    request = await train(store)
    if running:
        await claimed(store)
    for end in (store.models.archive, store.models.delete):
        with pytest.raises(BadRequest, match=request.id):
            await end(request.model_id or "")


# --- drawing with one, and who sees which -------------------------------------------------------------------------


async def test_a_drawing_request_is_claimed_with_its_model_as_it_stands_then(store: Store) -> None:
    model = await trained(store)
    request, _ = await store.requests.submit(NewRequest("d", "inference", {}, model_id=model.id))
    assert request.model_id == model.id
    await store.models.archive(model.id)
    claim = await claimed(store, "inference")
    assert claim.model is not None
    assert claim.model.status is ModelStatus.ARCHIVED
    await store.leases.complete(claim, {"seed": 1}, [])
    assert await store.models.find(model.id) == claim.model  # only a training changes its model


async def test_an_owner_sees_the_models_of_every_key_of_that_name_and_those_of_nobody(store: Store, clock: Any) -> None:
    ours, successor, other = [(await store.keys.create(name))[0] for name in ("laptop", "laptop", "phone")]
    mine = await model_of(store, await train(store, key_id=ours.id))
    clock.advance(1)
    open_to_all = await model_of(store, await train(store, "Everybody's"))
    for key in (ours, successor):
        assert await store.models.list(owner=key.owner) == [open_to_all, mine]
        assert await store.models.find(mine.id, owner=key.owner) == mine
    assert await store.models.list(owner=other.owner) == [open_to_all]
    assert await store.models.find(mine.id, owner=other.owner) is None
    assert await store.models.rename(mine.id, "Another name", owner=other.owner) is None
    assert await store.models.archive(mine.id, owner=other.owner) is None  # and does not hear that it is being trained
    assert await store.models.delete(mine.id, owner=other.owner) is None
    assert await store.models.find(mine.id) == mine


async def test_the_list_is_newest_first_and_goes_on_where_it_stopped(store: Store, clock: Any) -> None:
    made = []
    for number in range(3):
        made.append((await train(store, f"Style {number}")).model_id)
        clock.advance(1)
    first = await store.models.list(limit=2)
    assert [model.id for model in first] == made[:0:-1]
    assert [model.id for model in await store.models.list(before=first[-1].created_at)] == made[:1]
    assert await store.models.list(status=ModelStatus.COMPLETED) == []
