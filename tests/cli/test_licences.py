"""`tintype licences` lists what a lawyer asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from tintype.cli import app
from tintype.models.licence import accept
from tintype.models.registry import family_spec


@pytest.fixture(autouse=True)
def _empty_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TINTYPE_DEVICE", "cpu")


def listed(**environment: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["licences", "--json"], env=environment)
    assert done.exit_code == 0
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_every_base_is_listed_under_the_terms_of_what_is_used() -> None:
    models = listed()["models"]
    assert [model["model"] for model in models] == ["miniature of FLUX.1 [dev]", "miniature of Ideogram 4"]
    assert {model["accepted"] for model in models} == {"needs no acceptance"}
    plain = CliRunner().invoke(app, ["licences"]).output
    assert all(model["licence"] in plain for model in models)


def test_real_weights_that_are_not_here_are_listed_too_and_when_they_were_accepted() -> None:
    spec = family_spec("flux")
    real = {"TINTYPE_FLUX_BASE": spec.repository}
    model = listed(**real)["models"][0]
    assert (model["model"], model["licence"]) == ("FLUX.1 [dev]", f"{spec.licence.name}, version 1.1.1")
    assert "weights pull" in model["accepted"]
    accept(spec.repository, spec.licence)
    assert listed(**real)["models"][0]["accepted"].startswith("20")


def test_what_is_on_here_is_said() -> None:
    here = listed(TINTYPE_RECIPE="png", TINTYPE_NSFW_THRESHOLD="0.7")["here"]
    assert "0.7" in here["filter"]
    assert "prompt" in here["recipe"]
    assert "DigitalSourceType" in here["mark"]
