"""fal's Python client, unmodified, pointed at a server by recipe B: the five globals of its module."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import fal_client.client
import pytest

GLOBALS = {"RUN_URL_FORMAT": "/run/", "QUEUE_URL_FORMAT": "/queue/", "REST_URL": "/rest", "CDN_URL": "/cdn"}


def turn(origin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points fal's Python client at a server."""
    for name, path in {
        "RUN_URL_FORMAT": "/run/",
        "QUEUE_URL_FORMAT": "/queue/",
        "REST_URL": "/rest",
        "CDN_URL": "/cdn",
    }.items():
        monkeypatch.setattr(fal_client.client, name, origin + path)


@contextmanager
def swept_up() -> Iterator[None]:
    """Collects the connections that the client leaves open, so that they are not blamed on some other test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
