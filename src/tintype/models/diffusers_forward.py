"""Diffusers' own forward pass for training: some of its blocks recomputed in the backward pass, or compiled.

On a GPU over many steps this, compiled, is the fastest order of work; elsewhere each family has one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputing(transformer: Any, blocks: Sequence[Any]) -> Iterator[None]:
    """These blocks keep only their input for the backward pass and run again there."""
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


@contextmanager
def compiling(blocks: Sequence[Any]) -> Iterator[None]:
    """Compiles these blocks, once per kind and shape; where compiling fails, a block runs as it is."""
    for block in blocks:
        block.compile(dynamic=False)
    try:
        with torch._dynamo.config.patch(suppress_errors=True):  # a machine without a compiler trains all the same
            yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None
