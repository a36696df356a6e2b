"""What a custom model is to both halves: its statuses, the inputs that make and use one, and why it cannot be used.

The web refuses a model that is not ready when a request is sent, and the job refuses one that was archived while the
request waited; both say the same, so the sentence stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pydantic import Field

from tintype.catalog.endpoint import EndpointInput
from tintype.errors import InputError, Json

LEAST_NAME, MOST_NAME = 5, 30  # characters of a display name
MODEL_ID = ("body", "model_id")


class ModelStatus(StrEnum):
    """Names how far a custom model is, in words of Ideogram's own API."""

    CREATING = "CREATING"  # its training waits for its first attempt
    TRAINING = "TRAINING"  # an attempt was made; also while it waits for the next one
    COMPLETED = "COMPLETED"  # can be generated with
    ERRORED = "ERRORED"  # its training failed or was cancelled; a retry brings it back
    ARCHIVED = "ARCHIVED"  # hidden by its owner; its files are kept, unless it was deleted


class MakesModel(EndpointInput):
    """Marks the input of an endpoint whose every request registers a custom model, from submit on."""

    @property
    def model_name(self) -> str | None:
        """Returns the display name asked for; None for one made from the request's id."""
        return None


class UsesModel(EndpointInput):
    """Marks the input of an endpoint that generates with a custom model."""

    model_id: str = Field(
        max_length=200,
        description="The id of a trained custom model returned by /train. The model must have finished training "
        "(status COMPLETED).",
    )


@dataclass(frozen=True)
class ModelReference:
    """Describes a custom model as a job sees it; `lora` is the internal URL of its LoRA once it has one."""

    id: str
    name: str
    uri: str
    status: ModelStatus
    reason: str = ""
    lora: str | None = None

    @classmethod
    def from_json(cls, told: Json) -> Self:
        """As sent over the worker's pipe."""
        return cls(**{**told, "status": ModelStatus(told["status"])})

    def usable_lora(self) -> str:
        """Returns the LoRA's URL. Raises InputError at model_id, saying the status, for a model that cannot be used."""
        if self.status is ModelStatus.COMPLETED and self.lora is not None:
            return self.lora
        why = f": {self.reason.rstrip('.')}" if self.reason else ""
        raise InputError(
            f"The custom model {self.name!r} is {self.status}, not COMPLETED{why}.",
            remedy=_REMEDIES.get(self.status, "Train it again."),
            loc=MODEL_ID,
            ctx={"status": self.status},
            given=self.id,
        )


_REMEDIES = {
    ModelStatus.CREATING: "Wait for its training; the status of its request says how far it is.",
    ModelStatus.TRAINING: "Wait for its training; the status of its request says how far it is.",
    ModelStatus.ERRORED: "Retry its request (`tintype requests retry`), or train another model.",
    ModelStatus.ARCHIVED: "Choose another model; GET /v1/custom-models lists them.",
}


def unknown_model(model_id: str) -> InputError:
    """Makes the error for an id that names no model of the caller's."""
    said = f"There is no custom model {model_id[:100]!r}" if model_id else "No custom model is named"
    return InputError(
        f"{said}.",
        remedy="Send the model_id that its training returned; GET /v1/custom-models lists your models.",
        loc=MODEL_ID,
        given=model_id[:100],
    )


def checked_name(name: str) -> str:
    """Checks a display name, and takes off the spaces around it. Raises ValueError."""
    plain = name.strip()
    if not LEAST_NAME <= len(plain) <= MOST_NAME:
        raise ValueError(f"A model's name has {LEAST_NAME} to {MOST_NAME} characters; this one has {len(plain)}.")
    if not plain.isprintable():
        raise ValueError("A model's name is one line of letters, digits, spaces and signs.")
    return plain
