"""The two tokenizers of the miniature FLUX, learned on captions of Portrait World.

Both are the classes FLUX.1 itself uses, so the plain pipeline loads them: CLIP's byte-level BPE, and T5's Unigram.
Words of the world are one token each; anything else falls into letters, and beyond ASCII into bytes. Both read small
letters.
"""

from __future__ import annotations

import json
import math
import random
import re
import string
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE
from transformers import CLIPTokenizer, T5Tokenizer

from miniature.flux.charsmap import BYTE_SYMBOLS, charsmap, replacements
from miniature.world.captions import caption, describe
from miniature.world.person import Person

#: The miniature's standard window of text tokens, where FLUX.1-dev has 512.
WINDOW = 48
_CLIP_WINDOW = 77
_CAPTIONS = 20_000
#: A word said this often in them is one token.
_FREQUENT = 40
_PRINTABLE = string.ascii_lowercase + string.digits + string.punctuation


def _corpus() -> Iterator[str]:
    rng = random.Random("vocabulary")
    for _ in range(_CAPTIONS):
        person = Person.sample(rng)
        yield (describe(person) if rng.random() < 0.3 else caption(person, rng)).lower()


def learn_t5_tokenizer() -> T5Tokenizer:
    """Makes a Unigram of the captions' frequent words, every ASCII character, and a symbol for every byte beyond."""
    # Counted rather than fitted: expectation-maximisation over a corpus full of made-up names cuts "green" in four.
    words = Counter(word for text in _corpus() for word in re.findall(r"[a-z]+|[0-9]+|[^a-z0-9\s]", text))
    total = sum(words.values())
    vocab: list[tuple[str, float]] = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -6.0)]
    for word, count in sorted(words.items(), key=lambda item: (-item[1], item[0])):
        if len(word) > 1 and count >= _FREQUENT:
            vocab.append((f"▁{word}", math.log(count / total)))
    vocab += [(f"▁{letter}", -9.0) for letter in string.ascii_lowercase if letter != "a"]
    vocab += [("▁a", -3.0), (",", -3.0)]
    vocab += [(character, -10.0) for character in (*_PRINTABLE, *BYTE_SYMBOLS) if character != ","]
    return T5Tokenizer(
        vocab=vocab,
        _spm_precompiled_charsmap=charsmap(replacements()),
        extra_ids=0,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def _learned(learner: Tokenizer) -> dict[str, Any]:
    model: dict[str, Any] = json.loads(learner.to_str())["model"]
    return model


def learn_clip_tokenizer(merges: int = 360) -> CLIPTokenizer:
    """Learns a byte-level BPE in CLIP's form: every byte, every byte at a word's end, then the learned merges."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = CLIPTokenizer().backend_tokenizer.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + merges,
        initial_alphabet=alphabet,
        # Numbered here: else in the order of a hash table, and every process breaks ties in its own way.
        special_tokens=[letter + "</w>" for letter in alphabet],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(_corpus(), trainer)
    joined = [tuple(pair) for pair in _learned(learner)["merges"]][:merges]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    tokens += [token for token in dict.fromkeys(a + b for a, b in joined) if token not in set(tokens)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=joined, model_max_length=_CLIP_WINDOW
    )
