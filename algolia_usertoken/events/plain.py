"""Converts Python values to JSON types: decimals, lazy texts, database ids, numpy scalars, pydantic models.

Each function returns a value that it can't convert as it is, and the rules of events refuse it. No function guesses a
value from `str` of an object. Django, numpy and pydantic are not imported here: if a caller passes one of their
objects, the package is imported already.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow
from itertools import islice
from math import isfinite
from typing import Any
from uuid import UUID

MAX_AMOUNT = 16  # characters of an amount that is a text
MAX_FIELDS = 1_000  # of a mapping that is not a dict, which may be endless
MAX_ITEMS = 1_000_000  # of an iterator, which may be endless

_EXACT = Context(prec=100, traps=[Inexact, InvalidOperation, Overflow])  # raises an error if a sum is not exact
_is_number = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?").fullmatch


def text(value: Any) -> Any:
    """A string of any class, or a lazy string of Django, as a str."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, _class("django.utils.functional", "Promise")):
        translated = str(value)
        return str.__str__(translated)
    return value


def object_id(value: Any) -> Any:
    """A string, an int (but not a bool) or a UUID as a str."""
    number = integer(value)
    if type(number) is int:
        return int.__repr__(number)
    return UUID.__str__(value) if isinstance(value, UUID) else text(value)


def integer(value: Any) -> Any:
    """An int of any class (but not a bool), or an integer of numpy, as an int."""
    if isinstance(value, int):
        return value if isinstance(value, bool) else int.__int__(value)
    return int(value) if isinstance(value, _class("numpy", "integer")) else value


def amount(value: Any) -> Any:
    """A number or a text, also of numpy's and algoliasearch's classes, as an int, float or str.

    A `Decimal` becomes a float if the float is exactly the same number; otherwise it becomes a text, if that is not too
    long.
    """
    if isinstance(value, Decimal):
        return _amount_of_decimal(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, _class("numpy", "floating")):
        return float(value)
    if isinstance(value, _class("pydantic", "BaseModel")):  # algoliasearch's Value, Price and Discount hold one
        held = getattr(value, "actual_instance", None)
        return held if isinstance(held, int | float | str) else value
    number = integer(value)
    return number if type(number) is int else text(value)


def mapping(value: Any) -> Any:
    """A mapping or a pydantic model as a new dict."""
    if type(value) is dict:
        return value.copy()
    if isinstance(value, dict):
        return dict(dict.items(value))
    if isinstance(value, Mapping):
        keys = list(islice(iter(value), MAX_FIELDS + 1))
        return {key: value[key] for key in keys} if len(keys) <= MAX_FIELDS else value
    if isinstance(value, _class("pydantic", "BaseModel")):
        dump = getattr(value, "to_dict", None)  # algoliasearch's models have it; it leaves out fields that were not set
        return mapping(dump() if callable(dump) else value.model_dump(by_alias=True))
    return value


def may_be_list(value: Any) -> bool:
    """Whether a value is iterable, but neither a text (str, bytes or lazy string) nor a mapping."""
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping):
        return False
    return isinstance(value, Iterable) and not isinstance(value, _class("django.utils.functional", "Promise"))


def items(value: Iterable[Any]) -> list[Any] | None:
    """The items in a new list; None if there are more than a million, as the iterator may be endless."""
    if type(value) is list or type(value) is tuple:
        return list(value)
    found = list(islice(iter(value), MAX_ITEMS + 1))
    return found if len(found) <= MAX_ITEMS else None


def json_form(value: Any) -> Any:
    """A value as a reader of its JSON gets it; later changes to the value do not change the result.

    Raises:
        Exception: The value has no JSON form, or an object in it raises this.
    """
    kind = type(value)
    if kind is bool or value is None or (kind is str and str.isascii(value)):
        return value
    if kind is list and are_texts(value):
        return value.copy()
    encoded = json_text(value)
    encoded.encode()  # raises an error for a lone surrogate, which has no UTF-8 form
    return json.loads(encoded)


def json_text(value: Any) -> str:
    """The JSON of a value.

    Raises:
        Exception: As for `json_form`, except that a lone surrogate is not an error here.
    """
    return _encode(value)


def are_texts(values: list[Any]) -> bool:
    """Whether each of the values is an ASCII string, so that nothing needs to be done for JSON."""
    for value in values:  # noqa: SIM110 - faster than all(), and used for each event of InstantSearch
        if type(value) is not str or not value.isascii():
            return False
    return True


def decimal(value: Any) -> Decimal | None:
    """An amount as a `Decimal` with exactly the digits written; None if it is not a finite number."""
    kind = type(value)
    if kind is int or (kind is str and _is_number(value)):
        return Decimal(value)
    if kind is float and isfinite(value):
        return Decimal(repr(value))
    return value if kind is Decimal and value.is_finite() else None


def shares(value: Any, parts: Sequence[Any]) -> list[Any] | None:
    """The share of a total for each of its parts, which are lists of items with `price` and `quantity`.

    The share of a part is the sum of its items, price times quantity (the discount is already taken off a price). The
    first part also gets the difference between the total and all these sums, so the shares add up to the total exactly.
    Returns None if an item lacks a price or a quantity, or if an amount is not a number.
    """
    total = decimal(value)
    if total is None:
        return None
    try:
        sums = [_sum(part) for part in parts]
        if None in sums:
            return None
        known = [each for each in sums if each is not None]
        for each in known:
            total = _EXACT.subtract(total, each)
        known[0] = _EXACT.add(known[0], total)
    except DecimalException:
        return None
    found = [_as_given(each, value) for each in known]
    return None if None in found else found


def _sum(part: Any) -> Decimal | None:
    if type(part) is not list or not part:
        return None
    total = Decimal(0)
    for item in part:
        price, quantity = (item.get("price"), item.get("quantity")) if type(item) is dict else (None, None)
        price = decimal(price)
        if price is None or type(quantity) is not int:
            return None
        total = _EXACT.add(total, _EXACT.multiply(price, Decimal(quantity)))
    return total


def _as_given(share: Decimal, value: Any) -> Any:
    """A share as an amount of the same type as the total `value`; None if it has too many digits."""
    if type(value) is str:
        written = _written(share)
        return written if written is not None and len(written) <= MAX_AMOUNT else None
    if type(value) is int and share == share.to_integral_value():
        return int(share)
    made = amount(share)
    return None if isinstance(made, Decimal) else made


def _amount_of_decimal(value: Decimal) -> Any:
    if not value.is_finite():
        return value
    number = float(value)
    if Decimal(repr(number)) == value:
        return number
    written = _written(value)
    return written if written is not None and len(written) <= MAX_AMOUNT else value


def _written(value: Decimal) -> str | None:
    """The number written with all its digits and without an exponent; None if that would be too long."""
    exponent = value.as_tuple().exponent
    return f"{value:f}" if isinstance(exponent, int) and exponent > -40 and value.adjusted() < 40 else None


def _for_json(value: Any) -> Any:
    """Convert a value that `json` can't encode."""
    for form in (amount, text, mapping):
        made = form(value)
        if made is not value:
            return made
    if isinstance(value, UUID):
        return UUID.__str__(value)
    if isinstance(value, _class("numpy", "bool_")):
        return bool(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_for_json).encode


def _class(module: str, name: str) -> Any:
    """A class of an optional package, for `isinstance`; an empty tuple if the package is not imported."""
    found = getattr(sys.modules.get(module), name, ())
    return found if isinstance(found, type) else ()
