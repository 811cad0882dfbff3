"""
The indices of the stand-in: records, settings and tasks, and the words of each record, indexed when it is saved.

Everything is in memory and done at once, so that a task is published as soon as its number is known.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from .errors import ApiError

WORD = re.compile(r"\w+")

to_json = json.JSONEncoder(separators=(",", ":")).encode


class Record:
    """One record, with what a search needs of it prepared."""

    __slots__ = ("data", "json", "object_id", "position", "words")

    def __init__(self, object_id: str, data: Mapping[str, Any], position: int) -> None:
        self.object_id = object_id
        self.data = {**data, "objectID": object_id}
        self.json = to_json(self.data)
        self.position = position
        self.words = frozenset(word for text in texts(self.data) for word in WORD.findall(text.lower()))


class Index:
    """The records of one index, in the order in which they came."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.settings: dict[str, Any] = {}
        self.created_at = self.updated_at = now()
        # Kept by searches: the texts of hits by objectID, for each way to show them. Every change empties it.
        self.hit_texts: dict[tuple[Any, ...], dict[str, str]] = {}
        self._at: dict[int, Record] = {}
        self._having: dict[str, set[int]] = {}
        self._dictionary: list[str] | None = None
        self._positions = count()

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

    def having(self, words: Sequence[str]) -> list[Record]:
        """The records that have all the words, the last one also as the beginning of a word."""
        if not words:
            return list(self.records.values())
        found = self._beginning_with(words[-1])
        for word in words[:-1]:
            found = found & self._having.get(word, set())
            if not found:
                break
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
        self.hit_texts.clear()
        self.updated_at = now()


class Records:
    """All indices, by name; with `any_index` the others are there too, and empty. Any thread may call any method."""

    def __init__(self, *, any_index: bool = False) -> None:
        self._any_index = any_index
        # A search holds it too: it is short, and a record must not change half-way through.
        self.lock = threading.RLock()
        self._indices: dict[str, Index] = {}
        self._tasks = count(1)

    def index(self, name: str) -> Index:
        """An index that exists, or `ApiError` with 404."""
        try:
            return self._indices[name]
        except KeyError:
            if self._any_index:
                return Index()
            raise ApiError(404, f"Index {name} does not exist") from None

    def names(self) -> list[str]:
        with self.lock:
            return sorted(self._indices)

    def add(self, name: str, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """
        Save records of a caller who sends no request, as the JSON that a client would send; returns the objectIDs.

        Raises:
            ValueError: `name` is none, a record is no mapping, or cannot be JSON.
        """
        if not isinstance(name, str) or not name:
            raise ValueError(f"index must be the name of an index, not {name!r}")
        try:
            bodies = json.loads(json.dumps(list(records), allow_nan=False))
            for place, body in enumerate(bodies):
                if not isinstance(body, dict):
                    raise ValueError(f"number {place} must be an object, a dict, not {type(body).__name__}")
            return self.write(name, [{"action": "addObject", "body": body} for body in bodies])[1]
        except ApiError as error:
            raise ValueError(f"records: {error.message}") from None
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"records: {error}") from None

    def write(self, name: str, requests: Iterable[Mapping[str, Any]]) -> tuple[int, list[str]]:
        """
        Carry out batch operations, `{"action": …, "body": {…}}` each, all or none.

        Returns the number of the task and the objectIDs in order.
        """
        with self.lock:
            steps = [self._step(request) for request in requests]
            if not steps:
                self._made(name)
            return self.task(), [object_id for step in steps for object_id in step(name)]

    def partial(self, name: str, object_id: str, changes: Mapping[str, Any], create: bool) -> int:
        with self.lock:
            self._change(self._made(name), object_id, changes, create)
            return self.task()

    def get(self, name: str, object_id: str, attributes: Iterable[str] | None = None) -> dict[str, Any] | None:
        """The record, or None. `attributes` of None, or with "*", means all of them."""
        with self.lock:
            record = self.index(name).records.get(object_id)
        return None if record is None else with_attributes(record.data, attributes)

    def settings(self, name: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The settings, after the changes. A change makes the index if there is none."""
        with self.lock:
            if changes is None:
                return dict(self.index(name).settings)
            index = self._made(name)
            index.settings.update(changes)
            return dict(index.settings)

    def copy(self, source: str, destination: str, scope: Sequence[str] | None, move: bool) -> int:
        """Copy or move; with a scope only what it names. A source that does not exist changes nothing."""
        with self.lock:
            old = self._indices.get(source)
            if old is not None and source != destination:
                new = self._made(destination)
                if not scope or "settings" in scope:
                    new.settings = dict(old.settings)
                if not scope:
                    new.clear()
                    for record in list(old.records.values()):
                        new.save(record.object_id, record.data)
                if move:
                    del self._indices[source]
            return self.task()

    def delete_index(self, name: str) -> int:
        with self.lock:
            self._indices.pop(name, None)
            return self.task()

    def task(self) -> int:
        return next(self._tasks)

    def _made(self, name: str) -> Index:
        index = self._indices.get(name)
        if index is None:
            index = self._indices[name] = Index()
        return index

    def _step(self, request: Mapping[str, Any]) -> Callable[[str], Iterator[str]]:
        # Checked now, done later, so that a bad operation leaves no half of a batch behind.
        action, body = request.get("action"), request.get("body", {})
        if not isinstance(body, Mapping):
            raise ApiError(400, "requests: expected an object for the body attribute")
        if action in ("delete", "clear"):
            return lambda name: self._drop(name) if action == "delete" else self._clear(name)
        if action == "addObject":
            object_id = object_id_of(body) if "objectID" in body else str(uuid.uuid4().int)
            return lambda name: self._save(name, object_id, body)
        if action not in ("updateObject", "partialUpdateObject", "partialUpdateObjectNoCreate", "deleteObject"):
            raise ApiError(400, f"requests: invalid action {str(action)[:40]!r}")
        named = object_id_of(body)
        if action == "updateObject":
            return lambda name: self._save(name, named, body)
        if action == "deleteObject":
            return lambda name: self._delete(name, named)
        _check_changes(body)
        return lambda name: self._partial(name, named, body, action == "partialUpdateObject")

    def _save(self, name: str, object_id: str, body: Mapping[str, Any]) -> Iterator[str]:
        self._made(name).save(object_id, body)
        yield object_id

    def _delete(self, name: str, object_id: str) -> Iterator[str]:
        self._made(name).delete(object_id)
        yield object_id

    def _partial(self, name: str, object_id: str, body: Mapping[str, Any], create: bool) -> Iterator[str]:
        self._change(self._made(name), object_id, body, create)
        yield object_id

    def _drop(self, name: str) -> Iterator[str]:
        self._indices.pop(name, None)
        yield from ()

    def _clear(self, name: str) -> Iterator[str]:
        self._made(name).clear()
        yield from ()

    @staticmethod
    def _change(index: Index, object_id: str, changes: Mapping[str, Any], create: bool) -> None:
        _check_changes(changes)
        old = index.records.get(object_id)
        if old is None and not create:
            return
        data = {} if old is None else dict(old.data)
        for attribute, change in changes.items():
            if isinstance(change, Mapping) and "_operation" in change:
                data[attribute] = _OPERATIONS[change["_operation"]](data.get(attribute), change.get("value"))
            else:
                data[attribute] = change
        index.save(object_id, data)


def object_id_of(body: Mapping[str, Any]) -> str:
    """The objectID of a record as a string (Algolia takes an integer too), or `ApiError` with 400."""
    value = body.get("objectID")
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise ApiError(400, "objectID: expected a non-empty string")
    return str(value)


def with_attributes(data: Mapping[str, Any], attributes: Iterable[str] | None) -> dict[str, Any]:
    """The record with the attributes asked for, and its objectID always; `-name` leaves one out."""
    if attributes is None:
        return dict(data)
    wanted = set(attributes)
    left_out = {name[1:] for name in wanted if name.startswith("-")}
    if "*" in wanted or (left_out and len(left_out) == len(wanted)):
        return {name: value for name, value in data.items() if name not in left_out}
    return {name: value for name, value in data.items() if name in wanted or name == "objectID"}


def texts(data: Mapping[str, Any]) -> Iterator[str]:
    """All text of a record, numbers written out; neither the objectID nor names that begin with `_`."""
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


def _number(value: Any) -> Any:
    return value if isinstance(value, (int, float)) else 0


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# https://www.algolia.com/doc/rest-api/search/partial-update-object
_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "Increment": lambda old, value: _number(old) + value,
    "Decrement": lambda old, value: _number(old) - value,
    "IncrementFrom": lambda old, value: _number(old) + 1 if _number(old) == value else old,
    "IncrementSet": lambda old, value: max(_number(old), value),
    "Add": lambda old, value: [*_list(old), value],
    "AddUnique": lambda old, value: _list(old) if value in _list(old) else [*_list(old), value],
    "Remove": lambda old, value: [each for each in _list(old) if each != value],
}


def _check_changes(changes: Mapping[str, Any]) -> None:
    for attribute, change in changes.items():
        if not isinstance(change, Mapping) or "_operation" not in change:
            continue
        operation, value = change["_operation"], change.get("value")
        if not isinstance(operation, str) or operation not in _OPERATIONS:
            raise ApiError(400, f"{attribute}: invalid operation {str(operation)[:40]!r}")
        if operation[:2] in ("In", "De") and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ApiError(400, f"{attribute}: {operation} needs a number")
