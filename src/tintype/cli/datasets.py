"""`tintype datasets`: photos that are kept for trainings, with their captions, whoever they belong to."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tintype.cli.data import SEARCHED, DataDir, only_one, with_store
from tintype.cli.keys import first_key, when
from tintype.cli.listing import say, show_json, show_table
from tintype.count import counted
from tintype.errors import BadRequest, NotFound
from tintype.files import Objects
from tintype.settings import Settings
from tintype.store.records import CaptionBy, DatasetPhoto

if TYPE_CHECKING:
    from tintype.store import Store, StoredDataset
    from tintype.web.dataset_intake import Intake

app = typer.Typer(
    no_args_is_help=True, help="Keep photos for trainings: list, add, show, caption and delete datasets.",
    epilog="Example: [bold]tintype datasets add anna ./photos[/]",
)  # fmt: skip

Named = Annotated[str, typer.Argument(metavar="DATASET", help="Its name, or the first characters of its id.")]


@app.command("list", epilog="Example: [bold]tintype datasets list[/]")
def list_datasets(limit: Annotated[int, typer.Option(min=1, max=1000)] = 50, data_dir: DataDir = None) -> None:
    """List datasets, the one that was changed last first."""
    found = with_store(data_dir, lambda store, _: store.datasets.list(limit=limit))
    rows = [
        (one.id, one.name, str(one.photos), str(one.captioned), str(one.version), when(one.changed_at)) for one in found
    ]
    show_table(("id", "name", "photos", "captions", "version", "changed"), rows)


@app.command(epilog="Example: [bold]tintype datasets add anna ./photos more.zip[/]")
def add(
    dataset: Annotated[str, typer.Argument(help="A dataset; one of that name is begun where there is none.")],
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Photos, archives and folders.")],
    data_dir: DataDir = None,
) -> None:
    """Add photos, with the captions that lie beside them."""

    async def work(store: Store, settings: Settings) -> tuple[StoredDataset, Intake]:
        from tintype.web.dataset_intake import add_files
        from tintype.web.services import Services

        key_id = (await first_key(store, settings) or "").partition(":")[0]
        try:
            found = await find(store, dataset)
        except NotFound:
            found = await store.datasets.create(dataset, key_id)
        services = await Services.open(settings, store)
        incoming = services.uploads.spool_folder
        incoming.mkdir(parents=True, exist_ok=True)
        try:
            with tempfile.TemporaryDirectory(dir=incoming) as folder:
                files = [(path.name, path.resolve()) for path in paths]
                return found, await add_files(services, found, found.key_id, files, Path(folder))
        finally:
            await services.photos.close()

    if not dataset.strip() or not dataset.isprintable():
        raise BadRequest("A dataset is named by a line of text.")
    found, intake = with_store(data_dir, work, begins=True)
    say(f"{found.name} ({found.id}): {counted(len(intake.added), 'photo')} added, {len(intake.left_out)} left out")
    for name, what in intake.left_out:
        say(f"  {name}: {what}")
    for note in intake.notes:
        say(f"  {note}")


@app.command(epilog="Example: [bold]tintype datasets show anna[/]")
def show(dataset: Named, data_dir: DataDir = None) -> None:
    """Show the photos of a dataset as JSON: sizes, faces, findings, captions and who wrote them."""

    async def work(store: Store, _: Settings) -> dict[str, object]:
        found = await find(store, dataset)
        return {
            "dataset_id": found.id,
            "name": found.name,
            "version": found.version,
            "key_id": found.key_id,
            "made": when(found.created_at),
            "changed": when(found.changed_at),
            "photos": [_described(photo) for photo in await store.datasets.photos(found.id)],
        }

    show_json(with_store(data_dir, work))


@app.command(epilog="Example: [bold]tintype datasets caption anna IMG_1.jpg 'ohwx laughing, by the lake'[/]")
def caption(
    dataset: Named,
    photo: Annotated[str, typer.Argument(help="Name of the photo.")],
    text: Annotated[str, typer.Argument(help='The caption; "" takes it away.')],
    data_dir: DataDir = None,
) -> None:
    """Write the caption of a photo, as a person."""

    async def work(store: Store, _: Settings) -> None:
        found = await find(store, dataset)
        ids = {name: photo_id for photo_id, name, _ in await store.datasets.known(found.id)}
        if photo not in ids:
            raise NotFound(
                f"There is no photo {photo!r} in {found.name}.", remedy="`tintype datasets show` lists them."
            )
        await store.datasets.set_captions(found.id, {ids[photo]: text.strip() or None}, CaptionBy.PERSON)

    with_store(data_dir, work)
    say(f"{photo}: {text.strip() or 'no caption'}")


@app.command(epilog="Example: [bold]tintype datasets delete anna --yes[/]")
def delete(
    dataset: Named, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, data_dir: DataDir = None
) -> None:
    """Delete a dataset: its photos and captions are removed. Trainings keep what they were sent."""

    async def work(store: Store, settings: Settings) -> int:
        files = await store.datasets.delete(found.id)
        objects = Objects.open(settings.storage_url)
        for file in files:  # bytes before rows: what is left when this is cut short goes with housekeeping
            objects.delete(file.key)
            await store.files.remove(file.id)
        await store.payloads.scrub()
        return len(files)

    found = with_store(data_dir, lambda store, _: find(store, dataset))
    if not yes:
        typer.confirm(
            f"Delete {found.name} ({found.id}) and its {counted(found.photos, 'photo')} for good?", abort=True
        )
    say(f"deleted {found.id} with {counted(with_store(data_dir, work), 'photo')}")


async def find(store: Store, named: str) -> StoredDataset:
    """Finds a dataset by its id, the first characters of it, or its name. Raises NotFound and BadRequest."""
    if exact := await store.datasets.find(named):
        return exact
    known = await store.datasets.list(limit=SEARCHED)
    if of_name := [dataset for dataset in known if dataset.name == named]:
        return only_one(of_name, "", "dataset")
    return only_one(known, named, "dataset")


def _described(photo: DatasetPhoto) -> dict[str, object]:
    return {
        "name": photo.name,
        "width": photo.width,
        "height": photo.height,
        "caption": photo.caption,
        "caption_by": photo.captioner or photo.caption_by,
        "crop": photo.crop,
        "subject": photo.measured["subject"]["kind"],
        "other_faces": len(photo.measured["subject"]["others"]),
        "findings": photo.measured["findings"],
    }
