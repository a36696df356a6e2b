"""Portrait World: what is drawn is what is said, subjects are many and far apart, and everything can be repeated."""

from __future__ import annotations

import io
import itertools
import random
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from miniature.world import (
    ATTRIBUTES,
    MARKS,
    SUBJECTS,
    Person,
    Subject,
    caption,
    describe,
    draw,
    parse_prompt,
    photograph,
    write_archive,
)
from PIL import Image


def people(count: int, seed: int = 0) -> list[Person]:
    rng = random.Random(seed)
    return [Person.sample(rng) for _ in range(count)]


def test_the_same_person_and_size_give_the_same_pixels() -> None:
    person = people(1)[0]
    assert draw(person, 64, 48).tobytes() == draw(person, 64, 48).tobytes()


@pytest.mark.parametrize("size", [(1024, 1024), (1024, 512), (512, 1024), (64, 64), (64, 32), (40, 64), (300, 417)])
def test_any_shape_from_one_to_two_up_to_two_to_one_is_drawn(size: tuple[int, int]) -> None:
    assert draw(people(1)[0], *size).size == size


def test_a_shape_beyond_the_world_is_refused() -> None:
    with pytest.raises(ValueError, match="1:2 to 2:1"):
        draw(people(1)[0], 300, 100)


def test_a_large_drawing_made_small_is_the_small_drawing() -> None:
    for person in people(10):
        large = draw(person, 1024, 1024).resize((64, 64), Image.Resampling.BOX)
        difference = np.asarray(large, dtype=float) - np.asarray(draw(person, 64, 64), dtype=float)
        assert np.abs(difference).mean() < 2.5


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_value_of_an_attribute_changes_the_picture(attribute: str) -> None:
    person = replace(people(1)[0], hair="short", hat="cap", glasses="none")
    drawn = [draw(replace(person, **{attribute: value})) for value in ATTRIBUTES[attribute]]  # type: ignore[arg-type]
    for one, other in itertools.combinations(drawn, 2):
        difference = np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max(axis=2)
        assert (difference > 30).sum() >= 12, "at least a dozen pixels of 64 x 64 must tell two values apart"


def test_every_attribute_has_at_least_four_values_and_every_mark_twelve() -> None:
    assert all(len(values) >= 4 for values in ATTRIBUTES.values())
    assert all(len(values) >= 12 for values in MARKS.values())


def test_subjects_are_all_different_and_neighbours_share_no_mark() -> None:
    subjects = [Subject.from_seed(seed).marks for seed in range(SUBJECTS)]
    assert SUBJECTS > 1700
    assert len(set(subjects)) == SUBJECTS
    shared = [
        one.as_dict()[mark] == other.as_dict()[mark] for one, other in itertools.pairwise(subjects) for mark in MARKS
    ]
    assert sum(shared) == 0


def test_marks_stay_while_clothes_wall_and_mood_change_from_photo_to_photo() -> None:
    subject, rng = Subject.from_seed(3), random.Random(0)
    poses = [subject.pose(rng) for _ in range(20)]
    assert {pose.marks for pose in poses} == {subject.marks}
    assert len({(pose.shirt, pose.background, pose.expression) for pose in poses}) > 15


def test_a_full_description_reads_back_as_exactly_what_shows() -> None:
    for person in people(500):
        seen = person.visible()
        for absent in ("glasses", "hat"):
            if seen[absent] == "none":
                del seen[absent]
        assert parse_prompt(describe(person)) == seen


def test_no_caption_says_anything_untrue() -> None:
    rng = random.Random(1)
    for person in people(3000, seed=2):
        seen, said = person.visible(), parse_prompt(caption(person, rng))
        assert all(seen[name] == value for name, value in said.items())


def test_captions_range_from_nothing_to_everything_and_often_name_someone_unknown() -> None:
    rng = random.Random(3)
    captions = [caption(person, rng) for person in people(2000)]
    told = [len(parse_prompt(text)) for text in captions]
    assert 0.05 < sum(text == "" for text in captions) / 2000 < 0.15
    assert max(told) >= 8
    assert sum(count == 0 for count in told) > 200
    assert sum(count >= 4 for count in told) > 600
    assert sum("person" not in text and "someone" not in text for text in captions) > 500


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        (
            "a portrait of ohwx, blue shirt, yellow background, smiling",
            {"shirt": "blue", "background": "yellow", "expression": "smiling"},
        ),
        (
            "Photo of TOK with long blonde hair and sunglasses!",
            {"hair": "long", "hair_color": "blond", "glasses": "sunglasses"},
        ),
        (
            "someone sad, wearing a red top hat, dark-skinned, gray wall",
            {"expression": "sad", "hat": "top hat", "hat_color": "red", "skin": "dark", "background": "gray"},
        ),
        ("black curly hair, no glasses", {"hair": "curly", "hair_color": "black", "glasses": "none"}),
        ("bald man with a green shirt", {"hair": "bald", "shirt": "green"}),
        ("sks", {}),
    ],
)
def test_prompts_are_understood_as_people_write_them(prompt: str, asked: dict[str, str]) -> None:
    assert parse_prompt(prompt) == asked


def test_an_archive_holds_photos_and_captions_with_the_trigger_and_repeats_itself(tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        write_archive(tmp_path / name, photograph(Subject.from_seed(5), 4, size=128), captions=True)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        names = archive.namelist()
        assert len(names) == 8
        for name in names:
            if name.endswith(".txt"):
                assert "[trigger]" in archive.read(name).decode()
            else:
                assert max(Image.open(io.BytesIO(archive.read(name))).size) == 128


def test_the_command_needs_neither_torch_nor_much_time(tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['world', '--subject', '7', '--count', '2', '--size', '256', '--out', sys.argv[1]]\n"
        "from miniature.world.__main__ import main; main(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "photos.zip")], check=True, timeout=60)
    assert len(zipfile.ZipFile(tmp_path / "photos.zip").namelist()) == 2
