"""How hits are shown: which attributes, highlights and snippets, by parameters and by settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from algoliasearch.search.client import SearchClientSync

from algolia_usertoken.testing import LocalAlgolia

Ask = Callable[..., Any]
QUERY = "/1/indexes/books/query"
BOOK = {
    "objectID": "b",
    "title": "A red book",
    "text": "One two three four five six seven eight nine ten eleven <red> twelve thirteen, fourteen.",
    "maker": {"city": "Paris", "secret": "x", "streets": [{"name": "Rue"}, {"secret": "y"}]},
    "tags": ["red", "old"],
    "cost": 5,
}


@pytest.fixture(autouse=True)
def books(algolia: LocalAlgolia) -> None:
    algolia.save_objects("books", [BOOK])


def hit(ask: Ask, **parameters: Any) -> dict[str, Any]:
    answer = ask("POST", QUERY, {"attributesToHighlight": [], **parameters})
    assert answer.status == 200, answer.json
    found: dict[str, Any] = answer.json["hits"][0]
    return found


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (["title"], {"title": "A red book"}),
        (["maker.city"], {"maker": {"city": "Paris"}}),
        (["maker.city", "maker.none", "none.at.all"], {"maker": {"city": "Paris"}}),
        (["maker.streets.name"], {"maker": {"streets": [{"name": "Rue"}]}}),
        (["cost.none"], {}),
        ([], {}),
        (["*", "-maker", "-text", "-title", "-tags"], {"cost": 5}),
        (
            ["*", "-maker.secret", "-maker.streets", "-text", "-title", "-tags"],
            {"cost": 5, "maker": {"city": "Paris"}},
        ),
        ("title,cost", {"title": "A red book", "cost": 5}),
    ],
)
def test_hits_have_the_attributes_to_retrieve_at_any_depth(ask: Ask, wanted: Any, shown: dict[str, Any]) -> None:
    assert hit(ask, attributesToRetrieve=wanted) == {"objectID": "b", **shown}
    names = wanted.split(",") if isinstance(wanted, str) else wanted  # a setting is a list
    ask("PUT", "/1/indexes/books/settings", {"attributesToRetrieve": names})
    assert hit(ask) == {"objectID": "b", **shown}
    assert hit(ask, attributesToRetrieve=["cost"]) == {"objectID": "b", "cost": 5}


def test_unretrievable_attributes_are_never_returned(ask: Ask, client: SearchClientSync) -> None:
    client.set_settings("books", {"unretrievableAttributes": ["text", "maker.secret", "maker.streets.secret", "cost"]})
    shown = {name: BOOK[name] for name in ("objectID", "title", "tags")}
    expected = {**shown, "maker": {"city": "Paris", "streets": [{"name": "Rue"}, {}]}}
    assert hit(ask) == expected
    assert hit(ask, attributesToRetrieve=["text", "title"]) == {"objectID": "b", "title": "A red book"}
    marked = hit(ask, attributesToHighlight=["*"], attributesToSnippet=["*", "text"])
    assert marked["_highlightResult"].keys() == {"title", "tags", "maker"}
    assert "secret" not in str(marked["_highlightResult"])
    assert marked["_snippetResult"].keys() == {"title", "tags", "maker"}
    assert ask("POST", "/1/indexes/books/browse", {}).json["hits"] == [expected]
    assert ask("GET", "/1/indexes/books/b").json == expected
    got = ask("POST", "/1/indexes/*/objects", {"requests": [{"indexName": "books", "objectID": "b"}]}).json
    assert got["results"] == [expected]
    body = {"requests": [{"indexName": "books", "model": "related-products", "objectID": "x", "threshold": 0}]}
    (recommended,) = ask("POST", "/1/indexes/*/recommendations", body).json["results"][0]["hits"]
    assert {name: value for name, value in recommended.items() if name != "_score"} == expected
    assert client.search_single_index("books", {"query": "fourteen"}).nb_hits == 1


@pytest.mark.parametrize(
    ("query", "length", "value", "level"),
    [
        ("", 3, "One two three…", "none"),
        ("two", 3, "One <em>two</em> three…", "full"),
        ("twelve", 4, "…eleven &lt;red&gt; <em>twelve</em> thirteen…", "full"),
        ("fourteen", 3, "…twelve thirteen, <em>fourteen</em>.", "full"),
        ("red book", 2, "…eleven &lt;<em>red</em>…", "partial"),
        ("two", 1, "…<em>two</em>…", "full"),
        ("two", 15, BOOK["text"].replace("<", "&lt;").replace(">", "&gt;").replace("two", "<em>two</em>"), "full"),
    ],
)
def test_a_snippet_is_cut_around_the_first_word_that_was_searched_for(
    ask: Ask, query: str, length: int, value: str, level: str
) -> None:
    found = hit(ask, query=query, attributesToSnippet=[f"text:{length}"])["_snippetResult"]
    assert found == {"text": {"value": value, "matchLevel": level}}


def test_snippets_have_the_shape_of_their_attributes_and_ten_words(ask: Ask) -> None:
    found = hit(ask, query="red", attributesToSnippet=["maker.city", "tags", "text", "none"], snippetEllipsisText="[]")
    assert found["_snippetResult"] == {
        "maker": {"city": {"value": "Paris", "matchLevel": "none"}},
        "tags": [{"value": "<em>red</em>", "matchLevel": "full"}, {"value": "old", "matchLevel": "none"}],
        "text": {
            "value": "[]six seven eight nine ten eleven &lt;<em>red</em>&gt; twelve thirteen, fourteen.",
            "matchLevel": "full",
        },
    }
    assert hit(ask, query="red", attributesToSnippet=["*:2"])["_snippetResult"].keys() == BOOK.keys() - {"objectID"}


@pytest.mark.parametrize("wanted", [["text:x"], ["text:0"], ["text:-1"], [5]])
def test_snippets_that_cannot_be_are_refused(ask: Ask, wanted: Any) -> None:
    answer = ask("POST", QUERY, {"attributesToSnippet": wanted})
    assert (answer.status, answer.json["message"][:20]) == (400, "attributesToSnippet:")


def test_settings_say_how_hits_are_marked_where_a_search_does_not(ask: Ask, client: SearchClientSync) -> None:
    settings = {
        "attributesToHighlight": ["title"],
        "attributesToSnippet": ["text:2"],
        "highlightPreTag": "<b>",
        "highlightPostTag": "</b>",
        "snippetEllipsisText": "~",
    }
    client.set_settings("books", settings)
    found = ask("POST", QUERY, {"query": "red"}).json["hits"][0]
    assert found["_highlightResult"].keys() == {"title"}
    assert found["_highlightResult"]["title"]["value"] == "A <b>red</b> book"
    assert found["_snippetResult"]["text"]["value"] == "~eleven &lt;<b>red</b>~"
    assert "_snippetResult" not in ask("POST", QUERY, {"query": "red", "attributesToSnippet": []}).json["hits"][0]


def test_nested_attributes_are_highlighted_alone(ask: Ask) -> None:
    found = hit(ask, attributesToHighlight=["maker.city", "cost"])["_highlightResult"]
    assert found.keys() == {"maker", "cost"}
    assert found["maker"].keys() == {"city"}
