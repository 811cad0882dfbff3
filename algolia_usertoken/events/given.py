"""Turns the caller's events into events that the rules can check: corrects names, converts values, copies lists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..checks import type_name
from ..errors import InvalidEventError, raised
from . import plain
from .rules import (
    CHECKED,
    CHECKED_OF_ANY,
    CHECKED_OF_PURCHASES,
    FIELDS,
    LONGEST_NAME,
    OBJECT_DATA_FIELDS,
    OF_CONVERSIONS,
    Event,
    described,
    field_name,
    invalid,
    of_event,
    unreadable,
)

_separators = re.compile(r"[_\- ]")
_ANY_FIELD = frozenset(field.lower() for fields in FIELDS.values() for field in fields)


def own_copy(event: Mapping[str, Any]) -> Event:
    """A copy with lists of its own, so that later changes to the caller's event do not matter.

    Fields that such an event does not have are copied in their JSON form. If the name of a field differs only in the
    case of its letters, it is corrected.

    Raises:
        InvalidEventError: The event is not a mapping or can't be read, or it has a name that is nearly the name of a
            field, or the same field twice.
    """
    own = event.copy() if type(event) is dict else _as_dict(event)
    event_type, sources = own.get("eventType"), own.get("algoliaSource")
    checked = CHECKED.get(event_type) if type(event_type) is str else None
    if checked is not None and "eventSubtype" in own:
        checked = _checked(own)
    if checked is None or not checked.issuperset(own) or not (sources is None or _is_list_of_texts(sources)):
        return _put_right(own)
    for field, value in own.items():
        if type(value) is list:
            own[field] = value.copy()
    return own


def batch_copy(body: Any) -> Event:
    """A copy of the body of a request with its `events`; all other fields are copied in their JSON form.

    For a body that is not a mapping, the copy is empty.

    Raises:
        InvalidEventError: Another field has no JSON form, or a name that is nearly `events`.
    """
    if not isinstance(body, Mapping):
        return {}
    own = _renamed(_with_texts_as_keys(_as_dict(body)), frozenset({"events"}))
    return {field: value if field == "events" else _json_form(own, field, value) for field, value in own.items()}


def _as_dict(event: Any) -> dict[Any, Any]:
    try:
        made = plain.mapping(event) if isinstance(event, Mapping) else None
        if made is not None and type(made) is dict:
            return made
        hint = ": give its to_dict()" if hasattr(event, "to_dict") else ""
        failure = InvalidEventError(f"an event must be a mapping, not {type_name(event)}{hint}")
    except Exception as error:
        failure = unreadable(error)
    raise failure


def _put_right(event: dict[Any, Any]) -> Event:
    """The event with corrected field names, and with unknown fields in their JSON form."""
    own = _renamed(_with_texts_as_keys(event), frozenset({"eventType"}))  # first, as it decides which fields exist
    fields = FIELDS.get(_plain_type(own), OF_CONVERSIONS)
    own = _renamed(own, fields, fields | OF_CONVERSIONS if fields is not FIELDS["instantsearch"] else fields)
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
            raise InvalidEventError(f"the name of a field must be a string, not {type_name(key)}{of_event(event)}")
        own[str.__str__(key)] = value
    return own


def _renamed(event: Event, fields: frozenset[str], spelled: frozenset[str] | None = None, prefix: str = "") -> Event:
    """The event, with the names corrected that differ from one of `spelled` (default: `fields`) in the letters' case.

    Raises:
        InvalidEventError: A name resembles one of `fields` but differs in more than case, as snake case does, or two
            names mean the same field.
    """
    spelled = fields if spelled is None else spelled
    right = {field.lower(): field for field in spelled}
    near = {field.lower(): field for field in fields}
    renamed: Event = {}
    for key, value in event.items():
        field = key if key in spelled else right.get(key.lower(), key)
        if field in renamed:
            raise invalid(event, f"{prefix}{field}", "is there twice, in different spellings")
        meant = None if field in spelled else near.get(_bare(key))
        if meant is not None:  # so the name has only the letters of a field and separators, and can be quoted
            name = key if len(key) <= LONGEST_NAME else meant
            raise invalid(event, f"{prefix}{name}", f"is not a field of an event: use {meant}")
        renamed[field] = value
    return renamed


def _bare(name: str) -> str:
    return _separators.sub("", name).lower()


def may_mean_a_field(name: str) -> bool:
    """Whether a name is that of a field of any event, or differs from one only in case and separators."""
    return _bare(name) in _ANY_FIELD


def _plain_type(event: Event) -> str:
    event_type = plain.text(event.get("eventType"))
    return event_type if type(event_type) is str else ""


def _checked(event: Event) -> frozenset[str]:
    """The fields of an event that have rules, and `algoliaSource`, which is checked separately."""
    event_type = _plain_type(event)
    if event_type != "conversion":
        return CHECKED.get(event_type, CHECKED_OF_PURCHASES)
    if event.get("objectIDs") is None:  # a conversion of filters has no subtype
        return CHECKED_OF_ANY
    return CHECKED["conversion"] if event.get("eventSubtype") is None else CHECKED_OF_PURCHASES


def _json_form(event: Event, field: str, value: Any) -> Any:
    try:
        plain.json_form(field)
        return plain.json_form(value)
    except Exception as error:
        why = type(error).__name__
    name = field_name(field)
    raise InvalidEventError(f"{name or 'an unknown field'} has no JSON form: {why}{of_event(event)}", name)


def made_plain(event: Event) -> Event:
    """A copy of the event with values of exact types, as far as their meaning is clear."""
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


def plain_data(item: Any) -> Any:
    """Object data as a dict with corrected field names."""
    data = plain.mapping(item)
    if type(data) is not dict:
        return item
    if all(isinstance(key, str) for key in data):
        data = _renamed(
            {str.__str__(key): value for key, value in data.items()}, OBJECT_DATA_FIELDS, prefix="objectData."
        )
    for field in OBJECT_DATA_FIELDS.intersection(data):
        data[field] = _PLAIN_DATA[field](data[field])
    return data


_PLAIN_DATA = {"price": plain.amount, "discount": plain.amount, "quantity": plain.integer, "queryID": plain.text}
_PLAIN = {
    "objectIDs": _plain_items(plain.object_id),
    "filters": _plain_items(plain.text),
    "positions": _plain_items(plain.integer),
    "objectData": _plain_items(plain_data),
    "timestamp": plain.integer,
    "value": plain.amount,
}


def as_list(field: str, items: Any) -> list[Any]:
    """A new list of the items of a list, a tuple, a generator or another iterable; texts and mappings are refused."""
    if not plain.may_be_list(items):
        raise InvalidEventError(f"{field} must be a list, not {described(items)}", field)
    try:
        found = plain.items(items)
    except Exception as error:
        failure = f"can't be read: {raised(error)}"
    else:
        if found is not None:
            return found
        failure = f"has more than {plain.MAX_ITEMS} items"
    raise InvalidEventError(f"{field} {failure}", field)


def _is_list_of_texts(items: Any) -> bool:
    return type(items) is list and plain.are_texts(items)
