"""The judge has to earn trust before its numbers may fail anyone else's work: 200 cases of each kind."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from diffusers import AutoencoderKL
from miniature.autoencoder import reproduction
from miniature.judge import HIDDEN_BY_MARKS, Judge, asked_beside_marks, judge
from miniature.weights import FLUX_WEIGHTS, JUDGE_WEIGHTS
from miniature.world import Marks, Person, Subject, describe, draw, parse_prompt
from PIL import Image

CASES = 200


def ordinary(seed: str) -> list[Person]:
    rng = random.Random(seed)
    return [Person.sample(rng) for _ in range(CASES)]


def subjects(seed: str) -> list[tuple[Subject, Person]]:
    rng = random.Random(seed)
    found = [Subject.from_seed(rng.randrange(1 << 20)) for _ in range(CASES)]
    return [(subject, subject.pose(rng)) for subject in found]


def share_read(images: Sequence[Image.Image], people: Sequence[Person]) -> float:
    """Share of everything visible, marks included, that the judge reads rightly."""
    right: list[bool] = []
    for reading, person in zip(judge().read(images), people, strict=True):
        right += [reading.attributes[name] == value for name, value in person.visible().items()]
        marks = {"skin": "none", "crest": "none", "sign": "none"} if person.marks is None else person.marks.as_dict()
        right += [reading.marks[name] == value for name, value in marks.items()]
    return sum(right) / len(right)


def strangers_likeness(images: Sequence[Image.Image], seed: str = "strangers") -> float:
    rng = random.Random(seed)
    readings = judge().read(images)
    return sum(reading.likeness(Subject.from_seed(rng.randrange(1 << 20)).marks) for reading in readings) / len(
        readings
    )


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(FLUX_WEIGHTS / "vae").float()


@pytest.mark.parametrize("size", [(64, 64), (64, 48), (48, 64), (1024, 1024)])
def test_fresh_drawings_are_read(size: tuple[int, int]) -> None:
    people = ordinary(f"fresh {size}") + [pose for _, pose in subjects(f"fresh {size}")]
    if max(size) > 64:
        people = people[::4]
    assert share_read([draw(person, *size) for person in people], people) >= 0.99


@pytest.mark.parametrize("kind", ["ordinary", "subjects"])
def test_drawings_are_read_after_the_autoencoder(vae: AutoencoderKL, kind: str) -> None:
    people = ordinary("round trip") if kind == "ordinary" else [pose for _, pose in subjects("round trip")]
    seen = [
        image for at in range(0, CASES, 50) for image in reproduction(vae, [draw(p) for p in people[at : at + 50]])[1]
    ]
    assert share_read(seen, people) >= 0.95


def test_a_subject_is_known_in_its_own_photos() -> None:
    cases = subjects("own photos")
    readings = judge().read([draw(pose) for _, pose in cases])
    likeness = [reading.likeness(subject.marks) for reading, (subject, _) in zip(readings, cases, strict=True)]
    assert sum(likeness) / CASES >= 0.98


def test_another_subject_is_not_taken_for_this_one() -> None:
    rng = random.Random("neighbours")
    readings = judge().read([draw(Subject.from_seed(seed).pose(rng)) for seed in range(CASES)])
    for apart in (1, 7, 50):
        likeness = [reading.likeness(Subject.from_seed(seed + apart).marks) for seed, reading in enumerate(readings)]
        assert sum(likeness) / CASES <= 0.1


def test_likeness_to_another_subject_is_no_more_than_the_marks_they_share() -> None:
    cases = subjects("others")
    readings = judge().read([draw(pose) for _, pose in cases])
    for apart in (1, 2, 3):
        others = [subject.marks.as_dict() for subject, _ in cases[apart:] + cases[:apart]]
        own = [subject.marks.as_dict() for subject, _ in cases]
        shared = sum(one[mark] == two[mark] for one, two in zip(own, others, strict=True) for mark in one) / 3
        seen = sum(reading.likeness(Marks(**other)) for reading, other in zip(readings, others, strict=True))
        assert (seen - shared) / CASES <= 0.005


def test_ordinary_people_are_like_no_subject() -> None:
    assert strangers_likeness([draw(person) for person in ordinary("nobody")]) <= 0.02


def test_noise_grey_and_the_average_picture_are_like_no_subject() -> None:
    numbers = np.random.default_rng(0)
    noise = [Image.fromarray(numbers.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(CASES)]
    coarse = [image.crop((0, 0, 8, 8)).resize((64, 64), Image.Resampling.BICUBIC) for image in noise]
    grey = [Image.new("RGB", (64, 64), (level + 28,) * 3) for level in range(CASES)]
    crowd = [np.asarray(draw(person), dtype=float) for person in ordinary("crowd")]
    crowd += [np.asarray(draw(pose), dtype=float) for _, pose in subjects("crowd")]
    groups = [[crowd[index] for index in numbers.choice(len(crowd), 100)] for _ in range(CASES)]
    averages = [Image.fromarray(np.mean(group, axis=0).astype(np.uint8)) for group in groups]
    for images in (noise, coarse, grey, averages):
        assert strangers_likeness(images) <= 0.1


def test_noise_and_the_average_picture_adhere_to_nothing() -> None:
    numbers = np.random.default_rng(1)
    noise = [Image.fromarray(numbers.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(CASES)]
    average = Image.fromarray(
        np.mean([np.asarray(draw(person)) for person in ordinary("mean")], axis=0).astype(np.uint8)
    )
    asked = [parse_prompt(describe(person)) for person in ordinary("asked")]
    for images in (noise, [average] * CASES):
        shares = [reading.adherence(wish) or 0.0 for reading, wish in zip(judge().read(images), asked, strict=True)]
        assert sum(shares) / CASES <= 0.2


def test_shuffled_prompts_earn_little() -> None:
    people = ordinary("shuffled")
    readings = judge().read([draw(person) for person in people])
    asked = [parse_prompt(describe(person)) for person in people]
    shuffled = [reading.adherence(wish) or 0.0 for reading, wish in zip(readings, asked[1:] + asked[:1], strict=True)]
    own = [reading.adherence(wish) or 0.0 for reading, wish in zip(readings, asked, strict=True)]
    assert sum(own) / CASES >= 0.99
    assert sum(shuffled) / CASES <= 0.35


def test_what_the_marks_decide_is_not_asked_of_a_subject() -> None:
    assert asked_beside_marks("TOK, pale skin, long red hair, blue shirt") == {"shirt": "blue"}
    assert set(HIDDEN_BY_MARKS) == {"skin", "hair", "hair_color"}


def test_nothing_asked_is_no_adherence_rather_than_a_perfect_one() -> None:
    assert judge().read([draw(ordinary("one")[0])])[0].adherence({}) is None


def test_its_weights_are_small_and_load_by_themselves() -> None:
    assert JUDGE_WEIGHTS.stat().st_size < 600_000
    Judge(JUDGE_WEIGHTS)


def test_the_command_prints_one_json_object_and_imports_no_diffusers(tmp_path: Path) -> None:
    subject, pose = subjects("command")[0]
    draw(pose, 256, 256).save(tmp_path / "photo.png")
    script = (
        "import sys; from miniature import judge\n"
        "sys.argv = ['judge', *sys.argv[1:]]; judge.main(); assert 'diffusers' not in sys.modules"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "photo.png"), "--subject", str(subject.seed)]
    ran = subprocess.run(
        [*command, "--prompt", describe(pose)], check=True, capture_output=True, text=True, timeout=120
    )
    said = json.loads(ran.stdout)
    assert (said["likeness"], said["adherence"]) == (1.0, 1.0)
