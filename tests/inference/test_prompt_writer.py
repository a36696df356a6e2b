"""Whatever the language model would like to say, what comes out is a caption in the schema."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.pipelines.ideogram4.prompt_enhancer import Ideogram4PromptEnhancerHead
from huggingface_hub import constants
from llguidance import LLMatcher
from tests.support.captions import verify
from tests.support.tiny_ideogram import random_layers, save_tiny_ideogram

from tintype.errors import Cancelled
from tintype.inference import prompt_writer
from tintype.inference.ideogram4 import IdeogramImageRequest, IdeogramInference
from tintype.inference.lora_cache import LoraRequest
from tintype.inference.prompt_writer import PromptWriter, prompt_head, schema, writer_of
from tintype.inference.prompts import RULE, by_rule
from tintype.lora.adapter import LoraLinear
from tintype.lora.lora import TRIGGER
from tintype.lora.pairs import Pair
from tintype.lora.write import write_lora
from tintype.models.ideogram4 import PROMPT_HEAD_REPOSITORY
from tintype.models.ideogram4.captions import canonical
from tintype.models.ideogram4.lora_keys import IDEOGRAM_KEYS
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.weights import BaseWeights

IDEA = 'a poster that says "SALE"'


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Ideogram4Family:
    """A base with random weights, and a head that knows nothing beside them."""
    folder: Path = save_tiny_ideogram(tmp_path_factory.mktemp("ideogram"))
    torch.manual_seed(1)
    Ideogram4PromptEnhancerHead(hidden_size=8, vocab_size=300).save_pretrained(folder / "prompt_enhancer_head")
    return Ideogram4Family(BaseWeights("ideogram4", folder, "random", "a test"), torch.device("cpu"))


@pytest.fixture(scope="module")
def writer(family: Ideogram4Family) -> PromptWriter:
    found = writer_of(family)
    assert found is not None
    return found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, family: Ideogram4Family) -> PromptWriter:
    """A writer whose texts end after a few letters: a head that knows nothing says all that it may."""
    monkeypatch.setattr(prompt_writer, "BRIEF", "Write.")
    monkeypatch.setattr(prompt_writer, "MOST_ELEMENTS", 1)
    monkeypatch.setattr(prompt_writer, "_text", lambda longest: {"type": "string", "minLength": 1, "maxLength": 3})
    found = writer_of(family)
    assert found is not None
    return found


def test_a_head_that_knows_nothing_still_writes_captions(short: PromptWriter) -> None:
    written = [short.write(idea, 1024, 768) for idea in (IDEA, "", "\u96e8 and \x00")]
    for text in written:
        assert canonical(text).text == text, "already in canonical form"
        assert verify(text) == []
    assert len(set(written)) > 1


def test_the_same_idea_is_written_the_same_way_and_chance_elsewhere_is_left_alone(short: PromptWriter) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = short.write(IDEA, 1024, 1024)
    assert torch.equal(torch.rand(1), expected)
    assert short.write(IDEA, 2048, 2048) == first, "the same shape"


def test_what_was_written_for_an_idea_and_a_shape_is_remembered(short: PromptWriter) -> None:
    def tokens_for(idea: str, width: int, height: int) -> int:
        tokens = []
        short.write(idea, width, height, lambda: tokens.append(1))
        return len(tokens)

    assert tokens_for("one", 64, 64) > 0
    assert tokens_for("one", 1024, 1024) == 0
    assert tokens_for("one", 64, 32) > 0
    assert tokens_for("another", 64, 64) > 0
    name, layer = next((name, part) for name, part in short._model.named_modules() if isinstance(part, torch.nn.Linear))
    pair = Pair(torch.zeros(1, layer.in_features), torch.zeros(layer.out_features, 1), 1.0)
    short._model.set_submodule(name, LoraLinear(layer, pair))
    assert tokens_for("one", 64, 64) > 0, "with a LoRA it may write something else"
    short._model.set_submodule(name, layer)
    assert tokens_for("one", 64, 64) == 0


def test_a_lora_is_called_by_the_words_it_was_trained_with(
    short: PromptWriter, family: Ideogram4Family, tmp_path: Path
) -> None:
    """A head that knows nothing never says them."""
    inference, request = IdeogramInference(family, keep=1), IdeogramImageRequest("a photo of ohwx", 64, 48)
    inference.__dict__["_writer"] = short
    assert inference.prepare(request).prompt.by == prompt_writer.NAME
    lora = random_layers(family)
    path = write_lora(
        lora, IDEOGRAM_KEYS, tmp_path / "a.safetensors", form="fal", dtype=torch.float32, header={TRIGGER: "ohwx"}
    )
    for _ in range(2):  # read, and found loaded
        inference.apply_loras([LoraRequest(path)])
        assert inference.prepare(request).prompt.text == by_rule(request.prompt)
    assert inference.prepare(replace(request, prompt="a photo")).prompt.by == prompt_writer.NAME
    inference.apply_loras([])
    assert inference.prepare(request).prompt.by == prompt_writer.NAME
    family.load_transformer()


def test_writing_can_be_stopped_at_every_token(writer: PromptWriter) -> None:
    def stop() -> None:
        raise Cancelled()

    with pytest.raises(Cancelled):
        writer.write(IDEA, 1024, 1024, stop)


def test_the_whole_schema_is_a_grammar_and_takes_what_people_would_write(writer: PromptWriter) -> None:
    matcher = LLMatcher(writer._vocabulary, writer._grammar)
    assert not matcher.get_error()
    caption = {
        "high_level_description": "Grüße, a poster",
        "compositional_deconstruction": {
            "background": "plain red",
            "elements": [{"type": "text", "text": "SALE", "desc": "white"}, {"type": "obj", "desc": "a hat"}],
        },
    }
    text = json.dumps(caption, ensure_ascii=False, separators=(",", ":"))
    assert canonical(text).text == text
    assert matcher.consume_tokens(writer._tokenizer(text, add_special_tokens=False).input_ids)
    assert matcher.is_accepting()
    assert list(schema()["properties"]) == list(caption)


def test_without_a_head_or_with_another_models_there_is_no_writer(family: Ideogram4Family, tmp_path: Path) -> None:
    save_tiny_ideogram(tmp_path)
    bare = Ideogram4Family(BaseWeights("ideogram4", tmp_path, "random", "a test"), torch.device("cpu"))
    assert writer_of(bare) is None
    Ideogram4PromptEnhancerHead(hidden_size=16, vocab_size=300).save_pretrained(tmp_path / "prompt_enhancer_head")
    assert writer_of(bare) is None


def test_the_head_that_writes_prompts_is_found_beside_the_model_or_in_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    base = BaseWeights("ideogram4", tmp_path / "base", "random", "a test")
    assert prompt_head(base) is None
    apart = tmp_path / "hub" / f"models--{PROMPT_HEAD_REPOSITORY.replace('/', '--')}" / "snapshots" / "abc"
    apart.mkdir(parents=True)
    assert prompt_head(base) is None, "a folder without weights"
    (apart / "model.safetensors").write_text("")
    assert prompt_head(base) == apart
    assert prompt_head(replace(base, traits={"nominal_scale": 16})) is None, "a miniature's encoder cannot write"


def test_where_only_llguidance_is_missing_the_log_says_how_to_get_it(
    family: Ideogram4Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)
    alone = Ideogram4Family(family.weights, family.device)
    inference = IdeogramInference(alone, keep=1)
    assert inference.prepare(IdeogramImageRequest("a red hat", 64, 48)).prompt.by == RULE
    assert len(alone.remarks) == 1
    assert "pip install 'tintype[prompts]'" in alone.remarks[0]
