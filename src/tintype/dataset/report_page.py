"""The dataset report as one page that can be kept, mailed or opened years later: nothing in it lies anywhere else.

File names and captions come from strangers, so every text is escaped and the page may load and run nothing at all.
"""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from tintype.dataset.report import DatasetReport, FileNote, KeptImage, TrainedCrop

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --soft: #667079; --ground: #f6f6f3; --card: #fff; --line: #deded8;
  --good: #2c7a4b; --warn: #9a6200; --bad: #b3392f; --mark: #ffb000; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e4; --soft: #9aa2aa; --ground: #15171a; --card: #1f2226;
  --line: #33383e; --good: #6cc08b; --warn: #e0a94a; --bad: #ef8379; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 76rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.25rem 0 .75rem; }
p.sub { color: var(--soft); margin: .25rem 0 1.25rem; }
.counts { display: flex; flex-wrap: wrap; gap: .75rem; }
.counts div { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .6rem 1rem;
  min-width: 7rem; }
.counts b { display: block; font-size: 1.5rem; line-height: 1.2; } .counts span { color: var(--soft); }
.good b { color: var(--good); } .warn b { color: var(--warn); } .bad b { color: var(--bad); }
ul.warnings { margin: 0; padding: .75rem 1rem .75rem 2rem; background: var(--card); border: 1px solid var(--line);
  border-left: 4px solid var(--warn); border-radius: .4rem; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; overflow: hidden; }
.photo { position: relative; background: #8884; } .photo > img { display: block; width: 100%; }
.photo > .box, .photo > .shade { position: absolute; } .photo > .shade { width: auto; }
.box { border: 2px solid var(--mark); box-shadow: 0 0 0 1px #0008, inset 0 0 0 1px #0008; border-radius: 2px; }
.box i { position: absolute; left: 0; top: 0; background: var(--mark); color: #1d1500; font: 600 11px/1.3 system-ui,
  sans-serif; padding: 0 .3rem; }
.face { border: 1px dashed #fff; box-shadow: none; border-radius: 50%; }
figcaption { padding: .6rem .8rem .8rem; } .name { font-weight: 600; overflow-wrap: anywhere; }
.size, .crop small { color: var(--soft); } .crop { margin-top: .45rem; overflow-wrap: anywhere; } .crop small { display:
  block; } .chip { display: inline-block; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .5rem;
  font-size: .8rem; margin: .25rem .25rem 0 0; color: var(--warn); } .chip.fixed { color: var(--good); }
table { border-collapse: collapse; width: 100%; background: var(--card); border: 1px solid var(--line); }
td, th { text-align: left; padding: .4rem .7rem; border-top: 1px solid var(--line); vertical-align: middle;
  overflow-wrap: anywhere; } td img { height: 3.5rem; display: block; } meter { width: 12rem; max-width: 40vw; }
"""
_HEAD = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Dataset report</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>{_STYLE}</style></head><body>
"""
_SOURCES = {
    "file": "from its text file",
    "metadata": "from a metadata file or a copy",
    "trigger": "the trigger phrase alone",
    "default": "the default caption",
    "neutral": "neutral: nothing was written about it",
}


def write_page(report: DatasetReport, path: Path) -> Path:
    """Writes the report as one HTML file."""
    path.write_text(render(report), encoding="utf-8", errors="replace")
    return path


def render(report: DatasetReport) -> str:
    """Builds the text of the page."""
    repairs = {note.name: note.what for note in report.repaired}
    parts = [
        _HEAD,
        "<h1>Dataset report</h1><p class=sub>What became of every file, and what is trained.</p>",
        _counts(report),
        _warnings(report.warnings),
        "<h2>Trained photos</h2><div class=grid>",
        *(_card(image, repairs.get(image.name)) for image in report.kept),
        "</div>",
        _files("Left out", report.dropped),
        _sizes(report),
        _files("Passed over", report.ignored),
        "</body></html>\n",
    ]
    return "".join(parts)


def _counts(report: DatasetReport) -> str:
    crops = sum(len(image.trained) for image in report.kept)
    counts = [
        ("good", len(report.kept), "photos kept"),
        ("good", crops, "crops trained"),
        ("warn", len(report.repaired), "repaired"),
        ("bad" if report.dropped else "", len(report.dropped), "left out"),
    ]
    tiles = "".join(f'<div class="{kind}"><b>{count}</b><span>{what}</span></div>' for kind, count, what in counts)
    return f"<div class=counts>{tiles}</div>"


def _warnings(warnings: list[str]) -> str:
    if not warnings:
        return ""
    return (
        "<h2>Worth knowing</h2><ul class=warnings>"
        + "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
        + "</ul>"
    )


def _card(image: KeptImage, repaired: str | None) -> str:
    overlays = "".join(_frame(crop, image) for crop in image.trained)
    if image.face:
        overlays += f'<span class="box face" style="{_placed(image.face, image)}"></span>'
    chips = f"<span class='chip fixed'>{escape(repaired)}</span>" if repaired else ""
    chips += "".join(f"<span class=chip>{escape(finding)}</span>" for finding in image.findings)
    crops = "".join(_crop(crop) for crop in image.trained)
    return (
        f"<figure><div class=photo>{_image(image.thumbnail)}{overlays}</div><figcaption>"
        f"<div class=name>{escape(image.name)}</div>"
        f"<div class=size>{image.width} &times; {image.height}; caption {_SOURCES[image.caption_source]}</div>"
        f"{chips}{crops}</figcaption></figure>\n"
    )


def _crop(crop: TrainedCrop) -> str:
    mask = f"; mask from the {crop.mask}" if crop.mask else ""
    framing = f"{crop.framing}, " if crop.framing else ""
    return f"<div class=crop>{escape(crop.caption)}<small>{framing}{', '.join(crop.buckets)}{mask}</small></div>"


def _frame(crop: TrainedCrop, image: KeptImage) -> str:
    """The window as a frame over the photo, and its mask as a shade over what counts little."""
    box = crop.box or [0, 0, image.width, image.height]
    place = _placed(box, image)
    # Shades of several windows would darken each other; the widest one says enough.
    overlay = crop.mask_overlay if crop is image.trained[0] else None
    shade = f'<img class=shade alt="" style="{place}" src="{_data(overlay, "png")}">' if overlay else ""
    frame = f'<span class=box style="{place}"><i>{crop.framing}</i></span>' if crop.box else ""
    return shade + frame


def _placed(box: list[int], image: KeptImage) -> str:
    left, top, right, bottom = box
    x, y = 100 / image.width, 100 / image.height
    return f"left:{left * x:.2f}%;top:{top * y:.2f}%;width:{(right - left) * x:.2f}%;height:{(bottom - top) * y:.2f}%"


def _files(title: str, notes: list[FileNote]) -> str:
    if not notes:
        return ""
    rows = "".join(
        f"<tr><td>{_image(note.thumbnail)}</td><td class=name>{escape(note.name)}</td><td>{escape(note.what)}</td></tr>"
        for note in notes
    )
    return f"<h2>{title}</h2><table>{rows}</table>"


def _sizes(report: DatasetReport) -> str:
    buckets = report.buckets
    most = max(buckets.values(), default=1)
    rows = "".join(
        f"<tr><td>{size.replace('x', ' &times; ')}</td><td><meter min=0 max={most} value={count}></meter></td>"
        f"<td>{count}</td></tr>"
        for size, count in buckets.items()
    )
    return f"<h2>Sizes</h2><table><tr><th>pixels</th><th></th><th>crops</th></tr>{rows}</table>" if rows else ""


def _image(jpeg: bytes | None) -> str:
    return f'<img alt="" src="{_data(jpeg, "jpeg")}">' if jpeg else ""


def _data(content: bytes, form: str) -> str:
    return f"data:image/{form};base64,{base64.b64encode(content).decode()}"
