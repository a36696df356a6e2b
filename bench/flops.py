"""Operations of one training step at the real configurations, counted on the meta device: no weights needed.

What is counted is the product's own step (training/step.py), adapter included, with the text tokens of FLOOR. The floor
is arithmetic: every token passes 6.455 B parameters in FLUX.1 [dev] and 8.66 B in Ideogram 4, a frozen layer's backward
is one product, and the backward of attention recomputes (2.5 times its forward). On the meta device attention appears
as plain products (twice its forward), so that at 1024 px the count lies a little below that floor; the last column says
what one may expect there.

    python bench/flops.py [--json]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository's root: bench is not installed

from bench.weightless import REAL, TEXT_TOKENS, Weightless, WeightlessFlux, WeightlessIdeogram4
from tintype.lora.adapter import Adapter
from tintype.training.cache import Cache, Item
from tintype.training.plan import Plan
from tintype.training.step import Stepper

RANK = 16
TFLOP = 1e12
PEAK = 790.0  # dense bf16 TFLOP/s of an H200 in sustained products
META = torch.device("meta")


@dataclass(frozen=True)
class Floor:
    """TFLOP of a step by the arithmetic above, by px: (nothing recomputed, everything recomputed)."""

    text_tokens: int
    by_side: Mapping[int, tuple[float, float]]


FLUX_FLOOR = Floor(TEXT_TOKENS, {512: (45.4, 66.9), 768: (92.1, 134.1), 1024: (171.0, 245.4)})
IDEOGRAM_FLOOR = Floor(256, {512: (47.9, 71.1), 768: (103.1, 151.5), 1024: (192.4, 279.6)})


def count(family: Weightless, side: int, *, recompute: bool, text_tokens: int = TEXT_TOKENS) -> float:
    """TFLOP of one step on one square picture of `side` pixels."""
    transformer = family.load_transformer()
    adapter = Adapter.for_transformer(
        transformer, family.adapter_targets, rank=RANK, seed=0, device=META, shared=family.fused_targets
    )
    rows = side // 16
    item = Item("picture", torch.randn(rows * rows, transformer.config.in_channels), rows, rows, 0, None)
    cache = Cache([item], ["caption"], family.random_features(1, text_tokens), "none")
    stepper = Stepper(family, adapter, cache, Plan(steps=1, learning_rate=1e-4), recomputed=1000 if recompute else 0)
    counter = FlopCounterMode(display=False)
    with stepper.prepared(), counter:
        stepper.differentiate(0)
    return counter.get_total_flops() / TFLOP


def rows_of(family: Weightless, floor: Floor, sides: Iterable[int]) -> list[dict[str, Any]]:
    """Two rows for each size: nothing recomputed, and everything."""
    rows: list[dict[str, Any]] = []
    for side in sides:
        for recompute, least in zip((False, True), floor.by_side[side], strict=True):
            step = count(family, side, recompute=recompute, text_tokens=floor.text_tokens)
            rows.append({"px": side, "recomputed": "all" if recompute else "nothing", "step": round(step, 1),
                         "floor": least, "ratio": round(step / least, 3),
                         "seconds at 790 TFLOP/s": round(step / PEAK, 3)})  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    chosen = parser.parse_args()
    models: tuple[tuple[str, Weightless, Floor], ...] = (
        ("FLUX.1 [dev]", WeightlessFlux(REAL, META), FLUX_FLOOR),
        ("Ideogram 4", WeightlessIdeogram4(META), IDEOGRAM_FLOOR),
    )
    told = []
    for name, family, floor in models:
        layers, rows = len(family.adapter_targets), rows_of(family, floor, floor.by_side)
        told.append({"model": name, "layers": layers, "text tokens": floor.text_tokens, "steps": rows})
        if not chosen.json:
            title = f"{name}, rank {RANK} on {layers} layers, batch 1, {floor.text_tokens} text tokens, TFLOP"
            table = Table(*rows[0], title=escape(title))
            for row in rows:
                table.add_row(*map(str, row.values()))
            Console().print(table)
    if chosen.json:
        print(json.dumps({"rank": RANK, "unit": "TFLOP", "models": told}))


if __name__ == "__main__":
    main()
