"""How much memory generating takes, by arithmetic: what the networks' files become, what a step and a decoding need.

The plan follows what Placement does, for a device that is here as for a card that someone thinks of buying.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tintype.lora.keys import TEXT
from tintype.models.contents import quantisation, read_entries
from tintype.models.placement import ENCODERS, HEADROOM, LEAVING, TRANSFORMER, UNCONDITIONAL, demand, leaving
from tintype.models.weights import ROUNDED

if TYPE_CHECKING:
    from tintype.models.family import Family

# Counted on the meta device (tests/models/test_generating_memory.py): of a pixel while it is decoded or encoded; both
# autoencoders are alike but for their ends.
_DECODED_VALUES = 768
_MOST_TEXT = 512  # tokens of a prompt that are planned for
TILE = 1024  # nominal pixels: both autoencoders' own size, in whose pieces diffusers decodes


def part_bytes(family: Family) -> dict[str, int]:
    """Counts what networks take once they are loaded, by the names of placement; those that are not, by files."""
    parts, loaded = family.spec.parts, family.placement.sizes()
    named = {ENCODERS: [part for part in parts if f"{part}." in TEXT]}
    named |= {name: [name] for name in (TRANSFORMER, UNCONDITIONAL) if name in parts}
    return {
        name: loaded[name] if name in loaded else sum(file_bytes(family, folder) for folder in folders)
        for name, folders in named.items()
    }


def file_bytes(family: Family, name: str) -> int:
    """Counts the bytes that the files of a part become; packed weights stay so."""
    part = family.weights.part(name)
    if part.path.suffix == ".gguf" or quantisation(part.path):
        return sum(path.stat().st_size for path in part.files)
    entries = [(key, entry) for path in part.files for key, entry in read_entries(path).items()]
    values = sum(math.prod(entry.shape) for key, entry in entries if key.startswith(part.prefix))
    stored = 8.0 * family.dtype.itemsize
    bits = ROUNDED.get(family.weights.precision, stored) if name in (TRANSFORMER, UNCONDITIONAL) else stored
    return int(values * bits / 8)


def step_bytes(family: Family, width: int, height: int) -> int:
    """Predicts what a step of generating an image of a nominal size takes beside the networks."""
    config, (wide, high) = family.outline().config, family.true_size(width, height)
    tokens = min(family.max_sequence_length, _MOST_TEXT) + wide * high // family.token_pixels**2
    values = tokens * config.num_attention_heads * config.attention_head_dim * family.streams
    return int(values * family.dtype.itemsize)


def decoding_bytes(family: Family, width: int, height: int) -> int:
    """Predicts what decoding an image of a nominal size, or encoding one, takes beside the autoencoder."""
    wide, high = family.true_size(width, height)
    return wide * high * _DECODED_VALUES * family.dtype.itemsize


def tile_bytes(family: Family, width: int, height: int) -> int:
    """Predicts what decoding in pieces takes, of which none is larger than what the autoencoder was trained on."""
    return decoding_bytes(family, min(width, TILE), min(height, TILE))


@dataclass(frozen=True)
class GeneratingPlan:
    """How images are generated within some bytes: what leaves, and how much comes back over the bus for it."""

    needed: int  # bytes at the fullest
    fits: bool
    leaves: tuple[str, ...]
    streams: bool  # the encoders' layers come one by one
    tiled: bool  # images are decoded in pieces
    for_prompt: int  # bytes that come back for each new prompt
    for_step: int  # and for each step

    @property
    def how(self) -> str:
        """Says it in a table's cell; empty where all stays."""
        one = self.for_step > 0
        parts = (
            (self.streams, "encoders layer by layer"),
            (ENCODERS in self.leaves and not self.streams, "encoders leave"),
            (one, "one network at a time"),
            (self.tiled, "tiled"),
        )
        return ", ".join(words for holds, words in parts if holds)


def plan_of(
    sizes: Mapping[str, int], stays: int, generating: int, decoding: int, room: int, tile: int = 0
) -> GeneratingPlan:
    """Plans within `room` bytes, as `Placement` will do it; `sizes` names what may leave, `stays` counts the rest.

    `generating` and `decoding` are the bytes that a step and an image's decoding take beside the networks, `tile` those
    of decoding a piece.
    """
    room -= demand([stays], 0)
    streams = demand([sizes[ENCODERS]], 0) > room
    networks = [name for name in (TRANSFORMER, UNCONDITIONAL) if name in sizes]
    tiled = decoding > room
    phases: list[tuple[str, list[str], int]] = [
        ("prompt", [] if streams else [ENCODERS], 0),
        ("first step", networks, generating),
        ("step", networks, generating),
        ("step", networks, generating),
        ("decoding", [], tile if tiled else decoding),
    ]
    here: list[str] = []
    needed, brought, left = 0, dict[str, int](), set[str]()
    for _ in range(2):  # what happens over again
        brought = dict.fromkeys(("prompt", "first step", "step", "decoding"), 0)
        for kind, wanted, extra in phases:
            for one in sorted(wanted, key=lambda name: name not in here) or [""]:  # what is here computes first
                alone = [one] if one else []
                gone = leaving(sizes, here, alone, extra, room)
                left.update(gone)
                brought[kind] += sum(sizes[name] for name in alone if name not in here)
                here = [*(name for name in here if name not in gone), *(name for name in alone if name not in here)]
                needed = max(needed, demand([sizes[name] for name in here], extra))
    streamed = sizes[ENCODERS] if streams else 0
    return GeneratingPlan(
        needed=needed + demand([stays], 0),
        fits=needed <= room,
        leaves=tuple(name for name in LEAVING if name in left),
        streams=streams,
        tiled=tiled,
        for_prompt=brought["prompt"] + brought["first step"] - brought["step"] // 2 + streamed,
        for_step=brought["step"] // 2,
    )


def plan_generating(family: Family, width: int, height: int) -> GeneratingPlan:
    """Plans how an image of a nominal size is generated in the memory that the device has now."""
    sizes, stays = part_bytes(family), 0 if family.has_encoders else file_bytes(family, "vae")
    if family.placement.free is None:
        stays, sizes = stays + sum(sizes.values()), dict.fromkeys(sizes, 0)
    needs = step_bytes(family, width, height), decoding_bytes(family, width, height)
    return plan_of(sizes, stays, *needs, family.placement.room(), tile_bytes(family, width, height))


def generating_demand(family: Family, width: int, height: int) -> tuple[int, int]:
    """Counts the bytes beside what is on the device now with which an image of a nominal size is generated and nothing
    leaves, and the fewest that will do: one network at a time, where any ever leaves."""
    sizes, stays = part_bytes(family), 0 if family.has_encoders else file_bytes(family, "vae")
    step, decoding = step_bytes(family, width, height), decoding_bytes(family, width, height)
    most = demand([stays, *sizes.values()], max(step, decoding))
    networks = [size for name, size in sizes.items() if name != ENCODERS]
    alone = max(demand([stays, max(networks)], step), demand([stays], tile_bytes(family, width, height)))
    least = most if family.placement.free is None else alone
    here = sum(family.placement.sizes(here=True).values())
    return max(0, math.ceil(most / HEADROOM) - here), max(0, math.ceil(least / HEADROOM) - here)


def training_demand(family: Family) -> int:
    """Counts the bytes beside what is on the device now that a training takes before its first step."""
    sizes, here = part_bytes(family), family.placement.sizes(here=True)
    encoders = 0 if family.has_encoders else sizes[ENCODERS] + file_bytes(family, "vae")
    network = 0 if TRANSFORMER in here else sizes[TRANSFORMER]
    return demand([encoders, network] if family.keeps_all else [max(encoders, network)], 0)
