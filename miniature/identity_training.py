"""Trains the network that tells Portrait World's subjects apart, on pairs of their photos and on nothing else.

It hears which pictures are of one subject, never what makes the subject: so what it measures is its own, and the judge
can be asked whether it is right.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import save_file

from miniature.autoencoder import reproduction
from miniature.judge_training import spoiled
from miniature.training import Losses, Training, warm_cosine
from miniature.world.drawing import draw
from miniature.world.person import Person, Subject
from tintype.likeness.portrait_world import IdentityNetwork, to_pixels

_SUBJECTS = 32  # of a batch, each in two photos
_TEMPERATURE = 0.08
_TRIPS = 3000  # photos that the autoencoder gave back, in pairs


def train_identity(vae: AutoencoderKL, path: Path, minutes: float, out: Path) -> None:
    """Trains or goes on training; the state lies at the path, the released weights at `out`."""
    torch.manual_seed(0)
    network = IdentityNetwork().to(vae.device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    rng = random.Random("identity pictures")
    tripped = _pairs_of_trips(vae, rng)

    def losses(training: Training) -> Losses:
        rng = training.rng
        first, second = [], []
        seeds = rng.sample(range(1 << 20), _SUBJECTS)
        for seed in seeds:
            subject = Subject.from_seed(seed)
            pair = [spoiled(draw(subject.pose(rng), 64, rng.choice((64, 64, 48, 80))), rng) for _ in range(2)]
            if rng.random() < 0.35:
                subject, pair = rng.choice(tripped)
            if rng.random() < 0.15:  # nobody's face: as far from every subject as they are from each other
                person = Person.sample(rng)
                pair = [draw(person, 64, 64), spoiled(draw(person, 64, 64), rng)]
            first.append(pair[0])
            second.append(pair[1])
        one, other = network(to_pixels(first).to(vae.device)), network(to_pixels(second).to(vae.device))
        scores = one @ other.T / _TEMPERATURE
        right = torch.arange(len(first), device=scores.device)
        loss = (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2
        hits = (scores.argmax(1) == right).float().mean()
        return loss, {"loss": loss, "hits": hits}

    Training(path, minutes, network, [optimizer], partial(warm_cosine, floor=0.01), clip=False).run(losses)
    kept = {name: tensor.half().contiguous().cpu() for name, tensor in network.state_dict().items()}
    save_file(kept, out)


def _pairs_of_trips(vae: AutoencoderKL, rng: random.Random) -> list[tuple[Subject, list[Image.Image]]]:
    """Pairs of photos of one subject as the autoencoder gives them back, some from disturbed latents."""
    subjects = [Subject.from_seed(rng.randrange(1 << 20)) for _ in range(_TRIPS // 2)]
    drawn = [draw(subject.pose(rng), 64, 64) for subject in subjects for _ in range(2)]
    seen = []
    for start in range(0, len(drawn), 50):
        seen += reproduction(vae, drawn[start : start + 50], disturb=rng.choice((0, 0, 0.15, 0.3)))[1]
    return [(subject, seen[2 * n : 2 * n + 2]) for n, subject in enumerate(subjects)]
