"""FLUX.1 [dev], and the miniature that is FLUX in every way but size: one class, told apart by traits.

Every convention here is the pipeline's own, because a LoRA has to work there: 2x2 latent pixels make one token,
channel slowest; sigma 1 is noise and the network predicts noise - x0 (Liu et al. 2022, Esser et al. 2024); text is
padded to the whole window, since the base was trained so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxImg2ImgPipeline, FluxPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import calculate_shift
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from tintype.dataset.subject import Subject, find_face, is_drawing
from tintype.lora.adapter import Adapter
from tintype.models.family import Family, Features, Forward, Latents
from tintype.models.flux import FAMILY
from tintype.models.flux.forward import FluxForward
from tintype.models.layouts import Tensors, configuration_of, read_autoencoder, read_network, read_text_encoder
from tintype.models.placement import TRANSFORMER
from tintype.models.sigmas import shifted
from tintype.models.weights import BaseWeights

# What other trainers train too: attention and MLPs; modulation and embedders stay.
_DOUBLE = (
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0",
    "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out",
    "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
)  # fmt: skip
_SINGLE = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "proj_out")
_TEXT_ENCODERS = {"text_encoder": CLIPTextModel, "text_encoder_2": T5EncoderModel}
_TOKENIZERS = {"tokenizer": CLIPTokenizer, "tokenizer_2": T5TokenizerFast}
_READING = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")
_LONGEST_REMARK = 200  # characters of a cut-off prompt that are worth repeating
# Counted from the forward pass and held to measurement by tests/training/test_memory_plan.py; diffusers' keeps more.
_KEPT_DOUBLE, _KEPT_SINGLE, _PLAINLY = 15.0, 13.2, 1.38


def adapter_targets(transformer: FluxTransformer2DModel) -> tuple[str, ...]:
    """Names of the linear layers that a LoRA of FLUX trains, in the order of the forward pass."""
    double = [f"transformer_blocks.{n}.{part}" for n in range(len(transformer.transformer_blocks)) for part in _DOUBLE]
    blocks = range(len(transformer.single_transformer_blocks))
    single = [f"single_transformer_blocks.{n}.{part}" for n in blocks for part in _SINGLE]
    return (*double, *single)


def configuration(tensors: Tensors) -> dict[str, Any]:
    """Tells how a network is built from its tensors' sizes; rotary positions are divided as in the published ones."""
    head = tensors["transformer_blocks.0.attn.norm_q.weight"].shape[0]
    image, text = tensors["x_embedder.weight"].shape, tensors["context_embedder.weight"].shape
    return {
        "in_channels": image[1],
        "num_layers": _count(tensors, "transformer_blocks."),
        "num_single_layers": _count(tensors, "single_transformer_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": image[0] // head,
        "joint_attention_dim": text[1],
        "pooled_projection_dim": tensors["time_text_embed.text_embedder.linear_1.weight"].shape[1],
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in tensors,
        "axes_dims_rope": (head // 8, head * 7 // 16, head * 7 // 16),
    }


def _count(tensors: Tensors, blocks: str) -> int:
    return len({name.split(".")[1] for name in tensors if name.startswith(blocks)})


class FluxFamily(Family):
    """A FLUX base in this process."""

    spec = FAMILY
    pipeline_class = FluxPipeline
    streams = 17.5  # with a LoRA or without

    def __init__(self, weights: BaseWeights, device: torch.device, dtype: torch.dtype | None = None) -> None:
        super().__init__(weights, device, dtype)
        self.guidance_scale = float(self.traits.get("guidance_scale", 3.5))
        self.steps = int(self.traits.get("steps", 28))  # in which a picture is generated
        self._scheduler: Any = None

    def image_pipeline(self) -> Any:
        """Makes diffusers' pipeline that begins with an image, around the resident parts but a scheduler of its own."""
        parts = self.pipeline().components
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(parts["scheduler"].config)
        return self._pipeline_of(FluxImg2ImgPipeline, **{**parts, "scheduler": scheduler})

    def _read_encoders(self) -> Any:
        folder = self.weights.folder
        given = {part: self._read_part(part) for part in self.weights.parts if part != "transformer"}
        if given:
            given["scheduler"] = self._load_scheduler()
        return FluxPipeline.from_pretrained(folder, transformer=None, dtype=self.dtype, local_files_only=True, **given)

    def _read_part(self, name: str) -> Any:
        """A part that lies apart from the pipeline's folder, which says how it is built."""
        part, built = self.weights.part(name), self.weights.folder / name
        if name == "vae":
            return read_autoencoder(part, self.weights.folder, FAMILY, self.dtype)
        if name in _TEXT_ENCODERS:
            return read_text_encoder(_TEXT_ENCODERS[name], part, built, FAMILY, self.dtype)
        return _TOKENIZERS[name].from_pretrained(part.path, local_files_only=True) if name in _TOKENIZERS else None

    def _read_transformer(self) -> Any:
        part = self.weights.part("transformer")
        return read_network(
            FluxTransformer2DModel,
            FAMILY,
            part,
            self.device,
            self.dtype,
            configuration,
            precision=self.weights.precision,
            quantised_dir=self.weights.quantised_dir,
        )

    def _own_forward(self, transformer: Any, adapter: Adapter, recomputed: int, rounded: bool) -> Any:
        return FluxForward(transformer, adapter, recomputed=recomputed, rounded=rounded)

    @staticmethod
    def blocks_of(transformer: Any) -> list[Any]:
        return [*transformer.transformer_blocks, *transformer.single_transformer_blocks]

    def outline(self) -> Any:
        """Returns the transformer if it is here, else one without weights: its layers' names and shapes."""
        if self._transformer is not None:
            return self._transformer
        with torch.device("meta"):
            return FluxTransformer2DModel.from_config(
                configuration_of(self.weights.part("transformer"), FAMILY, configuration)
            )

    def _packed(self, latents: torch.Tensor) -> Latents:
        config = self.load_encoders().vae.config
        latents = (latents - config.shift_factor) * config.scaling_factor
        batch, channels, rows, columns = latents.shape
        packed = FluxPipeline._pack_latents(latents, batch, channels, rows, columns)
        return Latents(packed, rows // 2, columns // 2)

    def _unpacked(self, latents: Latents) -> torch.Tensor:
        pipeline = self.load_encoders()
        config, factor = pipeline.vae.config, pipeline.vae_scale_factor
        height, width = latents.rows * 2 * factor, latents.columns * 2 * factor
        spread = FluxPipeline._unpack_latents(latents.tokens, height, width, factor)
        unpacked: torch.Tensor = spread / config.scaling_factor + config.shift_factor
        return unpacked

    def _shown(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    @torch.no_grad()
    def encode_captions(self, texts: Sequence[str]) -> Features:
        tokens, pooled, _ = self.load_text_encoders().encode_prompt(
            prompt=list(texts), prompt_2=None, device=self.device, max_sequence_length=self.max_sequence_length
        )
        return Features(tokens, pooled)

    def cut_off(self, text: str) -> str:
        tokenizer = self.load_encoders().tokenizer_2
        tokens = tokenizer(text, truncation=False, verbose=False).input_ids
        left: str = tokenizer.decode(tokens[self.max_sequence_length - 1 : -1], skip_special_tokens=True)
        return left.strip()[:_LONGEST_REMARK]

    def count_tokens(self, text: str) -> int:
        tokens = self.load_encoders().tokenizer_2(text, truncation=False, verbose=False).input_ids
        return min(len(tokens), self.max_sequence_length)

    def predict_velocity(
        self, transformer: Any, noisy: Latents, sigma: torch.Tensor, features: Features, guidance: float
    ) -> torch.Tensor:
        self.placement.bring(TRANSFORMER)
        tokens = noisy.tokens.to(self.dtype)
        text, pooled = (part.to(self.device, self.dtype) for part in (features.tokens, features.pooled))
        velocity: torch.Tensor
        if isinstance(transformer, FluxForward):
            latents = Latents(tokens, noisy.rows, noisy.columns)
            velocity = transformer(latents, sigma.to(self.device), Features(text, pooled), guidance)
            return velocity
        batch = tokens.shape[0]
        ids = FluxPipeline._prepare_latent_image_ids(batch, noisy.rows, noisy.columns, self.device, self.dtype)
        embeds = transformer.config.guidance_embeds
        velocity = transformer(
            hidden_states=tokens,
            timestep=sigma.to(self.device, self.dtype),
            guidance=torch.full((batch,), guidance, device=self.device) if embeds else None,
            pooled_projections=pooled,
            encoder_hidden_states=text,
            txt_ids=torch.zeros(text.shape[1], 3, device=self.device, dtype=self.dtype),
            img_ids=ids,
            return_dict=False,
        )[0]
        return velocity

    def layer_tokens(self, name: str, image: int, text: int) -> tuple[int, int]:
        block, _, layer = name.partition("_blocks.")
        number, _, part = layer.partition(".")
        if part not in (_DOUBLE if block == "transformer" else _SINGLE if block == "single_transformer" else ()):
            # The ends, and what modulates a block: one row for each image.
            ends = {"x_embedder": (image, 0), "context_embedder": (text, 0), "proj_out": (image, image)}
            return ends.get(name, (1, 0))
        reads = part in _READING
        if block == "transformer":
            tokens = text if "add" in part or "context" in part else image
            return tokens, 0 if reads and number == "0" else tokens
        last = int(number) == len(self._resident_transformer().single_transformer_blocks) - 1
        tokens = image if last and not reads else text + image
        return tokens, tokens

    def kept_values(self, forward: Forward) -> tuple[float, ...]:
        transformer, factor = self._resident_transformer(), 1.0 if forward is Forward.OWN else _PLAINLY
        doubles, singles = len(transformer.transformer_blocks), len(transformer.single_transformer_blocks)
        return (_KEPT_DOUBLE * factor,) * doubles + (_KEPT_SINGLE * factor,) * singles

    def sample_sigmas(self, count: int, rows: int, columns: int, generator: torch.Generator) -> torch.Tensor:
        sigmas = super().sample_sigmas(count, rows, columns, generator)
        return shifted(sigmas, self._shift(rows * columns)) if self.training_defaults.sigma_shift else sigmas

    def _shift(self, tokens: int) -> float:
        """mu of the scheduler's dynamic shift for an image of so many tokens; 0 shifts nothing."""
        config = self._load_scheduler().config
        if not config.use_dynamic_shifting:
            return float(torch.tensor(config.shift).log())
        return float(
            calculate_shift(
                tokens, config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift
            )
        )

    def _load_scheduler(self) -> Any:
        if self._scheduler is None:
            # An edition's own matters where the layout's scheduler stands in for it.
            own = {} if "scheduler" in self.weights.parts else self.traits.get("scheduler", {})
            self._scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(
                self.weights.part("scheduler").path, local_files_only=True, **own
            )
        return self._scheduler

    @property
    def adapter_targets(self) -> tuple[str, ...]:
        return adapter_targets(self.outline())

    def find_subject(self, image: Image.Image) -> Subject:
        # Portrait World's people fill the image, and no cascade knows cartoons.
        drawn = self.weights.miniature and is_drawing(image)
        return super().find_subject(image) if drawn else find_face(image)
