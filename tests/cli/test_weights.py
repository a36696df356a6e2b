"""Both bases are listed with what is used and why; nothing is fetched before a licence was accepted."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from tintype.cli import app
from tintype.models.ideogram4 import PROMPT_HEAD_REPOSITORY
from tintype.models.registry import family_spec, family_specs

runner = CliRunner()


@pytest.fixture(autouse=True)
def _empty_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TINTYPE_DEVICE", "cpu")
    monkeypatch.setenv("COLUMNS", "250")


def test_each_base_says_what_is_used_and_why() -> None:
    listed = runner.invoke(app, ["weights", "list"]).output
    for spec in family_specs():
        assert spec.repository in listed
    assert "FLUX base: the built-in miniature" in listed
    assert "Ideogram 4 base: the built-in miniature" in listed


@pytest.mark.parametrize("name", ["flux", "ideogram4"])
def test_the_licence_is_shown_and_declining_it_fetches_nothing(name: str, tmp_path: Path) -> None:
    answered = runner.invoke(app, ["weights", "pull", name], input="n\n")
    assert answered.exit_code == 1
    assert family_spec(name).licence.split(":")[0] in " ".join(answered.output.split())
    assert list(tmp_path.iterdir()) == []


def test_prompts_can_be_written_once_ideogram_was_fetched() -> None:
    assert family_spec("ideogram4").further_repositories == (PROMPT_HEAD_REPOSITORY,)
