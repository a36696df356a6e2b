"""Finds which picture the name beside a caption means, and takes no guess where it could mean two.

Other trainers cut suffixes, leave folders out, write the paths of their own computer; cameras and systems fold letters.
So a name is looked for as it stands, then by its stem, then without regard to case and Unicode form. Each step is taken
for all captions before the next, and only where it leads to one picture that no earlier step gave a caption.
"""

from __future__ import annotations

import itertools
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

# What a name may lose to be a stem: not the number in `portrait.v1.0`.
_SUFFIX = re.compile(r"(?<=[^/])\.[^\W\d][\w ()~-]*$")
#: What a caption's own reference may lose, since photos are converted after they were captioned.
PICTURE_SUFFIX = re.compile(
    r"(?<=[^/])\.(jpe?g?|jfif|a?png|webp|hei[cf]s?|hif|avif|gif|bmp|tiff?|mpo|jxl|jp2|dng|cr[23w]|nef|arw|orf|rw2|raf)$",
    re.IGNORECASE,
)
# Folders that say what kind of file is in them: captions/1.txt is about images/1.jpg.
_KINDS = frozenset({"caption", "captions", "label", "labels", "text", "texts", "txt", "prompts", "tags", "annotations",
                    "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "pics"})  # fmt: skip
_DEEPEST = 8  # folders of a path that are compared

Where = Literal["whole", "without kinds", "end"]
Place = tuple[Where, str]


@dataclass(frozen=True)
class Claim:
    """Holds a caption of the file called `file`, and the places where its picture may be, the likeliest first.

    A place is a whole path, one without folders that name a kind of file, or the end of one.
    """

    text: str
    name: str  # as a report shows it
    file: str
    places: tuple[Place, ...]


@dataclass
class Pairing:
    """Tells which caption each picture has, by the picture's key, and what became of the others."""

    found: dict[str, Claim] = field(default_factory=dict)
    repeated: list[tuple[Claim, str]] = field(default_factory=list)  # about a picture that has one
    doubtful: list[tuple[Claim, list[str]]] = field(default_factory=list)  # with what they may be about
    rivals: dict[str, list[Claim]] = field(default_factory=dict)  # that differ about a picture, which has none of them
    unknown: list[Claim] = field(default_factory=list)

    def reaches(self, *, apart_from: Container[str] = ()) -> bool:
        """Tells whether any claim may be about any of the pictures, but for those of these names."""
        doubtful = (claim for claim, _ in self.doubtful)
        claims = itertools.chain(self.found.values(), doubtful, *self.rivals.values())
        return any(claim.name not in apart_from for claim in claims)

    def used(self) -> list[tuple[Claim, str]]:
        """Lists captions with their pictures, also those that say what another one said."""
        return [*((claim, picture) for picture, claim in self.found.items()), *self.repeated]

    def settle(self, picture: str, claims: list[Claim]) -> None:
        """Decides between claims on one picture: what one name says first, or what all say."""
        if len({claim.text for claim in claims}) == 1 or len({(claim.file, claim.places) for claim in claims}) == 1:
            self.found[picture] = claims[0]
            self.repeated += [(claim, picture) for claim in claims[1:]]
        else:
            self.rivals[picture] = claims


def beside(identity: str) -> tuple[Place, ...]:
    """Lists where the picture of a caption file may be; `identity` is that file's without its own suffix."""
    return ("whole", identity), ("without kinds", _without_kinds(identity))


def listed(name: str, folder: str) -> tuple[Place, ...]:
    """Lists where a picture may be that a file in `folder` calls `name`, which may be a path of another computer."""
    plain = name.strip().replace("\\", "/").lstrip("/")
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")][-_DEEPEST:]
    ends = ["/".join(parts[at:]) for at in range(len(parts))]
    if not ends:
        return ()
    here = posixpath.normpath(posixpath.join(folder, plain))
    whole = dict.fromkeys([here, *(path for end in ends for path in (posixpath.join(folder, end), end))])
    return *(("whole", path) for path in whole), ("end", ends[0])


def pair(
    claims: Sequence[Claim],
    pictures: Mapping[str, str],
    copies: Mapping[str, str] | None = None,
    others: Mapping[str, str] | None = None,
) -> Pairing:
    """Gives each picture at most one caption. `pictures` are whole paths by key, `copies` better shots by worse ones.

    `others` are files that are no pictures here: a name that means one of them as it stands means no picture.
    """
    result, index, copies = Pairing(), _index(pictures), copies or {}
    for key, path in (others or {}).items():
        index[False, False, "whole", path].add(key)
        index[True, False, "whole", _folded(path)].add(key)
    names = {posixpath.basename(text) for folded, _, _, text in index if folded}
    waiting: list[Claim] = []
    for claim in claims:  # a long table about other photos costs no more than this
        last = posixpath.basename(claim.places[0][1]) if claim.places else ""
        known = not names.isdisjoint((_folded(last), _folded(PICTURE_SUFFIX.sub("", last))))
        (waiting if known else result.unknown).append(claim)
    taken: set[str] = set()
    late: dict[int, str] = {}  # the picture that a claim is about, had it not had one
    for folded, relation in itertools.product((False, True), ("name", "stem", "other suffix")):
        for turn in range(max((len(claim.places) for claim in waiting), default=0)):
            met: dict[str, list[Claim]] = defaultdict(list)
            left = []
            for claim in waiting:
                named = _hits(claim, turn, index, folded, relation)
                hits = named - taken
                if named and not hits and turn == 0 and relation != "other suffix":
                    late.setdefault(id(claim), min(named))
                hits = {hit for hit in hits if copies.get(hit) not in hits}
                if len(hits) == 1:
                    met[hits.pop()].append(claim)
                elif hits:
                    result.doubtful.append((claim, sorted(hits)))
                else:
                    left.append(claim)
            for picture, rivals in met.items():
                result.settle(picture, rivals)
            taken |= met.keys()
            waiting = left
    for claim in waiting:
        if (picture := late.get(id(claim), "")) in result.found:
            result.repeated.append((claim, picture))
        else:
            result.unknown.append(claim)
    return result


_Index = dict[tuple[bool, bool, Where, str], set[str]]


def _index(pictures: Mapping[str, str]) -> _Index:
    """The keys of pictures by: letters folded or not, stem or whole name, kind of place, and text there."""
    index: _Index = defaultdict(set)
    for key, path in pictures.items():
        # A name without a suffix that is one may as well be another's stem: `img.v1` and `img.v1.png`.
        is_whole = PICTURE_SUFFIX.search(path) is not None
        texts = [(not is_whole, path), (True, _SUFFIX.sub("", path))]
        for (stem, text), folded in itertools.product(texts, (False, True)):
            name = _folded(text) if folded else text
            index[folded, stem, "whole", name].add(key)
            index[folded, stem, "without kinds", _without_kinds(name)].add(key)
            parts = name.split("/")[-_DEEPEST:]
            for at in range(1, len(parts)):
                index[folded, stem, "end", "/".join(parts[at:])].add(key)
    return index


def _hits(claim: Claim, turn: int, index: _Index, folded: bool, relation: str) -> set[str]:
    if turn >= len(claim.places):
        return set()
    where, text = claim.places[turn]
    if relation == "other suffix":
        text = PICTURE_SUFFIX.sub("", text)
    return index.get((folded, relation != "name", where, _folded(text) if folded else text), set())


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _without_kinds(path: str) -> str:
    *folders, name = path.split("/")
    return "/".join([*(part for part in folders if part.casefold() not in _KINDS), name])
