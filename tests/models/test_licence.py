"""What a licence asks to be passed on, and that its acceptance is kept with the weights it is for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import constants

from tintype.models.licence import accept, acceptance
from tintype.models.registry import family_spec, family_specs
from tintype.models.weights import BaseWeights, resolve
from tintype.settings import load_settings

REPOSITORY = "black-forest-labs/FLUX.1-dev"


@pytest.fixture(autouse=True)
def _empty_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))


def test_an_acceptance_is_of_one_version_and_lies_beside_the_weights(tmp_path: Path) -> None:
    licence = family_spec("flux").licence
    assert acceptance(REPOSITORY) is None
    accept(REPOSITORY, licence)
    kept = acceptance(REPOSITORY)
    assert kept is not None
    assert kept.is_of(licence)
    assert not kept.is_of(replace(licence, version="2.0"))
    assert kept.accepted_at.endswith("Z")
    [place] = tmp_path.rglob("*.json")
    assert place.parent.name == "models--black-forest-labs--FLUX.1-dev", "it goes when they go"
    place.write_text("{")
    assert acceptance(REPOSITORY) is None


@pytest.mark.parametrize("name", [spec.name for spec in family_specs()])
def test_the_notice_names_model_licence_and_address(name: str) -> None:
    spec = family_spec(name)
    notice = BaseWeights(name, Path("/nowhere"), spec.repository, "a test").notice
    for what in (spec.title, spec.licence.title, spec.licence.address, spec.licence.weights, spec.licence.images):
        assert what in notice
    assert max(map(len, notice.splitlines())) < 300
    miniature = resolve(load_settings(**{f"{name}_base": "miniature"})).notice
    assert "Apache-2.0" in miniature


def test_a_fine_tune_is_under_its_own_terms_too(tmp_path: Path) -> None:
    weights = BaseWeights("flux", tmp_path, "someone/portraits", "a test")
    assert "someone/portraits, whose own terms hold too" in weights.notice
    assert "whose own terms" not in replace(weights, source=REPOSITORY).notice
    assert weights.licence_text is None
    (tmp_path / "LICENSE.md").write_text("as it came")
    assert weights.licence_text == tmp_path / "LICENSE.md"
