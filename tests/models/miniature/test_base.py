"""The shipped miniature FLUX, through the plain diffusers pipeline: it loads anywhere and draws what it is asked."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
import torch
from diffusers import FluxPipeline
from miniature.evaluate import adherence, mean_likeness, reproduction_of_people, unseen_prompts
from miniature.pipelines import generate_flux as generate, load
from miniature.weights import FLUX_WEIGHTS
from miniature.world import MARKS, Person
from miniature.world.captions import caption
from PIL import Image

STRANGE = ("Zoë", "日本の人", "Ωmega Жук", "😀 smile", "naïve façade — “quoted”", "sks", "TOK123")


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return load(FLUX_WEIGHTS)


@pytest.fixture(scope="module")
def drawn(pipe: FluxPipeline) -> tuple[list[Image.Image], list[str]]:
    prompts = unseen_prompts(48)
    return generate(pipe, prompts), prompts


def test_it_draws_what_it_is_asked(drawn: tuple[list[Image.Image], list[str]]) -> None:
    assert adherence(*drawn)[0] >= 0.88


@pytest.mark.long
def test_it_draws_every_attribute_it_is_asked(pipe: FluxPipeline) -> None:
    """The rarest is asked 57 times, so the figure of one processor may be 0.02 off that of another."""
    prompts = unseen_prompts(120)
    mean, each = adherence(generate(pipe, prompts), prompts)
    assert mean >= 0.9
    assert min(each.values()) >= 0.66, each


def test_another_prompts_picture_does_not_pass(drawn: tuple[list[Image.Image], list[str]]) -> None:
    images, prompts = drawn
    assert adherence(images, prompts[1:] + prompts[:1])[0] <= 0.4


def test_it_has_never_seen_a_subject(pipe: FluxPipeline, drawn: tuple[list[Image.Image], list[str]]) -> None:
    assert mean_likeness(drawn[0], random.Random(0)) <= 0.05
    triggers = generate(pipe, [f"a portrait of {name}" for name in ("TOK", "ohwx", "sks person", "Mirela")] * 2)
    assert mean_likeness(triggers, random.Random(1)) <= 0.15


@pytest.mark.parametrize("size", [(48, 64), (64, 40)])
def test_other_shapes_are_drawn_as_well(pipe: FluxPipeline, size: tuple[int, int]) -> None:
    prompts = unseen_prompts(10, seed=f"shape {size}")
    assert adherence(generate(pipe, prompts, size=size), prompts)[0] >= 0.7


def test_pictures_depend_on_the_seed_and_nothing_else(pipe: FluxPipeline) -> None:
    prompts = ["a portrait of a person, blue shirt"]
    first, again, other = (generate(pipe, prompts, steps=4, seed=seed)[0].tobytes() for seed in (1, 1, 2))
    assert first == again != other


def test_the_autoencoder_reproduces_people_and_subjects_it_never_met(pipe: FluxPipeline) -> None:
    assert min(reproduction_of_people(pipe.vae).values()) >= 28


def test_latents_have_the_scale_the_configuration_promises(pipe: FluxPipeline) -> None:
    from miniature.latents import encode, people_of

    latents = encode(pipe.vae, people_of(64, 64, 100), 64, 64).float()
    assert abs(latents.mean().item()) < 0.1
    assert abs(latents.std().item() - 1) < 0.1


def test_no_word_is_lost_in_either_tokenizer(pipe: FluxPipeline) -> None:
    for text in STRANGE:
        for tokenizer in (pipe.tokenizer, pipe.tokenizer_2):
            tokens = tokenizer.tokenize(text)
            assert tokenizer.unk_token not in tokens, (text, tokens)
    seen = {tuple(pipe.tokenizer_2(text).input_ids) for text in STRANGE}
    assert len(seen) == len(STRANGE)


def test_captions_fit_the_window(pipe: FluxPipeline) -> None:
    rng = random.Random(0)
    captions = [caption(Person.sample(rng), rng) for _ in range(1000)]
    lengths = sorted(len(ids) for ids in pipe.tokenizer_2(captions).input_ids)
    assert lengths[980] <= 40
    assert lengths[-1] <= 48


def test_the_traits_file_says_how_the_miniature_differs() -> None:
    traits = json.loads((FLUX_WEIGHTS / "miniature.json").read_text())
    assert (traits["nominal_scale"], traits["token_pixels"], traits["max_sequence_length"]) == (16, 8, 48)
    assert traits["learning_rate_scale"] > 1
    assert traits["batch_size"] >= 1


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in FLUX_WEIGHTS.rglob("*") if path.is_file()) <= 9_500_000


def test_a_process_without_tintype_loads_it_without_a_complaint() -> None:
    script = (
        "import sys, torch, diffusers\n"
        "pipe = diffusers.FluxPipeline.from_pretrained(sys.argv[1])\n"
        "pipe.set_progress_bar_config(disable=True)\n"
        "image = pipe('a person', width=64, height=48, num_inference_steps=2, max_sequence_length=48).images[0]\n"
        "assert image.size == (64, 48) and not any('tintype' in name for name in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-c", script, str(FLUX_WEIGHTS)], check=True, capture_output=True, text=True, timeout=120
    )
    complaints = [
        line for line in ran.stderr.splitlines() if "xpected" in line or "mismatch" in line or "not used" in line
    ]
    assert not complaints


def test_half_precision_loads_too() -> None:
    pipe = FluxPipeline.from_pretrained(FLUX_WEIGHTS, dtype=torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    assert {pipe.transformer.dtype, pipe.vae.dtype, pipe.text_encoder.dtype, pipe.text_encoder_2.dtype} == {
        torch.bfloat16
    }
    assert pipe("a person", width=64, height=64, num_inference_steps=1, max_sequence_length=48).images[0].size == (
        64,
        64,
    )


def test_no_caption_names_a_mark() -> None:
    rng = random.Random(5)
    told = " ".join(caption(Person.sample(rng), rng) for _ in range(2000))
    assert not any(word in told for word in ("mohawk", "horns", "antennae", *MARKS["sign"]))
