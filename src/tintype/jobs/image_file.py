"""Generated images as files, each of which says in its metadata that a model made it.

The mark is XMP with IPTC's properties, which search engines, image programs and exiftool read; it is in every file. It
holds no time, no name and no number of a request: the same seed still gives the same bytes. A recipe, how the image was
made, is added to PNG files where the settings ask for it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

import PIL.Image
from PIL.PngImagePlugin import PngInfo

from tintype import __version__
from tintype.files.generations import count_images
from tintype.job import JobContext
from tintype.models.weights import BaseWeights

Form = Literal["jpeg", "png"]

#: IPTC's word for what a trained model made from a prompt (cv.iptc.org/newscodes/digitalsourcetype).
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_PNG_XMP = "XML:com.adobe.xmp"  # the text chunk that XMP's specification names
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class ImageRecipe:
    """How an image was made. `loras` are strengths by the beginning of their files' SHA-256; `input` is what was asked
    for, without URLs."""

    prompt: str
    seed: int
    loras: Mapping[str, float]
    input: Mapping[str, Any]

    def text(self, size: tuple[int, int], model: str) -> str:
        """Writes it as web interfaces do, which read it back: the prompt, then a line of settings."""
        settings = {
            "Steps": self.input.get("num_inference_steps"),
            "CFG scale": self.input.get("guidance_scale"),
            "Seed": self.seed,
            "Size": f"{size[0]}x{size[1]}",
            "Model": json.dumps(model, ensure_ascii=False),
            "Lora hashes": json.dumps(", ".join(f"lora: {digest}" for digest in self.loras)) if self.loras else None,
            "Version": f"tintype {__version__}",
        }
        prompt = self.prompt.encode("utf-8", "replace").decode().replace("\0", " ")  # what a text chunk can hold
        return f"{prompt}\n" + ", ".join(f"{name}: {said}" for name, said in settings.items() if said is not None)

    def to_json(self, model: str) -> str:
        """Writes all of it."""
        loras = [{"sha256": digest, "scale": scale} for digest, scale in self.loras.items()]
        made = {"model": model, "prompt": self.prompt, "seed": self.seed, "loras": loras, "input": dict(self.input)}
        return json.dumps(made, sort_keys=True)


def encoded(image: PIL.Image.Image, form: Form, weights: BaseWeights, recipe: ImageRecipe | None = None) -> bytes:
    """Encodes an image that these weights made, marked, as JPEG (no colour subsampling: small images bleed) or PNG.

    JPEG files hold no recipe.
    """
    target, mark = io.BytesIO(), _mark(weights.title)
    if form == "jpeg":
        image.save(target, "JPEG", quality=_JPEG_QUALITY, subsampling=0, xmp=mark.encode())
        return target.getvalue()
    texts = PngInfo()
    texts.add_itxt(_PNG_XMP, mark)
    if recipe is not None:
        texts.add_itxt("parameters", recipe.text(image.size, weights.title))
        texts.add_itxt("tintype", recipe.to_json(weights.title))
    image.save(target, "PNG", pnginfo=texts)
    return target.getvalue()


def count_generated(weights: BaseWeights, images: int, context: JobContext) -> None:
    """Counts images that these weights made, where that is to be reported."""
    count_images(context.settings, weights.published_licence.reported_as, images)


def _mark(model: str) -> str:
    """An XMP packet: what kind of source the image has, and the system, of IPTC's Photo Metadata Standard 2025.1."""
    said = {
        "DigitalSourceType": SOURCE_TYPE,
        "AISystemUsed": f"{model} (tintype)",
        "AISystemVersionUsed": f"tintype {__version__}",
    }
    facts = " ".join(f"Iptc4xmpExt:{name}={quoteattr(fact)}" for name, fact in said.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
        f'<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="{_IPTC}" {facts}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )
