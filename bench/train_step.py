"""Our training step against the straightforward loop, on the miniatures: `python bench/train_step.py [--json]`.

The straightforward loop is what one writes first with features cached: diffusers' transformer, a PEFT adapter on the
same layers with the same first weights, torch.optim.AdamW, gradient clipping, nothing recomputed. Both take the same
batches, times and noise, in turns within one process, so that whatever else the machine does hits both; what is
compared is the median of the rounds. Our step keeps a moving average besides. Memory is the most that a fresh process
holds above what it held before its first step, the median of several for each. On a busy machine,
`--cpu-time --threads 1` counts the processor's time instead of the clock's.

FLUX's text is padded to the model's window by both. Ideogram 4's is not padded by ours. The straightforward loop caches
what the pipeline's own `encode_prompt` gives, as diffusers' example trainer does: text padded on the left to the window
that is the pipeline's default, 2,048 tokens, with a dense mask, projected anew at every step. That makes its step
many times slower, so it is also measured with the smallest window that holds every caption, as a reader of the
pipeline's code would choose: the row to judge our step by. Its adapter shares one factor between queries, keys and
values as ours does (the published layout), so that both learn the same.
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

from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.models.flux.model import FluxFamily
from tintype.models.ideogram4.captions import canonical
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.settings import load_settings
from tintype.training.batches import Batches
from tintype.training.cache import Cache, Item
from tintype.training.checkpoint import TrainingState
from tintype.training.plan import Plan
from tintype.training.step import Stepper
from tintype.training.step_inputs import seed_of

Trained = FluxFamily | Ideogram4Family
AREAS = (512, 768, 1024)
CAPTIONS = ["a portrait of TOK", "a portrait of a person, long red hair, round glasses, green background"]
PLAN = Plan(steps=10_000, learning_rate=1e-3, batch_size=4)
RANK = 16
FAMILIES: dict[str, tuple[int | None, ...]] = {"flux": (None,), "ideogram4": (2048, None)}  # windows; None: no wider
MEMORY_STEPS, MEMORY_PROCESSES = 5, 5


def family_named(name: str) -> Trained:
    models = ResidentModels(load_settings(flux_base="miniature", ideogram4_base="miniature"), "cpu")
    return models.family(Ideogram4Family) if name == "ideogram4" else models.family(FluxFamily)


def cache_of(family: Trained, side: int) -> Cache:
    """Latents need not be of pictures to cost what pictures cost."""
    width, height = family.true_size(side, side)
    rows, columns = height // family.token_pixels, width // family.token_pixels
    channels = family.load_transformer().config.in_channels
    generator = torch.Generator().manual_seed(side)
    items = [
        Item(str(n), torch.randn(rows * columns, channels, generator=generator), rows, columns, n % len(CAPTIONS), None)
        for n in range(8)
    ]
    captions = [canonical(caption).text for caption in CAPTIONS] if isinstance(family, Ideogram4Family) else CAPTIONS
    return Cache(items, captions, family.encode_captions(captions), str(side))


def new_adapter(family: Trained) -> Adapter:
    return Adapter.for_transformer(
        family.load_transformer(),
        family.adapter_targets,
        rank=RANK,
        seed=0,
        device=family.device,
        shared=family.fused_targets,
    )


class FluxNetwork:
    """diffusers' FLUX as its pipeline calls it; it predicts noise - clean."""

    sign = 1

    def __init__(self, family: FluxFamily, cache: Cache, window: int | None) -> None:
        self.cache = cache

    def __call__(self, transformer: Any, noisy: torch.Tensor, sigma: torch.Tensor, items: list[Item]) -> torch.Tensor:
        features = self.cache.features_of(items)
        rows, columns = items[0].shape
        predicted: torch.Tensor = transformer(
            hidden_states=noisy,
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
        return predicted


class IdeogramNetwork:
    """diffusers' Ideogram 4 as its pipeline calls it, text padded to `window`; it predicts clean - noise."""

    sign = -1

    def __init__(self, family: Ideogram4Family, cache: Cache, window: int | None) -> None:
        self.window = window or cache.features.tokens.shape[1]
        with torch.no_grad():
            self.encoded = family.load_encoders().encode_prompt(
                cache.captions, *cache.items[0].shape, self.window, family.device
            )

    def __call__(self, transformer: Any, noisy: torch.Tensor, sigma: torch.Tensor, items: list[Item]) -> torch.Tensor:
        chosen = [item.caption for item in items]
        features, positions, segments, indicator = (part[chosen] for part in self.encoded)
        predicted: torch.Tensor = transformer(
            hidden_states=torch.cat([noisy.new_zeros(len(items), self.window, noisy.shape[2]), noisy], dim=1),
            timestep=1 - sigma,
            encoder_hidden_states=features,
            position_ids=positions,
            segment_ids=segments,
            indicator=indicator,
            return_dict=False,
        )[0]
        return predicted[:, self.window :]


def network_of(family: Trained, cache: Cache, window: int | None) -> FluxNetwork | IdeogramNetwork:
    if isinstance(family, Ideogram4Family):
        return IdeogramNetwork(family, cache, window)
    return FluxNetwork(family, cache, window)


class Straightforward:
    """The loop that anyone would write first, with diffusers, PEFT and torch."""

    def __init__(
        self, family: Trained, cache: Cache, network: FluxNetwork | IdeogramNetwork, *, alone: bool = False
    ) -> None:
        self.family, self.network = family, network
        first = new_adapter(family)
        self.transformer = family.load_transformer() if alone else copy.deepcopy(family.load_transformer())
        targets = list(family.adapter_targets)
        self.transformer.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets))
        self._begin_as(first)
        self.trained = [parameter for parameter in self.transformer.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=PLAN.learning_rate, betas=(0.9, 0.99), weight_decay=PLAN.weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / PLAN.warmup_steps)
        )
        self.batches = Batches(cache.items, PLAN.batch_size, PLAN.seed)
        self.step = 0

    def _begin_as(self, first: Adapter) -> None:
        """With the same weights, and the same of them shared."""
        readers = {name: self.transformer.get_submodule(name).lora_A["default"] for name in first.layers}
        for name, (down, _) in first.layers.items():
            readers[name].weight.data.copy_(down.data)
        for group in self.family.fused_targets:
            for name in group[1:]:
                readers[name].weight = readers[group[0]].weight

    def take(self) -> float:
        items = self.batches.at(self.step)
        generator = torch.Generator().manual_seed(seed_of(PLAN.seed, self.step))
        clean = torch.stack([item.latents for item in items])
        noise = torch.randn(clean.shape, generator=generator)
        sigma = self.family.sample_sigmas(len(items), *items[0].shape, generator)
        wide = sigma[:, None, None]
        predicted = self.network(self.transformer, (1 - wide) * clean + wide * noise, sigma, items)
        loss = torch.nn.functional.mse_loss(predicted.float(), self.network.sign * (noise - clean))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.trained, PLAN.largest_gradient)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.step += 1
        return loss.item()


class Ours:
    """The product's step, as the training loop takes it."""

    def __init__(self, family: Trained, cache: Cache) -> None:
        adapter = new_adapter(family)
        self.stepper = Stepper(family, adapter, cache, PLAN)
        self.state = TrainingState.new(adapter.weights.data)
        self.prepared = self.stepper.prepared()
        self.prepared.__enter__()

    def take(self) -> float:
        loss = self.stepper.take(self.state).loss
        self.state.step += 1
        return loss


def compare(
    family: Trained,
    side: int,
    rounds: int,
    steps: int,
    clock: Callable[[], float] = time.perf_counter,
    window: int | None = None,
) -> dict[str, Any]:
    """Medians over rounds in which each takes `steps` steps; the losses have to agree all the way."""
    cache = cache_of(family, side)
    contenders: dict[str, Straightforward | Ours] = {
        "straightforward": Straightforward(family, cache, network_of(family, cache, window)),
        "ours": Ours(family, cache),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    losses: dict[str, list[float]] = {name: [contender.take()] for name, contender in contenders.items()}
    for turn in range(rounds):
        for name in sorted(contenders, reverse=turn % 2 == 1):
            began = clock()
            losses[name] += [contenders[name].take() for _ in range(steps)]
            seconds[name].append((clock() - began) / steps)
    apart = max(abs(a - b) / a for a, b in zip(losses["straightforward"], losses["ours"], strict=True))
    plain, ours = (statistics.median(seconds[name]) for name in ("straightforward", "ours"))
    image, text = cache.items[0].latents.shape[0], cache.features.tokens.shape[1]
    return {
        "px": side,
        "tokens": image + text,
        "padded_to": image + (window or text),
        "straightforward_ms": round(plain * 1000, 1),
        "ours_ms": round(ours * 1000, 1),
        "ratio": round(
            statistics.median(a / b for a, b in zip(seconds["ours"], seconds["straightforward"], strict=True)), 3
        ),
        "losses_apart": float(f"{apart:.1e}"),
    }


def memory_of(name: str, family: Trained, side: int, window: int | None) -> int:
    """Bytes that this process came to hold above what it held before; to be called in a fresh one.

    Pages of the libraries' own code, read in when a kernel runs for the first time, are not counted: they are on disk.
    """
    cache = cache_of(family, side)
    network = network_of(family, cache, window) if name == "straightforward" else None
    family.load_transformer()
    process = psutil.Process()
    before, code = process.memory_info().rss, _of_files()
    _forget_peak()
    contender = Straightforward(family, cache, network, alone=True) if network else Ours(family, cache)
    for _ in range(MEMORY_STEPS):
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


def measured_memory(name: str, family: str, side: int, window: int | None, threads: int) -> float:
    """The median of fresh processes; of one where the window makes it slow and the difference large."""
    command = [sys.executable, __file__, "--memory-of", name, "--family", family, "--areas", str(side)]
    command += ["--threads", str(threads), "--window", str(window or 0)]
    held = [
        int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        for _ in range(MEMORY_PROCESSES if window is None else 1)
    ]
    return statistics.median(held)


def rows_of(name: str, chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each area and each window of a family."""
    family = family_named(name)
    clock = time.process_time if chosen.cpu_time else time.perf_counter
    rows = []
    for window in FAMILIES[name]:
        for side in chosen.areas:
            # A window that makes a step tens of times slower needs no fine measurement.
            rounds, steps = (chosen.rounds, chosen.steps) if window is None else (3, 1)
            row = compare(family, side, rounds, steps, clock, window)
            for contender in ("straightforward", "ours"):
                held = measured_memory(contender, name, side, window, chosen.threads)
                row[f"{contender}_mib"] = round(held / 2**20, 1)
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=[*FAMILIES, "both"], default="both")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=3, help="steps of a round")
    parser.add_argument("--areas", type=int, nargs="+", default=list(AREAS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="processor time, whatever else runs")
    parser.add_argument("--memory-of", choices=["straightforward", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--window", type=int, default=0, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.memory_of:
        print(memory_of(chosen.memory_of, family_named(chosen.family), chosen.areas[0], chosen.window or None))
        return
    names = list(FAMILIES) if chosen.family == "both" else [chosen.family]
    told = {name: rows_of(name, chosen) for name in names}
    if chosen.json:
        print(json.dumps({"threads": chosen.threads, "batch": PLAN.batch_size, "rank": RANK, "areas": told}))
        return
    for name, rows in told.items():
        title = (
            f"One training step of the miniature {name}, batch {PLAN.batch_size}, rank {RANK}, {chosen.threads} threads"
        )
        table = Table(*rows[0], title=title)
        for row in rows:
            table.add_row(*map(str, row.values()))
        Console().print(table)


if __name__ == "__main__":
    main()
