"""Real faces: the same person under other light, crop, turn and compression is closer than any two people."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import skimage.data
import torch
from PIL import Image, ImageEnhance, ImageOps

from tintype.dataset.faces import find_faces
from tintype.likeness.faces import SAME_PERSON, FaceIdentity
from tintype.likeness.installed import faces_installed
from tintype.likeness.photos import ASIDE

# Photographs of several people each, which their package carries for its own demonstration; nothing is copied from it.
SAMPLES = Path(__file__).parents[1] / "acceptance" / "js" / "node_modules" / "@vladmandic" / "face-api" / "demo"

pytestmark = [pytest.mark.skipif(not faces_installed(), reason="tintype[faces] is not installed"), pytest.mark.slow]


@pytest.fixture(scope="module")
def identity() -> FaceIdentity:
    return FaceIdentity()


def people() -> Iterator[tuple[str, Image.Image]]:
    """Each person of each photograph, cut out with some room; all are different people within one photograph."""
    yield "astronaut", Image.fromarray(skimage.data.astronaut())
    for path in sorted(SAMPLES.glob("sample*.jpg")):
        photo = Image.open(path).convert("RGB")
        for face in find_faces(photo):
            room = round(0.35 * face.width)  # for hair, and for nobody else
            edges = (face.left - room, face.top - room, face.right + room, face.bottom + room)
            yield path.stem, photo.crop(edges)


def taken_again(portrait: Image.Image) -> list[Image.Image]:
    width, height = portrait.size
    stored = io.BytesIO()
    portrait.save(stored, "JPEG", quality=35)
    return [
        portrait,
        portrait.crop((width // 10, height // 10, width - width // 12, height - width // 12)),
        portrait.rotate(10, Image.Resampling.BICUBIC),
        ImageOps.mirror(portrait),
        ImageEnhance.Brightness(portrait).enhance(0.65),
        Image.open(stored),
    ]


def test_a_person_is_the_same_however_a_photo_was_taken_and_no_other_is(identity: FaceIdentity) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("npm is not here")
    same, different = [], []
    seen: dict[str, list[torch.Tensor]] = {}
    for photo, portrait in people():
        described = identity.descriptors(taken_again(portrait))
        known = described[~described.isnan().any(dim=1)]
        if len(known) < len(described):
            continue  # turned away: OpenCV's finder saw a face, and dlib's does not every time
        same.append(torch.cdist(known[:1], known[1:]).max())
        different += [torch.dist(known[0], other) for other in seen.get(photo, [])]
        seen.setdefault(photo, []).append(known[0])
    assert sum(map(len, seen.values())) >= 8
    assert max(same) < SAME_PERSON, "the threshold of dlib's authors"
    assert max(same) < min(different)


def test_where_nobody_is_nothing_is_measured(identity: FaceIdentity) -> None:
    embedded = identity.embed([Image.new("RGB", (300, 300), "grey"), Image.fromarray(skimage.data.astronaut())])
    assert embedded[0].isnan().all()
    assert embedded[1].norm() == pytest.approx(1.0)


def test_a_face_that_looks_aside_is_told_by_the_side(identity: FaceIdentity) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("npm is not here")
    ahead, several = Image.fromarray(skimage.data.astronaut()), Image.open(SAMPLES / "sample5.jpg").convert("RGB")
    left, top, right, bottom = (round(share * several.width) for share in (0.25, 0.15, 0.5, 0.42))
    aside = several.crop((left, top, right, bottom))  # one of them, in three quarters
    turns = identity.turns([ahead, aside, ImageOps.mirror(aside), Image.new("RGB", (99, 99))])
    assert abs(turns[0]) < 0.1
    assert turns[1] > ASIDE
    assert turns[2] < -ASIDE
    assert turns[3].isnan()
