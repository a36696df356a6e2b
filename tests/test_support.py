"""What the tests themselves stand on: whatever is shared by the workers of a run is made once and ended once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.private import data_folders, open_to_others
from tests.support.scheduling import OWN_SERVER, group_of
from tests.support.server import without

ROOT = Path(__file__).parents[1]
SHARING = """
import contextlib, pytest, time
from pathlib import Path
from tests.support.shared import made_once, started_once

LOG = Path({log!r})

def note(word):
    with LOG.open("a") as file:
        file.write(word + "\\n")

@contextlib.contextmanager
def start():
    note("started")
    yield "a value"
    note("ended")

@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    with started_once(tmp_path_factory, "thing", start) as value:
        yield value

@pytest.mark.parametrize("number", range(4))
def test_one_of_several(shared, tmp_path_factory, number):
    assert shared == "a value"
    made = made_once(tmp_path_factory, "folder", lambda folder: (folder / "made").touch() or note("made"))
    assert (made / "made").exists()
    time.sleep(0.3)
    note("used")
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_what_workers_share_is_made_once_and_ended_after_its_last_use(tmp_path: Path, workers: int) -> None:
    log = tmp_path / "log"
    (tmp_path / "test_sharing.py").write_text(SHARING.format(log=str(log)))
    options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(tmp_path), "-n", str(workers)]
    command = [sys.executable, "-m", "pytest", *options, f"--basetemp={tmp_path / 'temp'}", str(tmp_path)]
    done = subprocess.run(
        command, cwd=ROOT, env=without("PYTEST_"), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
    words = log.read_text().split()
    assert sorted(words) == sorted(["started", "made", *["used"] * 4, "ended"])
    assert (words[0], words[-1]) == ("started", "ended")


def test_a_server_that_some_tests_kill_is_one_workers() -> None:
    assert group_of("tests/acceptance/test_run.py::test_x[a/b]") == group_of("tests/acceptance/test_files.py::test_y")
    assert group_of("tests/acceptance/test_restart.py::test_x") == "tests/acceptance/test_restart.py"
    assert group_of("tests/test_errors.py::test_x") == "tests/test_errors.py"
    for name in OWN_SERVER:
        text = (ROOT / "tests" / "acceptance" / f"{name}.py").read_text()
        assert "running(" in text
        assert "server: Server" not in text


def test_the_walk_after_the_tests_finds_what_is_open_in_any_data_folder(tmp_path: Path) -> None:
    data = [tmp_path / "a", tmp_path / "deep" / "b", tmp_path / "no installation"]
    for folder in data:
        (folder / "files" / "id").mkdir(parents=True)
        (folder / "files" / "id" / "a.zip").touch()
    for folder in data[:2]:
        (folder / "locks").mkdir()
    for path in tmp_path.rglob("*"):
        path.chmod(0o700)
    assert set(data_folders(tmp_path)) == set(data[:2])
    assert [open_to_others(folder) for folder in data] == [[], [], []]
    for name, mode in (("", 0o711), ("files/id", 0o750), ("files/id/a.zip", 0o604)):
        place = data[1] / name
        place.chmod(mode)
        assert [found.split(" ")[0] for found in open_to_others(data[1])] == [str(place)]
        place.chmod(0o700)
