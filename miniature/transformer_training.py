"""Trains the miniature's transformer and text encoders together, then distils guidance into it as FLUX.1-dev has it.

Flow matching as FLUX does: x(s) = (1 - s) x₀ + s ε; the network sees s, called sigma, in [0, 1] and predicts ε - x₀.
Sigma is logit-normal, shifted by the same μ as in sampling. Text is padded to its window and nothing is masked, because
the pipeline masks nothing. For the last part of the time the guidance input goes from 1 to 5 and the target becomes the
data's velocity plus a mild share of (conditional - unconditional) as a frozen copy sees it: learning and distilling in
one.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttention

from miniature.latent_reader import LatentReader
from miniature.latents import SHAPES, Album, positions
from miniature.pacing import Pace
from miniature.parts import Parts, encode_captions
from miniature.vocabulary import WINDOW
from miniature.word_training import Reader, said_in
from miniature.world.captions import caption
from miniature.world.person import ATTRIBUTES

BATCH = 48
_MUON_RATE, _ADAM_RATE = 3e-3, 1.5e-3
#: Share of the time after which guidance is distilled.
DISTIL_FROM = 0.9
#: Weight of "which attributes does the caption state" beside the loss of flow matching.
READING_SHARE = 0.05
#: Weight of "does the implied clean picture show what the caption states" beside it.
SHOWING_SHARE = 0.06
#: (conditional - unconditional) counts this much per unit of guidance above one.
GUIDANCE_SLOPE = 0.5
_COLORED = torch.tensor([name in ("hair_color", "hat_color", "shirt", "background") for name in ATTRIBUTES])
#: Other text windows than the standard one, so that they are not foreign: (tokens, share of steps, batch).
_OTHER_WINDOWS = ((64, 0.02, 32), (96, 0.02, 24), (192, 0.01, 16), (512, 0.008, 8))


class PlainAttention:
    """FLUX attention written out: on a CPU in bfloat16 the fused kernel is five times slower to train through."""

    def __call__(
        self,
        attn: FluxAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        heads = (-1, attn.head_dim)
        query = attn.norm_q(attn.to_q(hidden_states).unflatten(-1, heads))
        key = attn.norm_k(attn.to_k(hidden_states).unflatten(-1, heads))
        value = attn.to_v(hidden_states).unflatten(-1, heads)
        if encoder_hidden_states is not None:
            text_query = attn.norm_added_q(attn.add_q_proj(encoder_hidden_states).unflatten(-1, heads))
            text_key = attn.norm_added_k(attn.add_k_proj(encoder_hidden_states).unflatten(-1, heads))
            text_value = attn.add_v_proj(encoder_hidden_states).unflatten(-1, heads)
            query = torch.cat([text_query, query], dim=1)
            key = torch.cat([text_key, key], dim=1)
            value = torch.cat([text_value, value], dim=1)
        query = apply_rotary_emb(query, image_rotary_emb, sequence_dim=1) * attn.head_dim**-0.5
        key = apply_rotary_emb(key, image_rotary_emb, sequence_dim=1)
        weights = torch.matmul(query.transpose(1, 2), key.permute(0, 2, 3, 1)).softmax(dim=-1, dtype=torch.float32)
        mixed = torch.matmul(weights.to(value.dtype), value.transpose(1, 2)).transpose(1, 2).flatten(2)
        if encoder_hidden_states is None:
            return mixed
        words = encoder_hidden_states.shape[1]
        image: torch.Tensor = attn.to_out[1](attn.to_out[0](mixed[:, words:]))
        text: torch.Tensor = attn.to_add_out(mixed[:, :words])
        return image, text


def velocity(
    transformer: Callable[..., Any],
    noisy: torch.Tensor,
    sigma: torch.Tensor,
    guidance: torch.Tensor,
    states: torch.Tensor,
    pooled: torch.Tensor,
    places: torch.Tensor,
) -> torch.Tensor:
    """(batch, tokens, 32): the predicted ε - x₀."""
    predicted: torch.Tensor = transformer(
        hidden_states=noisy,
        timestep=sigma,
        guidance=guidance,
        pooled_projections=pooled,
        encoder_hidden_states=states,
        txt_ids=torch.zeros(states.shape[1], 3, device=states.device),
        img_ids=places,
        return_dict=False,
    )[0]
    return predicted.float()


def sample_sigmas(count: int, tokens: int, device: torch.device) -> torch.Tensor:
    """Half as FLUX trains, half near pure noise.

    The one half is logit-normal, shifted by μ as the scheduler shifts for this many tokens. In so small a picture the
    colour of a wall can be read off the noisy latents up to sigma 0.9, beyond which the first half has one draw in
    twenty; only from there do words teach anything, so the other half lies about there.
    """
    normal = torch.randn(count, device=device)
    mu = 0.5 + (tokens - 256) * (1.15 - 0.5) / (4096 - 256)
    return torch.sigmoid(torch.where(torch.rand(count, device=device) < 0.5, normal + mu, 1.2 * normal + 2.5))


def _care(width: int, height: int, device: torch.device) -> torch.Tensor:
    """(tokens, 1), mean 1: the middle, with eyes, mouth and glasses, counts up to twice what the wall does."""
    rows, columns = height // 8, width // 8
    y = (torch.arange(rows, device=device)[:, None] + 0.5 - rows / 2) * 8 / min(width, height)
    x = (torch.arange(columns, device=device)[None] + 0.5 - columns / 2) * 8 / min(width, height)
    care = 1 + torch.exp(-(x.square() + y.square()) / (2 * 0.2**2))
    return (care / care.mean()).reshape(-1, 1)


class _Average:
    """Exponential moving average of the weights: what is released."""

    def __init__(self, modules: torch.nn.ModuleDict) -> None:
        self.modules = copy.deepcopy(modules).requires_grad_(False)

    @torch.no_grad()
    def follow(self, modules: torch.nn.ModuleDict, step: int) -> None:
        keep = min(0.998, (step + 1) / (step + 20))
        torch._foreach_lerp_(list(self.modules.parameters()), [p.detach() for p in modules.parameters()], 1 - keep)


class _Lesson:
    """One step's pictures, words and noise, drawn at random."""

    def __init__(self, collection: list[Album], rng: random.Random, device: torch.device) -> None:
        self.album = rng.choices(collection, [share for _, share in SHAPES.values()])[0]
        self.window, batch = WINDOW, BATCH
        roll = rng.random()
        for window, share, other in _OTHER_WINDOWS:
            if 0 <= roll < share:
                self.window, batch = window, other
            roll -= share
        chosen = [rng.randrange(len(self.album.people)) for _ in range(batch)]
        self.captions = [caption(self.album.people[index], rng) for index in chosen]
        self.clean = self.album.latents[chosen].float()
        self.noise = torch.randn_like(self.clean)
        self.sigma = sample_sigmas(batch, self.clean.shape[1], device)
        at = self.sigma[:, None, None]
        self.noisy = (1 - at) * self.clean + at * self.noise
        self.said = said_in(self.captions, device)
        self.places = positions(self.album.width, self.album.height, device)
        self.care = _care(self.album.width, self.album.height, device)

    def showing(self, reader: LatentReader, velocity: torch.Tensor) -> torch.Tensor:
        """How far the colours of the clean pictures which this velocity implies are from those the captions state.

        Only colours: near noise the best answer is a blur, which has colours, but no expression yet.
        """
        implied = self.noisy - self.sigma[:, None, None] * velocity
        sizes = torch.tensor(reader.sizes, device=self.said.device)
        stated = torch.where((self.said == sizes - 1) | ~_COLORED.to(self.said.device), -1, self.said)
        return reader.loss(implied, self.album.height // 8, self.album.width // 8, stated)

    @property
    def usual(self) -> bool:
        return self.window == WINDOW and self.clean.shape[1] in (64, 48)


def _rate_share(fraction: float, step: int) -> float:
    """Share of the peak learning rate: warm up, hold, then half a cosine from 40 % of the time to nearly nothing."""
    fall = max(0.0, fraction - 0.4) / 0.6
    return min(1.0, (step + 1) / 150) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fall)))


def _optimizers(modules: torch.nn.ModuleDict) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's blocks, which learn in fewer steps with it, and AdamW for the rest."""
    matrices = [p for name, p in modules.named_parameters() if p.ndim == 2 and "transformer_blocks" in name]
    chosen = {id(p) for p in matrices}
    others = [p for p in modules.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=_MUON_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=_ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
    ]


def _set_rates(optimizers: list[torch.optim.Optimizer], share: float) -> None:
    for optimizer, peak in zip(optimizers, (_MUON_RATE, _ADAM_RATE), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = peak * share


@torch.no_grad()
def _guided_part(teacher: Parts, lesson: _Lesson, device: torch.device) -> torch.Tensor:
    """Conditional minus unconditional velocity as the frozen teacher sees them."""
    count = len(lesson.captions)
    states, pooled = encode_captions(teacher, lesson.captions, lesson.window, device)
    empty, hollow = encode_captions(teacher, [""], lesson.window, device)
    ones = torch.ones(count, device=device)
    seen = [
        velocity(teacher.transformer, lesson.noisy, lesson.sigma, ones, s, p, lesson.places)
        for s, p in ((states, pooled), (empty.expand(count, -1, -1), hollow.expand(count, -1)))
    ]
    return seen[0] - seen[1]


def train_transformer(
    parts: Parts,
    readers: tuple[Reader, LatentReader],
    collection: list[Album],
    work: Path,
    minutes: float,
    device: torch.device,
) -> Parts:
    """Trains or goes on training; the state lies in work/transformer.pt. Returns the averaged parts.

    `readers`: the one of captions is trained further, the one of latents is not.
    """
    reader, latent_reader = readers
    parts.transformer.set_attn_processor(PlainAttention())
    modules = parts.trained()
    modules["reader"] = reader
    average = _Average(modules)
    optimizers = _optimizers(modules)
    teacher: Parts | None = None
    pace = Pace("transformer", work / "transformer.pt", minutes)
    if state := pace.restore():
        modules.load_state_dict(state["modules"])
        average.modules.load_state_dict(state["average"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
    if state and "teacher" in state and pace.fraction > DISTIL_FROM:
        teacher = averaged(parts, state["teacher"])
    rng = random.Random(f"lessons {pace.step}")
    torch.manual_seed(pace.step)
    compiled = torch.compile(parts.transformer, dynamic=False)
    for step in pace.steps():
        _set_rates(optimizers, _rate_share(pace.fraction, step))
        if teacher is None and pace.fraction > DISTIL_FROM:
            teacher = averaged(parts, average.modules.state_dict())
        lesson = _Lesson(collection, rng, device)
        guidance = torch.ones(len(lesson.captions), device=device)
        target = lesson.noise - lesson.clean
        with torch.autocast(device.type, torch.bfloat16):
            if teacher is not None:
                guidance = 1 + 4 * torch.rand_like(guidance)
                target = target + GUIDANCE_SLOPE * (guidance - 1)[:, None, None] * _guided_part(teacher, lesson, device)
            states, pooled = encode_captions(parts, lesson.captions, lesson.window, device)
            network = compiled if lesson.usual else parts.transformer
            seen = velocity(network, lesson.noisy, lesson.sigma, guidance, states, pooled, lesson.places)
        loss = ((seen - target).square() * lesson.care).mean()
        reading = reader.loss(states, pooled, lesson.said)
        showing = lesson.showing(latent_reader, seen)
        for optimizer in optimizers:
            optimizer.zero_grad()
        (loss + READING_SHARE * reading + SHOWING_SHARE * showing).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        average.follow(modules, step)
        pace.tell(loss=loss.item(), reading=reading.item(), showing=showing.item())
        if pace.save_due():
            _save(pace, modules, average, optimizers, teacher)
    _save(pace, modules, average, optimizers, teacher)
    return averaged(parts, average.modules.state_dict())


def averaged(parts: Parts, weights: dict[str, torch.Tensor]) -> Parts:
    """A frozen copy of the parts with the given weights, among which others may be."""
    twin = Parts(
        copy.deepcopy(parts.transformer),
        copy.deepcopy(parts.clip),
        copy.deepcopy(parts.t5),
        parts.clip_tokenizer,
        parts.t5_tokenizer,
    )
    own = twin.trained()
    own.load_state_dict({name: weights[name] for name in own.state_dict()})
    twin.trained().requires_grad_(False)
    return twin


def _save(
    pace: Pace,
    modules: torch.nn.ModuleDict,
    average: _Average,
    optimizers: list[torch.optim.Optimizer],
    teacher: Parts | None,
) -> None:
    taught = {} if teacher is None else {"teacher": teacher.trained().state_dict()}
    pace.save(
        modules=modules.state_dict(),
        average=average.modules.state_dict(),
        optimizers=[optimizer.state_dict() for optimizer in optimizers],
        **taught,
    )
