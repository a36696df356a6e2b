"""What a person reads about their photos."""

from __future__ import annotations

import json
from pathlib import Path

from tintype.dataset.report import DatasetReport, Kept, Said


def report() -> DatasetReport:
    kept = [
        Kept("a.jpg", 900, 900, "Zoë", "file", "face", [0, 0, 9, 9], None, ["512x512", "768x768"]),
        Kept("b.jpg", 600, 600, "TOK", "trigger", "whole", buckets=["512x512"]),
    ]
    return DatasetReport(kept, [Said("a.jpg", "turned upright")], [Said("c.jpg", "damaged")], ["few"])


def test_sizes_are_counted_over_all_pictures() -> None:
    assert report().buckets == {"512x512": 2, "768x768": 1}


def test_the_file_holds_every_name_and_reason_readably(tmp_path: Path) -> None:
    text = report().write(tmp_path / "report.json").read_text(encoding="utf-8")
    assert "Zoë" in text
    read = json.loads(text)
    assert read["dropped"] == [{"name": "c.jpg", "what": "damaged"}]
    assert read["kept"][1]["cropped_to"] is None


def test_the_summary_is_counts() -> None:
    assert report().summary() == {
        "kept": 2, "repaired": 1, "dropped": 1, "warnings": ["few"], "buckets": {"512x512": 2, "768x768": 1},
    }  # fmt: skip
