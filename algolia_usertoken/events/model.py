"""Events, from what was given to what is sent: built, split where they are long, and attributed to somebody.

The rules are for exact types. What breaks one is made plain once, and checked again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from ..errors import InvalidEventError, MissingUserTokenError, UserTokenError
from ..identity import Identity
from . import plain
from .given import as_list, made_plain, own_copy, plain_data
from .rules import (
    MAX_OBJECTS,
    Event,
    check_content,
    check_same_length,
    check_timestamp,
    check_user_token,
    invalid,
    quoted,
    unreadable,
)

ObjectID: TypeAlias = str | int | UUID
Amount: TypeAlias = float | str | Decimal


class Model(Protocol):
    """A model of pydantic, as algoliasearch's own."""

    def model_dump(self, *, by_alias: bool) -> dict[str, Any]:
        """What it holds, by the names of the API."""


ObjectData: TypeAlias = Mapping[str, Any] | Model

_LISTS = ("objectIDs", "filters", "positions", "objectData")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def new_event(
    event_type: str,
    subtype: str | None,
    name: Any,
    index: Any,
    field: str,
    items: Any,
    positions: Any,
    query_id: Any,
    object_data: Any,
    value: Any,
    currency: Any,
    after_search: bool,
) -> Event:
    """An event with the fields of the API, as one of the twelve methods was called; they are those of `text.written`.

    What an event after a search must have is there, even if it is None, and what is None otherwise is not.
    """
    event: Event = {"eventType": event_type, "eventName": name, "index": index, field: items}
    if after_search and subtype == "purchase":
        event["objectData"] = object_data
    elif after_search:
        event["queryID"] = query_id
    if after_search and event_type == "click":
        event["positions"] = positions
    more = {"eventSubtype": subtype, "objectData": object_data, "value": value, "currency": currency}
    return event | {name: each for name, each in more.items() if each is not None}


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
            part["objectData"] = [plain_data(item) for item in part["objectData"]]
    value = plain.amount(value)
    shares = plain.shares(value, [part.get("objectData") for part in parts]) or [value]
    for part, its_own in zip(parts, shares):  # noqa: B905 - the first alone may have one
        part["value"] = its_own


def names_search(object_data: Any) -> bool:
    """Whether ordinary object data names a search for one object at least, as `check_after_search` wants it."""
    return type(object_data) is list and any(
        type(item) is dict and item.get("queryID") is not None for item in object_data
    )


def check_after_search(event: Event) -> None:
    """Check that an event after a search names the search.

    Raises:
        InvalidEventError: It does not; `field` is `queryID`, or `objectData.queryID` for a purchase.
    """
    if "objectData" not in event or "queryID" in event:
        if event.get("queryID") is None:
            raise invalid(event, "queryID", "is missing: search with clickAnalytics to get one")
        return
    data = event["objectData"] = as_list("objectData", event["objectData"])
    for number, item in enumerate(data):
        if type(item) is not dict or "queryID" not in item:
            item = data[number] = plain_data(item)
        if type(item) is dict and item.get("queryID") is not None:
            return
    rule = "is missing: give it for one object at least, or use purchased_object_ids where no search led to any"
    raise invalid(event, "objectData.queryID", rule)


def attributed(event: Mapping[str, Any], identity: Identity | None, timestamp: int | None = None) -> Event | None:
    """A checked copy of `event` that says whose it is, or None where that visitor opted out.

    `userToken` and `authenticatedUserToken` are filled in from `identity` where the event has none, and `timestamp`
    (milliseconds since the epoch) likewise. An event with a user token of its own is somebody else's, and gets no login
    from here.

    Raises:
        InvalidEventError: Algolia would refuse it; `field` says why.
        MissingUserTokenError: Neither the event nor `identity` says whose it is.
    """
    made = attribute(own_copy(event), identity, timestamp)
    if made is not None and type(made.get("objectData")) in (list, tuple):
        made["objectData"] = [item.copy() if type(item) is dict else item for item in made["objectData"]]
    return made


def attribute(event: Event, identity: Identity | None, timestamp: int | None) -> Event | None:
    """As `attributed`, of a copy that was made by `own_copy`, or of an event that has no unknown fields."""
    try:
        return _attribute(event, identity, timestamp)
    except MissingUserTokenError:
        raise
    except Exception:  # of a rule, or of whatever an object of somebody else's raises
        pass
    try:
        return _attribute(made_plain(event), identity, timestamp)
    except UserTokenError:
        raise
    except Exception as error:
        failure = unreadable(error)
    raise failure


def _attribute(event: Event, identity: Identity | None, timestamp: int | None) -> Event | None:
    login = event.get("authenticatedUserToken")
    if login is not None:
        check_user_token(event, "authenticatedUserToken")
    if event.get("userToken") is not None:
        check_user_token(event, "userToken")
    elif identity is None:
        event["userToken"] = login
    elif identity.opted_out:
        return None
    else:
        if login is None and identity.authenticated_user_token is not None:
            login = event["authenticatedUserToken"] = identity.authenticated_user_token
        event["userToken"] = identity.user_token if identity.user_token is not None else login
    if event["userToken"] is None:
        check_content(event)  # what is wrong with the event itself, is said first
        raise MissingUserTokenError(
            f"nobody to attribute the event{quoted(event.get('eventName'), ' ')} to: no user token is known"
        )
    if event.get("timestamp") is not None:
        check_timestamp(event)
    elif timestamp is not None:
        event["timestamp"] = timestamp
    check_content(event)
    return event


def milliseconds(timestamp: datetime | int) -> int:
    """A time as Algolia takes it: milliseconds since the epoch.

    Raises:
        InvalidEventError: It is neither an int nor a datetime with a time zone.
    """
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
    check_timestamp({"timestamp": happened})
    return happened
