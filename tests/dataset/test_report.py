"""What a person reads about their photos."""

from __future__ import annotations

import json
from pathlib import Path

from tintype.dataset.report import DatasetReport, FileNote, KeptImage, TrainedCrop, describe_files


def report() -> DatasetReport:
    near = TrainedCrop("Zoë, close-up", ["512x512"], "head", [0, 0, 520, 520], "face", b"shade")
    kept = [
        KeptImage("a.jpg", 900, 900, "Zoë", "file", "face", [TrainedCrop("Zoë", ["1024x768", "512x512"], "bust"), near],
             [100, 100, 300, 300], 1, ["blurred"], b"jpeg"),
        KeptImage("b.jpg", 600, 600, "TOK", "trigger", "whole", [TrainedCrop("TOK", ["512x512"])]),
    ]  # fmt: skip
    repaired, dropped = [FileNote("a.jpg", "turned upright")], [FileNote("c.jpg", "c.jpg is damaged.", b"jpeg")]
    return DatasetReport(kept, repaired, dropped, [FileNote(".DS_Store", "junk")], ["few"])


def test_sizes_and_framings_are_counted_over_all_crops() -> None:
    assert report().buckets == {"512x512": 3, "1024x768": 1}
    assert list(report().buckets) == ["512x512", "1024x768"], "by size, not by letter"
    assert report().framings == {"bust": 1, "head": 1}


def test_the_file_holds_every_name_and_reason_readably_and_no_pictures(tmp_path: Path) -> None:
    text = report().write(tmp_path / "report.json").read_text(encoding="utf-8")
    assert "Zoë" in text
    read = json.loads(text)
    assert read["dropped"] == [{"name": "c.jpg", "what": "c.jpg is damaged."}]
    assert read["ignored"][0]["name"] == ".DS_Store"
    assert read["kept"][0]["trained"][1]["box"] == [0, 0, 520, 520]
    assert read["kept"][0]["trained"][1]["caption"] == "Zoë, close-up"
    assert "thumbnail" not in text
    assert "overlay" not in text


def test_the_summary_is_counts() -> None:
    assert report().summary() == {
        "kept": 2, "held_out": [], "repaired": 1, "dropped": 1, "ignored": 1, "warnings": ["few"], "coverage": [],
        "buckets": {"512x512": 3, "1024x768": 1}, "framings": {"bust": 1, "head": 1},
    }  # fmt: skip


def test_the_log_names_every_file_of_a_few() -> None:
    assert describe_files(report().repaired, report().dropped) == [
        "Turned upright: a.jpg.",
        "Left out (is damaged): c.jpg.",
    ]


def test_a_thousand_repairs_are_one_line_in_the_log() -> None:
    (line,) = describe_files([FileNote(f"{n}.jpg", "turned upright") for n in range(1000)], [])
    assert "and 980 more" in line
    assert len(describe_files([], [FileNote(f"{n}.jpg", f"reason {n}") for n in range(1000)])) == 101
