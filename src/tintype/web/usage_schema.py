"""What the platform API is sent and answers about what ran: usage, analytics, single requests, what was deleted.

As in platform_schema.py, fields are fal's, and those that fal does not have are marked.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from tintype.web.platform_schema import CURRENCY_CODE, Amount, Answer, Ids, Page, Paged, Words

Moment = Annotated[str, StringConstraints(max_length=40)]
Timeframe = Literal["minute", "hour", "day", "week", "month"]


class TimeRange(Paged):
    """Holds the time that is asked about."""

    start: Moment | None = Field(None, description="ISO 8601 date or time; default: 24 hours ago.")
    end: Moment | None = Field(None, description="ISO 8601 date or time, exclusive; default: now.")


class TimeSeriesQuery(TimeRange):
    """Holds the time that is asked about, and into what it is divided."""

    timezone: str = Field("UTC", max_length=100, description="Where days begin, such as Europe/Berlin.")
    timeframe: Timeframe | None = None
    bound_to_timeframe: Literal["true", "false"] = Field("true", description="Whether start and end are widened to it.")


class UsageQuery(TimeSeriesQuery):
    """Says whose use of which endpoints is asked for."""

    endpoint_id: Ids | None = None
    api_key_id: Ids | None = None
    login_username: Ids | None = Field(None, description="Names of keys: a person is the name of a key.")
    expand: Words = Field(["time_series"], description="time_series, summary, auth_method, auth_method_structured")


class AuthMethod(Answer):
    """Names the key with which something was used."""

    detail: str
    api_key_id: str = ""
    login_username: str = ""


class UsageLine(Answer):
    """Tells how much of an endpoint was used, and what fal would have charged."""

    endpoint_id: str
    unit: str
    quantity: Amount
    unit_price: Amount
    percent_discount: float | None = Field(ge=0, le=100)
    cost_subtotal: Amount = Field(description="What fal would have charged; nothing is charged here.")
    cost_discount: Amount
    cost_total: Amount
    cost: Amount
    currency: str = CURRENCY_CODE
    auth_method: str = ""
    auth_method_structured: AuthMethod | None = None
    request_count: int = Field(0, description="Requests that ended, however (an extension of tintype).")
    device_seconds: float = Field(0.0, description="Seconds of a device (an extension of tintype).")
    kwh: float = Field(0.0, description="Energy, where the device tells (an extension of tintype).")


class UsageBucket(Answer):
    """Tells what was used in a part of the time."""

    bucket: str
    results: list[UsageLine]


class UsageAnswer(Page):
    """Tells what was used, by parts of the time and in all."""

    time_series: list[UsageBucket] = Field(default_factory=list)
    summary: list[UsageLine] = Field(default_factory=list)


class AnalyticsQuery(TimeSeriesQuery):
    """Says which endpoints and metrics are asked for."""

    endpoint_id: Ids
    expand: Words = Field(["time_series", "request_count"], description="time_series, summary, and names of metrics")


class AnalyticsLine(Answer):
    """Tells counts and durations of an endpoint's requests."""

    endpoint_id: str
    request_count: int = 0
    success_count: int = 0
    user_error_count: int = 0
    error_count: int = 0
    p50_prepare_duration: Amount = 0.0
    p75_prepare_duration: Amount = 0.0
    p90_prepare_duration: Amount = 0.0
    p95_prepare_duration: Amount = 0.0
    p99_prepare_duration: Amount = 0.0
    p50_duration: Amount = 0.0
    p75_duration: Amount = 0.0
    p90_duration: Amount = 0.0
    p25_duration: Amount = 0.0
    p95_duration: Amount = 0.0
    p99_duration: Amount = 0.0
    startup_error_count: int = 0
    connection_error_count: int = 0
    timeout_error_count: int = 0
    runtime_error_count: int = 0
    cold_boot_count: int = 0
    p50_cold_boot_duration: Amount = 0.0
    p75_cold_boot_duration: Amount = 0.0
    p90_cold_boot_duration: Amount = 0.0
    total_billable_duration: Amount = 0.0


METRICS = frozenset(AnalyticsLine.model_fields) - {"endpoint_id"}


class AnalyticsBucket(Answer):
    """Tells them for a part of the time."""

    bucket: str
    results: list[AnalyticsLine]


class AnalyticsAnswer(Page):
    """Tells them by parts of the time and in all."""

    time_series: list[AnalyticsBucket] = Field(default_factory=list)
    summary: list[AnalyticsLine] = Field(default_factory=list)


# --- requests -----------------------------------------------------------------------------------------------------
class RequestsQuery(TimeRange):
    """Says which requests of which endpoints are asked for."""

    limit: int = Field(50, ge=1, le=100)
    endpoint_id: Ids
    status: Literal["success", "error", "user_error"] | None = None
    request_id: str | None = Field(None, pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")
    expand: Words = Field(default_factory=list, description="payloads")
    sort_by: Literal["ended_at", "duration"] = "ended_at"


class RequestItem(Answer):
    """Describes a request that has ended."""

    request_id: str
    endpoint_id: str
    started_at: str
    sent_at: str
    ended_at: str | None
    status_code: int | None
    duration: float | None
    json_input: Any = None
    json_output: Any = None
    units: float = Field(0.0, description="Billing units (an extension of tintype).")
    cost: float = Field(0.0, description="What fal would have charged (an extension of tintype).")
    device_seconds: float = Field(0.0, description="Seconds of a device (an extension of tintype).")
    kwh: float = Field(0.0, description="Energy, where the device tells (an extension of tintype).")


class RequestsAnswer(Page):
    """Lists requests."""

    items: list[RequestItem]


class DeletedFile(Answer):
    """Names a file, and what kept it from being deleted."""

    link: str
    exception: str | None


class DeletedThing(Answer):
    """Is the proof of what was deleted: who has the bytes still can show that they are the same."""

    kind: Literal["input", "output", "file", "work", "checkpoint"]
    sha256: str
    size: int


class ForgetAnswer(Answer):
    """Lists what was deleted, and what could not be."""

    cdn_delete_results: list[DeletedFile]
    receipt: list[DeletedThing] = Field([], description="Everything that was deleted (an extension of tintype).")
    deleted_at: str = Field("", description="When (an extension of tintype).")
