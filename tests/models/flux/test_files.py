"""FLUX from the files that people have: each form is made here with its real names, and loads into the same network."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from huggingface_hub import constants
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from tintype.errors import WeightsMissing
from tintype.inference.flux import FluxImageRequest, FluxInference
from tintype.jobs.resident_models import ResidentModels
from tintype.lora.adapter import Adapter
from tintype.models import flux
from tintype.models.family import Forward, Latents
from tintype.models.flux.model import FluxFamily, configuration
from tintype.models.layouts import _renamed
from tintype.models.weights import resolve
from tintype.settings import Settings, load_settings

Tensors = dict[str, torch.Tensor]
CPU = torch.device("cpu")
LAYOUT = flux.FAMILY.layout or Path()
DOUBLE = {
    "img_mod.lin": ["norm1.linear"], "txt_mod.lin": ["norm1_context.linear"],
    "img_attn.qkv": ["attn.to_q", "attn.to_k", "attn.to_v"], "img_attn.proj": ["attn.to_out.0"],
    "txt_attn.qkv": ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"], "txt_attn.proj": ["attn.to_add_out"],
    "img_mlp.0": ["ff.net.0.proj"], "img_mlp.2": ["ff.net.2"],
    "txt_mlp.0": ["ff_context.net.0.proj"], "txt_mlp.2": ["ff_context.net.2"],
    "img_attn.norm.query_norm": ["attn.norm_q"], "img_attn.norm.key_norm": ["attn.norm_k"],
    "txt_attn.norm.query_norm": ["attn.norm_added_q"], "txt_attn.norm.key_norm": ["attn.norm_added_k"],
}  # fmt: skip
SINGLE = {
    "modulation.lin": ["norm.linear"], "linear1": ["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"],
    "linear2": ["proj_out"], "norm.query_norm": ["attn.norm_q"], "norm.key_norm": ["attn.norm_k"],
}  # fmt: skip
ENDS = {
    "img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
}  # fmt: skip


def original(tensors: Tensors) -> Tensors:
    """A network's tensors as Black Forest Labs' code names, fuses and orders them."""
    made: Tensors = {}

    def stack(target: str, sources: list[str]) -> None:
        for what in ("weight", "bias"):
            if all(f"{source}.{what}" in tensors for source in sources):
                name = f"{target}.scale" if target.endswith("_norm") else f"{target}.{what}"
                made[name] = torch.cat([tensors[f"{source}.{what}"] for source in sources])

    for kind, block, parts in (
        ("double", "transformer_blocks", DOUBLE),
        ("single", "single_transformer_blocks", SINGLE),
    ):
        for number in {name.split(".")[1] for name in tensors if name.startswith(f"{block}.")}:
            for target, sources in parts.items():
                stack(f"{kind}_blocks.{number}.{target}", [f"{block}.{number}.{source}" for source in sources])
    for target, source in ENDS.items():
        stack(target, [source])
    for what in ("weight", "bias"):
        scale, shift = tensors[f"norm_out.linear.{what}"].chunk(2)
        made[f"final_layer.adaLN_modulation.1.{what}"] = torch.cat([shift, scale])
    return made


def original_autoencoder(tensors: Tensors) -> Tensors:
    """An autoencoder's tensors as the original code names them: up-blocks counted from the picture."""
    made = {}
    for name, tensor in tensors.items():
        side, *parts = name.split(".")
        text = ".".join(parts)
        for ours, theirs in (("conv_norm_out", "norm_out"), ("conv_shortcut", "nin_shortcut"), ("to_out.0", "proj_out"),
                             ("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"),
                             ("mid_block.attentions.0", "mid.attn_1"), ("mid_block.resnets.0", "mid.block_1"),
                             ("mid_block.resnets.1", "mid.block_2"), ("resnets", "block"),
                             ("downsamplers.0", "downsample"), ("upsamplers.0", "upsample"),
                             ("down_blocks", "down")):  # fmt: skip
            text = text.replace(ours, theirs)
        if text.startswith("up_blocks."):
            _, number, rest = text.split(".", 2)
            text = f"up.{3 - int(number)}.{rest}"
        is_matrix = ".attn_1." in text and tensor.ndim == 2
        made[f"{side}.{text}"] = tensor[:, :, None, None] if is_matrix else tensor
    return made


def in_fp8(tensors: Tensors, scale_name: str = "") -> Tensors:
    """Matrices in e4m3; with a name for scales, one for each."""
    made: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2:
            made[name] = tensor
            continue
        scale = tensor.abs().max() / 448 if scale_name else torch.tensor(1.0)
        made[name] = (tensor / scale).to(torch.float8_e4m3fn)
        if scale_name:
            made[name.removesuffix("weight") + scale_name] = scale
    return made


def behind(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: tensor.contiguous() for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def pipeline() -> FluxPipeline:
    """A narrow FLUX whose every part has the real classes and names."""
    torch.manual_seed(0)
    small = ResidentModels(load_settings(flux_base="miniature"), "cpu").family(FluxFamily).fresh_pipeline()
    real = AutoencoderKL.load_config(LAYOUT / "vae")
    vae = AutoencoderKL.from_config({**real, "block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4})
    transformer = FluxTransformer2DModel(
        in_channels=64, num_layers=2, num_single_layers=3, attention_head_dim=32, num_attention_heads=2,
        joint_attention_dim=small.text_encoder_2.config.d_model,
        pooled_projection_dim=small.text_encoder.config.hidden_size, guidance_embeds=True, axes_dims_rope=(4, 14, 14),
    )  # fmt: skip
    made: FluxPipeline = FluxPipeline(**{**small.components, "vae": vae.eval(), "transformer": transformer.eval()})
    return made


@pytest.fixture
def models(pipeline: FluxPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ComfyUI's folder of models with all but the transformer; the tokenizers lie in the hub's cache."""
    layout = tmp_path / "layout"
    shutil.copytree(LAYOUT, layout)
    for part in ("vae", "text_encoder", "text_encoder_2"):
        getattr(pipeline, part).config.save_pretrained(layout / part) if part != "vae" else pipeline.vae.save_config(
            layout / part
        )
    monkeypatch.setattr(flux, "FAMILY", dataclasses.replace(flux.FAMILY, layout=layout))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for part, repository in flux.FAMILY.tokenizers.items():
        place = tmp_path / "hub" / f"models--{repository.replace('/', '--')}" / "snapshots" / "1"
        getattr(pipeline, part).save_pretrained(place)
    folder = tmp_path / "models"
    for name in ("unet", "clip", "vae", "checkpoints"):
        (folder / name).mkdir(parents=True)
    encoder, wide = parts_of(pipeline, "text_encoder"), parts_of(pipeline, "text_encoder_2")
    save_file(encoder, folder / "clip" / "clip_l.safetensors")
    save_file(in_fp8(wide), folder / "clip" / "t5xxl_fp8_e4m3fn.safetensors")
    save_file(parts_of(pipeline, "vae"), folder / "vae" / "ae.safetensors")
    return folder


def parts_of(pipeline: FluxPipeline, part: str) -> Tensors:
    """A part as its file has it."""
    tensors = {name: tensor.detach().clone() for name, tensor in getattr(pipeline, part).state_dict().items()}
    if part == "vae":
        return behind("", original_autoencoder(tensors))
    if part == "transformer":
        return behind("", original(tensors))
    if part == "text_encoder":
        return behind("text_model.", tensors) | {"text_projection.weight": torch.zeros(2, 2)}
    return {name: tensor for name, tensor in tensors.items() if name != "encoder.embed_tokens.weight"}


def all_in_one(pipeline: FluxPipeline) -> Tensors:
    """What ComfyUI saves as a checkpoint."""
    clip, wide = "text_encoders.clip_l.", "text_encoders.t5xxl."
    return {
        **behind("model.diffusion_model.", in_fp8(parts_of(pipeline, "transformer"))),
        **behind(f"{clip}transformer.", parts_of(pipeline, "text_encoder")),
        f"{clip}logit_scale": torch.tensor(4.6),
        **behind(f"{wide}transformer.", in_fp8(parts_of(pipeline, "text_encoder_2"))),
        f"{wide}logit_scale": torch.tensor(4.6),
        **behind("vae.", parts_of(pipeline, "vae")),
    }


def named(path: Path) -> Settings:
    return load_settings(flux_base=str(path), device="cpu")


def loaded(path: Path) -> FluxFamily:
    family = ResidentModels(named(path), "cpu").family(FluxFamily)
    assert not family.weights.miniature
    return family


def check_same(found: torch.nn.Module, wanted: torch.nn.Module, tolerance: float) -> None:
    expected = wanted.state_dict()
    assert found.state_dict().keys() == expected.keys()
    for name, tensor in found.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        (original, 0.0),
        (lambda tensors: behind("model.diffusion_model.", original(tensors)), 0.0),
        (lambda tensors: tensors, 0.0),
        (lambda tensors: in_fp8(original(tensors)), 0.07),
        (lambda tensors: in_fp8(original(tensors), "scale_weight") | {"scaled_fp8": torch.zeros(0)}, 0.07),
        (lambda tensors: in_fp8(original(tensors), "weight_scale"), 0.07),
    ],
    ids=["bfl", "prefixed", "diffusers", "fp8", "scaled", "scaled-newer"],
)
def test_a_file_of_the_transformer_alone_is_the_same_network(
    pipeline: FluxPipeline, models: Path, change: Callable[[Tensors], Tensors], tolerance: float
) -> None:
    path = models / "unet" / "flux1-dev.safetensors"
    save_file(behind("", change(pipeline.transformer.state_dict())), path)
    family = loaded(path)
    assert family.adapter_targets[0] == "transformer_blocks.0.attn.to_q", "told without loading"
    check_same(family.load_transformer(), pipeline.transformer, tolerance)
    assert family.weights.name == "flux1-dev.safetensors"


@pytest.mark.parametrize("absent", ["img_in.weight", "single_blocks.1.linear2.weight"])
def test_a_file_that_lacks_a_tensor_says_which(pipeline: FluxPipeline, models: Path, absent: str) -> None:
    path = models / "unet" / "flux1-dev.safetensors"
    tensors = parts_of(pipeline, "transformer")
    del tensors[absent]
    save_file(tensors, path)
    with pytest.raises(WeightsMissing, match=r"lack: (x_embedder|single_transformer_blocks\.1\.proj_out)\.weight"):
        loaded(path).load_transformer()


def test_parts_are_found_where_comfyui_keeps_them(pipeline: FluxPipeline, models: Path) -> None:
    path = models / "unet" / "flux1-dev.safetensors"
    save_file(parts_of(pipeline, "transformer"), path)
    parts = loaded(path).load_encoders()
    check_same(parts.vae, pipeline.vae, 0.0)
    check_same(parts.text_encoder, pipeline.text_encoder, 0.0)
    check_same(parts.text_encoder_2, pipeline.text_encoder_2, 0.07)
    assert parts.tokenizer_2("a cat").input_ids == pipeline.tokenizer_2("a cat").input_ids
    assert parts.scheduler.config.use_dynamic_shifting


def test_a_checkpoint_with_everything_in_it_generates(pipeline: FluxPipeline, models: Path) -> None:
    path = models / "checkpoints" / "flux1-dev-fp8.safetensors"
    save_file(all_in_one(pipeline), path)
    shutil.rmtree(models / "clip")
    shutil.rmtree(models / "vae")
    family = loaded(path)
    assert sum(family.weights.part_bytes().values()) == path.stat().st_size
    check_same(family.load_transformer(), pipeline.transformer, 0.07)
    check_same(family.load_encoders().text_encoder, pipeline.text_encoder, 0.0)
    (image,) = FluxInference(family, keep=1).generate(FluxImageRequest("a cat", 64, 64, steps=2), [1])
    assert image.size == (64, 64)


def write_gguf(pipeline: FluxPipeline, path: Path) -> None:
    writer = gguf.GGUFWriter(path, "flux")
    for name, tensor in parts_of(pipeline, "transformer").items():
        if tensor.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(tensor.numpy(), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_generates_from_its_packed_matrices(pipeline: FluxPipeline, models: Path) -> None:
    path = models / "unet" / "flux1-dev-Q8_0.gguf"
    write_gguf(pipeline, path)
    family = loaded(path)
    network = family.load_transformer()
    assert network.transformer_blocks[0].attn.to_q.weight.dtype == torch.uint8
    assert len(family.adapter_targets) == 2 * 12 + 3 * 5
    request = FluxImageRequest("a cat", 64, 64, steps=2)
    (image,) = FluxInference(family, keep=1).generate(request, [1])
    save_file(parts_of(pipeline, "transformer"), models / "unet" / "flux1-dev.safetensors")
    whole = loaded(models / "unet" / "flux1-dev.safetensors")
    (exact,) = FluxInference(whole, keep=1).generate(request, [1])
    difference = torch.tensor(list(image.tobytes())).float() - torch.tensor(list(exact.tobytes())).float()
    assert difference.abs().mean() < 3, "as good as eight bits"


def test_a_repository_of_one_file_is_used_by_its_name(pipeline: FluxPipeline, models: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--city96--FLUX.1-dev-gguf" / "snapshots" / "1"
    with pytest.raises(WeightsMissing, match="weights pull flux --form gguf"):
        resolve(load_settings(flux_base="city96/FLUX.1-dev-gguf"))
    write_gguf(pipeline, tmp_path / "blob")
    snapshot.mkdir(parents=True)
    (snapshot / "flux1-dev-Q4_K_S.gguf").symlink_to(tmp_path / "blob")
    base = tmp_path / "hub" / "models--black-forest-labs--FLUX.1-dev" / "snapshots" / "1"
    for part in ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"):
        getattr(pipeline, part).save_pretrained(base / part)
    for named in ("city96/FLUX.1-dev-gguf", str(snapshot / "flux1-dev-Q4_K_S.gguf")):
        chosen = resolve(load_settings(flux_base=named))
        assert chosen.name == "flux1-dev-Q4_K_S.gguf"
        assert chosen.parts["transformer"].path.suffix == ".gguf"
        assert chosen.parts["tokenizer_2"].path == base / "tokenizer_2"


def test_what_lies_nowhere_is_named_with_a_command(pipeline: FluxPipeline, models: Path, tmp_path: Path) -> None:
    path = models / "unet" / "flux1-dev.safetensors"
    save_file(parts_of(pipeline, "transformer"), path)
    (models / "clip" / "t5xxl_fp8_e4m3fn.safetensors").unlink()
    shutil.rmtree(tmp_path / "hub")
    with pytest.raises(WeightsMissing, match="weights pull flux --form parts") as problem:
        resolve(named(path))
    for part in ("text_encoder_2 (t5xxl_fp16", "tokenizer (openai/clip-vit-large-patch14)", "tokenizer_2 ("):
        assert part in problem.value.message
    assert "vae" not in problem.value.message
    with pytest.raises(WeightsMissing, match=r"Name the file itself.*flux1-dev\.safetensors"):
        resolve(named(path.parent))


def test_a_cache_of_folders_without_an_index_is_used(pipeline: FluxPipeline, models: Path, tmp_path: Path) -> None:
    home = tmp_path / "hub" / "models--black-forest-labs--FLUX.1-dev" / "snapshots"
    for number, parts in enumerate((("transformer", "vae"), ("text_encoder", "text_encoder_2", "tokenizer"))):
        for part in parts:
            getattr(pipeline, part).save_pretrained(home / str(number) / part)
    family = ResidentModels(load_settings(flux_base="black-forest-labs/FLUX.1-dev", device="cpu"), "cpu").family(
        FluxFamily
    )
    check_same(family.load_transformer(), pipeline.transformer, 0.0)
    check_same(family.load_encoders().vae, pipeline.vae, 0.0)
    shutil.rmtree(home / "1" / "text_encoder_2")
    shutil.rmtree(models)
    with pytest.raises(WeightsMissing, match=r"missing are text_encoder_2\. `tintype weights pull flux`"):
        resolve(load_settings(flux_base="black-forest-labs/FLUX.1-dev"))


@pytest.mark.parametrize(
    ("name", "extra", "said"),
    [
        ("a.safetensors", {"double_blocks.0.img_attn.qkv.weight": (18432, 6144)}, "FLUX.2"),
        ("a.safetensors", {"img_in.weight": (3072, 384)}, "FLUX.1 Fill"),
        ("flux1-dev-kontext_fp8_scaled.safetensors", {}, "FLUX.1 Kontext"),
        ("a.safetensors", {"distilled_guidance_layer.in_proj.weight": (5120, 64)}, "Chroma"),
        ("a.safetensors", {"double_blocks.0.img_mlp.0.qweight": (64, 64)}, "SVDQuant"),
        ("a.safetensors", {"double_blocks.0.img_mlp.0.weight.absmax": (64,)}, "nf4 in one file"),
        ("a.safetensors", {"double_blocks.0.img_mlp.0.weight_scale_2": (1,)}, "nvfp4"),
        ("a.safetensors", {"lora_unet_double_blocks_0_img_mlp_0.lora_down.weight": (16, 3072)}, "is a LoRA"),
    ],
)
def test_a_file_of_another_model_or_packing_is_named(
    tmp_path: Path, name: str, extra: dict[str, tuple[int, ...]], said: str
) -> None:
    path = tmp_path / name
    header_only(path, {"double_blocks.0.img_attn.qkv.weight": (9216, 3072)} | extra)
    with pytest.raises(WeightsMissing, match=said):
        resolve(named(path))


def test_sdxl_and_a_picture_are_no_flux(tmp_path: Path) -> None:
    path = tmp_path / "sd_xl_base_1.0.safetensors"
    key = "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    header_only(path, {key: (640, 2048)})
    with pytest.raises(WeightsMissing, match="Stable Diffusion XL"):
        resolve(named(path))
    header_only(path, {"conv.weight": (3, 3)})
    with pytest.raises(WeightsMissing, match="holds no layer of FLUX"):
        resolve(named(path))
    for content in (b"", b"\x89PNG....................", b"\xff" * 100, b"\x02\0\0\0\0\0\0\0[]"):
        path.write_bytes(content)
        with pytest.raises(WeightsMissing, match="no sound safetensors file"):
            resolve(named(path))
    with pytest.raises(WeightsMissing, match="no safetensors or GGUF file"):
        resolve(named(Path(__file__)))


def header_only(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A file that claims these tensors; its bytes are a hole."""
    told, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(torch.Size(shape).numel())
        told[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(told).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def test_an_interrupted_copy_is_said(tmp_path: Path) -> None:
    header_only(tmp_path / "a.safetensors", {"double_blocks.0.img_attn.qkv.weight": (9216, 3072)})
    with (tmp_path / "a.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(WeightsMissing, match="ends early"):
        resolve(named(tmp_path / "a.safetensors"))


REAL = {
    "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24,
    "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True, "axes_dims_rope": (16, 56, 56),
}  # fmt: skip


def test_every_name_of_the_real_transformer_is_matched_and_its_configuration_told() -> None:
    shapes = real_transformer()
    assert len(shapes) == 780
    with torch.device("meta"):
        wanted = FluxTransformer2DModel(**REAL).state_dict()
    found = dict(_renamed(shapes.items(), flux.FAMILY.lora_keys))
    assert {name: tensor.shape for name, tensor in found.items()} == {n: tensor.shape for n, tensor in wanted.items()}
    assert configuration(found) == REAL


def real_transformer() -> Tensors:
    """FLUX.1 [dev]'s file: the names and sizes of Black Forest Labs' code."""
    width, head = 3072, 128
    layers = {"img_in": (width, 64), "txt_in": (width, 4096), "final_layer.linear": (64, width)}
    layers["final_layer.adaLN_modulation.1"] = (2 * width, width)
    for name, size in (("time_in", 256), ("guidance_in", 256), ("vector_in", 768)):
        layers |= {f"{name}.in_layer": (width, size), f"{name}.out_layer": (width, width)}
    norms = []
    for number in range(19):
        for stream in ("img", "txt"):
            stem = f"double_blocks.{number}.{stream}"
            layers |= {f"{stem}_mod.lin": (6 * width, width), f"{stem}_attn.qkv": (3 * width, width)}
            layers |= {f"{stem}_attn.proj": (width, width), f"{stem}_mlp.0": (4 * width, width)}
            layers |= {f"{stem}_mlp.2": (width, 4 * width)}
            norms += [f"{stem}_attn.norm.query_norm.scale", f"{stem}_attn.norm.key_norm.scale"]
    for number in range(38):
        stem = f"single_blocks.{number}"
        layers |= {f"{stem}.modulation.lin": (3 * width, width), f"{stem}.linear1": (7 * width, width)}
        layers |= {f"{stem}.linear2": (width, 5 * width)}
        norms += [f"{stem}.norm.query_norm.scale", f"{stem}.norm.key_norm.scale"]
    sizes: dict[str, tuple[int, ...]] = {f"{name}.weight": size for name, size in layers.items()}
    sizes |= {f"{name}.bias": size[:1] for name, size in layers.items()} | dict.fromkeys(norms, (head,))
    return {name: torch.empty(size, device="meta") for name, size in sizes.items()}


def test_every_name_of_the_real_autoencoder_is_matched() -> None:
    config = AutoencoderKL.load_config(LAYOUT / "vae")
    with torch.device("meta"):
        wanted = {n: tensor.shape for n, tensor in AutoencoderKL.from_config(config).state_dict().items()}
    made = real_autoencoder()
    assert len(made) == 244
    found = convert_ldm_vae_checkpoint({name: torch.empty(size, device="meta") for name, size in made.items()}, config)
    assert {name: tensor.shape for name, tensor in found.items()} == wanted


def real_autoencoder() -> dict[str, tuple[int, ...]]:
    """FLUX's ae.safetensors: 128 channels times 1, 2, 4, 4, two blocks a level going down, three going up."""
    sizes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *size: int) -> None:
        sizes[f"{name}.weight"], sizes[f"{name}.bias"] = size, size[:1]

    def block(name: str, into: int, out: int) -> None:
        layer(f"{name}.norm1", into)
        layer(f"{name}.conv1", out, into, 3, 3)
        layer(f"{name}.norm2", out)
        layer(f"{name}.conv2", out, out, 3, 3)
        if into != out:
            layer(f"{name}.nin_shortcut", out, into, 1, 1)

    widths = (128, 256, 512, 512)
    for side, levels in (("encoder", (0, 1, 2, 3)), ("decoder", (3, 2, 1, 0))):
        way, count, wide = ("down", 2, 128) if side == "encoder" else ("up", 3, 512)
        for level in levels:
            for number in range(count):
                block(f"{side}.{way}.{level}.block.{number}", wide, widths[level])
                wide = widths[level]
            if level != levels[-1]:
                layer(f"{side}.{way}.{level}.{way}sample.conv", wide, wide, 3, 3)
        for number in (1, 2):
            block(f"{side}.mid.block_{number}", 512, 512)
        layer(f"{side}.mid.attn_1.norm", 512)
        for part in ("q", "k", "v", "proj_out"):
            layer(f"{side}.mid.attn_1.{part}", 512, 512, 1, 1)
        layer(f"{side}.norm_out", wide)
    layer("encoder.conv_in", 128, 3, 3, 3)
    layer("encoder.conv_out", 32, 512, 3, 3)
    layer("decoder.conv_in", 512, 16, 3, 3)
    layer("decoder.conv_out", 3, 128, 3, 3)
    return sizes


def test_every_name_of_the_real_text_encoders_is_matched() -> None:
    clip: dict[str, tuple[int, ...]] = {
        "embeddings.token_embedding.weight": (49408, 768),
        "embeddings.position_embedding.weight": (77, 768),
    }
    layers: dict[str, tuple[int, ...]] = {f"self_attn.{part}_proj": (768, 768) for part in ("q", "k", "v", "out")}
    layers |= {"mlp.fc1": (3072, 768), "mlp.fc2": (768, 3072), "layer_norm1": (768,), "layer_norm2": (768,)}
    names = {f"encoder.layers.{number}.{part}": size for number in range(12) for part, size in layers.items()}
    for name, size in {**names, "final_layer_norm": (768,)}.items():
        clip |= {f"{name}.weight": size, f"{name}.bias": size[:1]}
    wide: dict[str, tuple[int, ...]] = {"shared.weight": (32128, 4096), "encoder.final_layer_norm.weight": (4096,)}
    wide["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (32, 64)
    for number in range(24):
        stem = f"encoder.block.{number}.layer"
        wide |= {f"{stem}.0.SelfAttention.{part}.weight": (4096, 4096) for part in "qkvo"}
        wide |= {f"{stem}.1.DenseReluDense.wi_{part}.weight": (10240, 4096) for part in (0, 1)}
        wide |= {f"{stem}.1.DenseReluDense.wo.weight": (4096, 10240)}
        wide |= {f"{stem}.{part}.layer_norm.weight": (4096,) for part in (0, 1)}
    kinds = ((CLIPTextModel, CLIPTextConfig, "text_encoder", clip), (T5EncoderModel, T5Config, "text_encoder_2", wide))
    for kind, settings, part, sizes in kinds:
        with torch.device("meta"):
            network = kind(settings.from_pretrained(LAYOUT / part)).state_dict()
        shapes = {name: tuple(tensor.shape) for name, tensor in network.items()}
        shapes.pop("encoder.embed_tokens.weight", None)  # the shared one
        assert shapes == sizes
        marker = flux.FAMILY.files[part].marker.removeprefix("text_model.")
        assert marker in sizes


@pytest.mark.parametrize("name", ["flux1-dev.safetensors", "flux1-dev-Q8_0.gguf"])
def test_a_lora_trains_beside_a_file(pipeline: FluxPipeline, models: Path, name: str) -> None:
    path = models / "unet" / name
    write_gguf(pipeline, path) if path.suffix == ".gguf" else save_file(parts_of(pipeline, "transformer"), path)
    family = loaded(path)
    network = family.load_transformer()
    adapter = Adapter.for_transformer(network, family.adapter_targets, rank=2, seed=0, device=family.device)
    assert family.forward_for(Forward.OWN) is (Forward.DIFFUSERS if path.suffix == ".gguf" else Forward.OWN)
    with family.adapted(adapter) as adapted:
        noisy = Latents(torch.randn(1, 4, 64), 2, 2)
        features = family.encode_captions(["a cat"])
        family.predict_velocity(adapted, noisy, torch.tensor([0.5]), features, 1.0).square().mean().backward()
    assert adapter.weights.grad is not None
    assert adapter.weights.grad.abs().sum() > 0
