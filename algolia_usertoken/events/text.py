"""The JSON text of an event, in UTF-8 and without nulls: in this form an event waits until it is delivered.

This module writes an ordinary event, of exact types, field by field, and checks each field by its rule first. An
unknown field is written in its JSON form, unless its name is nearly that of a known field. The text is a copy already,
so nothing else needs to be copied. Any other event takes the slow path: it is converted to plain types and checked as a
dict (`model`), and then encoded.
"""

from __future__ import annotations

import json
import json.encoder
import re
from collections.abc import Collection, Mapping
from math import isfinite
from typing import Any

from ..errors import InvalidEventError
from ..identity import Identity
from . import plain
from .given import may_mean_a_field
from .rules import (
    FIELDS,
    OF_CONVERSIONS,
    SUBTYPES,
    TYPES_ABOUT_OBJECTS,
    Event,
    filters_text,
    is_currency,
    is_event_name,
    is_text,
    is_timestamp,
    is_user_token,
    object_data_text,
    object_ids_text,
    of_event,
    positions_text,
    query_id_text,
    scalar_text,
    texts_text,
    value_text,
)

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False).encode
_MET_BY_JSON = re.compile(r"Object of type \w+ is not JSON serializable|keys must be [\w, ]+")


def encoded(event: Event) -> bytes:
    """The JSON text of an event that was checked and attributed.

    Raises:
        InvalidEventError: The event has no JSON text, because one of its strings is not valid Unicode, for example.
    """
    try:
        return _encode(without_nones(event)).encode()
    except Exception as error:
        failure = _without_json_form(event, error)
    raise failure  # not chained: the original error holds the text


def without_nones(event: Event) -> Event:
    """The event as it is sent: without the fields that are None."""
    event = {key: value for key, value in event.items() if value is not None}
    data = event.get("objectData")
    if isinstance(data, list | tuple):
        event["objectData"] = [
            {key: value for key, value in item.items() if value is not None} if isinstance(item, dict) else item
            for item in data
        ]
    return event


def unknown_fields(event: object) -> Collection[str] | None:
    """The names of the fields without a rule, for `written_event`; None if the event must take the slow path.

    An event takes the slow path if it is not a dict, or if a name in it is nearly the name of a known field.
    """
    if type(event) is not dict:
        return None
    if OF_CONVERSIONS.issuperset(event):
        return ()
    names = [name for name in event if name not in OF_CONVERSIONS]
    for name in names:
        if type(name) is not str or (name not in _unknown and _start_of_unknown(name) is None):
            return None
    return names


def written_event(
    event: Mapping[str, Any], identity: Identity | None, timestamp: int, unknown: Collection[str] = ()
) -> bytes | None:
    """Do what `written` does, for an event with the fields `unknown`; its own user token and timestamp come first."""
    get = event.get
    event_type, subtype = get("eventType"), get("eventSubtype")
    if type(event_type) is not str or not (subtype is None or type(subtype) is str):
        return None
    user_token, login, happened = get("userToken"), get("authenticatedUserToken"), get("timestamp")
    if not (
        (user_token is None or is_user_token(user_token))
        and (login is None or is_user_token(login))
        and (happened is None or is_timestamp(happened))
    ):
        return None
    if user_token is None:
        if identity is None or identity.opted_out or identity.user_token is None:
            return None
        user_token = identity.user_token
        login = identity.authenticated_user_token if login is None else login
    if happened is None:
        happened = timestamp
    more = ""
    if unknown:
        try:
            for name in unknown:
                if (value := event[name]) is not None:
                    more = f"{more}{_unknown.get(name) or _start_of_unknown(name)}{_text_of_unknown(value)}"
        except Exception:  # raised by an object in the event whose class is not ours
            return None
    if event_type == "instantsearch":
        return _written_usage(event, unknown, more, user_token, login, happened)
    field, items = "objectIDs", get("objectIDs")
    if items is None:
        field, items = "filters", get("filters")
    elif get("filters") is not None:
        return None
    return written(
        event_type,
        subtype,
        get("eventName"),
        get("index"),
        field,
        items,
        get("positions"),
        get("queryID"),
        get("objectData"),
        get("value"),
        get("currency"),
        user_token,
        login,
        happened,
        more,
    )


def _written_usage(
    event: Mapping[str, Any],
    unknown: Collection[str],
    more: str,
    user_token: str,
    login: str | None,
    timestamp: int,
) -> bytes | None:
    """Do what `written` does, for an event that only says that somebody uses InstantSearch."""
    name: Any = event.get("eventName")
    agent = event.get("agentID")
    known = event.keys() - unknown
    if not (FIELDS["instantsearch"].issuperset(known) and is_event_name(name) and (agent is None or is_text(agent))):
        return None
    return _ended(f'{{"eventType":"instantsearch","eventName":{scalar_text(name)}{more}', user_token, login, timestamp)


def written(
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
    user_token: str,
    login: str | None,
    timestamp: int,
    unknown: str = "",
) -> bytes | None:
    """The text of an ordinary event; None for any other event, whether it is valid or not.

    Args:
        event_type, subtype: `eventType` and `eventSubtype`.
        name, index: `eventName` and `index`.
        field: The name of the field that holds `items`: "objectIDs" or "filters".
        items, positions, query_id, object_data, value, currency: The values of the other fields; None is left out.
        user_token, login, timestamp: `userToken`, `authenticatedUserToken` and `timestamp`, checked already.
        unknown: The text of further fields, each preceded by a comma.
    """
    if type(name) is not str or type(index) is not str:
        return None
    start = _starts.get((event_type, subtype, name, index, field))
    if start is None:
        start = _start(event_type, subtype, name, index, field)
    about = object_ids_text(items) if field == "objectIDs" else filters_text(items)
    if start is None or about is None:
        return None
    if query_id is None:
        more = ""
    elif (query := query_id_text(query_id)) is None:
        return None
    elif field == "objectIDs" and event_type == "click":
        places = positions_text(positions, len(items))
        if places is None:
            return None
        more, positions = f',"queryID":{query},"positions":[{places}]', None
    else:
        more = f',"queryID":{query}'
    if positions is not None:  # an event of this kind must have no positions
        return None
    if object_data is not None or value is not None or currency is not None:
        of_purchase = None if subtype is None else _of_purchase(object_data, value, currency, len(items))
        if of_purchase is None:
            return None
        more += of_purchase
    return _ended(f"{start}{about}]{more}{unknown}", user_token, login, timestamp)


def _ended(text: str, user_token: str, login: str | None, timestamp: int) -> bytes | None:
    if login is not None:
        text = f'{text},"authenticatedUserToken":"{login}"'
    try:
        return f'{text},"userToken":"{user_token}","timestamp":{timestamp}}}'.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return None


# Caches of texts that are written again and again: an application has few kinds of events, indices and unknown fields.
_starts: dict[tuple[str, str | None, str, str, str], str] = {}
_unknown: dict[str, str] = {}


def _remember(texts: dict[Any, str], key: Any, text: str) -> str:
    if len(text) <= 500:  # longer texts may come from outside and would fill the memory
        if len(texts) >= 1_000:
            texts.clear()
        texts[key] = text
    return text


def _start(event_type: str, subtype: str | None, name: str, index: str, field: str) -> str | None:
    if event_type not in TYPES_ABOUT_OBJECTS or not (is_event_name(name) and is_text(index)):
        return None
    text = f'{{"eventType":"{event_type}"'
    if subtype is not None:
        if event_type != "conversion" or field != "objectIDs" or subtype not in SUBTYPES:
            return None
        text += f',"eventSubtype":"{subtype}"'
    text = f'{text},"eventName":{scalar_text(name)},"index":{scalar_text(index)},"{field}":['
    return _remember(_starts, (event_type, subtype, name, index, field), text)


def _start_of_unknown(name: str) -> str | None:
    """A comma, the name of an unknown field, and a colon; None if the name may mean a known field."""
    if name != "agentID" and may_mean_a_field(name):
        return None
    return _remember(_unknown, name, f",{scalar_text(name)}:")


def _text_of_unknown(value: Any) -> str:
    kind = type(value)
    if kind is str or kind is int or (kind is float and isfinite(value)):
        return scalar_text(value)
    if kind is list and (texts := texts_text(value)) is not None:
        return f"[{texts}]"
    return plain.json_text(value)


def _of_purchase(object_data: Any, value: Any, currency: Any, number: int) -> str | None:
    text = ""
    if object_data is not None:
        if type(object_data) is not list or len(object_data) != number:
            return None
        texts = [each for data in object_data if (each := object_data_text(data)) is not None]
        if len(texts) != number:
            return None
        text = f',"objectData":[{",".join(texts)}]'
    if value is not None:
        amount = value_text(value)
        if amount is None:
            return None
        text = f'{text},"value":{amount}'
    if currency is not None:
        if not is_currency(currency):
            return None
        text = f'{text},"currency":"{currency}"'
    return text


def _without_json_form(event: Event, error: Exception) -> InvalidEventError:
    """The error to raise for an event that could not be encoded.

    Its message names the type of `error`, and for the usual `TypeError` the type of the value. The texts of other
    errors are left out, because they may quote the value.
    """
    met = _MET_BY_JSON.fullmatch(str(error)) if type(error) is TypeError else None
    why = met[0] if met else type(error).__name__
    return InvalidEventError(f"the event has no JSON form: {why}{of_event(event)}")
