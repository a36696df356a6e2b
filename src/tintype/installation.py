"""Where the server of an installation is while it serves, and the way in for programs that are turned to it.

A file beside a lock: the lock says that it is true, for the kernel drops it however the server ended. `run` keeps a
FIFO of the installation open in the program it becomes; a server that was started for programs alone reads its other
end, and stops when the last of them is gone.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout


@dataclass(frozen=True)
class Signpost:
    """What stands in DATA/serving.json. The sockets are listening as long as it stands."""

    server: str  # host:port of the HTTP API
    gate_port: int  # of the proxy, on 127.0.0.1
    password: str
    fal: str  # path of the Unix socket that answers in fal's place, behind TLS
    tls_port: int | None = None  # of the HTTP API behind TLS
    auth: str = "on"  # whether the HTTP API asks for a key

    @classmethod
    def read(cls, data_dir: Path) -> Signpost | None:
        """None where nothing serves, or has just begun to, or is about to stop."""
        try:
            return cls(**json.loads(_path(data_dir).read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None


@dataclass
class Sockets:
    """What the parent of all processes holds, so that ports outlive the process that answers on them."""

    gate: socket.socket
    fal: socket.socket
    tls: socket.socket | None
    signpost: Signpost
    _data_dir: Path

    def publish(self) -> None:
        """From now on others find us."""
        path = _path(self._data_dir)
        partial = path.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(self.signpost), file)
        partial.replace(path)

    def take_down(self) -> None:
        _path(self._data_dir).unlink(missing_ok=True)


@contextmanager
def opened(
    data_dir: Path, server: str, tls: socket.socket | None = None, *, auth: str = "on"
) -> Iterator[Sockets | None]:
    """The sockets of a detour to `server`. None where another server has one for this folder already."""
    try:
        lock = _lock(data_dir).acquire(blocking=False)
    except Timeout:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="tintype-"))  # readable by its owner alone, and a short path
    with lock, socket.create_server(("127.0.0.1", 0)) as gate, socket.socket(socket.AF_UNIX) as fal:
        try:
            fal.bind(str(folder / "fal"))
            fal.listen()
            port = tls.getsockname()[1] if tls is not None else None
            password = secrets.token_urlsafe(24)
            signpost = Signpost(server, gate.getsockname()[1], password, str(folder / "fal"), port, auth)
            sockets = Sockets(gate, fal, tls, signpost, data_dir)
            sockets.publish()
            try:
                yield sockets
            finally:
                sockets.take_down()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def is_serving(data_dir: Path) -> bool:
    """Whether a server holds this folder, be it about to begin or to end."""
    if not (data_dir / "locks").is_dir():
        return False
    try:
        with _lock(data_dir).acquire(blocking=False):
            return False
    except Timeout:
        return True


def hold_open(data_dir: Path) -> int:
    """A descriptor that keeps a server of `stop_when_unused` alive for as long as any process has it."""
    path = data_dir / "locks" / "in-use"
    if not path.exists():
        with suppress(FileExistsError):  # another program was quicker
            os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR)  # opening it for writing alone would wait for a reader


def stop_when_unused(data_dir: Path, sockets: Sockets, stop: Callable[[], None]) -> None:
    """Calls `stop`, from a thread, when no program holds the installation open any more."""
    reading = os.open(data_dir / "locks" / "in-use", os.O_RDONLY | os.O_NONBLOCK)
    unused = select.poll()
    unused.register(reading, select.POLLIN)

    def watch() -> None:
        while True:
            unused.poll()  # nobody writes: this is the hang-up of the last one
            sockets.take_down()
            if not unused.poll(0):  # one more came before it could know; those who come now see no signpost
                sockets.publish()
                continue
            stop()
            return

    threading.Thread(target=watch, name="unused", daemon=True).start()


def _path(data_dir: Path) -> Path:
    return data_dir / "serving.json"


def _lock(data_dir: Path) -> FileLock:
    return FileLock(data_dir / "locks" / "serve.lock")
