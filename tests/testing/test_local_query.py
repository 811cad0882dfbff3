"""Searches that order, that say which fields they want, and that stop when they have enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from algoliasearch.search.client import SearchClientSync

from algolia_usertoken.testing import LocalAlgolia

Ask = Callable[..., Any]
QUERY = "/1/indexes/products/query"


def ids(answer: Any) -> list[str]:
    return [hit["objectID"] for hit in answer["hits"]]


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"filters": "sizes:S<score=1> OR brand:Acme OR price:10<score=3>"}, ["hat", "shirt"]),
        ({"optionalFilters": ["brand:Best & Co"]}, ["shoe", "shirt", "hat"]),
        ({"optionalFilters": ["brand:-Acme"]}, ["shoe", "shirt", "hat"]),
        ({"optionalFilters": ["sizes:M<score=2>", "price:10"]}, ["hat", "shirt", "shoe"]),
        ({"optionalFilters": "price:90.5", "filters": "brand:Acme"}, ["shirt", "hat"]),
        ({"params": "optionalFilters=%5B%22brand%3ABest%20%26%20Co%22%5D"}, ["shoe", "shirt", "hat"]),
        ({"filters": "sizes:S OR sizes:M OR price:10", "sumOrFiltersScores": True}, ["shirt", "hat"]),
    ],
)
def test_records_with_the_best_score_come_first(ask: Ask, parameters: dict[str, Any], found: list[str]) -> None:
    assert ids(ask("POST", QUERY, parameters).json) == found


def test_ranking_info_has_the_score_of_the_filters(ask: Ask) -> None:
    body = {"filters": "brand:Acme<score=3> OR sizes:S", "getRankingInfo": True}
    hits = ask("POST", QUERY, body).json["hits"]
    assert {hit["objectID"]: hit["_rankingInfo"]["filters"] for hit in hits} == {"shirt": 3, "hat": 3}
    assert "_rankingInfo" not in ask("POST", QUERY, {"filters": "brand:Acme"}).json["hits"][0]


def test_an_expression_that_algolia_refuses_is_a_400_with_its_words(ask: Ask) -> None:
    answer = ask("POST", QUERY, {"filters": "brand:Acme OR (sizes:S AND price > 3)"})
    message = "filters: filter (X AND Y) OR Z is not allowed, only (X OR Y) AND Z is allowed"
    assert (answer.status, answer.json) == (400, {"message": message, "status": 400})


@pytest.mark.parametrize("path", ["browse", "facets/brand/query", "deleteByQuery"])
def test_every_request_with_filters_refuses_alike(ask: Ask, path: str) -> None:
    answer = ask("POST", f"/1/indexes/products/{path}", {"filters": "NOT (brand:Acme)"})
    assert (answer.status, answer.json["message"]) == (400, "filters: Unexpected token '(' expected filter at col 4")


def test_tag_filters_keep_records_with_the_tags(ask: Ask, algolia: LocalAlgolia) -> None:
    algolia.save_objects("products", [{"objectID": "tagged", "_tags": ["new", "-odd"]}])
    for parameters in ({"tagFilters": ["new"]}, {"params": "tagFilters=new,\\-odd"}, {"filters": "_tags:new"}):
        assert ids(ask("POST", QUERY, parameters).json) == ["tagged"]


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        (["hits", "nbHits"], {"hits", "nbHits"}),
        (["hits"], {"hits"}),
        (["nbHits", "facets", "unknown"], {"nbHits", "facets"}),
        ([], set()),
        ("hits,query", {"hits", "query"}),
    ],
)
def test_a_response_has_the_fields_that_are_asked_for(ask: Ask, fields: Any, keys: set[str]) -> None:
    body = {"responseFields": fields, "facets": ["brand"]}
    assert ask("POST", QUERY, body).json.keys() == keys
    assert ask("POST", QUERY, {**body, "clickAnalytics": True}).json.keys() == {*keys, "queryID"}


def test_a_star_as_response_fields_means_all(ask: Ask) -> None:
    assert ask("POST", QUERY, {"responseFields": ["*"]}).json.keys() == ask("POST", QUERY, {}).json.keys()


def test_facet_values_are_sorted_as_asked(ask: Ask) -> None:
    body = {"facets": ["sizes"], "filters": "sizes:S OR sizes:M"}
    assert list(ask("POST", QUERY, body).json["facets"]["sizes"]) == ["M", "S"]
    ask("PUT", "/1/indexes/products/settings", {"maxValuesPerFacet": 1})
    assert list(ask("POST", QUERY, {**body, "sortFacetValuesBy": "alpha"}).json["facets"]["sizes"]) == ["M"]


def multi(ask: Ask, *requests: dict[str, Any], **body: Any) -> list[dict[str, Any]]:
    asked = [{"indexName": "products", **request} for request in requests]
    answer = ask("POST", "/1/indexes/*/queries", {"requests": asked, **body})
    assert answer.status == 200, answer.json
    results: list[dict[str, Any]] = answer.json["results"]
    return results


def test_searches_stop_when_there_are_enough_hits(ask: Ask, algolia: LocalAlgolia) -> None:
    requests = [{"query": "red"}, {"query": "hat"}, {"query": "blue"}, {"query": ""}]
    requests = [{**request, "hitsPerPage": 2} for request in requests]
    results = multi(ask, *requests, strategy="stopIfEnoughMatches")
    assert [ids(result) for result in results] == [["shoe"], ["hat"], [], []]
    assert [result.get("processed", True) for result in results] == [True, True, False, False]
    assert (results[2]["query"], results[2]["nbHits"], results[2]["index"]) == ("blue", 0, "products")
    assert [search.query for search in algolia.searches] == ["red", "hat"]
    assert [search.nb_hits for search in algolia.searches] == [1, 1]


@pytest.mark.parametrize("body", [{}, {"strategy": "none"}])
def test_without_the_strategy_all_searches_run(ask: Ask, body: dict[str, Any]) -> None:
    assert [len(ids(result)) for result in multi(ask, {}, {}, **body)] == [3, 3]


def test_an_unknown_strategy_of_a_multi_query_is_refused(ask: Ask) -> None:
    answer = ask("POST", "/1/indexes/*/queries", {"requests": [], "strategy": "best"})
    assert (answer.status, answer.json["message"]) == (400, "strategy: expected one of none, stopIfEnoughMatches")


def test_a_search_that_is_refused_has_no_number_of_hits(ask: Ask, algolia: LocalAlgolia) -> None:
    ask("POST", QUERY, {"filters": "AND"})
    ask("POST", QUERY, {"query": "nothing"})
    assert [search.nb_hits for search in algolia.searches] == [None, 0]


@pytest.mark.parametrize(
    ("by_key", "asked", "found"),
    [
        ("brand:Acme AND price > 5", "sizes:S OR price:90.5", ["shirt"]),
        ("brand:Acme OR brand:None", "sizes:M OR price:90.5", ["shirt", "hat"]),
        ("(brand:Acme AND price > 5)", "sizes:S OR sizes:M", ["shirt", "hat"]),
        ("price > 15", "brand:Acme<score=2> OR sizes:S<score=3>", ["shirt"]),
    ],
)
def test_filters_of_a_key_and_of_its_search_both_hold_whatever_their_form(
    ask: Ask, client: SearchClientSync, algolia: LocalAlgolia, by_key: str, asked: str, found: list[str]
) -> None:
    key = client.generate_secured_api_key(algolia.api_key, {"filters": by_key})
    assert key is not None
    headers = {"x-algolia-api-key": key}
    answer = ask("POST", QUERY, {"filters": asked}, headers)
    assert (answer.status, ids(answer.json)) == (200, found)
    assert ids(ask("POST", "/1/indexes/products/browse", {"filters": asked}, headers).json) == found
    refused = ask("POST", QUERY, {"filters": "brand:Acme) OR (price > 0"}, headers)
    assert (refused.status, refused.json["message"][:26]) == (400, "filters: Unexpected token ")
