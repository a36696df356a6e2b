"""Every setting, typed, in one place, so that `tintype serve --help` and the environment can never disagree.

Each field may be set as `TINTYPE_<NAME>` in the environment. A name that starts with TINTYPE_ and is not known is
refused with the nearest known one: a misspelt setting that is silently ignored costs people days.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from tintype.errors import LimitReached, SettingsError

PREFIX = "TINTYPE_"
# Read by tests, tools and the Makefile rather than by the product.
OUTSIDE_SETTINGS = frozenset({"TINTYPE_REQUIRE_ALL"})

# The base models by name, and the module that declares each (see models/registry.py). A line here registers one; it has
# a setting `<name>_base` of its own.
REHEARSAL = "rehearsal"  # in a base's place: its miniature, for whoever asked for one
BASE_MODELS = {"flux": "tintype.models.flux", "ideogram4": "tintype.models.ideogram4"}

_ORIGIN = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?", re.IGNORECASE)

MIB = 1024 * 1024
GIB = 1024 * MIB


@dataclass(frozen=True)
class Limits:
    """How much one person may have at a time; 0: any number. Each is set as `max_<name>`."""

    waiting_requests: int = 0
    waiting_trainings: int = 0
    running_requests: int = 0
    open_streams: int = 0
    stored_bytes: int = 0
    submits_per_minute: int = 0

    def check(self, name: str, has: int, remedy: str, headers: Mapping[str, str] | None = None) -> None:
        """Raises LimitReached for a person who has as much of something as one may have."""
        most = getattr(self, name)
        if most and has >= most:
            raise LimitReached(
                f"You have reached the limit of {most:,} {name.replace('_', ' ')} for one person.",
                remedy=f"{remedy} {variable_of(f'max_{name}')} on the server sets the limit.",
                headers=headers,
            )


class Settings(BaseSettings):
    """What can be set about a tintype installation. Times are seconds, sizes bytes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    data_dir: Path = Field(Path("tintype-data"), description="Everything this installation keeps lies below here.")
    host: str = Field("127.0.0.1", description="Address the web process listens on.")
    port: int = Field(8787, ge=0, le=65535, description="Port; 0 picks a free one.")
    tls_port: int | None = Field(None, ge=0, le=65535, description="Port that answers behind TLS as well; 0 picks one.")
    public_url: str | None = Field(None, description="Origin that clients see, when a proxy stands in front.")
    allowed_hosts: tuple[str, ...] = Field((), description="Host names answered besides loopback and public_url.")
    trusted_proxies: tuple[str, ...] = Field((), description="Addresses whose X-Forwarded-Proto and -For are believed.")
    allowed_origins: tuple[str, ...] = Field((), description="Browser origins allowed besides loopback pages.")
    database: str | None = Field(None, description="postgresql://… or sqlite:///…; default: a file in data_dir.")
    storage: str | None = Field(None, description="s3://bucket/prefix or a folder; default: data_dir/files.")
    auth: Literal["on", "off"] = Field("on", description="Whether a key is asked for.")

    bases: Mapping[str, str] = Field(
        description="By base model, as <NAME>_BASE: auto, miniature, a hub id or a folder."
    )
    precision: Literal["auto", "stored", "fp8", "nf4"] = Field(
        "auto",
        description="How base models are read: as their files have them, or rounded to eight or four bits. auto: the "
        "first of these that fits the GPU.",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps, xpu; several with commas between.")

    allow_private_inputs: bool = Field(False, description="Whether input URLs may name private addresses.")
    max_body_bytes: int = Field(512 * MIB, gt=0, description="Largest JSON body.")
    max_upload_bytes: int = Field(4 * GIB, gt=0, description="Largest uploaded file.")
    max_input_bytes: int = Field(2 * GIB, gt=0, description="Largest file fetched for an input.")
    fetch_timeout: float = Field(300.0, gt=0, description="Longest time to fetch one input.")

    max_waiting_requests: int = Field(
        1000, ge=0, description="Requests of one person that may wait. 0, here and below: any number."
    )
    max_waiting_trainings: int = Field(50, ge=0, description="Those of them that may be trainings.")
    max_running_requests: int = Field(
        8, ge=0, description="Requests of one person that run at a time, in each lane; others wait."
    )
    max_open_streams: int = Field(100, ge=0, description="Streams and runs that one person may hold open.")
    max_stored_bytes: int = Field(100 * GIB, ge=0, description="Uploads and results of one person that are kept.")
    max_submits_per_minute: int = Field(1200, ge=0, description="Requests that one person may send a minute.")

    webhook_targets: Literal["auto", "public", "loopback", "private"] = Field(
        "auto", description="Where webhooks may go: the public internet; this machine too; private networks too. auto: "
        "loopback while the server itself is reached only from this machine, else public.",
    )  # fmt: skip
    webhook_retry_seconds: float = Field(5.0, gt=0, description="Wait before a webhook's second try; it doubles then.")

    prices: Path | None = Field(None, description="TOML file of prices that are not fal's (docs/platform.md).")

    recipe: Literal["off", "png"] = Field(
        "off", description="Whether PNG images hold the prompt, seed and LoRA hashes that they were made with."
    )
    nsfw_threshold: float = Field(
        0.5, gt=0, le=1, description="Score of the content filter from which an image is made black."
    )

    bfl_license_key: str | None = Field(
        None, repr=False, description="Of Black Forest Labs: with it the number of FLUX.1 [dev] images is reported."
    )
    bfl_report_url: str = Field("https://api.bfl.ai/v1/licenses/models", description="Where it is reported to.")

    lease_seconds: float = Field(30.0, gt=0, description="How long a claimed request is held without a heartbeat.")
    heartbeat_seconds: float = Field(5.0, gt=0, description="How often a worker says it is alive.")
    cancel_grace_seconds: float = Field(10.0, gt=0, description="How long a cancelled job may take to stop by itself.")
    idle_unload_seconds: float = Field(900.0, gt=0, description="When an idle compute child is let go.")
    auto_resolution_pixels: int = Field(
        1024 * 1024, ge=512 * 512, description="Largest area, in pixels, of an Ideogram training with resolution auto."
    )
    checkpoint_seconds: float = Field(
        120.0, ge=0, description="Time between a training's checkpoints; longer where writing one takes long."
    )
    child_memory_bytes: int | None = Field(
        None, ge=64 * MIB, description="Most memory that a compute process may take; default: 85% of the machine's."
    )
    device_memory_bytes: int | None = Field(
        None, ge=MIB, description="Most memory of each device that its two lanes may share; default: all of a GPU's."
    )
    draw_while_training: Literal["wait", "pause"] = Field(
        "wait",
        description="Where memory does not do for both: whether generating waits for a training's end, or the training "
        "is stopped at a checkpoint meanwhile.",
    )
    resident_adapters: int = Field(8, ge=1, description="How many LoRAs are kept in memory.")

    @model_validator(mode="before")
    @classmethod
    def _gather_bases(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Each base model has a setting of its own; one that is not set is "auto"."""
        bases = dict.fromkeys(BASE_MODELS, "auto") | given.pop("bases", {})
        if unknown := bases.keys() - BASE_MODELS.keys():
            raise ValueError(f"there is no base model {min(unknown)}")
        for name in BASE_MODELS:
            stated = os.environ.get(variable_of(f"{name}_base")) or bases[name]
            bases[name] = given.pop(f"{name}_base", stated)
        return given | {"bases": bases}

    @field_validator("public_url")
    @classmethod
    def _is_an_origin(cls, given: str | None) -> str | None:
        """Every URL in an answer begins with it, so half of one would break them all."""
        if given is not None and not _ORIGIN.fullmatch(given):
            raise ValueError("not an http(s) URL such as https://tintype.example")
        return given

    @property
    def database_url(self) -> str:
        """The database as SQLAlchemy's asyncio drivers name it."""
        if self.database is None:
            return f"sqlite+aiosqlite:///{self.data_dir.resolve() / 'tintype.db'}"
        scheme, rest = self.database.split(":", 1)
        drivers = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite+aiosqlite"}
        return f"{drivers.get(scheme, scheme)}:{rest}"

    @property
    def storage_url(self) -> str:
        """Where objects are kept: a folder or s3://…"""
        return self.storage or str(self.data_dir.resolve() / "files")

    @property
    def checkpoint_url(self) -> str:
        """Where checkpoints are kept: apart from files, in the same storage, for whichever machine goes on."""
        return self.storage_url if self.storage_url == "memory:" else f"{self.storage_url.rstrip('/')}/checkpoints"

    def on_miniatures(self) -> Settings:
        """Says the same with every base model's miniature."""
        return self.model_copy(update={"bases": dict.fromkeys(BASE_MODELS, REHEARSAL)})

    @property
    def limits(self) -> Limits:
        """What each person may have."""
        return Limits(**{limit.name: getattr(self, f"max_{limit.name}") for limit in fields(Limits)})

    @property
    def quantised_dir(self) -> Path:
        """Where base models' rounded weights are kept on this machine."""
        return self.data_dir.resolve() / "quantised"

    @property
    def work_dir(self) -> Path:
        """Scratch space of requests on this machine, one folder per request id."""
        return self.data_dir.resolve() / "work"


def variable_of(setting: str) -> str:
    """Names the environment variable of a setting."""
    return PREFIX + setting.upper()


def known_variables() -> set[str]:
    """Lists every environment variable that begins with TINTYPE_ and means something."""
    names = (*Settings.model_fields, *(f"{name}_base" for name in BASE_MODELS))
    return {variable_of(name) for name in names} | OUTSIDE_SETTINGS


def load_settings(**given: object) -> Settings:
    """Settings from the environment, overridden by what is given (None means: not given).

    Raises SettingsError, naming the nearest known setting for a misspelt one.
    """
    known = known_variables()
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = (
                f"Did you mean {nearest[0]}?" if nearest else "See `tintype serve --help` for the settings there are."
            )
            raise SettingsError(f"{name} is not a setting of tintype.", remedy=hint)
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as problem:
        first = problem.errors()[0]
        name = variable_of("_".join(str(part) for part in first["loc"]))
        raise SettingsError(f"{name}: {first['msg']} (got {first['input']!r}).") from None
