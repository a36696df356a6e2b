"""FLUX.1 [dev] (Black Forest Labs), and the miniature of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tintype.models.flux.lora_keys import FLUX_KEYS
from tintype.models.licence import Licence
from tintype.models.registry import IN_FOLDERS, Download, Edition, FamilySpec, PartFile
from tintype.settings import GIB

_NON_COMMERCIAL = Licence(
    name="FLUX.1 [dev] Non-Commercial License",
    version="1.1.1",
    reported_as="flux-1-dev",
    address="https://huggingface.co/black-forest-labs/FLUX.1-dev",
    weights="the weights, and LoRAs made from them, may not be used commercially without a licence from Black Forest "
    "Labs.",
    images="may be used for any purpose, commercial ones too, but not to train a model that competes (section 2(d)); "
    "whoever deploys the model has to filter what is unlawful or infringes (section 2(e)).",
)
_APACHE = Licence(
    name="Apache-2.0",
    address="https://huggingface.co/black-forest-labs/FLUX.1-schnell",
    weights="the weights, and LoRAs made from them, may be used commercially.",
    images="may be used for any purpose.",
)
EDITIONS = (
    Edition(
        title="FLUX.1 [schnell]",
        named="schnell",
        licence=_APACHE,
        facts={"modelspec.architecture": "flux-1-schnell/lora", "ss_base_model_version": "flux1-schnell"},
        configuration={"guidance_embeds": False},
        traits={
            "steps": 4,
            "guidance_scale": 0.0,
            "max_sequence_length": 256,
            "scheduler": {"shift": 1.0, "use_dynamic_shifting": False},
        },
        caution="FLUX.1 [schnell] is distilled to four steps, and training undoes that: pictures with the LoRA may "
        "look washed out. Train on FLUX.1 [dev]; its LoRAs work on [schnell] too.",
    ),
    Edition(
        title="FLUX.1 Krea [dev]",
        named=r"flux.*krea|krea.*flux",
        licence=replace(
            _NON_COMMERCIAL, address="https://huggingface.co/black-forest-labs/FLUX.1-Krea-dev", reported_as=""
        ),
        facts={"ss_base_model_version": "flux1-krea-dev"},
    ),
    Edition(
        title="Flex.1-alpha",
        named=r"\bflex\W?1",
        licence=replace(_APACHE, address="https://huggingface.co/ostris/Flex.1-alpha"),
        facts={"modelspec.architecture": "flex-1-alpha/lora", "ss_base_model_version": "flex1-alpha"},
        caution="Flex.1 has 8 double blocks where FLUX.1 [dev] has 19: LoRAs of one do not fit the other.",
    ),
)

_BASE = "black-forest-labs/FLUX.1-dev"
_PARTS = Download(_BASE, IN_FOLDERS, ignored=("transformer/*",))
_TOKENIZERS = {"tokenizer": "openai/clip-vit-large-patch14", "tokenizer_2": "google/t5-v1_1-xxl"}
_ALONE = tuple(
    Download(repository, ("tokenizer*", "vocab.json", "merges.txt", "spiece.model", "special_tokens_map.json"))
    for repository in _TOKENIZERS.values()
)

FAMILY = FamilySpec(
    name="flux",
    short_title="FLUX",
    title="FLUX.1 [dev]",
    licence=_NON_COMMERCIAL,
    repository=_BASE,
    parts=("transformer", "vae", "text_encoder", "text_encoder_2"),
    gpu_bytes=30 * GIB,
    least_gpu_bytes=11 * GIB,
    text_window=512,
    implementation="tintype.models.flux.model:FluxFamily",
    lora_keys=FLUX_KEYS,
    pipeline="FluxPipeline",
    network="FluxTransformer2DModel",
    configuration={"guidance_embeds": True},
    encoder_bytes=9_771_000_000,  # T5-XXL and CLIP-L in bf16
    autoencoder_bytes=168_000_000,
    generating_steps=28,
    readable="What can be used: a hub id or folder of FLUX.1 [dev], [schnell], Krea [dev], Flex.1 or a fine-tune of "
    "them in diffusers' layout; a .safetensors file of one (Black Forest Labs' or ComfyUI's, bf16 or fp8, with or "
    "without encoders); a .gguf file.",
    bare_fp8=True,
    editions=EDITIONS,
    layout=Path(__file__).parent / "layout",
    files={
        "transformer": PartFile("model.diffusion_model.", "double_blocks.0.img_attn.qkv.weight", ("flux1-dev*",), ()),
        "vae": PartFile("vae.", "decoder.conv_in.weight", ("ae.safetensors", "ae.sft", "flux_ae*"), ("vae",)),
        "text_encoder": PartFile(
            "text_encoders.clip_l.transformer.",
            "text_model.embeddings.token_embedding.weight",
            ("clip_l.safetensors",),
            ("text_encoders", "clip"),
        ),
        "text_encoder_2": PartFile(
            "text_encoders.t5xxl.transformer.",
            "encoder.block.0.layer.0.SelfAttention.q.weight",
            ("t5xxl_fp16*", "t5xxl_bf16*", "t5xxl*"),
            ("text_encoders", "clip"),
        ),
    },
    tokenizers=_TOKENIZERS,
    file_repositories=("comfyanonymous/flux_text_encoders",),
    forms={
        "nf4": (Download("diffusers/FLUX.1-dev-bnb-4bit", IN_FOLDERS),),
        "fp8": (Download("Comfy-Org/flux1-dev", ("flux1-dev-fp8.safetensors",)), *_ALONE),
        "gguf": (Download("city96/FLUX.1-dev-gguf", ("flux1-dev-Q4_K_S.gguf",)), _PARTS),
        "gguf-q8": (Download("city96/FLUX.1-dev-gguf", ("flux1-dev-Q8_0.gguf",)), _PARTS),
        "parts": (_PARTS,),
    },
    small_form="nf4",
)
