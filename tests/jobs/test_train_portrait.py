"""A whole portrait training, a few steps long: what goes in, what comes out, what is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
import torch
from miniature.world import Subject, photograph
from PIL import Image, ImageEnhance, ImageOps
from safetensors.torch import load_file, save_file
from tests.support.disk import leave_room
from tests.support.exiftool import assert_marked
from tests.support.images import encoded, example_picture, person, zipped

from tintype.catalog.fields import File
from tintype.catalog.flux_lora import FluxLoraInput
from tintype.catalog.flux_lora_fast_training import FastTrainingInput
from tintype.catalog.flux_lora_portrait_trainer import PortraitTrainerInput, TrainerOutput
from tintype.dataset import DatasetOptions
from tintype.dataset.subject import find_face, whole
from tintype.errors import Drained, InputError, InvalidArchive, StorageFull, UnusableAdapter
from tintype.jobs import generate_flux as draw_flux
from tintype.jobs.local import LocalContext
from tintype.jobs.lora_training import open_photos
from tintype.jobs.resident_models import ResidentModels
from tintype.jobs.train_portrait import plan_of, run, run_fast
from tintype.lora.read import read_lora
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.flux.model import FluxFamily
from tintype.settings import MIB, load_settings


@pytest.fixture(scope="module")
def models() -> ResidentModels:
    return ResidentModels(load_settings(), "cpu")


def archive(path: Path, count: int = 3) -> Path:
    plain = {f"{number}.png": Image.new("RGB", (512, 512), (80 * number, 120, 60)) for number in range(count)}
    others = {"0.txt": b"[trigger] smiling", "broken.jpg": b"not a picture"}
    return zipped(path, {name: encoded(image) for name, image in plain.items()} | others)


class Done:
    """One finished training and everything it said."""

    def __init__(self, models: ResidentModels, folder: Path, **inputs: object) -> None:
        self.said: list[str] = []
        self.context = LocalContext(
            folder, load_settings(), resident_models=models, on_log=lambda level, message: self.said.append(message)
        )
        url = self.context.offer(archive(folder / "photos.zip"))
        given = {"images_data_url": url, "trigger_phrase": "TOK", "steps": 4, "rank": 2, **inputs}
        self.output: TrainerOutput = run(PortraitTrainerInput.model_validate(given), self.context)
        self.config: dict[str, Any] = json.loads(local(self.output.config_file).read_text())


def local(file: File) -> Path:
    return Path(unquote(urlparse(file.url).path))


@pytest.fixture(scope="module")
def done(models: ResidentModels, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return Done(
        models, tmp_path_factory.mktemp("run"), checkpoint_every=2, create_masks=True, sample_prompts=["TOK in a hat"]
    )


def test_the_answer_is_exactly_the_two_published_files(done: Done) -> None:
    assert set(done.output.model_dump()) == {"diffusers_lora_file", "config_file"}
    assert done.output.diffusers_lora_file.file_name == "lora.safetensors"
    lora = read_lora(local(done.output.diffusers_lora_file), FLUX_KEYS)
    assert all(pair.rank == 2 for pair in lora.pairs.values())


def test_the_config_tells_what_was_asked_and_what_was_done(done: Done) -> None:
    config = done.config
    assert config["requested"]["steps"] == 4
    effective = config["effective"]
    assert effective["requested_learning_rate"] == 0.00009
    assert effective["learning_rate"] == pytest.approx(0.00009 * effective["learning_rate_scale"])
    assert effective["guidance"] == 1.0
    assert config["base"]["miniature"] is True
    assert config["proof"]["keys"] == 2 * effective["target_layers"]
    assert config["dataset"]["kept"] == 3
    assert "licence" in config
    training = config["training"]
    assert training["achieved_flop_per_second"] > 0
    assert training["share_of_peak"] == "not known", "no one promises what a CPU can do"
    assert 0 < training["padding_share"] < 1
    assert effective["optimizer"] == "adamw"


def test_everything_else_hangs_on_the_config_file(done: Done) -> None:
    config = done.config
    named = [config["report"], config["loss_curve"], *config["samples"], *config["checkpoints"]]
    named += config["exports"].values()
    for entry in named:
        assert local(File(**entry)).stat().st_size == entry["file_size"]
    assert [entry["file_name"] for entry in config["checkpoints"]] == [
        "lora-step-00002.safetensors", "lora-step-00004.safetensors",
    ]  # fmt: skip
    for entry in config["samples"]:
        assert_marked(local(File(**entry)), "miniature of FLUX.1 [dev]")
    assert [entry["file_name"] for entry in config["samples"]] == [
        "sample-0.png", "sample-step-00002-0.png", "sample-step-00004-0.png",
    ]  # fmt: skip
    report = json.loads(local(File(**config["report"])).read_text())
    assert [entry["caption"] for entry in report["kept"]] == ["TOK smiling", "TOK", "TOK"]
    assert [entry["name"] for entry in report["dropped"]] == ["broken.jpg"]


def test_the_log_names_the_base_the_photos_and_the_proof(done: Done) -> None:
    said = "\n".join(done.said)
    for what in ("miniature", "3 photos kept, 1 left out", "broken.jpg", "TOK", "loaded back"):
        assert what in said


def test_log_and_report_say_what_the_miniature_cannot_learn(done: Done, models: ResidentModels) -> None:
    caution = models.family(FluxFamily).weights.caution
    assert "tintype weights pull flux" in caution
    assert caution in done.said
    report = json.loads(local(File(**done.config["report"])).read_text())
    assert caution in report["warnings"]
    assert caution in done.config["dataset"]["warnings"]


def test_real_people_have_faces_on_the_miniature_too_and_a_cup_has_none(models: ResidentModels, tmp_path: Path) -> None:
    portrait = person()
    pictures = {
        "as is.png": portrait,
        "mirrored.png": ImageOps.mirror(portrait),
        "crop.png": portrait.crop((100, 0, 350, 250)),
        "darker.png": ImageEnhance.Brightness(portrait).enhance(0.5),
        "coffee.png": example_picture("coffee.png"),
    }
    said: list[str] = []
    context = LocalContext(
        tmp_path, load_settings(), resident_models=models, on_log=lambda level, message: said.append(message)
    )
    photos = zipped(tmp_path / "photos.zip", {name: encoded(image) for name, image in pictures.items()})
    options = DatasetOptions(trigger="TOK", subject_crop=True)
    dataset = open_photos(models.family(FluxFamily), context.offer(photos), options, context)
    found = {image.name: (image.subject, image.faces) for image in dataset.report.kept}
    assert found == {name: ("whole", 0) if name == "coffee.png" else ("face", 1) for name in pictures}
    assert "No face was found in coffee.png; the whole picture is trained." in said


def test_drawings_fill_their_picture_on_the_miniature_whatever_a_finder_sees_in_them(models: ResidentModels) -> None:
    family, taken_for_faces = models.family(FluxFamily), 0
    for seed in range(1, 6):
        for image, _ in photograph(Subject.from_seed(seed), 3, 512):
            taken_for_faces += find_face(image).kind == "face"
            assert family.find_subject(image) == whole(image, "given")
    assert taken_for_faces, "or this shows nothing"


def test_what_was_trained_can_be_drawn_with_at_once(done: Done) -> None:
    wish = {"prompt": "TOK", "num_inference_steps": 1, "image_size": "square", "sync_mode": True}
    loras = [{"path": done.context.offer(local(done.output.diffusers_lora_file))}]
    drawn = draw_flux.run(FluxLoraInput.model_validate({**wish, "loras": loras}), done.context)
    assert drawn.images[0].url.startswith("data:image/jpeg")


def test_the_same_input_gives_the_same_weights(models: ResidentModels, tmp_path: Path) -> None:
    tensors = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        again = Done(models, tmp_path / name, multiresolution_training=False)
        tensors.append(load_file(local(again.output.diffusers_lora_file)))
    assert all(torch.equal(tensor, tensors[1][key]) for key, tensor in tensors[0].items())


def test_a_drain_after_the_last_step_keeps_the_training_for_the_next_attempt(
    models: ResidentModels, tmp_path: Path
) -> None:
    """Proof, export and samples come after it, and on a real model they take minutes."""
    said: list[str] = []

    def stop_at_the_proof(level: str, message: str) -> None:
        context.draining = "loaded back" in message

    context = LocalContext(tmp_path, load_settings(), resident_models=models, on_log=stop_at_the_proof)
    photos = archive(tmp_path / "photos.zip")
    input = {"images_data_url": context.offer(photos), "steps": 3, "rank": 2, "multiresolution_training": False}
    with pytest.raises(Drained):
        run(PortraitTrainerInput.model_validate(input), context)
    successor = LocalContext(
        tmp_path, load_settings(), resident_models=models, on_log=lambda level, message: said.append(message)
    )
    successor.offer(photos)
    config = json.loads(local(run(PortraitTrainerInput.model_validate(input), successor).config_file).read_text())
    assert "Training goes on from step 3." in said
    assert config["training"]["resumed_from_step"] == 3
    assert config["training"]["steps"] == 3


def test_an_earlier_lora_in_another_form_is_gone_on_from_with_more_rank(
    models: ResidentModels, done: Done, tmp_path: Path
) -> None:
    assert set(done.config["exports"]) == {"diffusers", "kohya", "comfy"}
    offered = f"data:application/octet-stream;base64,{_base64(local(File(**done.config['exports']['kohya'])))}"
    second = Done(models, tmp_path, steps=1, rank=3, resume_from_checkpoint=offered, learning_rate=1e-9)
    assert any("kohya's form, rank 2" in line for line in second.said)
    before = read_lora(local(done.output.diffusers_lora_file), FLUX_KEYS).pairs
    after = read_lora(local(second.output.diffusers_lora_file), FLUX_KEYS).pairs
    for name, pair in before.items():
        torch.testing.assert_close(after[name].down[:2], pair.down, atol=1e-6, rtol=0)
        torch.testing.assert_close(after[name].up[:, :2], pair.up, atol=1e-6, rtol=0)
    assert len(second.config["requested"]["resume_from_checkpoint"]) < 300


def test_what_cannot_be_resumed_is_refused_at_its_place(models: ResidentModels, done: Done, tmp_path: Path) -> None:
    good = f"data:application/octet-stream;base64,{_base64(local(done.output.diffusers_lora_file))}"
    tensors = load_file(local(done.output.diffusers_lora_file))
    layer = next(iter(tensors)).rpartition(".lora_")[0]
    bias = torch.ones(len(tensors[f"{layer}.lora_B.weight"]))
    save_file({**tensors, f"{layer}.lora_B.bias": bias}, tmp_path / "biased")
    biased = f"data:application/octet-stream;base64,{_base64(tmp_path / 'biased')}"
    for number, (url, rank) in enumerate([("data:text/plain,hello", 2), (good, 1), (biased, 2)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(UnusableAdapter) as caught:
            Done(models, folder, resume_from_checkpoint=url, rank=rank)
        assert caught.value.details[0]["loc"] == ["body", "resume_from_checkpoint"]


def test_prodigy_takes_the_rate_as_a_factor_and_the_others_as_a_rate(models: ResidentModels) -> None:
    flux = models.family(FluxFamily)
    inputs = {
        name: PortraitTrainerInput.model_validate({"images_data_url": "data:,", "optimizer": name})
        for name in ("adamw", "prodigy")
    }
    assert plan_of(inputs["prodigy"], flux).learning_rate == 1.0
    assert plan_of(inputs["adamw"], flux).learning_rate == pytest.approx(
        9e-5 * flux.training_defaults.learning_rate_scale
    )


def test_an_optimizer_that_is_not_here_is_refused_at_its_place(models: ResidentModels, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        Done(models, tmp_path, optimizer="adamw8bit", multiresolution_training=False)
    assert caught.value.details[0]["loc"] == ["body", "optimizer"]


def test_a_training_whose_checkpoints_and_loras_would_not_fit_is_refused_before_its_first_step(
    models: ResidentModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_room(monkeypatch, 3 * MIB)
    with pytest.raises(StorageFull, match="are needed"):
        Done(models, tmp_path, multiresolution_training=False, checkpoint_every=1)
    assert not list(tmp_path.rglob("*.safetensors.new"))
    assert not list(tmp_path.rglob("lora*"))


def test_a_bad_archive_ends_the_job_with_a_sentence(models: ResidentModels, tmp_path: Path) -> None:
    context = LocalContext(tmp_path, load_settings(), resident_models=models)
    with pytest.raises(InvalidArchive) as caught:
        run(PortraitTrainerInput(images_data_url="data:text/plain,hello"), context)
    assert caught.value.details[0]["loc"] == ["body", "images_data_url"]


def _base64(path: Path) -> str:
    import base64

    return base64.b64encode(path.read_bytes()).decode()


@pytest.mark.parametrize(
    ("given", "crop", "masks"),
    [
        ({}, True, True),
        ({"create_masks": False}, True, False),
        ({"is_style": True}, False, False),
        ({"is_input_format_already_preprocessed": True}, False, False),
    ],
)
def test_fast_training_is_the_portrait_trainer_with_its_choices_made(
    given: dict[str, Any], crop: bool, masks: bool
) -> None:
    asked = FastTrainingInput.model_validate(
        {"images_data_url": "data:,", "trigger_word": "ohwx", "data_archive_format": "tar", **given}
    ).as_portrait()
    assert (asked.images_data_url, asked.trigger_phrase, asked.data_archive_format) == ("data:,", "ohwx", "tar")
    assert (asked.steps, asked.subject_crop, asked.create_masks) == (1000, crop, masks)
    usual = PortraitTrainerInput(images_data_url="data:,")
    assert asked.steps * asked.learning_rate == pytest.approx(usual.steps * usual.learning_rate)


def test_fast_training_hands_over_what_fals_does(models: ResidentModels, tmp_path: Path) -> None:
    context = LocalContext(tmp_path, load_settings(), resident_models=models)
    url = context.offer(archive(tmp_path / "photos.zip"))
    given = {"images_data_url": url, "trigger_word": "drawn by TOK", "steps": 2, "is_style": True}
    output = run_fast(FastTrainingInput.model_validate(given), context)
    assert output.debug_preprocessed_output is None
    assert read_lora(local(output.diffusers_lora_file), FLUX_KEYS).pairs
    config = json.loads(local(output.config_file).read_text())
    assert config["endpoint"] == "fal-ai/flux-lora-fast-training"
    assert (config["requested"]["is_style"], config["trigger_phrase"]) == (True, "drawn by TOK")
    report = json.loads(local(File(**config["report"])).read_text())
    assert [entry["caption"] for entry in report["kept"]] == ["drawn by TOK smiling", "drawn by TOK", "drawn by TOK"]
