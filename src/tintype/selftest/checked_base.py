"""A base model as the checks see it: loaded once, with pictures and LoRAs that are the same on every machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tintype.inference.images import ImageInference
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.lora.lora import Lora
from tintype.lora.write import write_lora
from tintype.models.family import Family, pixels_of
from tintype.models.registry import FamilySpec
from tintype.training.cache import Cache, Item

CAPTION = "a portrait of a person, blue shirt, green background"
RANK = 4
_PATCH = 64  # nominal pixels of one colour in a picture


@dataclass(frozen=True)
class Extent:
    """How much is done. Sizes are nominal pixels; `rounds` are steps of each size after the first."""

    name: str
    sizes: tuple[tuple[int, int], ...]
    rounds: int
    picture: tuple[int, int]
    picture_steps: int
    resumed_steps: int


QUICK = Extent("quick", ((512, 512), (512, 768)), 1, (512, 512), 2, 4)
WHOLE = Extent("whole", ((512, 512), (768, 768), (1024, 1024), (832, 1216)), 6, (1024, 1024), 8, 8)


class CheckedBase:
    """One base model, on the device that jobs would use, and a folder to work in."""

    def __init__(
        self, spec: FamilySpec, inference: type[ImageInference], models: ResidentModels, folder: Path, extent: Extent
    ) -> None:
        self.spec, self.models, self.folder, self.extent = spec, models, folder, extent
        self._inference = inference
        folder.mkdir()

    @property
    def family(self) -> Family:
        """The base model. Raises WeightsMissing."""
        return self.models.family(self._inference.family_class)

    @property
    def inference(self) -> Any:
        """What generates with it."""
        return self.models.inference(self._inference)

    @cached_property
    def cache(self) -> Cache:
        """Pictures of every size, encoded as a training's are, on the CPU."""
        family = self.family
        family.alter({})
        items = [self._item(size) for size in self.extent.sizes]
        features = family.encode_captions([CAPTION])
        features = type(features)(features.tokens.float().cpu(), features.pooled.float().cpu())
        return Cache(items, [CAPTION], features, "selftest", [family.count_tokens(CAPTION)])

    def _item(self, size: tuple[int, int]) -> Item:
        encoded = self.family.encode_images(pixels_of([patches(*size)]))
        return Item("{}x{}".format(*size), encoded.tokens[0].float().cpu(), encoded.rows, encoded.columns, 0, None)

    def trained_cache(self) -> Cache:
        """Gives those pictures with all but the transformer let go of where memory is scarce, as a training does."""
        cache = self.cache
        self.models.release_encoders(self.family)
        return cache

    def adapter(self, seed: int) -> Adapter:
        """Makes a new adapter, which changes nothing yet."""
        family = self.family
        return Adapter.for_transformer(
            family.load_transformer(),
            family.adapter_targets,
            rank=RANK,
            seed=seed,
            device=family.device,
            shared=family.fused_targets,
        )

    def lora(self, seed: int) -> Lora:
        """Makes a LoRA of random factors, strong enough to be seen."""
        adapter = self.adapter(seed)
        spread = 0.08 if self.family.weights.miniature else 0.02
        noise = torch.randn(adapter.weights.shape, generator=torch.Generator().manual_seed(seed))
        return adapter.lora(adapter.weights.detach().cpu() + spread * noise)

    def lora_file(self, seed: int) -> Path:
        """Writes that LoRA for diffusers."""
        path = self.folder / f"{seed}.safetensors"
        return write_lora(self.lora(seed), self.spec.lora_keys, path, form="diffusers", dtype=torch.float32, header={})


def patches(width: int, height: int) -> Image.Image:
    """Draws coloured patches, the same on every machine."""
    shape = (3, max(1, height // _PATCH), max(1, width // _PATCH))
    levels = torch.rand(shape, generator=torch.Generator().manual_seed(0)).mul(255).byte().permute(1, 2, 0)
    return Image.fromarray(levels.numpy()).resize((width, height), Image.Resampling.NEAREST)
