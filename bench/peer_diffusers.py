"""How soon a person has a LoRA that draws him: `tintype train` against diffusers' own example script, whole commands.

    python bench/peer_diffusers.py train_dreambooth_lora_flux.py --subjects 9001 9002 [--json]

The script is examples/dreambooth/train_dreambooth_lora_flux.py of https://github.com/huggingface/diffusers, of the
installed version; nothing of it is here. It runs as it is, in a process of its own, on the miniature FLUX, with ten
photos, rank 16 and a constant rate, at every rate with every batch. It imports torchvision for a handful of
transforms, which a few lines below stand in for where torchvision is missing.

For both, the time to likeness is that of the shortest command whose LoRA has a judged likeness of --target, and so has
that of the next longer one: from the start of the process to its file. The script is run once for each rate and batch
to find that length by its checkpoints, and the best three are run again to that length for the time. Both commands are
given all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # miniature and bench are not installed
RATES = (1e-3, 2.1e-3, 4e-3, 5e-3, 6.3e-3)
BATCHES = (1, 4)
RANK = 16
EVERY = 25  # steps between checkpoints
LONGEST = 500  # steps
LENGTHS = (75, 100, 125, 150, 175, 200, 250, 300, 400, 500)  # of ours
_AGAIN = 3  # of the script's settings are run to the length that they need
_STANDS_ALONE = "--as-script"


@dataclass(frozen=True)
class Timed:
    """A command that came to the likeness: how many steps and how long it took, and what its LoRA then had."""

    who: str
    steps: int
    seconds: float
    likeness: float
    adherence: float


class Subject:
    """Photos of one subject, and the judge of what a LoRA of them draws."""

    def __init__(self, seed: int, folder: Path) -> None:
        from miniature.world import Subject as Person, photograph, write_archive

        from tintype.jobs.local import LocalContext
        from tintype.jobs.resident_models import ResidentModels
        from tintype.settings import load_settings

        self._person, self.folder = Person.from_seed(seed), folder
        self.archive, self.photos = folder / "photos.zip", folder / "photos"
        write_archive(self.archive, photograph(self._person, 10), captions=False)
        with zipfile.ZipFile(self.archive) as archive:
            archive.extractall(self.photos)
        settings = load_settings(flux_base="miniature")
        models = ResidentModels(settings, "cpu")
        self._context = LocalContext(folder / "drawn", settings, resident_models=models)
        from tintype.models.flux.model import FluxFamily

        self.base = models.family(FluxFamily).weights.folder

    def judged(self, lora: Path) -> tuple[float, float]:
        """Returns likeness and adherence of six pictures that a LoRA draws."""
        from bench.likeness import draw

        _, score = draw(self._context, [{"path": self._context.offer(lora)}], self._person, self.folder / "pictures")
        return score.likeness, score.adherence


def ours(subject: Subject, target: float) -> Timed:
    """Times `tintype train` at the shortest length that comes to the likeness."""

    def tried() -> Iterator[tuple[int, Path, float]]:
        for steps in LENGTHS:
            out = subject.folder / f"ours-{steps}"
            command = [str(Path(sys.executable).with_name("tintype")), "train", str(subject.archive),
                       "--trigger", "ohwx", "--steps", str(steps), "--out", str(out)]  # fmt: skip
            seconds = _seconds(command, {"TINTYPE_FLUX_BASE": "miniature"})
            yield steps, out / "lora.safetensors", seconds

    return _first_held("tintype train", subject, target, tried()) or Timed("tintype train", 0, float("inf"), 0, 0)


def theirs(subject: Subject, script: Path, target: float) -> Timed:
    """Times diffusers' script at the settings that come to the likeness soonest."""
    found = []
    for rate in RATES:
        for batch in BATCHES:
            out = subject.folder / f"theirs-{rate}-{batch}"
            seconds = _seconds(_script(script, subject, out, rate, batch, LONGEST))

            def kept(out: Path = out, a_step: float = seconds / LONGEST) -> Iterator[tuple[int, Path, float]]:
                for steps in range(EVERY, LONGEST + 1, EVERY):
                    yield steps, out / f"checkpoint-{steps}" / "pytorch_lora_weights.safetensors", a_step * steps

            if timed := _first_held(f"diffusers, rate {rate:g}, {batch} a step", subject, target, kept()):
                found.append((timed, rate, batch))
    again = []
    for timed, rate, batch in sorted(found, key=lambda one: one[0].seconds)[:_AGAIN]:
        out = subject.folder / f"again-{rate}-{batch}"
        seconds = _seconds(_script(script, subject, out, rate, batch, timed.steps, checkpoints=False))
        again.append(Timed(timed.who, timed.steps, seconds, timed.likeness, timed.adherence))
    return min(again, key=lambda one: one.seconds, default=Timed("diffusers", 0, float("inf"), 0, 0))


def _first_held(who: str, subject: Subject, target: float, tried: Iterator[tuple[int, Path, float]]) -> Timed | None:
    """The first of two in a row that have the likeness; one alone may be luck."""
    before: Timed | None = None
    for steps, lora, seconds in tried:
        likeness, adherence = subject.judged(lora)
        print(f"{who}: {steps} steps, {seconds:.1f} s, likeness {likeness:.2f}", file=sys.stderr)
        if likeness < target:
            before = None
            continue
        if before is not None:
            return before
        before = Timed(who, steps, seconds, likeness, adherence)
    return before


def _script(
    script: Path, subject: Subject, out: Path, rate: float, batch: int, steps: int, *, checkpoints: bool = True
) -> list[str]:
    given = {
        "pretrained_model_name_or_path": subject.base, "instance_data_dir": subject.photos, "output_dir": out,
        "instance_prompt": "a portrait of ohwx", "resolution": 64, "rank": RANK, "lora_alpha": RANK, "seed": 0,
        "train_batch_size": batch, "learning_rate": rate, "lr_scheduler": "constant", "lr_warmup_steps": 0,
        "max_train_steps": steps, "guidance_scale": 1, "mixed_precision": "no", "max_sequence_length": 64,
        "checkpointing_steps": EVERY if checkpoints else steps + 1,
    }  # fmt: skip
    told = [f"--{name}={value}" for name, value in given.items()]
    return [sys.executable, __file__, _STANDS_ALONE, str(script), *told, "--center_crop", "--cache_latents"]


def _seconds(command: list[str], environment: dict[str, str] | None = None) -> float:
    """Runs a command and returns how long it took. Raises SystemExit with its last lines where it failed."""
    began = time.monotonic()
    ended = subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)}\n{ended.stderr[-2000:]}")
    return time.monotonic() - began


def run_script(arguments: list[str]) -> None:
    """Runs the script in this process, with a stand-in for torchvision where that is missing."""
    if find_spec("torchvision") is None:
        import diffusers  # noqa: F401 - libraries look for torchvision when they are imported
        import transformers  # noqa: F401

        transforms: Any = types.ModuleType("torchvision.transforms")
        functional: Any = types.ModuleType("torchvision.transforms.functional")
        vision: Any = types.ModuleType("torchvision")
        transforms.Resize, transforms.CenterCrop, transforms.RandomCrop = resized, centre_crop, RandomCrop
        transforms.RandomHorizontalFlip, transforms.Compose = identity, composed
        transforms.ToTensor, transforms.Normalize = to_tensor, normalised
        transforms.InterpolationMode = types.SimpleNamespace(BILINEAR=Image.Resampling.BILINEAR)
        functional.crop = lambda image, top, left, high, wide: image.crop((left, top, left + wide, top + high))
        vision.transforms, transforms.functional = transforms, functional
        sys.modules |= {module.__name__: module for module in (vision, transforms, functional)}
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")


def resized(size: int, interpolation: Any) -> Callable[[Image.Image], Image.Image]:
    """Makes the shorter side so long."""

    def resize(image: Image.Image) -> Image.Image:
        share = size / min(image.size)
        return image.resize((round(image.width * share), round(image.height * share)), interpolation)

    return resize


def centre_crop(size: int) -> Callable[[Image.Image], Image.Image]:
    """Takes the square in the middle."""

    def crop(image: Image.Image) -> Image.Image:
        left, top = round((image.width - size) / 2), round((image.height - size) / 2)
        return image.crop((left, top, left + size, top + size))

    return crop


def identity(*_: Any, **__: Any) -> Callable[[Any], Any]:
    """Stands for what is made and never called here."""
    return lambda image: image


class RandomCrop:
    """Chooses a window by lot."""

    def __init__(self, size: int) -> None:
        self.size = size

    @staticmethod
    def get_params(image: Image.Image, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Returns top, left, height and width."""
        high, wide = size
        return random.randint(0, image.height - high), random.randint(0, image.width - wide), high, wide


def composed(steps: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Does one after another."""

    def all_of_them(image: Any) -> Any:
        for step in steps:
            image = step(image)
        return image

    return all_of_them


def to_tensor() -> Callable[[Image.Image], Any]:
    """Makes (3, height, width) in [0, 1]."""
    import numpy as np
    import torch

    return lambda image: torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)


def normalised(mean: list[float], deviation: list[float]) -> Callable[[Any], Any]:
    """Takes the mean away and divides by the deviation."""
    return lambda tensor: (tensor - mean[0]) / deviation[0]


def main() -> None:
    if sys.argv[1:2] == [_STANDS_ALONE]:
        return run_script(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", type=Path, nargs="?", help="a copy of diffusers' train_dreambooth_lora_flux.py")
    parser.add_argument("--subjects", type=int, nargs="+", default=[9001, 9002, 9003])
    parser.add_argument("--target", type=float, default=0.8, help="likeness")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    if chosen.script is None or not chosen.script.is_file():
        parser.error("name a copy of examples/dreambooth/train_dreambooth_lora_flux.py of huggingface/diffusers: "
                     "`git clone --depth 1 https://github.com/huggingface/diffusers` brings one")  # fmt: skip
    found = []
    for seed in chosen.subjects:
        with tempfile.TemporaryDirectory() as folder:
            subject = Subject(seed, Path(folder))
            pair = ours(subject, chosen.target), theirs(subject, chosen.script, chosen.target)
        found.append({"subject": seed, "ours": asdict(pair[0]), "theirs": asdict(pair[1]),
                      "ratio": round(pair[0].seconds / pair[1].seconds, 3)})  # fmt: skip
        if not chosen.json:
            print(f"{seed}: {pair[0]}\n      {pair[1]}\n      ratio {found[-1]['ratio']}")
    median = statistics.median(float(one["ratio"]) for one in found)
    print(json.dumps({"subjects": found, "median": median}) if chosen.json else f"median {median:.2f}")


if __name__ == "__main__":
    main()
