"""Recommendations, which are simply other records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .facets import counted, positions_of, ranked
from .filters import has_value
from .hits import Look
from .index import Index, to_json
from .matching import filters_of, matching_records
from .parameters import MAX_HITS_PER_PAGE, integer_of, text_of, with_settings, words_of


def recommend(name: str, index: Index, request: Mapping[str, Any], query_id: str | None) -> str:
    """The JSON text of one result of a recommendation: the other records that pass the filters, in their order.

    `trending-facets` answers with the most frequent values of the facet instead.
    """
    parameters = request["queryParameters"]
    limit = integer_of(request, "maxRecommendations", 30, 1, MAX_HITS_PER_PAGE)
    matching = matching_records(index, words_of(text_of(parameters, "query")), filters_of(parameters))
    facet = text_of(request, "facetName")
    if request.get("model") == "trending-facets":
        hits = ",".join(
            to_json({"facetName": facet, "facetValue": value, "_score": 100 - at})
            for at, (value, _) in enumerate(ranked(counted(index, positions_of(matching), facet))[:limit])
        )
    else:
        if facet and request.get("facetValue") is not None:
            wanted = has_value(facet, str(request["facetValue"]))
            matching = [record for record in matching if wanted.holds(record.data)]
        look = Look.of((), with_settings(parameters, index.settings))
        others = [record for record in matching if record.object_id != request.get("objectID")]
        hits = ",".join(
            f'{look.plain(record)[:-1]},"_score":{max(100 - at, 1)}}}' for at, record in enumerate(others[:limit])
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
