"""Drawing without padding gives the pipeline's own pictures; the negative branch is the one that was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.ideogram4.pipeline_ideogram4 import _logit_normal_sigmas, _resolution_aware_mu
from PIL import Image
from tests.support.tiny_ideogram import save_tiny_ideogram

from tintype.catalog.ideogram_v4 import NegativeBranch, RenderingSpeed
from tintype.inference.ideogram4 import denoise, schedule
from tintype.inference.presets import SPEEDS, Preset
from tintype.inference.prompts import by_rule
from tintype.jobs.resident_models import ResidentModels
from tintype.models.family import Features
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.weights import BaseWeights
from tintype.settings import load_settings

SHORT = Preset(steps=4, polished=1, mu=0.5, std=1.75)


@pytest.fixture(scope="module")
def ideogram(tmp_path_factory: pytest.TempPathFactory) -> Ideogram4Family:
    folder: Path = save_tiny_ideogram(tmp_path_factory.mktemp("ideogram"))
    return Ideogram4Family(BaseWeights("ideogram4", folder, "random", "a test"), torch.device("cpu"))


def images(family: Ideogram4Family, features: Features, *how: Any, **options: Any) -> list[Image.Image]:
    made = denoise(family, family.load_transformer(), features, *how, **options)
    return [image for latents in made for image in family.decode_latents(latents)]


@pytest.mark.parametrize("speed", ["TURBO", "BALANCED", "QUALITY"])
def test_the_schedule_is_the_pipelines(speed: RenderingSpeed) -> None:
    preset = SPEEDS[speed]
    wanted = _logit_normal_sigmas(preset.steps, _resolution_aware_mu(768, 2048, preset.mu), preset.std)
    sigmas = schedule(preset, 768 * 2048)
    torch.testing.assert_close(sigmas[:-1], wanted, atol=1e-6, rtol=1e-5)
    assert sigmas[-1] == 0


def test_no_pixel_differs_from_the_padded_pipelines_by_more_than_one_level(ideogram: Ideogram4Family) -> None:
    prompt, seeds = '{"high_level_description":"a hat"}', [5, 6]
    ours = images(ideogram, ideogram.encode_captions([prompt]), (48, 64), SHORT, seeds)
    padded = ideogram.fresh_pipeline()(
        [prompt] * 2, width=48, height=64, num_inference_steps=4, guidance_schedule=SHORT.guidance_schedule(),
        mu=SHORT.mu, std=SHORT.std, generator=[torch.Generator().manual_seed(seed) for seed in seeds],
    ).images  # fmt: skip
    for one, other in zip(ours, padded, strict=True):
        assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).max() <= 1
    assert ours[0].tobytes() != ours[1].tobytes()


def test_the_miniature_draws_what_a_plain_pipeline_with_its_whole_window_draws() -> None:
    family = ResidentModels(load_settings(ideogram4_base="miniature"), "cpu").family(Ideogram4Family)
    prompt = by_rule("a portrait of a person, red hair, round glasses, green background")
    ours = images(family, family.encode_captions([prompt]), (768, 1024), SHORT, [5])[0]
    padded = family.fresh_pipeline()(
        prompt, width=ours.width, height=ours.height, num_inference_steps=SHORT.steps, std=SHORT.std,
        guidance_schedule=SHORT.guidance_schedule(family.guidance_strength), mu=family.schedule_mean(SHORT.mu),
        generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip
    assert ours.size == (48, 64)
    assert np.abs(np.asarray(ours).astype(int) - np.asarray(padded)).max() <= 1


def test_a_picture_of_several_is_the_one_its_seed_gives_alone(ideogram: Ideogram4Family) -> None:
    features = ideogram.encode_captions(["a"])
    several = images(ideogram, features, (32, 32), SHORT, [1, 2, 3])
    alone = images(ideogram, features, (32, 32), SHORT, [2])[0]
    assert np.abs(np.asarray(several[1]).astype(int) - np.asarray(alone)).max() <= 1


def test_each_negative_branch_asks_the_network_it_names(ideogram: Ideogram4Family) -> None:
    conditional, unconditional = ideogram.load_transformer(), ideogram.load_unconditional()
    features = ideogram.encode_captions(["a hat"])
    drawn = {}
    modes: tuple[NegativeBranch, ...] = ("unconditional", "conditional-image-only", "conditional-empty-prompt")
    for mode in modes:
        calls: list[str] = []
        hooks = [
            network.layers[0].register_forward_hook(lambda *args, name=name, calls=calls: calls.append(name))
            for name, network in (("conditional", conditional), ("unconditional", unconditional))
        ]
        drawn[mode] = images(ideogram, features, (32, 32), SHORT, [1], branch=mode)[0].tobytes()
        for hook in hooks:
            hook.remove()
        expected = (4, 4) if mode == "unconditional" else (8, 0)
        assert (calls.count("conditional"), calls.count("unconditional")) == expected
    assert len(set(drawn.values())) == 3


def test_a_negative_prompt_takes_the_branchs_place(ideogram: Ideogram4Family) -> None:
    features = ideogram.encode_captions(["a hat"])
    plain = images(ideogram, features, (32, 32), SHORT, [1])[0]
    against = images(ideogram, features, (32, 32), SHORT, [1], negative=ideogram.encode_captions(["rain"]))
    assert against[0].tobytes() != plain.tobytes()
    # Against the prompt itself guidance has nothing to push: the same as no guidance.
    itself = images(ideogram, features, (32, 32), SHORT, [1], negative=features)[0]
    unguided = Preset(steps=4, polished=0, mu=0.5, std=1.75, guidance=1.0)
    without = images(ideogram, features, (32, 32), unguided, [1])[0]
    assert np.abs(np.asarray(itself).astype(int) - np.asarray(without)).max() <= 1


def test_progress_is_told_after_every_step(ideogram: Ideogram4Family) -> None:
    told: list[tuple[int, int]] = []
    features = ideogram.encode_captions(["a"])
    images(ideogram, features, (32, 32), SHORT, [1], each_step=lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
