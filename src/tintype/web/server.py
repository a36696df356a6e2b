"""Runs the web process: on a socket that the launcher opened (so that a restart drops no connection), or on its own.

The process belongs to whoever started it: when the pipe named by --parent-fd closes, the starter is gone, however it
went, and this process goes too.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence

import structlog
import uvicorn

from tintype.errors import TintypeError
from tintype.settings import load_settings
from tintype.web.app import create_app
from tintype.web.protocol import BoundedProtocol

_GRACE_SECONDS = 3  # how long open connections may take to end after SIGTERM
_BACKLOG = 2048


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m tintype.web`: serves until SIGTERM, SIGINT, or the end of its parent."""
    parser = argparse.ArgumentParser(prog="python -m tintype.web", description="The web process of tintype.")
    parser.add_argument("--fd", type=int, help="an inherited listening socket")
    parser.add_argument("--host", help="address to listen on (without --fd)")
    parser.add_argument("--port", type=int, help="port to listen on (without --fd)")
    parser.add_argument("--parent-fd", type=int, help="an inherited pipe; its end ends this process")
    options = parser.parse_args(arguments)
    if options.parent_fd is not None:
        follow_parent(options.parent_fd)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        settings = load_settings(host=options.host, port=options.port)
    except TintypeError as problem:
        sys.exit(problem.message)
    if options.fd is not None:
        listener = socket.socket(fileno=options.fd)
    else:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    config = uvicorn.Config(
        create_app(settings),
        loop="uvloop",
        http=BoundedProtocol,
        ws="websockets-sansio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        backlog=_BACKLOG,
    )
    for ordered in (signal.SIGTERM, signal.SIGINT):  # uvicorn drains, then raises the signal again: a good end
        signal.signal(ordered, lambda *_: sys.exit(0))
    server = uvicorn.Server(config)
    server.run(sockets=[listener])
    if not server.started:
        sys.exit("The web process could not start; the lines above say why.")


def follow_parent(descriptor: int) -> None:
    """Ends this process at once when the pipe's other end is closed, even by SIGKILL."""

    def wait() -> None:
        while os.read(descriptor, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, name="parent", daemon=True).start()
