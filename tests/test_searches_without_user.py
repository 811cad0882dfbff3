"""What a search carries that no user is known for, with each method of each client that searches."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
from algoliasearch.composition.client import CompositionClient, CompositionClientSync
from algoliasearch.composition.config import CompositionConfig
from algoliasearch.http.request_options import RequestOptions
from algoliasearch.http.transporter import EchoTransporter
from algoliasearch.http.transporter_sync import EchoTransporterSync
from algoliasearch.recommend.client import RecommendClient, RecommendClientSync
from algoliasearch.recommend.config import RecommendConfig
from algoliasearch.search.client import SearchClient, SearchClientSync
from algoliasearch.search.config import SearchConfig

from algolia_usertoken import (
    Identity,
    TokenAwareClientSync,
    TokenAwareTransporterSync,
    TokenProvider,
    identity_scope,
    make_token_aware,
)
from algolia_usertoken.search_request import search_kind

CLIENTS: dict[str, tuple[type[Any], type[Any], type[Any]]] = {
    "search": (SearchClient, SearchClientSync, SearchConfig),
    "recommend": (RecommendClient, RecommendClientSync, RecommendConfig),
    "composition": (CompositionClient, CompositionClientSync, CompositionConfig),
}
NO_AB_TEST = {"enableABTest": False}
NO_ANALYTICS = {"enableABTest": False, "analytics": False}
RECOMMENDATION = {"indexName": "products", "objectID": "1", "model": "related-products", "threshold": 0}
# An argument for each parameter of a method that searches, by its name.
ARGUMENTS: dict[str, Any] = {
    "index_name": "products",
    "facet_name": "brand",
    "composition_id": "home",
    "path": "1/indexes/products/query",
    "search_params": {"query": "shoe"},
    "search_method_params": {"requests": [{"indexName": "products"}, {"indexName": "shoes", "params": "query=x"}]},
    "search_for_facet_values_request": {},
    "get_recommendations_params": {"requests": [{**RECOMMENDATION, "fallbackParameters": {}}, RECOMMENDATION]},
    "request_body": {},
    "browse_params": {},
}


def client_of(
    kind: str, is_async: bool, searches_without_user: Any = "count", key: str = "key", **keywords: Any
) -> Any:
    asynchronous, synchronous, config_class = CLIENTS[kind]
    config = config_class("APP", key)
    transporter = EchoTransporter(config) if is_async else EchoTransporterSync(config)
    client = (asynchronous if is_async else synchronous)(transporter=transporter, config=config)
    return make_token_aware(client, TokenProvider(), searches_without_user=searches_without_user, **keywords)


def sent(client: Any, method: str, arguments: dict[str, Any], options: Any = None) -> tuple[str, str, Any, Any]:
    """Verb, path, headers and body of the request that a method makes."""
    answer = getattr(client, method)(**arguments, request_options=options)
    if inspect.isawaitable(answer):
        answer = asyncio.run(_awaited(answer))
    return answer.verb, answer.path, answer.headers, json.loads(answer.data) if answer.data else None


async def _awaited(answer: Any) -> Any:
    return await answer


def searching_methods() -> Iterator[Any]:
    """The methods of each client that send a search that counts, found by calling them."""
    for kind, (_, synchronous, _) in CLIENTS.items():
        for name, function in inspect.getmembers(synchronous, inspect.isfunction):
            if not name.endswith("_with_http_info"):
                continue
            given = [parameter for parameter in inspect.signature(function).parameters if parameter in ARGUMENTS]
            arguments = {parameter: ARGUMENTS[parameter] for parameter in given}
            try:
                verb, path, _, _ = sent(client_of(kind, False), name, arguments)
            except Exception:  # it needs other arguments: it is no search
                continue
            found = search_kind(verb, path)
            if found is not None:
                yield pytest.param(kind, name, arguments, found, id=f"{kind}-{name.removesuffix('_with_http_info')}")


METHODS = list(searching_methods())


def queries_of(kind: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The parameters of each query of a body, read apart from the code under test."""
    if kind in ("queries", "recommendations"):
        places = []
        for item in body["requests"]:
            places += [item] if kind == "queries" else [item.get("queryParameters") or {}]
            if "fallbackParameters" in item:
                places.append(item["fallbackParameters"])
    elif kind == "run":
        places = [body.get("params") or {}]
    elif kind == "run_facet_values":
        places = [(body.get("params") or {}).get("searchQuery") or {}]
    else:
        places = [body]
    return [
        {name: json.loads(value) for name, value in parse_qsl(place["params"]) if name in NO_ANALYTICS}
        if isinstance(place.get("params"), str)
        else {name: place[name] for name in NO_ANALYTICS if name in place}
        for place in places
    ]


def without_empty(value: Any) -> Any:
    """The body without the parameters, and without the objects that were made to hold them."""
    if isinstance(value, list):
        return [without_empty(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {name: without_empty(item) for name, item in value.items() if name not in NO_ANALYTICS}
    if isinstance(kept.get("params"), str):
        pairs = [pair for pair in kept["params"].split("&") if pair.partition("=")[0] not in NO_ANALYTICS]
        kept["params"] = "&".join(pairs)
    return {name: item for name, item in kept.items() if item not in ({}, "") or name == "fallbackParameters"}


def test_the_methods_that_search_are_found() -> None:
    assert {kind for _, _, _, kind in (parameter.values for parameter in METHODS)} >= {
        "query",
        "queries",
        "facet_values",
        "browse",
        "recommendations",
        "run",
        "run_facet_values",
    }


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(("client", "method", "arguments", "kind"), METHODS)
def test_a_search_without_user_differs_in_its_parameters_only(
    client: str, method: str, arguments: dict[str, Any], kind: str, is_async: bool
) -> None:
    before = sent(client_of(client, is_async, "count"), method, arguments)
    for choice, expected in (("no_ab_test", NO_AB_TEST), ("no_analytics", NO_ANALYTICS)):
        after = sent(client_of(client, is_async, choice), method, arguments)
        assert after[:2] == before[:2]
        assert {**after[2], "x-algolia-request-id": ""} == {**before[2], "x-algolia-request-id": ""}
        if kind in ("browse", "get_query", "get_browse"):
            assert after[3] == before[3]
            continue
        if kind == "recommendations":
            expected = {name: value for name, value in expected.items() if name != "enableABTest"}
        assert queries_of(kind, after[3]) == [expected] * len(queries_of(kind, after[3]))
        assert without_empty(after[3]) == without_empty(before[3] or {})


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("who", ["u-1", Identity(client_ip="203.0.113.7"), Identity(None, "login")], ids=repr)
@pytest.mark.parametrize(("client", "method", "arguments", "kind"), METHODS)
def test_nothing_is_added_where_somebody_is_known(
    client: str, method: str, arguments: dict[str, Any], kind: str, who: Any, is_async: bool
) -> None:
    with identity_scope(who):
        before = sent(client_of(client, is_async, "count"), method, arguments)
        assert sent(client_of(client, is_async, "no_analytics"), method, arguments)[3] == before[3]


def search(body: dict[str, Any], who: Any = None, options: Any = None, **keywords: Any) -> Any:
    client = client_of("search", False, keywords.pop("choice", "no_analytics"), **keywords)
    with identity_scope(who):
        return sent(client, "custom_post_with_http_info", {"path": "1/indexes/products/query", "body": body}, options)[
            3
        ]


@pytest.mark.parametrize("who", [None, Identity(), Identity(opted_out=True), Identity(client_ip="10.0.0.1")], ids=repr)
def test_analytics_are_off_for_whoever_has_neither_token_nor_address(who: Any) -> None:
    assert search({"query": "x"}, who) == {"query": "x", **NO_ANALYTICS}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"analytics": True}, {"analytics": True, "enableABTest": False}),
        ({"enableABTest": None}, {"enableABTest": None, "analytics": False}),
        ({"params": "query=x"}, {"params": "query=x&enableABTest=false&analytics=false"}),
        ({"params": ""}, {"params": "enableABTest=false&analytics=false"}),
        ({"params": "anal%79tics=true"}, {"params": "anal%79tics=true&enableABTest=false"}),
        ({"params": "enableABTest=&analytics="}, {"params": "enableABTest=&analytics="}),
        ({"params": 7}, {"params": 7, **NO_ANALYTICS}),
        ({"userToken": "u"}, {"userToken": "u"}),
        ({"params": "user%54oken=u"}, {"params": "user%54oken=u"}),
        ({"userToken": "u", "params": "userToken=v"}, {"userToken": "u", "params": "userToken=v"}),
    ],
)
def test_what_the_query_says_itself_stays(body: dict[str, Any], expected: dict[str, Any]) -> None:
    assert search(body) == expected


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"x-algolia-usertoken": "u"}},
        {"headers": {"X-Forwarded-For": "203.0.113.7"}},
        {"query_parameters": {"userToken": "u"}},
        {"query_parameters": {"x-algolia-usertoken": "u"}},
        {"query_parameters": {"x-algolia-usertoken": "a@b"}},
    ],
)
def test_nothing_is_added_where_the_call_names_a_user(options: Any) -> None:
    assert search({"query": "x"}, options=options) == {"query": "x"}


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"x-algolia-usertoken": ""}},
        {"headers": {"x-forwarded-for": ""}},
        {"query_parameters": {"x-algolia-usertoken": ""}},
    ],
)
def test_an_empty_token_or_address_names_nobody(options: Any) -> None:
    assert search({"query": "x"}, options=options) == {"query": "x", **NO_ANALYTICS}


def test_nothing_is_added_where_a_secured_key_names_a_user() -> None:
    maker = TokenAwareClientSync("APP", "key")
    bound = maker.generate_secured_api_key("key", {"userToken": "u"})
    other = maker.generate_secured_api_key("key", {"filters": "public:true"})

    assert search({"query": "x"}, key=bound) == {"query": "x"}
    assert search({"query": "x"}, key=other) == {"query": "x", **NO_ANALYTICS}


def test_a_request_without_a_key_is_nobodys_too() -> None:
    config = SearchConfig("APP", "key")
    transporter = TokenAwareTransporterSync(
        EchoTransporterSync(config), TokenProvider(), searches_without_user="no_analytics"
    )
    options = RequestOptions(config, data="{}")

    assert json.loads(transporter.apply_identity("POST", "/1/indexes/products/query", options).data) == NO_ANALYTICS


def test_of_a_multi_query_those_that_name_nobody_are_left_out() -> None:
    client = client_of("search", False, "no_ab_test")
    requests = [{"indexName": "a", "userToken": "u"}, {"indexName": "b"}]
    with identity_scope("ada"):
        *_, body = sent(client, "search_with_http_info", {"search_method_params": {"requests": requests}})

    assert body["requests"] == [requests[0], {**requests[1], **NO_AB_TEST}]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("1/indexes/products/facets/brand/query", {"params": 7}, {"params": 7}),
        ("1/compositions/home/run", {"params": "query=x"}, {"params": "query=x"}),
        ("1/compositions/home/facets/brand/query", {"params": None}, {"params": None}),
        ("1/indexes/*/queries", {"requests": ["?"]}, {"requests": ["?"]}),
        ("1/indexes/products/batch", {"requests": []}, {"requests": []}),
        ("1/indexes/products/query", ["?"], ["?"]),
    ],
)
def test_a_body_without_a_place_for_the_parameters_leaves_as_it_is(path: str, body: Any, expected: Any) -> None:
    client = client_of("search", False, "no_analytics")

    assert sent(client, "custom_post_with_http_info", {"path": path, "body": body})[3] == expected


def test_the_option_for_searches_without_a_user_is_checked() -> None:
    with pytest.raises(
        ValueError, match=r"^searches_without_user must be one of 'count', 'no_ab_test', 'no_analytics'"
    ):
        client_of("search", False, "none")


# -- Recommend ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user_token_in", ["header", "parameter", "both"])
def test_recommend_has_the_token_in_its_fallback_parameters_too(user_token_in: str) -> None:
    requests = [{**RECOMMENDATION, "fallbackParameters": {"filters": "a:b"}}, RECOMMENDATION]
    client = client_of("recommend", False, user_token_in=user_token_in)
    with identity_scope("ada"):
        *_, headers, body = sent(
            client, "get_recommendations_with_http_info", {"get_recommendations_params": {"requests": requests}}
        )
    if user_token_in == "header":
        assert body["requests"] == requests
        assert headers["X-Algolia-UserToken"] == "ada"
    else:
        first, second = body["requests"]
        assert first["queryParameters"] == {"userToken": "ada"}
        assert first["fallbackParameters"] == {"filters": "a:b", "userToken": "ada"}
        assert (second["queryParameters"], "fallbackParameters" in second) == ({"userToken": "ada"}, False)


@pytest.mark.parametrize(
    ("item", "header"),
    [
        ({"fallbackParameters": {"userToken": "ben"}}, "ben"),
        ({"queryParameters": {"userToken": "ben"}, "fallbackParameters": {"userToken": "ben"}}, "ben"),
        ({"queryParameters": {"userToken": "ben"}, "fallbackParameters": {"userToken": "eve"}}, None),
        ({"fallbackParameters": None}, "ada"),
    ],
)
def test_a_token_in_the_fallback_is_the_callers(item: dict[str, Any], header: str | None) -> None:
    requests = [{**RECOMMENDATION, **item}]
    with identity_scope("ada"):
        *_, headers, body = sent(
            client_of("recommend", False),
            "get_recommendations_with_http_info",
            {"get_recommendations_params": {"requests": requests}},
        )

    assert body["requests"] == requests
    assert headers.get("X-Algolia-UserToken") == header


@pytest.mark.parametrize(
    "item",
    [
        {"fallbackParameters": {"userToken": "ben"}},
        {"queryParameters": {"userToken": "ben"}, "fallbackParameters": {}},
        {"queryParameters": {"userToken": "ben"}, "fallbackParameters": {"filters": "a:b"}},
    ],
)
def test_the_header_stays_where_one_of_recommends_two_searches_has_no_token(item: dict[str, Any]) -> None:
    with identity_scope("ada"):
        *_, headers, body = sent(
            client_of("recommend", False, user_token_in="parameter"),
            "get_recommendations_with_http_info",
            {"get_recommendations_params": {"requests": [RECOMMENDATION | item]}},
        )

    assert body["requests"] == [RECOMMENDATION | item]
    assert headers["X-Algolia-UserToken"] == "ben"
