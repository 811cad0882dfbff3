"""Rules and synonyms: kept and given back, with the real clients and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from algoliasearch.http.exceptions import RequestException
from algoliasearch.search.client import SearchClientSync

Ask = Callable[..., Any]
RULE = {
    "objectID": "sale",
    "conditions": [{"pattern": "sale", "anchoring": "is", "context": "mobile"}],
    "consequence": {"params": {"hitsPerPage": 42}},
    "description": "When it is sale",
}
SYNONYM = {"objectID": "street", "type": "altCorrection1", "word": "Street", "corrections": ["St"]}
OTHERS = {
    "rules": {"objectID": "other", "consequence": {"userData": {"a": 1}}, "enabled": False},
    "synonyms": {"objectID": "other", "type": "synonym", "synonyms": ["hat", "cap"]},
}


@pytest.fixture(params=["rules", "synonyms"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def one(kind: str) -> dict[str, Any]:
    return RULE if kind == "rules" else SYNONYM


def test_a_rule_is_saved_found_and_deleted(client: SearchClientSync) -> None:
    assert client.save_rule("products", "sale", RULE).task_id
    assert client.get_rule("products", "sale").to_dict() == RULE
    found = client.search_rules("products", {"query": "when it"})
    assert (found.nb_hits, found.page, found.nb_pages, found.hits[0].object_id) == (1, 0, 1, "sale")
    client.delete_rule("products", "sale")
    with pytest.raises(RequestException, match=r"^ObjectID does not exist$"):
        client.get_rule("products", "sale")


def test_a_synonym_is_saved_found_and_deleted(client: SearchClientSync) -> None:
    assert client.save_synonym("products", "street", SYNONYM).id == "street"
    assert client.get_synonym("products", "street").to_dict() == SYNONYM
    assert client.search_synonyms("products", {"type": "altcorrection1"}).nb_hits == 1
    assert client.search_synonyms("products", {"type": "synonym"}).nb_hits == 0
    assert client.delete_synonym("products", "street").deleted_at
    with pytest.raises(RequestException, match=r"^Synonym set does not exist$"):
        client.get_synonym("products", "street")


def test_browsing_gives_all_rules_and_synonyms(client: SearchClientSync) -> None:
    client.save_rules("products", [{**RULE, "objectID": str(number)} for number in range(1_500)])
    client.save_synonyms("products", [SYNONYM, OTHERS["synonyms"]])
    rules: list[str] = []
    synonyms: list[str] = []
    client.browse_rules("products", lambda page: rules.extend(hit.object_id for hit in page.hits))
    client.browse_synonyms("products", lambda page: synonyms.extend(hit.object_id for hit in page.hits))
    assert rules == [str(number) for number in range(1_500)]
    assert synonyms == ["street", "other"]


@pytest.mark.parametrize("yes", ["true", "1"])  # the JavaScript client 4 sends 1
def test_a_batch_adds_or_replaces_all(ask: Ask, kind: str, yes: str) -> None:
    path = f"/1/indexes/products/{kind}"
    replacing = {"rules": "clearExistingRules", "synonyms": "replaceExistingSynonyms"}[kind]
    ask("POST", f"{path}/batch", [one(kind)])
    assert ask("POST", f"{path}/batch", [OTHERS[kind]]).json.keys() == {"updatedAt", "taskID"}
    assert ask("POST", f"{path}/search", {}).json["nbHits"] == 2
    ask("POST", f"{path}/batch?{replacing}={yes}", [OTHERS[kind]])
    assert ask("POST", f"{path}/search", {}).json["hits"] == [OTHERS[kind]]
    ask("POST", f"{path}/clear")
    assert ask("POST", f"{path}/search").json["hits"] == []


def test_rules_and_synonyms_come_in_pages(ask: Ask, kind: str) -> None:
    path = f"/1/indexes/products/{kind}"
    ask("POST", f"{path}/batch", [{**one(kind), "objectID": str(number)} for number in range(5)])
    page = ask("POST", f"{path}/search", {"hitsPerPage": 2, "page": 2}).json
    assert [hit["objectID"] for hit in page["hits"]] == ["4"]
    assert (page["nbHits"], page["page"], page["nbPages"]) == (5, 2, 3)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["sale", "other"]),
        ({"query": "SALE"}, ["sale"]),
        ({"context": "mobile"}, ["sale"]),
        ({"context": "mob"}, []),
        ({"anchoring": "is"}, ["sale"]),
        ({"anchoring": "contains"}, []),
        ({"enabled": True}, ["sale"]),
        ({"enabled": False}, ["other"]),
        ({"enabled": None}, ["sale", "other"]),
    ],
)
def test_rules_are_searched_by_what_they_say(ask: Ask, wanted: dict[str, Any], found: list[str]) -> None:
    ask("POST", "/1/indexes/products/rules/batch", [RULE, OTHERS["rules"]])
    hits = ask("POST", "/1/indexes/products/rules/search", wanted).json["hits"]
    assert [hit["objectID"] for hit in hits] == found


@pytest.mark.parametrize(
    ("types", "found"),
    [
        ("synonym", ["other"]),
        ("altcorrection1,synonym", ["street", "other"]),
        (["altCorrection1"], ["street"]),
        ([], ["street", "other"]),
        ("placeholder", []),
    ],
)
def test_synonyms_are_searched_by_their_types(ask: Ask, types: Any, found: list[str]) -> None:
    ask("POST", "/1/indexes/products/synonyms/batch", [SYNONYM, OTHERS["synonyms"]])
    hits = ask("POST", "/1/indexes/products/synonyms/search", {"type": types}).json["hits"]
    assert [hit["objectID"] for hit in hits] == found


@pytest.mark.parametrize("forward", [True, False])
def test_changes_reach_replicas_only_when_they_are_forwarded(ask: Ask, kind: str, forward: bool) -> None:
    ask("PUT", "/1/indexes/products/settings", {"replicas": ["cheapest"]})
    query = f"?forwardToReplicas={str(forward).lower()}"
    ask("POST", f"/1/indexes/products/{kind}/batch{query}", [one(kind)])
    ask("PUT", f"/1/indexes/products/{kind}/other{query}", OTHERS[kind])
    kept = ask("POST", f"/1/indexes/cheapest/{kind}/search").json["hits"]
    assert kept == ([one(kind), OTHERS[kind]] if forward else [])
    ask("DELETE", f"/1/indexes/products/{kind}/other{query}")
    assert len(ask("POST", f"/1/indexes/cheapest/{kind}/search").json["hits"]) == forward
    ask("POST", f"/1/indexes/products/{kind}/clear{query}")
    assert ask("POST", f"/1/indexes/cheapest/{kind}/search").json["hits"] == []


def test_rules_and_synonyms_are_copied_and_moved_as_the_scope_says(ask: Ask, kind: str) -> None:
    ask("POST", f"/1/indexes/products/{kind}/batch", [one(kind)])

    def copied(**body: Any) -> int:
        ask("POST", "/1/indexes/products/operation", {"operation": "copy", **body})
        return len(ask("POST", f"/1/indexes/{body['destination']}/{kind}/search").json["hits"])

    assert copied(destination="whole") == 1
    assert copied(destination="some", scope=["settings"]) == 0
    assert copied(destination="some", scope=[kind]) == 1
    ask("POST", "/1/indexes/whole/operation", {"operation": "move", "destination": "moved"})
    assert ask("GET", f"/1/indexes/moved/{kind}/{one(kind)['objectID']}").json == one(kind)


def test_an_index_that_does_not_exist_has_none(ask: Ask, kind: str) -> None:
    answer = ask("POST", f"/1/indexes/nowhere/{kind}/search")
    assert (answer.status, answer.json["hits"]) == (200, [])
    missing = ask("GET", f"/1/indexes/nowhere/{kind}/x")
    assert (missing.status, missing.json["message"]) == (404, "Index nowhere does not exist")


def test_rules_and_synonyms_change_no_search(client: SearchClientSync) -> None:
    before = client.search_single_index("products", {"query": "blue"}).to_dict()
    client.save_rules("products", [{**RULE, "conditions": [{"pattern": "blue", "anchoring": "is"}]}])
    client.save_synonyms("products", [{"objectID": "s", "type": "synonym", "synonyms": ["blue", "red"]}])
    assert client.search_single_index("products", {"query": "blue"}).to_dict() == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "rules/batch", {"objectID": "x"}),
        ("POST", "rules/batch", "["),
        ("POST", "rules/batch", ["x"]),
        ("POST", "rules/batch", [{"consequence": {}}]),
        ("POST", "rules/batch", [{"objectID": "x"}]),
        ("PUT", "rules/x", {"consequence": "none"}),
        ("PUT", "rules/x", []),
        ("PUT", "rules/x", {"consequence": {}, "conditions": 1}),
        ("PUT", "rules/x", {"consequence": {}, "conditions": ["x"]}),
        ("POST", "synonyms/batch", [{"type": "synonym"}]),
        ("POST", "synonyms/batch", [{"objectID": "x", "type": "antonym"}]),
        ("PUT", "synonyms/x", {"type": 1}),
        ("POST", "rules/search", {"page": -1}),
        ("POST", "rules/search", {"query": 1}),
    ],
)
def test_what_is_no_rule_or_synonym_is_refused_and_changes_nothing(ask: Ask, method: str, path: str, body: Any) -> None:
    assert ask(method, f"/1/indexes/products/{path}", body).status == 400
    assert ask("POST", "/1/indexes/products/rules/search").json["nbHits"] == 0
    assert ask("POST", "/1/indexes/products/synonyms/search").json["nbHits"] == 0
