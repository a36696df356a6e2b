from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import socket
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.web_server import WebServer
from tests.support.webhook_receiver import Receiver, is_genuine, receiving

from tintype.errors import BadRequest, InvalidArchive
from tintype.settings import Settings
from tintype.store import Store
from tintype.store.records import Delivery, DeliveryState, NewRequest, SigningKey
from tintype.web import webhook_sender
from tintype.web.services import Services
from tintype.web.webhook_sender import WebhookSender, body_of, check_receiver, headers_of, may_receive
from tintype.web.webhooks import key_set

DRAWER = "/queue/fal-ai/flux-lora"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def eager(start: Callable[..., WebServer], tmp_path: Path) -> WebServer:
    """A server that tries again soon."""
    return start(data_dir=tmp_path / "data", webhook_retry_seconds=0.05)


def submit(server: WebServer, url: str, prompt: str = "hooked") -> str:
    with server.client() as client:
        answer = client.post(DRAWER, json={"prompt": prompt}, params={"fal_webhook": url})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["request_id"])


def deliveries(server: WebServer, request_id: str, state: str) -> list[dict[str, Any]]:
    """The deliveries of a request once the newest has a state."""
    ends = time.monotonic() + 60
    with server.client() as client:
        while True:
            found: list[dict[str, Any]] = client.get(f"/v1/requests/{request_id}/webhooks").json()["items"]
            if found and found[0]["state"] == state:
                return found
            assert time.monotonic() < ends, found
            time.sleep(0.02)


def test_a_result_goes_out_signed_with_a_published_key(server: WebServer, receiver: Receiver) -> None:
    request_id = submit(server, receiver.url + "?for=me")
    [hook] = receiver.wait(1)
    assert hook.path == "/hook?for=me"
    assert list(hook.json) == ["request_id", "gateway_request_id", "status", "payload"]
    assert (hook.json["request_id"], hook.json["gateway_request_id"], hook.json["status"]) == (
        request_id, request_id, "OK",
    )  # fmt: skip
    with server.client() as client:
        keys = client.get("/rest/.well-known/jwks.json", headers={"Authorization": ""})
        assert client.get("/.well-known/jwks.json").json() == keys.json()
        assert hook.json["payload"] == client.get(f"/queue/a/b/requests/{request_id}").json()
        assert client.get(hook.json["payload"]["config_file"]["url"]).content == b"weights of hooked"
    assert is_genuine(hook.headers, hook.body, keys.json())
    assert abs(int(hook.headers["x-fal-webhook-timestamp"]) - time.time()) < 300
    assert deliveries(server, request_id, "delivered")[0]["answer"] == "Answered 200."


def test_a_failure_goes_out_as_one(server: WebServer, receiver: Receiver) -> None:
    submit(server, receiver.url, "fail")
    [hook] = receiver.wait(1)
    assert (hook.json["status"], hook.json["error"]) == ("ERROR", "Invalid status code: 422")
    assert hook.json["payload"]["detail"][0]["type"] == "invalid_archive"


def test_what_was_not_taken_in_is_sent_again_the_same(eager: WebServer, receiver: Receiver) -> None:
    receiver.answers = [500, 503, 404]
    request_id = submit(eager, receiver.url)
    hooks = receiver.wait(4)
    assert len({hook.body for hook in hooks}) == 1
    with eager.client() as client:
        keys = client.get("/.well-known/jwks.json").json()
    assert all(is_genuine(hook.headers, hook.body, keys) for hook in hooks)
    assert deliveries(eager, request_id, "delivered")[0]["tries"] == 4


def test_later_tries_have_more_time_than_the_first(
    eager: WebServer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_sender, "FIRST_TRY_SECONDS", 0.2)
    receiver.delay = 1.0
    [delivery] = deliveries(eager, submit(eager, receiver.url), "delivered")
    assert delivery["tries"] == 2


def test_a_receiver_finds_files_here_though_the_sender_came_by_fals_name(server: WebServer, receiver: Receiver) -> None:
    with server.client() as client:
        client.post(
            "/fal-ai/flux-lora", json={"prompt": "x"}, params={"fal_webhook": receiver.url},
            headers={"host": "queue.fal.run"},
        )  # fmt: skip
    [hook] = receiver.wait(1)
    here = f"http://{server.settings.host}:{server.settings.port}/cdn/"
    assert hook.json["payload"]["config_file"]["url"].startswith(here)


def test_a_redirect_is_not_followed(server: WebServer, receiver: Receiver) -> None:
    receiver.answers, receiver.location = [307], "/elsewhere"
    request_id = submit(server, receiver.url)
    [delivery] = deliveries(server, request_id, "given_up")
    assert "redirects are not followed" in delivery["answer"]
    assert [hook.path for hook in receiver.hooks] == ["/hook"]


def test_receivers_that_never_answer_delay_nobody(server: WebServer, receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        dead = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        waiting = [submit(server, dead) for _ in range(20)]
        for request_id in waiting:
            server.wait(request_id, "COMPLETED")
        submit(server, receiver.url)
        receiver.wait(1, seconds=12)  # less than the time that one of the others takes
        assert deliveries(server, waiting[-1], "waiting")


def test_a_replay_by_hand_says_the_same_again(server: WebServer, receiver: Receiver) -> None:
    request_id = submit(server, receiver.url)
    receiver.wait(1)
    deliveries(server, request_id, "delivered")
    with server.client() as client:
        assert client.post(f"/v1/requests/{request_id}/webhooks/replay").status_code == 202
        first, second = receiver.wait(2)
        assert first.body == second.body
        assert len(deliveries(server, request_id, "delivered")) == 2
        unhooked = client.post(DRAWER, json={"prompt": "plain"}).json()["request_id"]
        refused = client.post(f"/v1/requests/{unhooked}/webhooks/replay")
        assert (refused.status_code, refused.json()["status"]) == (404, "NOT_FOUND")
        assert client.get(f"/v1/requests/{uuid.uuid4()}/webhooks").status_code == 404


def test_a_private_receiver_is_refused_where_it_is_named(client: httpx.Client) -> None:
    answer = client.post(DRAWER, json={"prompt": "x"}, params={"fal_webhook": "http://10.1.2.3/"})
    assert answer.status_code == 400
    assert "TINTYPE_WEBHOOK_TARGETS" in answer.json()["detail"]


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["http://[bad", "http://h:99999/"])
async def test_a_url_that_no_longer_passes_for_one_ends_its_webhook_and_not_its_request(
    settings: Settings, store: Store, url: str
) -> None:
    request, _ = await store.requests.submit(NewRequest("fal-ai/flux-lora", "inference", {}, webhook_url=url))
    await store.requests.cancel(request.id)
    running = asyncio.create_task(WebhookSender(await Services.open(settings, store)).run())
    deadline = asyncio.get_running_loop().time() + 30
    while (delivery := (await store.webhooks.list(request.id))[0]).state != DeliveryState.GIVEN_UP:
        assert asyncio.get_running_loop().time() < deadline, delivery
        await asyncio.sleep(0.05)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert delivery.tries == 1


@pytest.mark.anyio
async def test_whoever_stops_hands_back_what_was_begun(settings: Settings, store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        request, _ = await store.requests.submit(NewRequest("fal-ai/flux-lora", "inference", {}, webhook_url=url))
        await store.requests.cancel(request.id)
        running = asyncio.create_task(WebhookSender(await Services.open(settings, store)).run())
        connection, _ = await asyncio.get_running_loop().run_in_executor(None, silent.accept)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        connection.close()
    [delivery] = await store.webhooks.list(request.id)
    assert (delivery.state, delivery.tries) == (DeliveryState.WAITING, 0)
    assert await store.webhooks.claim(1)


LOOPBACK = ("http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:9/", "http://0x7f.1/", "http://a.localhost/")
PRIVATE = ("http://10.0.0.1/", "http://192.168.1.2/", "http://169.254.169.254/", "http://0.0.0.0/",
           "http://metadata.google.internal/", "http://printer.local/", "http://[fd00::1]/")  # fmt: skip


def refused(url: str, **settings: Any) -> bool:
    try:
        check_receiver(Settings(**settings), url)
    except BadRequest:
        return True
    return False


@pytest.mark.parametrize("url", LOOPBACK)
def test_a_server_of_this_machine_only_may_call_programs_of_this_machine(url: Any) -> None:
    assert not refused(url)
    assert refused(url, host="0.0.0.0")
    assert refused(url, public_url="https://pictures.example")
    assert refused(url, webhook_targets="public")
    assert not refused(url, host="0.0.0.0", webhook_targets="loopback")


@pytest.mark.parametrize("url", PRIVATE)
def test_private_networks_are_called_by_setting_only(url: Any) -> None:
    assert refused(url)
    assert refused(url, webhook_targets="loopback")
    assert not refused(url, webhook_targets="private")


def test_public_receivers_are_always_allowed() -> None:
    for targets in ("auto", "public", "loopback", "private"):
        assert not refused("https://hooks.example/x", webhook_targets=targets)


def test_where_a_name_leads_is_checked_by_the_same_rules() -> None:
    public, loopback, private = (ipaddress.ip_address(a) for a in ("93.184.216.34", "127.0.0.1", "10.0.0.1"))
    for targets, allowed in (
        ("auto", {public, loopback}),
        ("public", {public}),
        ("private", {public, loopback, private}),
    ):
        settings = Settings(webhook_targets=targets)
        assert {address for address in (public, loopback, private) if may_receive(settings, address)} == allowed


# The published vector: seed, message and what they must come to.
KEY = SigningKey("k", bytes(range(32)), 0.0)
REQUEST_ID = "00000000-0000-4000-8000-000000000001"
MESSAGE = {"request_id": REQUEST_ID, "gateway_request_id": REQUEST_ID, "status": "OK", "payload": {"seed": 42}}
SIGNATURE = (
    "fc47cb811958e69138ffabb965b1305dca43d83dcda0992623c6839aa3deb692"
    "83710e3751fe5e13a46c2cc1d4414a837338b7247b210ac9caad1b20817fbb06"
)


def test_the_published_vector_is_met_and_an_independent_script_agrees() -> None:
    body = body_of(MESSAGE, "http://127.0.0.1:8787")
    assert len(body) == 149
    headers = headers_of(REQUEST_ID, body, KEY, 1767225600.7, user_id="local-user")
    assert headers["X-Fal-Webhook-Signature"] == SIGNATURE
    keys = key_set([KEY])
    assert keys["keys"][0]["x"] == "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
    assert is_genuine(headers, body, keys)


def test_any_change_is_noticed_by_the_script() -> None:
    body = body_of(MESSAGE, "")
    headers = headers_of(REQUEST_ID, body, KEY, 1767225600)
    assert not is_genuine(headers, body + b" ", key_set([KEY]))
    assert not is_genuine({**headers, "X-Fal-Webhook-Timestamp": "1767225601"}, body, key_set([KEY]))
    other = SigningKey("o", bytes(32), 0.0)
    assert not is_genuine(headers, body, key_set([other]))
    assert is_genuine(headers, body, key_set([other, KEY]))  # both are published while one takes over


def test_urls_in_a_body_can_be_opened_by_its_receiver() -> None:
    file = {"url": "tintype:files/" + "a" * 32 + "/lora.safetensors"}
    body = json.loads(body_of({"payload": {"file": file}}, "https://here.example"))
    assert body["payload"]["file"]["url"] == f"https://here.example/cdn/files/{'a' * 32}/lora.safetensors"
    failed = body_of({"payload": InvalidArchive("No archive.").failure().body}, "https://here.example")
    assert json.loads(failed)["payload"]["detail"][0]["url"] == "https://here.example/docs/errors#invalid_archive"


@pytest.mark.parametrize("url", LOOPBACK)
def test_a_server_that_others_reach_by_a_proxy_calls_no_program_of_this_machine(url: str) -> None:
    assert refused(url, allowed_hosts=("pictures.example",))
    assert refused(url, trusted_proxies=("127.0.0.1",))
    with pytest.raises(BadRequest):
        check_receiver(Settings(), url, is_behind_proxy=True)


@pytest.mark.parametrize(
    "header", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "X-Real-IP"]
)
def test_a_proxy_is_noticed_by_what_it_adds_and_not_forgotten(
    start: Callable[..., WebServer], tmp_path: Path, header: str
) -> None:
    server = start(data_dir=tmp_path)
    with server.client() as client:
        hook = {"fal_webhook": "http://127.0.0.1:9/"}
        assert client.post(DRAWER, json={"prompt": "x"}, params=hook).status_code == 200
        assert client.get("/health", headers={header: "for=203.0.113.7"}).status_code == 200
        assert client.post(DRAWER, json={"prompt": "x"}, params=hook).status_code == 400
    again = start(data_dir=tmp_path)
    with again.client() as client:
        assert client.post(DRAWER, json={"prompt": "x"}, params=hook).status_code == 400


def listed(request_id: str, store: Store) -> Coroutine[Any, Any, list[Delivery]]:
    return store.webhooks.list(request_id)


def test_what_is_told_of_private_receivers_is_one_sentence(
    start: Callable[..., WebServer], tmp_path: Path, receiver: Receiver
) -> None:
    server = start(
        data_dir=tmp_path, webhook_targets="private", allowed_hosts=("pictures.example",), webhook_retry_seconds=60
    )
    told = set()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    receiver.answers = [500, 404, 301]
    for url in (f"http://127.0.0.1:{port}/", receiver.url, receiver.url, receiver.url):
        request_id = submit(server, url)
        ends = time.monotonic() + 60
        while not (found := server.call(partial(listed, request_id))) or not found[0].answer:
            assert time.monotonic() < ends
            time.sleep(0.02)
        told.add(found[0].answer)
    assert len(told) == 1
    assert str(port) not in told.pop()
