"""The figures of Algolia's Analytics API for what arrived: searches, users, clicks, conversions; in total and by day.

Like Algolia, it leaves out searches with `analytics: false`. It counts an event for the search whose queryID the event
names, if the event happened at most an hour later. https://www.algolia.com/doc/rest-api/analytics
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from .errors import ApiError
from .insights_rules import fields_of
from .mismatches import COUNTED_FOR, happened_at
from .parameters import names_of
from .received import ReceivedEvent, ReceivedSearch

Figures = dict[str, Any]
Figure = Callable[["Traffic"], Figures]

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DEFAULT_DAYS = 8
_LONGEST_PERIOD = 366
# The last two ranges of positions hold all clicks from 11 on; -1 is the end of the list.
_POSITIONS = [*((at, at) for at in range(1, 11)), (11, 20), (21, -1)]


class Traffic:
    """Some searches, and the events that count for each of them."""

    def __init__(self, searches: Iterable[ReceivedSearch], events: Mapping[str, Sequence[ReceivedEvent]]) -> None:
        self.searches = list(searches)
        self.tracked = [search for search in self.searches if search.query_id is not None]
        self._events = events

    def events(self, *kinds: str) -> list[ReceivedEvent]:
        """The events of these types or subtypes that count for the searches, in their order."""
        return [event for search in self.tracked for event in self.events_of(search, *kinds)]

    def events_of(self, search: ReceivedSearch, *kinds: str) -> list[ReceivedEvent]:
        found = self._events.get(search.query_id or "", ())
        return [event for event in found if {event.event_type, event.subtype} & {*kinds}]

    def followed(self, *kinds: str) -> int:
        """How many of the tracked searches have an event of one of these types or subtypes."""
        return sum(bool(self.events_of(search, *kinds)) for search in self.tracked)

    def of(self, searches: Iterable[ReceivedSearch]) -> Traffic:
        """The same for some of the searches only."""
        return Traffic(searches, self._events)

    def by_query(self) -> list[tuple[str, Traffic]]:
        """The traffic of each query, the most frequent query first."""
        found: defaultdict[str, list[ReceivedSearch]] = defaultdict(list)
        for search in self.searches:
            found[search.query].append(search)
        ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
        return [(query, self.of(searches)) for query, searches in ordered]


def traffic_of(
    searches: Iterable[ReceivedSearch], events: Iterable[ReceivedEvent], index: str, tags: str | None = None
) -> Traffic:
    """The part of what arrived that counts for an index. `tags` are joined by AND or OR, as in `a OR b`."""
    own = [
        search
        for search in searches
        if search.index == index
        and search.operation in ("search", "recommend")
        and search.status == 200
        and not _is_false(search.params.get("analytics"))
        and _has_tags(search, tags)
    ]
    answered = {search.query_id: search for search in own if search.query_id is not None}
    counted: defaultdict[str, list[ReceivedEvent]] = defaultdict(list)
    for event in events:
        for query_id in event.query_ids:
            search = answered.get(query_id)
            if search is not None and happened_at(event) - search.received_at <= COUNTED_FOR:
                counted[query_id].append(event)
    return Traffic(own, counted)


def daily(traffic: Traffic, start: str | None, end: str | None, figure: Figure) -> Figures:
    """A figure over a period, and for each of its days; dates as `YYYY-MM-DD`, by default the last eight days."""
    by_day: dict[str, list[ReceivedSearch]] = {day: [] for day in _days(start, end)}
    for search in traffic.searches:
        by_day.get(_day_of(search), []).append(search)
    whole = figure(traffic.of(search for searches in by_day.values() for search in searches))
    return {**whole, "dates": [{"date": day, **figure(traffic.of(searches))} for day, searches in by_day.items()]}


def within(traffic: Traffic, start: str | None, end: str | None) -> Traffic:
    """The part of the traffic that falls into a period."""
    days = frozenset(_days(start, end))
    return traffic.of(search for search in traffic.searches if _day_of(search) in days)


def _day_of(search: ReceivedSearch) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(search.received_at))


# -- Figures ----------------------------------------------------------------------------------------------------------


def searches_count(traffic: Traffic) -> Figures:
    return {"count": len(traffic.searches)}


def users_count(traffic: Traffic) -> Figures:
    """The number of users: by user token, or by address for searches without a token."""
    return {"count": len({search.user for search in traffic.searches})}


def no_result_rate(traffic: Traffic) -> Figures:
    empty = sum(search.nb_hits == 0 for search in traffic.searches)
    return {"rate": _rate(empty, len(traffic.searches)), "count": len(traffic.searches), "noResultCount": empty}


def no_click_rate(traffic: Traffic) -> Figures:
    tracked = len(traffic.tracked)
    missed = tracked - traffic.followed("click")
    return {"rate": _rate(missed, tracked), "count": tracked, "noClickCount": missed}


def click_through_rate(traffic: Traffic) -> Figures:
    return _event_rate(traffic, "clickCount", "click")


def conversion_rate(traffic: Traffic) -> Figures:
    return _event_rate(traffic, "conversionCount", "conversion")


def add_to_cart_rate(traffic: Traffic) -> Figures:
    return _event_rate(traffic, "addToCartCount", "addToCart")


def purchase_rate(traffic: Traffic) -> Figures:
    return _event_rate(traffic, "purchaseCount", "purchase")


def average_click_position(traffic: Traffic) -> Figures:
    positions = _clicked_positions(traffic)
    average = sum(positions) / len(positions) if positions else None
    return {"average": average, "clickCount": len(traffic.events("click"))}


def click_positions(traffic: Traffic) -> Figures:
    counts = Counter(_clicked_positions(traffic))
    return {
        "positions": [
            {
                "position": [first, last],
                "clickCount": sum(
                    number for at, number in counts.items() if first <= at and (at <= last or last == -1)
                ),
            }
            for first, last in _POSITIONS
        ]
    }


def revenue(traffic: Traffic) -> Figures:
    """The sum of price times quantity over all purchased objects, by currency."""
    totals: defaultdict[str, float] = defaultdict(float)
    for event in traffic.events("purchase"):
        fields = fields_of(event.event)
        currency = fields.get("currency")
        for item in fields.get("objectData") or ():
            price, quantity = _number(item.get("price")), _number(item.get("quantity", 1))
            totals[currency if isinstance(currency, str) else ""] += price * quantity
    return {"currencies": {name: {"currency": name, "revenue": total} for name, total in totals.items() if name}}


def top_searches(traffic: Traffic, with_clicks: bool) -> list[Figures]:
    return [
        {
            "search": query,
            "count": len(part.searches),
            "nbHits": round(sum(search.nb_hits or 0 for search in part.searches) / len(part.searches)),
            **(_clicks(part) if with_clicks else {}),
        }
        for query, part in traffic.by_query()
    ]


def searches_without_results(traffic: Traffic) -> list[Figures]:
    return [
        {
            "search": query,
            "count": len(part.searches),
            "withFilterCount": sum(bool(search.params.get("filters")) for search in part.searches),
        }
        for query, part in traffic.of(search for search in traffic.searches if search.nb_hits == 0).by_query()
    ]


def searches_without_clicks(traffic: Traffic) -> list[Figures]:
    missed = traffic.of(search for search in traffic.tracked if not traffic.events_of(search, "click"))
    return [
        {
            "search": query,
            "count": len(part.searches),
            "nbHits": round(sum(search.nb_hits or 0 for search in part.searches) / len(part.searches)),
        }
        for query, part in missed.by_query()
    ]


def _clicks(traffic: Traffic) -> Figures:
    clicks, conversions = click_through_rate(traffic), conversion_rate(traffic)
    return {
        "trackedSearchCount": clicks["trackedSearchCount"],
        "clickCount": clicks["clickCount"],
        "clickThroughRate": clicks["rate"],
        "conversionCount": conversions["conversionCount"],
        "conversionRate": conversions["rate"],
        "averageClickPosition": average_click_position(traffic)["average"],
        "clickPositions": click_positions(traffic)["positions"],
    }


def _event_rate(traffic: Traffic, count: str, kind: str) -> Figures:
    # None if no search was tracked, and 0 if no user clicked or converted.
    tracked = len(traffic.tracked)
    rate = traffic.followed(kind) / tracked if tracked else None
    return {"rate": rate, "trackedSearchCount": tracked, count: len(traffic.events(kind))}


def _rate(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _clicked_positions(traffic: Traffic) -> list[int]:
    found = []
    for event in traffic.events("click"):
        positions = fields_of(event.event).get("positions")
        found += positions if isinstance(positions, list) else []
    return found


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _is_false(value: Any) -> bool:
    return value is False or value == "false"


def _has_tags(search: ReceivedSearch, tags: str | None) -> bool:
    if not tags:
        return True
    own = set(names_of(search.params, "analyticsTags") or ())
    return all(any(tag.strip(" ()") in own for tag in part.split(" OR ")) for part in tags.split(" AND "))


def _days(start: str | None, end: str | None) -> list[str]:
    last = _date("endDate", end) if end else date.fromisoformat(time.strftime("%Y-%m-%d", time.gmtime()))
    first = _date("startDate", start) if start else last - timedelta(days=_DEFAULT_DAYS - 1)
    number = (last - first).days + 1
    if number < 1:
        raise ApiError(400, "startDate must not be after endDate")
    if number > _LONGEST_PERIOD:
        raise ApiError(400, f"a period has at most {_LONGEST_PERIOD} days")
    return [(first + timedelta(days=at)).isoformat() for at in range(number)]


def _date(name: str, text: str) -> date:
    # No date before 1970, when Unix time begins.
    if _DATE.fullmatch(text) and text >= "1970":
        with contextlib.suppress(ValueError):
            return date.fromisoformat(text)
    raise ApiError(400, f"{name}: expected a date, as 2026-01-31")
