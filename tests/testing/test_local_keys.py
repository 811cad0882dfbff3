"""API keys: what a secured one restricts, and which there are."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

import pytest
from algoliasearch.http.exceptions import RequestException
from algoliasearch.search.client import SearchClientSync

from algolia_usertoken.local_algolia.keys import Grant
from algolia_usertoken.testing import LocalAlgolia

Ask = Callable[..., Any]
SHARED = [
    {"objectID": "1", "name": "plan one", "g": "PUBLIC", "team": "a", "size": 1, "_tags": ["x"]},
    {"objectID": "2", "name": "plan two", "g": "PUBLIC", "team": "b", "size": 2, "_tags": ["x", "y"]},
    {"objectID": "3", "name": "plan three", "g": "SECRET", "team": "a", "size": 3, "_tags": ["y"]},
    {"objectID": "4", "name": "plan four", "g": "SECRET", "team": "b", "size": 4, "_tags": []},
]


@pytest.fixture(autouse=True)
def records(algolia: LocalAlgolia) -> None:
    algolia.save_objects("plans", SHARED)
    algolia.save_objects("plans_dev", SHARED)


@pytest.fixture
def secured(client: SearchClientSync, algolia: LocalAlgolia) -> Callable[..., dict[str, str]]:
    def secured(parent: str | None = None, **restrictions: Any) -> dict[str, str]:
        key = client.generate_secured_api_key(parent or algolia.api_key, restrictions)
        return {"x-algolia-api-key": key}

    return secured


def ids(answer: Any) -> list[str]:
    assert answer.status == 200, answer.body
    return [hit["objectID"] for hit in answer.json["hits"]]


class TestFilters:
    @pytest.mark.parametrize(
        ("asked", "found"),
        [
            ({}, "12"),
            ({"filters": ""}, "12"),
            ({"filters": "team:a"}, "1"),
            ({"filters": "g:SECRET"}, ""),
            ({"filters": "team:a OR g:SECRET"}, "1"),
            ({"filters": "team:a OR team:b"}, "12"),
            ({"filters": "NOT g:PUBLIC"}, ""),
            ({"facetFilters": [["team:a", "g:SECRET"]]}, "1"),
            ({"params": "filters=g%3ASECRET%20OR%20team%3Ab"}, "2"),
        ],
    )
    def test_those_of_the_key_hold_beside_the_callers(
        self, ask: Ask, secured: Any, asked: dict[str, Any], found: str
    ) -> None:
        key = secured(filters="g:PUBLIC")

        assert ids(ask("POST", "/1/indexes/plans/query", asked, key)) == list(found)
        assert ids(ask("POST", "/1/indexes/plans/browse", asked, key)) == list(found)

    def test_an_or_in_the_key_stays_one(self, ask: Ask, secured: Any) -> None:
        key = secured(filters="g:PUBLIC OR team:a")

        assert ids(ask("POST", "/1/indexes/plans/query", {"filters": "size > 1"}, key)) == ["2", "3"]

    @pytest.mark.parametrize(
        "filters", ["team:a) OR (g:SECRET", "team:a)) OR ((g:SECRET", ') OR g:SECRET OR (team:"', "team:a OR", "("]
    )
    def test_the_caller_cannot_break_out_of_them(self, ask: Ask, secured: Any, filters: str) -> None:
        answer = ask("POST", "/1/indexes/plans/query", {"filters": filters}, secured(filters="g:PUBLIC"))

        assert answer.status == 400

    @pytest.mark.parametrize(
        ("name", "by_key", "asked", "found"),
        [
            ("facetFilters", "g:PUBLIC", ["team:a"], "1"),
            ("facetFilters", "g:PUBLIC", "team:a", "1"),
            ("facetFilters", '[["g:PUBLIC","team:a"]]', [["team:b"]], "2"),
            ("numericFilters", "size<4", ["size>1"], "23"),
        ],
    )
    def test_of_the_key_in_other_parameters_hold_too(
        self, ask: Ask, secured: Any, name: str, by_key: str, asked: Any, found: str
    ) -> None:
        key = secured(**{name: by_key})

        assert ids(ask("POST", "/1/indexes/plans/query", {name: asked}, key)) == list(found)

    def test_every_kind_of_search_obeys(self, ask: Ask, secured: Any) -> None:
        key = secured(filters="g:PUBLIC")
        both = {"requests": [{"indexName": "plans"}, {"indexName": "plans", "type": "facet", "facet": "g"}]}
        several = ask("POST", "/1/indexes/*/queries", both, key).json["results"]
        facets = ask("POST", "/1/indexes/plans/facets/g/query", {}, key).json["facetHits"]
        alike = {"indexName": "plans", "model": "related-products", "objectID": "1", "threshold": 0}
        [others] = ask("POST", "/1/indexes/*/recommendations", {"requests": [alike]}, key).json["results"]
        objects = {"requests": [{"indexName": "plans", "objectID": str(number)} for number in (1, 3)]}

        assert several[0]["nbHits"] == 2
        assert [hit["value"] for hit in several[1]["facetHits"]] == ["PUBLIC"]
        assert [hit["value"] for hit in facets] == ["PUBLIC"]
        assert [hit["objectID"] for hit in others["hits"]] == ["2"]
        assert ids(ask("GET", "/1/indexes/plans", None, key)) == ["1", "2"]
        assert ask("GET", "/1/indexes/plans/1", None, key).json["team"] == "a"
        assert ask("GET", "/1/indexes/plans/3", None, key).status == 404
        first, second = ask("POST", "/1/indexes/*/objects", objects, key).json["results"]
        assert (first["objectID"], second) == ("1", None)

    def test_of_a_key_hold_on_each_page_of_an_export_beside_the_callers(self, ask: Ask, secured: Any) -> None:
        key, path = secured(filters="team:a"), "/1/indexes/plans/browse"
        first = ask("POST", path, {"hitsPerPage": 1, "filters": "size > 0"}, key)
        second = ask("POST", path, {"cursor": first.json["cursor"]}, key)
        of_all = ask("POST", path, {"hitsPerPage": 1, "filters": "size > 2"}).json["cursor"]
        of_another = ask("POST", path, {"cursor": ask("POST", path, {"hitsPerPage": 1}).json["cursor"]}, key)

        assert (ids(first), ids(second)) == (["1"], ["3"])
        assert ids(ask("POST", path, {"cursor": of_all})) == ["4"]
        assert ids(of_another) == ["3"]


class TestIndices:
    @pytest.mark.parametrize(
        ("pattern", "allowed"),
        [
            ("plans", ["plans"]),
            ("plans,products", ["plans", "products"]),
            ("plans*", ["plans", "plans_dev"]),
            ("*_dev", ["plans_dev"]),
            ("*n*", ["plans", "plans_dev"]),
            ("*", ["plans", "plans_dev", "products"]),
            ("none", []),
        ],
    )
    def test_only_those_that_the_key_names(self, ask: Ask, secured: Any, pattern: str, allowed: list[str]) -> None:
        key = secured(restrictIndices=pattern.split(","))

        for name in ("plans", "plans_dev", "products"):
            asked = [
                ask("POST", f"/1/indexes/{name}/query", {}, key),
                ask("POST", f"/1/indexes/{name}/browse", {}, key),
                ask("GET", f"/1/indexes/{name}", None, key),
                ask("POST", "/1/indexes/*/queries", {"requests": [{"indexName": name}]}, key),
                ask("POST", "/1/indexes/*/objects", {"requests": [{"indexName": name, "objectID": "1"}]}, key),
                ask("POST", "/1/indexes/*/recommendations", {"requests": [{"indexName": name, "model": "m"}]}, key),
            ]
            assert {answer.status for answer in asked} == ({200} if name in allowed else {403}), name
            if name not in allowed:
                assert {answer.json["message"] for answer in asked} == {"Index not allowed with this API key"}

    def test_a_list_that_is_none_is_refused(self, ask: Ask, secured: Any) -> None:
        answer = ask("POST", "/1/indexes/plans/query", {}, secured(restrictIndices='["plans"'))

        assert (answer.status, answer.json["message"]) == (400, "Expected an array")

    def test_a_refused_one_of_several_refuses_all(self, ask: Ask, secured: Any) -> None:
        key = secured(restrictIndices="plans")
        both = {"requests": [{"indexName": "plans"}, {"indexName": "products"}]}

        assert ask("POST", "/1/indexes/*/queries", both, key).status == 403


class TestOtherRestrictions:
    def test_search_parameters_of_the_key_win(self, ask: Ask, secured: Any, algolia: LocalAlgolia) -> None:
        key = secured(searchParams={"hitsPerPage": 1, "attributesToRetrieve": ["name"], "clickAnalytics": True})
        answer = ask("POST", "/1/indexes/plans/query", {"hitsPerPage": 3, "attributesToRetrieve": ["*"]}, key).json

        assert answer["hitsPerPage"] == 1
        assert answer["hits"][0].keys() == {"objectID", "name", "_highlightResult"}
        assert answer["queryID"] == algolia.searches[0].query_id

    def test_a_key_that_is_over(self, ask: Ask, secured: Any) -> None:
        now = int(time.time())

        assert ask("POST", "/1/indexes/plans/query", {}, secured(validUntil=now + 600)).status == 200
        for over in (now - 1, "soon", "nan"):
            answer = ask("POST", "/1/indexes/plans/query", {}, secured(validUntil=over))
            assert answer.status == 403
            assert "validUntil" in answer.json["message"]

    def test_of_a_user_is_that_of_the_search(self, ask: Ask, secured: Any, algolia: LocalAlgolia) -> None:
        ask("POST", "/1/indexes/plans/query", {}, secured(userToken="u-1"))

        assert (algolia.searches[0].user_token_in_key, algolia.searches[0].user) == ("u-1", "u-1")

    def test_with_a_broken_signature_are_refused(self, ask: Ask, secured: Any) -> None:
        good = base64.b64decode(secured(filters="g:PUBLIC")["x-algolia-api-key"]).decode()
        for broken in ("0" + good[1:], good[1:], good[:64], good[:63], good + "&a=b", good[:64] + "filters=g%3ASECRET"):
            if broken == good:
                continue
            answer = ask(
                "POST", "/1/indexes/plans/query", {}, {"x-algolia-api-key": base64.b64encode(broken.encode()).decode()}
            )
            assert (answer.status, answer.json["message"]) == (403, "Invalid Application-ID or API key")

    def test_none_is_made_from_a_secured_one(self, ask: Ask, secured: Any) -> None:
        parent = secured(filters="g:PUBLIC")["x-algolia-api-key"]

        assert ask("POST", "/1/indexes/plans/query", {}, secured(parent, hitsPerPage=1)).status == 403

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", "/1/indexes/plans/batch", {"requests": []}),
            ("PUT", "/1/indexes/plans/settings", {}),
            ("DELETE", "/1/indexes/plans", None),
            ("GET", "/1/logs", None),
            ("GET", "/1/keys", None),
            ("POST", "/1/keys", {"acl": ["search"]}),
        ],
    )
    def test_of_a_secured_key_let_it_search_and_change_nothing(
        self, ask: Ask, secured: Any, method: str, path: str, body: Any
    ) -> None:
        answer = ask(method, path, body, secured())

        assert (answer.status, answer.json["message"]) == (403, "Method not allowed with this API key")


class TestAddedKeys:
    def test_are_listed_got_changed_deleted_and_restored(self, client: SearchClientSync, algolia: LocalAlgolia) -> None:
        key = client.add_api_key({"acl": ["search"], "description": "of a test", "indexes": ["plans*"]}).key
        client.wait_for_api_key(operation="add", key=key)
        got = client.get_api_key(key)
        listed = client.list_api_keys().keys
        client.update_api_key(key, {"acl": ["search", "browse"]})
        client.wait_for_api_key(operation="update", key=key, api_key={"acl": ["search", "browse"]})
        client.delete_api_key(key)
        client.wait_for_api_key(operation="delete", key=key)

        assert (got.value, got.description, got.indexes) == (key, "of a test", ["plans*"])
        assert [each.value for each in listed] == [algolia.api_key, key]
        with pytest.raises(RequestException, match="Key does not exist"):
            client.get_api_key(key)
        client.restore_api_key(key)
        assert client.get_api_key(key).acl == ["search", "browse"]

    def test_allow_what_they_say(self, ask: Ask, client: SearchClientSync) -> None:
        key = client.add_api_key(
            {"acl": ["search"], "indexes": ["plans"], "queryParameters": "filters=g%3APUBLIC&hitsPerPage=1"}
        ).key
        with_it = {"x-algolia-api-key": key}

        found = ask("POST", "/1/indexes/plans/query", {"hitsPerPage": 9, "filters": "team:b"}, with_it)
        assert ids(found) == ["2"]
        assert ask("POST", "/1/indexes/products/query", {}, with_it).status == 403
        assert ask("POST", "/1/indexes/plans/batch", {"requests": []}, with_it).status == 403
        assert ask("GET", f"/1/keys/{key}", None, with_it).json["acl"] == ["search"]
        assert ask("GET", "/1/keys", None, with_it).status == 403
        assert ask("GET", "/1/keys/local-api-key", None, with_it).status == 403

    def test_secured_ones_are_made_from_them_and_obey_both(
        self, ask: Ask, client: SearchClientSync, secured: Any
    ) -> None:
        parent = client.add_api_key(
            {"acl": ["search"], "indexes": ["plans*"], "queryParameters": "filters=g:PUBLIC"}
        ).key
        key = secured(parent, filters="team:b OR g:SECRET", restrictIndices="*_dev")

        assert ids(ask("POST", "/1/indexes/plans_dev/query", {}, key)) == ["2"]
        assert ask("POST", "/1/indexes/plans/query", {}, key).status == 403
        client.delete_api_key(parent)
        assert ask("POST", "/1/indexes/plans_dev/query", {}, key).status == 403

    def test_are_over_when_their_time_ends(
        self, ask: Ask, client: SearchClientSync, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        key = client.add_api_key({"acl": ["search"], "validity": 60}).key
        with_it = {"x-algolia-api-key": key}
        assert ask("POST", "/1/indexes/plans/query", {}, with_it).status == 200
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 61)

        assert ask("POST", "/1/indexes/plans/query", {}, with_it).status == 403

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"acl": "search"},
            {"acl": ["everything"]},
            {"acl": ["search"], "indexes": "plans"},
            {"acl": ["search"], "indexes": [1]},
            {"acl": ["search"], "queryParameters": {}},
            {"acl": ["search"], "validity": -1},
            {"acl": ["search"], "validity": True},
        ],
    )
    def test_that_are_no_keys_are_refused(self, ask: Ask, settings: Any) -> None:
        assert ask("POST", "/1/keys", settings).status == 400

    def test_the_one_of_the_stand_in_stays(self, ask: Ask, algolia: LocalAlgolia) -> None:
        assert ask("DELETE", f"/1/keys/{algolia.api_key}").status == 400
        assert ask("PUT", f"/1/keys/{algolia.api_key}", {"acl": []}).status == 400
        assert ask("POST", "/1/keys/none/restore").status == 404


@pytest.mark.parametrize(("pattern", "fits"), [("**", True), ("", False), ("p*s", False), ("*plans", True)])
def test_wildcards_stand_at_the_ends(pattern: str, fits: bool) -> None:
    from algolia_usertoken.local_algolia.errors import ApiError

    grant = Grant(indices=((pattern,),))
    if fits:
        grant.check_index("plans")
    else:
        with pytest.raises(ApiError):
            grant.check_index("plans")


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["plans"], ["plans"]),
        (["*_dev"], ["plans_dev"]),
        (["plans*", "nothing"], ["plans", "plans_dev"]),
        (["nothing"], []),
        ([], ["plans", "plans_dev", "products"]),
    ],
)
def test_a_key_lists_the_indices_that_it_may_use(
    patterns: list[str], names: list[str], client: SearchClientSync, ask: Ask
) -> None:
    key = client.add_api_key({"acl": ["listIndexes"], "indexes": patterns}).key

    listed = ask("GET", "/1/indexes", headers={"x-algolia-api-key": key}).json

    assert [index["name"] for index in listed["items"]] == names
