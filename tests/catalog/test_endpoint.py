from __future__ import annotations

import gc
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tintype import catalog
from tintype.catalog.flux_lora import FLUX_LORA, MOST_LORAS
from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER, PortraitTrainerInput
from tintype.errors import InputError

ZIP = "https://example.com/photos.zip"


def details(body: object, endpoint: catalog.Endpoint = PORTRAIT_TRAINER) -> list[dict[str, object]]:
    with pytest.raises(InputError) as caught:
        endpoint.parse(body)
    body_sent = json.loads(json.dumps(caught.value.failure().body, allow_nan=False))
    return list(body_sent["detail"])


def test_the_defaults_are_the_published_ones() -> None:
    input = PORTRAIT_TRAINER.parse({"images_data_url": ZIP})
    assert isinstance(input, PortraitTrainerInput)
    assert (input.learning_rate, input.steps) == (0.00009, 2500)
    assert input.multiresolution_training
    assert input.subject_crop
    assert input.resume_from_checkpoint == ""
    assert input.trigger_phrase is None


def test_every_published_example_but_its_empty_urls_is_accepted() -> None:
    for endpoint in catalog.ENDPOINTS:
        for example in endpoint.examples:
            body = {name: ZIP if value == "" else value for name, value in example.items()}
            assert endpoint.parse(body)


def test_several_mistakes_are_all_named_at_once() -> None:
    places = [entry["loc"] for entry in details({"steps": 0, "learning_rate": math.nan})]
    assert places == [["body", "images_data_url"], ["body", "learning_rate"], ["body", "steps"]]


def test_a_wrong_word_lists_the_right_ones() -> None:
    (entry,) = details({"images_data_url": ZIP, "data_archive_format": "rar"})
    assert entry["type"] == "one_of"
    assert entry["ctx"] == {"expected": ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz"]}


def test_numbers_may_arrive_as_text_as_in_a_query() -> None:
    assert FLUX_LORA.parse({"prompt": "x", "num_images": "2", "sync_mode": "true"}).model_dump()["num_images"] == 2


def test_too_many_loras_is_a_clear_error() -> None:
    assert FLUX_LORA.parse({"prompt": "x", "loras": [{"path": ZIP}] * MOST_LORAS})
    (entry,) = details({"prompt": "x", "loras": [{"path": ZIP}] * (MOST_LORAS + 1)}, FLUX_LORA)
    assert entry["loc"] == ["body", "loras"]
    assert entry["type"] == "sequence_too_long"


def test_unknown_fields_are_ignored_and_named_with_the_nearest_known_one() -> None:
    body = {"images_data_url": ZIP, "stepz": 5, "qqqq": 1}
    assert PORTRAIT_TRAINER.parse(body)
    assert PORTRAIT_TRAINER.unknown_fields(body) == [("stepz", "steps"), ("qqqq", None)]


def test_a_file_may_come_as_an_object_with_a_url() -> None:
    input = PORTRAIT_TRAINER.parse({"images_data_url": {"url": ZIP, "content_type": "application/zip"}})
    assert input.model_dump()["images_data_url"] == ZIP


def test_a_local_path_is_refused_with_the_way_out() -> None:
    (entry,) = details({"images_data_url": "C:\\photos.zip"})
    assert "uploaded" in str(entry["msg"])


def test_a_body_that_is_no_object_is_refused() -> None:
    body: Any
    for body in (None, [], "text", 3):
        assert details(body)[0]["loc"] == ["body"]


def test_ids_are_found_with_and_without_slashes() -> None:
    assert catalog.find("/fal-ai/flux-lora/") is FLUX_LORA
    assert catalog.find("fal-ai/flux-loras") is None


def test_every_job_is_named_by_a_module_that_exists() -> None:
    source = Path(catalog.__file__).parents[2]
    for endpoint in catalog.ENDPOINTS:
        module, function = endpoint.job.split(":")
        assert f"def {function}(" in (source / (module.replace(".", "/") + ".py")).read_text()


def test_a_job_is_imported_once_without_a_look_for_garbage_and_garbage_is_looked_for_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job_of_a_test.py").write_text("import gc\nlooked = gc.isenabled()\ndef run(): return looked\n")
    monkeypatch.syspath_prepend(tmp_path)
    endpoint = replace(PORTRAIT_TRAINER, job="job_of_a_test:run")
    assert endpoint.load_job()() is False
    assert endpoint.load_job() is sys.modules["job_of_a_test"].run
    assert gc.isenabled()
