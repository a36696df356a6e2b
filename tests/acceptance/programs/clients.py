"""A program written for fal that asks in every way that Python knows; prints what came of each as one JSON object."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import aiohttp
import fal_client
import httpx
import requests
import uvloop

URL = "https://rest.fal.ai/storage/auth/token?storage_type=fal-cdn-v3"  # asks for a key, and is quick
DRAWING = {"prompt": "a portrait of a person", "image_size": "square", "num_inference_steps": 1, "seed": 1}
KEY = {"Authorization": f"Key {sys.argv[1]}"}
IMPOSTOR = int(sys.argv[2])  # a port whose server shows a certificate for fal.run of somebody else's

seen: dict[str, Any] = {}


def drawn(answer: Any) -> int:
    return int(answer["seed"])


def given(answer: Any) -> str:
    return str(answer["token_type"])


def ask(name: str, call: Callable[[], Any]) -> None:
    try:
        seen[name] = call()
    except Exception as problem:  # whatever a client makes of a refusal
        seen[name] = f"{type(problem).__name__}: {problem}"


ask("fal_client", lambda: drawn(fal_client.SyncClient(key=sys.argv[1]).subscribe("fal-ai/flux-lora", DRAWING)))
ask("status_url", lambda: fal_client.submit("fal-ai/flux-lora", DRAWING).status_url)
ask("upload", lambda: httpx.get(fal_client.upload(b"hello", "text/plain", file_name="a.txt")).text)


def realtime() -> Any:
    with fal_client.realtime("fal-ai/flux-lora") as connection:
        return connection.recv()


ask("realtime", realtime)
ask("requests", lambda: given(requests.post(URL, json={}, headers=KEY, timeout=60).json()))
ask("requests, own roots", lambda: given(requests.post(URL, json={}, verify=requests.certs.where()).json()))
ask("httpx", lambda: given(httpx.post(URL, json={}, headers=KEY, timeout=60).json()))
ask("httpx, no environment", lambda: given(httpx.post(URL, json={}, trust_env=False, timeout=60).json()))
ask("urllib", lambda: given(json.load(urllib.request.urlopen(urllib.request.Request(URL, b"{}", KEY)))))


async def asynchronous() -> None:
    async with aiohttp.ClientSession(headers=KEY) as session, session.post(URL, json={}) as answer:
        seen["aiohttp"] = given(await answer.json())
    async with aiohttp.ClientSession(trust_env=True) as session, session.post(URL, json={}) as answer:
        seen["aiohttp, environment"] = given(await answer.json())
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        seen["httpx, asynchronous"] = given((await client.post(URL, json={})).json())
    client = fal_client.AsyncClient(key=sys.argv[1])
    seen["fal_client, asynchronous"] = drawn(await client.subscribe("fal-ai/flux-lora", DRAWING))


asyncio.run(asynchronous())


class Green(ssl.SSLContext):
    """With a wrap_socket of its own, as gevent and eventlet bring it along."""

    def wrap_socket(self, *args: Any, **kwargs: Any) -> Any:
        return ssl.SSLSocket._create(*args, context=self, **kwargs)


def impostor(kind: type[ssl.SSLContext]) -> str:
    """As fal itself would be reached by a way that nobody thought of, with all checks off."""
    trusting = kind(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", IMPOSTOR)) as connection:
        trusting.wrap_socket(connection, server_hostname="fal.run").sendall(b"photos")
    return "sent"


ask("another way to fal", lambda: impostor(ssl.SSLContext))
ask("another way to fal, of green threads", lambda: impostor(Green))


async def impostor_on_uvloop() -> str:
    """An event loop in C, which opens connections by itself."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", IMPOSTOR, ssl=trusting, server_hostname="fal.run")
    writer.close()
    return "sent"


ask("another way to fal, on uvloop", lambda: uvloop.run(impostor_on_uvloop()))
ask("plain http", lambda: httpx.get("http://fal.run/", trust_env=False).status_code)
ask("another port", lambda: httpx.get("https://fal.run:8443/", trust_env=False).status_code)
print(json.dumps(seen))
