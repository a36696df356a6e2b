"""Our training step against the straightforward loop, on the miniature: `python bench/train_step.py [--json]`.

The straightforward loop is what diffusers' own example does with features cached: FluxTransformer2DModel, a PEFT
adapter on the same layers with the same first weights, torch.optim.AdamW, gradient clipping, nothing recomputed. Both
take the same batches, times and noise, in turns within one process, so that whatever else the machine does hits both;
what is compared is the median of the rounds. Our step keeps a moving average besides. Memory is the most that a fresh
process holds above what it held before its first step, one process for each. On a busy machine,
`--cpu-time --threads 1` counts the processor's time instead of the clock's.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
from diffusers import FluxPipeline
from peft import LoraConfig
from rich.console import Console
from rich.table import Table

from tintype.families import Families
from tintype.families.flux import FluxFamily
from tintype.settings import load_settings
from tintype.training.adapters import Adapter
from tintype.training.batches import Batches
from tintype.training.cache import Cache, Item
from tintype.training.checkpoint import TrainingState
from tintype.training.plan import Plan
from tintype.training.step import Stepper, seed_of

AREAS = (512, 768, 1024)
CAPTIONS = ["a portrait of TOK", "a portrait of a person, long red hair, round glasses, green background"]
PLAN = Plan(steps=10_000, learning_rate=1e-3, batch_size=4)
RANK = 16


def cache_of(flux: FluxFamily, side: int) -> Cache:
    """Latents need not be of pictures to cost what pictures cost."""
    width, height = flux.drawn_size(side, side)
    rows, columns = height // flux.token_pixels, width // flux.token_pixels
    channels = flux.load_transformer().config.in_channels
    dice = torch.Generator().manual_seed(side)
    items = [
        Item(str(n), torch.randn(rows * columns, channels, generator=dice), rows, columns, n % len(CAPTIONS), None)
        for n in range(8)
    ]
    return Cache(items, CAPTIONS, flux.encode_captions(CAPTIONS), str(side))


def new_adapter(flux: FluxFamily) -> Adapter:
    return Adapter.for_transformer(flux.load_transformer(), flux.adapter_targets, rank=RANK, seed=0, device=flux.device)


class Straightforward:
    """The loop that anyone would write first, with diffusers, PEFT and torch."""

    def __init__(self, flux: FluxFamily, cache: Cache, *, alone: bool = False) -> None:
        self.flux, self.cache = flux, cache
        first = new_adapter(flux)
        self.transformer = flux.load_transformer() if alone else copy.deepcopy(flux.load_transformer())
        targets = list(flux.adapter_targets)
        self.transformer.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
        for name, (down, _) in first.layers.items():
            self.transformer.get_submodule(name).lora_A["default"].weight.data.copy_(down.data)
        self.trained = [parameter for parameter in self.transformer.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=PLAN.learning_rate, betas=(0.9, 0.99), weight_decay=PLAN.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / PLAN.warmup_steps)
        )
        self.batches = Batches(cache.items, PLAN.batch_size, PLAN.seed)
        self.step = 0

    def take(self) -> float:
        items = self.batches.at(self.step)
        dice = torch.Generator().manual_seed(seed_of(PLAN.seed, self.step))
        rows, columns = items[0].shape
        clean = torch.stack([item.latents for item in items])
        noise = torch.randn(clean.shape, generator=dice)
        sigma = self.flux.sample_sigmas(len(items), rows, columns, dice)
        wide = sigma[:, None, None]
        features = self.cache.features_of(items)
        predicted = self.transformer(
            hidden_states=(1 - wide) * clean + wide * noise,
            timestep=sigma,
            guidance=torch.full((len(items),), PLAN.guidance),
            pooled_projections=features.pooled,
            encoder_hidden_states=features.tokens,
            txt_ids=torch.zeros(features.tokens.shape[1], 3),
            img_ids=FluxPipeline._prepare_latent_image_ids(
                len(items), rows, columns, torch.device("cpu"), torch.float32
            ),
            return_dict=False,
        )[0]
        loss = torch.nn.functional.mse_loss(predicted.float(), noise - clean)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, PLAN.largest_gradient)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.step += 1
        return loss.item()


class Ours:
    """The product's step, as the training loop takes it."""

    def __init__(self, flux: FluxFamily, cache: Cache) -> None:
        adapter = new_adapter(flux)
        self.stepper = Stepper(flux, adapter, cache, PLAN)
        self.state = TrainingState.new(adapter.weights.data)
        self.prepared = self.stepper.prepared()
        self.prepared.__enter__()

    def take(self) -> float:
        loss = self.stepper.take(self.state).loss
        self.state.step += 1
        return loss


CONTENDERS: dict[str, Callable[[FluxFamily, Cache], Straightforward | Ours]] = {
    "straightforward": Straightforward,
    "ours": Ours,
}


def compare(
    flux: FluxFamily, side: int, rounds: int, steps: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Medians over rounds in which each takes `steps` steps; the losses have to agree all the way."""
    cache = cache_of(flux, side)
    contenders = {name: make(flux, cache) for name, make in CONTENDERS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    losses: dict[str, list[float]] = {name: [contender.take()] for name, contender in contenders.items()}
    for turn in range(rounds):
        for name in sorted(contenders, reverse=turn % 2 == 1):
            began = clock()
            losses[name] += [contenders[name].take() for _ in range(steps)]
            seconds[name].append((clock() - began) / steps)
    apart = max(abs(a - b) / a for a, b in zip(losses["straightforward"], losses["ours"], strict=True))
    plain, ours = (statistics.median(seconds[name]) for name in ("straightforward", "ours"))
    tokens = cache.items[0].latents.shape[0] + cache.features.tokens.shape[1]
    return {
        "px": side,
        "tokens": tokens,
        "straightforward_ms": round(plain * 1000, 1),
        "ours_ms": round(ours * 1000, 1),
        "ratio": round(
            statistics.median(a / b for a, b in zip(seconds["ours"], seconds["straightforward"], strict=True)), 3
        ),
        "losses_apart": float(f"{apart:.1e}"),
    }


def memory_of(name: str, side: int, steps: int = 5) -> int:
    """Bytes that this process came to hold above what it held before; to be called in a fresh one.

    Pages of the libraries' own code, read in when a kernel runs for the first time, are not counted: they are on disk.
    """
    flux = Families(load_settings(flux_base="miniature"), "cpu").flux()
    cache = cache_of(flux, side)
    flux.load_transformer()
    process = psutil.Process()
    before, code = process.memory_info().rss, _of_files()
    _forget_peak()
    contender = Ours(flux, cache) if name == "ours" else Straightforward(flux, cache, alone=True)
    for _ in range(steps):
        contender.take()
    return _peak(process) - before - (_of_files() - code)


def _forget_peak() -> None:
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def _peak(process: psutil.Process) -> int:
    """Of resident memory since `_forget_peak`; where the system keeps no peak, what is held now."""
    return _status("VmHWM") or int(process.memory_info().rss)


def _of_files() -> int:
    return _status("RssFile")


def _status(name: str) -> int:
    """Bytes, as Linux tells them of this process; 0 elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def measured_memory(name: str, side: int, threads: int) -> int:
    command = [sys.executable, __file__, "--memory-of", name, "--areas", str(side), "--threads", str(threads)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=3, help="steps of a round")
    parser.add_argument("--areas", type=int, nargs="+", default=list(AREAS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="processor time, whatever else runs")
    parser.add_argument("--memory-of", choices=list(CONTENDERS), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.memory_of:
        print(memory_of(chosen.memory_of, chosen.areas[0]))
        return
    flux = Families(load_settings(flux_base="miniature"), "cpu").flux()
    clock = time.process_time if chosen.cpu_time else time.perf_counter
    rows = []
    for side in chosen.areas:
        row = compare(flux, side, chosen.rounds, chosen.steps, clock)
        for name in CONTENDERS:
            row[f"{name}_mib"] = round(measured_memory(name, side, chosen.threads) / 2**20)
        rows.append(row)
    if chosen.json:
        print(json.dumps({"threads": chosen.threads, "batch": PLAN.batch_size, "rank": RANK, "areas": rows}))
        return
    title = f"One training step of the miniature, batch {PLAN.batch_size}, rank {RANK}, {chosen.threads} threads"
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
