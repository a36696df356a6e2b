"""Schemathesis calls every operation of every document, and holds each answer against what is declared for it.

There are our own documents, and fal's description of its platform API, as far as it is offered here: paths, parameters
and schemas are in fal_platform.json, the texts of fal's are not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.support.web_server import WebServer, serving

from tintype import catalog
from tintype.catalog.fields import is_file
from tintype.settings import Settings
from tintype.store.records import Scope
from tintype.web.routes import PLATFORM

FAL = json.loads((Path(__file__).parent / "fal_platform.json").read_text("utf-8"))
# fal's file does not say how wrong parameters of these are refused: as everywhere else.
FAL["paths"]["/keys"]["get"]["responses"]["400"] = {"$ref": "#/components/responses/Error"}
# fal's file does not say how a key is answered that is not there: here as whatever else is not.
FAL["paths"]["/keys/{key_id}"]["delete"]["responses"]["404"] = {"$ref": "#/components/responses/Error"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MANY = pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.long)], ids=["few", "many"])
FLUX = "fal-ai/flux-lora"
ALIASES = [alias for endpoint in catalog.ENDPOINTS for alias in endpoint.aliases]
EVERY = [name for endpoint in catalog.ENDPOINTS for name in (endpoint.id, *endpoint.aliases)]


@dataclass(frozen=True)
class Offered:
    """A running server, keys for it, and what is there to be asked for, by the names of parameters."""

    server: WebServer
    keys: dict[str, str]
    known: dict[str, list[str]]
    requests: dict[str, list[str]]  # by their endpoints; under another's path they are found, and have other results


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Offered]:
    with (
        serving(Settings(data_dir=tmp_path_factory.mktemp("contract")), as_declared=True) as server,
        server.client() as client,
    ):
        ids: dict[str, str] = {}
        model = ""
        for endpoint in catalog.ENDPOINTS:  # one that makes a model comes before one that uses it
            required = [(name, field) for name, field in endpoint.input.model_fields.items() if field.is_required()]
            body = {name: "data:;base64,UEsDBA==" if is_file(field) else "a" for name, field in required}
            body |= {"model_id": model} if "model_id" in body else {}
            sent = client.post(f"/queue/{endpoint.id}?fal_webhook=http://127.0.0.1:9/", json=body).json()
            ids |= dict.fromkeys((endpoint.id, *endpoint.aliases), sent["request_id"])
            server.wait(sent["request_id"], "COMPLETED")
            model = client.get(sent["response_url"]).json().get("model_id", model)
        failed = client.post(f"/queue/{FLUX}", json={"prompt": "fail"}).json()["request_id"]
        server.wait(failed, "COMPLETED")
        url = client.post("/cdn/files/upload", content=b"bytes").json()["access_url"]
        keys = {"ADMIN": server.create_key("admin", Scope.ADMIN), "API": server.key, "none": ""}
        spare = server.create_key("spare").partition(":")[0]
        models = [model["model_id"] for model in client.get("/v1/custom-models").json()["models"]]
        file_id, name = url.split("/")[-2:]
        requests = [failed, *ids.values()]
        known = {"request_id": requests, "id": [*requests, *models, spare], "key_id": [spare], "url": [url],
                 "endpoint_id": EVERY, "endpoint": EVERY, "file_id": [file_id], "name": [name]}  # fmt: skip
        yield Offered(server, keys, known, {of: [failed, request_id] for of, request_id in ids.items()})


def check(offered: Offered, document: Any, origin: str, *, many: bool) -> None:
    """Calls each operation with a few or with many inputs of its schema, and as many beside it. A few leave aliases
    out, whose endpoints are called."""
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()
        if not many and any(f"/{alias}" in operation.path for alias in ALIASES):
            continue
        # Any text may stand in a path, and any bytes in a file.
        can_be_wrong = [*operation.query, *(body for body in operation.body if body.media_type == "application/json")]
        for mode in schemathesis.GenerationMode if can_be_wrong else [schemathesis.GenerationMode.POSITIVE]:
            call_with(operation.as_strategy(mode), offered, origin, many=many)


def call_with(cases: st.SearchStrategy[Any], offered: Offered, origin: str, *, many: bool) -> None:
    @settings(
        max_examples=30 if many else 2,
        deadline=None,
        derandomize=not many,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, data=st.data())
    def call(case: Any, data: Any) -> None:
        endpoint = case.operation.path.removeprefix("/queue").strip("/").partition("/requests")[0]
        known = offered.known | {"request_id": offered.requests.get(endpoint, offered.known["request_id"])}
        for sent in (case.path_parameters, case.query):
            for name in sorted({*known} & {*(sent or {})}):
                if data.draw(st.booleans(), name):
                    sent[name] = data.draw(st.sampled_from(known[name]), name)
        (case.query or {}).pop("fal_webhook", None)  # nothing is sent to hosts that were made up
        (case.headers or {}).pop("X-Fal-Request-Timeout", None)  # one that runs out is a 504, as it has to be
        key = offered.keys[data.draw(st.sampled_from([*offered.keys]), "key")]
        headers = {"Authorization": f"Key {key}"} if key else None
        case.call_and_validate(base_url=origin, headers=headers, checks=CHECKS, timeout=60)

    call()


@MANY
def test_the_platform_api_answers_as_fals_own_description_says(offered: Offered, many: bool) -> None:
    validate(FAL)
    described = {(path, method) for path, operations in FAL["paths"].items() for method in operations}
    ours = {(route.path_format, method.lower()) for route in PLATFORM for method in route.handlers}
    assert {(placed(f"/v1{path}"), method) for path, method in described} == {(placed(path), one) for path, one in ours}
    check(offered, FAL, f"{offered.server.origin}/v1", many=many)


def placed(path: str) -> str:
    return re.sub("{.*?}", "{}", path)


@MANY
def test_every_operation_of_the_server_answers_as_its_document_says(offered: Offered, many: bool) -> None:
    document = httpx.get(f"{offered.server.origin}/openapi.json", trust_env=False, timeout=60).json()
    check(offered, document, offered.server.origin, many=many)


@MANY
def test_an_endpoint_answers_as_its_own_document_says(offered: Offered, many: bool) -> None:
    named = {"endpoint_id": FLUX}
    address = f"{offered.server.origin}/api/openapi/queue/openapi.json"
    document = httpx.get(address, params=named, trust_env=False).json()
    check(offered, document, document["servers"][0]["url"], many=many)
