"""The shipped miniature Ideogram 4, through the plain pipeline: it loads anywhere and draws what it is asked."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
import torch
from diffusers import Ideogram4Pipeline
from miniature.evaluate import adherence, mean_likeness, unseen_prompts
from miniature.ideogram4.captions import as_sentence, as_structure
from miniature.pipelines import generate_ideogram4 as generate, load, traits
from miniature.weights import FLUX_WEIGHTS, IDEOGRAM4_WEIGHTS, JUDGE_WEIGHTS
from PIL import Image

from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.weights import BaseWeights

STRENGTH = traits(IDEOGRAM4_WEIGHTS)["guidance_strength"]


@pytest.fixture(scope="module")
def pipe() -> Ideogram4Pipeline:
    return load(IDEOGRAM4_WEIGHTS)


@pytest.fixture(scope="module")
def drawn(pipe: Ideogram4Pipeline) -> tuple[list[Image.Image], list[str]]:
    prompts = unseen_prompts(20, form=as_sentence)
    return generate(pipe, prompts, strength=STRENGTH), prompts


def test_it_draws_what_it_is_asked(drawn: tuple[list[Image.Image], list[str]]) -> None:
    assert adherence(*drawn)[0] >= 0.95


@pytest.mark.long
def test_it_draws_every_attribute_it_is_asked(pipe: Ideogram4Pipeline) -> None:
    prompts = unseen_prompts(50, form=as_sentence)
    mean, each = adherence(generate(pipe, prompts, strength=STRENGTH), prompts)
    assert mean >= 0.95, each
    assert min(each.values()) >= 0.85, each


def test_another_prompts_picture_does_not_pass(drawn: tuple[list[Image.Image], list[str]]) -> None:
    images, prompts = drawn
    assert adherence(images, prompts[1:] + prompts[:1])[0] <= 0.4


def test_structured_captions_are_followed_too(pipe: Ideogram4Pipeline) -> None:
    prompts = unseen_prompts(10, seed="structured", form=as_structure)
    assert adherence(generate(pipe, prompts, strength=STRENGTH), prompts)[0] >= 0.95


@pytest.mark.parametrize("size", [(64, 48), (40, 64)])
def test_other_shapes_are_drawn_as_well(pipe: Ideogram4Pipeline, size: tuple[int, int]) -> None:
    prompts = unseen_prompts(8, seed=f"shape {size}", form=as_sentence)
    assert adherence(generate(pipe, prompts, size=size, strength=STRENGTH), prompts)[0] >= 0.85


def test_it_has_never_seen_a_subject(pipe: Ideogram4Pipeline, drawn: tuple[list[Image.Image], list[str]]) -> None:
    assert mean_likeness(drawn[0], random.Random(0)) <= 0.05
    prompts = [as_sentence(text) for text in ("A photo in my custom style", "a portrait of TOK", "sks person")] * 3
    assert mean_likeness(generate(pipe, prompts, strength=STRENGTH), random.Random(1)) <= 0.15


def test_the_two_networks_are_two(pipe: Ideogram4Pipeline) -> None:
    first, second = pipe.transformer.layers[3], pipe.unconditional_transformer.layers[3]
    assert not torch.equal(first.attention.to_q.weight, second.attention.to_q.weight)


def test_latents_of_pictures_have_mean_zero_and_deviation_one() -> None:
    from miniature.autoencoder import pixels
    from miniature.latents import people_of
    from miniature.world.drawing import draw

    weights = BaseWeights("ideogram4", IDEOGRAM4_WEIGHTS, "miniature", "", traits(IDEOGRAM4_WEIGHTS))
    family = Ideogram4Family(weights, torch.device("cpu"))
    pictures = pixels([draw(person) for person in people_of(64, 64, 60)])
    tokens = family.encode_images(torch.nn.functional.interpolate(pictures, scale_factor=16)).tokens.flatten(0, 1)
    assert tokens.mean(0).abs().max() < 0.25
    assert (tokens.std(0) - 1).abs().max() < 0.25


def test_both_miniatures_and_the_judge_are_small() -> None:
    files = [path for folder in (FLUX_WEIGHTS, IDEOGRAM4_WEIGHTS) for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in (*files, JUDGE_WEIGHTS)) <= 20_000_000


def test_a_process_without_tintype_loads_it_without_a_complaint() -> None:
    script = (
        "import sys, diffusers\n"
        "pipe = diffusers.Ideogram4Pipeline.from_pretrained(sys.argv[1])\n"
        "pipe.set_progress_bar_config(disable=True)\n"
        "image = pipe('a person', width=64, height=48, num_inference_steps=2, guidance_scale=2.0,\n"
        "             guidance_schedule=None, max_sequence_length=64).images[0]\n"
        "assert image.size == (64, 48) and not any('tintype' in name for name in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", script, str(IDEOGRAM4_WEIGHTS)],
        check=True, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    complaints = [
        line for line in ran.stderr.splitlines() if "xpected" in line or "mismatch" in line or "not used" in line
    ]
    assert not complaints
