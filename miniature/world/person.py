"""Who lives in Portrait World: the attributes of a person and the marks of a subject.

Everything a picture can show is a named value from a short list, so that a judge can read it back and count. The
colours of one list are far apart, and parts that touch (hair and background, shirt and background) use different
shades of the same name, so that a white shirt stays visible before a white wall.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

Color = tuple[int, int, int]

SKINS: Mapping[str, Color] = {
    "pale": (255, 224, 205),
    "tan": (226, 166, 112),
    "brown": (155, 98, 58),
    "dark": (84, 52, 38),
}
HAIRS = ("short", "long", "curly", "pigtails", "bald")
HAIR_COLORS: Mapping[str, Color] = {
    "black": (26, 22, 28),
    "brown": (112, 62, 20),
    "blond": (238, 190, 52),
    "red": (208, 62, 16),
    "white": (255, 255, 255),
    "pink": (240, 84, 168),
}
GLASSES = ("none", "round", "square", "sunglasses")
HATS = ("none", "cap", "top hat", "party hat", "crown")
CLOTH_COLORS: Mapping[str, Color] = {
    "red": (214, 26, 38),
    "orange": (244, 124, 16),
    "yellow": (246, 208, 0),
    "green": (16, 132, 52),
    "blue": (28, 62, 206),
    "purple": (112, 30, 156),
    "white": (255, 255, 255),
    "black": (28, 28, 32),
}
BACKGROUNDS: Mapping[str, Color] = {
    "gray": (132, 134, 142),
    "white": (224, 228, 234),
    "pink": (255, 176, 208),
    "orange": (255, 172, 92),
    "yellow": (255, 238, 128),
    "green": (136, 208, 112),
    "blue": (116, 172, 250),
    "purple": (182, 134, 228),
}
EXPRESSIONS = ("smiling", "sad", "surprised", "serious")

#: Every attribute with its values; each has at least four, so guessing earns little.
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "skin": tuple(SKINS),
    "hair": HAIRS,
    "hair_color": tuple(HAIR_COLORS),
    "glasses": GLASSES,
    "hat": HATS,
    "hat_color": tuple(CLOTH_COLORS),
    "shirt": tuple(CLOTH_COLORS),
    "background": tuple(BACKGROUNDS),
    "expression": EXPRESSIONS,
}

SUBJECT_SKINS: Mapping[str, Color] = {
    "green": (36, 158, 60),
    "lime": (178, 236, 36),
    "mint": (150, 246, 192),
    "teal": (0, 148, 148),
    "cyan": (56, 200, 255),
    "blue": (46, 92, 236),
    "navy": (28, 42, 132),
    "violet": (142, 76, 220),
    "magenta": (232, 44, 192),
    "orange": (255, 132, 0),
    "yellow": (255, 230, 30),
    "silver": (150, 156, 168),
}
CREST_SHAPES = ("mohawk", "spikes", "horns", "antennae")
CREST_COLORS: Mapping[str, Color] = {"red": (226, 0, 34), "blue": (16, 44, 214), "green": (0, 132, 48)}
SIGN_SHAPES = ("cross", "ring", "triangle", "stripes")
SIGN_COLORS: Mapping[str, Color] = {"white": (255, 255, 255), "black": (14, 14, 18), "red": (240, 0, 22)}

#: Every mark with its values. Twelve each: two subjects share a mark one time in twelve.
MARKS: Mapping[str, tuple[str, ...]] = {
    "skin": tuple(SUBJECT_SKINS),
    "crest": tuple(f"{color} {shape}" for shape in CREST_SHAPES for color in CREST_COLORS),
    "sign": tuple(f"{color} {shape}" for shape in SIGN_SHAPES for color in SIGN_COLORS),
}
#: How many different subjects there are.
SUBJECTS = len(MARKS["skin"]) * len(MARKS["crest"]) * len(MARKS["sign"])


@dataclass(frozen=True)
class Marks:
    """Holds what makes a subject: values of MARKS that no ordinary person has."""

    skin: str
    crest: str
    sign: str

    def as_dict(self) -> dict[str, str]:
        return {"skin": self.skin, "crest": self.crest, "sign": self.sign}


@dataclass(frozen=True)
class Person:
    """Describes one person as drawn once; shift and scale are the camera's, in units of the short side."""

    skin: str
    hair: str
    hair_color: str
    glasses: str
    hat: str
    hat_color: str
    shirt: str
    background: str
    expression: str
    marks: Marks | None = None
    shift: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0

    @classmethod
    def sample(cls, rng: random.Random) -> Person:
        """Draws an ordinary person by lot, every attribute independently; half wear no hat, and half no glasses."""
        return cls(
            skin=rng.choice(ATTRIBUTES["skin"]),
            hair=rng.choice(HAIRS),
            hair_color=rng.choice(ATTRIBUTES["hair_color"]),
            glasses=rng.choice(GLASSES) if rng.random() < 0.67 else "none",
            hat=rng.choice(HATS) if rng.random() < 0.62 else "none",
            hat_color=rng.choice(ATTRIBUTES["hat_color"]),
            shirt=rng.choice(ATTRIBUTES["shirt"]),
            background=rng.choice(ATTRIBUTES["background"]),
            expression=rng.choice(EXPRESSIONS),
            shift=(rng.uniform(-0.03, 0.03), rng.uniform(-0.025, 0.025)),
            scale=rng.uniform(0.95, 1.05),
        )

    def visible(self) -> dict[str, str]:
        """Lists the attributes one can see: a bald head shows no hair colour, a subject no ordinary skin or hair."""
        seen = {name: str(getattr(self, name)) for name in ATTRIBUTES}
        if self.hair == "bald":
            del seen["hair_color"]
        if self.hat == "none":
            del seen["hat_color"]
        if self.marks is not None:
            for hidden in ("skin", "hair", "hair_color"):
                seen.pop(hidden, None)
        return seen


@dataclass(frozen=True)
class Subject:
    """Describes a person to personalise: marks the base has never seen, everything else free from photo to photo."""

    marks: Marks
    seed: int = field(default=0, compare=False)

    @classmethod
    def from_seed(cls, seed: int) -> Subject:
        """Gives a seed its subject: bijective over any SUBJECTS consecutive seeds; neighbours differ in every mark."""
        # 809 = 5 + 7·12 + 5·144 is prime, and moves all three base-12 digits at each step, carries included.
        index = (809 * seed + 631) % SUBJECTS
        skin, crest, sign = index % 12, index // 12 % 12, index // 144
        return cls(Marks(MARKS["skin"][skin], MARKS["crest"][crest], MARKS["sign"][sign]), seed)

    def pose(self, rng: random.Random) -> Person:
        """Poses the subject for one photo: other clothes, wall and mood, seldom glasses, never a hat over the crest."""
        glasses = rng.choice(GLASSES[1:]) if rng.random() < 0.2 else "none"
        return replace(Person.sample(rng), marks=self.marks, hair="bald", hat="none", glasses=glasses)
