"""How fast a run learns at a step, and how much of that step the average takes: functions of the steps done so far.

Nothing here knows how many steps there will be: a short run has learned what a longer one had by then, and a run that
is made longer goes on with the bits it would have had.
"""

from __future__ import annotations

from tintype.training.plan import Plan

_RAMP = 9  # steps; the average forgets over a ninth of the steps done, until that is what `ema_decay` says


def learning_rate(plan: Plan, step: int) -> float:
    """Computes the rate of a step counted from 0: a short linear start, then constant or slowly falling."""
    warm = min(1.0, (step + 1) / max(1, plan.warmup_steps))
    left = plan.decay_steps / (plan.decay_steps + step) if plan.decay_steps else 1.0
    return plan.learning_rate * warm * left


def newest_share(plan: Plan, step: int) -> float:
    """Computes the share of the average that the weights after a step, counted from 0, take."""
    return 1 - min(plan.ema_decay, (step + 1) / (step + 1 + _RAMP))
