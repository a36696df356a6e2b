"""A stranger's LoRA is loaded whole or refused at its place; never by halves, and never as nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.conftest import random_layers, save_lora

from tintype.errors import UnusableAdapter
from tintype.models.ideogram4.lora import FORMS, METADATA_KEY, Form
from tintype.models.ideogram4.model import Ideogram4Family

LOC = ("body", "loras", 1, "path")


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_factors_for_every_layer(
    ideogram: Ideogram4Family, tmp_path: Path, form: Form
) -> None:
    layers = random_layers(ideogram)
    lora = ideogram.read_lora(save_lora(tmp_path / "a.safetensors", layers, form), loc=LOC)
    assert {key.split(".lora_")[0] for key in lora.state} == {f"transformer.{name}" for name in layers}
    for name, own in layers.items():
        down, up = (lora.state[f"transformer.{name}.lora_{which}.weight"] for which in "AB")
        scale = lora.settings["transformer.lora_alpha"] / lora.settings["transformer.r"]
        torch.testing.assert_close(scale * up @ down, own.change(), atol=1e-5, rtol=1e-4)


def spoilt(tensors: dict[str, torch.Tensor], how: str) -> dict[str, torch.Tensor]:
    first = next(key for key in tensors if key.endswith("qkv.lora_B.weight"))
    alpha = next(key for key in tensors if key.endswith(".alpha"))
    down = first.replace("lora_B", "lora_A")
    if how == "not finite":
        tensors[first][0, 0] = torch.inf
    elif how == "far too large":
        tensors[first] *= 1e9
    elif how == "not one number":
        tensors[alpha] = torch.ones(2)
    elif how == "alpha not finite":
        tensors[alpha] = torch.tensor(torch.nan)
    elif how == "fit together":
        tensors[first], tensors[down] = tensors[first][:, :0], tensors[down][:0]
    elif how == "divided by three":
        tensors[first] = tensors[first][:-1]
    elif how == "twice":
        tensors[first.replace("qkv", "to_q")] = tensors[first][:32].clone()
        tensors[down.replace("qkv", "to_q")] = tensors[down].clone()
    elif how == "another size":
        tensors[first] = torch.cat([tensors[first]] * 2)
    elif how == "not floating point":
        tensors[first] = tensors[first].int()
    return tensors


@pytest.mark.parametrize(
    "how", ["not finite", "far too large", "not one number", "alpha not finite", "fit together", "divided by three",
            "twice", "another size", "not floating point"],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_at_its_place(ideogram: Ideogram4Family, tmp_path: Path, how: str) -> None:
    path = save_lora(tmp_path / "a.safetensors", random_layers(ideogram), "comfy")
    save_file(spoilt(load_file(path), how), path)
    with pytest.raises(UnusableAdapter, match=how.removeprefix("alpha ")) as caught:
        ideogram.read_lora(path, loc=LOC)
    assert caught.value.details[0]["loc"] == list(LOC)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02", b"\x08\0\0\0\0\0\0\0{}      "])
def test_what_is_no_lora_is_refused(ideogram: Ideogram4Family, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UnusableAdapter):
        ideogram.read_lora(tmp_path / "a", loc=LOC)


def test_settings_that_a_file_states_are_not_obeyed(ideogram: Ideogram4Family, tmp_path: Path) -> None:
    """PEFT would follow them into initialisations that rewrite the base's own weights."""
    path = save_lora(tmp_path / "a.safetensors", random_layers(ideogram))
    told = {"transformer.init_lora_weights": "pissa", "transformer.lora_alpha": 2.0}
    save_file(load_file(path), path, {METADATA_KEY: json.dumps(told)})
    assert not [key for key in ideogram.read_lora(path, loc=LOC).settings if "init" in key]
