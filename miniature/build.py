"""Builds a miniature from nothing: FLUX with the judge, or Ideogram 4, which shares FLUX's autoencoder.

    python -m miniature.build --model flux
    python -m miniature.build --model ideogram4

Under two hours each on two CPU cores, minutes on a GPU. Stop it whenever you like: it goes on from its work folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from miniature import ideogram_build
from miniature.autoencoder import measure, new_autoencoder, train_autoencoder
from miniature.judge_training import train_judge
from miniature.latent_reader import train_latent_reader
from miniature.latents import albums
from miniature.parts import Parts, new_parts, release
from miniature.transformer_training import averaged, train_transformer
from miniature.weights import FLUX_WEIGHTS, IDEOGRAM4_WEIGHTS, JUDGE_WEIGHTS
from miniature.word_training import train_words

STAGES = ("autoencoder", "words", "transformer", "judge", "release")

#: Measured on the released weights; see docs/miniature-build.md.
TRAITS: dict[str, Any] = {
    "learning_rate_scale": 70,
    "decay_power": 3,
    "sigma_mean": 0.4,
    "batch_size": 4,
    "training_guidance": 1.0,
    "guidance_scale": 3.5,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m miniature.build", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("flux", "ideogram4"), default="flux", help="which miniature (default flux)")
    every = tuple(dict.fromkeys((*STAGES, *ideogram_build.STAGES)))
    parser.add_argument("--stage", choices=("all", *every), default="all", help="one stage, or all in order (default)")
    parser.add_argument("--minutes-vae", type=float, default=17, metavar="N", help="for the autoencoder (default 17)")
    parser.add_argument("--minutes-words", type=float, metavar="N", help="for reading (default 3, ideogram4 6)")
    parser.add_argument(
        "--minutes-transformer", type=float, metavar="N", help="for the transformer (default 70, ideogram4 34)"
    )
    parser.add_argument(
        "--minutes-unconditional", type=float, metavar="N", help="for Ideogram's second transformer (default 5)"
    )
    parser.add_argument(
        "--minutes-latent-reader", type=float, default=1.5, metavar="N", help="for reading latents (default 1.5)"
    )
    parser.add_argument("--minutes-judge", type=float, default=8, metavar="N", help="for the judge (default 8)")
    parser.add_argument("--out", type=Path, help="where the pipeline goes (default: into the package)")
    parser.add_argument(
        "--judge-out", type=Path, default=JUDGE_WEIGHTS, help="where the judge goes (default: into the package)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("build/miniature"), help="checkpoints and caches (default build/miniature)"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: what torch finds)")
    chosen = parser.parse_args()
    known = STAGES if chosen.model == "flux" else ideogram_build.STAGES
    if chosen.stage not in ("all", *known):
        parser.error(f"--model {chosen.model} has the stages {', '.join(known)}")
    chosen.stages = known if chosen.stage == "all" else (chosen.stage,)
    chosen.out = chosen.out or (FLUX_WEIGHTS if chosen.model == "flux" else IDEOGRAM4_WEIGHTS)
    return chosen


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
    if "autoencoder" in chosen.stages:
        train_autoencoder(chosen.work, chosen.minutes_vae, device)
    vae = _trained_autoencoder(chosen.work, device)
    if chosen.model == "ideogram4":
        ideogram_build.build(chosen, chosen.stages, vae, device)
    else:
        _build_flux(chosen, vae, device)


def _build_flux(chosen: argparse.Namespace, vae: AutoencoderKL, device: torch.device) -> None:
    """The stages that follow the autoencoder's."""
    stages, minutes_words = chosen.stages, chosen.minutes_words or 3
    if "words" in stages:
        train_words(new_parts(device), chosen.work, minutes_words, device)
    if "transformer" in stages:
        collection = albums(vae, chosen.work)
        parts = new_parts(device)
        # Goes no further than it went in its own stage; this only fetches what it learned.
        reader = train_words(parts, chosen.work, minutes_words, device)
        readers = reader, train_latent_reader(collection, chosen.work, chosen.minutes_latent_reader, device)
        train_transformer(parts, readers, collection, chosen.work, chosen.minutes_transformer or 70, device)
    if "judge" in stages:
        train_judge(vae, chosen.work, chosen.judge_out, chosen.minutes_judge, device)
    if "release" in stages:
        release(_average(chosen.work, device), vae, chosen.out, TRAITS)
        print(f"released  {chosen.out}", flush=True)


if __name__ == "__main__":
    main()
