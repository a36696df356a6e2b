"""What a process that computes imports: nothing that it does not need, however much is installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LOADED = """
import sys
from tintype.catalog import ENDPOINTS
for endpoint in ENDPOINTS:
    endpoint.load_job()
print(*sorted({"scipy", "boto3", "pandas", "matplotlib"} & set(sys.modules)))
import boto3, scipy
"""


@pytest.mark.slow
def test_jobs_import_no_packages_that_are_only_installed() -> None:
    loaded = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True)

    assert loaded.stdout.split() == []
