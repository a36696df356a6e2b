"""Webhooks that the real clients ask for arrive, and the verifiers of the manual, as pasted, accept them alone."""

from __future__ import annotations

import base64
import json
import subprocess
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from tests.support.javascript import node
from tests.support.pages import Page, here, node as reading_node
from tests.support.server import Server
from tests.support.webhook_receiver import Hook, receiving

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MANUAL = Page("docs/webhooks.md")
DRAWING = {"prompt": "a portrait", "image_size": "square", "num_inference_steps": 1, "seed": 8}


@pytest.fixture(scope="module")
def bad_url(server: Server) -> str:
    return server.upload(b"no LoRA", "bad.safetensors", "application/octet-stream")


def told(hooks: list[Hook]) -> dict[str, Any]:
    return {hook.json["request_id"]: hook.json for hook in hooks}


def test_from_python_what_ends_well_and_what_fails_is_told(fal: ModuleType, server: Server, bad_url: str) -> None:
    with receiving() as receiver:
        receiver.answers = [500]  # the first try fails; the same content comes again
        url = f"{receiver.url}?order=1&who=you%20%26%20me"
        good = fal.submit("fal-ai/flux-lora", DRAWING, webhook_url=url)
        hooks = receiver.wait(2)
        assert hooks[0].body == hooks[1].body
        assert hooks[0].path == url.removeprefix(receiver.url.removesuffix("/hook"))
        assert hooks[1].json == {
            "request_id": good.request_id,
            "gateway_request_id": good.request_id,
            "status": "OK",
            "payload": good.get(),
        }
        bad = fal.submit("fal-ai/flux-lora", DRAWING | {"loras": [{"path": bad_url}]}, webhook_url=receiver.url)
        failed = told(receiver.wait(3))[bad.request_id]
    assert failed["status"] == "ERROR"
    assert failed["error"] == "Invalid status code: 422"
    assert failed["payload"]["detail"][0]["loc"] == ["body", "loras", 0, "path"]


def test_from_javascript_and_the_manuals_verifiers_accept_it(server: Server, bad_url: str) -> None:
    with receiving() as receiver:
        sent = node("webhook", TINTYPE_ORIGIN=server.origin, FAL_KEY=server.key, HOOK=receiver.url, BAD=bad_url)
        hooks = receiver.wait(2)
    assert {id_: body["status"] for id_, body in told(hooks).items()} == {sent["good"]: "OK", sent["bad"]: "ERROR"}

    changed = replace(hooks[0], body=hooks[0].body.replace(b"OK", b"NO").replace(b"ERROR", b"NOPE"))
    late = replace(hooks[0], headers={**hooks[0].headers, "x-fal-webhook-timestamp": "1767225600"})
    mixed = replace(hooks[0], headers=hooks[1].headers)
    for verifies in (verified_in_python, verified_in_javascript):
        assert [verifies(hook, server) for hook in (*hooks, changed, late, mixed)] == [True, True, False, False, False]


def verified_in_python(hook: Hook, server: Server) -> bool:
    from httpx import Headers  # finds names in any case, as a framework's do

    manual: dict[str, Any] = {}
    exec(here(MANUAL.block("python"), server), manual)
    return bool(manual["is_genuine"](Headers(hook.headers), hook.body))


def verified_in_javascript(hook: Hook, server: Server) -> bool:
    given = json.dumps([hook.headers, base64.b64encode(hook.body).decode()])
    program = here(MANUAL.block("js"), server) + (
        f"const [headers, body] = {given};\nconsole.log(await isGenuine(headers, Buffer.from(body, 'base64')));"
    )
    done = subprocess.run(reading_node(), input=program, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip() == "true"
