"""How the blocks of diffusers' transformers run in training: once more in the backward pass, or as compiled graphs.

One call of torch.compile for each kind of block serves all blocks of that kind, whatever their weights, and every
number of tokens. No setting of the compiler is changed: since torch 2.12 settings belong to the thread that makes them,
and the backward pass of a GPU, which runs recomputed blocks again, is another thread. What is asked for goes with the
call instead.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

_STREAMS = ("hidden_states", "encoder_hidden_states")  # diffusers' names of what passes from block to block


class NothingCompiled(RuntimeError):
    """Blocks ran, and torch compiled none of them."""


class BlockCompiler:
    """Compiles the blocks of one run, and counts the `graphs` that came of it.

    What was compiled before in this process is forgotten: its number is limited, and other runs would use it up. A
    compiled block that cannot be one graph, or would need more of them than torch's limit, raises.
    """

    def __init__(self) -> None:
        torch.compiler.reset()
        self.graphs = 0
        self._compiled: dict[type, Callable[..., Any]] = {}
        self._backend = torch.compiler.get_default_backend()

    @contextmanager
    def compiling(self, blocks: Sequence[Any]) -> Iterator[None]:
        """Makes these blocks, in the order of the forward pass, run compiled."""
        for place, block in enumerate(blocks):
            block.forward = functools.partial(self._entered if place == 0 else self._called, block)
        try:
            yield
        finally:
            for block in blocks:
                del block.forward

    def _entered(self, block: Any, *args: Any, **kwargs: Any) -> Any:
        """Runs the first block. What enters it has no gradient and may be a view: that alone would be another graph."""
        given = inspect.signature(type(block).forward).bind(block, *args, **kwargs)
        if torch.is_grad_enabled():
            streams = {name: given.arguments[name] for name in _STREAMS if name in given.arguments}
            given.arguments.update((name, stream.clone().requires_grad_()) for name, stream in streams.items())
        out = self._called(*given.args, **given.kwargs)
        if not self.graphs:
            raise NothingCompiled("torch.compile is switched off in this process")
        return out

    def _called(self, block: Any, *args: Any, **kwargs: Any) -> Any:
        kind = type(block)
        if kind not in self._compiled:
            self._compiled[kind] = torch.compile(kind.forward, dynamic=True, fullgraph=True, backend=self._counted)
        return self._compiled[kind](block, *args, **kwargs)

    def _counted(self, graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        from torch._dynamo.backends.registry import lookup_backend  # a second, which only a compiled run should pay

        compiled: Callable[..., Any] = lookup_backend(self._backend)(graph, inputs)
        self.graphs += 1  # not before: a backend may ask for another try by raising
        return compiled


@contextmanager
def recomputing(transformer: Any, blocks: Sequence[Any]) -> Iterator[None]:
    """Makes these blocks keep only their input for the backward pass and run again there."""
    chosen = {id(block) for block in blocks}

    def run(block: Any, *inputs: Any) -> Any:
        if id(block) in chosen:
            return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return block(*inputs)

    if chosen:
        transformer.enable_gradient_checkpointing(run)
    try:
        yield
    finally:
        transformer.disable_gradient_checkpointing()
