"""Pictures from Ideogram 4: reproducible to the bit, in the words and against the branch that were asked for."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.ideogram4.prompt_enhancer import Ideogram4PromptEnhancerHead
from PIL import Image
from tests.support.tiny_ideogram import random_layers, save_lora, save_tiny_ideogram

from tintype.errors import Cancelled, InputError
from tintype.inference import prompt_writer
from tintype.inference.ideogram4 import BRANCH_WITH_LORA, IdeogramSampler, IdeogramWish
from tintype.inference.lora_cache import LoraRequest
from tintype.inference.presets import ASPECT_RATIOS, SPEEDS
from tintype.inference.prompt_writer import NAME
from tintype.models.ideogram4.captions import verify, wrap
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.weights import BaseWeights

WISH = IdeogramWish("a red hat", 64, 48, "TURBO")


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> IdeogramSampler:
    folder: Path = save_tiny_ideogram(tmp_path_factory.mktemp("ideogram"))
    family = Ideogram4Family(BaseWeights("ideogram4", folder, "random", "a test"), torch.device("cpu"))
    return IdeogramSampler(family, keep=4)


@pytest.fixture(autouse=True)
def _bare(sampler: IdeogramSampler) -> None:
    sampler.use([])


def pictures(sampler: IdeogramSampler, wish: IdeogramWish, seeds: list[int]) -> list[bytes]:
    return [picture.tobytes() for picture in sampler.draw(wish, sampler.word(wish), seeds)]


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def test_picture_k_of_a_batch_is_the_single_picture_of_its_seed(sampler: IdeogramSampler) -> None:
    together = pictures(sampler, WISH, [7, 8, 9])
    assert together == [pictures(sampler, WISH, [seed])[0] for seed in (7, 8, 9)]
    assert len(set(together)) == 3


def test_every_ratio_is_drawn_at_its_published_size_by_the_real_family(sampler: IdeogramSampler) -> None:
    assert [sampler.family.true_size(*size) for size in ASPECT_RATIOS.values()] == list(ASPECT_RATIOS.values())


def test_speeds_and_sizes_are_those_asked_for(sampler: IdeogramSampler) -> None:
    told: list[tuple[int, int]] = []
    for speed, preset in SPEEDS.items():
        told.clear()
        wish = replace(WISH, speed=speed)
        drawn = sampler.draw(wish, sampler.word(wish), [1, 2], lambda *step: told.append(step))
        assert told == [(step, 2 * preset.steps) for step in range(1, 2 * preset.steps + 1)]
        assert [picture.size for picture in drawn] == [(64, 48)] * 2


def test_every_step_may_stop_the_drawing(sampler: IdeogramSampler) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise Cancelled()

    with pytest.raises(Cancelled):
        sampler.draw(WISH, sampler.word(WISH), [1], stop)


@pytest.mark.parametrize("form", [form.name for form in IDEOGRAM_KEYS.forms])
def test_a_file_of_any_form_draws_as_a_plain_pipeline_does_and_leaves_the_base_as_it_was(
    sampler: IdeogramSampler, tmp_path: Path, form: str
) -> None:
    before = pictures(sampler, WISH, [3])
    layers = random_layers(sampler.family, size=0.15)
    paths = {name: save_lora(tmp_path / f"{name}.safetensors", layers, name) for name in ("diffusers", form)}
    sampler.use([LoraRequest(paths[form], 0.7, ("body",))])
    wording = sampler.word(replace(WISH, branch="unconditional"))
    ours = sampler.draw(WISH, wording, [3])[0]
    sampler.use([])
    assert pictures(sampler, WISH, [3]) == before

    preset = SPEEDS["TURBO"]
    fresh = Ideogram4Family(sampler.family.weights, torch.device("cpu")).pipeline()
    fresh.load_lora_weights(str(paths["diffusers"]), adapter_name="it")
    fresh.set_adapters(["it"], [0.7])
    plain = fresh(
        wording.prompt.text, width=64, height=48, num_inference_steps=preset.steps, mu=preset.mu, std=preset.std,
        guidance_schedule=preset.guidance_schedule(), generator=torch.Generator().manual_seed(3),
    ).images[0]  # fmt: skip
    assert np.abs(levels(ours) - levels(plain)).max() <= 1
    assert ours.tobytes() != before[0], "the LoRA has to be visible here"


def test_words_are_expanded_unless_refused_and_the_log_can_tell(sampler: IdeogramSampler) -> None:
    wording = sampler.word(WISH)
    assert wording.prompt.text == wrap("a red hat").line()
    assert wording.lines[0] == f"Prompt expanded by rule: {wording.prompt.text}"
    assert sampler.word(replace(WISH, expand=False)).prompt.text == "a red hat"


def test_where_the_language_models_head_is_it_writes(
    sampler: IdeogramSampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = sampler.family.weights
    shutil.copytree(weights.folder, tmp_path / "base")
    torch.manual_seed(1)
    head = Ideogram4PromptEnhancerHead(hidden_size=8, vocab_size=300)
    head.save_pretrained(tmp_path / "base" / "prompt_enhancer_head")
    # Texts that end soon: a head that knows nothing says all that it may.
    monkeypatch.setattr(prompt_writer, "_text", lambda longest: {"type": "string", "minLength": 1, "maxLength": 4})
    monkeypatch.setattr(prompt_writer, "MOST_ELEMENTS", 1)
    monkeypatch.setattr(prompt_writer, "BRIEF", "Write.")
    family = Ideogram4Family(replace(weights, folder=tmp_path / "base"), torch.device("cpu"))
    writing = IdeogramSampler(family, keep=1)
    wording = writing.word(WISH)
    assert wording.prompt.by == NAME
    assert wording.lines[0].startswith(f"Prompt expanded by {NAME}: {{")
    assert verify(wording.prompt.text) == []
    assert writing.word(replace(WISH, expand=False)).prompt.text == "a red hat"
    assert [picture.tobytes() for picture in writing.draw(WISH, wording, [1])] != pictures(sampler, WISH, [1])

    def stop() -> None:
        raise Cancelled()

    with pytest.raises(Cancelled):
        writing.word(WISH, stop)


def test_a_prompt_beyond_the_window_loses_its_end_and_says_so(sampler: IdeogramSampler) -> None:
    wish = replace(WISH, prompt="word " * 600 + "in Venice")
    for expand in (True, False):
        wording = sampler.word(replace(wish, expand=expand))
        assert sampler.family.cut_off(wording.prompt.text) == ""
        assert any("left out" in note for note in wording.notes)
    endless = sampler.word(replace(wish, prompt="x" * 9000))
    assert sampler.family.cut_off(endless.prompt.text) == ""
    with pytest.raises(InputError) as caught:
        sampler.word(replace(wish, prompt=wrap(wish.prompt).line()))
    assert caught.value.details[0]["loc"] == ["body", "prompt"]


def test_the_branch_is_the_networks_own_or_the_one_chosen(sampler: IdeogramSampler, tmp_path: Path) -> None:
    assert sampler.word(WISH).branch == "unconditional"
    path = save_lora(tmp_path / "a.safetensors", random_layers(sampler.family))
    sampler.use([LoraRequest(path, 1.0, ("body",))])
    assert sampler.word(WISH).branch == BRANCH_WITH_LORA
    assert sampler.word(replace(WISH, branch="conditional-empty-prompt")).branch == "conditional-empty-prompt"


def test_a_negative_prompt_changes_the_picture_unless_the_prompt_asks_for_the_same(sampler: IdeogramSampler) -> None:
    plain = pictures(sampler, WISH, [1])
    against = replace(WISH, negative_prompt="rain")
    assert pictures(sampler, against, [1]) != plain
    assert sampler.word(against).negative == wrap("rain").line()
    assert "rain" in sampler.word(against).lines[1]
    same = replace(WISH, negative_prompt="red hat")
    assert pictures(sampler, same, [1]) == plain
    assert any("red hat" in note for note in sampler.word(same).notes)
