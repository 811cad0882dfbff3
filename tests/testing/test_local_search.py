"""Searching the stand-in, with the real clients and by hand."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from algoliasearch.http.exceptions import RequestException
from algoliasearch.recommend.client import RecommendClientSync
from algoliasearch.search.client import SearchClient, SearchClientSync

from algolia_usertoken.testing import LocalAlgolia

QUERY = "/1/indexes/products/query"
Ask = Callable[..., Any]


def ids(response: Any) -> list[str]:
    return [hit.object_id for hit in response.hits]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["shirt", "hat", "shoe"]),
        ("...", ["shirt", "hat", "shoe"]),
        ("blue", ["shirt", "hat"]),
        ("BLUE", ["shirt", "hat"]),
        ("blue sh", ["shirt"]),
        ("sh", ["shirt", "shoe"]),
        ("sh blue", []),
        ("shirt blue", ["shirt"]),
        ("paris", ["shoe"]),
        ("90", ["shoe"]),
        ("nothing", []),
        ("blue nothing", []),
    ],
)
def test_a_query_matches_words_and_the_start_of_the_last(
    client: SearchClientSync, query: str, found: list[str]
) -> None:
    response = client.search_single_index("products", {"query": query})
    assert ids(response) == found
    assert response.nb_hits == len(found)


def test_a_response_has_its_page_its_numbers_and_its_parameters(client: SearchClientSync) -> None:
    response = client.search_single_index("products", {"query": "blue", "hitsPerPage": 1, "page": 1})
    assert ids(response) == ["hat"]
    assert (response.page, response.nb_pages, response.hits_per_page, response.nb_hits) == (1, 2, 1, 2)
    assert (response.query, response.index) == ("blue", "products")
    assert response.params == "query=blue&hitsPerPage=1&page=1"
    assert response.processing_time_ms is not None
    assert response.exhaustive.nb_hits is True
    assert response.query_id is None


async def test_async_client_gets_the_same(algolia: LocalAlgolia, client: SearchClientSync) -> None:
    parameters = {"query": "blue", "facets": ["brand"], "clickAnalytics": False}
    async with SearchClient.create_with_config(algolia.search_config()) as async_client:
        answer = await async_client.search_single_index("products", parameters)
    assert answer.to_dict() == client.search_single_index("products", parameters).to_dict()


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({"clickAnalytics": True}, True),
        ({"params": "clickAnalytics=true"}, True),
        ({"clickAnalytics": "true"}, True),
        ({"params": "clickAnalytics=1"}, True),
        ({"clickAnalytics": 0}, False),
        ({"clickAnalytics": False}, False),
        ({"params": "clickAnalytics=false"}, False),
        ({}, False),
    ],
)
def test_query_id_exactly_when_asked_for(ask: Ask, algolia: LocalAlgolia, asked: dict[str, Any], given: bool) -> None:
    answers = [ask("POST", QUERY, asked).json.get("queryID") for _ in range(2)]
    assert answers == [search.query_id for search in algolia.searches]
    if given:
        assert all(re.fullmatch("[0-9a-f]{32}", query_id) for query_id in answers)
        assert answers[0] != answers[1]
    else:
        assert answers == [None, None]


@pytest.mark.parametrize(
    ("parameters", "found"),
    [
        ({"facetFilters": ["brand:Acme"]}, ["shirt", "hat"]),
        ({"facetFilters": "brand:Acme"}, ["shirt", "hat"]),
        ({"facetFilters": ["brand:Acme", "sizes:S"]}, ["shirt"]),
        ({"facetFilters": [["brand:Best & Co", "sizes:S"]]}, ["shirt", "shoe"]),
        ({"facetFilters": [["brand:Best & Co", "sizes:S"], "price:20"]}, ["shirt"]),
        ({"facetFilters": ["brand:-Acme"]}, ["shoe"]),
        ({"facetFilters": ["NOT brand:Acme"]}, ["shoe"]),
        ({"facetFilters": ["sale:true"]}, ["shirt"]),
        ({"facetFilters": ["maker.city:Paris"]}, ["shoe"]),
        ({"facetFilters": []}, ["shirt", "hat", "shoe"]),
        ({"numericFilters": ["price>15", "price<=90"]}, ["shirt"]),
        ({"numericFilters": ["price:5 TO 20"]}, ["shirt", "hat"]),
        ({"filters": "brand:Acme"}, ["shirt", "hat"]),
        ({"filters": 'brand:"Best & Co" OR sizes:S'}, ["shirt", "shoe"]),
        ({"filters": "brand:Acme AND NOT sizes:S"}, ["hat"]),
        ({"filters": "price > 50 OR price = 10"}, ["hat", "shoe"]),
        ({"filters": "brand:Acme", "query": "hat"}, ["hat"]),
        ({"params": urlencode({"query": "blue", "facetFilters": '[["sizes:S"]]'})}, ["shirt"]),
        ({"params": "query=red", "query": "blue"}, ["shirt", "hat"]),
        ({"params": "?query=hat&hitsPerPage=1"}, ["hat"]),
        ({"offset": 1, "length": 1}, ["hat"]),
    ],
)
def test_filters_mean_the_same_in_each_form(ask: Ask, parameters: dict[str, Any], found: list[str]) -> None:
    assert [hit["objectID"] for hit in ask("POST", QUERY, parameters).json["hits"]] == found


def test_facets_are_counted_with_the_sums_of_numbers(client: SearchClientSync) -> None:
    response = client.search_single_index("products", {"facets": ["brand", "sizes", "sale", "price", "none"]})
    assert response.facets == {
        "brand": {"Acme": 2, "Best & Co": 1},
        "sizes": {"M": 2, "S": 1},
        "sale": {"false": 1, "true": 1},
        "price": {"10": 1, "20": 1, "90.5": 1},
    }
    stats = response.facets_stats["price"]
    assert (stats.min, stats.max, stats.sum) == (10, 90.5, 120.5)


def test_facets_of_values_that_look_alike(algolia: LocalAlgolia, ask: Ask) -> None:
    values = [1, 1.0, "1", True, "true", [1, 2, 2], None, "", {"x": 1}, 1]
    algolia.save_objects("mixed", [{"v": value} for value in values])

    found = ask("POST", "/1/indexes/mixed/query", {"facets": ["v"]}).json

    assert found["facets"] == {"v": {"1": 4, "1.0": 1, "2": 1, "true": 2}}
    assert found["facets_stats"] == {"v": {"min": 1, "max": 2, "avg": 6 / 5, "sum": 6.0}}


def test_all_facets_are_those_of_the_settings(client: SearchClientSync) -> None:
    client.set_settings("products", {"attributesForFaceting": ["searchable(brand)", "sizes"]})
    found = client.search_single_index("products", {"facets": ["*"], "maxValuesPerFacet": 1})
    assert found.facets == {"brand": {"Acme": 2}, "sizes": {"M": 2}}


def test_facet_values_are_searched_and_counted(client: SearchClientSync, algolia: LocalAlgolia) -> None:
    found = client.search_for_facet_values("products", "brand", {"facetQuery": "be", "params": "query=shoe"})
    assert [hit.to_dict() for hit in found.facet_hits] == [
        {"value": "Best & Co", "highlighted": "<em>Be</em>st &amp; Co", "count": 1}
    ]
    everything = client.search_for_facet_values("products", "sizes")
    assert [(hit.value, hit.count) for hit in everything.facet_hits] == [("M", 2), ("S", 1)]
    assert [search.operation for search in algolia.searches] == ["facets", "facets"]


def test_hits_have_highlights_of_the_matched_words(ask: Ask) -> None:
    (hit,) = ask("POST", QUERY, {"query": "red sh"}).json["hits"]
    assert hit["_highlightResult"]["name"] == {
        "value": "<em>Red</em> <em>sh</em>oe &lt;new&gt;",
        "matchLevel": "full",
        "fullyHighlighted": False,
        "matchedWords": ["red", "sh"],
    }
    assert hit["_highlightResult"]["maker"]["city"]["matchLevel"] == "none"
    own = {"query": "red", "attributesToHighlight": ["name"], "highlightPreTag": "[", "highlightPostTag": "]"}
    (hit,) = ask("POST", QUERY, own).json["hits"]
    assert hit["_highlightResult"] == {
        "name": {
            "value": "[Red] shoe &lt;new&gt;",
            "matchLevel": "full",
            "fullyHighlighted": False,
            "matchedWords": ["red"],
        }
    }
    (hit,) = ask("POST", QUERY, {"query": "red", "attributesToHighlight": []}).json["hits"]
    assert "_highlightResult" not in hit


def test_highlights_follow_a_change_of_the_record(algolia: LocalAlgolia, ask: Ask) -> None:
    ask("POST", QUERY, {"query": "hat"})
    algolia.save_objects("products", [{"objectID": "hat", "name": "Green hat"}])
    (hit,) = ask("POST", QUERY, {"query": "hat"}).json["hits"]
    assert hit["_highlightResult"]["name"]["value"] == "Green <em>hat</em>"


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (["name"], {"objectID", "name"}),
        (["*", "-name"], {"objectID", "brand", "price", "sizes", "sale"}),
        ([], {"objectID"}),
    ],
)
def test_a_search_gives_the_attributes_to_retrieve(ask: Ask, wanted: list[str], kept: set[str]) -> None:
    answer = ask("POST", QUERY, {"query": "shirt", "attributesToRetrieve": wanted, "attributesToHighlight": []})
    assert set(answer.json["hits"][0]) == kept


def test_no_page_reaches_beyond_1000_hits(algolia: LocalAlgolia, client: SearchClientSync) -> None:
    algolia.save_objects("many", [{"objectID": str(number)} for number in range(1_500)])
    first = client.search_single_index("many", {"hitsPerPage": 5_000})
    assert (len(first.hits), first.nb_hits, first.nb_pages, first.hits_per_page) == (1_000, 1_500, 1, 1_000)
    assert client.search_single_index("many", {"hitsPerPage": 300, "page": 3}).hits[-1].object_id == "999"
    assert client.search_single_index("many", {"hitsPerPage": 300, "page": 4}).hits == []
    assert client.search_single_index("many", {"hitsPerPage": 0}).nb_pages == 0


def test_multi_query_has_an_entry_for_each(client: SearchClientSync, algolia: LocalAlgolia) -> None:
    requests = [
        {"indexName": "products", "query": "blue", "userToken": "one", "clickAnalytics": True},
        {"indexName": "products", "params": "query=red&userToken=two"},
        {"indexName": "products", "type": "facet", "facet": "brand", "facetQuery": "b", "userToken": "three"},
    ]
    blue, red, facet = (result.actual_instance for result in client.search({"requests": requests}).results)
    assert (blue.nb_hits, red.nb_hits, facet.facet_hits[0].value) == (2, 1, "Best & Co")
    assert [(search.operation, search.query, search.user) for search in algolia.searches] == [
        ("search", "blue", "one"),
        ("search", "red", "two"),
        ("facets", "", "three"),
    ]
    assert [search.query_id for search in algolia.searches] == [blue.query_id, None, None]


def test_recommendations_have_hits_and_keep_their_user(algolia: LocalAlgolia) -> None:
    requests = [
        {
            "indexName": "products",
            "model": "bought-together",
            "objectID": "hat",
            "threshold": 10,
            "queryParameters": {"userToken": "u-1", "facetFilters": ["brand:Acme"], "clickAnalytics": True},
        },
        {"indexName": "products", "model": "trending-facets", "facetName": "sizes", "threshold": 0},
        {
            "indexName": "products",
            "model": "trending-items",
            "facetName": "brand",
            "facetValue": "Best & Co",
            "threshold": 0,
        },
    ]
    with RecommendClientSync.create_with_config(algolia.recommend_config()) as client:
        results = client.get_recommendations({"requests": requests}).results
    together, facets, items = ([hit.actual_instance for hit in result.hits] for result in results)
    assert [hit.object_id for hit in together] == ["shirt"]
    assert [(hit.facet_name, hit.facet_value) for hit in facets] == [("sizes", "M"), ("sizes", "S")]
    assert [hit.object_id for hit in items] == ["shoe"]
    assert [(search.operation, search.user_token) for search in algolia.searches] == [
        ("recommend", "u-1"),
        ("recommend", None),
        ("recommend", None),
    ]
    assert algolia.searches[0].query_id == results[0].query_id is not None


def test_a_search_may_be_a_get_request(ask: Ask) -> None:
    answer = ask("GET", "/1/indexes/products?query=blue&hitsPerPage=1")
    assert (answer.status, answer.json["nbHits"], len(answer.json["hits"])) == (200, 2, 1)


def test_a_search_in_an_unknown_index_is_a_404(client: SearchClientSync, algolia: LocalAlgolia) -> None:
    with pytest.raises(RequestException) as caught:
        client.search_single_index("nowhere", {"userToken": "u-1", "clickAnalytics": True})
    assert caught.value.status_code == 404
    assert "Index nowhere does not exist" in str(caught.value)
    (search,) = algolia.searches
    assert (search.index, search.user, search.status, search.query_id) == ("nowhere", "u-1", 404, None)


def test_unknown_index_refuses_the_whole_multi_query(ask: Ask, algolia: LocalAlgolia) -> None:
    body = {"requests": [{"indexName": "products"}, {"indexName": "nowhere"}]}
    answer = ask("POST", "/1/indexes/*/queries", body)
    assert (answer.status, answer.json) == (404, {"message": "Index nowhere does not exist", "status": 404})
    assert [search.status for search in algolia.searches] == [404, 404]


@pytest.mark.parametrize("path", ["/", "/1", "/1/nothing", "/2/indexes/products/query", "/1/indexes/a/b/c/d/e"])
def test_an_unknown_path_of_the_search_api_is_a_404(ask: Ask, path: str) -> None:
    answer = ask("POST", path, {})
    assert (answer.status, answer.json["status"]) == (404, 404)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-algolia-api-key": "wrong"},
        {"x-algolia-application-id": "WRONG"},
        {"x-algolia-api-key": ""},
        {"x-algolia-application-id": ""},
        {"x-algolia-api-key": "bG9jYWw="},
    ],
)
def test_a_search_with_a_wrong_key_is_refused(ask: Ask, algolia: LocalAlgolia, headers: dict[str, str]) -> None:
    answer = ask("POST", QUERY, {"query": ""}, headers)
    assert answer.status == 403
    assert answer.json == {"message": "Invalid Application-ID or API key", "status": 403}
    assert algolia.searches == []
    assert [request.status for request in algolia.requests] == [403]


def test_a_browser_sends_the_key_in_the_url_and_asks_first(ask: Ask, algolia: LocalAlgolia) -> None:
    none = {"x-algolia-api-key": "", "x-algolia-application-id": "", "origin": "http://shop.test"}
    allowed = ask("OPTIONS", QUERY, None, {**none, "access-control-request-headers": "content-type"})
    assert allowed.status == 200
    assert allowed.headers["access-control-allow-origin"] == "*"
    assert allowed.headers["access-control-allow-headers"] == "content-type"
    credentials = f"x-algolia-api-key={algolia.api_key}&X-Algolia-Application-Id={algolia.app_id}"
    text = {**none, "content-type": "text/plain"}
    answer = ask("POST", f"{QUERY}?{credentials}&X-Algolia-UserToken=u-1", '{"query": "blue"}', text)
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "*")
    assert algolia.searches[0].user_token_header == "u-1"


def test_a_secured_key_brings_its_user_until_it_expires(
    ask: Ask, client: SearchClientSync, algolia: LocalAlgolia
) -> None:
    key = client.generate_secured_api_key(algolia.api_key, {"userToken": "bound", "validUntil": 4_000_000_000})
    assert ask("POST", QUERY, {}, {"x-algolia-api-key": key}).status == 200
    assert algolia.searches[-1].user_token_in_key == algolia.searches[-1].user == "bound"
    for other in ({"restrictions": {"validUntil": 1}, "key": algolia.api_key}, {"restrictions": {}, "key": "other"}):
        key = client.generate_secured_api_key(other["key"], other["restrictions"])
        assert ask("POST", QUERY, {}, {"x-algolia-api-key": key}).status == 403


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Invalid JSON"),
        (b"[]", "JSON object"),
        (b'{"query": NaN}', "Invalid JSON"),
        ({"query": 1}, "query:"),
        ({"params": {}}, "params:"),
        ({"page": -1}, "page:"),
        ({"page": "x"}, "page:"),
        ({"page": True}, "page:"),
        ({"hitsPerPage": 1.5}, "hitsPerPage:"),
        ({"facets": 1}, "facets:"),
        ({"facets": [1]}, "facets:"),
        ({"facets": "[1"}, "facets:"),
        ({"facetFilters": 1}, "facetFilters:"),
        ({"facetFilters": ["brand"]}, "facetFilters:"),
        ({"numericFilters": ["price"]}, "Invalid syntax for numeric condition:"),
        ({"numericFilters": [" " * 1_000_000]}, "Invalid syntax for numeric condition:"),
        ({"filters": "brand:"}, "filters:"),
        ({"filters": 1}, "filters:"),
        ({"userToken": 1}, "userToken:"),
    ],
)
def test_a_bad_search_is_a_400_that_names_the_parameter(ask: Ask, body: Any, message: str) -> None:
    answer = ask("POST", QUERY, body)
    assert answer.status == answer.json["status"] == 400
    assert answer.json["message"].startswith(message) or message in answer.json["message"]


@pytest.mark.parametrize(
    "body", [{}, {"requests": 1}, {"requests": [1]}, {"requests": [{}]}, {"requests": [{"indexName": 1}]}]
)
@pytest.mark.parametrize("what", ["queries", "recommendations", "objects", "batch"])
def test_a_bad_list_of_requests_is_a_400(ask: Ask, what: str, body: Any) -> None:
    assert ask("POST", f"/1/indexes/*/{what}", body).status == 400


@pytest.mark.parametrize(
    ("what", "request_"),
    [
        ("queries", {"indexName": "products", "type": "facet"}),
        ("recommendations", {"indexName": "products", "queryParameters": []}),
        ("recommendations", {"indexName": "products", "facetName": 1}),
    ],
)
def test_bad_requests_in_a_list(ask: Ask, what: str, request_: Any) -> None:
    assert ask("POST", f"/1/indexes/*/{what}", {"requests": [request_]}).status == 400


def test_answers_are_not_kept_without_end(ask: Ask, algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("algolia_usertoken.local_algolia.query._MOST_KEPT", 3)
    for query in ("blue", "red", "hat", "shoe", "shirt", "blue", "blue"):
        assert ask("POST", QUERY, {"query": query}).json["hits"][0]["_highlightResult"]
    ask("POST", QUERY, {"query": "x" * 60_000})
    kept = algolia._records.index("products").contents.answers
    assert 0 < len(kept) <= 3
    assert "x" * 60_000 not in repr(kept)


class TestAnswersThatAreKept:
    """A search that was asked before is answered from what is kept, as if it were carried out."""

    def test_whoever_asks_gets_a_query_id_and_parameters_of_its_own(self, ask: Ask, algolia: LocalAlgolia) -> None:
        first = ask("POST", QUERY, {"query": "blue", "userToken": "u-1", "clickAnalytics": True}).json
        second = ask("POST", QUERY, {"query": "blue", "userToken": "u-2", "clickAnalytics": True}).json
        third = ask("POST", QUERY, {"query": "blue"}).json

        assert first["hits"] == second["hits"] == third["hits"]
        assert first["queryID"] != second["queryID"]
        assert "queryID" not in third
        assert [each["params"] for each in (first, second, third)] == [
            "query=blue&userToken=u-1&clickAnalytics=true",
            "query=blue&userToken=u-2&clickAnalytics=true",
            "query=blue",
        ]
        assert [(search.user_token, search.nb_hits) for search in algolia.searches] == [
            ("u-1", 2),
            ("u-2", 2),
            (None, 2),
        ]

    def test_a_change_of_records_settings_or_key_is_seen(
        self, ask: Ask, algolia: LocalAlgolia, client: SearchClientSync
    ) -> None:
        def hits() -> list[str]:
            return [hit["objectID"] for hit in ask("POST", QUERY, {"query": "blue"}).json["hits"]]

        seen = [hits()]
        algolia.save_objects("products", [{"objectID": "cap", "name": "Blue cap"}])
        seen.append(hits())
        client.set_settings("products", {"hitsPerPage": 1})
        seen.append(hits())
        client.set_settings("products", {"hitsPerPage": 2})
        seen.append(hits())
        client.delete_object("products", "shirt")
        seen.append(hits())
        key = client.generate_secured_api_key(algolia.api_key, {"filters": "objectID:cap"})
        by_key = ask("POST", QUERY, {"query": "blue"}, {"x-algolia-api-key": key}).json
        client.clear_objects("products")
        seen.append(hits())

        assert seen == [["shirt", "hat"], ["shirt", "hat", "cap"], ["shirt"], ["shirt", "hat"], ["hat", "cap"], []]
        assert [hit["objectID"] for hit in by_key["hits"]] == ["cap"]

    def test_a_replica_answers_under_its_own_name_and_settings(self, ask: Ask, client: SearchClientSync) -> None:
        client.set_settings("products", {"replicas": ["copy"]})
        client.set_settings("copy", {"hitsPerPage": 1})
        answers = [ask("POST", f"/1/indexes/{name}/query", {"query": "blue"}).json for name in ("products", "copy") * 2]

        assert [(each["index"], len(each["hits"])) for each in answers] == [("products", 2), ("copy", 1)] * 2

    @pytest.mark.parametrize(
        ("taken", "refused"),
        [({"hitsPerPage": 1}, {"hitsPerPage": True}), ({"page": 0}, {"page": False}), ({"query": "1"}, {"query": 1})],
    )
    def test_values_that_are_equal_and_of_another_type_are_told_apart(self, taken: Any, refused: Any, ask: Ask) -> None:
        assert [ask("POST", QUERY, body).status for body in (taken, refused, taken)] == [200, 400, 200]


def test_a_body_in_gzip_is_read(ask: Ask, algolia: LocalAlgolia) -> None:
    body = gzip.compress(json.dumps({"query": "blue"}).encode())
    answer = ask("POST", QUERY, body, {"content-encoding": "gzip"})
    assert (answer.status, answer.json["nbHits"]) == (200, 2)
    assert algolia.requests[0].body == b'{"query": "blue"}'


def test_a_client_with_compression_is_answered(algolia: LocalAlgolia) -> None:
    config = algolia.search_config()
    config.compression_type, config.compression_threshold = "gzip", 1
    with SearchClientSync.create_with_config(config) as client:
        assert client.search_single_index("products", {"query": "blue"}).nb_hits == 2
    assert algolia.requests[0].headers["content-encoding"] == "gzip"


def test_empty_body_is_an_empty_search(ask: Ask) -> None:
    assert ask("POST", QUERY).json["nbHits"] == 3
