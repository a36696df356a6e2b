"""A negative prompt never works against what the prompt asks for."""

from __future__ import annotations

import pytest

from tintype.inference.negative_prompt import against


@pytest.mark.parametrize(
    ("negative", "prompt", "left", "overruled"),
    [
        ("", "a red hat", "", ()),
        (" , ;\n", "a red hat", "", ()),
        ("glasses, rain", "a red hat", "glasses, rain", ()),
        ("Red  Hat; rain", "a person, red hat", "rain", ("Red  Hat",)),
        ("hat", "a hatter", "hat", ()),
        ("red hat", "a red scarf and a blue hat", "red hat", ()),
        ("hat, hat", "hat", "", ("hat", "hat")),
        ("MÜTZE", "eine Mütze", "", ("MÜTZE",)),
        ("hat", '{"high_level_description":"a hat"}', "", ("hat",)),
    ],
)
def test_what_the_prompt_names_is_taken_out(negative: str, prompt: str, left: str, overruled: tuple[str, ...]) -> None:
    kept = against(negative, prompt)
    assert (kept.text, kept.overruled) == (left, overruled)
    assert bool(kept.notes) == bool(overruled)
    assert all(part in " ".join(kept.notes) for part in overruled)
