"""fal's platform API: models, prices, estimates, usage, keys and settings, in its shapes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.web_server import WebServer

from tintype import catalog
from tintype.store.records import Scope

FLUX = "fal-ai/flux-lora"
TRAINER = "fal-ai/flux-lora-portrait-trainer"
DATASET = "data:application/zip;base64,UEsDBA=="


@pytest.fixture
def admin(server: WebServer) -> Iterator[httpx.Client]:
    key = server.create_key("the admin", Scope.ADMIN)
    with server.client() as client:
        client.headers["Authorization"] = f"Key {key}"
        yield client


def ran(client: httpx.Client, path: str, body: dict[str, Any]) -> str:
    """A request that has ended; its id."""
    answer = client.post(f"/queue/{path}", json=body)
    assert answer.status_code == 200, answer.text
    request_id: str = answer.json()["request_id"]
    while client.get(f"/queue/{path}/requests/{request_id}/status").json()["status"] != "COMPLETED":
        time.sleep(0.02)
    return request_id


def refused(answer: httpx.Response, status: int, type_: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    error = answer.json()["error"]
    assert error["type"] == type_
    assert error["request_id"] == answer.headers["x-fal-request-id"]
    return str(error["message"])


def test_models_are_listed_searched_and_paged(client: httpx.Client) -> None:
    everything = client.get("/v1/models").json()
    assert [model["endpoint_id"] for model in everything["models"]] == [known.id for known in catalog.ENDPOINTS]
    assert (everything["has_more"], everything["next_cursor"]) == (False, None)
    for model in everything["models"]:
        endpoint = catalog.find(model["endpoint_id"])
        assert endpoint is not None
        metadata = model["metadata"]
        assert (metadata["display_name"], metadata["kind"]) == (endpoint.title, endpoint.kind)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/v1/models", params={"limit": 3, **cursor}).json()
        seen += [model["endpoint_id"] for model in page["models"]]
        assert page["has_more"] is (page["next_cursor"] is not None)
        if not page["has_more"]:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [known.id for known in catalog.ENDPOINTS]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"q": "Portrait LORA"}, {TRAINER}),
        ({"category": "training", "q": "flux person"}, {TRAINER, "fal-ai/flux-lora-fast-training"}),
        ({"endpoint_id": f"{FLUX},{TRAINER}"}, {FLUX, TRAINER}),
        ({"endpoint_id": [FLUX, "no/such"]}, {FLUX}),
        ({"endpoint_id": "fal-ai/ideogram-v4-trainer"}, {"ideogram/v4/trainer"}),  # by an alias
        ({"status": "deprecated"}, set()),
        ({"cursor": "99"}, set()),
    ],
)
def test_models_are_found(client: httpx.Client, query: dict[str, Any], found: set[str]) -> None:
    models = client.get("/v1/models", params=query, headers={"Authorization": ""}).json()["models"]
    assert {model["endpoint_id"] for model in models} == found


def test_the_api_answers_under_the_name_of_fals(client: httpx.Client) -> None:
    named = client.get("/v1/models/pricing", params={"endpoint_id": FLUX}, headers={"Host": "api.fal.ai"})
    assert named.json()["prices"][0]["unit"] == "megapixels"
    unknown = client.get("/v1/workflows", headers={"Host": "api.fal.ai"})
    refused(unknown, 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "type_"),
    [
        ("GET", "/v1/models", {"params": {"limit": "0"}}, 400, "validation_error"),
        ("GET", "/v1/models", {"params": {"status": "young"}}, 400, "validation_error"),
        ("GET", "/v1/models", {"params": {"expand": "everything"}}, 400, "validation_error"),
        ("GET", "/v1/models", {"params": {"cursor": "-1"}}, 400, "validation_error"),
        ("GET", "/v1/models/pricing", {}, 400, "validation_error"),
        ("GET", "/v1/models/pricing", {"params": {"endpoint_id": "a," * 60}}, 400, "validation_error"),
        ("GET", "/v1/models/pricing", {"params": {"endpoint_id": "no/such"}}, 404, "not_found"),
        ("POST", "/v1/models/pricing/estimate", {"content": b"{"}, 400, "validation_error"),
        ("POST", "/v1/models/pricing/estimate", {"json": []}, 400, "validation_error"),
        ("POST", "/v1/models/pricing/estimate", {"json": {"estimate_type": "guess"}}, 400, "validation_error"),
        ("GET", "/v1/models/usage", {"params": {"start": "yesterday"}}, 400, "validation_error"),
        ("GET", "/v1/models/usage", {"params": {"start": "0001-01-01"}}, 400, "validation_error"),
        ("GET", "/v1/models/usage", {"params": {"timezone": "America"}}, 400, "validation_error"),
        ("GET", "/v1/models/usage", {"params": {"timezone": "../../etc/passwd"}}, 400, "validation_error"),
        ("GET", "/v1/models/usage", {"params": {"expand": "auth_method"}}, 400, "validation_error"),
        ("GET", "/v1/models/analytics", {"params": {"endpoint_id": FLUX, "expand": "summary"}}, 400,
         "validation_error"),
        ("GET", "/v1/models/requests/by-endpoint", {"params": {"endpoint_id": FLUX, "limit": 101}}, 400,
         "validation_error"),
        ("DELETE", "/v1/models/requests/no-such/payloads", {}, 404, "not_found"),
        ("GET", "/v1/keys", {}, 403, "authorization_error"),
        ("POST", "/v1/keys", {"json": {"alias": "x"}}, 403, "authorization_error"),
        ("GET", "/v1/models/usage", {"headers": {"Authorization": ""}}, 401, "authorization_error"),
        ("POST", "/v1/models", {}, 405, "validation_error"),
        ("PUT", "/v1/storage/settings", {"json": {"more": 1}}, 400, "validation_error"),
        ("GET", "/v1/storage/files/acl", {"params": {"url": "https://x/y"}}, 404, "not_found"),
        ("POST", "/v1/meta", {"headers": {"Origin": "https://elsewhere.example"}}, 403, "authorization_error"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_told_in_the_platforms_shape(
    client: httpx.Client, method: str, path: str, options: Any, status: int, type_: str
) -> None:
    refused(client.request(method, path, **options), status, type_)


@pytest.mark.parametrize(
    "path", ["/v1/custom-models/no-such", "/v1/requests/no-such/webhooks", "/queue/a/b/requests/x"]
)
def test_all_other_routes_keep_their_shape(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["error_type"] == "not_found"


@pytest.mark.parametrize(
    ("endpoint_id", "body", "units", "dollars"),
    [
        (TRAINER, {"images_data_url": DATASET, "steps": 100}, 1000, 2.4),  # the least that is billed
        (TRAINER, {"images_data_url": DATASET, "steps": 2500}, 2500, 6.0),
        (FLUX, {"prompt": "a", "image_size": {"width": 1040, "height": 1024}, "num_images": 3}, 6, 0.21),  # rounded up
        ("ideogram/v4/trainer", {"images_data_url": DATASET, "steps": 1000}, 1000, 6.75),
        ("ideogram/v4", {"prompt": "a", "rendering_speed": "TURBO", "expansion_model": "None"}, 1, 0.03),
        ("ideogram/v4", {"prompt": "a", "rendering_speed": "QUALITY", "expansion_model": "None"}, 10 / 3, 0.1),
        ("ideogram/v4/lora", {"prompt": "a", "num_images": 2}, 5, 0.15),  # 2 x 0.06 + 0.03 for the prompt
        ("fal-ai/ideogram/custom-models", {"images_data_url": DATASET, "steps": 100}, 1, 40.0),
    ],
)
def test_a_result_names_its_units_and_its_status_what_fal_would_charge(
    client: httpx.Client, server: WebServer, endpoint_id: str, body: Any, units: float, dollars: float
) -> None:
    request_id = ran(client, endpoint_id, body)
    result = client.get(f"/queue/a/b/requests/{request_id}")
    assert float(result.headers["x-fal-billable-units"]) == pytest.approx(units)
    (price,) = client.get("/v1/models/pricing", params={"endpoint_id": endpoint_id}).json()["prices"]
    assert units * price["unit_price"] == pytest.approx(dollars)
    assert price["source"]
    assert price["date"]
    used = client.get(f"/queue/a/b/requests/{request_id}/status").json()["usage"]
    assert (used["cost_at_fal"], used["unit"]) == (pytest.approx(dollars), price["unit"])
    assert used["device_seconds"] >= 0
    told = {"estimate_type": "input", "endpoints": {endpoint_id: {"input": body}}}
    estimate = client.post("/v1/models/pricing/estimate", json=told).json()
    assert estimate["total_cost"] == pytest.approx(dollars)
    assert estimate["estimates"][0]["runs"] >= 1
    assert estimate["estimates"][0]["operations"] > 0


def test_what_failed_costs_nothing(client: httpx.Client, server: WebServer) -> None:
    request_id = ran(client, FLUX, {"prompt": "fail"})
    assert client.get(f"/queue/a/b/requests/{request_id}").headers["x-fal-billable-units"] == "0"
    assert client.get(f"/queue/a/b/requests/{request_id}/status").json()["usage"]["cost_at_fal"] == 0


def test_costs_are_estimated_from_units_and_from_calls(
    client: httpx.Client, start: Callable[..., WebServer], tmp_path: Path
) -> None:
    url = "/v1/models/pricing/estimate"
    units = {"estimate_type": "unit_price", "endpoints": {TRAINER: {"unit_quantity": 2000}, FLUX: {"unit_quantity": 2}}}
    assert client.post(url, json=units).json() == {
        "estimate_type": "unit_price", "total_cost": pytest.approx(4.87), "currency": "USD"
    }  # fmt: skip
    server = start(data_dir=tmp_path / "data")
    calls = {"estimate_type": "historical_api_price", "endpoints": {FLUX: {"call_quantity": 10}}}
    with server.client() as fresh:
        assert fresh.post(url, json=calls).json()["total_cost"] == pytest.approx(0.35), "as the example"
        ran(fresh, FLUX, {"prompt": "a", "num_images": 4})
        assert fresh.post(url, json=calls).json()["total_cost"] == pytest.approx(1.4), "as calls were"


def test_prices_of_a_settings_file_take_the_place_of_fals(start: Callable[..., WebServer], tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text(f'["{FLUX}"]\nprice = 1\nsource = "our contract"\ndate = 2026-11-01\n')
    server = start(data_dir=tmp_path / "data", prices=prices)
    with server.client() as client:
        (price,) = client.get("/v1/models/pricing", params={"endpoint_id": FLUX}).json()["prices"]
        assert (price["unit_price"], price["source"], price["date"]) == (1.0, "our contract", "2026-11-01")
        request_id = ran(client, FLUX, {"prompt": "a"})
        assert client.get(f"/queue/a/b/requests/{request_id}/status").json()["usage"]["cost_at_fal"] == 1.0


def test_usage_is_told_by_time_and_summed_up(client: httpx.Client, server: WebServer) -> None:
    name = f"somebody {time.monotonic_ns()}"
    key = server.create_key(name)
    client.headers["Authorization"] = f"Key {key}"
    ran(client, FLUX, {"prompt": "a", "num_images": 2})
    ran(client, FLUX, {"prompt": "fail"})
    query = {
        "expand": "time_series,summary,auth_method_structured",
        "timeframe": "hour",
        "api_key_id": key.split(":")[0],
    }
    told = client.get("/v1/models/usage", params=query).json()
    (line,) = told["summary"]
    assert (line["endpoint_id"], line["quantity"], line["request_count"]) == (FLUX, 2.0, 2)
    assert line["cost_total"] == pytest.approx(line["quantity"] * line["unit_price"])
    assert line["auth_method_structured"]["login_username"] == name
    assert len(told["time_series"]) in (24, 25), "hours of a day, those without requests too"
    assert told["time_series"][-1]["results"] == [line]
    moment = datetime.fromisoformat(told["time_series"][-1]["bucket"])
    assert moment.utcoffset().total_seconds() == 0
    assert (moment.minute, moment.second) == (0, 0)
    pages = [
        client.get("/v1/models/usage", params={**query, "limit": 13, "cursor": cursor}).json() for cursor in (0, 13)
    ]
    assert pages[0]["time_series"] + pages[1]["time_series"] == told["time_series"]
    assert [page["has_more"] for page in pages] == [True, False]


def test_analytics_hold_the_metrics_that_were_asked_for(client: httpx.Client, server: WebServer) -> None:
    ran(client, FLUX, {"prompt": "a"})
    ran(client, FLUX, {"prompt": "fail"})
    ends = {"success_count", "user_error_count", "error_count"}
    metrics = {"request_count", *ends, "p50_duration", "p99_prepare_duration"}
    query = {"endpoint_id": FLUX, "expand": ["summary", *metrics]}
    told = client.get("/v1/models/analytics", params=query).json()
    (line,) = told["summary"]
    assert line.keys() == {"endpoint_id", *metrics}
    assert line["request_count"] == sum(line[end] for end in ends)  # of this test and those before it
    assert "time_series" not in told


def test_requests_are_listed_with_their_payloads(client: httpx.Client, server: WebServer) -> None:
    request_id = ran(client, FLUX, {"prompt": "a cat of its own"})
    query = {"endpoint_id": FLUX, "request_id": request_id}
    (item,) = client.get("/v1/models/requests/by-endpoint", params=query).json()["items"]
    assert (item["request_id"], item["status_code"]) == (request_id, 200)
    assert "json_input" not in item
    (item,) = client.get("/v1/models/requests/by-endpoint", params={**query, "expand": "payloads"}).json()["items"]
    assert item["json_input"]["prompt"] == "a cat of its own"
    assert item["json_output"]["diffusers_lora_file"]["url"].startswith(server.origin)
    assert client.get("/v1/models/requests/by-endpoint", params={**query, "status": "error"}).json()["items"] == []


def test_a_key_sees_what_its_owner_did_and_an_admin_key_all(
    client: httpx.Client, admin: httpx.Client, server: WebServer
) -> None:
    request_id = ran(client, FLUX, {"prompt": "a"})
    query = {"endpoint_id": FLUX, "request_id": request_id}
    stranger = {"Authorization": f"Key {server.create_key('a stranger')}"}
    url = "/v1/models/requests/by-endpoint"
    assert client.get(url, params=query, headers=stranger).json()["items"] == []
    assert [item["request_id"] for item in admin.get(url, params=query).json()["items"]] == [request_id]
    payloads = f"/v1/models/requests/{request_id}/payloads"
    refused(client.delete(payloads, headers=stranger), 404, "not_found")
    assert admin.delete(payloads).status_code == 200


def test_keys_are_made_listed_and_deleted(client: httpx.Client, admin: httpx.Client) -> None:
    made = admin.post("/v1/keys", json={"alias": "for a program"})
    assert made.status_code == 201
    key = made.json()
    assert key["key"] == f"{key['key_id']}:{key['key_secret']}"
    as_made = {"Authorization": f"Key {key['key']}"}
    assert client.get("/v1/account/billing", headers=as_made).json() == {"username": "for a program"}
    listed = admin.get("/v1/keys", params={"expand": "creator_info"}).json()["keys"]
    (mine,) = [known for known in listed if known["key_id"] == key["key_id"]]
    assert (mine["alias"], mine["scope"], mine["creator_nickname"]) == ("for a program", "API", "the admin")
    assert {known["scope"] for known in listed} == {"API"}
    for _ in range(2):
        assert admin.delete(f"/v1/keys/{key['key_id']}").status_code == 204
    assert client.get("/v1/account/billing", headers=as_made).status_code == 401
    own = admin.headers["Authorization"].removeprefix("Key ").partition(":")[0]
    refused(admin.delete(f"/v1/keys/{own}"), 403, "authorization_error")
    refused(admin.post("/v1/keys", json={"alias": " \n"}), 400, "validation_error")


def test_a_key_is_what_was_asked_for_or_is_not_made(admin: httpx.Client) -> None:
    def known() -> int:
        return len(admin.get("/v1/keys").json()["keys"])

    before = known()
    told = refused(admin.post("/v1/keys", json={"alias": "x", "scope": "ADMIN"}), 403, "authorization_error")
    assert "tintype keys create --scope ADMIN" in told
    told = refused(admin.post("/v1/keys", json={"alias": "x", "expires": 1}), 400, "validation_error")
    assert told.startswith('expires: There is no such field. The body has the form {"alias": TEXT, "scope": "API"}')
    assert known() == before
    made = admin.post("/v1/keys", json={"alias": "x", "scope": "API"})
    assert made.status_code == 201
    refused(admin.delete("/v1/keys/zzz"), 404, "not_found")
    assert admin.delete(f"/v1/keys/{made.json()['key_id']}").status_code == 204


@pytest.mark.parametrize("body", [{}, {"estimate_type": "guess"}])
def test_an_estimate_of_no_kind_is_told_which_there_are(client: httpx.Client, body: dict[str, Any]) -> None:
    told = refused(client.post("/v1/models/pricing/estimate", json=body), 400, "validation_error")
    assert told.startswith("estimate_type: Send one of historical_api_price, unit_price, input. ")
    assert '{"estimate_type": "unit_price", "endpoints": {NAME: {"unit_quantity": NUMBER}}}' in told


def test_the_account_has_no_debts_and_the_installation_no_addresses(client: httpx.Client) -> None:
    billing = client.get("/v1/account/billing", params={"expand": "credits"}).json()
    assert billing["credits"] == {"current_balance": 0.0, "currency": "USD"}
    assert client.get("/v1/meta", headers={"Authorization": ""}).json() == {"webhook_ip_ranges": []}


def test_settings_of_files_hold_for_what_says_nothing_else(client: httpx.Client, server: WebServer) -> None:
    client.headers["Authorization"] = f"Key {server.create_key(f'somebody {time.monotonic_ns()}')}"
    url = "/v1/storage/settings"
    assert client.get(url).json() == {"expiration_duration_seconds": None, "initial_acl": None}
    acl = {"default": "forbid", "rules": [{"user": "anna", "decision": "allow"}]}
    assert client.put(url, json={"expiration_duration_seconds": 3600, "initial_acl": acl}).json()["initial_acl"] == acl
    assert client.get(url).json() == {"expiration_duration_seconds": 3600, "initial_acl": acl}

    def acl_of_upload(**headers: str) -> Any:
        headers = {"Content-Type": "text/plain", "X-Fal-File-Name": "a.txt", **headers}
        uploaded = client.post("/cdn/files/upload", content=b"x", headers=headers).json()["access_url"]
        return client.get("/v1/storage/files/acl", params={"url": uploaded}).json()

    assert acl_of_upload() == acl
    assert acl_of_upload(**{"X-Fal-Object-Lifecycle": "{}"})["default"] == "allow"
    request_id = ran(client, FLUX, {"prompt": "a"})
    (file,) = server.call(lambda store: store.files.of_request(request_id))
    assert file.acl == acl
    assert file.expires_at == pytest.approx(datetime.now(UTC).timestamp() + 3600, abs=60)
    assert client.put(url, json={}).json() == {"expiration_duration_seconds": None, "initial_acl": None}
    assert acl_of_upload()["default"] == "allow"
