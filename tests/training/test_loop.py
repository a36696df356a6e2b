"""The loop on the miniature: it learns, it stops when told, and being killed costs nothing but time."""

from __future__ import annotations

import errno
import math
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from tintype.dataset import Bucket, Dataset, DatasetReport, Example
from tintype.errors import Cancelled, Drained, NonFiniteLoss
from tintype.files import Objects
from tintype.files.checkpoints import ObjectCheckpoints
from tintype.inference.flux import FluxImageRequest, FluxInference
from tintype.inference.lora_cache import LoraRequest
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.lora.lora import Lora
from tintype.lora.write import write_lora
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.flux.model import FluxFamily
from tintype.settings import load_settings
from tintype.training.cache import Cache, encode_once
from tintype.training.loop import MOST_BAD_STEPS, Plan, Trained, train

PLAN = Plan(steps=8, learning_rate=2e-3, batch_size=2, warmup_steps=2, decay_steps=3)
SIZES = (Bucket(512, 512), Bucket(512, 256))


class Killed(BaseException):
    """Stands in for SIGKILL: nothing in the loop may expect it."""


@pytest.fixture(scope="module")
def models() -> ResidentModels:
    return ResidentModels(load_settings(), "cpu")


@pytest.fixture(scope="module")
def flux(models: ResidentModels) -> FluxFamily:
    return models.family(FluxFamily)


@pytest.fixture(scope="module")
def cache(flux: FluxFamily, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    colors = ["red", "green", "blue"]
    examples = [Example(color, Image.new("RGB", (512, 512), color), "TOK", SIZES) for color in colors]
    return encode_once(flux, Dataset(examples, DatasetReport()), tmp_path_factory.mktemp("latents"))


def adapter_for(flux: FluxFamily) -> Adapter:
    return Adapter.for_transformer(flux.load_transformer(), flux.adapter_targets, rank=2, seed=0, device=flux.device)


def weights_of(trained: Trained) -> torch.Tensor:
    """All factors of what was trained, in one row."""
    return torch.cat([factor.flatten() for factor in trained.lora.state.values()])


def run(
    models: ResidentModels,
    cache: Cache,
    folder: Path,
    plan: Plan = PLAN,
    *,
    kill_after: int | None = None,
    checkpoint_seconds: float = 1e9,
    **signals: int,
) -> tuple[Trained, LocalContext]:
    """Trains a new adapter in `folder`; `kill_after`, `cancel_after`, `drain_after`, `finish_after` name steps."""

    def on_progress(step: int, total: int, metrics: dict[str, float]) -> None:
        context.cancelled = step == signals.get("cancel_after")
        context.draining = step == signals.get("drain_after")
        context.finishing = step == signals.get("finish_after")
        if step == kill_after:
            raise Killed

    settings = load_settings(checkpoint_seconds=checkpoint_seconds)
    context = LocalContext(folder, settings, resident_models=models, on_progress=on_progress)
    flux = models.family(FluxFamily)
    return train(flux, adapter_for(flux), cache, plan, context, snapshot_dir=folder / "kept"), context


@pytest.fixture(scope="module")
def unbroken(models: ResidentModels, cache: Cache, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(models, cache, tmp_path_factory.mktemp("unbroken"))[0]


@pytest.mark.parametrize("kill_after", [1, 4, 6])
def test_a_killed_run_that_is_resumed_ends_with_the_very_same_bits(
    models: ResidentModels, cache: Cache, unbroken: Trained, tmp_path: Path, kill_after: int
) -> None:
    plan = replace(PLAN, checkpoint_steps=3)
    with pytest.raises(Killed):
        run(models, cache, tmp_path, plan, kill_after=kill_after)
    resumed, _ = run(models, cache, tmp_path, plan)
    assert resumed.resumed_from == 3 * ((kill_after - 1) // 3)
    assert torch.equal(weights_of(resumed), weights_of(unbroken))
    assert resumed.losses == unbroken.losses


def test_a_checkpoint_of_other_photos_or_settings_is_not_taken_up(
    models: ResidentModels, cache: Cache, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        run(models, cache, tmp_path, replace(PLAN, checkpoint_steps=3), kill_after=4)
    other, _ = run(models, replace(cache, digest="other"), tmp_path)
    assert other.resumed_from == 0


def test_cancelling_stops_within_one_step(models: ResidentModels, cache: Cache, tmp_path: Path) -> None:
    done: list[int] = []
    context = LocalContext(
        tmp_path, load_settings(), resident_models=models, on_progress=lambda step, *_: done.append(step)
    )
    context.cancelled = True
    with pytest.raises(Cancelled):
        train(
            models.family(FluxFamily),
            adapter_for(models.family(FluxFamily)),
            cache,
            PLAN,
            context,
            snapshot_dir=tmp_path / "kept",
        )
    assert done == []
    with pytest.raises(Cancelled):
        run(models, cache, tmp_path, cancel_after=2)


def test_a_run_that_is_asked_to_finish_hands_over_what_it_has_and_saves_it(
    models: ResidentModels, cache: Cache, unbroken: Trained, tmp_path: Path
) -> None:
    stopped, context = run(models, cache, tmp_path, finish_after=3)
    assert stopped.losses == unbroken.losses[:3]
    assert torch.equal(
        weights_of(stopped), weights_of(run(models, cache, tmp_path / "short", replace(PLAN, steps=3))[0])
    )
    kept = context.checkpoint.latest()
    assert kept is not None
    assert kept.step == 3


def test_draining_leaves_a_checkpoint_of_the_last_step(models: ResidentModels, cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(Drained):
        run(models, cache, tmp_path, drain_after=5)
    resumed, _ = run(models, cache, tmp_path)
    assert resumed.resumed_from == 5


def test_an_attempt_that_finds_all_steps_done_says_so(models: ResidentModels, cache: Cache, tmp_path: Path) -> None:
    run(models, cache, tmp_path)
    told: list[tuple[int, int]] = []
    context = LocalContext(
        tmp_path, load_settings(), resident_models=models, on_progress=lambda *at: told.append(at[:2])
    )
    train(
        models.family(FluxFamily),
        adapter_for(models.family(FluxFamily)),
        cache,
        PLAN,
        context,
        snapshot_dir=tmp_path / "kept",
    )
    assert told == [(PLAN.steps, PLAN.steps)]


def test_a_slow_disk_does_not_slow_the_steps(
    models: ResidentModels, cache: Cache, unbroken: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first checkpoint is not written before three more steps were taken."""
    taken, held, put_path = threading.Event(), [], Objects.put_path

    def slowly(self: Objects, key: str, path: Path, *, move: bool = False) -> int:
        held.append(taken.wait(60))
        return put_path(self, key, path, move=move)

    monkeypatch.setattr(Objects, "put_path", slowly)
    context = LocalContext(
        tmp_path,
        load_settings(),
        resident_models=models,
        on_progress=lambda step, *_: taken.set() if step == 7 else None,
    )
    flux, plan = models.family(FluxFamily), replace(PLAN, checkpoint_steps=4)
    trained = train(flux, adapter_for(flux), cache, plan, context, snapshot_dir=tmp_path / "kept")
    assert held[0], "steps were taken meanwhile"
    assert torch.equal(weights_of(trained), weights_of(unbroken))
    found = context.checkpoint.latest()
    assert found is not None
    assert found.step == PLAN.steps, "the last one was waited for"


def test_time_alone_makes_a_checkpoint_due(models: ResidentModels, cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(models, cache, tmp_path, checkpoint_seconds=0, kill_after=4)
    resumed, _ = run(models, cache, tmp_path)
    assert 1 <= resumed.resumed_from <= 3


class OnFullDisk(ObjectCheckpoints):
    """Where nothing more can be written."""

    def save(self, step: int, write: Callable[[Path], object]) -> None:
        def fails(folder: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        super().save(step, fails)


def test_a_full_disk_costs_the_checkpoints_and_not_the_run(
    models: ResidentModels, cache: Cache, unbroken: Trained, tmp_path: Path
) -> None:
    said: list[str] = []
    context = LocalContext(
        tmp_path, load_settings(), resident_models=models, on_log=lambda _, message: said.append(message)
    )
    context.checkpoint = OnFullDisk(Objects.open(str(tmp_path / "objects")), "r", tmp_path / "full")
    flux, plan = models.family(FluxFamily), replace(PLAN, checkpoint_steps=3)
    trained = train(flux, adapter_for(flux), cache, plan, context, snapshot_dir=tmp_path / "kept")
    assert trained.losses == unbroken.losses
    assert sum("the disk is full" in message for message in said) == 3
    assert context.checkpoint.latest() is None


def test_a_run_that_is_made_longer_goes_on_and_ends_with_the_bits_of_one_that_was_always_that_long(
    models: ResidentModels, cache: Cache, unbroken: Trained, tmp_path: Path
) -> None:
    run(models, cache, tmp_path, replace(PLAN, steps=5))
    longer, _ = run(models, cache, tmp_path)
    assert longer.resumed_from == 5
    assert torch.equal(weights_of(longer), weights_of(unbroken))
    assert longer.losses == unbroken.losses


def test_the_transformer_is_bare_after_training(models: ResidentModels, unbroken: Trained) -> None:
    assert not any("down" in name for name, _ in models.family(FluxFamily).load_transformer().named_parameters())


def test_training_lowers_the_loss(models: ResidentModels, cache: Cache, tmp_path: Path) -> None:
    flux = models.family(FluxFamily)
    few = replace(cache, items=cache.items[:1])
    trained, _ = run(models, few, tmp_path, replace(PLAN, steps=40, learning_rate=5e-3))
    assert sum(trained.losses[-10:]) < 0.9 * sum(trained.losses[:10])
    assert flux.weights.miniature


def test_one_bad_loss_is_skipped_and_counted(models: ResidentModels, cache: Cache, tmp_path: Path) -> None:
    spoilt = replace(cache.items[0], latents=torch.full_like(cache.items[0].latents, math.nan))
    plan = replace(PLAN, batch_size=1, steps=6)
    trained, _ = run(models, replace(cache, items=[spoilt, *cache.items[1:]]), tmp_path, plan)
    assert trained.skipped == 1
    assert torch.isfinite(weights_of(trained)).all()


def test_losses_that_are_read_late_change_nothing(models: ResidentModels, cache: Cache, tmp_path: Path) -> None:
    """As on a GPU: bad steps are skipped where they are computed, and counted when somebody looks."""
    spoilt = replace(cache.items[0], latents=torch.full_like(cache.items[0].latents, math.nan))
    some_spoilt = replace(cache, items=[spoilt, *cache.items[1:]])
    flux, plan = models.family(FluxFamily), replace(PLAN, batch_size=1, steps=24, checkpoint_steps=7)
    trained, told = [], []
    for every in (1, 10):
        steps: list[int] = []
        context = LocalContext(
            tmp_path / str(every),
            load_settings(),
            resident_models=models,
            on_progress=lambda step, *_, steps=steps: steps.append(step),
        )
        adapter, kept = adapter_for(flux), tmp_path / f"kept-{every}"
        trained.append(train(flux, adapter, some_spoilt, plan, context, snapshot_dir=kept, steps_a_reading=every))
        told.append(steps)
    one, other = trained
    assert one.skipped == other.skipped > 1
    assert torch.equal(weights_of(one), weights_of(other))
    assert [str(loss) for loss in one.losses] == [str(loss) for loss in other.losses]
    assert told == [[*range(1, 25)], [7, 14, 21, 24]], "also before each checkpoint"


def test_a_loss_that_stays_bad_is_noticed_when_losses_are_read(
    models: ResidentModels, cache: Cache, tmp_path: Path
) -> None:
    spoilt = [replace(item, latents=torch.full_like(item.latents, math.inf)) for item in cache.items]
    taken: list[int] = []
    flux, adapter = models.family(FluxFamily), adapter_for(models.family(FluxFamily))
    context = LocalContext(
        tmp_path, load_settings(), resident_models=models, on_log=lambda *said: taken.append("skipped" in said[1])
    )
    before = adapter.weights.detach().clone()
    with pytest.raises(NonFiniteLoss, match=f"{MOST_BAD_STEPS} times in a row, up to step {MOST_BAD_STEPS}"):
        train(
            flux,
            adapter,
            replace(cache, items=spoilt),
            replace(PLAN, steps=50),
            context,
            snapshot_dir=tmp_path / "kept",
            steps_a_reading=10,
        )
    assert torch.equal(adapter.weights, before)
    assert sum(taken) == MOST_BAD_STEPS


def test_a_loss_that_stays_bad_ends_the_run_with_a_remedy(models: ResidentModels, cache: Cache, tmp_path: Path) -> None:
    spoilt = [replace(item, latents=torch.full_like(item.latents, math.inf)) for item in cache.items]
    with pytest.raises(NonFiniteLoss, match="Lower learning_rate"):
        run(models, replace(cache, items=spoilt), tmp_path, replace(PLAN, steps=50))


def test_kept_files_survive_a_kill_with_the_checkpoint(models: ResidentModels, cache: Cache, tmp_path: Path) -> None:
    plan = replace(PLAN, checkpoint_steps=4, keep_every=2)
    kept = tmp_path / "first"

    def on_snapshot(step: int, lora: Lora) -> bool:
        if step == 6:
            raise Killed
        (kept / f"{step}.png").write_text("x")
        return False

    context = LocalContext(tmp_path, load_settings(), resident_models=models)
    with pytest.raises(Killed):
        train(
            models.family(FluxFamily),
            adapter_for(models.family(FluxFamily)),
            cache,
            plan,
            context,
            snapshot_dir=kept,
            on_snapshot=on_snapshot,
        )
    assert sorted(path.stem for path in kept.iterdir()) == ["2", "4"]
    elsewhere = tmp_path / "second"
    train(
        models.family(FluxFamily), adapter_for(models.family(FluxFamily)), cache, plan, context, snapshot_dir=elsewhere
    )
    assert sorted(path.stem for path in elsewhere.iterdir()) == ["2", "4"], "what the checkpoint of step 4 held"


def test_whatever_ends_the_process_after_the_last_step_costs_no_step(
    models: ResidentModels, cache: Cache, unbroken: Trained, tmp_path: Path
) -> None:
    """Proof, export and samples take minutes on a real model; a drain then must not lose the training."""
    run(models, cache, tmp_path)
    again, _ = run(models, cache, tmp_path)
    assert again.resumed_from == PLAN.steps
    assert torch.equal(weights_of(again), weights_of(unbroken))
    assert again.steps_per_second > 0, "of the attempt that took the steps"


def test_drawing_at_a_kept_checkpoint_leaves_the_training_alone_and_is_taken_up_again(
    models: ResidentModels, cache: Cache, unbroken: Trained, tmp_path: Path
) -> None:
    plan, drawn = replace(PLAN, keep_every=3), []
    context = LocalContext(tmp_path, load_settings(), resident_models=models)
    flux, adapter = models.family(FluxFamily), adapter_for(models.family(FluxFamily))

    def on_snapshot(step: int, lora: Lora) -> bool:
        if step == 6 and 6 not in drawn:
            drawn.append(step)
            raise Drained()
        path = tmp_path / f"{step}.safetensors"
        write_lora(lora, FLUX_KEYS, path, form="diffusers", dtype=torch.float32, header={})
        inference = models.inference(FluxInference)
        inference.apply_loras([LoraRequest(path)])
        inference.generate(FluxImageRequest("TOK", 512, 512, steps=1), [0])
        drawn.append(step)
        return False

    with pytest.raises(Drained):
        train(flux, adapter, cache, plan, context, snapshot_dir=tmp_path / "kept", on_snapshot=on_snapshot)
    adapter = adapter_for(flux)
    trained = train(flux, adapter, cache, plan, context, snapshot_dir=tmp_path / "kept", on_snapshot=on_snapshot)
    assert drawn == [3, 6, 6]
    assert torch.equal(weights_of(trained), weights_of(unbroken))


def test_training_in_bf16_sees_the_losses_of_fp32_but_for_rounding(
    models: ResidentModels, cache: Cache, unbroken: Trained, tmp_path: Path
) -> None:
    """The precision of the real model; what it comes to after hundreds of steps is tests/quality's."""
    half = FluxFamily(models.family(FluxFamily).weights, torch.device("cpu"), torch.bfloat16)
    context = LocalContext(tmp_path, load_settings(), resident_models=models)
    trained = train(half, adapter_for(half), cache, PLAN, context, snapshot_dir=tmp_path / "kept")
    assert trained.skipped == 0
    assert weights_of(trained).dtype == torch.float32
    assert trained.losses == pytest.approx(unbroken.losses, rel=0.03)
    assert trained.losses != unbroken.losses
