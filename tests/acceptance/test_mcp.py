"""An assistant with the official SDK's client trains a LoRA from nothing but the server's address and a key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.support.mcp_client import Assistant, assistant
from tests.support.server import Server

pytestmark = pytest.mark.anyio


async def until_completed(asked: Assistant, sent: dict[str, Any]) -> dict[str, Any]:
    with anyio.fail_after(900):
        while True:
            told = await asked.call("check_job", endpoint_id=sent["endpoint_id"], request_id=sent["request_id"])
            if told["status"] == "COMPLETED":
                return told
            await anyio.sleep(0.2)


async def test_an_assistant_finds_a_trainer_trains_and_generates_and_cancels_another_training(
    server: Server, photos: Path
) -> None:
    async with assistant(server.origin, server.key) as asked:
        model = (await asked.call("search_models", query="train a portrait LoRA", category="training"))["models"][0]
        fields = (await asked.call("get_model_schema", endpoint_id=model["endpoint_id"]))["input_schema"]["properties"]
        assert {"images_data_url", "trigger_phrase", "steps"} <= set(fields)

        size = photos.stat().st_size
        place = await asked.call("upload_file", prepare_upload=True, file_name="photos.zip", file_size=size)
        async with httpx2.AsyncClient(trust_env=False) as http:
            (await http.put(place["upload_url"], content=photos.read_bytes())).raise_for_status()
        quick = {"steps": 2, "multiresolution_training": False, "subject_crop": False}
        body = {"images_data_url": place["file_url"], "trigger_phrase": "ohwx", **quick}
        told = await asked.call("inspect_dataset", images_data_url=place["file_url"], endpoint_id=model["endpoint_id"])
        assert told["kept"] == 10

        sent = {"endpoint_id": model["endpoint_id"]}
        sent |= await asked.call("submit_job", **sent, input=body)
        other = {"endpoint_id": model["endpoint_id"]}
        other |= await asked.call("submit_job", **other, input={**body, "steps": 10_000})
        assert (await until_completed(asked, sent)).get("error") is None
        result = (await asked.call("get_job_result", request_id=sent["request_id"]))["result"]
        lora = result["diffusers_lora_file"]["url"]
        assert lora in [one["url"] for one in (await asked.call("list_loras"))["loras"]]

        await asked.call("cancel_job", cancel_url=other["cancel_url"])
        assert (await until_completed(asked, other))["error_type"] == "client_cancelled"
        assert "cancelled" in (await asked.call("explain_failure", request_id=other["request_id"]))["error"]

        wanted = {"prompt": "a portrait of ohwx", "loras": [{"path": lora}], "num_inference_steps": 2}
        picture = await asked.call("run_model", endpoint_id="fal-ai/flux-lora", input=wanted)
        if picture["status"] == "processing":  # the machine is busy
            picture = {"endpoint_id": "fal-ai/flux-lora", **picture}
            await until_completed(asked, picture)
            picture = await asked.call("get_job_result", request_id=picture["request_id"])
        assert picture["result"]["images"][0]["url"].startswith(f"{server.origin}/cdn/files/")
