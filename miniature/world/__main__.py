"""Photographs a subject of Portrait World for training, from the repository's root.

python -m miniature.world --subject 7 --count 10 --out photos.zip --captions
python -m miniature.world --style blueprint --count 12 --out drawings.zip --captions
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from miniature.contact_sheet import grid
from miniature.world import STYLES, Person, Subject, draw, drawings_in_style, photograph, restyled, write_archive


def main() -> None:
    """Writes an archive, a sheet, or both, as the command line asks."""
    parser = argparse.ArgumentParser(
        prog="python -m miniature.world",
        description="Photographs a subject of Portrait World into a ZIP, or prints a contact sheet of its people.",
        epilog="example: python -m miniature.world --subject 7 --count 10 --out photos.zip --captions",
    )
    parser.add_argument("--subject", type=int, metavar="SEED", help="which subject to photograph")
    parser.add_argument("--style", choices=sorted(STYLES), help="draw ordinary people in a style instead")
    parser.add_argument("--count", type=int, default=10, help="how many photos (default 10)")
    parser.add_argument("--size", type=int, default=1024, help="longer side in pixels (default 1024)")
    parser.add_argument("--out", type=Path, help="the ZIP to write")
    parser.add_argument(
        "--captions", action="store_true", help="add a .txt beside each photo, with [trigger] for the name"
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed, other photos of the same subject")
    parser.add_argument(
        "--sheet", type=Path, metavar="PNG", help="write a contact sheet: the subject's, or of random people"
    )
    chosen = parser.parse_args()
    if chosen.out is None and chosen.sheet is None:
        parser.error("nothing to do: give --out photos.zip with --subject or --style, or --sheet sheet.png")
    if chosen.out is not None:
        if (chosen.subject is None) == (chosen.style is None):
            parser.error("--out needs either --subject SEED, whom to photograph, or --style NAME, how to draw")
        if chosen.style is None:
            photos = photograph(Subject.from_seed(chosen.subject), chosen.count, chosen.size, chosen.seed)
        else:
            photos = drawings_in_style(chosen.style, chosen.count, chosen.size, chosen.seed)
        write_archive(chosen.out, photos, chosen.captions)
    if chosen.sheet is not None:
        rng = random.Random(f"sheet {chosen.seed}")
        subject = None if chosen.subject is None else Subject.from_seed(chosen.subject)
        people = [Person.sample(rng) if subject is None else subject.pose(rng) for _ in range(64)]
        drawn = [draw(person) for person in people]
        if chosen.style is not None:
            drawn = [restyled(drawing, chosen.style) for drawing in drawn]
        grid(drawn).save(chosen.sheet)


if __name__ == "__main__":
    main()
