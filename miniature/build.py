"""Builds a miniature from nothing: FLUX with the judge, or Ideogram 4, which shares FLUX's autoencoder.

    python -m miniature.build --model flux
    python -m miniature.build --model ideogram4 --stage transformer --minutes transformer=60

Under two hours each on two CPU cores, minutes on a GPU. Stop it whenever you like: it goes on from its work folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from miniature.flux.recipe import FluxRecipe
from miniature.ideogram4.recipe import Ideogram4Recipe
from miniature.recipe import Recipe

RECIPES: dict[str, type[Recipe]] = {"flux": FluxRecipe, "ideogram4": Ideogram4Recipe}


def _minutes(text: str) -> tuple[str, float]:
    stage, _, minutes = text.partition("=")
    return stage, float(minutes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m miniature.build", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=RECIPES, default="flux", help="which miniature (default flux)")
    parser.add_argument("--stage", default="all", help="one stage, or all in order (default)")
    parser.add_argument(
        "--minutes", type=_minutes, nargs="+", default=[], metavar="STAGE=N", help="other minutes than the recipe's"
    )
    parser.add_argument(
        "--out", type=Path, help="where the pipeline goes, and beside it the judge (default: where they ship from)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("build/miniature"), help="checkpoints and caches (default build/miniature)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, help="CPU threads (default: what torch finds)")
    chosen = parser.parse_args()
    known = RECIPES[chosen.model].MINUTES
    for stage in (chosen.stage, *dict(chosen.minutes)):
        if stage not in ("all", *known):
            parser.error(f"{stage}: --model {chosen.model} has the stages {', '.join(known)}")
    chosen.stages = known if chosen.stage == "all" else (chosen.stage,)
    return chosen


def main() -> None:
    """Runs the stages that the command line asks for."""
    chosen = _arguments()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    recipe = RECIPES[chosen.model](chosen.work, chosen.out, dict(chosen.minutes), torch.device(chosen.device))
    for stage in chosen.stages:
        getattr(recipe, stage)()


if __name__ == "__main__":
    main()
