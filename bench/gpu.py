"""Real configurations on a real GPU, with random bf16 weights: `python bench/gpu.py --out gpu.json`.

FLUX.1 [dev], or Ideogram 4 with `--model ideogram4`: one adapter of rank 16, batch 1. Each row is one way to take a
step: the straightforward loop (diffusers, PEFT, torch.optim.AdamW), ours, ours with diffusers' blocks compiled, each
with nothing and with everything recomputed; then one denoising call of sampling; then ours over
sixteen sizes, all of them in one figure. A way that runs out of memory says so
and the next one is tried; with `--out` the file holds all rows so far, so that nothing is lost when the machine is.
`--dry` runs the very same code with a narrow model on a CPU, to see that it runs.

Of Ideogram 4 it is the trained network alone, and its text is trimmed in every row, the straightforward loop's too:
what padding costs, bench/train_step.py says. Weights are random because speed does not depend on them: nobody has to
download 24 GB to check a figure. Another base model is one more entry in MODELS.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository's root: bench is not installed

from bench.weightless import NARROW, NARROW_IDEOGRAM, REAL, Weightless, WeightlessFlux, WeightlessIdeogram4
from tintype.errors import OutOfMemory
from tintype.lora.adapter import Adapter
from tintype.models.blocks import BlockCompiler
from tintype.models.family import Features, Forward, Latents
from tintype.training.cache import Cache, Item
from tintype.training.checkpoint import TrainingState
from tintype.training.curve import peak_memory
from tintype.training.flops import operations_of_step, peak_of
from tintype.training.memory_plan import is_out_of_memory
from tintype.training.plan import Plan
from tintype.training.step import Stepper

RANK = 16
ALL = 10_000  # more blocks than any model has


@dataclass(frozen=True)
class Model:
    """One base model: how to make it for (device, dry), and how long its text is."""

    title: str
    make: Callable[[torch.device, bool], Weightless]
    text_tokens: int


MODELS = {
    "flux": Model("FLUX.1 [dev]", lambda device, dry: WeightlessFlux(NARROW if dry else REAL, device), 512),
    "ideogram4": Model(
        "Ideogram 4", lambda device, dry: WeightlessIdeogram4(device, config=NARROW_IDEOGRAM if dry else None), 256
    ),
}


@dataclass(frozen=True)
class Way:
    """One way to take a step."""

    title: str
    straightforward: bool = False
    forward: Forward = Forward.OWN
    recomputed: int = 0


WAYS = (
    Way("straightforward", straightforward=True),
    Way("straightforward, recomputed", straightforward=True, recomputed=ALL),
    Way("ours"),
    Way("ours, recomputed", recomputed=ALL),
    Way("ours, diffusers' blocks", forward=Forward.DIFFUSERS),
    Way("ours, compiled", forward=Forward.COMPILED),
    Way("ours, compiled, recomputed", forward=Forward.COMPILED, recomputed=ALL),
)


class Bench:
    """All measurements of one model on one device."""

    def __init__(self, model: Model, device: torch.device, chosen: argparse.Namespace) -> None:
        self.model, self.device, self.chosen = model, device, chosen
        self.family = model.make(device, chosen.dry)
        self.rows: list[dict[str, Any]] = []
        self.name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        peak = peak_of(self.name)
        self.peak = peak / 1e12 if peak else None

    def run(self) -> None:
        for side in self.chosen.sizes:
            for way in WAYS:
                if way.forward is Forward.COMPILED and self.chosen.no_compile:
                    continue
                tflop = self.operations(side, way.recomputed)
                self.measure(f"step, {way.title}", side, self.steps(way, self.square(side)), tflop)
            for compiled in (False,) if self.chosen.no_compile else (False, True):
                prepared = self.drawing(side, compiled)
                self.measure(
                    f"one denoising call{', compiled' * compiled}", side, prepared, self.operations(side, None)
                )
        for way in (WAYS[2], WAYS[-2]):
            if way.forward is not Forward.COMPILED or not self.chosen.no_compile:
                self.measure_sizes(way, max(self.chosen.sizes))

    def measure_sizes(self, way: Way, largest: int) -> None:
        """A row for sixteen sizes in one process, as photos of many shapes are: seconds for all of them together."""
        most, text = largest // self.family.token_pixels, self.text_tokens
        shapes = [(most - rows, most - columns) for rows in range(4) for columns in range(4)]
        tflop = sum(operations_of_step(self.family, rows * columns, text, 1, RANK) for rows, columns in shapes) / 1e12

        @contextmanager
        def prepared() -> Iterator[Callable[[], object]]:
            with _stepper(self.family, self.cache(*shapes), way) as stepper:
                state = TrainingState.new(stepper.adapter.weights.data)

                def each() -> dict[str, Any]:
                    for _ in shapes:
                        stepper.take(state)
                        state.step += 1
                    return stepper.figures()

                yield each

        self.measure(f"16 sizes, {way.title.removeprefix('ours, ')}", largest, prepared, tflop)

    @property
    def text_tokens(self) -> int:
        return self.model.text_tokens if not self.chosen.dry else 8

    def square(self, side: int) -> Cache:
        rows = side // self.family.token_pixels
        return self.cache((rows, rows))

    def cache(self, *shapes: tuple[int, int]) -> Cache:
        channels = self.family.load_transformer().config.in_channels
        features = self.family.random_features(1, self.text_tokens)
        items = [Item("picture", torch.randn(rows * columns, channels), rows, columns, 0, None)
                 for rows, columns in shapes]  # fmt: skip
        return Cache(items, ["caption"], features, "random")

    def operations(self, side: int, recomputed: int | None) -> float:
        """TFLOP of our step, or of one forward pass where `recomputed` is None, counted on the meta device."""
        counted = self.model.make(torch.device("meta"), self.chosen.dry)
        counter = FlopCounterMode(display=False)
        way = Way("counted", recomputed=recomputed or 0)
        with _stepper(counted, self.square(side), way) as stepper, counter:
            loss = stepper.loss(stepper.inputs.at(0))
            if recomputed is not None:
                loss.backward()  # type: ignore[no-untyped-call]
        return counter.get_total_flops() / 1e12

    def measure(self, what: str, side: int, prepared: Callable[[], Any], tflop: float) -> None:
        """`prepared` is a context that gives what is to be timed, and may tell more. An out-of-memory is a result."""
        row: dict[str, Any] = {"what": what, "px": side}
        self._clear()
        try:
            with prepared() as call:
                began = time.perf_counter()
                told = call()
                self._wait()
                row["first_seconds"] = round(time.perf_counter() - began, 2)  # with what is compiled
                row |= self._timed(call, tflop)
                row |= told if isinstance(told, dict) else {}
        except OutOfMemory:
            row["failed"] = "out of memory"
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            row["failed"] = "out of memory"
        self.rows.append(row)
        if self.chosen.out:
            self.chosen.out.write_text(json.dumps(self.result(), indent=1))

    def _timed(self, call: Callable[[], Any], tflop: float) -> dict[str, Any]:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        seconds = []
        for _ in range(self.chosen.rounds):
            self._wait()
            began = time.perf_counter()
            call()
            self._wait()
            seconds.append(time.perf_counter() - began)
        median = statistics.median(seconds)
        rate = tflop / median
        return {
            "seconds": round(median, 4),
            "tflop": float(f"{tflop:.4g}"),
            "tflops": float(f"{rate:.4g}"),
            "share_of_peak": round(rate / self.peak, 3) if self.peak else None,
            "peak_gib": round(peak_memory(self.device) / 2**30, 2),
        }

    def steps(self, way: Way, cache: Cache) -> Callable[[], Any]:
        how = _straightforward if way.straightforward else _ours
        return lambda: how(self.family, cache, way)

    def drawing(self, side: int, compiled: bool) -> Callable[[], Any]:
        @contextmanager
        def prepared() -> Iterator[Callable[[], object]]:
            cache = self.square(side)
            item = cache.items[0]
            noisy = Latents(item.latents[None].to(self.device), item.rows, item.columns)
            features = _placed(cache.features, self.device)
            transformer = self.family.load_transformer()
            with BlockCompiler().compiling(self.family.blocks_of(transformer) if compiled else []), torch.no_grad():
                yield lambda: self.family.predict_velocity(transformer, noisy, torch.tensor([0.5]), features, 3.5)

        return prepared

    def result(self) -> dict[str, Any]:
        return {"device": self.name, "peak_tflops": self.peak, "model": self.model.title, "dry": self.chosen.dry,
                "torch": torch.__version__, "attention": attention_kernel(self.family), "rows": self.rows}  # fmt: skip

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _clear(self) -> None:
        gc.collect()
        torch._dynamo.reset()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _placed(features: Features, device: torch.device) -> Features:
    """As a loop would have them at hand. What is pooled is small; Ideogram 4 reads lengths from it, on the CPU."""
    return Features(features.tokens.to(device), features.pooled)


@contextmanager
def _stepper(family: Weightless, cache: Cache, way: Way) -> Iterator[Stepper]:
    transformer = family.load_transformer()
    adapter = Adapter.for_transformer(
        transformer, family.adapter_targets, rank=RANK, seed=0, device=family.device, shared=family.fused_targets
    )
    plan = Plan(steps=ALL, learning_rate=1e-4)
    stepper = Stepper(family, adapter, cache, plan, recomputed=way.recomputed, forward=way.forward)
    with stepper.prepared():
        yield stepper


@contextmanager
def _ours(family: Weightless, cache: Cache, way: Way) -> Iterator[Callable[[], object]]:
    """The product's step with its optimiser; its order of work is said by `way` instead of chosen."""
    with _stepper(family, cache, way) as stepper:
        state = TrainingState.new(stepper.adapter.weights.data)

        def call() -> dict[str, Any]:
            stepper.take(state)
            return stepper.figures()  # whether it compiled

        yield call


@contextmanager
def _straightforward(family: Weightless, cache: Cache, way: Way) -> Iterator[Callable[[], None]]:
    """What one would write first: PEFT's adapter, AdamW over its many tensors."""
    transformer = family.load_transformer()
    transformer.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(family.adapter_targets)))
    trained = [parameter for parameter in transformer.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    item, features = cache.items[0], _placed(cache.features, family.device)
    clean = item.latents[None].to(family.device)

    def call() -> None:
        noise = torch.randn_like(clean)
        sigma = torch.rand(1, device=family.device)
        noisy = Latents((1 - sigma) * clean + sigma * noise, item.rows, item.columns)
        predicted = family.predict_velocity(transformer, noisy, sigma, features, 1.0)
        loss = torch.nn.functional.mse_loss(predicted.float(), noise - clean)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    with ExitStack() as after:
        after.callback(transformer.unload_lora)
        after.callback(transformer.disable_gradient_checkpointing)
        if way.recomputed:
            transformer.enable_gradient_checkpointing()
        yield call


def attention_kernel(family: Weightless) -> str:
    """Which of torch's kernels an attention call of this shape ends in, by asking each alone, best first."""
    device, config = family.device, family.load_transformer().config
    if device.type != "cuda":
        return "plain products or torch's CPU kernel"
    shape = (1, config.num_attention_heads, 1024, config.attention_head_dim)
    query = torch.randn(shape, device=device, dtype=torch.bfloat16)
    for backend in torch.nn.attention._cur_sdpa_kernel_backends(with_priority=True):
        try:
            with torch.nn.attention.sdpa_kernel(backend):
                torch.nn.functional.scaled_dot_product_attention(query, query, query)
        except RuntimeError:  # this one cannot; torch says no more than that
            continue
        return str(backend.name)
    return "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(MODELS), default="flux")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 768, 1024])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="file that holds all rows so far, as JSON")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--no-compile", action="store_true", help="leave out what takes minutes to compile")
    parser.add_argument("--dry", action="store_true", help="a narrow model on the CPU: does it run?")
    chosen = parser.parse_args()
    if not chosen.dry and not torch.cuda.is_available():
        parser.error("there is no GPU here; --dry shows that the bench runs")
    bench = Bench(MODELS[chosen.model], torch.device("cpu" if chosen.dry else "cuda"), chosen)
    bench.run()
    if chosen.json:
        print(json.dumps(bench.result()))
        return
    columns = (
        "what",
        "px",
        "first_seconds",
        "seconds",
        "compiled_graphs",
        "tflop",
        "tflops",
        "share_of_peak",
        "peak_gib",
        "failed",
    )
    table = Table(*columns, title=f"{escape(bench.model.title)} on {bench.name}, rank {RANK}, batch 1")
    for row in bench.rows:
        table.add_row(*(str(row.get(column, "")) for column in columns))
    Console().print(table, f"attention: {attention_kernel(bench.family)}")


if __name__ == "__main__":
    main()
