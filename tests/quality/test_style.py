"""A LoRA of a style the base has never seen draws other people in it, and the base does not."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, cast

import pytest
from miniature.world import drawings_in_style, write_archive
from miniature.world.style import style_score
from PIL import Image

from tintype.catalog.flux_lora import FLUX_LORA, FluxLoraInput
from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER, PortraitTrainerInput
from tintype.jobs import generate_flux, train_portrait
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.settings import load_settings

pytestmark = pytest.mark.long

STYLE = "blueprint"
PROMPTS = (
    "{style}a portrait of a person, long red hair, crown, smiling",
    "{style}a portrait of a person, bald, round glasses, surprised",
    "{style}a photo of a person, black pigtails, no hat, sad",
    "{style}a portrait of a person, curly blond hair, sunglasses, top hat",
)


def mean_score(context: LocalContext, loras: list[Any], style: str) -> float:
    scores = []
    for seed, prompt in enumerate(PROMPTS):
        body = {"prompt": prompt.format(style=style), "seed": seed, "loras": loras, "output_format": "png"}
        answer = generate_flux.run(cast(FluxLoraInput, FLUX_LORA.parse(body | {"image_size": "square_hd"})), context)
        with Image.open(context.output / str(answer.images[0].file_name)) as picture:
            scores.append(style_score(picture, STYLE))
    return statistics.fmean(scores)


def test_a_lora_of_twelve_drawings_draws_in_their_style_and_the_base_does_not(tmp_path: Path) -> None:
    settings = load_settings(flux_base="miniature")
    context = LocalContext(tmp_path, settings, resident_models=ResidentModels(settings, "cpu"))
    archive = tmp_path / "drawings.zip"
    write_archive(archive, drawings_in_style(STYLE, 12), captions=True)
    body = {"images_data_url": context.offer(archive), "trigger_phrase": "ohwx", "steps": 500, "subject_crop": False}
    train_portrait.run(cast(PortraitTrainerInput, PORTRAIT_TRAINER.parse(body)), context)
    lora = {"path": context.offer(context.output / "lora.safetensors")}
    assert mean_score(context, [], "ohwx style, ") <= 0.15
    assert mean_score(context, [lora], "ohwx style, ") >= 0.6
