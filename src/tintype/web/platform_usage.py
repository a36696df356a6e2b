"""fal's platform API where it speaks of what ran: sums over time, durations, single requests.

A key of scope API sees what its owner's keys did, one of scope ADMIN what everybody's did.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

from tintype import catalog
from tintype.catalog.price import CURRENCY
from tintype.errors import BadRequest, Json
from tintype.files import render
from tintype.store.records import Outcome, Request
from tintype.store.usage import Duration, UsageSum, Which
from tintype.web import usage_schema as schema
from tintype.web.operation import operation
from tintype.web.platform_schema import page_after
from tintype.web.services import Call
from tintype.web.time_spans import DAY, TimeSpan, TimeSpans, moment, range_of

_SERIES, _SUMMARY = "time_series", "summary"
_AUTH = {"auth_method", "auth_method_structured"}
_PERCENTILES: dict[Duration, tuple[int, ...]] = {
    "duration": (25, 50, 75, 90, 95, 99),
    "prepare_duration": (50, 75, 90, 95, 99),
}
_ONE_REQUEST_DAYS = 90  # back to which a request is looked for that is named


@operation()
async def usage(call: Call, query: schema.UsageQuery) -> schema.UsageAnswer:
    """Answers `GET /v1/models/usage`."""
    _check_expand(query.expand, {_SERIES, _SUMMARY, *_AUTH})
    spans, which = TimeSpans(query, time.time()), await _which(call, query)
    page = spans.page(query.offset, query.limit)
    names = {key.id: key.name for key in await call.store.keys.list()} if _AUTH & {*query.expand} else {}
    by_key = bool(_AUTH & {*query.expand})
    told: Json = {}
    if _SERIES in query.expand:
        shown = page[: query.limit]
        sums = _by_span(await call.store.usage.sums(_bounds(shown), which, by_key=by_key) if shown else ())
        told[_SERIES] = [
            schema.UsageBucket(
                bucket=span.start.isoformat(), results=[_line(call, sum_, query, names) for sum_ in sums[number]]
            )
            for number, span in enumerate(shown)
        ]
    if _SUMMARY in query.expand:
        whole = await call.store.usage.sums(_bounds([spans.whole]), which, by_key=by_key)
        told[_SUMMARY] = [_line(call, sum_, query, names) for sum_ in whole]
    return schema.UsageAnswer(**told, **page_after(query, page))


@operation()
async def analytics(call: Call, query: schema.AnalyticsQuery) -> schema.AnalyticsAnswer:
    """Answers `GET /v1/models/analytics`."""
    _check_expand(query.expand, {_SERIES, _SUMMARY, *schema.METRICS})
    metrics = schema.METRICS & {*query.expand}
    if not metrics:
        raise BadRequest("expand names no metric.", remedy="Add one, such as request_count.")
    spans, which = TimeSpans(query, time.time()), await _which(call, query)
    page = spans.page(query.offset, query.limit)
    told: Json = {}
    if _SERIES in query.expand:
        shown = page[: query.limit]
        lines = await _analytics(call, shown, which, metrics) if shown else {}
        told[_SERIES] = [
            schema.AnalyticsBucket(bucket=span.start.isoformat(), results=lines.get(number, []))
            for number, span in enumerate(shown)
        ]
    if _SUMMARY in query.expand:
        told[_SUMMARY] = (await _analytics(call, [spans.whole], which, metrics)).get(0, [])
    return schema.AnalyticsAnswer(**told, **page_after(query, page))


@operation()
async def list_requests(call: Call, query: schema.RequestsQuery) -> schema.RequestsAnswer:
    """Answers `GET /v1/models/requests/by-endpoint`: those that have ended."""
    if unknown := {*query.expand} - {"payloads"}:
        raise BadRequest(f"expand does not know {min(unknown)[:100]!r}.", remedy="There is: payloads.")
    usual = DAY if query.request_id is None else _ONE_REQUEST_DAYS * DAY
    found = await call.store.usage.ended(
        range_of(query, time.time(), usual=usual),
        await _which(call, query),
        ending=query.status,
        request_id=query.request_id and query.request_id.lower(),
        by_duration=query.sort_by == "duration",
        limit=query.limit + 1,
        offset=query.offset,
    )
    items = [_item(call, request, payloads="payloads" in query.expand) for request in found[: query.limit]]
    return schema.RequestsAnswer(items=items, **page_after(query, found))


def _item(call: Call, request: Request, *, payloads: bool) -> schema.RequestItem:
    ended = request.ended_at or request.created_at
    began = ended if request.started_at is None else request.started_at
    price, more = call.services.price_of(request.endpoint_id), Json()
    if payloads:
        answer = request.output if request.failure is None else request.failure.body
        more |= {"json_input": render(request.input, call.origin), "json_output": render(answer, call.origin)}
    if request.watt_hours is not None:
        more["kwh"] = round(request.watt_hours / 1000, 6)
    units = request.units if request.outcome is Outcome.OK else 0.0
    return schema.RequestItem(
        request_id=request.id,
        endpoint_id=request.endpoint_id,
        started_at=moment(began),
        sent_at=moment(request.created_at),
        ended_at=moment(ended),
        status_code=request.status_code,
        duration=round(ended - began, 3),
        units=units,
        cost=round(units * price.price, 6),
        device_seconds=round(request.device_seconds, 3),
        **more,
    )


async def _which(call: Call, query: schema.UsageQuery | schema.AnalyticsQuery | schema.RequestsQuery) -> Which:
    """Makes the filter of a query, for a caller who may see everything or only his own."""
    is_admin = await call.store.keys.is_admin(call.key_id)
    endpoints = None
    if query.endpoint_id is not None:
        known = {name: catalog.find(name) for name in query.endpoint_id}
        endpoints = [endpoint.id if endpoint else name for name, endpoint in known.items()]
    by_person: Json = {}
    if isinstance(query, schema.UsageQuery):
        by_person = {"key_ids": query.api_key_id, "owners": query.login_username}
    return Which("" if is_admin else call.owner, endpoints, **by_person)


def _line(call: Call, sum_: UsageSum, query: schema.UsageQuery, names: dict[str, str]) -> schema.UsageLine:
    price, more = call.services.price_of(sum_.endpoint_id), Json()
    cost = round(sum_.units * price.price, 6)
    name = names.get(sum_.key_id) or sum_.key_id or "None"
    if "auth_method" in query.expand:
        more["auth_method"] = name
    if "auth_method_structured" in query.expand:
        whose = {"api_key_id": sum_.key_id, "login_username": name} if sum_.key_id else {}
        more["auth_method_structured"] = schema.AuthMethod(detail=name, **whose)
    if sum_.watt_hours is not None:
        more["kwh"] = round(sum_.watt_hours / 1000, 6)
    return schema.UsageLine(
        endpoint_id=sum_.endpoint_id,
        unit=price.unit,
        quantity=sum_.units,
        unit_price=price.price,
        percent_discount=None,
        cost_subtotal=cost,
        cost_discount=0.0,
        cost_total=cost,
        cost=cost,
        currency=CURRENCY,
        request_count=sum_.requests,
        device_seconds=round(sum_.device_seconds, 3),
        **more,
    )


async def _analytics(
    call: Call, spans: Sequence[TimeSpan], which: Which, metrics: frozenset[str]
) -> dict[int, list[schema.AnalyticsLine]]:
    """Makes the lines of each span, with the metrics that were asked for and no others."""
    bounds = _bounds(spans)
    durations: dict[tuple[int, str], Json] = defaultdict(dict)
    for of, shares in _PERCENTILES.items():
        asked = [share for share in shares if f"p{share}_{of}" in metrics]
        if asked:
            for place, found in (await call.store.usage.percentiles(bounds, which, of, asked)).items():
                durations[place] |= {f"p{share}_{of}": round(value, 3) for share, value in found.items()}
    lines: dict[int, list[schema.AnalyticsLine]] = defaultdict(list)
    for sum_ in await call.store.usage.sums(bounds, which):
        told = durations[sum_.span, sum_.endpoint_id] | {
            "request_count": sum_.requests,
            "success_count": sum_.ok,
            "user_error_count": sum_.user_errors,
            "error_count": sum_.errors,
            "timeout_error_count": sum_.timeouts,
            "runtime_error_count": sum_.errors - sum_.timeouts,
            "total_billable_duration": round(sum_.seconds, 3),
            # No request is lost to these here: it waits until a device can take it.
            "startup_error_count": 0,
            "connection_error_count": 0,
            "cold_boot_count": 0,
        }
        shown = {name: value for name, value in told.items() if name in metrics}
        lines[sum_.span].append(schema.AnalyticsLine(endpoint_id=sum_.endpoint_id, **shown))
    return lines


def _by_span(sums: Iterable[UsageSum]) -> dict[int, list[UsageSum]]:
    found: dict[int, list[UsageSum]] = defaultdict(list)
    for sum_ in sums:
        found[sum_.span].append(sum_)
    return found


def _bounds(spans: Iterable[TimeSpan]) -> list[tuple[float, float]]:
    return [(span.since, span.until) for span in spans]


def _check_expand(expand: list[str], known: set[str]) -> None:
    if unknown := [word for word in expand if word not in known]:
        raise BadRequest(
            f"expand does not know {unknown[0][:100]!r}.", remedy=f"There are: {', '.join(sorted(known))}."
        )
    if not {_SERIES, _SUMMARY} & {*expand}:
        raise BadRequest("expand names neither time_series nor summary.", remedy="Add one of them.")
