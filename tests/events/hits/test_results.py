"""References read out of what searches return."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from algoliasearch.composition.models.search_response import SearchResponse as CompositionResponse
from algoliasearch.recommend.client import RecommendClientSync
from algoliasearch.recommend.models.recommendations_results import RecommendationsResults

from algolia_usertoken import (
    EventSender,
    HitReference,
    Identity,
    InvalidEventError,
    InvalidUserTokenError,
    MemoryDelivery,
    TokenAwareClient,
    TokenAwareClientSync,
    TokenProvider,
    identity_scope,
    make_token_aware,
)
from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.oldest_versions

QUERY_ID = "0123456789abcdef" * 2


@pytest.fixture(autouse=True)
def _shoes(algolia: LocalAlgolia) -> None:
    shoes = [{"objectID": f"s-{number}", "name": "Shoe", "brand": "Larkfoot"} for number in range(1, 46)]
    algolia.save_objects("shoes", shoes)


@pytest.fixture
def events() -> Iterator[EventSender]:
    with EventSender(delivery=MemoryDelivery(), user_token="u-1", background=False) as events:
        yield events


def result(**fields: Any) -> dict[str, Any]:
    """What the API answers to a search, as JSON."""
    return {"index": "shoes", "hits": [{"objectID": "a"}, {"objectID": "b"}], "queryID": QUERY_ID, **fields}


def shown(references: list[HitReference]) -> list[tuple[str, str, int | None]]:
    return [(one.index_name, one.object_id, one.position) for one in references]


def with_query(text: str, **parameters: Any) -> dict[str, Any]:
    return {"query": text, "clickAnalytics": True, **parameters}


# -- Where a hit stood -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "first", "last"),
    [
        ({}, 1, 20),
        ({"hitsPerPage": 7}, 1, 7),
        ({"hitsPerPage": 7, "page": 2}, 15, 21),
        ({"page": 2}, 41, 45),
        ({"offset": 3, "length": 5}, 4, 8),
        ({"offset": 0, "length": 2}, 1, 2),
    ],
)
def test_positions_count_over_all_pages(
    sync_client: TokenAwareClientSync, parameters: dict[str, Any], first: int, last: int
) -> None:
    response = sync_client.search_single_index("shoes", with_query("shoe", **parameters))
    references = sync_client.events.references(response)

    assert shown(references) == [("shoes", f"s-{position}", position) for position in range(first, last + 1)]
    assert {one.query_id for one in references} == {response.query_id}
    assert response.query_id is not None


async def test_references_are_made_of_a_search_by_the_async_client(async_client: TokenAwareClient) -> None:
    with identity_scope("u-1"):
        response = await async_client.search_single_index("shoes", with_query("shoe", page=1, hitsPerPage=10))
        references = async_client.events.references(response)

    assert shown(references) == [("shoes", f"s-{position}", position) for position in range(11, 21)]
    assert {one.query_id for one in references} == {response.query_id}
    assert all(one.made_for("u-1") for one in references)


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        ({}, None),
        ({"page": 0}, 1),
        ({"hitsPerPage": 10}, None),
        ({"params": "query=x"}, None),
        ({"params": "query=x&page=0"}, 1),
        ({"params": "query=x&offset=0&length=2"}, 1),
        ({"page": 2, "hitsPerPage": 10}, 21),
        ({"offset": 5}, 6),
        ({"offset": 5, "page": 2, "hitsPerPage": 10}, 6),
        ({"params": "query=x&page=2&hitsPerPage=10"}, 21),
        ({"params": "offset=7&length=2"}, 8),
        ({"page": 2, "params": "hitsPerPage=10"}, 21),
        ({"page": 1, "hitsPerPage": 10, "params": "page=7&offset=90"}, 11),
        ({"page": 2}, None),
        ({"page": 2, "hitsPerPage": 0}, None),
        ({"params": "page=-1&offset=%FF&hitsPerPage=²"}, None),
        ({"params": {"page": 7}}, None),
        ({"offset": 0, "page": 2, "hitsPerPage": 10}, 1),
        ({"page": -1, "hitsPerPage": 10}, None),
        ({"page": 1, "params": "hitsPerPage=²"}, None),
        ({"results": [7]}, None),
        ({"page": None, "offset": None}, None),
    ],
)
def test_positions_by_what_the_result_says(events: EventSender, fields: dict[str, Any], first: int | None) -> None:
    references = events.references(result(**fields))

    assert [one.position for one in references] == ([None, None] if first is None else [first, first + 1])


# -- What searches return ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda response: response,
        lambda response: [response],
        lambda response: (response,),
        lambda response: response.to_dict(),
        lambda response: response.model_dump(),
        lambda response: response.to_json(),
        lambda response: response.to_json().encode(),
        lambda response: {"results": [response]},
        lambda response: json.dumps({"results": [json.loads(response.to_json())]}),
    ],
)
def test_references_are_made_of_models_and_of_their_json(
    sync_client: TokenAwareClientSync, form: Callable[[Any], Any]
) -> None:
    response = sync_client.search_single_index("shoes", with_query("shoe", hitsPerPage=2, page=1))

    assert sync_client.events.references(form(response)) == [
        HitReference(response.query_id, "shoes", "s-3", 3),
        HitReference(response.query_id, "shoes", "s-4", 4),
    ]


def test_an_answer_with_its_http_info(sync_client: TokenAwareClientSync) -> None:
    answer = sync_client.search_single_index_with_http_info("shoes", with_query("shoe", hitsPerPage=1))

    assert shown(sync_client.events.references(answer)) == [("shoes", "s-1", 1)]


def test_a_multi_query_gives_the_hits_of_each(sync_client: TokenAwareClientSync) -> None:
    response = sync_client.search(
        {
            "requests": [
                {"indexName": "shoes", **with_query("shoe", hitsPerPage=2, page=1)},
                {"indexName": "products", "type": "facet", "facet": "brand"},
                {"indexName": "products", **with_query("hat")},
                {"indexName": "products", **with_query("hat", hitsPerPage=0)},
            ]
        }
    )
    references = sync_client.events.references(response)

    assert shown(references) == [("shoes", "s-3", 3), ("shoes", "s-4", 4), ("products", "3", 1)]
    query_ids = [one.actual_instance.query_id for one in (response.results[0], response.results[2])]
    assert [one.query_id for one in references] == [query_ids[0], query_ids[0], query_ids[1]]
    assert sync_client.events.references(response.results[2]) == references[2:]
    assert sync_client.events.references(response.results) == references
    assert sync_client.events.references(response.to_json()) == references


def test_a_browse_does_not_name_its_index(sync_client: TokenAwareClientSync) -> None:
    response = sync_client.browse("shoes", {"hitsPerPage": 2, "page": 1})

    with pytest.raises(ValueError, match=r"^index_name is missing: give it, as these results do not name their index$"):
        sync_client.events.references(response)
    assert shown(sync_client.events.references(response, "shoes"))[0][:2] == ("shoes", "s-1")


def test_references_are_made_of_recommendations(algolia: LocalAlgolia, sync_client: TokenAwareClientSync) -> None:
    request = {"indexName": "shoes", "objectID": "s-1", "threshold": 0, "maxRecommendations": 2}
    provider = TokenProvider("u-1")
    with make_token_aware(RecommendClientSync.create_with_config(algolia.recommend_config()), provider) as recommend:
        response = recommend.get_recommendations(
            {
                "requests": [
                    {**request, "model": "related-products", "queryParameters": {"clickAnalytics": True}},
                ]
            }
        )
        facets = recommend.get_recommendations(
            {"requests": [{"indexName": "shoes", "model": "trending-facets", "facetName": "brand", "threshold": 0}]}
        )

    references = sync_client.events.references(response, identity="u-1")
    assert shown(references) == [("shoes", "s-2", 1), ("shoes", "s-3", 2)]
    assert {one.query_id for one in references} == {response.results[0].query_id} != {None}
    assert sync_client.events.references([response, facets], identity="u-1") == references
    with pytest.raises(ValueError, match="the values of a facet"):
        sync_client.events.references(facets)


def test_a_record_may_have_a_facet_name(events: EventSender) -> None:
    found = {"hits": [{"objectID": "a", "facetName": "brand"}], "index": "shoes", "queryID": QUERY_ID}

    assert events.references(found) == [HitReference(QUERY_ID, "shoes", "a")]


@pytest.mark.parametrize(
    "form",
    [
        lambda model: model,
        lambda model: model.to_dict(),
        lambda model: model.to_json(),
        lambda model: {"results": [model.to_dict()]},
        lambda model: {"hits": model.hits, "queryID": model.query_id},
    ],
)
def test_recommendations_have_one_page(events: EventSender, form: Callable[[Any], Any]) -> None:
    hits = [{"objectID": "a", "_score": 1.0}, {"objectID": "b", "_score": 0.0}]
    model = RecommendationsResults.from_dict({"hits": hits, "queryID": QUERY_ID})

    assert events.references(form(model), "shoes") == [
        HitReference(QUERY_ID, "shoes", "a", 1),
        HitReference(QUERY_ID, "shoes", "b", 2),
    ]


def test_a_click_on_an_answer_that_tells_no_page_has_no_positions(events: EventSender) -> None:
    references = events.references({"hits": [{"objectID": "a"}], "queryID": QUERY_ID, "index": "shoes"})
    assert [one.position for one in references] == [None]

    assert events.clicked("Clicked", *references)
    assert events.converted("Bought", *references)
    assert events.flush()
    sent = [(event.get("queryID"), event.get("positions")) for event in events._worker._delivery.events]  # type: ignore[attr-defined]
    assert sent == [(None, None), (QUERY_ID, None)]


def test_references_are_made_of_a_composition(events: EventSender) -> None:
    page = {"page": 1, "nbHits": 4, "nbPages": 2, "hitsPerPage": 2, "params": "", "compositions": {}}
    model = CompositionResponse.from_json(json.dumps({"results": [{**result(), **page}]}))

    assert shown(events.references(model)) == [("shoes", "a", 3), ("shoes", "b", 4)]


@pytest.mark.parametrize("nothing", [[], (), "[]", {"results": []}, result(hits=[]), {"hits": []}, [{"hits": []}]])
def test_no_hits_no_references(events: EventSender, nothing: Any) -> None:
    assert events.references(nothing) == []


def test_the_values_of_a_facet_are_refused(sync_client: TokenAwareClientSync) -> None:
    response = sync_client.search_for_facet_values("shoes", "brand")
    both = sync_client.search({"requests": [{"indexName": "shoes", "type": "facet", "facet": "brand"}] * 2})

    for one in (response, both, [response], response.to_dict(), response.to_json()):
        with pytest.raises(ValueError, match="results are the values of a facet"):
            sync_client.events.references(one, "shoes")


@pytest.mark.parametrize(
    ("results", "error", "message"),
    [
        (None, TypeError, "results must be what a search returned, with its hits, not NoneType"),
        (7, TypeError, "not int"),
        ({}, TypeError, "not dict"),
        ([{"objectID": "a"}], TypeError, "not dict"),
        ([None], TypeError, "not NoneType"),
        ("7", TypeError, "not int"),
        ('"7"', TypeError, "not str"),
        ("no JSON", ValueError, "results must be what a search returned, and this text is no JSON"),
        (b"\xff", ValueError, "this text is no JSON"),
        ("[" * 100_000, ValueError, "this text is no JSON"),
        (result(hits=[{"name": "x"}]), ValueError, "results have a hit without objectID"),
        (result(hits=[{"objectID": 7}]), ValueError, "results have a hit without objectID"),
        (result(hits=["a"]), ValueError, "results have a hit without objectID"),
    ],
)
def test_results_that_no_search_returned_are_refused(
    events: EventSender, results: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        events.references(results)


def test_the_hits_alone_are_no_results(sync_client: TokenAwareClientSync) -> None:
    response = sync_client.search_single_index("shoes", with_query("shoe"))

    with pytest.raises(TypeError, match="results must be what a search returned, with its hits, not Hit"):
        sync_client.events.references(response.hits, "shoes")


# -- Which index -------------------------------------------------------------------------------------------------------


def test_the_index_is_the_one_given_else_the_one_asked_for_else_the_one_used(events: EventSender) -> None:
    def index_of(fields: dict[str, Any], *index_name: str) -> str:
        return events.references({"hits": [{"objectID": "a"}], "queryID": QUERY_ID, **fields}, *index_name)[
            0
        ].index_name

    assert index_of({"index": "asked", "indexUsed": "used"}) == "asked"
    assert index_of({"indexUsed": "used"}) == "used"
    assert index_of({"index": "asked"}, "given") == "given"
    assert index_of({"index": "asked"}, "") == "asked"
    with pytest.raises(ValueError, match="index_name is missing"):
        index_of({})
    with pytest.raises(TypeError, match="index_name must be a string, not int"):
        events.references(result(), 7)  # type: ignore[arg-type]


# -- Whose search ------------------------------------------------------------------------------------------------------


def owner(events: EventSender, results: Any, **options: Any) -> str | None:
    (one, *_) = events.references(results, "shoes", **options)
    found = [token for token in (None, "u-1", "u-2", "u-3") if one.made_for(token)]
    assert len(found) == 1
    return found[0]


def test_the_token_in_the_result_wins_then_identity_then_the_provider(events: EventSender) -> None:
    echoed = result(params="query=x&userToken=u-3")

    assert owner(events, result()) == "u-1"
    with identity_scope("u-2"):
        assert owner(events, result()) == "u-2"
        assert owner(events, result(), identity="u-1") == "u-1"
        assert owner(events, result(), identity=Identity("u-1", "login")) == "u-1"
        assert owner(events, result(), identity=Identity(authenticated_user_token="u-1")) == "u-1"
        assert owner(events, result(), identity=Identity()) is None
        assert owner(events, echoed) == "u-3"
        assert owner(events, echoed, identity="u-1") == "u-3"
    with identity_scope(Identity(authenticated_user_token="u-2")):
        assert owner(events, result()) == "u-2"
    assert owner(events.with_identity("u-2"), result()) == "u-2"
    assert owner(events, result(params="userToken=u-2&userToken=u-3")) == "u-3"
    assert owner(events, result(params="userToken=not+a+token")) is None
    assert owner(events, result(params="userToken=")) == "u-1"
    with pytest.raises(InvalidUserTokenError, match=r"^identity "):
        events.references(result(), identity="not a token")


@pytest.mark.parametrize("nobody", [Identity(), Identity("u-1", opted_out=True), Identity(client_ip="192.0.2.7")])
def test_a_search_of_nobody_gives_references_of_nobody(events: EventSender, nobody: Identity) -> None:
    with identity_scope(nobody):
        assert owner(events, result()) is None


def test_each_query_of_a_multi_query_may_be_somebody_elses(
    sync_client: TokenAwareClientSync, algolia: LocalAlgolia
) -> None:
    request = {"indexName": "shoes", **with_query("shoe", hitsPerPage=1)}
    with identity_scope("u-1"):
        tokens = ("u/2+3=", "u-3", None)
        response = sync_client.search({"requests": [{**request, "userToken": token} for token in tokens[:2]]})
        mixed = sync_client.search({"requests": [{**request, "userToken": "u/2+3="}, request]})
        references = sync_client.events.references(response) + sync_client.events.references(mixed)

    # Two users never go out in one header, so the last search went without.
    assert [search.user_token for search in algolia.searches] == ["u/2+3=", "u-3", "u/2+3=", None]
    for reference, search in zip(references, algolia.searches, strict=True):
        assert [reference.made_for(token) for token in tokens] == [token == search.user_token for token in tokens]
        assert not reference.made_for("u-1")


# -- No queryID --------------------------------------------------------------------------------------------------------


def test_a_search_without_click_analytics_is_logged_once(
    sync_client: TokenAwareClientSync, caplog: pytest.LogCaptureFixture
) -> None:
    with identity_scope("u-1"):
        response = sync_client.search_single_index("shoes", {"query": "shoe"})
        references = sync_client.events.references(response)
        sync_client.events.references(response)

    assert [one.query_id for one in references] == [None] * 20
    assert references[0].made_for("u-1")
    assert [(record.name, record.levelname) for record in caplog.records] == [("algolia_usertoken.events", "WARNING")]
    assert caplog.messages[0].startswith(
        "queryID is missing in the results of the index 'shoes': search with clickAnalytics"
    )
    assert sync_client.events.stats.refused == 0
    sync_client.events.close()
    assert caplog.messages[1:] == ["unattributed: 1 more since the last line"]


def test_strict_raises_where_a_search_had_no_click_analytics() -> None:
    with EventSender(delivery=MemoryDelivery(), user_token="u-1", strict=True) as events:
        for missing in (None, ""):
            with pytest.raises(InvalidEventError, match="queryID is missing") as caught:
                events.references([result(), result(queryID=missing)])
            assert caught.value.field == "queryID"
        assert len(events.references(result())) == 2
        # Of nobody's search there is nothing to tell, and where there are no hits, nothing to refer to.
        assert len(events.references(result(queryID=None), identity=Identity())) == 2
        assert events.references(result(queryID=None, hits=[])) == []
