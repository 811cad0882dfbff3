"""Compositions, with the real client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from algoliasearch.composition.client import CompositionClientSync
from algoliasearch.composition.config import CompositionConfig
from algoliasearch.http.exceptions import RequestException

from algolia_usertoken.testing import LocalAlgolia

Ask = Callable[..., Any]


def injection(index: str, **params: Any) -> dict[str, Any]:
    return {"injection": {"main": {"source": {"search": {"index": index, "params": params}}}}}


SHOP = {"objectID": "shop", "name": "Shop", "behavior": injection("products", filters="brand:Acme", hitsPerPage=5)}
FEEDS = {
    "objectID": "feeds",
    "name": "Feeds",
    "behavior": {
        "multifeed": {"feeds": {"a": injection("products"), "b": injection("books")}, "feedsOrder": ["b", "a"]}
    },
}


@pytest.fixture
def compositions(algolia: LocalAlgolia) -> Iterator[CompositionClientSync]:
    algolia.save_objects("books", [{"objectID": "book", "name": "Blue book"}])
    client = CompositionClientSync.create_with_config(algolia.config_for(CompositionConfig))
    yield client
    client.close()


def ids(result: Any) -> list[str]:
    return [hit["objectID"] for hit in result["hits"]]


def run(ask: Ask, composition: str, **body: Any) -> Any:
    answer = ask("POST", f"/1/compositions/{composition}/run", body)
    assert answer.status == 200, answer.json
    return answer.json


def test_a_composition_searches_the_index_of_its_main_source(
    compositions: CompositionClientSync, algolia: LocalAlgolia
) -> None:
    saved = compositions.put_composition("shop", SHOP)
    assert compositions.get_task("shop", saved.task_id).status == "published"
    params = {"query": "blue", "filters": "price > 15", "userToken": "ada", "clickAnalytics": True}
    answer = compositions.search("shop", {"params": params})
    (result,) = answer.results
    assert [hit.object_id for hit in result.hits] == ["shirt"]
    assert (result.hits_per_page, result.index, result.nb_hits) == (5, "products", 1)
    assert answer.compositions.run[0].object_id == "shop"
    (search,) = algolia.searches
    assert (search.index, search.user_token_parameter, search.query_id) == ("products", "ada", result.query_id)


def test_an_index_is_a_composition_of_its_own_name(compositions: CompositionClientSync, ask: Ask) -> None:
    assert ids(run(ask, "books", params={"query": "blue"})["results"][0]) == ["book"]
    assert ids(run(ask, "books")["results"][0]) == ["book"]
    with pytest.raises(RequestException, match="Composition nowhere does not exist"):
        compositions.search("nowhere", {"params": {}})


def test_each_feed_of_a_composition_is_a_result(compositions: CompositionClientSync, ask: Ask) -> None:
    compositions.put_composition("feeds", FEEDS)
    results = run(ask, "feeds", params={"query": "blue"})["results"]
    assert [(result["feedID"], result["nbHits"]) for result in results] == [("b", 1), ("a", 2)]
    only = run(ask, "feeds", params={}, feedsOrder=["a", "none"])["results"]
    assert [result["feedID"] for result in only] == ["a"]


def test_facet_values_of_a_composition(compositions: CompositionClientSync, algolia: LocalAlgolia) -> None:
    compositions.put_composition("shop", SHOP)
    params = {"query": "ac", "maxFacetHits": 3, "searchQuery": {"filters": "price > 15", "userToken": "ada"}}
    (result,) = compositions.search_for_facet_values("shop", "brand", {"params": params}).results
    assert [(hit.value, hit.count) for hit in result.facet_hits] == [("Acme", 1)]
    assert result.index_name == "products"
    assert algolia.searches[0].operation == "facets"


def test_a_source_of_a_composition_may_recommend(compositions: CompositionClientSync, ask: Ask) -> None:
    source = {"recommend": {"indexName": "books", "model": "trending-items", "threshold": 0}}
    behavior = {"injection": {"main": {"source": source}}}
    ask("PUT", "/1/compositions/trends", {"objectID": "trends", "name": "T", "behavior": behavior})
    assert ids(run(ask, "trends", params={})["results"][0]) == ["book"]


def test_compositions_are_listed_changed_in_batches_and_deleted(compositions: CompositionClientSync) -> None:
    upserts = [{"action": "upsert", "body": body} for body in (SHOP, FEEDS)]
    assert compositions.multiple_batch({"requests": upserts}).task_id.keys() == {"shop", "feeds"}
    listed = compositions.list_compositions(hits_per_page=1, page=1)
    assert ([each.object_id for each in listed.items], listed.nb_hits, listed.nb_pages) == (["feeds"], 2, 2)
    assert compositions.get_composition("shop").name == "Shop"
    compositions.multiple_batch({"requests": [{"action": "delete", "body": {"objectID": "shop"}}]})
    compositions.delete_composition("feeds")
    assert compositions.list_compositions().items == []
    with pytest.raises(RequestException, match="Composition shop does not exist"):
        compositions.get_composition("shop")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "x", {"behavior": {}}),
        ("PUT", "x", {"behavior": injection("")}),
        ("PUT", "x", {"behavior": []}),
        ("PUT", "x", {"behavior": {"multifeed": {"feeds": {"a": {}}}}}),
        ("POST", "*/batch", {"requests": [{"action": "add", "body": SHOP}]}),
        ("POST", "*/batch", {"requests": [{"action": "upsert", "body": {"objectID": "x"}}]}),
        ("POST", "products/run", {"params": "query=x"}),
        ("POST", "products/run", {"params": {"filters": "AND"}}),
        ("POST", "products/facets/brand/query", {"params": {"searchQuery": 1}}),
    ],
)
def test_what_cannot_be_a_composition_is_refused(ask: Ask, method: str, path: str, body: Any) -> None:
    assert ask(method, f"/1/compositions/{path}", body).status == 400
    assert ask("GET", "/1/compositions").json["items"] == []


def test_an_order_of_feeds_that_is_none_is_refused(ask: Ask) -> None:
    ask("PUT", "/1/compositions/feeds", FEEDS)
    assert ask("POST", "/1/compositions/feeds/run", {"feedsOrder": "b"}).status == 400
