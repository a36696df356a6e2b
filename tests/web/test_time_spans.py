"""Ranges are cut as clocks on the wall go, and every moment of them is in one span."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tintype.errors import BadRequest
from tintype.web.time_spans import TimeSpans
from tintype.web.usage_schema import TimeSeriesQuery

NOW = datetime(2026, 11, 27, 12, 34, 56, tzinfo=UTC).timestamp()


def spans(**query: Any) -> list[tuple[str, float]]:
    """The starts of all spans, and their hours; they follow one another without a gap."""
    cut = TimeSpans(TimeSeriesQuery.model_validate(query), NOW)
    found = cut.page(0, 10_000)
    assert all(former.until == latter.since for former, latter in pairwise(found))
    assert (found[0].since, found[-1].until) == (cut.whole.since, cut.whole.until)
    return [(span.start.isoformat(), (span.until - span.since) / 3600) for span in found]


@pytest.mark.parametrize(
    ("query", "first", "hours"),
    [
        ({}, "2026-11-26T12:00:00+00:00", [1.0] * 25),
        ({"start": "2026-11-27T12:00:00Z"}, "2026-11-27T12:00:00+00:00", [1 / 60] * 35),
        ({"start": "2026-11-20", "end": "2026-11-22"}, "2026-11-20T00:00:00+00:00", [24.0] * 2),
        ({"start": "2026-11-20T05:00", "end": "2026-11-21T05:00", "timeframe": "day"}, "2026-11-20T00:00:00+00:00",
         [24.0] * 2),
        ({"start": "2026-11-20T05:00", "end": "2026-11-21T07:00", "timeframe": "day", "bound_to_timeframe": "false"},
         "2026-11-20T05:00:00+00:00", [19.0, 7.0]),
        # Clocks are set forward, and back.
        ({"start": "2026-03-28", "end": "2026-03-31", "timeframe": "day", "timezone": "Europe/Berlin"},
         "2026-03-28T00:00:00+01:00", [24.0, 23.0, 24.0]),
        ({"start": "2026-10-24", "end": "2026-10-27", "timeframe": "day", "timezone": "Europe/Berlin"},
         "2026-10-24T00:00:00+02:00", [24.0, 25.0, 24.0]),
        ({"start": "2026-10-25", "end": "2026-10-26", "timeframe": "hour", "timezone": "Europe/Berlin"},
         "2026-10-25T00:00:00+02:00", [1.0] * 25),
        ({"start": "2026-11-20", "end": "2026-11-21", "timezone": "Asia/Kathmandu"}, "2026-11-20T00:00:00+05:45",
         [1.0] * 24),
        ({"start": "2026-11-18", "end": "2026-11-24", "timeframe": "week"}, "2026-11-16T00:00:00+00:00", [168.0] * 2),
        ({"start": "2028-01-31", "end": "2028-03-02", "timeframe": "month"}, "2028-01-01T00:00:00+00:00",
         [31 * 24.0, 29 * 24.0, 31 * 24.0]),
    ],
)  # fmt: skip
def test_a_range_is_cut_as_clocks_go(query: Any, first: str, hours: list[float]) -> None:
    found = spans(**query)
    assert found[0][0] == first
    assert [length for _, length in found] == pytest.approx(hours)


@pytest.mark.parametrize(
    ("days", "each"), [(0.05, "minute"), (1, "hour"), (3, "day"), (63, "day"), (100, "week"), (400, "month")]
)
def test_the_timeframe_follows_from_the_range(days: float, each: str) -> None:
    start = datetime.fromtimestamp(NOW, UTC) - timedelta(days=days)
    assert spans(start=start.isoformat()) == spans(start=start.isoformat(), timeframe=each)


def test_pages_continue_one_another_and_an_empty_range_has_none() -> None:
    cut = TimeSpans(TimeSeriesQuery(), NOW)
    assert [*cut.page(0, 10)[:10], *cut.page(10, 10)[:10], *cut.page(20, 10)] == cut.page(0, 1000)
    backwards = TimeSpans(TimeSeriesQuery(start="2026-11-20", end="2026-11-19", bound_to_timeframe="false"), NOW)
    assert backwards.page(0, 10) == []


@pytest.mark.parametrize(
    "query",
    [{"start": "2024-01-01", "timeframe": "minute"}, {"start": "0001-01-01"}, {"end": "9999-12-31T23:59:59-23:59"},
     {"timezone": "Mars/Olympus"}, {"start": "now"}],
)  # fmt: skip
def test_what_cannot_be_cut_is_refused(query: Any) -> None:
    with pytest.raises(BadRequest):
        TimeSpans(TimeSeriesQuery(**query), NOW).page(0, 1000)
