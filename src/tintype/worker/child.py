"""The compute child: holds the models of one lane and runs its jobs, one at a time, for a supervisor at its pipe.

Three things must hold whatever a job and its libraries do. The pipe stays clean: the original stdout is taken away
before anything else is imported, and prints end in the log. A cancel is heard: a thread reads the pipe while the main
thread computes. No orphan remains: the end of the pipe ends this process at once, mid-computation if need be.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import importlib
import json
import os
import queue
import resource
import shutil
import signal
import sys
import threading
import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydantic import BaseModel

from tintype.catalog import Endpoint, Kind
from tintype.errors import (
    Drained,
    Failure,
    InternalError,
    JobError,
    MemoryTaken,
    OutOfMemory,
    OutOfMemoryAtLoad,
    StorageUnavailable,
    TintypeError,
)
from tintype.files.disk import is_full, storage_full
from tintype.processes import end_own_group, keep_files_private
from tintype.settings import Settings, load_settings
from tintype.worker import messages
from tintype.worker.context import PipeContext, Signals
from tintype.worker.memory import too_little


class Pipe:
    """Holds the child's end: one JSON object a line. Sending is safe from any thread."""

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._lock = threading.Lock()

    def send(self, message: messages.FromChild) -> None:
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        try:
            with self._lock:
                self._outgoing.write(line)
                self._outgoing.flush()
        except BrokenPipeError:
            end_own_group()

    def read(self) -> messages.ToChild | None:
        """Reads the next message; None at the end of the pipe."""
        line = self._incoming.readline()
        return cast(messages.ToChild, json.loads(line)) if line else None


class Child:
    """Runs what the supervisor hands over, until told to stop."""

    def __init__(
        self, pipe: Pipe, lane: Kind, device: str, settings: Settings, endpoints: tuple[Endpoint, ...]
    ) -> None:
        self._pipe = pipe
        self._device = device
        self._settings = settings
        self._endpoints = {name: endpoint for endpoint in endpoints for name in (endpoint.id, *endpoint.aliases)}
        self._lane = lane
        self._tasks: queue.SimpleQueue[messages.Run | messages.Unload | None] = queue.SimpleQueue()
        self._signals = Signals()
        self._context: PipeContext | None = None  # of the job that runs
        self._resident_models: dict[bool, Any] = {}  # those of rehearsals apart
        self._importing = True

    def serve(self) -> None:
        """Imports the lane's jobs ahead of time, then runs what comes."""
        threading.Thread(target=self._listen, name="pipe", daemon=True).start()
        self._preload()
        self._importing = False
        self._pipe.send(messages.Ready(say="ready", device=self._device))
        while (task := self._tasks.get()) is not None:
            if task["say"] == "run":
                answer = self._answer(task)
                if answer["say"] == "lacked_memory":
                    self._unload()
                self._signals.forget(task["request_id"])
                self._pipe.send(answer)
                _let_go_of_memory()
            else:
                self._unload()
            self._say_what_is_held(unloaded=task["say"] == "unload")

    def _unload(self) -> None:
        for models in self._resident_models.values():
            models.unload()

    def _say_what_is_held(self, *, unloaded: bool) -> None:
        held = max((models.held_after_job() for models in self._resident_models.values()), default=0)
        self._pipe.send(messages.HoldsMemory(say="holds_memory", bytes=held, unloaded=unloaded))

    def _listen(self) -> None:
        while (message := self._pipe.read()) is not None:
            if message["say"] == "run" or message["say"] == "unload":
                self._tasks.put(message)
            elif message["say"] == "cancel":
                self._signals.cancel(message["request_id"])
            elif message["say"] == "finish":
                self._signals.finish(message["request_id"])
            elif message["say"] == "pause":
                self._signals.pause(message["request_id"])
            elif message["say"] == "file" or message["say"] == "memory":
                self._signals.answers.put(message)
            else:
                self._signals.stopping.set()
                self._tasks.put(None)
                if self._importing and self._tasks.qsize() == 1:
                    os._exit(0)  # nothing was begun, and imports take seconds
        end_own_group()

    def _preload(self) -> None:
        """Imports the lane's jobs, which takes seconds, before a person waits for them."""
        for endpoint in self._endpoints.values():
            if endpoint.kind == self._lane:
                try:
                    endpoint.load_job()
                except Exception:  # a job that cannot be imported fails with its own request, not with its neighbours'
                    traceback.print_exc()

    def _answer(self, run: messages.Run) -> messages.FromChild:
        """Runs one attempt to its end, whatever that is."""
        request_id = run["request_id"]
        print(f"--- {request_id} attempt {run['attempt']}: {run['endpoint_id']}", file=sys.stderr, flush=True)
        self._context = None
        try:
            context = self._context = PipeContext(
                run, self._settings, self._device,
                send=self._pipe.send, signals=self._signals,
                resident_models=partial(self._load_resident_models, run.get("is_rehearsal", False)),
            )  # fmt: skip
            context.raise_if_cancelled()
            output = self._run(run, context)
            return messages.Done(
                say="done", request_id=request_id, output=output.model_dump(mode="json"), files=context.published
            )
        except Drained:
            return messages.Drained(say="drained", request_id=request_id)
        except MemoryTaken:
            return messages.Waits(say="waits", request_id=request_id)
        except OutOfMemoryAtLoad as problem:
            return messages.LackedMemory(say="lacked_memory", request_id=request_id, message=problem.message)
        except Exception as problem:  # whatever a job raises ends this request and nothing else
            failure = _failure_of(problem, self._device)
            return messages.Failed(say="failed", request_id=request_id, failure=failure.to_json())
        finally:
            if self._context is not None:
                shutil.rmtree(self._context.scratch, ignore_errors=True)

    def _run(self, run: messages.Run, context: PipeContext) -> BaseModel:
        endpoint = self._endpoints.get(run["endpoint_id"].strip("/"))
        if endpoint is None:
            raise InternalError(f"This worker does not know {run['endpoint_id']}.", remedy="Restart `tintype serve`.")
        checkpoint = context.checkpoint.latest() if endpoint.kind == "training" else None
        if run["attempt"] > 1 or checkpoint is not None:
            place = f"from its checkpoint at step {checkpoint.step}" if checkpoint else "from the beginning"
            context.log(f"Attempt {run['attempt']} goes on {place}.")
        output: BaseModel = endpoint.load_job()(endpoint.parse(run["input"]), context)
        return output

    def _load_resident_models(self, is_rehearsal: bool) -> object:
        if is_rehearsal not in self._resident_models:
            module = importlib.import_module("tintype.jobs.resident_models")
            settings = self._settings.on_miniatures() if is_rehearsal else self._settings
            self._resident_models[is_rehearsal] = module.ResidentModels(settings, self._device, self._ask_memory)
        return cast(object, self._resident_models[is_rehearsal])

    def _ask_memory(self, most: int, least: int, what: str) -> int | None:
        """Asks in the name of the request that runs."""
        assert self._context is not None
        return self._context.ask_memory(most, least, what)


def _failure_of(problem: Exception, device: str) -> Failure:
    """Makes what the person is told; the trace of anything unforeseen stays in this machine's log."""
    if isinstance(problem, StorageUnavailable):  # the end of a request is final, and clients would repeat a 503
        return JobError(problem.message).failure()
    if isinstance(problem, TintypeError):
        return problem.failure()
    traceback.print_exception(problem)
    limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if _is_out_of_memory(problem) and type(problem).__name__ != "OutOfMemoryError" and limit != resource.RLIM_INFINITY:
        return too_little(limit).failure()
    if _is_out_of_memory(problem):
        return OutOfMemory(
            f"The job does not fit the memory of {device}.",
            remedy="Free memory on that machine. Where its models fit, smaller pictures or a lower rank need less.",
        ).failure()
    if is_full(problem):
        return storage_full().failure()
    return InternalError(
        "The job failed on a fault of ours.", remedy="The server's log of this request holds the details."
    ).failure()


def _is_out_of_memory(problem: Exception) -> bool:
    """Tells by name: this module runs without torch, and torch's CPU allocator has no class of its own."""
    kinds = {kind.__name__ for kind in type(problem).__mro__}
    return bool(kinds & {"MemoryError", "OutOfMemoryError"}) or "can't allocate memory" in str(problem)


def _let_go_of_memory() -> None:
    """Frees a job's images and gradients before the next one plans its memory."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def take_over_pipe() -> Pipe:
    """Moves stdin and stdout out of everyone's reach: prints go to the log, reads find nothing."""
    incoming, outgoing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    os.close(nothing)
    return Pipe(os.fdopen(incoming, "rb"), os.fdopen(outgoing, "wb"))


def endpoints_of(place: str) -> tuple[Endpoint, ...]:
    """Imports the endpoints named by `module:NAME`."""
    module, _, name = place.partition(":")
    return tuple(getattr(importlib.import_module(module), name))


def _volunteer_for_the_out_of_memory_killer() -> None:
    """Offers this process to Linux when memory runs out: losing it costs one attempt, losing another costs everyone."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def main() -> None:
    """Serves a supervisor until it is told to stop, or the pipe ends."""
    pipe = take_over_pipe()
    parser = argparse.ArgumentParser(prog="python -m tintype.worker.child", description="Runs jobs for a supervisor.")
    parser.add_argument("--lane", choices=("training", "inference"), required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--endpoints", default="tintype.catalog:ENDPOINTS", help="module:NAME of the endpoints served")
    options = parser.parse_args()
    keep_files_private()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's business: it drains
    faulthandler.enable()
    _volunteer_for_the_out_of_memory_killer()
    Child(pipe, options.lane, options.device, load_settings(), endpoints_of(options.endpoints)).serve()
    sys.stderr.flush()
    os._exit(0)  # compute libraries take seconds to tidy up what the system takes back anyway


if __name__ == "__main__":
    main()
