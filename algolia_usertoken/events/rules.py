"""The rules for what Algolia accepts as an Insights event, and the messages for events that break them.

The events and their fields: https://www.algolia.com/doc/rest-api/insights/push-events. One invalid event makes Algolia
refuse its whole batch (422), so each event is checked before it can enter a batch. What Algolia leaves open is
accepted: a field that an event of its type does not have may hold anything.

The rules are for exact types: str, int, float, list, dict.
"""

from __future__ import annotations

import json.encoder
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from math import isfinite
from typing import Any, TypeAlias

from .. import identity
from ..checks import type_name
from ..errors import InvalidEventError, InvalidUserTokenError, raised
from . import plain

Event: TypeAlias = dict[str, Any]
"""An event as the Insights API takes it: camelCase keys, JSON values."""

MAX_EVENTS = 1000  # in one request
MAX_OBJECTS = 20
MAX_AGE_MS = 30 * 24 * 60 * 60 * 1000
_LIST_TYPES = (list, tuple)

# The fields that an event of a type has, or that are refused on it. A name that is nearly one of them is a mistake. A
# name that differs only in the case of its letters is corrected, even if the field belongs to another type, because a
# reader may take it for the field.
_OF_ALL = frozenset({"eventName", "eventType", "userToken", "authenticatedUserToken", "timestamp"})
_OF_CLICKS = _OF_ALL | {"index", "objectIDs", "filters", "positions", "queryID"}
OF_CONVERSIONS = _OF_CLICKS | {"eventSubtype", "objectData", "value", "currency"}
OF_OBJECTS = OF_CONVERSIONS - _OF_ALL  # an event that only says that somebody uses InstantSearch has none of them
FIELDS = {
    "click": _OF_CLICKS,
    "view": _OF_CLICKS,
    "conversion": OF_CONVERSIONS,
    "instantsearch": _OF_ALL | {"agentID"},
}
# The fields that are checked on an event of each type; any other field may hold any JSON.
CHECKED_OF_ANY = _OF_CLICKS | {"algoliaSource"}
CHECKED = {
    "click": CHECKED_OF_ANY,
    "view": CHECKED_OF_ANY,
    "conversion": CHECKED_OF_ANY | {"eventSubtype"},
    "instantsearch": FIELDS["instantsearch"],
}
CHECKED_OF_PURCHASES = CHECKED["conversion"] | {"objectData", "value", "currency"}
OBJECT_DATA_FIELDS = frozenset({"price", "discount", "quantity", "queryID"})
TYPES_ABOUT_OBJECTS = ("click", "view", "conversion")  # or about filters
SUBTYPES = ("addToCart", "purchase")  # of a conversion on objects

_QUERY_ID_RULE = "must be 32 hexadecimal digits in lower case, as in the search response"
_is_user_token = identity.USER_TOKEN.fullmatch
_is_query_id = re.compile(r"[0-9a-f]{32}|message_[!-~]{1,120}").fullmatch
_from_hex = bytes.fromhex
# A facet, a separator (a colon, or the comparison of a rating menu), and a value; as they are, or URL-encoded.
_is_filter = re.compile(
    r"""[^:<>%]+:[^%]+ | (?!.*%(?![0-9a-fA-F]{2}))(?:
        [^:<>]+(?: : | [<>](?!=?\Z) ).+
      | (?![:<>]|%3[aceACE]).+?(?: : | %3[aA] | (?:[<>]|%3[ceCE])(?!(?:=|%3[dD])?\Z) ).+
    )""",
    re.DOTALL | re.VERBOSE,
).fullmatch
# Filters of the usual form, in JSON: without anything that is URL-encoded there, or escaped in JSON.
_PLAIN_FILTER = r'"[^:<>%"\\\x00-\x1f]+:[^%"\\\x00-\x1f]+"'
_are_plain_filters = re.compile(f"{_PLAIN_FILTER}(?:,{_PLAIN_FILTER})*").fullmatch
_is_event_name = re.compile(r"[\x20-\x7e]{1,64}").fullmatch
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]")
_json_string: Callable[[str], str] = json.encoder.encode_basestring  # a function written in C
_BETWEEN = '","'
_LARGEST = sys.float_info.max
LONGEST_NAME = 40
_is_field_name = re.compile(rf"[A-Za-z_]{{1,{LONGEST_NAME}}}").fullmatch


def check_content(event: Event) -> None:
    """Check an event except for its user tokens and its timestamp.

    Raises:
        InvalidEventError: The event breaks a rule; `field` names the field as the API does.
    """
    get = event.get
    name, event_type = get("eventName"), get("eventType")
    if not is_event_name(name):
        rule = "must be a string of 1 to 64 printable ASCII characters"
        raise invalid(event, "eventName", rule + _wrong_in_name(name))
    if type(event_type) is str and event_type == "instantsearch":  # it only says that somebody uses InstantSearch
        if get("agentID") is not None and not is_text(get("agentID")):
            raise invalid(event, "agentID", "must be a string that is not empty")
        return
    if not is_text(get("index")):
        raise invalid(event, "index", "must be the name of an index")
    if not (type(event_type) is str and event_type in TYPES_ABOUT_OBJECTS):
        raise invalid(event, "eventType", "must be 'click', 'view', 'conversion' or 'instantsearch'")
    query_id, object_ids, filters, positions = get("queryID"), get("objectIDs"), get("filters"), get("positions")
    if query_id is not None and query_id_text(query_id) is None:
        raise invalid(event, "queryID", _QUERY_ID_RULE)
    if object_ids is None:
        _check_filters(event, filters)
    elif filters is not None:
        raise invalid(event, "filters", "must not be given together with objectIDs")
    elif object_ids_text(object_ids) is None:
        raise _wrong_in_list(event, "objectIDs", "object IDs", "must hold non-empty strings", is_text)
    if event_type == "click" and query_id is not None and object_ids is not None:
        _check_positions(event, positions, object_ids)
    elif positions is not None:
        raise invalid(event, "positions", "must not be given: only clicks after a search have them, with its queryID")
    if event_type == "conversion" and object_ids is not None and get("eventSubtype") is not None:
        _check_purchase(event, object_ids)


def check_user_token(event: Mapping[str, Any], field: str) -> None:
    try:
        identity.checked_user_token(event.get(field), field)
    except InvalidUserTokenError as error:
        raise InvalidEventError(str(error), field) from None


def _check_filters(event: Event, filters: Any) -> None:
    if filters is None:
        raise invalid(event, "objectIDs", "is missing: an event needs objectIDs or filters")
    if filters_text(filters) is None:
        raise _wrong_in_list(event, "filters", "filters", "must be 'facet:value', URL-encoded", is_filter)


def _check_positions(event: Event, positions: Any, object_ids: Any) -> None:
    if positions is None:
        raise invalid(event, "positions", "is missing: a click after a search needs one for each object")
    if type(positions) not in _LIST_TYPES:
        raise invalid(event, "positions", "must be a list")
    check_same_length("positions", positions, object_ids)
    if positions_text(positions, len(object_ids)) is None:
        raise invalid(event, "positions", "must be integers of at least 1: position on the page + page × hitsPerPage")


def _check_purchase(event: Event, object_ids: Any) -> None:
    """Check the fields that only purchases and additions to a cart have."""
    subtype, value, currency = event["eventSubtype"], event.get("value"), event.get("currency")
    if not (type(subtype) is str and subtype in SUBTYPES):
        raise invalid(event, "eventSubtype", "must be 'addToCart' or 'purchase'")
    if value is not None and value_text(value) is None:
        raise invalid(event, "value", "must be a number, or a string of at most 16 characters" + _if_decimal(value))
    if currency is not None and not is_currency(currency):
        raise invalid(event, "currency", "must be the three letters of ISO 4217, as in 'EUR'")
    object_data = event.get("objectData")
    if object_data is None:
        return
    if type(object_data) not in _LIST_TYPES:
        raise invalid(event, "objectData", "must be a list")
    check_same_length("objectData", object_data, object_ids)
    for data in object_data:
        if type(data) is not dict:
            raise invalid(event, "objectData", f"must hold objects, not {_at(object_data, data)}")
        if object_data_text(data) is None:
            raise _wrong_in_data(event, data)


def check_timestamp(event: Mapping[str, Any]) -> None:
    timestamp = event["timestamp"]
    if type(timestamp) is not int or timestamp >= 2**63:
        raise invalid(event, "timestamp", "must be an integer of milliseconds")
    if not is_timestamp(timestamp):
        raise invalid(event, "timestamp", "is more than 30 days ago (it counts milliseconds since 1970)")


def check_same_length(field: str, items: Any, object_ids: Any) -> None:
    if len(items) != len(object_ids):
        raise InvalidEventError(f"{field} has {len(items)} items for {len(object_ids)} objects", field)


# What each field may hold. These functions are not called for None, which means that there is no value. A function
# named `…_text` checks a value and returns its JSON in one step, because the code that writes an event needs both.


def is_text(value: Any) -> bool:
    """Whether a value is a non-empty string: the name of an index, or the ID of an object or of an agent."""
    return type(value) is str and value != ""


def is_event_name(value: Any) -> bool:
    return type(value) is str and _is_event_name(value) is not None


def object_ids_text(values: Any) -> str | None:
    """The JSON of object IDs, without the brackets; None if they are not a list of 1 to 20 object IDs."""
    if type(values) is not list and type(values) is not tuple:
        return None
    number = len(values)
    if number != 1:
        return texts_text(values) if 0 < number <= MAX_OBJECTS else None
    value = values[0]
    return _json_string(value) if type(value) is str and value else None


def filters_text(values: Any) -> str | None:
    """The JSON of filters, without the brackets; None if they are not a list of 1 to 20 filters."""
    if not (type(values) is list or type(values) is tuple) or not 0 < len(values) <= MAX_OBJECTS:
        return None
    try:
        text = f'"{_BETWEEN.join(values)}"'
    except TypeError:
        return None
    # The quotes are counted, as a value that holds quotes may look like two filters.
    if _are_plain_filters(text) and text.count('"') == 2 * len(values):
        return text
    return texts_text(values) if all(map(is_filter, values)) else None


def is_filter(value: Any) -> bool:
    return type(value) is str and _is_filter(value) is not None


def positions_text(values: Any, number: int) -> str | None:
    """The JSON of positions, without the brackets; None if they are not valid positions of `number` objects."""
    if not (type(values) is list or type(values) is tuple) or len(values) != number:
        return None
    text = ""
    try:
        for value in values:
            if type(value) is not int or value < 1:
                return None
            text = f"{text},{value}" if text else f"{value}"
    except ValueError:  # Python refuses to write a number with thousands of digits
        return None
    return text


def query_id_text(value: Any) -> str | None:
    if type(value) is not str:
        return None
    if len(value) == 32 and is_hexadecimal(value):
        return f'"{value}"'
    return _json_string(value) if _is_query_id(value) else None


def is_search(value: Any) -> bool:
    """Whether a value is the query ID of a search: 32 hexadecimal digits in lower case."""
    return type(value) is str and len(value) == 32 and is_hexadecimal(value)


def is_hexadecimal(text: str) -> bool:
    """Whether a text of even length has no characters but hexadecimal digits in lower case."""
    try:  # faster than a regular expression
        return _from_hex(text).hex() == text
    except ValueError:
        return False


def is_user_token(value: Any) -> bool:
    return type(value) is str and _is_user_token(value) is not None


def is_timestamp(value: Any) -> bool:
    return type(value) is int and time.time() * 1000 - MAX_AGE_MS <= value < 2**63


def value_text(value: Any) -> str | None:
    return None if type(value) is str and len(value) > plain.MAX_AMOUNT else amount_text(value)


def is_currency(value: Any) -> bool:
    return type(value) is str and len(value) == 3 and value.isascii() and value.isalpha()


def object_data_text(data: dict[Any, Any]) -> str | None:
    """The JSON of object data; None if it has a field or a value that it may not have."""
    if not OBJECT_DATA_FIELDS.issuperset(data):
        return None
    text = ""
    for field, text_of in _OBJECT_DATA_TEXTS.items():
        value = data.get(field)
        if value is not None:
            written = text_of(value)
            if written is None:
                return None
            text = f'{text},"{field}":{written}'
    return f"{{{text[1:]}}}"


def texts_text(values: Sequence[Any]) -> str | None:
    """The JSON of strings, without the brackets; None if one of them is empty or not a string."""
    try:
        joined = _BETWEEN.join(values)
    except TypeError:
        return None
    text = f'"{joined}"'
    # If nothing but the quotes in between has to be escaped, and no string is empty, this is the JSON already.
    if len(_json_string(joined)) == len(joined) + 2 * len(values) and '""' not in text:
        return text
    return ",".join(map(_json_string, values)) if all(map(is_text, values)) else None


def scalar_text(value: str | float) -> str:
    """The JSON of a string or a finite number."""
    return _json_string(value) if isinstance(value, str) else repr(value)


def amount_text(value: Any) -> str | None:
    if type(value) is float:
        return repr(value) if isfinite(value) else None
    if type(value) is int:
        return repr(value) if -_LARGEST <= value <= _LARGEST else None
    return _json_string(value) if type(value) is str else None


def _quantity_text(value: Any) -> str | None:
    return repr(value) if type(value) is int and -(2**31) <= value < 2**31 else None


def _search_text(value: Any) -> str | None:
    """The JSON of the query ID of a search; the items of a purchase must not have the ID of an agent's message."""
    return f'"{value}"' if is_search(value) else None


_OBJECT_DATA_TEXTS = {
    "price": amount_text,
    "discount": amount_text,
    "quantity": _quantity_text,
    "queryID": _search_text,
}
_AMOUNTS = ("price", "discount")
_SAID_OF_OBJECT_DATA = {
    "price": "must be a number or a string",
    "discount": "must be a number or a string",
    "quantity": "must be an integer of 32 bits",
    "queryID": _QUERY_ID_RULE,
}


# The messages: first what is wrong, then what to do about it.

_NEEDED = ("eventName", "index", "eventType")
_SIZED = (str, list, tuple)


def _if_decimal(amount: Any) -> str:
    """The advice for a Decimal that fits neither into a float nor into a short text; empty for any other amount."""
    if not (isinstance(amount, Decimal) and amount.is_finite()):
        return ""
    return ": this Decimal has more digits than fit, so round it first, as in round(amount, 2)"


def invalid(event: Mapping[str, Any], field: str, rule: str) -> InvalidEventError:
    value = event.get(field)
    if value is None and field in _NEEDED:
        rule = f"is missing: it {rule}"
    elif type(value) in _SIZED and not value and rule.startswith("must be "):
        rule = f"is empty: it {rule}"
    return InvalidEventError(f"{field} {rule}{of_event(event)}", field)


def _wrong_in_list(
    event: Event, field: str, of_what: str, rule: str, is_right: Callable[[Any], bool]
) -> InvalidEventError:
    items = event[field]
    if type(items) not in _LIST_TYPES or not 0 < len(items) <= MAX_OBJECTS:
        return invalid(event, field, f"must be a list of 1 to 20 {of_what}")
    wrong = next(item for item in items if not is_right(item))
    return invalid(event, field, f"{rule}, not {_at(items, wrong)}")


def _wrong_in_data(event: Event, data: dict[Any, Any]) -> InvalidEventError:
    for key, rule in _SAID_OF_OBJECT_DATA.items():
        value = data.get(key)
        if value is not None and _OBJECT_DATA_TEXTS[key](value) is None:
            return invalid(event, f"objectData.{key}", rule + (_if_decimal(value) if key in _AMOUNTS else ""))
    unknown = next(field for field in data if field not in OBJECT_DATA_FIELDS)
    name = field_name(unknown)
    if name is None:
        return InvalidEventError(
            f"objectData: {described(unknown)} is not a field of an event{of_event(event)}", "objectData"
        )
    return invalid(event, f"objectData.{name}", "is not a field of an event")


def unreadable(error: Exception) -> InvalidEventError:
    """The error to raise for an event that can't be read, because one of its objects raises `error`."""
    return InvalidEventError(f"the event can't be read: {raised(error)}")


# What a message shows of a value. The message may get into a log, and the value may be private: an e-mail address, say.


def described(value: Any) -> str:
    """The type of a value; for a string, also its length."""
    return f"a string of {len(str.__str__(value))} characters" if isinstance(value, str) else type_name(value)


def _at(items: Any, item: Any) -> str:
    number = next(number for number, one in enumerate(items, start=1) if one is item)
    return f"{described(item)} at position {number}"


def quoted(name: Any, before: str = "", after: str = "") -> str:
    """The quoted name of an event or an index; empty if it is no valid event name, or may be an e-mail address."""
    name = str.__str__(name) if isinstance(name, str) else ""
    return f"{before}{name!a}{after}" if _is_event_name(name) and "@" not in name else ""


def of_event(event: Mapping[str, Any]) -> str:
    """The part of a message that names the event, as " (event 'Product Viewed')"."""
    return quoted(event.get("eventName"), " (event ", ")")


def _wrong_in_name(name: Any) -> str:
    if not (isinstance(name, str) and name):
        return ""
    name = str.__str__(name)
    bad = _NOT_PRINTABLE.search(name)
    where = f", and the one at position {bad.start() + 1} is not allowed" if bad else ""
    return f": it has {len(name)} characters{where}"


def field_name(key: Any) -> str | None:
    """The key of a mapping if it looks like a field name; else None, as the key may be a value in the wrong place."""
    return str.__str__(key) if isinstance(key, str) and _is_field_name(key) else None
