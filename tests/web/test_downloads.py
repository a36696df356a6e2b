from __future__ import annotations

import email
import email.policy

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tintype.files import new_file_id, own_file
from tintype.web.downloads import MOST_RANGES, spans_of

DATA = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def url(server):
    with server.client() as client:
        headers = {"x-fal-file-name": 'wei"ghts ü.html'.encode(), "content-type": "text/html"}
        return client.post("/cdn/files/upload", content=DATA, headers=headers).json()["access_url"]


@pytest.fixture(scope="module")
def get(url):
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield lambda method="GET", **headers: client.request(
            method, url, headers={name.replace("_", "-"): value for name, value in headers.items()}
        )


def test_a_file_is_sent_whole_and_never_as_a_page_of_ours(get):
    answer = get(origin="https://any.example")
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["content-disposition"].startswith('attachment; filename="wei_ghts__.html"')
    assert answer.headers["content-disposition"].endswith("filename*=UTF-8''wei_ghts_%C3%BC.html")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["x-fal-request-id"]


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [("bytes=0-99", 0, 100), ("bytes=1000-", 1000, 1024), ("bytes=-24", 1000, 1024), ("bytes=0-99999", 0, 1024),
     ("bytes=-99999", 0, 1024), ("bytes=1023-1023", 1023, 1024), ("Bytes = 1-2", None, None)],
)  # fmt: skip
def test_a_range_gives_exactly_its_bytes(get, wanted, start, end):
    answer = get(range=wanted)
    if start is None:
        assert answer.status_code == 200
        return
    assert (answer.status_code, answer.content) == (206, DATA[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/1024"


@pytest.mark.parametrize("wanted", ["bytes=1024-", "bytes=5000-6000", "bytes=-0", "bytes=2000-,-0"])
def test_a_range_beyond_the_end_is_a_416_in_json(get, wanted):
    answer = get(range=wanted)
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */1024")
    assert answer.json()["error_type"] == "range_not_satisfiable"


@pytest.mark.parametrize("wanted", ["bytes=5-2", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,3-2", "bytes", "",
                                    "bytes=0-1023,0-", "bytes=" + ",".join(["0-0"] * (MOST_RANGES + 1))])  # fmt: skip
def test_what_is_no_range_or_asks_for_more_than_there_is_is_ignored(get, wanted):
    assert (get(range=wanted).status_code, get(range=wanted).content) == (200, DATA)


def test_a_head_tells_the_same_without_the_bytes(get):
    answer = get("HEAD")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "1024")
    part = get("HEAD", range="bytes=0-9")
    assert (part.status_code, part.headers["content-length"]) == (206, "10")


def test_a_part_is_given_only_of_the_file_it_belongs_to(get):
    etag, modified = get().headers["etag"], get().headers["last-modified"]
    assert get(range="bytes=0-9", if_range=etag).status_code == 206
    assert get(range="bytes=0-9", if_range=modified).status_code == 206
    assert get(range="bytes=0-9", if_range='"other"').status_code == 200
    assert get(if_none_match=f'W/{etag}, "x"').status_code == 304
    assert get(if_none_match='"x"').status_code == 200


def test_a_file_that_is_not_there_is_a_404_in_json(get, url, client):
    file_id, name = own_file(url)
    for path in (f"/cdn/files/{new_file_id()}/{name}", f"/cdn/files/{file_id}/other.html", "/cdn/files/x/y"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error_type"]) == (404, "not_found")


def test_an_empty_file_is_sent_and_has_no_ranges(client):
    url = client.post("/cdn/files/upload", content=b"").json()["access_url"]
    assert (client.get(url).status_code, client.get(url).content) == (200, b"")
    assert client.get(url, headers={"range": "bytes=0-"}).status_code == 416


def test_several_ranges_come_in_the_order_asked_as_the_parts_of_one_message(get):
    answer = get(range="bytes=1000-, 0-9, 5000-, -4")
    assert answer.status_code == 206
    assert int(answer.headers["content-length"]) == len(answer.content)
    head = f"content-type: {answer.headers['content-type']}\n\n".encode()
    message = email.message_from_bytes(head + answer.content, policy=email.policy.HTTP)
    parts = [(part["content-range"], part.get_payload(decode=True)) for part in message.iter_parts()]
    wanted = [(1000, 1024), (0, 10), (1020, 1024)]
    assert parts == [(f"bytes {start}-{end - 1}/1024", DATA[start:end]) for start, end in wanted]
    assert {part.get_content_type() for part in message.iter_parts()} == {"text/html"}
    assert get("HEAD", range="bytes=0-1,3-4").status_code == 206


def test_conditions_about_the_whole_file_are_kept(get):
    etag, modified = get().headers["etag"], get().headers["last-modified"]
    old, new = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    for answer, status in (
        (get(if_match=f'"x", {etag}'), 200), (get(if_match="*"), 200), (get(if_match='"x"'), 412),
        (get(if_match=f"W/{etag}"), 412), (get(if_unmodified_since=modified), 200), (get(if_unmodified_since=old), 412),
        (get(if_modified_since=modified), 304), (get(if_modified_since=old), 200), (get(if_modified_since=new), 304),
        (get(if_modified_since="yesterday"), 200), (get(if_none_match='"x"', if_modified_since=new), 200),
        (get(if_match=etag, if_unmodified_since=old), 200), (get(if_none_match="*"), 304),
    ):  # fmt: skip
        assert answer.status_code == status, answer.request.headers
    assert get(if_match='"x"').json()["error_type"] == "precondition_failed"
    assert get(if_none_match=etag, range="bytes=0-9").status_code == 304


def test_nothing_keeps_a_file_longer_than_it_lasts(client):
    headers = {"x-fal-object-lifecycle": '{"expiration_duration_seconds": 100}'}
    url = client.post("/cdn/files/upload", content=b"x", headers=headers).json()["access_url"]
    kept = int(client.get(url).headers["cache-control"].partition("max-age=")[2])
    assert 0 <= kept <= 100


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "text/xml"])
def test_nothing_that_was_uploaded_runs_as_a_page_or_script_of_ours(client, kind):
    data = b"<html xmlns='http://www.w3.org/1999/xhtml'><script>alert(1)</script></html>"
    for sent in (kind, f"{kind}; charset=utf-8"):
        url = client.post("/cdn/files/upload", content=data, headers={"content-type": sent}).json()["access_url"]
        answer = client.get(url)
        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.headers["content-security-policy"].startswith("sandbox;")
        assert answer.headers["x-content-type-options"] == "nosniff"


@given(st.text() | st.from_regex(r"bytes=[0-9]*-[0-9]*(,[0-9]*-[0-9]*)*"), st.integers(0, 2000))
def test_any_range_lies_within_the_file(header, size):
    spans = spans_of(header, size)
    assert spans is None or all(0 <= start < end <= size for start, end in spans)
    assert sum(end - start for start, end in spans or ()) <= size
