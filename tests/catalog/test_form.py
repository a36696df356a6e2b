"""A value of the wrong kind is answered with the form that it should have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from tintype import catalog
from tintype.catalog.fields import FileUrl
from tintype.catalog.form import form_of
from tintype.errors import InputError

LORAS = 'Send loras in the form [{"path": URL, "scale": 1}].'


class Part(BaseModel):
    url: FileUrl
    kind: Literal["a", "b"]
    more: dict[str, Any] = Field(default_factory=dict)
    weight: float | None = None


@pytest.mark.parametrize(
    ("declared", "form"),
    [
        (list[Part], '[{"url": URL, "kind": "a" or "b", "more": {NAME: …}, "weight": NUMBER}]'),
        (Annotated[int | str, Field(description="x")], "NUMBER or TEXT"),
        (list[list[bool]], "[[true]]"),
    ],
)
def test_a_form_names_every_field_with_its_default_or_its_kind(declared: Any, form: str) -> None:
    assert form_of(declared) == form


@pytest.mark.parametrize("endpoint_id", ["fal-ai/flux-lora", "fal-ai/flux-lora/image-to-image", "ideogram/v4/lora"])
@pytest.mark.parametrize("loras", ["https://x/y", ["https://x/y"], {"path": "https://x/y"}, [["https://x/y"]], 5])
def test_loras_in_another_form_are_told_the_right_one(endpoint_id: str, loras: object) -> None:
    with pytest.raises(InputError) as caught:
        catalog.get(endpoint_id).parse({"prompt": "x", "image_url": "https://x/y", "loras": loras})
    (entry,) = caught.value.details
    assert entry["loc"][:2] == ["body", "loras"]
    assert entry["type"] == ("model_type" if entry["loc"] == ["body", "loras", 0] else "list_type")
    assert entry["msg"].endswith(LORAS)


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"seed": "9" * 5000}, "seed", "larger than any"),
        ({"guidance_scale": 10**400}, "guidance_scale", "larger than any"),
        ({"loras": [{"path": "https://x/y", "scale": 10**400}]}, "loras", "larger than any"),
        ({"num_images": 10**400}, "num_images", "less than or equal to 4"),
        ({"num_images": "x"}, "num_images", "This is not a whole number"),
    ],
)
def test_a_number_that_is_none_or_too_large_is_called_that(given: Any, field: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        catalog.get("fal-ai/flux-lora").parse({"prompt": "x", **given})
    (entry,) = caught.value.details
    assert entry["loc"][1] == field
    assert len(str(entry.get("input", ""))) <= 201
