"""The values that the records of an index have in one attribute: read once, and kept until a record changes.

A search in 100,000 records would be too slow if it read each of them for every filter and facet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from .index import Contents

# There is a limit, as a request may also name any attribute that no record has.
_MOST_COLUMNS = 100
_PLAIN = (str, int, float)  # bool is an int


class Column:
    """The values of one attribute, each with the positions of the records that have it.

    Args:
        contents: The records.
        attribute: The name of the attribute. `maker.city` is an attribute inside another one.
    """

    def __init__(self, contents: Contents, attribute: str) -> None:
        # The key has the type too, as True == 1 == 1.0, and each is written in its own way.
        found: defaultdict[tuple[type, Any], set[int]] = defaultdict(set)
        for record in contents.records.values():
            plain = record.data.get(attribute)
            for value in (plain,) if isinstance(plain, _PLAIN) else values_of(record.data, attribute):
                if isinstance(value, _PLAIN):
                    found[type(value), value].add(record.position)
        self.values: list[tuple[Any, set[int]]] = [(value, positions) for (_, value), positions in found.items()]
        # The values as facet values: in their own case, and in lower case.
        self.written: dict[str, set[int]] = {}
        self.folded: dict[str, set[int]] = {}
        for value, positions in self.values:
            written = _written(value)
            _add(self.written, written, positions)
            _add(self.folded, written.lower(), positions)

    def numbers(self) -> Iterator[tuple[int | float, set[int]]]:
        """The values that are numbers."""
        return (each for each in self.values if is_number(each[0]))


def column_of(contents: Contents, attribute: str) -> Column:
    """The column of an attribute."""
    kept = contents.columns
    column: Column | None = kept.get(attribute)
    if column is None:
        if len(kept) >= _MOST_COLUMNS:
            kept.clear()
        column = kept[attribute] = Column(contents, attribute)
    return column


def values_of(record: Mapping[str, Any], attribute: str) -> Iterator[Any]:
    """The plain values of an attribute: each element of a list; for `a.b`, those of `b` in every `a`."""
    if attribute in record:
        yield from _flat(record[attribute])
    elif "." in attribute:
        head, tail = attribute.split(".", 1)
        for inner in _flat(record.get(head)):
            if isinstance(inner, Mapping):
                yield from values_of(inner, tail)


def facet_value(value: Any) -> str | None:
    """The facet value of a value, such as `"true"` of `True`; None if the value is None or an object."""
    return _written(value) if isinstance(value, _PLAIN) else None


def is_number(value: Any) -> bool:
    """Whether a value is a number; `True` and `False` are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _written(value: str | float) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif value is not None:
        yield value


def _add(found: dict[str, set[int]], value: str, positions: set[int]) -> None:
    # Two values are seldom written alike; only then a set is copied.
    found[value] = found[value] | positions if value in found else positions
