"""What is reported to the licensor, how often, and that without a licence key no connection is made at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.webhook_receiver import Receiver, receiving

from tintype.settings import Settings
from tintype.store import Store
from tintype.web.licence_reports import report_days
from tintype.web.services import Services

pytestmark = pytest.mark.anyio

# Serves for a moment as `tintype serve` does, and prints every address that Python was asked to reach.
SERVING = """
import asyncio, json, sys
PLACES = {"socket.connect": 1, "socket.sendto": 1, "socket.getaddrinfo": 0}
seen = []
sys.addaudithook(lambda event, told: seen.append(str(told[PLACES[event]])) if event in PLACES else None)
from tintype.settings import load_settings
from tintype.web.app import create_app
app_data = load_settings().data_dir

async def main():
    app = create_app(load_settings())
    async with app.router.lifespan_context(app):
        ends = asyncio.get_running_loop().time() + float(sys.argv[1])
        while asyncio.get_running_loop().time() < ends and not [*app_data.rglob("*.reported")]:
            await asyncio.sleep(0.1)

asyncio.run(main())
print(json.dumps(seen))
"""


@pytest.fixture
def licensor() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def made(data_dir: Path, day: str, images: int) -> None:
    folder = data_dir / "generations" / "flux-1-dev"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / day).write_bytes(b"." * images)


async def services_of(data_dir: Path, store: Store, licensor: Receiver) -> Services:
    settings = Settings(data_dir=data_dir, bfl_license_key="the key", bfl_report_url=licensor.url)
    return await Services.open(settings, store)


async def test_a_day_is_reported_until_it_is_taken_in_and_never_again(
    licensor: Receiver, tmp_path: Path, store: Store
) -> None:
    services = await services_of(tmp_path, store, licensor)
    made(tmp_path, "2026-11-20", 7)
    made(tmp_path, "2026-11-21", 2)
    licensor.answers = [503, 503]
    assert [await report_days(services) for _ in range(3)] == [0, 2, 0]
    assert {hook.path for hook in licensor.hooks} == {"/hook/flux-1-dev/usage"}
    assert [hook.json for hook in licensor.hooks] == [{"number_of_generations": images} for images in (7, 2, 7, 2)]
    assert {hook.headers["x-key"] for hook in licensor.hooks} == {"the key"}
    names = [hook.headers["idempotency-key"] for hook in licensor.hooks]
    assert names[:2] == names[2:]
    assert names[0] != names[1]


async def test_a_crash_before_it_was_noted_sends_the_day_again_under_its_name(
    licensor: Receiver, tmp_path: Path, store: Store
) -> None:
    made(tmp_path, "2026-11-20", 7)
    await report_days(await services_of(tmp_path, store, licensor))
    [noted] = (tmp_path / "generations").rglob("*.reported")
    noted.rename(noted.with_suffix(""))  # as a crash leaves it
    await report_days(await services_of(tmp_path, store, licensor))
    first, second = licensor.hooks
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


@pytest.mark.slow
@pytest.mark.parametrize("key", ["", "the key"])
def test_a_server_connects_to_nothing_unless_a_licence_key_is_set(licensor: Receiver, tmp_path: Path, key: str) -> None:
    made(tmp_path, "2026-11-20", 7)
    told = {"TINTYPE_DATA_DIR": str(tmp_path), "TINTYPE_BFL_REPORT_URL": licensor.url, "NO_PROXY": "*"}
    told |= {"TINTYPE_BFL_LICENSE_KEY": key} if key else {}
    ran = subprocess.run(
        [sys.executable, "-c", SERVING, "60" if key else "2"], env=told, capture_output=True, text=True, check=True
    )
    reached = json.loads(ran.stdout.splitlines()[-1])
    assert len(licensor.hooks) == bool(key)
    assert bool(reached) is bool(key), "the watch sees all, and there is nothing to see without a key"
