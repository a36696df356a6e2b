"""Writes docs/compatibility.md from the table of cases, so that the page says what tests hold: `python -m` this."""

from __future__ import annotations

import tomllib
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "compatibility.toml"
PAGE = ROOT / "docs" / "compatibility.md"

_BEGINNING = """# What people send, and what happens

Each row was met by somebody with a trainer or a client, or is a sibling of such a case; the source is a public thread.
The tests named hold it. What differs from fal on purpose is in [differences.md](differences.md), all that an archive
may hold in [intake.md](intake.md), all that a LoRA file may hold in [lora-files.md](lora-files.md).
"""


def cases() -> list[dict[str, Any]]:
    """Reads the table."""
    found: list[dict[str, Any]] = tomllib.loads(CASES.read_text("utf-8"))["case"]
    return found


def page() -> str:
    """Makes the page."""
    parts = [_BEGINNING]
    for about, rows in groupby(cases(), lambda case: case["about"]):
        lines = [f"## {about}\n", "| what | met in | what happens | test |", "|---|---|---|---|"]
        for row in rows:
            files = dict.fromkeys(test.removeprefix("tests/").partition("::")[0] for test in row["tests"])
            shown = ", ".join(f"`{file}`" for file in files)
            lines.append(f"| {row['what']} | {row['source']} | {row['happens']} | {shown} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
