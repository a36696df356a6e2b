from __future__ import annotations

from pathlib import Path

from miniature.contact_sheet import CELL, Row, contact_sheet
from PIL import Image


def test_pictures_of_any_shape_stand_side_by_side(tmp_path: Path) -> None:
    sizes = [(64, 64), (1024, 768), (30, 90)]
    paths = []
    for number, size in enumerate(sizes):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", size, (255, 0, 0)).save(paths[-1])
    sheet = Image.open(contact_sheet([Row("photos", paths, ["one"]), Row("again", paths[:1], [])], tmp_path / "s.png"))
    assert sheet.width > 3 * CELL
    reds = sum(1 for pixel in sheet.get_flattened_data() if pixel == (255, 0, 0))
    assert reds > 2 * CELL * CELL  # a square, a 4:3, a narrow one, and the square again
