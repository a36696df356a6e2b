"""Shows that every guard of docs/security.md is held by a test: with the guard switched off, its tests fail.

A guard is switched off in a copy of the source (bench/guards.toml says how), and its tests run with that copy, in their
own processes and in those that they start. A test that still passes is no test of its guard, and the command says so.

    python bench/guards.py                 # all of them
    python bench/guards.py --row 7         # those of one row; --only TEXT: those whose description holds it
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "tintype"
SECONDS = 180  # for the tests of one guard; what hangs without it has failed as well
# A test that failed, or a fixture whose assertion did; anything else is an error of ours.
_FAILED = re.compile(r"^(?:FAILED|ERROR) ([^\s\[]+::\w+)\S*(?: - (.*))?$", re.MULTILINE)


@dataclass(frozen=True)
class Guard:
    """Names what is possible without a guard, how it is switched off, and the tests that fail then."""

    row: int
    without: str
    file: str
    text: str
    off: str
    tests: tuple[str, ...]

    def switched_off(self) -> str:
        """Returns the source of its file without it. Raises ValueError where the text is not there just once."""
        source = (SOURCE / self.file).read_text()
        if source.count(self.text) != 1:
            raise ValueError(f"{self.file} has this {source.count(self.text)} times: {self.text!r}")
        return source.replace(self.text, self.off)


def guards() -> list[Guard]:
    """Reads the table."""
    listed = tomllib.loads((ROOT / "bench" / "guards.toml").read_text())["guard"]
    return [Guard(**{**guard, "tests": tuple(guard["tests"])}) for guard in listed]


def surviving(guard: Guard) -> tuple[list[str], str]:
    """Runs a guard's tests without it; returns those that do not fail, and what the first failure said."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tintype"
        shutil.copytree(SOURCE, copy, copy_function=os.link, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / guard.file).unlink()  # a hard link
        (copy / guard.file).write_text(guard.switched_off())
        code, output = _run(guard.tests, {"PYTHONPATH": folder})
    if code is None:
        return [], "it hangs"
    reasons = {match[1]: match[2] or "" for match in _FAILED.finditer(output)}
    if re.search(r"(?:Syntax|Import|Name|ModuleNotFound)Error", output) or code not in (0, 1):
        raise ValueError(f"{guard.without}: the tests could not run\n{output[-3000:]}")
    return [test for test in guard.tests if test not in reasons], next(iter(reasons.values()), "")


def _run(tests: Sequence[str], environment: dict[str, str]) -> tuple[int | None, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        [*command, *tests], cwd=ROOT, env=os.environ | {"COLUMNS": "200"} | environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return None, ""
    return process.returncode, output


def main() -> None:
    parser = argparse.ArgumentParser(description="Switches every guard off and shows that its tests fail.")
    parser.add_argument("--row", type=int, help="of docs/security.md")
    parser.add_argument("--only", default="", help="guards whose description holds this text")
    options = parser.parse_args()
    chosen = [guard for guard in guards() if options.row in (None, guard.row) and options.only in guard.without]
    passed = 0
    for guard in chosen:
        left, reason = surviving(guard)
        passed += not left
        print(f"{guard.row:2}  {'fails ' if not left else 'PASSES'}  without it, {guard.without}", flush=True)
        for test in guard.tests:
            print(f"      {test}{'  <- still passes' if test in left else ''}", flush=True)
        print(f"      {reason[:110]}\n", flush=True)
    print(f"{passed} of {len(chosen)} guards are held by their tests")
    sys.exit(passed != len(chosen))


if __name__ == "__main__":
    main()
