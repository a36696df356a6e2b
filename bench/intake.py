"""Takes in a large dataset, and compares the time with what decoding its photos costs on the same cores.

The archive holds photos of 12 megapixels as phones write them: about 4 MB, a third of them turned by their tag, one
person in most of them, near in five of six. Decoding alone means: read from the archive, decode every pixel, throw it
away, in as many threads as intake uses. Intake means all that happens before the first picture is encoded: unpacking,
decoding, looking for faces, findings, cutting, copies, report. Each runs in a process of its own, so that peak memory
is its own as well.

    python bench/intake.py [--count 1000] [--finder face|given] [--folder DIR] [--json]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (4032, 3024)
SOURCES = 12  # pictures that are made; the others repeat them with another comment, so that no two files are the same
QUALITY = 90
MIB = 1024 * 1024
TARGET_RATIO, TARGET_MIB = 1.5, 1024


def portrait() -> Image.Image | None:
    """A real face, if scikit-image is installed."""
    import importlib.util

    package = importlib.util.find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        return None
    with Image.open(Path(package.submodule_search_locations[0]) / "data" / "astronaut.png") as opened:
        return opened.convert("RGB")


def source(number: int, face: Image.Image | None) -> Image.Image:
    """One photo of 12 megapixels: a person, nearer or (every sixth) far off; one of them without anyone."""
    rng = np.random.default_rng(number)
    picture = Image.new("RGB", SIZE)
    for cells in (4, 24, 120):
        layer = Image.fromarray(rng.integers(30, 220, (cells, cells, 3), dtype=np.uint8))
        picture = Image.blend(picture, layer.resize(SIZE, Image.Resampling.BICUBIC), 0.5)
    if face is not None and number != SOURCES - 1:
        side = int(SIZE[1] * (1.15, 1.35, 0.5, 1.8, 1.5, 1.2)[number % 6])
        person = face.resize((side, side), Image.Resampling.BICUBIC)
        picture.paste(person, (int(rng.integers(0, SIZE[0] - side // 2)) // 2, max(0, SIZE[1] - side) // 2))
    # The grain of a sensor is what makes photos as large as they are.
    grain = rng.normal(0, 7, (SIZE[1], SIZE[0], 1)).astype(np.float32)
    return Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))


def make_archive(path: Path, count: int) -> None:
    """Writes `count` photos; encoding one takes longer than decoding ten, so sources are repeated."""
    face = portrait()
    encoded = []
    for number in range(min(SOURCES, count)):
        target, exif = io.BytesIO(), Image.Exif()
        turned = number % 3 == 2
        exif[0x0112] = 6 if turned else 1
        photo = source(number, face)
        stored = photo.transpose(Image.Transpose.ROTATE_90) if turned else photo
        stored.save(target, "JPEG", quality=QUALITY, exif=exif)
        encoded.append(target.getvalue())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number in range(count):
            content = encoded[number % len(encoded)]
            comment = f"photo {number}".encode()
            note = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
            archive.writestr(f"IMG_{number:05d}.jpg", content[:2] + note + content[2:])


def decode_all(path: Path) -> dict[str, Any]:
    """The plain way: every photo decoded and thrown away."""
    workers = min(8, len(os.sched_getaffinity(0)))
    began, spent = time.perf_counter(), time.process_time()
    with zipfile.ZipFile(path) as archive, ThreadPoolExecutor(workers) as pool:

        def decode(name: str) -> None:
            with Image.open(io.BytesIO(archive.read(name))) as opened:
                opened.load()

        waiting: deque[Future[None]] = deque()
        for name in archive.namelist():
            waiting.append(pool.submit(decode, name))
            if len(waiting) > 2 * workers:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
    return measured(began, spent)


def take_in(path: Path, folder: Path, finder: str) -> dict[str, Any]:
    """Intake as a training has it, with the miniature's finder ("given") or a real model's ("face")."""
    from tintype.dataset import MULTI_RESOLUTION, DatasetOptions, Limits, open_dataset, write_page
    from tintype.dataset.subject import find_face, whole

    def given(image: Image.Image) -> Any:
        return whole(image, "given")

    options = DatasetOptions(trigger="TOK", area_sides=MULTI_RESOLUTION, subject_crop=True)
    # The photos repeat themselves, which real ones do not: copies are looked for, but must not make it quicker.
    began, spent = time.perf_counter(), time.process_time()
    dataset = open_dataset(
        path, folder, options, find_subject=find_face if finder == "face" else given, log=lambda line: None,
        limits=Limits(total_bytes=64 * 1024 * MIB),
    )  # fmt: skip
    dataset.report.write(folder / "report.json")
    write_page(dataset.report, folder / "report.html")
    found = sum(photo.subject == "face" for photo in dataset.report.kept)
    return measured(began, spent) | {"kept": len(dataset.report.kept), "copies": len(dataset.report.dropped),
                                     "with_face": found}  # fmt: skip


def measured(began: float, spent: float) -> dict[str, Any]:
    # Linux counts a parent's memory into ru_maxrss across fork; VmHWM belongs to this program alone.
    status = Path("/proc/self/status")
    if status.exists():
        peak = int(next(line for line in status.read_text().splitlines() if "VmHWM" in line).split()[1]) * 1024
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - spent, 2),
        "peak_mib": round(peak / MIB),
    }


def alone(*arguments: str) -> dict[str, Any]:
    """Runs one half of the comparison in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="photos (default 1000)")
    parser.add_argument("--finder", choices=("face", "given"), default="face", help="whether faces are looked for")
    parser.add_argument("--folder", type=Path, help="where to work; 8 MB a photo are needed")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--only", choices=("decode", "intake"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.only:
        archive = chosen.folder / "photos.zip"
        one = decode_all(archive) if chosen.only == "decode" else take_in(archive, chosen.folder / "in", chosen.finder)
        print(json.dumps(one))
        return
    folder = Path(tempfile.mkdtemp(dir=chosen.folder))
    try:
        make_archive(folder / "photos.zip", chosen.count)
        size = (folder / "photos.zip").stat().st_size
        decode = alone("--only", "decode", "--folder", str(folder))
        intake = alone("--only", "intake", "--folder", str(folder), "--finder", chosen.finder)
    finally:
        shutil.rmtree(folder)
    result = {
        "photos": chosen.count, "megapixels": round(SIZE[0] * SIZE[1] / 1e6, 1), "megabytes": round(size / 1e6),
        "cores": len(os.sched_getaffinity(0)), "finder": chosen.finder, "decode": decode, "intake": intake,
        "ratio": round(intake["seconds"] / decode["seconds"], 2),
        "cpu_ratio": round(intake["cpu_seconds"] / decode["cpu_seconds"], 2),
    }  # fmt: skip
    print(json.dumps(result)) if chosen.json else show(result)


def show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{result['photos']} photos of {result['megapixels']} MP, {result['megabytes']} MB, "
                  f"{result['cores']} cores, finder: {result['finder']}")  # fmt: skip
    for title in ("", "seconds", "ms a photo", "CPU seconds", "peak MiB"):
        table.add_column(title, justify="right" if title else "left")
    for name in ("decode", "intake"):
        one = result[name]
        each = f"{1000 * one['seconds'] / result['photos']:.1f}"
        table.add_row(name, f"{one['seconds']:.1f}", each, f"{one['cpu_seconds']:.1f}", str(one["peak_mib"]))
    table.add_section()
    table.add_row("ratio", f"{result['ratio']:.2f}", f"at most {TARGET_RATIO}", f"{result['cpu_ratio']:.2f}",
                  f"under {TARGET_MIB}")  # fmt: skip
    Console().print(table)
    intake = result["intake"]
    Console().print(f"{intake['kept']} kept, {intake['copies']} copies, {intake['with_face']} with a face.")


if __name__ == "__main__":
    main()
