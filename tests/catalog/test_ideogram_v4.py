"""Drawing with Ideogram 4: the published fields, defaults and limits."""

from __future__ import annotations

import pytest

from tintype.catalog.ideogram_v4 import IDEOGRAM, IDEOGRAM_LORA, IdeogramInput, IdeogramLoraInput
from tintype.errors import InputError

FILE = "https://example.com/lora.safetensors"


def parsed(**given: object) -> IdeogramLoraInput:
    input = IDEOGRAM_LORA.parse({"prompt": "a hat", **given})
    assert isinstance(input, IdeogramLoraInput)
    return input


def places(**given: object) -> list[list[object]]:
    with pytest.raises(InputError) as caught:
        parsed(**given)
    return [entry["loc"] for entry in caught.value.details]


def test_the_defaults_are_the_published_ones() -> None:
    input = parsed()
    assert (input.expansion_model, input.image_size, input.rendering_speed) == ("Medium", "square_hd", "BALANCED")
    assert (input.acceleration, input.num_images, input.seed, input.sync_mode) == ("none", 1, None, False)
    assert (input.enable_safety_checker, input.output_format, input.loras) == (True, "jpeg", [])
    assert input.pixels == (1024, 1024)
    assert "loras" not in IDEOGRAM.input.model_fields
    assert isinstance(IDEOGRAM.parse({"prompt": "a hat", "loras": [{"path": FILE}]}), IdeogramInput)


def test_expansion_is_off_when_either_form_says_so() -> None:
    assert parsed().expands
    assert parsed(expansion_model="Large").expands
    for off in ({"expansion_model": "None"}, {"expansion_model": "none"}, {"enable_prompt_expansion": False}):
        assert not parsed(**off).expands
    assert places(expansion_model="Small") == [["body", "expansion_model"]]


def test_sizes_by_name_and_by_sides() -> None:
    assert parsed(image_size="portrait_16_9").pixels == (576, 1024)
    assert parsed(image_size={"width": 512, "height": 3840}).pixels == (512, 3840)
    assert places(image_size={"width": 511, "height": 3841}) == [
        ["body", "image_size", "width"],
        ["body", "image_size", "height"],
    ]
    assert places(image_size="huge") == [["body", "image_size"]]


def test_at_most_three_loras_of_scale_up_to_four() -> None:
    assert [lora.scale for lora in parsed(loras=[{"path": FILE}, {"path": FILE, "scale": 4}]).loras] == [1.0, 4.0]
    assert places(loras=[{"path": FILE}] * 4) == [["body", "loras"]]
    assert places(loras=[{"path": FILE, "scale": 4.1}, {"scale": 1}]) == [
        ["body", "loras", 0, "scale"],
        ["body", "loras", 1, "path"],
    ]


def test_limits_and_words() -> None:
    assert places(num_images=5) == places(num_images=0) == [["body", "num_images"]]
    assert places(rendering_speed="FLASH") == [["body", "rendering_speed"]]
    assert places(acceleration="full") == [["body", "acceleration"]]
    assert places(output_format="webp") == [["body", "output_format"]]


def test_ids_and_outputs() -> None:
    assert (IDEOGRAM.id, IDEOGRAM_LORA.id) == ("ideogram/v4", "ideogram/v4/lora")
    published = {"images", "seed", "prompt", "has_nsfw_concepts", "timings"}
    for endpoint in (IDEOGRAM, IDEOGRAM_LORA):
        assert set(endpoint.output.model_fields) == published
        for example in endpoint.examples:
            assert endpoint.parse(example)
