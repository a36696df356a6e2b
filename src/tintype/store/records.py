"""What the store keeps, as frozen records: requests, attempts, claims, logs, files, keys, workers.

Times are unix seconds (float, UTC). A record is what was true when it was read; only `Store` changes what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from tintype.catalog import Kind
from tintype.catalog.custom_models import ModelReference, ModelStatus
from tintype.errors import Failure, Json


class Status(StrEnum):
    """The three words fal's clients understand; anything else makes them raise or poll for ever."""

    IN_QUEUE = "IN_QUEUE"  # accepted, waits for a lane (also between two attempts)
    IN_PROGRESS = "IN_PROGRESS"  # an attempt holds the lease
    COMPLETED = "COMPLETED"  # final, whatever the outcome


class Outcome(StrEnum):
    """How a completed request ended."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Priority(StrEnum):
    """All normal requests run before any low one."""

    NORMAL = "normal"
    LOW = "low"


class Scope(StrEnum):
    """What a key may do beside what every key may."""

    API = "API"
    ADMIN = "ADMIN"  # make and revoke keys; see and forget what others did; switch the content filter off


class Ending(StrEnum):
    """Why an attempt ended."""

    OK = "ok"
    FAILED = "failed"  # the job raised; final for the request
    CANCELLED = "cancelled"
    DIED = "died"  # the child died by itself; counts against the bound unless a checkpoint was made since
    KILLED = "killed"  # supervisor or machine lost; counts only against a number of retries that the sender gave
    OUT_OF_MEMORY = "out_of_memory"  # while a model was loaded; counts as DIED
    WAITED = "waited"  # gave the device's memory to the other lane, or did not get it; goes on by itself, never counts
    DRAINED = "drained"  # stopped in good order, goes on from its checkpoint; never counts
    LEASE_EXPIRED = "lease_expired"  # no heartbeat; as KILLED


# fal's words for what a sender may bound the retries of, and the endings that each of them means here.
RETRIED: Mapping[str, tuple[Ending, ...]] = {
    "server_error": (Ending.DIED, Ending.OUT_OF_MEMORY),
    "connection_error": (Ending.KILLED, Ending.LEASE_EXPIRED),
    "timeout": (),  # no attempt is ended here for having taken too long
}


@dataclass(frozen=True)
class NewModel:
    """A custom model to be registered; without a name it gets one from its request's id."""

    name: str | None = None


@dataclass(frozen=True)
class NewRequest:
    """What the web half hands over. `input` is the validated body; `coalesce_key` is set for training only."""

    endpoint_id: str
    kind: Kind
    input: Json
    key_id: str = ""
    owner: str = ""  # whose that key is
    origin: str = ""  # e.g. http://127.0.0.1:8787, as the caller reached us
    priority: Priority = Priority.NORMAL
    affinity: str = ""  # base and adapter this request would like to find resident
    coalesce_key: str | None = None  # hash of key, path, query and body
    idempotency_key: str | None = None
    digest: str | None = None  # hash of path, query and body: an idempotency key may come back with these only
    retries: Mapping[str, int] | None = None  # how often at most, by the words of RETRIED; None: three deaths in a row
    start_deadline: float | None = None  # unix seconds
    sync: bool = False
    webhook_url: str | None = None
    max_queue_length: int | None = None
    store_io: bool = True  # False: input and output are forgotten as soon as they are not needed any more
    file_ids: tuple[str, ...] = ()  # files made for this request from what its body held
    file_lifetime: float | None = None  # seconds that the files of the result are kept; None for ever
    file_acl: Json | None = None  # who may read the files of the result; None: whoever knows their URLs
    tags: dict[str, str] = field(default_factory=dict)
    units: float = 0.0  # that fal would bill for it
    operations: float = 0.0  # floating point, about; only their ratios are used
    notes: tuple[str, ...] = ()  # first log lines, e.g. about an unknown field that was ignored
    makes_model: NewModel | None = None  # registered together with the request
    model_id: str | None = None  # of the custom model that it uses
    is_rehearsal: bool = False  # runs on the miniatures, whatever the bases are


@dataclass(frozen=True)
class Request:
    """A request as it stands. `version` grows with every visible change, so that a status body can be cached."""

    id: str
    endpoint_id: str
    kind: Kind
    status: Status
    outcome: Outcome | None
    priority: Priority
    input: Json
    output: Json | None
    failure: Failure | None
    key_id: str
    origin: str
    affinity: str
    sync: bool
    created_at: float
    started_at: float | None  # of the first attempt
    ended_at: float | None
    start_deadline: float | None
    cancel_requested: bool
    step: int
    total_steps: int
    progress: Json  # last metrics the job reported, e.g. {"loss": 0.08, "eta": 31.0}
    attempts: int
    strikes: int  # attempts in a row that died without a new checkpoint
    version: int
    model_id: str | None  # of the custom model that it makes or uses
    store_io: bool
    tags: dict[str, str]
    units: float = 0.0  # that fal would have billed, had it ended well
    device_seconds: float = 0.0  # of all attempts that have ended
    watt_hours: float | None = None  # that its device took meanwhile; None where it does not tell
    status_code: int | None = None  # of its answer
    receipt: Json | None = None  # of what was deleted when its payloads were forgotten
    is_rehearsal: bool = False
    stop_requested: bool = False  # it is to end at its next step, with what it has

    @property
    def is_erased(self) -> bool:
        """Tells whether its input and output have been forgotten; how it ended is still known."""
        return self.status is Status.COMPLETED and self.output is None and self.failure is None


@dataclass(frozen=True)
class Attempt:
    """One try at a request by one worker under one fencing token."""

    request_id: str
    number: int
    token: int
    worker_id: str
    started_at: float
    ended_at: float | None
    ending: Ending | None
    cause: str
    last_step: int
    checkpoint_step: int | None


@dataclass(frozen=True)
class CustomModel:
    """A model that someone trained. `files` are its training's, by field of the output, URLs internal."""

    id: str
    request_id: str  # of its training
    key_id: str
    name: str
    slug: str
    version: int
    status: ModelStatus
    reason: str  # why it is ERRORED
    files: Json
    created_at: float
    ended_at: float | None  # of its training
    deleted_at: float | None

    @property
    def uri(self) -> str:
        """Its name for programs, which renaming does not change."""
        return f"model/{self.slug}/version/{self.version}"

    @property
    def reference(self) -> ModelReference:
        """As a job sees it."""
        lora = self.files.get("diffusers_lora_file", {}).get("url")
        return ModelReference(self.id, self.name, self.uri, self.status, self.reason, lora)


@dataclass(frozen=True)
class Claim:
    """A lease on a request. Every later write names `token`; a stale one raises LeaseLost."""

    request: Request
    token: int
    attempt: int
    worker_id: str
    model: CustomModel | None = None  # as it stands now, where the request makes or uses one


@dataclass(frozen=True)
class Beat:
    """What a heartbeat brings back."""

    cancel: bool
    stop: bool = False  # end at the next step, with what there is


@dataclass(frozen=True)
class LogLine:
    """One line for the person who waits; `number` is its place in the request's log, from 0."""

    number: int
    at: float
    level: str
    message: str
    source: str = "USER"


@dataclass(frozen=True)
class StoredFile:
    """A file that can be downloaded. `key` names the object in storage: `<id>/<file name>`."""

    id: str
    file_name: str
    content_type: str
    size: int
    created_at: float
    expires_at: float | None = None
    request_id: str | None = None
    key_id: str = ""
    acl: Json | None = None  # who may read it besides its owner; None: whoever knows its URL

    @property
    def key(self) -> str:
        """Names the object in storage."""
        return f"{self.id}/{self.file_name}"


class CaptionBy(StrEnum):
    """Who wrote the caption of a photo."""

    PERSON = "person"
    FILE = "file"  # that came with the photo
    MODEL = "model"


@dataclass(frozen=True)
class StoredDataset:
    """Photos that are kept under a name. `version` grows with every change of what would be trained."""

    id: str
    key_id: str
    name: str
    version: int
    created_at: float
    changed_at: float
    photos: int = 0  # how many
    captioned: int = 0  # how many of them
    size: int = 0  # bytes of the photos
    first_photo_id: str | None = None


@dataclass(frozen=True)
class NewPhoto:
    """A photo that is about to be added. `measured` is what is known of it, `thumbnail` a small JPEG."""

    file: StoredFile
    name: str
    sha256: str
    width: int
    height: int
    measured: Json
    thumbnail: bytes = field(repr=False)
    caption: str | None = None
    caption_by: CaptionBy | None = None
    captioner: str | None = None
    crop: list[int] | None = None  # left, top, right and bottom, in pixels of the upright photo


@dataclass(frozen=True)
class DatasetPhoto:
    """A photo of a dataset, without its thumbnail."""

    id: str
    dataset_id: str
    file_id: str
    name: str  # like no other of its dataset
    sha256: str
    width: int
    height: int
    caption: str | None
    caption_by: CaptionBy | None
    captioner: str | None
    crop: list[int] | None
    measured: Json
    created_at: float
    file_name: str
    content_type: str
    size: int  # bytes

    @property
    def file_key(self) -> str:
        """Names the object in storage."""
        return f"{self.file_id}/{self.file_name}"


class DeliveryState(StrEnum):
    """Where a webhook is on its way."""

    WAITING = "waiting"  # for its first try or the next one, or being tried
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"  # `Delivery.answer` says why


@dataclass(frozen=True)
class Delivery:
    """A webhook on its way to `url`. `message` is what is sent, with internal file URLs; None once delivered, where
    the sender asked that nothing be kept."""

    id: int
    request_id: str
    url: str
    target: str  # host and port
    message: Json | None
    state: DeliveryState
    tries: int  # begun; also tells which try a lease belongs to
    created_at: float
    due_at: float
    expires_at: float | None  # no try after this: the files of the result are gone
    ended_at: float | None
    answer: str  # what the last try came to


@dataclass(frozen=True)
class SigningKey:
    """An ED25519 key. `seed` is its private half; `id` is published as kid."""

    id: str
    seed: bytes = field(repr=False)
    created_at: float


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret, of which only a hash is kept."""

    id: str
    name: str
    created_at: float
    last_used_at: float | None
    revoked_at: float | None
    scope: Scope = Scope.API

    @property
    def owner(self) -> str:
        """Tells whose the key is, and all that was made with it: keys of one name are one person's."""
        return self.name or self.id


@dataclass(frozen=True)
class Worker:
    """A supervisor's lane as last heard of."""

    id: str
    lane: Kind
    device: str
    host: str
    pid: int
    boot_id: str  # of the machine, so that pids of an earlier boot are not mistaken for living ones
    seen_at: float
    state: str  # idle, busy, draining
    resident: tuple[str, ...] = ()
