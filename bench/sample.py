"""Drawing with Ideogram 4: our step against the plain diffusers pipeline's, and the operations of the real one.

The plain pipeline pads every prompt to 2,048 tokens and passes them all at each step; ours passes the prompt's own
tokens. Both draw the same picture on the miniature, in turns within one process, so that whatever else the machine does
hits both; what is compared is the median of the rounds, and the pictures have to agree to one level in 255. Operations
are counted at the real configuration on the meta device, which needs no weights.

    python bench/sample.py [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository's root: bench is not installed

from bench.weightless import TEXT_TOKENS, WeightlessIdeogram4
from tintype.catalog.ideogram_v4 import RenderingSpeed
from tintype.inference.ideogram4 import denoise
from tintype.inference.presets import SPEEDS, Preset
from tintype.inference.prompts import by_rule
from tintype.jobs.resident_models import ResidentModels
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.settings import load_settings

SIDE = 1024  # nominal pixels
SEED = 7
RANK = 16
META = torch.device("meta")
TFLOP = 1e12
#: TFLOP of one guided step at 1024 px with 512 text tokens: each network passes 8.66 B parameters a token.
FLOORS = {"conditional": 93.1, "unconditional": 81.5}
PEAK = 790.0  # dense bf16 TFLOP/s of an H200 in sustained products


class Plain:
    """The pipeline as anyone would call it."""

    def __init__(self, family: Ideogram4Family, prompt: str, preset: Preset) -> None:
        self.pipeline, self.prompt = family.fresh_pipeline(), prompt
        width, height = family.true_size(SIDE, SIDE)
        self.settings = {
            "width": width, "height": height, "num_inference_steps": preset.steps,
            "guidance_schedule": preset.guidance_schedule(family.guidance_strength),
            "mu": family.schedule_mean(preset.mu), "std": preset.std,
        }  # fmt: skip

    def generate(self) -> Image.Image:
        drawn: list[Image.Image] = self.pipeline(
            self.prompt, **self.settings, generator=torch.Generator().manual_seed(SEED)
        ).images
        return drawn[0]


class Ours:
    """The product's drawing."""

    def __init__(self, family: Ideogram4Family, prompt: str, preset: Preset) -> None:
        self.family, self.prompt, self.preset = family, prompt, preset

    def generate(self) -> Image.Image:
        features = self.family.encode_captions([self.prompt])
        (latents,) = denoise(self.family, self.family.load_transformer(), features, (SIDE, SIDE), self.preset, [SEED])
        return self.family.decode_latents(latents)[0]


def compare(family: Ideogram4Family, prompt: str, speed: RenderingSpeed, rounds: int) -> dict[str, Any]:
    """Medians of milliseconds a step, encoding and decoding included, and how far the pictures lie apart."""
    preset = SPEEDS[speed]
    contenders: dict[str, Plain | Ours] = {"plain": Plain(family, prompt, preset), "ours": Ours(family, prompt, preset)}
    drawn = {name: np.asarray(contender.generate()).astype(int) for name, contender in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in sorted(contenders, reverse=turn % 2 == 1):
            began = time.perf_counter()
            contenders[name].generate()
            seconds[name].append(time.perf_counter() - began)
    faster = (plain / ours for plain, ours in zip(seconds["plain"], seconds["ours"], strict=True))
    return {
        "speed": speed,
        "text tokens": family.count_tokens(prompt),
        "plain ms/step": round(1000 * statistics.median(seconds["plain"]) / preset.steps, 1),
        "ours ms/step": round(1000 * statistics.median(seconds["ours"]) / preset.steps, 1),
        "times faster": round(statistics.median(faster), 1),
        "levels apart": int(np.abs(drawn["plain"] - drawn["ours"]).max()),
    }


def count(family: WeightlessIdeogram4, side: int = SIDE, text_tokens: int = TEXT_TOKENS) -> float:
    """TFLOP of one guided step of the product on one square picture."""
    once = Preset(steps=1, polished=0, mu=0.0, std=1.5)
    counter = FlopCounterMode(display=False)
    features = family.random_features(1, text_tokens)
    with counter:
        denoise(family, family.load_transformer(), features, (side, side), once, [SEED])
    return counter.get_total_flops() / TFLOP


def operations() -> list[dict[str, Any]]:
    """One guided step of the real configuration, without a LoRA and with one of rank 16 on all its layers."""
    family = WeightlessIdeogram4(META)
    floor = sum(FLOORS.values())
    bare = count(family)
    family.load_transformer().add_adapter(LoraConfig(r=RANK, target_modules=list(family.adapter_targets)))
    worn = count(family)
    return [
        {"LoRA": name, "TFLOP a step": round(counted, 1), "floor": floor, "ratio": round(counted / floor, 3),
         **{f"{speed} s": round(counted * preset.steps / PEAK, 2) for speed, preset in SPEEDS.items()}}
        for name, counted in (("none", bare), (f"rank {RANK}", worn))
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="pictures that each contender draws")
    parser.add_argument("--speed", choices=list(SPEEDS), default="TURBO")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    chosen = parser.parse_args()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    family = ResidentModels(load_settings(ideogram4_base="miniature"), "cpu").family(Ideogram4Family)
    prompt = by_rule("a portrait of a person, long red hair, round glasses, blue shirt, green background, smiling")
    found = {
        "miniature": [compare(family, prompt, chosen.speed, chosen.rounds)],
        "operations at 1024 px, 512 text tokens": operations(),
    }
    if chosen.json:
        print(json.dumps(found))
        return
    for title, rows in found.items():
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*map(str, row.values()))
        Console().print(table)


if __name__ == "__main__":
    main()
