"""Events as they are given, made into what the rules are for: names put right, values plain, lists of their own."""

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
    """A copy with lists of its own: what the caller does to the event later changes nothing.

    What is no field of such an event is in it as JSON has it. A name of a field whose letters are in another case is
    put right.

    Raises:
        InvalidEventError: It is no mapping, or has the name of a field nearly, or twice; or it can't be read.
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
    """A copy of the body of a request with its `events`; what stands beside them is in it as JSON has it.

    What is no mapping has none.

    Raises:
        InvalidEventError: What stands beside its `events` has no JSON form, or nearly their name.
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
    """With the names of its fields put right, and unknown ones as JSON has them."""
    own = _renamed(_with_texts_as_keys(event), frozenset({"eventType"}))  # which says what fields there are
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
            raise invalid(event, f"{prefix}{field}", "is there twice, its letters in another case")
        meant = None if field in spelled else near.get(_bare(key))
        if meant is not None:  # so its name is no more than this and separators
            name = key if len(key) <= LONGEST_NAME else meant
            raise invalid(event, f"{prefix}{name}", f"is no field of an event: {meant} is meant")
        renamed[field] = value
    return renamed


def _bare(name: str) -> str:
    return _separators.sub("", name).lower()


def may_mean_a_field(name: str) -> bool:
    """Whether a name is nearly that of a field, of an event of whichever type, or is one."""
    return _bare(name) in _ANY_FIELD


def _plain_type(event: Event) -> str:
    event_type = plain.text(event.get("eventType"))
    return event_type if type(event_type) is str else ""


def _checked(event: Event) -> frozenset[str]:
    """The fields of an event that have rules, and `algoliaSource`, which was looked at."""
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


def plain_data(item: Any) -> Any:
    """Object data as a dict, its names put right."""
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
    """A list of its own of what is in one, a tuple, a generator or another iterable, but for texts and mappings."""
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
