"""A dataset outlives the server that it was made on, and two trainings read it, each as it was when it was sent."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.acceptance.test_restart import kill
from tests.support.server import PORTRAIT_TRAINER, running

pytestmark = pytest.mark.long


def test_two_trainings_read_a_dataset_that_outlives_its_server(tmp_path: Path, photos: Path) -> None:
    with zipfile.ZipFile(photos) as packed:
        names = packed.namelist()[:4]
        files = [("file", (name, packed.read(name))) for name in names]

    with running(tmp_path) as server, server.http() as http:
        dataset = http.post("/v1/datasets", json={"name": "Anna"}).raise_for_status().json()
        path = f"/v1/datasets/{dataset['dataset_id']}"
        added = http.post(f"{path}/photos", files=files).raise_for_status().json()["photos"]
        chosen = {"caption": "[trigger] looking up", "crop": [0, 0, added[0]["width"], added[0]["width"] // 2]}
        http.patch(f"{path}/photos/{added[0]['photo_id']}", json=chosen).raise_for_status()
        kill(server.pid)

    with running(tmp_path) as server, server.http() as http:
        told = http.get(path).raise_for_status().json()
        assert (told["photo_count"], told["captioned_count"]) == (4, 1)
        body = {"images_data_url": told["url"], "trigger_phrase": "ohwx", "steps": 1, "rank": 4}
        first = server.submit(PORTRAIT_TRAINER, body)
        http.delete(f"{path}/photos/{added[3]['photo_id']}").raise_for_status()
        second = server.submit(PORTRAIT_TRAINER, {**body, "steps": 2})
        http.delete(path).raise_for_status()
        kept = []
        for submitted in (first, second):
            config = http.get(server.result(submitted)["config_file"]["url"]).json()
            report = http.get(config["report"]["url"]).json()
            kept.append({image["name"]: image for image in report["kept"]})
        assert [len(photos) for photos in kept] == [4, 3]
        photo = kept[1][added[0]["name"]]
        assert (photo["caption"], photo["caption_source"]) == ("ohwx looking up", "person")
        assert [crop["box"] for crop in photo["trained"]] == [chosen["crop"]]
        deleted = http.delete(f"/v1/models/requests/{first['request_id']}/payloads").raise_for_status().json()
        assert any("/dataset-" in result["link"] for result in deleted["cdn_delete_results"])
        assert len(list((tmp_path / "files").rglob("dataset-*.zip"))) == 1  # the other training's
