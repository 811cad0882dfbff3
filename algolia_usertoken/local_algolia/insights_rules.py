"""Whether Algolia's Insights API would accept a batch of events.

The rules are those of the schemas and error texts in Algolia's published specification,
https://github.com/algolia/api-clients-automation/tree/main/specs/insights. If the specification has a text for an
error, the answer is that text; for all other errors it has "Invalid payload", after which the answer says where and
why. A field that is not in the schema of an event is unknown and is accepted with any value, unless a text of the
specification mentions it. This module shares no code with the sender on purpose, as the sender's own checks are tested
against it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

MAX_EVENTS = 1000
MAX_AGE_DAYS = 30

# The fields by their names in lower case: Algolia's own Python client, version 3, sends objectIds, which is accepted.
_FIELDS = {
    name.lower(): name
    for name in (
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
    )
}
_INSTANTSEARCH_FIELDS = {
    name.lower(): name
    for name in ("agentID", "authenticatedUserToken", "eventName", "eventType", "timestamp", "userToken")
}
_OBJECT_DATA_FIELDS = {name.lower(): name for name in ("discount", "price", "quantity", "queryID")}
_EVENT_TYPES = ("click", "conversion", "view", "instantsearch")
_SUBTYPES = ("addToCart", "purchase")
_MOST_OBJECTS = 20

_EVENT_NAME = re.compile(r"[\x20-\x7E]{1,64}")
_TOKEN = re.compile(r"[a-zA-Z0-9_=/+-]{1,128}")
_SEARCH_ID = re.compile(r"[0-9a-f]{32}")
_QUERY_ID = re.compile(r"[0-9a-f]{32}|message_[!-~]{1,120}")
_CURRENCY = re.compile(r"[A-Za-z]{3}")
# A facet and its value; InstantSearch's rating menu reports an attribute, a comparison and a number.
_FILTER = re.compile(r"[^:<>]+(?::|[<>](?!=?\Z))(?s:.+)")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

_NO_EVENTS = "No events to process"
_TOKEN_RULE = (
    "must contain only alphanumeric, equal, plus, slash, hyphen, or underscore characters, "
    "and be between 1 and 128 characters long"
)
_QUERY_ID_RULE = "Query ID must be a search query ID (32 characters hexadecimal string)"
_POSITIONS_RULE = "Event of type click should have the same number of ObjectIDs and Positions"


class _Invalid(Exception):
    """A broken rule. If it has a `where`, the specification has no text for it, and the message is our own."""

    def __init__(self, message: str, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where


def refusal(body: Any, now: float) -> str | None:
    """The error in a decoded body of `POST /1/events`, or None if the body is valid.

    `now` is in seconds since the epoch. The text is the message of the 422 answer: that of the specification if it has
    one, else "Invalid payload: ", the first wrong field, for example `events[2].currency`, and the reason. If one event
    is wrong, all events are refused.
    """
    try:
        events = _events(body)
    except _Invalid as error:
        return _as_told(error, "")
    for number, event in enumerate(events):
        try:
            _check(event, now)
        except _Invalid as error:
            return _as_told(error, f"events[{number}]")
    return None


def _as_told(error: _Invalid, event: str) -> str:
    if error.where is None:
        return error.message
    return f"Invalid payload: {(event + error.where).lstrip('.')}: {error.message}"


def events_of(body: Any) -> Any:
    """The value of `events` in a body, whatever the case of its name; None if there is none."""
    if not isinstance(body, Mapping):
        return None
    return next((value for name, value in body.items() if str(name).lower() == "events"), None)


def fields_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """The known fields of an event by their correct names, whatever the case in which the event writes them."""
    return {
        _FIELDS[name.lower()]: value
        for name, value in event.items()
        if isinstance(name, str) and name.lower() in _FIELDS  # a caller's dict may have a name that is no string
    }


def query_ids_of(event: Mapping[str, Any]) -> Iterable[str]:
    """The queryIDs that an accepted event names: its own queryID first, then those in its objectData."""
    fields = fields_of(event)
    items = fields.get("objectData")
    mappings = [fields, *(item for item in (items if isinstance(items, list) else ()) if isinstance(item, Mapping))]
    for mapping in mappings:
        for name, value in mapping.items():
            # The objectData of a conversion without a subtype may have any content.
            if name.lower() == "queryid" and isinstance(value, str) and _QUERY_ID.fullmatch(value):
                yield value


def is_usage_report(event: Any) -> bool:
    """Whether an event is of type instantsearch: it has no objects.

    InstantSearch 4.118 sends one at each start, unasked, with its version and its widgets. Chats send them too.
    """
    return isinstance(event, Mapping) and fields_of(event).get("eventType") == "instantsearch"


def _events(body: Any) -> list[Any]:
    if body is None:
        raise _Invalid(_NO_EVENTS)
    if not isinstance(body, Mapping):
        raise _Invalid(f"Invalid type for field : expected insights.PublicEventsBatch, got {_kind(body)}")
    _no_field_twice(body, {"events": "events"}, "")
    events = events_of(body)
    if events is None:
        raise _Invalid(_NO_EVENTS)
    if not isinstance(events, list):
        raise _wrong_type("array", events)
    if not events:
        raise _Invalid(_NO_EVENTS)
    if len(events) > MAX_EVENTS:
        raise _Invalid(f"Cannot process more than {MAX_EVENTS} events in a batch")
    return events


def _check(event: Any, now: float) -> None:
    if not isinstance(event, Mapping):
        raise _wrong_type("object", event)
    _no_field_twice(event, {"eventtype": "eventType"}, "")
    if is_usage_report(event):
        _instantsearch(event, now)
        return
    _no_field_twice(event, _FIELDS, "")
    fields = fields_of(event)
    _who_and_when(fields, now)
    if not _string(fields, "index", missing="The index field is required"):
        raise _Invalid("The index field is required")
    _targets(fields)
    _after_search(fields)
    # On all other events, these fields are unknown.
    if fields["eventType"] == "conversion" and "objectIDs" in fields and "eventSubtype" in fields:
        _purchase(fields)


def _instantsearch(event: Mapping[str, Any], now: float) -> None:
    _no_field_twice(event, _INSTANTSEARCH_FIELDS, "")
    fields = {name.lower(): value for name, value in event.items()}
    _who_and_when(fields_of(event), now)
    if "agentid" in fields and not _string(fields, "agentid"):
        raise _Invalid("must not be empty", ".agentID")


def _who_and_when(fields: Mapping[str, Any], now: float) -> None:
    if not _EVENT_NAME.fullmatch(_string(fields, "eventName", missing="EventName is required")):
        raise _Invalid("EventName must contain only visible ASCII characters, and be between 1 and 64 characters long")
    if _string(fields, "eventType", missing="EventType is required") not in _EVENT_TYPES:
        raise _Invalid('EventType must be one of "click", "conversion", "view" or "instantsearch"')
    if not _TOKEN.fullmatch(_string(fields, "userToken", missing="The userToken field is required")):
        raise _Invalid(f"UserToken {_TOKEN_RULE}")
    if "authenticatedUserToken" in fields and not _TOKEN.fullmatch(_string(fields, "authenticatedUserToken")):
        raise _Invalid(_TOKEN_RULE, ".authenticatedUserToken")
    if "timestamp" in fields:
        _integer(fields["timestamp"], bits=64)
        if fields["timestamp"] < (now - MAX_AGE_DAYS * 86_400) * 1000:
            raise _Invalid("The timestamp is too far in the past")


def _targets(fields: Mapping[str, Any]) -> None:
    if "objectIDs" in fields and "filters" in fields:
        raise _Invalid("Event should specify ObjectIDs or Filters, but not both")
    field = "filters" if "filters" in fields else "objectIDs"
    if fields.get(field, []) == []:
        raise _Invalid("Event should specify either some ObjectIDs or some Filters")
    for number, value in enumerate(_array(fields, field)):
        if not isinstance(value, str):
            raise _wrong_type("string", value)
        if not value:
            raise _Invalid("must not be empty", f".{field}[{number}]")
        if field == "filters":
            _filter(value, f".filters[{number}]")


def _filter(value: str, where: str) -> None:
    if _BAD_ESCAPE.search(value):
        raise _Invalid("must be URL-encoded, but has a % without two hexadecimal digits", where)
    # Either each part of a filter is URL-encoded, or the whole filter, as search-insights does it.
    if not _FILTER.fullmatch(value) and not _FILTER.fullmatch(unquote(value)):
        raise _Invalid("expected facet:value", where)


def _after_search(fields: Mapping[str, Any]) -> None:
    if "queryID" in fields and not _QUERY_ID.fullmatch(_string(fields, "queryID")):
        raise _Invalid(_QUERY_ID_RULE)
    if "positions" in fields:
        if fields["eventType"] != "click":
            raise _Invalid("Only event of type click should specify the positions attribute")
        if "queryID" not in fields:
            raise _Invalid("Event of type click with positions should specify a queryID")
        _positions(fields)
    elif fields["eventType"] == "click" and "queryID" in fields and "objectIDs" in fields:
        raise _Invalid(_POSITIONS_RULE)


def _positions(fields: Mapping[str, Any]) -> None:
    positions = fields["positions"]
    if not isinstance(positions, list):
        raise _wrong_type("array", positions)
    for position in positions:
        _integer(position)
        if position < 1:
            raise _Invalid("Event of type click may only have strictly positive positions")
    if not positions or len(positions) != len(fields.get("objectIDs", ())):
        raise _Invalid(_POSITIONS_RULE)


def _purchase(fields: Mapping[str, Any]) -> None:
    if _string(fields, "eventSubtype") not in _SUBTYPES:
        raise _Invalid('must be one of "addToCart" or "purchase"', ".eventSubtype")
    if "value" in fields:
        _amount(fields["value"], ".value", longest=16)
    if "currency" in fields and not _CURRENCY.fullmatch(_string(fields, "currency")):
        raise _Invalid("expected a three-letter ISO 4217 code", ".currency")
    if "objectData" not in fields:
        return
    items = _array(fields, "objectData")
    if len(items) != len(fields["objectIDs"]):
        raise _Invalid("must have as many items as objectIDs", ".objectData")
    for number, item in enumerate(items):
        _object_data(item, f".objectData[{number}]")


def _object_data(item: Any, where: str) -> None:
    if not isinstance(item, Mapping):
        raise _wrong_type("object", item)
    _no_field_twice(item, _OBJECT_DATA_FIELDS, where)
    for name, value in item.items():
        field = _OBJECT_DATA_FIELDS.get(name.lower())
        if field is None:
            raise _Invalid(f"unknown attribute{_did_you_mean(name)}", f"{where}.{name[:40]}")
        if field == "quantity":
            _integer(value, bits=32)
        elif field == "queryID":
            # The specification has this field for purchases and for events after a search. The inferQueryID of
            # search-insights shows that add-to-cart events without a queryID of their own have it too.
            if not _SEARCH_ID.fullmatch(_string(item, name)):
                raise _Invalid(_QUERY_ID_RULE)
        else:
            _amount(value, f"{where}.{field}")


def _amount(value: Any, where: str, longest: float = math.inf) -> None:
    if isinstance(value, str):
        if len(value) > longest:
            raise _Invalid(f"must have at most {longest} characters", where)
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong_type("number or string", value)
    elif not _is_finite(value):
        raise _Invalid("expected a finite number", where)


def _no_field_twice(mapping: Mapping[str, Any], fields: Mapping[str, str], where: str) -> None:
    """Refuse names that differ only in case: they mean one field, and it is unknown which of the values counts."""
    seen = set()
    for name in mapping:
        lower = name.lower()
        if lower in seen:
            raise _Invalid("is there twice, in different spellings", f"{where}.{fields[lower]}")
        if lower in fields:
            seen.add(lower)


def _string(fields: Mapping[str, Any], field: str, missing: str = "") -> str:
    if field not in fields:
        raise _Invalid(missing)
    value = fields[field]
    if not isinstance(value, str):
        raise _wrong_type("string", value)
    return value


def _array(fields: Mapping[str, Any], field: str) -> list[Any]:
    value = fields[field]
    if not isinstance(value, list):
        raise _wrong_type("array", value)
    if not value:
        raise _Invalid("must not be empty", f".{field}")
    if len(value) > _MOST_OBJECTS:
        raise _Invalid(f"Cannot process more than {_MOST_OBJECTS} objects in an event", f".{field}")
    return value


def _integer(value: Any, bits: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong_type("integer", value)
    if bits is not None and not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise _wrong_type(f"int{bits}", value)


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer of more than 308 digits
        return False


def _wrong_type(expected: str, value: Any) -> _Invalid:
    return _Invalid(f"Invalid type for field events: expected {expected}, got {_kind(value)}")


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
    field = _OBJECT_DATA_FIELDS.get(name.replace("_", "").lower())
    return f" (did you mean {field}?)" if field else ""
