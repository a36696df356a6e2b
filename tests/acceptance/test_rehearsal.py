"""A rehearsal runs any call on the miniatures, on a server whose own bases are others; all else is real."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fal_client
import httpx
import pytest

from tests.support.python_client import swept_up, turn
from tests.support.server import PORTRAIT_TRAINER, Server, finish, running, without

# Connections that fal's client leaves behind.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def real_bases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose bases are real ones, which are not on this machine."""
    folder = tmp_path_factory.mktemp("real-bases")
    with running(folder, FLUX_BASE="nobody/flux-of-elsewhere") as server:
        yield server


def test_a_program_rehearses_by_its_key_alone(
    real_bases: Server, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn(real_bases.origin, monkeypatch)
    client = fal_client.SyncClient(key=f"rehearsal-{real_bases.key}")  # as with FAL_KEY, in a process of its own
    with swept_up():
        url = client.upload_file(photos)
        arguments = {"images_data_url": url, "trigger_phrase": "TOK", "steps": 3}
        trained = client.subscribe(PORTRAIT_TRAINER, arguments=arguments)
        lora = {"path": trained["diffusers_lora_file"]["url"]}
        drawn = client.run("fal-ai/flux-lora", arguments={"prompt": "TOK", "loras": [lora]})
    config = httpx.get(trained["config_file"]["url"], trust_env=False).json()
    assert config["base"]["miniature"]
    assert drawn["images"]


def test_a_token_and_tintype_run_pass_the_prefix_on(real_bases: Server, tmp_path: Path) -> None:
    prefixed = f"rehearsal-{real_bases.key}"
    headers = {"Authorization": f"Key {prefixed}"}
    body = {"prompt": "a portrait of a person", "image_size": "square"}
    with httpx.Client(base_url=real_bases.origin, trust_env=False, timeout=120) as http:
        token = http.post("/rest/tokens/", json={"allowed_apps": ["flux-lora"]}, headers=headers).json()
        drawn = http.post("/run/fal-ai/flux-lora", params={"fal_jwt_token": token}, json=body)
    assert drawn.status_code == 200, drawn.text
    assert drawn.headers["X-Tintype-Rehearsal"] == "1"
    program = "import fal_client; print(fal_client.run('fal-ai/flux-lora', arguments={'prompt': 'x'})['images'])"
    command = [sys.executable, "-m", "tintype", "run", "--data-dir", str(real_bases.data_dir), "--"]
    environment = without("TINTYPE_", "FAL_") | {"FAL_KEY": "rehearsal-of:somebody"}
    done = subprocess.run(
        [*command, sys.executable, "-W", "ignore", "-c", program],
        env=environment, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert "url" in done.stdout, done.stderr


def test_what_is_no_rehearsal_asks_for_the_real_base(real_bases: Server) -> None:
    body = {"prompt": "a portrait of TOK", "image_size": "square"}
    with real_bases.http() as http:
        sent = {"X-Tintype-Rehearsal": "1"}
        rehearsed = http.post("/queue/fal-ai/flux-lora", json=body, headers=sent).json()
        real = http.post("/queue/fal-ai/flux-lora", json=body).json()
        assert rehearsed["request_id"] != real["request_id"]
        said = finish(http, rehearsed["status_url"])
        assert said["rehearsal"] is True
        assert said["usage"]["billable_units"] == 0
        answer = http.get(rehearsed["response_url"])
        assert answer.status_code == 200
        assert answer.headers["X-Tintype-Rehearsal"] == "1"
        said = finish(http, real["status_url"])
        assert "rehearsal" not in said
        assert "not on this machine" in said["error"]
        refused = http.post("/queue/fal-ai/flux-lora", json=body, headers={"X-Tintype-Rehearsal": "maybe"})
        assert refused.status_code == 400
        assert "x-tintype-rehearsal is 1 or 0" in refused.json()["detail"]
