"""`tintype weights`: which base models are here, and fetching those that are not.

Nothing is ever downloaded behind anyone's back: `pull` shows the licence first, checks the token and the disk, and
resumes where it was interrupted.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from tintype.cli.listing import show_table
from tintype.errors import Forbidden, WeightsMissing
from tintype.files.disk import check_room
from tintype.models.registry import FamilySpec, family_spec, family_specs
from tintype.models.weights import cached_snapshot, summary
from tintype.settings import BASE_MODELS, GIB, load_settings

app = typer.Typer(
    no_args_is_help=True, help="List base models and fetch their weights.",
    epilog="Example: [bold]tintype weights pull flux[/]",
)  # fmt: skip

# Which files of a base model's repository are needed; what it needs besides is fetched whole.
_NEEDED = ["*.json", "*.txt", "*.model", "*.jinja", "*/*.safetensors", "LICENSE*"]


@app.command("list", epilog="Example: [bold]tintype weights list[/]")
def list_weights() -> None:
    """Show each base model, whether its weights are here, and which one a server would use."""
    rows = []
    for spec in family_specs():
        here = cached_snapshot(spec)
        rows.append((spec.name, spec.repository, str(here) if here else "no", summary(load_settings(), spec.name)))
    show_table(("model", "repository", "weights here", "in use"), rows)


@app.command(epilog="Example: [bold]HF_TOKEN=hf_… tintype weights pull flux[/]")
def pull(
    name: Annotated[str, typer.Argument(help=f"Which model: {', '.join(BASE_MODELS)}.")],
    repository: Annotated[
        str | None, typer.Option(help="Another repository of it on the hub, in diffusers' layout.", show_default=False)
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the licence without being asked.")] = False,
) -> None:
    """Fetch a base model's weights (gated: needs a token of someone who accepted the licence)."""
    from huggingface_hub.constants import HF_HUB_CACHE

    spec = family_spec(name)
    if repository:
        spec = replace(spec, repository=repository)
    console = Console()
    console.print(f"[bold]{spec.repository}[/]\n{escape(spec.licence)}")
    console.print("Accept the terms on the model's own page first; set HF_TOKEN to a token of that account.\n")
    if not yes:
        typer.confirm("I have read the licence and accept it", abort=True)
    size = sum(file.file_size or 0 for source in _sources(spec) for file in _planned(spec, source))
    check_room(Path(HF_HUB_CACHE), size)
    console.print(f"{size / GIB:.1f} GiB to fetch. An interrupted download goes on later.")
    path, *_ = (escape(str(_download(spec, source))) for source in _sources(spec))
    console.print(f"[green]done[/]: {path}\n`tintype serve` uses it when {spec.setting} is 'auto' and a GPU fits it.")


def _sources(spec: FamilySpec) -> tuple[str, ...]:
    return (spec.repository, *spec.further_repositories)


def _planned(spec: FamilySpec, source: str) -> list[Any]:
    """Lists the files that are still to be fetched."""
    return [file for file in _download(spec, source, dry_run=True) if file.will_download]


def _download(spec: FamilySpec, source: str, *, dry_run: bool = False) -> Any:
    from huggingface_hub import snapshot_download

    patterns = _NEEDED if source == spec.repository else None
    with _explained(source):
        return snapshot_download(source, allow_patterns=patterns, dry_run=dry_run)


class _explained:
    """Turns the hub's errors into sentences that say what to do."""

    def __init__(self, repository: str) -> None:
        self.repository = repository

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: object) -> None:
        from httpx import TransportError
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

        page = f"the page of {self.repository}"
        if isinstance(problem, GatedRepoError):
            raise Forbidden(
                f"{self.repository} is gated and this token may not read it.",
                remedy=f"Accept the licence on {page} and set HF_TOKEN to a token of the same account.",
            ) from problem
        if isinstance(problem, HfHubHTTPError | LocalEntryNotFoundError | TransportError):
            raise WeightsMissing(
                f"{self.repository} could not be reached: {str(problem).splitlines()[0]}",
                remedy="Check the network and HF_TOKEN, then run the same command again: it resumes.",
            ) from problem
