"""Encodes every image and caption once, before the first step, and keeps the result under the digest of its input.

The encoders are as large as the transformer's activations; after this they can leave the device. A request that is
taken up again after a crash finds the files and encodes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from tintype.dataset import Bucket, Dataset, Example, fit
from tintype.dataset.subject import BACKGROUND_WEIGHT
from tintype.lora.tensor_file import write_tensors
from tintype.models.family import Family, Features, Latents, pixels_of

_CAPTIONS_AT_ONCE = 8  # what the encoder keeps of more, a device may not hold


@dataclass(frozen=True)
class Item:
    """One image at one size: latents (tokens, channels), weights (tokens,) with mean 1 or None, its caption."""

    name: str
    latents: torch.Tensor
    rows: int
    columns: int
    caption: int
    weights: torch.Tensor | None

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns


@dataclass
class Cache:
    """All that training reads: items, and the features of each distinct caption."""

    items: list[Item]
    captions: list[str]
    features: Features
    digest: str
    text_lengths: list[int] = field(default_factory=list)  # of each caption, in tokens; the rest is padding

    def features_of(self, items: list[Item]) -> Features:
        """Returns the features of these items' captions."""
        chosen = [item.caption for item in items]
        tokens, pooled = (
            torch.stack([part[n] for n in chosen]) for part in (self.features.tokens, self.features.pooled)
        )
        return Features(tokens, pooled)


def encode_once(
    family: Family, dataset: Dataset, folder: Path, *, each: Callable[[int, int], None] = lambda done, total: None
) -> Cache:
    """Encodes what `folder` does not hold yet. `each` is called after every image with (done, total)."""
    folder.mkdir(parents=True, exist_ok=True)
    family.alter({})  # a LoRA that generated before may still act on the text encoders
    captions = sorted({example.caption for example in dataset.examples})
    features, lengths = _text(family, captions, folder)
    items: list[Item] = []
    for done, example in enumerate(dataset.examples, 1):
        caption = captions.index(example.caption)
        items += [_item(family, example, bucket, caption, folder) for bucket in example.buckets]
        each(done, len(dataset.examples))
    return Cache(items, captions, features, dataset.digest, lengths)


def _text(family: Family, captions: list[str], folder: Path) -> tuple[Features, list[int]]:
    """Features of all captions in fp32 on the CPU, and their lengths in tokens. They are one file, because a caption's
    padding depends on the others."""
    seen = json.dumps([family.weights.fingerprint, str(family.dtype), captions])
    path = folder / f"text-{hashlib.sha256(seen.encode()).hexdigest()[:40]}.safetensors"

    def encode() -> dict[str, torch.Tensor]:
        tokens: list[torch.Tensor] = []
        pooled: list[torch.Tensor] = []
        for start in range(0, len(captions), _CAPTIONS_AT_ONCE):
            features = family.encode_captions(captions[start : start + _CAPTIONS_AT_ONCE])
            tokens += features.tokens.float().cpu()
            pooled += features.pooled.float().cpu()
        return {
            "tokens": torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True),
            "pooled": torch.stack(pooled),
            "lengths": torch.tensor([family.count_tokens(caption) for caption in captions]),
        }

    kept = _once(path, encode)
    return Features(kept["tokens"], kept["pooled"]), [int(length) for length in kept["lengths"]]


def _item(family: Family, example: Example, bucket: Bucket, caption: int, folder: Path) -> Item:
    path = folder / f"{_key(family, example, bucket)}.safetensors"
    kept = _once(path, lambda: _encode(family, example, bucket))
    rows, columns = (int(side) for side in kept["grid"])
    return Item(example.name, kept["latents"], rows, columns, caption, kept.get("weights"))


def _once(path: Path, encode: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """What is there, or is encoded now: also what a power cut left, since that is cheaper than a flush per image."""
    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (FileNotFoundError, SafetensorError):
        tensors = encode()
        write_tensors(tensors, path)
    return tensors


def _encode(family: Family, example: Example, bucket: Bucket) -> dict[str, torch.Tensor]:
    encoded = family.encode_images(pixels_of([fit(example.image, bucket)]))
    kept = {
        "latents": encoded.tokens[0].float().cpu().contiguous(),
        "grid": torch.tensor([encoded.rows, encoded.columns]),
    }
    if example.mask is not None:
        kept["weights"] = token_weights(fit(example.mask, bucket), encoded)
    return kept


def token_weights(mask: Image.Image, latents: Latents) -> torch.Tensor:
    """Computes each token's share of the loss, (tokens,): BACKGROUND_WEIGHT off the subject, scaled to mean 1."""
    inside = torch.from_numpy(np.asarray(mask.convert("L"), dtype=np.float32) / 255)[None, None]
    share = F.interpolate(inside, size=(latents.rows, latents.columns), mode="area").flatten()
    weights = BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * share
    return weights / weights.mean()


def _key(family: Family, example: Example, bucket: Bucket) -> str:
    seen = hashlib.sha256(f"{family.weights.fingerprint} {bucket}".encode())
    seen.update(example.digest.encode())
    return seen.hexdigest()[:40]
