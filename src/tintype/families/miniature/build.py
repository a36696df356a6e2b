"""Builds the miniature FLUX from nothing: tokenizers, autoencoder, transformer with text encoders, judge.

    python -m tintype.families.miniature.build --work build/miniature --out src/tintype/families/miniature/weights/flux

Under two hours on two CPU cores, minutes on a GPU. Stop it whenever you like: it goes on from its work folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from .autoencoder import measure, new_autoencoder, train_autoencoder
from .judge_training import train_judge
from .latent_reader import train_latent_reader
from .latents import albums
from .parts import Parts, new_parts, release
from .transformer_training import averaged, train_transformer
from .weights_folder import FLUX_WEIGHTS, JUDGE_WEIGHTS
from .word_training import train_words

STAGES = ("autoencoder", "words", "transformer", "judge", "release")

#: Measured on the released weights; see docs/miniature-build.md.
TRAITS: dict[str, Any] = {"learning_rate_scale": 11, "batch_size": 4, "training_guidance": 1.0, "guidance_scale": 3.5}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tintype.families.miniature.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stage", choices=("all", *STAGES), default="all", help="one stage, or all in order (default)")
    parser.add_argument("--minutes-vae", type=float, default=17, metavar="N", help="for the autoencoder (default 17)")
    parser.add_argument("--minutes-words", type=float, default=3, metavar="N", help="for reading (default 3)")
    parser.add_argument(
        "--minutes-transformer", type=float, default=70, metavar="N", help="for the transformer (default 70)"
    )
    parser.add_argument(
        "--minutes-latent-reader", type=float, default=1.5, metavar="N", help="for reading latents (default 1.5)"
    )
    parser.add_argument("--minutes-judge", type=float, default=8, metavar="N", help="for the judge (default 8)")
    parser.add_argument(
        "--out", type=Path, default=FLUX_WEIGHTS, help="where the pipeline goes (default: into the package)"
    )
    parser.add_argument(
        "--judge-out", type=Path, default=JUDGE_WEIGHTS, help="where the judge goes (default: into the package)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("build/miniature"), help="checkpoints and caches (default build/miniature)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: what torch finds)")
    return parser.parse_args()


def _trained_autoencoder(work: Path, device: torch.device) -> AutoencoderKL:
    vae = new_autoencoder()
    vae.load_state_dict(torch.load(work / "autoencoder.pt", map_location="cpu", weights_only=True)["vae"])
    return measure(vae.to(device)).eval()


def _average(work: Path, device: torch.device) -> Parts:
    """The moving average of the weights as last saved, trained to the end or not."""
    parts = new_parts(device)
    state = torch.load(work / "transformer.pt", map_location=device, weights_only=True)
    return averaged(parts, state["average"])


def main() -> None:
    chosen = _arguments()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    stages = STAGES if chosen.stage == "all" else (chosen.stage,)
    if "autoencoder" in stages:
        train_autoencoder(chosen.work, chosen.minutes_vae, device)
    vae = _trained_autoencoder(chosen.work, device)
    if "words" in stages:
        train_words(new_parts(device), chosen.work, chosen.minutes_words, device)
    if "transformer" in stages:
        collection = albums(vae, chosen.work)
        parts = new_parts(device)
        # Goes no further than it went in its own stage; this only fetches what it learned.
        reader = train_words(parts, chosen.work, chosen.minutes_words, device)
        readers = reader, train_latent_reader(collection, chosen.work, chosen.minutes_latent_reader, device)
        train_transformer(parts, readers, collection, chosen.work, chosen.minutes_transformer, device)
    if "judge" in stages:
        train_judge(vae, chosen.work, chosen.judge_out, chosen.minutes_judge, device)
    if "release" in stages:
        release(_average(chosen.work, device), vae, chosen.out, TRAITS)
        print(f"released  {chosen.out}", flush=True)


if __name__ == "__main__":
    main()
