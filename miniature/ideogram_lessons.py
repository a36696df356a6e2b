"""What the miniature Ideogram 4's transformers see in one step: pictures, what is said of them, and how much noise.

Pictures come from the same albums as FLUX's, in Ideogram's packing. Text states come from a frozen encoder of 36
layers, which would cost a third of every step; so each is kept and used a few times, with other noise, before another
caption takes its place.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2

from miniature.ideogram_captions import ideogram_caption, structured
from miniature.ideogram_parts import IdeogramParts, encode_captions, normalised, repack, set_statistics, token_lists
from miniature.latents import SHAPES, Album
from miniature.parts import NOMINAL_SCALE
from miniature.word_training import said_in
from miniature.world.captions import caption
from miniature.world.person import ATTRIBUTES, Person

#: Text tokens of the usual step; captions that are longer are drawn again.
WINDOW = 88
BATCH = 48
#: Shares of steps with text beyond the usual window, and with no text at all.
_LONG_SHARE, _ALONE_SHARE = 0.03, 0.03
_LONG_WINDOW, _LONG_BATCH = 160, 24
_KEPT = 12_000
_RENEWED = 32
_RENEW_EVERY = 4


@dataclass(frozen=True)
class Lesson:
    """clean: (batch, tokens, 32), normalised; states: (batch, window, 13 · width) or None; present: (batch, window);
    said: (batch, attributes), as `word_training.said_in` has it.
    """

    width: int
    height: int
    clean: torch.Tensor
    states: torch.Tensor | None = None
    present: torch.Tensor | None = None
    said: torch.Tensor | None = None
    rare: bool = False

    @property
    def usual(self) -> bool:
        """Whether it has one of the few shapes that are worth compiling for."""
        return not self.rare and self.clean.shape[:2] in ((BATCH, 64), (BATCH, 48))


def sample_sigmas(count: int, width: int, height: int, device: torch.device) -> torch.Tensor:
    """Half as Ideogram 4 trains at the nominal size; half near pure noise, where only words help a small picture."""
    mean = 0.5 * math.log(width * height * NOMINAL_SCALE**2 / 512**2)
    normal = torch.randn(count, device=device)
    as_trained = torch.rand(count, device=device) < 0.5
    return torch.sigmoid(torch.where(as_trained, mean + 1.5 * normal, 2.5 + 1.2 * normal))


def ideogram_albums(albums: list[Album], vae: AutoencoderKL, twin: AutoencoderKLFlux2) -> list[Album]:
    """FLUX's albums in Ideogram's packing, normalised channel by channel; measures the twin's statistics on the way."""
    raw = [repack(album.latents, vae) for album in albums]
    set_statistics(twin, raw[0])
    return [
        Album(album.width, album.height, normalised(tokens, twin).half(), album.people)
        for album, tokens in zip(albums, raw, strict=True)
    ]


class Notebook:
    """Text states of captions of one album's people, renewed little by little."""

    def __init__(self, parts: IdeogramParts, album: Album, size: int, rng: random.Random) -> None:
        self.parts, self.album, self.rng, self.size = parts, album, rng, size
        self.device = album.latents.device
        width = parts.transformer.config.llm_features_dim
        self.people = torch.zeros(size, dtype=torch.long)
        self.states = torch.zeros(size, WINDOW, width, dtype=torch.float16)
        self.present = torch.zeros(size, WINDOW, dtype=torch.bool)
        self.said = torch.zeros(size, len(ATTRIBUTES), dtype=torch.long)
        self.filled = 0
        self.renew(min(size, 2 * BATCH))

    def renew(self, count: int) -> None:
        """Fills empty places, or replaces places taken at random, with fresh captions."""
        free = list(range(self.filled, min(self.size, self.filled + count)))
        places = free + self.rng.sample(range(self.size), count - len(free)) if len(free) < count else free
        chosen = [self.rng.randrange(len(self.album.people)) for _ in places]
        captions = [self._caption(self.album.people[index]) for index in chosen]
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            states, present = encode_captions(self.parts, captions, WINDOW, self.device)
        at = torch.tensor(places)
        self.people[at] = torch.tensor(chosen)
        self.states[at], self.present[at] = states.to("cpu", torch.float16), present.cpu()
        self.said[at] = said_in(captions, torch.device("cpu"))
        self.filled = max(self.filled, max(places) + 1)

    def _caption(self, person: Person) -> str:
        while True:
            text = ideogram_caption(person, self.rng)
            if len(token_lists(self.parts, [text])[0]) <= WINDOW:
                return text

    def lesson(self, count: int) -> Lesson:
        at = torch.tensor([self.rng.randrange(self.filled) for _ in range(count)])
        clean = self.album.latents[self.people[at].to(self.device)].float()
        states, present = self.states[at].to(self.device), self.present[at].to(self.device)
        return Lesson(self.album.width, self.album.height, clean, states, present, self.said[at].to(self.device))


class Teacher:
    """An endless supply of lessons about a collection of albums."""

    def __init__(self, parts: IdeogramParts, collection: list[Album], seed: str, *, wordless: bool = False) -> None:
        self.parts, self.collection, self.wordless = parts, collection, wordless
        self.rng = random.Random(seed)
        self.shares = [share for _, share in SHAPES.values()]
        self.notebooks: list[Notebook] = []
        if not wordless:
            sizes = [min(max(200, round(_KEPT * share)), _KEPT) for share in self.shares]
            self.notebooks = [Notebook(parts, album, n, self.rng) for album, n in zip(collection, sizes, strict=True)]

    def lesson(self, step: int) -> Lesson:
        which = self.rng.choices(range(len(self.collection)), self.shares)[0]
        roll = self.rng.random()
        if self.wordless or roll < _ALONE_SHARE:
            return self._alone(self.collection[which])
        if roll < _ALONE_SHARE + _LONG_SHARE:
            return self._long(self.collection[which])
        notebook = self.notebooks[which]
        if step % _RENEW_EVERY == 0:
            notebook.renew(_RENEWED)
        return notebook.lesson(BATCH)

    def _alone(self, album: Album) -> Lesson:
        chosen = [self.rng.randrange(len(album.people)) for _ in range(BATCH)]
        return Lesson(album.width, album.height, album.latents[chosen].float(), rare=not self.wordless)

    def _long(self, album: Album) -> Lesson:
        """Captions with a sentence twice and a style besides: longer than those of the usual step."""
        chosen = [self.rng.randrange(len(album.people)) for _ in range(_LONG_BATCH)]
        captions = [structured(caption(album.people[index], self.rng, empty=0), style=True).line() for index in chosen]
        device = album.latents.device
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16):
            states, present = encode_captions(self.parts, captions, _LONG_WINDOW, device)
        clean, said = album.latents[chosen].float(), said_in(captions, device)
        return Lesson(album.width, album.height, clean, states.half(), present, said, rare=True)
