"""Progress lines: enough for a person, never enough to fill the log."""

from __future__ import annotations

from tintype.worker.progress import ProgressNotes


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines(total: int, seconds_per_step: float, first: int = 1) -> list[str]:
    clock = Clock()
    notes = ProgressNotes(clock)
    told = []
    for step in range(first, total + 1):
        clock.now += seconds_per_step
        if line := notes.take(step, total, {"loss": 0.0812}):
            told.append(line)
    return told


def test_a_line_names_step_loss_speed_and_time_left() -> None:
    told = lines(500, 1 / 3.1)
    assert told[0] == "step 1/500 loss 0.0812"
    assert told[5].startswith("step ")
    assert "loss 0.0812, 3.1 steps/s, " in told[5]
    assert told[5].endswith("min left")
    assert told[-1] == "step 500/500 loss 0.0812, 3.1 steps/s"


def test_a_fast_job_writes_at_most_a_line_a_second() -> None:
    assert len(lines(2500, 0.004)) <= 12


def test_a_slow_job_is_heard_from_every_few_seconds() -> None:
    assert len(lines(100, 6.0)) == 100


def test_the_longest_training_stays_far_below_a_thousand_lines() -> None:
    assert len(lines(10_000, 5.0)) <= 401


def test_speed_of_a_resumed_run_counts_only_its_own_steps() -> None:
    assert "2.0 steps/s" in lines(1000, 0.5, first=900)[-1]


def test_one_step_is_told_once() -> None:
    notes = ProgressNotes(lambda: 0.0)
    assert notes.take(3, 3, {}) == "step 3/3"
    assert notes.take(3, 3, {}) is None


def test_the_pace_is_a_number_too() -> None:
    clock = Clock()
    notes = ProgressNotes(clock)
    assert notes.pace(1, 11) == {}
    notes.take(1, 11, {})
    clock.now = 10.0
    assert notes.pace(6, 11) == {"steps_per_second": 0.5, "eta": 10.0}
    assert notes.pace(6, 0) == {"steps_per_second": 0.5}
