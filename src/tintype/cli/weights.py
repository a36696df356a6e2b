"""`tintype weights`: which base models are here, and fetching those that are not.

Nothing is ever downloaded behind anyone's back: `pull` shows the licence first, checks the token and the disk, and
resumes where it was interrupted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from huggingface_hub import constants
from rich.console import Console
from rich.markup import escape

from tintype.cli.listing import show_table
from tintype.devices import gpu_bytes
from tintype.errors import Forbidden, SettingsError, WeightsMissing
from tintype.files.disk import check_room
from tintype.models.contents import INDEX, another, check_pipeline, is_named, model_named
from tintype.models.licence import Licence, accept, acceptance
from tintype.models.registry import IN_FOLDERS, Download, FamilySpec, family_spec, family_specs
from tintype.models.weights import cached_snapshot, summary
from tintype.settings import BASE_MODELS, GIB, load_settings

app = typer.Typer(
    no_args_is_help=True, help="List base models and fetch their weights.",
    epilog="Example: [bold]tintype weights pull flux[/]",
)  # fmt: skip

_CONFIGURATION = (INDEX, "transformer/config.json", "vae/config.json")  # tells the model, in kilobytes


@app.command("list", epilog="Example: [bold]tintype weights list[/]")
def list_weights() -> None:
    """Show each base model, whether its weights are here, and which one a server would use."""
    rows = []
    for spec in family_specs():
        here = cached_snapshot(spec)
        rows.append((spec.name, spec.repository, str(here) if here else "no", summary(load_settings(), spec.name)))
    show_table(("model", "repository", "weights here", "in use"), rows)


@app.command(
    epilog="Example: [bold]HF_TOKEN=hf_… tintype weights pull flux[/], [bold]tintype weights pull flux --form fp8[/], "
    "or [bold]tintype weights pull flux --repository black-forest-labs/FLUX.1-Krea-dev[/]"
)
def pull(
    name: Annotated[str, typer.Argument(help=f"Which model: {', '.join(BASE_MODELS)}.")],
    form: Annotated[
        str | None,
        typer.Option(
            help="bf16, nf4; of FLUX also fp8, gguf, gguf-q8, or parts: all but the transformer, for a file that you "
            "have. Default: what the GPU fits.",
            show_default=False,
        ),
    ] = None,
    repository: Annotated[
        str | None, typer.Option(help="Another repository of it on the hub, in diffusers' layout.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the licence without being asked.")] = False,
) -> None:
    """Fetch a base model's weights (gated: needs a token of someone who accepted the licence)."""
    spec, console = family_spec(name), Console()
    form = form or ("bf16" if repository else _fitting(spec))
    downloads = _downloads(spec, form, repository)
    console.print(f"[bold]{', '.join(one.repository for one in downloads)}[/] ({form})\n{escape(str(spec.licence))}")
    console.print("Accept the terms on the model's own page first; set HF_TOKEN to a token of that account.\n")
    _accept(spec.licence, downloads[0].repository, console, asks=not yes)
    if repository:
        check_pipeline(spec, Path(_fetch(Download(repository, _CONFIGURATION))), repository)
    size = sum(file.file_size or 0 for one in downloads for file in _fetch(one, dry_run=True) if file.will_download)
    check_room(Path(constants.HF_HUB_CACHE), size)
    console.print(f"{size / GIB:.1f} GiB to fetch. An interrupted download goes on later.")
    path, *_ = (Path(_fetch(one)) for one in downloads)
    console.print(f"[green]done[/]: {escape(str(path))}\n{escape(_what_to_set(spec, form, downloads[0], path))}")


def _accept(licence: Licence, repository: str, console: Console, *, asks: bool) -> None:
    """Has the licence accepted, once for these weights, and keeps when that was."""
    earlier = acceptance(repository)
    if earlier and earlier.is_of(licence):
        console.print(f"Accepted on {earlier.accepted_at}.")
        return
    if asks:
        typer.confirm("I have read the licence and accept it", abort=True)
    accept(repository, licence)


def _fitting(spec: FamilySpec) -> str:
    """The form for the GPU that is here; bf16 where there is none: the weights may be for another machine."""
    settings = load_settings()
    memory = gpu_bytes(settings.device)
    small = memory is not None and memory < spec.needed_gpu(settings.precision)
    return spec.small_form if spec.small_form and small else "bf16"


def _downloads(spec: FamilySpec, form: str, repository: str | None) -> tuple[Download, ...]:
    if repository and (model := model_named(repository)) and not is_named(spec, model):
        raise another(spec, repository, model)
    further = (Download(other) for other in spec.further_repositories)
    forms = {"bf16": (Download(spec.repository, IN_FOLDERS), *further), **spec.forms}
    if form not in forms:
        raise SettingsError(f"{spec.title} has no form {form}.", remedy=f"Its forms are: {', '.join(forms)}.")
    return (Download(repository, IN_FOLDERS), *forms["bf16"][1:]) if repository else forms[form]


def _what_to_set(spec: FamilySpec, form: str, first: Download, folder: Path) -> str:
    if form == "parts":
        return f"Set {spec.setting} to a file that holds the transformer."
    file = next((folder / name for name in first.patterns if (folder / name).is_file()), None)
    if first.repository == spec.repository:
        return f"`tintype serve` uses it when {spec.setting} is 'auto' and a GPU fits it."
    return f"`tintype serve` uses it when {spec.setting} is {file or first.repository}."


def _fetch(download: Download, *, dry_run: bool = False) -> Any:
    from huggingface_hub import snapshot_download

    with _explained(download.repository):
        return snapshot_download(
            download.repository,
            cache_dir=constants.HF_HUB_CACHE,
            allow_patterns=list(download.patterns) or None,
            ignore_patterns=list(download.ignored) or None,
            dry_run=dry_run,
        )


class _explained:
    """Turns the hub's errors into sentences that say what to do."""

    def __init__(self, repository: str) -> None:
        self.repository = repository

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: object) -> None:
        from httpx2 import TransportError  # what the hub's library speaks through
        from huggingface_hub.errors import DryRunError, GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

        causes, cause = [], problem  # a dry run tells only that it failed
        while cause is not None:
            causes.append(cause)
            cause = cause.__cause__ or cause.__context__
        if any(isinstance(cause, GatedRepoError) for cause in causes):
            raise Forbidden(
                f"{self.repository} is gated and this token may not read it.",
                remedy=f"Accept the licence on https://huggingface.co/{self.repository} and set HF_TOKEN to a token of "
                "the same account.",
            ) from problem
        if isinstance(problem, HfHubHTTPError | LocalEntryNotFoundError | TransportError | DryRunError):
            first = (str(causes[-1]).splitlines() or [type(causes[-1]).__name__])[0]
            raise WeightsMissing(
                f"{self.repository} could not be reached: {first}",
                remedy="Check the network and HF_TOKEN, then run the same command again: it resumes.",
            ) from problem
