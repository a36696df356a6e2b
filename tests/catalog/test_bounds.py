"""Nothing that a request may ask is without a bound."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tintype import catalog
from tintype.catalog import Endpoint
from tintype.catalog.flux_lora_portrait_trainer import MOST_KEPT_CHECKPOINTS
from tintype.errors import InputError

# A file's size is bounded where it is received; a name is checked by `checked_name`.
FILES = {"images_data_url", "image_url", "resume_from_checkpoint", "path", "name"}
TRAINERS = [endpoint for endpoint in catalog.ENDPOINTS if "checkpoint_every" in endpoint.input.model_fields]


def unbounded(schema: Any, place: str, definitions: dict[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        yield from unbounded(definitions[schema["$ref"].rsplit("/", 1)[1]], place, definitions)
        return
    for part in schema.get("anyOf", []):
        yield from unbounded(part, place, definitions)
    kind = schema.get("type")
    if kind in ("integer", "number"):
        if not ({"minimum", "exclusiveMinimum"} & schema.keys() and {"maximum", "exclusiveMaximum"} & schema.keys()):
            yield place
    elif kind == "string":
        if not {"maxLength", "enum", "const"} & schema.keys() and place.rsplit(".", 1)[-1] not in FILES:
            yield place
    elif kind == "array":
        if "maxItems" not in schema:
            yield place
        yield from unbounded(schema["items"], f"{place}[]", definitions)
    elif kind == "object":
        for name, part in schema.get("properties", {}).items():
            yield from unbounded(part, f"{place}.{name}", definitions)


@pytest.mark.parametrize("endpoint", catalog.ENDPOINTS, ids=lambda endpoint: endpoint.id)
def test_every_input_is_bounded(endpoint: Endpoint) -> None:
    schema = endpoint.input.model_json_schema()
    assert list(unbounded(schema, endpoint.id, schema.get("$defs", {}))) == []


@pytest.mark.parametrize("endpoint", TRAINERS, ids=lambda endpoint: endpoint.id)
def test_a_training_keeps_a_bounded_number_of_checkpoints(endpoint: Endpoint) -> None:
    body = {"images_data_url": "https://example.com/a.zip", "steps": 5000}
    parsed: Any = endpoint.parse({**body, "checkpoint_every": 5000 // MOST_KEPT_CHECKPOINTS})
    assert parsed.checkpoint_every == 50
    for every, type_ in (
        (49, "value_error"),
        (1, "value_error"),
        (0, "greater_than_equal"),
        (10**9, "less_than_equal"),
    ):
        with pytest.raises(InputError) as refused:
            endpoint.parse({**body, "checkpoint_every": every})
        [problem] = refused.value.details
        assert (problem["loc"], problem["type"]) == (["body", "checkpoint_every"], type_)
