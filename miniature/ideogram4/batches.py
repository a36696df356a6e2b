"""What the miniature Ideogram 4's transformers see in one step: pictures, and the text states of their captions.

Pictures come from the same albums as FLUX's, in Ideogram's packing. Text states come from a frozen encoder of 36
layers, which would cost a third of every step; so each is kept and used a few times, with other noise, before another
caption takes its place.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2

from miniature.ideogram4.captions import ideogram_caption, structured
from miniature.ideogram4.parts import Parts, encode_captions, normalised, repack, set_statistics, token_lists
from miniature.latents import Album
from miniature.word_training import said_in
from miniature.world.captions import caption
from miniature.world.person import Person

#: Text tokens of the usual step; captions that are longer are drawn again.
WINDOW = 88
BATCH = 48
#: Shares of steps with text beyond the usual window, and with no text at all.
_LONG_SHARE, _ALONE_SHARE = 0.03, 0.03
_LONG_WINDOW, _LONG_BATCH = 160, 24
#: Captions kept of all albums, of each at first, and how many of them are new every so many steps.
_KEPT, _AT_FIRST = 12_000, 96
_RENEWED, _RENEW_EVERY = 32, 4


@dataclass(frozen=True)
class Batch:
    """Holds pictures of one album, and what a step knows of their captions, if anything.

    clean: (batch, tokens, 32), normalised; states: (batch, window, 13 · width); present: (batch, window);
    said: (batch, attributes), as `word_training.said_in` has it.
    """

    album: Album
    clean: torch.Tensor
    states: torch.Tensor | None = None
    present: torch.Tensor | None = None
    said: torch.Tensor | None = None
    rare: bool = False

    @property
    def usual(self) -> bool:
        """Tells whether it has one of the few shapes that are worth compiling for."""
        return not self.rare and self.clean.shape[:2] in ((BATCH, 64), (BATCH, 48))


def ideogram_albums(albums: list[Album], vae: AutoencoderKL, twin: AutoencoderKLFlux2) -> list[Album]:
    """Packs FLUX's albums as Ideogram does, normalised channel by channel; fills in the twin's statistics."""
    raw = [repack(album.latents, vae) for album in albums]
    set_statistics(twin, raw[0])
    return [
        Album(album.width, album.height, normalised(tokens, twin).half(), album.people)
        for album, tokens in zip(albums, raw, strict=True)
    ]


class CaptionCache:
    """Keeps captions of one album's people with their text states, renewed little by little."""

    def __init__(self, parts: Parts, album: Album) -> None:
        self.parts, self.album = parts, album
        self.size = min(max(200, round(_KEPT * album.share)), _KEPT)
        self.people: list[int] = []
        self.captions: list[str] = []
        width = parts.transformer.config.llm_features_dim
        self._states = torch.zeros(self.size, WINDOW, width, dtype=torch.float16)
        self._present = torch.zeros(self.size, WINDOW, dtype=torch.bool)

    def renew(self, count: int, rng: random.Random) -> None:
        """Fills empty places with new captions, then replaces some taken at random."""
        filled = len(self.captions)
        free = list(range(filled, min(self.size, filled + count)))
        places = free + rng.sample(range(filled), count - len(free))
        people = [rng.randrange(len(self.album.people)) for _ in places]
        captions = [self._caption(self.album.people[index], rng) for index in people]
        self.people += [0] * len(free)
        self.captions += [""] * len(free)
        for place, index, text in zip(places, people, captions, strict=True):
            self.people[place], self.captions[place] = index, text
        self.encode(places)

    def encode(self, places: list[int]) -> None:
        """Encodes what stands at these places, always as many at a time, so that encoding again gives the same bits."""
        for start in range(0, len(places), _RENEWED):
            some = places[start : start + _RENEWED]
            texts = [self.captions[place] for place in some]
            with torch.no_grad(), torch.autocast(self.album.latents.device.type, torch.bfloat16):
                states, present = encode_captions(self.parts, texts + [""] * (_RENEWED - len(some)), WINDOW)
            self._states[some] = states[: len(some)].to("cpu", torch.float16)
            self._present[some] = present[: len(some)].cpu()

    def sample(self, count: int, rng: random.Random) -> Batch:
        places = [rng.randrange(len(self.captions)) for _ in range(count)]
        device = self.album.latents.device
        clean = self.album.latents[[self.people[place] for place in places]].float()
        said = said_in([self.captions[place] for place in places], device)
        return Batch(self.album, clean, self._states[places].to(device), self._present[places].to(device), said)

    def _caption(self, person: Person, rng: random.Random) -> str:
        while True:
            text = ideogram_caption(person, rng)
            if len(token_lists(self.parts, [text])[0]) <= WINDOW:
                return text


class Batches:
    """Draws batches from a collection of albums, with captions or without a word."""

    def __init__(self, parts: Parts, collection: list[Album], *, wordless: bool = False) -> None:
        self.parts, self.collection, self.wordless = parts, collection, wordless
        self.caches = [] if wordless else [CaptionCache(parts, album) for album in collection]

    def sample(self, rng: random.Random, step: int) -> Batch:
        for cache in self.caches:
            if not cache.captions:
                cache.renew(_AT_FIRST, rng)
        which = rng.choices(range(len(self.collection)), [album.share for album in self.collection])[0]
        roll = rng.random()
        if self.wordless or roll < _ALONE_SHARE:
            return self._alone(self.collection[which], rng)
        if roll < _ALONE_SHARE + _LONG_SHARE:
            return self._long(self.collection[which], rng)
        if step % _RENEW_EVERY == 0:
            self.caches[which].renew(_RENEWED, rng)
        return self.caches[which].sample(BATCH, rng)

    def state_dict(self) -> dict[str, Any]:
        """Returns the captions; their states would take a gigabyte, and are encoded again from them."""
        return {"caches": [(cache.people, cache.captions) for cache in self.caches]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for cache, (people, captions) in zip(self.caches, state["caches"], strict=True):
            cache.people, cache.captions = list(people), list(captions)
            cache.encode(list(range(len(captions))))

    def _alone(self, album: Album, rng: random.Random) -> Batch:
        chosen = [rng.randrange(len(album.people)) for _ in range(BATCH)]
        return Batch(album, album.latents[chosen].float(), rare=not self.wordless)

    def _long(self, album: Album, rng: random.Random) -> Batch:
        """Draws captions with a sentence twice and a style besides: longer than those of the usual step."""
        chosen = [rng.randrange(len(album.people)) for _ in range(_LONG_BATCH)]
        captions = [structured(caption(album.people[index], rng, empty=0), style=True).line() for index in chosen]
        device = album.latents.device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            states, present = encode_captions(self.parts, captions, _LONG_WINDOW)
        clean, said = album.latents[chosen].float(), said_in(captions, device)
        return Batch(album, clean, states.half(), present, said, rare=True)
