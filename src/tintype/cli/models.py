"""`tintype models`: what endpoints take, and the custom models of this installation, whoever had them trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tintype import catalog
from tintype.catalog.custom_models import ModelStatus, checked_name
from tintype.cli.data import SEARCHED, DataDir, only_one, with_store
from tintype.cli.keys import when
from tintype.cli.listing import say, show_json, show_table
from tintype.count import counted
from tintype.errors import BadRequest
from tintype.files import Objects
from tintype.installation import ServerInfo
from tintype.settings import Settings, load_settings

if TYPE_CHECKING:
    from tintype.store import CustomModel, Store

app = typer.Typer(
    no_args_is_help=True, help="Describe endpoints; list, show, rename, archive and delete custom models.",
    epilog="Example: [bold]tintype models describe fal-ai/flux-lora[/]",
)  # fmt: skip

ModelId = Annotated[str, typer.Argument(help="Id of the model; its first characters are enough.")]
LATEST = 50


@app.command(epilog="Example: [bold]tintype models describe fal-ai/flux-lora[/]")
def describe(
    endpoint_id: Annotated[str, typer.Argument(help="Id of an endpoint; without one, all are listed.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Print what an endpoint takes and returns, and programs that call it: the page that its server has."""
    from tintype.web import llms  # with all that answers over HTTP

    endpoint = catalog.get(endpoint_id) if endpoint_id else None
    settings = load_settings(data_dir=data_dir)
    serving = ServerInfo.read(settings.data_dir)
    origin = settings.public_url or f"http://{serving.server if serving else f'{settings.host}:{settings.port}'}"
    say(llms.describe(endpoint, endpoint_id.strip("/"), origin) if endpoint else llms.describe_site(origin))


@app.command("list", epilog="Example: [bold]tintype models list --status COMPLETED[/]")
def list_models(
    status: Annotated[ModelStatus | None, typer.Option(help="Only those of this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = LATEST,
    data_dir: DataDir = None,
) -> None:
    """List models, newest first; archived ones only with --status ARCHIVED."""

    found = with_store(data_dir, lambda store, _: store.models.list(status=status, limit=limit))
    rows = [(m.id, m.name, m.status, m.uri, when(m.created_at), m.reason) for m in found]
    show_table(("id", "name", "status", "uri", "made", "reason"), rows)


@app.command(epilog="Example: [bold]tintype models show AbC1[/]")
def show(model_id: ModelId, data_dir: DataDir = None) -> None:
    """Show one model whole, as JSON."""

    model = with_store(data_dir, lambda store, _: find(store, model_id))
    show_json(
        {
            "model_id": model.id,
            "name": model.name,
            "status": model.status,
            "error": model.reason or None,
            "custom_model_uri": model.uri,
            "request_id": model.request_id,
            "key_id": model.key_id,
            "made": when(model.created_at),
            "ended": when(model.ended_at),
            "deleted": when(model.deleted_at),
            "files": model.files,
        }
    )


@app.command(epilog="Example: [bold]tintype models rename AbC1 'Red hats'[/]")
def rename(
    model_id: ModelId,
    name: Annotated[str, typer.Argument(help="The new display name, 5 to 30 characters.")],
    data_dir: DataDir = None,
) -> None:
    """Change a model's display name; its URI stays."""

    async def work(store: Store, _: Settings) -> CustomModel | None:
        try:
            plain = checked_name(name)
        except ValueError as problem:
            raise BadRequest(str(problem)) from None
        return await store.models.rename((await find(store, model_id)).id, plain)

    model = with_store(data_dir, work)
    if model is None:
        raise BadRequest(f"The model {model_id!r} was deleted.")
    say(f"{model.id} is now called {model.name}")


@app.command(epilog="Example: [bold]tintype models archive AbC1[/]")
def archive(model_id: ModelId, data_dir: DataDir = None) -> None:
    """Hide a model; it can no longer be generated with, its files are kept."""

    async def work(store: Store, _: Settings) -> str:
        model = await find(store, model_id)
        await store.models.archive(model.id)
        return model.id

    say(f"archived {with_store(data_dir, work)}")


@app.command(epilog="Example: [bold]tintype models delete AbC1 --yes[/]")
def delete(
    model_id: ModelId, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, data_dir: DataDir = None
) -> None:
    """Delete a model: every file of its training is removed, its id answers ARCHIVED."""

    async def work(store: Store, settings: Settings) -> int:
        deleted = await store.models.delete(model.id)
        _, files = deleted if deleted is not None else (None, [])
        objects = Objects.open(settings.storage_url)
        for file in files:  # bytes before rows: what is left when this is cut short goes with housekeeping
            objects.delete(file.key)
            await store.files.remove(file.id)
        return len(files)

    model = with_store(data_dir, lambda store, _: find(store, model_id))
    if not yes:
        typer.confirm(f"Delete {model.name} ({model.id}) and its files for good?", abort=True)
    say(f"deleted {model.id} with {counted(with_store(data_dir, work), 'file')}")


async def find(store: Store, model_id: str) -> CustomModel:
    """Finds a model by its id, the first characters of it, its URI, or its name. Raises NotFound and BadRequest."""
    if exact := await store.models.find(model_id):
        return exact
    known = await store.models.list(limit=SEARCHED)
    if named := [model for model in known if model_id in (model.name, model.uri)]:
        return named[0]  # the newest of that name
    archived = await store.models.list(status=ModelStatus.ARCHIVED, limit=SEARCHED)
    return only_one([*known, *archived], model_id, "model")
