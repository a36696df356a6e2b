"""Training a custom model and drawing with one: the published fields, and a model's name."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tintype.catalog.custom_models import MakesModel, UsesModel
from tintype.catalog.ideogram_custom_models import (
    CUSTOM_MODEL_GENERATE,
    CUSTOM_MODEL_TRAINER,
    CustomModelGenerateInput,
    CustomModelInput,
)
from tintype.errors import InputError

ZIP = "https://example.com/pictures.zip"


def refused(endpoint: object, body: Mapping[str, object]) -> set[tuple[str, str]]:
    with pytest.raises(InputError) as caught:
        (CUSTOM_MODEL_TRAINER if endpoint == "train" else CUSTOM_MODEL_GENERATE).parse(body)
    return {(str(entry["loc"][-1]), str(entry["type"])) for entry in caught.value.details}


def test_the_archive_alone_is_enough() -> None:
    input = CUSTOM_MODEL_TRAINER.parse({"images_data_url": ZIP})
    assert isinstance(input, CustomModelInput)
    assert isinstance(input, MakesModel)
    assert input.model_name is None
    assert refused("train", {}) == {("images_data_url", "missing")}


def test_both_ids_lead_to_the_training() -> None:
    assert CUSTOM_MODEL_TRAINER.id == "fal-ai/ideogram/custom-models"
    assert CUSTOM_MODEL_TRAINER.aliases == ("fal-ai/ideogram/custom-models/train",)


@pytest.mark.parametrize("name", ["Style", "x" * 30, "  My style  ", "Élan 2", "我的自己风"])
def test_a_name_has_5_to_30_characters_without_the_spaces_around_it(name: str) -> None:
    input = CUSTOM_MODEL_TRAINER.parse({"images_data_url": ZIP, "name": name})
    assert isinstance(input, CustomModelInput)
    assert input.model_name == name.strip()


@pytest.mark.parametrize("name", ["four", "  four  ", "x" * 31, "My\nstyle", "My\0style"])
def test_another_name_is_refused(name: str) -> None:
    assert refused("train", {"images_data_url": ZIP, "name": name}) == {("name", "value_error")}


def test_our_own_training_inputs_are_marked_and_limited() -> None:
    for name, field in CustomModelInput.model_fields.items():
        assert name == "images_data_url" or "extension" in (field.description or ""), name
    wrong = {"images_data_url": ZIP, "steps": 99, "rank": 0, "learning_rate": 1}
    assert {name for name, _ in refused("train", wrong)} == {"steps", "rank", "learning_rate"}


def test_the_defaults_of_drawing_are_the_published_ones() -> None:
    input = CUSTOM_MODEL_GENERATE.parse({"model_id": "m", "prompt": "A photo in my custom style"})
    assert isinstance(input, CustomModelGenerateInput)
    assert isinstance(input, UsesModel)
    assert input.model_dump() == {
        "model_id": "m",
        "prompt": "A photo in my custom style",
        "aspect_ratio": "1:1",
        "rendering_speed": "BALANCED",
        "num_images": 1,
        "negative_prompt": "",
        "expand_prompt": True,
        "seed": None,
        "sync_mode": False,
        "negative_branch": None,
    }


def test_every_published_word_is_taken_and_no_other() -> None:
    ratios = (
        "1:3",
        "3:1",
        "1:2",
        "2:1",
        "9:16",
        "16:9",
        "10:16",
        "16:10",
        "2:3",
        "3:2",
        "3:4",
        "4:3",
        "4:5",
        "5:4",
        "1:1",
    )
    for ratio in ratios:
        assert CUSTOM_MODEL_GENERATE.parse({"model_id": "m", "prompt": "p", "aspect_ratio": ratio})
    for speed in ("TURBO", "BALANCED", "QUALITY"):
        assert CUSTOM_MODEL_GENERATE.parse({"model_id": "m", "prompt": "p", "rendering_speed": speed})
    wrong = {"model_id": "m", "prompt": "p", "aspect_ratio": "5:3", "rendering_speed": "FLASH"}
    assert refused("generate", wrong) == {("aspect_ratio", "one_of"), ("rendering_speed", "one_of")}


@pytest.mark.parametrize(
    ("field", "inside", "outside"), [("num_images", (1, 8), (0, 9)), ("seed", (-1, 2**64 - 1), (-2, 2**64))]
)
def test_limits(field: str, inside: tuple[int, ...], outside: tuple[int, ...]) -> None:
    for value in inside:
        assert CUSTOM_MODEL_GENERATE.parse({"model_id": "m", "prompt": "p", field: value})
    for value in outside:
        assert {name for name, _ in refused("generate", {"model_id": "m", "prompt": "p", field: value})} == {field}


def test_model_and_prompt_are_required_and_the_pages_examples_are_accepted() -> None:
    assert refused("generate", {}) == {("model_id", "missing"), ("prompt", "missing")}
    for example in CUSTOM_MODEL_GENERATE.examples:
        assert CUSTOM_MODEL_GENERATE.parse(example)


def test_outputs_are_the_published_fields() -> None:
    assert list(CUSTOM_MODEL_GENERATE.output.model_fields) == ["images", "seed"]
    assert list(CUSTOM_MODEL_TRAINER.output.model_fields)[:2] == ["model_id", "custom_model_uri"]
