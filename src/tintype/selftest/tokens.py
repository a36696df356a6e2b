"""Whether the tokenizers of published weights give the ids that they were published with."""

from __future__ import annotations

from tintype.models.ideogram4.network import prompt_tokens
from tintype.selftest.checked_base import CheckedBase
from tintype.selftest.result import CheckFailed, Found, NotRun

_CAT = "a photo of a cat"
_FLUX = {
    "tokenizer": [49406, 320, 1125, 539, 320, 2368, 49407],  # CLIP
    "tokenizer_2": [3, 9, 1202, 13, 3, 9, 1712, 1],  # T5
}
_FOX = "a red fox sits under a cherry blossom tree"
_QWEN = [
    151644, 872, 198, 64, 2518, 38835, 23011, 1212, 264, 40880, 88758, 4916, 151645, 198, 151644, 77091, 198
]  # fmt: skip


def check_tokens(base: CheckedBase) -> Found:
    """Compares the ids of a fixed sentence with known ones."""
    if base.family.weights.miniature:
        raise NotRun("the miniature has tokenizers of its own")
    pipeline = base.family.load_encoders()
    if base.spec.name == "flux":
        found = {name: list(getattr(pipeline, name)(_CAT).input_ids) for name in _FLUX}
        wanted = _FLUX
    elif base.spec.name == "ideogram4":
        found, wanted = {"tokenizer": prompt_tokens(pipeline.tokenizer, _FOX)}, {"tokenizer": _QWEN}
    else:
        raise NotRun("no ids are known for this base model")
    for name, ids in wanted.items():
        if found[name] != ids:
            remedy = "Fetch the tokenizers again; if that does not help, install the versions that `doctor` asks for."
            raise CheckFailed(f"{name} gives {found[name]}, not {ids}", remedy, found=found)
    return Found(f"known ids from {' and '.join(wanted)}")
