"""Lets the pipeline's own text encoder write prompts: Qwen3-VL becomes a language model again with its LM head.

What it may write is held to the caption schema token by token (llguidance), with every text bounded in length. So even
a head that knows nothing ends with a caption that can be read, and nothing has to be searched for in an answer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.pipelines.ideogram4.prompt_enhancer import Ideogram4PromptEnhancerHead, build_prompt_enhancer
from transformers import LogitsProcessor, LogitsProcessorList

from tintype.lora.adapter import LoraLinear
from tintype.models.ideogram4 import PROMPT_HEAD_REPOSITORY
from tintype.models.ideogram4.model import Ideogram4Family
from tintype.models.parts import snapshots_of
from tintype.models.placement import ENCODERS
from tintype.models.weights import BaseWeights

if TYPE_CHECKING:
    from llguidance import LLMatcher

NAME = "Qwen3-VL"
MISSING = (
    "The language model that can write prompts is here, but not llguidance, which holds it to the schema; prompts are "
    "expanded by rule. Install it with: pip install 'tintype[prompts]'"
)
STREAMED = (
    "The text encoder does not fit on the device, and comes there layer by layer: too slow to write with, so prompts "
    "are expanded by rule."
)
_HEAD = "prompt_enhancer_head"  # in the pipeline's folder
TEMPERATURE = 1.0  # as the model's makers sample
MOST_TOKENS = 1_500  # the schema's bounds end a caption before, in every script
MOST_ELEMENTS = 12
_REMEMBERED = 256  # captions; writing one takes longer than generating an image

#: What the writer is asked for; the rest of the format is not up to it.
BRIEF = (Path(__file__).parent / "prompt_brief.txt").read_text(encoding="utf-8")
ASKED = "Shape of the picture, width to height: {ratio}\nIdea: {idea}"


def schema() -> dict[str, Any]:
    """Gives the part of Ideogram's caption schema that is written here, its keys in the order of training. No boxes: a
    language model's are guesses, and the makers of Ideogram drop them too."""
    thing = {"type": {"const": "obj"}, "desc": _text(600)}
    lettering = {"type": {"const": "text"}, "text": _text(120), "desc": _text(400)}
    elements = {
        "type": "array", "minItems": 1, "maxItems": MOST_ELEMENTS,
        "items": {"anyOf": [_object(thing), _object(lettering)]},
    }  # fmt: skip
    composition = _object({"background": _text(800), "elements": elements})
    return _object({"high_level_description": _text(400), "compositional_deconstruction": composition})


def _text(longest: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": longest}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip


class PromptWriter:
    """The text encoder with its head.

    The same idea for the same shape of image gives the same caption, whatever the request's seed, or image k of several
    would not be the one that seed + k gives alone.
    """

    def __init__(
        self,
        text_encoder: Any,
        head: Ideogram4PromptEnhancerHead,
        tokenizer: Any,
        bring: Callable[[], None] = lambda: None,
    ) -> None:
        from llguidance import LLMatcher
        from llguidance.hf import from_tokenizer

        self._model = build_prompt_enhancer(text_encoder, head)
        self._tokenizer = tokenizer
        self._bring = bring  # the networks to the device
        words = head.lm_head.out_features
        self._vocabulary = from_tokenizer(tokenizer, n_vocab=words, eos_token=tokenizer.eos_token_id)
        compact = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
        self._grammar = LLMatcher.grammar_from_json_schema(schema(), overrides=compact)  # type: ignore[arg-type]
        self._matcher = LLMatcher
        self._each_token: Callable[[], None] = lambda: None
        self._written = functools.lru_cache(_REMEMBERED)(self._write)

    def write(self, idea: str, width: int, height: int, each_token: Callable[[], None] = lambda: None) -> str:
        """Writes a caption as JSON, for an image of this nominal size, or remembers it. `each_token` may raise."""
        shape = math.gcd(width, height)
        self._each_token = each_token
        changed = any(isinstance(part, LoraLinear) for part in self._model.modules())  # by a LoRA that acts on it
        return (self._write if changed else self._written)(idea, f"{width // shape}:{height // shape}")

    @torch.no_grad()
    def _write(self, idea: str, ratio: str) -> str:
        self._bring()
        asked = ASKED.format(ratio=ratio, idea=idea)
        turns = [{"role": "system", "content": BRIEF}, {"role": "user", "content": asked}]
        turned = self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        given = self._tokenizer(turned, add_special_tokens=False, return_tensors="pt").to(self._model.device)
        held = _GrammarLimit(
            self._matcher(self._vocabulary, self._grammar), given["input_ids"].shape[1], self._each_token
        )
        with torch.random.fork_rng(devices=[self._model.device] if self._model.device.type == "cuda" else []):
            torch.manual_seed(0)
            written = self._model.generate(
                **given, max_new_tokens=MOST_TOKENS, do_sample=True, temperature=TEMPERATURE, top_k=0, top_p=1.0,
                pad_token_id=self._tokenizer.pad_token_id, eos_token_id=self._tokenizer.eos_token_id,
                logits_processor=LogitsProcessorList([held]),
            )  # fmt: skip
        caption: str = self._tokenizer.decode(written[0, given["input_ids"].shape[1] :], skip_special_tokens=True)
        return caption


def prompt_head(weights: BaseWeights) -> Path | None:
    """Finds the folder of the head that lets Ideogram 4's text encoder write.

    It is the pipeline's own, or the one fetched beside it. A miniature's encoder is too small to write anything.
    """
    folders = () if weights.miniature else (weights.folder / _HEAD, *snapshots_of(PROMPT_HEAD_REPOSITORY))
    return next((folder for folder in folders if any(folder.glob("*.safetensors"))), None)


def writer_of(family: Ideogram4Family) -> PromptWriter | None:
    """Makes a writer of a base's own text encoder and its head; None where no head that fits is here.

    Where only llguidance is missing, the base's remarks say so.
    """
    folder = prompt_head(family.weights)
    if folder is None:
        return None
    if find_spec("llguidance") is None:
        family.remarks.append(MISSING)
        return None
    text_encoder = family.load_text_encoders().text_encoder
    head = Ideogram4PromptEnhancerHead.from_pretrained(folder, dtype=family.dtype, local_files_only=True)
    if head.lm_head.in_features != text_encoder.config.text_config.hidden_size:
        return None
    if not family.placement.has(ENCODERS):
        family.remarks.append(STREAMED)
        return None
    family.placement.bring(ENCODERS, extra=sum(weight.nbytes for weight in head.parameters()))
    family.placement.join(ENCODERS, head.to(family.device))
    tokenizer = family.load_encoders().tokenizer
    return PromptWriter(text_encoder, head, tokenizer, functools.partial(family.placement.bring, ENCODERS))


class _GrammarLimit(LogitsProcessor):  # type: ignore[misc]
    """Rules out every token that would leave the grammar."""

    def __init__(self, matcher: LLMatcher, prompt_tokens: int, each_token: Callable[[], None]) -> None:
        self._matcher = matcher
        self._seen = prompt_tokens
        self._each_token = each_token

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._each_token()
        self._matcher.consume_tokens(input_ids[0, self._seen :].tolist())
        self._seen = input_ids.shape[1]
        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8) != 0
        return scores.masked_fill(~allowed.to(scores.device), -torch.inf)
