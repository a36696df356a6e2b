"""What LoRA files call a base model's layers: a table for each base model, which serves reading and writing alike.

Two namings exist of each: the original code's (double_blocks.0.img_attn.qkv, several layers fused into one) and
diffusers' (transformer_blocks.0.attn.to_q). Trainers put their own prefix before either, and some write underscores for
the dots. Here all of them are looked up with underscores, without as many prefixes as it takes to know them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tintype.errors import UnusableAdapter

PREFIX = "transformer."  # diffusers'
TEXT = ("text_encoder.", "text_encoder_2.")  # diffusers' too, and with these begin our names of their layers
METADATA_KEY = "lora_adapter_metadata"  # where diffusers keeps rank and alpha
REMEDY = "Send a LoRA as safetensors, made for this base model."
_SHOWN = 3  # keys in a sentence
_LONGEST_KEY = 80  # characters of one there
# What programs put before a layer's name, in any order and number; `default` is PEFT's name for an adapter.
_BEFORE = (
    "base_model|(diffusion_)?model|(conditional_)?transformer|unet|dit|lora|lycoris|default|pipe(line)?|net(work)?|"
    r"module|_orig_mod|te\d?|text_encoders?(_\d)?|text_model|clip_l|t5(xxl)?"
)
_PREFIX = re.compile(rf"({_BEFORE})_")
_SURE_PREFIXES = re.compile(rf"(({_BEFORE})\.|lora_(unet|transformer)_|lycoris_)*")
# Names of wrappers around a module, anywhere in its path: torch.compile's, and those of parallel training.
_WRAPPERS = re.compile(r"(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module|module)\.")
_DOWN, _UP, _ADAPTER = "lora_A|lora_down", "lora_B|lora_up", r"(?:\.(?!weight$|bias$)[^.]+)?"
#: A tensor's key: its layer, and what of it the tensor is. `bias` is scaled as the factors are, differences are not.
KEY = re.compile(
    rf"(?P<name>.+?)\.(?:(?:(?P<down>(?:{_DOWN}){_ADAPTER}|(?:lora(?:_linear_layer)?\.)?down)"
    rf"|(?P<up>(?:{_UP}){_ADAPTER}|(?:lora(?:_linear_layer)?\.)?up))(?:\.weight)?"
    rf"|(?P<bias>(?:(?:{_UP}){_ADAPTER}|(?:lora(?:_linear_layer)?\.)?up)\.bias)|(?P<alpha>alpha)"
    r"|(?:(?:weight|scale)\.)?(?:(?P<diff>diff|w_norm)|(?P<diff_b>diff_b|b_norm)))"
)
_TEXT = re.compile(r"(te\d?|text_encoders?(_\d)?|text_model|clip_[lgh]|t5(xxl)?|bundle_emb|emb_params)_")
_FORMS = (
    ("lora_unet_", "kohya's form"),
    ("lora_transformer_", "OneTrainer's form"),
    ("lycoris_", "LyCORIS' form"),
    ("base_model.model.", "PEFT's form"),
    ("transformer.double_blocks", "OneTrainer's form"),
    ("transformer.single_blocks", "OneTrainer's form"),
    ("transformer.", "diffusers' form"),
    ("diffusion_model.", "ComfyUI's form"),
)


@dataclass(frozen=True)
class Entry:
    """A tensor as a file's header tells it."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """The transformer's layers, by diffusers' names, whose outputs a file's layer stacks, in that order."""

    layers: tuple[str, ...]
    swapped: bool = False  # its output's halves are in the other order


@dataclass(frozen=True)
class Form:
    """How the files of one program name tensors. `fused`: layers are the original code's, and alphas are tensors."""

    name: str
    prefix: str
    marks: tuple[str, str] = ("lora_down", "lora_up")
    fused: bool = True
    dotted: bool = True


DIFFUSERS = Form("diffusers", PREFIX, ("lora_A", "lora_B"), fused=False)
KOHYA = Form("kohya", "lora_unet_", dotted=False)


@dataclass(frozen=True, eq=False)
class Block:
    """One kind of numbered block in both namings; with empty names, the layers outside of all blocks.

    `parts` says which of diffusers' layers each of the original code's stacks, `aliases` what else is read,
    `swapped` which of the original code's have their output's halves in the other order.
    """

    original: str
    diffusers: str
    parts: Mapping[str, tuple[str, ...]]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    swapped: tuple[str, ...] = ()

    @cached_property
    def names(self) -> dict[str, Place]:
        """Lists all names of parts, with underscores: fused, numbered within the fused (OneTrainer), and diffusers'."""
        known: dict[str, Place] = {}
        for original, layers in {**self.parts, **self.aliases}.items():
            known[original] = Place(layers, original in self.swapped)
            known |= {layer: Place((layer,)) for layer in layers}
            if len(layers) > 1:
                known |= {f"{original}.{number}": Place((layer,)) for number, layer in enumerate(layers)}
        return {name.replace(".", "_"): place for name, place in known.items()}


@dataclass(frozen=True, eq=False)
class LoraKeys:
    """The names in a base model's LoRA files, and the forms in which they are written.

    `wider` says how many times as wide as the model a layer's output is, where a fused one holds it. `facts` are header
    entries that name the architecture. `shares_down`: adapters of the layers that are fused have one factor that reads,
    so that fusing costs no rank.
    """

    model: str
    original_code: str  # where the original naming comes from
    forms: tuple[Form, ...]
    blocks: tuple[Block, ...] = ()
    outside: Block = Block("", "", {})
    wider: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    shares_down: bool = False
    remedy: str = REMEDY

    def form(self, name: str) -> Form:
        """Finds a form by its name."""
        return next(form for form in self.forms if form.name == name)

    def place_of(self, name: str) -> Place | None:
        """Finds what a key means without its `.lora_A.weight`; None for a name that this base model has not."""
        return next(filter(None, map(self._place, _stripped(name))), None)

    def _place(self, name: str) -> Place | None:
        block, number, part = self._located(name)
        place = block.names.get(part)
        if place is None or not number:
            return place
        return Place(tuple(f"{block.diffusers}.{int(number)}.{layer}" for layer in place.layers), place.swapped)

    def originals(self, layers: Iterable[str]) -> dict[str, Place]:
        """Finds the original code's layers that hold these, in order; a fused one lists all that it stacks."""
        found: dict[str, Place] = {}
        for layer in layers:
            block, number, part = self._located(layer)
            original = next(name for name, held in block.parts.items() if part in held)
            name = f"{block.original}.{number}.{original}" if number else original
            if name not in found and (place := self.place_of(name)):
                found[name] = place
        return found

    def outputs(self, layers: Iterable[str], width: int) -> list[int]:
        """Counts the values that each of a fused layer's parts puts out, in a model this wide."""
        return [width * self.wider.get(layer.rpartition(".")[2], 1) for layer in layers]

    def sharing(self, layers: Iterable[str]) -> tuple[tuple[str, ...], ...]:
        """Groups those of these layers whose adapters share the factor that reads."""
        places = self.originals(layers).values() if self.shares_down else ()
        return tuple(place.layers for place in places if len(place.layers) > 1)

    def refusal(self, message: str) -> UnusableAdapter:
        """Makes the error for a file that is no LoRA of this base model."""
        return UnusableAdapter(message, remedy=self.remedy)

    @cached_property
    def _numbered(self) -> re.Pattern[str]:
        stems = (
            "|".join(re.escape(stem) for block in self.blocks for stem in (block.original, block.diffusers)) or "(?!)"
        )
        return re.compile(rf"({stems})[._](\d{{1,4}})[._](.+)")

    def _located(self, name: str) -> tuple[Block, str, str]:
        """The block that a name without prefix lies in, its number, and the part of it; no number outside of blocks."""
        if found := self._numbered.fullmatch(name):
            block = next(block for block in self.blocks if found[1] in (block.original, block.diffusers))
            return block, found[2], found[3]
        return self.outside, "", name


def is_text(key: str) -> bool:
    """Tells whether a key belongs to a text encoder."""
    return any(map(_TEXT.match, _stripped(key)))


def _stripped(name: str) -> Iterator[str]:
    """A name with underscores for dots, then without its first prefix, without the second, until none is left."""
    name = _WRAPPERS.sub("", name).replace(".", "_")
    yield name
    while found := _PREFIX.match(name):
        name = name[found.end() :]
        yield name


def plain(key: str) -> str:
    """Takes those prefixes off a key that are certainly some, whatever model it is of; with underscores for dots."""
    return _SURE_PREFIXES.sub("", _WRAPPERS.sub("", key), count=1).replace(".", "_")


def form_of(key: str) -> str:
    """Says in words whose naming a key follows."""
    if ".processor." in key:
        return "x-flux's form"
    return next((form for start, form in _FORMS if key.startswith(start)), "a form without prefix")


def shown(key: str) -> str:
    """Makes a key from a file fit for a sentence."""
    plain = key if key.isprintable() else ascii(key)
    return plain if len(plain) <= _LONGEST_KEY else f"{plain[: _LONGEST_KEY - 1]}…"


def some(keys: Iterable[str]) -> str:
    """Lists the first few keys, for a sentence."""
    named = list(keys)
    return ", ".join(shown(key) for key in named[:_SHOWN]) + (", …" if len(named) > _SHOWN else "")
