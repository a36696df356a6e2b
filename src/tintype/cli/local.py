"""`tintype train` and `tintype generate`: the endpoints' own jobs, run here and now, without a server."""

from __future__ import annotations

import logging
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tintype.catalog import Endpoint
from tintype.catalog.fields import SEEDS
from tintype.catalog.flux_lora import FLUX_LORA, FluxLoraOutput
from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER
from tintype.cli.listing import say
from tintype.errors import BadRequest, Drained
from tintype.files.disk import writing
from tintype.models.weights import resolve
from tintype.processes import printable
from tintype.settings import load_settings

if TYPE_CHECKING:
    from tintype.jobs.local import LocalContext

# What a LoRA is called in the output folder, whatever the job named it.
LORA, CONFIG = "lora.safetensors", "config.json"
WORK = ".work"  # checkpoints of an unfinished run; removed when it is done


def train(
    photos: Annotated[Path, typer.Argument(help="A folder of photos (with .txt captions beside them) or an archive.")],
    trigger: Annotated[str | None, typer.Option(help="Phrase that will call the person up in prompts.")] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 2500,
    learning_rate: Annotated[float, typer.Option(help="Learning rate.")] = 0.00009,
    rank: Annotated[int, typer.Option(help="Rank of the LoRA.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the run.")] = 0,
    multiresolution: Annotated[bool, typer.Option(help="Train on 512, 768 and 1024 px areas.")] = True,
    crop: Annotated[bool, typer.Option(help="Crop photos to their subject.")] = True,
    masks: Annotated[bool, typer.Option(help="Weigh the loss to the subject.")] = False,
    resume_from: Annotated[Path | None, typer.Option(help="A LoRA to go on from.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the LoRA, its configuration and report.")] = Path("lora"),
) -> None:
    """Train a portrait LoRA. Ctrl-C stops at a checkpoint; the same command goes on from there.

    Example: [bold]tintype train photos/ --trigger ohwx --steps 500 --out my-lora[/]
    """
    if _existing(photos).is_dir() and photos.resolve() == out.resolve():
        raise BadRequest(
            "--out is the folder of the photos.", remedy="Name another one; it may lie inside that folder."
        )
    (out / WORK).mkdir(parents=True, exist_ok=True)
    (out / WORK).chmod(0o700)  # photos lie in it; what becomes of them is for whom the person's umask says
    with _running(PORTRAIT_TRAINER, out / WORK, out) as context:
        body = {
            "images_data_url": context.offer(photos),
            "trigger_phrase": trigger,
            "steps": steps,
            "learning_rate": learning_rate,
            "rank": rank,
            "seed": seed,
            "multiresolution_training": multiresolution,
            "subject_crop": crop,
            "create_masks": masks,
            "resume_from_checkpoint": context.offer(_existing(resume_from)) if resume_from else "",
        }
        PORTRAIT_TRAINER.load_job()(PORTRAIT_TRAINER.parse(body), context)
    shutil.rmtree(out / WORK)
    Console().print(f"[green]done[/]  {escape(str(out / LORA))}\n      {escape(str(out / CONFIG))}", soft_wrap=True)
    _caution(context)


def generate(
    prompt: Annotated[str, typer.Argument(help="What to generate.")],
    lora: Annotated[list[Path] | None, typer.Option(help="A LoRA file; any number, each with --lora.")] = None,
    scale: Annotated[list[float] | None, typer.Option(help="Scale of each LoRA, in the same order.")] = None,
    size: Annotated[str, typer.Option(help="Name of a size, or WIDTHxHEIGHT.")] = "square_hd",
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 28,
    guidance: Annotated[float, typer.Option(help="How closely to follow the prompt.")] = 3.5,
    count: Annotated[int, typer.Option(help="How many images.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed; chosen when absent.")] = None,
    out: Annotated[Path, typer.Option(help="The image; further ones get a number.")] = Path("picture.png"),
) -> None:
    """Generate images, with or without LoRAs.

    Example: [bold]tintype generate "a portrait of ohwx, blue shirt" --lora my-lora/lora.safetensors --seed 3[/]
    """
    loras = lora or []
    scales = [*(scale or []), *[1.0] * len(loras)][: len(loras)]
    if scale and len(scale) > len(loras):
        raise BadRequest("There are more scales than LoRAs.", remedy="Give one --lora for each --scale.")
    with (
        tempfile.TemporaryDirectory() as scratch,
        _running(FLUX_LORA, Path(scratch), Path(scratch) / "pictures") as context,
    ):
        paths = [{"path": context.offer(_existing(p)), "scale": s} for p, s in zip(loras, scales, strict=True)]
        body = {
            "prompt": prompt,
            "loras": paths,
            "image_size": _size(size),
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "num_images": count,
            "seed": seed,
            "output_format": "jpeg" if out.suffix.lower() in (".jpg", ".jpeg") else "png",
        }
        answer: FluxLoraOutput = FLUX_LORA.load_job()(FLUX_LORA.parse(body), context)
        out.parent.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(answer.images):
            target = out if number == 0 else out.with_stem(f"{out.stem}-{number + 1}")
            with writing(target.parent, image.file_size or 0):
                shutil.move(context.output / str(image.file_name), target)
            say(f"{target}  {image.width} x {image.height}, seed {(answer.seed + number) % SEEDS}")
    _caution(context)


@contextmanager
def _running(endpoint: Endpoint, folder: Path, output: Path) -> Iterator[LocalContext]:
    """Makes a context with a progress bar and a log; Ctrl-C asks the job to checkpoint, a second one stops at once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        endpoint.load_job()
        from tintype.jobs.local import LocalContext
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[metrics]}")) as bar:
        tasks: list[TaskID] = []

        def progress(step: int, total: int, metrics: dict[str, float]) -> None:
            if not tasks:
                tasks.append(bar.add_task("steps", total=total, metrics=""))
            shown = "  ".join(f"{name} {value:.3g}" for name, value in metrics.items())
            bar.update(tasks[0], completed=step, total=total, metrics=shown)

        def log(level: str, message: str) -> None:
            style = "yellow" if level in ("WARN", "ERROR") else None
            bar.console.print(printable(message), style=style, markup=False, highlight=False, soft_wrap=True)

        context = LocalContext(folder, load_settings(), output=output, on_log=log, on_progress=progress)
        with _interruptible(context):
            try:
                yield context
            except Drained:
                bar.console.print("Stopped at a checkpoint. The same command goes on from there.")
                raise typer.Exit(130) from None


@contextmanager
def _interruptible(context: LocalContext) -> Iterator[None]:
    def drain(*_: Any) -> None:
        context.draining = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, drain)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _caution(context: LocalContext) -> None:
    """Says last, so that nobody misses it, what a miniature cannot do."""
    if caution := resolve(context.settings, "flux").caution:
        Console().print(caution, style="yellow", soft_wrap=True, markup=False, highlight=False)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise BadRequest(f"{path} is not there.")
    return path


def _size(text: str) -> str | dict[str, int]:
    width, cross, height = text.lower().partition("x")
    return {"width": int(width), "height": int(height)} if cross and width.isdigit() and height.isdigit() else text
