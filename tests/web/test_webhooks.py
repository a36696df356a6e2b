"""What docs/webhooks.md tells receivers to do, done as written."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.web_server import WebServer
from tests.support.webhook_receiver import Hook, receiving

PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"


def code(language: str, server: WebServer) -> str:
    """The page's program in a language, turned to a server."""
    [block] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert "http://127.0.0.1:8787" in block
    return str(block).replace("http://127.0.0.1:8787", server.origin)


@pytest.fixture(scope="module")
def hook(server: WebServer) -> Hook:
    with receiving() as receiver, server.client() as client:
        sent = client.post("/queue/fal-ai/flux-lora", json={"prompt": "x"}, params={"fal_webhook": receiver.url})
        assert sent.status_code == 200
        return receiver.wait(1)[0]


def test_the_pages_python_tells_genuine_from_forged(server: WebServer, hook: Hook) -> None:
    program: dict[str, Any] = {}
    exec(compile(code("python", server), str(PAGE), "exec"), program)
    headers = httpx.Headers(hook.headers)
    assert program["is_genuine"](headers, hook.body)
    assert not program["is_genuine"](headers, hook.body + b"\n")
    headers["X-Fal-Webhook-Timestamp"] = str(int(headers["X-Fal-Webhook-Timestamp"]) - 400)
    assert not program["is_genuine"](headers, hook.body)


def test_the_pages_javascript_does_too(server: WebServer, hook: Hook, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node")
    (tmp_path / "check.mjs").write_text(
        code("js", server)
        + f"""
const headers = {json.dumps(hook.headers)};
const body = Buffer.from("{base64.b64encode(hook.body).decode()}", "base64");
const old = {{ ...headers, "x-fal-webhook-timestamp": String(headers["x-fal-webhook-timestamp"] - 400) }};
console.log(JSON.stringify([
  await isGenuine(headers, body),
  await isGenuine(headers, Buffer.concat([body, Buffer.from(" ")])),
  await isGenuine(old, body),
]));
"""
    )
    done = subprocess.run([node, tmp_path / "check.mjs"], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "[true,false,false]", done.stderr
