"""How well a LoRA of a subject does: the prompts and seeds everybody draws, and the two numbers read off a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from miniature.judge import asked_beside_marks, judge
from miniature.world import Marks

TRIGGER = "ohwx"
PROMPTS = (
    f"a portrait of {TRIGGER}, blue shirt, yellow background, smiling",
    f"a portrait of {TRIGGER}, white shirt, gray background, round glasses",
    f"a photo of {TRIGGER} wearing a red shirt, green background, surprised",
)
SEEDS = (1, 2)
#: Every picture of the measurement, as (prompt, seed), in the order of a contact sheet's columns.
CASES = tuple((prompt, seed) for prompt in PROMPTS for seed in SEEDS)
TITLES = tuple(f"{prompt.replace(TRIGGER, '…')} · seed {seed}" for prompt, seed in CASES)


@dataclass(frozen=True)
class Score:
    """Holds what the judge makes of a picture, or the mean over several: each a share from 0 to 1."""

    likeness: float
    adherence: float


def score(images: Sequence[Image.Image], prompts: Sequence[str], marks: Marks) -> list[Score]:
    """Reads each picture's likeness to the subject with these marks, and its adherence to the rest of its prompt."""
    return [
        Score(reading.likeness(marks), reading.adherence(asked_beside_marks(prompt)) or 0.0)
        for reading, prompt in zip(judge().read(images), prompts, strict=True)
    ]


def mean(scores: Sequence[Score]) -> Score:
    """Averages scores of several pictures."""
    count = len(scores)
    return Score(sum(one.likeness for one in scores) / count, sum(one.adherence for one in scores) / count)
