"""Fusing and splitting adapters loses nothing."""

from __future__ import annotations

import torch
from hypothesis import given, settings, strategies as st

from tintype.lora.pairs import Pair, difference, fuse, split

SIZES = [3, 3, 3, 12]
WIDTH = 5


def pair(out: int, rank: int, alpha: float, seed: int) -> Pair:
    generator = torch.Generator().manual_seed(seed)
    return Pair(torch.randn(rank, WIDTH, generator=generator), torch.randn(out, rank, generator=generator), alpha)


def change(one: Pair | None, out: int) -> torch.Tensor:
    return torch.zeros(out, WIDTH) if one is None else one.scale * one.up @ one.down


parts = st.lists(
    st.one_of(st.none(), st.tuples(st.integers(1, 6), st.sampled_from([0.5, 1.0, 3.0, 8.0]))), min_size=4, max_size=4
).filter(any)


@given(parts)
@settings(deadline=None, max_examples=60)
def test_any_parts_fused_and_split_again_change_the_same(chosen: list[tuple[int, float] | None]) -> None:
    made = [one and pair(size, *one, seed=n) for n, (one, size) in enumerate(zip(chosen, SIZES, strict=True))]
    fused = fuse(made, SIZES)
    whole = torch.cat([change(one, size) for one, size in zip(made, SIZES, strict=True)])
    torch.testing.assert_close(change(fused, sum(SIZES)), whole)
    for before, after, size in zip(made, split(fused, SIZES), SIZES, strict=True):
        torch.testing.assert_close(change(after, size), change(before, size))
        assert (after is None) == (before is None)


@given(st.integers(1, 16), st.sampled_from([1.0, 4.0, 7.0]))
@settings(deadline=None, max_examples=20)
def test_parts_of_one_rank_come_back_to_the_bit(rank: int, alpha: float) -> None:
    made = [pair(size, rank, alpha, seed=n) for n, size in enumerate(SIZES)]
    for before, after in zip(made, split(fuse(made, SIZES), SIZES), strict=True):
        assert after is not None
        assert torch.equal(after.down, before.down)
        assert torch.equal(after.up, before.up)
        assert after.alpha == before.alpha


def test_a_fused_layer_trained_as_one_gives_each_part_its_rows() -> None:
    fused = pair(sum(SIZES), 4, 2.0, seed=1)
    divided = split(fused, SIZES)
    assert all(part is not None and part.rank == 4 and part.scale == 0.5 for part in divided)
    whole = torch.cat([change(part, size) for part, size in zip(divided, SIZES, strict=True)])
    torch.testing.assert_close(whole, change(fused, sum(SIZES)))


def test_a_fused_layer_that_learned_nothing_keeps_its_parts() -> None:
    still = Pair(torch.randn(4, WIDTH), torch.zeros(sum(SIZES), 4), 4.0)
    assert all(part is not None and part.silent for part in split(still, SIZES))


def test_a_part_that_was_not_trained_is_left_out() -> None:
    up = torch.randn(sum(SIZES), 2)
    up[3:6] = 0
    assert [part is None for part in split(Pair(torch.randn(2, WIDTH), up, 2.0), SIZES)] == [False, True, False, False]


def test_difference_is_relative_and_sees_scale_and_sign() -> None:
    one = pair(6, 3, 3.0, seed=0)
    assert difference(one, one) == 0
    assert difference(one, Pair(one.down * 2, one.up / 2, 3.0)) < 1e-6
    assert abs(difference(one, Pair(one.down, one.up, 6.0)) - 1) < 1e-6
    assert abs(difference(one, Pair(one.down, -one.up, 3.0)) - 2) < 1e-6
    nothing = Pair(one.down, torch.zeros_like(one.up), 3.0)
    assert difference(nothing, nothing) == 0
    assert difference(nothing, one) > 0


def test_the_bound_is_no_less_than_the_change_and_shows_what_is_not_finite() -> None:
    one = pair(6, 3, 1.5, seed=0)
    assert one.bound() >= torch.linalg.matrix_norm(change(one, 6)).item()
    for wrong in (float("nan"), float("inf")):
        broken = one.up.clone()
        broken[2, 1] = wrong
        assert not Pair(one.down, broken, 1.5).bound() < float("inf")
