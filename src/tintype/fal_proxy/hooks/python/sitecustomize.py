"""Runs at the start of every Python that `tintype run` starts: what ignores the environment comes here all the same.

Python finds it because this folder stands first in PYTHONPATH. It uses the standard library alone, for it runs in
interpreters that have never heard of tintype. Two things are changed, for fal's names and no others:

- A connection to one of them goes to the fal proxy, also from clients that read no proxy variables.
- TLS with one of them trusts the local authority and nobody else. Whatever way a connection took, with whatever
  certificates and checks turned off: fal itself cannot complete it, so nothing reaches the public cloud.

Then the sitecustomize that would have run without this one runs.
"""

from __future__ import annotations

import json
import os
import sys

TYPE_CHECKING = False  # typing itself would cost every start of a Python some milliseconds
if TYPE_CHECKING:
    from typing import Any


def _redirect(settings: dict[str, Any]) -> None:
    import base64
    import errno
    import socket
    import ssl

    domains = tuple(settings["domains"])
    proxy_host, _, proxy_port = settings["proxy"].rpartition(":")
    credentials = base64.b64encode(settings["credentials"].encode()).decode()
    stand_ins: dict[str, str] = {}  # addresses that stand for fal's names, which have no address here

    def fals(name: Any) -> str | None:
        if isinstance(name, (bytes, bytearray)):
            name = bytes(name).decode("ascii", "replace")
        if not isinstance(name, str):
            return None
        name = name.lower().rstrip(".")
        return name if name in domains or name.endswith(tuple("." + domain for domain in domains)) else None

    def stand_in(name: str) -> str:
        for address, known in stand_ins.items():
            if known == name:
                return address
        number = len(stand_ins) + 1
        address = f"127.102.{97 + number // 250}.{number % 250 + 1}"
        stand_ins[address] = name
        return address

    # Names and connections.

    getaddrinfo, connect = socket.getaddrinfo, socket.socket.connect

    def redirected_getaddrinfo(
        host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        name = fals(host)
        if name is None:
            return getaddrinfo(host, port, family, type, proto, flags)
        if family not in (0, socket.AF_INET) or type not in (0, socket.SOCK_STREAM):
            raise socket.gaierror(socket.EAI_NONAME, name + " is answered by this machine: TCP over IPv4 only")
        if isinstance(port, (bytes, bytearray)):
            port = port.decode("ascii")
        number = int(port) if str(port).isdigit() else socket.getservbyname(port) if port else 0
        canonical = name if flags & socket.AI_CANONNAME else ""
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, canonical, (stand_in(name), number))]

    def redirected_connect(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) and address else None
        name = stand_ins.get(host) if isinstance(host, str) else None
        name = name or fals(host)
        if name is None:
            return connect(self, address)
        patience = self.gettimeout()
        self.settimeout(30)  # on loopback this is a moment, also for sockets that never wait
        try:
            connect(self, (proxy_host, int(proxy_port)))
            meant = f"{name}:{address[1]}"
            head = f"CONNECT {meant} HTTP/1.1\r\nHost: {meant}\r\nProxy-Authorization: Basic {credentials}\r\n\r\n"
            self.sendall(head.encode())
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                byte = self.recv(1)  # no more: what follows belongs to the program
                if not byte:
                    break
                answer += byte
        finally:
            self.settimeout(patience)
        if answer.split(b" ", 2)[1:2] != [b"200"]:
            said = answer.split(b"\r\n")[0].decode("latin-1")
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"tintype refused {meant} ({said or 'no answer'})")

    def redirected_connect_ex(self: socket.socket, address: Any) -> int:
        try:
            self.connect(address)
        except BlockingIOError as problem:
            return problem.errno or errno.EINPROGRESS
        except OSError as problem:
            if isinstance(problem, (socket.gaierror, TimeoutError)) or problem.errno is None:
                raise
            return problem.errno
        return 0

    socket.getaddrinfo = redirected_getaddrinfo
    socket.socket.connect = redirected_connect  # type: ignore[method-assign,assignment]
    socket.socket.connect_ex = redirected_connect_ex  # type: ignore[method-assign,assignment]

    # TLS. These two are what every way of it comes to: ssl's own functions, and the copies of them that gevent and
    # eventlet have.

    trusting: list[ssl.SSLContext] = []

    def of_ours() -> ssl.SSLContext:
        if not trusting:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(settings["authority"])
            trusting.append(context)
        return trusting[0]

    def redirected(wrap: Any, place: int) -> Any:
        def redirected_wrap(self: ssl.SSLContext, *args: Any, **kwargs: Any) -> Any:
            name = kwargs.get("server_hostname") or (args[place] if len(args) > place else None)
            if fals(name):
                kwargs.pop("session", None)
                return wrap(of_ours(), *args, **kwargs)
            return wrap(self, *args, **kwargs)

        return redirected_wrap

    # By the place of the server's name among the arguments.
    ssl.SSLContext._wrap_socket = redirected(ssl.SSLContext._wrap_socket, 2)  # type: ignore[attr-defined]
    ssl.SSLContext._wrap_bio = redirected(ssl.SSLContext._wrap_bio, 3)  # type: ignore[attr-defined]


def _go_on() -> None:
    """Runs the sitecustomize that this one stands before."""
    import importlib.machinery
    import importlib.util

    here = os.path.dirname(os.path.abspath(__file__))
    rest = [path for path in sys.path if os.path.abspath(path or os.curdir) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", rest)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if os.environ.get("_TINTYPE_FAL_PROXY"):
    _redirect(json.loads(os.environ["_TINTYPE_FAL_PROXY"]))
_go_on()
