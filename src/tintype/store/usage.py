"""What was used: sums, counts and percentiles over the requests that have ended, and what runs usually take.

Every query reads one index that holds all it needs (schema.py), one endpoint after the other, so that its cost follows
the requests of the time that is asked about, and none of their inputs and outputs is touched.
"""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from tintype.store import schema
from tintype.store.database import AnyRow
from tintype.store.records import Request
from tintype.store.repository import Repository
from tintype.store.requests import OK_CODE, RECORD, as_request

USUAL_RUNS = 101  # the latest, of which the median is taken

table = schema.requests
# What makes a JSON array of values, one of rows, and what has SQLite take a text for the JSON that it is.
_SQLITE_JSON = sa.func.json_array, sa.func.json_group_array, sa.func.json
_POSTGRES_JSON = sa.func.json_build_array, sa.func.json_agg, sa.func.coalesce
Span = tuple[float, float]  # unix seconds: since, until (not included)
Duration = Literal["duration", "prepare_duration"]

_OK = table.c.status_code == OK_CODE
_USER_ERROR = sa.and_(table.c.status_code >= 400, table.c.status_code < 500)
_ERROR = table.c.status_code >= 500
ENDINGS = {"success": _OK, "user_error": _USER_ERROR, "error": _ERROR}
_began = sa.func.coalesce(table.c.started_at, table.c.ended_at)
_DURATIONS = {"duration": table.c.ended_at - _began, "prepare_duration": _began - table.c.created_at}


@dataclass(frozen=True)
class Which:
    """Says which requests are meant; None: all of them. What was sent without a key is everybody's."""

    owner: str = ""  # who asks; "" for whoever may see everything
    endpoints: Collection[str] | None = None
    key_ids: Collection[str] | None = None
    owners: Collection[str] | None = None

    def conditions(self) -> builtins.list[sa.ColumnElement[bool]]:
        """Makes the conditions of a query over ended requests."""
        made: list[sa.ColumnElement[bool]] = [schema.ANSWERED]
        if self.owner:
            made.append(table.c.owner.in_(("", self.owner)))
        for column, values in (("endpoint_id", self.endpoints), ("key_id", self.key_ids), ("owner", self.owners)):
            if values is not None:
                made.append(table.c[column].in_(values))
        return made


class UsageSum(NamedTuple):
    """Adds up the requests for one endpoint (with one key, where that was asked for) that ended within a span."""

    span: int  # its place in what was asked
    endpoint_id: str
    key_id: str
    requests: int
    ok: int
    user_errors: int
    errors: int
    timeouts: int
    units: float  # of those that ended well
    seconds: float  # from their begin to their end
    device_seconds: float
    watt_hours: float | None


@dataclass(frozen=True)
class UsualRun:
    """Tells what a run usually takes, from so many earlier ones."""

    runs: int
    seconds: float
    device_seconds: float
    units: float


class Usage(Repository):
    """Looks back over what has ended."""

    async def sums(self, spans: Sequence[Span], which: Which, *, by_key: bool = False) -> builtins.list[UsageSum]:
        """Adds up what ended within each span, by endpoint; spans without requests have no sum."""
        is_sqlite = self._database.sqlite
        inside, known = _spans(spans, is_sqlite), _endpoints()
        counts = map(_count, (sa.true(), _OK, _USER_ERROR, _ERROR, table.c.status_code == 504))
        units = sa.func.coalesce(sa.func.sum(sa.case((_OK, table.c.units), else_=0.0)), 0.0)
        took = [sa.func.sum(column) for column in (_DURATIONS["duration"], table.c.device_seconds, table.c.watt_hours)]
        key = table.c.key_id if by_key else sa.literal("")
        # Each pair is added up by itself, in the order of the index: grouping all of them would sort every row first.
        # All comes as one value, for reading thousands of rows takes longer than adding them up.
        pack, gather, nested = _SQLITE_JSON if is_sqlite else _POSTGRES_JSON
        sums = sa.select(pack(key, *counts, units, *took).label("sums")).correlate(inside, known)
        sums = sums.where(*_during(inside, known), *which.conditions())
        of_pair = (sums.group_by(key) if by_key else sums).subquery()
        of_pairs = sa.select(gather(nested(of_pair.c.sums))).correlate(inside, known).scalar_subquery()
        told = pack(inside.c.span, known.c.endpoint_id, nested(of_pairs))
        query = sa.select(gather(told, type_=sa.JSON).label("pairs")).select_from(inside.join(known, sa.true()))
        rows = await self._database.fetch(query.where(known.c.endpoint_id.is_not(None)))
        pairs = sorted(rows[0].pairs or (), key=lambda pair: pair[:2])
        return [UsageSum(*pair, *one) for *pair, found in pairs for one in sorted(found or ()) if one[1]]

    async def percentiles(
        self, spans: Sequence[Span], which: Which, of: Duration, shares: Collection[int]
    ) -> dict[tuple[int, str], dict[int, float]]:
        """Finds the durations (nearest rank) that so many percent do not exceed, by span and endpoint."""
        inside, known = _spans(spans, self._database.sqlite), _endpoints()
        among = inside.join(known, sa.true()).join(table, sa.and_(*_during(inside, known)))
        group = (inside.c.span, table.c.endpoint_id)
        window: dict[str, Any] = {"partition_by": group}
        ranked = (
            sa.select(
                *group,
                _DURATIONS[of].label("value"),
                sa.func.row_number().over(**window, order_by=_DURATIONS[of]).label("rank"),
                sa.func.count().over(**window).label("all"),
            )
            .select_from(among)
            .where(*which.conditions(), table.c.started_at.is_not(None))
            .subquery()
        )
        ranks = {share: _rank(ranked.c.all, share) for share in shares}
        wanted = sa.or_(*(ranked.c.rank == rank for rank in ranks.values()))
        found: dict[tuple[int, str], dict[int, float]] = {}
        for row in await self._database.fetch(sa.select(ranked).where(wanted)):
            for share in shares:
                if row.rank == _rank(row.all, share):
                    found.setdefault((row.span, row.endpoint_id), {})[share] = row.value
        return found

    async def ended(
        self,
        span: Span,
        which: Which,
        *,
        ending: Literal["success", "user_error", "error"] | None = None,
        request_id: str | None = None,
        by_duration: bool = False,
        limit: int = 50,
        offset: int = 0,
    ) -> builtins.list[Request]:
        """Lists requests that ended within a span, the latest or the longest first."""
        order = _DURATIONS["duration"] if by_duration else table.c.ended_at
        query = sa.select(*RECORD).where(*which.conditions(), table.c.ended_at >= span[0], table.c.ended_at < span[1])
        if ending is not None:
            query = query.where(ENDINGS[ending])
        if request_id is not None:
            query = query.where(table.c.id == request_id)
        query = query.order_by(order.desc(), table.c.place.desc()).limit(limit).offset(offset)
        return [as_request(row) for row in await self._database.fetch(query)]

    async def usual_run(self, endpoint_id: str, operations: float | None = None) -> UsualRun | None:
        """Takes the medians over the latest runs of an endpoint that ended well; with `operations` over those of that
        size, or, where there are none, over all of them in proportion. None where there are no runs."""
        columns = (table.c.operations, table.c.units, _DURATIONS["duration"].label("seconds"), table.c.device_seconds)
        runs = sa.select(*columns).where(schema.ANSWERED, table.c.endpoint_id == endpoint_id, _OK)
        runs = runs.order_by(table.c.ended_at.desc()).limit(USUAL_RUNS)
        if operations is None:
            return _median(await self._database.fetch(runs))
        if alike := await self._database.fetch(runs.where(table.c.operations == operations)):
            return _median(alike)
        return _median(await self._database.fetch(runs.where(table.c.operations > 0)), operations)


def _median(rows: Sequence[AnyRow], operations: float | None = None) -> UsualRun | None:
    if not rows:
        return None
    times = [1.0 if operations is None else operations / row.operations for row in rows]

    def middle(name: str) -> float:
        values = sorted(row._mapping[name] * scale for row, scale in zip(rows, times, strict=True))
        return float(values[len(values) // 2])

    return UsualRun(len(rows), middle("seconds"), middle("device_seconds"), middle("units"))


def _spans(spans: Sequence[Span], is_sqlite: bool) -> sa.CTE:
    """Makes the spans a table, of one value however many they are: a statement is compiled once."""
    told = [(number, since, until) for number, (since, until) in enumerate(spans)]
    each = sa.func.json_each if is_sqlite else sa.func.json_array_elements
    values = each(sa.literal(told, sa.JSON)).table_valued(sa.column("value", sa.JSON))
    number, since, until = (values.c.value[place] for place in range(3))
    columns = number.as_integer().label("span"), since.as_float().label("since"), until.as_float().label("until")
    return sa.select(*columns).cte("inside")


def _during(inside: sa.CTE, known: sa.CTE) -> Sequence[sa.ColumnElement[bool]]:
    """Makes the conditions that a request is for an endpoint and ended within a span: one look at the index."""
    ends = table.c.ended_at
    return table.c.endpoint_id == known.c.endpoint_id, ends >= inside.c.since, ends < inside.c.until


def _endpoints() -> sa.CTE:
    """Lists the endpoints that there are requests for, each found by a look at the index."""
    least = sa.select(sa.func.min(table.c.endpoint_id).label("endpoint_id")).where(schema.ANSWERED)
    known = least.cte("known", recursive=True)
    following = least.where(table.c.endpoint_id > known.c.endpoint_id).scalar_subquery()
    return known.union_all(sa.select(following).where(known.c.endpoint_id.is_not(None)))


def _count(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
    return sa.func.sum(sa.case((condition, 1), else_=0))


def _rank(count: Any, share: int) -> Any:
    """Counts to the place of a percentile in a sorted list, from 1; of a number, or in SQL."""
    return (count * share + 99) // 100
