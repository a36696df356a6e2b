"""An endpoint is a declaration, a job, and a place in the catalogue's tuple; nothing else knows of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator, validate
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


def tell(client: httpx.Client, tool: str, **arguments: Any) -> Any:
    """What a tool of the MCP server answers."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    return client.post("/mcp", json=message).json()["result"]["structuredContent"]


def check_told_everywhere(client: httpx.Client) -> None:
    """Looks for the endpoint wherever endpoints are told of: documents, pages, gallery, platform API, MCP."""
    whole = client.get("/openapi.json").json()
    for name in ("house/join", *JOIN.aliases):
        assert {f"/queue/{name}", f"/run/{name}", f"/run/{name}/stream"} <= whole["paths"].keys()
        own = client.get("/api/openapi/queue/openapi.json", params={"endpoint_id": name}).json()
        for document in (whole, own):
            validate(document, cls=OpenAPIV30SpecValidator)
            assert list(document["components"]["schemas"]["HouseJoinInput"]["properties"]) == ["parts", "more"]
            assert list(document["components"]["schemas"]["HouseJoinOutput"]["properties"]) == ["joined", "bytes"]
        page = client.get(f"/models/{name}/llms.txt").text
        assert all(f"- **`{field}`** (" in page for field in ("parts", "more", "joined", "bytes"))
        assert JOIN.description in page
        assert [model["endpoint_id"] for model in platform(client, endpoint_id=name)] == ["house/join"]
        assert tell(client, "get_model_schema", endpoint_id=name)["input_schema"]["required"] == ["parts"]
    assert f"[{JOIN.title}]" in client.get("/llms.txt").text
    gallery = client.get("/api/models", params={"keywords": "one behind the other"}).json()["items"]
    assert [(item["id"], item["category"]) for item in gallery] == [("house/join", "test")]
    (model,) = platform(client, q="join files", expand="openapi-3.0")
    assert (model["metadata"]["kind"], model["openapi"]["openapi"]) == ("inference", "3.0.4")
    prices = client.get("/v1/models/pricing", params={"endpoint_id": "house/join"}).json()["prices"]
    assert [price["unit_price"] for price in prices] == [0]
    found = tell(client, "search_models", query="files one behind the other", category="test")["models"]
    assert [model["endpoint_id"] for model in found] == ["house/join"]
    assert "house/join" in str(tell(client, "get_pricing", endpoint_ids=["house/join"]))


def platform(client: httpx.Client, **query: str) -> Any:
    return client.get("/v1/models", params=query).json()["models"]


async def _queue_itself(store: Store) -> Store:
    return store


def test_an_endpoint_declared_here_is_told_everywhere_served_validated_and_run(
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
            check_told_everywhere(client)
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
