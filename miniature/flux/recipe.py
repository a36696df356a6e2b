"""How the miniature FLUX is built, and the judge with it, which sees what the autoencoder makes of drawings."""

from __future__ import annotations

from functools import cached_property, partial
from typing import ClassVar

from miniature.flux.parts import Parts, encode_captions, new_parts, pipeline
from miniature.flux.task import FluxTask
from miniature.flux.vocabulary import WINDOW
from miniature.identity_training import train_identity
from miniature.judge_training import train_judge
from miniature.recipe import Recipe
from miniature.release import release
from miniature.training import load_average
from miniature.transformer_training import train_transformer
from miniature.weights import FLUX_WEIGHTS, JUDGE_WEIGHTS
from miniature.word_training import Reader, WordTask, train_words
from miniature.world.captions import caption
from tintype.likeness.portrait_world import WEIGHTS as IDENTITY_WEIGHTS

#: Measured on the released weights; see docs/miniature-build.md.
TRAITS = {
    "max_sequence_length": WINDOW,
    "learning_rate_scale": 70,
    "warmup_steps": 10,
    "decay_steps": 100,
    "weight_decay": 1.5,
    "sigma_mean": 1.0,
    "batch_size": 4,
    "training_guidance": 1.0,
    "guidance_scale": 3.5,
    # What candidates of a training are drawn from: other words than the tests' prompts, of the same world.
    "scoring_prompts": [
        "a photo of {}, green shirt, blue background, serious",
        "{} wearing a purple shirt, orange background, sunglasses",
        "a portrait of {}, black shirt, pink background, sad",
        "close-up of {}, yellow shirt, white background, smiling",
    ],
}


class FluxRecipe(Recipe):
    """Builds the miniature FLUX and the judge."""

    MINUTES: ClassVar = {
        "autoencoder": 17,
        "words": 3,
        "latent_reader": 1.5,
        "transformer": 70,
        "judge": 8,
        "identity": 9,
        "release": 0,
    }
    WEIGHTS = FLUX_WEIGHTS

    @cached_property
    def parts(self) -> Parts:
        return new_parts(self.device)

    def words(self) -> Reader:
        task = WordTask(
            {"clip": self.parts.clip, "t5": self.parts.t5},
            (self.parts.t5.config.d_model, self.parts.clip.config.hidden_size),
            caption,
            partial(encode_captions, self.parts, window=WINDOW),
            batch=256,
            rate=1.5e-3,
            warm_steps=50,
        )
        return train_words(task, self.work / "words.pt", self.minutes["words"], self.device)

    def transformer(self) -> None:
        task = FluxTask(self.parts, self.words(), self.latent_reader(), self.collection)
        train_transformer(task, self.work / "transformer.pt", self.minutes["transformer"])

    def judge(self) -> None:
        """Trains the judge; it goes to its place, or beside a pipeline that goes elsewhere."""
        out = JUDGE_WEIGHTS if self.out == FLUX_WEIGHTS else self.out.with_name(JUDGE_WEIGHTS.name)
        train_judge(self.vae, self.work / "judge.pt", self.minutes["judge"], out)

    def identity(self) -> None:
        """Trains what tells subjects apart; it goes to its place, or beside a pipeline that goes elsewhere."""
        out = IDENTITY_WEIGHTS if self.out == FLUX_WEIGHTS else self.out.with_name("identity.safetensors")
        train_identity(self.vae, self.work / "identity.pt", self.minutes["identity"], out)

    def release(self) -> None:
        parts = new_parts(self.device)  # the tokenizers that training used would keep its padding in their files
        load_average(self.work / "transformer.pt", parts.trained())
        release(pipeline(parts, self.vae), self.out, TRAITS)
