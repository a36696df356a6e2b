from __future__ import annotations

import json
import socket
import time

import pytest

from tintype.web import protocol


def connect(server):
    host, port = server.origin.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=60)


def whole(connection):
    """All that is said until the other side closes (a reset is a close)."""
    said = b""
    try:
        while piece := connection.recv(65536):
            said += piece
    except ConnectionResetError:
        pass
    return said


def refused(said):
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"x-fal-request-id: " in head
    assert json.loads(body)["error_type"] == "bad_request"
    return int(head.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01", b"GET / HTTP/9\r\n\r\n", b"GET / HTTP/1.1\r\nA\0: b\r\n\r\n", b"GET \xff HTTP/1.1\r\n\r\n"],
)
def test_what_is_not_http_is_answered_in_json(server, sent):
    with connect(server) as connection:
        connection.sendall(sent)
        assert refused(whole(connection)) == 400


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nA: ", b"a"),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\n", b"A: b\r\n"),
        (b"GET /", b"a"),
    ],
    ids=["one header", "many headers", "path"],
)
def test_endless_headers_are_refused_instead_of_kept(server, start, more):
    with connect(server) as connection:
        try:
            connection.sendall(start)
            while connection.send(more * (65536 // len(more))):
                connection.settimeout(0.01)
                try:
                    said = connection.recv(65536)
                    break
                except TimeoutError:
                    connection.settimeout(60)
        except (BrokenPipeError, ConnectionResetError):
            return  # closed before its word was read
        assert said == b"" or said.split(b" ")[1] in (b"400", b"431")


def test_endless_trailers_end_the_connection(client, server):
    server.hold()
    head = f"POST /queue/fal-ai/flux-lora HTTP/1.1\r\nHost: localhost\r\nAuthorization: Key {server.key}\r\n"
    with connect(server) as connection:
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            connection.sendall(b"A: b\r\n" * 2_000_000)


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET /health HTTP/1.1\r\n", b"POST /queue/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"],
)
def test_a_request_that_stands_still_is_let_go(start, begun, tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 0.2)
    server = start(data_dir=tmp_path, auth="off")
    with connect(server) as connection:
        connection.sendall(begun)
        whole(connection)  # or the socket's own timeout fails the test


def test_a_request_that_comes_slowly_and_an_answer_that_is_slow_are_not_cut_off(start, tmp_path, monkeypatch):
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 0.5)
    server = start(data_dir=tmp_path, auth="off")
    server.hold()
    body = b'{"prompt": "slow"}'
    head = f"POST /run/fal-ai/flux-lora HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with connect(server) as connection:
        connection.sendall(head.encode())
        for at in range(0, len(body), 6):
            time.sleep(0.2)
            connection.sendall(body[at : at + 6])
        connection.settimeout(1.5)
        with pytest.raises(TimeoutError):  # three times as long as a caller may be silent: it is still waited for
            connection.recv(1)
