"""A custom model shows its subject without a trigger and without a caption, and still does as the prompt says."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from bench.custom_models import PAGES_PROMPT, Drawn, draw, learn

from tintype.inference.ideogram4 import IdeogramInference
from tintype.jobs.resident_models import ResidentModels
from tintype.settings import load_settings

pytestmark = pytest.mark.long

SUBJECTS = (41, 42)  # not those of docs/custom-models.md


def test_twelve_photos_make_a_model_that_the_pages_own_prompt_shows(tmp_path: Path) -> None:
    models = ResidentModels(load_settings(ideogram4_base="miniature", data_dir=tmp_path), "cpu")
    learned, bare = [], []
    for subject in SUBJECTS:
        lora = learn(subject, models, tmp_path, {})
        inference = models.inference(IdeogramInference)
        learned += draw(inference, lora, subject, "BALANCED", "unconditional", 3)[0]
        bare += draw(inference, lora, subject, "TURBO", None, 3)[0]
    assert statistics.fmean(one.likeness for one in learned if one.prompt == PAGES_PROMPT) >= 0.7
    assert statistics.fmean(one.likeness for one in learned) >= 0.7
    assert max(statistics.fmean(one.likeness for one in bare if one.subject == each) for each in SUBJECTS) <= 0.15

    def adherence(drawn: list[Drawn]) -> float:
        return statistics.fmean(one.adherence for one in drawn if one.adherence is not None)

    assert adherence(learned) >= adherence(bare) - 0.15
