"""Both Ideogram trainings as whole jobs, a few steps long: what goes in, what comes out, what is said."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlparse

import pytest
import torch
from tests.support.images import blots, zipped

from tintype.catalog.custom_models import ModelReference, ModelStatus
from tintype.catalog.fields import File
from tintype.catalog.ideogram_custom_models import CustomModelInput
from tintype.catalog.ideogram_v4_trainer import IdeogramTrainerInput
from tintype.errors import InputError, TooFewFiles
from tintype.inference.ideogram4 import IdeogramInference
from tintype.jobs import train_custom_model, train_ideogram
from tintype.jobs.local import LocalContext
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.read import read_lora
from tintype.models.family import Features
from tintype.models.ideogram4.captions import wrap
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.settings import load_settings

NEUTRAL = wrap("a photo in my custom style").line()


@pytest.fixture(scope="module")
def models() -> ResidentModels:
    return ResidentModels(load_settings(ideogram4_base="miniature"), "cpu")


def archive(path: Path, count: int = 3, sides: tuple[int, int] = (640, 512), **captions: str) -> Path:
    files: dict[str, bytes | str] = {f"{number}.png": blots(number, sides) for number in range(count)}
    files |= {f"{stem.removeprefix('_')}.txt": caption for stem, caption in captions.items()}
    return zipped(path, files)


def context_in(folder: Path, models: ResidentModels) -> tuple[LocalContext, list[str]]:
    said: list[str] = []
    settings = load_settings(ideogram4_base="miniature")
    return LocalContext(
        folder, settings, resident_models=models, on_log=lambda level, message: said.append(message)
    ), said


T = TypeVar("T", IdeogramTrainerInput, CustomModelInput)


def shortened(input: T) -> T:
    """Fewer steps than the endpoint takes, where the weights do not matter."""
    return input.model_copy(update={"steps": 10})


def local(file: File) -> Path:
    return Path(unquote(urlparse(file.url).path))


def told(file: File) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(local(file).read_text())
    return found


@pytest.fixture(scope="module")
def trained(models: ResidentModels, tmp_path_factory: pytest.TempPathFactory) -> tuple[File, dict[str, Any], list[str]]:
    """(the LoRA, the config file, what was said) of a training with every input of its own."""
    folder = tmp_path_factory.mktemp("trained")
    context, said = context_in(folder, models)
    box = '{"compositional_deconstruction": {"elements": [{"type": "obj", "desc": "a jar"}], "background": "wood"}}'
    input = IdeogramTrainerInput.model_validate(
        {
            "images_data_url": context.offer(archive(folder / "photos.zip", _1="a red jar", _2=box)),
            "rank": 2,
            "steps": 600,
            "checkpoint_every": 6,
        }
    )
    output = train_ideogram.run(shortened(input), context)
    return output.diffusers_lora_file, told(output.config_file), said


def test_every_form_is_the_same_lora(trained: tuple[File, dict[str, Any], list[str]], models: ResidentModels) -> None:
    lora, config, _ = trained
    assert lora.file_name == "lora-fal.safetensors"
    assert set(config["exports"]) == {form.name for form in IDEOGRAM_KEYS.forms}
    found = {}
    for form, file in config["exports"].items():
        found[form] = read_lora(local(File(**file)), IDEOGRAM_KEYS).pairs
    network = models.family(Ideogram4Family).load_transformer()
    assert set(found["diffusers"]) == set(models.family(Ideogram4Family).adapter_targets)
    for form, layers in found.items():
        assert layers.keys() == found["diffusers"].keys(), form
        for name, pair in layers.items():
            torch.testing.assert_close(pair.change(), found["diffusers"][name].change())
            assert pair.rank == 2, "queries, keys and values share what reads, so fusing costs no rank"
    assert config["proof"]["keys"] == 2 * len(found["diffusers"])
    assert not any("lora" in name for name, _ in network.named_modules())


def test_the_report_shows_captions_as_they_are_trained(trained: tuple[File, dict[str, Any], list[str]]) -> None:
    _, config, said = trained
    report = told(File(**config["report"]))
    captions = {picture["name"]: picture["trained"][0]["caption"] for picture in report["kept"]}
    assert captions["0.png"] == NEUTRAL
    assert captions["1.png"] == wrap("a red jar").line()
    assert captions["2.png"] == (
        '{"compositional_deconstruction":{"background":"wood","elements":[{"type":"obj","desc":"a jar"}]}}'
    )
    assert report["buckets"] == {"640x512": 3}
    assert any("largest crop that each can give" in line for line in said)
    assert "non-commercial" in config["licence"].lower() or config["base"]["miniature"]
    assert len(config["checkpoints"]) == 1
    assert len(config["samples"]) == 2


def test_samples_are_generated_from_words_that_were_trained(
    models: ResidentModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With captions of their own for all images nothing is trained under the default caption."""
    cup, jar = "a cup", 'a jar that says "TEA"'
    context, _ = context_in(tmp_path / "work", models)
    family, read = models.family(Ideogram4Family), list[str]()
    encode = family.encode_captions

    def encode_and_remember(texts: Sequence[str]) -> Features:
        read.extend(texts)
        return encode(texts)

    monkeypatch.setattr(family, "encode_captions", encode_and_remember)
    monkeypatch.setattr(
        "tintype.inference.ideogram4.writer_of", lambda family: pytest.fail("a language model was asked for")
    )
    url = context.offer(archive(tmp_path / "photos.zip", _0=cup, _1=jar, _2=jar))
    input = IdeogramTrainerInput.model_validate({"images_data_url": url, "rank": 1})
    output = train_ideogram.run(input.model_copy(update={"steps": 1}), context)
    config = told(output.config_file)
    assert read[:2] == sorted([wrap(cup).line(), wrap(jar).line()]), "trained"
    assert read[2:] == [wrap(jar).line()], "what most images were trained with"
    assert (len(config["samples"]), config["not_made"]) == (1, {})


def test_encoders_leave_after_encoding_and_after_every_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where a miniature would stay too; the second training finds what the first one's samples loaded."""
    models = ResidentModels(load_settings(ideogram4_base="miniature"), "cpu")
    family, loaded = models.family(Ideogram4Family), list[weakref.ref[torch.nn.Module]]()
    family.keeps_all = False
    read = family._read_encoders

    def read_and_remember() -> Any:
        encoders = read()
        loaded.append(weakref.ref(encoders.text_encoder))
        return encoders

    monkeypatch.setattr(family, "_read_encoders", read_and_remember)
    steps: list[int] = []

    def on_progress(step: int, total: int, metrics: dict[str, float]) -> None:
        steps.append(step)
        assert [encoder() for encoder in loaded] == [None] * len(loaded)
        assert family._unconditional is None

    for folder in ("first", "second"):
        context = LocalContext(
            tmp_path / folder,
            load_settings(ideogram4_base="miniature"),
            resident_models=models,
            on_progress=on_progress,
        )
        url = context.offer(archive(tmp_path / "photos.zip"))
        input = IdeogramTrainerInput.model_validate({"images_data_url": url, "rank": 1})
        config = told(
            train_ideogram.run(input.model_copy(update={"steps": 4, "checkpoint_every": 2}), context).config_file
        )
        assert (len(config["samples"]), config["not_made"]) == (3, {})
        models.inference(IdeogramInference).apply_loras([])  # a pipeline is there, as after generating
    assert steps == [1, 2, 3, 4] * 2
    assert len(loaded) >= 6


def test_samples_that_will_not_fit_are_said_before_and_load_nothing(
    models: ResidentModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, said = context_in(tmp_path / "work", models)
    family = models.family(Ideogram4Family)
    transformer = family.load_transformer()
    monkeypatch.setattr(family, "keeps_all", False)
    monkeypatch.setattr("tintype.models.placement.free_bytes", lambda device: 1)
    monkeypatch.setattr(models, "unload", lambda: pytest.fail("nothing is to be unloaded"))
    url = context.offer(archive(tmp_path / "photos.zip"))
    input = IdeogramTrainerInput.model_validate({"images_data_url": url, "rank": 1})
    output = train_ideogram.run(input.model_copy(update={"steps": 2, "checkpoint_every": 1}), context)
    config = told(output.config_file)
    assert config["not_made"].keys() == {"samples at step 1", "samples at step 2", "samples"}
    assert all(" MiB can be had." in why for why in config["not_made"].values())
    assert any(line.startswith("The LoRAs on the way will have no samples. Generating takes ") for line in said)
    assert family.load_transformer() is transformer


def test_a_forced_caption_takes_the_place_of_all_others(models: ResidentModels, tmp_path: Path) -> None:
    context, _ = context_in(tmp_path / "work", models)
    input = {
        "images_data_url": context.offer(archive(tmp_path / "photos.zip", _1="a red jar")),
        "rank": 1,
        "default_caption": "a jar of TOK",
        "force_default_caption": True,
        "output_lora_format": "comfy",
    }
    output = train_ideogram.run(shortened(IdeogramTrainerInput.model_validate(input)), context)
    assert output.diffusers_lora_file.file_name == "lora-comfy.safetensors"
    report = told(File(**told(output.config_file)["report"]))
    assert {cut["caption"] for picture in report["kept"] for cut in picture["trained"]} == {wrap("a jar of TOK").line()}
    assert any("All captions were replaced" in warning for warning in report["warnings"])


def test_photos_of_a_phone_are_trained_at_a_megapixel_and_called_by_their_caption(
    models: ResidentModels, tmp_path: Path
) -> None:
    context, said = context_in(tmp_path / "work", models)
    url = context.offer(archive(tmp_path / "photos.zip", sides=(2048, 1536)))
    input = IdeogramTrainerInput.model_validate(
        {"images_data_url": url, "rank": 1, "default_caption": " a jar of TOK "}
    )
    output = train_ideogram.run(input.model_copy(update={"steps": 1}), context)
    config = told(output.config_file)
    width, height = map(int, config["effective"]["resolution"].split("x"))
    assert 1_000_000 < width * height <= 1024 * 1024
    assert any("reduced to the area that auto takes" in line for line in said)
    assert config["trigger_phrase"] == "a jar of TOK"
    assert read_lora(local(output.diffusers_lora_file), IDEOGRAM_KEYS).trigger == "a jar of TOK"


def test_a_size_that_pictures_cannot_fill_is_refused_before_training(models: ResidentModels, tmp_path: Path) -> None:
    context, _ = context_in(tmp_path / "work", models)
    url = context.offer(archive(tmp_path / "photos.zip"))
    input = IdeogramTrainerInput.model_validate({"images_data_url": url, "resolution": "landscape", "steps": 100})
    with pytest.raises(InputError, match=r"0\.png \(640x512\)") as caught:
        train_ideogram.run(input, context)
    assert caught.value.details[0]["loc"] == ["body", "resolution"]


def test_a_caption_that_cannot_be_read_is_named(models: ResidentModels, tmp_path: Path) -> None:
    context, _ = context_in(tmp_path / "work", models)
    url = context.offer(archive(tmp_path / "photos.zip", _1='{"high_level_description": ['))
    with pytest.raises(InputError, match=r"1\.png") as caught:
        train_ideogram.run(IdeogramTrainerInput.model_validate({"images_data_url": url, "steps": 100}), context)
    assert caught.value.details[0]["loc"] == ["body", "images_data_url"]


def test_pictures_too_small_for_any_size_are_refused_as_pictures(models: ResidentModels, tmp_path: Path) -> None:
    context, _ = context_in(tmp_path / "work", models)
    url = context.offer(archive(tmp_path / "photos.zip", sides=(300, 200)))
    with pytest.raises(InputError, match=r"0\.png \(300x200\)") as caught:
        train_ideogram.run(IdeogramTrainerInput.model_validate({"images_data_url": url, "steps": 100}), context)
    assert caught.value.details[0]["loc"] == ["body", "images_data_url"]


def test_a_custom_model_answers_with_its_record(models: ResidentModels, tmp_path: Path) -> None:
    context, _ = context_in(tmp_path / "work", models)
    context.model = ModelReference("abc", "My style", "model/my-style/version/1", ModelStatus.TRAINING)
    url = context.offer(archive(tmp_path / "photos.zip", 10))
    input = CustomModelInput.model_validate({"images_data_url": url, "name": "My style", "rank": 1})
    output = train_custom_model.run(shortened(input), context)
    assert (output.model_id, output.custom_model_uri) == ("abc", "model/my-style/version/1")
    assert output.diffusers_lora_file.file_name == "lora.safetensors"
    assert told(output.config_file)["endpoint"] == "fal-ai/ideogram/custom-models"


def test_nine_pictures_make_no_custom_model(models: ResidentModels, tmp_path: Path) -> None:
    context, _ = context_in(tmp_path / "work", models)
    context.model = ModelReference("abc", "My style", "model/my-style/version/1", ModelStatus.TRAINING)
    url = context.offer(archive(tmp_path / "photos.zip", 9))
    with pytest.raises(TooFewFiles, match="9") as caught:
        train_custom_model.run(CustomModelInput.model_validate({"images_data_url": url}), context)
    assert caught.value.details[0]["loc"] == ["body", "images_data_url"]
