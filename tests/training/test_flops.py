"""The figures that say how near a run came to the chip's limit."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from bench.weightless import NARROW, NARROW_IDEOGRAM, REAL, Weightless, WeightlessFlux, WeightlessIdeogram4
from torch.utils.flop_counter import FlopCounterMode

from tintype.lora.adapter import Adapter
from tintype.models.family import Latents
from tintype.training.cache import Cache, Item
from tintype.training.flops import StepCost, operations_of_prediction, operations_of_step, peak_of, step_cost_of
from tintype.training.plan import Plan
from tintype.training.step import Stepper

WORK = StepCost(2e12, "plain products", 0.25, "NVIDIA H200", 989e12)


META = torch.device("meta")


def counted(family: Weightless, image: int, text: int, batch: int, rank: int) -> int:
    """What torch counts of the step that training takes, and the gradients that are added in place, which it omits."""
    transformer = family.load_transformer()
    adapter = Adapter.for_transformer(
        transformer, family.adapter_targets, rank=rank, seed=0, device=META, shared=family.fused_targets
    )
    item = Item("counted", torch.zeros(image, transformer.config.in_channels), image, 1, 0, None)
    cache = Cache([item], [""], family.random_features(1, text), "none")
    plan = Plan(steps=1, learning_rate=1e-4, batch_size=batch)
    stepper = Stepper(family, adapter, cache, plan, recomputed=0)
    added = {torch.ops.aten.addmm_: lambda into, left, right, **_: 2 * left[0] * left[1] * right[1]}
    counter = FlopCounterMode(display=False, custom_mapping=added)
    with stepper.prepared(), counter:
        stepper.differentiate(0)
    return counter.get_total_flops()


@pytest.mark.parametrize(("batch", "rank"), [(1, 1), (4, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["merged into fp32", "beside bf16"])
def test_the_formula_is_what_torch_counts(dtype: torch.dtype, batch: int, rank: int) -> None:
    flux, ideogram4 = WeightlessFlux(NARROW, META, dtype), WeightlessIdeogram4(META, dtype, NARROW_IDEOGRAM)
    shape = (16, 6, batch, rank)
    assert operations_of_step(flux, *shape) == counted(flux, *shape)
    # Rotary positions are computed by a product, which is no work of the model's.
    assert operations_of_step(ideogram4, *shape) == pytest.approx(counted(ideogram4, *shape), rel=1e-3)


@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_the_formula_is_what_torch_counts_of_the_real_architecture(base: str) -> None:
    family = WeightlessFlux(REAL, META) if base == "flux" else WeightlessIdeogram4(META)
    shape = (1024, 256, 1, 16)
    assert operations_of_step(family, *shape) == pytest.approx(counted(family, *shape), rel=1e-6)


@pytest.mark.parametrize("base", ["flux", "ideogram4"])
def test_a_pass_without_gradients_is_what_torch_counts(base: str) -> None:
    """But for the last block's text, which diffusers' FLUX computes and nothing needs."""
    family: Weightless = (
        WeightlessFlux(NARROW | {"num_single_layers": 8}, META)
        if base == "flux"
        else WeightlessIdeogram4(META, config=NARROW_IDEOGRAM)
    )
    side, text = 16, 8
    channels = family.load_transformer().config.in_channels
    noisy = Latents(torch.empty(1, side * side, channels, device=META), side, side)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        family.predict_velocity(family.load_transformer(), noisy, torch.rand(1), family.random_features(1, text), 1.0)
    assert operations_of_prediction(family, side * side, text) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_a_step_costs_what_counting_its_products_by_hand_gives() -> None:
    pictured, text, rank = 16, 6, 1
    tokens, width = pictured + text, 32
    # A block's layers, by in x out: q, k, v, out of width^2 and an MLP of 4 widths. Frozen layers are one product in
    # each direction; attention two forward and four back.
    double, single = 12 * width**2, 12 * width**2
    blocks = (double + 2 * single) * 2 * 2 * tokens
    attention = 3 * 2 * 6 * tokens**2 * width
    narrow = WeightlessFlux(NARROW, META)
    computed = operations_of_step(narrow, pictured, text, 1, rank)
    assert 0.85 * (blocks + attention) <= computed <= 1.35 * (blocks + attention)
    assert operations_of_step(narrow, pictured, text, 3, rank) == pytest.approx(3 * computed, rel=0.02)


def test_sizes_are_weighed_by_how_many_batches_they_make() -> None:
    family, plan = WeightlessFlux(NARROW, META), Plan(steps=1, learning_rate=1e-4, batch_size=2)
    shapes = [(2, 2)] * 3 + [(4, 3)] + [(3, 4)]
    items = [Item(str(n), torch.zeros(1), *shape, 0, None) for n, shape in enumerate(shapes)]
    cache = Cache(items, ["a"], family.random_features(1, 6), "none", text_lengths=[4])
    cost = step_cost_of(family, cache, plan, rank=2)
    small, large = (operations_of_step(family, image, 6, 2, 2) for image in (4, 12))
    assert cost.operations == pytest.approx((2 * small + 2 * large) / 4)
    assert cost.padding == pytest.approx(5 * 2 / (3 * 10 + 2 * 18))


def test_the_share_of_the_peak_is_what_was_achieved_of_what_is_possible() -> None:
    told = WORK.figures(steps_per_second=100.0)
    assert told["share_of_peak"] == pytest.approx(200 / 989, abs=1e-4)
    assert json.loads(json.dumps(told)) == told
    assert "20% of the chip's peak" in WORK.describe(100.0)


def test_where_the_peak_is_not_known_nothing_is_made_up() -> None:
    unknown = replace(WORK, chip="CPU", peak=None)
    assert unknown.figures(1.0)["share_of_peak"] == "not known"
    assert "not known" in unknown.describe(1.0)


def test_a_chip_is_found_by_the_whole_of_its_name() -> None:
    found = {
        "NVIDIA H100 80GB HBM3": 989, "NVIDIA H100 PCIe": 756, "NVIDIA H100 NVL": 835, "NVIDIA H200": 989,
        "NVIDIA GH200 480GB": 989, "NVIDIA GH200 144G HBM3e": 989, "NVIDIA B200": 2250, "NVIDIA A100-SXM4-80GB": 312,
        "NVIDIA A100-PCIE-40GB": 312, "NVIDIA A100 80GB PCIe": 312, "NVIDIA L40S": 362, "NVIDIA L40": 181,
        "NVIDIA L4": 121, "NVIDIA A10": 125, "NVIDIA RTX A6000": 154.8, "NVIDIA RTX 6000 Ada Generation": 364,
        "NVIDIA GeForce RTX 4090": 165.2, "GeForce RTX 3090": 71,
    }  # fmt: skip
    for name, peak in found.items():
        assert peak_of(name) == pytest.approx(peak * 1e12), name


@pytest.mark.parametrize("name", [
    "NVIDIA A10G", "NVIDIA L40G", "NVIDIA A16", "NVIDIA GB200", "NVIDIA GeForce RTX 4090 Laptop GPU",
    "NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 3090 Ti", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "A6000", "H", "",
])  # fmt: skip
def test_a_chip_that_only_sounds_like_another_is_not_known(name: str) -> None:
    assert peak_of(name) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_names_its_attention_kernel() -> None:
    from tintype.models.attention import kernel_of

    told = kernel_of(torch.device("cuda"), torch.bfloat16, (1, 24, 4608, 128))
    assert "scaled_dot_product_attention" in told
