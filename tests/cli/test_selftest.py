"""The self-test passes on the miniatures, names nobody, and says which check fails where weights are damaged."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tintype.cli import app
from tintype.inference.flux import FluxInference
from tintype.inference.ideogram4 import IdeogramInference
from tintype.jobs.resident_models import ResidentModels
from tintype.models.family import Forward
from tintype.models.flux import FAMILY
from tintype.models.registry import family_spec
from tintype.models.weights import resolve
from tintype.selftest.anonymous import Anonymous
from tintype.selftest.checked_base import QUICK, CheckedBase
from tintype.selftest.result import CheckFailed
from tintype.selftest.steps import StepChecks
from tintype.settings import load_settings

runner = CliRunner()


def results(path: Path) -> dict[str, dict[str, Any]]:
    return {result["check"]: result for result in json.loads(path.read_text())["results"]}


@pytest.mark.slow
@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_a_miniature_passes_and_what_cannot_be_checked_on_a_cpu_says_why(base: str, tmp_path: Path) -> None:
    path = tmp_path / "selftest.json"
    done = runner.invoke(app, ["selftest", "--quick", "--base", base, "--json", str(path)])
    assert done.exit_code == 0, done.output
    kept, found = json.loads(path.read_text()), results(path)
    assert {name for name, result in found.items() if result["outcome"] == "not run"} == {
        "tokenizers", "steps, compiled", "published size"
    }  # fmt: skip
    assert all(result["outcome"] == "passed" or result["what"] for result in found.values())
    assert kept["counts"] == {"passed": 8, "not run": 3}
    for order in ("own", "diffusers"):
        steps = next(one["figures"] for one in found.values() if one["figures"].get("order_of_work") == order)
        assert set(steps["sizes"]) == {"512x512", "512x768"}
        assert all(size["seconds"] > 0 and size["peak_bytes"] > 0 for size in steps["sizes"].values())
        assert len(steps["losses"]) == 4
    rows = [line.split("\t") for line in done.output.splitlines() if line.count("\t") == 5]
    assert [row[2] for row in rows[1:]] == list(found)
    assert "8 passed, 0 failed, 3 not run" in done.output


@pytest.mark.slow
def test_damaged_weights_fail_every_check_that_reads_them_and_stop_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, path = tmp_path / "my own weights", tmp_path / "selftest.json"
    shutil.copytree(resolve(load_settings(flux_base="miniature")).folder, folder)
    damaged = next((folder / "vae").glob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    monkeypatch.setenv(FAMILY.setting, str(folder))
    done = runner.invoke(app, ["selftest", "--quick", "--base", "flux", "--json", str(path)])
    assert done.exit_code == 1
    found = results(path)
    for name in ("picture", "LoRAs swapped", "networks in turns", "steps, own order", "checkpoint"):
        assert found[name]["outcome"] == "failed"
        assert "weights pull" in found[name]["remedy"] or "download it again" in found[name]["what"], name
    assert found["weights"]["outcome"] == "passed"
    assert found["published size"]["outcome"] == "not run"
    for text in (done.output, path.read_text()):
        assert str(tmp_path) not in text
        assert "my own" not in text


def test_where_memory_is_scarce_steps_are_taken_without_the_encoders(tmp_path: Path) -> None:
    settings = load_settings(flux_base="miniature", data_dir=tmp_path / "data")
    base = CheckedBase(FAMILY, FluxInference, ResidentModels(settings, "cpu"), tmp_path / "flux", QUICK)
    base.family.keeps_all = False
    assert len(base.trained_cache().items) == len(QUICK.sizes)
    assert base.family._encoders is None


def test_compiled_steps_are_compared_and_a_compiler_that_fails_fails_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest would keep all of it
    settings = load_settings(ideogram4_base="miniature", data_dir=tmp_path / "data")
    spec = family_spec("ideogram4")
    base = CheckedBase(spec, IdeogramInference, ResidentModels(settings, "cpu"), tmp_path / spec.name, QUICK)
    checks = StepChecks()
    checks.own(base)
    try:
        torch.compiler.set_default_backend("eager")
        assert checks.take(Forward.COMPILED, base).figures["compiled_graphs"] == 1
        torch.compiler.set_default_backend(broken)
        with pytest.raises(CheckFailed, match="no compiler"):
            checks.take(Forward.COMPILED, base)
    finally:
        torch.compiler.set_default_backend(None)


def test_a_file_that_cannot_be_written_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    done = runner.invoke(app, ["selftest", "--json", str(tmp_path / "nowhere" / "x.json")])
    assert "cannot be written" in str(done.exception)


def test_paths_and_own_repositories_are_taken_out_of_what_is_said() -> None:
    anonymous = Anonymous(load_settings(flux_base="anna/my-flux", ideogram4_base="~/anna's models"))
    said = {
        "/home/anna/x/model.safetensors is not there": "<path> is not there",
        "Fetch anna/my-flux again": "Fetch <path> again",
        "in '~/anna's models/vae', or C:\\Users\\anna\\x": "in '<path>', or <path>",
        "1/2 of 512x768 at 3.5 s/step; see https://huggingface.co/a": "1/2 of 512x768 at 3.5 s/step; see "
        "https://huggingface.co/a",
    }
    for before, after in said.items():
        assert anonymous.all({"a": [before]}) == {"a": [after]}
