"""Lays pictures out in titled rows on one PNG, because people would rather look than read."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

CELL, GAP, HEAD, FOOT = 160, 8, 26, 34  # pixels
PAPER, INK, PALE = (250, 249, 246), (30, 30, 30), (110, 110, 110)
TITLE_COLUMNS = 27  # characters under a picture before the line is broken


@dataclass(frozen=True)
class Row:
    """Holds pictures side by side under a title; `captions` may be shorter than `pictures`."""

    title: str
    pictures: Sequence[Path]
    captions: Sequence[str]


def contact_sheet(rows: Sequence[Row], path: Path) -> Path:
    """Writes the sheet; pictures keep their shape, small ones are enlarged without smoothing."""
    columns = max(len(row.pictures) for row in rows)
    heights = [HEAD + CELL + (FOOT if row.captions else 0) + GAP for row in rows]
    sheet = Image.new("RGB", (GAP + columns * (CELL + GAP), GAP + sum(heights)), PAPER)
    pen = ImageDraw.Draw(sheet)
    title_font, caption_font = ImageFont.load_default(16), ImageFont.load_default(11)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        pen.text((GAP, top), row.title, fill=INK, font=title_font)
        for number, picture in enumerate(row.pictures):
            left = GAP + number * (CELL + GAP)
            sheet.paste(_cell(picture), (left, top + HEAD))
            if number < len(row.captions):
                lines = "\n".join(textwrap.wrap(row.captions[number], TITLE_COLUMNS)[:3])
                pen.multiline_text((left, top + HEAD + CELL + 2), lines, fill=PALE, font=caption_font, spacing=1)
        top += height
    sheet.save(path)
    return path


def grid(images: list[Image.Image], columns: int = 8, side: int = 128) -> Image.Image:
    """Lays pictures out side by side without words, each enlarged without smoothing so that every pixel shows."""
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * side, rows * side), (90, 90, 90))
    for index, image in enumerate(images):
        zoom = side / max(image.size)
        fitted = image.resize((round(image.width * zoom), round(image.height * zoom)), Image.Resampling.NEAREST)
        sheet.paste(fitted, (index % columns * side, index // columns * side))
    return sheet


def _cell(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    ratio = CELL / max(picture.size)
    how = Image.Resampling.NEAREST if ratio > 1 else Image.Resampling.LANCZOS
    picture = picture.resize((round(picture.width * ratio), round(picture.height * ratio)), how)
    cell = Image.new("RGB", (CELL, CELL), PAPER)
    cell.paste(picture, ((CELL - picture.width) // 2, (CELL - picture.height) // 2))
    return cell
