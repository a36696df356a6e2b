"""What an archive holds, sorted while it is unpacked: pictures, their captions, and all else, each with a note."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from tintype.count import counted, some_of
from tintype.dataset.archive import Member
from tintype.dataset.caption_files import CaptionFiles
from tintype.dataset.caption_forms import summary_of
from tintype.dataset.captions import Caption, caption_of
from tintype.dataset.image import SUFFIXES, is_picture
from tintype.dataset.names import regularisation_folder
from tintype.dataset.prepare import DatasetOptions, PreparedImage, RejectedImage
from tintype.dataset.report import FileNote
from tintype.dataset.similar import compare
from tintype.errors import ImageLoadError, InputError, TooFewFiles, TooManyFiles
from tintype.files.dataset_manifest import MANIFEST, PhotoNote, read_manifest

RECOMMENDED = 10  # images; the trainers' page says so
LEAST = 1  # image; fewer cannot be trained at all


@dataclass
class Intake:
    """Collects notes on the files of an archive, and captions, while it is unpacked."""

    options: DatasetOptions
    captions: CaptionFiles = field(default_factory=CaptionFiles)
    dropped: list[FileNote] = field(default_factory=list)
    ignored: list[FileNote] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    name_encoding: str | None = None
    alike: list[tuple[str, str]] = field(default_factory=list)
    copies: dict[str, str] = field(default_factory=dict)  # names of what stays, by those of what was left out
    _known: dict[str, PhotoNote] = field(default_factory=dict)  # what a manifest says, by whole paths
    # Whole paths by name: of pictures, also of those that cannot be used, and of what is no picture.
    _pictures: dict[str, str] = field(default_factory=dict)
    _lost: dict[str, str] = field(default_factory=dict)  # in the archive already
    _others: dict[str, str] = field(default_factory=dict)

    def images(self, unpacked: Iterable[Member], most: int) -> Iterator[Member]:
        """Yields the members that are images; raises TooManyFiles. Captions are read, all else is noted."""
        for member in self._of_subject(unpacked):
            assert member.path is not None
            if member.identity == MANIFEST and (known := read_manifest(member.path)):
                self._known = known
                member.path.unlink()
                self.captions.read.append(FileNote(member.name, "what its dataset knows of each photo"))
            elif is_picture(member.path) or _is_called_picture(member):
                self._pictures[member.name] = member.identity
                member = self._as_known(member)
                if len(self._pictures) > most:
                    raise TooManyFiles(
                        f"The archive holds more than {most} pictures.",
                        remedy="Send the best ones; 10 to 30 are plenty.",
                        ctx={"max_count": most, "provided_count": len(self._pictures)},
                    )
                yield member
            elif not self.captions.take(member):
                self._others[member.name] = member.identity
                self._leave(member, "not a picture, and not a caption of one")

    def _as_known(self, member: Member) -> Member:
        """Takes what a manifest says of a photo, which comes before all photos."""
        note = self.note_of(member)
        if note is None:
            return member
        if note.caption is not None:
            self.captions.give(member.name, note.caption, note.by)
        return replace(member, crop=note.crop)

    def note_of(self, member: Member) -> PhotoNote | None:
        """Tells what a manifest says of a photo."""
        return self._known.get(member.identity)

    def expect(self, names: Iterable[str]) -> None:
        """Counts photos in that are not here, so that captions find them."""
        self._pictures |= {name: name for name in names}

    def _of_subject(self, unpacked: Iterable[Member]) -> Iterator[Member]:
        """Yields what was unpacked; regularisation photos last, and only if there are no others, who would be meant."""
        aside: dict[str, list[Member]] = {}
        for member in unpacked:
            self.name_encoding = self.name_encoding or member.encoding
            if member.path is None:
                is_junk = member.state == "junk"
                (self.ignored if is_junk else self.dropped).append(FileNote(member.name, member.reason))
                paths = self._lost if _is_called_picture(member) and not is_junk else self._others
                paths[member.name] = member.identity
            elif folder := regularisation_folder(member.identity):
                aside.setdefault(folder, []).append(member)
            else:
                yield member
        if aside and not self._pictures:
            self.warnings.append(f"All photos lie in {some_of(list(aside))}, and are trained as the subject's.")
            yield from itertools.chain.from_iterable(aside.values())
            return
        for folder, others in aside.items():
            for member in others:
                self._leave(member, "in a folder of regularisation photos, which are not of the subject")
            self.warnings.append(
                f"{folder} holds regularisation photos ({counted(len(others), 'file')}), "
                "which are not trained as the subject."
            )

    def _leave(self, member: Member, why: str) -> None:
        assert member.path is not None
        member.path.unlink()
        self.dropped.append(FileNote(member.name, why))

    def usable(
        self, results: Iterable[PreparedImage | RejectedImage], check: Callable[[], None]
    ) -> list[PreparedImage]:
        """Lists the images that could be decoded, by name, at least one; the others are noted."""
        prepared: list[PreparedImage] = []
        rejected: list[InputError] = []
        for result in results:
            if isinstance(result, PreparedImage):
                prepared.append(result)
            else:
                rejected.append(result.why)
                self.dropped.append(FileNote(result.name, result.why.message))
            check()
        if len(prepared) < LEAST:
            raise self._nothing_usable(rejected)
        return sorted(prepared, key=lambda image: image.name)

    def _nothing_usable(self, rejected: Sequence[InputError]) -> InputError:
        if rejected:
            others = f" {len(rejected) - 1} more cannot be read either." if len(rejected) > 1 else ""
            return ImageLoadError(f"None of the pictures can be used. {rejected[0].message}{others}")
        reasons = " ".join(f"{note.name}: {note.what}." for note in self.dropped[:3])
        return TooFewFiles(
            f"The archive holds no picture. {reasons}".strip(),
            remedy=f"Send at least {RECOMMENDED} photos of the person, as JPEG, PNG, WebP or HEIC.",
            ctx={"min_count": LEAST, "provided_count": 0},
        )

    def without_copies(self, images: list[PreparedImage]) -> list[PreparedImage]:
        """Leaves out the worse copies of a shot, whose caption goes to the better one if that has none."""
        likeness = compare([image.size for image in images], [image.quality for image in images])
        self.copies = {images[copy].name: images[better].name for copy, better in likeness.copies.items()}
        self.pair_captions(self.copies)
        for copy, better in sorted(likeness.copies.items()):
            left, stays = images[copy], images[better]
            why = f"the same shot as {stays.name}, which stays"
            caption = self.caption_of(left.name)
            if caption.written and not self.caption_of(stays.name).written:
                self.captions.give(stays.name, caption.text)
                why += " and takes over the caption"
            self.dropped.append(FileNote(left.name, why, left.thumbnail))
            left.discard()
        self.alike = [(images[one].name, images[other].name) for one, other in likeness.alike]
        return [image for number, image in enumerate(images) if number not in likeness.copies]

    def pair_captions(self, copies: dict[str, str]) -> None:
        """Gives what was read of captions to the photos; the file of a worse copy is about the better one."""
        structured = self.options.canonical_caption is not None
        self.captions.pair({**self._pictures, **self._lost}, copies, self._others, structured=structured)
        self.dropped += self.captions.dropped
        self.ignored += self.captions.ignored
        self.warnings += self.captions.warnings
        if self.name_encoding not in (None, "utf-8"):
            self.warnings.append(
                f"The archive does not say how its names are encoded; they were read as {self.name_encoding}."
            )

    def caption_of(self, name: str) -> Caption:
        """Chooses the caption of an image, before words for a framing."""
        text, source = self.captions.find(name)
        if self.options.force_default_caption:
            text = None
        plain = summary_of(text) if text and self.options.canonical_caption is None else text
        caption = caption_of(plain, self.options.trigger, self.options.default_caption, source=source)
        return caption if plain == text else replace(caption, note="the summary of one in Ideogram's schema")


def _is_called_picture(member: Member) -> bool:
    return member.suffix in SUFFIXES or member.suffix == ""  # phones and messengers strip suffixes
