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
from functools import lru_cache
from math import isfinite
from typing import Any, TypeAlias

from ..errors import InvalidEventError
from ..identity import Identity
from . import plain
from .given import may_mean_a_field
from .rules import (
    OF_CONVERSIONS,
    OF_OBJECTS,
    SUBTYPES,
    TYPES_ABOUT_OBJECTS,
    Event,
    amount_text,
    filters_text,
    is_currency,
    is_event_name,
    is_hexadecimal,
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

Ordinary: TypeAlias = tuple[str, str | None, str | None, int | None]
"""The text of an ordinary event without its end, and its own `userToken`, `authenticatedUserToken` and `timestamp`."""


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


def written_event(event: object) -> Ordinary | None:
    """Read an event that was given as a dict; None if it is not an ordinary one, whether it is valid or not."""
    if type(event) is not dict:
        return None
    get = event.get
    event_type, name = get("eventType"), get("eventName")
    if type(event_type) is not str:
        return None
    if event_type == "instantsearch":
        return _written_usage(event, name)
    field, items = "objectIDs", get("objectIDs")
    if items is None:
        field, items = "filters", get("filters")
    # Most events have few fields. They are counted, so that no others are looked for once all were read.
    unread = len(event) - 4
    if not unread:
        text = written(event_type, None, name, get("index"), field, items)
        return None if text is None else (text, None, None, None)
    subtype, query_id = get("eventSubtype"), get("queryID")
    if subtype is None:
        positions = get("positions")
        unread -= (query_id is not None) + (positions is not None)
        text = written(event_type, None, name, get("index"), field, items, positions, query_id)
    else:
        data, value, currency = get("objectData"), get("value"), get("currency")
        unread -= 1 + (query_id is not None) + (data is not None) + (value is not None) + (currency is not None)
        text = written(event_type, subtype, name, get("index"), field, items, None, query_id, data, value, currency)
    if text is None:
        return None
    if unread == 1 and type(source := get("algoliaSource")) is list:  # all events of InstantSearch have it
        texts = texts_text(source)
        if texts is not None:
            return f'{text},"algoliaSource":[{texts}]', None, None, None
    return _with_unread(event, text, unread) if unread else (text, None, None, None)


def _written_usage(event: Event, name: Any) -> Ordinary | None:
    """Do what `written_event` does, for an event that only says that somebody uses InstantSearch."""
    if type(name) is not str:
        return None
    start = _starts_of_usage.get(name)
    if start is None:
        if not is_event_name(name):
            return None
        start = _remember(_starts_of_usage, name, f'{{"eventType":"instantsearch","eventName":{scalar_text(name)}')
    agent: Any = event.get("agentID")
    if agent is not None and not is_text(agent):
        return None
    if len(event) == 3 and agent is not None:
        return f'{start},"agentID":{scalar_text(agent)}', None, None, None
    return _with_unread(event, start, len(event) - 2) if OF_OBJECTS.isdisjoint(event) else None


def _with_unread(event: Event, text: str, unread: int) -> Ordinary | None:
    """Add to the text of an event what is not in it yet, where `unread` fields of the event were not read."""
    get = event.get
    user_token, login, timestamp = get("userToken"), get("authenticatedUserToken"), get("timestamp")
    if not (
        (user_token is None or is_user_token(user_token))
        and (login is None or is_user_token(login))
        and (timestamp is None or is_timestamp(timestamp))
    ):
        return None
    unread -= (user_token is not None) + (login is not None) + (timestamp is not None)
    if unread:
        more = _unknown_text(event, unread)
        if more is None:
            return None
        text += more
    return text, user_token, login, timestamp


def _unknown_text(event: Event, unread: int) -> str | None:
    """The text of the fields without a rule, each preceded by a comma.

    Returns None if their names may mean other fields, or if not all of the `unread` fields are such fields or None.
    """
    text = ""
    for name, value in list(event.items()):  # a copy, as the conversion of a value may run code that is not ours
        if value is None:
            unread -= 1
        if name in OF_CONVERSIONS:
            continue
        start = (_unknown.get(name) or _start_of_unknown(name)) if type(name) is str else None
        if start is None:
            return None
        if value is not None:
            try:
                text = f"{text}{start}{_text_of_unknown(value)}"
            except Exception:  # raised by an object in the event whose class is not ours
                return None
            unread -= 1
    return None if unread else text


def written(
    event_type: str,
    subtype: Any,
    name: Any,
    index: Any,
    field: str,
    items: Any,
    positions: Any = None,
    query_id: Any = None,
    object_data: Any = None,
    value: Any = None,
    currency: Any = None,
) -> str | None:
    """The text of an ordinary event without its end, for `ended`; None for any other event, whether valid or not.

    Args:
        event_type, subtype: `eventType` and `eventSubtype`.
        name, index: `eventName` and `index`.
        field: The name of the field that holds `items`: "objectIDs" or "filters".
        items, positions, query_id: The values of the other fields; None is left out.
        object_data, value, currency: As before; they are only looked at if there is a `subtype`.
    """
    if type(name) is not str or type(index) is not str or not (subtype is None or type(subtype) is str):
        return None
    start = _starts.get((event_type, subtype, name, index, field)) or _start(event_type, subtype, name, index, field)
    about = object_ids_text(items) if field == "objectIDs" else filters_text(items)
    if start is None or about is None:
        return None
    more = ""
    if query_id is not None:
        query = query_id_text(query_id)
        if query is None:
            return None
        if event_type == "click" and field == "objectIDs":
            places = positions_text(positions, len(items))
            if places is None:
                return None
            more, positions = f',"queryID":{query},"positions":[{places}]', None
        else:
            more = f',"queryID":{query}'
    if positions is not None:  # an event of this kind must have no positions
        return None
    if subtype is not None:
        of_purchase = _of_purchase(object_data, value, currency, len(items))
        if of_purchase is None:
            return None
        more += of_purchase
    return f"{start}{about}]{more}"


def ended(ordinary: Ordinary, identity: Identity | None, timestamp: int) -> bytes | None:
    """Complete the text of an ordinary event.

    Args:
        ordinary: What `written_event` returned.
        identity: The user of an event that has no `userToken`.
        timestamp: The time of an event that has no `timestamp`, in milliseconds since the epoch.

    Returns:
        The text; empty if this visitor opted out, so that nothing may be sent. None if the event must take the slow
        path.
    """
    text, user_token, login, happened = ordinary
    if user_token is None:
        if identity is None:
            return None
        if identity.opted_out:
            return b"" if text.isascii() else None  # a lone surrogate is refused first
        user_token = identity.user_token
        if user_token is None:
            return None
        login = identity.authenticated_user_token if login is None else login
    if login is not None:
        text = f'{text},"authenticatedUserToken":"{login}"'
    try:
        return f'{text},"userToken":"{user_token}","timestamp":{timestamp if happened is None else happened}}}'.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return None


# Caches of texts that are written again and again: an application has few kinds of events, indices and unknown fields.
_starts: dict[tuple[str, str | None, str, str, str], str] = {}
_starts_of_usage: dict[str, str] = {}
_unknown: dict[str, str] = {}
_price = lru_cache(1_024)(float.__repr__)  # the prices of a shop recur; not for zero, as 0.0 and -0.0 are one key


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
    data = amount = ""
    if object_data is not None:
        texts = _object_data_texts(object_data, number)
        if texts is None:
            return None
        data = f',"objectData":[{texts}]'
    if value is not None:
        total = repr(value) if type(value) is float and isfinite(value) else value_text(value)
        if total is None:
            return None
        amount = f',"value":{total}'
    if currency is None:
        return data + amount
    return f'{data}{amount},"currency":"{currency}"' if is_currency(currency) else None


def _object_data_texts(items: Any, number: int) -> str | None:
    """The JSON of a list of object data, without the brackets; None if it is no such list, or not of `number` items."""
    if type(items) is not list or len(items) != number:
        return None
    texts: list[str] = []
    searches: list[str] = []  # query IDs of the right length; faster to check in one go
    search: Any
    for data in items:
        if type(data) is not dict:
            return None
        # Nearly all objects have a price and a quantity. They are written here, as there may be twenty of them;
        # `object_data_text` does the same field by field, with any fields.
        price, quantity, search = data.get("price"), data.get("quantity"), data.get("queryID")
        amount = _price(price) if type(price) is float and price and isfinite(price) else amount_text(price)
        text = None
        if amount is not None and type(quantity) is int and -(2**31) <= quantity < 2**31:
            unread = len(data) - 2
            has_search = type(search) is str and len(search) == 32
            if has_search:
                searches.append(search)
                unread -= 1
            if not unread:
                text = (
                    f'{{"price":{amount},"quantity":{quantity},"queryID":"{search}"}}'
                    if has_search
                    else f'{{"price":{amount},"quantity":{quantity}}}'
                )
            elif unread == 1:
                off = data.get("discount")
                less = _price(off) if type(off) is float and off and isfinite(off) else amount_text(off)
                if less is not None:
                    text = (
                        f'{{"price":{amount},"discount":{less},"quantity":{quantity},"queryID":"{search}"}}'
                        if has_search
                        else f'{{"price":{amount},"discount":{less},"quantity":{quantity}}}'
                    )
        if text is None:
            text = object_data_text(data)
            if text is None:
                return None
        texts.append(text)
    return ",".join(texts) if not searches or is_hexadecimal("".join(searches)) else None


def _without_json_form(event: Event, error: Exception) -> InvalidEventError:
    """The error to raise for an event that could not be encoded.

    Its message names the type of `error`, and for the usual `TypeError` the type of the value. The texts of other
    errors are left out, because they may quote the value.
    """
    met = _MET_BY_JSON.fullmatch(str(error)) if type(error) is TypeError else None
    why = met[0] if met else type(error).__name__
    return InvalidEventError(f"the event has no JSON form: {why}{of_event(event)}")
