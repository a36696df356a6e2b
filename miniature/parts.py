"""The parts of the miniature FLUX: the classes of FLUX.1-dev in tiny configurations, and the folder they are saved in.

`FluxPipeline.from_pretrained(folder)` loads the result in a process that never heard of tintype.
"""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from miniature.vocabulary import WINDOW, learn_clip_tokenizer, learn_t5_tokenizer

#: One nominal pixel is a sixteenth of a drawn one: who asks for 1024 px gets 64 px.
NOMINAL_SCALE = 16
#: Four pixels a latent (three levels), two latents a token.
TOKEN_PIXELS = 8
_TEXT_WIDTH, _POOLED_WIDTH = 128, 64
_Module = TypeVar("_Module", bound=torch.nn.Module)


@dataclass
class Parts:
    """What is trained together: the transformer and both text encoders, with the tokenizers they read."""

    transformer: FluxTransformer2DModel
    clip: CLIPTextModel
    t5: T5EncoderModel
    clip_tokenizer: CLIPTokenizer
    t5_tokenizer: T5Tokenizer

    def trained(self) -> torch.nn.ModuleDict:
        return torch.nn.ModuleDict({"transformer": self.transformer, "clip": self.clip, "t5": self.t5})


def new_parts(device: torch.device) -> Parts:
    """Untrained parts. Weights start from a fixed seed; the tokenizers are learned here, in about a second."""
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


def encode_captions(
    parts: Parts, captions: list[str], window: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the pipeline makes of prompts: (batch, window, width) from T5 with its padding, and CLIP's pooled vector."""
    words = parts.t5_tokenizer(captions, padding="max_length", max_length=window, truncation=True, return_tensors="pt")
    # CLIP looks only backwards from the end token, so cutting the padding behind it changes nothing.
    said = parts.clip_tokenizer(captions, padding="longest", max_length=77, truncation=True, return_tensors="pt")
    states = parts.t5(words.input_ids.to(device))[0]
    pooled = parts.clip(said.input_ids.to(device)).pooler_output
    return states, pooled


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """FLUX.1-dev's own configuration."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


def pipeline(parts: Parts, vae: AutoencoderKL) -> FluxPipeline:
    return FluxPipeline(
        scheduler=scheduler(),
        vae=vae,
        text_encoder=parts.clip,
        tokenizer=parts.clip_tokenizer,
        text_encoder_2=parts.t5,
        tokenizer_2=parts.t5_tokenizer,
        transformer=parts.transformer,
    )


def _halved(module: _Module) -> _Module:
    return torch.nn.Module.half(copy.deepcopy(module))


def release(parts: Parts, vae: AutoencoderKL, folder: Path, traits: dict[str, Any]) -> None:
    """Saves the whole pipeline in half precision, beside the folder first and then in its place."""
    fresh = folder.with_name(f".{folder.name}.fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    half = copy.copy(parts)
    half.transformer, half.clip, half.t5 = (_halved(module) for module in (parts.transformer, parts.clip, parts.t5))
    pipeline(half, _halved(vae)).save_pretrained(fresh)
    for encoder in ("text_encoder", "text_encoder_2"):
        # transformers loads in the precision its config names; the rest of the pipeline loads in float32.
        path = fresh / encoder / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "dtype": "float32"}, indent=2) + "\n")
    known = {"nominal_scale": NOMINAL_SCALE, "token_pixels": TOKEN_PIXELS, "max_sequence_length": WINDOW}
    (fresh / "miniature.json").write_text(json.dumps({**known, **traits}, indent=2) + "\n")
    stale = folder.with_name(f".{folder.name}.stale")
    shutil.rmtree(stale, ignore_errors=True)
    if folder.exists():
        folder.rename(stale)
    fresh.rename(folder)
    shutil.rmtree(stale, ignore_errors=True)
