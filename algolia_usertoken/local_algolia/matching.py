"""Which records a search finds: those that have all its words and pass its filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .errors import ApiError
from .filters import FilterError, Predicate, predicate
from .records import Index, Record


def matching_records(index: Index, words: Sequence[str], params: Mapping[str, Any]) -> list[Record]:
    """The records with all of `words`, the last one also as the beginning of a word, that pass the filters."""
    try:
        wanted: Predicate | None = predicate(params)
    except FilterError as error:
        raise ApiError(400, str(error)) from None
    found = index.having(words)
    return found if wanted is None else [record for record in found if wanted(record.data)]
