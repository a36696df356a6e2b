"""Realtime is refused in words that fal's client turns into an error."""

from __future__ import annotations

import json
from socket import create_connection
from urllib.parse import urlsplit

import fal_client
import fal_client.client as globals_of_fal
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

PATH = "/run/fal-ai/flux-lora/realtime"


def test_a_websocket_is_told_why_and_closed(server):
    with connect(server.origin.replace("http", "ws") + PATH) as socket:
        told = json.loads(socket.recv(timeout=60))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=60)
    assert told["type"] == "x-fal-error"
    assert "subscribe, run or stream" in told["reason"]
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert "No endpoint of this server speaks realtime" in closed.value.rcvd.reason


def test_a_websocket_under_another_servers_name_is_not_even_accepted(server):
    parts = urlsplit(server.origin)
    with (
        create_connection((parts.hostname, parts.port)) as connection,
        pytest.raises(InvalidStatus) as refused,
        connect(f"ws://evil.example{PATH}", sock=connection),
    ):
        pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("use_jwt", [True, False])
def test_fals_client_gets_a_token_and_then_the_refusal(server, monkeypatch, use_jwt):
    monkeypatch.setattr(globals_of_fal, "REST_URL", server.origin + "/rest")
    monkeypatch.setattr(globals_of_fal, "REALTIME_URL_FORMAT", server.origin.replace("http", "ws") + "/run/")
    client = fal_client.SyncClient(key=server.key)
    with (
        pytest.raises(globals_of_fal.RealtimeError, match="speaks realtime"),
        client.realtime("fal-ai/flux-lora", use_jwt=use_jwt) as connection,
    ):
        connection.recv()
    client._client.close()


def test_without_a_websocket_it_is_a_404_in_json(client):
    for method in ("GET", "POST"):
        answer = client.request(method, PATH, headers={"Authorization": ""})
        assert (answer.status_code, answer.json()["status"]) == (404, "NOT_FOUND")
        assert "realtime" in answer.json()["detail"]
