"""Which records a search finds: those that have all its words and pass its filters, with the best score first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import ApiError
from .filter_grammar import FilterError
from .filters import Filters, read
from .index import Index, Record


def filters_of(params: Mapping[str, Any]) -> Filters:
    """The filters of a search. Raises `ApiError` with 400 and Algolia's message if they are invalid."""
    try:
        return read(params)
    except FilterError as error:
        raise ApiError(400, str(error)) from None


def matching_records(index: Index, words: Sequence[str], filters: Filters) -> list[Record]:
    """The records with all of `words`, the last one also as the beginning of a word, that pass the filters."""
    found = index.having(words, filters.positions(index.contents))
    if filters.ranks:
        score = filters.score_at(index.contents)
        # The sort is stable: records with the same score stay in their order.
        found.sort(key=lambda record: -score(record.position))
    return found


def passes(record: Mapping[str, Any], params: Mapping[str, Any]) -> bool:
    """Whether one record passes the filters."""
    wanted = filters_of(params).predicate
    return wanted is None or wanted(record)
