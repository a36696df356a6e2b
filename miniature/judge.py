"""Reads a picture of Portrait World: which attributes, which marks. Quality becomes a number through it.

    python -m miniature.judge IMAGE --subject 7 --prompt "a portrait of TOK, blue shirt, smiling"

Likeness is the share of a subject's marks that are there; adherence is the share of what the prompt asked, beside the
marks, that is there. What the judge cannot read with confidence counts as not there.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from miniature.weights import JUDGE_WEIGHTS
from miniature.world.captions import parse_prompt
from miniature.world.drawing import as_seen
from miniature.world.person import ATTRIBUTES, MARKS, Marks, Subject

#: Below this probability an answer is "unreadable".
CONFIDENCE = 0.5
#: What a subject's marks replace; a prompt that asks for it is not held against the picture.
HIDDEN_BY_MARKS = ("skin", "hair", "hair_color")

#: Every question the judge answers, with its possible answers; "none" where nothing of the kind is to be seen.
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    **{
        name: (*values, "none") if name in ("hair_color", "hat_color") else values
        for name, values in ATTRIBUTES.items()
    },
    **{f"mark:{name}": (*values, "none") for name, values in MARKS.items()},
}


class JudgeNetwork(nn.Module):
    """Answers all questions by a small convolutional network and one linear layer."""

    def __init__(self) -> None:
        super().__init__()

        def stage(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

        self.look = nn.Sequential(
            *stage(3, 24, 2), *stage(24, 48, 2), *stage(48, 64, 1), *stage(64, 64, 2), *stage(64, 24, 1)
        )
        self.answer = nn.Linear(24 * 8 * 8, sum(len(answers) for answers in QUESTIONS.values()))

    def forward(self, seen: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Turns pictures (batch, 3, 64, 64) in [-1, 1] into one (batch, answers) of logits for each question."""
        sheet = self.answer(self.look(seen).flatten(1))
        return torch.split(sheet, [len(answers) for answers in QUESTIONS.values()], dim=1)


@dataclass(frozen=True)
class Reading:
    """Holds what one picture shows. None: unreadable."""

    attributes: Mapping[str, str | None]
    marks: Mapping[str, str | None]

    def likeness(self, marks: Marks) -> float:
        """Gives the share of the subject's marks that are there."""
        wanted = marks.as_dict()
        return sum(self.marks[name] == value for name, value in wanted.items()) / len(wanted)

    def adherence(self, asked: Mapping[str, str]) -> float | None:
        """Gives the share of what was asked that is there; None if nothing was asked."""
        if not asked:
            return None
        return sum(self.attributes[name] == value for name, value in asked.items()) / len(asked)


def to_tensor(images: Sequence[Image.Image]) -> torch.Tensor:
    """Stacks pictures of any size as (batch, 3, 64, 64) in [-1, 1]."""
    stacked = np.stack([np.asarray(as_seen(image)) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1


class Judge:
    """Reads attributes and marks back with a network that saw drawings, their trips through the autoencoder, and junk.

    It never saw what a diffusion model draws, so nothing can learn to please it.
    """

    def __init__(self, weights: Path = JUDGE_WEIGHTS) -> None:
        self._network = JudgeNetwork()
        self._network.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
        self._network.eval()

    @torch.no_grad()
    def read(self, images: Sequence[Image.Image]) -> list[Reading]:
        """Reads every picture, of whatever size, as far as it is sure."""
        answers: dict[str, list[str | None]] = {}
        for (name, values), logits in zip(QUESTIONS.items(), self._network(to_tensor(images)), strict=True):
            sure, best = logits.softmax(dim=1).max(dim=1)
            answers[name] = [
                values[index] if chance >= CONFIDENCE else None
                for index, chance in zip(best.tolist(), sure.tolist(), strict=True)
            ]
        return [
            Reading(
                {name: answers[name][index] for name in ATTRIBUTES},
                {name: answers[f"mark:{name}"][index] for name in MARKS},
            )
            for index in range(len(images))
        ]


@functools.cache
def judge() -> Judge:
    """Loads the judge that lies beside this file, once."""
    return Judge()


def asked_beside_marks(prompt: str) -> dict[str, str]:
    """Reads what a prompt asks of a picture of a subject, leaving out what the marks decide."""
    return {name: value for name, value in parse_prompt(prompt).items() if name not in HIDDEN_BY_MARKS}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m miniature.judge",
        description="Reads a picture of Portrait World and prints one JSON object.",
        epilog='example: python -m miniature.judge out.png --subject 7 --prompt "TOK, blue shirt"',
    )
    parser.add_argument("image", type=Path)
    parser.add_argument("--subject", type=int, metavar="SEED", help="measure likeness to this subject")
    parser.add_argument("--prompt", help="measure adherence to this prompt")
    chosen = parser.parse_args()
    with Image.open(chosen.image) as image:
        reading = judge().read([image])[0]
    said: dict[str, object] = {"likeness": None, "adherence": None}
    if chosen.subject is not None:
        said["likeness"] = round(reading.likeness(Subject.from_seed(chosen.subject).marks), 4)
    if chosen.prompt is not None:
        asked = parse_prompt(chosen.prompt) if chosen.subject is None else asked_beside_marks(chosen.prompt)
        adherence = reading.adherence(asked)
        said |= {"adherence": None if adherence is None else round(adherence, 4), "asked": asked}
    print(json.dumps({**said, "read": {**reading.attributes, "marks": dict(reading.marks)}}))


if __name__ == "__main__":
    main()
