"""What the OpenAPI documents say is valid, in fal's form, what the catalogue declares, and what is answered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import OpenAPIV30SpecValidator, validate
from pydantic import BaseModel, Field
from tests.support.web_server import WebServer

from tintype import catalog
from tintype.catalog import Endpoint, EndpointInput
from tintype.catalog.fields import FileUrl
from tintype.errors import InputError
from tintype.fal import FAL_PROXY_HEADER, QUEUE_ORIGIN
from tintype.web.routes import CDN, OURS, PAGES, PLATFORM, REST
from tintype.web.usage_schema import METRICS, UsageQuery

ADDRESS = "/api/openapi/queue/openapi.json"
ZIP = "https://example.com/photos.zip"
ENDPOINTS = pytest.mark.parametrize("endpoint", catalog.ENDPOINTS, ids=lambda endpoint: endpoint.id)
Json = dict[str, Any]


@pytest.fixture
def stranger(server: WebServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.origin, trust_env=False) as client:
        yield client


def document(client: httpx.Client, endpoint_id: str) -> Json:
    answer = client.get(ADDRESS, params={"endpoint_id": endpoint_id})
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def problems(described: Json, schema: Json, value: object) -> list[str]:
    return [
        error.message for error in OAS30Validator({**schema, "components": described["components"]}).iter_errors(value)
    ]


def declared(described: Json, path: str, answer: httpx.Response) -> Json:
    """The schema of an answer's status, or of its hundred."""
    responses = described["paths"][path][answer.request.method.lower()]["responses"]
    status = str(answer.status_code)
    schema: Json = responses.get(status, responses.get(f"{status[0]}XX"))["content"]["application/json"]["schema"]
    return schema


def check(described: Json, path: str, answer: httpx.Response) -> None:
    """Holds an answer against what is declared for its path, method and status."""
    schema = declared(described, path, answer)
    name = schema["$ref"].rpartition("/")[2]
    assert problems(described, described["components"]["schemas"][name], answer.json()) == []


def test_no_document_has_the_word_by_which_scripts_tell_a_failure(stranger: httpx.Client) -> None:
    for endpoint in catalog.ENDPOINTS:
        text = stranger.get(ADDRESS, params={"endpoint_id": endpoint.id}).text
        assert '"error"' not in text
        assert '"detail":"' not in text


@ENDPOINTS
def test_each_endpoint_is_described_to_anybody_in_fals_form(
    stranger: httpx.Client, server: WebServer, endpoint: Endpoint
) -> None:
    for name in (endpoint.id, *endpoint.aliases):
        described = document(stranger, name)
        validate(described, cls=OpenAPIV30SpecValidator)
        assert described["openapi"] == "3.0.4"
        assert described["info"]["title"] == f"Queue OpenAPI for {name}"
        assert described["info"]["x-fal-metadata"]["endpointId"] == name
        assert described["info"]["x-fal-metadata"]["category"] == endpoint.category
        assert described["servers"] == [{"url": f"{server.origin}/queue"}]
        one = f"/{name}/requests/{{request_id}}"
        methods = {path: set(operations) for path, operations in described["paths"].items()}
        assert methods == {f"/{name}": {"post"}, one: {"get"}, f"{one}/status": {"get"}, f"{one}/cancel": {"put"}}
        sent = described["paths"][f"/{name}"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        given = described["paths"][one]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        assert (sent[-5:], given[-6:]) == ("Input", "Output")
        for reference, model in ((sent, endpoint.input), (given, endpoint.output)):
            schema = described["components"]["schemas"][reference.rpartition("/")[2]]
            assert schema["x-fal-order-properties"] == list(schema["properties"]) == list(model.model_fields)
            required = [field for field, info in model.model_fields.items() if info.is_required()]
            assert schema["required"] == required
            for field, info in model.model_fields.items():
                if not info.is_required() and info.default not in (None, ...) and not info.default_factory:
                    assert schema["properties"][field]["default"] == info.default
                assert schema["properties"][field].get("description") == info.description


@pytest.mark.parametrize(
    ("endpoint_id", "name"),
    [
        ("fal-ai/flux-lora", "FluxLora"),
        ("fal-ai/flux-lora-portrait-trainer", "FluxLoraPortraitTrainer"),
        ("ideogram/v4/lora", "IdeogramV4Lora"),
        ("fal-ai/ideogram/custom-models/generate", "IdeogramCustomModelsGenerate"),
    ],
)
def test_schemas_are_named_after_the_endpoint(stranger: httpx.Client, endpoint_id: str, name: str) -> None:
    assert {f"{name}Input", f"{name}Output", "QueueStatus"} <= document(stranger, endpoint_id)["components"][
        "schemas"
    ].keys()


TAKEN: list[tuple[str, Json, bool]] = [
    ("fal-ai/flux-lora", {}, True),
    ("fal-ai/flux-lora", {"seed": None, "image_size": {"width": 2560, "height": 1080}}, True),
    ("fal-ai/flux-lora", {"seed": 2**64 - 1, "loras": [{"path": ZIP, "scale": 4}]}, True),
    ("fal-ai/flux-lora", {"seed": -1}, True),
    ("fal-ai/flux-lora", {"seed": -2}, False),
    ("fal-ai/flux-lora", {"seed": 2**64}, False),
    ("fal-ai/flux-lora", {"image_size": "huge"}, False),
    ("fal-ai/flux-lora", {"image_size": {"width": 5000}}, False),
    ("fal-ai/flux-lora", {"loras": [{"scale": 1}]}, False),
    ("fal-ai/flux-lora", {"loras": [{"path": ZIP, "scale": 4.1}]}, False),
    ("fal-ai/flux-lora", {"loras": [{"path": ZIP}] * 101}, False),
    ("ideogram/v4/lora", {"loras": [{"path": ZIP}] * 3, "expansion_model": "None"}, True),
    ("ideogram/v4/lora", {"loras": [{"path": ZIP}] * 4}, False),
    ("fal-ai/flux-lora-portrait-trainer", {"learning_rate": 0.01, "trigger_phrase": None}, True),
    ("fal-ai/flux-lora-portrait-trainer", {"learning_rate": 0}, False),  # an exclusive bound
    ("fal-ai/flux-lora-portrait-trainer", {"data_archive_format": "rar"}, False),
    ("fal-ai/flux-lora-portrait-trainer", {"sample_prompts": ["x"] * 9}, False),
    ("ideogram/v4/trainer", {"steps": 99}, False),
]


@pytest.mark.parametrize(("endpoint_id", "inputs", "taken"), TAKEN)
def test_a_schema_takes_what_the_endpoint_takes_and_nothing_else(
    stranger: httpx.Client, endpoint_id: str, inputs: Json, taken: bool
) -> None:
    endpoint, described = catalog.find(endpoint_id), document(stranger, endpoint_id)
    assert endpoint is not None
    body = ({"prompt": "x"} if "prompt" in endpoint.input.model_fields else {"images_data_url": ZIP}) | inputs
    (schema,) = [schema for name, schema in described["components"]["schemas"].items() if name.endswith("Input")]
    assert (problems(described, schema, body) == []) is taken
    if taken:
        assert endpoint.parse(body)
    else:
        with pytest.raises(InputError):
            endpoint.parse(body)


def test_what_is_answered_is_what_is_declared(client: httpx.Client, server: WebServer) -> None:
    trainer = "fal-ai/flux-lora-portrait-trainer"
    described, base = document(client, trainer), f"/{trainer}"
    one = f"{base}/requests/{{request_id}}"

    def ask(method: str, path: str, request_id: str = "", **sent: Any) -> httpx.Response:
        url = described["servers"][0]["url"] + path.format(request_id=request_id)
        answer = client.request(method, url, **sent)
        check(described, path, answer)
        return answer

    server.hold()
    body = {"images_data_url": "data:application/zip;base64,UEsDBA==", "trigger_phrase": "openapi"}
    waiting = ask("POST", base, json=body).json()["request_id"]
    assert ask("GET", f"{one}/status", waiting, params={"logs": 1}).status_code == 202
    assert ask("GET", one, waiting).status_code == 400
    assert ask("PUT", f"{one}/cancel", waiting).status_code == 202
    assert ask("PUT", f"{one}/cancel", waiting).status_code == 400
    assert ask("GET", one, waiting).status_code == 499
    server.release()
    done = ask("POST", base, json={**body, "trigger_phrase": "fail"}).json()["request_id"]
    server.wait(done, "COMPLETED")
    assert ask("GET", f"{one}/status", done, params={"logs": 1}).json()["error"]
    assert ask("GET", one, done).status_code == 422
    assert ask("POST", base, json={"steps": 0}).status_code == 422
    for path, method in ((one, "GET"), (f"{one}/status", "GET"), (f"{one}/cancel", "PUT")):
        assert ask(method, path, "0" * 36).status_code == 404
    check(described, base, httpx.post(f"{server.origin}/queue{base}", json=body, trust_env=False))  # without a key


def test_who_comes_by_the_fal_proxy_is_sent_back_there(stranger: httpx.Client) -> None:
    answer = stranger.get(ADDRESS, params={"endpoint_id": "ideogram/v4"}, headers={FAL_PROXY_HEADER: "1"})
    assert answer.json()["servers"] == [{"url": QUEUE_ORIGIN}]
    target = {"x-fal-target-url": f"https://fal.ai{ADDRESS}?endpoint_id=ideogram/v4"}
    assert stranger.get("/proxy", headers=target).json()["info"]["title"] == "Queue OpenAPI for ideogram/v4"


def test_an_endpoint_that_is_not_there_is_told_which_is(stranger: httpx.Client) -> None:
    assert stranger.get(ADDRESS).status_code == stranger.get(ADDRESS, params={"endpoint_id": " "}).status_code == 400
    answer = stranger.get(ADDRESS, params={"endpoint_id": "fal-ai/flux-loras"})
    assert answer.status_code == 404
    assert "Did you mean fal-ai/flux-lora?" in answer.json()["message"]
    assert stranger.get(ADDRESS, params={"endpoint_id": "x" * 9000}).status_code == 404


def test_one_document_describes_every_endpoint_and_every_other_route(stranger: httpx.Client, server: WebServer) -> None:
    described = stranger.get("/openapi.json").json()
    validate(described, cls=OpenAPIV30SpecValidator)
    assert described["servers"] == [{"url": server.origin}]
    for endpoint in catalog.ENDPOINTS:
        for name in (endpoint.id, *endpoint.aliases):
            assert (
                described["paths"][f"/queue/{name}"]["post"]["requestBody"]
                == (described["paths"][f"/run/{name}"]["post"]["requestBody"])
            )
    for prefix, routes in {"": (*PAGES, *PLATFORM, *OURS), "/rest": REST, "/cdn": CDN}.items():
        for route in routes:
            operations = described["paths"][prefix + route.path_format]
            assert {method.upper() for method in operations} == set(route.handlers)
            assert all(operation["summary"].endswith((".", "`.")) for operation in operations.values())
            assert all({"4XX", "5XX"} < {*operation["responses"]} for operation in operations.values())
    assert stranger.get("/").json()["openapi"] == f"{server.origin}/openapi.json"
    for path, operations in described["paths"].items():
        if "get" in operations and "{" not in path:
            answer = stranger.get(path)
            assert answer.status_code in ((200, 400, 503) if operations["get"].get("security") == [] else (401,)), path


class Inset(BaseModel):
    picture: FileUrl = Field(description="A picture.")
    examples: float = Field(1.0, gt=0, lt=2)
    const: str | None = Field(None, max_length=3)


class CollageInput(EndpointInput):
    insets: list[Inset] = Field(min_length=1, max_length=9)
    first: Inset | None = None


COLLAGE = replace(
    catalog.ENDPOINTS[0], id="house/collage", aliases=(), title="Collage", input=CollageInput, examples=()
)


def test_an_endpoint_that_is_declared_here_is_described(
    monkeypatch: pytest.MonkeyPatch, start: Callable[..., WebServer], tmp_path: Path
) -> None:
    monkeypatch.setattr(catalog, "ENDPOINTS", (*catalog.ENDPOINTS, COLLAGE))
    server = start(data_dir=tmp_path)
    with httpx.Client(base_url=server.origin, trust_env=False) as stranger:
        described = document(stranger, "house/collage")
        validate(described, cls=OpenAPIV30SpecValidator)
        schema = described["components"]["schemas"]["HouseCollageInput"]
        for body, taken in (
            ({"insets": [{"picture": ZIP, "examples": 1.9, "const": "abc"}], "first": {"picture": ZIP}}, True),
            ({"insets": [{"picture": ZIP, "const": None}]}, True),
            ({"insets": [{"picture": ZIP, "examples": 2}]}, False),
            ({"insets": [{"picture": ZIP, "const": "abcd"}]}, False),
            ({"insets": [{}]}, False),
            ({"insets": []}, False),
        ):
            assert (problems(described, schema, body) == []) is taken, body
        assert "/queue/house/collage" in stranger.get("/openapi.json").json()["paths"]


def test_the_platform_api_is_described_by_its_models(client: httpx.Client, stranger: httpx.Client) -> None:
    described = stranger.get("/openapi.json").json()
    usage = described["paths"]["/v1/models/usage"]["get"]
    assert {parameter["name"] for parameter in usage["parameters"]} == set(UsageQuery.model_fields)
    estimate = described["paths"]["/v1/models/pricing/estimate"]["post"]["requestBody"]["content"]["application/json"]
    for body, taken in (
        ({"estimate_type": "unit_price", "endpoints": {"a/b": {"unit_quantity": 1}}}, True),
        ({"estimate_type": "unit_price", "endpoints": {"a/b": {"call_quantity": 1}}}, False),
        ({"estimate_type": "guess", "endpoints": {}}, False),
    ):
        assert (problems(described, estimate["schema"], body) == []) is taken
    for path, query, status in (
        ("/v1/models", {"expand": "openapi-3.0,enterprise_status"}, 200),
        ("/v1/models/pricing", {"endpoint_id": "fal-ai/flux-lora"}, 200),
        ("/v1/models/usage", {"expand": "summary,time_series,auth_method,auth_method_structured"}, 200),
        ("/v1/models/analytics", {"endpoint_id": "fal-ai/flux-lora", "expand": f"summary,{','.join(METRICS)}"}, 200),
        ("/v1/models/requests/by-endpoint", {"endpoint_id": "fal-ai/flux-lora", "expand": "payloads"}, 200),
        ("/v1/account/billing", {"expand": "credits"}, 200),
        ("/v1/storage/settings", {}, 200),
        ("/v1/meta", {}, 200),
        ("/v1/models/pricing", {}, 400),
        ("/v1/keys", {}, 403),
    ):
        answer = client.get(path, params=query)
        assert answer.status_code == status
        assert problems(described, declared(described, path, answer), answer.json()) == [], path
