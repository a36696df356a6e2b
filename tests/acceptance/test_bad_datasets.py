"""Every dataset that cannot be trained is answered exactly, at its place, with what to do; then the next is served."""

from __future__ import annotations

import io
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.images import archive_of, encoded
from tests.support.refusals import assert_serves, refusal
from tests.support.server import Server, finish, upload

TRAINER = "/queue/fal-ai/flux-lora-portrait-trainer"
MIB = 1024 * 1024


def png(seed: int = 0, side: int = 64) -> bytes:
    return encoded(Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)))


def linked() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as written:
        link = tarfile.TarInfo("photo.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        written.addfile(link)
    return buffer.getvalue()


def locked() -> bytes:
    raw = bytearray(archive_of({"a.png": png()}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        struct.pack_into("<H", raw, raw.index(signature) + offset, 1)
    return bytes(raw)


def many_pixels() -> bytes:
    """A picture that says it has 900 megapixels; a decoder that believed it would ask for 3.6 GB."""
    huge = bytearray(png())
    struct.pack_into(">II", huge, 16, 30_000, 30_000)
    struct.pack_into(">I", huge, 29, zlib.crc32(huge[12:29]))
    return archive_of({"a.png": png(), "huge.png": bytes(huge)})


def bomb_by_ratio() -> bytes:
    return archive_of({f"{n}.png": b"\0" * (200 * MIB) for n in range(2)})


def large_member() -> bytes:
    return archive_of({"a.png": b"\0" * (257 * MIB)})


@dataclass(frozen=True)
class Case:
    """A dataset, and the answer to it: fal's type, a part of the message, perhaps the context."""

    make: Callable[[], bytes]
    type: str
    says: str
    ctx: dict[str, Any] | None = None


ARCHIVES = {
    "not-an-archive": Case(lambda: b"hello, I am text", "invalid_archive", "cannot be opened as a zip or tar"),
    "a-rar": Case(lambda: b"Rar!\x1a\x07\x01\x00", "invalid_archive", "looks like a RAR archive"),
    "a-photo": Case(png, "invalid_archive", "looks like a single PNG picture"),
    "no-bytes": Case(lambda: b"", "invalid_archive", "The file is empty"),
    "empty": Case(lambda: archive_of({}), "archive_file_count_below_minimum", "holds no picture",
                  {"min_count": 1, "provided_count": 0}),
    "no-image": Case(lambda: archive_of({"readme.txt": b"hello", "a.pdf": b"%PDF"}), "archive_file_count_below_minimum",
                     "a.pdf: not a picture", {"min_count": 1, "provided_count": 0}),
    "all-bad": Case(lambda: archive_of({"a.png": b"rubbish", "b.jpg": png()[:200]}), "image_load_error",
                    "None of the pictures can be used. a.png is not a picture"),
    "bomb-by-ratio": Case(bomb_by_ratio, "invalid_archive", "far larger than it looks"),
    "bomb-by-count": Case(lambda: archive_of({f"{n}.txt": b"" for n in range(5001)}),
                          "archive_file_count_exceeds_maximum", "more than 5000 files",
                          {"max_count": 5000, "provided_count": 5001}),
    "bomb-by-pixels": Case(many_pixels, "image_too_large", "huge.png has more than 120 million pixels",
                           {"max_width": 10954, "max_height": 10954}),
    "too-many-pictures": Case(lambda: archive_of({f"{n}.png": b"" for n in range(2001)}),
                              "archive_file_count_exceeds_maximum", "more than 2000 pictures",
                              {"max_count": 2000, "provided_count": 2001}),
    "too-large-member": Case(large_member, "file_too_large", "a.png is larger than 256 MiB", {"max_size": 256 * MIB}),
    "traversal": Case(
        lambda: archive_of({"../../escape.png": png()}), "invalid_archive", "names a file outside itself"
    ),
    "symlink": Case(linked, "archive_file_count_below_minimum", "photo.png: a link or device, not a file"),
    "password": Case(locked, "invalid_archive", "protected by a password"),
    "nested": Case(lambda: archive_of({"inner.zip": archive_of({"a.png": png()})}), "archive_file_count_below_minimum",
                   "inner.zip: an archive inside the archive"),
    "cut-off": Case(lambda: archive_of({"a.png": png(side=200)})[:-40], "invalid_archive", "damaged or was cut off"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_bad_archive_is_answered_exactly(server: Server, name: str) -> None:
    case = ARCHIVES[name]
    with server.http() as http:
        entry, status = refusal(http, {"images_data_url": upload(http, case.make())})
        assert entry["loc"] == ["body", "images_data_url"]
        assert (entry["type"], entry.get("ctx", {}) | (case.ctx or {})) == (case.type, entry.get("ctx", {}))
        assert case.says in entry["msg"]
        assert "\n" not in entry["msg"]
        assert len(entry["msg"]) < 600
        assert status["error"]
        assert_serves(http)


def test_one_picture_that_does_not_decode_among_good_ones_is_named_and_the_rest_is_trained(server: Server) -> None:
    files = {f"{n}.png": png(n, 512) for n in range(3)} | {"broken.jpg": b"\xff\xd8\xff rest is missing"}
    files |= {"metadata.jsonl": b'{"file_name": "1.png", "text": "[trigger] as noise"}', ".DS_Store": b"x"}
    with server.http() as http:
        submitted = http.post(
            TRAINER,
            json={"images_data_url": upload(http, archive_of(files)), "trigger_phrase": "TOK", "steps": 1, "rank": 1},
        )
        status = finish(http, submitted.json()["status_url"])
        assert "error" not in status, status
        result = http.get(submitted.json()["response_url"]).json()
        config = http.get(result["config_file"]["url"]).json()
        report = http.get(config["report"]["url"]).json()
        page = http.get(config["report_html"]["url"])
    assert any("broken.jpg" in line["message"] for line in status["logs"])
    assert [kept["name"] for kept in report["kept"]] == ["0.png", "1.png", "2.png"]
    assert [kept["caption"] for kept in report["kept"]] == ["TOK", "TOK as noise", "TOK"]
    assert [said["name"] for said in report["dropped"]] == ["broken.jpg"]
    assert [said["name"] for said in report["ignored"]] == [".DS_Store"]
    assert page.headers["content-type"].startswith("text/html")
    assert "broken.jpg" in page.text
