"""`tintype usage` and `tintype forget`, as a person runs them beside a store with a history."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tintype.catalog import Kind
from tintype.cli import app
from tintype.errors import Json
from tintype.files import internal_url
from tintype.settings import Settings
from tintype.store import NewRequest, Scope, Store, StoredFile

FLUX = "fal-ai/flux-lora"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def with_history(data_dir: Path) -> str:
    """A request that ended well and one that waits; the id of the first."""

    async def fill() -> str:
        store = await Store.open(Settings(data_dir=data_dir).database_url)
        request, _ = await store.requests.submit(NewRequest(FLUX, "inference", {"prompt": "a private word"}, units=4.0))
        claim = await store.leases.claim("w", "inference")
        assert claim is not None
        await store.leases.complete(claim, {"images": []}, [], watt_hours=500.0)
        await store.requests.submit(NewRequest(FLUX, "inference", {"prompt": "another"}, units=1.0))
        await store.close()
        return request.id

    return asyncio.run(fill())


def run(data_dir: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words, "--data-dir", str(data_dir)])
    return done.exit_code, done.output


@pytest.mark.parametrize("by", ["day", "month", "all"])
def test_usage_adds_up_what_ended_and_what_it_would_have_cost(data_dir: Path, by: str) -> None:
    with_history(data_dir)
    code, told = run(data_dir, "usage", "--by", by)
    assert code == 0
    [head, line, *rest] = [line.split("\t") for line in told.splitlines()]
    found = dict(zip(head, line, strict=True))
    assert (found["endpoint"], found["requests"], found["units"]) == (FLUX, "1", "4 megapixels")
    assert (found["kWh"], found["USD at fal"]) == ("0.500", "0.1400")
    assert [cells[-1] for cells in rest] == ([] if by == "all" else ["0.1400"])


def test_usage_of_a_person_is_his_own(data_dir: Path) -> None:
    with_history(data_dir)
    assert FLUX not in run(data_dir, "usage", "--person", "nobody")[1]


def test_a_request_is_forgotten_when_a_person_says_yes(data_dir: Path) -> None:
    request_id = with_history(data_dir)
    refused = CliRunner().invoke(app, ["forget", request_id[:8], "--data-dir", str(data_dir)], input="n\n")
    assert refused.exit_code == 1
    assert any(b"a private word" in path.read_bytes() for path in data_dir.rglob("*") if path.is_file())
    code, told = run(data_dir, "forget", request_id[:8], "--yes")
    assert code == 0
    receipt = json.loads(told)
    assert receipt["request_id"] == request_id
    assert [thing["kind"] for thing in receipt["things"]] == ["input", "output"]
    assert not any(b"a private word" in path.read_bytes() for path in data_dir.rglob("*") if path.is_file())


def with_family(data_dir: Path) -> list[str]:
    """Two trainings on one dataset, an image of the first's LoRA, one made from that image, and one of nobody; their
    ids in this order."""
    made = [StoredFile(str(number) * 32, f"made-{number}", "application/octet-stream", 10, 1.0) for number in range(6)]
    urls = [internal_url(file.id, file.file_name) for file in made]
    requests: list[tuple[Kind, Json]] = [
        ("training", {"images_data_url": urls[5]}),
        ("training", {"images_data_url": urls[5], "steps": 9}),
        ("inference", {"prompt": "a private word", "loras": [{"path": urls[0]}]}),
        ("inference", {"prompt": "a private word", "image_url": urls[2]}),
        ("inference", {"prompt": "nobody"}),
    ]

    async def fill() -> list[str]:
        store, ids = await Store.open(Settings(data_dir=data_dir).database_url), []
        await store.files.add(made[5])
        for (kind, input), file in zip(requests, made, strict=False):
            request, _ = await store.requests.submit(NewRequest(FLUX, kind, input))
            claim = await store.leases.claim("w", kind)
            assert claim is not None
            await store.leases.complete(claim, {"file": internal_url(file.id, file.file_name)}, [file])
            ids.append(request.id)
        await store.close()
        return ids

    return asyncio.run(fill())


def test_what_was_made_from_a_dataset_is_offered_and_goes_when_it_is_asked_for(data_dir: Path) -> None:
    training, sibling, drawn, redrawn, nobodys = with_family(data_dir)
    asked = CliRunner().invoke(app, ["forget", training, "--data-dir", str(data_dir)], input="n\n")
    assert [one in asked.stderr for one in (sibling, drawn, redrawn, nobodys)] == [True, True, True, False]
    of_image = CliRunner().invoke(app, ["forget", drawn, "--data-dir", str(data_dir)], input="n\n")
    assert [one in of_image.stderr for one in (training, sibling, redrawn)] == [False, False, True]
    done = CliRunner().invoke(app, ["forget", training, "--all", "--yes", "--data-dir", str(data_dir)])
    assert done.exit_code == 0
    assert [receipt["request_id"] for receipt in json.loads(done.stdout)] == [redrawn, drawn, sibling, training]
    assert not any(b"a private word" in path.read_bytes() for path in data_dir.rglob("*") if path.is_file())


def test_a_key_of_each_scope_is_made(data_dir: Path) -> None:
    texts = [run(data_dir, "keys", "create", "--name", "me", "--scope", scope)[1].strip() for scope in Scope]
    rows = [line.split("\t") for line in run(data_dir, "keys", "list")[1].splitlines()[1:]]
    assert {row[0]: row[2] for row in rows} == dict(zip([text.split(":")[0] for text in texts], Scope, strict=True))
