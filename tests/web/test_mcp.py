"""The MCP server: fal's tools and ours, through the official SDK's client; and what is no message of the protocol."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from tests.support.images import archive_of, blots
from tests.support.mcp_client import Assistant, assistant
from tests.support.server import upload
from tests.support.web_server import WebServer

from tintype import catalog
from tintype.catalog.flux_lora import FLUX_LORA
from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER
from tintype.catalog.ideogram_custom_models import CUSTOM_MODEL_TRAINER

pytestmark = pytest.mark.anyio

FAL = {
    "search_models", "get_model_schema", "get_pricing", "search_docs", "recommend_model", "run_model", "submit_job",
    "check_job", "get_job_result", "cancel_job", "upload_file",
}  # fmt: skip
OURS = {
    "inspect_dataset", "explain_failure", "list_loras",
    "list_datasets", "show_dataset", "add_to_dataset", "caption_dataset", "delete_dataset",
}  # fmt: skip
ZIP = "https://example.com/a.zip"


def fetched(client: httpx.Client, url: str, method: str = "GET", **sent: Any) -> bytes:
    return client.request(method, url, **sent).raise_for_status().content


@pytest.fixture
async def asked(server: WebServer, client: httpx.Client) -> AsyncIterator[Assistant]:
    async with assistant(server.origin, server.key) as speaking:
        yield speaking


async def test_each_tool_is_listed_with_its_fields_and_what_it_is_for(asked: Assistant) -> None:
    listed = {tool.name: tool for tool in (await asked.client.list_tools()).tools}
    assert set(listed) == FAL | OURS
    assert all(tool.description and tool.input_schema["type"] == "object" for tool in listed.values())
    assert set(listed["run_model"].input_schema["required"]) == {"endpoint_id", "input"}
    assert set(listed["search_models"].input_schema["properties"]) == {"query", "category", "limit", "cursor"}


@pytest.mark.parametrize("scheme", ["Bearer", "Key"])
async def test_an_assistant_needs_a_key_in_either_form(server: WebServer, scheme: str) -> None:
    async with assistant(server.origin, server.key, scheme) as known:
        assert (await known.call("list_loras"))["loras"] is not None
    async with httpx.AsyncClient(base_url=server.origin, trust_env=False) as stranger:
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        refused = await stranger.post("/mcp", json=ping, headers={"Authorization": f"{scheme} nobody:x"})
        assert (refused.status_code, refused.json()["error_type"]) == (401, "unauthorized")


@pytest.mark.parametrize("address", [("docs.fal.ai", "/mcp"), ("fal.ai", "/docs/mcp")])
async def test_the_manual_is_searched_without_a_key_as_fals_documentation_is(
    server: WebServer, address: tuple[str, str]
) -> None:
    accepted = {"Host": address[0], "Accept": "application/json, text/event-stream"}
    called = {"name": "search_fal", "arguments": {"query": "how to use LoRA"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": called}
    async with httpx.AsyncClient(base_url=server.origin, trust_env=False) as stranger:
        answer = await stranger.post(address[1], json=message, headers=accepted)
        assert answer.headers["content-type"].startswith("text/event-stream")
        data = next(line for line in answer.text.split("\n") if line.startswith("data: "))
        texts = [part["text"] for part in json.loads(data[6:])["result"]["content"]]
        assert len(texts) == 5
        assert all(re.match(r"Title: .+\nLink: http.+\nContent: \S", text) for text in texts)
        assert "LoRA" in texts[0]
        other = {**message, "params": {"name": "list_loras"}}
        refused = (await stranger.post(address[1], json=other, headers={"Host": address[0]})).json()
        assert refused["error"]["code"] == -32602
        large = {**message, "params": {"name": "search_fal", "arguments": {"query": "x" * 2_000_000}}}
        assert (await stranger.post(address[1], json=large, headers=accepted)).status_code == 413


async def test_the_search_of_the_manual_speaks_the_protocol(server: WebServer) -> None:
    async with (
        httpx2.AsyncClient(trust_env=False) as http,
        Client(streamable_http_client(f"{server.origin}/docs/mcp", http_client=http)) as client,
    ):
        assert [tool.name for tool in (await client.list_tools()).tools] == ["search_fal"]
        found = await client.call_tool("search_fal", {"query": "archive_file_count_below_minimum"})
        assert not found.is_error
        assert found.structured_content["results"][0]["title"] == "Error archive_file_count_below_minimum"


async def test_models_are_found_by_words_by_category_and_page_by_page(asked: Assistant) -> None:
    everything = await asked.call("search_models")
    assert [one["endpoint_id"] for one in everything["models"]] == [one.id for one in catalog.ENDPOINTS]
    assert (everything["total_shown"], everything["has_more"]) == (len(catalog.ENDPOINTS), False)
    assert set(everything["models"][0]) == {"endpoint_id", "name", "category", "description"}
    trainers = await asked.call("search_models", category="training")
    assert {one["endpoint_id"] for one in trainers["models"]} == {
        one.id for one in catalog.ENDPOINTS if one.category == "training"
    }
    found = await asked.call("search_models", query="train a portrait of my dog from photos", limit=1)
    assert found["models"][0]["endpoint_id"] == PORTRAIT_TRAINER.id
    seen: list[str] = []
    page: dict[str, Any] = {"next_cursor": None}
    while not seen or page["has_more"]:
        page = await asked.call("search_models", limit=3, cursor=page["next_cursor"])
        seen += [one["endpoint_id"] for one in page["models"]]
    assert seen == [one.id for one in catalog.ENDPOINTS]
    best = await asked.call("recommend_model", task="generate images with a custom model")
    assert best["models"][0]["endpoint_id"] == f"{CUSTOM_MODEL_TRAINER.id}/generate"


async def test_a_schema_stands_by_itself_and_the_manual_can_be_searched(asked: Assistant) -> None:
    for endpoint in catalog.ENDPOINTS:
        told = await asked.call("get_model_schema", endpoint_id=endpoint.id)
        assert set(told["input_schema"]["properties"]) == set(endpoint.input.model_fields)
        assert set(told["output_schema"]["properties"]) == set(endpoint.output.model_fields)
    parts = (await asked.call("get_model_schema", endpoint_id=FLUX_LORA.id))["components"]["schemas"]
    assert {"LoraWeight", "Image"} <= set(parts)
    assert "Did you mean" in (await asked.refused("get_model_schema", endpoint_id="fal-ai/flux-loras"))["message"]
    found = (await asked.call("search_docs", query="archive_file_count_below_minimum"))["results"]
    assert found[0]["title"] == "Error archive_file_count_below_minimum"
    priced = await asked.call("get_pricing", endpoint_ids=[FLUX_LORA.id])
    assert [(one["endpoint_id"], one["unit"], one["unit_price"]) for one in priced["prices"]] == [
        (FLUX_LORA.id, FLUX_LORA.price.unit, FLUX_LORA.price.price)
    ]


async def test_a_run_returns_its_result_and_a_recipe_that_is_one_line_of_it(
    asked: Assistant, server: WebServer
) -> None:
    done = await asked.call("run_model", endpoint_id=FLUX_LORA.id, input={"prompt": "a hat"})
    assert done["status"] == "completed"
    assert done["result"]["words"] == "a hat"
    assert done["recipe"] == {"endpoint_id": FLUX_LORA.id, "input": {"prompt": "a hat"}}
    request = server.request(done["request_id"])
    assert (request.endpoint_id, request.store_io, request.sync) == (FLUX_LORA.id, True, False)
    as_text = await asked.call("run_model", endpoint_id=FLUX_LORA.id, input='{"prompt": "a hat"}', store_payload=False)
    assert as_text["recipe"] == {"endpoint_id": FLUX_LORA.id, "input_omitted": True}
    assert not server.request(as_text["request_id"]).store_io


async def test_a_job_is_submitted_watched_and_fetched_by_id_or_by_url(asked: Assistant, server: WebServer) -> None:
    sent = await asked.call("submit_job", endpoint_id=FLUX_LORA.id, input={"prompt": "a hat"}, expiration_seconds=60)
    assert sent["poll_after_seconds"] > 0
    server.wait(sent["request_id"], "COMPLETED")
    by_id = await asked.call("check_job", endpoint_id=FLUX_LORA.id, request_id=sent["request_id"])
    by_url = await asked.call("check_job", endpoint_id=FLUX_LORA.id, status_url=sent["status_url"])
    assert by_id == by_url
    assert [line["message"] for line in by_id["logs"]][:1] == ["line 0 ünï"]
    told = await asked.call("get_job_result", response_url=sent["response_url"])
    assert told["result"]["diffusers_lora_file"]["url"].startswith(f"{server.origin}/cdn/files/")
    assert (await asked.refused("cancel_job", request_id=sent["request_id"]))["status"] == "ALREADY_COMPLETED"


async def test_what_waits_is_cancelled_and_what_failed_is_explained(asked: Assistant, server: WebServer) -> None:
    server.hold()
    waiting = await asked.call("submit_job", endpoint_id=FLUX_LORA.id, input={"prompt": "a hat"})
    assert "still in progress" in (await asked.refused("get_job_result", request_id=waiting["request_id"]))["message"]
    assert "IN_QUEUE" in (await asked.refused("explain_failure", request_id=waiting["request_id"]))["message"]
    cancelled = await asked.call("cancel_job", cancel_url=waiting["cancel_url"])
    assert cancelled["status"] == "CANCELLATION_REQUESTED"
    assert (await asked.call("explain_failure", request_id=waiting["request_id"]))["error_type"] == "client_cancelled"
    server.release()
    failed = await asked.refused("run_model", endpoint_id=FLUX_LORA.id, input={"prompt": "fail"})
    assert failed["detail"][0]["type"] == "invalid_archive"
    request = server.call(lambda store: store.requests.list(limit=1))[0]
    why = await asked.call("explain_failure", request_id=request.id)
    assert (why["error_type"], why["error"]) == ("invalid_archive", "Not an archive.")
    assert "archive" in why["meaning"]
    assert len(why["attempts"]) == 1
    assert why["logs"]


async def test_a_wrong_input_is_told_with_its_place_and_nothing_is_queued(asked: Assistant, server: WebServer) -> None:
    before = server.call(lambda store: store.requests.list(limit=1))
    bad = await asked.refused("submit_job", endpoint_id=PORTRAIT_TRAINER.id, input={"images_data_url": ZIP, "steps": 0})
    assert bad["detail"][0]["loc"] == ["body", "steps"]
    assert "fal-ai/flux-lora" in (await asked.refused("run_model", endpoint_id="fal-ai/x", input={}))["message"]
    assert "limit" in (await asked.refused("search_models", limit=1000))["message"]
    assert "request_id" in (await asked.refused("check_job"))["message"]
    assert "input" in (await asked.refused("run_model", endpoint_id=FLUX_LORA.id, input="no object"))["message"]
    assert server.call(lambda store: store.requests.list(limit=1)) == before


async def test_files_come_by_a_prepared_upload_by_url_and_as_data(
    asked: Assistant, server: WebServer, client: httpx.Client
) -> None:
    prepared = await asked.call("upload_file", prepare_upload=True, file_name="a.zip", file_size=3)
    assert fetched(client, prepared["upload_url"], "PUT", content=b"abc")
    assert fetched(client, prepared["file_url"]) == b"abc"
    long = base64.b64encode(bytes(100_000)).decode()
    for data, content in (
        (base64.b64encode(b"abc").decode(), b"abc"),
        ("data:text/plain;base64,YWJj", b"abc"),
        (f"data:image/png;base64,{long}", bytes(100_000)),
    ):
        kept = (await asked.call("upload_file", data=data, file_name="a.png"))["cdn_url"]
        assert fetched(client, kept) == content
    own = await asked.call("upload_file", url=prepared["file_url"])
    assert own["cdn_url"] == prepared["file_url"]
    for private in ("http://127.0.0.1:1/a.zip", "http://169.254.1.1/a", "file:///etc/passwd", "http://[::1"):
        assert await asked.refused("upload_file", url=private)
    assert "prepare_upload" in (await asked.refused("upload_file"))["message"]
    assert await asked.refused("upload_file", prepare_upload=True, file_name="a", file_size=10**15)
    assert await asked.refused("upload_file", data="not base64 §")


async def test_photos_are_kept_captioned_and_looked_at_as_a_dataset(asked: Assistant, client: httpx.Client) -> None:
    url = upload(client, archive_of({"a.png": blots(1, (64, 64)), "b.png": blots(2, (64, 64)), "b.txt": "a file's"}))
    begun = await asked.call("add_to_dataset", urls=[url], name="Anna")
    ids = {photo["name"]: photo["photo_id"] for photo in begun["photos"]}
    dataset_id = begun["dataset"]["dataset_id"]
    more = await asked.call("add_to_dataset", urls=[url], dataset_id=dataset_id)
    assert len(more["left_out"]) == 2
    captions = dict.fromkeys(ids.values(), "colours")
    told = await asked.call("caption_dataset", dataset_id=dataset_id, captions=captions, captioner="me")
    assert (told["changed"], told["kept"]) == ([ids["a.png"]], [ids["b.png"]])
    shown = await asked.call("show_dataset", dataset_id=dataset_id, trigger_phrase="ohwx")
    assert [(one["caption"], one["captioner"]) for one in shown["photos"]] == [("colours", "me"), ("a file's", None)]
    assert shown["problem"] is None
    assert any("do not name the trigger phrase" in warning for warning in shown["warnings"])
    assert (await asked.call("inspect_dataset", images_data_url=shown["url"]))["kept"] == 2
    assert dataset_id in [one["dataset_id"] for one in (await asked.call("list_datasets"))["datasets"]]
    assert len((await asked.call("delete_dataset", dataset_id=dataset_id))["receipt"]) == 2
    assert await asked.refused("show_dataset", dataset_id=dataset_id)


async def test_a_dataset_is_inspected_before_it_is_trained(asked: Assistant, client: httpx.Client) -> None:
    photos = archive_of({"a.png": blots(1), "b.png": blots(2), "b.txt": "a hat", "c.png": b"no picture", "d.pdf": b"%"})
    url = upload(client, photos)
    told = await asked.call("inspect_dataset", images_data_url=url, input={"trigger_phrase": "ohwx"})
    assert [(one["name"], one["caption"]) for one in told["photos"]] == [("a.png", "ohwx"), ("b.png", "a hat")]
    assert {note["name"] for note in told["left_out"]} == {"c.png", "d.pdf"}
    assert (told["kept"], told["dropped"]) == (2, 2)
    few = await asked.refused("inspect_dataset", images_data_url=url, endpoint_id=CUSTOM_MODEL_TRAINER.id)
    assert few["detail"][0]["type"] == "archive_file_count_below_minimum"
    assert few["detail"][0]["loc"] == ["body", "images_data_url"]
    sent = f"data:application/zip;base64,{base64.b64encode(photos + bytes(50_000)).decode()}"
    assert (await asked.call("inspect_dataset", images_data_url=sent))["kept"] == 2
    assert await asked.refused("inspect_dataset", images_data_url=url, endpoint_id=FLUX_LORA.id)


async def test_loras_and_requests_are_their_owners(asked: Assistant, server: WebServer) -> None:
    body = {"images_data_url": ZIP, "trigger_phrase": "ohwx of mine"}
    sent = await asked.call("submit_job", endpoint_id=PORTRAIT_TRAINER.id, input=body)
    server.wait(sent["request_id"], "COMPLETED")
    mine = (await asked.call("list_loras"))["loras"][0]
    assert (mine["request_id"], mine["trigger_phrase"], mine["base"]) == (sent["request_id"], "ohwx of mine", "flux")
    assert mine["url"].endswith("/lora.safetensors")
    async with assistant(server.origin, server.create_key("another")) as other:
        assert (await other.call("list_loras"))["loras"] == []
        for tool in ("check_job", "get_job_result", "cancel_job", "explain_failure"):
            assert "not found" in (await other.refused(tool, request_id=sent["request_id"]))["message"]


def test_what_is_no_message_is_refused_in_the_protocols_words(client: httpx.Client) -> None:
    def code(body: Any) -> tuple[int, int]:
        answer = client.post("/mcp", json=body) if not isinstance(body, bytes) else client.post("/mcp", content=body)
        return answer.status_code, answer.json()["error"]["code"]

    said = {"jsonrpc": "2.0", "id": 1}
    assert code(b"{") == (400, -32700)
    assert code(b"") == (400, -32600)
    assert '"method": "tools/list"' in client.post("/mcp").json()["error"]["message"]
    assert code([{**said, "method": "ping"}]) == code({"id": 1, "method": "ping"}) == (400, -32600)
    assert code({**said, "id": None, "method": "ping"}) == code({**said, "id": [1], "method": "ping"}) == (400, -32600)
    assert code({**said, "method": "server/discover"}) == code({**said, "method": 5}) == (200, -32601)
    assert code({**said, "method": "ping", "params": [1]}) == (200, -32602)
    assert code({**said, "method": "tools/call", "params": {"name": "rm"}}) == (200, -32602)
    assert client.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}).status_code == 202
    assert client.get("/mcp").status_code == 405


@pytest.mark.parametrize(
    ("wanted", "given"), [("2025-03-26", "2025-03-26"), ("1999-01-01", "2025-11-25"), (None, "2025-11-25")]
)
def test_the_version_of_the_protocol_is_the_clients_if_it_is_known(
    client: httpx.Client, wanted: str | None, given: str
) -> None:
    hello = {"jsonrpc": "2.0", "id": "a", "method": "initialize", "params": {"protocolVersion": wanted}}
    result = client.post("/mcp", json=hello).json()["result"]
    assert (result["protocolVersion"], result["serverInfo"]["name"]) == (given, "tintype")
