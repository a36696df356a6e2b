"""`tintype demo`: the whole product in a few minutes, through fal's own unmodified Python client.

Serves on a free port, uploads ten photos of someone the base model has never seen, trains a LoRA of them, draws the
same prompts and seeds with and without it, judges the pictures, and lays everything out on one sheet. While it runs,
every connection the client opens is checked: nothing may go beyond this machine.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from tintype.cli.contact_sheet import Row, contact_sheet
from tintype.errors import InternalError, WorkerDied

TRAINER = "fal-ai/flux-lora-portrait-trainer"
PAINTER = "fal-ai/flux-lora"
TRIGGER = "ohwx"
PROMPTS = (
    f"a portrait of {TRIGGER}, blue shirt, yellow background, smiling",
    f"a portrait of {TRIGGER}, white shirt, gray background, round glasses",
    f"a photo of {TRIGGER} wearing a red shirt, green background, surprised",
)
SEEDS = (1, 2)
_STEP = re.compile(r"step (\d+)/\d+ (.*)")
START_SECONDS = 60
STOP_SECONDS = 30


@dataclass
class Drawn:
    """The pictures of one row of the sheet and what the judge read in them."""

    paths: list[Path] = field(default_factory=list)
    verdicts: list[dict[str, float]] = field(default_factory=list)

    def mean(self, what: str) -> float:
        return sum(verdict[what] for verdict in self.verdicts) / max(1, len(self.verdicts))


def run_demo(out: Path, *, steps: int, subject: int) -> None:
    """Everything the demo does; leaves its files in `out`. Raises a TintypeError when something does not work."""
    console = Console()
    began = time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    photos = _write_photos(out, subject)
    console.print(f"[bold]1[/] Ten photos of subject {subject}, no captions: {photos}")
    with _served(out / "data", out / "serve.log") as (origin, key), _loopback_only() as reached:
        console.print(f"[bold]2[/] tintype serves at {origin} (log: {out / 'serve.log'})")
        fal = _fal_client(origin, key)
        url = fal.upload_file(photos)
        console.print("[bold]3[/] Uploaded through fal_client.upload_file; training through fal_client.subscribe:")
        trained = _train(fal, url, steps, console)
        lora = trained["diffusers_lora_file"]["url"]
        _download(lora, out / "lora.safetensors")
        _download(trained["config_file"]["url"], out / "config.json")
        console.print("[bold]4[/] Drawing the same prompts and seeds without and with the LoRA")
        base = _draw(fal, out / "base", [], subject)
        ours = _draw(fal, out / "lora", [{"path": lora, "scale": 1.0}], subject)
    sheet = _sheet(out, photos, base, ours)
    _conclude(console, out, sheet, base, ours, reached, time.monotonic() - began)


def _write_photos(out: Path, subject: int) -> Path:
    path = out / "photos.zip"
    command = [sys.executable, "-m", "tintype.models.miniature.world", "--subject", str(subject), "--count", "10"]
    subprocess.run([*command, "--out", str(path)], check=True, stdout=subprocess.DEVNULL)
    return path


@contextmanager
def _served(data_dir: Path, log: Path) -> Iterator[tuple[str, str]]:
    """A real server process on a free port; stopped as Ctrl-C would, and checked to end cleanly."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    origin = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tintype", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait_until_ready(origin, server, log)
        yield origin, (data_dir / "key").read_text().strip()
    finally:
        server.send_signal(signal.SIGINT)
        try:
            code = server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            raise InternalError(f"The server did not stop within {STOP_SECONDS} s; see {log}.") from None
    if code != 0:
        raise InternalError(f"The server ended with code {code}; see {log}.")


def _wait_until_ready(origin: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise WorkerDied(f"The server ended at once: {log.read_text()[-2000:]}")
        try:
            if httpx.get(f"{origin}/ready", trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.1)
    raise InternalError(f"The server was not ready after {START_SECONDS} s; see {log}.")


@contextmanager
def _loopback_only() -> Iterator[set[str]]:
    """Collects the addresses this process connects to, and refuses any beyond loopback.

    An audit hook sees every connection of the interpreter, whichever library opens it; it cannot be removed, so it is
    only switched off afterwards.
    """
    reached: set[str] = set()
    watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if not watching or event != "socket.connect" or not isinstance(arguments[1], tuple):
            return
        host = str(arguments[1][0])
        reached.add(host)
        if not ipaddress.ip_address(host).is_loopback:
            raise InternalError(f"The client tried to reach {host}, beyond this machine.")

    sys.addaudithook(watch)
    try:
        yield reached
    finally:
        watching = False


def _fal_client(origin: str, key: str) -> Any:
    """fal's client, unmodified, pointed at this server (recipe B of docs/clients.md)."""
    try:
        import fal_client
        import fal_client.client as client
    except ImportError:
        raise InternalError(
            "fal-client is not installed.", remedy="pip install fal-client, or run make demo."
        ) from None
    os.environ["FAL_KEY"] = key
    client.RUN_URL_FORMAT, client.QUEUE_URL_FORMAT = f"{origin}/run/", f"{origin}/queue/"
    client.REST_URL, client.CDN_URL = f"{origin}/rest", f"{origin}/cdn"
    client.REALTIME_URL_FORMAT = origin.replace("http", "ws", 1) + "/run/"
    return fal_client


def _train(fal: Any, url: str, steps: int, console: Console) -> dict[str, Any]:
    """Shows the request's log as it grows; its step lines move a bar."""
    shown = 0
    columns = (
        TextColumn("    {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("training", total=steps, last="")

        def show(update: Any) -> None:
            nonlocal shown
            logs = getattr(update, "logs", None) or []
            for line in logs[shown:]:
                if step := _STEP.match(line["message"]):
                    bar.update(task, completed=int(step[1]), last=step[2])
                else:
                    console.print(f"    [dim]{escape(line['message'])}[/]", highlight=False, soft_wrap=True)
            shown = max(shown, len(logs))

        arguments = {"images_data_url": url, "trigger_phrase": TRIGGER, "steps": steps}
        result = fal.subscribe(TRAINER, arguments=arguments, with_logs=True, on_queue_update=show)
    assert isinstance(result, dict)
    return result


def _draw(fal: Any, folder: Path, loras: list[dict[str, Any]], subject: int) -> Drawn:
    drawn = Drawn()
    folder.mkdir()
    for number, prompt in enumerate(PROMPTS):
        for seed in SEEDS:
            arguments = {"prompt": prompt, "seed": seed, "loras": loras, "image_size": "square_hd"}
            result = fal.subscribe(PAINTER, arguments=arguments | {"output_format": "png"})
            path = _download(result["images"][0]["url"], folder / f"{number}-{seed}.png")
            drawn.paths.append(path)
            drawn.verdicts.append(_judge(path, subject, prompt))
    return drawn


def _download(url: str, path: Path) -> Path:
    path.write_bytes(httpx.get(url, trust_env=False, timeout=60).raise_for_status().content)
    return path


def _judge(path: Path, subject: int, prompt: str) -> dict[str, float]:
    from tintype.models.miniature.judge import asked_beside_marks, judge
    from tintype.models.miniature.world import Subject

    with Image.open(path) as picture:
        reading = judge().read([picture])[0]
    adherence = reading.adherence(asked_beside_marks(prompt))
    return {"likeness": reading.likeness(Subject.from_seed(subject).marks), "adherence": adherence or 0.0}


def _sheet(out: Path, photos: Path, base: Drawn, ours: Drawn) -> Path:
    extracted = out / "photos"
    shutil.unpack_archive(photos, extracted, "zip")
    pictures = sorted(p for p in extracted.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".jpeg"))
    titles = [f"{prompt.replace(TRIGGER, '…')} · seed {seed}" for prompt in PROMPTS for seed in SEEDS]
    rows = (
        Row("training photos", pictures, []),
        Row("base", base.paths, titles),
        Row("with the LoRA", ours.paths, [f"likeness {v['likeness']:.2f}" for v in ours.verdicts]),
    )
    return contact_sheet(rows, out / "contact-sheet.png")


def _conclude(
    console: Console, out: Path, sheet: Path, base: Drawn, ours: Drawn, reached: set[str], seconds: float
) -> None:
    table = Table("", "likeness", "adherence", title="What the judge reads (likeness: share of the subject's marks)")
    for name, drawn in (("base", base), ("with the LoRA", ours)):
        table.add_row(name, f"{drawn.mean('likeness'):.2f}", f"{drawn.mean('adherence'):.2f}")
    console.print(table)
    figures = {name: {what: drawn.mean(what) for what in ("likeness", "adherence")}
               for name, drawn in (("base", base), ("lora", ours))}  # fmt: skip
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    console.print(
        f"contact sheet  {sheet}\nLoRA           {out / 'lora.safetensors'}\nconfig         {out / 'config.json'}"
    )
    console.print(f"The client connected to {', '.join(sorted(reached))} and to nothing else. {seconds:.0f} s in all.")
