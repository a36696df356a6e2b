"""What a training can do without: once its LoRA is made, whatever else fails costs itself and nothing more.

A run may have taken hours. Its curve, its samples and even its proof are not worth losing it, so each of them is tried,
and what could not be had is said in the log and in the config file.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

from tintype.errors import Cancelled, Drained, LeaseLost, TintypeError, UnprovenAdapter
from tintype.job import JobContext
from tintype.jobs.resident_models import resident_models
from tintype.training.memory_plan import is_out_of_memory

T = TypeVar("T")
_MEMORY_RAN_OUT = "memory ran out, also after all models were unloaded."


class BestEffort:
    """Tries what is not needed, and keeps in `not_made` why which part of it is not there."""

    def __init__(self, context: JobContext) -> None:
        self.not_made: dict[str, str] = {}
        self._context = context

    def attempt(self, what: str, make: Callable[[], T]) -> T | None:
        """Returns what `make` does, or None where it fails; where memory runs out, all is unloaded and it tries again.

        Raises UnprovenAdapter, which is a finding, and what ends an attempt from outside.
        """
        for _ in range(2):
            try:
                return make()
            except (Cancelled, Drained, LeaseLost, UnprovenAdapter):
                raise
            except Exception as problem:
                if not is_out_of_memory(problem):
                    self._go_without(what, _reason(problem))
                    return None
            # Outside of the handler: its traceback holds on to what did not fit.
            resident_models(self._context).unload()
        self._go_without(what, _MEMORY_RAN_OUT)
        return None

    def _go_without(self, what: str, reason: str) -> None:
        self.not_made[what] = reason
        self._context.log(f"The training goes on without its {what}: {reason}", "WARN")


def _reason(problem: Exception) -> str:
    """What the person is told; the trace of anything unforeseen stays in this machine's log."""
    if isinstance(problem, TintypeError):
        return problem.message
    traceback.print_exception(problem)
    return f"a fault of ours ({type(problem).__name__}); the server's log holds the details."
