"""Tells assistants and catalogues what there is: a page of plain text for each endpoint, one of the site, the gallery.

Everything follows from the declarations in the catalogue. The layout is fal's, whose readers look for its headings; the
programs on a page run as they stand, so that what an assistant copies works.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import Response

from tintype import catalog
from tintype.catalog import Endpoint
from tintype.catalog.fields import is_file
from tintype.errors import Json
from tintype.files.formats import content_type_of_name
from tintype.web import openapi
from tintype.web.operation import answers
from tintype.web.responses import json_response
from tintype.web.services import Call

_TEMPLATES = Path(__file__).parent / "html"
_TYPES = {"number": "float", "array": "list"}
_MOST_ITEMS = 100  # of a page of the gallery


def describe_site(origin: str) -> str:
    """Writes what there is as Markdown, each with the address of its own page."""
    said = [
        "# tintype",
        "> Trains LoRAs of people, styles and products from a few photos, and generates with them, behind fal's HTTP "
        "API. Everything stays on this machine.",
        "## Models",
        "\n".join(
            f"- [{one.title}]({origin}/models/{one.id}/llms.txt): {one.description}" for one in catalog.ENDPOINTS
        ),
        "## API",
        f"- [OpenAPI of the whole server]({origin}/openapi.json)\n- [Errors]({origin}/docs/errors.md)\n"
        f"- [MCP server]({origin}/mcp), with a key; [search of these pages by MCP]({origin}/docs/mcp), without",
    ]
    return "\n\n".join(said) + "\n"


@answers(
    {"items": [dict[str, Any]], "total": int, "page": int, "size": int, "pages": int},
    query={"page": int, "size": int, "total": int, "keywords": str, "query": str, "categories": str},
)
async def gallery(call: Call) -> Response:
    """Answers `GET /api/models?page=&size=&keywords=&categories=`, which programs list fal's models by."""
    given = call.http.query_params
    words = given.get("keywords") or given.get("query") or ""
    categories = {name.strip() for name in given.get("categories", "").split(",")} - {""}
    found = [
        one for one in catalog.ENDPOINTS if (not categories or one.category in categories) and one.has_words(words)
    ]
    size = _number(given.get("size") or given.get("total"), _MOST_ITEMS, most=_MOST_ITEMS)
    page = _number(given.get("page"), 1, most=10**6)
    items = [_gallery_item(one, call.origin) for one in found[(page - 1) * size : page * size]]
    pages = max(1, -(-len(found) // size))
    return json_response({"items": items, "total": len(found), "page": page, "size": size, "pages": pages})


def _number(text: str | None, default: int, *, most: int) -> int:
    return min(max(int(text), 1), most) if text and re.fullmatch("[0-9]{1,9}", text) else default


def _gallery_item(endpoint: Endpoint, origin: str) -> Json:
    return {
        "id": endpoint.id,
        "modelId": endpoint.id,
        "title": endpoint.title,
        "shortDescription": endpoint.description,
        "category": endpoint.category,
        "tags": list(endpoint.tags),
        "kind": endpoint.kind,
        "modelFamily": endpoint.base,
        "modelUrl": f"{origin}/models/{endpoint.id}/llms.txt",
        "deprecated": False,
        "removed": False,
    }


def describe(endpoint: Endpoint, name: str, origin: str) -> str:
    """Writes the page of an endpoint, called by its id or an alias, as Markdown in fal's layout."""
    full = dict(endpoint.examples[-1]) if endpoint.examples else {}
    required = {field: full.get(field, "") for field, info in endpoint.input.model_fields.items() if info.is_required()}
    return str(
        _template().render(
            endpoint=endpoint,
            name=name,
            origin=origin,
            inputs="\n\n".join(_fields(openapi.schema_of(endpoint.input, "validation"))),
            outputs="\n\n".join(_fields(openapi.schema_of(endpoint.output, "serialization"))),
            required=required,
            full=full or required,
            response=_example(openapi.schema_of(endpoint.output, "serialization")),
            given=list(_given(endpoint, required)),
        )
    )


@functools.cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # not before somebody asks

    # Nothing is escaped: what is filled in are declarations, and what is made is text.
    made = Environment(loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True)
    made.filters["json"] = lambda value, indent=2: json.dumps(value, indent=indent, ensure_ascii=False)
    made.filters["python"] = lambda value: json.dumps(value) if isinstance(value, str) else repr(value)
    return made.get_template("llms.md")


def _fields(schema: Json) -> Iterator[str]:
    """Describes each property: its type, whether it has to be sent, and what it may be."""
    for name, declared in schema["properties"].items():
        is_needed = "required" if name in schema.get("required", ()) else "optional"
        lines = [f"- **`{name}`** (`{_type_of(declared, name)}`, _{is_needed}_):"]
        if "description" in declared:
            lines.append(f"  {declared['description']}")
        lines += [f"  - {label}: {said}" for label, said in _facts(declared)]
        if declared.get("type") == "array":
            lines.append(f"  - Array of {_type_of(declared['items'], name)}")
        yield "\n".join(lines)


def _facts(declared: Json) -> Iterator[tuple[str, str]]:
    for part in (declared, *declared.get("anyOf", ())):
        if "default" in part:
            yield "Default", f"`{_literal(part['default'])}`"
        if "enum" in part:
            yield "Options", ", ".join(f"`{json.dumps(word)}`" for word in part["enum"])
        if "minimum" in part or "maximum" in part:
            yield "Range", f"{_limit(part, 'minimum', 1)} to {_limit(part, 'maximum', -1)}"
        if "example" in part:
            yield "Examples", json.dumps(part["example"])


def _literal(value: Any) -> str:
    """Writes a value as JSON, a small number without an exponent."""
    return f"{value:.9f}".rstrip("0") if isinstance(value, float) and 0 < value < 1e-3 else json.dumps(value)


def _limit(declared: Json, name: str, inwards: int) -> str:
    if name not in declared:
        return "any"
    is_outside = declared.get(f"exclusive{name.capitalize()}")
    if is_outside and declared.get("type") == "integer":
        return f"`{declared[name] + inwards}`"
    return f"`{_literal(declared[name])}`" + (" (not itself)" if is_outside else "")


def _type_of(declared: Json, name: str) -> str:
    if "$ref" in declared or "allOf" in declared:
        return str(declared.get("$ref") or declared["allOf"][0]["$ref"]).rpartition("/")[2]
    if "anyOf" in declared:
        return " | ".join(dict.fromkeys(_type_of(part, name) for part in declared["anyOf"]))
    if "enum" in declared:
        return "".join(word.title() for word in name.split("_")) + "Enum"
    if declared.get("type") == "array":
        return f"list<{_type_of(declared['items'], name)}>"
    plain = str(declared.get("type", "any"))
    return _TYPES.get(plain, plain)


def _example(schema: Json) -> Json:
    """Makes a response that has the form of the schema."""
    return {name: _value(part) for name, part in schema["properties"].items()}


def _value(declared: Json) -> Any:
    if "example" in declared:
        return declared["example"]
    if declared.get("type") == "array":
        return [_value(declared["items"])]
    if _type_of(declared, "") in ("File", "Image"):
        return {"url": "https://v3.fal.media/files/penguin/example"}
    return {"integer": 0, "number": 0.0, "boolean": False, "object": {}}.get(declared.get("type", ""), "")


@dataclass(frozen=True)
class _Given:
    """Holds an input of a program. An empty example stands for what only its reader has: a file of that name, which is
    uploaded first, or an id, which is read from the environment."""

    name: str
    value: Any
    file: str = ""
    variable: str = ""
    content_type: str = ""


def _given(endpoint: Endpoint, inputs: Mapping[str, Any]) -> Iterator[_Given]:
    for name, value in inputs.items():
        if value != "":
            yield _Given(name, value)
        elif is_file(endpoint.input.model_fields[name]):
            what = name.removesuffix("_url")  # an archive is called the data of something
            file = f"{what.removesuffix('_data')}.{'zip' if what.endswith('_data') else 'png'}"
            yield _Given(name, value, file, name.upper(), content_type_of_name(file))
        else:
            yield _Given(name, value, variable=name.upper())
