"""Where a base model's networks are: on the device where it holds them all, else there only while they compute.

Text is encoded, then latents are made, then they are decoded: nothing of that needs all networks at once. Which of them
leave is arithmetic on bytes, the same for a card that is planned for and for the device that is here. What leaves lies
in host memory until it is needed again; a network is frozen, so after the first time only the way back is a copy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from tintype.devices import free_bytes
from tintype.errors import OutOfMemory

WORKSPACE = 0.06  # of the weights: transposed pieces, the allocator's own rounding
HEADROOM = 0.92  # of what is free; the rest is fragmentation

# What may leave, as bytes are counted by; the first of these leaves first.
ENCODERS, UNCONDITIONAL, TRANSFORMER = "text encoders", "unconditional_transformer", "transformer"
LEAVING = (ENCODERS, UNCONDITIONAL, TRANSFORMER)
_NOTHING = 127  # in packed bytes; as e4m3 it is no number


class Offload:
    """Networks whose matrices are on the device, or in host memory with a placeholder on the device.

    Shapes and devices read the same in both states; vectors, a thousandth of the bytes, never leave. Whatever is
    computed with a network that is away is not a number.
    """

    def __init__(self, device: torch.device, networks: Iterable[torch.nn.Module]) -> None:
        self._device = device
        self._networks = list(networks)
        self._kept: dict[torch.Tensor, torch.Tensor] = {}  # by the network's own: what host memory has
        self.is_here = True

    @property
    def size(self) -> int:
        """Counts the matrices' bytes, wherever they are."""
        return sum(matrix.nbytes for matrix in self._matrices())

    def add(self, network: torch.nn.Module) -> None:
        """Adds a network that is on the device and comes and goes with the others."""
        self.bring()
        self._networks.append(network)

    def bring(self) -> None:
        """Copies to the device what was away."""
        for matrix, kept in {} if self.is_here else self._kept.items():
            matrix.data = kept.to(self._device)
        self.is_here = True

    def leave(self) -> None:
        """Frees the device's memory. LoRAs come and go: what is not known yet is copied, what is gone forgotten."""
        if not self.is_here:
            return
        known = self._kept
        short = sum(matrix.nbytes for matrix in self._matrices() if matrix not in known) - free_bytes()
        if short > 0:
            raise OutOfMemory(
                f"Host memory is {-(-short // 2**20)} MiB short of what a network takes that has to leave the device.",
                remedy="Free host memory, or take a smaller form of the base: TINTYPE_PRECISION (`tintype plan`).",
            )
        self._kept = {matrix: known[matrix] if matrix in known else _in_host(matrix) for matrix in self._matrices()}
        for matrix in self._kept:
            nothing = torch.nan if matrix.is_floating_point() else _NOTHING
            matrix.data = torch.full((), nothing, dtype=matrix.dtype, device=self._device).expand(matrix.shape)
        self.is_here = False

    def _matrices(self) -> Iterator[torch.Tensor]:
        """Each once. Tensors made of tensors cannot be replaced by a placeholder and stay."""
        tensors = [tensor for network in self._networks for tensor in (*network.parameters(), *network.buffers())]
        for tensor in dict.fromkeys(tensors):
            if tensor.dim() > 1 and not hasattr(tensor, "__tensor_flatten__"):
                yield tensor


def _in_host(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.data.to("cpu")


class Placement:
    """The networks of one base model that are loaded. `free` counts the bytes that can still be had on the device.

    It is None where host memory is the device's own, and nothing ever leaves.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        own = device.type in ("cuda", "xpu")
        self.free: Callable[[], int] | None = functools.partial(free_bytes, device) if own else None
        self._loaded: dict[str, Offload] = {}
        self._drops: dict[str, Callable[[], bool]] = {}
        self.moved = 0  # bytes that came back to the device so far

    def add(self, name: str, *networks: Any, drop: Callable[[], bool] = lambda: False) -> None:
        """Takes up what was loaded onto the device; what was there by this name is forgotten.

        `drop` lets go of it where host memory is short, if whoever loaded it can do so and read it again.
        """
        self._loaded[name] = Offload(self._device, networks)
        self._drops[name] = drop

    def join(self, name: str, network: Any) -> None:
        """Makes another network come and go with these, which someone keeps from now on."""
        self._loaded[name].add(network)
        self._drops.pop(name, None)

    def has(self, name: str) -> bool:
        """Tells whether these are loaded and come and go as a whole."""
        return name in self._loaded

    def is_here(self, name: str) -> bool:
        """Tells whether these are on the device, or nothing is known of them."""
        return name not in self._loaded or self._loaded[name].is_here

    def forget(self, *names: str) -> None:
        """Forgets what is no longer loaded."""
        for name in names:
            self._loaded.pop(name, None)
            self._drops.pop(name, None)

    def is_streamed(self, size: int) -> bool:
        """Tells whether encoders of so many bytes would not fit even alone, so that their layers come one by one."""
        return self.free is not None and demand([size], 0) > self.room()

    def is_tiled(self, decoding: int) -> bool:
        """Tells whether decoding takes more bytes than there are with all networks away."""
        return self.free is not None and decoding > self.room()

    def bring(self, *names: str, extra: int = 0) -> None:
        """Sees to it that those of these that are loaded are on the device, with `extra` bytes free beside them."""
        wanted = [name for name in names if name in self._loaded]
        if self.free is None or (not extra and all(self._loaded[name].is_here for name in wanted)):
            return
        self._make_room({name: self._loaded[name].size for name in wanted}, extra)
        for name in wanted:
            if not self.is_here(name):
                self._loaded[name].bring()
                self.moved += self._loaded[name].size

    def make_room(self, name: str, size: int) -> None:
        """Makes room for what is about to be loaded, in bytes."""
        if self.free is not None:
            self._make_room({name: size}, 0)

    def room(self) -> int:
        """Counts the bytes that may be planned for, with all that could leave away."""
        free = self.free() if self.free else free_bytes(self._device)
        return int(HEADROOM * (free + sum(self.sizes(here=True).values())))

    def bring_all(self) -> bool:
        """Brings all that is loaded, if it fits at once; returns whether it does."""
        if self.free is None or demand(self.sizes().values(), 0) <= self.room():
            for one in self._loaded.values():
                one.bring()
        return all(one.is_here for one in self._loaded.values())

    @contextmanager
    def taking_turns(self) -> Iterator[None]:
        """Lets no two of them be on the device at once meanwhile, as if nothing else fitted."""
        free, self.free = self.free, lambda: -sum(self.sizes(here=True).values())
        try:
            yield
        finally:
            self.free = free
            self.bring_all()

    def sizes(self, *, here: bool = False) -> dict[str, int]:
        """Counts the bytes of what is loaded, or only of what is on the device."""
        return {name: one.size for name, one in self._loaded.items() if one.is_here or not here}

    def _make_room(self, wanted: Mapping[str, int], extra: int) -> None:
        here = self.sizes(here=True)
        for name in leaving({**here, **wanted}, list(here), list(wanted), extra, self.room()):
            try:
                self._loaded[name].leave()
            except OutOfMemory:
                self.forget(*(other for other, drop in list(self._drops.items()) if drop()))
                if name in self._loaded:
                    self._loaded[name].leave()


def demand(sizes: Iterable[int], extra: int) -> int:
    """Counts what weights of these sizes take, with `extra` bytes beside them."""
    return int(sum(sizes) * (1 + WORKSPACE)) + extra


def leaving(sizes: Mapping[str, int], here: Sequence[str], wanted: Sequence[str], extra: int, room: int) -> list[str]:
    """Chooses what of `here` leaves so that `wanted` fits into `room` bytes with `extra` beside it: as few as do."""
    staying, left = dict.fromkeys([*wanted, *here]), []
    for name in (name for name in LEAVING if name in here and name not in wanted):
        if demand([sizes[each] for each in staying], extra) <= room:
            break
        del staying[name]
        left.append(name)
    return left
