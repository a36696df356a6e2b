"""Encoding once, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from tintype.dataset import Bucket, Dataset, DatasetReport, Example
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.pairs import Pair
from tintype.models.flux.model import FluxFamily
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.settings import load_settings
from tintype.training.cache import encode_once

SIZES = (Bucket(512, 512), Bucket(512, 256))


@pytest.fixture(scope="module")
def flux() -> FluxFamily:
    return ResidentModels(load_settings(), "cpu").family(FluxFamily)


def example(name: str, caption: str = "TOK", sizes: tuple[Bucket, ...] = SIZES) -> Example:
    return Example(name, Image.new("RGB", (512, 512), "red"), caption, sizes)


def test_the_background_counts_a_tenth_where_there_is_a_mask(flux: FluxFamily, tmp_path: Path) -> None:
    mask = Image.new("L", (512, 512), 0)
    mask.paste(255, (0, 0, 256, 512))
    example = Example("a", Image.new("RGB", (512, 512)), "TOK", SIZES[:1], mask)
    item = encode_once(flux, Dataset([example], DatasetReport()), tmp_path).items[0]
    assert item.weights is not None
    grid = item.weights.view(item.rows, item.columns)
    assert abs(item.weights.mean() - 1) < 1e-5
    torch.testing.assert_close(grid[:, 0] / grid[:, -1], torch.full((item.rows,), 10.0))


def test_nothing_is_encoded_twice(flux: FluxFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset([example("a", "TOK"), example("b", "TOK in a hat")], DatasetReport())
    first = encode_once(flux, dataset, tmp_path)
    monkeypatch.setattr(flux, "load_encoders", lambda: pytest.fail("an encoder was asked for"))
    second = encode_once(flux, dataset, tmp_path)
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(first.items, second.items, strict=True))
    assert torch.equal(first.features.tokens, second.features.tokens)
    assert torch.equal(first.features.pooled, second.features.pooled)
    assert first.text_lengths == second.text_lengths


def test_many_captions_are_encoded_eight_at_a_time(flux: FluxFamily, tmp_path: Path) -> None:
    captions = [f"TOK in hat {number}" for number in range(19)]
    together = flux.encode_captions(sorted(captions))
    read: list[int] = []
    hook = flux.load_encoders().text_encoder_2.register_forward_pre_hook(lambda _, given: read.append(len(given[0])))
    try:
        photos = [example(caption, caption, SIZES[:1]) for caption in captions]
        found = encode_once(flux, Dataset(photos, DatasetReport()), tmp_path).features
    finally:
        hook.remove()
    assert read == [8, 8, 3]
    torch.testing.assert_close(found.tokens, together.tokens.float())
    torch.testing.assert_close(found.pooled, together.pooled.float())


def test_captions_of_different_lengths_become_one_table(tmp_path: Path) -> None:
    """Ideogram fills each batch of captions up to its longest only."""
    ideogram = ResidentModels(load_settings(ideogram4_base="miniature"), "cpu").family(Ideogram4Family)
    captions = sorted(["a", *("word " * number for number in range(1, 10))])
    photos = [example(caption, caption, SIZES[:1]) for caption in captions]
    found = encode_once(ideogram, Dataset(photos, DatasetReport()), tmp_path).features
    together = ideogram.encode_captions(captions)
    torch.testing.assert_close(found.tokens, together.tokens)
    assert torch.equal(found.pooled, together.pooled)


def test_captions_are_read_by_the_bases_own_text_encoders(flux: FluxFamily, tmp_path: Path) -> None:
    dataset = Dataset([example("a")], DatasetReport())
    own = encode_once(flux, dataset, tmp_path / "a").features
    pair = Pair(torch.ones(1, 64), torch.ones(256, 1), 1.0)
    flux.alter({}, [("text_encoder.encoder.layers.0.mlp.fc1", pair)])
    assert not torch.equal(flux.encode_captions(["TOK"]).pooled.cpu(), own.pooled)
    assert torch.equal(encode_once(flux, dataset, tmp_path / "b").features.pooled, own.pooled)


def test_other_captions_have_other_features(flux: FluxFamily, tmp_path: Path) -> None:
    one, other = (
        encode_once(flux, Dataset([example("a", caption)], DatasetReport()), tmp_path).features
        for caption in ("a red hat", "green glasses")
    )
    assert not torch.equal(one.tokens, other.tokens)


def test_what_a_power_cut_left_of_a_file_is_encoded_again(flux: FluxFamily, tmp_path: Path) -> None:
    dataset = Dataset([Example("a", Image.new("RGB", (512, 512), "red"), "TOK", SIZES[:1])], DatasetReport())
    first = encode_once(flux, dataset, tmp_path)
    kept = list(tmp_path.iterdir())
    for path in kept:
        path.write_bytes(b"")
    second = encode_once(flux, dataset, tmp_path)
    assert len(kept) == 2
    assert torch.equal(second.items[0].latents, first.items[0].latents)
    assert torch.equal(second.features.tokens, first.features.tokens)


def test_padding_is_told_apart_from_words(flux: FluxFamily, tmp_path: Path) -> None:
    dataset = Dataset([example("a", "TOK"), example("b", "TOK in a hat, smiling")], DatasetReport())
    short, long = encode_once(flux, dataset, tmp_path).text_lengths
    assert 0 < short < long <= flux.max_sequence_length


def test_every_size_of_every_picture_is_an_item_with_its_own_caption(flux: FluxFamily, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    dataset = Dataset([example("a", "TOK"), example("b", "TOK in a hat", SIZES[:1])], DatasetReport())
    cache = encode_once(flux, dataset, tmp_path, each=lambda done, total: told.append((done, total)))
    assert [(item.name, item.shape) for item in cache.items] == [("a", (4, 4)), ("a", (2, 4)), ("b", (4, 4))]
    assert told == [(1, 2), (2, 2)]
    features = cache.features_of([cache.items[2], cache.items[0]])
    torch.testing.assert_close(features.tokens, flux.encode_captions(["TOK in a hat", "TOK"]).tokens)
