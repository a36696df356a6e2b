"""Whether a LoRA is, read from its files, the one that was written."""

from __future__ import annotations

import torch

from tintype.selftest.checked_base import CheckedBase
from tintype.selftest.result import CheckFailed, Found
from tintype.training.export import export_all
from tintype.training.prove import prove


def check_files(base: CheckedBase) -> Found:
    """Writes a LoRA in every form, reads each back, and lets diffusers load its own."""
    lora, folder = base.lora(3), base.folder / "forms"
    folder.mkdir()
    written = export_all(lora, base.spec.lora_keys, folder, dtype=torch.float32, header={})
    read = base.family.read_lora(written["diffusers"])
    if read.pairs.keys() != lora.pairs.keys():
        raise CheckFailed(f"{len(lora.pairs)} layers were written and {len(read.pairs)} read")
    for name, pair in lora.pairs.items():
        back = read.pairs[name]
        if not (torch.equal(pair.down, back.down) and torch.equal(pair.up, back.up) and pair.alpha == back.alpha):
            raise CheckFailed(f"{name} was read otherwise than it was written")
    proof = prove(base.family, written["diffusers"], lora, base.cache)
    figures = {"forms": list(written), "layers": len(lora.pairs), "change": proof.change, "error": proof.error}
    return Found(f"{len(lora.pairs)} layers in {', '.join(written)}: read back the same", figures)
