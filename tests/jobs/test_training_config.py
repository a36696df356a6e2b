"""What a config file says of the request: all of it, but for files that were sent inside of it."""

from __future__ import annotations

from pydantic import Field

from tintype.catalog.endpoint import EndpointInput
from tintype.catalog.fields import FileUrl, OptionalFileUrl
from tintype.catalog.flux_lora import LoraWeight
from tintype.jobs.training_config import requested

LONG = "data:application/zip;base64," + "A" * 5000
SHORTENED = f"{LONG[:40]}… ({len(LONG)} characters)"


class SomeInput(EndpointInput):
    photos: FileUrl
    mask: OptionalFileUrl = ""
    loras: list[LoraWeight] = Field(default_factory=list)
    many: list[FileUrl] = Field(default_factory=list)
    prompt: str = ""


def test_files_inside_a_request_are_shortened_wherever_they_are_and_nothing_else_is() -> None:
    given = SomeInput(
        photos=LONG, loras=[LoraWeight(path="https://h/a"), LoraWeight(path=LONG)], many=[LONG], prompt="word " * 1000
    )
    told = requested(given)
    assert (told["photos"], told["mask"], told["many"]) == (SHORTENED, "", [SHORTENED])
    assert [lora["path"] for lora in told["loras"]] == ["https://h/a", SHORTENED]
    assert told["prompt"] == "word " * 1000
    assert given.photos == LONG, "the input itself is as it was"


def test_a_url_stays_as_it_is() -> None:
    url = "https://h/" + "a" * 150
    assert requested(SomeInput(photos=url))["photos"] == url
