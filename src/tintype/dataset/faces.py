"""Finds faces: with YuNet where its weights lie on this machine, else with the cascade that OpenCV carries.

YuNet sees turned and half-hidden faces, but its weights are a file that somebody has to fetch; nothing is fetched here.
The cascade needs no file and no licence, and knows faces that look at the camera. It is slow on large images, so it
looks coarsely first and finely only where that may show more.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tintype.dataset.framing import Box

YUNET_FILE = "face_detection_yunet_2023mar.onnx"
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
_YUNET_SIDE = 640  # pixels of the long side
_YUNET_SURE = 0.8

_CASCADE = "haarcascade_frontalface_alt2.xml"  # of the bundled ones, the one that takes the fewest things for faces
_COARSE_SIDE, _COARSE_LEAST, _COARSE_STEP = 240, 0.16, 1.17  # long side in pixels, of the short side, scale per step
_FINE_SIDE, _FINE_LEAST, _FINE_STEP = 1000, 0.03, 1.2
_NEIGHBOURS = 4
_LEAST_PIXELS = 24  # the cascade's own window is 20; the last steps down to it cost as much as all the others
# A face narrower than this share of the short side stands far off, where there may be others.
_NEAR = 0.2
_TURNS = (-28, 28)  # degrees tried where no upright face is found
_TURNED_SIDE = 300


def find_faces(image: Image.Image) -> list[Box]:
    """Finds all faces, as squares from brow to chin, the most prominent one first."""
    return sorted(_found(image), key=lambda face: prominence(face, image.size), reverse=True)


def prominence(face: Box, size: tuple[int, int]) -> float:
    """Measures how much a face is the subject: its area, and up to half less far from the middle."""
    away = math.hypot((face.left + face.right) / size[0] - 1, (face.top + face.bottom) / size[1] - 1)
    return face.width * face.height * (1 - 0.5 * min(1.0, away / math.sqrt(2)))


def finder_name() -> str:
    """Names which of the two is used here, for the report."""
    return "YuNet" if yunet_weights() else "OpenCV's cascade"


@functools.cache
def yunet_weights() -> Path | None:
    """Finds the pinned weights in the cache folder; a file of another content is not taken."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(cache) / "tintype" / YUNET_FILE
    try:
        return path if hashlib.sha256(path.read_bytes()).hexdigest() == YUNET_SHA256 else None
    except OSError:
        return None


def _found(image: Image.Image) -> list[Box]:
    weights = yunet_weights()
    if weights is not None:
        return _by_yunet(image, weights)
    grey = image.convert("L")
    faces = _by_cascade(grey, _COARSE_SIDE, _COARSE_LEAST, _COARSE_STEP)
    if not faces or min(face.width for face in faces) < _NEAR * min(image.size):
        faces = _united(faces, _by_cascade(grey, _FINE_SIDE, _FINE_LEAST, _FINE_STEP))
    return faces or _by_turning(grey)


def _by_cascade(grey: Image.Image, side: int, least: float, step: float) -> list[Box]:
    small, enlarge = _reduced(grey, side)
    smallest = max(_LEAST_PIXELS, int(min(small.size) * least))
    seen = _cascade().detectMultiScale(
        np.asarray(small), scaleFactor=step, minNeighbors=_NEIGHBOURS, minSize=(smallest, smallest)
    )
    return [_boxed(face, enlarge, grey.size) for face in seen]


def _by_turning(grey: Image.Image) -> list[Box]:
    """Upright squares around the faces of people who hold their head, or the camera, aslant."""
    small, enlarge = _reduced(grey, _TURNED_SIDE)
    for degrees in _TURNS:
        turned = small.rotate(degrees, Image.Resampling.BILINEAR, fillcolor=127)
        faces = _by_cascade(turned, max(turned.size), _COARSE_LEAST, _COARSE_STEP)
        if faces:
            back = (_turned_back(face, degrees, small.size) for face in faces)
            return [_boxed((b.left, b.top, b.width, b.height), enlarge, grey.size) for b in back]
    return []


def _turned_back(face: Box, degrees: float, size: tuple[int, int]) -> Box:
    """Where a face of the turned picture lies in the picture: PIL turns counter-clockwise around the middle."""
    angle = math.radians(degrees)
    x, y = (face.left + face.right - size[0]) / 2, (face.top + face.bottom - size[1]) / 2
    middle_x = x * math.cos(angle) - y * math.sin(angle) + size[0] / 2
    middle_y = x * math.sin(angle) + y * math.cos(angle) + size[1] / 2
    left, top = round(middle_x - face.width / 2), round(middle_y - face.height / 2)
    return Box(left, top, left + face.width, top + face.height)


def _by_yunet(image: Image.Image, weights: Path) -> list[Box]:
    small, enlarge = _reduced(image.convert("RGB"), _YUNET_SIDE)
    detector = _yunet(weights)
    detector.setInputSize(small.size)
    _, rows = detector.detect(np.ascontiguousarray(np.asarray(small)[:, :, ::-1]))
    return [] if rows is None else [face_of_row(row, enlarge, image.size) for row in rows]


def face_of_row(row: Sequence[float], scale: float, size: tuple[int, int]) -> Box:
    """Turns a row of YuNet (left, top, width, height, five landmarks, score) into the square of the cascade.

    YuNet's boxes reach from the hairline to below the chin and are taller than wide.
    """
    left, top, width, height = (float(value) for value in row[:4])
    side = (width + height) / 2 * 0.95
    middle_x, middle_y = left + width / 2, top + height * 0.53
    return _boxed((middle_x - side / 2, middle_y - side / 2, side, side), scale, size)


def _united(one: list[Box], other: list[Box]) -> list[Box]:
    return one + [face for face in other if not any(_same(face, known) for known in one)]


def _same(one: Box, other: Box) -> bool:
    middle_x, middle_y = (one.left + one.right) / 2, (one.top + one.bottom) / 2
    return (other.left < middle_x < other.right and other.top < middle_y < other.bottom) or (
        one.left < (other.left + other.right) / 2 < one.right and one.top < (other.top + other.bottom) / 2 < one.bottom
    )


def _boxed(face: Sequence[float], scale: float, size: tuple[int, int]) -> Box:
    left, top, width, height = (float(value) * scale for value in face)
    found = Box(round(left), round(top), round(left + width), round(top + height))
    return found.within(Box(0, 0, *size))


def _reduced(image: Image.Image, side: int) -> tuple[Image.Image, float]:
    """The image with a long side of at most `side` pixels, and by how much that has to be enlarged again."""
    shrink = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
    return image.resize(size, Image.Resampling.BOX), 1 / shrink


cv2.setNumThreads(1)  # photos are looked at in parallel already
_own = threading.local()  # detectors keep state while they look: each thread has its own


def _cascade() -> Any:
    if not hasattr(_own, "cascade"):
        _own.cascade = cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / _CASCADE))
    return _own.cascade


def _yunet(weights: Path) -> Any:
    if not hasattr(_own, "yunet"):
        _own.yunet = cv2.FaceDetectorYN.create(str(weights), "", (320, 320), _YUNET_SURE)
    return _own.yunet
