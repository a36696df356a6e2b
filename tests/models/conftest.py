"""A random Ideogram 4, written once in a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.shared import made_once
from tests.support.tiny_ideogram import save_tiny_ideogram

from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.weights import BaseWeights


@pytest.fixture(scope="session")
def ideogram_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "ideogram", save_tiny_ideogram)


@pytest.fixture(scope="session")
def ideogram(ideogram_folder: Path) -> Ideogram4Family:
    return Ideogram4Family(BaseWeights("ideogram4", ideogram_folder, "random", "a test"), torch.device("cpu"))
