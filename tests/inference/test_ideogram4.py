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
from tests.support.captions import verify
from tests.support.tiny_ideogram import random_layers, save_lora, save_tiny_ideogram

from tintype.errors import Cancelled, InputError
from tintype.inference import prompt_writer
from tintype.inference.ideogram4 import BRANCH_WITH_LORA, IdeogramImageRequest, IdeogramInference
from tintype.inference.lora_cache import LoraRequest
from tintype.inference.presets import ASPECT_RATIOS, SPEEDS
from tintype.inference.prompt_writer import NAME
from tintype.models.ideogram4.captions import wrap
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.weights import BaseWeights

REQUEST = IdeogramImageRequest("a red hat", 64, 48, "TURBO")


@pytest.fixture(scope="module")
def inference(tmp_path_factory: pytest.TempPathFactory) -> IdeogramInference:
    folder: Path = save_tiny_ideogram(tmp_path_factory.mktemp("ideogram"))
    family = Ideogram4Family(BaseWeights("ideogram4", folder, "random", "a test"), torch.device("cpu"))
    return IdeogramInference(family, keep=4)


@pytest.fixture(autouse=True)
def _bare(inference: IdeogramInference) -> None:
    inference.apply_loras([])


def pictures(inference: IdeogramInference, request: IdeogramImageRequest, seeds: list[int]) -> list[bytes]:
    return [picture.tobytes() for picture in inference.generate(request, inference.prepare(request), seeds)]


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def test_picture_k_of_a_batch_is_the_single_picture_of_its_seed(inference: IdeogramInference) -> None:
    together = pictures(inference, REQUEST, [7, 8, 9])
    assert together == [pictures(inference, REQUEST, [seed])[0] for seed in (7, 8, 9)]
    assert len(set(together)) == 3


def test_every_ratio_is_drawn_at_its_published_size_by_the_real_family(inference: IdeogramInference) -> None:
    assert [inference.family.true_size(*size) for size in ASPECT_RATIOS.values()] == list(ASPECT_RATIOS.values())


def test_speeds_and_sizes_are_those_asked_for(inference: IdeogramInference) -> None:
    told: list[tuple[int, int]] = []
    for speed, preset in SPEEDS.items():
        told.clear()
        request = replace(REQUEST, speed=speed)
        drawn = inference.generate(request, inference.prepare(request), [1, 2], lambda *step: told.append(step))
        assert told == [(step, 2 * preset.steps) for step in range(1, 2 * preset.steps + 1)]
        assert [picture.size for picture in drawn] == [(64, 48)] * 2


def test_every_step_may_stop_the_drawing(inference: IdeogramInference) -> None:
    def stop(done: int, total: int) -> None:
        if done == 3:
            raise Cancelled()

    with pytest.raises(Cancelled):
        inference.generate(REQUEST, inference.prepare(REQUEST), [1], stop)


@pytest.mark.parametrize("form", [form.name for form in IDEOGRAM_KEYS.forms])
def test_a_file_of_any_form_draws_as_a_plain_pipeline_does_and_leaves_the_base_as_it_was(
    inference: IdeogramInference, tmp_path: Path, form: str
) -> None:
    before = pictures(inference, REQUEST, [3])
    layers = random_layers(inference.family, size=0.15)
    paths = {name: save_lora(tmp_path / f"{name}.safetensors", layers, name) for name in ("diffusers", form)}
    inference.apply_loras([LoraRequest(paths[form], 0.7)])
    prompts = inference.prepare(replace(REQUEST, branch="unconditional"))
    ours = inference.generate(REQUEST, prompts, [3])[0]
    inference.apply_loras([])
    assert pictures(inference, REQUEST, [3]) == before

    preset = SPEEDS["TURBO"]
    fresh = Ideogram4Family(inference.family.weights, torch.device("cpu")).fresh_pipeline()
    fresh.load_lora_weights(str(paths["diffusers"]), adapter_name="it")
    fresh.set_adapters(["it"], [0.7])
    plain = fresh(
        prompts.prompt.text, width=64, height=48, num_inference_steps=preset.steps, mu=preset.mu, std=preset.std,
        guidance_schedule=preset.guidance_schedule(), generator=torch.Generator().manual_seed(3),
    ).images[0]  # fmt: skip
    assert np.abs(levels(ours) - levels(plain)).max() <= 1
    assert ours.tobytes() != before[0], "the LoRA has to be visible here"


def test_words_are_expanded_unless_refused_and_the_log_can_tell(inference: IdeogramInference) -> None:
    prompts = inference.prepare(REQUEST)
    assert prompts.prompt.text == wrap("a red hat").line()
    assert prompts.lines[0] == f"Prompt expanded by rule: {prompts.prompt.text}"
    assert inference.prepare(replace(REQUEST, expand=False)).prompt.text == "a red hat"


def test_where_the_language_models_head_is_it_writes(
    inference: IdeogramInference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = inference.family.weights
    shutil.copytree(weights.folder, tmp_path / "base")
    torch.manual_seed(1)
    head = Ideogram4PromptEnhancerHead(hidden_size=8, vocab_size=300)
    head.save_pretrained(tmp_path / "base" / "prompt_enhancer_head")
    # Texts that end soon: a head that knows nothing says all that it may.
    monkeypatch.setattr(prompt_writer, "_text", lambda longest: {"type": "string", "minLength": 1, "maxLength": 4})
    monkeypatch.setattr(prompt_writer, "MOST_ELEMENTS", 1)
    monkeypatch.setattr(prompt_writer, "BRIEF", "Write.")
    family = Ideogram4Family(replace(weights, folder=tmp_path / "base"), torch.device("cpu"))
    writing = IdeogramInference(family, keep=1)
    prompts = writing.prepare(REQUEST)
    assert prompts.prompt.by == NAME
    assert prompts.lines[0].startswith(f"Prompt expanded by {NAME}: {{")
    assert verify(prompts.prompt.text) == []
    assert writing.prepare(replace(REQUEST, expand=False)).prompt.text == "a red hat"
    assert [picture.tobytes() for picture in writing.generate(REQUEST, prompts, [1])] != pictures(
        inference, REQUEST, [1]
    )

    def stop() -> None:
        raise Cancelled()

    with pytest.raises(Cancelled):
        writing.prepare(replace(REQUEST, prompt="a blue hat"), stop)  # what was written before is remembered


def test_a_prompt_beyond_the_window_loses_its_end_and_says_so(inference: IdeogramInference) -> None:
    request = replace(REQUEST, prompt="word " * 600 + "in Venice")
    for expand in (True, False):
        prompts = inference.prepare(replace(request, expand=expand))
        assert inference.family.cut_off(prompts.prompt.text) == ""
        assert any("left out" in note for note in prompts.notes)
    endless = inference.prepare(replace(request, prompt="x" * 9000))
    assert inference.family.cut_off(endless.prompt.text) == ""
    with pytest.raises(InputError) as caught:
        inference.prepare(replace(request, prompt=wrap(request.prompt).line()))
    assert caught.value.details[0]["loc"] == ["body", "prompt"]


def test_the_branch_is_the_networks_own_or_the_one_chosen(inference: IdeogramInference, tmp_path: Path) -> None:
    assert inference.prepare(REQUEST).branch == "unconditional"
    path = save_lora(tmp_path / "a.safetensors", random_layers(inference.family))
    inference.apply_loras([LoraRequest(path, 1.0)])
    assert inference.prepare(REQUEST).branch == BRANCH_WITH_LORA
    assert inference.prepare(replace(REQUEST, branch="conditional-empty-prompt")).branch == "conditional-empty-prompt"


def test_a_negative_prompt_changes_the_picture_unless_the_prompt_asks_for_the_same(
    inference: IdeogramInference,
) -> None:
    plain = pictures(inference, REQUEST, [1])
    against = replace(REQUEST, negative_prompt="rain")
    assert pictures(inference, against, [1]) != plain
    assert inference.prepare(against).negative == wrap("rain").line()
    assert "rain" in inference.prepare(against).lines[1]
    same = replace(REQUEST, negative_prompt="red hat")
    assert pictures(inference, same, [1]) == plain
    assert any("red hat" in note for note in inference.prepare(same).notes)
