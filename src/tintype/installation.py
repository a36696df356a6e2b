"""The data folder of an installation: who works in it, and where its server is while it serves.

DATA/serving.json stands beside a lock: the lock says that it is true, for the kernel drops it however the server ended.
`tintype run` keeps a FIFO of the installation open in the program it becomes; a server that was started for programs
alone reads its other end, and stops when the last of them is gone.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tintype.errors import SettingsError
from tintype.processes import keep_files_private
from tintype.settings import Settings

START_SECONDS = 60.0  # for a server that holds the folder to begin to serve


def make_data_dir(settings: Settings) -> None:
    """Makes the data folder if it is not there. Photos and prompts lie in it: from now on this process writes for its
    owner's eyes only. Raises SettingsError where nothing can be kept."""
    keep_files_private()
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        (settings.data_dir / "locks").mkdir(exist_ok=True)  # shows whether it may be written to
    except OSError as problem:
        raise SettingsError(
            f"Cannot keep data in {settings.data_dir}: {problem.strerror}.",
            remedy="Choose another folder with --data-dir.",
        ) from None


def close_to_others(settings: Settings) -> int:
    """Takes from other users of the machine what they may do with anything that is kept: the data folder, a storage
    folder and an SQLite file elsewhere. Returns how many files and folders were open; links are not followed."""
    places = [settings.data_dir.resolve()]
    if "://" not in settings.storage_url:
        places.append(Path(settings.storage_url).resolve())
    scheme, _, database = settings.database_url.partition(":///")
    if scheme.startswith("sqlite"):
        places += [Path(database + suffix) for suffix in ("", "-wal", "-shm") if Path(database + suffix).is_file()]
    return sum(_close(path) for place in dict.fromkeys(places) for path in _all_below(place))


def _all_below(place: Path) -> Iterator[Path]:
    yield place
    for folder, folders, files in os.walk(place):
        yield from (Path(folder, name) for name in folders + files)


def _close(path: Path) -> bool:
    """Returns whether it was open, and is not any more."""
    try:
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode) or not mode & 0o077:
            return False
        path.chmod(stat.S_IMODE(mode) & ~0o077)
    except (FileNotFoundError, PermissionError):  # gone meanwhile, or another user's own
        return False
    return True


@dataclass(frozen=True)
class ServerInfo:
    """What DATA/serving.json says. The sockets are listening as long as it stands."""

    server: str  # host:port of the HTTP API
    proxy_port: int  # of the fal proxy, on 127.0.0.1
    password: str
    fal_socket: str  # path of the Unix socket that answers in fal's place, behind TLS
    tls_port: int | None = None  # of the HTTP API behind TLS
    auth: str = "on"  # whether the HTTP API asks for a key

    @classmethod
    def read(cls, data_dir: Path) -> ServerInfo | None:
        """Returns None where nothing serves, or has just begun to, or is about to stop."""
        try:
            return cls(**json.loads(_serving(data_dir).read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None

    def publish(self, data_dir: Path) -> None:
        """Lets others find the server from now on."""
        write_secret(_serving(data_dir), json.dumps(asdict(self)).encode())

    @staticmethod
    def withdraw(data_dir: Path) -> None:
        """Lets nobody find the server any more."""
        _serving(data_dir).unlink(missing_ok=True)


@dataclass(frozen=True)
class ProxySockets:
    """What the parent of all processes holds, so that ports outlive the process that answers on them."""

    proxy: socket.socket
    fal: socket.socket
    tls: socket.socket | None
    server: ServerInfo


@contextmanager
def open_proxy_sockets(
    data_dir: Path, server: str, tls: socket.socket | None = None, *, auth: str = "on"
) -> Iterator[ProxySockets | None]:
    """Publishes `server` with the sockets of its fal proxy. None where another server has some for this folder."""
    try:
        lock = _serve_lock(data_dir).acquire(blocking=False)
    except Timeout:
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="tintype-"))  # readable by its owner alone, and a short path
    with lock, socket.create_server(("127.0.0.1", 0)) as proxy, socket.socket(socket.AF_UNIX) as fal:
        try:
            fal.bind(str(folder / "fal"))
            fal.listen()
            tls_port = tls.getsockname()[1] if tls is not None else None
            password = secrets.token_urlsafe(24)
            info = ServerInfo(server, proxy.getsockname()[1], password, str(folder / "fal"), tls_port, auth)
            info.publish(data_dir)
            yield ProxySockets(proxy, fal, tls, info)
        finally:
            ServerInfo.withdraw(data_dir)
            shutil.rmtree(folder, ignore_errors=True)


def is_serving(data_dir: Path) -> bool:
    """Tells whether a server holds this folder, be it about to begin or to end."""
    if not (data_dir / "locks").is_dir():
        return False
    try:
        with _serve_lock(data_dir).acquire(blocking=False):
            return False
    except Timeout:
        return True


def find_server(data_dir: Path) -> ServerInfo | None:
    """Returns the server of this folder, if one serves; waits for one that is just beginning or ending."""
    deadline = time.monotonic() + START_SECONDS
    while is_serving(data_dir):
        server = ServerInfo.read(data_dir)
        if server is not None:
            return server
        if time.monotonic() > deadline:
            raise SettingsError(f"A tintype holds {data_dir} but does not serve.", remedy="Stop it, or wait for it.")
        time.sleep(0.05)
    return None


def hold_open(data_dir: Path) -> int:
    """Opens a descriptor that keeps a server of `stop_when_unused` alive for as long as any process has it."""
    path = data_dir / "locks" / "in-use"
    if not path.exists():
        with suppress(FileExistsError):  # another program was quicker
            os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR)  # opening it for writing alone would wait for a reader


def stop_when_unused(data_dir: Path, server: ServerInfo, stop: Callable[[], None]) -> None:
    """Calls `stop`, from a thread, when no program holds the installation open any more."""
    reading = os.open(data_dir / "locks" / "in-use", os.O_RDONLY | os.O_NONBLOCK)
    unused = select.poll()
    unused.register(reading, select.POLLIN)

    def watch() -> None:
        while True:
            unused.poll()  # nobody writes: this is the hang-up of the last one
            server.withdraw(data_dir)
            if not unused.poll(0):  # one more came before it could know; those who come now find no server
                server.publish(data_dir)
                continue
            stop()
            return

    threading.Thread(target=watch, name="unused", daemon=True).start()


@contextmanager
def device_lock(data_dir: Path, device: str, *, patience: float) -> Iterator[None]:
    """Keeps every other supervisor of this installation off a device. Raises SettingsError where one works on it.

    A predecessor that is on its way out is waited for, so many seconds.
    """
    path = data_dir / "locks" / f"{device.replace(':', '-')}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path).acquire(timeout=patience)
    except Timeout:
        raise SettingsError(
            f"Another tintype already works on {device} with {data_dir}.",
            remedy="Stop it, or start this one with another --data-dir.",
        ) from None
    with lock:
        yield


def key_file(data_dir: Path) -> Path:
    """Returns where the key lies that `tintype run` and the demo use; its owner alone can read it."""
    return data_dir / "key"


def serve_log(data_dir: Path) -> Path:
    """Returns where the server that `tintype run` starts writes its log."""
    return data_dir / "logs" / "serve.log"


def write_secret(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, which its owner alone can read from its first byte on."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    partial.replace(path)


def _serving(data_dir: Path) -> Path:
    return data_dir / "serving.json"


def _serve_lock(data_dir: Path) -> FileLock:
    return FileLock(data_dir / "locks" / "serve.lock")
