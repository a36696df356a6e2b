"""How a run is to train: the numbers that a recipe decides and everything below it only reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Plan:
    """How to train. `learning_rate` is the effective one at its highest; after `decay_steps` steps half of it is left,
    after three times as many a quarter (0: all of it, however long). `schedule` has the formula.

    A checkpoint comes when it is time (`checkpoint_writer`), and every `checkpoint_steps` where that is given.
    """

    steps: int
    learning_rate: float
    batch_size: int = 1
    seed: int = 0
    guidance: float = 1.0
    warmup_steps: int = 20
    decay_steps: int = 0
    weight_decay: float = 1e-4
    largest_gradient: float = 1.0
    ema_decay: float = 0.99
    autocast: bool = False
    optimizer: str = "adamw"
    checkpoint_steps: int | None = None
    keep_every: int | None = None
    score_at: tuple[int, ...] = ()  # steps after which the LoRA is a candidate

    def to_json(self) -> dict[str, Any]:
        """Gives every setting by its name."""
        return asdict(self)
