"""
Whether Algolia's Insights API would take a batch of events.

The rules are those of https://www.algolia.com/doc/rest-api/insights/push-events; where Algolia's own words are known
(https://support.algolia.com/hc/en-us/articles/27738943151249), the messages use them. This module stands alone on
purpose: the sender's own checks are tested against it, so neither may borrow from the other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

MAX_EVENTS = 1000
MAX_BODY_BYTES = 2_000_000
MAX_AGE_DAYS = 30

_FIELDS = frozenset(
    {
        "algoliaSource",  # in no documentation, and in all that Autocomplete and InstantSearch send by themselves
        "authenticatedUserToken",
        "currency",
        "eventName",
        "eventSubtype",
        "eventType",
        "filters",
        "index",
        "objectData",
        "objectIDs",
        "positions",
        "queryID",
        "timestamp",
        "userToken",
        "value",
    }
)
_OBJECT_DATA_FIELDS = frozenset({"discount", "price", "quantity", "queryID"})
_SUBTYPES = ("addToCart", "purchase")
_MOST_OBJECTS = 20

_EVENT_NAME = re.compile(r"[\x20-\x7E]{1,64}")
_TOKEN = re.compile(r"[a-zA-Z0-9_=/+-]{1,128}")
_QUERY_ID = re.compile(r"[0-9a-f]{32}|message_[\x20-\x7E]{1,120}")
_CURRENCY = re.compile(r"[A-Za-z]{3}")
_FILTER = re.compile(r"[^:]+:(?s:.+)")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


class _Invalid(Exception):
    """A rule that is broken; the text begins with the field."""


def refusal(body: Any, now: float) -> str | None:
    """
    What is wrong with a decoded body of `POST /1/events`, or None if all of it is right.

    `now` is in seconds since the epoch. The text is that of the 422 answer and names the first wrong field as
    `events[2].userToken`. One wrong event refuses all.
    """
    try:
        events = _events(body)
    except _Invalid as error:
        return str(error)
    for number, event in enumerate(events):
        wrong = None if is_usage_report(event) else _wrong_with(event, now)
        if wrong is not None:
            return f"events[{number}]{wrong}"
    return None


def is_usage_report(event: Any) -> bool:
    """
    Whether an event is what InstantSearch tells Algolia of itself: its version, its widgets.

    InstantSearch 4.118 sends one with each start, unasked, and by the same way as a visitor's events. In no
    documentation; that Algolia takes it is assumed, for otherwise each page would have an error in its console.
    """
    return isinstance(event, Mapping) and event.get("eventType") == "instantsearch"


def _wrong_with(event: Any, now: float) -> str | None:
    try:
        _check(event, now)
    except _Invalid as error:
        return str(error)
    return None


def _events(body: Any) -> list[Any]:
    if not isinstance(body, Mapping) or "events" not in body:
        raise _Invalid("events: No events to process")
    for name in body:
        if name != "events":
            raise _Invalid(f"{name[:40]}: unknown attribute; the body has events and nothing else")
    events = body["events"]
    if not isinstance(events, list):
        raise _Invalid(f"events: expected array, got {_kind(events)}")
    if not events:
        raise _Invalid("events: No events to process")
    if len(events) > MAX_EVENTS:
        raise _Invalid(f"events: at most {MAX_EVENTS} events in a request, got {len(events)}")
    return events


def _check(event: Any, now: float) -> None:
    if not isinstance(event, Mapping):
        raise _Invalid(f": expected object, got {_kind(event)}")
    for name in event:
        if name not in _FIELDS:
            raise _Invalid(f".{name[:40]}: unknown attribute{_did_you_mean(name)}")
    _required(event)
    _subtype(event)
    _targets(event)
    _after_search(event)
    _purchase_data(event)
    if "algoliaSource" in event:
        _sources(event)
    if "authenticatedUserToken" in event:
        _token(event, "authenticatedUserToken")
    if "timestamp" in event:
        _timestamp(event["timestamp"], now)


def _required(event: Mapping[str, Any]) -> None:
    name = _string(event, "eventName", missing="The eventName field is required")
    if not _EVENT_NAME.fullmatch(name):
        raise _Invalid(".eventName: Invalid eventName syntax: 1 to 64 printable ASCII characters")
    kind = _string(event, "eventType", missing='EventType must be one of "click", "conversion" or "view"')
    if kind not in ("click", "conversion", "view"):
        raise _Invalid('.eventType: EventType must be one of "click", "conversion" or "view"')
    if not _string(event, "index", missing="The index field is required"):
        raise _Invalid(".index: The index field is required")
    _token(event, "userToken")


def _token(event: Mapping[str, Any], field: str) -> None:
    token = _string(event, field, missing=f"Missing {field} parameter")
    if not _TOKEN.fullmatch(token):
        raise _Invalid(f".{field}: must contain only a-z A-Z 0-9 _ = / + - and be between 1 and 128 characters long")


def _sources(event: Mapping[str, Any]) -> None:
    sources = event["algoliaSource"]
    if not isinstance(sources, list):
        raise _Invalid(f".algoliaSource: expected array, got {_kind(sources)}")
    for number, source in enumerate(sources):
        if not isinstance(source, str):
            raise _Invalid(f".algoliaSource[{number}]: expected string, got {_kind(source)}")


def _subtype(event: Mapping[str, Any]) -> None:
    if "eventSubtype" not in event:
        return
    if _string(event, "eventSubtype") not in _SUBTYPES:
        raise _Invalid('.eventSubtype: must be one of "addToCart" or "purchase"')
    if event["eventType"] != "conversion":
        raise _Invalid(".eventSubtype: only an event of type conversion has one")
    if "objectIDs" not in event:
        raise _Invalid(".objectIDs: an event with an eventSubtype needs objectIDs")


def _targets(event: Mapping[str, Any]) -> None:
    if ("objectIDs" in event) == ("filters" in event):
        field = "filters" if "filters" in event else "objectIDs"
        raise _Invalid(f".{field}: Events should specify either some objectIDs or some Filters, and not both")
    field = "objectIDs" if "objectIDs" in event else "filters"
    values = _array(event, field)
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise _Invalid(f".{field}[{number}]: expected string, got {_kind(value)}")
        if not value:
            raise _Invalid(f".{field}[{number}]: must not be empty")
        if field == "filters" and not _FILTER.fullmatch(value):
            raise _Invalid(f".filters[{number}]: expected facet:value")
        if field == "filters" and _BAD_ESCAPE.search(value):
            raise _Invalid(f".filters[{number}]: must be URL-encoded, but has a % without two hexadecimal digits")


def _after_search(event: Mapping[str, Any]) -> None:
    clicked_objects = event["eventType"] == "click" and "objectIDs" in event
    if "queryID" in event:
        _query_id(event["queryID"], ".queryID")
    if "positions" in event:
        if not clicked_objects:
            raise _Invalid(".positions: Only event of type click should specify the positions attribute")
        _positions(event)
        if "queryID" not in event:
            raise _Invalid(".queryID: a click with positions needs the queryID of its search")
    elif clicked_objects and "queryID" in event:
        raise _Invalid(".positions: Event of type click should have the same number of ObjectIDs and Positions")


def _positions(event: Mapping[str, Any]) -> None:
    positions = _array(event, "positions")
    for number, position in enumerate(positions):
        if not _is_integer(position):
            raise _Invalid(f".positions[{number}]: expected integer, got {_kind(position)}")
        if position < 1:
            raise _Invalid(f".positions[{number}]: must be at least 1, which is the first result's")
    if len(positions) != len(event["objectIDs"]):
        raise _Invalid(".positions: Event of type click should have the same number of ObjectIDs and Positions")


def _purchase_data(event: Mapping[str, Any]) -> None:
    for field in ("objectData", "value", "currency"):
        if field in event and "eventSubtype" not in event:
            raise _Invalid(f".{field}: only an event with eventSubtype addToCart or purchase has it")
    if "value" in event:
        _amount(event["value"], ".value")
    if "currency" in event and not _CURRENCY.fullmatch(_string(event, "currency")):
        raise _Invalid(".currency: expected a three-letter ISO 4217 code")
    if "objectData" in event:
        _object_data(event)


def _object_data(event: Mapping[str, Any]) -> None:
    items = _array(event, "objectData")
    if len(items) != len(event["objectIDs"]):
        raise _Invalid(".objectData: must have as many items as objectIDs")
    for number, item in enumerate(items):
        where = f".objectData[{number}]"
        if not isinstance(item, Mapping):
            raise _Invalid(f"{where}: expected object, got {_kind(item)}")
        for name in item:
            if name not in _OBJECT_DATA_FIELDS:
                raise _Invalid(f"{where}.{name[:40]}: unknown attribute{_did_you_mean(name)}")
        for name in ("price", "discount"):
            if name in item:
                _amount(item[name], f"{where}.{name}", longest=None)
        if "quantity" in item and not _is_integer(item["quantity"]):
            raise _Invalid(f"{where}.quantity: expected integer, got {_kind(item['quantity'])}")
        if "queryID" in item:
            _query_id(item["queryID"], f"{where}.queryID")


def _timestamp(value: Any, now: float) -> None:
    if not _is_integer(value):
        raise _Invalid(f".timestamp: expected integer, got {_kind(value)}")
    if value < (now - MAX_AGE_DAYS * 86_400) * 1000:
        raise _Invalid(f".timestamp: must be milliseconds since the epoch, and not older than {MAX_AGE_DAYS} days")


def _query_id(value: Any, where: str) -> None:
    if not isinstance(value, str):
        raise _Invalid(f"{where}: expected string, got {_kind(value)}")
    if not _QUERY_ID.fullmatch(value):
        raise _Invalid(f"{where}: must be 32 hexadecimal digits in lower case, as a search response has it")


def _amount(value: Any, where: str, longest: int | None = 16) -> None:
    if isinstance(value, str):
        if longest is not None and len(value) > longest:
            raise _Invalid(f"{where}: must have at most {longest} characters")
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Invalid(f"{where}: expected number or string, got {_kind(value)}")
    elif not _is_finite(value):
        raise _Invalid(f"{where}: expected a finite number")


def _string(event: Mapping[str, Any], field: str, missing: str = "required") -> str:
    if field not in event:
        raise _Invalid(f".{field}: {missing}")
    value = event[field]
    if not isinstance(value, str):
        raise _Invalid(f".{field}: expected string, got {_kind(value)}")
    return value


def _array(event: Mapping[str, Any], field: str) -> list[Any]:
    value = event[field]
    if not isinstance(value, list):
        raise _Invalid(f".{field}: expected array, got {_kind(value)}")
    if not value:
        raise _Invalid(f".{field}: must not be empty")
    if len(value) > _MOST_OBJECTS:
        raise _Invalid(f".{field}: Cannot process more than {_MOST_OBJECTS} objects in an event")
    return value


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer of more than 308 digits
        return False


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _did_you_mean(name: str) -> str:
    plain = name.replace("_", "").lower()
    for field in sorted(_FIELDS | _OBJECT_DATA_FIELDS):
        if field.lower() == plain:
            return f" (did you mean {field}?)"
    return ""
