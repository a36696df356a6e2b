"""Jobs without a model, so that processes can be killed at any step: they count, sleep, checkpoint and misbehave."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import cast

from tintype.catalog import Endpoint, EndpointInput, EndpointOutput, File, Kind
from tintype.errors import Drained, NonFiniteLoss, OutOfMemoryAtLoad
from tintype.job import JobContext
from tintype.worker.context import PipeContext


class StepsInput(EndpointInput):
    steps: int = 3
    seconds: float = 0.01  # of each step
    checkpoint_every: int = 0
    die_at: int = -1  # dies by SIGKILL at this step
    die_once: bool = True  # only while there is no checkpoint
    fail: str = ""  # job, memory, hoard, torch, abort, fault
    deaf: bool = False  # never asks whether it was cancelled
    noisy: bool = False
    publish: bool = False
    read: str = ""  # a file to fetch after the last step
    memory: int = 0  # bytes of the device, asked for before the first step
    loads: int = 0  # attempts in which memory runs out while a model is loaded


class StepsOutput(EndpointOutput):
    resumed_at: int
    steps: int
    pid: int
    file: File | None = None
    absolute: str = ""


def run(input: StepsInput, context: JobContext) -> StepsOutput:
    found = context.checkpoint.latest()
    begun = int((found.path / "step").read_text()) if found else 0
    if input.noisy:
        print("a library prints to stdout")
        os.write(1, b"and writes to the descriptor\n")
        print("and warns", file=sys.stderr)
    _fail(input.fail)
    _load(input, context)
    context.log(f"counting to {input.steps}")
    for step in range(begun, input.steps):
        if not input.deaf:
            _stop_if_asked(step, context)
        if step == input.die_at and not (input.die_once and found):
            print("last words", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(input.seconds)
        done = step + 1
        context.progress(done, input.steps, loss=1 / done)
        if input.checkpoint_every and done % input.checkpoint_every == 0:
            _save(done, context)
    if input.read:
        context.check_readable(input.read)
        context.log(f"read {context.fetch(input.read).read_text()}")
    output = StepsOutput(resumed_at=begun, steps=input.steps, pid=os.getpid())
    if input.publish:
        path = context.scratch / "counted.txt"
        path.write_text(str(input.steps))
        output.file = context.publish(path, "text/plain")
        output.absolute = context.absolute(output.file).url
    return output


def _load(input: StepsInput, context: JobContext) -> None:
    if input.memory:
        cast(PipeContext, context).ask_memory(input.memory, input.memory, "counting")
    tries = len(list(context.lasting.iterdir()))
    if tries < input.loads:
        (context.lasting / str(tries)).touch()
        raise OutOfMemoryAtLoad("Memory of the device ran out while the encoders were loaded.")


def _stop_if_asked(step: int, context: JobContext) -> None:
    try:
        context.raise_if_cancelled()
    except Drained:
        _save(step, context)
        raise


def _save(step: int, context: JobContext) -> None:
    context.checkpoint.save(step, lambda folder: (folder / "step").write_text(str(step)))


def _fail(how: str) -> None:
    if how == "job":
        raise NonFiniteLoss("The loss was not finite.", remedy="Lower the learning rate.")
    if how == "memory":
        raise MemoryError
    if how == "hoard":
        kept = [bytearray(64 << 20) for _ in range(64)]
        raise AssertionError(f"4 GiB were to be had: {len(kept)}")
    if how == "torch":
        import torch

        torch.ones(1 << 30)
    if how == "abort":
        print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
        os.abort()
    if how == "fault":
        raise KeyError("a secret detail")


def decompose(input: StepsInput, context: JobContext) -> StepsOutput:
    """One torch operation that takes many seconds: the main thread is away in compiled code all the while."""
    import torch

    huge = torch.rand(4_000, 4_000)
    context.log("decomposing")
    torch.linalg.svd(huge)
    return StepsOutput(resumed_at=0, steps=0, pid=os.getpid())


def _endpoint(name: str, kind: Kind, job: str = "run") -> Endpoint:
    return Endpoint(
        id=f"test/{name}", title=name, category="test", kind=kind, description="Counts.",
        input=StepsInput, output=StepsOutput, job=f"{__name__}:{job}", base="tiny",
    )  # fmt: skip


ENDPOINTS = (
    _endpoint("training", "training"),
    _endpoint("inference", "inference"),
    _endpoint("torch", "training", "decompose"),
)
