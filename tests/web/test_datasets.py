"""Datasets over HTTP, from the first photo to a training that reads them, and to their end."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.support.images import archive_of, blots as large_blots, encoded, person, scene
from tests.support.server import upload
from tests.support.web_server import WebServer

from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER
from tintype.catalog.ideogram_custom_models import CUSTOM_MODEL_TRAINER
from tintype.files import own_reference
from tintype.likeness.installed import faces_installed

DATASETS = "/v1/datasets"
# Photographs of people, which their package carries for its own demonstration.
SAMPLES = Path(__file__).parents[1] / "acceptance" / "js" / "node_modules" / "@vladmandic" / "face-api" / "demo"


def blots(seed: int) -> bytes:
    """A photo in which faces are soon looked for."""
    return large_blots(seed, (64, 64))


@pytest.fixture
def dataset(client: httpx.Client) -> Iterator[str]:
    """The path of an empty dataset."""
    answer = client.post(DATASETS, json={"name": "Anna at the lake"})
    assert answer.status_code == 201, answer.text
    path = f"{DATASETS}/{answer.json()['dataset_id']}"
    yield path
    client.delete(path)


def add(client: httpx.Client, dataset: str, content: bytes, name: str = "", **headers: str) -> dict[str, Any]:
    answer = client.post(f"{dataset}/photos", content=content, headers={"X-Fal-File-Name": name, **headers})
    assert answer.status_code == 201, answer.text
    return answer.json()


def photos_of(client: httpx.Client, dataset: str) -> dict[str, dict[str, Any]]:
    """Photos by name."""
    return {photo["name"]: photo for photo in client.get(f"{dataset}/photos").raise_for_status().json()["photos"]}


def shown(client: httpx.Client, url: str) -> Image.Image:
    answer = client.get(url)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    return Image.open(io.BytesIO(answer.content))


def turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif)


def test_photos_come_one_by_one_as_a_form_as_an_archive_and_by_their_urls(client: httpx.Client, dataset: str) -> None:
    first = add(client, dataset, turned(scene(1, (200, 300))), "one.jpg")
    (photo,) = first["photos"]
    assert (photo["name"], photo["width"], photo["height"]) == ("one.jpg", 200, 300)
    assert photo["content_type"] == "image/jpeg"
    assert shown(client, photo["thumbnail_url"]).size == (200, 300)
    assert shown(client, photo["preview_url"] + "?side=60").size == (40, 60)

    heic = io.BytesIO()
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(person()).save(heic)
    files = [("file", ("two.heic", heic.getvalue())), ("file", ("two.txt", b"a woman in orange")),
             ("file", ("empty.jpg", b"")), ("file", ("broken.jpg", b"\xff\xd8\xff broken")),
             ("file", ("one again.jpg", turned(scene(1, (200, 300)))))]  # fmt: skip
    sent = client.post(f"{dataset}/photos", files=files).json()
    assert [photo["name"] for photo in sent["photos"]] == ["two.heic"]
    assert (sent["photos"][0]["caption"], sent["photos"][0]["caption_by"]) == ("a woman in orange", "file")
    assert sent["photos"][0]["faces"] == 1
    assert {note["name"] for note in sent["left_out"]} == {"broken.jpg", "empty.jpg", "one again.jpg"}

    packed = archive_of({"album/one.jpg": blots(3), "album/one.txt": "colours", "album/.hidden": "x"})
    url = upload(client, archive_of({"four.png": blots(4)}))
    assert [photo["name"] for photo in add(client, dataset, packed, "more.zip")["photos"]] == ["one (2).jpg"]
    more = client.post(f"{dataset}/photos", json={"urls": [url]}).json()
    assert [photo["name"] for photo in more["photos"]] == ["four.png"]
    late = client.post(f"{dataset}/photos", files={"file": ("four.txt", b"late words")}).json()
    assert late["captioned"] == [more["photos"][0]["photo_id"]]

    photos = photos_of(client, dataset)
    assert list(photos) == ["one.jpg", "two.heic", "one (2).jpg", "four.png"]
    assert photos["one (2).jpg"]["caption"] == "colours"
    told = client.get(dataset).json()
    assert (told["photo_count"], told["captioned_count"]) == (4, 3)
    assert told["size_bytes"] == sum(photo["size_bytes"] for photo in photos.values())
    assert told["thumbnail_url"] == photos["one.jpg"]["thumbnail_url"]
    assert client.get(photos["four.png"]["file_url"]).content == blots(4)


def test_what_a_person_wrote_is_replaced_by_persons_alone(client: httpx.Client, dataset: str) -> None:
    add(client, dataset, archive_of({"a.png": blots(1), "b.png": blots(2), "c.png": blots(3), "c.txt": "a file's"}))
    ids = {name: photo["photo_id"] for name, photo in photos_of(client, dataset).items()}
    by_hand = client.patch(f"{dataset}/photos/{ids['a.png']}", json={"caption": " Anna, smiling "}).json()
    assert (by_hand["caption"], by_hand["caption_by"], by_hand["captioner"]) == ("Anna, smiling", "person", None)
    automatic = {"captions": dict.fromkeys(ids.values(), "a person"), "by": "model", "captioner": "florence-2"}
    done = client.patch(f"{dataset}/captions", json=automatic).json()
    assert done == {"changed": [ids["b.png"]], "kept": [ids["a.png"], ids["c.png"]]}
    assert client.patch(f"{dataset}/photos/{ids['a.png']}", json={"caption": "x", "by": "model"}).json() == by_hand
    photos = photos_of(client, dataset)
    assert [photo["caption"] for photo in photos.values()] == ["Anna, smiling", "a person", "a file's"]
    assert (photos["b.png"]["caption_by"], photos["b.png"]["captioner"]) == ("model", "florence-2")
    again = client.patch(f"{dataset}/captions", json={**automatic, "captions": {ids["b.png"]: "better"}}).json()
    assert again["changed"] == [ids["b.png"]]
    assert client.patch(f"{dataset}/captions", json={"captions": {ids["a.png"]: None}}).json()["kept"] == []
    assert photos_of(client, dataset)["a.png"]["caption_by"] is None


def test_captions_are_found_and_replaced_in_many_photos(client: httpx.Client, dataset: str) -> None:
    texts = {"a": "A man. The man smiles", "b": "a woman", "c": "manly"}
    add(client, dataset, archive_of({f"{name}.png": blots(at) for at, name in enumerate("abcd")}
                                    | {f"{name}.txt": text for name, text in texts.items()}))  # fmt: skip
    edit = f"{dataset}/captions/edit"
    asked = {"find": "man", "replace": r"person \1", "whole_words": True, "dry_run": True}
    (one,) = client.post(edit, json=asked).json()["captions"]
    assert (one["name"], one["was"], one["caption"]) == ("a.png", texts["a"], r"A person \1. The person \1 smiles")
    assert photos_of(client, dataset)["a.png"]["caption"] == texts["a"]
    assert len(client.post(edit, json={"find": "MAN", "replace": "", "match_case": False}).json()["captions"]) == 3
    assert len(client.post(edit, json={"before": "ohwx, "}).json()["captions"]) == 3
    photos = photos_of(client, dataset)
    assert [photo["caption"] for photo in photos.values()] == ["ohwx, A . The  smiles", "ohwx, a wo", "ohwx, ly", None]
    assert photos["b.png"]["caption_by"] == "person"
    assert client.post(edit, json={"replace": "x"}).status_code == 400
    assert client.post(edit, json={"find": "x", "photo_ids": ["nobody"]}).status_code == 404


def test_the_report_marks_copies_and_says_what_a_training_would(client: httpx.Client, dataset: str) -> None:
    assert "no photos" in client.get(f"{dataset}/report").json()["problem"]
    original = scene(5, (900, 900))
    files = {"a.png": encoded(original), "b.jpg": encoded(original.resize((700, 700)), "JPEG"),
             "c.png": encoded(Image.new("RGB", (64, 64), "white")), "d.png": encoded(person())}  # fmt: skip
    add(client, dataset, archive_of(files))
    told = client.get(f"{dataset}/report", params={"trigger_phrase": "ohwx"}).json()
    assert told["problem"] is None
    photos = {photo["name"]: photo for photo in told["photos"]}
    assert photos["b.jpg"]["copy_of"] == photos["a.png"]["photo_id"]
    assert {name: photo["marks"] for name, photo in photos.items()} == {
        "a.png": ["no_face"], "b.jpg": ["copy", "no_face"], "c.png": ["no_face", "small", "empty"],
        "d.png": [],
    }  # fmt: skip
    assert {image["name"]: image["caption"] for image in told["report"]["kept"]} == dict.fromkeys(
        ("a.png", "c.png", "d.png"), "ohwx"
    )
    assert (
        "too few" in client.get(f"{dataset}/report", params={"endpoint_id": CUSTOM_MODEL_TRAINER.id}).json()["problem"]
    )
    assert client.get(f"{dataset}/report", params={"endpoint_id": "fal-ai/flux-lora"}).status_code == 400
    assert client.get(f"{dataset}/report", params={"endpoint_id": "nothing/here"}).status_code == 404


@pytest.mark.long
@pytest.mark.skipif(not faces_installed(), reason="tintype[faces] is not installed")
def test_a_photo_of_somebody_else_is_marked_once_faces_are_measured(client: httpx.Client, dataset: str) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("npm is not here")
    mine = person()
    files = {"a.png": mine, "b.png": mine.rotate(8), "c.png": mine.crop((60, 0, 470, 420))}
    packed = {name: encoded(image) for name, image in files.items()}
    add(client, dataset, archive_of(packed | {"other.jpg": (SAMPLES / "sample5.jpg").read_bytes()}))
    assert client.get(f"{dataset}/report").json()["strangers"] == "not_measured"
    told, ends = client.get(f"{dataset}/report?strangers=true").json(), time.monotonic() + 300
    assert told["strangers"] == "measuring"
    while told["strangers"] == "measuring" and time.monotonic() < ends:
        time.sleep(0.3)
        told = client.get(f"{dataset}/report").json()
    assert told["strangers"] == "measured"
    assert [photo["name"] for photo in told["photos"] if "stranger" in photo["marks"]] == ["other.jpg"]


def test_a_training_reads_a_snapshot_by_the_datasets_url(client: httpx.Client, server: WebServer, dataset: str) -> None:
    server.hold()
    add(client, dataset, archive_of({"a.png": blots(1), "b.png": blots(2), "b.txt": "words"}))
    (a, b) = photos_of(client, dataset).values()
    client.patch(f"{dataset}/photos/{a['photo_id']}", json={"caption": "Anna", "crop": [8, 0, 64, 32]})
    told = client.get(dataset).json()
    ids = [send(client, url) for url in (told["url"], told["url"] + "/archive")]
    client.delete(f"{dataset}/photos/{b['photo_id']}")
    snapshots = [server.request(request_id).input["images_data_url"] for request_id in ids]
    assert len({*snapshots}) == 2
    _, name = own_reference(snapshots[0]) or ("", "")
    assert name == f"dataset-{told['dataset_id']}-{told['version']}.zip"
    for snapshot in snapshots:
        with zipfile.ZipFile(server.settings.data_dir / "files" / snapshot.removeprefix("tintype:files/")) as packed:
            assert packed.namelist() == ["tintype.json", "a.png", "a.png.txt", "b.png", "b.png.txt"]
            assert packed.read("b.png") == blots(2)
            notes = json.loads(packed.read("tintype.json"))["photos"]
        assert notes["a.png"]["crop"] == [0.125, 0, 1, 0.5]
        assert [notes[name]["caption_by"] for name in ("a.png", "b.png")] == ["person", "file"]
    other = httpx.Client(base_url=server.origin, headers={"Authorization": f"Key {server.create_key('other')}"})
    with other:
        url = client.get(f"/queue/{PORTRAIT_TRAINER.id}/requests/{ids[0]}")
        assert url.status_code == 400
        assert other.get(f"/cdn/files/{snapshots[0].removeprefix('tintype:files/')}").status_code == 404
        refused = other.post(f"/queue/{PORTRAIT_TRAINER.id}", json={"images_data_url": told["url"]})
        assert refused.status_code == 422
        assert "no such dataset" in refused.json()["message"]


def send(client: httpx.Client, url: str) -> str:
    answer = client.post(f"/queue/{PORTRAIT_TRAINER.id}", json={"images_data_url": url})
    assert answer.status_code == 200, answer.text
    return answer.json()["request_id"]


def test_an_archive_of_a_dataset_makes_the_same_dataset(client: httpx.Client, dataset: str) -> None:
    add(client, dataset, archive_of({"a.png": blots(1), "b.png": blots(2), "b.txt": "words"}))
    (a, b) = photos_of(client, dataset).values()
    client.patch(f"{dataset}/photos/{a['photo_id']}", json={"caption": "Anna", "crop": [8, 0, 64, 32]})
    client.patch(f"{dataset}/photos/{b['photo_id']}", json={"crop": [0, 0, 10, 11]})
    archive = client.get(f"{dataset}/archive")
    assert archive.headers["content-disposition"] == 'attachment; filename="Anna_at_the_lake.zip"'
    other = f"{DATASETS}/{client.post(DATASETS, json={'name': 'again'}).json()['dataset_id']}"
    add(client, other, archive.content)
    kept = ("name", "caption", "caption_by", "crop", "width", "height", "content_type")
    was, now = (
        [[photo[field] for field in kept] for photo in photos_of(client, path).values()] for path in (dataset, other)
    )
    assert was == now


def test_a_deleted_dataset_leaves_nothing(client: httpx.Client, server: WebServer, dataset: str) -> None:
    photo = add(client, dataset, blots(9), "nine.png")["photos"][0]
    folder = server.settings.data_dir / "files" / photo["file_url"].split("/")[-2]
    assert (folder / "nine.png").exists()
    told = client.delete(dataset).json()
    assert [thing["size"] for thing in told["receipt"]] == [len(blots(9))]
    assert not list(folder.glob("*"))
    for url in (dataset, photo["thumbnail_url"], photo["preview_url"], photo["file_url"], f"{dataset}/archive"):
        assert client.get(url).status_code == 404, url
    assert client.delete(dataset).status_code == 404
    assert client.post(f"{dataset}/photos", content=blots(1)).status_code == 404


def test_nobody_sees_another_persons_dataset(client: httpx.Client, server: WebServer, dataset: str) -> None:
    photo = add(client, dataset, blots(1), "a.png")["photos"][0]
    headers = {"Authorization": f"Key {server.create_key('stranger')}"}
    with httpx.Client(base_url=server.origin, headers=headers, trust_env=False) as stranger:
        assert stranger.get(DATASETS).json()["datasets"] == []
        where = f"{dataset}/photos/{photo['photo_id']}"
        asked = [("GET", dataset), ("PATCH", dataset), ("DELETE", dataset), ("GET", f"{dataset}/report"),
                 ("GET", f"{dataset}/archive"), ("GET", f"{dataset}/photos"), ("POST", f"{dataset}/photos"),
                 ("PATCH", f"{dataset}/captions"), ("POST", f"{dataset}/captions/edit"), ("GET", where),
                 ("PATCH", where), ("DELETE", where), ("GET", f"{where}/thumbnail"), ("GET", f"{where}/preview"),
                 ("GET", photo["file_url"])]  # fmt: skip
        for method, path in asked:
            body = {"name": "mine", "captions": {}, "find": "a"}
            answer = stranger.request(method, path, json=None if method == "GET" else body)
            assert answer.status_code == 404, (method, path, answer.text)
    assert client.get(dataset).json()["photo_count"] == 1


def test_a_crop_lies_within_its_photo(client: httpx.Client, dataset: str) -> None:
    photo = add(client, dataset, blots(1), "a.png")["photos"][0]
    where = f"{dataset}/photos/{photo['photo_id']}"
    crop: Any
    for crop in ([0, 0, 0, 0], [10, 0, 5, 5], [0, 0, 65, 5], [0, 0, 5], "all", [0, -1, 5, 5]):
        assert client.patch(where, json={"crop": crop}).status_code == 400
    assert client.patch(where, json={"crop": [1, 2, 64, 64]}).json()["crop"] == [1, 2, 64, 64]
    assert client.patch(where, json={"crop": None}).json()["crop"] is None


def test_datasets_are_listed_renamed_and_named_by_a_line_of_text(client: httpx.Client, dataset: str) -> None:
    assert client.patch(dataset, json={"name": " Bob "}).json()["name"] == "Bob"
    body: Any
    for body in ({}, {"name": ""}, {"name": " "}, {"name": "a\nb"}, {"name": "x" * 201}, {"name": 7}):
        assert client.patch(dataset, json=body).status_code == 400
        assert client.post(DATASETS, json=body).status_code == 400
    other = client.post(DATASETS, json={"name": "newer"}).json()
    page = client.get(DATASETS, params={"limit": 1}).json()
    assert [one["name"] for one in page["datasets"]] == ["newer"]
    more = client.get(DATASETS, params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert more["datasets"][0]["name"] == "Bob"
    client.delete(f"{DATASETS}/{other['dataset_id']}")


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"", {}),
        (b"PK\x03\x04 no archive", {}),
        (b"no form", {"Content-Type": "multipart/form-data; boundary=x"}),
        (b"no form", {"Content-Type": "multipart/form-data"}),
        (b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}),
        (b"{", {"Content-Type": "application/json"}),
        (b'{"urls": []}', {"Content-Type": "application/json"}),
        (b'{"urls": ["nowhere"]}', {"Content-Type": "application/json"}),
        (b'{"urls": ["http://10.0.0.1/a.jpg"]}', {"Content-Type": "application/json"}),
    ],
)
def test_what_is_no_photo_is_refused_with_what_to_do(
    client: httpx.Client, dataset: str, content: bytes, headers: dict[str, str]
) -> None:
    answer = client.post(f"{dataset}/photos", content=content, headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["message"].count(". ")
