"""`tintype watch`: follows a request of this installation to its end, and sends one to follow.

It only looks: Ctrl-C ends the watching, and the request goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tintype.catalog import Endpoint
from tintype.cli.data import DataDir, with_store
from tintype.cli.listing import say
from tintype.cli.requests import RequestId, find_request
from tintype.errors import BadRequest, SettingsError
from tintype.files import render
from tintype.installation import ServerInfo, key_file
from tintype.processes import printable
from tintype.settings import Settings, load_settings
from tintype.store import Outcome, Status

if TYPE_CHECKING:
    from tintype.store import Request, Store

_POLL_SECONDS = 0.5


def watch(request_id: RequestId, data_dir: DataDir = None) -> None:
    """Follow a request: its log, how far it is, and the URLs of its result. Ctrl-C leaves it running."""

    async def work(store: Store, _: Settings) -> Request:
        return await _followed(store, await find_request(store, request_id))

    try:
        request = with_store(data_dir, work)
    except KeyboardInterrupt:
        say(f"\nThe request goes on; `tintype watch {request_id}` looks again.")
        raise typer.Exit(130) from None
    if request.outcome is not Outcome.OK:
        said = request.failure.body.get("message") if request.failure else None
        say(f"{request.outcome}: {said or 'it ended without a result'}")
        raise typer.Exit(1)
    for url in _urls(render(request.output or {}, request.origin)):
        say(url)


def submit_here(endpoint: Endpoint, body: Mapping[str, Any], archive: Path, data_dir: Path | None) -> str:
    """Sends a training to the server of an installation, with the key that the installation keeps. Returns the id of
    the request. Raises SettingsError where none serves, and BadRequest in the server's words."""
    settings = load_settings(data_dir=data_dir)
    serving, key = ServerInfo.read(settings.data_dir), key_file(settings.data_dir)
    if serving is None:
        raise SettingsError(
            f"No server serves {settings.data_dir}, and a custom model belongs to one.",
            remedy="Start `tintype serve` in another terminal, or name its folder with --data-dir.",
        )
    headers = {"Authorization": f"Key {key.read_text().strip()}"} if key.exists() else {}
    with httpx.Client(base_url=f"http://{serving.server}", headers=headers, timeout=600, trust_env=False) as http:
        with archive.open("rb") as file:
            kept = _answer(
                http.post("/cdn/files/upload", content=file, headers={"X-Fal-File-Name": f"photos{archive.suffix}"})
            )
        sent = _answer(http.post(f"/queue/{endpoint.id}", json={**body, "images_data_url": kept["access_url"]}))
    say(f"request {sent['request_id']}")
    return str(sent["request_id"])


def _answer(answer: httpx.Response) -> Any:
    if answer.is_error:
        raise BadRequest(str(answer.json()["message"]))
    return answer.json()


async def _followed(store: Store, request: Request) -> Request:
    """Shows lines and steps as they come. Returns the request once it has ended."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task, seen = bar.add_task(request.status, total=None), -1
        while True:
            for line in await store.requests.logs(request.id, after=seen):
                seen = line.number
                bar.console.print(printable(line.message), markup=False, highlight=False, soft_wrap=True)
            bar.update(task, description=request.status, completed=request.step, total=request.total_steps or None)
            if request.status is Status.COMPLETED:
                return request
            await asyncio.sleep(_POLL_SECONDS)
            request = await store.requests.get(request.id) or request


def _urls(value: object) -> Iterator[str]:
    """Yields the URL of every file in a result."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and isinstance(value.get("url"), str):
        yield value["url"]
    for part in parts:
        yield from _urls(part)
