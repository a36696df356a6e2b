from __future__ import annotations

import json
import time
import uuid
from datetime import datetime
from typing import Any

import httpx
import pytest
from tests.support.web_server import WebServer

TRAINER = "/queue/fal-ai/flux-lora-portrait-trainer"
DATASET = "data:application/zip;base64,UEsDBA=="


def submit(client: httpx.Client, words: str) -> str:
    body = {"images_data_url": DATASET, "trigger_phrase": f"{words} {uuid.uuid4().hex}"}
    return client.post(TRAINER, json=body).json()["request_id"]


def events(client: httpx.Client, request_id: str, **options: Any) -> list[dict[str, Any]]:
    with client.stream("GET", f"{TRAINER}/requests/{request_id}/status/stream", **options) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-fal-request-id"] == request_id
        text = answer.read()
    assert text.isascii()
    return [json.loads(line.removeprefix(b"data: ")) for line in text.split(b"\n\n") if line.startswith(b"data: ")]


def test_codes_and_keys_are_there_in_every_state_with_and_without_logs(client: httpx.Client, server: WebServer) -> None:
    began = time.monotonic()
    server.hold()
    first, second = submit(client, "slow"), submit(client, "quick")
    for logs in ("", "?logs=1", "?logs=false"):
        queued = client.get(f"{TRAINER}/requests/{second}/status{logs}")
        assert queued.status_code == 202
        assert queued.headers["x-fal-request-id"] == second
        body = queued.json()
        assert (body["status"], body["queue_position"], body["logs"]) == ("IN_QUEUE", 1, [])
        assert body["request_id"] == second
        assert {"response_url", "status_url", "cancel_url", "created_at", "attempts"} <= set(body)
    server.release()
    server.wait(first, "IN_PROGRESS")
    while not (running := client.get(f"{TRAINER}/requests/{first}/status").json())["step"]:
        time.sleep(0.02)
    assert running["step"] in (1, 2)
    assert (running["total_steps"], running["progress"], running["eta"]) == (10, running["step"] / 10, 3.0)
    assert [(attempt["number"], attempt["ending"]) for attempt in running["attempts"]] == [(1, None)]
    assert running["metrics"]["loss"] == 0.5
    assert client.get(f"{TRAINER}/requests/{first}/status").status_code == 202
    client.put(f"{TRAINER}/requests/{first}/cancel")
    cancelled = server.wait(first, "COMPLETED")
    assert cancelled["error_type"] == "client_cancelled"
    assert cancelled["eta"] is None
    assert cancelled["metrics"].keys() == {"loss", "inference_time"}
    done = server.wait(second, "COMPLETED")
    assert "error" not in done
    assert 0 < done["metrics"]["inference_time"] <= time.monotonic() - began
    assert client.get(f"{TRAINER}/requests/{second}/status").status_code == 200
    assert client.get(f"{TRAINER}/requests/{second}/status").json()["logs"] == []


def test_log_lines_have_fals_form(client: httpx.Client, server: WebServer) -> None:
    line = server.wait(submit(client, "x"), "COMPLETED")["logs"][1]
    assert line["message"] == "line 1 ünï"
    assert (line["level"], line["source"]) == ("INFO", "USER")
    assert datetime.fromisoformat(line["timestamp"]).utcoffset().total_seconds() == 0


def test_a_failure_is_completed_with_an_error(client: httpx.Client, server: WebServer) -> None:
    done = server.wait(submit(client, "fail"), "COMPLETED")
    assert (done["error"], done["error_type"]) == ("Not an archive.", "invalid_archive")


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json", "*/*"])
def test_the_stream_tells_each_log_line_once_and_ends_with_completed(client: httpx.Client, accept: str) -> None:
    request_id = submit(client, "x")
    told = events(client, request_id, params={"logs": 1}, headers={"accept": accept})
    assert told[-1]["status"] == "COMPLETED"
    assert [line["message"] for event in told for line in event["logs"]] == [f"line {n} ünï" for n in range(3)]
    assert all({"status", "logs", "response_url"} <= set(event) for event in told)
    assert events(client, request_id)[0]["logs"] == []


def test_the_stream_tells_no_line_again_when_something_else_changes(client: httpx.Client, server: WebServer) -> None:
    request_id = submit(client, "slow")
    told = []
    with client.stream("GET", f"{TRAINER}/requests/{request_id}/status/stream?logs=1") as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: ")))
                if told[-1]["logs"]:
                    server.call(lambda store: store.requests.cancel(request_id))
    assert told[-1]["status"] == "COMPLETED"
    assert [line["message"] for event in told for line in event["logs"]] == [f"line {n} ünï" for n in range(3)]


def test_the_stream_tells_of_the_way_from_the_queue_to_the_end(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    request_id = submit(client, "x")
    with client.stream("GET", f"{TRAINER}/requests/{request_id}/status/stream?logs=1") as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["status"] == "IN_QUEUE"
        server.release()
        last = [line for line in lines if line.startswith("data: ")][-1]
    assert json.loads(last.removeprefix("data: "))["status"] == "COMPLETED"


@pytest.mark.parametrize("request_id", ["6f0c2a52-34a0-4aec-b6cd-9a234f56cc9c", "x", "a%00b", "é", "x" * 200, "..."])
@pytest.mark.parametrize("suffix", ["/status", "/status/stream", "", "/response"])
def test_an_unknown_request_is_a_404_in_json(client: httpx.Client, request_id: str, suffix: str) -> None:
    answer = client.get(f"{TRAINER}/requests/{request_id}{suffix}")
    assert answer.status_code == 404
    assert (answer.json()["status"], answer.json()["error_type"]) == ("NOT_FOUND", "not_found")


def test_nothing_is_remembered_beyond_its_time(client: httpx.Client, server: WebServer) -> None:
    """The cached answer of one state is never given in another."""
    server.hold()
    first, second = submit(client, "a"), submit(client, "b")
    path = f"{TRAINER}/requests/{second}/status"
    assert client.get(path).json()["queue_position"] == 1
    client.put(f"{TRAINER}/requests/{first}/cancel")
    server.release()
    assert server.wait(second, "COMPLETED")
    assert client.get(path).json()["status"] == "COMPLETED"


def test_a_poll_hears_that_the_time_to_start_is_over_though_nobody_works(
    client: httpx.Client, server: WebServer
) -> None:
    server.hold()
    body = {"prompt": uuid.uuid4().hex}
    sent = client.post("/queue/fal-ai/flux-lora", json=body, headers={"x-fal-request-timeout": "0.3"}).json()
    assert client.get(sent["status_url"]).status_code == 202
    time.sleep(0.6)
    status = client.get(sent["status_url"])
    assert (status.status_code, status.json()["error_type"]) == (200, "request_timeout")
    result = client.get(sent["response_url"])
    assert (result.status_code, result.headers["x-fal-request-timeout-type"]) == (504, "user")
    assert result.json()["error_type"] == "request_timeout"


def test_tags_and_the_attempts_of_one_id_are_told(client: httpx.Client, server: WebServer) -> None:
    sent = client.post("/queue/fal-ai/flux-lora", json={"prompt": "x"}, headers={"x-fal-tags": "team=red"}).json()
    done = server.wait(sent["request_id"], "COMPLETED")
    assert done["tags"] == {"team": "red"}
    [attempt] = done["attempts"]
    assert (attempt["number"], attempt["ending"], attempt["cause"]) == (1, "ok", None)
    assert attempt["started_at"] <= attempt["ended_at"] == pytest.approx(done["ended_at"], abs=1)


def test_a_request_is_shown_to_keys_of_its_senders_name_and_to_no_others(
    client: httpx.Client, server: WebServer
) -> None:
    sent = client.post("/queue/fal-ai/flux-lora", json={"prompt": "mine"}).json()
    server.wait(sent["request_id"], "COMPLETED")
    for name, code in (("test", 200), ("somebody else", 404)):
        key = server.create_key(name)
        headers = {"authorization": f"Key {key}"}
        for url in (sent["status_url"], sent["status_url"], sent["response_url"], sent["status_url"] + "/stream"):
            assert client.get(url, headers=headers).status_code == code
        assert client.put(sent["cancel_url"], headers=headers).status_code == (400 if code == 200 else 404)
    assert client.get(sent["status_url"]).status_code == 200


def test_a_revoked_key_is_refused_within_moments_though_it_polls_all_the_time(
    client: httpx.Client, server: WebServer
) -> None:
    sent = client.post("/queue/fal-ai/flux-lora", json={"prompt": "x"}).json()
    server.wait(sent["request_id"], "COMPLETED")
    key, text = server.call(lambda store: store.keys.create("test"))
    headers = {"authorization": f"Key {text}"}
    assert client.get(sent["status_url"], headers=headers).status_code == 200
    server.call(lambda store: store.keys.revoke(key.id))
    ends = time.monotonic() + 30
    while client.get(sent["status_url"], headers=headers).status_code == 200:
        assert time.monotonic() < ends
        time.sleep(0.05)
    assert client.get(sent["status_url"], headers=headers).status_code == 401


def test_a_poll_sees_every_change_at_once(client: httpx.Client, server: WebServer) -> None:
    request_id = submit(client, "slow")
    path = f"{TRAINER}/requests/{request_id}/status?logs=1"
    server.wait(request_id, "IN_PROGRESS")
    seen = [client.get(path).json() for _ in range(3)]
    assert seen[-1]["status"] == "IN_PROGRESS"
    client.put(f"{TRAINER}/requests/{request_id}/cancel")
    after = client.get(path).json()
    assert after.get("cancel_requested") or after["status"] == "COMPLETED"


def test_a_training_that_is_stopped_ends_well_with_what_it_has(client: httpx.Client, server: WebServer) -> None:
    request_id = submit(client, "slow")
    server.wait(request_id, "IN_PROGRESS")
    stopped = client.put(f"{TRAINER}/requests/{request_id}/stop")
    assert (stopped.status_code, stopped.json()["status"]) == (202, "STOP_REQUESTED")
    assert "error_type" not in server.wait(request_id, "COMPLETED")
    assert client.get(f"{TRAINER}/requests/{request_id}").json()["diffusers_lora_file"]
    again = client.post(f"{TRAINER}/requests/{request_id}/stop")
    assert (again.status_code, again.json()["status"]) == (400, "ALREADY_COMPLETED")


def test_what_cannot_be_stopped_says_why(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    waiting = submit(client, "x")
    refused = client.put(f"{TRAINER}/requests/{waiting}/stop")
    assert (refused.status_code, "not begun" in refused.json()["message"]) == (400, True)
    assert client.put(f"{TRAINER}/requests/nothing/stop").status_code == 404
    server.release()


def test_what_failed_or_was_cancelled_goes_on_under_its_id(client: httpx.Client, server: WebServer) -> None:
    request_id = submit(client, "slow")
    server.wait(request_id, "IN_PROGRESS")
    path = f"/v1/requests/{request_id}/retry"
    assert client.post(path).status_code == 400
    client.put(f"{TRAINER}/requests/{request_id}/cancel")
    server.wait(request_id, "COMPLETED")
    assert client.post(path).json() == {"status": "IN_QUEUE", "request_id": request_id}
    server.wait(request_id, "IN_PROGRESS")
    stranger = {"Authorization": f"Key {server.create_key('stranger')}"}
    assert client.post(path, headers=stranger).status_code == 404


DRAWER = "/queue/fal-ai/flux-lora"


def draw(client: httpx.Client, words: str = "x") -> str:
    return client.post(DRAWER, json={"prompt": f"{words} {uuid.uuid4().hex}"}).json()["request_id"]


def test_a_result_is_the_bare_output_with_urls_as_the_caller_reaches_them(
    client: httpx.Client, server: WebServer
) -> None:
    request_id = draw(client)
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
def test_every_form_of_the_result_url_works(client: httpx.Client, server: WebServer, path: str) -> None:
    request_id = draw(client)
    server.wait(request_id, "COMPLETED")
    assert client.get(path.format(request_id)).status_code == 200


def test_a_result_asked_for_too_early_is_never_a_2xx(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    request_id = draw(client)
    answer = client.get(f"{DRAWER}/requests/{request_id}")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("Request is still in progress")
    server.release()


def test_a_failed_request_answers_as_its_job_did(client: httpx.Client, server: WebServer) -> None:
    request_id = draw(client, "fail")
    server.wait(request_id, "COMPLETED")
    answer = client.get(f"{DRAWER}/requests/{request_id}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["type"] == "invalid_archive"
    assert answer.json()["detail"][0]["url"] == f"{server.origin}/docs/errors#invalid_archive"
    assert answer.headers["x-fal-request-id"] == request_id


@pytest.mark.parametrize("words", ["x", "fail"])
def test_an_answer_names_the_worker_whose_it_is(client: httpx.Client, server: WebServer, words: str) -> None:
    request_id = draw(client, words)
    server.wait(request_id, "COMPLETED")
    [attempt] = server.call(lambda store: store.requests.attempts(request_id))
    assert client.get(f"{DRAWER}/requests/{request_id}").headers["x-fal-served-from"] == attempt.worker_id
    ran = client.post(DRAWER.replace("queue", "run"), json={"prompt": words})
    assert ran.headers["x-fal-served-from"] == attempt.worker_id


def test_pictures_that_are_in_the_output_itself_are_not_kept_in_the_history(
    client: httpx.Client, server: WebServer
) -> None:
    request_id = client.post(DRAWER, json={"prompt": "x", "sync_mode": True}).json()["request_id"]
    server.wait(request_id, "COMPLETED")
    kept = server.call(lambda store: store.requests.get(request_id))
    assert (kept.store_io, kept.input) == (False, {})
    assert client.get(f"{DRAWER}/requests/{request_id}").status_code == 200


def test_cancelling_a_queued_request_ends_it_and_twice_is_told(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    request_id = draw(client)
    first = client.put(f"{DRAWER}/requests/{request_id}/cancel", headers={"content-type": "application/json"})
    assert (first.status_code, first.json()["status"]) == (202, "CANCELLATION_REQUESTED")
    again = client.put(f"{DRAWER}/requests/{request_id}/cancel/")
    assert (again.status_code, again.json()["status"]) == (400, "ALREADY_COMPLETED")
    result = client.get(f"{DRAWER}/requests/{request_id}")
    assert (result.status_code, result.json()["error_type"]) == (499, "client_cancelled")
    server.release()


def test_whatever_comes_of_a_request_that_was_found_its_id_is_in_the_answer(
    client: httpx.Client, server: WebServer
) -> None:
    server.hold()
    request_id = draw(client)
    path = f"{DRAWER}/requests/{request_id}"
    early = client.get(path)
    assert (early.status_code, early.json()["error_type"]) == (400, "still_in_progress")
    assert early.headers["x-fal-request-id"] == request_id
    assert client.put(f"{path}/cancel").headers["x-fal-request-id"] == request_id
    server.wait(request_id, "COMPLETED")
    cancelled = client.get(path)
    assert (cancelled.status_code, cancelled.headers["x-fal-request-id"]) == (499, request_id)
    unknown = uuid.uuid4()
    assert client.get(f"{DRAWER}/requests/{unknown}").headers["x-fal-request-id"] != str(unknown)


def test_cancelling_a_running_request_stops_it_and_asking_twice_is_no_error(
    client: httpx.Client, server: WebServer
) -> None:
    request_id = draw(client, "slow")
    server.wait(request_id, "IN_PROGRESS")
    assert client.put(f"{DRAWER}/requests/{request_id}/cancel").status_code == 202
    assert client.put(f"{DRAWER}/requests/{request_id}/cancel").status_code in (202, 400)
    assert server.wait(request_id, "COMPLETED")["error_type"] == "client_cancelled"


def test_cancelling_what_is_done_or_unknown_is_told(client: httpx.Client, server: WebServer) -> None:
    request_id = draw(client)
    server.wait(request_id, "COMPLETED")
    assert client.put(f"{DRAWER}/requests/{request_id}/cancel").status_code == 400
    assert client.put(f"{DRAWER}/requests/{uuid.uuid4()}/cancel").status_code == 404
    assert client.get(f"{DRAWER}/requests/{request_id}").status_code == 200


def test_a_result_that_has_been_forgotten_is_a_404_for_whoever_asks_and_its_status_stays(
    client: httpx.Client, server: WebServer
) -> None:
    key = {"x-idempotency-key": uuid.uuid4().hex}
    body = {"prompt": "forget me"}
    sent = client.post(DRAWER, json=body, headers=key).json()
    server.wait(sent["request_id"], "COMPLETED")
    assert client.get(sent["response_url"]).status_code == 200
    while server.call(lambda store: store.requests.erase_old(-60.0)):
        pass  # it erases so many at a time, and other tests have left theirs
    for answer in (
        client.get(sent["response_url"]),
        client.post(DRAWER.replace("/queue", "/run"), json=body, headers=key),
    ):
        assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")
    status = client.get(sent["status_url"] + "?logs=1").json()
    assert (status["status"], status["logs"]) == ("COMPLETED", [])
    assert "not kept" in client.get(sent["response_url"]).json()["message"]
