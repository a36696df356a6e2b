"""Nothing anyone sends gives a 5xx: bodies, headers, queries and paths made of what breaks parsers, over real sockets.

TINTYPE_FUZZ_EXAMPLES raises the number of examples for a longer search.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any
from urllib.parse import quote, quote_from_bytes

import httpx
from hypothesis import HealthCheck, example, given, settings, strategies as st
from tests.support.web_server import WebServer

from tintype import catalog
from tintype.store.records import Scope
from tintype.web.mcp_tools import TOOLS
from tintype.web.operation import Operation
from tintype.web.routes import PLATFORM

EXAMPLES = int(os.environ.get("TINTYPE_FUZZ_EXAMPLES", "60"))
FUZZED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
)
ANY_TEXT = st.text(st.characters())  # lone surrogates, NUL and all
HOSTS = st.sampled_from(
    ["h", "xn--a.com", "xn--", "[::1", "[::1]", "[v1.x]", "0x7f.1", "1.2.3", "4294967296", "\u2024", "\xad", "a..b",
     "-", "*.x", "a" * 64 + ".b", "b." * 200, "\u00fc" * 60,
     "%31", "a%00b", "h:99999", "h:-1", "u:p@h", "\ud800", "localhost."]
)  # fmt: skip
URLS = st.builds(
    "".join,
    st.tuples(st.sampled_from(["http://", "HTTPS://", "http:", "//", "ftp://", "file:///", ""]), HOSTS, ANY_TEXT),
) | st.builds(
    "".join,
    st.tuples(
        st.sampled_from(
            ["tintype:files/", "data:", "data:;base64,", "data:;name=", "http://h/cdn/files/" + "A" * 32 + "/"]
        ),
        ANY_TEXT,
    ),
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**4000, -(10**400), 1e308, 2**53, 2**63, 2**64, -0.0])
LEAVES = st.none() | st.booleans() | NUMBERS | ANY_TEXT | URLS | st.sampled_from(["1" * 5000, "1e999", "NaN", "{}"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(ANY_TEXT | st.sampled_from(["url", "path", "scale", "width", "height"]), inner, max_size=5)
    ),
    max_leaves=8,
)


def names_of(endpoint: catalog.Endpoint) -> list[str]:
    return list(endpoint.input.model_fields)


def bodies(endpoint: catalog.Endpoint) -> st.SearchStrategy[dict[str, Any]]:
    """Inputs that hold what is needed, and anything at all in other fields."""
    named = st.dictionaries(st.sampled_from(names_of(endpoint)) | ANY_TEXT, VALUES, max_size=4)
    possible = {"prompt": "x", "images_data_url": "data:;base64,UEsDBA==", "image_url": "data:,a"}
    needed = {name: value for name, value in possible.items() if name in names_of(endpoint)}
    return named.map(lambda given: {**needed, **given})


SENT = st.sampled_from(catalog.ENDPOINTS).flatmap(lambda endpoint: st.tuples(st.just(endpoint.id), bodies(endpoint)))


def message_of(body: dict[str, Any]) -> str:
    """The message of an error, in either of fal's shapes."""
    message: str = (body["error"] if isinstance(body.get("error"), dict) else body)["message"]
    return message


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert message_of(answer.json())
    assert answer.headers["x-fal-request-id"]


@given(SENT, st.sampled_from(["surrogatepass", "ascii", "utf-16"]))
@example(("fal-ai/flux-lora-portrait-trainer", {"images_data_url": "http://h/\ud800"}), "ascii")
@example(("fal-ai/flux-lora-portrait-trainer", {"images_data_url": "http://xn--a.com/"}), "ascii")
@FUZZED
def test_no_input_whatever_it_holds_gives_a_500(
    client: httpx.Client, server: WebServer, sent: Any, encoding: Any
) -> None:
    server.hold()
    endpoint_id, body = sent
    text = json.dumps(body, ensure_ascii=encoding == "ascii")
    content = text.encode("utf-16" if encoding == "utf-16" else "utf-8", "surrogatepass")
    answer = client.post(f"/queue/{endpoint_id}", content=content)
    check(answer)
    if answer.status_code == 200:  # what is kept can be read again, and let go
        check(client.get(answer.json()["status_url"], params={"logs": "1"}))
        check(client.put(answer.json()["cancel_url"]))


# Those that would wait for what is held, or fetch.
CALLED = st.sampled_from(sorted(TOOLS.keys() - {"run_model", "inspect_dataset"}))
FIELDS = st.sampled_from(
    ["query", "limit", "cursor", "endpoint_id", "endpoint_ids", "input", "expiration_seconds", "store_payload",
     "request_id", "status_url", "prepare_upload", "file_name", "file_size", "content_type", "data"]
)  # fmt: skip


@given(CALLED, st.dictionaries(FIELDS, VALUES, max_size=6) | VALUES, SENT, VALUES)
@FUZZED
def test_no_call_of_a_tool_gives_a_500(
    client: httpx.Client, server: WebServer, tool: str, fields: Any, sent: Any, number: Any
) -> None:
    server.hold()
    if isinstance(fields, dict):
        fields = {"endpoint_id": sent[0], "input": sent[1], "request_id": "0"} | fields
    for params in ({"name": tool, "arguments": fields}, fields):
        message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
        answer = client.post("/mcp", content=json.dumps(message))
        assert answer.status_code in (200, 400), answer.text
        assert answer.json()["jsonrpc"] == "2.0"
    server.clear()


HEADERS = st.sampled_from(
    ["x-fal-queue-priority", "x-fal-request-timeout", "x-idempotency-key", "idempotency-key", "x-fal-runner-hint",
     "x-fal-store-io", "x-fal-tags", "x-fal-object-lifecycle", "x-fal-object-lifecycle-preference", "x-fal-file-name",
     "content-type", "range", "if-range", "if-none-match", "if-match",
     "if-modified-since", "origin", "authorization", "accept", "accept-encoding",
     "x-fal-target-url", "expect", "cookie", "access-control-request-private-network", "x-forwarded-host"]
)  # fmt: skip
HEADER_BYTES = st.binary(max_size=60).map(lambda raw: raw.translate(None, b"\r\n\0"))
HEADER_WORDS = st.sampled_from(
    [b"1e999", b"-0", b"nan", b"{}", b"[]", b'{"expiration_duration_seconds": 1e400}', b"bytes=0-0", b"bytes=-0",
     b"bytes=9" + b"9" * 17 + b"-", b"bytes=0-1,3-4", b"\xff\xfe.zip", "\u00fc/..\\x.zip".encode(),
     b"multipart/form-data", b"Key :", b"Key a:b", b"Bearer a.b", b"Basic eA==", b"Key \xff:\xff", b"null", b"http://[::1",
     b"x" * 5000, b'{"expiration_duration_seconds": ' + b"9" * 5000 + b"}", b"[" * 5000, b"100-continue", b"gzip",
     b"a=b," * 500, b'{"initial_acl": {"default": "hide", "rules": [{"user": "\\ud800", "decision": "allow"}]}}',
     b"Mon, 99 Jan 0000 99:99:99 GMT", b"bytes=" + b"0-," * 40, b'"a", W/"b"']
)  # fmt: skip
SEGMENTS = st.sampled_from(
    ["queue", "run", "rest", "cdn", "files", "fal-ai", "flux-lora", "requests", "status", "stream", "cancel",
     "response", "storage", "upload", "initiate", "initiate-multipart", "auth", "token", "tokens", "multipart",
     "complete", "health", "ready", "docs", "errors", "parts", "..", ".", "", "%2e%2e", "%00", "%ff", "%2f", "1",
     "0", "99999999999999999999", "A" * 32, "x" * 3000, "0a2b0a2b-0a2b-0a2b-0a2b-0a2b0a2b0a2b", "workflows", "comfy",
     "v1/storage/files/acl", "v1/storage/files/sign", "v1/keys", "v1/models/pricing/estimate", "v1/models/requests",
     "payloads", "rest/storage/upload/initiate"]
) | ANY_TEXT.map(lambda text: quote(text.encode("utf-8", "surrogatepass")))  # fmt: skip
PATHS = st.lists(SEGMENTS, min_size=1, max_size=8).map(lambda parts: "/" + "/".join(parts))
NAMES = st.sampled_from(
    ["logs", "fal_webhook", "fal_max_queue_length", "prompt", "expires", "signature", "storage_type", "url"]
)
QUERIES = st.lists(st.tuples(NAMES, st.binary(max_size=20).map(quote_from_bytes) | URLS.map(
    lambda text: quote(text.encode("utf-8", "surrogatepass")))), max_size=3).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))  # fmt: skip
METHODS = st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "CONNECT", "X"])
CONTENT = st.sampled_from(
    [b"", b"{}", b"null", b'{"parts": [{"partNumber": 1e400}]}', b'{"parts": [{"partNumber": 1, "etag": "\\ud800"}]}',
     b'{"default": "forbid", "rules": [{"user": "\\ud800", "decision": "hide"}]}', b'{"expiration_seconds": 9}',
     b'{"file_name": "\\ud800", "content_type": "\\u0000"}', b'{"prompt": "x"}', b'{"file_name": 3}', b"\xef\xbb\xbf{}"]
) | st.binary(max_size=40)  # fmt: skip


@given(
    METHODS,
    PATHS,
    QUERIES,
    st.lists(st.tuples(HEADERS, HEADER_BYTES | HEADER_WORDS), max_size=4),
    CONTENT,
    st.booleans(),
)
@FUZZED
def test_no_request_whatever_its_path_headers_and_body_gives_a_5xx(
    client: httpx.Client,
    server: WebServer,
    method: Any,
    path: Any,
    query: Any,
    headers: Any,
    content: Any,
    with_key: Any,
) -> None:
    server.hold()
    lines = [f"{method} {path}?{query} HTTP/1.1".encode(), b"Host: " + server.origin.removeprefix("http://").encode()]
    if with_key and not any(name == "authorization" for name, _ in headers):
        lines.append(b"Authorization: Key " + server.key.encode())
    lines += [name.encode() + b": " + value for name, value in headers]
    lines += [b"Content-Length: " + str(len(content)).encode(), b"Connection: close"]
    said = exchange(server, b"\r\n".join(lines) + b"\r\n\r\n" + content)
    status = int(said.split(b" ", 2)[1])
    assert status < 500, said[:2000]
    if status >= 400 and method != "HEAD":
        assert message_of(json.loads(said.partition(b"\r\n\r\n")[2]))


def exchange(server: Any, request: bytes) -> bytes:
    """Sends bytes; returns all that is answered before the other side closes, or a stream's first piece."""
    host, port = server.origin.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        said = b""
        while piece := connection.recv(65536):
            said += piece
            if b"text/event-stream" in said or said.startswith(b"HTTP/1.1 100"):
                said = said.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
                if said:
                    break
        return said


WORDS = st.sampled_from(
    ["", "0", "1", "-1", "50", "9" * 9, "9" * 30, "1e3", "fal-ai/flux-lora", "a,b", "," * 60, "time_series", "summary",
     "payloads", "request_count", "p50_duration", "auth_method", "credits", "openapi-3.0", "2026-11-01",
     "2026-11-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-W05", "20261101T00", "UTC",
     "Europe/Berlin", "Asia/Kathmandu", "America", "/etc/passwd", "..", "\0", "minute", "hour", "day", "week", "month",
     "true", "false", "success", "duration"]
) | ANY_TEXT  # fmt: skip
OPERATIONS = st.sampled_from(
    [
        (route.path_format, sorted(handler.query.model_fields))
        for route in PLATFORM
        for handler in route.handlers.values()
        if isinstance(handler, Operation) and handler.query is not None
    ]
)
ASKED = OPERATIONS.flatmap(
    lambda found: st.tuples(st.just(found[0]), st.lists(st.tuples(st.sampled_from(found[1]), WORDS), max_size=6))
)
FIELDS = st.sampled_from(["estimate_type", "endpoints", "alias", "expiration_duration_seconds", "initial_acl"])
ESTIMATES = st.builds(
    lambda kind, name, value: {"estimate_type": kind, "endpoints": {name: value}},
    st.sampled_from(["input", "unit_price", "historical_api_price"]),
    st.sampled_from(["fal-ai/flux-lora", "a/b"]),
    st.dictionaries(st.sampled_from(["input", "call_quantity", "unit_quantity"]), VALUES, max_size=3),
)


@given(ASKED)
@example(("/v1/models/usage", [("start", "9999-12-31"), ("end", "9999-12-31T23:59:59Z"), ("timeframe", "month")]))
@example(("/v1/models/usage", [("start", "0001-01-01"), ("timeframe", "month"), ("timezone", "Asia/Kathmandu")]))
@FUZZED
def test_no_query_of_the_platform_api_gives_a_5xx(client: httpx.Client, sent: Any) -> None:
    path, query = sent
    text = "&".join(f"{name}={quote(value.encode('utf-8', 'surrogatepass'))}" for name, value in query)
    check(client.get(f"{path}?{text}"))


@given(st.dictionaries(FIELDS, VALUES, max_size=4) | ESTIMATES)
@FUZZED
def test_no_body_of_the_platform_api_gives_a_5xx(client: httpx.Client, server: WebServer, body: Any) -> None:
    content, key = json.dumps(body).encode(), {"Authorization": f"Key {server.create_key('fuzz', Scope.ADMIN)}"}
    check(client.post("/v1/models/pricing/estimate", content=content))
    check(client.put("/v1/storage/settings", content=content, headers=key))
    check(client.post("/v1/keys", content=content, headers=key))
