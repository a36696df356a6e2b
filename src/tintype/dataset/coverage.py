"""What a set of photos shows of a person, and what it does not: said before anything is trained, from measurements.

A LoRA learns whatever all photos have in common. If that is a room, the room comes with the person; what no photo shows
is guessed. So each aspect is either well covered, or advice says what to add, or it is called not measured.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from tintype.count import some_of
from tintype.dataset.framing import Box, Framing, framing_of
from tintype.dataset.subject import Subject, person_around

State = Literal["covered", "advice", "not measured"]
Colours = npt.NDArray[np.float32]  # share of each colour, and of none lost: they add up to 1

FEWEST = 4  # photos of which something can be said
_MOST_ALIKE = 0.6  # share of the photos from which on an aspect is called one-sided
# Of all colour, the share that two photos have in common. Of seven photographs (scikit-image's astronaut and the six of
# face-api) taken again by cropping, mirroring, other light or JPEG, 45 of 47 backgrounds and 34 of 47 clothes had as
# much in common with the first; of two different photographs, 5 in 100.
_SAME_COLOURS = 0.7
_MOST_COMPARED = 500  # photos, each with each
_SIDE = 96  # pixels of the long side, in which colours are counted
_LIGHTNESSES, _TINTS = 4, 13
_LEAST_PIXELS = 60
_EDGE = 0.12  # of the width, left and right, where a family says that the subject fills the image
_UPPER = 0.5  # of the height likewise


@dataclass(frozen=True)
class Surroundings:
    """Colours around the person and of their clothes in one photo; None where these cannot be made out.

    `framing` is how much of the person all of the photo shows.
    """

    background: Colours | None
    clothes: Colours | None
    framing: Framing | None

    def to_json(self) -> dict[str, Any]:
        """Writes them as JSON: 16 bits for the share of a colour are plenty."""
        return {"background": _packed(self.background), "clothes": _packed(self.clothes), "framing": self.framing}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Surroundings:
        """Reads what `to_json` wrote; of a photo of which nothing was kept, nothing is known."""
        return cls(_unpacked(told.get("background")), _unpacked(told.get("clothes")), told.get("framing"))


@dataclass(frozen=True)
class Aspect:
    """Says how well the photos cover one aspect; `photos` names those that it is about."""

    aspect: str
    state: State
    text: str
    photos: list[str] = field(default_factory=list)


def look_around(image: Image.Image, subject: Subject) -> Surroundings:
    """Measures an RGB image whose subject is in its pixels."""
    shrink = max(1, max(image.size) // _SIDE)
    little = image.reduce(shrink)
    small = subject.scaled(1 / shrink, 1 / shrink)
    rows, columns = np.mgrid[: little.height, : little.width]
    if subject.kind == "whole":  # nobody knows where in it
        return Surroundings(None, None, None)
    if subject.kind == "given":
        aside = np.minimum(columns, little.width - 1 - columns) < _EDGE * little.width
        return Surroundings(_colours(little, aside & (rows < _UPPER * little.height)), None, None)
    background = (rows < small.box.bottom) & (columns >= 0)
    for face in (small.box, *small.others):
        left, top, right, bottom = person_around(face)
        across, down = (columns - (left + right) / 2) / (right - left), (rows - (top + bottom) / 2) / (bottom - top)
        background &= across**2 + down**2 > 0.25
    return Surroundings(
        _colours(little, background),
        _colours(little, _chest(small.box, rows, columns)),
        framing_of(subject.box, Box(0, 0, *image.size)),
    )


def aspects_of(names: Sequence[str], seen: Sequence[Surroundings], alike: Sequence[tuple[str, str]]) -> list[Aspect]:
    """Says what follows from all photos' surroundings, and from pairs that look much alike."""
    return [
        _one_sided("background", "have much the same background", names, [each.background for each in seen]),
        _one_sided("clothes", "show much the same clothes", names, [each.clothes for each in seen]),
        _distances(names, [each.framing for each in seen]),
        _look_alikes(alike),
        Aspect("expression", "not measured", "Nothing here reads expressions: see for yourself that they vary."),
    ]


_ADVICE = {
    "background": "The LoRA will learn it with the person: add photos from other places.",
    "clothes": "The LoRA will learn them with the person: add photos in something else.",
}


def _one_sided(aspect: str, what: str, names: Sequence[str], colours: Sequence[Colours | None]) -> Aspect:
    known = [number for number, each in enumerate(colours) if each is not None][:_MOST_COMPARED]
    of = f"{len(known)}" if len(known) == len(names) else f"{len(known)} measured"
    if len(known) < FEWEST:
        text = f"Faces tell where the {aspect} would be: made out in {len(known)} of {len(names)} photos."
        return Aspect(aspect, "not measured", text)
    table = np.stack([each for number in known if (each := colours[number]) is not None])
    same = np.stack([np.minimum(row, table).sum(axis=1) >= _SAME_COLOURS for row in table])
    largest = np.flatnonzero(same[same.sum(axis=1).argmax()])
    involved = [names[known[int(number)]] for number in largest]
    if len(involved) < _MOST_ALIKE * len(known):
        return Aspect(aspect, "covered", f"At most {len(involved)} of {of} photos {what}.")
    return Aspect(aspect, "advice", f"{len(involved)} of {of} photos {what}. {_ADVICE[aspect]}", involved)


def _distances(names: Sequence[str], framings: Sequence[Framing | None]) -> Aspect:
    found = [framing for framing in framings if framing is not None]
    if len(found) < FEWEST:
        return Aspect("distance", "not measured", f"A face was found in {len(found)} of {len(names)} photos only.")
    near, far = sum(framing in ("head", "bust") for framing in found), found.count("full")
    if near == len(found):
        return Aspect("distance", "advice", f"All {near} photos end above the waist: the figure will be guessed.")
    if far == len(found):
        return Aspect("distance", "advice", f"All {far} photos show the whole body: add some of the face alone.")
    return Aspect("distance", "covered", f"{near} of {len(found)} photos end above the waist.")


def _look_alikes(pairs: Sequence[tuple[str, str]]) -> Aspect:
    """Groups pairs: who is alike to one of a group belongs to it."""
    groups: list[set[str]] = []
    for pair in pairs:
        touched = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if group not in touched] + [set(pair).union(*touched)]
    if not groups:
        return Aspect("copies", "covered", "No two photos look nearly alike.")
    told = "; ".join(f"{len(group)} look nearly alike: {some_of(sorted(group))}" for group in groups)
    return Aspect("copies", "advice", f"{told}. They teach little more than one.", sorted(set().union(*groups)))


def _chest(face: Box, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Where clothes are: from a neck below the chin, as wide as shoulders."""
    middle = (face.left + face.right) / 2
    below = (rows > face.bottom + 0.5 * face.height) & (rows < face.bottom + 2.2 * face.height)
    chest: npt.NDArray[np.bool_] = below & (np.abs(columns - middle) < 0.8 * face.width)
    return chest


def _colours(image: Image.Image, where: npt.NDArray[np.bool_]) -> Colours | None:
    """The share of each colour among some pixels; light, which changes from shot to shot, is told less finely."""
    if where.sum() < _LEAST_PIXELS:
        return None
    lab = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2LAB)[where] / 255.0
    ranges = [(0.0, 1.0), (0.2, 0.8), (0.2, 0.8)]  # of the tints those that photos have; grey is a bin's middle
    lab = lab.clip([low for low, _ in ranges], [high for _, high in ranges])
    counted, _ = np.histogramdd(lab, (_LIGHTNESSES, _TINTS, _TINTS), ranges)
    # A part of each colour counts for its neighbours: no small change may move all of it.
    spread = cv2.GaussianBlur(counted.transpose(1, 2, 0).copy(), (3, 3), 0.8)
    spread = np.pad(spread, ((0, 0), (0, 0), (1, 1)), "edge")
    spread = spread[..., 1:-1] / 2 + (spread[..., :-2] + spread[..., 2:]) / 4
    shares: Colours = (spread / spread.sum()).astype(np.float32).ravel()
    return shares


def _packed(colours: Colours | None) -> str | None:
    return None if colours is None else base64.b64encode(colours.astype(np.float16).tobytes()).decode()


def _unpacked(text: str | None) -> Colours | None:
    return None if text is None else np.frombuffer(base64.b64decode(text), np.float16).astype(np.float32)
