"""Ideogram 4's conventions. Each of these, broken, leaves a training that runs and learns the wrong thing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import Ideogram4Pipeline, Ideogram4Transformer2DModel
from diffusers.pipelines.ideogram4.pipeline_ideogram4 import (
    QWEN3_VL_ACTIVATION_LAYERS,
    _logit_normal_sigmas,
    _resolution_aware_mu,
)

from tintype.errors import InputError
from tintype.models.family import Features, Latents
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS
from tintype.models.ideogram4.model import SIGMA_MAX, SIGMA_MIN, Ideogram4Family, adapter_targets
from tintype.models.ideogram4.network import TEXT_LAYERS, embed_time, pin_rotary, predict, rotary_positions
from tintype.models.weights import BaseWeights

PROMPT = '{"high_level_description":"Grüße"}'


class Watch:
    """Keeps the inputs and the first output of a module's first call."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.kwargs: dict[str, Any] = {}
        self.output = torch.empty(0)
        self.hook = module.register_forward_hook(self._see, with_kwargs=True)

    def _see(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if not self.kwargs:
            self.kwargs = kwargs
            self.output = output[0]


@pytest.fixture(scope="module")
def first_step(ideogram: Ideogram4Family) -> tuple[Watch, Watch]:
    """What the plain pipeline, with its default window of 2,048, gives both networks at its first step, 48x64 px."""
    pipeline = ideogram.fresh_pipeline()
    watches = (Watch(pipeline.transformer), Watch(pipeline.unconditional_transformer))
    pipeline(
        PROMPT, width=48, height=64, num_inference_steps=2, guidance_scale=3.0, guidance_schedule=None,
        generator=torch.Generator().manual_seed(1), output_type="latent",
    )  # fmt: skip
    for watch in watches:
        watch.hook.remove()
    return watches


def test_text_is_what_the_pipeline_encodes_trimmed_and_projected(
    ideogram: Ideogram4Family, first_step: tuple[Watch, Watch]
) -> None:
    features = ideogram.encode_captions([PROMPT])
    count = int(features.pooled)
    padded = first_step[0].kwargs["encoder_hidden_states"][:, 2048 - count : 2048]
    assert first_step[0].kwargs["encoder_hidden_states"][:, : 2048 - count].abs().max() == 0
    network = ideogram.load_transformer()
    wanted = network.llm_cond_proj(network.llm_cond_norm(padded))
    torch.testing.assert_close(features.tokens, wanted, atol=2e-6, rtol=1e-4)


def test_the_tapped_layers_are_the_pipelines() -> None:
    assert QWEN3_VL_ACTIVATION_LAYERS == TEXT_LAYERS
    assert len(TEXT_LAYERS) * 4096 == 53_248


def test_the_velocity_is_what_the_padded_pipeline_computes_with_the_sign_turned(
    ideogram: Ideogram4Family, first_step: tuple[Watch, Watch]
) -> None:
    conditional, unconditional = first_step
    noisy = Latents(unconditional.kwargs["hidden_states"], 4, 3)
    sigma = 1 - conditional.kwargs["timestep"]
    assert sigma[0] > 0.99, "the pipeline starts at noise, which it calls 0"
    ours = ideogram.predict_velocity(
        ideogram.load_transformer(), noisy, sigma, ideogram.encode_captions([PROMPT]), guidance=1.0
    )
    torch.testing.assert_close(ours, -conditional.output[:, 2048:], atol=1e-5, rtol=1e-4)
    wordless = ideogram.predict_wordless(ideogram.load_unconditional(), noisy, sigma)
    torch.testing.assert_close(wordless, -unconditional.output, atol=1e-5, rtol=1e-4)


def test_the_sampler_walks_from_noise_to_the_picture_along_this_velocity(ideogram: Ideogram4Family) -> None:
    """At a known sigma the pipeline steps along minus the network's output, so noise - x0 is minus that output."""
    clean, noise = torch.full((1, 12, 16), 2.0), torch.full((1, 12, 16), -1.0)
    sigma = 0.25
    noisy = (1 - sigma) * clean + sigma * noise
    network_says = clean - noise
    scheduler = ideogram.load_encoders().scheduler
    scheduler.set_timesteps(sigmas=[sigma])
    landed = scheduler.step(-network_says, scheduler.timesteps[0], noisy, return_dict=False)[0]
    torch.testing.assert_close(landed, clean)


@pytest.mark.parametrize("texts", [["ab", "a much longer caption"], ["x", "yz", "x"]])
def test_captions_of_different_length_in_a_batch_do_not_disturb_each_other(
    ideogram: Ideogram4Family, texts: list[str]
) -> None:
    together = ideogram.encode_captions(texts)
    noisy = Latents(torch.randn(len(texts), 12, 16), 4, 3)
    sigma = torch.linspace(0.2, 0.9, len(texts))
    network = ideogram.load_transformer()
    batch = ideogram.predict_velocity(network, noisy, sigma, together, 1.0)
    for index, text in enumerate(texts):
        alone = ideogram.predict_velocity(
            network,
            Latents(noisy.tokens[index : index + 1], 4, 3),
            sigma[index : index + 1],
            ideogram.encode_captions([text]),
            1.0,
        )
        torch.testing.assert_close(batch[index : index + 1], alone, atol=1e-5, rtol=1e-4)


def test_no_mask_is_made_where_nothing_is_padded(ideogram: Ideogram4Family) -> None:
    masks = []
    network = ideogram.load_transformer()
    hook = network.layers[0].register_forward_pre_hook(lambda module, args: masks.append(args[1]))
    noisy = Latents(torch.randn(2, 12, 16), 4, 3)
    for texts in (["abc", "def"], ["abc", "defg"]):
        ideogram.predict_velocity(network, noisy, torch.tensor([0.3, 0.6]), ideogram.encode_captions(texts), 1.0)
    hook.remove()
    assert masks[0] is None
    assert masks[1].shape[2] == 1, "and never a square one"


def test_rotary_frequencies_stay_fp32_in_a_bf16_network_and_losing_them_is_noticed(
    ideogram_folder: Any, ideogram: Ideogram4Family
) -> None:
    family = Ideogram4Family(ideogram.weights, torch.device("cpu"), torch.bfloat16)
    network = family.load_transformer()
    assert network.dtype == torch.bfloat16
    exact = ideogram.load_transformer().rotary_emb.inv_freq
    assert torch.equal(network.rotary_emb.inv_freq, exact)
    network.to(torch.bfloat16)
    with pytest.raises(AssertionError, match="pin_rotary"):
        rotary_positions(network, 2, 2, 3, torch.device("cpu"))
    pin_rotary(network)
    assert torch.equal(network.rotary_emb.inv_freq, exact)
    loss = family.predict_velocity(
        network, Latents(torch.randn(1, 4, 16), 2, 2), torch.tensor([0.5]), family.encode_captions(["a"]), 1.0
    )
    assert torch.isfinite(loss).all()


def test_neighbouring_image_tokens_have_different_positions_under_autocast(ideogram: Ideogram4Family) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        cos, _ = rotary_positions(ideogram.load_transformer(), 4, 3, 2, torch.device("cpu"))
    assert cos.dtype == torch.float32
    assert len({tuple(row.tolist()) for row in cos[0]}) == cos.shape[1]


def test_time_is_not_rounded_to_the_networks_precision(ideogram: Ideogram4Family) -> None:
    family = Ideogram4Family(ideogram.weights, torch.device("cpu"), torch.bfloat16)
    network = family.load_transformer()
    near = torch.tensor([0.9991, 0.9993])
    assert near.bfloat16().unique().numel() == 1, "the test would not notice"
    first, second = embed_time(network, near).float()
    assert (first - second).abs().max() > 0
    with pytest.raises(AssertionError, match="fp32"):
        embed_time(network, near.bfloat16())
    exact = ideogram.load_transformer()
    wanted = torch.nn.functional.silu(exact.adaln_proj(exact.t_embedding(near)))[:, None]
    torch.testing.assert_close(embed_time(exact, near), wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("size", [(1024, 1024), (2048, 768), (256, 256)])
def test_training_times_are_those_of_the_samplers_schedule(ideogram: Ideogram4Family, size: tuple[int, int]) -> None:
    width, height = size
    count = 20_000
    drawn = ideogram.sample_sigmas(count, height // 16, width // 16, torch.Generator().manual_seed(0)).sort().values
    mean = _resolution_aware_mu(height, width, 0.0)
    schedule = _logit_normal_sigmas(8, mean, 1.5).sort().values[:-1]
    ranks = torch.searchsorted(drawn, schedule) / count
    torch.testing.assert_close(ranks, torch.arange(1, 8) / 8, atol=2e-3, rtol=0)
    assert drawn.min() >= SIGMA_MIN
    assert drawn.max() <= SIGMA_MAX


def test_pictures_are_packed_as_the_pipeline_unpacks_them(ideogram: Ideogram4Family) -> None:
    pipeline = ideogram.fresh_pipeline()
    settings = {"width": 48, "height": 64, "num_inference_steps": 2, "guidance_scale": 1.5, "guidance_schedule": None}
    outputs = [
        pipeline("a", **settings, max_sequence_length=40, generator=torch.Generator().manual_seed(3), output_type=kind)
        for kind in ("latent", "pil")
    ]
    drawn = ideogram.decode_latents(Latents(outputs[0].images, 4, 3))
    assert drawn[0].size == (48, 64)
    assert drawn[0].tobytes() == outputs[1].images[0].tobytes()


def test_a_token_holds_row_column_channel_of_its_patch(ideogram: Ideogram4Family) -> None:
    vae = ideogram.load_encoders().vae
    picture = torch.rand(1, 3, 64, 48) * 2 - 1
    latents = ideogram.encode_images(picture)
    assert (latents.rows, latents.columns) == (4, 3)
    with torch.no_grad():
        raw = vae.encode(picture).latent_dist.mode()
    deviation = (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()
    for row, column in [(0, 0), (1, 2), (3, 1)]:
        token = latents.tokens[0, row * 3 + column] * deviation + vae.bn.running_mean
        patch = raw[0, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        torch.testing.assert_close(token.view(2, 2, 4), patch.permute(1, 2, 0))


def test_a_caption_beyond_the_window_is_refused_with_its_words(ideogram: Ideogram4Family) -> None:
    with pytest.raises(InputError, match="reads 2048"):
        ideogram.encode_captions(["word " * 500])
    assert ideogram.cut_off("a person") == ""
    assert "the end" in ideogram.cut_off("word " * 410 + "the end")


def test_targets_are_the_attention_and_mlp_layers_of_every_block(ideogram: Ideogram4Family) -> None:
    network, targets = ideogram.load_transformer(), ideogram.adapter_targets
    assert len(targets) == 7 * len(network.layers)
    assert all(isinstance(network.get_submodule(name), torch.nn.Linear) for name in targets)
    assert not any("adaln" in name or "norm" in name for name in targets)
    groups = IDEOGRAM_KEYS.sharing(targets)
    assert len(groups) == len(network.layers)
    assert all(set(group) < set(targets) for group in groups)


def test_sizes_are_true_pixels_in_steps_of_a_token_and_nominal_in_a_miniature(ideogram: Ideogram4Family) -> None:
    assert ideogram.size_step == 16
    assert ideogram.true_size(1000, 70) == (992, 64)
    published = [(1024, 1024), (512, 1536), (1408, 704), (1312, 736), (800, 1280), (1248, 832), (864, 1152)]
    assert [ideogram.true_size(*size) for size in published] == published
    traits = {"nominal_scale": 16, "token_pixels": 8, "guidance_strength": 0.5}
    small = Ideogram4Family(
        BaseWeights("ideogram4", ideogram.weights.folder, "miniature", "", traits), torch.device("cpu")
    )
    assert small.true_size(1024, 768) == (64, 48)
    assert small.schedule_mean(0.0) == pytest.approx(math.log(16))
    pipeline_mean = _resolution_aware_mu(64, 64, small.schedule_mean(0.25))
    assert pipeline_mean == pytest.approx(_resolution_aware_mu(1024, 1024, 0.25))


def test_features_can_be_kept_and_picked_by_row(ideogram: Ideogram4Family) -> None:
    kept = ideogram.encode_captions(["ab", "a longer one"])
    one = Features(kept.tokens[:1], kept.pooled[:1])
    noisy = Latents(torch.randn(1, 4, 16), 2, 2)
    network = ideogram.load_transformer()
    torch.testing.assert_close(
        ideogram.predict_velocity(network, noisy, torch.tensor([0.4]), one, 1.0),
        ideogram.predict_velocity(network, noisy, torch.tensor([0.4]), ideogram.encode_captions(["ab"]), 1.0),
    )


def test_the_real_configuration_on_the_meta_device() -> None:
    with torch.device("meta"):
        network = Ideogram4Transformer2DModel()
    assert sum(weight.numel() for weight in network.parameters()) == 9_279_288_448
    targets = adapter_targets(network)
    assert len(targets) == 34 * 7
    shapes = {name: (layer.out_features, layer.in_features) for name, layer in network.named_modules()
              if isinstance(layer, torch.nn.Linear)}  # fmt: skip
    split = sum(sum(shapes[name]) for name in targets)
    assert split == 2_976_768
    saved = sum(shapes[name][1] for group in IDEOGRAM_KEYS.sharing(targets) for name in group[1:])
    fused = split - saved
    assert fused == 2_663_424
    assert 16 * fused * 2 + 170 * 4 == 85_230_248, "the published files: rank 16 in bf16, an fp32 alpha a module"
    turned = torch.empty(1, 4096 + 256, 256, device="meta")
    predicted = predict(
        network,
        torch.empty(1, 4096, 128, device="meta"),
        torch.empty(1, device="meta"),
        (turned, turned),
        torch.empty(1, 256, 4608, device="meta"),
    )
    assert predicted.shape == (1, 4096, 128)


def test_a_plain_pipeline_loads_the_same_folder(ideogram: Ideogram4Family) -> None:
    pipeline = Ideogram4Pipeline.from_pretrained(ideogram.weights.folder)
    assert torch.equal(
        pipeline.transformer.layers[1].attention.to_q.weight,
        ideogram.load_transformer().layers[1].attention.to_q.weight,
    )
