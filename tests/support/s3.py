"""A bucket on a real S3 server on loopback (moto's), for tests that must not take a folder's word for a bucket."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from moto.moto_server.threaded_moto_server import ThreadedMotoServer


@dataclass(frozen=True)
class Bucket:
    """`url` is what TINTYPE_STORAGE says, `environment` what obstore needs beside it."""

    url: str
    endpoint: str
    server: ThreadedMotoServer

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
        }

    def unfinished(self) -> str:
        """What the server says of multipart uploads that were neither completed nor aborted."""
        return httpx.get(f"{self.endpoint}/photos?uploads", trust_env=False).text


@contextmanager
def running_bucket() -> Iterator[Bucket]:
    """The server, with an empty bucket, for as long as the block lasts."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        # What it holds is this process's, and outlives a server.
        httpx.post(f"{endpoint}/moto-api/reset", trust_env=False).raise_for_status()
        httpx.put(f"{endpoint}/photos", trust_env=False).raise_for_status()
        yield Bucket("s3://photos/some/prefix", endpoint, server)
    finally:
        server.stop()
