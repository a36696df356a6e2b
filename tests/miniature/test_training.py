"""The one loop that trains the miniatures: what was stopped and started again has the bits of what was left alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from miniature.autoencoder import new_autoencoder
from miniature.build import RECIPES
from miniature.flux import parts as flux_parts, task as flux_task
from miniature.ideogram4 import parts as ideogram4_parts
from miniature.ideogram4.batches import Batches
from miniature.ideogram4.task import Ideogram4Task
from miniature.latent_reader import LatentReader
from miniature.latents import Album, encode, people_of
from miniature.training import Training, load_average
from miniature.transformer_training import Task, train_transformer
from miniature.word_training import Reader

CPU = torch.device("cpu")


class StopError(Exception):
    """Ends a training where a kill might have."""


@pytest.fixture(scope="module")
def albums() -> list[Album]:
    torch.manual_seed(0)
    vae = new_autoencoder().eval()
    vae.register_to_config(shift_factor=0.0, scaling_factor=1.0)
    people = people_of(32, 32, 60)
    return [Album(32, 32, encode(vae, people, 32, 32), people)]


def _flux(parts: flux_parts.Parts, albums: list[Album]) -> Task:
    torch.manual_seed(1)
    own = copy.deepcopy(parts)
    reader = Reader(own.t5.config.d_model, own.clip.config.hidden_size)
    return flux_task.FluxTask(own, reader, LatentReader(32), albums)


def _ideogram4(parts: ideogram4_parts.Parts, albums: list[Album], *, wordless: bool) -> Task:
    torch.manual_seed(1)
    own = copy.deepcopy(parts)
    return Ideogram4Task(
        own.transformer, Batches(own, albums, wordless=wordless), None if wordless else LatentReader(32)
    )


# The two that read words take minutes.
TASKS = [*(pytest.param(name, marks=pytest.mark.long) for name in ("flux", "ideogram4")), "unconditional"]


@pytest.fixture(scope="module", params=TASKS)
def new_task(request: pytest.FixtureRequest, albums: list[Album]) -> Callable[[], Task]:
    if request.param == "flux":
        return partial(_flux, flux_parts.new_parts(CPU), albums)
    return partial(_ideogram4, ideogram4_parts.new_parts(CPU), albums, wordless=request.param == "unconditional")


def _trained(new_task: Callable[[], Task], path: Path, *stops: int) -> dict[str, Any]:
    """Trains until each of the stops in turn, every time in a new task, and returns the last checkpoint."""
    for stop in stops:
        task = new_task()

        def losses(training: Training, stop: int = stop, go_on: Any = task.losses) -> Any:
            if training.step == stop:
                raise StopError
            return go_on(training)

        task.losses = losses  # type: ignore[method-assign]
        with pytest.raises(StopError):
            train_transformer(task, path, minutes=1e9)
    return torch.load(path, weights_only=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(
    new_task: Callable[[], Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Training, "save_seconds", 0)
    monkeypatch.setattr(flux_task, "DISTIL_FROM", -1)  # FLUX has a teacher from the start, which is kept as well
    paths = [tmp_path / name / "transformer.pt" for name in ("alone", "stopped")]
    alone, stopped = _trained(new_task, paths[0], 3), _trained(new_task, paths[1], 1, 2, 3)
    for state in (alone, stopped):
        assert state.pop("spent") > 0
        assert state["step"] == 3
    assert stopped.pop("random")[0] == alone.pop("random")[0]
    if "caches" in alone["task"]:
        assert stopped.pop("task") == alone.pop("task")
    groups = [[kept.pop("param_groups") for kept in state["optimizers"]] for state in (alone, stopped)]
    assert groups[0] == groups[1]
    torch.testing.assert_close(stopped, alone, rtol=0, atol=0)
    fresh = new_task().learning
    assert not torch.equal(
        *(torch.nn.utils.parameters_to_vector(m.parameters()) for m in (fresh, _average(fresh, paths)))
    )


def _average(modules: torch.nn.ModuleDict, paths: list[Path]) -> torch.nn.ModuleDict:
    averaged = copy.deepcopy(modules)
    load_average(paths[0], averaged)
    return averaged


def test_every_stage_of_a_recipe_is_a_method_of_it() -> None:
    for recipe in RECIPES.values():
        assert all(callable(getattr(recipe, stage)) for stage in recipe.MINUTES)
