"""Custom models over HTTP, from the request that trains one to the request that may not use it."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import httpx
import pytest
from tests.support.web_server import WebServer

from tintype.errors import InternalError

TRAINER = "/queue/fal-ai/ideogram/custom-models"
DRAWER = "/queue/fal-ai/ideogram/custom-models/generate"
MODELS = "/v1/custom-models"
DATASET = "data:application/zip;base64,UEsDBA=="


def train(client: httpx.Client, path: str = TRAINER, **body: Any) -> str:
    """A training request's id; its model is the newest."""
    answer = client.post(path, json={"images_data_url": DATASET, "default_caption": uuid.uuid4().hex, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["request_id"]


def model_of(client: httpx.Client, request_id: str) -> dict[str, Any]:
    return next(model for model in listed(client) if model["request_id"] == request_id)


def listed(client: httpx.Client, **params: Any) -> list[dict[str, Any]]:
    return client.get(MODELS, params={"limit": 1000, **params}).json()["models"]


def trained(client: httpx.Client, server: WebServer, **body: Any) -> dict[str, Any]:
    request_id = train(client, **body)
    server.wait(request_id, "COMPLETED")
    return model_of(client, request_id)


def refused(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 422, answer.text
    (entry,) = answer.json()["detail"]
    assert entry["loc"] == ["body", "model_id"]
    return entry


@pytest.mark.parametrize("path", [TRAINER, TRAINER + "/train"])
def test_a_model_is_listed_from_submit_on_and_completed_with_its_request(
    client: httpx.Client, server: WebServer, path: Any
) -> None:
    server.hold()
    request_id = train(client, path, name="My own style")
    model = model_of(client, request_id)
    assert (model["status"], model["name"], model["files"]) == ("CREATING", "My own style", {})
    assert model["custom_model_uri"].startswith("model/my-own-style/version/")
    assert model["is_available_for_generation"] is False
    server.release()
    server.wait(request_id, "COMPLETED")
    model = client.get(f"{MODELS}/{model['model_id']}").json()
    assert (model["status"], model["is_available_for_generation"], model["error"]) == ("COMPLETED", True, None)
    url = model["files"]["diffusers_lora_file"]["url"]
    assert url.startswith(server.origin)
    assert httpx.get(url, trust_env=False).content.startswith(b"weights of")


def test_a_completed_model_is_drawn_with_and_its_lora_is_what_should_be_resident(
    client: httpx.Client, server: WebServer
) -> None:
    model = trained(client, server)
    answer = client.post(DRAWER, json={"model_id": model["model_id"], "prompt": "A photo in my custom style"})
    request = server.call(lambda store: store.requests.get(answer.json()["request_id"]))
    assert request.model_id == model["model_id"]
    kept = server.call(lambda store: store.models.find(model["model_id"]))
    assert request.affinity == f"ideogram4 {kept.files['diffusers_lora_file']['url']}"


def test_a_model_that_is_not_completed_is_refused_with_its_status(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    request_id = train(client, name="Still young")
    model = model_of(client, request_id)
    draw = {"model_id": model["model_id"], "prompt": "x"}
    entry = refused(client.post(DRAWER, json=draw))
    assert "'Still young' is CREATING, not COMPLETED" in entry["msg"]
    assert entry["ctx"] == {"status": "CREATING"}
    claim = server.call(lambda store: store.leases.claim("w", "training"))
    assert claim is not None
    assert "is TRAINING" in refused(client.post(DRAWER, json=draw))["msg"]
    server.call(lambda store: store.leases.fail(claim, InternalError("It broke.").failure()))
    assert "is ERRORED, not COMPLETED: It broke." in refused(client.post(DRAWER, json=draw))["msg"]
    assert client.get(f"{MODELS}/{model['model_id']}").json()["error"] == "It broke."
    # Waiting for an answer makes no difference to a refusal.
    assert refused(client.post(DRAWER.replace("/queue", "/run"), json=draw))


@pytest.mark.parametrize("model_id", ["", "unknown", "x" * 200, "a\0b", "é"])
def test_an_unknown_model_is_refused_at_its_place(client: httpx.Client, model_id: str) -> None:
    entry = refused(client.post(DRAWER, json={"model_id": model_id, "prompt": "x"}))
    assert "/v1/custom-models" in entry["msg"]


def test_a_resent_training_makes_one_model(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    words = uuid.uuid4().hex
    ids = {train(client, default_caption=words) for _ in range(3)}
    assert len(ids) == 1
    assert sum(model["request_id"] in ids for model in listed(client)) == 1


def test_a_refused_training_makes_none(client: httpx.Client) -> None:
    before = len(listed(client))
    assert client.post(TRAINER, json={"images_data_url": DATASET, "name": "tiny"}).status_code == 422
    assert client.post(TRAINER, json={"images_data_url": "nowhere"}).status_code == 422
    assert len(listed(client)) == before


def test_renaming_changes_the_display_name_alone(client: httpx.Client, server: WebServer) -> None:
    model = trained(client, server)
    where = f"{MODELS}/{model['model_id']}"
    renamed = client.patch(where, json={"name": "  Another name "}).json()
    assert renamed == {**model, "name": "Another name"}
    assert client.get(where).json() == renamed
    body: Any
    for body in ({"name": "four"}, {"name": "x" * 31}, {"name": 7}, {}, [], None):
        answer = client.patch(where, json=body)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", "name"]
    assert client.patch(where, content=b"{").status_code == 422
    assert client.get(where).json() == renamed


def test_an_archived_model_is_hidden_refused_and_keeps_its_files(client: httpx.Client, server: WebServer) -> None:
    model = trained(client, server)
    archived = client.post(f"{MODELS}/{model['model_id']}/archive").json()
    assert (archived["status"], archived["files"]) == ("ARCHIVED", model["files"])
    assert model["model_id"] not in [each["model_id"] for each in listed(client)]
    assert archived in listed(client, status="archived")
    assert "is ARCHIVED" in refused(client.post(DRAWER, json={"model_id": model["model_id"], "prompt": "x"}))["msg"]
    assert httpx.get(model["files"]["config_file"]["url"], trust_env=False).status_code == 200


def test_a_deleted_model_answers_archived_and_its_files_are_gone_from_the_disk(
    client: httpx.Client, server: WebServer
) -> None:
    model = trained(client, server)
    folder = server.settings.data_dir / "files" / model["files"]["config_file"]["url"].split("/")[-2]
    assert folder.exists()
    deleted = client.delete(f"{MODELS}/{model['model_id']}").json()
    assert (deleted["status"], deleted["files"]) == ("ARCHIVED", {})
    assert client.get(f"{MODELS}/{model['model_id']}").json() == deleted
    assert not list(folder.glob("*"))
    assert httpx.get(model["files"]["config_file"]["url"], trust_env=False).status_code == 404
    assert deleted not in listed(client, status="ARCHIVED")
    assert client.delete(f"{MODELS}/{model['model_id']}").json() == deleted
    assert "is ARCHIVED" in refused(client.post(DRAWER, json={"model_id": model["model_id"], "prompt": "x"}))["msg"]


def test_a_model_in_training_is_neither_archived_nor_deleted(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    request_id = train(client)
    model = model_of(client, request_id)
    for answer in (
        client.delete(f"{MODELS}/{model['model_id']}"),
        client.post(f"{MODELS}/{model['model_id']}/archive"),
    ):
        assert answer.status_code == 400
        assert request_id in answer.json()["message"]
    assert model_of(client, request_id)["status"] == "CREATING"


def test_the_list_goes_on_where_it_stopped(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    made = [train(client) for _ in range(3)]
    first = client.get(MODELS, params={"limit": 2}).json()
    assert [model["request_id"] for model in first["models"]] == made[:0:-1]
    rest = client.get(MODELS, params={"limit": 1, "before": first["next"]}).json()
    assert [model["request_id"] for model in rest["models"]] == made[:1]
    assert all(model["status"] == "CREATING" for model in listed(client, status="CREATING"))
    for wrong in ({"limit": 0}, {"limit": 1.5}, {"limit": "many"}, {"before": "nan"}, {"status": "DONE"}):
        assert client.get(MODELS, params=wrong).status_code == 400


def test_another_key_sees_nothing_of_a_model_and_no_key_nothing_at_all(client: httpx.Client, server: WebServer) -> None:
    model = trained(client, server)
    _, other = server.call(lambda store: store.keys.create(f"other {uuid.uuid4().hex}"))
    where = f"{MODELS}/{model['model_id']}"
    with httpx.Client(base_url=server.origin, headers={"Authorization": f"Key {other}"}, trust_env=False) as stranger:
        assert listed(stranger) == []
        for answer in (
            stranger.get(where),
            stranger.patch(where, json={"name": "Stolen"}),
            stranger.post(f"{where}/archive"),
            stranger.delete(where),
        ):
            assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")
        assert (
            "no custom model"
            in refused(stranger.post(DRAWER, json={"model_id": model["model_id"], "prompt": "x"}))["msg"]
        )
    assert httpx.get(server.origin + where, trust_env=False).status_code == 401
    assert client.get(where).json() == model


def test_a_page_of_this_computer_may_rename_and_delete(client: httpx.Client) -> None:
    answer = client.options(f"{MODELS}/x", headers={"origin": "http://localhost:3000"})
    assert {"PATCH", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))


@pytest.mark.parametrize("model_id", ["nobody", "%00", "%F0%9F%98%80", "a%0Ab"])
def test_a_model_that_is_not_there_is_a_404(client: httpx.Client, model_id: str) -> None:
    assert client.get(f"{MODELS}/{model_id}").status_code == 404
    assert client.delete(f"{MODELS}/{model_id}").status_code == 404


def test_a_large_dataset_in_the_body_belongs_to_a_model_too(client: httpx.Client, server: WebServer) -> None:
    uri = "data:application/zip;base64," + base64.b64encode(b"PK\x03\x04" + b"0" * 200_000).decode()
    assert trained(client, server, images_data_url=uri)["status"] == "COMPLETED"
