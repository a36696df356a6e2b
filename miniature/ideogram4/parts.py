"""The parts of the miniature Ideogram 4: the classes of the real model in tiny configurations, and their folder.

`Ideogram4Pipeline.from_pretrained(folder)` loads the result in a process that never heard of tintype. The text encoder
keeps its 36 layers, because the transformer listens to thirteen of them, the last among them. The autoencoder is the
miniature FLUX's with other clothes: the same encoder and decoder under FLUX.2's class, which packs latents differently
and keeps their statistics for each channel.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Ideogram4Pipeline,
    Ideogram4Transformer2DModel,
)
from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import Qwen2Tokenizer, Qwen3VLConfig, Qwen3VLModel

from miniature.ideogram4.captions import ideogram_caption
from miniature.world.person import Person
from tintype.models.ideogram4.network import TEXT_LAYERS, tapped_states

TEXT_WIDTH = 32
_LAYERS, _HEADS, _HEAD_WIDTH = 7, 4, 32
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}{{ '\\n' }}"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}<|im_end|>{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{{ '\\n' }}{% endif %}"
)
_OPENING, _CLOSING = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
_CAPTIONS = 20_000


@dataclass
class Parts:
    """Holds what is trained: text encoder first, conditional transformer then, unconditional one last."""

    tokenizer: Qwen2Tokenizer
    text_encoder: Qwen3VLModel
    transformer: Ideogram4Transformer2DModel
    unconditional: Ideogram4Transformer2DModel


def _corpus() -> Iterator[str]:
    rng = random.Random("ideogram vocabulary")
    for _ in range(_CAPTIONS):
        yield f"user\n{ideogram_caption(Person.sample(rng), rng)}assistant\n"


def learn_tokenizer(merges: int = 700) -> Qwen2Tokenizer:
    """Learns Qwen's byte-level BPE on captions: every byte, and the words and brackets of the captions whole."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(BPE())
    learner.pre_tokenizer = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + merges, initial_alphabet=alphabet, min_frequency=30, show_progress=False
    )
    learner.train_from_iterator(_corpus(), trainer)
    joined = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    tokens = list(dict.fromkeys([*alphabet, *(first + second for first, second in joined), *_SPECIAL]))
    return Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=joined,
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )


def new_transformer() -> Ideogram4Transformer2DModel:
    return Ideogram4Transformer2DModel(
        in_channels=32,
        num_layers=_LAYERS,
        attention_head_dim=_HEAD_WIDTH,
        num_attention_heads=_HEADS,
        intermediate_size=384,
        adaln_dim=64,
        llm_features_dim=len(TEXT_LAYERS) * TEXT_WIDTH,
        rope_theta=10_000,
        mrope_section=(6, 5, 5),
    )


def new_text_encoder(tokenizer: Qwen2Tokenizer) -> Qwen3VLModel:
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 2 * TEXT_WIDTH,
        "num_hidden_layers": 36,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 2, 2]},
        "pad_token_id": tokenizer.pad_token_id,
        "use_cache": False,
    }
    # Pictures never reach it; the class wants a vision tower all the same.
    vision = {
        "depth": 1, "hidden_size": 8, "intermediate_size": 8, "num_heads": 1, "out_hidden_size": TEXT_WIDTH,
        "patch_size": 4, "num_position_embeddings": 4, "deepstack_visual_indexes": [],
    }  # fmt: skip
    encoder = Qwen3VLModel(Qwen3VLConfig(text_config=text, vision_config=vision))
    with torch.no_grad():  # thirty-six layers deep, each starts as a small correction
        for layer in encoder.language_model.layers:
            layer.self_attn.o_proj.weight.mul_(0.3)
            layer.mlp.down_proj.weight.mul_(0.3)
    return encoder


def new_parts(device: torch.device) -> Parts:
    """Makes untrained parts; weights start from a fixed seed, the tokenizer is learned here."""
    torch.manual_seed(0)
    tokenizer = learn_tokenizer()
    parts = Parts(tokenizer, new_text_encoder(tokenizer), new_transformer(), new_transformer())
    for module in (parts.text_encoder, parts.transformer, parts.unconditional):
        module.to(device)
    return parts


def token_lists(parts: Parts, captions: Sequence[str]) -> list[list[int]]:
    """Tokenizes captions as the pipeline's chat template would; much faster than the template."""
    lists: list[list[int]] = parts.tokenizer(
        [f"{_OPENING}{text}{_CLOSING}" for text in captions], add_special_tokens=False
    ).input_ids
    return lists


def encode_captions(parts: Parts, captions: Sequence[str], window: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns states (batch, window, 13 · width), and which are text, (batch, window). None: the longest caption."""
    device = parts.text_encoder.device
    lists = token_lists(parts, captions)
    length = window or max(len(ids) for ids in lists)
    padded = torch.tensor([ids[:length] + [0] * (length - len(ids)) for ids in lists], device=device)
    counts = torch.tensor([min(length, len(ids)) for ids in lists], device=device)
    present = torch.arange(length, device=device)[None] < counts[:, None]
    return tapped_states(parts.text_encoder, padded), present


def flux2_autoencoder(vae: AutoencoderKL) -> AutoencoderKLFlux2:
    """Copies the miniature FLUX's autoencoder under FLUX.2's class; its statistics are still to be measured."""
    config = vae.config
    twin = AutoencoderKLFlux2(
        latent_channels=config.latent_channels,
        block_out_channels=tuple(config.block_out_channels),
        down_block_types=tuple(config.down_block_types),
        up_block_types=tuple(config.up_block_types),
        layers_per_block=config.layers_per_block,
        norm_num_groups=config.norm_num_groups,
        sample_size=config.sample_size,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=config.mid_block_add_attention,
    )
    twin.load_state_dict({**twin.state_dict(), **vae.state_dict()})
    return twin.to(next(vae.parameters()).device).eval()


def repack(tokens: torch.Tensor, vae: AutoencoderKL) -> torch.Tensor:
    """Turns FLUX's normalised tokens (…, channel · row · column) into raw ones in FLUX.2's order, channel fastest."""
    raw = tokens.float() / vae.config.scaling_factor + vae.config.shift_factor
    packed: torch.Tensor = raw.unflatten(-1, (-1, 2, 2)).movedim(-3, -1).flatten(-3)
    return packed


def set_statistics(vae: AutoencoderKLFlux2, raw: torch.Tensor) -> None:
    """Fills in each packed channel's mean and variance from raw packed latents, (…, channels)."""
    flat = raw.float().flatten(0, -2)
    vae.bn.running_mean.copy_(flat.mean(0))
    vae.bn.running_var.copy_(flat.var(0) - vae.config.batch_norm_eps)


def normalised(raw: torch.Tensor, vae: AutoencoderKLFlux2) -> torch.Tensor:
    deviation = (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()
    scaled: torch.Tensor = (raw - vae.bn.running_mean) / deviation
    return scaled


def pipeline(parts: Parts, vae: AutoencoderKLFlux2) -> Ideogram4Pipeline:
    """Puts the parts together."""
    return Ideogram4Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae,
        text_encoder=parts.text_encoder,
        tokenizer=parts.tokenizer,
        transformer=parts.transformer,
        unconditional_transformer=parts.unconditional,
    )
