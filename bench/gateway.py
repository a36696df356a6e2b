"""What the web process does a second: `python bench/gateway.py [--json] [--alone]`.

A real `tintype serve` in a temporary folder trains the miniature all the while (--alone: only the web process), with
authentication on. `load.py` asks from a process of its own. Polls carry `logs=true` and 200 lines. A core-second is one
of the web process's, so that figures from a busy machine can be compared; times (p50, p99) are as they were.

The floor (`floor`) is what uvicorn takes to read such a request and to write as many bytes from memory: an application
that does nothing else, behind the same load. A poll can be no cheaper than that and a look at the database.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from tintype.catalog import Kind
from tintype.settings import Limits, load_settings
from tintype.store import LogLine, NewRequest, Store

CONNECTIONS = 64
LINES = 200
TRAINER = "/queue/fal-ai/flux-lora-portrait-trainer"
LANE = cast(Kind, "bench")  # no supervisor claims from it
FLOOR = """
import sys, uvicorn
body = b"x" * int(sys.argv[2])
head = {"type": "http.response.start", "status": 202, "headers": [(b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body))]}
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send(head)
        await send({"type": "http.response.body", "body": body})
uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="error")
"""


class Gateway:
    """A running server, and what is asked of it."""

    def __init__(self, port: int, data_dir: Path, key: str, web: psutil.Process, seconds: float) -> None:
        self.port = port
        self.data_dir = data_dir
        self.key = key
        self.web = web
        self.seconds = seconds

    def store(self, work: Any) -> Any:
        """Does something with the queue, from this process."""

        async def run() -> Any:
            url = load_settings(data_dir=self.data_dir).database_url
            store = await Store.open(url, lease_seconds=36_000.0)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

    def head(self, method: str, path: str) -> str:
        """A request as fal's Python client sends it, without its body."""
        lines = [
            f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Accept: */*",
            "Accept-Encoding: gzip, deflate", "Connection: keep-alive", "User-Agent: fal-client/1.0.3 (python)",
            f"Authorization: Key {self.key}",
        ]  # fmt: skip
        if method == "POST":
            lines.append("Content-Type: application/json")
        return "\r\n".join(lines)

    def load(self, request: str, **given: Any) -> dict[str, Any]:
        """Figures of one load, with those of the web process meanwhile."""
        order = {"port": self.port, "request": request, "connections": CONNECTIONS, "duration": self.seconds} | given
        command = [sys.executable, str(Path(__file__).with_name("load.py")), "-"]
        spent = sum(self.web.cpu_times()[:2])
        ended = subprocess.run(command, input=json.dumps(order), stdout=subprocess.PIPE, text=True, check=True)
        spent = sum(self.web.cpu_times()[:2]) - spent
        figures: dict[str, Any] = json.loads(ended.stdout)
        if "a_second" in figures and spent:
            count = figures["a_second"] * figures["seconds"]
            figures |= {"per_core_second": count / spent, "core_us": spent / count * 1e6}
        figures |= {"core_share": spent / figures["seconds"], "rss_mb": self.web.memory_info().rss / 1e6}
        if set(figures["codes"]) - {"200", "202"} or figures["lost"]:
            raise SystemExit(f"not every request was answered well: {figures}")
        return figures


async def running_request(store: Store) -> str:
    """The id of a request that is in progress and has said LINES lines, for as long as the bench lasts."""
    new = NewRequest("fal-ai/flux-lora-portrait-trainer", LANE, {"steps": 1000}, origin="http://127.0.0.1")
    request, _ = await store.requests.submit(new)
    claim = await store.leases.claim("bench", LANE)
    assert claim is not None
    lines = [
        LogLine(0, time.time(), "INFO", f"step {n}/1000 loss 0.0{n:03}, 3.1 steps/s, 2 min left") for n in range(LINES)
    ]
    await store.leases.heartbeat(claim, step=200, total=1000, metrics={"loss": 0.08, "eta": 120.0}, logs=lines)
    return request.id


def finish_many(path: Path, count: int) -> None:
    """Puts that many finished requests into the database, each with a result and three log lines."""
    with sqlite3.connect(path, timeout=60) as database:
        columns = [row[1] for row in database.execute("PRAGMA table_info(requests)") if row[1] not in ("place", "id")]
        changed = {"status": "'COMPLETED'", "outcome": "'ok'", "output": "'{\"seed\": 1}'", "ended_at": "created_at",
                   "kind": "'inference'", "log_count": "3", "lease_until": "NULL", "worker_id": "NULL"}  # fmt: skip
        names, values = ", ".join(columns), ", ".join(changed.get(name, name) for name in columns)
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
        template = "(SELECT * FROM requests WHERE kind = 'bench')"
        chosen = f"SELECT lower(hex(randomblob(16))), {values} FROM n, {template}"
        database.execute(f"{numbers} INSERT INTO requests (id, {names}) {chosen}")
        for number in range(3):
            database.execute(
                "INSERT INTO logs (request_id, number, at, level, message, source)"
                f" SELECT id, {number}, created_at, 'INFO', 'a line of the log of a picture', 'USER' FROM requests"
                " WHERE kind = 'inference'"
                f" AND NOT EXISTS (SELECT 1 FROM logs WHERE request_id = requests.id AND number = {number})"
            )
    database.close()


def measure(gateway: Gateway, *, history: tuple[int, ...] = (10, 100_000), submits: int = 4000) -> dict[str, Any]:
    """All figures, by name. `history`: numbers of finished requests to poll beside; `submits` are sent in all."""
    request_id = gateway.store(running_request)
    poll = gateway.head("GET", f"{TRAINER}/requests/{request_id}/status?logs=true")
    quiet = gateway.head("GET", f"{TRAINER}/requests/{request_id}/status?logs=false")
    gateway.load(poll, duration=1.0)  # warms up
    figures = {"polls": gateway.load(poll), "polls_without_logs": gateway.load(quiet)}
    figures["floor"] = floor(gateway, round(figures["polls"]["bytes"]))
    figures["polls_every_100_ms"] = gateway.load(poll, pause=0.1)
    figures["pollers_500"] = gateway.load(poll, connections=500, pause=0.5)
    streams = gateway.head("GET", f"{TRAINER}/requests/{request_id}/status/stream?logs=1")
    figures["streams_200"] = gateway.load(streams, connections=200, stream=True)
    bodies = [
        json.dumps({"images_data_url": "https://example.com/a.zip", "trigger_phrase": f"person {n}"})
        for n in range(submits)
    ]
    post = gateway.head("POST", TRAINER)
    figures["submits_one_by_one"] = gateway.load(post, connections=1, bodies=bodies[: submits // 4])
    figures["submits_by_8"] = gateway.load(post, connections=8, bodies=bodies[submits // 4 : submits // 2])
    figures["submits"] = gateway.load(post, bodies=bodies[submits // 2 :])
    for count in history:
        finish_many(gateway.data_dir / "tintype.db", count)
        gateway.load(poll, duration=1.0)  # warms up
        figures[f"polls_with_{count}_finished"] = gateway.load(poll)
    return figures


def floor(gateway: Gateway, size: int) -> dict[str, Any]:
    """The same bytes from an application that does nothing."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-c", FLOOR, str(port), str(size)]) as server:
        try:
            wait_for(port, "/")
            bare = Gateway(port, gateway.data_dir, gateway.key, psutil.Process(server.pid), gateway.seconds)
            return bare.load(gateway.head("GET", "/"))
        finally:
            server.terminate()


@contextmanager
def serving(folder: Path, seconds: float, *, alone: bool) -> Iterator[Gateway]:
    """A server that trains, or the web process alone."""
    port = free_port()
    unlimited = dict.fromkeys(
        (f"TINTYPE_MAX_{limit.name.upper()}" for limit in fields(Limits)), "0"
    )  # one key asks for all
    environment = os.environ | unlimited | {"TINTYPE_DATA_DIR": str(folder), "TINTYPE_FLUX_BASE": "miniature"}
    command = [sys.executable, "-m", *(("tintype.web",) if alone else ("tintype", "serve")), "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(port, "/health" if alone else "/ready")
            gateway = Gateway(port, folder, "", psutil.Process(server.pid), seconds)
            gateway.key = gateway.store(lambda store: store.keys.create("bench"))[1]
            if not alone:
                family = psutil.Process(server.pid).children()
                gateway.web = next(child for child in family if "tintype.web" in child.cmdline())
                train(gateway)
            yield gateway
        finally:
            server.terminate()


def train(gateway: Gateway) -> None:
    """Starts a long training of the miniature and waits until it takes steps."""
    photos = gateway.data_dir / "photos.zip"
    world = ("-m", "miniature.world", "--subject", "9001", "--count", "10", "--out", str(photos))
    subprocess.run([sys.executable, *world], check=True, cwd=Path(__file__).parents[1])
    headers = {"Authorization": f"Key {gateway.key}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{gateway.port}", headers=headers, trust_env=False) as http:
        named = {"X-Fal-File-Name": "photos.zip", "Content-Type": "application/zip"}
        url = http.post("/cdn/files/upload", content=photos.read_bytes(), headers=named).json()["access_url"]
        sent = http.post(TRAINER, json={"images_data_url": url, "steps": 10_000}).json()
        while not (status := http.get(sent["status_url"]).json())["step"]:
            if "error" in status:
                raise SystemExit(status["error"])
            time.sleep(0.5)


def wait_for(port: int, path: str) -> None:
    """Until a server answers well."""
    for _ in range(1200):
        try:
            if httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False).status_code < 300:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit("The server did not come up.")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def show(figures: dict[str, Any]) -> None:
    columns = ("a_second", "per_core_second", "core_us", "p50_ms", "p99_ms", "core_share", "rss_mb")
    table = Table("what", *columns, title=f"gateway, {CONNECTIONS} connections where nothing else is said")
    for name, figure in figures.items():
        table.add_row(name, *(f"{figure[column]:,.2f}" if column in figure else "" for column in columns))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load")
    parser.add_argument("--alone", action="store_true", help="only the web process, no training beside it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), given.seconds, alone=given.alone) as gateway:
        figures = measure(gateway)
    print(json.dumps(figures)) if given.json else show(figures)


if __name__ == "__main__":
    main()
