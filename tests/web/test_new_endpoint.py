"""An endpoint is a declaration, a job, and a place in the catalogue's tuple; nothing else knows of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel, Field
from tests.support.processes import SupervisorProcess
from tests.support.web_server import WebServer

from tintype import catalog
from tintype.catalog import Endpoint, EndpointInput, EndpointOutput, File
from tintype.catalog.fields import FileUrl
from tintype.job import JobContext
from tintype.store import Store


class Part(BaseModel):
    file: FileUrl
    times: int = Field(1, ge=1, le=9)


class JoinInput(EndpointInput):
    parts: list[Part] = Field(min_length=1)
    more: list[FileUrl] = Field(default_factory=list)


class JoinOutput(EndpointOutput):
    joined: File
    bytes: int


def join(input: JoinInput, context: JobContext) -> JoinOutput:
    """Writes the files one behind the other."""
    texts = [context.fetch(part.file).read_bytes() * part.times for part in input.parts]
    texts += [context.fetch(url).read_bytes() for url in input.more]
    path = context.scratch / "joined.txt"
    path.write_bytes(b"".join(texts))
    context.log(f"joined {len(texts)} files")
    return JoinOutput(joined=context.publish(path, "text/plain"), bytes=path.stat().st_size)


JOIN = Endpoint(
    id="house/join",
    aliases=("house/join/files",),
    title="Join files",
    category="test",
    kind="inference",
    description="Writes files one behind the other.",
    input=JoinInput,
    output=JoinOutput,
    job=f"{__name__}:join",
    base="none",
)
ENDPOINTS = (*catalog.ENDPOINTS, JOIN)


async def _queue_itself(store: Store) -> Store:
    return store


def test_an_endpoint_declared_here_is_served_validated_and_run(
    monkeypatch: pytest.MonkeyPatch, start: Callable[..., WebServer], tmp_path: Path
) -> None:
    monkeypatch.setattr(catalog, "ENDPOINTS", ENDPOINTS)
    server = start(data_dir=tmp_path)
    server.hold()  # the worker that a test has; a real one takes its place
    supervisor = SupervisorProcess(server.settings, server.call(_queue_itself))
    supervisor.start(endpoints=f"{__name__}:ENDPOINTS")
    try:
        with server.client() as client:
            assert client.get("/").json()["endpoints"]["house/join"] == "Join files"
            refused = client.post("/run/house/join", json={"parts": [{"file": "data:,a", "times": 0}, {}]})
            assert [entry["loc"] for entry in refused.json()["detail"]] == [
                ["body", "parts", 0, "times"], ["body", "parts", 1, "file"],
            ]  # fmt: skip
            uploaded = client.post("/cdn/files/upload", content=b"ab").json()["access_url"]
            body = {"parts": [{"file": uploaded, "times": 2}, {"file": {"url": "data:,c"}}], "more": [uploaded]}
            made = client.post("/run/house/join/files", json=body)
            assert made.status_code == 200, made.text
            assert made.json()["bytes"] == 7
            assert client.get(made.json()["joined"]["url"]).content == b"ababcab"
            lost = client.post(
                "/queue/house/join", json={"parts": [{"file": uploaded.replace("cdn/files/", "cdn/files/x")}]}
            )
            assert [entry["loc"] for entry in lost.json()["detail"]] == [["body", "parts", 0, "file"]]
    finally:
        supervisor.stop()
