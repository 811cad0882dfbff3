"""The requests that search: https://www.algolia.com/doc/rest-api/search and recommend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from . import query
from .application import Application
from .calls import Call, Reply, index_name
from .errors import ApiError
from .facets import facet_hits
from .keys import with_restrictions
from .parameters import is_true, merged_params
from .received import Operation, ReceivedSearch
from .recommend import recommend
from .routes import on

_STRATEGIES = (None, "none", "stopIfEnoughMatches")


@on("POST", "/1/indexes/*/queries", for_pages=True)
def multi_search(app: Application, call: Call) -> Reply:
    strategy = call.object().get("strategy")
    if strategy not in _STRATEGIES:
        raise ApiError(400, f"strategy: expected one of {', '.join(each for each in _STRATEGIES if each)}")
    results = []
    found, wanted = 0, None
    for request in call.requests():
        name, params = index_name(request), merged_params(request)
        if request.get("type") == "facet":
            facet = request.get("facet")
            if not isinstance(facet, str):
                raise ApiError(400, "facet: expected a string")
            results.append(facet_hits_of(app, call, name, facet, params))
        elif wanted is not None and found >= wanted:
            results.append(query.not_processed(name, app.records.index(name), params))
        else:
            answer = search(app, call, "search", name, params)
            results.append(answer.text)
            if strategy == "stopIfEnoughMatches":
                found, wanted = found + answer.hits, answer.hits_per_page
    return Reply(200, f'{{"results":[{",".join(results)}]}}'.encode())


@on("POST", "/1/indexes/*/recommendations", for_pages=True)
def recommendations(app: Application, call: Call) -> Reply:
    results = []
    for request in call.requests():
        name = index_name(request)
        params = {} if request.get("queryParameters") is None else request["queryParameters"]
        if not isinstance(params, dict):
            raise ApiError(400, "queryParameters: expected an object")
        query_id = _note(app, call, "recommend", name, params)
        request = {**request, "queryParameters": with_restrictions(params, call.grant.params)}
        results.append(recommend(name, app.records.index(name), request, query_id))
    return Reply(200, f'{{"results":[{",".join(results)}]}}'.encode())


@on("POST", "/1/indexes/{index}/query", for_pages=True)
def search_index(app: Application, call: Call, name: str) -> Reply:
    return Reply(200, search(app, call, "search", name, merged_params(call.object())).text.encode())


@on("GET", "/1/indexes/{index}", for_pages=True)
def search_index_by_get(app: Application, call: Call, name: str) -> Reply:
    params = dict(parse_qsl(call.query_string, keep_blank_values=True))
    return Reply(200, search(app, call, "search", name, params).text.encode())


@on("POST", "/1/indexes/{index}/browse", for_pages=True, acl="browse")
def browse(app: Application, call: Call, name: str) -> Reply:
    return Reply(200, search(app, call, "browse", name, merged_params(call.object())).text.encode())


@on("POST", "/1/indexes/{index}/facets/{facet}/query", for_pages=True)
def facet_search(app: Application, call: Call, name: str, facet: str) -> Reply:
    return Reply(200, facet_hits_of(app, call, name, facet, merged_params(call.object())).encode())


def search(app: Application, call: Call, operation: Operation, name: str, params: Mapping[str, Any]) -> query.Answer:
    """Carry out a search or a browse, and record who asked for it."""
    asked = _asked(app, call, operation, name, params)
    nb_hits = None
    try:
        index = app.records.index(name)
        if operation == "browse":
            answer = query.browse(name, index, params, asked["query_id"], call.grant.params)
        else:
            answer = query.search(name, index, with_restrictions(params, call.grant.params), asked["query_id"])
        nb_hits = answer.nb_hits
        return answer
    finally:
        call.searches.append(ReceivedSearch(**asked, nb_hits=nb_hits))


def facet_hits_of(app: Application, call: Call, name: str, facet: str, params: Mapping[str, Any]) -> str:
    """The values of a facet. Records who asked for them."""
    _note(app, call, "facets", name, params)
    return facet_hits(app.records.index(name), facet, with_restrictions(params, call.grant.params))


def _note(app: Application, call: Call, operation: Operation, name: str, params: Mapping[str, Any]) -> str | None:
    """Record who asked. Returns the query id for the answer, if the search asks for one."""
    asked = _asked(app, call, operation, name, params)
    call.searches.append(ReceivedSearch(**asked))
    query_id: str | None = asked["query_id"]
    return query_id


def _asked(app: Application, call: Call, operation: Operation, name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `ReceivedSearch` that are known before the search is carried out."""
    call.grant.check_index(name)
    get = call.headers.get
    in_header, in_parameter = get("x-algolia-usertoken"), params.get("userToken")
    if in_header is None:
        in_header = call.in_query("x-algolia-usertoken")
    if in_parameter is not None and not isinstance(in_parameter, str):
        raise ApiError(400, "userToken: expected a string")
    in_key = call.grant.user_token
    forwarded_for = get("x-forwarded-for")
    forwarded = forwarded_for.split(",", 1)[0].strip() if forwarded_for else ""
    token = in_parameter or in_header or in_key or None
    words = params.get("query", "")
    wants_id = operation != "facets" and is_true(call.grant.params.get("clickAnalytics", params.get("clickAnalytics")))
    query_id = app.received.query_ids.new() if wants_id else None
    return {
        "operation": operation,
        "index": name,
        "query": words if isinstance(words, str) else "",
        "params": params,
        "user_token_header": in_header,
        "user_token_parameter": in_parameter,
        "user_token_in_key": in_key,
        "forwarded_for": forwarded_for,
        "client_ip": call.client_ip,
        "cookie": get("cookie"),
        "user_token": token,
        "user": token or forwarded or call.client_ip,
        "query_id": query_id,
        "status": 200,
        "method": call.method,
        "path": call.path,
        "received_at": call.received_at,
    }
