"""The dataset report as one page that can be kept, mailed or opened years later: nothing in it lies anywhere else.

File names and captions come from strangers, so every text is escaped and the page may load and run nothing at all.
"""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tintype.dataset.report import DatasetReport, KeptImage
from tintype.files.disk import write_file

_SOURCES = {
    "person": "written by a person",
    "file": "from its text file",
    "metadata": "from a metadata file or a copy",
    "model": "written by a model",
    "trigger": "the trigger phrase alone",
    "default": "the default caption",
    "neutral": "neutral: nothing was written about it",
}
_STATES = {"covered": "fixed", "advice": "", "not measured": "unknown"}  # classes of the page


def write_page(report: DatasetReport, path: Path) -> Path:
    """Writes the report as one HTML file."""
    return write_file(path, render(report))


def render(report: DatasetReport) -> str:
    """Builds the text of the page."""
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    pages.filters |= {"data": _data, "placed": _placed}
    repairs = {image.name: "" for image in report.kept} | {note.name: note.what for note in report.repaired}
    return pages.get_template("report.html").render(
        report=report, repairs=repairs, sources=_SOURCES, states=_STATES, held_out=report.held_out
    )


def _data(content: bytes, form: str) -> Markup:
    return Markup(f"data:image/{form};base64,{base64.b64encode(content).decode()}")


def _placed(box: list[int] | None, image: KeptImage) -> str:
    """Where a box lies on the photo's thumbnail, as CSS has it; None is all of it."""
    left, top, right, bottom = box or (0, 0, image.width, image.height)
    x, y = 100 / image.width, 100 / image.height
    return f"left:{left * x:.2f}%;top:{top * y:.2f}%;width:{(right - left) * x:.2f}%;height:{(bottom - top) * y:.2f}%"
