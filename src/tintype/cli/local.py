"""`tintype train` and `tintype generate`: the endpoints' own jobs, run here and now, without a server.

A custom model belongs to an installation, so that its training goes through the queue of the server that runs.
"""

from __future__ import annotations

import logging
import shutil
import signal
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tintype.catalog import Endpoint, File, Image
from tintype.catalog.custom_models import ModelReference
from tintype.catalog.fields import SEEDS
from tintype.catalog.flux_lora import FLUX_LORA, FluxLoraOutput
from tintype.catalog.flux_lora_portrait_trainer import PORTRAIT_TRAINER
from tintype.catalog.ideogram_custom_models import (
    CUSTOM_MODEL_GENERATE,
    CUSTOM_MODEL_TRAINER,
    CustomModelGenerateOutput,
)
from tintype.catalog.ideogram_v4 import IDEOGRAM_LORA
from tintype.catalog.ideogram_v4_trainer import IDEOGRAM_TRAINER
from tintype.cli import models
from tintype.cli.data import DataDir, with_store
from tintype.cli.listing import say
from tintype.cli.watch import submit_here, watch
from tintype.errors import BadRequest, Drained
from tintype.files import Objects, own_reference
from tintype.files.disk import check_room, writing
from tintype.models.weights import resolve
from tintype.processes import printable
from tintype.settings import Settings, load_settings

if TYPE_CHECKING:
    from tintype.jobs.local import LocalContext
    from tintype.store import Store

Base = Literal["flux", "ideogram4"]
_TRAINERS = {"flux": PORTRAIT_TRAINER, "ideogram4": IDEOGRAM_TRAINER}
_GENERATORS = {"flux": FLUX_LORA, "ideogram4": IDEOGRAM_LORA}

# What a LoRA is called in the output folder, whatever the job named it.
LORA, CONFIG = "lora.safetensors", "config.json"
WORK = ".work"  # checkpoints of an unfinished run; removed when it is done


def train(
    photos: Annotated[Path, typer.Argument(help="A folder of photos (with .txt captions beside them) or an archive.")],
    base: Annotated[Base, typer.Option(help="The base model.")] = "flux",
    model: Annotated[str | None, typer.Option(help="Name of a custom model to make, in the server that runs.")] = None,
    trigger: Annotated[str | None, typer.Option(help="Phrase that will call the person up in prompts (flux).")] = None,
    caption: Annotated[str | None, typer.Option(help="Caption of photos without their own (ideogram4).")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate.")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the LoRA.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.")] = None,
    resolution: Annotated[str | None, typer.Option(help="auto, a name, or WIDTHxHEIGHT (ideogram4).")] = None,
    multiresolution: Annotated[bool | None, typer.Option(help="Train on 512, 768 and 1024 px areas (flux).")] = None,
    crop: Annotated[bool | None, typer.Option(help="Crop photos to their subject (flux).")] = None,
    masks: Annotated[bool | None, typer.Option(help="Weigh the loss to the subject (flux).")] = None,
    resume_from: Annotated[Path | None, typer.Option(help="A LoRA to go on from (flux).")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Which step is handed over: best, or last (flux).")] = None,
    stop: Annotated[str | None, typer.Option(help="auto: end when it gets no better; off (flux).")] = None,
    consent: Annotated[str | None, typer.Option(help="Who agreed to this, when and what for; kept with it.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the LoRA, its configuration and report.")] = Path("lora"),
    data_dir: DataDir = None,
) -> None:
    """Train a LoRA. Ctrl-C stops at a checkpoint; the same command goes on from there. What is not said is as the
    endpoint has it (`tintype models describe fal-ai/flux-lora-portrait-trainer`).

    Example: [bold]tintype train photos/ --trigger ohwx --steps 500 --out my-lora[/]

    Example: [bold]tintype train drawings.zip --base ideogram4 --caption "a drawing in my style"[/]

    Example: [bold]tintype train drawings/ --model "My own style"[/]
    """
    endpoint = _TRAINERS[base] if model is None else CUSTOM_MODEL_TRAINER
    body = _body(
        endpoint,
        {
            "--model": ("name", model),
            "--trigger": ("trigger_phrase", trigger),
            "--caption": ("default_caption", caption),
            "--steps": ("steps", steps),
            "--learning-rate": ("learning_rate", learning_rate),
            "--rank": ("rank", rank),
            "--seed": ("seed", seed),
            "--resolution": ("resolution", resolution),
            "--multiresolution": ("multiresolution_training", multiresolution),
            "--crop": ("subject_crop", crop),
            "--masks": ("create_masks", masks),
            "--resume-from": ("resume_from_checkpoint", resume_from),
            "--checkpoint": ("checkpoint", checkpoint),
            "--stop": ("stop", stop),
            "--consent": ("consent", consent),
        },
    )
    if model is None:
        _train_here(endpoint, body, photos, resume_from, out)
        return
    with tempfile.TemporaryDirectory() as folder:
        request_id = submit_here(endpoint, body, _archive(photos, Path(folder)), data_dir)
    watch(request_id, data_dir)


def generate(
    prompt: Annotated[str, typer.Argument(help="What to generate.")],
    base: Annotated[Base, typer.Option(help="The base model.")] = "flux",
    model: Annotated[str | None, typer.Option(help="A custom model instead: its name, id or URI.")] = None,
    lora: Annotated[list[Path] | None, typer.Option(help="A LoRA file; any number, each with --lora.")] = None,
    scale: Annotated[list[float] | None, typer.Option(help="Scale of each LoRA, in the same order.")] = None,
    size: Annotated[str | None, typer.Option(help="Name of a size, or WIDTHxHEIGHT; square_hd if not said.")] = None,
    aspect: Annotated[str | None, typer.Option(help="Aspect ratio such as 4:3 (custom models).")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps (flux).")] = None,
    guidance: Annotated[float | None, typer.Option(help="How closely to follow the prompt (flux).")] = None,
    speed: Annotated[str | None, typer.Option(help="TURBO, BALANCED or QUALITY (ideogram4, custom models).")] = None,
    count: Annotated[int | None, typer.Option(help="How many images.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; chosen when absent.")] = None,
    out: Annotated[Path, typer.Option(help="The image; further ones get a number.")] = Path("picture.png"),
    data_dir: DataDir = None,
) -> None:
    """Generate images, with or without LoRAs, or with a custom model of this installation.

    Example: [bold]tintype generate "a portrait of ohwx, blue shirt" --lora my-lora/lora.safetensors --seed 3[/]

    Example: [bold]tintype generate "a red hat" --base ideogram4 --lora lora/lora.safetensors --speed TURBO[/]

    Example: [bold]tintype generate "a red hat" --model "My own style"[/]
    """
    loras = lora or []
    scales = [*(scale or []), *[1.0] * len(loras)][: len(loras)]
    if scale and len(scale) > len(loras):
        raise BadRequest("There are more scales than LoRAs.", remedy="Give one --lora for each --scale.")
    endpoint = _GENERATORS[base] if model is None else CUSTOM_MODEL_GENERATE
    form = "jpeg" if out.suffix.lower() in (".jpg", ".jpeg") else None if model is not None else "png"
    body = _body(
        endpoint,
        {
            "PROMPT": ("prompt", prompt),
            "--lora": ("loras", loras or None),
            "--size": ("image_size", _size(size or "square_hd") if size or model is None else None),
            "--aspect": ("aspect_ratio", aspect),
            "--steps": ("num_inference_steps", steps),
            "--guidance": ("guidance_scale", guidance),
            "--speed": ("rendering_speed", speed),
            "--count": ("num_images", count),
            "--seed": ("seed", seed),
            "a JPEG as --out": ("output_format", form),
        },
    )
    caution = resolve(load_settings(), endpoint.base).caution
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        found = None if model is None else _model_here(model, scratch / LORA, data_dir)
        with _running(endpoint, scratch, scratch / "pictures", said_last=caution) as context:
            if loras:
                paths = zip(loras, scales, strict=True)
                body["loras"] = [{"path": context.offer(_existing(path)), "scale": by} for path, by in paths]
            if found is not None:
                context.model = replace(found, lora=context.offer(scratch / LORA))
                body["model_id"] = found.id
            _deliver(endpoint.load_job()(endpoint.parse(body), context), context.output, out)
    _caution(context, endpoint)


def _train_here(endpoint: Endpoint, body: dict[str, Any], photos: Path, resume_from: Path | None, out: Path) -> None:
    """Trains in this process, and leaves in `out` what is published. Raises BadRequest."""
    if _existing(photos).is_dir() and photos.resolve() == out.resolve():
        raise BadRequest(
            "--out is the folder of the photos.", remedy="Name another one; it may lie inside that folder."
        )
    (out / WORK).mkdir(parents=True, exist_ok=True)
    (out / WORK).chmod(0o700)  # photos lie in it; what becomes of them is for whom the person's umask says
    with _running(endpoint, out / WORK, out) as context:
        body["images_data_url"] = context.offer(photos)
        if resume_from is not None:
            body["resume_from_checkpoint"] = context.offer(_existing(resume_from))
        endpoint.load_job()(endpoint.parse(body), context)
    shutil.rmtree(out / WORK)
    Console().print(f"[green]done[/]  {escape(str(out / LORA))}\n      {escape(str(out / CONFIG))}", soft_wrap=True)
    _caution(context, endpoint)


def _deliver(answer: FluxLoraOutput | CustomModelGenerateOutput, made: Path, out: Path) -> None:
    """Moves the images to where they are to be, and names them."""
    out.parent.mkdir(parents=True, exist_ok=True)
    images: Sequence[Image | File] = answer.images
    for number, image in enumerate(images):
        target = out if number == 0 else out.with_stem(f"{out.stem}-{number + 1}")
        with writing(target.parent, image.file_size or 0):
            shutil.move(made / str(image.file_name), target)
        size = f"{image.width} x {image.height}, " if isinstance(image, Image) else ""
        say(f"{target}  {size}seed {(answer.seed + number) % SEEDS}")


def _body(endpoint: Endpoint, options: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """Makes an input of the options that were given. Raises BadRequest for one that the endpoint has no field for."""
    given = {option: (field, value) for option, (field, value) in options.items() if value is not None}
    for option, (field, _) in given.items():
        if field not in endpoint.input.model_fields:
            known = [name for name, (one, _) in options.items() if one in endpoint.input.model_fields]
            raise BadRequest(f"{option} is not for {endpoint.id}.", remedy=f"It takes {', '.join(known)}.")
    return dict(given.values())


def _model_here(name: str, lora: Path, data_dir: Path | None) -> ModelReference:
    """Finds a custom model, and copies its LoRA. Raises NotFound, and InputError for one that cannot be used."""

    async def work(store: Store, settings: Settings) -> ModelReference:
        model = (await models.find(store, name)).reference
        own = own_reference(model.usable_lora())
        assert own is not None, "models name files of this installation"
        Objects.open(settings.storage_url).copy_to("/".join(own), lora)
        return model

    return with_store(data_dir, work)


@contextmanager
def _running(endpoint: Endpoint, folder: Path, output: Path, *, said_last: str = "") -> Iterator[LocalContext]:
    """Makes a context with a progress bar and a log, without the line that is said last; Ctrl-C asks the job to
    checkpoint, a second one stops at once."""
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
            if message == said_last:
                return
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


def _caution(context: LocalContext, endpoint: Endpoint) -> None:
    """Says last, so that nobody misses it, what a miniature cannot do."""
    if caution := resolve(context.settings, endpoint.base).caution:
        Console().print(caution, style="yellow", soft_wrap=True, markup=False, highlight=False)


def _archive(photos: Path, work: Path) -> Path:
    """Returns the archive itself, or one of a folder's files (stored, not squeezed: photos are compressed already)."""
    if not _existing(photos).is_dir():
        return photos
    from tintype.dataset.folder import folder_members  # with what decodes images

    path = work / "photos.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member in folder_members(photos, work / "listed"):
            if member.path is not None:
                check_room(work, member.path.stat().st_size)
                archive.write(member.path, member.identity.encode("utf-8", "replace").decode())
    return path


def _existing(path: Path) -> Path:
    if not path.exists():
        raise BadRequest(f"{path} is not there.")
    return path


def _size(text: str) -> str | dict[str, int]:
    width, cross, height = text.lower().partition("x")
    return {"width": int(width), "height": int(height)} if cross and width.isdigit() and height.isdigit() else text
