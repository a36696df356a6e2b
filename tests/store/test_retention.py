"""What is not to be kept goes, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from tintype.errors import BadRequest, InternalError
from tintype.store import LogLine, NewModel, NewRequest, Outcome, Status, Store, StoredFile
from tintype.store.requests import FETCHING_SECONDS

pytestmark = pytest.mark.anyio


async def ended(store: Store, *, fails: bool, store_io: bool) -> str:
    request, _ = await store.requests.submit(NewRequest("a/b", "training", {"prompt": "secret"}, store_io=store_io))
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    assert claim.request.input == {"prompt": "secret"}
    lines = [LogLine(0, 1.0, "INFO", "a secret prompt")]
    if fails:
        await store.leases.fail(claim, InternalError("It failed.").failure(), logs=lines)
    else:
        await store.leases.complete(claim, {"picture": "secret"}, [], logs=lines)
    return request.id


@pytest.mark.parametrize("fails", [False, True])
async def test_a_result_that_is_not_to_be_kept_goes_after_an_hour_and_its_input_at_once(
    store: Store, clock: Any, fails: bool
) -> None:
    kept = await ended(store, fails=fails, store_io=True)
    secret = await ended(store, fails=fails, store_io=False)
    clock.advance(FETCHING_SECONDS - 1)
    assert await store.requests.erase_unstored() == 0
    request = await store.requests.get(secret)
    assert request is not None
    assert request.input == {}
    assert (request.failure is None) != fails
    clock.advance(2)
    assert await store.requests.erase_unstored() == 1
    assert await store.requests.erase_unstored() == 0
    request = await store.requests.get(secret)
    assert request is not None
    assert request.is_erased
    assert (request.status, request.outcome) == (Status.COMPLETED, Outcome.FAILED if fails else Outcome.OK)
    assert await store.requests.logs(secret) == []
    other = await store.requests.get(kept)
    assert other is not None
    assert (other.input, other.is_erased) == ({"prompt": "secret"}, False)
    assert len(await store.requests.logs(kept)) == 1


async def test_files_made_from_its_body_expire_with_it_and_those_of_others_stay(store: Store, clock: Any) -> None:
    mine, uploaded = (StoredFile(name, "a.zip", "application/zip", 1, clock.now) for name in ("mine", "uploaded"))
    for file in (mine, uploaded):
        await store.files.add(file)
    clock.advance(1)
    new = NewRequest("a/b", "training", {}, store_io=False, file_ids=("mine",))
    request, _ = await store.requests.submit(new)
    assert [file.id for file in await store.files.of_request(request.id)] == ["mine"]
    clock.advance(1)
    assert await store.files.find("mine") is not None
    await store.requests.cancel(request.id)
    assert await store.files.find("mine") is None
    assert await store.files.find("uploaded") == uploaded


async def test_what_was_not_kept_cannot_be_tried_again(store: Store) -> None:
    request_id = await ended(store, fails=True, store_io=False)
    with pytest.raises(BadRequest, match="Send it again"):
        await store.requests.retry(request_id)


async def test_old_requests_are_erased_with_their_files_but_not_those_of_custom_models(
    store: Store, clock: Any
) -> None:
    old = await ended(store, fails=False, store_io=True)
    model, _ = await store.requests.submit(
        NewRequest("a/b", "training", {"name": "kept"}, makes_model=NewModel("A good model"))
    )
    claim = await store.leases.claim("w", "training")
    assert claim is not None
    lora = StoredFile("lora", "a.safetensors", "x/y", 1, clock.now)
    await store.leases.complete(claim, {"lora": "kept"}, [lora])
    await store.files.add(StoredFile("picture", "a.png", "image/png", 1, clock.now, request_id=old))
    clock.advance(100)
    fresh = await ended(store, fails=True, store_io=True)
    assert await store.requests.erase_old(50) == 1
    assert await store.requests.erase_old(50) == 0
    requests = {request.id: request for request in await store.requests.list()}
    assert [requests[request_id].is_erased for request_id in (old, model.id, fresh)] == [True, False, False]
    assert [file.id for file in await store.files.expired()] == ["picture"]
