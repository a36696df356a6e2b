"""FLUX.1 [dev] (Black Forest Labs), and the miniature of it."""

from __future__ import annotations

from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.registry import Edition, FamilySpec
from tintype.settings import GIB

_NON_COMMERCIAL = (
    "FLUX.1 [dev] Non-Commercial License: the weights, and LoRAs made from them, may not be used commercially "
    "without a licence from Black Forest Labs."
)
_APACHE = "Apache-2.0: the weights, and LoRAs made from them, may be used commercially."
EDITIONS = (
    Edition(
        title="FLUX.1 [schnell]",
        named="schnell",
        licence=f"{_APACHE} https://huggingface.co/black-forest-labs/FLUX.1-schnell",
        facts={"modelspec.architecture": "flux-1-schnell/lora", "ss_base_model_version": "flux1-schnell"},
        configuration={"guidance_embeds": False},
        traits={"steps": 4, "guidance_scale": 0.0, "max_sequence_length": 256},
        caution="FLUX.1 [schnell] is distilled to four steps, and training undoes that: pictures with the LoRA may "
        "look washed out. Train on FLUX.1 [dev]; its LoRAs work on [schnell] too.",
    ),
    Edition(
        title="FLUX.1 Krea [dev]",
        named=r"flux.*krea|krea.*flux",
        licence=f"{_NON_COMMERCIAL} https://huggingface.co/black-forest-labs/FLUX.1-Krea-dev",
        facts={"ss_base_model_version": "flux1-krea-dev"},
    ),
    Edition(
        title="Flex.1-alpha",
        named=r"\bflex\W?1",
        licence=f"{_APACHE} https://huggingface.co/ostris/Flex.1-alpha",
        facts={"modelspec.architecture": "flex-1-alpha/lora", "ss_base_model_version": "flex1-alpha"},
        caution="Flex.1 has 8 double blocks where FLUX.1 [dev] has 19: LoRAs of one do not fit the other.",
    ),
)

FAMILY = FamilySpec(
    name="flux",
    short_title="FLUX",
    title="FLUX.1 [dev]",
    licence=f"{_NON_COMMERCIAL} https://huggingface.co/black-forest-labs/FLUX.1-dev",
    repository="black-forest-labs/FLUX.1-dev",
    parts=("transformer", "vae", "text_encoder", "text_encoder_2"),
    # bf16 transformer (24 GB), activations of a 1024 px step without recomputation, encoders one after another.
    gpu_bytes=70 * GIB,
    text_window=512,
    implementation="tintype.models.flux.model:FluxFamily",
    lora_keys=FLUX_KEYS,
    pipeline="FluxPipeline",
    network="FluxTransformer2DModel",
    readable="What can be used: a hub id or folder of FLUX.1 [dev], [schnell], Krea [dev], Flex.1 or a fine-tune of "
    "them in diffusers' layout.",
    editions=EDITIONS,
)
