"""Reads all caption files of an archive together, once its pictures are known, and says what became of each.

Together, because they share an encoding, and because what a name means depends on the others. A picture's own file wins
over a table of many; where two files of one kind differ, one is taken and the other is named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tintype.count import some_of
from tintype.dataset.archive import Member
from tintype.dataset.caption_forms import CAPTION_SUFFIXES, LONGEST, SUFFIXES, TEXT_FIELDS, Reading, read_caption_file
from tintype.dataset.captions import Source
from tintype.dataset.encodings import USUAL_IN_TEXT, Guess, guess, trimmed, unicode_of
from tintype.dataset.names import regularisation_folder, shown
from tintype.dataset.pairing import Claim, Pairing, beside, listed, pair
from tintype.dataset.report import FileNote

MOST_TABLE_BYTES = 32 * 1024 * 1024
_SAMPLE_BYTES = 1024 * 1024  # of all files whose encoding has to be guessed
_SAVE = " If the captions look wrong in the report, save them as UTF-8."
_TWO_CAPTIONS = "Photos with two captions that differ, of which the first is trained"
_NAME_BOTH = " Name each after its picture with folder and suffix, as a.jpg.txt."


@dataclass(frozen=True)
class CaptionFile:
    """Names a file that may hold captions: as a report shows it, as its archive does, and where it lies."""

    name: str
    identity: str
    path: Path

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.identity.strip()).suffix.lower()

    @property
    def stem(self) -> str:
        """Gives the path of the file without its suffix, which is its picture's path with or without one."""
        return self.identity.strip()[: -len(self.suffix)]

    @property
    def most_bytes(self) -> int:
        return LONGEST * 4 if self.suffix in CAPTION_SUFFIXES else MOST_TABLE_BYTES


@dataclass
class CaptionFiles:
    """Collects caption files; `pair` reads them, and fills in what they say and what became of them."""

    read: list[FileNote] = field(default_factory=list)
    dropped: list[FileNote] = field(default_factory=list)
    ignored: list[FileNote] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _files: list[CaptionFile] = field(default_factory=list)
    _texts: dict[str, tuple[str, Source]] = field(default_factory=dict)
    _told_by: dict[str, str] = field(default_factory=dict)  # the file that a picture's caption is from
    # What a warning names, by what it says before and after: one line is enough for a hundred files.
    _named: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def take(self, member: Member) -> bool:
        """Keeps a file for `pair` if it may hold captions, by its suffix."""
        assert member.path is not None
        file = CaptionFile(member.name, member.identity or member.name, member.path)
        if file.suffix in SUFFIXES:
            self._files.append(file)
        return file.suffix in SUFFIXES

    def find(self, picture: str) -> tuple[str | None, Source]:
        """Finds what was written about a picture, and where."""
        return self._texts.get(picture, (None, "file"))

    def give(self, picture: str, text: str, source: Source = "metadata") -> None:
        """Gives a picture a caption that is known otherwise: of its copy, or as its dataset has it."""
        self._texts[picture] = text, source

    def pair(
        self,
        pictures: Mapping[str, str],
        copies: Mapping[str, str],
        others: Mapping[str, str],
        *,
        structured: bool = False,
    ) -> None:
        """Reads the files, and finds the pictures they are about: `pictures` are their whole paths by name.

        `copies` are better shots by worse ones, `others` files that are no pictures. With `structured` a photo's JSON
        file wins over its text file.
        """
        readings = dict(self._readings())
        rows = {file: pair(_row_claims(file, reading), pictures, copies, others) for file, reading in readings.items()}
        # A file that may be both is about its own photo, unless it names another that is here.
        tables = {
            file
            for file, reading in readings.items()
            if reading.rows and (not reading.own or (reading.names_pictures and rows[file].reaches()))
        }
        for suffix in (".json", *CAPTION_SUFFIXES) if structured else (*CAPTION_SUFFIXES, ".json"):
            files = {file.name: file for file in readings if file.suffix == suffix and file not in tables}
            claims = [
                Claim(text, name, name, beside(file.stem))
                for name, file in files.items()
                if (text := readings[file].own)
            ]
            pairing = pair(claims, pictures, copies, others)
            # {"caption": …} beside no photo is no table about a photo called "caption".
            orphans = [files[claim.name] for claim in pairing.unknown]
            tables |= {file for file in orphans if rows[file].reaches(apart_from=TEXT_FIELDS)}
            pairing.unknown = [claim for claim in pairing.unknown if files[claim.name] not in tables]
            self._settle_own(pairing)
        for file in sorted(tables, key=lambda table: table.identity):
            self._settle_table(file, rows[file], readings[file].problems)
        for file, reading in readings.items():
            file.path.unlink()
            if not reading.own and file not in tables:
                self._without_captions(file, reading)
        self.warnings += [
            f"{before}: {some_of(sorted(names))}.{after}" for (before, after), names in self._named.items() if names
        ]

    def _readings(self) -> Iterator[tuple[CaptionFile, Reading]]:
        """Reads every file as text, those that are not Unicode in what is guessed of them together."""
        foreign: dict[CaptionFile, bytes] = {}
        for file in self._files:
            raw = _beginning(file, file.most_bytes)
            text = unicode_of(raw)
            if text is not None:
                yield file, read_caption_file(text, file.suffix)
            else:
                foreign[file] = b""
        for file in foreign:
            foreign[file] = _beginning(file, max(256, _SAMPLE_BYTES // len(foreign)))
        together = guess(list(foreign.values()), USUAL_IN_TEXT) if foreign else Guess("utf-8")
        for file, sample in foreign.items():
            alone = guess([sample], USUAL_IN_TEXT)  # somebody may have put two computers' files together
            used = alone if alone.sure else together
            unsure = "" if used.sure else ", of which nothing makes sure"
            self._named[f"Not saved as UTF-8, and read as {used.encoding}{unsure}", _SAVE].append(file.name)
            yield (
                file,
                read_caption_file(_beginning(file, file.most_bytes).decode(used.encoding, "replace"), file.suffix),
            )

    def _settle_own(self, pairing: Pairing) -> None:
        for claim, picture in pairing.used():
            there = self._texts.setdefault(picture, (claim.text, "file"))[0]
            by = self._told_by.setdefault(picture, claim.name)
            if there == claim.text:
                self.read.append(FileNote(claim.name, f"caption of {picture}"))
            else:
                self.dropped.append(FileNote(claim.name, f"{picture} has another caption, in {by}"))
                self._named[_TWO_CAPTIONS, ""].append(f"{picture} ({by}, {claim.name})")
        for claim in pairing.unknown:
            self.dropped.append(FileNote(claim.name, "no picture of the same name"))
        for claim, hits in pairing.doubtful:
            self.dropped.append(FileNote(claim.name, f"it may be about {some_of(hits)}, and is given to none"))
        for picture, claims in pairing.rivals.items():
            names = some_of([claim.name for claim in claims])
            self.dropped += [FileNote(claim.name, f"{names} may be about {picture}; none is taken") for claim in claims]
        self._tell_doubts(pairing)

    def _settle_table(self, file: CaptionFile, pairing: Pairing, problems: Sequence[str]) -> None:
        for picture, claim in pairing.found.items():
            by = self._told_by.setdefault(picture, file.name)
            there, source = self._texts.setdefault(picture, (claim.text, "metadata"))
            if source == "metadata" and there != claim.text:
                self._named[_TWO_CAPTIONS, ""].append(f"{picture} ({by}, {file.name})")
        several = {picture for claim, picture in pairing.repeated if claim.text != pairing.found[picture].text}
        self._named[f"Of several captions in {file.name} the first is trained", ""] += several
        count = len(pairing.found)
        if count:
            self.read.append(FileNote(file.name, f"captions of {count} picture{'s' if count > 1 else ''}"))
        else:
            self.dropped.append(FileNote(file.name, "it names no picture that is here"))
        self._tell_doubts(pairing)
        self.warnings += [f"{file.name}: {problem}." for problem in problems]

    def _tell_doubts(self, pairing: Pairing) -> None:
        self._named["No picture of the same name", ""] += [
            # Nobody misses the captions of what is not trained anyway.
            claim.name
            for claim in pairing.unknown
            if not any(regularisation_folder(path) for _, path in claim.places)
        ]
        self._named["Given to no picture, because each may be about several", _NAME_BOTH] += [
            f"{claim.name} ({some_of(hits)})" for claim, hits in pairing.doubtful
        ]
        self._named["Several that differ may be about one picture, and none is taken", _NAME_BOTH] += [
            f"{picture} ({some_of([claim.name for claim in claims])})" for picture, claims in pairing.rivals.items()
        ]

    def _without_captions(self, file: CaptionFile, reading: Reading) -> None:
        if reading.of_service:
            self.ignored.append(FileNote(file.name, "left there by a photo service"))
        else:
            why = f" ({reading.problems[0]})" if reading.problems else ""
            self.dropped.append(FileNote(file.name, f"no captions are in it{why}"))


def _beginning(file: CaptionFile, most: int) -> bytes:
    with file.path.open("rb") as opened:
        return trimmed(opened.read(most + 1), most)


def _row_claims(file: CaptionFile, reading: Reading) -> list[Claim]:
    folder = str(PurePosixPath(file.identity).parent).removeprefix(".")
    return [Claim(text, shown(name), file.name, listed(name, folder)) for name, text in reading.rows]
