"""A random Ideogram 4 of a few hundred kilobytes, in every class and convention the real one."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Ideogram4Pipeline,
    Ideogram4Transformer2DModel,
)
from miniature.ideogram4.parts import CHAT_TEMPLATE
from tokenizers import pre_tokenizers
from transformers import Qwen2Tokenizer, Qwen3VLConfig, Qwen3VLModel

from tintype.lora.lora import Lora
from tintype.lora.pairs import Pair
from tintype.lora.write import write_lora
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS
from tintype.models.ideogram4.model import Ideogram4Family


def byte_tokenizer() -> Qwen2Tokenizer:
    """One token for each byte, and Qwen's special ones."""
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=[],
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
    )


def tiny_text_encoder() -> Qwen3VLModel:
    text = {
        "vocab_size": 300, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 36,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]},
    }  # fmt: skip
    vision = {
        "depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 1, "out_hidden_size": 8, "patch_size": 4,
        "num_position_embeddings": 4, "deepstack_visual_indexes": [],
    }  # fmt: skip
    return Qwen3VLModel(Qwen3VLConfig(text_config=text, vision_config=vision))


def tiny_transformer() -> Ideogram4Transformer2DModel:
    return Ideogram4Transformer2DModel(
        in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=4, intermediate_size=32, adaln_dim=16,
        llm_features_dim=104, rope_theta=10_000, mrope_section=(2, 1, 1),
    )  # fmt: skip


def tiny_autoencoder(latent_channels: int = 4) -> AutoencoderKLFlux2:
    vae = AutoencoderKLFlux2(
        latent_channels=latent_channels,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    vae.bn.running_mean.uniform_(-0.5, 0.5)
    vae.bn.running_var.uniform_(0.5, 2)
    return vae


def save_tiny_ideogram(folder: Path) -> Path:
    """A pipeline with random weights: 8-fold autoencoder, 16-pixel tokens, no traits."""
    torch.manual_seed(0)
    Ideogram4Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=tiny_autoencoder(),
        text_encoder=tiny_text_encoder(),
        tokenizer=byte_tokenizer(),
        transformer=tiny_transformer(),
        unconditional_transformer=tiny_transformer(),
    ).save_pretrained(folder)
    return folder


def random_layers(family: Ideogram4Family, *, rank: int = 2, seed: int = 0, size: float = 0.3) -> Lora:
    """A LoRA on every target that changes pictures visibly."""
    generator, network = torch.Generator().manual_seed(seed), family.load_transformer()
    made = {}
    for name in family.adapter_targets:
        layer = network.get_submodule(name)
        down, up = (size * torch.randn(*shape, generator=generator)
                    for shape in ((rank, layer.in_features), (layer.out_features, rank)))  # fmt: skip
        made[name] = Pair(down, up, float(rank))
    return Lora(made)


def save_lora(path: Path, lora: Lora, form: str = "diffusers") -> Path:
    return write_lora(lora, IDEOGRAM_KEYS, path, form=form, dtype=torch.float32, header={})
