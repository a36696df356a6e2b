"""The real architectures without their weights: for counting operations, predicting memory and measuring speed.

None of these depends on what the weights are, so nobody has to download 24 GB or accept a licence to check a figure.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel, Ideogram4Transformer2DModel

from tintype.models.family import Features
from tintype.models.flux.model import FluxFamily
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.ideogram4.network import pin_rotary
from tintype.models.weights import BaseWeights

TEXT_TOKENS = 512
REAL: dict[str, Any] = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
# The same layout, small enough for a CPU.
NARROW = REAL | {
    "num_layers": 1,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 16,
    "axes_dims_rope": (4, 6, 6),
}
NARROW_IDEOGRAM: dict[str, Any] = {
    "in_channels": 16,
    "num_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "adaln_dim": 16,
    "llm_features_dim": 104,
    "mrope_section": (4, 2, 2),
}


class WeightlessFlux(FluxFamily):
    """A family whose transformer has random weights, or none at all on the meta device."""

    def __init__(self, config: dict[str, Any], device: torch.device, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__(BaseWeights("flux", Path("."), "random weights", "made for a measurement"), device, dtype)
        self._scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
        self._transformer = _made(FluxTransformer2DModel, config, device, dtype)

    def random_features(self, captions: int, text_tokens: int = TEXT_TOKENS) -> Features:
        config = self._transformer.config
        return Features(
            torch.randn(captions, text_tokens, config.joint_attention_dim),
            torch.randn(captions, config.pooled_projection_dim),
        )


class WeightlessIdeogram4(Ideogram4Family):
    """The same for Ideogram 4, the real one where no configuration is given.

    The network of the negative branch is made when it is first asked for.
    """

    def __init__(
        self, device: torch.device, dtype: torch.dtype = torch.bfloat16, config: dict[str, Any] | None = None
    ) -> None:
        super().__init__(BaseWeights("ideogram4", Path("."), "random weights", "made for a measurement"), device, dtype)
        self._config = config or {}
        self._transformer = self._network()

    def load_unconditional(self) -> Any:
        if self._unconditional is None:
            self._unconditional = self._network()
        return self._unconditional

    def _network(self) -> Any:
        network = _made(Ideogram4Transformer2DModel, self._config, self.device, self.dtype)
        # Computed where they can be: positions are numbers on the meta device too.
        network.rotary_emb.inv_freq = torch.empty(0, device="cpu" if self.device.type == "meta" else self.device)
        pin_rotary(network)
        return network

    def random_features(self, captions: int, text_tokens: int = TEXT_TOKENS) -> Features:
        config = self._transformer.config
        width = config.num_attention_heads * config.attention_head_dim
        return Features(torch.randn(captions, text_tokens, width), torch.full((captions, 1), float(text_tokens)))


Weightless = WeightlessFlux | WeightlessIdeogram4


def _made(kind: Any, config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    with torch.device("meta"):
        transformer = kind(**config).to(dtype)
    if device.type != "meta":
        transformer = transformer.to_empty(device=device)
        for name, parameter in transformer.named_parameters():
            if parameter.dim() == 1:  # norms are 1, biases 0
                torch.nn.init.constant_(parameter, 1.0 if "norm" in name and "weight" in name else 0.0)
            else:
                torch.nn.init.normal_(parameter, std=0.02)
    return transformer.requires_grad_(False).eval()
