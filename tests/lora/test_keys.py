"""How any base model's keys are looked at."""

from __future__ import annotations

import pytest

from tintype.lora.keys import DIFFUSERS, Block, LoraKeys, Place, form_of, is_text, some


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1.alpha", True), ("text_encoder.text_model.x", True),
        ("text_encoders.t5xxl.transformer.x", True), ("clip_l.x", True), ("t5.x", True),
        ("lora_unet_txt_in.alpha", False), ("transformer.context_embedder.x", False),
    ],
)  # fmt: skip
def test_text_encoders_are_told_apart(key: str, text: bool) -> None:
    assert is_text(key) is text


@pytest.mark.parametrize(
    ("key", "form"),
    [
        ("lora_unet_img_in.alpha", "kohya"), ("diffusion_model.img_in.alpha", "ComfyUI"),
        ("transformer.x", "diffusers"),
        ("transformer.single_blocks.0.linear1.0.alpha", "OneTrainer"), ("lora_transformer_x", "OneTrainer"),
        ("double_blocks.0.processor.qkv_lora1.up.weight", "x-flux"), ("base_model.model.x", "PEFT"), ("x", "without"),
    ],
)  # fmt: skip
def test_the_form_is_named_for_people(key: str, form: str) -> None:
    assert form in form_of(key)


def test_only_the_first_few_keys_are_shown_and_none_can_spoil_the_log() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(["a", "b", "c", "d"]) == "a, b, c, …"
    said = some(["\x1b[2Jwiped\n", "x" * 500])
    assert said.isprintable()
    assert len(said) < 200


def test_a_table_without_blocks_and_without_fused_layers_is_enough() -> None:
    keys = LoraKeys("a toy", "nowhere", (DIFFUSERS,), outside=Block("", "", {"in": ("first",), "out": ("last",)}))
    assert keys.place_of("transformer.first") == keys.place_of("lora_unet_in") == Place(("first",))
    assert keys.place_of("transformer.0.first") is None
    assert keys.originals(["last"]) == {"out": Place(("last",))}
    assert keys.sharing(["first", "last"]) == ()
