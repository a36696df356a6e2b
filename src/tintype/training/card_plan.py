"""What fits on which card, before anyone buys it or downloads 34 GB: the memory of training and generating, predicted.

The networks are the published ones on torch's meta device, the plan of a step is that of a real training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from tintype.catalog.endpoint import Kind
from tintype.devices import gpu_bytes
from tintype.lora.adapter import Adapter
from tintype.models.family import Forward
from tintype.models.placement import HEADROOM
from tintype.models.quantised import prepare
from tintype.models.registry import FamilySpec, family_spec
from tintype.models.weights import BaseWeights
from tintype.settings import GIB
from tintype.training.generating_forecast import GeneratingForecast, forecast
from tintype.training.memory_plan import MemoryPlan, Shape, gib, plan_memory

CARDS = (12.0, 16.0, 24.0, 32.0, 48.0, 80.0, 141.0)  # GB, as they are called
SIDES = (512, 768, 1024)  # pixels of square images
PRECISIONS = ("bf16", "fp8", "nf4")  # the largest first
_RANK = 16
_MOST_TEXT = 512  # tokens of a caption
_USABLE = 0.98  # of what a card is called: the driver has the rest


@dataclass(frozen=True)
class CardPlan:
    """Of one base model on one card. Bytes are predicted."""

    base: str
    title: str
    precision: str  # bf16, or fp8 or nf4 for the transformer's matrices
    card: float  # GB
    generating: GeneratingForecast
    steps: tuple[MemoryPlan, ...]  # one for each of SIDES

    @property
    def trains(self) -> bool:
        """Tells whether a training fits at the largest of SIDES."""
        return self.steps[-1].fits

    @property
    def generates(self) -> bool:
        """Tells whether images are generated without copying a network at each step, which takes most of the time."""
        return self.generating.plan.fits and not self.generating.plan.for_step

    @property
    def row(self) -> list[str]:
        """Says it in a table's cells, as COLUMNS names them."""
        steps = [_cell(step.needed, step.fits, f"{step.recomputed} of {step.blocks}") for step in self.steps]
        return [
            self.title,
            self.precision,
            f"{self.card:g} GB",
            _cell(self.generating.plan.needed, self.generating.plan.fits, self.generating.plan.how),
            self.generating.time,
            *steps,
        ]


COLUMNS = (
    "base", "precision", "card", "generate at 1024", "time of an image",
    *(f"train at {side}, blocks recomputed" for side in SIDES),
)  # fmt: skip


def card_plans(specs: Sequence[FamilySpec], cards: Sequence[float] = CARDS) -> list[CardPlan]:
    """Plans every base model that says what it is made of on every card, at rank 16 and batch 1."""
    known = (spec for spec in specs if spec.network and spec.encoder_bytes)
    return [plan for spec in known for precision in PRECISIONS for plan in _of_base(spec, precision, cards)]


def with_precision(weights: BaseWeights, device: str, lane: Kind, most: int | None = None) -> BaseWeights:
    """Decides how weights are read that leave it open: the first of PRECISIONS that fits the device in a lane.

    It goes by all of the device's memory, or `most` of it, so that each start decides alike; the other lane's models
    give way.
    """
    if weights.precision != "auto":
        return weights
    spec, memory = family_spec(weights.family), gpu_bytes(device)
    if memory is None or not spec.network:
        return replace(weights, precision="stored", precision_why=f"auto rounds nothing on {device}")
    memory = min(memory, most or memory)
    plans = card_plans([spec], (memory / GIB / _USABLE,))
    fitting = [plan for plan in plans if (plan.trains if lane == "training" else plan.generates)]
    plan = (fitting or plans[-1:])[0]
    why = f"the first of {', '.join(PRECISIONS)} that fits" if fitting else "nothing fits, and it needs least"
    needed = plan.steps[-1].needed if lane == "training" else plan.generating.plan.needed
    what = "training" if lane == "training" else "generating"
    why = f"{why}: {gib(needed)} for {what} at {SIDES[-1]} pixels, and the GPU has {gib(memory)}"
    return replace(weights, precision=plan.precision.replace("bf16", "stored"), precision_why=why)


def _of_base(spec: FamilySpec, precision: str, cards: Sequence[float]) -> list[CardPlan]:
    shapes = _shapes(spec.name, precision)
    lora = shapes[0].trained * shapes[0].bytes_per_value  # one that an image is generated with
    return [
        CardPlan(
            spec.name,
            spec.title,
            precision,
            card,
            forecast(spec, shapes[0].weights + lora, int(card * GIB * _USABLE * HEADROOM), card),
            tuple(plan_memory(shape, int(card * GIB * _USABLE)) for shape in shapes),
        )
        for card in cards
    ]


@cache
def _shapes(base: str, precision: str) -> tuple[Shape, ...]:
    """Gives a step's at each of SIDES; it takes a second, whatever the card."""
    spec = family_spec(base)
    family, text = spec.load().without_weights(), min(spec.text_window, _MOST_TEXT)
    transformer = family.load_transformer()
    if precision != "bf16":
        prepare(transformer, precision, family.dtype)
    adapter = Adapter.for_transformer(
        transformer, family.adapter_targets, rank=_RANK, seed=0, device=family.device, shared=family.fused_targets
    )
    kept, trained = family.kept_values(Forward.COMPILED), adapter.weights.numel()
    return tuple(
        Shape.of(transformer, kept, tokens=text + (side // family.token_pixels) ** 2, batch=1, trained=trained)
        for side in SIDES
    )


def _cell(needed: int, fits: bool, blocks: str = "") -> str:
    size = gib(needed)
    return f"no, {size}" if not fits else f"{size}, {blocks}" if blocks else size
