"""
Which records a search keeps: `facetFilters`, `numericFilters` and `filters`, turned into one predicate.

The grammar is that of https://www.algolia.com/doc/guides/managing-results/refine-results/filtering, minus its
restrictions on what may be combined: the stand-in takes any nesting.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Predicate = Callable[[Mapping[str, Any]], bool]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    ">": operator.gt,
}
_NUMBER = r"-?\d+(?:\.\d+)?"
_NUMERIC = re.compile(rf"\s*(.+?)\s*(<=|>=|!=|=|<|>)\s*({_NUMBER})\s*")
_RANGE = re.compile(rf"\s*(.+?)\s*:\s*({_NUMBER})\s+TO\s+({_NUMBER})\s*", re.IGNORECASE)
_TOKEN = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|<=|>=|!=|[()<>=:]|[^\s()<>=!:"'][^\s()<>=!:]*)""")
# Far beyond what anybody writes; a hostile one must not keep the server busy, nor break its stack.
_DEEPEST = 50
_LONGEST_CONDITION = 2_000


class FilterError(ValueError):
    """A filter that cannot be read; the message names the parameter."""


def values_of(record: Mapping[str, Any], attribute: str) -> Iterator[Any]:
    """The plain values of an attribute: of a list each one, and of `a.b` those of `b` in every `a`."""
    if attribute in record:
        yield from _flat(record[attribute])
    elif "." in attribute:
        head, tail = attribute.split(".", 1)
        for inner in _flat(record.get(head)):
            if isinstance(inner, Mapping):
                yield from values_of(inner, tail)


def facet_value(value: Any) -> str | None:
    """How a value is written as a facet value: `True` is `"true"`; `None` and objects are no facet values."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    return None


def predicate(params: Mapping[str, Any]) -> Predicate | None:
    """One predicate for all filters of a search, or None if there are none. Raises `FilterError`."""
    found: list[Predicate] = []
    for name, condition in (("facetFilters", _facet_condition), ("numericFilters", _numeric_condition)):
        value = _decoded(params.get(name))
        if value:
            found.append(_nested(name, value, condition))
    expression = params.get("filters")
    if expression:
        if not isinstance(expression, str):
            raise FilterError("filters: expected a string")
        found.append(_Expression(expression).parsed())
    if not found:
        return None
    return found[0] if len(found) == 1 else _all_of(found)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif value is not None:
        yield value


def _decoded(value: Any) -> Any:
    # In a `params` string a list is JSON text.
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _all_of(parts: list[Predicate]) -> Predicate:
    return lambda record: all(part(record) for part in parts)


def _any_of(parts: list[Predicate]) -> Predicate:
    return lambda record: any(part(record) for part in parts)


def _nested(name: str, value: Any, condition: Callable[[str, str], Predicate], depth: int = 0) -> Predicate:
    # The outer list is AND, a list in it is OR: ["a:1", ["b:1", "b:2"]].
    if isinstance(value, str):
        parts = [part for part in value.split(",") if part.strip()] if depth == 0 else [value]
        return _all_of([condition(name, part) for part in parts])
    if not isinstance(value, list) or depth > 2:
        raise FilterError(f"{name}: expected an array of strings, at most two arrays deep")
    inner = [_nested(name, item, condition, depth + 1) for item in value]
    return _any_of(inner) if depth == 1 else _all_of(inner)


def _facet_condition(name: str, text: str) -> Predicate:
    negative = text[:4].upper() == "NOT "
    attribute, colon, value = (text[4:] if negative else text).strip().partition(":")
    if not colon or not attribute:
        raise FilterError(f"{name}: expected attribute:value, got {text[:40]!r}")
    if value.startswith("-"):
        negative, value = not negative, value[1:]
    elif value.startswith("\\-"):
        value = value[1:]
    return _has(attribute, value, negative)


def _has(attribute: str, value: str, negative: bool = False) -> Predicate:
    wanted = value.lower()

    def holds(record: Mapping[str, Any]) -> bool:
        for each in values_of(record, attribute):
            written = facet_value(each)
            if written is not None and written.lower() == wanted:
                return not negative
        return negative

    return holds


def _numeric_condition(name: str, text: str) -> Predicate:
    if len(text) > _LONGEST_CONDITION:
        raise FilterError(f"{name}: a condition has at most {_LONGEST_CONDITION} characters")
    if between := _RANGE.fullmatch(text):
        attribute, low, high = between.groups()
        return _within(attribute, float(low), float(high))
    if comparison := _NUMERIC.fullmatch(text):
        attribute, sign, number = comparison.groups()
        return _compares(attribute, sign, float(number))
    raise FilterError(f"{name}: expected attribute, operator and number, got {text[:40]!r}")


def _numbers(record: Mapping[str, Any], attribute: str) -> Iterator[float]:
    for value in values_of(record, attribute):
        if isinstance(value, (int, float)):
            yield value


def _compares(attribute: str, sign: str, number: float) -> Predicate:
    compare = _COMPARISONS[sign]
    return lambda record: any(compare(value, number) for value in _numbers(record, attribute))


def _within(attribute: str, low: float, high: float) -> Predicate:
    return lambda record: any(low <= value <= high for value in _numbers(record, attribute))


class _Expression:
    """A `filters` string: AND, OR, NOT, parentheses, `attribute:value`, comparisons and ranges."""

    def __init__(self, text: str) -> None:
        self._tokens = self._split(text)
        self._at = 0
        self._depth = 0

    def parsed(self) -> Predicate:
        result = self._any()
        if self._at < len(self._tokens):
            raise self._wrong()
        return result

    @staticmethod
    def _split(text: str) -> list[str]:
        tokens, at, text = [], 0, text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise FilterError(f"filters: syntax error at character {at}")
            tokens.append(match[1])
            at = match.end()
        return tokens

    def _any(self) -> Predicate:
        parts = [self._all()]
        while self._take_word("OR"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else _any_of(parts)

    def _all(self) -> Predicate:
        parts = [self._one()]
        while self._take_word("AND"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else _all_of(parts)

    def _one(self) -> Predicate:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise FilterError("filters: nested too deeply")
        try:
            if self._take_word("NOT"):
                denied = self._one()
                return lambda record: not denied(record)
            if self._take("("):
                inner = self._any()
                if not self._take(")"):
                    raise self._wrong()
                return inner
            return self._condition()
        finally:
            self._depth -= 1

    def _condition(self) -> Predicate:
        attribute = self._operand()
        sign = self._peek()
        if sign in _COMPARISONS:
            self._at += 1
            return _compares(attribute, sign, self._number())
        if not self._take(":"):
            return _has("_tags", attribute)
        value = self._operand()
        if self._take_word("TO"):
            try:
                return _within(attribute, float(value), self._number())
            except ValueError:
                raise self._wrong() from None
        return _has(attribute, value)

    def _operand(self) -> str:
        token = self._peek()
        if not token or token in "():" or token in _COMPARISONS or token.upper() in {"AND", "OR", "NOT"}:
            raise self._wrong()
        self._at += 1
        if token[0] in "\"'" and len(token) > 1:
            return re.sub(r"\\(.)", r"\1", token[1:-1])
        return token

    def _number(self) -> float:
        token = self._peek()
        if not re.fullmatch(_NUMBER, token):
            raise self._wrong()
        self._at += 1
        return float(token)

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, token: str) -> bool:
        if self._peek() != token:
            return False
        self._at += 1
        return True

    def _take_word(self, word: str) -> bool:
        return self._take(word) or self._take(word.lower())

    def _wrong(self) -> FilterError:
        return FilterError(
            f"filters: did not expect {self._peek()[:40]!r}" if self._peek() else "filters: it ends early"
        )
