"""How inputs may be spelt: every field of every endpoint, at every depth, and an endpoint that is declared here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, Field

from tintype import catalog
from tintype.catalog import Endpoint, EndpointInput
from tintype.catalog.fields import FileUrl, OptionalFileUrl
from tintype.catalog.flux_lora import FLUX_LORA
from tintype.catalog.ideogram_v4 import IDEOGRAM_LORA
from tintype.catalog.ideogram_v4_trainer import IDEOGRAM_TRAINER
from tintype.errors import InputError

ZIP = "https://example.com/photos.zip"
LORA = "https://example.com/lora.safetensors"


class Corner(Enum):
    TOP_LEFT = "top-left"
    BOTTOM = "bottom"


class Mark(BaseModel):
    picture: FileUrl
    corner: Corner = Corner.BOTTOM
    strength: float = Field(1.0, ge=0, le=2)


class Page(BaseModel):
    marks: list[Mark] = Field(default_factory=list, max_length=3)
    layout: Literal["one", "Two Columns"] | None = None


class BookInput(EndpointInput):
    pages: list[Page] = Field(min_length=1)
    named: dict[str, Page] = Field(default_factory=dict)
    cover: Page | Mark | Literal["none"] = "none"
    paper: Annotated[Literal["a4", "tar.gz"], Field(description="x")] = "a4"
    class_: str | None = Field(None, alias="class")


BOOK = replace(FLUX_LORA, id="house/book", input=BookInput)
ENDPOINTS = (*catalog.ENDPOINTS, BOOK)
Way = tuple[str | int, ...]


def forms(declared: Any) -> list[Any]:
    if get_origin(declared) is Annotated:
        return forms(get_args(declared)[0])
    if get_origin(declared) in (Union, UnionType):
        return [form for part in get_args(declared) for form in forms(part)]
    return [declared]


def example(declared: Any) -> Any:
    """Something valid of a type, with an object wherever there can be one, and every optional object and list there."""
    kinds = forms(declared)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return body_of(kind)
        if get_origin(kind) is list and any(nested(part) for part in forms(get_args(kind)[0])):
            return [example(get_args(kind)[0])]
        if get_origin(kind) is dict:
            return {"any": example(get_args(kind)[1])}
    return ZIP


def nested(declared: Any) -> bool:
    return any(
        (isinstance(kind, type) and issubclass(kind, BaseModel)) or any(map(nested, get_args(kind)))
        for kind in forms(declared)
        if get_origin(kind) is not Literal
    )


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    return {
        info.alias or name: example(info.annotation)
        for name, info in model.model_fields.items()
        if info.is_required() or nested(info.annotation)
    }


def objects(declared: Any, given: Any, way: Way = ()) -> Iterator[tuple[Way, type[BaseModel]]]:
    """Yields the way to each object of a body, and its model."""
    if isinstance(given, Mapping):
        for kind in forms(declared):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield way, kind
                for name, info in kind.model_fields.items():
                    yield from objects(info.annotation, given.get(info.alias or name), (*way, info.alias or name))
                return
            if get_origin(kind) is dict:
                for name, part in given.items():
                    yield from objects(get_args(kind)[1], part, (*way, name))
    elif isinstance(given, list):
        for kind in forms(declared):
            for number, part in enumerate(given if get_origin(kind) is list else ()):
                yield from objects(get_args(kind)[0], part, (*way, number))


def changed(given: Any, way: Way, value: Any) -> Any:
    """A copy of a body with another value at the end of a way."""
    if not way:
        return value
    if isinstance(given, list):
        return [changed(part, way[1:], value) if number == way[0] else part for number, part in enumerate(given)]
    return {**given, way[0]: changed(given.get(way[0]), way[1:], value)}


def without(given: Any, way: Way) -> Any:
    if len(way) > 1:
        inner = given[way[0]]
        return changed(given, way[:1], without(inner, way[1:]))
    return {name: value for name, value in given.items() if name != way[0]}


PLACES = [
    pytest.param(endpoint, way, model, id=f"{endpoint.id}:{'.'.join(map(str, way)) or 'body'}")
    for endpoint in ENDPOINTS
    for way, model in objects(endpoint.input, body_of(endpoint.input))
]


def words_of(declared: Any) -> list[str]:
    literals = [word for kind in forms(declared) if get_origin(kind) is Literal for word in get_args(kind)]
    enums = [kind for kind in forms(declared) if isinstance(kind, type) and issubclass(kind, Enum)]
    return [*literals, *(member.value for kind in enums for member in kind)]


def test_the_walk_meets_objects_in_lists_unions_and_below_each_other() -> None:
    met = {(place.values[0].id, place.values[1]) for place in PLACES}
    assert {
        ("fal-ai/flux-lora", ("loras", 0)), ("fal-ai/flux-lora", ("image_size",)), ("ideogram/v4", ("image_size",)),
        ("ideogram/v4/lora", ("loras", 0)), ("house/book", ("pages", 0, "marks", 0)), ("house/book", ("cover",)),
        ("house/book", ("named", "any", "marks", 0)),
    } <= met  # fmt: skip


@pytest.mark.parametrize(("endpoint", "way", "model"), PLACES)
def test_empty_and_null_are_absent_wherever_a_field_is_optional(
    endpoint: Endpoint, way: Way, model: type[BaseModel]
) -> None:
    body = body_of(endpoint.input)
    for name, info in model.model_fields.items():
        place = (*way, info.alias or name)
        for nothing in (None, "", "  ", "\n"):
            if not info.is_required():
                given = changed(body, place, nothing)
                assert endpoint.parse(given) == endpoint.parse(without(given, place)), (name, nothing)
        if info.is_required():
            with pytest.raises(InputError):
                endpoint.parse(changed(body, place, None))


@pytest.mark.parametrize(("endpoint", "way", "model"), PLACES)
def test_words_are_known_in_any_case_with_dots_blanks_and_hyphens(
    endpoint: Endpoint, way: Way, model: type[BaseModel]
) -> None:
    body = body_of(endpoint.input)
    for name, info in model.model_fields.items():
        place = (*way, info.alias or name)
        for word in words_of(info.annotation):
            meant = endpoint.parse(changed(body, place, word))
            for spelt in (word.upper(), word.lower(), word.title(), f".{word}", f"  {word}\t", f" .{word.upper()} ",
                          word.replace("_", " "), word.replace("_", "-"), word.replace(":", " : ")):  # fmt: skip
                assert endpoint.parse(changed(body, place, spelt)) == meant, (name, spelt)
            for wrong in (f"{word}x", f"x{word}"):
                with pytest.raises(InputError) as refused:
                    endpoint.parse(changed(body, place, wrong))
                assert refused.value.details[0]["loc"] == ["body", *place]


@pytest.mark.parametrize(("endpoint", "way", "model"), PLACES)
def test_an_unknown_field_is_ignored_and_named_with_its_place(
    endpoint: Endpoint, way: Way, model: type[BaseModel]
) -> None:
    body = body_of(endpoint.input)
    assert endpoint.unknown_fields(body) == []
    given = changed(body, (*way, "qqqq"), {"deep": [1]})
    assert endpoint.parse(given) == endpoint.parse(body)
    ((name, _),) = endpoint.unknown_fields(given)
    assert name == "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in (*way, "qqqq")).lstrip(".")
    for known in [info.alias or name for name, info in model.model_fields.items()]:
        if len(known) > 3:  # one letter doubled
            misspelt = f"{known[:-2]}{known[-2]}{known[-2:]}"
            ((_, nearest),) = endpoint.unknown_fields(changed(body, (*way, misspelt), None))
            assert nearest == known


@pytest.mark.parametrize(
    ("endpoint", "body", "unknown"),
    [
        (FLUX_LORA, {"loras": [{"path": LORA, "weight": 0.2}]}, [("loras[0].weight", "scale")]),
        (FLUX_LORA, {"loras": [{"path": LORA}, {"path": LORA, "strength": 1}]}, [("loras[1].strength", "scale")]),
        (IDEOGRAM_LORA, {"loras": [{"path": LORA, "lora_scale": 1}]}, [("loras[0].lora_scale", "scale")]),
        (FLUX_LORA, {"loras": [{"path": LORA, "scale": 1, "weight": 2}]}, [("loras[0].weight", None)]),
        (FLUX_LORA, {"image_size": {"w": 512, "h": 512}}, [("image_size.w", "width"), ("image_size.h", "height")]),
        (FLUX_LORA, {"steps": 9, "guidance": 3, "lora": []},
         [("steps", "num_inference_steps"), ("guidance", "guidance_scale"), ("lora", "loras")]),
        (IDEOGRAM_TRAINER, {"images_data_url": ZIP, "image_data_url": ZIP}, [("image_data_url", "images_data_url")]),
        (FLUX_LORA, {"": 1, "\ud800": 2}, [("", None), ("\ud800", None)]),
    ],
)  # fmt: skip
def test_the_nearest_field_is_one_alike_or_holding_the_word_or_the_only_one_left(
    endpoint: Endpoint, body: dict[str, Any], unknown: list[tuple[str, str | None]]
) -> None:
    assert endpoint.unknown_fields(body) == unknown


def test_only_the_first_unknown_fields_are_compared_with_what_there_is() -> None:
    body = {"prompt": "x", **{f"guidance_scal{number}": 1 for number in range(1000)}, "g" * 900_000: 1}
    assert FLUX_LORA.unknown_fields(body) == [(f"guidance_scal{number}", "guidance_scale") for number in range(20)]
    assert FLUX_LORA.unknown_fields({"guidance_scale" * 60_000: 1}) == [("guidance_scale" * 60_000, None)]


def test_the_words_of_one_choice_are_told_apart() -> None:
    """No two words of a choice differ only in what makes no difference."""
    for endpoint in ENDPOINTS:
        for _, model in objects(endpoint.input, body_of(endpoint.input)):
            for info in model.model_fields.values():
                words = words_of(info.annotation)
                plain = {"".join(sign for sign in word.casefold() if sign not in " -_").lstrip(".") for word in words}
                assert len(plain) == len(words)


@pytest.mark.parametrize(
    ("spelt", "meant"),
    [("Phone Wallpaper", "phone_wallpaper"), (".AUTO", "auto"), (" 1280 x 768 ", "1280x768"), ("", "auto"),
     ("social-banner", "social_banner")],
)  # fmt: skip
def test_a_resolution_that_is_no_fixed_choice_is_spelt_as_freely(spelt: str, meant: str) -> None:
    assert IDEOGRAM_TRAINER.parse({"images_data_url": ZIP, "resolution": spelt}).model_dump()["resolution"] == meant


def test_what_is_not_declared_to_have_parts_is_not_looked_into() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InputError):
        FLUX_LORA.parse({"prompt": deep, "loras": deep, "image_size": {"width": deep}, "nothing": deep})


SEEDED = [endpoint for endpoint in catalog.ENDPOINTS if "seed" in endpoint.input.model_fields]


@pytest.mark.parametrize("endpoint", SEEDED, ids=lambda endpoint: endpoint.id)
def test_seeds_of_other_programs_are_taken(endpoint: Endpoint) -> None:
    body = body_of(endpoint.input)
    for seed in (0, 2**31 - 1, 2**32, 2**53, 2**63, 2**64 - 1, "18446744073709551615"):
        assert endpoint.parse({**body, "seed": seed}).model_dump()["seed"] == int(seed)
    by_chance = {endpoint.parse({**body, "seed": -1}).model_dump()["seed"] for _ in range(9)}
    assert len(by_chance) == 9
    assert all(0 <= seed < 2**53 for seed in by_chance)
    for wrong, type_ in (
        (-2, "greater_than_equal"),
        (2**64, "less_than"),
        (1.5, "int_from_float"),
        ("x", "int_parsing"),
    ):
        with pytest.raises(InputError) as refused:
            endpoint.parse({**body, "seed": wrong})
        assert [(entry["loc"], entry["type"]) for entry in refused.value.details] == [(["body", "seed"], type_)]


def test_a_request_that_is_read_again_keeps_its_seed() -> None:
    first = FLUX_LORA.parse({"prompt": "x", "seed": -1})
    assert FLUX_LORA.parse(first.model_dump(mode="json")) == first


@pytest.mark.parametrize("sides", [(2560, 1080), (1080, 2560), (2560, 1440), (3440, 1440), (3840, 2160), (4096, 64)])
def test_sizes_that_clients_send_are_taken(sides: tuple[int, int]) -> None:
    size = {"width": sides[0], "height": sides[1]}
    assert FLUX_LORA.parse({"prompt": "x", "image_size": size}).model_dump()["image_size"] == size
    if min(sides) >= 512:
        assert IDEOGRAM_LORA.parse({"prompt": "x", "image_size": size}).model_dump()["image_size"] == size


class Files(EndpointInput):
    one: FileUrl
    perhaps: OptionalFileUrl = ""
    neither: FileUrl | None = None
    many: list[FileUrl] = Field(default_factory=list)
    marks: list[Mark] = Field(default_factory=list)


@pytest.mark.parametrize("blank", [" ", "\n", "\t ", "\r\n", "\u00a0", "\u3000"])
def test_blanks_around_a_url_go_wherever_it_stands(blank: str) -> None:
    spelt, data = f"{blank}{ZIP}{blank}", f"{blank}data:;base64,UEsDBA=={blank}"
    given = Files.model_validate(
        {"one": spelt, "perhaps": {"url": spelt}, "neither": data, "many": [spelt, {"url": data}],
         "marks": [{"picture": spelt}]}
    )  # fmt: skip
    assert (given.one, given.perhaps, given.neither, given.marks[0].picture) == (ZIP, ZIP, data.strip(), ZIP)
    assert given.many == [ZIP, data.strip()]
    for inside in (f"https://a{blank}b/c", f"ht{blank}tps://a/c"):
        with pytest.raises(ValueError, match="not a URL"):
            Files.model_validate({"one": inside})
    with pytest.raises(ValueError, match="A URL is needed here"):
        Files.model_validate({"one": blank})
