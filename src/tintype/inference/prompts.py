"""Brings prompts into the JSON that Ideogram 4 was trained on, and gives a negative prompt a meaning.

A writer is a language model that makes a caption in the schema out of an idea. Where there is none, or where what it
wrote cannot be read, the prompt is put into the schema by rule: the same way that plain captions are wrapped for
training, so that a LoRA is asked in the words it was taught with. The rule adds nothing that was not said, except that
words in quotes become texts of their own, as the schema wants lettering to be named.

Ideogram 4 has no negative prompts: its guidance compares the image that the prompt asks for with the one that a second
network makes of no words at all. A negative prompt takes that second place: the first network makes what should not be
seen, and guidance leads away from it. Words that the prompt asks for too would be pushed away as well, so they are
taken out beforehand: the prompt wins.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tintype.errors import InputError
from tintype.models.ideogram4.captions import Element, canonical, wrap

#: Makes a caption in Ideogram's schema, as JSON text, out of an idea and the image's nominal width and height.
PromptWriting = Callable[[str, int, int], str]

RULE = "rule"
MOST_TEXTS = 8  # quotes of a prompt that become texts; a page of dialogue is no lettering
LONGEST_TEXT = 120  # characters
_LONGEST_REMARK = 200  # characters of what was left out that are worth repeating

_BETWEEN = re.compile(r"[,;.\n]+")
_WORD = re.compile(r"\w+")
_QUOTED = re.compile(r'"([^"]+)"|\u201c([^\u201d]+)\u201d|\u00ab([^\u00bb]+)\u00bb|\u201e([^\u201c]+)\u201c')


@dataclass(frozen=True)
class Prompt:
    """A prompt as the model is given it. `by` is who wrote it: the rule, a writer by name, or nobody.

    `notes` are for the person who sent it.
    """

    text: str
    by: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """For the log, where the text that was used has to be found again."""
        return f"Prompt {f'expanded by {self.by}' if self.by else 'as given'}: {self.text}"


@dataclass(frozen=True)
class NegativePrompt:
    """What is left of a negative prompt, and the parts that the prompt overruled."""

    text: str
    overruled: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """For the log."""
        if not self.overruled:
            return ()
        return (f"Left out of the negative prompt, because the prompt asks for it: {', '.join(self.overruled)}.",)


def prepare(
    prompt: str,
    *,
    expand: bool,
    size: tuple[int, int] = (1024, 1024),
    writer: PromptWriting | None = None,
    name: str = RULE,
    fits: Callable[[str], bool] = lambda text: True,
    triggers: Sequence[str] = (),
) -> Prompt:
    """Decides what the model is given for a prompt.

    JSON in the schema is only made canonical, whatever `expand` says; a sentence is left as it is without `expand`.
    `name` is the writer's, for the log. A sentence of which not all `fits` the model's window loses its end; a caption
    cannot be cut, so that one is an InputError, and nothing else is. A writer has to repeat `triggers` that the prompt
    names: what a LoRA was trained with is what it answers to.
    """
    given, notes = _as_caption(prompt)
    if given is not None:
        if not fits(given):
            message = "This caption is longer than the model reads."
            raise InputError(message, remedy="Shorten it.", ctx={"characters": len(given)})
        return Prompt(given, None, notes)
    in_form = by_rule if expand else str
    prompt, cut = _shortened(prompt, lambda text: fits(in_form(text)))
    notes += (f"The prompt is longer than the model reads; left out: {cut[:_LONGEST_REMARK]}",) if cut else ()
    if not expand:
        return Prompt(prompt, None, notes)
    if writer is not None:
        try:
            written = canonical(writer(prompt, *size), name="the expanded prompt")
        except InputError as problem:
            notes = (*notes, f"What {name} wrote cannot be read, so the rule took its place. {problem.message}")
        else:
            lost = [trigger for trigger in triggers if _names(prompt, trigger) and not _names(written.text, trigger)]
            # A sentence is no caption: the rule does as well, and adds nothing.
            if not (written.wrapped or lost) and fits(written.text):
                return Prompt(written.text, name, (*notes, *written.notes))
            why = f'leaves out "{lost[0]}", by which a LoRA is called' if lost else "is a sentence, or too long"
            notes = (*notes, f"What {name} wrote {why}, so the rule took its place.")
    return Prompt(by_rule(prompt), RULE, notes)


def by_rule(sentence: str) -> str:
    """Puts a plain sentence into the schema, its quoted words as texts besides."""
    caption = wrap(_plain(sentence))
    texts = [Element(type="text", text=text, desc=f'lettering that reads "{text}"') for text in quoted(sentence)]
    caption.compositional_deconstruction.elements += texts
    return caption.line()


def quoted(sentence: str) -> list[str]:
    """Lists what stands in double quotes of any kind, each once, in its order."""
    found = (" ".join(next(filter(None, match.groups())).split()) for match in _QUOTED.finditer(sentence))
    return [text for text in dict.fromkeys(found) if 0 < len(text) <= LONGEST_TEXT][:MOST_TEXTS]


def against(negative_prompt: str, prompt: str) -> NegativePrompt:
    """Keeps the parts of a negative prompt, between commas, that the prompt does not name."""
    parts = [part.strip() for part in _BETWEEN.split(negative_prompt) if _words(part)]
    overruled = tuple(part for part in parts if _names(prompt, part))
    return NegativePrompt(", ".join(part for part in parts if part not in overruled), overruled)


def _shortened(sentence: str, fits: Callable[[str], bool]) -> tuple[str, str]:
    """As many words from the beginning as fit, and the rest."""
    if fits(sentence):
        return sentence, ""
    words = sentence.split(" ")
    kept = bisect.bisect_left(range(len(words)), True, key=lambda count: not fits(" ".join(words[: count + 1])))
    if kept:
        return " ".join(words[:kept]), " ".join(words[kept:])
    # One word without an end.
    kept = bisect.bisect_left(range(len(sentence)), True, key=lambda count: not fits(sentence[: count + 1]))
    return sentence[:kept], sentence[kept:]


def _as_caption(prompt: str) -> tuple[str | None, tuple[str, ...]]:
    """The canonical form of a prompt that is JSON; None and perhaps a note for one that is a sentence."""
    try:
        read = canonical(prompt, name="the prompt")
    except InputError as problem:
        if prompt.lstrip().startswith(("{", "[", '"', "`")):
            return None, (f"The prompt is taken as a sentence. {problem.message}",)
        return None, ()
    return (None, ()) if read.wrapped else (read.text, tuple(f"Prompt: {note}." for note in read.notes))


def _plain(text: str) -> str:
    """Without characters that no caption holds."""
    return "".join(letter if letter.isprintable() or letter.isspace() else " " for letter in text)


def _names(text: str, phrase: str) -> bool:
    """Whether a text has the words of a phrase, one after another."""
    return f" {_words(phrase)} " in f" {_words(text)} "


def _words(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))
