"""Whether a training that is stopped goes on from its checkpoint as if it had not been."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from tintype.errors import Drained
from tintype.jobs.local import LocalContext
from tintype.selftest.checked_base import CheckedBase
from tintype.selftest.result import CheckFailed, Found, NotRun
from tintype.settings import Settings
from tintype.training.loop import Plan, Trained, train


class Resuming:
    """Trains in short runs, with the settings of this machine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def check(self, base: CheckedBase) -> Found:
        """Compares a run that was stopped half way with one that was not, to the bit."""
        half = base.extent.resumed_steps // 2
        whole = self._run(base, "whole")
        try:
            self._run(base, "stopped", stop_after=half)
        except Drained:
            pass
        else:
            raise CheckFailed("the run did not stop when it was asked to")
        resumed = self._run(base, "stopped")
        if resumed.resumed_from != half:
            raise CheckFailed(f"stopped after step {half}, the run went on from step {resumed.resumed_from}")
        if not all(map(math.isfinite, whole.losses)):
            raise CheckFailed("a loss is not finite", losses=whole.losses)
        if _same(whole, resumed):
            return Found(f"stopped after step {half} of {len(whole.losses)}, and ended with the same bits")
        if not _same(whole, self._run(base, "control")):
            raise NotRun("two undisturbed runs differ in their bits here, so nothing can be said of a stopped one")
        raise CheckFailed(
            "a run that was stopped ends otherwise than one that was not", whole=whole.losses, stopped=resumed.losses
        )

    def _run(self, base: CheckedBase, name: str, stop_after: int | None = None) -> Trained:
        def progress(step: int, total: int, metrics: dict[str, float]) -> None:
            context.draining = step == stop_after

        folder = Path(base.folder / name)
        context = LocalContext(folder, self._settings, resident_models=base.models, on_progress=progress)
        plan = Plan(base.extent.resumed_steps, 1e-3, warmup_steps=1, ema_decay=0.9)
        cache, adapter = base.trained_cache(), base.adapter(0)
        return train(base.family, adapter, cache, plan, context, snapshot_dir=folder / "snapshots", steps_a_reading=1)


def _same(one: Trained, other: Trained) -> bool:
    ours, theirs = one.lora.state, other.lora.state
    return one.losses == other.losses and all(torch.equal(factor, theirs[name]) for name, factor in ours.items())
