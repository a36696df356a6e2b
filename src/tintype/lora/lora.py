"""A LoRA: what is read from a file, what a training returns, and what export, proof and generating take."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from tintype.lora.keys import PREFIX, Entry, LoraKeys, some
from tintype.lora.origin import declared, guess
from tintype.lora.pairs import Pair
from tintype.lora.tensor_file import unusable

TRIGGER = "modelspec.trigger_phrase"  # in a file's header, as galleries read it


@dataclass(frozen=True)
class Lora:
    """Factors by the transformer's layers, in diffusers' names, and what a file says besides.

    `shifts` are added to vectors: to biases and to norms' weights, by their full names. `text` are factors of the text
    encoders' layers, whose names begin as in TEXT. `digest` is the file's, where someone has computed it; `form` says
    in words whose naming it follows. `text_keys` are those of text encoders that name none of the base model's layers.
    """

    pairs: Mapping[str, Pair]
    shifts: Mapping[str, torch.Tensor] = field(default_factory=dict)
    text: Mapping[str, Pair] = field(default_factory=dict)
    digest: str = ""
    form: str = ""
    header: Mapping[str, str] = field(default_factory=dict)
    text_keys: tuple[str, ...] = ()

    @property
    def trigger(self) -> str:
        """The phrase by which it is called in prompts, as far as its header tells."""
        return self.header.get(TRIGGER, "")

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """Names the factors as diffusers does."""
        return {
            f"{PREFIX}{name}.lora_{which}.weight": factor
            for name, pair in self.pairs.items()
            for which, factor in (("A", pair.down), ("B", pair.up))
        }

    @property
    def config(self) -> dict[str, Any]:
        """Gives PEFT's settings under diffusers' prefix, made from the shapes and alphas alone.

        What a file says about itself is not passed on: PEFT would follow it into initialisations that rewrite the base
        model's own weights.
        """
        first = next(iter(self.pairs.values()))
        other_ranks = {name: pair.rank for name, pair in self.pairs.items() if pair.rank != first.rank}
        other_alphas = {name: pair.alpha for name, pair in self.pairs.items() if pair.alpha != first.alpha}
        return {
            f"{PREFIX}r": first.rank,
            f"{PREFIX}lora_alpha": first.alpha,
            # As one pattern, because PEFT takes the names of a list for endings: proj_out would be every block's too.
            f"{PREFIX}target_modules": "|".join(re.escape(name) for name in sorted(self.pairs)),
            f"{PREFIX}rank_pattern": {f"^{re.escape(name)}": rank for name, rank in other_ranks.items()},
            f"{PREFIX}alpha_pattern": {f"^{re.escape(name)}": alpha for name, alpha in other_alphas.items()},
        }

    @property
    def ranks(self) -> str:
        """Tells its rank in words, or the range where layers differ."""
        low, high = (choose(pair.rank for pair in self.pairs.values()) for choose in (min, max))
        return f"rank {low}" if low == high else f"ranks {low} to {high}"

    @property
    def remarks(self) -> list[str]:
        """Tells what whoever sent it should know before they generate with it."""
        said = []
        if keys := self.text_keys:
            said.append(f"{len(keys)} tensors of a LoRA for parts of text encoders were left out: {some(keys)}.")
        if maker := declared(self.header):
            said.append(f"A LoRA's header says that it was made for {maker}. Its layers fit, so it is applied.")
        return said

    def account(self, targets: Collection[str]) -> list[str]:
        """Tells what of it goes into a training of these layers, and what does not."""
        left = [name for name in self.pairs if name not in targets]
        said = [
            f"Going on from an earlier LoRA in {self.form}, {self.ranks}: {len(self.pairs) - len(left)} of "
            f"{len(targets)} layers start from it."
        ]
        if left:
            said.append(f"{len(left)} of its layers are not trained here and were left out: {some(left)}.")
        if self.text:
            said.append(
                f"{len(self.text)} layers of text encoders are not trained and were left out: {some(self.text)}."
            )
        return said + self.remarks

    def startable(self, targets: Collection[str], rank: int) -> dict[str, Pair]:
        """Picks the layers that a training of `targets` at `rank` can start from.

        Raises UnusableAdapter where there is none, for a larger rank, which could only be cut, and for shifts.
        """
        if self.shifts:
            raise unusable(
                f"This LoRA changes biases or norms too ({some(self.shifts)}); a training goes on from matrices alone.",
                remedy="Go on from a LoRA without them, or start anew.",
            )
        taken = {name: pair for name, pair in self.pairs.items() if name in targets}
        if not taken:
            raise unusable("None of this LoRA's layers is trained here.")
        if (largest := max(pair.rank for pair in taken.values())) > rank:
            raise unusable(
                f"This LoRA has rank {largest}, and rank {rank} is to be trained, which would lose some of it.",
                remedy=f"Ask for rank {largest} or more.",
            )
        return taken

    def check_fits(
        self, transformer: torch.nn.Module, keys: LoraKeys, encoders: Mapping[str, torch.nn.Module] | None = None
    ) -> None:
        """Raises UnusableAdapter unless every layer and vector exists in the base with the same shape.

        `encoders`: the text encoders by what their layers' names begin with, for a LoRA that changes them.
        """
        parts = {"": transformer, **(encoders or {})}
        shapes = {begin + name: shape for begin, part in parts.items() for name, shape in linear_shapes(part).items()}
        layers = {**self.pairs, **self.text}
        absent = [name for name in layers if name not in shapes]
        factors = {f"{name}.lora_A": Entry("", tuple(pair.down.shape)) for name, pair in self.pairs.items()}
        maker = guess(factors, header=self.header)
        other = f"; it was made for another one{f', probably {maker}' if maker and maker != keys.model else ''}"
        if len(absent) == len(layers):
            raise keys.refusal(f"No layer of this LoRA exists in the base model{other}. Found: {some(absent)}.")
        for name, pair in layers.items():
            if name in shapes and pair.shape != shapes[name]:
                raise keys.refusal(
                    f"This LoRA was made for a base of another size{f', probably {maker}' if maker else ''}: {name} is "
                    f"{pair.shape[0]}x{pair.shape[1]} in the file and {shapes[name][0]}x{shapes[name][1]} in the base."
                )
        if absent:
            raise keys.refusal(
                f"{len(absent)} of this LoRA's {len(layers)} layers do not exist in the base model "
                f"({some(absent)}){other}."
            )
        lengths = {begin + name: n for begin, part in parts.items() for name, n in vector_lengths(part).items()}
        for name, shift in self.shifts.items():
            if len(shift) != lengths.get(name):
                own = f"{lengths[name]} in the base" if name in lengths else "in the base there is none"
                raise keys.refusal(f"This LoRA was made for another base: {name} has {len(shift)} values, {own}.")


def linear_shapes(transformer: torch.nn.Module) -> dict[str, tuple[int, int]]:
    """Gives (out, in) of every linear layer, by its own name even where an adapter is wrapped around it."""
    return {
        name.removesuffix(".base_layer").removesuffix(".base"): (module.out_features, module.in_features)
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def vector_lengths(transformer: torch.nn.Module) -> dict[str, int]:
    """Counts the values of every norm's weight and bias and every linear layer's bias, whether it has one or not."""
    own = {
        name.replace(".base_layer.", ".").replace(".base.", "."): len(parameter)
        for name, parameter in transformer.named_parameters()
        if parameter.ndim == 1
    }
    return own | {f"{name}.bias": out for name, (out, _) in linear_shapes(transformer).items()}
