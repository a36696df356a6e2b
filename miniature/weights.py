"""Where the trained miniatures lie in the package, and their judge beside this."""

from __future__ import annotations

from pathlib import Path

import tintype

WEIGHTS = Path(tintype.__file__).parent / "models" / "miniature" / "weights"
FLUX_WEIGHTS = WEIGHTS / "flux"
IDEOGRAM4_WEIGHTS = WEIGHTS / "ideogram4"
JUDGE_WEIGHTS = Path(__file__).parent / "judge.safetensors"
