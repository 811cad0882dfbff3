"""Which records a search finds: those that have all its words and pass its filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import ApiError
from .filters import FilterError, Predicate, predicate
from .keys import with_restrictions
from .records import Index, Record


def matching_records(index: Index, words: Sequence[str], params: Mapping[str, Any]) -> list[Record]:
    """The records with all of `words`, the last one also as the beginning of a word, that pass the filters."""
    wanted = wanted_by(params)
    found = index.having(words)
    return found if wanted is None else [record for record in found if wanted(record.data)]


def passes(record: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether one record passes the filters."""
    wanted = wanted_by(params)
    return wanted is None or wanted(record)


def wanted_by(params: Mapping[str, Any]) -> Predicate | None:
    """What the filters ask of a record, None for nothing; `ApiError` with 400 if they can't be read."""
    try:
        return predicate(params)
    except FilterError as error:
        raise ApiError(400, str(error)) from None


def restricted(params: Mapping[str, Any], by_key: Mapping[str, str]) -> dict[str, Any]:
    """The parameters of a search together with those of its key; `ApiError` with 400 if its filters can't be read."""
    if by_key.get("filters") and params.get("filters"):
        for text in (by_key["filters"], params["filters"]):
            wanted_by({"filters": text})  # joined with the other it could mean something else
    return with_restrictions(params, by_key)
