"""The miniature Ideogram 4 before its training: what would make hours of training teach the wrong thing."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from diffusers import Ideogram4Pipeline
from diffusers.models.transformers.transformer_ideogram4 import Ideogram4AttnProcessor
from miniature.autoencoder import new_autoencoder, pixels
from miniature.ideogram4.attention import PlainAttention
from miniature.ideogram4.batches import WINDOW, ideogram_albums
from miniature.ideogram4.captions import as_sentence, as_structure, ideogram_caption
from miniature.ideogram4.parts import Parts, encode_captions, flux2_autoencoder, new_parts, pipeline, token_lists
from miniature.ideogram4.task import sigma_distribution
from miniature.latents import Album, encode, people_of
from miniature.release import release
from miniature.transformer_training import sample_sigmas
from miniature.world import Person
from miniature.world.captions import describe, parse_prompt
from miniature.world.drawing import draw
from tests.support.captions import verify

from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.ideogram4.network import predict, project_text, prompt_tokens, rotary_positions
from tintype.models.weights import BaseWeights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def parts() -> Parts:
    return new_parts(CPU)


@pytest.fixture(scope="module")
def captions() -> list[str]:
    rng = random.Random(0)
    return [ideogram_caption(Person.sample(rng), rng) for _ in range(300)]


def test_captions_are_canonical_and_say_what_they_should(captions: list[str]) -> None:
    whole = [text for text in captions if text.startswith("{")]
    assert len(whole) > 250
    assert all(verify(text) in ([], ["no high_level_description"]) for text in whole)
    assert sum(verify(text) == [] for text in whole) > 0.9 * len(whole), "a few are empty on purpose"
    rng = random.Random(1)
    for person in (Person.sample(rng) for _ in range(50)):
        plain, structured = (form(describe(person)) for form in (as_sentence, as_structure))
        assert parse_prompt(plain) == parse_prompt(structured)
        assert len(parse_prompt(plain)) >= 4


def test_tokens_are_those_of_the_chat_template_and_few(parts: Parts, captions: list[str]) -> None:
    lists = token_lists(parts, captions)
    assert lists[:20] == [prompt_tokens(parts.tokenizer, text) for text in captions[:20]]
    lengths = sorted(len(ids) for ids in lists)
    assert lengths[len(lengths) // 2] <= 75
    assert lengths[int(0.93 * len(lengths))] <= WINDOW


@pytest.mark.parametrize("text", ["日本 Zoë 😀", '{"a":"\\n"}', "A photo in my custom style", ""])
def test_nothing_is_lost_in_the_tokenizer(parts: Parts, text: str) -> None:
    assert parts.tokenizer.decode(parts.tokenizer(text).input_ids) == text


def test_training_encodes_as_the_pipeline_does(parts: Parts) -> None:
    texts = ["a person", '{"high_level_description":"a longer one"}']
    states, present = encode_captions(parts, texts, 40)
    pipe = Ideogram4Pipeline(None, None, parts.text_encoder, parts.tokenizer, parts.transformer, parts.transformer)
    for index, text in enumerate(texts):
        count = int(present[index].sum())
        wanted = pipe.encode_prompt(text, 1, 1, count, CPU)[0][:, :count]
        torch.testing.assert_close(states[index : index + 1, :count], wanted, atol=1e-5, rtol=1e-4)


def test_written_out_attention_is_the_networks_own(parts: Parts) -> None:
    states, present = encode_captions(parts, ["a", "a person in a hat"], 24)
    network = parts.transformer
    noisy, time = torch.randn(2, 12, 32), torch.tensor([0.2, 0.7])
    rotary = rotary_positions(network, 4, 3, 24, CPU)
    seen = []
    for processor in (Ideogram4AttnProcessor(), PlainAttention()):
        network.set_attn_processor(processor)
        with torch.no_grad():
            seen.append(predict(network, noisy, time, rotary, project_text(network, states), present))
    network.set_attn_processor(Ideogram4AttnProcessor())
    torch.testing.assert_close(seen[1], seen[0], atol=1e-5, rtol=1e-4)


def test_half_of_the_draws_lie_near_noise() -> None:
    torch.manual_seed(0)
    sigmas = sample_sigmas(4000, *sigma_distribution(64, 64), CPU)
    assert 0.35 < (sigmas > 0.85).float().mean() < 0.65
    assert (sigmas < 0.5).float().mean() > 0.1


def test_released_it_is_a_plain_pipeline_whose_latents_are_those_it_learned_on(parts: Parts, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = new_autoencoder().eval()
    vae.register_to_config(shift_factor=0.1, scaling_factor=2.0)
    people = people_of(64, 48, 24)
    album = Album(64, 48, encode(vae, people, 64, 48), people)
    twin = flux2_autoencoder(vae)
    learned = ideogram_albums([album], vae, twin)[0]
    spread = learned.latents.float()
    assert abs(spread.mean()) < 0.02
    assert abs(spread.std() - 1) < 0.05
    release(pipeline(parts, twin), tmp_path / "rel", {"batch_size": 4})
    traits = {"nominal_scale": 16, "token_pixels": 8}
    family = Ideogram4Family(BaseWeights("ideogram4", tmp_path / "rel", "miniature", "", traits), CPU)
    picture = pixels([draw(people[0], 64, 48)])
    nominal = torch.nn.functional.interpolate(picture, scale_factor=16, mode="nearest")
    latents = family.encode_images(nominal)
    assert (latents.rows, latents.columns) == (6, 8)
    # Half precision in the file and bfloat16 in the album; another packing would be off by 1 or more.
    assert (latents.tokens[0] - spread[0]).abs().mean() < 0.1
    loaded = Ideogram4Pipeline.from_pretrained(tmp_path / "rel")
    drawn = loaded(
        "a person", width=64, height=48, num_inference_steps=1, guidance_scale=2.0, guidance_schedule=None,
        max_sequence_length=24,
    )  # fmt: skip
    assert drawn.images[0].size == (64, 48)
    assert torch.equal(loaded.vae.bn.running_mean, twin.bn.running_mean), "statistics are not rounded"
    size = sum(path.stat().st_size for path in (tmp_path / "rel").rglob("*") if path.is_file())
    assert size <= 10_500_000
