"""The wheel by itself: built from what the repository keeps, installed with no checkout near, it does the whole job.

Its environment is a new one that holds nothing but the wheel; the dependencies are those of the environment the tests
run in, as plain folders on its path, so that this source's own editable install is not among them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import PORTRAIT_TRAINER, running, without

ROOT = Path(__file__).parents[2]
KEPT = ("pyproject.toml", "README.md", "LICENSE", "src")
PIP = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing an earlier build left beside the source gets in."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in KEPT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    build = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", str(out), str(source)]
    subprocess.run([*PIP, *build], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with nothing but the wheel in it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.EnvBuilder().create(folder)
    interpreter = folder / "bin" / "python"
    (own,) = folder.glob("lib/python*/site-packages")
    # A path file of another environment is not read for a folder that is named in one: no editable install comes along.
    (own / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = ["--python", str(interpreter), "install", "--no-deps", "--no-index", "--ignore-installed", str(wheel)]
    subprocess.run([*PIP, *install], check=True)
    return interpreter


def test_it_has_the_product_and_nothing_that_only_builders_and_tests_need(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"tintype", f"{'-'.join(wheel.stem.split('-')[:2])}.dist-info"}
    foreign = ("judge", "demo", "contact_sheet", "drawing", "test_", "_test.", "bench", "example", "build", "conftest")
    assert [name for name in names if any(word in Path(name).name for word in foreign)] == []
    packed = {name for name in names if name.startswith("tintype/")}
    kept = {str(p.relative_to(ROOT / "src")) for p in (ROOT / "src" / "tintype").rglob("*") if p.is_file()}
    assert packed == {name for name in kept if "__pycache__" not in name}


def test_installed_with_no_checkout_near_it_serves_trains_and_generates(
    python: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    imported = [str(python), "-c", "import tintype; print(tintype.__file__)"]
    found = subprocess.run(imported, check=True, capture_output=True, text=True).stdout.strip()
    assert Path(found).is_relative_to(python.parents[1])
    with running(tmp_path, executable=python) as server:
        body: dict[str, Any] = {"images_data_url": server.upload(photos.read_bytes()), "steps": 3}
        trained = server.result(server.submit(PORTRAIT_TRAINER, body))
        body = {"prompt": "a person", "loras": [{"path": trained["diffusers_lora_file"]["url"]}]}
        image = server.result(server.submit("fal-ai/flux-lora", body))["images"][0]
        picture = httpx.get(image["url"], trust_env=False).raise_for_status()
        assert (picture.headers["content-type"], image["width"]) == (image["content_type"], 64)
    command = [
        str(python),
        "-m",
        "tintype",
        "generate",
        "a person",
        "--steps",
        "2",
        "--seed",
        "5",
        "--out",
        "picture.png",
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=without("TINTYPE_")).stdout
    assert "picture.png  64 x 64, seed 5" in printed
