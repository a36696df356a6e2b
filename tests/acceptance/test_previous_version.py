"""A data folder that the version before left is served, and what waited in it is done."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from PIL import Image

from tests.support.previous_version import unpacked
from tests.support.server import finish, running


def test_a_data_folder_of_the_version_before_is_served(tmp_path: Path) -> None:
    before = unpacked(tmp_path)
    with running(before.data_dir) as server:
        headers = {"Authorization": f"Key {before.keys['ada2']}"}
        with httpx.Client(base_url=server.origin, headers=headers, timeout=120, trust_env=False) as http:
            for endpoint, name in (("flux-lora", "queued_drawing"), ("flux-lora-portrait-trainer", "queued_training")):
                url = f"/queue/fal-ai/{endpoint}/requests/{before.ids[name]}"
                finish(http, url + "/status")
                assert http.get(url).status_code == 200
            drawn = http.get(f"/queue/fal-ai/ideogram/requests/{before.ids['drawing']}").json()
            assert Image.open(BytesIO(http.get(drawn["images"][0]["url"]).content)).size == (64, 64)
            [model] = http.get("/v1/custom-models").json()["models"]
            assert (model["model_id"], model["status"]) == (before.model_id, "COMPLETED")
            photos = http.get(server.origin + urlsplit(before.upload).path).content
            assert len(zipfile.ZipFile(BytesIO(photos)).namelist()) == 10
        with httpx.Client(base_url=server.origin, timeout=120, trust_env=False) as http:
            for name, status in (("bob", 404), ("gone", 401)):
                headers = {"Authorization": f"Key {before.keys[name]}"}
                assert http.get(f"/queue/a/b/requests/{before.ids['drawing']}", headers=headers).status_code == status
