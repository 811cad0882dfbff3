"""
What a search answers: words, filters, pages, facets, highlights.

Records match if they have all the words of the query; they come in the order in which they were saved. That is no
relevance, and is not meant to be. Responses have the shape of https://www.algolia.com/doc/rest-api/search.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, quote_plus

from .filters import FilterError, Predicate, facet_value, predicate, values_of
from .records import WORD, Index, Record, Refused, to_json, with_attributes

# Algolia reads no more of a query than this.
_LONGEST_QUERY = 512
_MAX_HITS_PER_PAGE = 1000
# `paginationLimitedTo`, of which 1000 is the default.
_REACHABLE = 1000
_EXHAUSTIVE = {"facetsCount": True, "nbHits": True, "typo": True}
# How many texts of hits are kept for one way to show them, and for how many ways.
_MOST_TEXTS = 200
_MOST_LOOKS = 256


def merged_params(body: Mapping[str, Any]) -> dict[str, Any]:
    """
    The parameters of one search, from both forms of a body.

    A `params` string is taken apart, its values staying strings; fields beside it win.
    """
    params = body.get("params")
    if params is None:
        return dict(body)
    if not isinstance(params, str):
        raise Refused(400, "params: expected a string")
    merged: dict[str, Any] = dict(parse_qsl(params.removeprefix("?"), keep_blank_values=True))
    merged.update((name, value) for name, value in body.items() if name != "params")
    return merged


def is_true(value: Any) -> bool:
    """Whether a parameter is on: `true`, or `"true"` as in a `params` string."""
    return value is True or (isinstance(value, str) and value.lower() == "true")


def search(name: str, index: Index, params: Mapping[str, Any], query_id: str | None) -> str:
    """The JSON text of a response to one search."""
    query = _text(params, "query")
    words = _words(query)
    matching = _matching(index, words, params)
    start, length, paging = _paging(index, params, len(matching))
    hits = _hits(index, matching[start : start + length], words, params)
    rest = {
        "nbHits": len(matching),
        **paging,
        **_facets(index, matching, params),
        "exhaustiveFacetsCount": True,
        "exhaustiveNbHits": True,
        "exhaustiveTypo": True,
        "exhaustive": _EXHAUSTIVE,
        "query": query,
        "params": _as_url(params),
        "index": name,
        "processingTimeMS": 1,
        "serverTimeMS": 1,
    }
    if query_id is not None:
        rest["queryID"] = query_id
    return f'{{"hits":[{hits}],{to_json(rest)[1:]}'


def browse(name: str, index: Index, params: Mapping[str, Any], query_id: str | None) -> str:
    """The JSON text of one page of a browse; a `cursor` in it leads to the next."""
    start = 0
    cursor = params.get("cursor")
    if cursor is not None:
        start, earlier = _opened(cursor)
        params = {**earlier, **{name: value for name, value in params.items() if name != "cursor"}}
    query = _text(params, "query")
    matching = _matching(index, _words(query), params)
    length = _integer(params, "hitsPerPage", 1000, 1, _MAX_HITS_PER_PAGE)
    hits = ",".join(_plain_hit(record, params) for record in matching[start : start + length])
    rest: dict[str, Any] = {
        "page": start // length,
        "nbHits": len(matching),
        "nbPages": -(-len(matching) // length),
        "hitsPerPage": length,
        "query": query,
        "params": _as_url(params),
        "processingTimeMS": 1,
    }
    if start + length < len(matching):
        rest["cursor"] = _cursor(start + length, params)
    if query_id is not None:
        rest["queryID"] = query_id
    return f'{{"hits":[{hits}],{to_json(rest)[1:]}'


def facet_hits(index: Index, facet: str, params: Mapping[str, Any]) -> str:
    """The JSON text of a response to a search for the values of a facet."""
    matching = _matching(index, _words(_text(params, "query")), params)
    wanted = _text(params, "facetQuery")
    words = _words(wanted)
    limit = _integer(params, "maxFacetHits", 10, 1, 100)
    counts = _counted(matching, facet)
    found = [(value, number) for value, number in _ranked(counts) if _has_words(value, words)][:limit]
    marker = _Marker(words, "<em>", "</em>")
    hits = [{"value": value, "highlighted": marker.mark(value)[0], "count": number} for value, number in found]
    return to_json({"facetHits": hits, "exhaustiveFacetsCount": True, "processingTimeMS": 1})


def recommend(name: str, index: Index, request: Mapping[str, Any], query_id: str | None) -> str:
    """
    The JSON text of one result of a recommendation: the other records that pass the filters, in their order.

    `trending-facets` answers with the most frequent values of the facet instead.
    """
    parameters = request.get("queryParameters")
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, Mapping):
        raise Refused(400, "queryParameters: expected an object")
    limit = _integer(request, "maxRecommendations", 30, 1, _MAX_HITS_PER_PAGE)
    matching = _matching(index, _words(_text(parameters, "query")), parameters)
    facet = _text(request, "facetName")
    if request.get("model") == "trending-facets":
        hits = ",".join(
            to_json({"facetName": facet, "facetValue": value, "_score": 100 - at})
            for at, (value, _) in enumerate(_ranked(_counted(matching, facet))[:limit])
        )
    else:
        if facet and request.get("facetValue") is not None:
            wanted = predicate({"facetFilters": [[f"{facet}:{request['facetValue']}"]]})
            matching = [record for record in matching if wanted is None or wanted(record.data)]
        others = [record for record in matching if record.object_id != request.get("objectID")]
        hits = ",".join(
            f'{_plain_hit(record, parameters)[:-1]},"_score":{max(100 - at, 1)}}}'
            for at, record in enumerate(others[:limit])
        )
    rest: dict[str, Any] = {
        "nbHits": len(matching),
        "page": 0,
        "nbPages": 1,
        "hitsPerPage": limit,
        "exhaustiveNbHits": True,
        "index": name,
        "processingTimeMS": 1,
    }
    if query_id is not None:
        rest["queryID"] = query_id
    return f'{{"hits":[{hits}],{to_json(rest)[1:]}'


def matching_filters(index: Index, params: Mapping[str, Any]) -> list[Record]:
    """The records that pass the filters, whatever their words."""
    return _matching(index, (), params)


def _words(query: str) -> tuple[str, ...]:
    return tuple(WORD.findall(query[:_LONGEST_QUERY].lower()))


def _matching(index: Index, words: Sequence[str], params: Mapping[str, Any]) -> list[Record]:
    try:
        wanted: Predicate | None = predicate(params)
    except FilterError as error:
        raise Refused(400, str(error)) from None
    found = index.having(words)
    return found if wanted is None else [record for record in found if wanted(record.data)]


def _paging(index: Index, params: Mapping[str, Any], found: int) -> tuple[int, int, dict[str, int]]:
    if params.get("offset") is not None or params.get("length") is not None:
        offset = _integer(params, "offset", 0, 0)
        length = _integer(params, "length", 20, 0, _MAX_HITS_PER_PAGE)
        return offset, length, {"offset": offset, "length": length}
    page = _integer(params, "page", 0, 0)
    default = index.settings.get("hitsPerPage")
    per_page = _integer(params, "hitsPerPage", default if isinstance(default, int) else 20, 0, _MAX_HITS_PER_PAGE)
    pages = -(-min(found, _REACHABLE) // per_page) if per_page else 0
    start = page * per_page
    length = max(min(per_page, _REACHABLE - start), 0)
    return start, length, {"page": page, "nbPages": pages, "hitsPerPage": per_page}


def _facets(index: Index, matching: Iterable[Record], params: Mapping[str, Any]) -> dict[str, Any]:
    names = _names(params, "facets")
    if not names:
        return {}
    if "*" in names:
        configured = index.settings.get("attributesForFaceting") or []
        names = [str(each).rpartition("(")[2].rstrip(")") for each in configured]
    most = _integer(params, "maxValuesPerFacet", 100, 1, _MAX_HITS_PER_PAGE)
    facets: dict[str, dict[str, int]] = {}
    stats: dict[str, dict[str, float]] = {}
    for name in names:
        counts = _counted(matching, name)
        if counts:
            facets[name] = dict(_ranked(counts)[:most])
        numbers = [
            value
            for record in matching
            for value in values_of(record.data, name)
            if isinstance(value, (int, float)) and not isinstance(value, bool)
        ]
        if numbers:
            total = sum(numbers)
            stats[name] = {"min": min(numbers), "max": max(numbers), "avg": total / len(numbers), "sum": total}
    return {"facets": facets, "facets_stats": stats} if stats else {"facets": facets}


def _counted(matching: Iterable[Record], facet: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for record in matching:
        # A record counts once for a value, however often it has it.
        counts.update({written for value in values_of(record.data, facet) if (written := facet_value(value))})
    return counts


def _ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


class _Marker:
    """Marks the words of one query in text: whole words, and the last one where a word begins with it."""

    def __init__(self, words: tuple[str, ...], before: str, after: str) -> None:
        self.words = words
        self.before = before
        self.after = after
        self._found = _finder(words) if words else None

    @property
    def key(self) -> tuple[Any, ...]:
        return self.words, self.before, self.after

    def mark(self, text: str) -> tuple[str, set[str]]:
        """The text as HTML, and the words that were found in it."""
        if self._found is None or self._found.search(text) is None:
            return html.escape(text, quote=False), set()
        parts: list[str] = []
        matched: set[str] = set()
        at = 0
        for match in self._found.finditer(text):
            word = match[0]
            matched.add(word.lower())
            parts += [html.escape(text[at : match.start()], quote=False), self.before, word, self.after]
            at = match.end()
        parts.append(html.escape(text[at:], quote=False))
        return "".join(parts), matched

    def result(self, value: Any) -> Any:
        """The `_highlightResult` of a value, of the same shape; None where there is nothing to show."""
        if isinstance(value, Mapping):
            inner = {name: self.result(each) for name, each in value.items()}
            return {name: each for name, each in inner.items() if each is not None}
        if isinstance(value, list):
            return [each for item in value if (each := self.result(item)) is not None]
        if value is None or isinstance(value, bool):
            return None
        text, matched = self.mark(str(value))
        if not matched:
            return {"value": text, "matchLevel": "none", "matchedWords": []}
        return {
            "value": text,
            "matchLevel": "full" if len(matched) == len(set(self.words)) else "partial",
            "fullyHighlighted": matched.issuperset(WORD.findall(str(value).lower())),
            "matchedWords": sorted(matched),
        }


@lru_cache(maxsize=256)
def _finder(words: tuple[str, ...]) -> re.Pattern[str]:
    # Words are made of letters, digits and underscores: nothing in them is special to a pattern, or to HTML.
    whole = "|".join(dict.fromkeys(words))
    return re.compile(rf"(?<!\w)(?:(?:{whole})(?!\w)|{words[-1]})", re.IGNORECASE)


def _hits(index: Index, records: Iterable[Record], words: tuple[str, ...], params: Mapping[str, Any]) -> str:
    retrieved = _names(params, "attributesToRetrieve")
    highlighted = _names(params, "attributesToHighlight")
    marker = _Marker(words, _text(params, "highlightPreTag") or "<em>", _text(params, "highlightPostTag") or "</em>")
    known = _known_texts(index, (*marker.key, _frozen(retrieved), _frozen(highlighted)))
    texts = []
    for record in records:
        text = known.get(record.object_id)
        if text is None:
            text = known[record.object_id] = _hit(record, marker, retrieved, highlighted)
        texts.append(text)
    return ",".join(texts)


def _known_texts(index: Index, look: tuple[Any, ...]) -> dict[str, str]:
    known = index.hit_texts.get(look)
    if known is None or len(known) > _MOST_TEXTS:
        if len(index.hit_texts) >= _MOST_LOOKS:
            index.hit_texts.clear()
        known = index.hit_texts[look] = {}
    return known


def _hit(record: Record, marker: _Marker, retrieved: list[str] | None, highlighted: list[str] | None) -> str:
    plain = record.json if retrieved is None else to_json(with_attributes(record.data, retrieved))
    if highlighted == []:
        return plain
    everything = highlighted is None or "*" in highlighted
    shown = {
        name: result
        for name, value in record.data.items()
        if name != "objectID" and not name.startswith("_") and (everything or name in (highlighted or ()))
        if (result := marker.result(value)) is not None
    }
    return f'{plain[:-1]},"_highlightResult":{to_json(shown)}}}'


def _frozen(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _plain_hit(record: Record, params: Mapping[str, Any]) -> str:
    attributes = _names(params, "attributesToRetrieve")
    return record.json if attributes is None else to_json(with_attributes(record.data, attributes))


def _has_words(text: str, words: Sequence[str]) -> bool:
    if not words:
        return True
    own = WORD.findall(text.lower())
    return all(word in own for word in words[:-1]) and any(word.startswith(words[-1]) for word in own)


def _as_url(params: Mapping[str, Any]) -> str:
    return "&".join(
        f"{_quoted(name)}={_quoted(_as_text(value))}" for name, value in params.items() if name != "indexName"
    )


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else to_json(value)


def _quoted(text: str) -> str:
    return text if text.isalnum() and text.isascii() else quote_plus(text, errors="replace")


def _cursor(start: int, params: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(to_json([start, dict(params)]).encode()).decode()


def _opened(cursor: Any) -> tuple[int, dict[str, Any]]:
    try:
        start, params = json.loads(base64.urlsafe_b64decode(cursor))
        if not isinstance(start, int) or start < 0 or not isinstance(params, dict):
            raise ValueError
    except (TypeError, ValueError, RecursionError):
        raise Refused(400, "cursor: not one that this server gave") from None
    return start, params


def _text(params: Mapping[str, Any], name: str) -> str:
    value = params.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Refused(400, f"{name}: expected a string")
    return value


def _integer(params: Mapping[str, Any], name: str, default: int, least: int, most: int | None = None) -> int:
    value = params.get(name)
    if value is None:
        return default
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise Refused(400, f"{name}: expected an integer, at least {least}")
    return number if most is None else min(number, most)


def _names(params: Mapping[str, Any], name: str) -> list[str] | None:
    # A list of names: a JSON array, or in a `params` string its text, or names with commas between them.
    value = params.get(name)
    if value is None:
        return None
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise Refused(400, f"{name}: expected an array of strings") from None
        else:
            value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Refused(400, f"{name}: expected an array of strings")
    return value
