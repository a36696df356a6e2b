"""Runs in an environment of its own, because the `fal` package pins other versions of what this project uses: the
queue client `fal.apps` turned to TINTYPE_ORIGIN (none: as it is, for `tintype run`), and what it was told, as JSON."""

import json
import os

import fal.apps as apps
import httpx

ORIGIN = os.environ.get("TINTYPE_ORIGIN")
if ORIGIN:
    apps._QUEUE_URL_FORMAT = f"{ORIGIN}/queue/{{app_id}}"
    apps._STREAM_URL_FORMAT = f"{ORIGIN}/run/{{app_id}}"

PAINTER, TRAINER = "fal-ai/flux-lora", "fal-ai/flux-lora-portrait-trainer"
DRAWING = {"prompt": "a portrait of a person", "num_inference_steps": 4, "image_size": "square", "seed": 5}


def refused(call, *arguments):
    try:
        call(*arguments)
    except httpx.HTTPStatusError as problem:
        return problem.response.status_code, str(problem)
    return None


seen = {"ran": apps.run(PAINTER, DRAWING)}

handle = apps.submit(PAINTER, DRAWING)
seen["events"] = [type(event).__name__ for event in handle.iter_events(logs=True)]
last = handle.status(logs=True)
seen["last"] = [type(last).__name__, last.logs, last.error]
seen["fetched"] = handle.fetch_result()
seen["cancelled late"] = refused(handle.cancel)

seen["streamed"] = list(apps.stream(PAINTER, DRAWING, path="/stream"))[-1]

failing = apps.submit(TRAINER, {"images_data_url": "data:application/zip;base64,UEsDBA==", "steps": 1})
seen["failed"] = refused(failing.get)
seen["error"] = failing.status().error

training = apps.submit(TRAINER, {"images_data_url": os.environ["PHOTOS"], "steps": 10_000})
training.cancel()
seen["cancelled"] = refused(training.get)
seen["invalid"] = refused(apps.submit, TRAINER, {})
print(json.dumps(seen))
