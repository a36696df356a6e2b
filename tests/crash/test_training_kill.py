"""A real training in real processes, killed with SIGKILL at five random steps, one of them while a thread writes a
checkpoint and steps go on: it ends with the very bits of a run that nothing disturbed. Killed while a step is scored,
it goes on from there.

The attempts are forked from one process that has done the imports, which cost far more than these few steps.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

STEPS = 24
EVERY = 4  # steps between checkpoints
KILLS = 5

PROGRAM = f"""
import os, pathlib, sys, time, traceback
import torch
torch.set_num_threads(1)
from PIL import Image
from tintype.models.flux.model import FluxFamily
from tintype.dataset import Bucket, Dataset, DatasetReport, Example
from tintype.jobs.resident_models import ResidentModels
from tintype.jobs.local import LocalContext
from tintype.files import Objects
from tintype.settings import load_settings
from tintype.lora.adapter import Adapter
from tintype.training.cache import encode_once
from tintype.training.loop import Plan, train

settings = load_settings(flux_base="miniature", device="cpu", checkpoint_seconds=1e9)
models = ResidentModels(settings, "cpu")
# Read once; each attempt has a copy of its own. The library reads with threads, which after a fork sometimes find those
# that torch had before it.
models.family(FluxFamily).load_transformer()
models.family(FluxFamily).load_encoders()

def stop_here(what):
    print(what, flush=True)
    time.sleep(600)

def attempt(folder, at_step, in_checkpoint, scored):
    put_path = Objects.put_path

    def put_half(self, key, path, *, move=False):
        if in_checkpoint and path.suffix == ".safetensors":  # what came before it is stored already
            os.truncate(path, path.stat().st_size // 2)
            stop_here("in a checkpoint")
        return put_path(self, key, path, move=move)

    def each(step, total, metrics):
        if step == at_step:
            stop_here("at the step")

    def score(step, lora):
        ends = time.monotonic() + 20
        while not list((folder / "objects").rglob(f"{{step}}-*.json")) and time.monotonic() < ends:
            time.sleep(0.01)  # the checkpoint is written meanwhile
        stop_here("in the scores")

    Objects.put_path = put_half
    context = LocalContext(folder, settings, resident_models=models, on_progress=each)
    flux = models.family(FluxFamily)
    examples = [Example(c, Image.new("RGB", (512, 512), c), "TOK", (Bucket(512, 512),)) for c in ("red", "blue")]
    cache = encode_once(flux, Dataset(examples, DatasetReport()), folder / "latents")
    adapter = Adapter.for_transformer(
        flux.load_transformer(), flux.adapter_targets, rank=2, seed=0, device=flux.device)
    plan = Plan(steps={STEPS}, learning_rate=2e-3, warmup_steps=5, checkpoint_steps=None if scored else {EVERY},
                score_at=(scored,) if scored else ())
    trained = train(flux, adapter, cache, plan, context, snapshot_dir=folder / "kept", on_snapshot=score)
    torch.save({{"weights": trained.lora.state, "losses": trained.losses}}, folder / "result.pt")
    print("finished from", trained.resumed_from, flush=True)

for line in sys.stdin:
    place, at_step, in_checkpoint, scored = line.split()
    pathlib.Path(place).mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            print("pid", os.getpid(), flush=True)
            attempt(pathlib.Path(place), int(at_step), in_checkpoint == "True", int(scored))
        except BaseException:
            print("failed", traceback.format_exc().replace(chr(10), " | "), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    print("gone", flush=True)
"""


class Nursery:
    """Starts attempts, one at a time, and kills them where they were told to stop."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )

    def attempt(self, folder: Path, at_step: int = 0, in_checkpoint: bool = False, scored: int = 0) -> str:
        """What the attempt said before it was killed, or at its end."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{folder} {at_step} {in_checkpoint} {scored}\n")
        self.process.stdin.flush()
        pid = int(self._line().removeprefix("pid "))
        said = self._line()
        if said in ("at the step", "in a checkpoint", "in the scores"):
            os.kill(pid, signal.SIGKILL)
        assert self._line() == "gone"
        return said

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    started = Nursery()
    try:
        yield started
    finally:
        os.killpg(started.process.pid, signal.SIGKILL)
        started.process.communicate()


def test_five_kills_change_not_one_bit_of_the_weights(nursery: Nursery, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10_000)
    print(f"seed {seed}")  # shown when the test fails
    generator = random.Random(seed)
    steps, writing = sorted(generator.sample(range(1, STEPS), KILLS)), generator.randrange(KILLS)
    broken, written = tmp_path / "broken", {0}
    for number, step in enumerate(steps):
        if number == writing:
            assert nursery.attempt(broken, in_checkpoint=True) == "in a checkpoint"
        else:
            assert nursery.attempt(broken, at_step=step) == "at the step"
            due = EVERY * ((step - 1) // EVERY)
            # What was due last may still have been on its way; what was due before it was waited for.
            written = {max(min(written), due - EVERY), due} if due > max(written) else written
    assert nursery.attempt(broken) in {f"finished from {step}" for step in written}

    unbroken = tmp_path / "unbroken"
    assert nursery.attempt(unbroken) == "finished from 0"
    one, other = (torch.load(folder / "result.pt") for folder in (broken, unbroken))
    assert one["weights"].keys() == other["weights"].keys()
    assert all(torch.equal(factor, other["weights"][key]) for key, factor in one["weights"].items())
    assert one["losses"] == other["losses"]


def test_killed_in_the_scores_or_after_the_last_step_nothing_is_trained_again(nursery: Nursery, tmp_path: Path) -> None:
    assert nursery.attempt(tmp_path, scored=STEPS // 2 + 1) == "in the scores"
    assert nursery.attempt(tmp_path) == f"finished from {STEPS // 2 + 1}"
    assert nursery.attempt(tmp_path) == f"finished from {STEPS}"
