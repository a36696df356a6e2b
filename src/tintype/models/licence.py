"""The licences of base models: what each asks, in our words, where its text stands, and when it was accepted here.

No text of a licence is shipped: it comes with the weights it belongs to.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from huggingface_hub import constants

from tintype.files.disk import write_file

_ACCEPTED = "tintype-licence.json"  # in a repository's folder of the hub's cache: it goes when the weights go


@dataclass(frozen=True)
class Licence:
    """A licence as its text says it; `weights` and `images` tell in our words what may be done with them."""

    name: str
    address: str
    weights: str
    images: str
    version: str = ""
    reported_as: str = ""  # what the licensor calls the model where its use is reported (files/generations.py)

    def __str__(self) -> str:
        return f"{self.name}: {self.weights} {self.address}"

    @property
    def title(self) -> str:
        """Names it with its version."""
        return f"{self.name}, version {self.version}" if self.version else self.name


@dataclass(frozen=True)
class Acceptance:
    """Says that a licence was accepted on this machine, and when (UTC)."""

    repository: str
    name: str
    version: str
    address: str
    accepted_at: str

    def is_of(self, licence: Licence) -> bool:
        """Tells whether it is this very licence, in this version, that was accepted."""
        return (self.name, self.version) == (licence.name, licence.version)


def acceptance(repository: str) -> Acceptance | None:
    """Reads what was accepted for a repository of the hub; None where nothing was, or not here."""
    try:
        return Acceptance(**json.loads(_place(repository).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def accept(repository: str, licence: Licence) -> None:
    """Keeps beside the weights that their licence was accepted now."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    place = _place(repository)
    place.parent.mkdir(parents=True, exist_ok=True)
    accepted = Acceptance(repository, licence.name, licence.version, licence.address, now)
    write_file(place, json.dumps(asdict(accepted), indent=2).encode())


def licence_text(folder: Path) -> Path | None:
    """Finds the licence's text where it came with the weights."""
    return next((path for path in sorted(folder.glob("LICEN[CS]E*")) if path.is_file()), None)


def _place(repository: str) -> Path:
    folder = "--".join(("models", *repository.split("/")))  # as the hub's library names it
    return Path(constants.HF_HUB_CACHE) / folder / _ACCEPTED
