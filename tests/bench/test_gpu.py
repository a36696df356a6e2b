"""The GPU bench runs from end to end with narrow models on a CPU, and keeps what it has after every row."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest
import torch

from bench import gpu


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    ("model", "compiled"), [("flux", False), pytest.param("ideogram4", True, marks=pytest.mark.long)]
)
def test_a_dry_run_measures_every_way_and_writes_it_down(
    model: str, compiled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "rows.json"
    asked = ["gpu.py", "--dry", "--model", model, "--sizes", "128", "--rounds", "1", "--out", str(out)]
    asked += ["--no-compile"] * (not compiled)
    monkeypatch.setattr(sys, "argv", asked)
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest would keep all of it
    torch.compiler.set_default_backend("eager")  # graphs, in place of the minutes that Inductor takes for them
    try:
        gpu.main()
    finally:
        torch.compiler.set_default_backend(None)
    kept = json.loads(out.read_text())
    assert kept["dry"]
    ways = [row["what"] for row in kept["rows"]]
    assert "step, straightforward" in ways
    assert "step, ours" in ways
    assert "step, ours, recomputed" in ways
    assert "one denoising call" in ways
    sizes = [row for row in kept["rows"] if row["what"].startswith("16 sizes")]
    assert [row["what"] for row in sizes] == ["16 sizes, ours", "16 sizes, compiled"][: 1 + compiled]
    if compiled:
        assert "step, ours, compiled, recomputed" in ways
        assert "one denoising call, compiled" in ways
        assert sizes[1]["compiled_graphs"] == 1, "one for all sixteen"
    for row in kept["rows"]:
        assert row["seconds"] > 0
        assert row["tflop"] > 0
        assert "failed" not in row
