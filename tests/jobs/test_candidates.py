"""Of several steps of a training, the best by its scores is handed over, whatever interrupts the scoring."""

from __future__ import annotations

import itertools
import json
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from miniature.world import Subject, photograph, write_archive
from PIL import Image
from safetensors.torch import load_file

from tintype.catalog.flux_lora_portrait_trainer import PortraitTrainerInput
from tintype.errors import InputError
from tintype.jobs.candidates import MOST_CANDIDATES, candidate_steps
from tintype.jobs.local import LocalContext
from tintype.jobs.lora_training import train_lora
from tintype.jobs.resident_models import ResidentModels
from tintype.jobs.train_portrait import open_portraits, portrait_recipe
from tintype.likeness.identity import Identity
from tintype.likeness.portrait_world import PortraitWorldIdentity
from tintype.lora.read import read_lora
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.settings import load_settings

STEPS, SCORED = 8, (2, 4, 8)


class Killed(BaseException):
    """Stands in for SIGKILL: nothing in the job may expect it."""


@pytest.fixture(scope="module")
def models() -> ResidentModels:
    return ResidentModels(load_settings(flux_base="miniature"), "cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photos.zip"
    write_archive(path, photograph(Subject.from_seed(61_000), 8, size=512), captions=False)
    return path


class NobodyKnown:
    """Tells nobody from anybody."""

    name = "nobody"
    same_person = 0.5

    def embed(self, images: Sequence[Image.Image]) -> torch.Tensor:
        return torch.full((len(images), 2), torch.nan)


class Broken:
    name = "broken"
    same_person = 0.5

    def embed(self, images: Sequence[Image.Image]) -> torch.Tensor:
        raise RuntimeError("no weights")


class Interrupted:
    """Knows people, but is killed before the given look."""

    name, same_person = PortraitWorldIdentity.name, PortraitWorldIdentity.same_person

    def __init__(self, before: int) -> None:
        self._left, self._identity = before, PortraitWorldIdentity()

    def embed(self, images: Sequence[Image.Image]) -> torch.Tensor:
        self._left -= 1
        if self._left == 0:
            raise Killed
        return self._identity.embed(images)


def trained(
    models: ResidentModels,
    folder: Path,
    photos: Path,
    identity: Identity | None = None,
    *,
    may_stop: bool = False,
    scored: tuple[int, ...] = SCORED,
    state: Path | None = None,
    **inputs: object,
) -> tuple[Path, dict[str, Any]]:
    """A short run with candidates at `scored`; returns its output folder and config."""
    folder.mkdir(exist_ok=True)
    context = LocalContext(folder, load_settings(), resident_models=models)
    given = {"images_data_url": context.offer(photos), "trigger_phrase": "TOK", "steps": STEPS, "rank": 2, **inputs}
    if state is not None:
        given["resume_from_checkpoint"] = context.offer(state)
    input = PortraitTrainerInput.model_validate(given)
    recipe = portrait_recipe(input, context)
    recipe = replace(
        recipe, plan=replace(recipe.plan, score_at=scored), identity=identity or recipe.identity, may_stop=may_stop
    )
    train_lora(recipe, open_portraits(recipe, input, context), context)
    return context.output, json.loads((context.output / "config.json").read_text())


@pytest.fixture(scope="module")
def undisturbed(models: ResidentModels, tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Any:
    return trained(models, tmp_path_factory.mktemp("undisturbed"), photos)


def test_the_best_is_handed_over_and_the_last_hangs_beside_it(undisturbed: Any) -> None:
    output, config = undisturbed
    found = config["candidates"]
    assert found["measured_by"] == "Portrait World"
    assert [each["step"] for each in found["scored"]] == list(SCORED)
    for each in found["scored"]:
        assert each["likeness"] is not None
        assert 0 <= each["adherence"] <= 1
        assert 0 <= each["originality"] <= 1
    totals = {each["step"]: each["likeness"] ** 2 * each["adherence"] * each["originality"] for each in found["scored"]}
    assert totals[found["chosen"]] >= max(totals.values()) - 0.021
    handed, last = output / "lora.safetensors", output / "lora-last.safetensors"
    assert last.exists() == (found["chosen"] != STEPS)
    if last.exists():
        found = load_file(handed)
        assert any(not torch.equal(found[key], tensor) for key, tensor in load_file(last).items())
        assert config["last"]["file_name"] == "lora-last.safetensors"
        assert read_lora(last, FLUX_KEYS).pairs.keys() == read_lora(handed, FLUX_KEYS).pairs.keys()


def test_two_photos_are_held_out_and_the_report_shows_what_was_scored(undisturbed: Any) -> None:
    output, config = undisturbed
    report = json.loads((output / "report.json").read_text())
    held_out = [image["name"] for image in report["kept"] if not image["trained"]]
    assert len(held_out) == 2
    assert config["dataset"]["held_out"] == held_out
    assert [each["step"] for each in report["scored"]] == list(SCORED)
    assert [each["step"] for each in report["scored"] if each["is_chosen"]] == [config["candidates"]["chosen"]]
    page = (output / "report.html").read_text()
    assert "Which step is the good one" in page
    assert page.count("data:image/png") >= 4 * len(SCORED)


def test_the_last_checkpoint_holds_the_scores_of_the_last_step(undisturbed: Any) -> None:
    """What follows the steps takes minutes, and a kill then costs no scoring."""
    context = LocalContext(undisturbed[0].parent, load_settings())
    found = context.checkpoint.latest()
    assert found is not None
    assert found.step == STEPS
    scored = sorted(path.stem for path in found.path.rglob("candidate-*.json"))
    assert scored == [f"candidate-{step:05d}" for step in SCORED]


def test_a_run_that_is_killed_while_it_scores_goes_on_from_there_and_chooses_the_same(
    models: ResidentModels, tmp_path: Path, photos: Path, undisturbed: Any
) -> None:
    with pytest.raises(Killed):
        # Looks: at the photos, at the base's pictures, then at one candidate after another.
        trained(models, tmp_path, photos, Interrupted(before=4))
    output, config = trained(models, tmp_path, photos)
    assert config["training"]["resumed_from_step"] == SCORED[1]
    assert config["candidates"] == undisturbed[1]["candidates"]
    for name in ("lora.safetensors", "lora-last.safetensors"):
        assert (output / name).exists() == (undisturbed[0] / name).exists()
        if (output / name).exists():
            found, wanted = load_file(output / name), load_file(undisturbed[0] / name)
            assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_where_likeness_is_not_measured_the_last_is_handed_over(
    models: ResidentModels, tmp_path: Path, photos: Path
) -> None:
    output, config = trained(models, tmp_path / "nobody", photos, NobodyKnown(), scored=(4, 8))
    assert config["candidates"]["chosen"] is None
    assert all(each["likeness"] is None for each in config["candidates"]["scored"])
    assert config["dataset"]["held_out"] == []
    assert not (output / "lora-last.safetensors").exists()
    _, config = trained(models, tmp_path / "broken", photos, Broken(), scored=(4, 8))
    assert "candidates" not in config
    assert "fault of ours" in config["not_made"]["look at who is in the photos"]


# At a rate that moves next to nothing, no candidate beats the first.
STILL, SCORED_OFTEN = 1e-7, (1, 2, 3, 4, STEPS)


@pytest.fixture(scope="module")
def ended(models: ResidentModels, tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Any:
    folder = tmp_path_factory.mktemp("ended")
    return trained(models, folder, photos, may_stop=True, scored=SCORED_OFTEN, learning_rate=STILL)


def test_a_run_ends_when_its_candidates_are_no_better(ended: Any) -> None:
    _, config = ended
    assert config["training"]["steps"] == 4
    assert [each["step"] for each in config["candidates"]["scored"]] == [1, 2, 3, 4]
    assert config["state"]["file_name"] == "training-state.tar"


def test_going_on_is_one_call_and_gives_the_bits_of_the_longer_run(
    models: ResidentModels, tmp_path: Path, photos: Path, ended: Any
) -> None:
    state = ended[0] / "training-state.tar"
    further, config = trained(
        models, tmp_path / "further", photos, may_stop=True, scored=SCORED_OFTEN, learning_rate=STILL, state=state
    )
    assert config["training"]["resumed_from_step"] == 4
    assert config["training"]["steps"] == STEPS, "what was scored before does not end it again"
    assert [each["step"] for each in config["candidates"]["scored"]] == list(SCORED_OFTEN)
    assert config["candidates"]["scored"][:4] == ended[1]["candidates"]["scored"]
    assert "state" not in config, "nothing is left to go on with"

    whole, _ = trained(models, tmp_path / "whole", photos, scored=(STEPS,), learning_rate=STILL)
    last = further / "lora-last.safetensors"
    found = load_file(last if last.exists() else further / "lora.safetensors")
    wanted = load_file(whole / "lora.safetensors")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert not all(torch.equal(tensor, wanted[key]) for key, tensor in load_file(ended[0] / "lora.safetensors").items())


def test_a_state_of_another_training_or_none_at_all_is_refused(
    models: ResidentModels, tmp_path: Path, photos: Path, ended: Any
) -> None:
    state = ended[0] / "training-state.tar"

    def refused(name: str, **inputs: Any) -> str:
        with pytest.raises(InputError) as caught:
            trained(
                models,
                tmp_path / name,
                photos,
                scored=SCORED_OFTEN,
                **{"learning_rate": STILL, "state": state} | inputs,
            )
        assert caught.value.details[0]["loc"] == ["body", "resume_from_checkpoint"]
        return caught.value.message

    assert "settings differ" in refused("rate", learning_rate=1e-5)
    assert "rank, seed or start" in refused("rank", rank=3)
    assert "has taken 4 steps" in refused("short", steps=4)
    foreign = tmp_path / "foreign.tar"
    with tarfile.open(foreign, "w") as packed:
        packed.add(photos, "../../photos.zip")
    assert "it holds '../../photos.zip'" in refused("foreign", state=foreign)


def test_the_last_step_is_trained_on_every_photo_and_scores_nothing_where_that_is_asked_for(
    models: ResidentModels, tmp_path: Path, photos: Path
) -> None:
    context = LocalContext(tmp_path, load_settings(), resident_models=models)
    given = {"images_data_url": context.offer(photos), "steps": 2500, "checkpoint": "last"}
    recipe = portrait_recipe(PortraitTrainerInput.model_validate(given), context)
    assert recipe.plan.score_at == ()
    recipe = portrait_recipe(PortraitTrainerInput.model_validate(given | {"checkpoint": "best"}), context)
    assert recipe.plan.score_at == candidate_steps(2500, recipe.plan.batch_size)
    assert recipe.may_stop


@pytest.mark.parametrize("batch", [1, 4])
def test_candidates_cost_a_tenth_of_a_run_at_most(batch: int) -> None:
    for steps in (1, 100, 333, 500, 1000, 2500, 10_000):
        at = candidate_steps(steps, batch)
        assert len(at) != 1
        assert len(at) <= MOST_CANDIDATES
        assert not at or at[-1] == steps
        assert all(one < other for one, other in itertools.pairwise(at))
        assert len(at) * 100 <= 0.1 * steps * batch * 3
