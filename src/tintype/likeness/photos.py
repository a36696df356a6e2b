"""The photos of one training as whoever tells people apart sees them: who is in them, and how they look at the camera.

Looked at once, before anything is trained: the report says what is found, and candidates are scored against it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image

from tintype.count import some_of
from tintype.dataset import Dataset
from tintype.dataset.coverage import FEWEST, Aspect
from tintype.likeness.faces import FaceIdentity
from tintype.likeness.held_out import strangers_among
from tintype.likeness.identity import Identity

# How far the nose is from the middle between the eyes, in distances of the two eyes. Of the 20 faces in the
# photographs that tests/likeness/test_faces.py names, those with less look at the camera or a little past it.
ASIDE = 0.17
_MOST = 100  # photos; all of them are in memory
INSTALL = "pip install 'tintype[faces]'"


@dataclass(frozen=True)
class Photos:
    """Photos by name with what was embedded, (photos, width), and `turns`, (photos,): NaN where nobody was found.

    `alike` are pairs of places that look much alike.
    """

    identity: Identity
    names: list[str]
    images: list[Image.Image]
    alike: list[tuple[int, int]]
    embedded: torch.Tensor
    turns: torch.Tensor

    @classmethod
    def of(cls, dataset: Dataset, identity: Identity) -> Photos:
        """Looks at the widest crop of each photo, of very many at those of the first hundred."""
        first = {example.name: example for example in reversed(dataset.examples)}
        names = [image.name for image in dataset.report.kept if image.name in first][:_MOST]
        images = [first[name].image for name in names]
        places = {name: place for place, name in enumerate(names)}
        alike = [(places[one], places[other]) for one, other in dataset.report.alike if {one, other} <= places.keys()]
        embedded = identity.embed(images)
        turns = identity.turns(images) if isinstance(identity, FaceIdentity) else torch.full((len(images),), torch.nan)
        return cls(identity, names, images, alike, embedded, turns)

    def aspects(self) -> list[Aspect]:
        """Says who is in the photos, and whether they look aside in some."""
        return [self._who(), self._sides()]

    def _who(self) -> Aspect:
        known = int((~self.embedded.isnan().any(dim=1)).sum())
        if known < FEWEST:
            return Aspect("person", "not measured", f"Somebody is recognised in {known} of {len(self.names)} photos.")
        nobody = len(self.names) - known
        unseen = f" In {nobody} nobody is recognised." if nobody else ""
        if odd := [self.names[place] for place in strangers_among(self.embedded, self.identity.same_person)]:
            return Aspect("person", "advice", f"These may show somebody else: {some_of(odd)}.{unseen}", odd)
        return Aspect("person", "covered", f"No photo of {known} seems to show somebody else.{unseen}")

    def _sides(self) -> Aspect:
        seen = self.turns[~self.turns.isnan()]
        if len(seen) < FEWEST:
            return Aspect("side view", "not measured", f"Where a face looks was measured in {len(seen)} photos.")
        aside = int((seen.abs() >= ASIDE).sum())
        if not aside:
            text = f"In all {len(seen)} photos the face looks at the camera: side views and profiles will be guessed."
            return Aspect("side view", "advice", text)
        return Aspect("side view", "covered", f"In {aside} of {len(seen)} photos the face looks aside.")


def unknown_people(why: str) -> list[Aspect]:
    """What is said where nothing tells people apart."""
    return [Aspect(aspect, "not measured", why) for aspect in ("person", "side view")]
