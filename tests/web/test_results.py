from __future__ import annotations

import uuid

import httpx
import pytest

DRAWER = "/queue/fal-ai/flux-lora"


def submit(client, words="x"):
    return client.post(DRAWER, json={"prompt": f"{words} {uuid.uuid4().hex}"}).json()["request_id"]


def test_a_result_is_the_bare_output_with_urls_as_the_caller_reaches_them(client, server):
    request_id = submit(client)
    server.wait(request_id, "COMPLETED")
    answer = client.get(f"{DRAWER}/requests/{request_id}")
    assert answer.status_code == 200
    assert answer.headers["x-fal-request-id"] == request_id
    assert "x-fal-billable-units" in answer.headers
    url = answer.json()["config_file"]["url"]
    assert url.startswith(server.origin + "/cdn/files/")
    other_name = client.get(f"{DRAWER}/requests/{request_id}", headers={"host": "localhost:1234"})
    assert other_name.json()["config_file"]["url"].startswith("http://localhost:1234/cdn/files/")
    assert httpx.get(url, trust_env=False).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/queue/fal-ai/flux-lora/requests/{}", "/queue/fal-ai/flux-lora/requests/{}/", "/fal-ai/any/thing/requests/{}",
     "/queue/fal-ai/flux-lora/requests/{}/response", "/queue/workflows/o/a/requests/{}"],
)  # fmt: skip
def test_every_form_of_the_result_url_works(client, server, path):
    request_id = submit(client)
    server.wait(request_id, "COMPLETED")
    assert client.get(path.format(request_id)).status_code == 200


def test_a_result_asked_for_too_early_is_never_a_2xx(client, server):
    server.hold()
    request_id = submit(client)
    answer = client.get(f"{DRAWER}/requests/{request_id}")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("Request is still in progress")
    server.release()


def test_a_failed_request_answers_as_its_job_did(client, server):
    request_id = submit(client, "fail")
    server.wait(request_id, "COMPLETED")
    answer = client.get(f"{DRAWER}/requests/{request_id}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "invalid_archive"
    assert answer.json()["detail"][0]["url"] == f"{server.origin}/docs/errors#invalid_archive"
    assert answer.headers["x-fal-request-id"] == request_id


@pytest.mark.parametrize("words", ["x", "fail"])
def test_an_answer_names_the_worker_whose_it_is(client, server, words):
    request_id = submit(client, words)
    server.wait(request_id, "COMPLETED")
    [attempt] = server.call(lambda queue: queue.attempts(request_id))
    assert client.get(f"{DRAWER}/requests/{request_id}").headers["x-fal-served-from"] == attempt.worker_id
    ran = client.post(DRAWER.replace("queue", "run"), json={"prompt": words})
    assert ran.headers["x-fal-served-from"] == attempt.worker_id


def test_pictures_that_are_in_the_output_itself_are_not_kept_in_the_history(client, server):
    request_id = client.post(DRAWER, json={"prompt": "x", "sync_mode": True}).json()["request_id"]
    server.wait(request_id, "COMPLETED")
    kept = server.call(lambda queue: queue.get(request_id))
    assert (kept.store_io, kept.input) == (False, {})
    assert client.get(f"{DRAWER}/requests/{request_id}").status_code == 200


def test_cancelling_a_queued_request_ends_it_and_twice_is_told(client, server):
    server.hold()
    request_id = submit(client)
    first = client.put(f"{DRAWER}/requests/{request_id}/cancel", headers={"content-type": "application/json"})
    assert (first.status_code, first.json()["status"]) == (202, "CANCELLATION_REQUESTED")
    again = client.put(f"{DRAWER}/requests/{request_id}/cancel/")
    assert (again.status_code, again.json()["status"]) == (400, "ALREADY_COMPLETED")
    result = client.get(f"{DRAWER}/requests/{request_id}")
    assert (result.status_code, result.json()["error_type"]) == (499, "client_cancelled")
    server.release()


def test_cancelling_a_running_request_stops_it_and_asking_twice_is_no_error(client, server):
    request_id = submit(client, "slow")
    server.wait(request_id, "IN_PROGRESS")
    assert client.put(f"{DRAWER}/requests/{request_id}/cancel").status_code == 202
    assert client.put(f"{DRAWER}/requests/{request_id}/cancel").status_code in (202, 400)
    assert server.wait(request_id, "COMPLETED")["error_type"] == "client_cancelled"


def test_cancelling_what_is_done_or_unknown_is_told(client, server):
    request_id = submit(client)
    server.wait(request_id, "COMPLETED")
    assert client.put(f"{DRAWER}/requests/{request_id}/cancel").status_code == 400
    assert client.put(f"{DRAWER}/requests/{uuid.uuid4()}/cancel").status_code == 404
    assert client.get(f"{DRAWER}/requests/{request_id}").status_code == 200


def test_a_result_that_has_been_forgotten_is_a_404_for_whoever_asks_and_its_status_stays(client, server):
    key = {"x-idempotency-key": uuid.uuid4().hex}
    body = {"prompt": "forget me"}
    sent = client.post(DRAWER, json=body, headers=key).json()
    server.wait(sent["request_id"], "COMPLETED")
    assert client.get(sent["response_url"]).status_code == 200
    server.call(lambda queue: queue.erase_old(-60.0))
    for answer in (
        client.get(sent["response_url"]),
        client.post(DRAWER.replace("/queue", "/run"), json=body, headers=key),
    ):
        assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")
    status = client.get(sent["status_url"] + "?logs=1").json()
    assert (status["status"], status["logs"]) == ("COMPLETED", [])
    assert "not kept" in client.get(sent["response_url"]).json()["message"]
