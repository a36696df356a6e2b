"""Portrait World: people drawn by code, whose every attribute has a name, so that pictures of them can be counted.

The miniatures learn from it, and tests, benchmarks and the demo take their photos from it. Nothing here needs torch.
"""

from miniature.world.captions import caption, describe, made_up_name, parse_prompt
from miniature.world.drawing import draw
from miniature.world.person import ATTRIBUTES, MARKS, SUBJECTS, Marks, Person, Subject
from miniature.world.photos import drawings_in_style, photograph, write_archive
from miniature.world.style import STYLES, restyled, style_score

__all__ = [
    "ATTRIBUTES",
    "MARKS",
    "STYLES",
    "SUBJECTS",
    "Marks",
    "Person",
    "Subject",
    "caption",
    "describe",
    "draw",
    "drawings_in_style",
    "made_up_name",
    "parse_prompt",
    "photograph",
    "restyled",
    "style_score",
    "write_archive",
]
