"""What the routes of datasets are sent and answer. Boxes are [left, top, right, bottom] in pixels of the upright photo,
whose size is `width` and `height`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tintype.web.platform_schema import Answer, Body, Page, Query

LONGEST_NAME = 200  # characters
LONGEST_CAPTION = 10_000  # characters; as much as is read of a caption file
MOST_URLS = 1000  # in one body

Box = Annotated[list[Annotated[int, Field(ge=0, le=10**6)]], Field(min_length=4, max_length=4)]
Writer = Literal["person", "file", "model"]
Automatic = Literal["person", "model"]
Caption = Annotated[str, Field(max_length=LONGEST_CAPTION)]


class DatasetName(Body):
    """Names a dataset."""

    name: str = Field(min_length=1, max_length=LONGEST_NAME, description="A line of text.")


class Dataset(Answer):
    """Describes a dataset."""

    dataset_id: str
    name: str
    url: str = Field(description="The images_data_url of a training; it is trained as it is when that is sent.")
    version: int = Field(description="Grows with every change of what would be trained.")
    photo_count: int
    captioned_count: int = Field(description="Photos that have a caption.")
    size_bytes: int
    thumbnail_url: str | None = Field(description="Of the first photo.")
    created_at: float
    changed_at: float


class DatasetsAnswer(Page):
    """Lists datasets, the one that was changed last first."""

    datasets: list[Dataset]


class Window(Answer):
    """Names a part of a photo that a portrait training cuts out by itself, and what it shows of the person."""

    framing: Literal["head", "bust", "half", "full"] | None
    box: Box


class Photo(Answer):
    """Describes a photo of a dataset."""

    photo_id: str
    dataset_id: str
    name: str = Field(description="Like no other of its dataset.")
    width: int
    height: int
    size_bytes: int
    content_type: str
    caption: str | None
    caption_by: Writer | None = Field(description="Who wrote it; what a person wrote, no model replaces.")
    captioner: str | None = Field(description="The model that wrote it.")
    crop: Box | None = Field(description="What is trained of it, where a person chose; null: what the trainer chooses.")
    windows: list[Window] = Field(description="What a portrait training cuts out by itself, widest first.")
    face: Box | None
    faces: int
    findings: list[str] = Field(description="What speaks against the photo.")
    repairs: list[str] = Field(description="What was done to it when it was decoded.")
    thumbnail_url: str = Field(description="A small JPEG, upright.")
    preview_url: str = Field(description="A JPEG, upright, of at most ?side= pixels (default 1024).")
    file_url: str = Field(description="The photo as it was sent.")
    created_at: float


class PhotosAnswer(Page):
    """Lists photos in the order in which they came."""

    photos: list[Photo]


class LeftOut(Answer):
    """Names a file that was not taken, and why."""

    name: str
    what: str


class AddedAnswer(Answer):
    """Tells what became of the files that were sent."""

    dataset: Dataset
    photos: list[Photo] = Field(description="Those that were added.")
    left_out: list[LeftOut]
    captioned: list[str] = Field(description="Ids of photos that were here before, and got captions from a file.")
    notes: list[str] = Field(description="What else a person should know.")


class PhotoChange(Body):
    """Says what of a photo is changed; what is not there stays. `by` says who wrote the caption."""

    caption: Caption | None = None
    by: Automatic = "person"
    captioner: str | None = Field(None, max_length=200, description="The model that wrote it.")
    crop: Box | None = None


class CaptionsBody(Body):
    """Holds captions by the ids of photos; null takes one away."""

    captions: dict[str, Caption | None] = Field(max_length=2000)
    by: Automatic = Field("person", description="model: what persons and files say is kept.")
    captioner: str | None = Field(None, max_length=200, description="The model that wrote them.")


class CaptionsAnswer(Answer):
    """Tells which captions were written."""

    changed: list[str] = Field(description="Ids of photos.")
    kept: list[str] = Field(description="Ids of photos whose captions a person or a file has, and a model may not.")


class CaptionsEdit(Body):
    """Says how the captions of many photos are edited: something is found and replaced, or put before or after them.
    Photos without a caption stay without one."""

    find: str = Field("", max_length=LONGEST_CAPTION)
    replace: str = Field("", max_length=LONGEST_CAPTION)
    match_case: bool = True
    whole_words: bool = False
    before: str = Field("", max_length=LONGEST_CAPTION)
    after: str = Field("", max_length=LONGEST_CAPTION)
    photo_ids: list[str] | None = Field(None, max_length=2000, description="Those that are meant; null: all.")
    dry_run: bool = Field(False, description="Only tell what would change.")


class EditedCaption(Answer):
    """Holds a caption as it was and as it is."""

    photo_id: str
    name: str
    was: str
    caption: str


class CaptionsEdited(Answer):
    """Lists the captions that were changed, or would be."""

    captions: list[EditedCaption]
    dry_run: bool


class DeletedPhoto(Answer):
    """Describes a photo that is no more."""

    kind: Literal["photo"]
    sha256: str
    size: int


class DatasetDeleted(Answer):
    """Proves that a dataset is gone."""

    dataset_id: str
    receipt: list[DeletedPhoto]


class PreviewQuery(Query):
    """Says how large a picture is wanted."""

    side: int = Field(1024, ge=16, le=4096, description="Most pixels of the long side.")


Mark = Literal["copy", "alike", "stranger", "no_face", "several_people", "small", "blurred", "dark", "bright", "empty"]


class PhotoMarks(Answer):
    """Says what a person should look at in a photo."""

    photo_id: str
    name: str
    marks: list[Mark]
    copy_of: str | None = Field(description="Id of the photo that stays for it.")
    alike: list[str] = Field(description="Ids of photos that look much alike.")


class ReportAnswer(Answer):
    """Tells what a training would make of a dataset, with the same inputs."""

    dataset_id: str
    version: int
    endpoint_id: str
    strangers: Literal["not_measured", "measuring", "measured", "not_installed", "failed"] = Field(
        description="Whether photos of somebody else are marked. While measuring, ask again in some seconds."
    )
    problem: str | None = Field(description="What would end the training before it begins.")
    photos: list[PhotoMarks]
    report: dict[str, Any] | None = Field(description="As the report.json of a training.")
