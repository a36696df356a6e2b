"""Field types that several endpoints share: files in, files and images out, image sizes, seeds.

`FileUrl` is a plain string on the wire. It may be an http(s) URL, a data URI, or a file of this server; fal's clients
also send {"url": …}, which is unwrapped here.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

#: Marks a field that a form shows at once rather than among further settings, as fal's pages do.
IMPORTANT: JsonDict = {"ui": {"important": True}}

# A file of this server, wherever it is served from: rendered to an absolute URL only when answered.
INTERNAL_SCHEME = "tintype:files/"

_URL = re.compile(r"^(https?://\S+|data:[^,]*,.*|tintype:files/\S+)$", re.IGNORECASE | re.DOTALL)


def _as_url(given: Any) -> Any:
    if isinstance(given, dict) and isinstance(given.get("url"), str):
        given = given["url"]
    given = given.strip() if isinstance(given, str) else given
    if isinstance(given, str) and given and not _URL.match(given[:4096] if given[:5].lower() == "data:" else given):
        raise ValueError(
            "This is not a URL. Send an http(s) URL, a data URI, or the URL that uploading a file returned; "
            "a path on your computer has to be uploaded first."
        )
    return given


def _as_required_url(given: Any) -> Any:
    url = _as_url(given)
    if url == "":
        raise ValueError("A URL is needed here. Upload the file first, or send it as a data URI.")
    return url


FileUrl = Annotated[str, BeforeValidator(_as_required_url)]
OptionalFileUrl = Annotated[str, BeforeValidator(_as_url)]
_FILE_MARKS = (*get_args(FileUrl)[1:], *get_args(OptionalFileUrl)[1:])


def file_references(value: BaseModel) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yields the path to each file that an input names, and its URL; empty ones are left out."""
    for name, declared in type(value).model_fields.items():
        for path, url in _references(getattr(value, name), is_file(declared)):
            yield (name, *path), url


def is_file(declared: FieldInfo) -> bool:
    """Tells whether a field holds the URL of a file, or several."""
    return any(mark in _FILE_MARKS for mark in declared.metadata) or _names_file(declared.annotation)


def replace_file(value: BaseModel, path: Sequence[str | int], url: str) -> None:
    """Puts another URL at a path that `file_references` gave."""
    place: Any = value
    for part in path[:-1]:
        place = place[part] if isinstance(part, int) else getattr(place, part)
    if isinstance(path[-1], int):
        place[path[-1]] = url
    else:
        setattr(place, path[-1], url)


def _references(value: object, holds_file: bool) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, BaseModel):
        yield from file_references(value)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            for path, url in _references(part, holds_file):
                yield (index, *path), url
    elif isinstance(value, str) and value and holds_file:
        yield (), value


def _names_file(annotation: Any) -> bool:
    """Tells whether an annotation such as `FileUrl | None` or `list[FileUrl]` holds a file URL."""
    if get_origin(annotation) is Annotated:
        return any(mark in _FILE_MARKS for mark in get_args(annotation)[1:])
    return any(_names_file(part) for part in get_args(annotation) if not isinstance(part, str))


SEEDS = 2**64  # as many as torch has, and other programs send
CHANCE_SEEDS = 2**53  # JavaScript's clients lose digits above it, so that chance stays below


def _by_chance(seed: int) -> int:
    return secrets.randbelow(CHANCE_SEEDS) if seed == -1 else seed


#: Other programs send -1 for a seed by chance. It is chosen when a request is accepted: every attempt has the same.
Seed = Annotated[int, Field(ge=-1, lt=SEEDS), AfterValidator(_by_chance)]


#: Of a training: kept with its LoRA, and shown.
CONSENT = (
    "Who agreed to this training, when, and what for, in your words; kept with the LoRA (an extension of tintype)."
)
Consent = Annotated[str, Field(max_length=2000)]


class File(BaseModel):
    """Describes a file in a response; `url` is absolute and needs no key."""

    url: str = Field(description="The URL where the file can be downloaded from.")
    content_type: str | None = Field(None, description="The mime type of the file.")
    file_name: str | None = Field(None, description="The name of the file.")
    file_size: int | None = Field(None, description="The size of the file in bytes.")


class Image(BaseModel):
    """Describes an image in a response; `url` is a data URI when sync_mode was asked for."""

    url: str
    content_type: str = "image/jpeg"
    file_name: str | None = None
    file_size: int | None = None
    width: int | None = None
    height: int | None = None


ImageSizeName = Literal[
    "square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"
]  # fmt: skip

# Nominal pixels (width, height) of fal's names.
IMAGE_SIZES: dict[str, tuple[int, int]] = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}


class ImageSize(BaseModel):
    """Holds a size in nominal pixels; sides are rounded to what the model's tokens allow."""

    width: int = Field(512, ge=64, le=4096)
    height: int = Field(512, ge=64, le=4096)


def pixels_of(size: ImageSize | str) -> tuple[int, int]:
    """Returns the nominal (width, height) of a size given by name or by sides."""
    return IMAGE_SIZES[size] if isinstance(size, str) else (size.width, size.height)


def area_of(size: ImageSize | str) -> int:
    """Returns the nominal pixels of an image."""
    width, height = pixels_of(size)
    return width * height
