"""Makes references to the hits in search results, which are algoliasearch's models or their JSON."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from ...checks import check_type, wrong_type
from ...identity import is_user_token
from .reference import HitReference


def references_in(results: Any, index_name: str | None, user_token: str | None) -> list[HitReference]:
    """One reference for each hit, in the order of the results.

    Args:
        results: What a search returned, or a list of such results.
        index_name: The index of all hits. By default, the one that each result names.
        user_token: The user token of the search, for results that do not name it.

    Raises:
        ValueError: There is no index name, or the results are facet values.
        TypeError: `results` is not what a search returns, or `index_name` is not a string.
    """
    if index_name is not None:
        check_type("index_name", index_name, str, "a string")
    found = _single_results(results)
    with_hits = [result for result in found if _get(result, "hits") is not None and not _has_facet_values(result)]
    if found and not with_hits:
        if any(map(_has_facet_values, found)):
            raise ValueError("results are the values of a facet: there are no hits to refer to")
        raise wrong_type("results", "what a search returned, with its hits", found[0])
    # If some results name a token and others do not, the queries of the others were sent without a token.
    if any("userToken" in _params(result) for result in found):
        user_token = None
    return [reference for result in with_hits for reference in _references_in_one(result, index_name, user_token)]


def _has_facet_values(result: Any) -> bool:
    """Whether a result has facet values (of a facet search, or Recommend's trending facets), so no hit is an object."""
    if _get(result, "facetHits", "facet_hits") is not None:
        return True
    first = _unwrapped(next(iter(_get(result, "hits") or ()), None))
    return _get(first, "facetName", "facet_name") is not None and _get(first, "objectID", "object_id") is None


def _references_in_one(result: Any, index_name: str | None, user_token: str | None) -> list[HitReference]:
    hits = _get(result, "hits")
    if not hits:
        return []
    index = index_name or _get(result, "index") or _get(result, "indexUsed", "index_used")
    if index is None:
        raise ValueError("index_name is missing: give it, as these results do not name their index")
    params = _params(result)
    token = params.get("userToken", user_token)
    owner = token if is_user_token(token) else None
    query_id = _get(result, "queryID", "query_id") or None
    start = _hits_before(result, params)
    return [
        HitReference(query_id, index, _object_id(hit), None if start is None else start + number, user_token=owner)
        for number, hit in enumerate(hits, start=1)
    ]


def _single_results(results: Any) -> list[Any]:
    """The single results in a list or in a multi-query; for a single query, a list of one result."""
    body = getattr(results, "raw_data", None)  # a response of a `…_with_http_info` method has it
    text = body if isinstance(body, str) else results
    if isinstance(text, str | bytes):
        results = _decoded(text)
    if isinstance(results, list | tuple):
        return [single for result in results for single in _single_results(result)]
    several = _get(results, "results")
    if isinstance(several, list | tuple) and _get(results, "hits") is None:
        return _single_results(several)
    return [_unwrapped(results)]


def _decoded(text: str | bytes) -> Any:
    with contextlib.suppress(ValueError, RecursionError):  # these errors contain the text, which may be personal
        return json.loads(text)
    raise ValueError(f"results must be what a search returned, and this text is no JSON (its length is {len(text)})")


def _unwrapped(thing: Any) -> Any:
    """The model inside one of algoliasearch's wrappers for "one of several models"; anything else as it is."""
    inside = None if isinstance(thing, Mapping) else getattr(thing, "actual_instance", None)
    return thing if inside is None else inside


def _params(result: Any) -> dict[str, str]:
    """The search parameters that the result repeats."""
    params = _get(result, "params")
    if not isinstance(params, str):
        return {}
    return {name: values[-1] for name, values in parse_qs(params).items()}


def _hits_before(result: Any, params: Mapping[str, str]) -> int | None:
    """The number of hits before this page; None if the result does not say."""
    offset, page = _number(_get(result, "offset")), _number(_get(result, "page"))
    if offset is None and page is None:
        offset, page = _number(params.get("offset")), _number(params.get("page"))
    if offset is not None:
        return offset
    if page is None:
        return 0 if _is_recommended(result) else None
    if not page:
        return 0
    per_page = _number(_get(result, "hitsPerPage", "hits_per_page")) or _number(params.get("hitsPerPage"))
    return page * per_page if per_page else None


def _is_recommended(result: Any) -> bool:
    """Whether a result, then of one page only, is of Recommend: its models, or the hits' scores in JSON, tell."""
    first = _unwrapped(next(iter(_get(result, "hits")), None))
    if isinstance(first, Mapping):
        return "_score" in first
    return any(type(each).__module__.startswith("algoliasearch.recommend.") for each in (result, first))


def _number(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 16 else None
    return value if isinstance(value, int) and value >= 0 else None


def _object_id(hit: Any) -> str:
    object_id = _get(_unwrapped(hit), "objectID", "object_id")
    if not isinstance(object_id, str):
        raise ValueError("results have a hit without objectID: there is nothing to refer to")
    return object_id


def _get(thing: Any, *names: str) -> Any:
    """The value of a field of a model or of JSON, under the first of these names that has a value."""
    for name in names:
        value = thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
        if value is not None:
            return value
    return None
