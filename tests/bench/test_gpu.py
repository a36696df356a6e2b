"""The GPU bench runs from end to end with narrow models on a CPU, and keeps what it has after every row."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import gpu


@pytest.mark.parametrize("model", ["flux", "ideogram4"])
def test_a_dry_run_measures_every_way_and_writes_it_down(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rows.json"
    asked = ["gpu.py", "--dry", "--model", model, "--no-compile", "--sizes", "64", "--rounds", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", asked)
    gpu.main()
    kept = json.loads(out.read_text())
    assert kept["dry"]
    ways = [row["what"] for row in kept["rows"]]
    assert "step, straightforward" in ways
    assert "step, ours" in ways
    assert "step, ours, recomputed" in ways
    assert "one denoising call" in ways
    for row in kept["rows"]:
        assert row["seconds"] > 0
        assert row["tflop"] > 0
        assert "failed" not in row
