"""Operations of one training step at FLUX.1 [dev]'s real configuration, counted on the meta device: no weights needed.

What is counted is the product's own step (training/step.py), adapter included. The floor is arithmetic: every token
passes 6.455 B parameters, a frozen layer's backward is one product, and the backward of attention recomputes (2.5 times
its forward). On the meta device attention appears as plain products (twice its forward), so that at 1024 px the count
lies a little below that floor; the last column says what one may expect there.

    python bench/flops.py [--json]
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from tintype.families.weightless import REAL, TEXT_TOKENS, WeightlessFlux
from tintype.training.adapters import Adapter
from tintype.training.cache import Cache, Item
from tintype.training.plan import Plan
from tintype.training.step import Stepper

SIZES = (512, 768, 1024)
RANK = 16
TFLOP = 1e12
# TFLOP of a step by the arithmetic above: (nothing recomputed, everything recomputed).
FLOOR = {512: (45.4, 66.9), 768: (92.1, 134.1), 1024: (171.0, 245.4)}
PEAK = 790.0  # dense bf16 TFLOP/s of an H200 in sustained products
META = torch.device("meta")


def count(family: WeightlessFlux, side: int, *, recompute: bool, text_tokens: int = TEXT_TOKENS) -> float:
    """TFLOP of one step on one square picture of `side` pixels."""
    transformer = family.load_transformer()
    adapter = Adapter.for_transformer(transformer, family.adapter_targets, rank=RANK, seed=0, device=META)
    rows = side // 16
    item = Item("picture", torch.randn(rows * rows, 64), rows, rows, 0, None)
    cache = Cache([item], ["caption"], family.random_features(1, text_tokens), "none")
    stepper = Stepper(family, adapter, cache, Plan(steps=1, learning_rate=1e-4), recomputed=1000 if recompute else 0)
    counter = FlopCounterMode(display=False)
    with stepper.prepared(), counter:
        stepper.differentiate(0)
    return counter.get_total_flops() / TFLOP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    family = WeightlessFlux(REAL, META)
    layers = len(family.adapter_targets)
    rows: list[dict[str, Any]] = []
    for side in SIZES:
        for recompute in (False, True):
            step, floor = count(family, side, recompute=recompute), FLOOR[side][recompute]
            rows.append({"px": side, "recomputed": "all" if recompute else "nothing", "step": round(step, 1),
                         "floor": floor, "ratio": round(step / floor, 3),
                         "seconds at 790 TFLOP/s": round(step / PEAK, 3)})  # fmt: skip
    if chosen.json:
        print(json.dumps({"model": "FLUX.1 [dev]", "rank": RANK, "layers": layers, "unit": "TFLOP", "steps": rows}))
        return
    table = Table(*rows[0], title=f"FLUX.1-dev, rank {RANK} on {layers} layers, batch 1, TFLOP")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
