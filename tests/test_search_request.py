from __future__ import annotations

import json
from typing import Any

import pytest
from algoliasearch.http.base_config import BaseConfig
from algoliasearch.http.request_options import RequestOptions
from algoliasearch.http.verb import Verb

from algolia_usertoken.search_request import SEVERAL, SearchParameters, search_kind

pytestmark = pytest.mark.oldest_versions


def options(data: Any = None, query_parameters: dict[str, Any] | None = None) -> RequestOptions:
    body = json.dumps(data) if isinstance(data, dict | list) else data
    return RequestOptions(BaseConfig("APP", "key"), query_parameters=query_parameters, data=body)


# -- Which requests are searches -----------------------------------------------------------------------------------

SEARCHES = [
    ("POST", "/1/indexes/products/query", "query"),
    ("POST", "/1/indexes/products%20%2F%2A/query", "query"),
    ("POST", "/1/indexes/query/query", "query"),
    ("POST", "/1/indexes/products/browse", "browse"),
    ("POST", "/1/indexes/*/queries", "queries"),
    ("POST", "/1/indexes/*/recommendations", "recommendations"),
    ("POST", "/1/indexes/products/facets/brand/query", "facet_values"),
    ("POST", "/1/compositions/home/run", "run"),
    ("POST", "/1/compositions/home/facets/brand/query", "run_facet_values"),
    ("GET", "/1/indexes/products", "get_query"),
    ("GET", "/1/indexes/products/browse", "get_browse"),
    # As `custom_post("/1/…")` and a query string make them.
    ("POST", "//1/indexes/products/query", "query"),
    ("POST", "/1/indexes/products/query?x=/1&y=?", "query"),
    ("POST", "/1/indexes/*/queries?", "queries"),
    # As `custom_post(quote("1/…"))` makes them.
    ("POST", "/1/indexes/%2A/queries", "queries"),
    ("POST", "/1/indexes/%2a/recommendations", "recommendations"),
    ("GET", "/1/indexes/products?query=shoe", "get_query"),
    ("GET", "/1/indexes/products/browse?cursor=x", "get_browse"),
]

OTHERS = [
    ("GET", "/1/indexes"),
    ("GET", "/1/indexes/"),
    ("GET", "/1/indexes?page=1"),
    ("GET", "/1/indexes/products/7"),
    ("GET", "/1/indexes/products/settings"),
    ("GET", "/1/indexes/products/task/7"),
    ("GET", "/1/indexes/products/query"),
    ("GET", "/1/indexes/*/queries"),
    ("GET", "/1/keys/products"),
    ("GET", "/1/compositions/home/run"),
    ("POST", "/1/indexes/products"),
    ("POST", "/1/indexes/products/batch"),
    ("POST", "/1/indexes/products/query/more"),
    ("POST", "/1/indexes/products/7/partial"),
    ("POST", "/1/indexes/products/rules/search"),
    ("POST", "/1/indexes/products/synonyms/search"),
    ("POST", "/1/indexes/products/deleteByQuery"),
    ("POST", "/1/indexes/*/objects"),
    ("POST", "/1/indexes/*/batch"),
    ("POST", "/1/indexes/a/b/query"),
    ("POST", "/1/indexes//query"),
    ("POST", "/1/indexes/products/facets//query"),
    ("POST", "/1/indexes/products/facets/brand/queries"),
    ("POST", "/1/dictionaries/stopwords/search"),
    ("POST", "/1/compositions/home/rules/search"),
    ("POST", "/1/compositions/home/facets/brand/run"),
    ("POST", "/1/events"),
    ("POST", "/2/indexes/products/query"),
    ("POST", "/x/1/indexes/products/query"),
    ("POST", "1/indexes/products/query"),
    ("POST", "/1/indexes/products/query\n"),
    ("PUT", "/1/indexes/products/query"),
    ("PUT", "/1/indexes/products/7"),
    ("DELETE", "/1/indexes/products"),
    ("PATCH", "/1/indexes/products/query"),
]


@pytest.mark.parametrize(("verb", "path", "kind"), SEARCHES)
def test_requests_that_search_are_known_by_verb_and_path(verb: str, path: str, kind: str) -> None:
    assert search_kind(verb, path) == kind
    assert search_kind(Verb(verb), path) == kind


@pytest.mark.parametrize(("verb", "path"), OTHERS)
def test_requests_that_do_not_search_are_known_too(verb: str, path: str) -> None:
    assert search_kind(verb, path) is None


# -- Where the user token stands -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body", "tokens"),
    [
        ("query", {}, [None]),
        ("query", None, [None]),
        ("query", "", [None]),
        ("query", {"userToken": "u"}, ["u"]),
        ("query", {"userToken": None}, [None]),
        ("query", {"params": "query=shoe"}, [None]),
        ("query", {"params": "query=shoe&userToken=u"}, ["u"]),
        ("query", {"params": "userToken=u&query=shoe"}, ["u"]),
        ("query", {"params": "userToken=a%2Bb%3D"}, ["a+b="]),
        ("query", {"params": "userToken=first&userToken=last"}, [SEVERAL]),
        ("query", {"params": "userToken=same&userToken=same"}, ["same"]),
        ("query", {"params": "userToken=&userToken=u"}, ["u"]),
        ("query", {"params": "query=x&user%54oken=u"}, ["u"]),
        ("query", {"params": "%75%73%65%72%54%6F%6B%65%6E=u"}, ["u"]),
        ("query", {"params": "userToken="}, [None]),
        ("query", {"params": "xuserToken=u&usertoken=v"}, [None]),
        ("query", {"params": 7}, [None]),
        ("query", {"userToken": "field", "params": "userToken=string"}, [SEVERAL]),
        ("query", {"userToken": "u", "params": "user%54oken=u"}, ["u"]),
        ("query", {"userToken": "", "params": "userToken=u"}, ["u"]),
        ("query", {"userToken": 7}, [7]),
        ("query", {"query": "userToken", "filters": "userToken:u"}, [None]),
        ("query", {"other": {"userToken": "u"}}, [None]),
        ("browse", {"userToken": "u", "cursor": "x"}, ["u"]),
        ("browse", {"params": "userToken=u"}, ["u"]),
        ("facet_values", {"facetQuery": "a", "params": "userToken=u"}, ["u"]),
        ("facet_values", {"facetQuery": "a"}, [None]),
        ("queries", {"requests": []}, []),
        ("queries", {"requests": [{"userToken": "a"}, {}, {"params": "userToken=c"}]}, ["a", None, "c"]),
        ("queries", {"requests": ["?", {"userToken": "a"}]}, ["a"]),
        ("queries", {"requests": {"userToken": "a"}}, []),
        ("queries", {"userToken": "a"}, []),
        (
            "recommendations",
            {"requests": [{"queryParameters": {"userToken": "a"}}, {}, {"queryParameters": {}}, {"userToken": "x"}]},
            ["a", None, None, None],
        ),
        ("recommendations", {"requests": [{"queryParameters": None}]}, [None]),
        ("run", {"params": {"userToken": "u"}}, ["u"]),
        ("run", {"params": {"query": "x"}}, [None]),
        ("run", {}, [None]),
        ("run", {"userToken": "u"}, [None]),
        ("run_facet_values", {"params": {"searchQuery": {"userToken": "u"}}}, ["u"]),
        ("run_facet_values", {"params": {"userToken": "u"}}, [None]),
        ("run_facet_values", {}, [None]),
        ("run_facet_values", {"params": None}, []),
        ("get_query", None, []),
        ("get_browse", None, []),
        # What is no JSON object is for Algolia to judge.
        ("query", "{", []),
        ("query", ["userToken"], []),
        ("queries", "null", []),
    ],
)
def test_tokens_are_found_where_algolia_looks_for_them(kind: str, body: Any, tokens: list[Any]) -> None:
    parameters = SearchParameters(kind, options(body))

    assert parameters.tokens == tokens
    assert parameters.named is any(token is not None for token in tokens)
    assert parameters.complete is (tokens != [] and None not in tokens)


@pytest.mark.parametrize(
    ("body", "url", "tokens"),
    [
        ({}, "u", ["u"]),
        ({"userToken": "body"}, "url", ["body", "url"]),
        ({"userToken": "u"}, "u", ["u", "u"]),
        ({"requests": [{"userToken": "a"}, {}]}, "u", ["a", "u"]),
        ({"requests": [{}, {}]}, "a+b/c=", ["a+b/c="]),
    ],
)
def test_token_in_the_url_speaks_for_the_queries_without_one(body: dict[str, Any], url: str, tokens: list[str]) -> None:
    kind = "queries" if "requests" in body else "query"
    parameters = SearchParameters(kind, options(body, {"userToken": url}))

    assert parameters.tokens == tokens
    assert parameters.complete
    assert not parameters.writable


@pytest.mark.parametrize("kind", ["get_query", "get_browse"])
def test_token_of_a_get_stands_in_the_url(kind: str) -> None:
    parameters = SearchParameters(kind, options(None, {"userToken": "u", "query": "shoe"}))

    assert (parameters.tokens, parameters.single, parameters.writable) == (["u"], "u", False)


@pytest.mark.parametrize(
    ("tokens", "single"), [([], None), (["a"], "a"), (["a", "a"], "a"), (["a", "b"], None), (["a", None], None)]
)
def test_single_is_the_token_that_all_queries_have(tokens: list[str | None], single: str | None) -> None:
    body = {"requests": [{} if token is None else {"userToken": token} for token in tokens]}

    assert SearchParameters("queries", options(body)).single == single


# -- Writing it ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body", "written"),
    [
        ("query", {"query": "shoe"}, {"query": "shoe", "userToken": "a+/="}),
        ("query", None, {"userToken": "a+/="}),
        ("query", {"userToken": None}, {"userToken": "a+/="}),
        ("query", {"params": "query=shoe"}, {"params": "query=shoe&userToken=a%2B%2F%3D"}),
        ("query", {"params": ""}, {"params": "userToken=a%2B%2F%3D"}),
        (
            "query",
            {"query": "x", "params": "hitsPerPage=1"},
            {"query": "x", "params": "hitsPerPage=1&userToken=a%2B%2F%3D"},
        ),
        ("browse", {"cursor": "x"}, {"cursor": "x", "userToken": "a+/="}),
        (
            "queries",
            {"requests": [{"indexName": "i"}, {"userToken": "b"}, {"params": "x=1"}], "strategy": "none"},
            {
                "requests": [
                    {"indexName": "i", "userToken": "a+/="},
                    {"userToken": "b"},
                    {"params": "x=1&userToken=a%2B%2F%3D"},
                ],
                "strategy": "none",
            },
        ),
        (
            "recommendations",
            {
                "requests": [
                    {"model": "m"},
                    {"queryParameters": {"query": "x"}},
                    {"queryParameters": {"userToken": "b"}},
                ]
            },
            {
                "requests": [
                    {"model": "m", "queryParameters": {"userToken": "a+/="}},
                    {"queryParameters": {"query": "x", "userToken": "a+/="}},
                    {"queryParameters": {"userToken": "b"}},
                ]
            },
        ),
        (
            "recommendations",
            {"requests": [{"queryParameters": None}]},
            {"requests": [{"queryParameters": {"userToken": "a+/="}}]},
        ),
        ("run", {"params": {"query": "x"}}, {"params": {"query": "x", "userToken": "a+/="}}),
        ("run", {}, {"params": {"userToken": "a+/="}}),
    ],
)
def test_token_is_written_where_a_query_has_none(kind: str, body: Any, written: dict[str, Any]) -> None:
    before = options(body)
    data = before.data
    parameters = SearchParameters(kind, before)

    assert parameters.writable
    assert parameters.write("a+/=") == json.dumps(written)
    assert parameters.complete
    assert before.data == data
    assert SearchParameters(kind, options(written)).complete


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("facet_values", {"facetQuery": "a"}),
        ("facet_values", {"params": "query=x"}),
        ("run_facet_values", {"params": {"searchQuery": {}}}),
        ("queries", {"requests": []}),
        ("queries", {}),
        ("get_query", None),
        ("get_browse", None),
        ("query", "{"),
        ("query", "[1]"),
        ("browse", "null"),
    ],
)
def test_a_body_without_a_field_for_the_user_token_is_not_writable(kind: str, body: Any) -> None:
    assert not SearchParameters(kind, options(body)).writable


def test_a_query_whose_parameters_are_no_object_gets_none() -> None:
    parameters = SearchParameters("recommendations", options({"requests": [{"queryParameters": "x"}, {}]}))

    assert json.loads(parameters.write("u")) == {
        "requests": [{"queryParameters": "x"}, {"queryParameters": {"userToken": "u"}}]
    }
    assert parameters.tokens == [None, "u"]
