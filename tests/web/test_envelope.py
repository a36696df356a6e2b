from __future__ import annotations

import json

from tests.support.webhook_receiver import is_genuine

from tintype.errors import InvalidArchive
from tintype.store.records import SigningKey
from tintype.web.envelope import body_of, headers_of, key_set

# The published vector: seed, message and what they must come to.
KEY = SigningKey("k", bytes(range(32)), 0.0)
REQUEST_ID = "00000000-0000-4000-8000-000000000001"
MESSAGE = {"request_id": REQUEST_ID, "gateway_request_id": REQUEST_ID, "status": "OK", "payload": {"seed": 42}}
SIGNATURE = (
    "fc47cb811958e69138ffabb965b1305dca43d83dcda0992623c6839aa3deb692"
    "83710e3751fe5e13a46c2cc1d4414a837338b7247b210ac9caad1b20817fbb06"
)


def test_the_published_vector_is_met_and_an_independent_script_agrees():
    body = body_of(MESSAGE, "http://127.0.0.1:8787")
    assert len(body) == 149
    headers = headers_of(REQUEST_ID, body, KEY, 1767225600.7, user_id="local-user")
    assert headers["X-Fal-Webhook-Signature"] == SIGNATURE
    keys = key_set([KEY])
    assert keys["keys"][0]["x"] == "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
    assert is_genuine(headers, body, keys)


def test_any_change_is_noticed_by_the_script():
    body = body_of(MESSAGE, "")
    headers = headers_of(REQUEST_ID, body, KEY, 1767225600)
    assert not is_genuine(headers, body + b" ", key_set([KEY]))
    assert not is_genuine({**headers, "X-Fal-Webhook-Timestamp": "1767225601"}, body, key_set([KEY]))
    other = SigningKey("o", bytes(32), 0.0)
    assert not is_genuine(headers, body, key_set([other]))
    assert is_genuine(headers, body, key_set([other, KEY]))  # both are published while one takes over


def test_urls_in_a_body_can_be_opened_by_its_receiver():
    file = {"url": "tintype:files/" + "a" * 32 + "/lora.safetensors"}
    body = json.loads(body_of({"payload": {"file": file}}, "https://here.example"))
    assert body["payload"]["file"]["url"] == f"https://here.example/cdn/files/{'a' * 32}/lora.safetensors"
    failed = body_of({"payload": InvalidArchive("No archive.").failure().body}, "https://here.example")
    assert json.loads(failed)["payload"]["detail"][0]["url"] == "https://here.example/docs/errors#invalid_archive"
