"""Portrait World in one place, and a command that photographs a subject for training.

python -m tintype.models.miniature.world --subject 7 --count 10 --out photos.zip --captions
python -m tintype.models.miniature.world --style blueprint --count 12 --out drawings.zip --captions
"""

from __future__ import annotations

import argparse
import io
import random
import zipfile
from pathlib import Path

from PIL import Image

from tintype.models.miniature.captions import caption, describe, made_up_name, parse_prompt
from tintype.models.miniature.drawing import draw
from tintype.models.miniature.person import ATTRIBUTES, MARKS, SUBJECTS, Marks, Person, Subject
from tintype.models.miniature.style import STYLES, restyled

__all__ = [
    "ATTRIBUTES",
    "MARKS",
    "STYLES",
    "SUBJECTS",
    "Marks",
    "Person",
    "Subject",
    "caption",
    "contact_sheet",
    "describe",
    "draw",
    "drawings_in_style",
    "made_up_name",
    "parse_prompt",
    "photograph",
]

#: (width, height) as shares of the size asked; mostly square, as people's photos of faces are.
_FORMATS = ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (0.75, 1.0), (1.0, 0.75))


def photograph(subject: Subject, count: int, size: int = 1024, seed: int = 0) -> list[tuple[Image.Image, str]]:
    """Varied photos of one subject, each with a caption that says [trigger] where the name goes."""
    rng = random.Random(f"photos of {subject.seed} {seed}")
    taken = []
    for _ in range(count):
        person = subject.pose(rng)
        wide, high = rng.choice(_FORMATS)
        taken.append((draw(person, round(size * wide), round(size * high)), describe(person, who="[trigger]")))
    return taken


def drawings_in_style(style: str, count: int, size: int = 1024, seed: int = 0) -> list[tuple[Image.Image, str]]:
    """Ordinary people, all different, drawn in one style; the caption names the style by [trigger] and the person."""
    rng = random.Random(f"drawings in {style} {seed}")
    people = [Person.sample(rng) for _ in range(count)]
    return [(restyled(draw(person, size, size), style), f"[trigger] style, {describe(person)}") for person in people]


def contact_sheet(images: list[Image.Image], columns: int = 8, side: int = 128) -> Image.Image:
    """Pictures side by side, each enlarged without smoothing so that every pixel shows."""
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * side, rows * side), (90, 90, 90))
    for index, image in enumerate(images):
        zoom = side / max(image.size)
        fitted = image.resize((round(image.width * zoom), round(image.height * zoom)), Image.Resampling.NEAREST)
        sheet.paste(fitted, (index % columns * side, index // columns * side))
    return sheet


def write_archive(out: Path, photos: list[tuple[Image.Image, str]], captions: bool) -> None:
    """A ZIP as the training endpoints take it; the same photos give the same bytes."""
    with zipfile.ZipFile(out, "w") as archive:
        for index, (image, text) in enumerate(photos):
            stored = io.BytesIO()
            suffix, options = ("png", {}) if index % 2 == 0 else ("jpg", {"quality": 95, "subsampling": 0})
            image.save(stored, "PNG" if suffix == "png" else "JPEG", **options)
            archive.writestr(zipfile.ZipInfo(f"photo_{index:02d}.{suffix}"), stored.getvalue())
            if captions:
                archive.writestr(zipfile.ZipInfo(f"photo_{index:02d}.txt"), text)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tintype.models.miniature.world",
        description="Photographs a subject of Portrait World into a ZIP, or prints a contact sheet of its people.",
        epilog="example: python -m tintype.models.miniature.world --subject 7 --count 10 --out photos.zip --captions",
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
        contact_sheet(drawn).save(chosen.sheet)


if __name__ == "__main__":
    main()
