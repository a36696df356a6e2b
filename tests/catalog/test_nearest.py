"""An id that nobody answers to leads to what is nearest here, and says why there is none; gibberish leads nowhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, strategies as st

from tintype import catalog
from tintype.catalog.nearest import nearest
from tintype.errors import NotFound

FLUX, DEV, FROM_IMAGE, V4, V4_LORA = (
    "fal-ai/flux-lora",
    "fal-ai/flux/dev",
    "fal-ai/flux-lora/image-to-image",
    "ideogram/v4",
    "ideogram/v4/lora",
)
PORTRAIT, FAST, IDEOGRAM_TRAINER = (
    "fal-ai/flux-lora-portrait-trainer", "fal-ai/flux-lora-fast-training", "ideogram/v4/trainer",
)  # fmt: skip
CHANGES, OTHER = "It changes images", "Its base model is not one of this server's."


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("flux-lora", FLUX),
        ("fal-ai/flux-loras", FLUX),
        ("fal-ai/fluxlora", FLUX),
        ("FAL-AI/Flux-LoRA", FLUX),
        ("fal-ai/flux_lora", FLUX),
        ("fal-ai/flux-lora/submit", FLUX),
        ("fal-ai/flux-lora/stream", FLUX),
        ("fal-ai/flux-dev", DEV),
        ("fal-ai/flux-lora-potrait-trainer", PORTRAIT),
        ("fal-ai/flux-lora-portrait-training", PORTRAIT),
        ("fal-ai/flux-lora-fast-trainer", FAST),
        ("fal-ai/ideogram-v4", V4),
        ("ideogram/v4/finetune", IDEOGRAM_TRAINER),
        ("fal-ai/ideogram/custom-model", "fal-ai/ideogram/custom-models"),
    ],
)
def test_another_spelling_is_the_same_endpoint(name: str, meant: str) -> None:
    found = catalog.nearest(name)
    assert ([one.id for one in found.endpoints], found.is_meant, found.reason) == ([meant], True, "")
    assert found.sentence == f"Did you mean {meant}?"


@pytest.mark.parametrize(
    ("name", "reason", "near"),
    [
        ("fal-ai/flux/dev/image-to-image", "", [FROM_IMAGE]),
        ("fal-ai/flux-1/dev/image-to-image", "", [FROM_IMAGE]),
        ("fal-ai/flux-krea-lora/image-to-image", OTHER, [FROM_IMAGE]),
        ("ideogram/v4/image-to-image", CHANGES, [V4, V4_LORA]),
        ("fal-ai/qwen-image/image-to-image", OTHER, [FROM_IMAGE]),
        ("fal-ai/flux-lora/inpainting", CHANGES, [FLUX, FROM_IMAGE]),
        ("fal-ai/flux-lora-fill", CHANGES, [FLUX, FROM_IMAGE]),
        ("fal-ai/flux-kontext-lora", CHANGES, [FLUX, FROM_IMAGE]),
        ("fal-ai/flux/dev/redux", CHANGES, [DEV]),
        ("fal-ai/ideogram/v3/remix", CHANGES, [V4, V4_LORA]),
        ("ideogram/v4/tiling/lora", CHANGES, [V4_LORA]),
        ("fal-ai/qwen-image-edit-plus-lora", CHANGES, [FLUX, V4_LORA]),
        ("fal-ai/flux-krea-lora", OTHER, [FLUX]),
        ("fal-ai/flux/schnell", OTHER, [FLUX, DEV]),
        ("fal-ai/flux-2", OTHER, [FLUX, DEV]),
        ("fal-ai/flux-2/lora", OTHER, [FLUX]),
        ("fal-ai/flux-pro/v1.1-ultra", OTHER, [DEV]),
        ("fal-ai/ideogram/v3", OTHER, [V4, V4_LORA]),
        ("ideogram/v4/instant", OTHER, [V4, V4_LORA]),
        ("fal-ai/flux-krea-trainer", OTHER, [PORTRAIT, FAST]),
        ("fal-ai/flux-2-trainer", OTHER, [PORTRAIT, FAST]),
        ("fal-ai/turbo-flux-trainer", "", [PORTRAIT, FAST]),  # FLUX.1 [dev] too
        ("fal-ai/flux-lora-general-training", "", [PORTRAIT, FAST]),
        ("fal-ai/qwen-image-trainer", OTHER, [PORTRAIT, IDEOGRAM_TRAINER]),
        ("fal-ai/z-image/turbo/lora", OTHER, [FLUX, V4_LORA]),
        ("fal-ai/bria/text-to-image/base", OTHER, [FLUX, V4]),
        ("fal-ai/kling-video/v2/master/image-to-video", "Only images are made here.", []),
        ("fal-ai/wan-video-lora-training", "Only images are made here.", []),
        ("fal-ai/minimax/voice-clone", "Only images are made here.", []),
    ],
)
def test_what_there_is_not_is_told_with_the_reason_and_what_is_nearest(name: str, reason: str, near: list[str]) -> None:
    found = catalog.nearest(name)
    assert (found.is_meant, {one.id for one in found.endpoints}) == (False, set(near))
    assert found.reason.startswith(reason)
    assert bool(found.reason) == bool(reason)
    assert all(one.id in found.sentence for one in found.endpoints)


@pytest.mark.parametrize(
    "name",
    ["", "/", "x", "asdf/qwer", "fal-ai/whisper", "fal-ai/nano-banana", "fal-ai", "to/image", "日本/語", "\0/\ud800",
     "/" * 900],
)  # fmt: skip
def test_what_says_nothing_leads_nowhere(name: str) -> None:
    found = catalog.nearest(name)
    assert (found.endpoints, found.sentence) == ((), "")
    with pytest.raises(NotFound, match="There are: fal-ai/flux-lora-portrait-trainer, "):
        catalog.get(name)


@given(st.text(max_size=300))
def test_any_text_gets_an_answer(name: str) -> None:
    if catalog.find(name) is None:
        with pytest.raises(NotFound, match="not found"):
            catalog.get(name)


def test_a_base_that_is_added_is_known_by_its_name() -> None:
    other = replace(catalog.ENDPOINTS[0], id="house/sana/trainer", aliases=(), base="sana2")
    found = nearest("house/sana-xl-trainer", (*catalog.ENDPOINTS, other))
    assert [one.id for one in found.endpoints] == ["house/sana/trainer"]


def test_every_endpoint_is_got_by_its_names() -> None:
    for endpoint in catalog.ENDPOINTS:
        for name in (endpoint.id, *endpoint.aliases, f"/{endpoint.id}/"):
            assert catalog.get(name) is endpoint
