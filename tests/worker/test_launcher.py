"""A launcher's parts that need no processes; tests/crash/ drives those themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tintype.errors import SettingsError
from tintype.settings import load_settings
from tintype.worker.launcher import LaunchPlan, environment, new_launcher


def test_settings_reach_a_child_process_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINTYPE_AUTH", "on")
    given = load_settings(
        data_dir=tmp_path / "data", auth="off", port=1234, allowed_hosts=("one", "two"), allow_private_inputs=True,
        lease_seconds=2.5, public_url="https://here",
    )  # fmt: skip
    program = "from tintype.settings import load_settings; print(load_settings().model_dump_json())"
    answer = subprocess.run(
        [sys.executable, "-c", program], env=environment(given), capture_output=True, text=True, check=True
    )
    assert type(given).model_validate_json(answer.stdout) == given


def test_a_light_process_imports_nothing_heavy() -> None:
    program = (
        "import sys, tintype.worker.launcher, tintype.worker.supervisor, tintype.cli.serve\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'peft', 'numpy', 'cv2', 'tintype.web', 'uvicorn'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ)
    assert answer.stdout == "[]\n"


def test_a_launcher_that_is_not_registered_is_refused_with_those_that_are() -> None:
    plan = LaunchPlan(load_settings(), "module:NAME", give_up=lambda: None)
    with pytest.raises(SettingsError, match=r"'slurm'.*--launcher: local"):
        new_launcher("slurm", plan)


def test_a_supervisors_command_names_its_device_and_what_it_serves() -> None:
    plan = LaunchPlan(load_settings(), "module:NAME", give_up=lambda: None)
    assert plan.command("cuda:1")[1:] == [
        "-m", "tintype.worker.supervisor", "--device", "cuda:1", "--endpoints", "module:NAME",
    ]  # fmt: skip
