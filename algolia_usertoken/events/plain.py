"""What Python code holds, as JSON has it: decimals, lazy texts, ids of databases, scalars of numpy, models of pydantic.

Each function returns what it has no form for as it is, for the rules of events to refuse. Nothing is guessed from what
`str` makes of an object. Django, numpy and pydantic are not imported: who has one of their objects has imported them.
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
MAX_FIELDS = 1_000  # of a mapping that is no dict, and may have no end
MAX_ITEMS = 1_000_000  # of an iterator, likewise

_EXACT = Context(prec=100, traps=[Inexact, InvalidOperation, Overflow])  # a sum is exact, or none is made
_is_number = re.compile(r"[+-]?[0-9]{1,40}(?:\.[0-9]{1,40})?").fullmatch


def text(value: Any) -> Any:
    """A string of any class, or one of Django's lazy ones, as a str."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, _class("django.utils.functional", "Promise")):
        translated = str(value)
        return str.__str__(translated)
    return value


def object_id(value: Any) -> Any:
    """A string, an int (a bool is none) or a UUID as a str."""
    number = integer(value)
    if type(number) is int:
        return int.__repr__(number)
    return UUID.__str__(value) if isinstance(value, UUID) else text(value)


def integer(value: Any) -> Any:
    """An int of any class, or one of numpy's, as an int; a bool is none."""
    if isinstance(value, int):
        return value if isinstance(value, bool) else int.__int__(value)
    return int(value) if isinstance(value, _class("numpy", "integer")) else value


def amount(value: Any) -> Any:
    """A number or a text, also of numpy's and algoliasearch's classes, as an int, float or str.

    A `Decimal` becomes a float where that is the same number, and else a text, if that is not too long.
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
    """A mapping or a model of pydantic as a dict of its own."""
    if type(value) is dict:
        return value.copy()
    if isinstance(value, dict):
        return dict(dict.items(value))
    if isinstance(value, Mapping):
        keys = list(islice(iter(value), MAX_FIELDS + 1))
        return {key: value[key] for key in keys} if len(keys) <= MAX_FIELDS else value
    if isinstance(value, _class("pydantic", "BaseModel")):
        dump = getattr(value, "to_dict", None)  # of algoliasearch's, which leaves out what was not set
        return mapping(dump() if callable(dump) else value.model_dump(by_alias=True))
    return value


def may_be_list(value: Any) -> bool:
    """Whether a value can be gone through, but is no text, in whatever form, and no mapping."""
    if isinstance(value, str | bytes | bytearray | memoryview | Mapping):
        return False
    return isinstance(value, Iterable) and not isinstance(value, _class("django.utils.functional", "Promise"))


def items(value: Iterable[Any]) -> list[Any] | None:
    """A list of its own, or None: more than a million, which may have no end."""
    if type(value) is list or type(value) is tuple:
        return list(value)
    found = list(islice(iter(value), MAX_ITEMS + 1))
    return found if len(found) <= MAX_ITEMS else None


def json_form(value: Any) -> Any:
    """What a reader of JSON gets of a value; nothing that its owner changes later changes it.

    Raises:
        Exception: It has no JSON form, or what it is made of raises this.
    """
    kind = type(value)
    if kind is bool or value is None or (kind is str and str.isascii(value)):
        return value
    if kind is list and are_texts(value):
        return value.copy()
    encoded = json_text(value)
    encoded.encode()  # a lone surrogate has no UTF-8
    return json.loads(encoded)


def json_text(value: Any) -> str:
    """The JSON of a value.

    Raises:
        Exception: As `json_form`, but for a lone surrogate.
    """
    return _encode(value)


def are_texts(values: list[Any]) -> bool:
    """Whether each of the values is an ASCII string, so that nothing needs to be done for JSON."""
    for value in values:  # noqa: SIM110 - quicker than all(), and on the way of each event of InstantSearch
        if type(value) is not str or not value.isascii():
            return False
    return True


def decimal(value: Any) -> Decimal | None:
    """An amount as the decimal number that is written there; None where it is none."""
    kind = type(value)
    if kind is int or (kind is str and _is_number(value)):
        return Decimal(value)
    if kind is float and isfinite(value):
        return Decimal(repr(value))
    return value if kind is Decimal and value.is_finite() else None


def shares(value: Any, parts: Sequence[Any]) -> list[Any] | None:
    """What of a total belongs to each of its parts, by their lists of items with `price` and `quantity`.

    Each part has the sum of its own, price times quantity (a price has its discount taken off already), and the first
    also what the total has beyond all of them. They add up to the total, exactly. None where an item lacks one of the
    two, or an amount is no number.
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
    """A share as an amount of the kind that the total was; None where it has too many digits."""
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
    """With all its digits and no exponent; None where that would be long."""
    exponent = value.as_tuple().exponent
    return f"{value:f}" if isinstance(exponent, int) and exponent > -40 and value.adjusted() < 40 else None


def _for_json(value: Any) -> Any:
    """What `json` knows no form of."""
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
    """A class of a package that nobody need have, for `isinstance`."""
    found = getattr(sys.modules.get(module), name, ())
    return found if isinstance(found, type) else ()
