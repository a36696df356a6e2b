"""The plan of each card: the manual shows what the command says, and its constants are the published models' own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, Qwen3VLConfig, Qwen3VLModel, T5Config, T5EncoderModel
from typer.testing import CliRunner

from tintype.catalog.endpoint import Kind
from tintype.cli import app
from tintype.models.quantised import prepare
from tintype.models.registry import family_spec, family_specs
from tintype.models.weights import BaseWeights
from tintype.settings import GIB
from tintype.training import card_plan
from tintype.training.card_plan import COLUMNS, SIDES, CardPlan, card_plans, with_precision
from tintype.training.memory_plan import Shape

OPEN = BaseWeights("flux", Path(), "some/repository", "a test", precision="auto")
MANUAL = Path(__file__).parents[2] / "docs" / "memory.md"


@pytest.fixture(scope="module")
def plans() -> list[CardPlan]:
    return card_plans(family_specs())


def test_the_manual_shows_what_the_command_says(plans: list[CardPlan]) -> None:
    rows = [f"| {' | '.join(cells)} |" for cells in (COLUMNS, *(plan.row for plan in plans))]
    shown = [line for line in MANUAL.read_text().splitlines() if line.startswith("|") and "---" not in line]
    assert shown == rows


def test_more_memory_never_takes_away(plans: list[CardPlan]) -> None:
    for kind in {(plan.base, plan.precision) for plan in plans}:
        cards = [plan for plan in plans if (plan.base, plan.precision) == kind]
        for number in range(len(SIDES)):
            recomputed = [card.steps[number].recomputed for card in cards if card.steps[number].fits]
            assert recomputed == sorted(recomputed, reverse=True)
            assert [card.steps[number].fits for card in cards] == sorted(card.steps[number].fits for card in cards)


def test_a_card_of_24_gb_trains_both_bases_at_a_megapixel_rounded_and_one_of_12_gb_in_four_bits(
    plans: list[CardPlan],
) -> None:
    fitting = {
        card: {(plan.base, plan.precision): plan for plan in plans if plan.card == card and plan.trains}
        for card in (12, 24)
    }
    assert fitting[24].keys() == {(base, kind) for base in ("flux", "ideogram4") for kind in ("fp8", "nf4")}
    assert fitting[12].keys() == {("flux", "nf4"), ("ideogram4", "nf4")}
    assert all(plan.steps[-1].needed <= 23 * 2**30 for plan in fitting[24].values())
    assert all(plan.steps[0].needed <= 11.5 * 2**30 for plan in fitting[12].values())


@pytest.mark.parametrize("precision", ["fp8", "nf4"])
@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_a_rounded_network_takes_what_its_numbers_take(base: str, precision: str) -> None:
    transformer = family_spec(base).load().without_weights().load_transformer()
    blocks = ("transformer_blocks.", "single_transformer_blocks.", "layers.")
    matrices = sum(
        module.weight.numel()
        for name, module in transformer.named_modules()
        if name.startswith(blocks) and type(module) is torch.nn.Linear
    )
    others = sum(weight.numel() for weight in transformer.parameters()) - matrices
    prepare(transformer, precision, torch.bfloat16)
    shape = Shape.of(transformer, (1.0,), tokens=1, batch=1, trained=0)
    bits = 8 if precision == "fp8" else 4 + 16 / 64
    assert shape.weights == pytest.approx(matrices * bits / 8 + others * 2, rel=0.001)


@pytest.mark.parametrize(
    ("memory", "lane", "precision"),
    [
        (139, "training", "stored"), (31.4, "training", "stored"), (23.6, "training", "fp8"), (11.9, "training", "nf4"),
        (8, "training", "nf4"), (31.4, "inference", "stored"), (23.6, "inference", "fp8"), (11.9, "inference", "nf4"),
    ],
)  # fmt: skip
def test_auto_is_the_first_precision_that_fits(
    memory: float, lane: Kind, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card_plan, "gpu_bytes", lambda device: int(memory * GIB))
    chosen = with_precision(OPEN, "cuda:0", lane)
    assert chosen.precision == precision
    assert ("nothing fits" in chosen.precision_why) is (memory == 8)
    assert f"the GPU has {memory:.2f} GiB" in chosen.precision_why


def test_nothing_is_rounded_unasked_without_a_gpu_and_what_is_asked_for_stays() -> None:
    assert with_precision(OPEN, "cpu", "training").precision == "stored"
    assert with_precision(replace(OPEN, precision="nf4"), "cpu", "training").precision == "nf4"


@pytest.mark.parametrize(("setting", "precision"), [("stored", "bf16"), ("auto", "nf4")])
@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_the_real_weights_are_taken_where_they_train_and_generate(base: str, setting: str, precision: str) -> None:
    spec = family_spec(base)
    needed = spec.needed_gpu(setting)
    enough, too_little = (
        next(plan for plan in card_plans([spec], [memory / GIB / 0.98]) if plan.precision == precision)
        for memory in (needed, 0.9 * needed)
    )
    assert enough.trains
    assert enough.generating.plan.fits
    assert not (too_little.trains and too_little.generating.plan.fits)


def test_what_generating_takes_at_a_megapixel(plans: list[CardPlan]) -> None:
    """On the smallest card on which all of its networks stay while it steps, and on the smallest at all."""
    whole, least = dict[tuple[str, str], float](), dict[tuple[str, str], str]()
    for plan in sorted(plans, key=lambda plan: -plan.card):
        kind, generating = (plan.base, plan.precision), plan.generating.plan
        if generating.fits:
            least[kind] = f"{plan.card:g} GB: {generating.how}"
        if generating.fits and not generating.for_step:
            whole[kind] = generating.needed / 2**30
    assert whole["flux", "fp8"] <= 15
    assert whole["ideogram4", "fp8"] <= 21
    assert whole["flux", "nf4"] <= 11.5
    assert whole["ideogram4", "nf4"] <= 14
    assert least["flux", "fp8"] == "16 GB: encoders leave"
    assert least["ideogram4", "fp8"] == "12 GB: encoders layer by layer, one network at a time"


def test_the_price_of_what_leaves_is_said(plans: list[CardPlan]) -> None:
    for plan in plans:
        generating = plan.generating
        assert (generating.copying > 0) == bool(generating.plan.how)
        assert ("copies" in generating.time) == (generating.plan.fits and bool(generating.plan.how))
        assert generating.plan.fits == bool(generating.time)
    (told,) = [plan.generating for plan in plans if (plan.base, plan.precision, plan.card) == ("ideogram4", "fp8", 24)]
    # The encoder comes for each prompt, and a network that had no room beside it; no step takes a copy.
    assert told.copying * 10e9 == pytest.approx(family_spec("ideogram4").encoder_bytes + 9.3e9 * 1.03 * 2, rel=0.1)


def test_a_card_of_any_size_is_planned_as_json() -> None:
    told = CliRunner().invoke(app, ["plan", "--gpu", "40 GB", "--base", "ideogram4", "--json"])
    plan, *rounded = json.loads(told.stdout)
    assert (plan["base"], plan["card"], len(plan["steps"])) == ("ideogram4", 40, len(SIDES))
    assert [one["precision"] for one in (plan, *rounded)] == ["bf16", "fp8", "nf4"]
    assert all(step["needed"] < 40 * 2**30 for step in plan["steps"])
    assert CliRunner().invoke(app, ["plan", "--gpu", "large"]).exit_code == 2


def test_encoders_take_what_the_published_ones_do() -> None:
    with torch.device("meta"):
        t5 = T5EncoderModel(
            T5Config(d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu")
        )
        clip = CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
        )
        text = {
            "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36, "num_attention_heads": 32,
            "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936,
        }  # fmt: skip
        vision = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "out_hidden_size": 4096}
        qwen = Qwen3VLModel(Qwen3VLConfig(text_config=text, vision_config=vision))
    size = {type(part): 2 * sum(weight.numel() for weight in part.parameters()) for part in (t5, clip, qwen)}
    assert family_spec("flux").encoder_bytes == pytest.approx(size[type(t5)] + size[type(clip)], rel=0.03)
    assert family_spec("ideogram4").encoder_bytes == pytest.approx(size[type(qwen)], rel=0.03)
