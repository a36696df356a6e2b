"""Likeness, adherence and originality are numbers that mean what they say, at both ends of their scales."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from miniature.world import Subject, photograph

from tintype.inference.flux import FluxImageRequest, FluxInference
from tintype.jobs.resident_models import ResidentModels
from tintype.likeness.held_out import choose_held_out, strangers_among
from tintype.likeness.measure import Measure, Scores
from tintype.likeness.photos import Photos
from tintype.likeness.portrait_world import PortraitWorldIdentity
from tintype.likeness.scale import Scale
from tintype.models.flux.model import FluxFamily
from tintype.settings import load_settings

SUBJECT, STRANGER = Subject.from_seed(60_001), Subject.from_seed(60_002)
PROMPTS = ("a photo of a person, green shirt, blue background", "a person, red shirt, yellow background, smiling")


@pytest.fixture(scope="module")
def inference() -> FluxInference:
    return ResidentModels(load_settings(flux_base="miniature"), "cpu").inference(FluxInference)


def unit(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor(rows), dim=1)


def test_photos_of_one_subject_are_closer_than_those_of_any_two() -> None:
    seeds = range(70_000, 70_020)
    embedded = PortraitWorldIdentity().embed(
        [photo for seed in seeds for photo, _ in photograph(Subject.from_seed(seed), 3)]
    )
    assert torch.allclose(embedded.norm(dim=1), torch.ones(len(embedded)), atol=1e-5)
    who = torch.arange(len(seeds)).repeat_interleave(3)
    alike, same = embedded @ embedded.T, who[:, None] == who[None]
    nearest = alike.masked_fill(torch.eye(len(who), dtype=torch.bool), -1).argmax(dim=1)
    assert (who[nearest] == who).float().mean() > 0.95
    assert alike[same].mean() > alike[~same].mean() + 0.7


def test_the_most_typical_photos_are_held_out_and_no_near_copy_or_faceless_one() -> None:
    angles = torch.linspace(-0.7, 0.7, 9)
    photos = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert choose_held_out(photos) == [4, 5] or choose_held_out(photos) == [3, 4]
    assert 4 not in choose_held_out(photos, alike=[(4, 8)])
    photos[4] = torch.nan
    chosen = choose_held_out(photos)
    assert len(chosen) == 2
    assert 4 not in chosen
    assert choose_held_out(photos[:7]) == [], "too few to spare any"
    assert choose_held_out(torch.full((9, 2), torch.nan)) == []


def test_somebody_else_among_the_photos_is_noticed() -> None:
    identity = PortraitWorldIdentity()
    photos = [photo for subject, count in ((SUBJECT, 6), (STRANGER, 2)) for photo, _ in photograph(subject, count)]
    embedded = identity.embed(photos)
    assert strangers_among(embedded, identity.same_person) == [6, 7]
    assert strangers_among(embedded[:6], identity.same_person) == []
    many = identity.embed(
        [photo for seed in range(62_000, 62_008) for photo, _ in photograph(Subject.from_seed(seed), 1)]
    )
    assert strangers_among(many, identity.same_person) == [], "a style, perhaps: nobody is in most of them"
    embedded[0] = torch.nan
    assert strangers_among(embedded, identity.same_person) == [6, 7]
    assert strangers_among(embedded[:1], identity.same_person) == []


def test_who_is_in_the_photos_is_said_before_a_training() -> None:
    identity = PortraitWorldIdentity()

    def seen(*people: tuple[Subject, int]) -> Photos:
        images = [photo for subject, count in people for photo, _ in photograph(subject, count, 128)]
        names = [f"{number}.jpg" for number in range(len(images))]
        return Photos(identity, names, images, [], identity.embed(images), torch.full((len(images),), torch.nan))

    who, sides = seen((SUBJECT, 6), (STRANGER, 2)).aspects()
    assert (who.state, who.photos) == ("advice", ["6.jpg", "7.jpg"])
    assert who.text == "These may show somebody else: 6.jpg, 7.jpg."
    assert sides.state == "not measured"
    assert seen((SUBJECT, 6)).aspects()[0].state == "covered"
    few = replace(seen((SUBJECT, 6)), embedded=torch.full((6, 4), torch.nan))
    assert few.aspects()[0].state == "not measured"
    ahead, aside = torch.full((6,), 0.05), torch.tensor([0.05, 0.0, -0.3, 0.1, 0.2, torch.nan])
    assert replace(few, turns=ahead).aspects()[1].state == "advice"
    assert replace(few, turns=aside).aspects()[1].text == "In 2 of 5 photos the face looks aside."


def test_the_scale_is_the_persons_own() -> None:
    photos, strangers = unit((1, 0.1), (1, 0), (1, -0.1), (1, 0.2)), unit((-1, 0.3), (-1, 0))
    scale = Scale.of(photos, [1], strangers)
    assert scale is not None
    assert scale.held_out
    own, stranger = scale.likeness(torch.cat([photos[:1], strangers]))[:2]
    assert own == pytest.approx(1.0, abs=0.05)
    assert stranger == pytest.approx(0.0, abs=0.05)
    assert scale.likeness(torch.full((1, 2), torch.nan)).isnan().all()


def test_without_photos_to_spare_a_copy_of_one_is_no_likeness() -> None:
    photos = unit((1, 0, 0), (0.9, 0.4, 0), (0.9, 0, 0.4), (0.9, -0.4, 0))
    scale = Scale.of(photos, [], unit((-1.0, 0, 0)))
    assert scale is not None
    assert not scale.held_out
    between = unit((0.95, 0, 0.05))
    assert scale.likeness(between) > scale.likeness(unit((0.9, 0.4, 0)))


def test_what_cannot_be_told_apart_is_not_measured() -> None:
    photos = unit((1, 0.1), (1, 0), (1, -0.1))
    assert Scale.of(photos, [], photos) is None
    assert Scale.of(torch.full((3, 2), torch.nan), [], photos) is None


def test_the_total_is_of_what_was_measured_and_too_much_likeness_is_no_gain() -> None:
    assert Scores(1.08, 0.5, None).total == Scores(1.0, 0.5, None).total == 0.5
    assert Scores(0.98, 0.64, 0.98).total > Scores(0.77, 0.82, 0.98).total, "whom it is like comes first"
    assert str(Scores(None, 0.5, 0.25)) == "likeness not measured, adherence 0.50, originality 0.25"


def test_pictures_are_scored_by_who_is_seen_what_was_asked_and_whether_it_is_a_photo(inference: FluxInference) -> None:
    family = inference.family
    assert isinstance(family, FluxFamily)
    inference.apply_loras([])
    base = [inference.generate(FluxImageRequest(prompt, 1024, 1024, 8), [3])[0] for prompt in PROMPTS]
    photos = [photo for photo, _ in photograph(SUBJECT, 8)]
    family.load_transformer()
    identity = PortraitWorldIdentity()
    measure = Measure(family, identity, photos, identity.embed(photos), [0, 1], PROMPTS, base, 1.0)

    of_base = measure.scores(base)
    assert of_base.likeness is not None
    assert of_base.likeness < 0.1, "a stranger"
    assert of_base.adherence == 1.0, "what the scale ends at"
    assert of_base.originality is not None
    assert of_base.originality > 0.5

    exchanged = measure.scores(base[::-1])
    assert exchanged.adherence == 0.0, "each shows what the other was asked for"

    copies = measure.scores(photos[2:4])
    assert copies.likeness is not None
    assert copies.likeness > 0.9
    assert copies.originality is not None
    assert copies.originality < 0.1
    of_other = measure.scores([photo for photo, _ in photograph(STRANGER, 2)])
    assert of_other.likeness is not None
    assert of_other.likeness < 0.3
