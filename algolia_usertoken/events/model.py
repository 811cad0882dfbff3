"""Makes the events to send from the caller's arguments: builds them, splits long ones, attributes them to a user.

The rules are for exact types. An event that breaks a rule is converted to plain types once, and checked again.
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
    """A pydantic model, such as those of algoliasearch."""

    def model_dump(self, *, by_alias: bool) -> dict[str, Any]:
        """The fields of the model, under the names of the API."""


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
    """Build an event with the fields of the API from a call of one of the twelve methods; arguments as `text.written`.

    The fields that an event after a search must have are present even if they are None; other None fields are left out.
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
    """Split `event` into events of at most 20 objects or filters, each with lists of its own and its share of `value`.

    Raises:
        InvalidEventError: A field that must be a list is not one, or the number of `positions` or `objectData` differs
            from the number of objects.
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
    """Divide the `value` of one purchase among the events into which it was split.

    If each item has a price and a quantity, each event gets the sum of its own items, and the first event also gets the
    part of `value` beyond all these sums. Otherwise the first event gets the whole value.
    """
    if value is None:
        return
    for part in parts:
        part.pop("value", None)
        if "objectData" in part:
            part["objectData"] = [plain_data(item) for item in part["objectData"]]
    value = plain.amount(value)
    shares = plain.shares(value, [part.get("objectData") for part in parts]) or [value]
    for part, its_own in zip(parts, shares):  # noqa: B905 - there may be one share only, for the first part
        part["value"] = its_own


def names_search(object_data: Any) -> bool:
    """Whether ordinary object data has a query ID for at least one object, as `check_after_search` requires."""
    return type(object_data) is list and any(
        type(item) is dict and item.get("queryID") is not None for item in object_data
    )


def check_after_search(event: Event) -> None:
    """Check that an event after a search names the search.

    Raises:
        InvalidEventError: It does not; the error's `field` is `queryID`, or `objectData.queryID` for a purchase.
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
    rule = "is missing: give it for at least one object, or use purchased_object_ids if no search led to any"
    raise invalid(event, "objectData.queryID", rule)


def attributed(event: Mapping[str, Any], identity: Identity | None, timestamp: int | None = None) -> Event | None:
    """A checked copy of `event` with its user token, or None if that visitor opted out.

    If the event lacks `userToken` or `authenticatedUserToken`, they are filled in from `identity`; a missing timestamp
    is filled in from `timestamp` (milliseconds since the epoch). An event with a user token of its own may belong to
    somebody else, so it does not get the login of `identity`.

    Raises:
        InvalidEventError: Algolia would refuse the event; `field` names the field that is wrong.
        MissingUserTokenError: Neither the event nor `identity` has a user token or a login.
    """
    made = attribute(own_copy(event), identity, timestamp)
    if made is not None and type(made.get("objectData")) in (list, tuple):
        made["objectData"] = [item.copy() if type(item) is dict else item for item in made["objectData"]]
    return made


def attribute(event: Event, identity: Identity | None, timestamp: int | None) -> Event | None:
    """Do what `attributed` does, but in place: on a copy that `own_copy` made, or an event without unknown fields."""
    try:
        return _attribute(event, identity, timestamp)
    except MissingUserTokenError:
        raise
    except Exception:  # raised by a rule, or by an object in the event whose class is not ours
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
        check_content(event)  # first, so that an error in the event itself is reported before the missing token
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
    """A time in the form that Algolia accepts: milliseconds since the epoch.

    Raises:
        InvalidEventError: `timestamp` is neither an int nor a datetime with a time zone.
    """
    if isinstance(timestamp, datetime):
        if timestamp.utcoffset() is None:
            raise InvalidEventError("timestamp must have a time zone, as in datetime.now(timezone.utc)", "timestamp")
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
        InvalidEventError: As for `milliseconds`, or the time is more than 30 days ago.
    """
    if timestamp is None:
        return int(time.time() * 1000)
    happened = milliseconds(timestamp)
    check_timestamp({"timestamp": happened})
    return happened
