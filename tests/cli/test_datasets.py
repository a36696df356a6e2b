from __future__ import annotations

import json
from pathlib import Path

from tests.support.images import blots
from typer.testing import CliRunner

from tintype.cli import app


def datasets(data_dir: Path, *arguments: str, code: int = 0, answer: str | None = None) -> str:
    done = CliRunner().invoke(app, ["datasets", *arguments, "--data-dir", str(data_dir)], input=answer)
    assert done.exit_code == code, done.output
    return done.output if code == 0 else f"{done.output}{done.exception}"


def test_a_folder_becomes_a_dataset_that_is_captioned_and_deleted(tmp_path: Path) -> None:
    photos, data = tmp_path / "photos", tmp_path / "data"
    photos.mkdir()
    (photos / "a.png").write_bytes(blots(1, (64, 64)))
    (photos / "b.png").write_bytes(blots(2, (64, 64)))
    (photos / "b.txt").write_text("colours")
    (photos / "notes.pdf").write_text("%PDF")
    said = datasets(data, "add", "anna", str(photos))
    assert "2 photos added, 1 left out" in said
    assert "notes.pdf" in said
    assert (photos / "a.png").read_bytes() == blots(1, (64, 64))
    assert "a.png: Anna" in datasets(data, "caption", "anna", "a.png", "Anna")
    shown = json.loads(datasets(data, "show", "anna"))
    assert [(one["name"], one["caption"], one["caption_by"]) for one in shown["photos"]] == [
        ("a.png", "Anna", "person"), ("b.png", "colours", "file"),
    ]  # fmt: skip
    assert "\tanna\t2\t2\t" in datasets(data, "list")
    assert "no photo 'c.png'" in datasets(data, "caption", "anna", "c.png", "x", code=1)
    assert "no dataset 'bob'" in datasets(data, "show", "bob", code=1)
    datasets(data, "delete", "anna", answer="n\n", code=1)
    assert "with 2 photos" in datasets(data, "delete", shown["dataset_id"][:6], "--yes")
    assert not list((data / "files").rglob("*.png"))
