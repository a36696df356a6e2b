"""Cuts a time range into minutes, hours, days, weeks or months, as they are where somebody lives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice
from zoneinfo import ZoneInfo

from tintype.errors import BadRequest
from tintype.web.usage_schema import Timeframe, TimeRange, TimeSeriesQuery

DAY = 86400.0
_MOST_SPANS = 20_000  # of one range: two weeks of minutes, two years of hours
_LONGEST: Timeframe = "month"
# How long a range is cut into which, as at fal; and how long each is at least.
_AUTOMATIC: tuple[tuple[Timeframe, float], ...] = (
    ("minute", DAY / 12),
    ("hour", 2 * DAY),
    ("day", 64 * DAY),
    ("week", 183 * DAY),
)
_LENGTHS: Mapping[Timeframe, float] = {"minute": 60.0, "hour": 3600.0, "day": DAY, "week": 7 * DAY, "month": 28 * DAY}


@dataclass(frozen=True)
class TimeSpan:
    """Goes from `since` up to, not including, `until` (unix seconds); `start` is how it is named."""

    start: datetime
    since: float
    until: float


class TimeSpans:
    """Reads what a query says of its range. Raises BadRequest."""

    def __init__(self, query: TimeSeriesQuery, now: float) -> None:
        zone = _zone(query.timezone)
        since, until = range_of(query, now, zone)
        length = until - since
        automatic = next((name for name, most in _AUTOMATIC if length < most), _LONGEST)
        timeframe = query.timeframe or automatic
        if length / _LENGTHS[timeframe] > _MOST_SPANS:
            raise BadRequest(f"There are too many {timeframe}s in this range.", remedy="Ask for a longer timeframe.")
        self._timeframe = timeframe
        try:
            self._start, self._end = _local(since, zone), _local(until, zone)
            if query.bound_to_timeframe == "true":
                self._start, end = _floor(self._start, timeframe), _floor(self._end, timeframe)
                self._end = end if end == self._end else _after(end, timeframe)
            self.whole = TimeSpan(self._start, self._start.timestamp(), self._end.timestamp())
        except (OverflowError, ValueError):
            raise _out_of_range() from None

    def page(self, offset: int, limit: int) -> list[TimeSpan]:
        """Cuts the range; returns one span more than `limit`, if there is one."""
        try:
            return list(islice(self._cut(), offset, offset + limit + 1))
        except (OverflowError, ValueError):
            raise _out_of_range() from None

    def _cut(self) -> Iterator[TimeSpan]:
        start, since = self._start, self.whole.since
        while since < self.whole.until:  # clocks on the wall cannot be compared: they show an hour twice
            following = _after(_floor(start, self._timeframe), self._timeframe)
            yield TimeSpan(start, since, min(following.timestamp(), self.whole.until))
            start, since = following, following.timestamp()


def range_of(query: TimeRange, now: float, zone: tzinfo = UTC, usual: float = DAY) -> tuple[float, float]:
    """Reads start and end as unix seconds; without a start it is so long before the end. Raises BadRequest."""
    until = now if query.end is None else _moment(query.end, "end", zone)
    since = until - usual if query.start is None else _moment(query.start, "start", zone)
    return since, max(since, until)


def moment(at: float) -> str:
    """Writes unix seconds as ISO 8601."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _moment(text: str, name: str, zone: tzinfo) -> float:
    try:
        given = datetime.fromisoformat(text.strip())
        return (given if given.tzinfo else given.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        raise BadRequest(
            f"{name} is not a date or time that can be read: {text!r}.",
            remedy="Write 2026-11-01 or 2026-11-01T00:00:00Z.",
        ) from None


def _zone(name: str) -> tzinfo:
    if name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, a path, a folder of zones
        raise BadRequest(f"There is no time zone {name!r}.", remedy="Write UTC, or such as Europe/Berlin.") from None


def _local(at: float, zone: tzinfo) -> datetime:
    return datetime.fromtimestamp(at, zone)


def _floor(at: datetime, timeframe: Timeframe) -> datetime:
    at = at.replace(second=0, microsecond=0)
    if timeframe == "minute":
        return at
    if timeframe == "hour":
        return at.replace(minute=0)
    at = at.replace(hour=0, minute=0, fold=0)
    if timeframe == "week":
        return at - timedelta(days=at.weekday())
    return at.replace(day=1) if timeframe == "month" else at


def _after(start: datetime, timeframe: Timeframe) -> datetime:
    """Finds when the next one begins. Days and longer ones follow the clock on the wall, which may be set meanwhile."""
    if timeframe in ("minute", "hour"):
        return (start.astimezone(UTC) + timedelta(seconds=_LENGTHS[timeframe])).astimezone(start.tzinfo)
    if timeframe == "month":
        return _floor(start + timedelta(days=31), "month")
    return start + timedelta(days=7 if timeframe == "week" else 1)


def _out_of_range() -> BadRequest:
    return BadRequest("start or end lies beyond the years that can be counted.")
