"""The indices of the stand-in, by name: their records, settings, replicas and tasks.

Everything is in memory and is done at once, so a task is published as soon as its number is known.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from .errors import ApiError
from .index import Contents, Index, replica_name


class Records:
    """All indices, by name; with `any_index`, any other name is an empty index. Any thread may call any method."""

    def __init__(self, *, any_index: bool = False) -> None:
        self._any_index = any_index
        # A search holds the lock too: it is short, and no record may change during it.
        self.lock = threading.RLock()
        self._indices: dict[str, Index] = {}
        self._tasks = count(1)

    def index(self, name: str) -> Index:
        """The index of this name. Raises `ApiError` with 404 if it does not exist."""
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
        """Save records without a request, as the JSON that a client would send. Returns the objectIDs.

        Raises:
            ValueError: `name` is not a valid name, or a record is not a mapping or cannot be written as JSON.
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
        """Carry out all batch operations, each of them `{"action": …, "body": {…}}`, or none if one is invalid.

        Returns the number of the task and the objectIDs in order.
        """
        with self.lock:
            steps = [self._step(request) for request in requests]
            if not steps:
                self.made(name)
            return self.task(), [object_id for step in steps for object_id in step(name)]

    def partial(self, name: str, object_id: str, changes: Mapping[str, Any], create: bool) -> int:
        with self.lock:
            self._change(self._writable(name), object_id, changes, create)
            return self.task()

    def settings(self, name: str) -> dict[str, Any]:
        """The settings of an index, with Algolia's defaults. Raises `ApiError` with 404 if there is no such index."""
        with self.lock:
            index = self._indices.get(name)
            if index is None and not self._any_index:
                raise ApiError(404, "Index does not exist")
            own = {} if index is None else index.settings
            primary = {} if index is None or index.primary is None else {"primary": index.primary}
            return {**_DEFAULT_SETTINGS, **own, **primary}

    def set_settings(self, name: str, changes: Mapping[str, Any], to_replicas: bool = False) -> int:
        """Change settings; None resets a setting to its default. Makes the index if it does not exist."""
        with self.lock:
            _check_settings(changes)
            index = self.made(name)
            before = index.replicas
            after = (
                self._checked_replicas(name, index, changes.get("replicas") or []) if "replicas" in changes else before
            )
            alone = {key: value for key, value in changes.items() if key not in ("primary", "version")}
            _set(index, alone)
            self._replicate(name, index, before, after)
            if to_replicas:
                for replica in self.with_replicas(name)[1:]:
                    _set(replica, {key: value for key, value in alone.items() if key != "replicas"})
            return self.task()

    def with_replicas(self, name: str, replicas: bool = True) -> list[Index]:
        """An index, which is made if it does not exist, and, if `replicas` is true, its replicas."""
        index = self.made(name)
        return [index, *(self._indices[each] for each in index.replicas)] if replicas else [index]

    def copy(self, source: str, destination: str, scope: Sequence[str] | None, move: bool) -> int:
        """Copy or move an index, as a whole or only the parts that `scope` names.

        A copy of an index that does not exist is an empty index; moving it does nothing. The replicas of the
        destination get its new records.
        """
        with self.lock:
            old = self._indices.get(source, None if move else Index())
            if old is not None and source != destination:
                self._copy(old, destination, scope, move)
                if move:
                    self.delete_index(source)
            return self.task()

    def _copy(self, old: Index, destination: str, scope: Sequence[str] | None, move: bool) -> None:
        new = self.made(destination)
        if not scope:
            self._writable(destination)
            if new.replicas and not move:
                raise ApiError(400, f"destination: {destination} has replicas, and cannot be copied to")
        new.copy_beside(old, scope or ("settings", "rules", "synonyms"))
        if not scope:
            contents = old.contents if move and old.primary is None else old.contents.copy()
            for index in self.with_replicas(destination):
                index.contents = contents

    def _checked_replicas(self, name: str, index: Index, wanted: list[str]) -> list[str]:
        if not all(wanted):
            raise ApiError(400, "replicas: expected names of indices")
        names = [replica_name(each) for each in wanted]
        if index.primary is not None and names:
            raise ApiError(400, f"replicas: {name} is itself a replica of {index.primary}")
        for each in names:
            other = self._indices.get(each)
            if each == name or (other is not None and (other.replicas or other.primary not in (None, name))):
                raise ApiError(400, f"replicas: {each} cannot be a replica of {name}")
        return names

    def _replicate(self, name: str, index: Index, before: list[str], after: list[str]) -> None:
        for each in set(before) - set(after):
            self._release(self._indices[each])
        for each in after:
            replica = self._indices.get(each)
            if replica is None:
                replica = self._indices[each] = Index()
                replica.copy_beside(index, ("settings",))
            replica.contents, replica.primary = index.contents, name

    @staticmethod
    def _release(replica: Index) -> None:
        replica.contents, replica.primary = replica.contents.copy(), None

    def delete_index(self, name: str) -> int:
        """Delete an index. Its replicas become independent indices."""
        with self.lock:
            index = self._indices.pop(name, None)
            if index is not None:
                for each in index.replicas:
                    self._release(self._indices[each])
                primary = self._indices.get(index.primary or "")
                if primary is not None:
                    kept = [each for each in primary.settings["replicas"] if replica_name(each) != name]
                    _set(primary, {"replicas": kept})
            return self.task()

    def task(self) -> int:
        return next(self._tasks)

    def made(self, name: str) -> Index:
        """An index, which is made if it does not exist."""
        index = self._indices.get(name)
        if index is None:
            index = self._indices[name] = Index()
        return index

    def _writable(self, name: str) -> Contents:
        index = self.made(name)
        if index.primary is not None:
            raise ApiError(403, f"{name} is a replica: write to its primary, {index.primary}")
        return index.contents

    def _step(self, request: Mapping[str, Any]) -> Callable[[str], Iterator[str]]:
        # Operations are checked before any is carried out, so that a bad one does not leave half of a batch done.
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
        self._writable(name).save(object_id, body)
        yield object_id

    def _delete(self, name: str, object_id: str) -> Iterator[str]:
        self._writable(name).delete(object_id)
        yield object_id

    def _partial(self, name: str, object_id: str, body: Mapping[str, Any], create: bool) -> Iterator[str]:
        self._change(self._writable(name), object_id, body, create)
        yield object_id

    def _drop(self, name: str) -> Iterator[str]:
        self.delete_index(name)
        yield from ()

    def _clear(self, name: str) -> Iterator[str]:
        self._writable(name).clear()
        yield from ()

    @staticmethod
    def _change(contents: Contents, object_id: str, changes: Mapping[str, Any], create: bool) -> None:
        _check_changes(changes)
        old = contents.records.get(object_id)
        if old is None and not create:
            return
        data = {} if old is None else dict(old.data)
        for attribute, change in changes.items():
            if isinstance(change, Mapping) and "_operation" in change:
                data[attribute] = _OPERATIONS[change["_operation"]](data.get(attribute), change.get("value"))
            else:
                data[attribute] = change
        contents.save(object_id, data)


# https://www.algolia.com/doc/rest-api/search/get-settings
_DEFAULT_SETTINGS: dict[str, Any] = {
    "minWordSizefor1Typo": 4,
    "minWordSizefor2Typos": 8,
    "hitsPerPage": 20,
    "maxValuesPerFacet": 100,
    "version": 2,
    "paginationLimitedTo": 1000,
    "exactOnSingleWordQuery": "attribute",
    "ranking": ["typo", "geo", "words", "filters", "proximity", "attribute", "exact", "custom"],
    "separatorsToIndex": "",
    "removeWordsIfNoResults": "none",
    "queryType": "prefixLast",
    "highlightPreTag": "<em>",
    "highlightPostTag": "</em>",
    "alternativesAsExact": ["ignorePlurals", "singleWordSynonym"],
}


# The settings among them that a search reads.
_LISTS = (
    "attributesForFaceting",
    "attributesToHighlight",
    "attributesToRetrieve",
    "attributesToSnippet",
    "replicas",
    "responseFields",
    "unretrievableAttributes",
)
_TEXTS = ("highlightPostTag", "highlightPreTag", "snippetEllipsisText", "sortFacetValuesBy")
_NUMBERS = ("hitsPerPage", "maxValuesPerFacet")


def _check_settings(changes: Mapping[str, Any]) -> None:
    """Raise `ApiError` with 400 if a setting does not have its type; None is valid for each setting."""
    for name, value in changes.items():
        if value is None:
            continue
        if name in _LISTS and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            raise ApiError(400, f"{name}: expected an array of strings")
        if name in _TEXTS and not isinstance(value, str):
            raise ApiError(400, f"{name}: expected a string")
        if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise ApiError(400, f"{name}: expected an integer, at least 0")


def _set(index: Index, changes: Mapping[str, Any]) -> None:
    index.settings = {name: value for name, value in {**index.settings, **changes}.items() if value is not None}


def object_id_of(body: Mapping[str, Any]) -> str:
    """The objectID of a record as a string (Algolia takes an integer too). Raises `ApiError` with 400 if invalid."""
    value = body.get("objectID")
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise ApiError(400, "objectID: expected a non-empty string")
    return str(value)


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
