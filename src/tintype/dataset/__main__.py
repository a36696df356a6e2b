"""Tells what a training would make of an archive, in a process of its own, as JSON on standard output.

Whoever asks before a training is the web process, which stays small and must not be brought down by an image: pictures
are decoded here, and the process ends with the one that asked.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tintype.dataset.dataset import open_dataset
from tintype.dataset.prepare import DatasetOptions
from tintype.dataset.report import DatasetReport, FileNote
from tintype.dataset.subject import find_face
from tintype.errors import TintypeError, about_input
from tintype.processes import watch_parent

MOST_TOLD = 100  # photos, and files that were left out


def main(archive: str, folder: str, options: str) -> None:
    """Writes {"report": …}, or {"failure": …} for an archive of which no training would come."""
    watch_parent(sys.stdin.fileno())
    os.nice(10)
    try:
        with about_input("images_data_url"):
            wanted = DatasetOptions(**json.loads(options))
            dataset = open_dataset(Path(archive), Path(folder), wanted, find_subject=find_face, log=lambda line: None)
        told = {"report": _told(dataset.report)}
    except TintypeError as problem:
        told = {"failure": problem.failure().to_json()}
    json.dump(told, sys.stdout)


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
    main(*sys.argv[1:])
