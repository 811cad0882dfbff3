"""The response to a search: words, filters, pages, facets, highlights.

Records match if they have all the words of the query. They are returned in the order in which they were saved, and on
purpose not by relevance. Responses have the shape of https://www.algolia.com/doc/rest-api/search.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from itertools import repeat
from typing import Any, NamedTuple

from .errors import ApiError
from .facets import facets_of
from .filters import Filters
from .hits import Look
from .index import Index, Record, to_json
from .keys import with_restrictions
from .matching import filters_of, matching_records
from .parameters import (
    MAX_HITS_PER_PAGE,
    as_url,
    integer_of,
    is_true,
    names_of,
    text_of,
    with_settings,
    words_of,
)

# The default of `paginationLimitedTo`.
_REACHABLE = 1000
_FOR_EXPORTS = ("attributesToRetrieve", "unretrievableAttributes")
# How many answers of an index are kept, and how long each may be at most, in characters.
_MOST_KEPT = 500
_LONGEST_KEPT = 50_000
_WHO_ASKS = frozenset({"userToken", "clickAnalytics"})
_EXHAUSTIVE = {"facetsCount": True, "nbHits": True, "typo": True}


class Answer(NamedTuple):
    """The JSON text of a response, how many records were found, and how many hits are in it."""

    text: str
    nb_hits: int
    hits: int
    hits_per_page: int


class _Kept(NamedTuple):
    """The part of a response that is the same for every caller: all but `params` and the queryID.

    It is valid until the settings of the index change.
    """

    settings: Mapping[str, Any]
    text: str  # without the braces
    with_params: bool
    nb_hits: int
    hits: int
    hits_per_page: int


def search(name: str, index: Index, given: Mapping[str, Any], query_id: str | None) -> Answer:
    """The response to one search."""
    answers, asked, as_sent = index.contents.answers, _key(name, given), as_url(given)
    kept = answers.get(asked)
    if kept is None or kept.settings is not index.settings:
        kept = _searched(name, index, given)
        if len(kept.text) + len(as_sent) < _LONGEST_KEPT:
            if len(answers) >= _MOST_KEPT:
                answers.clear()
            answers[asked] = kept
    said = [kept.text] if kept.text else []
    if kept.with_params:
        said.append(f'"params":{to_json(as_sent)}')
    if query_id is not None:  # a caller who asks for a queryID always gets it
        said.append(f'"queryID":"{query_id}"')
    text = f"{{{','.join(said)}}}"
    return Answer(text, kept.nb_hits, kept.hits, kept.hits_per_page)


def _key(name: str, given: Mapping[str, Any]) -> Any:
    """A hashable key for what a search asks for, without who asks. It keeps `True` apart from `1`."""
    return name, *(
        (key, value if isinstance(value, str) else (repr(value),))
        for key, value in given.items()
        if key not in _WHO_ASKS
    )


def _searched(name: str, index: Index, given: Mapping[str, Any]) -> _Kept:
    params = with_settings(given, index.settings) if index.settings else given
    query = text_of(params, "query")
    words = words_of(query)
    filters = filters_of(params)
    matching = matching_records(index, words, filters)
    start, length, paging = _paging(params, len(matching))
    shown = matching[start : start + length]
    look = Look.of(words, params)
    hits = map(look.hit, shown)
    if is_true(params.get("getRankingInfo")):
        hits = map(_ranked, hits, shown, repeat(filters))
    rest = {
        "nbHits": len(matching),
        **paging,
        **facets_of(index, matching, params),
        "exhaustiveFacetsCount": True,
        "exhaustiveNbHits": True,
        "exhaustiveTypo": True,
        "exhaustive": _EXHAUSTIVE,
        "query": query,
        "index": name,
        "processingTimeMS": 1,
        "serverTimeMS": 1,
    }
    names = names_of(params, "responseFields")
    fields = {"hits", "params", *rest} if names is None or "*" in names else set(names)
    said = [f'"hits":[{",".join(hits)}]'] if "hits" in fields else []
    said += [f"{to_json(field)}:{to_json(value)}" for field, value in rest.items() if field in fields]
    return _Kept(
        index.settings,
        ",".join(said),
        "params" in fields,
        len(matching),
        len(shown),
        paging.get("hitsPerPage", length),
    )


def not_processed(name: str, index: Index, given: Mapping[str, Any]) -> str:
    """The response to a search that was skipped, because the searches before it found enough."""
    params = with_settings(given, index.settings)
    rest: dict[str, Any] = {
        **_paging(params, 0)[2],
        "nbHits": 0,
        "exhaustiveNbHits": True,
        "query": text_of(params, "query"),
        "params": as_url(given),
        "index": name,
        "processed": False,
        "processingTimeMS": 1,
    }
    return f'{{"hits":[],{to_json(rest)[1:]}'


def browse(
    name: str, index: Index, given: Mapping[str, Any], query_id: str | None, by_key: Mapping[str, Any]
) -> Answer:
    """One page of a browse. Its `cursor` leads to the next page, and does not contain the restrictions of the key."""
    start = 0
    cursor = given.get("cursor")
    if cursor is not None:
        start, earlier = _opened(cursor)
        given = {**earlier, **{name: value for name, value in given.items() if name != "cursor"}}
    params = with_restrictions(given, by_key)
    # A browse is an export, so it reads only the settings about which attributes can be retrieved.
    params = with_settings(params, {name: index.settings[name] for name in _FOR_EXPORTS if name in index.settings})
    query = text_of(params, "query")
    matching = matching_records(index, words_of(query), filters_of(params))
    length = integer_of(params, "hitsPerPage", 1000, 1, MAX_HITS_PER_PAGE)
    shown = matching[start : start + length]
    look = Look.of((), params)
    rest: dict[str, Any] = {
        "page": start // length,
        "nbHits": len(matching),
        "nbPages": -(-len(matching) // length),
        "hitsPerPage": length,
        "query": query,
        "params": as_url(given),
        "processingTimeMS": 1,
    }
    if start + length < len(matching):
        rest["cursor"] = _cursor(start + length, given)
    if query_id is not None:
        rest["queryID"] = query_id
    hits = ",".join(map(look.plain, shown))
    return Answer(f'{{"hits":[{hits}],{to_json(rest)[1:]}', len(matching), len(shown), length)


def _ranked(hit: str, record: Record, filters: Filters) -> str:
    """A hit with its `_rankingInfo`, in which all values but the score of the filters are placeholders."""
    info = {
        "nbTypos": 0,
        "firstMatchedWord": 0,
        "proximityDistance": 0,
        "userScore": record.position + 1,
        "geoDistance": 0,
        "geoPrecision": 1,
        "nbExactWords": 0,
        "words": 0,
        "filters": filters.score(record.data),
    }
    return f'{hit[:-1]},"_rankingInfo":{to_json(info)}}}'


def _paging(params: Mapping[str, Any], found: int) -> tuple[int, int, dict[str, int]]:
    if params.get("offset") is not None or params.get("length") is not None:
        offset = integer_of(params, "offset", 0, 0)
        length = integer_of(params, "length", 20, 0, MAX_HITS_PER_PAGE)
        return offset, length, {"offset": offset, "length": length}
    page = integer_of(params, "page", 0, 0)
    per_page = integer_of(params, "hitsPerPage", 20, 0, MAX_HITS_PER_PAGE)
    pages = -(-min(found, _REACHABLE) // per_page) if per_page else 0
    start = page * per_page
    length = max(min(per_page, _REACHABLE - start), 0)
    return start, length, {"page": page, "nbPages": pages, "hitsPerPage": per_page}


def _cursor(start: int, params: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(to_json([start, dict(params)]).encode()).decode()


def _opened(cursor: Any) -> tuple[int, dict[str, Any]]:
    try:
        start, params = json.loads(base64.urlsafe_b64decode(cursor))
        if not isinstance(start, int) or start < 0 or not isinstance(params, dict):
            raise ValueError
    except (TypeError, ValueError, RecursionError):
        raise ApiError(400, "cursor: not one that this server gave") from None
    return start, params
