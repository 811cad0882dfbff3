"""
What a search answers: words, filters, pages, facets, highlights.

Records match if they have all the words of the query; they come in the order in which they were saved. That is no
relevance, and is not meant to be. Responses have the shape of https://www.algolia.com/doc/rest-api/search.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from .errors import ApiError
from .facets import facets_of
from .hits import hits_of, plain_hit
from .matching import matching_records, restricted
from .parameters import MAX_HITS_PER_PAGE, as_url, integer_of, text_of, words_of
from .records import Index, to_json

# `paginationLimitedTo`, of which 1000 is the default.
_REACHABLE = 1000
_EXHAUSTIVE = {"facetsCount": True, "nbHits": True, "typo": True}


def search(name: str, index: Index, params: Mapping[str, Any], query_id: str | None) -> str:
    """The JSON text of a response to one search."""
    query = text_of(params, "query")
    words = words_of(query)
    matching = matching_records(index, words, params)
    start, length, paging = _paging(index, params, len(matching))
    hits = hits_of(index, matching[start : start + length], words, params)
    rest = {
        "nbHits": len(matching),
        **paging,
        **facets_of(index, matching, params),
        "exhaustiveFacetsCount": True,
        "exhaustiveNbHits": True,
        "exhaustiveTypo": True,
        "exhaustive": _EXHAUSTIVE,
        "query": query,
        "params": as_url(params),
        "index": name,
        "processingTimeMS": 1,
        "serverTimeMS": 1,
    }
    if query_id is not None:
        rest["queryID"] = query_id
    return f'{{"hits":[{hits}],{to_json(rest)[1:]}'


def browse(name: str, index: Index, params: Mapping[str, Any], query_id: str | None, by_key: Mapping[str, str]) -> str:
    """The JSON text of one page of a browse; a `cursor` in it leads to the next."""
    start = 0
    cursor = params.get("cursor")
    if cursor is not None:
        start, earlier = _opened(cursor)
        params = {**earlier, **{name: value for name, value in params.items() if name != "cursor"}}
    asked, params = params, restricted(params, by_key)
    query = text_of(params, "query")
    matching = matching_records(index, words_of(query), params)
    length = integer_of(params, "hitsPerPage", 1000, 1, MAX_HITS_PER_PAGE)
    hits = ",".join(plain_hit(record, params) for record in matching[start : start + length])
    rest: dict[str, Any] = {
        "page": start // length,
        "nbHits": len(matching),
        "nbPages": -(-len(matching) // length),
        "hitsPerPage": length,
        "query": query,
        "params": as_url(params),
        "processingTimeMS": 1,
    }
    if start + length < len(matching):
        rest["cursor"] = _cursor(start + length, asked)
    if query_id is not None:
        rest["queryID"] = query_id
    return f'{{"hits":[{hits}],{to_json(rest)[1:]}'


def _paging(index: Index, params: Mapping[str, Any], found: int) -> tuple[int, int, dict[str, int]]:
    if params.get("offset") is not None or params.get("length") is not None:
        offset = integer_of(params, "offset", 0, 0)
        length = integer_of(params, "length", 20, 0, MAX_HITS_PER_PAGE)
        return offset, length, {"offset": offset, "length": length}
    page = integer_of(params, "page", 0, 0)
    default = index.settings.get("hitsPerPage")
    per_page = integer_of(params, "hitsPerPage", default if isinstance(default, int) else 20, 0, MAX_HITS_PER_PAGE)
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
