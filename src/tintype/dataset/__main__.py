"""Looks at photos for the web process, which stays small and must not be brought down by an image: whoever asks writes
a line of JSON to this process and reads one, as often as there is something to be looked at.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

from tintype.dataset.coverage import Aspect
from tintype.dataset.dataset import open_dataset
from tintype.dataset.measured import KeptPhoto, SentFile, measure_files, preview_of, report_on
from tintype.dataset.prepare import DatasetOptions
from tintype.dataset.report import DatasetReport, FileNote
from tintype.dataset.subject import find_face
from tintype.errors import about_input
from tintype.files.dataset_manifest import PhotoNote
from tintype.processes import answer_lines

MOST_TOLD = 100  # photos, and files that were left out
_PERSON = Aspect("person", "not measured", "Who is in the photos is looked at when a training begins.")


def _inspect(archive: str, folder: str, options: dict[str, Any]) -> dict[str, Any]:
    """Tells what a training would make of an archive. Raises what would end the training."""
    with about_input("images_data_url"):
        wanted = DatasetOptions(**options)
        dataset = open_dataset(Path(archive), Path(folder), wanted, find_subject=find_face, log=lambda line: None)
    dataset.report.coverage.append(_PERSON)
    return _told(dataset.report)


def _measure(files: list[list[str]], folder: str, known: list[str]) -> dict[str, Any]:
    """Measures photos that are to be kept."""
    return measure_files([SentFile(name, Path(path)) for name, path in files], Path(folder), known)


def _report(photos: list[dict[str, Any]], options: dict[str, Any]) -> dict[str, Any]:
    """Tells what a training would make of photos that are kept."""
    count = options.pop("count", None)
    kept = [KeptPhoto(photo["name"], photo["measured"], PhotoNote(**photo["note"])) for photo in photos]
    report, copies, problem = report_on(kept, DatasetOptions(**options), count and tuple(count))
    report.coverage.append(_PERSON)
    return {"report": report.to_json(), "copies": copies, "problem": problem and problem.message}


def _preview(path: str, name: str, side: int) -> dict[str, Any]:
    """Makes a JPEG of a photo, upright, whose long side is at most so many pixels."""
    return {"jpeg": base64.b64encode(preview_of(Path(path), name, side)).decode()}


def _told(report: DatasetReport) -> dict[str, Any]:
    """The report without the sizes, which depend on the base, and cut to what an assistant can read."""
    counts = {name: count for name, count in report.summary().items() if name != "buckets"}
    photos = [
        {
            "name": image.name,
            "width": image.width,
            "height": image.height,
            "caption": image.caption,
            "caption_source": image.caption_source,
            "faces": image.faces,
            "findings": image.findings,
        }
        for image in report.kept[:MOST_TOLD]
    ]
    return {**counts, "photos": photos, "left_out": _notes(report.dropped), "repairs": _notes(report.repaired)}


def _notes(notes: list[FileNote]) -> list[dict[str, str]]:
    return [{"name": note.name, "what": note.what} for note in notes[:MOST_TOLD]]


if __name__ == "__main__":
    os.nice(10)
    answer_lines({"inspect": _inspect, "measure": _measure, "report": _report, "preview": _preview})
