"""Where the trained miniatures lie in the package."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
FLUX_WEIGHTS = WEIGHTS / "flux"
IDEOGRAM4_WEIGHTS = WEIGHTS / "ideogram4"
JUDGE_WEIGHTS = WEIGHTS / "judge.safetensors"
