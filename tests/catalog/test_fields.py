"""Files in inputs are known by their type, whatever their field is called and however deep it lies."""

from __future__ import annotations

from pydantic import Field

from tintype.catalog.endpoint import EndpointInput
from tintype.catalog.fields import FileUrl, OptionalFileUrl, file_references


class Part(EndpointInput):
    weights: FileUrl


class Several(EndpointInput):
    anything: FileUrl
    perhaps: OptionalFileUrl = ""
    neither: FileUrl | None = None
    many: list[FileUrl] = Field(default_factory=list)
    parts: list[Part] = Field(default_factory=list)
    words: str = ""


def test_every_named_file_is_found_and_nothing_else() -> None:
    given = Several.model_validate(
        {
            "anything": "https://h/a",
            "neither": "https://h/b",
            "many": ["https://h/c", {"url": "https://h/d"}],
            "parts": [{"weights": "https://h/e"}],
            "words": "https://h/text",
        }
    )
    assert list(file_references(given)) == [
        (("anything",), "https://h/a"), (("neither",), "https://h/b"), (("many", 0), "https://h/c"),
        (("many", 1), "https://h/d"), (("parts", 0, "weights"), "https://h/e"),
    ]  # fmt: skip


def test_fields_without_a_file_are_left_out() -> None:
    assert list(file_references(Several.model_validate({"anything": "data:,a"}))) == [(("anything",), "data:,a")]
