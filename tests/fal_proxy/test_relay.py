"""What the relay makes of a connection's requests: another head, the same body, whatever the pieces they come in."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from tintype.errors import BadRequest
from tintype.fal_proxy.relay import RequestRewriter, Rewrite, from_tls_port, to_local_server

SUBMIT = (
    b"POST /fal-ai/flux-lora?fal_webhook=http%3A%2F%2Fhere HTTP/1.1\r\nHost: queue.fal.run\r\n"
    b"Authorization: Key a-real-one:secret\r\nContent-Length: 15\r\nX-Fal-Target-Url: https://elsewhere/\r\n"
    b'X-Fal-Queue-Priority: low\r\n\r\n{"prompt": "x"}'
)
CHUNKED = (
    b"POST /files/upload HTTP/1.1\r\nHost: v3.fal.media:443\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n"
)
POLL = b"GET /fal-ai/flux-lora/requests/1/status HTTP/1.1\r\nhost: queue.fal.run\r\n\r\n"


@pytest.fixture
def rewrite(tmp_path: Path) -> Rewrite:
    (tmp_path / "key").write_text("id:local\n")
    return to_local_server("127.0.0.1:8787", tmp_path / "key")


def test_a_request_comes_with_the_local_key_and_names_the_url_it_was_meant_for(rewrite: Rewrite) -> None:
    out = RequestRewriter(rewrite).feed(SUBMIT)
    head, _, body = out.partition(b"\r\n\r\n")
    assert body == b'{"prompt": "x"}'
    assert head.split(b"\r\n") == [
        b"POST / HTTP/1.1",
        b"Host: 127.0.0.1:8787",
        b"x-tintype-fal-proxy: 1",
        b"x-fal-target-url: https://queue.fal.run/fal-ai/flux-lora?fal_webhook=http%3A%2F%2Fhere",
        b"Authorization: Key id:local",
        b"Content-Length: 15",
        b"X-Fal-Queue-Priority: low",
    ]


def test_without_a_local_key_none_is_sent_and_never_the_programs(tmp_path: Path) -> None:
    out = RequestRewriter(to_local_server("127.0.0.1:8787", tmp_path / "key")).feed(SUBMIT)
    assert b"uthorization" not in out
    assert b"secret" not in out


def test_nobody_who_comes_by_the_tls_port_passes_for_the_fal_proxy() -> None:
    out = RequestRewriter(from_tls_port("there:80")).feed(
        b"GET / HTTP/1.1\r\nHost: here\r\nX-Tintype-Fal-Proxy: 1\r\n\r\n"
    )
    assert out == b"GET / HTTP/1.1\r\nHost: there:80\r\n\r\n"


@given(cuts=st.sets(st.integers(1, len(SUBMIT + CHUNKED + POLL) - 1), max_size=12))
def test_requests_in_any_pieces_arrive_whole_and_in_order(cuts: set[int]) -> None:
    sent, rewriter, out, at = SUBMIT + CHUNKED + POLL, RequestRewriter(from_tls_port("there:80")), b"", 0
    for cut in [*sorted(cuts), len(sent)]:
        out += rewriter.feed(sent[at:cut])
        at = cut
    heads = [part.split(b"\r\n")[0] for part in out.split(b"HTTP/1.1\r\n")]
    assert out.count(b"Host: there:80\r\n") == 3
    assert heads[-1] == b"Host: there:80"
    bodies = [sized(piece) for piece in (out,)]
    assert bodies == [b'{"prompt": "x"}helloyou']


def sized(out: bytes) -> bytes:
    """The bodies of what was sent on, read as a server reads them."""
    import h11

    server, bodies = h11.Connection(h11.SERVER), b""
    server.receive_data(out)
    while True:
        event = server.next_event()
        if event in (h11.NEED_DATA, h11.PAUSED):
            if server.their_state is not h11.DONE:
                return bodies
            server.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            server.send(h11.EndOfMessage())
            server.start_next_cycle()
        elif isinstance(event, h11.Data):
            bodies += bytes(event.data)


def test_a_host_that_is_not_fals_is_refused(rewrite: Rewrite) -> None:
    with pytest.raises(BadRequest, match=r"'bank\.example' is not one of fal's names"):
        RequestRewriter(rewrite).feed(b"GET / HTTP/1.1\r\nHost: bank.example\r\n\r\n")


def test_what_is_not_http_is_refused(rewrite: Rewrite) -> None:
    with pytest.raises(BadRequest, match="not a request in HTTP"):
        RequestRewriter(rewrite).feed(b"\x16\x03\x01\x02\x00")


def test_after_an_upgrade_bytes_pass_as_they_are(rewrite: Rewrite) -> None:
    rewriter = RequestRewriter(rewrite)
    asked = b"GET /a/b/realtime HTTP/1.1\r\nHost: fal.run\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    out = rewriter.feed(asked + b"\x81\x02hi")
    assert out.endswith(b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi")
    assert rewriter.feed(b"\x00\xff") == b"\x00\xff"
