"""`tintype plan`: what fits on which GPU, and how many blocks of a step are recomputed there. It needs none of them."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated

import typer

from tintype.cli.listing import show_json, show_table
from tintype.models.registry import family_spec, family_specs

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:G|GB|GiB)?", re.IGNORECASE)
_MOST_GB = 10_000


def plan(
    gpu: Annotated[str | None, typer.Option(help="Memory of one card, such as 24GB; default: what is sold.")] = None,
    base: Annotated[str | None, typer.Option(help="One base model: flux or ideogram4; default: all.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print it as JSON, sizes in bytes.")] = False,
) -> None:
    """Show what fits on a GPU: generating, and training at 512, 768 and 1024 pixels. Nothing is loaded."""
    from tintype.training.card_plan import CARDS, COLUMNS, card_plans

    specs = family_specs() if base is None else [family_spec(base)]
    plans = card_plans(specs, CARDS if gpu is None else (_gigabytes(gpu),))
    if json:
        show_json([asdict(one) for one in plans])
    else:
        show_table(COLUMNS, [one.row for one in plans])


def _gigabytes(gpu: str) -> float:
    found = _SIZE.fullmatch(gpu.strip())
    if found is None or not 0 < float(found[1]) <= _MOST_GB:
        raise typer.BadParameter("say how much memory it has, as 24GB", param_hint="--gpu")
    return float(found[1])
