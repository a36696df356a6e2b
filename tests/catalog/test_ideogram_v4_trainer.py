"""The trainer's inputs are those of the published page, and wrong sizes are refused before anything is fetched."""

from __future__ import annotations

import pytest

from tintype.catalog.ideogram_v4_trainer import IDEOGRAM_TRAINER, TRAINER_SIZES, IdeogramTrainerInput, size_of
from tintype.errors import InputError

ZIP = "https://example.com/pictures.zip"


def parsed(**given: object) -> IdeogramTrainerInput:
    input = IDEOGRAM_TRAINER.parse({"images_data_url": ZIP, **given})
    assert isinstance(input, IdeogramTrainerInput)
    return input


def refused(**given: object) -> dict[str, object]:
    with pytest.raises(InputError) as caught:
        parsed(**given)
    (entry,) = caught.value.details
    assert entry["loc"] == ["body", *given]
    return dict(entry)


def test_the_defaults_are_the_published_ones() -> None:
    published = {
        "images_data_url": ZIP,
        "steps": 1000,
        "default_caption": None,
        "resolution": "auto",
        "learning_rate": 0.0001,
        "output_lora_format": "fal",
    }
    assert parsed().model_dump().items() >= published.items()
    assert parsed().force_default_caption is False


def test_both_ids_lead_to_it_and_its_output_is_the_published_one() -> None:
    assert (IDEOGRAM_TRAINER.id, IDEOGRAM_TRAINER.aliases) == ("ideogram/v4/trainer", ("fal-ai/ideogram-v4-trainer",))
    assert list(IDEOGRAM_TRAINER.output.model_fields) == ["diffusers_lora_file", "config_file"]


def test_the_pages_own_example_is_accepted() -> None:
    (example,) = IDEOGRAM_TRAINER.examples
    assert IDEOGRAM_TRAINER.parse({**example, "images_data_url": ZIP})


@pytest.mark.parametrize(
    ("field", "inside", "outside", "said"),
    [
        ("steps", (100, 40_000), (99, 40_001, 0, -1), "than_equal"),
        ("learning_rate", (1e-6, 0.01), (9e-7, 0.0101, 0), "than_equal"),
        ("output_lora_format", ("fal", "comfy", "diffusers", "kohya"), ("safetensors", "fal.ai"), "one_of"),
        ("rank", (1, 256), (0, 257), "than_equal"),
    ],
)
def test_limits(field: str, inside: tuple[object, ...], outside: tuple[object, ...], said: str) -> None:
    for value in inside:
        assert getattr(parsed(**{field: value}), field) == value
    for value in outside:
        assert said in str(refused(**{field: value})["type"])


def test_what_is_ours_is_marked_so() -> None:
    published = {"images_data_url", "steps", "default_caption", "force_default_caption", "resolution", "learning_rate"}
    for name, field in IdeogramTrainerInput.model_fields.items():
        assert name in published or "extension" in (field.description or ""), name


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("auto", "auto"), (" AUTO ", "auto"), ("Square", "square"), ("1024x1024", "1024x1024"),
        ("1280X768", "1280x768"), ("256 x 1536", "256x1536"), ("2048\u00d7352", "2048x352"), ("0512x0512", "512x512"),
    ],
)  # fmt: skip
def test_a_resolution_is_understood_however_it_is_written(given: str, kept: str) -> None:
    assert parsed(resolution=given).resolution == kept


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("1000x1000", "1008x992 is|992x1008 is|1008x1008 is|992x992 is"), ("1024x1025", "1024x1024 is"),
        ("0x0", "between"), ("240x1024", "between"), ("2064x1024", "between"), ("2048x336", "6 times"),
        ("big", "widescreen"), ("autos", "auto"), ("1024", "WIDTHxHEIGHT"), ("1024x", "WIDTHxHEIGHT"),
        ("-16x16", "WIDTHxHEIGHT"), ("1024x1024x16", "WIDTHxHEIGHT"), ("1e3x1e3", "WIDTHxHEIGHT"),
    ],
)  # fmt: skip
def test_a_wrong_resolution_is_told_how_to_be_right(given: str, said: str) -> None:
    entry = refused(resolution=given)
    assert any(part in str(entry["msg"]) for part in said.split("|")), entry


def test_every_preset_is_a_size_the_model_takes() -> None:
    assert TRAINER_SIZES == {
        "square": (1024, 1024), "landscape": (1536, 1024), "portrait": (1024, 1536), "widescreen": (1920, 1088),
        "ultrawide": (2048, 768), "phone_wallpaper": (1024, 1792), "social_banner": (1584, 400),
    }  # fmt: skip
    for name, (width, height) in TRAINER_SIZES.items():
        assert size_of(name) == size_of(f"{width}x{height}") == (width, height)
    assert size_of("auto") is None
