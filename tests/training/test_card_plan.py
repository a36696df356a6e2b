"""The plan of each card: the manual shows what the command says, and its constants are the published models' own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModel, Qwen3VLConfig, Qwen3VLModel, T5Config, T5EncoderModel
from typer.testing import CliRunner

from tintype.cli import app
from tintype.models.registry import family_spec, family_specs
from tintype.training.card_plan import COLUMNS, SIDES, CardPlan, card_plans

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


def test_a_card_of_24_gb_trains_both_bases_at_a_megapixel_in_eight_bits(plans: list[CardPlan]) -> None:
    steps = {(plan.base, plan.precision): plan.steps[-1] for plan in plans if plan.card == 24}
    assert {kind for kind, step in steps.items() if step.fits} == {("flux", "fp8"), ("ideogram4", "fp8")}
    assert all(step.needed <= 23 * 2**30 for step in steps.values() if step.fits)


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
    plan, in_fp8 = json.loads(told.stdout)
    assert (plan["base"], plan["card"], len(plan["steps"])) == ("ideogram4", 40, len(SIDES))
    assert (plan["precision"], in_fp8["precision"]) == ("bf16", "fp8")
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
