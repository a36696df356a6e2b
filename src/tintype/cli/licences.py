"""`tintype licences`: which models are used here, under which terms, and what is done about them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from tintype.cli.listing import say, show_json
from tintype.errors import Json, WeightsMissing
from tintype.files.generations import last_reported, unreported
from tintype.jobs.content_filter import describe_filter
from tintype.models.licence import acceptance, licence_text
from tintype.models.registry import FamilySpec, family_specs
from tintype.models.weights import cached_snapshot, resolve, summary
from tintype.settings import Settings, load_settings

_MARK = "every image says in its metadata that a trained model made it (XMP, IPTC DigitalSourceType)"
_RECIPES = {"off": "no image holds its prompt", "png": "PNG images hold the prompt, seed and LoRA hashes"}


def licences(json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False) -> None:
    """Show each base model's licence, what it allows and when it was accepted; and which filter and marks are on."""
    settings = load_settings()
    models = [_model(settings, spec) for spec in family_specs()]
    here = {"filter": describe_filter(settings), "mark": _MARK, "recipe": _RECIPES[settings.recipe]}
    here["reports"] = _reports(settings)
    if json:
        show_json({"models": models, "here": here})
        return
    for told in (*models, here):
        for name, what in told.items():
            say(f"{name:<9}{what}")
        say("")
    say("This is a summary in our words. The texts of the licences are what counts.")


def _reports(settings: Settings) -> str:
    """What is reported to whom."""
    if not settings.bfl_license_key:
        return "none: nothing is sent to anybody"
    last, waiting = last_reported(settings), len(unreported(settings, datetime.now(UTC)))
    told = f"the last of {last.day} ({last.images} images)" if last else "none yet"
    return f"daily, the number of FLUX.1 [dev] images, to {settings.bfl_report_url}: {told}; {waiting} days wait"


def _model(settings: Settings, spec: FamilySpec) -> Json:
    """What there is to say about one base model, as it is used here."""
    licence, folder, repositories = spec.licence, cached_snapshot(spec), [spec.repository]
    try:
        used = resolve(settings, spec.name)
        licence, folder, repositories = used.published_licence, used.folder, [used.source, spec.repository]
    except WeightsMissing:
        used = None
    if used and used.miniature:
        accepted = "needs no acceptance"
    else:
        repositories += [form[0].repository for form in spec.forms.values()]
        found = next((one for one in map(acceptance, repositories) if one and one.is_of(licence)), None)
        accepted = found.accepted_at if found else "not on this machine (`tintype weights pull` asks)"
    text = licence_text(folder) if folder else None
    return {
        "model": used.title if used else spec.title,
        "in use": summary(settings, spec.name),
        "licence": licence.title,
        "address": licence.address,
        "text": str(Path(text)) if text else "not here",
        "accepted": accepted,
        "weights": licence.weights,
        "images": licence.images,
    }
