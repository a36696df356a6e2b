"""The whole product in a few minutes, through fal's own unmodified Python client: `make demo` runs it.

Serves on a free port, uploads ten photos of someone the base model has never seen, trains a LoRA of them, generates
the same prompts and seeds with and without it, judges the pictures, and lays everything out on one sheet. While it
runs, every connection the client opens is checked: nothing may go beyond this machine.

    python examples/demo.py --steps 300 --out my-demo
"""

from __future__ import annotations

import argparse
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fal_client
import fal_client.client as fal_settings
import httpx
from PIL import Image
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))  # the repository's root: miniature is not installed

from miniature.contact_sheet import Row, contact_sheet
from miniature.likeness import CASES, TITLES, TRIGGER, Score, mean, score
from miniature.world import Subject, photograph, write_archive

TRAINER = "fal-ai/flux-lora-portrait-trainer"
GENERATOR = "fal-ai/flux-lora"
PHOTOS = 10
START_SECONDS, STOP_SECONDS = 60, 30
_STEP = re.compile(r"step (\d+)/\d+ (.*)")


def main() -> None:
    """Runs the demo; leaves its files in the folder --out, which is emptied first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="where the pictures go; emptied first")
    parser.add_argument("--steps", type=int, default=500, help="training steps (default 500)")
    parser.add_argument("--subject", type=int, default=2026, help="which subject of Portrait World to learn")
    chosen = parser.parse_args()
    out, subject, console, began = chosen.out, Subject.from_seed(chosen.subject), Console(), time.monotonic()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)

    write_archive(out / "photos.zip", photograph(subject, PHOTOS), captions=False)
    console.print(f"[bold]1[/] Ten photos of subject {chosen.subject}, no captions: {out / 'photos.zip'}")
    with served(out / "data", out / "serve.log") as (origin, key), loopback_only() as reached:
        console.print(f"[bold]2[/] tintype serves at {origin} (log: {out / 'serve.log'})")
        point_client_at(origin, key)
        url = fal_client.upload_file(out / "photos.zip")
        console.print("[bold]3[/] Uploaded through fal_client.upload_file; training through fal_client.subscribe:")
        trained = train(url, chosen.steps, console)
        lora = trained["diffusers_lora_file"]["url"]
        download(lora, out / "lora.safetensors")
        download(trained["config_file"]["url"], out / "config.json")
        console.print("[bold]4[/] Generating the same prompts and seeds without and with the LoRA")
        without = generate(out / "base", [])
        with_lora = generate(out / "lora", [{"path": lora, "scale": 1.0}])
    conclude(console, out, subject, without, with_lora)
    seconds = time.monotonic() - began
    console.print(f"The client connected to {', '.join(sorted(reached))} and to nothing else. {seconds:.0f} s in all.")


@contextmanager
def served(data_dir: Path, log: Path) -> Iterator[tuple[str, str]]:
    """A real server process on a free port; stopped as Ctrl-C would, and checked to end cleanly."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    origin = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tintype", "serve", "--port", str(port), "--data-dir", str(data_dir)]
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        wait_until_ready(origin, server, log)
        yield origin, (data_dir / "key").read_text().strip()
    finally:
        server.send_signal(signal.SIGINT)
        try:
            code = server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            raise SystemExit(f"The server did not stop within {STOP_SECONDS} s; see {log}.") from None
    if code != 0:
        raise SystemExit(f"The server ended with code {code}; see {log}.")


def wait_until_ready(origin: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Asks until the server and its workers are ready."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"The server ended at once: {log.read_text()[-2000:]}")
        try:
            if httpx.get(f"{origin}/ready", trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.1)
    raise SystemExit(f"The server was not ready after {START_SECONDS} s; see {log}.")


@contextmanager
def loopback_only() -> Iterator[set[str]]:
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
            raise SystemExit(f"The client tried to reach {host}, beyond this machine.")

    sys.addaudithook(watch)
    try:
        yield reached
    finally:
        watching = False


def point_client_at(origin: str, key: str) -> None:
    """Points fal's client, unmodified, at this server (recipe B of docs/clients.md)."""
    os.environ["FAL_KEY"] = key
    fal_settings.RUN_URL_FORMAT, fal_settings.QUEUE_URL_FORMAT = f"{origin}/run/", f"{origin}/queue/"
    fal_settings.REST_URL, fal_settings.CDN_URL = f"{origin}/rest", f"{origin}/cdn"
    fal_settings.REALTIME_URL_FORMAT = origin.replace("http", "ws", 1) + "/run/"


def train(url: str, steps: int, console: Console) -> dict[str, Any]:
    """Trains the LoRA; shows the request's log as it grows, and its step lines as a bar."""
    shown = 0
    columns = TextColumn("    training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[last]}")
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
        result = fal_client.subscribe(TRAINER, arguments=arguments, with_logs=True, on_queue_update=show)
    assert isinstance(result, dict)
    return result


def generate(folder: Path, loras: list[dict[str, Any]]) -> list[Path]:
    """One picture for every prompt and seed, kept in the folder."""
    folder.mkdir()
    paths = []
    for number, (prompt, seed) in enumerate(CASES):
        arguments = {"prompt": prompt, "seed": seed, "loras": loras, "image_size": "square_hd", "output_format": "png"}
        result = fal_client.subscribe(GENERATOR, arguments=arguments)
        paths.append(download(result["images"][0]["url"], folder / f"{number}.png"))
    return paths


def download(url: str, path: Path) -> Path:
    """Keeps what lies at a URL as a file."""
    path.write_bytes(httpx.get(url, trust_env=False, timeout=60).raise_for_status().content)
    return path


def conclude(console: Console, out: Path, subject: Subject, without: Sequence[Path], with_lora: Sequence[Path]) -> None:
    """Judges the pictures, lays them out beside the photos, and says where everything is."""
    base, lora = _scores(without, subject), _scores(with_lora, subject)
    table = Table("", "likeness", "adherence", title="What the judge reads (likeness: share of the subject's marks)")
    for name, scores in (("base", base), ("with the LoRA", lora)):
        table.add_row(name, f"{mean(scores).likeness:.2f}", f"{mean(scores).adherence:.2f}")
    console.print(table)
    figures = {"base": asdict(mean(base)), "lora": asdict(mean(lora))}
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    shutil.unpack_archive(out / "photos.zip", out / "photos")
    rows = (
        Row("training photos", sorted((out / "photos").iterdir()), []),
        Row("base", without, TITLES),
        Row("with the LoRA", with_lora, [f"likeness {one.likeness:.2f}" for one in lora]),
    )
    sheet = contact_sheet(rows, out / "contact-sheet.png")
    console.print(f"contact sheet  {sheet}")
    console.print(f"LoRA           {out / 'lora.safetensors'}\nconfig         {out / 'config.json'}")


def _scores(paths: Sequence[Path], subject: Subject) -> list[Score]:
    pictures = [Image.open(path) for path in paths]
    return score(pictures, [prompt for prompt, _ in CASES], subject.marks)


if __name__ == "__main__":
    main()
