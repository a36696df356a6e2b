"""`tintype weights`: which base models are here, and fetching those that are not.

Nothing is ever downloaded behind anyone's back: `pull` shows the licence first, checks the token and the disk, and
resumes where it was interrupted.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from tintype.cli.listing import show_table
from tintype.errors import Forbidden, NotFound, StorageFull, WeightsMissing
from tintype.models.weights import (
    FLUX_LICENCE,
    FLUX_REPOSITORY,
    IDEOGRAM4_LICENCE,
    IDEOGRAM4_REPOSITORY,
    PROMPT_HEAD_REPOSITORY,
    Family,
    cached_snapshot,
    describe,
    resolve,
)
from tintype.settings import GIB, load_settings

app = typer.Typer(no_args_is_help=True, help="List base models and fetch their weights.")


@dataclass(frozen=True)
class Published:
    """A base model whose weights can be fetched."""

    name: Family
    repository: str
    setting: str
    licence: str
    needed: tuple[str, ...]  # which files of the repository
    beside: tuple[str, ...] = ()  # further repositories, fetched whole

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.repository, *self.beside)

    def patterns(self, source: str) -> list[str] | None:
        return list(self.needed) if source == self.repository else None


FLUX = Published(
    "flux",
    FLUX_REPOSITORY,
    "TINTYPE_FLUX_BASE",
    FLUX_LICENCE,
    ("*.json", "*.txt", "*.model", "*/*.safetensors", "LICENSE*"),
)
IDEOGRAM4 = Published(
    "ideogram4",
    IDEOGRAM4_REPOSITORY,
    "TINTYPE_IDEOGRAM4_BASE",
    IDEOGRAM4_LICENCE,
    ("*.json", "*.txt", "*.jinja", "*/*.safetensors", "LICENSE*"),
    beside=(PROMPT_HEAD_REPOSITORY,),
)
KNOWN: Mapping[str, Published] = {published.name: published for published in (FLUX, IDEOGRAM4)}


@app.command("list", epilog="Example: [bold]tintype weights list[/]")
def list_weights() -> None:
    """Show each base model, whether its weights are here, and which one a server would use."""
    rows = []
    for weights in KNOWN.values():
        used = describe(resolve(load_settings(), weights.name))
        here = cached_snapshot(weights.repository)
        rows.append((weights.name, weights.repository, str(here) if here else "no", used))
    show_table(("model", "repository", "weights here", "in use"), rows)


@app.command(epilog="Example: [bold]HF_TOKEN=hf_… tintype weights pull flux[/]")
def pull(
    name: Annotated[str, typer.Argument(help="Which model: flux or ideogram4.")],
    yes: Annotated[bool, typer.Option("--yes", help="Accept the licence without being asked.")] = False,
) -> None:
    """Fetch a base model's weights (gated: needs a token of someone who accepted the licence)."""
    if name not in KNOWN:
        raise NotFound(f"{name!r} is not a base model.", remedy=f"Known are: {', '.join(KNOWN)}.")
    weights = KNOWN[name]
    console = Console()
    console.print(f"[bold]{weights.repository}[/]\n{escape(weights.licence)}")
    console.print("Accept the terms on the model's own page first; set HF_TOKEN to a token of that account.\n")
    if not yes:
        typer.confirm("I have read the licence and accept it", abort=True)
    size = sum(_missing_bytes(weights, source) for source in weights.sources)
    free = shutil.disk_usage(Path.home()).free
    if size > free:
        raise StorageFull(f"{weights.name} needs {size / GIB:.1f} GiB more, and {free / GIB:.1f} GiB are free.")
    console.print(f"{size / GIB:.1f} GiB to fetch, {free / GIB:.1f} GiB free. An interrupted download goes on later.")
    path, *_ = (escape(str(_download(weights, source))) for source in weights.sources)
    console.print(
        f"[green]done[/]: {path}\n`tintype serve` uses it when {weights.setting} is 'auto' and a GPU fits it."
    )


def _missing_bytes(weights: Published, source: str) -> int:
    from huggingface_hub import snapshot_download

    with _explained(source):
        planned = snapshot_download(source, allow_patterns=weights.patterns(source), dry_run=True)
    return sum(file.file_size or 0 for file in planned if file.will_download)


def _download(weights: Published, source: str) -> Path:
    from huggingface_hub import snapshot_download

    with _explained(source):
        return Path(snapshot_download(source, allow_patterns=weights.patterns(source)))


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
