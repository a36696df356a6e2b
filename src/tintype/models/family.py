"""A base model in this process: what training and generating may ask of it, and parts that load when first needed.

All that differs between FLUX, Ideogram and a miniature lies below here. Sizes are nominal pixels unless said otherwise:
1024 means what it means for the real model, whatever is generated.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from tintype.dataset.subject import Subject, whole
from tintype.errors import OutOfMemoryAtLoad
from tintype.lora.adapter import Adapter, LoraLinear
from tintype.lora.keys import TEXT
from tintype.lora.lora import Lora
from tintype.lora.pairs import Pair
from tintype.lora.read import read_lora
from tintype.models.blocks import BlockCompiler, recomputing
from tintype.models.contents import check_pipeline, check_readable
from tintype.models.generating_memory import decoding_bytes, part_bytes, tile_bytes
from tintype.models.libraries import diffusers  # before anything else of it is imported
from tintype.models.placement import ENCODERS, TRANSFORMER, Placement
from tintype.models.products import has_matrix
from tintype.models.read_ahead import read_ahead
from tintype.models.registry import FamilySpec, TrainingDefaults, family_specs
from tintype.models.sigmas import logit_normal
from tintype.models.weights import ROUNDED, BaseWeights


@dataclass(frozen=True)
class Latents:
    """Images as the transformer sees them. tokens: (batch, rows · columns, channels)."""

    tokens: torch.Tensor
    rows: int
    columns: int


@dataclass(frozen=True)
class Features:
    """Captions as the transformer sees them. tokens: (batch, text tokens, width); pooled: (batch, pooled width)."""

    tokens: torch.Tensor
    pooled: torch.Tensor


class Forward(Enum):
    """The order of work in a step of training: our own, or that of diffusers' blocks, which can be compiled."""

    OWN = "own"
    DIFFUSERS = "diffusers"
    COMPILED = "compiled"


class Family(ABC):
    """One base model, resident in this process. `remarks` is what a person should know about its weights."""

    spec: ClassVar[FamilySpec]
    pipeline_class: ClassVar[Any]  # of diffusers
    streams: ClassVar[float] = 0.0  # how many values of its width a token has in a step of generating, at its fullest

    def __init__(self, weights: BaseWeights, device: torch.device, dtype: torch.dtype | None = None) -> None:
        self.weights = weights
        self.device = device
        # A miniature is exact and cheap in fp32; the real models are published in bf16, and overflow in fp16.
        small = weights.miniature or device.type == "cpu"
        self.dtype = dtype or (torch.float32 if small else torch.bfloat16)
        traits = self.traits = {**weights.own_traits, **weights.traits}
        self.nominal_scale = int(traits.get("nominal_scale", 1))
        self.token_pixels = int(traits.get("token_pixels", 16))
        self.max_sequence_length = int(traits.get("max_sequence_length", self.spec.text_window))
        stated = {name: traits[name] for name in TrainingDefaults.__dataclass_fields__ if name in traits}
        self.training_defaults = replace(self.spec.training_defaults, **stated)
        self.remarks = [weights.caution] if weights.miniature else []
        self._encoders: Any = None
        self._transformer: Any = None
        self._pipeline: Any = None
        self._unaltered: dict[tuple[Any, str], Any] = {}  # a module's part by its name: what it was
        self.keeps_all = weights.miniature or device.type != "cuda"  # memory is not scarce
        self.placement = Placement(device)

    @classmethod
    def without_weights(cls) -> Self:
        """Makes one of the published size on torch's meta device, which takes no memory and can be asked for plans."""
        weights = BaseWeights(cls.spec.name, Path(), cls.spec.repository, "the published one")
        family = cls(weights, torch.device("meta"), torch.bfloat16)
        with torch.device("meta"):
            network = getattr(diffusers, cls.spec.network)(**cls.spec.configuration)
        family._transformer = network.to(torch.bfloat16).requires_grad_(False)
        return family

    @property
    def name(self) -> str:
        """What the log and the config file call this base."""
        weights = self.weights
        named = f"the built-in miniature of {self.spec.title}" if weights.miniature else weights.source
        return f"{named} in {weights.precision}" if weights.precision in ROUNDED else named

    @classmethod
    def check_loadable(cls, weights: BaseWeights, device: torch.device) -> None:
        """Raises WeightsMissing, before anything is loaded, for weights that cannot be read on this device."""
        check_pipeline(cls.spec, weights.folder, weights.source)
        networks = {part: weights.part(part).path for part in cls.spec.parts}
        check_readable(cls.spec, networks, device.type)

    def load_encoders(self) -> Any:
        """Loads the pipeline without its networks: tokenizers, text encoders, autoencoder, scheduler."""
        if self._encoders is None:
            with self._loading("encoders"):
                size = self._make_room(ENCODERS)
                encoders = self._read_encoders()
                encoders.set_progress_bar_config(disable=True)
                self._place_text(encoders, size)
                for name, part in encoders.components.items():
                    if isinstance(part, torch.nn.Module) and name not in self._text_parts:
                        part.to(self.device)
                self._encoders = encoders
        return self._encoders

    @property
    def _text_parts(self) -> list[str]:
        return [part for part in self.spec.parts if f"{part}." in TEXT]

    def _place_text(self, encoders: Any, size: int) -> None:
        """Moves text encoders to the device; those that would not fit there come layer by layer."""
        text = [getattr(encoders, name) for name in self._text_parts]
        if not self.placement.is_streamed(size):
            self.placement.add(ENCODERS, *(part.to(self.device) for part in text), drop=self._drop_text)
            return
        import accelerate  # costs a second, and few need it

        for part in text:
            accelerate.cpu_offload(part, self.device)

    def load_text_encoders(self) -> Any:
        """Returns that pipeline with its text encoders on the device; where they were dropped, they are read again."""
        encoders = self.load_encoders()
        self.placement.bring(ENCODERS)
        if any(getattr(encoders, name) is None for name in self._text_parts):
            with self._loading("encoders"):
                size, again = self._make_room(ENCODERS), self._read_encoders()
                encoders.register_modules(**{name: getattr(again, name) for name in self._text_parts})
                self._place_text(encoders, size)
        return encoders

    def _drop_text(self) -> bool:
        """Lets go of the text encoders; returns whether it did, which it does not where a LoRA acts on them."""
        parts = {part for name in self._text_parts for part in getattr(self._encoders, name).modules()}
        if any(module in parts for module, _ in self._unaltered):
            return False
        self._encoders.register_modules(**dict.fromkeys(self._text_parts))
        return True

    def release_encoders(self) -> bool:
        """Lets go of all but the bare transformer where memory is scarce; returns whether it did."""
        if not self.keeps_all:
            if self._pipeline is not None:
                self._pipeline.unload_lora_weights()
            self.alter({})
            self._encoders = self._pipeline = None
            self.placement.forget(ENCODERS)
        return not self.keeps_all

    @property
    def has_encoders(self) -> bool:
        """Tells whether what is beside the networks is loaded."""
        return self._encoders is not None

    def loaded_modules(self) -> list[torch.nn.Module]:
        """Lists what is loaded: networks, text encoders, autoencoder."""
        parts = [self._transformer, *(self._encoders.components.values() if self._encoders else ())]
        return [part for part in parts if isinstance(part, torch.nn.Module)]

    def _make_room(self, name: str) -> int:
        """Makes room for what is about to be loaded; returns its bytes, 0 where there is room for everything."""
        if self.placement.free is None:
            return 0
        size = part_bytes(self)[name]
        self.placement.make_room(name, size)
        return size

    def unload(self) -> None:
        """Gives back all memory that this base takes; what is needed is loaded again."""
        self._unaltered.clear()
        self._encoders = self._transformer = self._pipeline = None
        self.placement.forget(ENCODERS, TRANSFORMER)

    def load_transformer(self) -> Any:
        """Loads the bare transformer, without any adapter, frozen, onto the device."""
        if self._pipeline is not None:
            self._pipeline.unload_lora_weights()
        self.alter({})
        transformer = self._resident_transformer()
        self.placement.bring(TRANSFORMER)
        return transformer

    def alter(self, shifts: Mapping[str, torch.Tensor], text: Iterable[tuple[str, Pair]] = ()) -> None:
        """Adds shifts to biases and norms' weights, and factors to the text encoders' layers, by their full names.

        What an earlier call altered is as it was before, to the last bit.
        """
        for (module, name), original in self._unaltered.items():
            setattr(module, name, original)
        self._unaltered.clear()
        for path, shift in shifts.items():
            module, name = self._owner(path)
            module = getattr(module, "base_layer", module)  # below an adapter
            original = getattr(module, name)
            shifted = shift.to(self.device) if original is None else original.float() + shift.to(self.device)
            dtype = self.dtype if original is None else original.dtype
            self._replace(module, name, torch.nn.Parameter(shifted.to(dtype), requires_grad=False))
        for path, pair in text:
            module, name = self._owner(path)
            self._replace(module, name, LoraLinear(getattr(module, name), pair.to(self.device)))

    def _owner(self, path: str) -> tuple[Any, str]:
        """The module that something of the transformer or of a text encoder belongs to, and its name there."""
        owner, _, name = path.rpartition(".")
        encoder, dot, rest = owner.partition(".")
        if encoder + dot in TEXT:
            return getattr(self.load_text_encoders(), encoder).get_submodule(rest), name
        return self._resident_transformer().get_submodule(owner), name

    def _replace(self, module: Any, name: str, part: Any) -> None:
        self._unaltered.setdefault((module, name), getattr(module, name))
        setattr(module, name, part)

    def _resident_transformer(self) -> Any:
        if self._transformer is None:
            with self._loading("transformer"):
                self._make_room(TRANSFORMER)
                self._transformer = self._read_transformer()
            self.placement.add(TRANSFORMER, self._transformer)
        return self._transformer

    @contextmanager
    def _loading(self, part: str) -> Iterator[None]:
        """Raises OutOfMemoryAtLoad where the device's memory runs out inside."""
        try:
            yield
        except torch.OutOfMemoryError as problem:
            raise OutOfMemoryAtLoad(
                f"Memory of {self.device} ran out while the {part} of {self.name} was loaded.",
                remedy="Free memory on the device; `tintype plan` says what it takes.",
            ) from problem

    def reading_ahead(self) -> AbstractContextManager[None]:
        """Reads the transformer's files meanwhile, if it is not loaded and memory has room for them.

        Only the disk's part overlaps. Loading itself cannot run beside encoding: diffusers and transformers change
        torch's default precision for the whole process meanwhile, and features would come out differently. Of a base
        that is rounded most starts read what was kept of the last.
        """
        if self._transformer is not None or self.weights.precision in ROUNDED:
            return nullcontext()
        return read_ahead(self.weights.part("transformer").path)

    def pipeline(self) -> Any:
        """Returns the resident pipeline of diffusers, for captions that are encoded.

        Adapters loaded into it stay until someone unloads them.
        """
        if self._pipeline is None:
            parts = {**self.load_encoders().components, **self._networks()}
            read = {name: part for name, part in parts.items() if f"{name}." not in TEXT}
            self._pipeline = self._pipeline_of(self.pipeline_class, **read)
        return self._pipeline

    def fresh_pipeline(self) -> Any:
        """Makes a new pipeline of diffusers around the resident parts: nothing is read from disk twice."""
        return self._pipeline_of(self.pipeline_class, **{**self.load_encoders().components, **self._networks()})

    def bare_pipeline(self) -> Any:
        """Makes a new pipeline around the transformer alone, which is enough to load a LoRA."""
        return self._pipeline_of(self.pipeline_class, transformer=self._resident_transformer())

    def _pipeline_of(self, kind: Any, **parts: Any) -> Any:
        absent = dict.fromkeys(inspect.signature(kind).parameters)
        pipeline = kind(**{**absent, **parts})
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def forward_for(self, wanted: Forward) -> Forward:
        """Returns the order of work that the weights allow: our own multiplies by matrices, quantised layers do not."""
        layers = map(self.load_transformer().get_submodule, self.adapter_targets)
        return wanted if wanted is not Forward.OWN or all(map(has_matrix, layers)) else Forward.DIFFUSERS

    @contextmanager
    def adapted(
        self,
        adapter: Adapter,
        forward: Forward = Forward.OWN,
        *,
        recomputed: int = 0,
        rounded: bool = False,
        compiler: BlockCompiler | None = None,
    ) -> Iterator[Any]:
        """Yields what `predict_velocity` is to be called with in training; the transformer is bare again afterwards.

        The first `recomputed` blocks keep only their input for the backward pass. `rounded` makes our own products in
        bf16 where the weights are fp32. `compiler` keeps what was compiled for the next time.
        """
        transformer, forward = self.load_transformer(), self.forward_for(forward)
        if forward is Forward.OWN:
            yield self._own_forward(transformer, adapter, recomputed, rounded)
            return
        blocks = self.blocks_of(transformer)
        compiled = (compiler or BlockCompiler()).compiling(blocks) if forward is Forward.COMPILED else nullcontext()
        with adapter.attached(transformer), recomputing(transformer, blocks[:recomputed]), compiled:
            yield transformer

    @property
    def size_step(self) -> int:
        """Nominal pixels of one token: sides that are multiples of it are generated without rounding."""
        return self.nominal_scale * self.token_pixels

    def true_size(self, width: int, height: int) -> tuple[int, int]:
        """Returns the true pixels of a nominal size; a real base rounds down, as its pipeline does."""
        rounding = 0.0 if self.nominal_scale == 1 else 0.5
        wide, high = (max(1, int(side / self.size_step + rounding)) * self.token_pixels for side in (width, height))
        return wide, high

    @torch.no_grad()
    def encode_images(self, pixels: torch.Tensor) -> Latents:
        """Encodes (batch, 3, height, width) in [-1, 1], nominal."""
        vae = self.load_encoders().vae
        self.placement.bring(extra=decoding_bytes(self, pixels.shape[-1], pixels.shape[-2]))
        width, height = self.true_size(pixels.shape[-1], pixels.shape[-2])
        if (width, height) != (pixels.shape[-1], pixels.shape[-2]):
            pixels = F.interpolate(pixels, size=(height, width), mode="area")
        # The mode of the posterior: the same image gives the same latents, so they can be kept.
        return self._packed(vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode().float())

    @torch.no_grad()
    def decode_latents(self, latents: Latents) -> list[Image.Image]:
        """Decodes packed latents to the images the pipeline would show; in pieces where the device is too small."""
        pipeline = self.load_encoders()
        unpacked = self._unpacked(latents).to(pipeline.vae.dtype)
        size = latents.columns * self.size_step, latents.rows * self.size_step
        is_tiled = self.placement.is_tiled(decoding_bytes(self, *size))
        self.placement.bring(extra=(tile_bytes if is_tiled else decoding_bytes)(self, *size))
        with _tiling(pipeline.vae) if is_tiled else nullcontext():
            pixels = pipeline.vae.decode(unpacked, return_dict=False)[0]
        images: list[Image.Image] = pipeline.image_processor.postprocess(self._shown(pixels), output_type="pil")
        return images

    def _shown(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels in the precision in which the pipeline makes levels of them."""
        return pixels.float()

    @abstractmethod
    def encode_captions(self, texts: Sequence[str]) -> Features:
        """Encodes prompts exactly as the pipeline would."""

    @abstractmethod
    def count_tokens(self, text: str) -> int:
        """Counts the tokens of a text as `encode_captions` reads it, without padding."""

    @abstractmethod
    def cut_off(self, text: str) -> str:
        """Returns the beginning of what lies beyond the model's text window; empty when all of the text fits."""

    @abstractmethod
    def predict_velocity(
        self, transformer: Any, noisy: Latents, sigma: torch.Tensor, features: Features, guidance: float
    ) -> torch.Tensor:
        """Predicts d x_sigma / d sigma = noise - x0, (batch, tokens, channels).

        x_sigma = (1 - sigma) x0 + sigma noise. sigma: (batch,), 1 is noise. `noisy` is on the device; the rest is moved
        there.
        """

    def sample_sigmas(self, count: int, rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
        """Draws (count,) noise levels in (0, 1) at which the network is trained."""
        return logit_normal(count, self.training_defaults.sigma_mean, self.training_defaults.sigma_std, generator)

    @property
    @abstractmethod
    def adapter_targets(self) -> tuple[str, ...]:
        """Full names of the linear layers that an adapter changes."""

    @property
    def fused_targets(self) -> tuple[tuple[str, ...], ...]:
        """Targets that published files keep as one layer, so that their adapters share the factor that reads."""
        return self.spec.lora_keys.sharing(self.adapter_targets)

    def read_lora(self, path: Path, digest: str = "") -> Lora:
        """Reads a LoRA of this base, the pipeline untouched. Raises UnusableAdapter unless all of it fits."""
        known = [spec.lora_keys for spec in family_specs()]
        lora = read_lora(path, self.spec.lora_keys, digest=digest, known=known)
        named = [*lora.text, *lora.shifts]
        parts = [part for part in TEXT if any(name.startswith(part) for name in named)]
        encoders = {part: getattr(self.load_text_encoders(), part.removesuffix(".")) for part in parts}
        lora.check_fits(self.outline(), self.spec.lora_keys, encoders)
        return lora

    def outline(self) -> Any:
        """Returns the transformer, or one without weights: its layers' names and shapes."""
        return self._resident_transformer()

    def find_subject(self, image: Image.Image) -> Subject:
        """Finds where the subject of a photo is; all of it is, unless a base model knows better."""
        return whole(image, "given")

    @abstractmethod
    def kept_values(self, forward: Forward) -> tuple[float, ...]:
        """Returns for each block how many values of the stream's width it keeps per token for the backward pass."""

    @abstractmethod
    def layer_tokens(self, name: str, image: int, text: int) -> tuple[int, int]:
        """Counts the tokens of one image that pass a linear layer in a step: forwards, and backwards to its input."""

    @staticmethod
    @abstractmethod
    def blocks_of(transformer: Any) -> list[Any]:
        """Lists the network's blocks in the order of the forward pass."""

    def _own_forward(self, transformer: Any, adapter: Adapter, recomputed: int, rounded: bool) -> Any:
        """The network in our own order of work."""
        raise NotImplementedError

    def _read_encoders(self) -> Any:
        raise NotImplementedError

    @abstractmethod
    def _read_transformer(self) -> Any: ...

    def _networks(self) -> dict[str, Any]:
        """What a pipeline has beside the encoders, by the pipeline's names."""
        return {"transformer": self._resident_transformer()}

    def _packed(self, latents: torch.Tensor) -> Latents:
        """(batch, channels, height, width) in the autoencoder's pixels and values to tokens in the network's."""
        raise NotImplementedError

    def _unpacked(self, latents: Latents) -> torch.Tensor:
        """The way back."""
        raise NotImplementedError


def pixels_of(images: Sequence[Image.Image]) -> torch.Tensor:
    """Stacks images of one size as (images, 3, height, width) in [-1, 1]."""
    levels = torch.stack([torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32)) for image in images])
    return (levels / 127.5 - 1).permute(0, 3, 1, 2)


@contextmanager
def _tiling(autoencoder: Any) -> Iterator[None]:
    """Decodes in overlapping pieces meanwhile, as diffusers does it: the seams are blended, so it is not the same."""
    autoencoder.enable_tiling()
    try:
        yield
    finally:
        autoencoder.disable_tiling()
