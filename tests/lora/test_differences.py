"""Files that change more than matrices by two factors: biases, norms, whole differences, or something else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.support.peer_loras import FUSED, SHAPES, WIDTH, Base, factors, keyed, written

from tintype.errors import UnusableAdapter
from tintype.lora.keys import LoraKeys
from tintype.lora.lora import Lora
from tintype.lora.read import read_lora
from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS

QUERY, PROJ = "transformer_blocks.0.attn.to_q", "double_blocks.0.img_attn.proj"
BASES = {"flux": (FLUX_KEYS, QUERY), "ideogram": (IDEOGRAM_KEYS, "layers.0.attention.to_q")}
BOTH = pytest.mark.parametrize("base", BASES)


def one(layer: str, alpha: float | None = None, size: int = WIDTH) -> dict[str, torch.Tensor]:
    marks = ("lora_A", "lora_B") if alpha is None else ("lora_down", "lora_up")
    return keyed("transformer.", factors({layer: (size, WIDTH)}), *marks, alpha=alpha, dots=True)


def read(path: Path, tensors: dict[str, torch.Tensor], keys: LoraKeys = FLUX_KEYS) -> Lora:
    return read_lora(written(path / "a", tensors), keys, known=[FLUX_KEYS, IDEOGRAM_KEYS])


def refused(path: Path, tensors: dict[str, torch.Tensor], keys: LoraKeys) -> str:
    with pytest.raises(UnusableAdapter) as caught:
        read(path, tensors, keys)
    return caught.value.message


def row(length: int = WIDTH) -> torch.Tensor:
    return torch.arange(1.0, length + 1)


@BOTH
@pytest.mark.parametrize(
    ("alpha", "ending", "scale"),
    [(None, "lora_B.bias", 1.0), (None, "lora_B.default.bias", 1.0), (6.0, "lora_up.bias", 3.0), (6.0, "diff_b", 1.0),
     (6.0, "b_norm", 1.0), (None, "lora.up.bias", 1.0)],
)  # fmt: skip
def test_biases_are_shifts_scaled_as_their_program_scales_them(
    tmp_path: Path, base: str, alpha: float | None, ending: str, scale: float
) -> None:
    keys, layer = BASES[base]
    lora = read(tmp_path, one(layer, alpha) | {f"transformer.{layer}.{ending}": row()}, keys)
    assert lora.shifts.keys() == {f"{layer}.bias"}
    torch.testing.assert_close(lora.shifts[f"{layer}.bias"], scale * row())
    assert lora.remarks == []


def test_a_fused_layers_bias_is_each_parts_own(tmp_path: Path) -> None:
    name = "lora_unet_double_blocks_0_txt_attn_qkv"
    made = factors({"double_blocks.0.txt_attn.qkv": (24, 8)})
    tensors = keyed("lora_unet_", made, "lora_down", "lora_up", alpha=1.0, dots=False)
    shifts = read(tmp_path, tensors | {f"{name}.diff_b": row(24)}).shifts
    assert {key: shift.tolist() for key, shift in shifts.items()} == {
        f"transformer_blocks.0.attn.add_{which}_proj.bias": row(24)[start : start + 8].tolist()
        for which, start in (("q", 0), ("k", 8), ("v", 16))
    }
    made = factors({"single_blocks.0.linear1": FUSED["single_blocks.0.linear1"]})
    tensors = keyed("", made, "lora_A", "lora_B", alpha=None, dots=True)
    shifts = read(tmp_path, tensors | {"single_blocks.0.linear1.lora_B.bias": row(7 * WIDTH)}).shifts
    assert shifts["single_transformer_blocks.0.proj_mlp.bias"].tolist() == row(7 * WIDTH)[3 * WIDTH :].tolist()


def test_the_last_layers_halves_are_put_in_order_in_biases_too(tmp_path: Path) -> None:
    name = "final_layer.adaLN_modulation.1"
    shifts = read(tmp_path, one(name, size=2 * WIDTH) | {f"{name}.diff_b": row(2 * WIDTH)}).shifts
    assert shifts["norm_out.linear.bias"].tolist() == [*range(9, 17), *range(1, 9)]


@pytest.mark.parametrize(
    ("base", "key", "vector"),
    [("flux", "diffusion_model.double_blocks.0.img_attn.norm.query_norm.diff", "transformer_blocks.0.attn.norm_q"),
     ("flux", "double_blocks.0.txt_attn.norm.key_norm.scale.diff", "transformer_blocks.0.attn.norm_added_k"),
     ("flux", "lora_unet_single_blocks_0_norm_key_norm.w_norm", "single_transformer_blocks.0.attn.norm_k"),
     ("flux", "lycoris_transformer_blocks_0_attn_norm_added_q.w_norm", "transformer_blocks.0.attn.norm_added_q"),
     ("ideogram", "diffusion_model.layers.0.attention.norm_q.weight.diff", "layers.0.attention.norm_q"),
     ("ideogram", "lora_unet_layers_0_ffn_norm2.w_norm", "layers.0.ffn_norm2")],
)  # fmt: skip
def test_norms_are_shifted(tmp_path: Path, base: str, key: str, vector: str) -> None:
    keys, layer = BASES[base]
    lora = read(tmp_path, one(layer) | {key: row()}, keys)
    assert {name: shift.tolist() for name, shift in lora.shifts.items()} == {f"{vector}.weight": row().tolist()}


@pytest.mark.parametrize(
    ("name", "out", "into", "layers"),
    [("diffusion_model.img_in", 16, 4, {"x_embedder": (0, 16)}),
     ("lora_unet_final_layer_linear", 4, 16, {"proj_out": (0, 4)}),
     ("double_blocks.0.img_attn.qkv", 24, 8, {QUERY: (0, 8), "transformer_blocks.0.attn.to_v": (16, 24)})],
)  # fmt: skip
def test_a_whole_difference_is_applied_as_it_is(
    tmp_path: Path, name: str, out: int, into: int, layers: dict[str, tuple[int, int]]
) -> None:
    whole = torch.randn(out, into)
    lora = read(tmp_path, {f"{name}.diff": whole})
    for layer, (start, end) in layers.items():
        assert torch.equal(lora.pairs[layer].change(), whole[start:end])
        assert lora.pairs[layer].rank == min(out, into), "no larger than it has to be"


def test_factors_and_a_difference_of_one_layer_add_up(tmp_path: Path) -> None:
    whole, plain = torch.randn(WIDTH, WIDTH), read(tmp_path, one(QUERY, 6.0))
    both = read(tmp_path, one(QUERY, 6.0) | {f"transformer.{QUERY}.diff": whole})
    torch.testing.assert_close(both.pairs[QUERY].change(), plain.pairs[QUERY].change() + whole)


@BOTH
def test_what_changes_nothing_is_no_reason_to_refuse(tmp_path: Path, base: str) -> None:
    keys, layer = BASES[base]
    zeros = {f"transformer.{layer}.diff_b": torch.zeros(WIDTH), "position_embedding.diff": torch.zeros(3)}
    zeros["text_encoders.clip_l.transformer.text_model.embeddings.position_embedding.diff"] = torch.zeros(3)
    lora = read(tmp_path, one(layer) | zeros, keys)
    assert (lora.shifts, lora.remarks) == ({}, [])


@BOTH
@pytest.mark.parametrize("key", ["foo.lora_A.weight", "position_embedding.diff", "transformer.{}.lora_A.bias",
                                 "transformer.{}.what", "blocks.0.ff.lora_B.bias"])  # fmt: skip
def test_what_is_not_known_is_refused_by_name_whatever_the_base(tmp_path: Path, base: str, key: str) -> None:
    keys, layer = BASES[base]
    said = refused(tmp_path, one(layer) | {key.format(layer): torch.ones(2, 2)}, keys)
    assert f"1 of this file's 3 keys are not known: {key.format(layer)}" in said


@BOTH
def test_text_encoders_are_left_out_and_said_whatever_the_base(tmp_path: Path, base: str) -> None:
    keys, layer = BASES[base]
    lora = read(tmp_path, one(layer) | {"lora_te1_text_model_x.lora_down.weight": torch.ones(2, 2)}, keys)
    assert lora.remarks == [
        "1 tensors of a LoRA for parts of text encoders were left out: lora_te1_text_model_x.lora_down.weight."
    ]


CLIP, T5 = "encoder.layers.3.self_attn.q_proj", "encoder.block.3.layer.1.DenseReluDense.wi_0"


@pytest.mark.parametrize(
    ("name", "layer"),
    [(f"{before}{CLIP}", f"text_encoder.{CLIP}") for before in (
        "text_encoder.", "text_encoder.text_model.", "clip_l.text_model.", "base_model.model.text_model.",
        "text_encoders.clip_l.transformer.text_model.")]
    + [(f"{before}{T5}", f"text_encoder_2.{T5}") for before in ("text_encoder_2.", "text_encoders.t5xxl.transformer.")]
    + [(f"lora_{which}_text_model_{CLIP.replace('.', '_')}", f"text_encoder.{CLIP}") for which in ("te", "te1")]
    + [(f"lora_te3_{T5.replace('.', '_')}", f"text_encoder_2.{T5}")],
)  # fmt: skip
def test_text_encoders_layers_are_read_in_every_naming(tmp_path: Path, name: str, layer: str) -> None:
    made = factors({name: (WIDTH, WIDTH)})
    text = keyed("", made, "lora_down", "lora_up", alpha=6.0, dots=True)
    lora = read(tmp_path, one(QUERY) | text | {f"{name}.diff_b": row()})
    assert [*lora.pairs, *lora.text, *lora.shifts] == [QUERY, layer, f"{layer}.bias"]
    torch.testing.assert_close(lora.text[layer].change(), 3.0 * made[name][1] @ made[name][0])
    assert (lora.remarks, lora.form) == ([], "diffusers' form")
    assert "1 layers of text encoders are not trained" in Lora(lora.pairs, text=lora.text).account(SHAPES)[1]
    with pytest.raises(UnusableAdapter, match=r"is a DoRA \("):
        read(tmp_path, one(QUERY) | text | {f"{name}.dora_scale": row()})
    with pytest.raises(UnusableAdapter, match="text encoders only"):
        read(tmp_path, text)


@BOTH
@pytest.mark.parametrize(
    ("key", "said"),
    [("transformer.{}.dora_scale", "a DoRA"), ("base_model.model.{}.lora_magnitude_vector.default.weight", "a DoRA"),
     ("lycoris_{}.lokr_w1_a", "a LoKr"), ("{}.lokr_w2", "a LoKr"), ("{}.hada_w1_b", "a LoHa"), ("{}.hada_t1", "a LoHa"),
     ("{}.oft_blocks", "an OFT"), ("{}.oft_R.default.weight", "an OFT"), ("{}.boft_s", "an OFT"),
     ("{}.on_input", "an (IA)³"), ("{}.a1.weight", "a GLoRA"), ("{}.lora_mid.weight", "a convolution LoRA"),
     ("diffusion_model.{}.set_weight", "replace the base model's own"), ("{}.reshape_weight", "replace the base"),
     ("transformer.{}.weight", "replace the base model's own"), ("{}.bias", "replace the base model's own")],
)  # fmt: skip
def test_other_kinds_of_files_are_called_what_they_are(tmp_path: Path, base: str, key: str, said: str) -> None:
    keys, layer = BASES[base]
    key = key.format(layer)
    for tensors in ({key: torch.ones(2, 2)}, one(layer) | {key: torch.ones(2, 2)}):
        message = refused(tmp_path, tensors, keys)
        assert said in message
        assert key[:70] in message


WIDER = {f"model.{QUERY}.lora_A.weight": torch.ones(2, 9), f"model.{QUERY}.lora_B.weight": torch.ones(WIDTH, 2)}


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({f"{QUERY}.lora_B.bias": row()}, "only one of its two factors"),
        ({f"{QUERY}.diff_b": row()}, "biases or norms alone"),
        ({"transformer_blocks.0.attn.norm_q.w_norm": row()}, "biases or norms alone"),
        (one(QUERY) | {f"{QUERY}.diff_b": torch.ones(2, 2)}, "not a row of values"),
        (one(QUERY) | {f"{QUERY}.diff": torch.tensor(1.0)}, "not a row of values"),
        (one(QUERY) | {f"{QUERY}.diff": torch.zeros(0, 4)}, "not a row of values"),
        (one(QUERY) | {f"transformer.{QUERY}.diff": torch.ones(9, 9)}, "another size than its factors: 9x9"),
        (one(QUERY) | WIDER, "to_q twice"),
        (one(QUERY) | {f"{QUERY}.diff_b": torch.full((WIDTH,), torch.nan)}, "not finite"),
        (one(QUERY) | {f"{QUERY}.diff": torch.full((WIDTH, WIDTH), torch.inf)}, "not finite"),
        (one(QUERY) | {f"transformer.{QUERY}.diff_b": row(), f"transformer.{QUERY}.lora_B.bias": row()}, "twice"),
        (one(QUERY) | {f"{QUERY}.diff_b": row(), f"model.{QUERY}.diff_b": -row()}, "twice"),
        (one(QUERY) | {"double_blocks.0.img_attn.qkv.diff_b": row(25)}, "25 values"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_them_is_said(tmp_path: Path, tensors: dict[str, torch.Tensor], said: str) -> None:
    assert said in refused(tmp_path, tensors, FLUX_KEYS)


def test_vectors_have_to_fit_the_base(tmp_path: Path) -> None:
    lora = read(tmp_path, one(QUERY) | {f"{QUERY}.diff_b": row(9)})
    with pytest.raises(UnusableAdapter, match=r"to_q\.bias has 9 values, 8 in the base"):
        lora.check_fits(Base(), FLUX_KEYS)
    lora = read(tmp_path, one(QUERY) | {"transformer_blocks.0.attn.norm_q.w_norm": row()})
    with pytest.raises(UnusableAdapter, match=r"norm_q\.weight has 8 values, in the base there is none"):
        lora.check_fits(Base(), FLUX_KEYS)


def test_a_training_does_not_go_on_without_the_biases(tmp_path: Path) -> None:
    lora = read(tmp_path, one(QUERY) | {f"{QUERY}.diff_b": row()})
    with pytest.raises(
        UnusableAdapter, match=r"changes biases or norms too \(transformer_blocks\.0\.attn\.to_q\.bias\)"
    ):
        lora.startable(SHAPES, 4)
