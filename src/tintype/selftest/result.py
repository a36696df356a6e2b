"""How a check ends: passed, failed with what to do, or not run with the reason."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tintype.errors import OutOfMemory, TintypeError
from tintype.training.memory_plan import is_out_of_memory

_PACKAGE = Path(__file__).parents[1]
_LONGEST_REASON = 300  # characters of what a library says
_SMALLER = "Free memory on the device; `tintype plan` says what fits on which GPU."
_READ = "A file may be damaged or missing: `tintype weights pull` fetches weights again."
_REPORT = "Send this table and the file of `--json` to whoever maintains tintype."


class Outcome(Enum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Found:
    """What a check that passed saw: a phrase for the table, and figures for the file."""

    what: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """The end of one check of one base model. `remedy` says what to do about one that failed."""

    base: str
    check: str
    outcome: Outcome
    what: str
    remedy: str = ""
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Gives it as it is written into the file."""
        return {**vars(self), "outcome": self.outcome.value, "seconds": round(self.seconds, 2)}


class CheckFailed(Exception):
    """What was seen is not what has to be."""

    def __init__(self, what: str, remedy: str = _REPORT, **figures: Any) -> None:
        super().__init__(what)
        self.remedy, self.figures = remedy, figures


class NotRun(Exception):
    """The check has nothing to look at here."""


def result_of(base: str, check: str, work: Callable[[], Found]) -> Result:
    """Does the work of a check and tells how it ended; nothing that goes wrong in it stops the checks after it."""
    began = time.perf_counter()
    ended: tuple[Outcome, str, str, dict[str, Any]]
    try:
        found = work()
        ended = Outcome.PASSED, found.what, "", found.figures
    except NotRun as reason:
        ended = Outcome.NOT_RUN, str(reason), "", {}
    except CheckFailed as problem:
        ended = Outcome.FAILED, str(problem), problem.remedy, problem.figures
    except Exception as problem:  # of any library
        ended = (
            Outcome.FAILED,
            _reason(problem),
            _remedy(problem),
            {"error": type(problem).__name__, "at": _at(problem)},
        )
    outcome, what, remedy, figures = ended
    return Result(base, check, outcome, what, remedy, time.perf_counter() - began, figures)


def _reason(problem: Exception) -> str:
    said = problem.message if isinstance(problem, TintypeError) else f"{type(problem).__name__}: {problem}"
    return " ".join(said.split())[:_LONGEST_REASON]


def _remedy(problem: Exception) -> str:
    if isinstance(problem, OutOfMemory) or is_out_of_memory(problem):
        return _SMALLER
    if isinstance(problem, OSError | SafetensorError):
        return _READ
    return "What is said there; `tintype doctor` says more." if isinstance(problem, TintypeError) else _REPORT


def _at(problem: Exception) -> str:
    """The innermost line of ours that it came from, such as training/step.py:120."""
    for frame in reversed(traceback.extract_tb(problem.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(_PACKAGE):
            return f"{path.relative_to(_PACKAGE).as_posix()}:{frame.lineno}"
    return ""
