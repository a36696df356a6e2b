"""The MCP tools that keep photos for trainings: datasets, their photos and their captions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tintype.errors import Json
from tintype.web import dataset_captions, dataset_photos, dataset_report, datasets
from tintype.web.mcp_call import ToolCall

DatasetId = Annotated[str, Field(max_length=50, description="Id of a dataset, by list_datasets.")]
_SHOWN = ("photo_id", "name", "width", "height", "caption", "caption_by", "captioner", "crop", "faces", "findings")
_MOST_PHOTOS = 100  # that are told at once


async def list_datasets(asked: ToolCall, limit: Annotated[int, Field(ge=1, le=100)] = 50) -> Json:
    """Lists the datasets (photos that are kept for trainings), the one that was changed last first. The url of one is
    the images_data_url of a training."""
    return await asked.ask(datasets.list_datasets, query={"limit": limit})


async def show_dataset(
    asked: ToolCall,
    dataset_id: DatasetId,
    endpoint_id: Annotated[str, Field(max_length=200, description="The training that is meant.")] = "",
    trigger_phrase: Annotated[str, Field(max_length=1000, description="As the training would get it.")] = "",
) -> Json:
    """Tells what a dataset holds and what a training would make of it: photos with captions and who wrote them, copies,
    faces, what is blurred or dark, warnings."""
    query = {"endpoint_id": endpoint_id, "trigger_phrase": trigger_phrase}
    told = await asked.ask(datasets.show_dataset, id=dataset_id)
    report = await asked.ask(
        dataset_report.report, query={name: text for name, text in query.items() if text}, id=dataset_id
    )
    listed = await asked.ask(dataset_photos.list_photos, query={"limit": _MOST_PHOTOS}, id=dataset_id)
    marks = {photo["photo_id"]: photo for photo in report["photos"]}
    photos = [
        {name: photo[name] for name in _SHOWN} | {"marks": marks.get(photo["photo_id"], {}).get("marks", [])}
        for photo in listed["photos"]
    ]
    warnings = (report["report"] or {}).get("warnings", [])
    return {**told, "photos": photos, "problem": report["problem"], "warnings": warnings}


async def add_to_dataset(
    asked: ToolCall,
    urls: Annotated[list[str], Field(min_length=1, max_length=100, description="URLs of photos or archives.")],
    dataset_id: Annotated[str, Field(max_length=50, description="Without one, a dataset is begun.")] = "",
    name: Annotated[str, Field(max_length=200, description="Of the dataset that is begun.")] = "photos",
) -> Json:
    """Adds photos to a dataset, or begins one with them; upload_file gives the URLs of files. Returns the dataset, and
    what was left out."""
    if not dataset_id:
        dataset_id = (await asked.ask(datasets.create_dataset, sent={"name": name}))["dataset_id"]
    told = await asked.ask(dataset_photos.add_photos, sent={"urls": urls}, id=dataset_id)
    photos = [{name: photo[name] for name in _SHOWN} for photo in told["photos"][:_MOST_PHOTOS]]
    return {**told, "photos": photos, "left_out": told["left_out"][:_MOST_PHOTOS]}


async def caption_dataset(
    asked: ToolCall,
    dataset_id: DatasetId,
    captions: Annotated[dict[str, str], Field(max_length=200, description="Captions by photo_id.")],
    captioner: Annotated[str, Field(min_length=1, max_length=200, description="Who writes them: your model's name.")],
) -> Json:
    """Writes captions that a model made. What a person or a file says is kept, and listed as kept."""
    sent = {"captions": captions, "by": "model", "captioner": captioner}
    return await asked.ask(dataset_captions.set_captions, sent=sent, id=dataset_id)


async def delete_dataset(asked: ToolCall, dataset_id: DatasetId) -> Json:
    """Deletes a dataset with its photos and captions for good; trainings keep what they were sent."""
    return await asked.ask(datasets.delete_dataset, id=dataset_id)


DATASET_TOOLS = (list_datasets, show_dataset, add_to_dataset, caption_dataset, delete_dataset)
