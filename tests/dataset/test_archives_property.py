"""Archives of every kind, damaged at random places: every member is accounted for, and nothing damaged is trained."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from tests.support.damage import SEEDS, WAYS, MadeArchive, make, pixels

from tintype.dataset import Dataset, DatasetOptions, open_dataset
from tintype.dataset.subject import whole
from tintype.errors import InputError

OFTEN, LONG = 60, 2000


def opened(made: MadeArchive, folder: Path) -> Dataset | InputError:
    (folder / "archive").write_bytes(made.content)
    shutil.rmtree(folder / "out", ignore_errors=True)
    try:
        return open_dataset(
            folder / "archive", folder / "out", DatasetOptions(trigger="TOK"), find_subject=whole, log=lambda line: None
        )
    except InputError as problem:
        return problem


def check(seed: int, folder: Path) -> None:
    made = make(seed)
    dataset = opened(made, folder)
    if isinstance(dataset, InputError):
        assert len(dataset.message) > 20, "a sentence"
        assert made.damage or not made.whole, f"nothing was wrong with the archive: {dataset.message}"
        return
    report = dataset.report
    notes = (*report.dropped, *report.ignored, *report.captions)
    listed = Counter([kept.name for kept in report.kept] + [note.name for note in notes])
    assert max(listed.values()) == 1, listed
    if not made.damage:
        assert set(listed) == set(made.names)
        assert {kept.name for kept in report.kept} == set(made.whole)
    elif made.damage == "changed":
        assert len(listed) == len(made.names), listed
    truth = {way: {pixels(way, shot, folder) for shot in range(SEEDS)} for way in WAYS}
    known = set().union(*truth.values())
    for example in dataset.examples:
        if not made.damage or made.has_checksums or made.whole.get(example.name) == "png":
            assert example.image.tobytes() in known, f"{example.name} is not as it was packed"


def run(seeds: range, folder: Path) -> None:
    for seed in seeds:
        try:
            check(seed, folder)
        except Exception as problem:
            problem.add_note(f"the archive is made by make({seed})")
            raise


@pytest.mark.slow
def test_every_member_is_accounted_for_and_nothing_damaged_is_trained(tmp_path: Path) -> None:
    run(range(OFTEN), tmp_path)


@pytest.mark.long
def test_the_same_of_many_archives(tmp_path: Path) -> None:
    run(range(OFTEN, OFTEN + LONG), tmp_path)
