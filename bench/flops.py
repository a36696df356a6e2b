"""Operations of one training step at FLUX.1 [dev]'s real configuration, counted on the meta device: no weights needed.

The floor is arithmetic: every token passes 6.455 B parameters, a frozen layer's backward is one product, and the
backward of attention recomputes (2.5 times its forward). On the meta device attention appears as plain products (twice
its forward), so that at 1024 px the count lies a little below that floor.

    python bench/flops.py [--json]
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from tintype.families.flux import adapter_targets
from tintype.training.adapters import Adapter

SIZES = (512, 768, 1024)
TEXT_TOKENS = 512
RANK = 16
TFLOP = 1e12
# TFLOP of a step by the arithmetic above: (nothing recomputed, everything recomputed).
FLOOR = {512: (45.4, 66.9), 768: (92.1, 134.1), 1024: (171.0, 245.4)}
PEAK = 790.0  # dense bf16 TFLOP/s of an H200 in sustained products


def real_transformer() -> FluxTransformer2DModel:
    """FLUX.1 [dev]'s transformer without memory behind it, frozen, in training mode."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(
            patch_size=1, in_channels=64, num_layers=19, num_single_layers=38, attention_head_dim=128,
            num_attention_heads=24, joint_attention_dim=4096, pooled_projection_dim=768, guidance_embeds=True,
            axes_dims_rope=(16, 56, 56),
        )  # fmt: skip
    return transformer.to(torch.bfloat16).requires_grad_(False).train()


def count(transformer: FluxTransformer2DModel, adapter: Adapter, side: int, *, recompute: bool) -> tuple[float, float]:
    """TFLOP of (forward, whole step) for one square picture of `side` pixels."""
    (transformer.enable_gradient_checkpointing if recompute else transformer.disable_gradient_checkpointing)()
    tokens = (side // 16) ** 2
    made = {"device": "meta", "dtype": torch.bfloat16}
    counter = FlopCounterMode(display=False)
    with adapter.attached(transformer), counter:
        velocity = transformer(
            hidden_states=torch.empty(1, tokens, 64, **made),
            timestep=torch.empty(1, **made),
            guidance=torch.empty(1, **made),
            pooled_projections=torch.empty(1, 768, **made),
            encoder_hidden_states=torch.empty(1, TEXT_TOKENS, 4096, **made),
            txt_ids=torch.empty(TEXT_TOKENS, 3, **made),
            img_ids=torch.empty(tokens, 3, **made),
            return_dict=False,
        )[0]
        forward = counter.get_total_flops()
        velocity.float().square().mean().backward()
    return forward / TFLOP, counter.get_total_flops() / TFLOP


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    chosen = parser.parse_args()
    transformer = real_transformer()
    targets = adapter_targets(transformer)
    adapter = Adapter.for_transformer(transformer, targets, rank=RANK, seed=0, device=torch.device("meta"))
    rows: list[dict[str, Any]] = []
    for side in SIZES:
        for recompute in (False, True):
            forward, step = count(transformer, adapter, side, recompute=recompute)
            floor = FLOOR[side][recompute]
            rows.append({"px": side, "recomputed": "all" if recompute else "nothing", "forward": round(forward, 1),
                         "step": round(step, 1), "floor": floor, "ratio": round(step / floor, 3),
                         "seconds at 790 TFLOP/s": round(step / PEAK, 3)})  # fmt: skip
    if chosen.json:
        print(
            json.dumps({"model": "FLUX.1 [dev]", "rank": RANK, "layers": len(targets), "unit": "TFLOP", "steps": rows})
        )
        return
    table = Table(*rows[0], title=f"FLUX.1-dev, rank {RANK} on {len(targets)} layers, batch 1, TFLOP")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
