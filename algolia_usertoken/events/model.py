"""The Insights events, checked as Algolia checks them.

The events and their fields: https://www.algolia.com/doc/rest-api/insights/push-events. One invalid event makes Algolia
refuse its whole batch (422), so each is checked before it gets near one. What Algolia leaves open is let through.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from math import isfinite
from typing import Any, TypeAlias

from ..errors import InvalidEventError, InvalidUserTokenError, MissingUserTokenError
from ..identity import Identity, validate_user_token

Event: TypeAlias = dict[str, Any]
"""An event as the Insights API takes it: camelCase keys, JSON values."""

MAX_OBJECTS = 20
_FIELDS = frozenset(
    {"eventName", "eventType", "eventSubtype", "index", "userToken", "authenticatedUserToken", "timestamp"}
    | {"objectIDs", "filters", "positions", "queryID", "objectData", "value", "currency", "algoliaSource"}
)
_PLAIN_FIELDS = _FIELDS - {"objectData", "value", "currency"}
_INSTANTSEARCH_FIELDS = frozenset(
    {"eventName", "eventType", "userToken", "authenticatedUserToken", "timestamp", "agentID"}
)
_OBJECT_DATA_FIELDS = frozenset({"price", "discount", "quantity", "queryID"})
_LISTS = ("objectIDs", "filters", "positions", "objectData")
_COPIED = (*_LISTS, "algoliaSource")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
MAX_AGE = 30 * 24 * 60 * 60 * 1000  # milliseconds

_QUERY_ID_RULE = "must be 32 hexadecimal digits in lower case, as in the search response"
_is_query_id = re.compile(r"[0-9a-f]{32}|message_[\x20-\x7e]{1,120}").fullmatch
_is_filter = re.compile(r"(?:[^%:]|%[0-9a-fA-F]{2})+:(?:[^%]|%[0-9a-fA-F]{2})+", re.DOTALL).fullmatch
_is_event_name = lru_cache(re.compile(r"[\x20-\x7e]{1,64}").fullmatch)  # an application has a handful of them
_is_currency = re.compile(r"[A-Za-z]{3}").fullmatch
_MET_BY_JSON = re.compile(r"Object of type \w+ is not JSON serializable|keys must be [\w, ]+")
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")
_is_field_name = re.compile(r"[A-Za-z_]{1,40}").fullmatch


def split(event: Event) -> list[Event]:
    """`event` as events of at most 20 objects or filters each, in lists of their own.

    `value` stays on the first, so that totals still add up.

    Raises:
        InvalidEventError: What must be a list is none, or `positions` or `objectData` are not as many as the objects.
    """
    for field in _LISTS:
        if field in event:
            items = event[field]
            event[field] = items.copy() if type(items) is list else as_list(field, items)
    items = event["objectIDs"] if "objectIDs" in event else event["filters"]
    if len(items) <= MAX_OBJECTS:
        return [event]
    lists = [field for field in _LISTS if field in event]
    for field in lists:
        check_same_length(field, event[field], items)
    parts = []
    for start in range(0, len(items), MAX_OBJECTS):
        part = event | {field: event[field][start : start + MAX_OBJECTS] for field in lists}
        if start:
            part.pop("value", None)
        parts.append(part)
    return parts


def check_after_search(event: Event) -> None:
    """Check that an event after a search names the search.

    Raises:
        InvalidEventError: It does not; `field` is `queryID`, or `objectData.queryID` for a purchase.
    """
    if "objectData" not in event or "queryID" in event:
        if event.get("queryID") is None:
            raise _invalid(event, "queryID", "must be given: search with clickAnalytics to get one")
        return
    data = event["objectData"] = as_list("objectData", event["objectData"])
    if not all(isinstance(item, Mapping) and item.get("queryID") is not None for item in data):
        raise _invalid(event, "objectData.queryID", "must be given for each object: the search that led to it")


def attributed(event: Mapping[str, Any], identity: Identity | None, timestamp: int | None = None) -> Event | None:
    """A checked copy of `event` that says whose it is, or None where that visitor opted out.

    `userToken` and `authenticatedUserToken` are filled in from `identity` where the event has none, and `timestamp`
    (milliseconds since the epoch) likewise. An event with a user token of its own is somebody else's, and gets no login
    from here.

    Raises:
        InvalidEventError: Algolia would refuse it; `field` says why.
        MissingUserTokenError: Neither the event nor `identity` says whose it is.
    """
    return attribute(own_copy(event), identity, timestamp)


def own_copy(event: Mapping[str, Any]) -> Event:
    """A copy with lists of its own: what the caller does to the event later changes nothing.

    Raises:
        InvalidEventError: It is no mapping.
    """
    if not isinstance(event, (dict, Mapping)):  # dict first: the abstract class is slow to ask
        hint = ": give its to_dict()" if hasattr(event, "to_dict") else ""
        raise InvalidEventError(f"an event must be a mapping, not {type(event).__name__}{hint}")
    own = dict(event)
    for field in _COPIED:
        if isinstance(own.get(field), list):
            own[field] = list(own[field])
    return own


def attribute(event: Event, identity: Identity | None, timestamp: int | None) -> Event | None:
    """As `attributed`, but writes into `event`."""
    login = event.get("authenticatedUserToken")
    if login is not None:
        _check_user_token(event, "authenticatedUserToken")
    if event.get("userToken") is not None:
        _check_user_token(event, "userToken")
    elif identity is None:
        event["userToken"] = login
    elif identity.opted_out:
        return None
    else:
        if login is None and identity.authenticated_user_token is not None:
            login = event["authenticatedUserToken"] = identity.authenticated_user_token
        event["userToken"] = identity.user_token if identity.user_token is not None else login
    if event["userToken"] is None:
        _check_content(event)  # what is wrong with the event itself, is said first
        raise MissingUserTokenError(
            f"nobody to attribute the event{quoted(event.get('eventName'), ' ')} to: no user token is known"
        )
    if event.get("timestamp") is not None:
        _check_timestamp(event)
    elif timestamp is not None:
        event["timestamp"] = timestamp
    _check_content(event)
    if event.get("objectData") is not None:
        event["objectData"] = [dict(data) for data in event["objectData"]]  # the caller's may change
    return event


def without_nones(event: Event) -> Event:
    """The event as it is sent: what is None was meant to be left out."""
    event = {key: value for key, value in event.items() if value is not None}
    if "objectData" in event:
        event["objectData"] = [
            {key: value for key, value in data.items() if value is not None} for data in event["objectData"]
        ]
    return event


def check(event: Mapping[str, Any]) -> None:
    """Check an event against Algolia's rules.

    Raises:
        InvalidEventError: It breaks one; `field` names the field as the API does.
    """
    _check_user_token(event, "userToken")
    if event.get("authenticatedUserToken") is not None:
        _check_user_token(event, "authenticatedUserToken")
    if event.get("timestamp") is not None:
        _check_timestamp(event)
    _check_content(event)


def _check_content(event: Mapping[str, Any]) -> None:
    """Check all but who and when."""
    get = event.get
    name = get("eventName")
    if not (isinstance(name, str) and _is_event_name(name)):
        rule = "must be a string of 1 to 64 printable ASCII characters"
        raise _invalid(event, "eventName", rule + _wrong_in_name(name))
    event_type = get("eventType")
    if event_type == "instantsearch":  # which says no more than that somebody uses it
        if not _INSTANTSEARCH_FIELDS.issuperset(event):
            raise _unknown(event, event, _INSTANTSEARCH_FIELDS)
        return
    index = get("index")
    if not (isinstance(index, str) and index):
        raise _invalid(event, "index", "must be the name of an index")
    if event_type not in ("click", "view", "conversion"):
        raise _invalid(event, "eventType", "must be 'click', 'view' or 'conversion'")
    subtype = get("eventSubtype")
    if subtype is not None and (event_type != "conversion" or subtype not in ("addToCart", "purchase")):
        raise _invalid(event, "eventSubtype", "must be 'addToCart' or 'purchase', on a conversion")
    query_id = get("queryID")
    if query_id is not None and not (isinstance(query_id, str) and _is_query_id(query_id)):
        raise _invalid(event, "queryID", _QUERY_ID_RULE)
    object_ids, filters, positions = get("objectIDs"), get("filters"), get("positions")
    if object_ids is None:
        _check_filters(event, filters, subtype)
    elif filters is not None:
        raise _invalid(event, "filters", "must not stand beside objectIDs")
    else:
        _check_objects(event, object_ids)
    if event_type == "click" and query_id is not None and object_ids is not None:
        _check_positions(event, positions, object_ids)
    elif positions is not None:
        raise _invalid(event, "positions", "belong to a click on objects after a search, with its queryID")
    sources = get("algoliaSource")
    if sources is not None:
        _check_sources(event, sources)
    if subtype is not None:
        _check_purchase(event, object_ids)
    elif _PLAIN_FIELDS.issuperset(event):
        return
    else:
        for field in ("objectData", "value", "currency"):
            if get(field) is not None:
                raise _invalid(event, field, "belongs to an eventSubtype, 'addToCart' or 'purchase'")
    if not _FIELDS.issuperset(event):
        raise _unknown(event, event, _FIELDS)


def milliseconds(timestamp: datetime | int | None) -> int:
    """A time as Algolia takes it: milliseconds since the epoch; None is now.

    Raises:
        InvalidEventError: It is neither an int nor a datetime with a time zone.
    """
    if timestamp is None:
        return int(time.time() * 1000)
    if isinstance(timestamp, datetime):
        if timestamp.utcoffset() is None:
            raise InvalidEventError("timestamp must have a time zone: datetime.now(timezone.utc), say", "timestamp")
        timestamp = (timestamp - _EPOCH) // timedelta(milliseconds=1)
    elif isinstance(timestamp, bool) or not isinstance(timestamp, int):
        raise InvalidEventError(
            f"timestamp must be a datetime or an int of milliseconds, not {type(timestamp).__name__}", "timestamp"
        )
    return timestamp


def event_time(timestamp: datetime | int | None) -> int:
    """When an event happened, in milliseconds since the epoch; None is now.

    Raises:
        InvalidEventError: As `milliseconds`, and for a time more than 30 days ago.
    """
    if timestamp is None:
        return int(time.time() * 1000)
    happened = milliseconds(timestamp)
    _check_timestamp({"timestamp": happened})
    return happened


def _check_user_token(event: Mapping[str, Any], field: str) -> None:
    try:
        validate_user_token(event.get(field))  # type: ignore[arg-type]
    except InvalidUserTokenError as error:
        raise InvalidEventError(f"{field}: {error}", field) from None


def _check_objects(event: Mapping[str, Any], object_ids: Any) -> None:
    if not isinstance(object_ids, (list, tuple)) or not 0 < len(object_ids) <= MAX_OBJECTS:
        raise _invalid(event, "objectIDs", "must be a list of 1 to 20 object IDs")
    for object_id in object_ids:
        if not (isinstance(object_id, str) and object_id):
            raise _invalid(event, "objectIDs", f"must hold non-empty strings, not {_at(object_ids, object_id)}")


def _check_positions(event: Mapping[str, Any], positions: Any, object_ids: Any) -> None:
    if positions is None:
        raise _invalid(event, "positions", "must be given for a click after a search")
    if not isinstance(positions, (list, tuple)):
        raise _invalid(event, "positions", "must be a list")
    if len(positions) != len(object_ids):
        check_same_length("positions", positions, object_ids)
    for position in positions:
        if type(position) is not int or position < 1:
            raise _invalid(
                event, "positions", "must be integers of at least 1: position on the page + page × hitsPerPage"
            )


def _check_sources(event: Mapping[str, Any], sources: Any) -> None:
    if not isinstance(sources, (list, tuple)) or not all(isinstance(source, str) for source in sources):
        raise _invalid(event, "algoliaSource", "must be a list of strings")


def _check_purchase(event: Mapping[str, Any], object_ids: Any) -> None:
    """Check what only purchases and additions to a cart have."""
    value, currency, object_data = event.get("value"), event.get("currency"), event.get("objectData")
    if value is not None and not (_is_number(value) or (isinstance(value, str) and 0 < len(value) <= 16)):
        raise _invalid(event, "value", "must be a number, or a string of at most 16 characters")
    if currency is not None and not (isinstance(currency, str) and _is_currency(currency)):
        raise _invalid(event, "currency", "must be the three letters of ISO 4217, as in 'EUR'")
    if object_data is None:
        return
    if not isinstance(object_data, (list, tuple)):
        raise _invalid(event, "objectData", "must be a list")
    check_same_length("objectData", object_data, object_ids)
    for data in object_data:
        _check_object_data(event, data)


def _check_object_data(event: Mapping[str, Any], data: Any) -> None:
    if not isinstance(data, Mapping):
        raise _invalid(event, "objectData", f"must hold objects, not {_at(event['objectData'], data)}")
    for key in ("price", "discount"):
        amount = data.get(key)
        if amount is not None and not (_is_number(amount) or isinstance(amount, str)):
            raise _invalid(event, f"objectData.{key}", "must be a number or a string")
    quantity, query_id = data.get("quantity"), data.get("queryID")
    if quantity is not None and type(quantity) is not int:
        raise _invalid(event, "objectData.quantity", "must be an integer")
    if query_id is not None and not (isinstance(query_id, str) and _is_query_id(query_id)):
        raise _invalid(event, "objectData.queryID", _QUERY_ID_RULE)
    if not _OBJECT_DATA_FIELDS.issuperset(data):
        raise _unknown(event, data, _OBJECT_DATA_FIELDS, "objectData.")


def _check_filters(event: Mapping[str, Any], filters: Any, subtype: Any) -> None:
    if subtype is not None or filters is None:
        raise _invalid(event, "objectIDs", "must be given" if subtype else "or filters must be given")
    if not isinstance(filters, (list, tuple)) or not 0 < len(filters) <= MAX_OBJECTS:
        raise _invalid(event, "filters", "must be a list of 1 to 20 filters")
    for text in filters:
        if not (isinstance(text, str) and _is_filter(text)):
            raise _invalid(event, "filters", f"must be 'facet:value', URL-encoded, not {_at(filters, text)}")


def _check_timestamp(event: Mapping[str, Any]) -> None:
    timestamp = event["timestamp"]
    if type(timestamp) is not int:
        raise _invalid(event, "timestamp", "must be an integer of milliseconds")
    if timestamp < time.time() * 1000 - MAX_AGE:
        raise _invalid(event, "timestamp", "is more than 30 days ago (it counts milliseconds since 1970)")


def check_same_length(field: str, items: Any, object_ids: Any) -> None:
    if len(items) != len(object_ids):
        raise InvalidEventError(f"{field} has {len(items)} items for {len(object_ids)} objects", field)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    except OverflowError:
        return False


def as_list(field: str, items: Any) -> list[Any]:
    if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
        raise InvalidEventError(f"{field} must be a list, not {kind(items)}", field)
    return list(items)


def _invalid(event: Mapping[str, Any], field: str, rule: str) -> InvalidEventError:
    missing = field in ("eventName", "index", "eventType") and event.get(field) is None
    return InvalidEventError(f"{field} {rule}{' and is missing' if missing else ''}{of_event(event)}", field)


def _unknown(
    event: Mapping[str, Any], fields: Mapping[str, Any], known: frozenset[str], prefix: str = ""
) -> InvalidEventError:
    field = next(field for field in fields if field not in known)
    name = field_name(field)
    if name is None:
        message = f"{prefix.replace('.', ': ')}{kind(field)} is no field of an event{of_event(event)}"
        return InvalidEventError(message, prefix.rstrip(".") or None)
    meant = next((right for right in known if right.lower() == name.replace("_", "").lower()), None)
    hint = f": {meant} is meant" if meant else ""
    return _invalid(event, f"{prefix}{name}", f"is no field of an event{hint}")


# What a message shows of a value. It may end in a log, and the value may be anything: somebody's e-mail address, too.


def kind(value: Any) -> str:
    """The type of a value, and how long a string is."""
    return f"a string of {len(str.__str__(value))} characters" if isinstance(value, str) else type(value).__name__


def _at(items: Any, item: Any) -> str:
    number = next(number for number, one in enumerate(items, start=1) if one is item)
    return f"{kind(item)} at position {number}"


def quoted(name: Any, before: str = "", after: str = "") -> str:
    """The name of an event or an index; nothing where it can't be an event's, or may be an e-mail address."""
    name = str.__str__(name) if isinstance(name, str) else ""
    return f"{before}{name!a}{after}" if _is_event_name(name) and "@" not in name else ""


def of_event(event: Mapping[str, Any]) -> str:
    """Which event a message is about: " (event 'Product Viewed')"."""
    return quoted(event.get("eventName"), " (event ", ")")


def _wrong_in_name(name: Any) -> str:
    if not (isinstance(name, str) and name):
        return ""
    name = str.__str__(name)
    bad = _NOT_PRINTABLE.search(name)
    where = f", and the one at position {bad.start() + 1} is none" if bad else ""
    return f": it has {len(name)}{where}"


def without_json_form(event: Event, error: Exception) -> InvalidEventError:
    """What to raise for an event that could not be encoded.

    The type of `error` is said, and for the usual one which type it met; of other texts none, as they quote the value.
    """
    met = _MET_BY_JSON.fullmatch(str(error)) if type(error) is TypeError else None
    return InvalidEventError(f"the event has no JSON form: {met[0] if met else type(error).__name__}{of_event(event)}")


def field_name(key: Any) -> str | None:
    """The key of a mapping, where it reads like the name of a field; else it is a value in the wrong place."""
    return str.__str__(key) if isinstance(key, str) and _is_field_name(key) else None
