"""Facets: the values of an attribute, how many records have each value, and the search for facet values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from .columns import column_of
from .hits import Marker, has_words
from .index import Index, Record, to_json
from .matching import filters_of, matching_records
from .parameters import MAX_HITS_PER_PAGE, integer_of, names_of, text_of, words_of

_V = TypeVar("_V")


def facet_hits(index: Index, facet: str, params: Mapping[str, Any]) -> str:
    """The JSON text of a response to a search for the values of a facet."""
    matching = matching_records(index, words_of(text_of(params, "query")), filters_of(params))
    wanted = text_of(params, "facetQuery")
    words = words_of(wanted)
    limit = integer_of(params, "maxFacetHits", 10, 1, 100)
    counts = counted(index, positions_of(matching), facet)
    found = [(value, number) for value, number in ranked(counts) if has_words(value, words)][:limit]
    marker = Marker(words, "<em>", "</em>")
    hits = [{"value": value, "highlighted": marker.mark(value)[0], "count": number} for value, number in found]
    return to_json({"facetHits": hits, "exhaustiveFacetsCount": True, "processingTimeMS": 1})


def facets_of(index: Index, matching: Iterable[Record], params: Mapping[str, Any]) -> dict[str, Any]:
    names = names_of(params, "facets")
    if not names:
        return {}
    if "*" in names:
        configured = index.settings.get("attributesForFaceting") or []
        names = [str(each).rpartition("(")[2].rstrip(")") for each in configured]
    most = integer_of(params, "maxValuesPerFacet", 100, 1, MAX_HITS_PER_PAGE)
    facets: dict[str, dict[str, int]] = {}
    stats: dict[str, dict[str, float]] = {}
    found = positions_of(matching)
    for name in names:
        counts = counted(index, found, name)
        if counts:
            facets[name] = dict(ranked(counts, text_of(params, "sortFacetValuesBy"))[:most])
        numbers = list(_with_counts(column_of(index.contents, name).numbers(), found))
        if numbers:
            total, times = sum(value * each for value, each in numbers), sum(each for _, each in numbers)
            stats[name] = {"min": min(numbers)[0], "max": max(numbers)[0], "avg": total / times, "sum": total}
    return {"facets": facets, "facets_stats": stats} if stats else {"facets": facets}


def positions_of(matching: Iterable[Record]) -> set[int]:
    """The positions of records."""
    return {record.position for record in matching}


def counted(index: Index, matching: set[int], facet: str) -> dict[str, int]:
    """How many of the records at these positions have each value of a facet."""
    counts = dict(_with_counts(column_of(index.contents, facet).written.items(), matching))
    counts.pop("", None)
    return counts


def _with_counts(values: Iterable[tuple[_V, set[int]]], matching: set[int]) -> Iterator[tuple[_V, int]]:
    # A record counts once for a value, even if it has the value several times.
    for value, positions in values:
        number = len(positions & matching)
        if number:
            yield value, number


def ranked(counts: Mapping[str, int], by: str = "count") -> list[tuple[str, int]]:
    """The values and their numbers: the most frequent first, or with `by` of "alpha" in the order of the alphabet."""
    if by == "alpha":
        return sorted(counts.items())
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
