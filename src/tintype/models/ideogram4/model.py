"""Ideogram 4, and the miniature that is Ideogram 4 in every way but size.

Every convention here is the pipeline's own, because a LoRA has to work there. They differ from FLUX's nearly
everywhere: a token's channels run row, column, channel; the network is told 1 - sigma and predicts clean - noise; text
is a row of tokens projected once by frozen layers, not padded; noise levels follow the image's size. `network`
holds the pass through the network itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import Ideogram4Pipeline, Ideogram4Transformer2DModel

from tintype.errors import InputError
from tintype.lora.adapter import Adapter
from tintype.models.family import Family, Features, Forward, Latents
from tintype.models.ideogram4 import FAMILY
from tintype.models.ideogram4.forward import IdeogramForward
from tintype.models.ideogram4.layouts import read_text_projection, read_transformer
from tintype.models.ideogram4.network import predict, project_text, prompt_tokens, rotary_positions, tapped_states
from tintype.models.ideogram4.statistics import settle_statistics
from tintype.models.placement import TRANSFORMER, UNCONDITIONAL
from tintype.models.sigmas import logit_normal
from tintype.models.weights import BaseWeights

PATCH = 2  # latent pixels a side of one token
#: Sigmas of log-SNR 18 and -15, between which the schedule is clamped.
SIGMA_MIN, SIGMA_MAX = 1 / (1 + math.exp(7.5)), 1 - 1 / (1 + math.exp(9))
_REFERENCE_PIXELS = 512**2  # at this size the noise levels are not shifted
_LONGEST_REMARK = 200  # characters of a cut-off prompt that are worth repeating
_PARTS = (
    "attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0",
    "feed_forward.w1", "feed_forward.w2", "feed_forward.w3",
)  # fmt: skip

# Values of the stream's width, of the MLP's, and what norms of half precision keep besides, per token and block of
# ideogram4/forward.py: held to measurement by tests/training/test_memory_plan.py. Diffusers' own order keeps more.
_KEPT, _KEPT_OPENED, _KEPT_IN_HALF, _PLAINLY = 11.2, 2.0, 7.0, 1.46


def adapter_targets(transformer: Ideogram4Transformer2DModel) -> tuple[str, ...]:
    """Names of the linear layers that a LoRA of Ideogram 4 trains: attention and MLP of every block."""
    return tuple(f"layers.{block}.{part}" for block in range(len(transformer.layers)) for part in _PARTS)


class Ideogram4Family(Family):
    """An Ideogram 4 base in this process.

    `Features.pooled` holds, for each caption, how many of its tokens are text, (batch, 1): Ideogram pools nothing, and
    captions of one batch may differ in length.
    """

    spec = FAMILY
    pipeline_class = Ideogram4Pipeline
    streams = 15.5  # with a LoRA

    def __init__(self, weights: BaseWeights, device: torch.device, dtype: torch.dtype | None = None) -> None:
        super().__init__(weights, device, dtype)
        #: Guidance g counts as 1 + strength · (g - 1).
        self.guidance_strength = float(self.traits.get("guidance_strength", 1.0))
        self._unconditional: Any = None

    def _read_encoders(self) -> Any:
        parts = Ideogram4Pipeline.from_pretrained(
            self.weights.folder,
            transformer=None,
            unconditional_transformer=None,
            prompt_enhancer_head=None,
            dtype=self.dtype,
            local_files_only=True,
        )
        # Rounded to bf16 the statistics would be others; they are 256 numbers.
        parts.vae.bn.float()
        remark = settle_statistics(parts.vae)
        if remark and remark not in self.remarks:
            self.remarks.append(remark)
        return parts

    def _read_transformer(self) -> Any:
        return self._read_network("transformer")

    def _read_network(self, part: str) -> Any:
        weights = self.weights
        return read_transformer(
            weights.folder / part,
            self.device,
            self.dtype,
            precision=weights.precision,
            quantised_dir=weights.quantised_dir,
        )

    def release_encoders(self) -> bool:
        released = super().release_encoders()
        if released:
            self._unconditional = None
            self.placement.forget(UNCONDITIONAL)
        return released

    def unload(self) -> None:
        super().unload()
        self._unconditional = None
        self.placement.forget(UNCONDITIONAL)

    def loaded_modules(self) -> list[torch.nn.Module]:
        return [*super().loaded_modules(), *([self._unconditional] if self._unconditional is not None else ())]

    def _networks(self) -> dict[str, Any]:
        return {**super()._networks(), "unconditional_transformer": self.load_unconditional()}

    def _own_forward(self, transformer: Any, adapter: Adapter, recomputed: int, rounded: bool) -> Any:
        return IdeogramForward(transformer, adapter, recomputed=recomputed, rounded=rounded)

    @staticmethod
    def blocks_of(transformer: Any) -> list[Any]:
        return list(transformer.layers)

    def load_unconditional(self) -> Any:
        """Loads the transformer of the negative branch; no LoRA is ever put on it."""
        if self._unconditional is None:
            with self._loading("second transformer"):
                self._make_room(UNCONDITIONAL)
                self._unconditional = self._read_network(UNCONDITIONAL)
            self.placement.add(UNCONDITIONAL, self._unconditional)
        return self._unconditional

    def _packed(self, latents: torch.Tensor) -> Latents:
        batch, channels, high, wide = latents.shape
        rows, columns = high // PATCH, wide // PATCH
        patches = latents.view(batch, channels, rows, PATCH, columns, PATCH).permute(0, 2, 4, 3, 5, 1)
        tokens = patches.reshape(batch, rows * columns, PATCH * PATCH * channels)
        mean, deviation = self._statistics()
        return Latents((tokens - mean) / deviation, rows, columns)

    def _unpacked(self, latents: Latents) -> torch.Tensor:
        mean, deviation = self._statistics()
        tokens = latents.tokens.float() * deviation + mean
        batch, _, packed = tokens.shape
        channels = packed // PATCH**2
        spread = tokens.view(batch, latents.rows, latents.columns, PATCH, PATCH, channels).permute(0, 5, 1, 3, 2, 4)
        return spread.reshape(batch, channels, latents.rows * PATCH, latents.columns * PATCH)

    def _statistics(self) -> tuple[torch.Tensor, torch.Tensor]:
        vae = self.load_encoders().vae
        return vae.bn.running_mean, (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()

    @torch.no_grad()
    def encode_captions(self, texts: Sequence[str]) -> Features:
        """Encodes each text by itself, trimmed to its tokens; shorter ones are filled up with zeros that nothing reads.

        Raises InputError for a text beyond the model's window.
        """
        pipeline, read = self.load_text_encoders(), []
        for text in texts:
            ids = prompt_tokens(pipeline.tokenizer, text)
            if len(ids) > self.max_sequence_length:
                raise InputError(
                    f"A caption has {len(ids)} tokens; Ideogram 4 reads {self.max_sequence_length}: "
                    f"{text[:_LONGEST_REMARK]}…",
                    remedy="Shorten it.",
                )
            read.append(tapped_states(pipeline.text_encoder, torch.tensor([ids], device=self.device)))
        projection = self._projection()
        found = [project_text(projection, states.float())[0] for states in read]
        counts = torch.tensor([[float(len(tokens))] for tokens in found])  # on the CPU: they shape what the device does
        return Features(torch.nn.utils.rnn.pad_sequence(found, batch_first=True), counts)

    def _projection(self) -> Any:
        """The layers that read text: from the transformer where it is resident, else these alone from its files."""
        if self._transformer is not None:
            self.placement.bring(TRANSFORMER)
            return self._transformer
        folder = self.weights.folder / "transformer"
        return read_text_projection(folder, self.device, self.dtype) or self._resident_transformer()

    def count_tokens(self, text: str) -> int:
        """As the text encoder reads it, the turn around it included."""
        return len(prompt_tokens(self.load_encoders().tokenizer, text))

    def cut_off(self, text: str) -> str:
        tokenizer = self.load_encoders().tokenizer
        left: str = tokenizer.decode(prompt_tokens(tokenizer, text)[self.max_sequence_length :])
        return left.strip()[:_LONGEST_REMARK]

    def predict_velocity(
        self, transformer: Any, noisy: Latents, sigma: torch.Tensor, features: Features, guidance: float
    ) -> torch.Tensor:
        """Predicts as Family says; `guidance` is not an input of this network."""
        counts = features.pooled[:, 0].long()
        text = features.tokens[:, : int(counts.max())].to(self.device, self.dtype)
        present = None
        if bool((counts < text.shape[1]).any()):  # only then is a mask worth its cost
            present = torch.arange(text.shape[1], device=self.device)[None] < counts[:, None].to(self.device)
        return self._velocity(transformer, noisy, sigma, text, present)

    def predict_wordless(self, transformer: Any, noisy: Latents, sigma: torch.Tensor) -> torch.Tensor:
        """Predicts the velocity that a network sees in the image alone: the negative branch of guidance."""
        return self._velocity(transformer, noisy, sigma, None, None)

    def _velocity(
        self,
        transformer: Any,
        noisy: Latents,
        sigma: torch.Tensor,
        text: torch.Tensor | None,
        present: torch.Tensor | None,
    ) -> torch.Tensor:
        words = 0 if text is None else text.shape[1]
        network = transformer.transformer if isinstance(transformer, IdeogramForward) else transformer
        self.placement.bring(UNCONDITIONAL if network is self._unconditional else TRANSFORMER)
        rotary = rotary_positions(network, noisy.rows, noisy.columns, words, self.device)
        time = 1 - sigma.to(self.device, torch.float32)
        tokens = noisy.tokens.to(self.dtype)
        if isinstance(transformer, IdeogramForward):
            return -transformer(tokens, time, rotary, text, present)
        return -predict(transformer, tokens, time, rotary, text, present)

    def layer_tokens(self, name: str, image: int, text: int) -> tuple[int, int]:
        ends = {"input_proj": (image, 0), "final_layer.linear": (image, image), "llm_cond_proj": (0, 0)}
        _, number, part = name.split(".", 2) if name.startswith("layers.") else ("", "", name)
        if part not in _PARTS:
            return ends.get(name, (1, 0))  # what modulates a block: one row for each image
        reads, last = part in _PARTS[:3], int(number) == len(self._resident_transformer().layers) - 1
        tokens = image if last and not reads else text + image
        return tokens, 0 if reads and number == "0" else tokens

    def kept_values(self, forward: Forward) -> tuple[float, ...]:
        transformer = self._resident_transformer()
        opened: float = transformer.config.intermediate_size / transformer.hidden_size
        halved = 0.0 if self.dtype == torch.float32 else _KEPT_IN_HALF
        values = (_KEPT + _KEPT_OPENED * opened + halved) * (1.0 if forward is Forward.OWN else _PLAINLY)
        return (values,) * len(transformer.layers)

    def sample_sigmas(self, count: int, rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
        """Draws logit-normal levels, the mean shifted by half the logarithm of the nominal pixels."""
        pixels = rows * columns * self.size_step**2
        defaults = self.training_defaults
        shift = 0.5 * math.log(pixels / _REFERENCE_PIXELS) if defaults.sigma_shift else 0.0
        sigmas = logit_normal(count, defaults.sigma_mean + shift, defaults.sigma_std, generator)
        return sigmas.clamp(SIGMA_MIN, SIGMA_MAX)

    def schedule_mean(self, mu: float) -> float:
        """Gives the pipeline's `mu` for a preset's: the pipeline shifts by true pixels, not by nominal ones."""
        return mu + math.log(self.nominal_scale)

    @property
    def adapter_targets(self) -> tuple[str, ...]:
        return adapter_targets(self._resident_transformer())
