"""exiftool, which reads what a file says about itself without any code of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest


def metadata(content: bytes | Path) -> dict[str, str]:
    """Returns what exiftool finds in a file, by `group:name`."""
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not here (make system installs it)")
    path, given = (str(content), None) if isinstance(content, Path) else ("-", content)
    ran = subprocess.run(["exiftool", "-json", "-G1", path], input=given, capture_output=True, check=True)
    [found] = json.loads(ran.stdout)
    return {name: str(said) for name, said in found.items()}


def assert_marked(content: bytes | Path, model: str) -> None:
    """Fails unless a file says that a trained model made it, which one, and nothing about anybody."""
    found = metadata(content)
    said = {name.partition(":")[2]: said for name, said in found.items() if name.startswith("XMP")}
    assert said.pop("AISystemVersionUsed").startswith("tintype ")
    assert said == {
        "DigitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
        "AISystemUsed": f"{model} (tintype)",
    }
