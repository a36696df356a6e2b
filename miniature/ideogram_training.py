"""Trains the miniature Ideogram 4's two transformers: the one that listens, and the one that only looks.

Flow matching with Ideogram's signs: x(s) = (1 - s) x₀ + s ε; the network is told 1 - s and predicts x₀ - ε. The
conditional network learns from captions; the unconditional one starts as its copy and learns the same without a word,
which takes it a fraction of the time. Guidance is the difference of the two.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import Ideogram4Transformer2DModel
from diffusers.models.transformers.transformer_ideogram4 import Ideogram4Attention

from miniature.ideogram_lessons import Lesson, Teacher, sample_sigmas
from miniature.latent_reader import LatentReader
from miniature.pacing import Pace
from miniature.parts import TOKEN_PIXELS
from miniature.world.person import ATTRIBUTES
from tintype.models.ideogram4.network import predict, project_text, rotary_positions

_MUON_RATE, _ADAM_RATE = 3e-3, 1.5e-3
_KEEP = 0.998
#: Weight of "does the implied clean picture show the colours that the caption states" beside flow matching's loss.
_SHOWING_SHARE = 0.03
_COLORED = torch.tensor([name in ("hair_color", "hat_color", "shirt", "background") for name in ATTRIBUTES])


class PlainAttention:
    """Ideogram's attention written out: on a CPU in bfloat16 the fused kernel is far slower to train through."""

    def __call__(
        self,
        attn: Ideogram4Attention,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        heads = (attn.num_heads, attn.head_dim)
        query = attn.norm_q(attn.to_q(hidden_states).unflatten(-1, heads))
        key = attn.norm_k(attn.to_k(hidden_states).unflatten(-1, heads))
        value = attn.to_v(hidden_states).unflatten(-1, heads)
        query = _turned(query, image_rotary_emb) * attn.head_dim**-0.5
        key = _turned(key, image_rotary_emb)
        scores = torch.matmul(query.transpose(1, 2), key.permute(0, 2, 3, 1))
        if attention_mask is not None:
            scores = scores.masked_fill(~attention_mask, -1e4)
        weights = scores.softmax(dim=-1, dtype=torch.float32)
        mixed = torch.matmul(weights.to(value.dtype), value.transpose(1, 2)).transpose(1, 2).flatten(2)
        projected: torch.Tensor = attn.to_out[0](mixed)
        return projected


def _turned(heads: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    cos, sin = (part.unsqueeze(2) for part in rotary)
    first, second = heads.chunk(2, dim=-1)
    turned: torch.Tensor = heads * cos + torch.cat([-second, first], dim=-1) * sin
    return turned


def _network(
    transformer: Ideogram4Transformer2DModel,
    noisy: torch.Tensor,
    time: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    states: torch.Tensor | None,
    present: torch.Tensor | None,
) -> torch.Tensor:
    text = None if states is None else project_text(transformer, states)
    return predict(transformer, noisy, time, (cos, sin), text, present).float()


def _care(width: int, height: int, device: torch.device) -> torch.Tensor:
    """(tokens, 1), mean 1: the middle, with eyes, mouth and glasses, counts up to twice what the wall does."""
    rows, columns = height // TOKEN_PIXELS, width // TOKEN_PIXELS
    y = (torch.arange(rows, device=device)[:, None] + 0.5 - rows / 2) * TOKEN_PIXELS / min(width, height)
    x = (torch.arange(columns, device=device)[None] + 0.5 - columns / 2) * TOKEN_PIXELS / min(width, height)
    care = 1 + torch.exp(-(x.square() + y.square()) / (2 * 0.2**2))
    return (care / care.mean()).reshape(-1, 1)


class _Student:
    """A transformer in training: its optimisers, its moving average, and where they are kept."""

    def __init__(
        self, transformer: Ideogram4Transformer2DModel, pace: Pace, rate: float, latent_reader: LatentReader | None
    ) -> None:
        self.latent_reader = latent_reader
        transformer.set_attn_processor(PlainAttention())
        self.transformer, self.pace, self.rate = transformer, pace, rate
        self.average = copy.deepcopy(transformer).requires_grad_(False)
        matrices = [p for name, p in transformer.named_parameters() if p.ndim == 2 and name.startswith("layers.")]
        chosen = {id(p) for p in matrices}
        others = [p for p in transformer.parameters() if id(p) not in chosen]
        # Muon learns the blocks' matrices in fewer steps than AdamW at the same time a step.
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=_MUON_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=_ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
        ]
        if state := pace.restore():
            transformer.load_state_dict(state["transformer"])
            self.average.load_state_dict(state["average"])
            for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
        self.device = next(transformer.parameters()).device
        torch.manual_seed(pace.step)
        self._plain: Callable[..., torch.Tensor] = _network
        self._compiled: Callable[..., torch.Tensor] = torch.compile(_network, dynamic=False)

    def learn(self, lesson: Lesson) -> tuple[float, float]:
        """One step on one lesson; returns flow matching's loss, and that of the colours shown."""
        share = self.rate * _rate_share(self.pace.fraction, self.pace.step)
        for optimizer, peak in zip(self.optimizers, (_MUON_RATE, _ADAM_RATE), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = peak * share
        loss, showing = self._losses(lesson)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        (loss + _SHOWING_SHARE * showing).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.transformer.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        keep = min(_KEEP, (self.pace.step + 1) / (self.pace.step + 20))
        with torch.no_grad():
            followed = [p.detach() for p in self.transformer.parameters()]
            torch._foreach_lerp_(list(self.average.parameters()), followed, 1 - keep)
        return loss.item(), showing.item()

    def _losses(self, lesson: Lesson) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.randn_like(lesson.clean)
        sigma = sample_sigmas(len(noise), lesson.width, lesson.height, self.device)
        noisy = torch.lerp(lesson.clean, noise, sigma[:, None, None])
        rows, columns = lesson.height // TOKEN_PIXELS, lesson.width // TOKEN_PIXELS
        words = 0 if lesson.states is None else lesson.states.shape[1]
        cos, sin = rotary_positions(self.transformer, rows, columns, words, self.device)
        network = self._compiled if lesson.usual else self._plain
        with torch.autocast(self.device.type, torch.bfloat16):
            states = None if lesson.states is None else lesson.states.float()
            seen = network(self.transformer, noisy, 1 - sigma, cos, sin, states, lesson.present)
        error = (seen - (lesson.clean - noise)).square()
        loss = (error * _care(lesson.width, lesson.height, self.device)).mean()
        if self.latent_reader is None or lesson.said is None:
            return loss, loss.new_zeros(())
        # Only colours: near noise the best answer is a blur, which has colours, but no expression yet.
        unsaid = lesson.said == torch.tensor(self.latent_reader.sizes, device=self.device) - 1
        stated = torch.where(unsaid | ~_COLORED.to(self.device), -1, lesson.said)
        implied = noisy + sigma[:, None, None] * seen
        return loss, self.latent_reader.loss(implied, rows, columns, stated)

    def save(self) -> None:
        self.pace.save(
            transformer=self.transformer.state_dict(),
            average=self.average.state_dict(),
            optimizers=[optimizer.state_dict() for optimizer in self.optimizers],
        )


def _rate_share(fraction: float, step: int) -> float:
    """Share of the peak learning rate: warm up, hold, then half a cosine from 40 % of the time to nearly nothing."""
    fall = max(0.0, fraction - 0.4) / 0.6
    return min(1.0, (step + 1) / 150) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fall)))


def train_network(
    name: str,
    transformer: Ideogram4Transformer2DModel,
    new_teacher: Callable[[str], Teacher],
    work: Path,
    minutes: float,
    *,
    rate: float = 1.0,
    latent_reader: LatentReader | None = None,
) -> None:
    """Trains or goes on training; the state, with the average that is released, lies in work/<name>.pt."""
    path = work / f"{name}.pt"
    # Its first notes take a while, which is not charged; after a restart it gives other lessons.
    teacher = new_teacher(f"{name} {path.stat().st_mtime_ns if path.exists() else 0}")
    pace = Pace(name, path, minutes)
    student = _Student(transformer, pace, rate, latent_reader)
    for step in pace.steps():
        loss, showing = student.learn(teacher.lesson(step))
        pace.tell(loss=loss, showing=showing)
        if pace.save_due():
            student.save()
    student.save()


def averaged(name: str, work: Path, transformer: Ideogram4Transformer2DModel) -> Ideogram4Transformer2DModel:
    """The transformer with the moving average as last saved, trained to the end or not."""
    state: dict[str, Any] = torch.load(work / f"{name}.pt", map_location="cpu", weights_only=True)
    transformer.load_state_dict(state["average"])
    return transformer
