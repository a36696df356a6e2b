"""What every base is in this process: its place, its traits, and parts that are loaded when first needed and stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
import transformers

from tintype.lora.adapter import Adapter
from tintype.lora.keys import LoraKeys
from tintype.lora.lora import Lora
from tintype.lora.read import read_lora
from tintype.models.diffusers_forward import compiling, recomputing
from tintype.models.family import TrainingDefaults
from tintype.models.weights import BaseWeights

# Progress bars and remarks of the libraries would land in a server's log; what matters is checked and said here.
diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()


class Resident:
    """The half of a Family that does not depend on the architecture."""

    nickname: ClassVar[str]  # of what the miniature is one
    lora_keys: LoraKeys
    window: ClassVar[int]  # text tokens that it reads, unless its traits say otherwise
    default_training: ClassVar[TrainingDefaults] = TrainingDefaults()

    def __init__(self, weights: BaseWeights, device: torch.device, dtype: torch.dtype | None = None) -> None:
        self.weights = weights
        self.device = device
        # A miniature is exact and cheap in fp32; the real models are published in bf16, and overflow in fp16.
        small = weights.miniature or device.type == "cpu"
        self.dtype = dtype or (torch.float32 if small else torch.bfloat16)
        traits = self.traits = dict(weights.traits)
        self.nominal_scale = int(traits.get("nominal_scale", 1))
        self.token_pixels = int(traits.get("token_pixels", 16))
        self.max_sequence_length = int(traits.get("max_sequence_length", self.window))
        known = {name: traits[name] for name in TrainingDefaults.__dataclass_fields__ if name in traits}
        self.training_defaults = replace(self.default_training, **known)
        self.remarks: list[str] = []
        self._encoders: Any = None
        self._transformer: Any = None
        self._pipeline: Any = None

    @property
    def name(self) -> str:
        """What the log and the config file call this base."""
        return f"the built-in miniature of {self.nickname}" if self.weights.miniature else self.weights.source

    def load_encoders(self) -> Any:
        """The pipeline without its networks: tokenizers, text encoders, autoencoder, scheduler."""
        if self._encoders is None:
            self._encoders = self._read_encoders()
            self._encoders.set_progress_bar_config(disable=True)
        return self._encoders

    def release_encoders(self) -> None:
        """Gives the encoders' memory back to the device where it is scarce; a miniature keeps them."""
        if self.device.type == "cuda" and not self.weights.miniature and self._pipeline is None:
            self._encoders = None
            torch.cuda.empty_cache()

    def load_transformer(self) -> Any:
        """The bare transformer, without any adapter, frozen, on the device."""
        if self._pipeline is not None:
            self._pipeline.unload_lora_weights()
        return self._resident_transformer()

    @property
    def loaded(self) -> bool:
        """Whether the transformer is in memory, so that `load_transformer` costs nothing."""
        return self._transformer is not None

    def _resident_transformer(self) -> Any:
        if self._transformer is None:
            self._transformer = self._read_transformer()
        return self._transformer

    def _outline(self) -> Any:
        """The transformer, or one without weights: its layers' names and shapes."""
        return self._resident_transformer()

    def read_lora(self, path: Path, digest: str = "") -> Lora:
        """Reads a LoRA of this base, the pipeline untouched. Raises UnusableAdapter unless all of it fits."""
        lora = read_lora(path, self.lora_keys, digest=digest)
        lora.check_fits(self._outline(), self.lora_keys)
        return lora

    @property
    def fused_targets(self) -> tuple[tuple[str, ...], ...]:
        """Targets that published files keep as one layer, so that their adapters share the factor that reads."""
        return self.lora_keys.sharing(self.adapter_targets)

    @property
    def adapter_targets(self) -> tuple[str, ...]:
        """Full names of the linear layers that an adapter changes."""
        raise NotImplementedError

    def pipeline(self) -> Any:
        """The resident pipeline that draws; adapters loaded into it stay until someone unloads them."""
        if self._pipeline is None:
            self._pipeline = self.fresh_pipeline()
        return self._pipeline

    def fresh_pipeline(self) -> Any:
        """A new pipeline of diffusers around the resident parts: nothing is read from disk twice."""
        encoders = self.load_encoders()
        pipeline = type(encoders)(**{**encoders.components, **self._networks()})
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @contextmanager
    def arranged(
        self,
        adapter: Adapter,
        *,
        recomputed: int = 0,
        plain: bool = False,
        compiled: bool = False,
        rounded: bool = False,
    ) -> Iterator[Any]:
        """Our own order of work, or with `plain` diffusers' blocks as they are, which can also be compiled."""
        transformer = self.load_transformer()
        if not (plain or compiled):
            yield self._form(transformer, adapter, recomputed, rounded)
            return
        blocks = self.blocks_of(transformer)
        with (
            adapter.attached(transformer),
            recomputing(transformer, blocks[:recomputed]),
            compiling(blocks if compiled else []),
        ):
            yield transformer

    @property
    def size_step(self) -> int:
        """Nominal pixels of one token: sides that are multiples of it are drawn without rounding."""
        return self.nominal_scale * self.token_pixels

    def drawn_size(self, width: int, height: int) -> tuple[int, int]:
        """The true pixels of a picture asked for at a nominal size; a real base rounds down, as its pipeline does."""
        rounding = 0.0 if self.nominal_scale == 1 else 0.5
        wide, high = (max(1, int(side / self.size_step + rounding)) * self.token_pixels for side in (width, height))
        return wide, high

    @staticmethod
    def blocks_of(transformer: Any) -> list[Any]:
        """The network's blocks, in the order of the forward pass."""
        raise NotImplementedError

    def _read_encoders(self) -> Any:
        raise NotImplementedError

    def _read_transformer(self) -> Any:
        raise NotImplementedError

    def _networks(self) -> dict[str, Any]:
        """What a pipeline has beside the encoders, by the pipeline's names."""
        raise NotImplementedError

    def _form(self, transformer: Any, adapter: Adapter, recomputed: int, rounded: bool) -> Any:
        """The network in our own order of work."""
        raise NotImplementedError
