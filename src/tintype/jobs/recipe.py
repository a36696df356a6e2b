"""What an endpoint decides about the training of a LoRA. All else is alike for every endpoint and every base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tintype.catalog import Endpoint, EndpointInput
from tintype.jobs.samples import Samples
from tintype.likeness.identity import Identity
from tintype.lora.lora import Lora
from tintype.models.family import Family
from tintype.models.registry import TrainingDefaults
from tintype.training.plan import Plan

PORTRAITS_ONLY = "Who is in the photos is looked at for portraits only."


@dataclass(frozen=True)
class Recipe:
    """Describes the training of one LoRA.

    `learning_rate` is the one asked for, the plan has the effective one. `effective` are facts for the config file
    beside those of every training, `pipeline_call` the exact arguments for plain diffusers.
    """

    endpoint: Endpoint
    input: EndpointInput
    family: Family
    plan: Plan
    rank: int
    learning_rate: float
    title: str
    trigger: str | None
    resolution: str
    samples: Samples
    effective: Mapping[str, Any]
    pipeline_call: Mapping[str, Any]
    start_from: Lora | None = None
    identity: Identity | None = None  # what tells people apart, and scores candidates
    why_no_identity: str = PORTRAITS_ONLY
    consent: str = ""  # who agreed to it
    may_stop: bool = False  # before all steps are done, once candidates are no better
    done_before: int = 0  # steps of the earlier training that this one goes on with; its state is the first checkpoint


def plan_for(
    defaults: TrainingDefaults,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    keep_every: int | None,
    optimizer: str = "adamw",
    score_at: tuple[int, ...] = (),
) -> Plan:
    """Puts what was asked for and the defaults of the base into numbers. `learning_rate` is the effective one."""
    return Plan(
        steps=steps,
        learning_rate=learning_rate,
        batch_size=defaults.batch_size,
        seed=seed,
        guidance=defaults.training_guidance,
        warmup_steps=defaults.warmup_steps,
        decay_steps=defaults.decay_steps,
        weight_decay=defaults.weight_decay,
        ema_decay=defaults.ema_decay,
        autocast=defaults.autocast,
        optimizer=optimizer,
        keep_every=keep_every,
        score_at=score_at,
    )
