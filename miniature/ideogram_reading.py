"""Teaches the miniature's text encoder to read captions before any transformer listens, and then leaves it alone.

The real text encoder arrives having read the world and stays frozen; ours learns to say which attributes a caption
states (`word_training` says why that must come first), from the states the transformer will get: normalised as it
normalises them, picked by an attribute's own query among all tokens, and from the last token alone, which has read
everything before it.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from miniature.ideogram_captions import ideogram_caption
from miniature.ideogram_parts import TEXT_WIDTH, IdeogramParts, encode_captions
from miniature.pacing import Pace, warm_cosine
from miniature.word_training import Reader, said_in
from miniature.world.person import Person
from tintype.models.ideogram4.network import TEXT_LAYERS

_BATCH, _RATE = 64, 2e-3


def train_reading(parts: IdeogramParts, work: Path, minutes: float, device: torch.device) -> None:
    """Trains or goes on training the text encoder in place; the state lies in work/reading.pt."""
    torch.manual_seed(1)
    wide = len(TEXT_LAYERS) * TEXT_WIDTH
    reader = Reader(wide, wide).to(device)
    # Plain arithmetic is faster to train through than the fused kernel, which is faster without gradients.
    parts.text_encoder.set_attn_implementation("eager")
    learning = nn.ModuleDict({"text_encoder": parts.text_encoder.language_model, "reader": reader})
    optimizer = torch.optim.AdamW(learning.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    pace = Pace("reading", work / "reading.pt", minutes, save_every_seconds=60)
    if state := pace.restore():
        learning.load_state_dict(state["learning"])
        optimizer.load_state_dict(state["optimizer"])
    rng = random.Random(f"reading {pace.step}")
    for step in pace.steps():
        for group in optimizer.param_groups:
            group["lr"] = _RATE * warm_cosine(pace.fraction, step, 100)
        captions = [ideogram_caption(Person.sample(rng), rng) for _ in range(_BATCH)]
        with torch.autocast(device.type, torch.bfloat16):
            states, present = encode_captions(parts, captions, None, device)
        # Alone among the taps of a real encoder the raw scale means nothing, so the transformer's norm comes first.
        states = F.rms_norm(states.float(), (wide,), eps=1e-6) * present[..., None]
        last = states[torch.arange(len(captions), device=device), present.sum(1) - 1]
        loss = reader.loss(states, last, said_in(captions, device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learning.parameters(), 1.0)
        optimizer.step()
        pace.tell(15, loss=loss.item())
        if pace.save_due():
            pace.save(learning=learning.state_dict(), optimizer=optimizer.state_dict())
    pace.save(learning=learning.state_dict(), optimizer=optimizer.state_dict())
    parts.text_encoder.set_attn_implementation("sdpa")
    parts.text_encoder.requires_grad_(False).eval()
