"""When checkpoints are written, what goes on meanwhile, and what becomes of one that cannot be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.support.clock import Clock
from tests.support.disk import leave_room

from tintype.errors import LeaseLost
from tintype.files import Objects
from tintype.files.checkpoints import ObjectCheckpoints
from tintype.training.checkpoint import StateCopy, TrainingState, copy_state
from tintype.training.checkpoint_writer import CheckpointWriter

LEAST = 120.0


def copy() -> StateCopy:
    return StateCopy({"weights": torch.zeros(4)}, "{}", [])


def store_in(folder: Path, token: int = 0) -> ObjectCheckpoints:
    return ObjectCheckpoints(Objects.open(str(folder / "objects")), "r", folder / f"work-{token}", token)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def writer(tmp_path: Path, clock: Clock, said: list[str]) -> Iterator[CheckpointWriter]:
    with CheckpointWriter(store_in(tmp_path), LEAST, lambda line, _: said.append(line), clock) as made:
        yield made


def slow_storage(monkeypatch: pytest.MonkeyPatch, clock: Clock, seconds: float) -> None:
    """Makes storing a file take so long, by the clock."""
    put_path = Objects.put_path

    def slowly(self: Objects, key: str, path: Path, *, move: bool = False) -> int:
        if path.suffix == ".safetensors":
            clock.advance(seconds)
        return put_path(self, key, path, move=move)

    monkeypatch.setattr(Objects, "put_path", slowly)


@pytest.mark.parametrize(("takes", "apart"), [(0.0, 120), (2.0, 120), (4.0, 200), (34.0, 1700)])
def test_one_comes_after_two_minutes_or_fifty_times_what_the_last_one_took(
    writer: CheckpointWriter, clock: Clock, monkeypatch: pytest.MonkeyPatch, takes: float, apart: float
) -> None:
    slow_storage(monkeypatch, clock, takes)
    clock.advance(LEAST - 1)
    assert not writer.is_due()
    clock.advance(1)
    assert writer.is_due()
    writer.begin(1, copy)
    writer.wait()
    clock.advance(apart - takes - 1)
    assert not writer.is_due()
    clock.advance(1)
    assert writer.is_due()


def test_never_are_two_written_at_once(
    writer: CheckpointWriter, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    go_on, put_path, begun = threading.Event(), Objects.put_path, []

    def held(self: Objects, key: str, path: Path, *, move: bool = False) -> int:
        begun.append(key)
        assert go_on.wait(60)
        return put_path(self, key, path, move=move)

    monkeypatch.setattr(Objects, "put_path", held)
    writer.begin(1, copy)
    clock.advance(10 * LEAST)
    assert not writer.is_due(), "one is being written"
    second = threading.Thread(target=writer.begin, args=(2, copy))
    second.start()
    second.join(0.2)
    assert second.is_alive()
    assert {key.partition("/")[2][0] for key in begun} <= {"1"}
    go_on.set()
    second.join(60)
    writer.wait()
    assert writer.saved_step == 2
    found = store_in(tmp_path, token=1).latest()
    assert found is not None
    assert found.step == 2


def test_what_changes_while_it_is_written_is_not_in_it() -> None:
    """On a CPU `detach` and `cpu` copy nothing."""
    weights = torch.nn.Parameter(torch.ones(4))
    state = TrainingState.new(weights.data)
    kept = copy_state("mine", state, torch.optim.AdamW([weights]), Path("none"))
    state.weights.zero_()
    state.average.zero_()
    assert kept.tensors["weights"].tolist() == kept.tensors["average"].tolist() == [1, 1, 1, 1]


def test_a_full_disk_costs_the_checkpoint_and_not_the_next(
    writer: CheckpointWriter, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        leave_room(full, 0)
        writer.begin(1, copy)
        writer.wait()
    assert writer.saved_step == 0
    assert len(said) == 1
    assert "full" in said[0] or "no room" in said[0]
    writer.begin(1, copy)
    writer.wait()
    assert writer.saved_step == 1


def test_a_lost_lease_is_raised_where_the_steps_are(writer: CheckpointWriter, tmp_path: Path) -> None:
    writer.begin(1, copy)
    writer.wait()
    store_in(tmp_path, token=1).latest()  # a newer attempt
    writer.begin(2, copy)
    with pytest.raises(LeaseLost):
        writer.wait()


def test_a_drain_begins_none_that_would_not_end_in_time(
    writer: CheckpointWriter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert writer.can_end_within(15), "nothing is known of how long it takes"
    slow_storage(monkeypatch, clock, 34.0)
    writer.begin(1, copy)
    writer.wait()
    assert writer.can_end_within(40)
    assert not writer.can_end_within(15)
