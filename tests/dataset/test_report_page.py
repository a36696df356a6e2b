"""The page holds everything, loads nothing, and believes no file name."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from tests.support.images import encoded, person

from tintype.dataset.coverage import Aspect
from tintype.dataset.report import DatasetReport, FileNote, KeptImage, TrainedCrop
from tintype.dataset.report_page import render, write_page

HOSTILE = "<script>alert('x')</script>\"'&.jpg"


class Reader(HTMLParser):
    """Collects tags, addresses and text; every element must be closed in its order."""

    VOID = ("meta", "img", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), "no handlers"
            if name in ("src", "href", "srcset", "action"):
                self.addresses.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report() -> DatasetReport:
    thumbnail = encoded(person().resize((128, 128)), "JPEG")
    overlay = encoded(person().resize((20, 20)).convert("LA"))
    crops = [TrainedCrop(HOSTILE, ["512x512"], "bust", None, "face", overlay),
            TrainedCrop("near", ["512x512"], "head", [256, 0, 768, 512])]  # fmt: skip
    kept = [
        KeptImage(HOSTILE, 1024, 1024, HOSTILE, "file", "face", crops, [300, 100, 500, 300], 2, ["2 people"], thumbnail)
    ]
    dropped = [FileNote(HOSTILE, HOSTILE, thumbnail)]
    coverage = [
        Aspect("background", "advice", f"3 of 4 photos show {HOSTILE}", [HOSTILE]),
        Aspect("expression", "not measured", "Nothing here reads expressions."),
    ]
    return DatasetReport(
        kept,
        [FileNote(HOSTILE, "turned upright")],
        dropped,
        [FileNote(".DS_Store", "junk")],
        [HOSTILE],
        coverage=coverage,
    )


def test_names_captions_and_reasons_are_text_and_nothing_else() -> None:
    read = Reader(render(report()))
    assert read.open == []
    assert "script" not in read.tags
    assert read.text.count(HOSTILE) >= 5


def test_nothing_is_loaded_from_anywhere() -> None:
    page = render(report())
    addresses = Reader(page).addresses
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "url(" not in page


def test_crops_faces_and_masks_are_drawn_where_they_are() -> None:
    page = render(report())
    assert "left:25.00%;top:0.00%;width:50.00%;height:50.00%" in page
    assert "left:29.30%;top:9.77%;width:19.53%;height:19.53%" in page
    assert "class=shade" in page


def test_it_is_readable_in_the_dark_and_says_what_was_left_out(tmp_path: Path) -> None:
    page = write_page(report(), tmp_path / "report.html").read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in page
    for what in (
        "Trained photos",
        "What the photos cover",
        "not measured",
        "Left out",
        "Passed over",
        ".DS_Store",
        "turned upright",
        "512 &times; 512",
        "2 people",
    ):
        assert what in page


def test_a_name_that_is_no_unicode_does_not_stop_the_report(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    write_page(DatasetReport(dropped=[FileNote("\udcff.jpg", "damaged")]), page)
    assert "damaged" in page.read_text()


def test_an_empty_report_is_a_page() -> None:
    assert Reader(render(DatasetReport())).open == []
