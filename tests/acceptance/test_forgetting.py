"""A training and a drawing that really ran are forgotten: no byte of photos, LoRA, picture or words is left."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any

import httpx

from tests.support.images import photos_of_subject
from tests.support.server import PORTRAIT_TRAINER, Server

FLUX = "fal-ai/flux-lora"
PIECE = 48  # bytes out of the middle of a file, by which it is known again


def middle(data: bytes) -> bytes:
    return data[len(data) // 2 : len(data) // 2 + PIECE]


def holding(folder: Path, pieces: dict[str, bytes]) -> set[tuple[str, str]]:
    """Which files hold which of the pieces, or have their names."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found |= {(path.name, name) for name, piece in pieces.items() if piece in data or name in path.name}
    return found


def files_of(folder: Path, request_id: str) -> list[Path]:
    """The files below a folder of a request, or that are named after one."""
    return [path for path in folder.rglob("*") if path.is_file() and request_id in str(path.relative_to(folder))]


def rows(folder: Path, word: str) -> list[str]:
    """The tables that have rows with a word in them, in whatever column."""
    with contextlib.closing(sqlite3.connect(f"file:{folder / 'tintype.db'}?mode=ro", uri=True)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return [name for name in tables if any(word in str(row) for row in database.execute(f'SELECT * FROM "{name}"'))]


def forget(http: httpx.Client, request_id: str) -> list[dict[str, Any]]:
    answer = http.delete(f"/v1/models/requests/{request_id}/payloads")
    assert answer.status_code == 200, answer.text
    assert {result["exception"] for result in answer.json()["cdn_delete_results"]} <= {None}
    things: list[dict[str, Any]] = answer.json()["receipt"]
    return things


def test_nothing_is_left_of_a_training_and_of_what_was_drawn_with_it(server: Server, tmp_path: Path) -> None:
    word = f"word{uuid.uuid4().hex}"
    archive = photos_of_subject(tmp_path / "photos.zip", 4711, 4)
    with zipfile.ZipFile(archive, "a") as members:
        pieces = {f"photo {name}": middle(members.read(name)) for name in members.namelist()}
        members.comment = os.urandom(PIECE)  # other tests' archives are alike in places: flat colours
    pieces |= {"archive": members.comment, "word": word.encode()}
    uploaded = server.upload(archive.read_bytes())
    body = {"images_data_url": uploaded, "trigger_phrase": word, "steps": 30}
    training = server.submit(PORTRAIT_TRAINER, body)
    lora = server.result(training)["diffusers_lora_file"]["url"]
    drawing = server.submit(FLUX, {"prompt": f"a photo of {word}", "loras": [{"path": lora}]})
    picture = server.result(drawing)["images"][0]["url"]
    stopped = server.submit(PORTRAIT_TRAINER, body | {"steps": 2500})["request_id"]
    with server.http() as http:
        while not http.get(f"/queue/a/b/requests/{stopped}/status").json()["step"]:
            time.sleep(0.05)
        http.put(f"/queue/a/b/requests/{stopped}/cancel")
        while http.get(f"/queue/a/b/requests/{stopped}/status").json()["status"] != "COMPLETED":
            time.sleep(0.05)
        weights = http.get(lora).content
        pieces |= {"LoRA": middle(weights), "picture": middle(http.get(picture).content)}
        left = {path.relative_to(server.data_dir): path.read_bytes() for path in files_of(server.data_dir, stopped)}
        kinds = {part for path in left for part in path.parts}
        assert {"encoded", "checkpoints"} <= kinds, "what the cancelled training encoded, and its checkpoints"
        work = {str(path): middle(data) for path, data in left.items() if len(data) > 100 * PIECE}
        pieces |= work
        held = {name for _, name in holding(server.data_dir, pieces)}
        assert held >= {"archive", "word", "LoRA", "picture", *work}
        assert rows(server.data_dir, word)

        receipts = [forget(http, request_id) for request_id in (drawing["request_id"], stopped, training["request_id"])]
        assert holding(server.data_dir, pieces) == set()
        for request_id in (drawing["request_id"], stopped, training["request_id"]):
            assert files_of(server.data_dir, request_id) == []
        assert rows(server.data_dir, word) == []
    hashes = {thing["sha256"] for receipt in receipts for thing in receipt}
    assert hashlib.sha256(weights).hexdigest() in hashes
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in hashes
    assert {"work", "checkpoint"} <= {thing["kind"] for thing in receipts[1]}, "what the cancelled training left"
