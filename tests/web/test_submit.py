from __future__ import annotations

import base64
import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.web_server import WebServer

from tintype import catalog
from tintype.files import Objects, new_file_id, own_reference, public_url
from tintype.store import Store
from tintype.store.records import Ending, Scope

TRAINER = "/queue/fal-ai/flux-lora-portrait-trainer"
DRAWER = "/queue/fal-ai/flux-lora"
DATASET = "data:application/zip;base64,UEsDBA=="


def submit(
    client: httpx.Client,
    path: str = TRAINER,
    headers: dict[str, str] | None = None,
    params: dict[str, str] | None = None,
    **body: Any,
) -> httpx.Response:
    return client.post(path, json={"images_data_url": DATASET, **body}, headers=headers, params=params)


def train(client: httpx.Client, url: str, field: str) -> httpx.Response:
    return client.post(TRAINER, json={"images_data_url": DATASET, "trigger_phrase": url, field: url})


def data_files(server: WebServer) -> list[Path]:
    return list((server.settings.data_dir / "files").glob("*/data*"))


def problems(answer: httpx.Response) -> set[tuple[tuple[str | int, ...], str]]:
    assert answer.status_code == 422, answer.text
    body = answer.json()
    assert body["message"]
    assert answer.headers["x-fal-billable-units"] == "0"
    return {(tuple(entry["loc"]), entry["type"]) for entry in body["detail"]}


def test_a_submitted_request_is_answered_with_urls_that_work_and_its_id_in_the_header(
    client: httpx.Client, server: WebServer
) -> None:
    server.hold()
    answer = submit(client, trigger_phrase=uuid.uuid4().hex)
    body = answer.json()
    assert answer.status_code == 200
    assert body["status"] == "IN_QUEUE"
    assert body["request_id"] == body["gateway_request_id"] == answer.headers["x-fal-request-id"]
    assert body["response_url"] == f"{server.origin}{TRAINER}/requests/{body['request_id']}"
    assert body["queue_position"] == 0
    server.release()
    assert client.get(body["status_url"]).status_code in (200, 202)
    server.wait(body["request_id"], "COMPLETED")
    assert client.get(body["response_url"]).status_code == 200


@pytest.mark.parametrize("path", [TRAINER + "/", TRAINER.removeprefix("/queue"), TRAINER.removeprefix("/queue") + "/"])
def test_the_prefix_and_a_trailing_slash_make_no_difference(client: httpx.Client, path: Any) -> None:
    assert submit(client, path, trigger_phrase=path).json()["status"] == "IN_QUEUE"


def test_wrong_inputs_are_told_one_by_one_with_place_type_and_context(client: httpx.Client) -> None:
    answer = client.post(TRAINER, json={"steps": 0, "learning_rate": "fast", "data_archive_format": "rar"})
    assert problems(answer) == {
        (("body", "images_data_url"), "missing"),
        (("body", "steps"), "greater_than_equal"),
        (("body", "learning_rate"), "float_parsing"),
        (("body", "data_archive_format"), "one_of"),
    }
    entry = next(entry for entry in answer.json()["detail"] if entry["loc"] == ["body", "steps"])
    assert entry["ctx"] == {"ge": 1}
    assert entry["input"] == 0
    assert entry["url"].startswith("http://127.0.0.1")


def test_an_empty_body_is_an_empty_object(client: httpx.Client) -> None:
    headers = {"content-type": "application/json"}
    assert problems(client.post(TRAINER, headers=headers)) == {(("body", "images_data_url"), "missing")}


@pytest.mark.parametrize(
    "content",
    [b"{", b"\x00\x01\x02", b"\xff\xfe\xff", b'{"a": 01}', b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}", b"'", b'"'],
)
def test_a_body_that_is_not_json_is_a_422_and_not_a_500(client: httpx.Client, content: bytes) -> None:
    answer = client.post(TRAINER, content=content)
    assert {type_ for _, type_ in problems(answer)} == {"json_invalid"}
    assert "This " in answer.json()["message"]


@pytest.mark.parametrize("content", [b"[]", b"null", b"3", b'"x"', b"[1]", b"true"])
def test_json_that_is_no_object_is_a_422(client: httpx.Client, content: bytes) -> None:
    assert problems(client.post(TRAINER, content=content)) == {(("body",), "value_error")}


def test_an_unknown_endpoint_names_the_nearest(client: httpx.Client) -> None:
    answer = client.post("/queue/fal-ai/flux-lora-portrait-trainr", json={})
    assert answer.status_code == 404
    assert "Did you mean fal-ai/flux-lora-portrait-trainer?" in answer.json()["detail"]


def test_a_file_of_this_server_has_to_be_there(client: httpx.Client, server: WebServer) -> None:
    uploaded = client.post("/cdn/files/upload", content=b"PK\x03\x04", headers={"x-fal-file-name": "a.zip"}).json()
    assert submit(client, images_data_url=uploaded["access_url"]).status_code == 200
    for gone in (public_url(server.origin, new_file_id(), "a.zip"), "tintype:files/x/y"):
        answer = submit(client, images_data_url=gone)
        assert problems(answer) == {(("body", "images_data_url"), "file_download_error")}
        assert "Upload it again" in answer.json()["message"]
    nested = client.post(DRAWER, json={"prompt": "x", "loras": [{"path": "https://h/a"}, {"path": gone}]})
    assert problems(nested) == {(("body", "loras", 1, "path"), "file_download_error")}


def test_a_file_of_another_server_like_this_one_is_fetched_from_there(client: httpx.Client) -> None:
    assert submit(client, images_data_url=public_url("https://other.ex", new_file_id(), "a.zip")).status_code == 200


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x.zip", "http://2130706433/", "http://[::ffff:10.0.0.1]/", "http://localhost/"]
)
def test_plainly_private_addresses_are_refused_at_submit(client: httpx.Client, url: str) -> None:
    answer = submit(client, images_data_url=url)
    assert problems(answer) == {(("body", "images_data_url"), "file_download_error")}
    assert "TINTYPE_ALLOW_PRIVATE_INPUTS" in answer.json()["message"]


def test_an_address_in_a_text_is_only_text(client: httpx.Client) -> None:
    assert client.post(DRAWER, json={"prompt": "http://127.0.0.1/ is my home"}).status_code == 200


@pytest.mark.parametrize("url", ["data:;base64,$", "/home/me/photos.zip", "", "ftp://h/x", {"url": "nothing"}, 3, None])
def test_what_is_no_file_is_refused_at_its_place(client: httpx.Client, url: Any) -> None:
    assert {loc for loc, _ in problems(submit(client, images_data_url=url))} == {("body", "images_data_url")}


def test_a_url_may_come_as_an_object(client: httpx.Client) -> None:
    assert submit(client, images_data_url={"url": DATASET, "content_type": "application/zip"}).status_code == 200


def test_a_large_data_uri_becomes_a_file_and_leaves_the_request_small(client: httpx.Client, server: WebServer) -> None:
    data = b"PK\x03\x04" + os.urandom(3_000_000)
    uri = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    request_id = submit(client, images_data_url=f" \n{uri}\n ", trigger_phrase="large").json()["request_id"]
    stored = server.call(lambda store: store.requests.get(request_id)).input["images_data_url"]
    file_id, name = own_reference(stored) or ("", "")
    assert name == "data.zip"
    assert client.get(f"/cdn/files/{file_id}/{name}").content == data
    assert not list((server.settings.data_dir / "uploads" / "incoming").iterdir())


def test_a_large_data_uri_that_cannot_be_decoded_is_a_422_that_leaves_nothing(
    client: httpx.Client, server: WebServer
) -> None:
    before = len(data_files(server))
    uri = "data:;base64," + "A" * 100_000 + "$"
    assert problems(submit(client, images_data_url=uri)) == {(("body", "images_data_url"), "file_download_error")}
    loras = [{"path": "data:;base64," + "A" * 100_000}, {"path": "data:;base64," + "A" * 100_001}]
    assert problems(client.post(DRAWER, json={"prompt": "x", "loras": loras})) == {
        (("body", "loras", 1, "path"), "file_download_error")
    }
    assert len(data_files(server)) == before
    assert not list((server.settings.data_dir / "uploads" / "incoming").iterdir())


def test_a_large_data_uri_has_no_place_in_a_text(client: httpx.Client) -> None:
    answer = client.post(DRAWER, json={"prompt": "data:," + "x" * 100_000})
    assert problems(answer) == {(("body", "prompt"), "sequence_too_long")}


def test_an_unknown_input_is_ignored_with_a_note_that_names_the_nearest(
    client: httpx.Client, server: WebServer
) -> None:
    request_id = submit(client, stepz=3, trigger_phrase="note").json()["request_id"]
    logs = server.wait(request_id, "COMPLETED")["logs"]
    assert "Did you mean steps?" in logs[0]["message"]


@pytest.mark.parametrize("scope", Scope)
def test_only_an_admin_key_switches_the_content_filter_off(
    client: httpx.Client, server: WebServer, scope: Scope
) -> None:
    ignored = "Only an ADMIN key may switch the content filter off: enable_safety_checker: false was ignored."
    client.headers["Authorization"] = f"Key {server.create_key(f'of scope {scope}', scope)}"
    answer = client.post(DRAWER, json={"prompt": "a hat", "enable_safety_checker": False})
    request_id = answer.json()["request_id"]

    async def said(store: Store) -> list[str]:
        return [line.message for line in await store.requests.logs(request_id)]

    is_on = scope is Scope.API
    assert server.request(request_id).input["enable_safety_checker"] is is_on
    assert (ignored in server.call(said)) is is_on


def test_an_unknown_part_of_an_input_is_named_with_its_place(client: httpx.Client, server: WebServer) -> None:
    body = {"prompt": "x", "loras": [{"path": DATASET, "weight": 0.2}], "image_size": {"width": 512, "hight": 512}}
    request_id = client.post(DRAWER, json=body).json()["request_id"]
    said = [line["message"] for line in server.wait(request_id, "COMPLETED")["logs"][:2]]
    assert said == [
        "'loras[0].weight' is not an input of fal-ai/flux-lora and was ignored. Did you mean scale?",
        "'image_size.hight' is not an input of fal-ai/flux-lora and was ignored. Did you mean height?",
    ]


@pytest.mark.parametrize("unset", ["", None, " "])
def test_what_is_sent_as_unset_is_as_if_it_were_not_sent(client: httpx.Client, server: WebServer, unset: Any) -> None:
    names = ("seed", "image_size", "loras", "guidance_scale", "sync_mode", "output_format", "acceleration")
    request_id = client.post(DRAWER, json={"prompt": "x", **dict.fromkeys(names, unset)}).json()["request_id"]
    assert server.request(request_id).input == catalog.find("fal-ai/flux-lora").parse({"prompt": "x"}).model_dump()
    assert client.get("/run/fal-ai/flux-lora", params={"prompt": "x", "seed": unset or ""}).status_code == 200


def test_the_largest_seed_is_kept_to_the_last_digit(client: httpx.Client, server: WebServer) -> None:
    request_id = client.post(DRAWER, json={"prompt": "x", "seed": 2**64 - 1}).json()["request_id"]
    assert server.request(request_id).input["seed"] == 2**64 - 1


def test_an_idempotency_key_leads_to_the_same_request(client: httpx.Client, server: WebServer) -> None:
    headers = {"x-idempotency-key": uuid.uuid4().hex}
    first = client.post(DRAWER, json={"prompt": "a"}, headers=headers).json()["request_id"]
    server.wait(first, "COMPLETED")
    assert client.post(DRAWER, json={"prompt": "a"}, headers=headers).json()["request_id"] == first
    assert client.post(DRAWER, json={"prompt": "a"}).json()["request_id"] != first


def test_a_resent_training_is_one_request_and_identical_drawings_are_several(
    client: httpx.Client, server: WebServer
) -> None:
    server.hold()
    word = uuid.uuid4().hex
    with ThreadPoolExecutor(4) as pool:
        trained = {a.json()["request_id"] for a in pool.map(lambda _: submit(client, trigger_phrase=word), range(4))}
        drawn = {
            a.json()["request_id"] for a in pool.map(lambda _: client.post(DRAWER, json={"prompt": word}), range(4))
        }
    assert len(trained) == 1
    assert len(drawn) == 4
    assert submit(client, trigger_phrase=word, steps=7).json()["request_id"] not in trained
    server.release()


def test_a_resent_training_with_a_large_file_keeps_one_copy_of_it(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    uri = "data:application/zip;base64," + base64.b64encode(os.urandom(100_000)).decode()
    before = len(data_files(server))
    assert submit(client, images_data_url=uri).json() == submit(client, images_data_url=uri).json()
    assert len(data_files(server)) == before + 1
    server.release()


def test_a_queue_that_is_longer_than_wanted_is_a_429(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    for number in range(2):
        client.post(DRAWER, json={"prompt": f"fill {number}"})
    answer = client.post(DRAWER, json={"prompt": "x"}, params={"fal_max_queue_length": 0})
    assert answer.status_code == 429
    assert answer.headers["x-fal-error-type"] == "queue_full"
    server.release()


def test_an_option_that_makes_no_sense_is_a_400(client: httpx.Client) -> None:
    answer = submit(client, headers={"x-fal-request-timeout": "soon"})
    assert (answer.status_code, answer.json()["error_type"]) == (400, "bad_request")


def test_a_start_deadline_that_passes_is_a_504_that_no_client_repeats(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    request_id = submit(client, headers={"x-fal-request-timeout": "0.2"}, trigger_phrase="late").json()["request_id"]
    server.wait(request_id, "COMPLETED")
    answer = client.get(f"/queue/a/b/requests/{request_id}")
    assert answer.status_code == 504
    assert answer.headers["x-fal-request-timeout-type"] == "user"
    server.release()


def test_what_the_queue_keeps_of_a_request(client: httpx.Client, server: WebServer) -> None:
    request_id = client.post(
        DRAWER,
        json={"prompt": "x", "loras": [{"path": "https://h/a.safetensors"}]},
        headers={"x-fal-queue-priority": "low"},
    ).json()["request_id"]
    kept = server.call(lambda store: store.requests.get(request_id))
    assert (kept.priority, kept.affinity, kept.origin) == ("low", "flux https://h/a.safetensors", server.origin)
    assert json.dumps(kept.input)


def test_what_was_said_about_the_files_of_the_result_is_kept_to(client: httpx.Client, server: WebServer) -> None:
    said = {"expiration_duration_seconds": 3600, "initial_acl": {"default": "forbid"}}
    headers = {"x-fal-object-lifecycle-preference": json.dumps(said)}
    request_id = client.post(DRAWER, json={"prompt": "x"}, headers=headers).json()["request_id"]
    server.wait(request_id, "COMPLETED")
    url = client.get(f"/queue/a/b/requests/{request_id}").json()["config_file"]["url"]
    assert client.get(url).status_code == 200
    assert client.get(url, headers={"Authorization": ""}).status_code == 403
    file_id = url.split("/")[-2]
    kept = server.call(lambda store: store.files.find(file_id))
    assert kept is not None
    assert kept.expires_at is not None
    assert 3500 < kept.expires_at - kept.created_at < 3700


def test_a_request_that_is_not_to_be_tried_again_is_not(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    request_id = submit(client, headers={"x-fal-no-retry": "1"}, trigger_phrase="once").json()["request_id"]

    async def die(store: Store) -> None:
        claim = await store.leases.claim("w", "training")
        assert claim is not None
        await store.leases.release(claim, Ending.DIED, "the process died")

    server.call(die)
    done = server.wait(request_id, "COMPLETED")
    assert [attempt["ending"] for attempt in done["attempts"]] == ["died"]
    assert "the process died" in done["error"]


def test_a_request_that_waits_for_memory_says_why_and_how_long(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    holder, waiting = (
        submit(client, trigger_phrase=name).json()["request_id"] for name in ("has the memory", "waits for it")
    )

    async def refuse(store: Store) -> None:
        first, second = await store.leases.claim("w", "training"), await store.leases.claim("w", "training")
        assert first is not None
        assert second is not None
        await store.leases.heartbeat(first, step=1, total=9, metrics={"eta": 40.0})
        await store.leases.release(second, Ending.WAITED, "Waits for memory of cuda:0.", waits_for=holder)

    assert "waiting" not in client.get(f"/queue/a/b/requests/{waiting}/status").json()
    server.call(refuse)
    told = client.get(f"/queue/a/b/requests/{waiting}/status").json()
    assert (told["status"], told["queue_position"], told["eta"], told["metrics"]) == ("IN_QUEUE", 0, None, {})
    assert told["waiting"] == {"reason": "Waits for memory of cuda:0.", "eta": 40.0}


@pytest.mark.parametrize(
    "url",
    ["http://h/\ud800", "http://xn--a.com/", f"http://{'a' * 70}.example/", "http://xn--/", "http://[::1", "http://a:b/",
     "http://\u2024/", "https://\xad/", "http://a\u0300\u200d.com/", "http://h/cdn/files/" + "A" * 32 + "/\udfff"],
)  # fmt: skip
def test_a_url_that_no_one_can_read_is_a_422(client: httpx.Client, url: str) -> None:
    answer = client.post(TRAINER, content=json.dumps({"images_data_url": url}))
    assert [entry["loc"] for entry in answer.json()["detail"]] == [["body", "images_data_url"]]
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"images_data_url": DATASET, "trigger_phrase": "\ud800"}, ["body", "trigger_phrase"]),
        ({"images_data_url": DATASET, "sample_prompts": ["x", "\udfff"]}, ["body", "sample_prompts", 1]),
        ({"images_data_url": DATASET, "\ud800": 1}, ["body"]),
        ({"images_data_url": DATASET, "steps": "\ud800"}, ["body", "steps"]),
    ],
)
def test_half_a_character_is_a_422_that_names_the_place(client: httpx.Client, body: Any, loc: Any) -> None:
    answer = client.post(TRAINER, content=json.dumps(body))
    assert problems(answer) == {(tuple(loc), "string_unicode")}


def test_a_number_of_thousands_of_digits_is_called_that(client: httpx.Client) -> None:
    answer = client.post(TRAINER, content=b'{"steps": ' + b"9" * 5000 + b"}")
    assert problems(answer) == {(("body", "steps"), "json_invalid")}
    assert "steps: This is a number of thousands of digits" in answer.json()["message"]
    longest = client.post(TRAINER, content=b'{"steps": ' + b"9" * 4000 + b', "sample_prompts": [' + b"9" * 4301 + b"]}")
    assert problems(longest) == {(("body", "sample_prompts", 0), "json_invalid")}


def test_a_wrong_image_size_is_told_as_a_person_would(client: httpx.Client) -> None:
    word = client.post(DRAWER, json={"prompt": "x", "image_size": "huge"})
    assert problems(word) == {(("body", "image_size"), "one_of")}
    sides = client.post(DRAWER, json={"prompt": "x", "image_size": {"width": 1}})
    assert problems(sides) == {(("body", "image_size", "width"), "greater_than_equal")}
    assert "literal" not in word.text + sides.text


def test_an_idempotency_key_gives_one_request_and_refuses_another(client: httpx.Client) -> None:
    headers = {"x-idempotency-key": uuid.uuid4().hex}
    body = {"prompt": "a"}
    first, again = (client.post(DRAWER, json=body, headers=headers) for _ in range(2))
    assert first.json()["request_id"] == again.json()["request_id"]
    for path, other in ((DRAWER, {"prompt": "b"}), (DRAWER + "?fal_webhook=https://example.com", body)):
        refused = client.post(path, json=other, headers=headers)
        assert (refused.status_code, refused.json()["error_type"]) == (422, "idempotency_key_reused")
        assert first.json()["request_id"] in refused.json()["message"]


def test_what_is_not_to_be_kept_is_forgotten_once_it_is_over(client: httpx.Client, server: WebServer) -> None:
    data = "data:application/zip;base64," + base64.b64encode(os.urandom(300_000)).decode()
    body = {"images_data_url": data, "trigger_phrase": "a secret"}
    sent = client.post(TRAINER, json=body, headers={"x-fal-store-io": "0"}).json()
    server.wait(sent["request_id"], "COMPLETED")
    assert client.get(sent["response_url"]).json()["words"] == "a secret"
    request = server.call(lambda store: store.requests.get(sent["request_id"]))
    assert request.input == {}
    files = server.call(lambda store: store.files.of_request(sent["request_id"]))
    given = [file for file in files if file.created_at <= request.created_at]
    assert [file.expires_at for file in given] == [request.ended_at]
    assert [file.expires_at for file in files if file not in given] == [None]


def test_a_runner_hint_stands_for_the_lora_it_names(client: httpx.Client, server: WebServer) -> None:
    server.hold()
    url = client.post("/cdn/files/upload", content=b"x", headers={"x-fal-file-name": "a.safetensors"}).json()
    named = client.post(DRAWER, json={"prompt": "x", "loras": [{"path": url["access_url"]}]})
    hinted = client.post(DRAWER, json={"prompt": "y"}, headers={"x-fal-runner-hint": url["access_url"]})
    plain = client.post(DRAWER, json={"prompt": "z"})
    wishes = [server.request(sent.json()["request_id"]).affinity for sent in (named, hinted, plain)]
    assert wishes[0] == wishes[1] != wishes[2]


@pytest.mark.parametrize("host", ["http://example.com", "https://photos.example:8787", "http://127.0.0.1@example.com"])
@pytest.mark.parametrize("field", ["images_data_url", "resume_from_checkpoint"])
def test_a_foreign_host_is_foreign_though_its_path_names_a_file_of_ours(
    client: httpx.Client, server: WebServer, host: str, field: str
) -> None:
    url = client.post("/cdn/files/upload", content=b"PK", headers={"x-fal-file-name": "a.zip"}).json()["access_url"]
    foreign = f"{host}/files/{'/'.join(url.split('/')[-2:])}"
    request_id = train(client, foreign, field).json()["request_id"]
    assert server.request(request_id).input[field] == foreign


def test_a_file_whose_upload_is_not_complete_is_named_by_nobody(client: httpx.Client, server: WebServer) -> None:
    file_id = new_file_id()
    Objects.open(server.settings.storage_url).put_bytes(f"{file_id}/a.zip", b"half of somebody's photos")
    for url in (
        f"{server.origin}/cdn/files/{file_id}/a.zip",
        f"{server.origin.replace('127.0.0.1', 'LOCALHOST.')}/files/{file_id}/a.zip",
        f"http://[::1]/files/{file_id}/a.zip",
        f"http://me:secret@127.0.0.1:1/files/{file_id}/a.zip",
        f"tintype:files/{file_id}/a.zip",
        f"TINTYPE:files/{file_id}/a.zip",
        f"TinType:Files/{file_id}/%61.zip?until=99999999999",
    ):
        for field in ("images_data_url", "resume_from_checkpoint"):
            assert problems(train(client, url, field)) == {(("body", field), "file_download_error")}, url
        lora = client.post(DRAWER, json={"prompt": "x", "loras": [{"path": url}]})
        assert problems(lora) == {(("body", "loras", 0, "path"), "file_download_error")}, url


@pytest.mark.parametrize("url", ["TINTYPE:files/x", "tintype:files/spooled/x", " tintype:files/x", "tintype:other/x"])
def test_what_only_looks_like_a_reference_is_refused_at_submit(client: httpx.Client, url: str) -> None:
    assert {loc for loc, _ in problems(submit(client, images_data_url=url))} == {("body", "images_data_url")}


def test_a_signed_url_opens_its_file_to_the_request_as_long_as_it_lasts(
    client: httpx.Client, server: WebServer
) -> None:
    headers = {"x-fal-file-name": "a.zip", "x-fal-object-lifecycle": '{"initial_acl": {"default": "hide"}}'}
    url = client.post("/cdn/files/upload", content=b"PK", headers=headers).json()["access_url"]
    asked = client.post("/v1/storage/files/sign", params={"url": url}, json={"expiration_seconds": 60})
    _, other = server.call(lambda store: store.keys.create("somebody else"))
    theirs = {"Authorization": f"Key {other}"}
    assert problems(submit(client, headers=theirs, images_data_url=url))
    signed = asked.json()["signed_url"]
    request_id = submit(client, headers=theirs, images_data_url=signed).json()["request_id"]
    request = server.request(request_id)
    reference = request.input["images_data_url"]
    assert server.call(lambda store: store.files.is_readable(reference, request.key_id))
    plain = reference.partition("?")[0]
    assert not server.call(lambda store: store.files.is_readable(plain, request.key_id))
    assert not server.call(lambda store: store.files.is_readable(plain + "?until=1", request.key_id))
