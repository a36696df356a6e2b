"""How every LoRA is trained once its dataset is ready: encode, train, export, prove, and publish what came out.

The jobs of the endpoints decide what is trained, and hand it over as a Recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tintype.catalog import File
from tintype.count import counted
from tintype.dataset import Dataset, DatasetOptions, open_dataset, write_page
from tintype.errors import about_input
from tintype.files.disk import check_room, write_file
from tintype.job import JobContext
from tintype.jobs.best_effort import BestEffort
from tintype.jobs.candidates import Candidates
from tintype.jobs.recipe import Recipe
from tintype.jobs.resident_models import resident_models
from tintype.jobs.training_config import write_config
from tintype.likeness.photos import Photos, unknown_people
from tintype.lora.adapter import Adapter
from tintype.lora.lora import Lora
from tintype.lora.read import read_lora
from tintype.lora.write import write_lora
from tintype.models.family import Family
from tintype.models.generating_memory import training_demand
from tintype.models.weights import BaseWeights
from tintype.training.cache import Cache, encode_once
from tintype.training.curve import write_curve
from tintype.training.export import export_all, header
from tintype.training.flops import step_cost_of
from tintype.training.loop import Trained, train
from tintype.training.prove import Proof, prove
from tintype.training.state_file import NAME as STATE_NAME, pack_state

_STATE_SECONDS = 7 * 86_400.0  # that the state of an ended training is kept: it is much larger than its LoRA
# How often an adapter is written: three checkpoints with its average and the optimizer's moments, three forms, twice.
_ADAPTERS = 18


@dataclass(frozen=True)
class TrainedFiles:
    """Holds what a training hands over: the LoRA in each of its forms, and the file that names everything else."""

    exports: Mapping[str, File]
    config: File


def train_lora(recipe: Recipe, dataset: Dataset, context: JobContext) -> TrainedFiles:
    """Trains, exports in every form, proves the file, and publishes; raises UnprovenAdapter for one without effect.

    Once there is a LoRA, nothing but a proof that fails keeps it from being published.
    """
    family, plan, effort = recipe.family, recipe.plan, BestEffort(context)
    snapshots = context.scratch / "kept"
    photos = _look_at_people(recipe, dataset, effort, context)
    candidates = _candidates(recipe, photos, dataset, snapshots, effort, context)
    dataset = candidates.dataset if candidates else dataset
    dataset.report.consent = recipe.consent
    cache = _encode(family, dataset, context)
    edition = family.weights.edition
    for remark in (*family.remarks, *([edition.caution] if edition and edition.caution else [])):
        context.log(remark, "WARN")
        dataset.report.warnings.append(remark)
    adapter = _new_adapter(recipe, context)
    kept = (plan.steps // plan.keep_every if plan.keep_every else 0) + 2 * bool(plan.score_at)  # the best, and the next
    check_room(context.scratch, adapter.weights.nbytes * (_ADAPTERS + kept))

    context.log(f"The base is read {_form_of(family.weights)}: {family.weights.precision_why}.")
    context.log(_announcement(recipe, cache))
    if plan.keep_every and (lacking := recipe.samples.lacking(family, context)):
        context.log(f"The LoRAs on the way will have no samples. {lacking}", "WARN")
    on_snapshot = _on_snapshot(recipe, snapshots, candidates, effort, context)
    with about_input("resume_from_checkpoint"):
        trained = train(
            family,
            adapter,
            cache,
            plan,
            context,
            snapshot_dir=snapshots,
            on_snapshot=on_snapshot,
            reserve=lambda most, least: resident_models(context).reserve(most, least, f"training {family.spec.title}"),
            must_go_on=recipe.done_before > 0,
        )
    del adapter  # what follows may need its memory
    lora = _chosen(recipe, trained, candidates, context)
    if candidates:
        dataset.report.scored = candidates.report()
    cost = effort.attempt("operation counts", lambda: step_cost_of(family, cache, plan, recipe.rank))
    context.log(_pace(trained, cost.describe(trained.steps_per_second) if cost else ""))
    dtype = _file_dtype(family)
    exports = export_all(
        lora, family.spec.lora_keys, context.scratch, dtype=dtype, header=_header(recipe, len(trained.losses))
    )
    if proof := effort.attempt("proof", lambda: prove(family, exports["diffusers"], lora, cache)):
        context.log(_proof(proof, exports))

    published = {form: context.publish(path, "application/octet-stream") for form, path in exports.items()}
    rest = _publish_rest(recipe, dataset, trained, exports["diffusers"], snapshots, effort, context)
    rest |= _publish_last(recipe, trained, lora, effort, context) | _publish_state(recipe, trained, effort, context)
    licence = _publish_licence(recipe.family.weights, context)
    files = {"exports": published, **licence, **rest}
    chosen = candidates.figures() if candidates else None
    config = write_config(recipe, dataset.report, trained, cost, proof, files, chosen, effort.not_made, context)
    return TrainedFiles(published, context.publish(config, "application/json", "config.json"))


def _publish_licence(weights: BaseWeights, context: JobContext) -> dict[str, File]:
    """What whoever gets the LoRA has to be given along with it: a notice, and the licence's text where it is here."""
    notice = write_file(context.scratch / "NOTICE", weights.notice)
    files = {"notice": context.publish(notice, "text/plain")}
    if text := weights.licence_text:
        copy = write_file(context.scratch / "LICENSE", text.read_bytes())
        files["license"] = context.publish(copy, "text/plain")
    return files


def open_photos(
    family: Family, url: str, options: DatasetOptions, context: JobContext, archive_format: str | None = None
) -> Dataset:
    """Makes a dataset of the archive at images_data_url, and writes into the log what became of the photos."""
    with about_input("images_data_url"):
        dataset = open_dataset(
            context.fetch(url),
            context.scratch / "photos",
            options,
            find_subject=family.find_subject,
            log=lambda line: context.log(line, "WARN"),
            archive_format=archive_format,
            check=context.raise_if_cancelled,
        )
    report = dataset.report
    if dataset.size is not None:
        context.log(dataset.size.why)
    sizes = ", ".join(f"{count} at {size}" for size, count in report.buckets.items())
    context.log(f"{counted(len(report.kept), 'photo')} kept, {len(report.dropped)} left out. Sizes: {sizes}.")
    captions = sorted({example.caption for example in dataset.examples})
    context.log(f'Captions: "{captions[0]}"' + (f" and {len(captions) - 1} others." if captions[1:] else "."))
    for warning in report.warnings:
        context.log(warning, "WARN")
    return dataset


def _encode(family: Family, dataset: Dataset, context: JobContext) -> Cache:
    """Latents and text features of all that is trained; the encoders' memory is given back. The transformer's files are
    read from disk meanwhile."""
    needed = training_demand(family)
    resident_models(context).make_room(family, needed, needed, f"training {family.spec.title}")
    for caption in sorted({example.caption for example in dataset.examples}):
        if cut := family.cut_off(caption):
            context.log(f"A caption is longer than the model reads; left out: {cut}", "WARN")
    with family.reading_ahead():
        cache = encode_once(family, dataset, context.lasting / "encoded", each=lambda *_: context.raise_if_cancelled())
    resident_models(context).release_encoders(family)
    return cache


def _new_adapter(recipe: Recipe, context: JobContext) -> Adapter:
    """One that changes nothing yet, or what the LoRA to go on from does."""
    family = recipe.family
    adapter = Adapter.for_transformer(
        family.load_transformer(),
        family.adapter_targets,
        rank=recipe.rank,
        seed=recipe.plan.seed,
        device=family.device,
        shared=family.fused_targets,
    )
    if recipe.start_from is not None:
        adapter.start_from(recipe.start_from)
        for line in recipe.start_from.account(adapter.layers):
            context.log(line)
    return adapter


def _look_at_people(recipe: Recipe, dataset: Dataset, effort: BestEffort, context: JobContext) -> Photos | None:
    """Who is in the photos, said in the report before anything is trained; None where nothing tells people apart."""
    identity, report = recipe.identity, dataset.report
    photos, why = None, recipe.why_no_identity
    if identity is not None:
        photos = effort.attempt("look at who is in the photos", lambda: Photos.of(dataset, identity))
        why = "Looking at who is in the photos failed."
    report.coverage += photos.aspects() if photos else unknown_people(why)
    for aspect in report.coverage:
        if aspect.state == "advice":
            context.log(aspect.text, "WARN")
    return photos


def _candidates(
    recipe: Recipe, photos: Photos | None, dataset: Dataset, folder: Path, effort: BestEffort, context: JobContext
) -> Candidates | None:
    """What scores the LoRA of some steps; None where nothing is scored."""
    if photos is None or not recipe.plan.score_at:
        return None
    return effort.attempt("choice of the best step", lambda: Candidates(recipe, photos, dataset, folder, context))


def _on_snapshot(
    recipe: Recipe, folder: Path, candidates: Candidates | None, effort: BestEffort, context: JobContext
) -> Callable[[int, Lora], bool]:
    """What happens at a snapshot: the LoRA as it is by then, what it generates, and its scores. Files that are there
    stay."""
    plan = recipe.plan

    def on_snapshot(step: int, lora: Lora) -> bool:
        enough = False
        if plan.keep_every and step % plan.keep_every == 0:
            path = _write(recipe, lora, folder / f"lora-step-{step:05d}.safetensors", step)
            stem = f"sample-step-{step:05d}"
            _generate_samples(recipe, path, (folder, stem), f"samples at step {step}", effort, context)
        if candidates and step in plan.score_at:
            path = _write(recipe, lora, candidates.lora(step), step)
            enough = bool(effort.attempt(f"scores at step {step}", lambda: candidates.take(step)))
            resident_models(context).release_encoders(recipe.family)
        return enough

    return on_snapshot


def _generate_samples(
    recipe: Recipe, lora: Path, place: tuple[Path, str], what: str, effort: BestEffort, context: JobContext
) -> None:
    """Generates them if it can; the encoders stay no longer than that."""
    try:
        effort.attempt(what, lambda: recipe.samples.generate(lora, *place, context))
    finally:
        resident_models(context).release_encoders(recipe.family)


def _write(recipe: Recipe, lora: Lora, path: Path, step: int) -> Path:
    """Writes the LoRA of a step, unless that was done before a kill."""
    if not path.exists():
        dtype, facts = _file_dtype(recipe.family), _header(recipe, step)
        write_lora(lora, recipe.family.spec.lora_keys, path, form="diffusers", dtype=dtype, header=facts)
    return path


def _chosen(recipe: Recipe, trained: Trained, candidates: Candidates | None, context: JobContext) -> Lora:
    """The LoRA that is handed over: of the best step where steps were scored, else of the last."""
    done, best = len(trained.losses), candidates.best if candidates else None
    if candidates is None or best is None:
        return trained.lora
    asked = f", of {recipe.plan.steps} asked for" if done < recipe.plan.steps else ""
    context.log(f"Handed over is the LoRA of step {best.step} of {done}{asked}: {best.scores}.")
    if best.step == done:
        return trained.lora
    return read_lora(candidates.lora(best.step), recipe.family.spec.lora_keys)


def _publish_last(
    recipe: Recipe, trained: Trained, lora: Lora, effort: BestEffort, context: JobContext
) -> dict[str, File]:
    """The LoRA of the last step, where another one is handed over."""
    if lora is trained.lora:
        return {}

    def publish() -> File:
        path = _write(recipe, trained.lora, context.scratch / "lora-last.safetensors", len(trained.losses))
        return context.publish(path, "application/octet-stream")

    file = effort.attempt("LoRA of the last step", publish)
    return {"last": file} if file else {}


def _publish_state(recipe: Recipe, trained: Trained, effort: BestEffort, context: JobContext) -> dict[str, File]:
    """What to go on with a training that ended before all steps were done, where its endpoint takes it."""
    done, asked = len(trained.losses), recipe.plan.steps
    if done >= asked or "resume_from_checkpoint" not in type(recipe.input).model_fields:
        return {}

    def publish() -> File | None:
        kept = context.checkpoint.latest()
        if kept is None or kept.step != done:
            return None
        path = pack_state(kept.path, context.scratch / STATE_NAME)
        return context.publish(path, "application/x-tar", lifetime=_STATE_SECONDS)

    file = effort.attempt("state to go on from", publish)
    saved = (asked - done) / trained.steps_per_second / 60 if trained.steps_per_second else 0.0
    context.log(
        f"Ended after {done} of {asked} steps, {saved:.0f} minutes sooner."
        + (f" To go on, send it again with {STATE_NAME} as resume_from_checkpoint, within a week." if file else "")
    )
    return {"state": file} if file else {}


def _publish_rest(
    recipe: Recipe,
    dataset: Dataset,
    trained: Trained,
    lora: Path,
    snapshots: Path,
    effort: BestEffort,
    context: JobContext,
) -> dict[str, Any]:
    """The files beside the LoRA, by what the config file calls them; samples of the finished LoRA come first."""
    report, every, steps = dataset.report, recipe.plan.keep_every, len(trained.losses)
    kept = range(every, steps + 1, every) if every else ()
    scratch, stem = context.scratch, "sample"
    _generate_samples(recipe, lora, (scratch, stem), "samples", effort, context)
    samples = [path for path in recipe.samples.places(scratch, stem) if path.exists()]

    def published(what: str, content_type: str, make: Callable[[], Path]) -> File | None:
        return effort.attempt(what, lambda: context.publish(make(), content_type))

    def all_published(content_type: str, paths: list[Path]) -> list[File]:
        return [file for path in paths if (file := published(path.name, content_type, path.absolute))]

    files = {
        "report": published("report", "application/json", lambda: report.write(scratch / "report.json")),
        "report_html": published("report_html", "text/html", lambda: write_page(report, scratch / "report.html")),
        "loss_curve": published(
            "loss_curve", "image/svg+xml", lambda: write_curve(trained.losses, scratch / "loss.svg", kept=kept)
        ),
        "samples": all_published("image/png", samples + sorted(snapshots.glob("sample-*.png"))),
        "checkpoints": all_published("application/octet-stream", sorted(snapshots.glob("lora-step-*.safetensors"))),
    }
    return {name: file for name, file in files.items() if file is not None}


def _header(recipe: Recipe, step: int | None = None) -> dict[str, str]:
    family, plan = recipe.family, recipe.plan
    return header(
        title=recipe.title,
        trigger=recipe.trigger or "",
        base=family.weights.name,
        steps=plan.steps if step is None else step,
        licence=family.weights.licence,
        notice=family.weights.notice,
        resolution=recipe.resolution,
        settings={**plan.to_json(), "rank": recipe.rank, "alpha": float(recipe.rank)},
        facts=family.weights.facts,
    )


def _file_dtype(family: Family) -> torch.dtype:
    """A miniature's adapter is small enough to keep every bit; files for the real model are in its own precision."""
    return torch.float32 if family.weights.miniature and family.dtype == torch.float32 else torch.bfloat16


def _form_of(weights: BaseWeights) -> str:
    return "as it is stored" if weights.precision == "stored" else f"in {weights.precision}"


def _pace(trained: Trained, cost: str) -> str:
    skipped = f" {counted(trained.skipped, 'step')} skipped. " if trained.skipped else " "
    return f"Trained in {trained.seconds:.0f} s ({trained.steps_per_second:.1f} steps/s).{skipped}{cost}"


def _announcement(recipe: Recipe, cache: Cache) -> str:
    rate, plan = recipe.learning_rate, recipe.plan
    scaled = "" if plan.learning_rate == rate else f" ({plan.learning_rate:.2g} on this base)"
    trigger = f'trigger "{recipe.trigger}"' if recipe.trigger else "no trigger phrase"
    return (
        f"Training rank {recipe.rank}, {counted(plan.steps, 'step')} of {plan.batch_size}, learning rate {rate:g}"
        f"{scaled}, {counted(len(cache.items), 'encoded picture')}, {trigger}."
    )


def _proof(proof: Proof, exports: Mapping[str, Path]) -> str:
    others = ", ".join(form for form in exports if form != "diffusers")
    return (
        f"The file was loaded back: all {proof.keys} tensors arrived, at scale 0 the base is untouched, at scale 1 the "
        f"prediction changes by {proof.change:.0%}. The other forms ({others}), read back, change each layer alike."
    )
