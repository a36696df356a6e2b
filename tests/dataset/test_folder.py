"""A folder is listed before anything is written, and what tintype has written there is no photo."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tintype.dataset.archive import Limits, Member
from tintype.dataset.folder import folder_members
from tintype.errors import FileTooLarge, TooManyFiles

LIMITS = Limits(files=6, file_bytes=100, total_bytes=250)


def laid_out(root: Path, *names: str, size: int = 10) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * size)
    return root


def listed(root: Path, work: Path, limits: Limits = LIMITS) -> dict[str, Member]:
    return {member.name: member for member in folder_members(root, work, limits=limits)}


def test_files_come_as_links_in_the_order_of_their_names_and_nothing_of_theirs_is_touched(tmp_path: Path) -> None:
    root = laid_out(tmp_path / "photos", "b.jpg", "a.jpg", "beach/c é.jpg", "beach/c é.txt")
    found = listed(root, tmp_path / "work")
    assert list(found) == ["a.jpg", "b.jpg", "beach/c é.jpg", "beach/c é.txt"]
    for member in found.values():
        assert member.path is not None
        assert member.path.read_bytes() == b"x" * 10
        member.path.unlink()
    assert len(list(root.rglob("*.*"))) == 4


@pytest.mark.parametrize(
    ("inside", "names"),
    [
        ("lora", ["lora.safetensors", "config.json", "sample-0.png"]),
        ("earlier/run 2", ["lora.safetensors", "config.json", "loss.svg"]),
        ("stopped", [".work/checkpoints/lock", "sample-0.png"]),
        ("tintype-data", ["locks/serve.lock", "files/abc/0.png"]),
    ],
)
def test_what_tintype_has_written_is_passed_over_wherever_it_lies(
    tmp_path: Path, inside: str, names: list[str]
) -> None:
    root = laid_out(tmp_path, "a.jpg", *(f"{inside}/{name}" for name in names))
    found = listed(root, tmp_path / "stopped" / ".work" / "photos")
    assert [name for name, member in found.items() if member.path] == ["a.jpg"]
    assert found[inside].state == "junk"
    assert "tintype" in found[inside].reason


def test_a_photo_beside_a_lora_or_a_configuration_alone_is_the_persons_own(tmp_path: Path) -> None:
    root = laid_out(tmp_path / "photos", "one/lora.safetensors", "one/a.jpg", "two/config.json", "two/b.jpg")
    assert {"one/a.jpg", "two/b.jpg"} <= listed(root, tmp_path / "work").keys()
    laid_out(root, "lora.safetensors", "config.json")  # in the very folder that was named
    assert {"one/a.jpg", "two/b.jpg"} <= listed(root, tmp_path / "again").keys()


def test_hidden_and_linked_folders_are_not_looked_into_and_links_to_files_are_followed(tmp_path: Path) -> None:
    elsewhere = laid_out(tmp_path / "elsewhere", "d.jpg")
    root = laid_out(tmp_path / "photos", ".git/a.jpg", "__MACOSX/b.jpg", ".hidden.jpg", "Thumbs.db", "c.jpg")
    (root / "loop").symlink_to(root)
    (root / "linked.jpg").symlink_to(elsewhere / "d.jpg")
    (root / "gone.jpg").symlink_to(elsewhere / "nothing.jpg")
    os.mkfifo(root / "pipe.jpg")
    found = listed(root, tmp_path / "work")
    assert [name for name, member in found.items() if member.path] == ["c.jpg", "linked.jpg"]
    assert found.keys() == {".git", "__MACOSX", ".hidden.jpg", "Thumbs.db", "c.jpg", "loop", "linked.jpg", "gone.jpg",
                            "pipe.jpg"}  # fmt: skip


def test_one_file_that_cannot_be_a_photo_costs_only_itself(tmp_path: Path) -> None:
    root = laid_out(tmp_path / "photos", "a.jpg", "film.mov", "others")
    (root / "film.mov").write_bytes(b"x" * 101)
    (root / "others").write_bytes(b"PK\x03\x04")
    found = listed(root, tmp_path / "work")
    assert found["a.jpg"].path
    assert "larger than" in found["film.mov"].reason
    assert "archive" in found["others"].reason


def test_too_much_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    many = laid_out(tmp_path / "many", *(f"{number}.jpg" for number in range(7)))
    large = laid_out(tmp_path / "large", "a.jpg", "b.jpg", "c.jpg", size=90)
    nothing = tmp_path / "nothing"
    for number in range(25):
        (nothing / str(number)).mkdir(parents=True)
    for root, refusal in ((many, TooManyFiles), (large, FileTooLarge), (nothing, TooManyFiles)):
        with pytest.raises(refusal, match=root.name):
            listed(root, tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_request_to_stop_is_heard_while_it_is_listed(tmp_path: Path) -> None:
    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(folder_members(laid_out(tmp_path / "photos", "a.jpg"), tmp_path / "work", check=check))
