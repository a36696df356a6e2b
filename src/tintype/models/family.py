"""What training and drawing may ask of a base model: all that differs between FLUX, Ideogram, and miniatures.

Sizes are nominal pixels unless said otherwise: 1024 means what it means for the real model, whatever is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from PIL import Image

from tintype.lora.keys import LoraKeys
from tintype.lora.lora import Lora
from tintype.models.weights import BaseWeights

if TYPE_CHECKING:
    from tintype.dataset.subject import Subject
    from tintype.lora.adapter import Adapter


@dataclass(frozen=True)
class Latents:
    """Pictures as the transformer sees them. tokens: (batch, rows · columns, channels)."""

    tokens: torch.Tensor
    rows: int
    columns: int


@dataclass(frozen=True)
class Features:
    """Captions as the transformer sees them. tokens: (batch, text tokens, width); pooled: (batch, pooled width)."""

    tokens: torch.Tensor
    pooled: torch.Tensor


@dataclass(frozen=True)
class TrainingDefaults:
    """How a base likes to be trained; the real models have the defaults, a miniature states its own.

    `learning_rate_scale` multiplies every requested rate, and `decay_power` says how it falls over the run (see Plan; 0
    is constant). `sigma_mean` and `sigma_std` are those of the normal distribution whose logistic is sigma;
    `sigma_shift` says whether sigma is then shifted as sampling shifts it.
    """

    learning_rate_scale: float = 1.0
    batch_size: int = 1
    training_guidance: float = 1.0
    sigma_mean: float = 0.0
    sigma_std: float = 1.0
    sigma_shift: bool = True
    ema_decay: float = 0.99
    warmup_steps: int = 20
    decay_power: float = 0.0
    weight_decay: float = 1e-4
    autocast: bool = False  # bf16 matrix products where the weights are fp32; measured: no faster on a small CPU model


class Family(Protocol):
    """One base model, resident in this process."""

    weights: BaseWeights
    lora_keys: LoraKeys
    training_defaults: TrainingDefaults
    device: torch.device
    dtype: torch.dtype
    remarks: list[str]  # what a person should know about the weights, as far as they are loaded

    @property
    def name(self) -> str:
        """What the log and the config file call this base."""
        ...

    def release_encoders(self) -> None:
        """Gives the encoders' memory back to the device where it is scarce."""
        ...

    def cut_off(self, text: str) -> str:
        """Where a text goes beyond the model's window; empty when all of it fits."""
        ...

    def encode_images(self, pixels: torch.Tensor) -> Latents:
        """pixels: (batch, 3, height, width) in [-1, 1], nominal."""
        ...

    def encode_captions(self, texts: Sequence[str]) -> Features:
        """Exactly what the pipeline would make of these prompts."""
        ...

    def count_tokens(self, text: str) -> int:
        """How many of the text tokens of `encode_captions` are not padding."""
        ...

    def load_transformer(self) -> Any:
        """The bare transformer, without any adapter, frozen, on the device."""
        ...

    @property
    def loaded(self) -> bool:
        """Whether the transformer is in memory, so that `load_transformer` costs nothing."""
        ...

    def fresh_pipeline(self) -> Any:
        """A new pipeline of diffusers around the resident parts: nothing is read from disk twice."""
        ...

    def predict_velocity(
        self, transformer: Any, noisy: Latents, sigma: torch.Tensor, features: Features, guidance: float
    ) -> torch.Tensor:
        """d x_sigma / d sigma = noise - x0, (batch, tokens, channels), where x_sigma = (1 - sigma) x0 + sigma noise.

        sigma: (batch,), 1 is noise. `noisy` is on the device; the rest is moved there.
        """
        ...

    def sample_sigmas(self, count: int, rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
        """(count,) in (0, 1): the times at which the network is trained."""
        ...

    @property
    def size_step(self) -> int:
        """Nominal pixels of one token: sides that are multiples of it are drawn without rounding."""
        ...

    @property
    def adapter_targets(self) -> tuple[str, ...]:
        """Full names of the linear layers that an adapter changes."""
        ...

    @property
    def fused_targets(self) -> tuple[tuple[str, ...], ...]:
        """Targets that published files keep as one layer, so that their adapters share the factor that reads."""
        ...

    def drawn_size(self, width: int, height: int) -> tuple[int, int]:
        """The true pixels of a picture asked for at a nominal size."""
        ...

    def find_subject(self, image: Image.Image) -> Subject:
        """Where the subject of a photo is."""
        ...

    def arranged(
        self,
        adapter: Adapter,
        *,
        recomputed: int = 0,
        plain: bool = False,
        compiled: bool = False,
        rounded: bool = False,
    ) -> AbstractContextManager[Any]:
        """What `predict_velocity` is to be called with; the transformer is bare again afterwards.

        The first `recomputed` blocks keep only their input for the backward pass. `plain` leaves the order of work to
        diffusers, `compiled` compiles its blocks. `rounded` makes products in bf16 where the weights are fp32.
        """
        ...

    def kept_values(self, *, plain: bool) -> tuple[float, ...]:
        """For each block, how many values of the stream's width its forward pass keeps per token for the backward."""
        ...


class LoraHost(Protocol):
    """A family whose resident pipeline can put LoRAs on and take them off again."""

    def pipeline(self) -> Any:
        """The resident pipeline of diffusers; adapters loaded into it stay until someone unloads them."""
        ...

    def read_lora(self, path: Path, digest: str = "") -> Lora:
        """Reads a LoRA of this base, the pipeline untouched. Raises UnusableAdapter unless all of it fits."""
        ...
