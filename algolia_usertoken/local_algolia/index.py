"""One index: its records in the order in which they were saved, the words of each, its settings, rules and synonyms."""

from __future__ import annotations

import json
import re
import time
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Literal

WORD = re.compile(r"\w+")

to_json = json.JSONEncoder(separators=(",", ":")).encode

# What an index keeps in addition to its records, and returns unchanged.
KeptKind = Literal["rules", "synonyms"]


class Record:
    """One record, prepared for searches."""

    __slots__ = ("data", "json", "object_id", "position", "words")

    def __init__(self, object_id: str, data: Mapping[str, Any], position: int) -> None:
        self.object_id = object_id
        self.data = {**data, "objectID": object_id}
        self.json = to_json(self.data)
        self.position = position
        self.words = frozenset(word for text in texts(self.data) for word in WORD.findall(text.lower()))


class Contents:
    """The records of one index and of its replicas, in the order in which they were saved."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.updated_at = now()
        # Two caches that searches fill and every change empties: the answers by request, and, for filters and facets,
        # the values of the records by attribute.
        self.answers: dict[Any, Any] = {}
        self.columns: dict[str, Any] = {}
        self._at: dict[int, Record] = {}
        self._having: dict[str, set[int]] = {}
        self._dictionary: list[str] | None = None
        self._positions = count()

    def copy(self) -> Contents:
        """A copy with the same records; a later change of one does not affect the other."""
        new = Contents()
        for record in self.records.values():
            new.save(record.object_id, record.data)
        return new

    def save(self, object_id: str, data: Mapping[str, Any]) -> None:
        old = self.records.get(object_id)
        record = Record(object_id, data, next(self._positions) if old is None else old.position)
        if old is not None:
            self._forget_words(old)
        self.records[object_id] = self._at[record.position] = record
        for word in record.words:
            self._having.setdefault(word, set()).add(record.position)
        self._changed()

    def delete(self, object_id: str) -> None:
        record = self.records.pop(object_id, None)
        if record is not None:
            del self._at[record.position]
            self._forget_words(record)
            self._changed()

    def clear(self) -> None:
        self.records.clear()
        self._at.clear()
        self._having.clear()
        self._changed()

    @property
    def positions(self) -> set[int]:
        """The positions of the records."""
        return set(self._at)

    def having(self, words: Sequence[str], among: set[int] | None = None) -> list[Record]:
        """The records that have all the words, the last one also as the beginning of a word.

        `among` are the positions of the records that may be found; None means all.
        """
        if not words:
            if among is None:
                return list(self.records.values())
            found = among
        else:
            found = self._beginning_with(words[-1])
            for word in words[:-1]:
                found = found & self._having.get(word, set())
            if among is not None:
                found = found & among
        return [self._at[position] for position in sorted(found)]

    def _beginning_with(self, prefix: str) -> set[int]:
        if self._dictionary is None:
            self._dictionary = sorted(self._having)
        found: set[int] = set()
        for at in range(bisect_left(self._dictionary, prefix), len(self._dictionary)):
            word = self._dictionary[at]
            if not word.startswith(prefix):
                break
            found |= self._having[word]
        return found

    def _forget_words(self, record: Record) -> None:
        for word in record.words:
            having = self._having[word]
            having.discard(record.position)
            if not having:
                del self._having[word]

    def _changed(self) -> None:
        self._dictionary = None
        self.answers.clear()
        self.columns.clear()
        self.updated_at = now()


class Index:
    """One index: its records, settings, rules and synonyms.

    A replica shares the `contents` of its primary, whose name is in `primary`, and has its own settings, rules and
    synonyms.
    """

    def __init__(self, contents: Contents | None = None, primary: str | None = None) -> None:
        self.contents = Contents() if contents is None else contents
        self.primary = primary
        self.settings: Mapping[str, Any] = {}  # replaced, never changed: cached answers compare them
        self.kept: dict[KeptKind, dict[str, dict[str, Any]]] = {"rules": {}, "synonyms": {}}
        self.created_at = now()

    @property
    def records(self) -> dict[str, Record]:
        return self.contents.records

    @property
    def replicas(self) -> list[str]:
        """The names of its replicas; a virtual one is written `virtual(name)` in the settings."""
        return [replica_name(each) for each in self.settings.get("replicas") or ()]

    def having(self, words: Sequence[str], among: set[int] | None = None) -> list[Record]:
        """The records that have all the words, as in `Contents.having`."""
        return self.contents.having(words, among)

    def copy_beside(self, other: Index, scope: Sequence[str]) -> None:
        """Take over what another index has in addition to its records; replicas are never copied."""
        if "settings" in scope:
            own = {"replicas": self.settings["replicas"]} if self.replicas else {}
            self.settings = {**{name: value for name, value in other.settings.items() if name != "replicas"}, **own}
        for kind, kept in other.kept.items():
            if kind in scope:
                self.kept[kind] = dict(kept)


def replica_name(text: str) -> str:
    """`products_by_price` from `virtual(products_by_price)`, and any other text as it is."""
    return text[len("virtual(") : -1] if text.startswith("virtual(") and text.endswith(")") else text


def with_attributes(
    data: Mapping[str, Any], attributes: Iterable[str] | None, never: Collection[str] = ()
) -> dict[str, Any]:
    """The record with the requested attributes, and always its objectID. `-name` and `never` leave attributes out.

    `maker.city` is an attribute inside another one.
    """
    wanted = {"*"} if attributes is None else set(attributes)
    left_out = {name[1:] for name in wanted if name.startswith("-")} | {*never}
    if "*" not in wanted and not all(name.startswith("-") for name in wanted):
        data = {name: part for name, value in data.items() for part in _part(name, value, wanted | {"objectID"})}
    elif not wanted:
        data = {"objectID": data["objectID"]}
    if left_out:
        data = {name: part for name, value in data.items() for part in _rest(name, value, left_out)}
    return dict(data)


def _part(path: str, value: Any, wanted: Collection[str]) -> Iterator[Any]:
    """The requested part of a value; nothing if no part is requested."""
    if path in wanted:
        yield value
    elif any(name.startswith(f"{path}.") for name in wanted):
        if isinstance(value, Mapping):
            inner = {name: part for name, each in value.items() for part in _part(f"{path}.{name}", each, wanted)}
            if inner:
                yield inner
        elif isinstance(value, list):
            yield [part for each in value for part in _part(path, each, wanted)]


def _rest(path: str, value: Any, left_out: Collection[str]) -> Iterator[Any]:
    """The part of a value that is not left out; nothing if all of it is."""
    if path in left_out and path != "objectID":
        return
    if isinstance(value, Mapping) and any(name.startswith(f"{path}.") for name in left_out):
        yield {name: part for name, each in value.items() for part in _rest(f"{path}.{name}", each, left_out)}
    elif isinstance(value, list):
        yield [part for each in value for part in _rest(path, each, left_out)]
    else:
        yield value


def texts(data: Mapping[str, Any]) -> Iterator[str]:
    """All text and all numbers of a record, except the objectID and attributes whose names begin with `_`."""
    for name, value in data.items():
        if name != "objectID" and not name.startswith("_"):
            yield from _texts(value)


def now() -> str:
    """The time as Algolia writes it, in UTC."""
    return written(time.time())


def written(seconds: float) -> str:
    """A time in seconds since the epoch, as Algolia writes it, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".000Z"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, Mapping):
        yield from texts(value)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
