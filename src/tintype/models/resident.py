"""The base models that are resident in this process. Importing this is cheap; torch comes with the first model."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING

from tintype.models.weights import BaseWeights, resolve
from tintype.settings import Settings

if TYPE_CHECKING:
    import torch

    from tintype.inference.flux import FluxSampler
    from tintype.inference.ideogram4 import IdeogramSampler
    from tintype.models.flux.model import FluxFamily
    from tintype.models.ideogram4.model import Ideogram4Family

__all__ = ["Families", "torch_device"]

# Read when transformers is imported, which then does not warn about packages that are not needed.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


class Families:
    """Loads each base model once and keeps it; a job finds what an earlier job left here.

    Where the second base would not fit beside the first, the first one goes, with the LoRAs it wears.
    """

    def __init__(self, settings: Settings, device: str = "auto") -> None:
        # Beside all else that lasts: by itself, what was compiled lies in /tmp and is compiled again after a restart.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(settings.data_dir.resolve() / "compiled"))
        self._settings = settings
        self._device = device
        self._flux: FluxFamily | None = None
        self._ideogram4: Ideogram4Family | None = None
        self._flux_sampler: FluxSampler | None = None
        self._ideogram_sampler: IdeogramSampler | None = None

    def flux(self) -> FluxFamily:
        """The FLUX base that the settings choose. Raises WeightsMissing."""
        if self._flux is None:
            from tintype.models.flux.model import FluxFamily

            self._flux = FluxFamily(self._placed("flux"), torch_device(self._device))
        return self._flux

    def ideogram4(self) -> Ideogram4Family:
        """The Ideogram 4 base that the settings choose. Raises WeightsMissing."""
        if self._ideogram4 is None:
            from tintype.models.ideogram4.layouts import check_loadable
            from tintype.models.ideogram4.model import Ideogram4Family

            weights, device = self._placed("ideogram4"), torch_device(self._device)
            check_loadable(weights.folder, device)
            self._ideogram4 = Ideogram4Family(weights, device)
        return self._ideogram4

    def flux_sampler(self) -> FluxSampler:
        """What draws with the FLUX base and keeps the LoRAs it has drawn with lately."""
        if self._flux_sampler is None:
            from tintype.inference.flux import FluxSampler

            self._flux_sampler = FluxSampler(self.flux(), keep=self._settings.resident_adapters)
        return self._flux_sampler

    def ideogram_sampler(self) -> IdeogramSampler:
        """What draws with the Ideogram 4 base and keeps the LoRAs it has drawn with lately."""
        if self._ideogram_sampler is None:
            from tintype.inference.ideogram4 import IdeogramSampler

            self._ideogram_sampler = IdeogramSampler(self.ideogram4(), keep=self._settings.resident_adapters)
        return self._ideogram_sampler

    def _placed(self, family: str) -> BaseWeights:
        """The weights of a base that is about to be loaded; there is room for them afterwards, if there can be."""
        weights = resolve(self._settings, family)
        needed = sum(path.stat().st_size for path in weights.folder.glob("*/*.safetensors"))
        if needed > free_bytes(torch_device(self._device)):
            self._flux = self._ideogram4 = self._flux_sampler = self._ideogram_sampler = None
            gc.collect()
            _give_back_reserved()
        return weights


def _give_back_reserved() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes(device: torch.device) -> int:
    """What can be loaded onto a device now."""
    import psutil
    import torch

    if device.type != "cuda":
        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info(device)
    return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def torch_device(name: str) -> torch.device:
    """The device of a setting; auto means the first GPU, else the CPU."""
    import torch

    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
