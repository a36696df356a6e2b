"""What the platform API is sent and answers, field for field as fal's own description of it has them.

Fields that fal does not have stand at the end of a model, marked as tintype's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MOST_IDS = 50
MOST_ITEMS = 1000  # of one page, where fal states no bound of its own
CURRENCY_CODE = Field(min_length=3, max_length=3, description="Three-letter currency code (ISO 4217).")


def _split(given: object) -> object:
    """Takes lists apart that are written as one value with commas."""
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list):
        return [part.strip() for text in given for part in str(text).split(",") if part.strip()]
    return given


def _clamped(given: object) -> object:
    """What exceeds the bound of a page is a page as large as may be: "actual maximum depends", says fal."""
    return str(MOST_ITEMS) if isinstance(given, str) and given.isdecimal() and len(given) > 3 else given


Words = Annotated[list[str], BeforeValidator(_split)]
Ids = Annotated[list[str], Field(min_length=1, max_length=MOST_IDS), BeforeValidator(_split)]
Amount = Annotated[float, Field(ge=0)]


class Query(BaseModel):
    """Is the root of every query: parameters that nobody knows are passed over."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Body(BaseModel):
    """Is the root of every body."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Answer(BaseModel):
    """Is the root of every answer; what is not set is not there."""

    model_config = ConfigDict(extra="forbid")


class Paged(Query):
    """Holds where a list goes on, and how much of it is asked for."""

    limit: Annotated[int, Field(ge=1, description="Most items to return."), BeforeValidator(_clamped)] = MOST_ITEMS
    cursor: str | None = Field(None, pattern=r"^[0-9]{1,9}$", description="The next_cursor of the answer before.")

    @property
    def offset(self) -> int:
        """Tells how many items were returned before."""
        return int(self.cursor or 0)


class Page(Answer):
    """Tells where a list goes on."""

    next_cursor: str | None = Field(description="Cursor for the next page of results, null if no more pages")
    has_more: bool = Field(description="Whether more results are available")


def page_after(query: Paged, found: Sequence[Any]) -> dict[str, Any]:
    """Makes the fields of Page; `found` has one item more than the page where more are to come."""
    more = len(found) > query.limit
    return {"next_cursor": str(query.offset + query.limit) if more else None, "has_more": more}


class ErrorDetails(Answer):
    """Tells of what kind an error is, and what to do."""

    type: Literal[
        "authorization_error", "validation_error", "not_found", "rate_limited", "server_error", "not_implemented"
    ]
    message: str
    docs_url: str = ""
    request_id: str = ""


class PlatformError(Answer):
    """Is the answer to what cannot be served (responses.py)."""

    error: ErrorDetails


# --- models -------------------------------------------------------------------------------------------------------
class ModelsQuery(Paged):
    """Holds what models are looked for by."""

    endpoint_id: Ids | None = Field(None, description="Endpoints to retrieve, 1 to 50.")
    q: str | None = Field(None, description="Words to find in name, description, category or tags.")
    category: str | None = Field(None, description="Filter by category, such as training.")
    status: Literal["active", "deprecated"] | None = Field(None, description="Filter by status.")
    expand: Words = Field(default_factory=list, description="openapi-3.0, enterprise_status")


class ModelGroup(Answer):
    """Names the base model of an endpoint."""

    key: str
    label: str


class ModelMetadata(Answer):
    """Describes an endpoint for a gallery."""

    display_name: str
    category: str
    description: str
    status: Literal["active", "deprecated"]
    tags: list[str]
    updated_at: str
    is_favorited: bool | None
    thumbnail_url: str
    model_url: str
    date: str
    group: ModelGroup = Field(description="The base model.")
    highlighted: bool
    kind: Literal["inference", "training"]
    training_endpoint_ids: list[str] = []
    inference_endpoint_ids: list[str] = []
    stream_url: str
    duration_estimate: float = Field(0.0, description="Minutes that a run usually takes here.")
    pinned: bool


class Model(Answer):
    """Describes an endpoint, as far as was asked for."""

    endpoint_id: str
    metadata: ModelMetadata
    openapi: dict[str, Any] | None = None
    enterprise_status: Literal["ready", "pending"] | None = None


class ModelsAnswer(Page):
    """Lists endpoints."""

    models: list[Model]


# --- prices -------------------------------------------------------------------------------------------------------
class PricingQuery(Query):
    """Names the endpoints whose prices are asked for."""

    endpoint_id: Ids


class EndpointPrice(Answer):
    """Tells what a unit of an endpoint costs at fal, and where that was read."""

    endpoint_id: str
    unit_price: Amount
    unit: str
    currency: str = CURRENCY_CODE
    source: str = Field(description="Where the price was read (an extension of tintype).")
    date: str = Field(description="When (an extension of tintype).")


class PricingAnswer(Page):
    """Lists prices."""

    prices: list[EndpointPrice]


class CallQuantity(Body):
    """Says how many calls are meant."""

    call_quantity: int = Field(ge=1, le=10**12, description="Number of calls, whatever their size.")


class UnitQuantity(Body):
    """Says how many units are meant."""

    unit_quantity: float = Field(ge=1e-6, le=1e15, description="Number of billing units, such as steps.")


class InputOf(Body):
    """Holds an input and how often it would be sent."""

    input: dict[str, Any] = Field(description="An input of the endpoint, as it would be submitted.")
    call_quantity: int = Field(1, ge=1, le=10**12)


class HistoricalEstimate(Body):
    """From what calls here have needed so far."""

    estimate_type: Literal["historical_api_price"]
    endpoints: dict[str, CallQuantity]


class UnitEstimate(Body):
    """From the number of units."""

    estimate_type: Literal["unit_price"]
    endpoints: dict[str, UnitQuantity]


class InputEstimate(Body):
    """From inputs that are about to be submitted (an extension of tintype)."""

    estimate_type: Literal["input"]
    endpoints: dict[str, InputOf]


EstimateBody = Annotated[HistoricalEstimate | UnitEstimate | InputEstimate, Field(discriminator="estimate_type")]


class RunEstimate(Answer):
    """What one run is expected to take, from `runs` earlier ones."""

    endpoint_id: str
    units: Amount
    unit: str
    cost: Amount
    operations: Amount = Field(description="Floating point operations, about.")
    seconds: float | None = Field(description="From its begin to its end; null where nothing like it has run here.")
    device_seconds: float | None
    runs: int


class EstimateAnswer(Answer):
    """Tells what all of it would cost at fal."""

    estimate_type: Literal["historical_api_price", "unit_price", "input"]
    total_cost: Amount
    currency: str = CURRENCY_CODE
    estimates: list[RunEstimate] = Field([], description="For estimate_type input (an extension of tintype).")


# --- keys, account, installation ----------------------------------------------------------------------------------
class KeysQuery(Paged):
    """Says what of keys is asked for."""

    expand: Words = Field(default_factory=list, description="creator_info")


class KeyItem(Answer):
    """Describes a key without its secret."""

    key_id: str
    alias: str
    scope: Literal["API"]
    created_at: str
    creator_nickname: str = ""


class KeysAnswer(Page):
    """Lists keys."""

    keys: list[KeyItem]


class NewKeyBody(BaseModel):
    """Names the person for whom a key is made."""

    model_config = ConfigDict(extra="forbid")  # a key is no place for what somebody believes to have said

    alias: str = Field(min_length=1, max_length=255)
    scope: Literal["API", "ADMIN"] = Field("API", description="API; ADMIN keys are made on the server alone.")


class NewKeyAnswer(Answer):
    """Holds a new key; its secret is never told again."""

    key_id: str
    key_secret: str
    key: str


class MetaAnswer(Answer):
    """Describes where webhooks come from."""

    webhook_ip_ranges: list[str]


class AccessRule(BaseModel):
    """Says what one person may do with a file."""

    model_config = ConfigDict(extra="forbid")

    user: str = Field(min_length=1)
    decision: Literal["allow", "forbid", "hide"]


class AccessSettings(BaseModel):
    """Says who may read files."""

    model_config = ConfigDict(extra="forbid")

    default: Literal["allow", "forbid", "hide"]
    rules: list[AccessRule] = []


class StorageBody(BaseModel):
    """Holds how long new files are kept, and who may read them."""

    model_config = ConfigDict(extra="forbid")

    expiration_duration_seconds: int | None = Field(None, ge=1)
    initial_acl: AccessSettings | None = None


class StorageAnswer(Answer):
    """Tells how long new files are kept, and who may read them."""

    expiration_duration_seconds: int | None
    initial_acl: AccessSettings | None


class BillingQuery(Query):
    """Says what of the account is asked for."""

    expand: Words = Field(default_factory=list, description="credits")


class Credits(Answer):
    """Tells a balance, which is always zero here."""

    current_balance: Amount
    currency: str = CURRENCY_CODE


class BillingAnswer(Answer):
    """Describes the account of the caller."""

    username: str
    credits: Credits | None = None
