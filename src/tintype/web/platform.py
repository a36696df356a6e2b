"""fal's platform API where it speaks of what there is: models and their prices, keys, files' settings, the account.

What ran, and what it took, is told in platform_usage.py. Parameters and answers are declared in platform_schema.py.
"""

from __future__ import annotations

from datetime import UTC, datetime

from tintype import catalog
from tintype.catalog import Endpoint
from tintype.catalog.price import CURRENCY
from tintype.errors import BadRequest, Forbidden, Json, NotFound
from tintype.store.records import Scope
from tintype.web import platform_schema as schema
from tintype.web.openapi import queue_document
from tintype.web.operation import IDEMPOTENCY_KEY, operation
from tintype.web.options import LONGEST_LIFETIME, acl_of
from tintype.web.services import Call
from tintype.web.time_spans import moment

_RELEASED = datetime(2026, 11, 1, tzinfo=UTC).timestamp()  # of the endpoints: none is older than this program


@operation()
async def list_models(call: Call, query: schema.ModelsQuery) -> schema.ModelsAnswer:
    """Answers `GET /v1/models`."""
    _only(query.expand, {"openapi-3.0", "enterprise_status"})
    if query.endpoint_id and not any(map(catalog.find, query.endpoint_id)):
        catalog.get(query.endpoint_id[0])
    found = [endpoint for endpoint in catalog.ENDPOINTS if _fits(endpoint, query)]
    shown = found[query.offset : query.offset + query.limit]
    return schema.ModelsAnswer(
        models=[await _model(call, endpoint, query.expand) for endpoint in shown],
        **schema.page_after(query, found[query.offset :]),
    )


@operation()
async def list_prices(call: Call, query: schema.PricingQuery) -> schema.PricingAnswer:
    """Answers `GET /v1/models/pricing`."""
    prices = [_price(call, catalog.get(name)) for name in dict.fromkeys(query.endpoint_id)]
    return schema.PricingAnswer(prices=prices, next_cursor=None, has_more=False)


@operation()
async def estimate(call: Call, body: schema.EstimateBody) -> schema.EstimateAnswer:
    """Answers `POST /v1/models/pricing/estimate`."""
    told: Json = {"estimate_type": body.estimate_type, "currency": CURRENCY}
    total = 0.0
    if isinstance(body, schema.UnitEstimate):
        for name, units in body.endpoints.items():
            total += units.unit_quantity * call.services.price_of(catalog.get(name).id).price
    elif isinstance(body, schema.HistoricalEstimate):
        for name, calls in body.endpoints.items():
            total += calls.call_quantity * await _usual_cost(call, catalog.get(name))
    else:
        runs = {
            name: await estimate_run(call, catalog.get(name), given.input) for name, given in body.endpoints.items()
        }
        total = sum(run.cost * body.endpoints[name].call_quantity for name, run in runs.items())
        told["estimates"] = list(runs.values())
    return schema.EstimateAnswer(**told, total_cost=round(total, 6))


async def estimate_run(call: Call, endpoint: Endpoint, given: Json) -> schema.RunEstimate:
    """Tells what a run would cost at fal, from its input, and how long it would take here, from earlier ones of its
    size, or of others in proportion to the operations. Raises InputError."""
    input, price = endpoint.parse(given), call.services.price_of(endpoint.id)
    units, operations = price.units(input), endpoint.operations(input)
    usual = await call.store.usage.usual_run(endpoint.id, operations)
    return schema.RunEstimate(
        endpoint_id=endpoint.id,
        units=units,
        unit=price.unit,
        cost=round(units * price.price, 6),
        operations=operations,
        seconds=usual and usual.seconds,
        device_seconds=usual and usual.device_seconds,
        runs=usual.runs if usual else 0,
    )


@operation()
async def list_keys(call: Call, query: schema.KeysQuery) -> schema.KeysAnswer:
    """Answers `GET /v1/keys`: those of scope API that are in force. ADMIN keys are the command line's."""
    _only(query.expand, {"creator_info"})
    keys = [key for key in await call.store.keys.list() if key.scope is Scope.API and key.revoked_at is None]
    keys = keys[query.offset : query.offset + query.limit + 1]
    creator: Json = {"creator_nickname": call.owner} if "creator_info" in query.expand else {}
    items = [
        schema.KeyItem(key_id=key.id, alias=key.name, scope="API", created_at=moment(key.created_at), **creator)
        for key in keys[: query.limit]
    ]
    return schema.KeysAnswer(keys=items, **schema.page_after(query, keys))


@operation(status=201)
async def create_key(call: Call, body: schema.NewKeyBody) -> schema.NewKeyAnswer:
    """Answers `POST /v1/keys`, for keys of scope API."""
    if body.scope == "ADMIN":
        raise Forbidden(
            "ADMIN keys are not made here.", remedy="`tintype keys create --scope ADMIN` does, on the server."
        )
    name = body.alias.strip()
    if not name or not name.isprintable():
        raise BadRequest("alias is a line of text: keys of one name are one person's, and see the same requests.")
    key, text = await call.store.keys.create(name)
    return schema.NewKeyAnswer(key_id=key.id, key_secret=text.partition(":")[2], key=text)


@operation(status=204, headers=(IDEMPOTENCY_KEY,))
async def delete_key(call: Call) -> None:
    """Answers `DELETE /v1/keys/{id}`; what was sent with the key goes on, so that keys can be replaced."""
    if not await call.store.keys.is_known(call.params["id"]):
        raise NotFound("There is no such key.", remedy="GET /v1/keys lists those that are in force, with their key_id.")
    if await call.store.keys.is_admin(call.params["id"]):
        raise Forbidden("ADMIN keys are not revoked here.", remedy="`tintype keys revoke` does it on the server.")
    await call.store.keys.revoke(call.params["id"], by_name=False)


@operation()
async def meta(call: Call) -> schema.MetaAnswer:
    """Answers `GET /v1/meta`: where webhooks come from is the address of this machine, which it does not know."""
    return schema.MetaAnswer(webhook_ip_ranges=[])


@operation()
async def billing(call: Call, query: schema.BillingQuery) -> schema.BillingAnswer:
    """Answers `GET /v1/account/billing`: nothing is charged, so there is nothing to pay it from."""
    _only(query.expand, {"credits"})
    credits: Json = {"credits": schema.Credits(current_balance=0.0, currency=CURRENCY)}
    return schema.BillingAnswer(username=call.owner, **(credits if "credits" in query.expand else {}))


@operation()
async def show_storage(call: Call) -> schema.StorageAnswer:
    """Answers `GET /v1/storage/settings`."""
    lifetime, acl = await call.store.files.settings_of(call.owner)
    return _storage(lifetime, acl)


@operation()
async def change_storage(call: Call, body: schema.StorageBody) -> schema.StorageAnswer:
    """Answers `PUT /v1/storage/settings`: of the caller's uploads and results from now on."""
    acl = None if body.initial_acl is None else acl_of(body.initial_acl.model_dump(), "initial_acl")
    seconds = body.expiration_duration_seconds
    lifetime = None if seconds is None else min(float(seconds), LONGEST_LIFETIME)
    await call.store.files.set_settings(call.owner, lifetime, acl)
    return _storage(lifetime, acl)


def _storage(lifetime: float | None, acl: Json | None) -> schema.StorageAnswer:
    seconds = None if lifetime is None else int(lifetime)
    access = None if acl is None else schema.AccessSettings.model_validate(acl)
    return schema.StorageAnswer(expiration_duration_seconds=seconds, initial_acl=access)


async def _usual_cost(call: Call, endpoint: Endpoint) -> float:
    """Tells what a call costs at fal, as calls have been here so far, else as its example is."""
    price = call.services.price_of(endpoint.id)
    usual = await call.store.usage.usual_run(endpoint.id)
    if usual is not None:
        return usual.units * price.price
    return (
        price.units(endpoint.input.model_construct(**(endpoint.examples[0] if endpoint.examples else {}))) * price.price
    )


def _fits(endpoint: Endpoint, query: schema.ModelsQuery) -> bool:
    named = query.endpoint_id
    if named is not None and not {endpoint.id, *endpoint.aliases} & {name.strip("/") for name in named}:
        return False
    if query.status == "deprecated" or query.category not in (None, endpoint.category):
        return False
    return endpoint.has_words(query.q or "")


async def _model(call: Call, endpoint: Endpoint, expand: list[str]) -> schema.Model:
    others = [other.id for other in catalog.ENDPOINTS if other.base == endpoint.base and other.kind != endpoint.kind]
    usual = await call.store.usage.usual_run(endpoint.id)
    stated: Json = {"duration_estimate": round(usual.seconds / 60, 3)} if usual else {}
    if others:
        stated["inference_endpoint_ids" if endpoint.kind == "training" else "training_endpoint_ids"] = others
    metadata = schema.ModelMetadata(
        display_name=endpoint.title,
        category=endpoint.category,
        description=endpoint.description,
        status="active",
        tags=list(endpoint.tags),
        updated_at=moment(_RELEASED),
        is_favorited=None,
        thumbnail_url="",  # there is no picture of a model
        model_url=f"{call.origin}/run/{endpoint.id}",
        date=moment(_RELEASED),
        group=schema.ModelGroup(key=endpoint.base, label=endpoint.base),
        highlighted=False,
        kind=endpoint.kind,
        stream_url=f"{call.origin}/run/{endpoint.id}/stream",
        pinned=False,
        **stated,
    )
    more: Json = {"enterprise_status": "ready"} if "enterprise_status" in expand else {}
    if "openapi-3.0" in expand:
        more["openapi"] = queue_document(call, endpoint, endpoint.id)
    return schema.Model(endpoint_id=endpoint.id, metadata=metadata, **more)


def _price(call: Call, endpoint: Endpoint) -> schema.EndpointPrice:
    price = call.services.price_of(endpoint.id)
    return schema.EndpointPrice(
        endpoint_id=endpoint.id,
        unit_price=price.price,
        unit=price.unit,
        currency=CURRENCY,
        source=price.source,
        date=price.date,
    )


def _only(expand: list[str], known: set[str]) -> None:
    """Raises BadRequest for a word that `expand` does not know."""
    if unknown := [word for word in expand if word not in known]:
        raise BadRequest(
            f"expand does not know {unknown[0][:100]!r}.", remedy=f"There are: {', '.join(sorted(known))}."
        )
