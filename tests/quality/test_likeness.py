"""The whole point: ten photos without captions, and the LoRA draws the person in them."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from bench.likeness import learn

from tintype.jobs.resident_models import ResidentModels
from tintype.settings import load_settings

pytestmark = pytest.mark.long

SUBJECTS = (31, 32)  # not those of docs/miniature.md


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_lora_of_ten_photos_draws_the_subject_and_the_base_does_not(subject: int, tmp_path: Path) -> None:
    settings = load_settings(flux_base="miniature")
    learned = learn(subject, {"steps": 500}, ResidentModels(settings, "cpu"), settings, tmp_path, photos=10)
    assert learned.likeness >= 0.6  # of one subject; the mean over five is held to 0.7 in docs/miniature.md
    assert learned.likeness_of_base <= 0.15


def test_a_hundred_steps_teach_what_longer_runs_have_learned_by_then(tmp_path: Path) -> None:
    settings = load_settings(flux_base="miniature")
    models = ResidentModels(settings, "cpu")
    learned = [learn(subject, {"steps": 100}, models, settings, tmp_path, photos=10) for subject in SUBJECTS]
    assert statistics.fmean(one.likeness for one in learned) >= 0.7  # 0.5 by shares of the run
    assert statistics.fmean(one.adherence for one in learned) >= 0.85
