"""The parts of the miniature FLUX: the classes of FLUX.1-dev in tiny configurations, and the folder they are saved in.

`FluxPipeline.from_pretrained(folder)` loads the result in a process that never heard of tintype.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from miniature.flux.vocabulary import learn_clip_tokenizer, learn_t5_tokenizer

_TEXT_WIDTH, _POOLED_WIDTH = 128, 64


@dataclass
class Parts:
    """Holds what is trained together: the transformer and both text encoders, with the tokenizers they read."""

    transformer: FluxTransformer2DModel
    clip: CLIPTextModel
    t5: T5EncoderModel
    clip_tokenizer: CLIPTokenizer
    t5_tokenizer: T5Tokenizer

    def trained(self) -> torch.nn.ModuleDict:
        return torch.nn.ModuleDict({"transformer": self.transformer, "clip": self.clip, "t5": self.t5})


def new_parts(device: torch.device) -> Parts:
    """Makes untrained parts. Weights start from a fixed seed; the tokenizers are learned here, in about a second."""
    torch.manual_seed(0)
    t5_tokenizer, clip_tokenizer = learn_t5_tokenizer(), learn_clip_tokenizer()
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=32,
        num_layers=2,
        num_single_layers=5,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=_TEXT_WIDTH,
        pooled_projection_dim=_POOLED_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(8, 12, 12),
    )
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(clip_tokenizer),
            hidden_size=_POOLED_WIDTH,
            intermediate_size=4 * _POOLED_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=clip_tokenizer.model_max_length,
            bos_token_id=clip_tokenizer.bos_token_id,
            eos_token_id=clip_tokenizer.eos_token_id,
            pad_token_id=clip_tokenizer.pad_token_id,
        )
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=len(t5_tokenizer),
            d_model=_TEXT_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=t5_tokenizer.pad_token_id,
            eos_token_id=t5_tokenizer.eos_token_id,
            use_cache=False,
        )
    )
    for module in (transformer, clip, t5):
        module.to(device)
    # The fused kernels are slower than plain arithmetic at this width, and far slower to train through.
    clip.set_attn_implementation("eager")
    t5.set_attn_implementation("eager")
    return Parts(transformer, clip, t5, clip_tokenizer, t5_tokenizer)


def encode_captions(parts: Parts, captions: list[str], window: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Encodes as the pipeline does: (batch, window, width) from T5 with its padding, and CLIP's pooled vector."""
    words = parts.t5_tokenizer(captions, padding="max_length", max_length=window, truncation=True, return_tensors="pt")
    # CLIP looks only backwards from the end token, so cutting the padding behind it changes nothing.
    said = parts.clip_tokenizer(captions, padding="longest", max_length=77, truncation=True, return_tensors="pt")
    states = parts.t5(words.input_ids.to(parts.t5.device))[0]
    pooled = parts.clip(said.input_ids.to(parts.clip.device)).pooler_output
    return states, pooled


def pipeline(parts: Parts, vae: AutoencoderKL) -> FluxPipeline:
    """Puts the parts together under a scheduler with FLUX.1-dev's own configuration."""
    scheduler = FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )
    return FluxPipeline(
        scheduler=scheduler,
        vae=vae,
        text_encoder=parts.clip,
        tokenizer=parts.clip_tokenizer,
        text_encoder_2=parts.t5,
        tokenizer_2=parts.t5_tokenizer,
        transformer=parts.transformer,
    )
