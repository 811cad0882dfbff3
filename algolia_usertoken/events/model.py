"""The Insights events, checked as Algolia checks them.

The events and their fields: https://www.algolia.com/doc/rest-api/insights/push-events. One invalid event makes Algolia
refuse its whole batch (422), so each is checked before it gets near one. What Algolia leaves open is let through: a
field that an event of its type does not have, whatever it holds.

The rules are for exact types: str, int, float, list, dict. What breaks one is made plain once, and checked again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from ..errors import InvalidEventError, InvalidUserTokenError, MissingUserTokenError, UserTokenError, raised
from ..identity import Identity, validate_user_token
from . import plain

Event: TypeAlias = dict[str, Any]
"""An event as the Insights API takes it: camelCase keys, JSON values."""
ObjectID: TypeAlias = str | int | UUID
Amount: TypeAlias = float | str | Decimal


class Model(Protocol):
    """A model of pydantic, as algoliasearch's own."""

    def model_dump(self, *, by_alias: bool) -> dict[str, Any]:
        """What it holds, by the names of the API."""


ObjectData: TypeAlias = Mapping[str, Any] | Model

MAX_OBJECTS = 20
MAX_AGE = 30 * 24 * 60 * 60 * 1000  # milliseconds
_LIST_TYPES = (list, tuple)
_LISTS = ("objectIDs", "filters", "positions", "objectData")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

# The fields that an event of a type has, or that are refused on it: a name that is nearly one of them is a mistake. A
# name whose letters are in another case is put right, as it may be read as the field, also if that is another type's.
_OF_ALL = frozenset({"eventName", "eventType", "userToken", "authenticatedUserToken", "timestamp"})
_OF_CLICKS = _OF_ALL | {"index", "objectIDs", "filters", "positions", "queryID"}
_OF_CONVERSIONS = _OF_CLICKS | {"eventSubtype", "objectData", "value", "currency"}
_FIELDS = {
    "click": _OF_CLICKS,
    "view": _OF_CLICKS,
    "conversion": _OF_CONVERSIONS,
    "instantsearch": _OF_ALL | {"agentID"},
}
# The fields that are checked, on an event of a type; any other may hold any JSON.
_CHECKED_OF_ANY = _OF_CLICKS | {"algoliaSource"}
_CHECKED = {
    "click": _CHECKED_OF_ANY,
    "view": _CHECKED_OF_ANY,
    "conversion": _CHECKED_OF_ANY | {"eventSubtype"},
    "instantsearch": _FIELDS["instantsearch"],
}
_CHECKED_OF_PURCHASES = _CHECKED["conversion"] | {"objectData", "value", "currency"}
_OBJECT_DATA_FIELDS = frozenset({"price", "discount", "quantity", "queryID"})
_separators = re.compile(r"[_\- ]")

_QUERY_ID_RULE = "must be 32 hexadecimal digits in lower case, as in the search response"
_is_query_id = re.compile(r"[0-9a-f]{32}|message_[!-~]{1,120}").fullmatch
_is_search = re.compile(r"[0-9a-f]{32}").fullmatch
# A facet, what stands between (a colon, or the comparison of a rating menu), and a value: as they are, or encoded.
_is_filter = re.compile(
    r"""(?!.*%(?![0-9a-fA-F]{2}))(?:
        [^:<>]+(?: : | [<>](?!=?\Z) ).+
      | (?![:<>]|%3[aceACE]).+?(?: : | %3[aA] | (?:[<>]|%3[ceCE])(?!(?:=|%3[dD])?\Z) ).+
    )""",
    re.DOTALL | re.VERBOSE,
).fullmatch
_is_event_name = lru_cache(re.compile(r"[\x20-\x7e]{1,64}").fullmatch)  # an application has a handful of them
_is_currency = re.compile(r"[A-Za-z]{3}").fullmatch
_MET_BY_JSON = re.compile(r"Object of type \w+ is not JSON serializable|keys must be [\w, ]+")
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")
_LONGEST_NAME = 40
_is_field_name = re.compile(rf"[A-Za-z_]{{1,{_LONGEST_NAME}}}").fullmatch


def split(event: Event) -> list[Event]:
    """`event` as events of at most 20 objects or filters each, in lists of their own, with their shares of `value`.

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
    parts = [
        event | {field: event[field][start : start + MAX_OBJECTS] for field in lists}
        for start in range(0, len(items), MAX_OBJECTS)
    ]
    share(event.get("value"), parts)
    return parts


def share(value: Any, parts: list[Event]) -> None:
    """Write into the events that one purchase has become what of its `value` belongs to each.

    Where each item has a price and a quantity, that is the sum of the event's own, and the first also gets what `value`
    has beyond them all; else the first gets all of it.
    """
    if value is None:
        return
    for part in parts:
        part.pop("value", None)
        if "objectData" in part:
            part["objectData"] = [_plain_data(item) for item in part["objectData"]]
    value = plain.amount(value)
    shares = plain.shares(value, [part.get("objectData") for part in parts]) or [value]
    for part, its_own in zip(parts, shares):  # noqa: B905 - the first alone may have one
        part["value"] = its_own


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
    for number, item in enumerate(data):
        if type(item) is not dict or "queryID" not in item:
            item = data[number] = _plain_data(item)
        if type(item) is dict and item.get("queryID") is not None:
            return
    rule = "must be given for one object at least: the search that led to it. Without any, use purchased_object_ids"
    raise _invalid(event, "objectData.queryID", rule)


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

    What is no field of such an event is in it as JSON has it. A name of a field whose letters are in another case is
    put right.

    Raises:
        InvalidEventError: It is no mapping, or has the name of a field nearly, or twice; or it can't be read.
    """
    own = event.copy() if type(event) is dict else _as_dict(event)
    event_type, sources = own.get("eventType"), own.get("algoliaSource")
    checked = _CHECKED.get(event_type) if type(event_type) is str else None
    if checked is not None and "eventSubtype" in own:
        checked = _checked(own)
    if checked is None or not checked.issuperset(own) or not (sources is None or _is_list_of_texts(sources)):
        return _put_right(own)
    for field, value in own.items():
        if type(value) is list:
            own[field] = value.copy()
    return own


def attribute(event: Event, identity: Identity | None, timestamp: int | None) -> Event | None:
    """As `attributed`, of a copy that was made by `own_copy`, or of an event that has no unknown fields."""
    try:
        return _attribute(event, identity, timestamp)
    except MissingUserTokenError:
        raise
    except Exception:  # of a rule, or of whatever an object of somebody else's raises
        pass
    try:
        return _attribute(_made_plain(event), identity, timestamp)
    except UserTokenError:
        raise
    except Exception as error:
        failure = unreadable(error)
    raise failure


def _attribute(event: Event, identity: Identity | None, timestamp: int | None) -> Event | None:
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
    return event


def without_nones(event: Event) -> Event:
    """The event as it is sent: what is None was meant to be left out."""
    event = {key: value for key, value in event.items() if value is not None}
    data = event.get("objectData")
    if isinstance(data, list | tuple):
        event["objectData"] = [
            {key: value for key, value in item.items() if value is not None} if isinstance(item, dict) else item
            for item in data
        ]
    return event


def check(event: Mapping[str, Any]) -> None:
    """Check an event that says whose it is against Algolia's rules.

    Raises:
        InvalidEventError: It breaks one; `field` names the field as the API does.
    """
    own = own_copy(event)
    _check_user_token(own, "userToken")
    attribute(own, None, None)


def batch_copy(body: Any) -> Event:
    """A copy of the body of a request with its `events`; what stands beside them is in it as JSON has it.

    What is no mapping has none.

    Raises:
        InvalidEventError: What stands beside its `events` has no JSON form, or nearly their name.
    """
    if not isinstance(body, Mapping):
        return {}
    own = _renamed(_with_texts_as_keys(_as_dict(body)), frozenset({"events"}))
    return {field: value if field == "events" else _json_form(own, field, value) for field, value in own.items()}


# Made plain: what is done to an event where something is not as the rules have it.


def _as_dict(event: Any) -> dict[Any, Any]:
    try:
        made = plain.mapping(event) if isinstance(event, Mapping) else None
        if made is not None and type(made) is dict:
            return made
        hint = ": give its to_dict()" if hasattr(event, "to_dict") else ""
        failure = InvalidEventError(f"an event must be a mapping, not {type(event).__name__}{hint}")
    except Exception as error:
        failure = unreadable(error)
    raise failure


def _put_right(event: dict[Any, Any]) -> Event:
    """With the names of its fields put right, and unknown ones as JSON has them."""
    own = _renamed(_with_texts_as_keys(event), frozenset({"eventType"}))  # which says what fields there are
    fields = _FIELDS.get(_plain_type(own), _OF_CONVERSIONS)
    own = _renamed(own, fields, fields | _OF_CONVERSIONS if fields is not _FIELDS["instantsearch"] else fields)
    checked = _checked(own)
    for field, value in own.items():
        if field not in checked or field == "algoliaSource":
            own[field] = _json_form(own, field, value)
        elif type(value) is list:
            own[field] = value.copy()
    return own


def _with_texts_as_keys(event: dict[Any, Any]) -> Event:
    own: Event = {}
    for key, value in event.items():
        if not isinstance(key, str):
            raise InvalidEventError(f"the name of a field must be a string, not {type(key).__name__}{of_event(event)}")
        own[str.__str__(key)] = value
    return own


def _renamed(event: Event, fields: frozenset[str], spelled: frozenset[str] | None = None, prefix: str = "") -> Event:
    """With the names that differ from one of `spelled` (by default `fields`) by the case of letters put right.

    Raises:
        InvalidEventError: One differs from one of `fields` by more, as snake case does, or two are the same field.
    """
    spelled = fields if spelled is None else spelled
    right = {field.lower(): field for field in spelled}
    near = {field.lower(): field for field in fields}
    renamed: Event = {}
    for key, value in event.items():
        field = key if key in spelled else right.get(key.lower(), key)
        if field in renamed:
            raise _invalid(event, f"{prefix}{field}", "is there twice, its letters in another case")
        meant = None if field in spelled else near.get(_separators.sub("", key).lower())
        if meant is not None:  # so its name is no more than this and separators
            name = key if len(key) <= _LONGEST_NAME else meant
            raise _invalid(event, f"{prefix}{name}", f"is no field of an event: {meant} is meant")
        renamed[field] = value
    return renamed


def _plain_type(event: Event) -> str:
    event_type = plain.text(event.get("eventType"))
    return event_type if type(event_type) is str else ""


def _checked(event: Event) -> frozenset[str]:
    """The fields of an event that have rules, and `algoliaSource`, which was looked at."""
    event_type = _plain_type(event)
    if event_type != "conversion":
        return _CHECKED.get(event_type, _CHECKED_OF_PURCHASES)
    if event.get("objectIDs") is None:  # a conversion of filters has no subtype
        return _CHECKED_OF_ANY
    return _CHECKED["conversion"] if event.get("eventSubtype") is None else _CHECKED_OF_PURCHASES


def _json_form(event: Event, field: str, value: Any) -> Any:
    try:
        plain.json_form(field)
        return plain.json_form(value)
    except Exception as error:
        why = type(error).__name__
    name = field_name(field)
    raise InvalidEventError(f"{name or 'an unknown field'} has no JSON form: {why}{of_event(event)}", name)


def _made_plain(event: Event) -> Event:
    """With its values as exact types, as far as there is no doubt what they mean."""
    made = event.copy()
    for field in _checked(event).intersection(event) - {"algoliaSource"}:
        made[field] = _PLAIN.get(field, plain.text)(event[field])
    return made


def _plain_items(each: Any) -> Any:
    def plain_items(values: Any) -> Any:
        if not plain.may_be_list(values):
            return values
        found = plain.items(values)
        return values if found is None else [each(value) for value in found]

    return plain_items


def _plain_data(item: Any) -> Any:
    """Object data as a dict, its names put right."""
    data = plain.mapping(item)
    if type(data) is not dict:
        return item
    if all(isinstance(key, str) for key in data):
        data = _renamed(
            {str.__str__(key): value for key, value in data.items()}, _OBJECT_DATA_FIELDS, prefix="objectData."
        )
    for field in _OBJECT_DATA_FIELDS.intersection(data):
        data[field] = _PLAIN_DATA[field](data[field])
    return data


_PLAIN_DATA = {"price": plain.amount, "discount": plain.amount, "quantity": plain.integer, "queryID": plain.text}
_PLAIN = {
    "objectIDs": _plain_items(plain.object_id),
    "filters": _plain_items(plain.text),
    "positions": _plain_items(plain.integer),
    "objectData": _plain_items(_plain_data),
    "timestamp": plain.integer,
    "value": plain.amount,
}


# The rules.


def _check_content(event: Event) -> None:
    """Check all but who and when."""
    get = event.get
    name = get("eventName")
    if not (type(name) is str and _is_event_name(name)):
        rule = "must be a string of 1 to 64 printable ASCII characters"
        raise _invalid(event, "eventName", rule + _wrong_in_name(name))
    event_type = get("eventType")
    if type(event_type) is str and event_type == "instantsearch":  # which says no more than that somebody uses it
        agent_id = get("agentID")
        if agent_id is not None and not (type(agent_id) is str and agent_id):
            raise _invalid(event, "agentID", "must be a string that is not empty")
        return
    index = get("index")
    if not (type(index) is str and index):
        raise _invalid(event, "index", "must be the name of an index")
    if type(event_type) is not str or event_type not in ("click", "view", "conversion"):
        raise _invalid(event, "eventType", "must be 'click', 'view', 'conversion' or 'instantsearch'")
    query_id = get("queryID")
    if query_id is not None and not (type(query_id) is str and _is_query_id(query_id)):
        raise _invalid(event, "queryID", _QUERY_ID_RULE)
    object_ids, filters, positions = get("objectIDs"), get("filters"), get("positions")
    if object_ids is None:
        _check_filters(event, filters)
    elif filters is not None:
        raise _invalid(event, "filters", "must not stand beside objectIDs")
    else:
        _check_objects(event, object_ids)
    if event_type == "click" and query_id is not None and object_ids is not None:
        _check_positions(event, positions, object_ids)
    elif positions is not None:
        raise _invalid(event, "positions", "belong to a click on objects after a search, with its queryID")
    if event_type == "conversion" and object_ids is not None and get("eventSubtype") is not None:
        _check_purchase(event, object_ids)


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
    elif type(timestamp) is not int:
        number = plain.integer(timestamp)
        if type(number) is not int:
            raise InvalidEventError(
                f"timestamp must be a datetime or an int of milliseconds, not {type(timestamp).__name__}", "timestamp"
            )
        return number
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


def _check_objects(event: Event, object_ids: Any) -> None:
    if type(object_ids) not in _LIST_TYPES or not 0 < len(object_ids) <= MAX_OBJECTS:
        raise _invalid(event, "objectIDs", "must be a list of 1 to 20 object IDs")
    for object_id in object_ids:
        if not (type(object_id) is str and object_id):
            raise _invalid(event, "objectIDs", f"must hold non-empty strings, not {_at(object_ids, object_id)}")


def _check_positions(event: Event, positions: Any, object_ids: Any) -> None:
    if positions is None:
        raise _invalid(event, "positions", "must be given for a click after a search")
    if type(positions) not in _LIST_TYPES:
        raise _invalid(event, "positions", "must be a list")
    if len(positions) != len(object_ids):
        check_same_length("positions", positions, object_ids)
    for position in positions:
        if type(position) is not int or position < 1:
            raise _invalid(
                event, "positions", "must be integers of at least 1: position on the page + page × hitsPerPage"
            )


def _check_purchase(event: Event, object_ids: Any) -> None:
    """Check what only purchases and additions to a cart have."""
    subtype, value, currency = event["eventSubtype"], event.get("value"), event.get("currency")
    if not (type(subtype) is str and subtype in ("addToCart", "purchase")):
        raise _invalid(event, "eventSubtype", "must be 'addToCart' or 'purchase'")
    if value is not None and not (_is_number(value) or (type(value) is str and len(value) <= plain.MAX_AMOUNT)):
        raise _invalid(event, "value", "must be a number, or a string of at most 16 characters" + _if_decimal(value))
    if currency is not None and not (type(currency) is str and _is_currency(currency)):
        raise _invalid(event, "currency", "must be the three letters of ISO 4217, as in 'EUR'")
    object_data = event.get("objectData")
    if object_data is None:
        return
    if type(object_data) not in _LIST_TYPES:
        raise _invalid(event, "objectData", "must be a list")
    check_same_length("objectData", object_data, object_ids)
    own = []
    for data in object_data:
        if type(data) is not dict:
            raise _invalid(event, "objectData", f"must hold objects, not {_at(object_data, data)}")
        own.append(data.copy())  # the caller's may change
        _check_object_data(event, own[-1])
    event["objectData"] = own


def _check_object_data(event: Event, data: dict[Any, Any]) -> None:
    get = data.get
    for key in ("price", "discount"):
        amount = get(key)
        if amount is not None and not (_is_number(amount) or type(amount) is str):
            raise _invalid(event, f"objectData.{key}", "must be a number or a string" + _if_decimal(amount))
    quantity, query_id = get("quantity"), get("queryID")
    if quantity is not None and not (type(quantity) is int and -(2**31) <= quantity < 2**31):
        raise _invalid(event, "objectData.quantity", "must be an integer of 32 bits")
    if query_id is not None and not (type(query_id) is str and _is_search(query_id)):
        raise _invalid(event, "objectData.queryID", _QUERY_ID_RULE)
    if not _OBJECT_DATA_FIELDS.issuperset(data):
        raise _unknown_in_data(event, data)


def _check_filters(event: Event, filters: Any) -> None:
    if filters is None:
        raise _invalid(event, "objectIDs", "or filters must be given")
    if type(filters) not in _LIST_TYPES or not 0 < len(filters) <= MAX_OBJECTS:
        raise _invalid(event, "filters", "must be a list of 1 to 20 filters")
    for text in filters:
        if not (type(text) is str and _is_filter(text)):
            raise _invalid(event, "filters", f"must be 'facet:value', URL-encoded, not {_at(filters, text)}")


def _check_timestamp(event: Mapping[str, Any]) -> None:
    timestamp = event["timestamp"]
    if type(timestamp) is not int or timestamp >= 2**63:
        raise _invalid(event, "timestamp", "must be an integer of milliseconds")
    if timestamp < time.time() * 1000 - MAX_AGE:
        raise _invalid(event, "timestamp", "is more than 30 days ago (it counts milliseconds since 1970)")


def check_same_length(field: str, items: Any, object_ids: Any) -> None:
    if len(items) != len(object_ids):
        raise InvalidEventError(f"{field} has {len(items)} items for {len(object_ids)} objects", field)


def _is_number(value: Any) -> bool:
    try:
        return (type(value) is float or type(value) is int) and isfinite(value)
    except OverflowError:
        return False


def _is_list_of_texts(items: Any) -> bool:
    return type(items) is list and plain.are_texts(items)


def _if_decimal(amount: Any) -> str:
    """What to do with an amount that fits neither a number nor a short text."""
    if not (isinstance(amount, Decimal) and amount.is_finite()):
        return ""
    return ": this Decimal has more digits than fit, so round it first, as in round(amount, 2)"


def as_list(field: str, items: Any) -> list[Any]:
    """A list of its own of what is in one, a tuple, a generator or another iterable, but for texts and mappings."""
    if not plain.may_be_list(items):
        raise InvalidEventError(f"{field} must be a list, not {kind(items)}", field)
    try:
        found = plain.items(items)
    except Exception as error:
        failure = f"can't be read: {raised(error)}"
    else:
        if found is not None:
            return found
        failure = f"has more than {plain.MAX_ITEMS} items"
    raise InvalidEventError(f"{field} {failure}", field)


def _invalid(event: Mapping[str, Any], field: str, rule: str) -> InvalidEventError:
    missing = field in ("eventName", "index", "eventType") and event.get(field) is None
    return InvalidEventError(f"{field} {rule}{' and is missing' if missing else ''}{of_event(event)}", field)


def _unknown_in_data(event: Event, data: dict[Any, Any]) -> InvalidEventError:
    unknown = next(field for field in data if field not in _OBJECT_DATA_FIELDS)
    name = field_name(unknown)
    if name is None:
        return InvalidEventError(f"objectData: {kind(unknown)} is no field of an event{of_event(event)}", "objectData")
    return _invalid(event, f"objectData.{name}", "is no field of an event")


def unreadable(error: Exception) -> InvalidEventError:
    """What to raise for an event that can't be read, as one of its objects raises an error."""
    return InvalidEventError(f"the event can't be read: {raised(error)}")


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
