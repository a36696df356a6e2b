"""The LoRA of several steps of one training, scored against photos that it never saw: the best is handed over.

Which step is the good one differs from person to person. Candidates come closer together early, where a run gains most,
and are meant to cost a tenth of it. What they are is in files beside the snapshots, so that a run that was killed in
between goes on with them and chooses the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from tintype.count import counted
from tintype.dataset import Dataset
from tintype.dataset.report import ScoredStep
from tintype.errors import OutOfMemory
from tintype.files.disk import write_file
from tintype.inference.lora_cache import LoraRequest
from tintype.job import JobContext
from tintype.jobs.content_filter import filter_images
from tintype.jobs.image_file import count_generated, encoded
from tintype.jobs.recipe import Recipe
from tintype.jobs.resident_models import resident_models
from tintype.likeness.faces import FaceIdentity
from tintype.likeness.held_out import choose_held_out
from tintype.likeness.identity import Identity
from tintype.likeness.installed import faces_installed
from tintype.likeness.measure import Measure, Scores
from tintype.likeness.photos import Photos
from tintype.likeness.portrait_world import PortraitWorldIdentity
from tintype.models.family import Family

HELD_OUT = "held out: never trained on, likeness is measured against it"
MOST_CANDIDATES = 10
PATIENCE = 3  # candidates in a row that are no better, until a run is good enough
_SHARE = 0.1  # of a run's work that candidates may cost
_FIRST = 1 / 16  # of the steps; the others come at equal ratios
_COST = 100  # forward passes: four pictures, and whether each follows its prompt
_STEP_PASSES = 3  # forward passes that a training step is worth
_BETTER = 0.005  # of the score: less is no progress
_CHANCE = 0.02  # by which the score of one LoRA differs from pictures to pictures
_NOBODY = "a person"
# Place, clothes, framing and style vary, as people will want them to.
_PROMPTS = (
    "a close-up portrait photo of {}, soft window light",
    "a full body photo of {} in a red coat on a beach",
    "a photo of {} in a black suit in an office",
    "a pencil drawing of {}",
)


@dataclass(frozen=True)
class Candidate:
    """The LoRA after `step` steps, and its scores."""

    step: int
    scores: Scores

    def better_than(self, other: Candidate | None) -> bool:
        return other is None or self.scores.total > other.scores.total + _BETTER


def candidate_steps(steps: int, batch: int) -> tuple[int, ...]:
    """Chooses after which steps of a run there are candidates, the last one being one; none where a tenth of the work
    does not pay for two."""
    # A pass of several pictures is cheaper than as many passes.
    count = min(MOST_CANDIDATES, int(_SHARE * steps * math.sqrt(batch) * _STEP_PASSES / _COST))
    return tuple(sorted({round(steps * _FIRST ** (k / (count - 1))) for k in range(count)})) if count > 1 else ()


def identity_for(family: Family) -> Identity | None:
    """Returns what tells people apart here: in photos, what `tintype[faces]` installs; None where that is missing."""
    if family.weights.miniature:
        return PortraitWorldIdentity()
    return FaceIdentity() if faces_installed() else None


class Candidates:
    """Scores the LoRA of some steps, and knows the best so far. Files lie in `folder`, which comes back on resuming."""

    def __init__(self, recipe: Recipe, photos: Photos, dataset: Dataset, folder: Path, context: JobContext) -> None:
        self._recipe, self._photos, self._folder, self._context = recipe, photos, folder, context
        self._held_out = choose_held_out(photos.embedded, photos.alike)
        held_out = [photos.names[place] for place in self._held_out]
        if held_out:
            context.log(f"Held out, to measure likeness against: {' and '.join(held_out)}.")
        self.dataset = dataset.without(held_out, HELD_OUT)

    def lora(self, step: int) -> Path:
        """Names the file of a candidate's LoRA."""
        return self._folder / f"candidate-{step:05d}.safetensors"

    def take(self, step: int) -> bool:
        """Scores the LoRA after so many steps, unless that was done; tells whether no more are needed."""
        facts = self._folder / f"candidate-{step:05d}.json"
        if not facts.exists():
            if lacking := self._recipe.samples.lacking(self._recipe.family, self._context):
                raise OutOfMemory(lacking, remedy="Free memory on the device, or ask for checkpoint: last.")
            pictures = self._drawn(self._recipe.trigger or _NOBODY, step, self.lora(step))
            self._recipe.family.load_transformer()  # bare
            scores = self._measure.scores(pictures)
            write_file(facts, json.dumps({"step": step, "scores": asdict(scores)}))
            self._context.log(f"After {counted(step, 'step')}: {scores}.")
        self._forget_others()
        return self._recipe.may_stop and self._is_enough()

    def all(self) -> list[Candidate]:
        """Lists what was scored, in the order of steps."""
        facts = [json.loads(path.read_text()) for path in sorted(self._folder.glob("candidate-*.json"))]
        return [Candidate(each["step"], Scores(**each["scores"])) for each in facts]

    @property
    def best(self) -> Candidate | None:
        """The latest that is as good as any, but for chance: what was learned longer is liker in what no score sees.
        None where likeness could not be measured."""
        top: Candidate | None = None
        best: Candidate | None = None
        for candidate in self._measured:
            top = candidate if candidate.better_than(top) else top
            if top is not None and candidate.scores.total >= top.scores.total - _CHANCE:
                best = candidate
        return best

    def report(self) -> list[ScoredStep]:
        """Describes all of them for the report, the one that is handed over marked."""
        best = self.best
        return [
            ScoredStep(
                each.step,
                **asdict(each.scores),
                total=round(each.scores.total, 4),
                is_chosen=each == best,
                pictures=[path.read_bytes() for path in self.pictures(each.step) if path.exists()],
            )
            for each in self.all()
        ]

    def figures(self) -> dict[str, Any]:
        """Tells in the config file what candidates were scored by."""
        return {
            "measured_by": self._photos.identity.name,
            "prompts": [prompt.format(self._recipe.trigger or _NOBODY) for prompt in self._prompts],
            "chosen": self.best.step if self.best else None,
            "scored": [{"step": each.step, **asdict(each.scores)} for each in self.all()],
        }

    def pictures(self, step: int) -> list[Path]:
        """Names the pictures of a candidate, one for each prompt."""
        return [self._folder / f"candidate-{step:05d}-{number}.png" for number in range(len(self._prompts))]

    def _forget_others(self) -> None:
        """Keeps no LoRA but the best: with a high rank each takes a gigabyte."""
        best = self.best
        for path in self._folder.glob("candidate-*.safetensors"):
            if best is None or path != self.lora(best.step):
                path.unlink()

    @property
    def _measured(self) -> list[Candidate]:
        return [candidate for candidate in self.all() if candidate.scores.likeness is not None]

    def _is_enough(self) -> bool:
        """Whether the last few were no better than one before them; those of an earlier training do not count."""
        top: Candidate | None = None
        since = 0
        for candidate in self._measured:
            is_new = candidate.step > self._recipe.done_before
            top, since = (candidate, 0) if candidate.better_than(top) else (top, since + is_new)
        return since >= PATIENCE

    @property
    def _prompts(self) -> Sequence[str]:
        stated: Sequence[str] = self._recipe.family.traits.get("scoring_prompts", _PROMPTS)
        return stated

    @cached_property
    def _measure(self) -> Measure:
        recipe = self._recipe
        words = [prompt.format(_NOBODY) for prompt in self._prompts]
        pictures = self._drawn(_NOBODY, 0, None)
        recipe.family.load_transformer()  # bare
        return Measure(
            recipe.family,
            self._photos.identity,
            self._photos.images,
            self._photos.embedded,
            self._held_out,
            words,
            pictures,
            recipe.plan.guidance,
        )

    def _drawn(self, who: str, step: int, lora: Path | None) -> list[Image.Image]:
        """Pictures of all prompts, which are kept."""
        inference = resident_models(self._context).inference(self._recipe.samples.inference)
        inference.apply_loras([LoraRequest(lora)] if lora else [])
        size = (1024, 1024) if self._recipe.family.weights.miniature else (768, 768)
        pictures = []
        for prompt, place in zip(self._prompts, self.pictures(step), strict=True):
            check, seed = self._context.raise_if_cancelled, self._recipe.samples.seed
            pictures.append(inference.generate_sample(prompt.format(who), size, seed, check, is_draft=True))
            count_generated(self._recipe.family.weights, 1, self._context)
            [shown], _ = filter_images(pictures[-1:], self._context)
            write_file(place, encoded(shown, "png", self._recipe.family.weights))
        return pictures
