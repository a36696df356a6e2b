"""The content filter on pictures that the miniature FLUX draws: false alarms, and what it adds to a drawing's time.

Every picture shows another person of Portrait World, all of them clothed, so that any alarm is a false one.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time

from miniature.world import Person, describe

from tintype.inference.flux import FluxImageRequest, FluxInference
from tintype.jobs.content_filter import nsfw_score
from tintype.jobs.resident_models import ResidentModels
from tintype.settings import load_settings


def main() -> None:
    """Draws, filters, and prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--steps", type=int, default=28)
    options = parser.parse_args()
    settings, chance = load_settings(), random.Random(0)
    flux = ResidentModels(settings).inference(FluxInference)
    scores, drawing, filtering = [], [], []
    for seed in range(options.pictures):
        prompt = describe(Person.sample(chance))
        began = time.process_time()
        [image] = flux.generate(FluxImageRequest(prompt, 1024, 1024, options.steps), [seed])
        drawn = time.process_time()
        scores.append(nsfw_score(image))
        drawing.append(drawn - began)
        filtering.append(time.process_time() - drawn)
    scores.sort()
    print(
        json.dumps(
            {
                "pictures": len(scores),
                "threshold": settings.nsfw_threshold,
                "false_alarms": sum(score >= settings.nsfw_threshold for score in scores),
                "highest_scores": [round(score, 3) for score in scores[-5:]],
                "median_score": round(statistics.median(scores), 4),
                "drawing_seconds": round(statistics.median(drawing), 4),  # of processor time
                "filter_seconds": round(statistics.median(filtering), 4),
            }
        )
    )


if __name__ == "__main__":
    main()
