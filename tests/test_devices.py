"""Devices are found without torch."""

from __future__ import annotations

import importlib.metadata
import stat
from pathlib import Path

import pytest

from tintype.devices import devices


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that answers as a machine with two GPUs does, and a torch that could use them."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 0\necho 1\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cu130")


@pytest.mark.usefixtures("two_gpus")
def test_every_gpu_gets_a_supervisor() -> None:
    assert devices("auto") == ["cuda:0", "cuda:1"]


@pytest.mark.usefixtures("two_gpus")
def test_hidden_gpus_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert devices("auto") == ["cuda:0"]  # torch counts only what it may see
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert devices("auto") == ["cpu"]


@pytest.mark.usefixtures("two_gpus")
def test_a_cpu_build_of_torch_computes_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.13.0+cpu")
    assert devices("auto") == ["cpu"]


def test_named_devices_are_taken_at_their_word() -> None:
    assert devices("cpu") == ["cpu"]
    assert devices("cuda:1, cuda:3") == ["cuda:1", "cuda:3"]
