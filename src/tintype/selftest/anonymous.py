"""What may be sent to strangers: no paths, no names of people or computers, no repositories of one's own."""

from __future__ import annotations

import getpass
import re
import socket
from contextlib import suppress
from typing import Any

from tintype.models.registry import FamilySpec, family_specs
from tintype.models.weights import BaseWeights
from tintype.settings import Settings

_PATH = re.compile(r"(?<![\w.:/])(?:file://)?(?:~|\.{1,2}|[A-Za-z]:)?[/\\](?:[^\s'\"`,;:()<>]+)")
_PATHS = re.compile(r"(?:<path>)+")
_SHORTEST_NAME = 3  # of people and computers; shorter ones are parts of words


class Anonymous:
    """Takes out of texts what tells whose machine they are from."""

    def __init__(self, settings: Settings) -> None:
        known = {"auto", "miniature"}.union(*map(_published, family_specs()))
        self._paths = [base for base in settings.bases.values() if base not in known]
        names = {socket.gethostname(), socket.gethostname().partition(".")[0]}
        with suppress(OSError, KeyError):  # a user without a name
            names.add(getpass.getuser())
        names = {re.escape(name) for name in names if len(name) >= _SHORTEST_NAME}
        self._names = re.compile(rf"\b(?:{'|'.join(sorted(names, key=len, reverse=True))})\b") if names else None

    def text(self, said: str) -> str:
        """Returns a text with places in their stead."""
        for path in self._paths:
            said = said.replace(path, "<path>")
        said = _PATHS.sub("<path>", _PATH.sub("<path>", said))
        return self._names.sub("<name>", said) if self._names else said

    def all(self, value: Any) -> Any:
        """Returns figures whose texts are so, whatever they are nested in."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {name: self.all(one) for name, one in value.items()}
        return [self.all(one) for one in value] if isinstance(value, list | tuple) else value


def called(weights: BaseWeights, spec: FamilySpec) -> str:
    """Names weights as everybody may: a published model by its name, another one not at all."""
    if weights.miniature:
        return "the miniature"
    if weights.source in _published(spec):
        return weights.source
    return f"{weights.edition.title}" if weights.edition else "weights of one's own"


def _published(spec: FamilySpec) -> set[str]:
    return {spec.repository, *(part.repository for downloads in spec.forms.values() for part in downloads)}
