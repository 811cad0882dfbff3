"""Whose searches and events they were."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, get_args

import pytest
from algoliasearch.insights.client import InsightsClientSync
from algoliasearch.search.client import SearchClientSync

from algolia_usertoken.local_algolia import received
from algolia_usertoken.local_algolia.hints import HintKind
from algolia_usertoken.local_algolia.inspector import MAX_TEXT
from algolia_usertoken.local_algolia.mismatches import MismatchKind
from algolia_usertoken.local_algolia.received import QueryIDs
from algolia_usertoken.testing import LocalAlgolia, UserSummary

Ask = Callable[..., Any]
QUERY = "/1/indexes/products/query"


def view(user_token: str, **fields: Any) -> dict[str, Any]:
    return {
        "eventType": "conversion",
        "eventName": "bought",
        "index": "products",
        "userToken": user_token,
        "objectIDs": ["hat"],
        **fields,
    }


@pytest.mark.parametrize(
    ("headers", "body", "token", "user"),
    [
        ({}, {}, None, "127.0.0.1"),
        ({"X-Algolia-UserToken": "u-1"}, {}, "u-1", "u-1"),
        ({"x-algolia-usertoken": "u-1"}, {}, "u-1", "u-1"),
        ({}, {"userToken": "u-1"}, "u-1", "u-1"),
        ({}, {"params": "query=&userToken=u-1"}, "u-1", "u-1"),
        ({"X-Algolia-UserToken": "u-1"}, {"userToken": "u-2"}, "u-2", "u-2"),
        ({"X-Forwarded-For": "203.0.113.7"}, {}, None, "203.0.113.7"),
        ({"X-Forwarded-For": " 203.0.113.7 , 10.0.0.1"}, {}, None, "203.0.113.7"),
        ({"X-Forwarded-For": "203.0.113.7"}, {"userToken": "u-1"}, "u-1", "u-1"),
        ({"X-Forwarded-For": ""}, {}, None, "127.0.0.1"),
        ({"X-Algolia-UserToken": ""}, {}, None, "127.0.0.1"),
        # Algolia refuses no search for its token.
        ({}, {"userToken": "me@example.com"}, "me@example.com", "me@example.com"),
    ],
)
def test_the_user_of_a_search_is_its_parameter_its_header_or_its_address(
    ask: Ask, algolia: LocalAlgolia, headers: dict[str, str], body: dict[str, Any], token: str | None, user: str
) -> None:
    assert ask("POST", QUERY, body, headers).status == 200
    (search,) = algolia.searches
    assert (search.user_token, search.user) == (token, user)
    assert search.client_ip == "127.0.0.1"


def test_local_algolia_keeps_what_a_search_said(ask: Ask, algolia: LocalAlgolia) -> None:
    headers = {"X-Algolia-UserToken": "u-1", "X-Forwarded-For": "203.0.113.7", "Cookie": "_ALGOLIA=anonymous-1; a=b"}
    before = time.time()
    answer = ask("POST", QUERY, {"query": "hat", "params": "page=0", "clickAnalytics": True}, headers)
    (search,) = algolia.searches
    assert (search.operation, search.index, search.query) == ("search", "products", "hat")
    assert search.params == {"page": "0", "query": "hat", "clickAnalytics": True}
    assert (search.user_token_header, search.user_token_parameter, search.user_token_in_key) == ("u-1", None, None)
    assert (search.forwarded_for, search.cookie) == ("203.0.113.7", "_ALGOLIA=anonymous-1; a=b")
    assert (search.status, search.method, search.path) == (200, "POST", QUERY)
    assert search.query_id == answer.json["queryID"]
    assert before <= search.received_at <= time.time()
    (request,) = algolia.requests
    assert (request.method, request.path, request.status) == ("POST", QUERY, 200)
    assert request.headers["x-forwarded-for"] == "203.0.113.7"
    assert json.loads(request.body)["query"] == "hat"
    with pytest.raises(dataclasses.FrozenInstanceError):
        search.user = "other"  # type: ignore[misc]


def test_snapshots_belong_to_the_caller(ask: Ask, algolia: LocalAlgolia) -> None:
    ask("POST", QUERY, {})
    algolia.searches.clear()
    algolia.requests.clear()
    assert (len(algolia.searches), len(algolia.requests)) == (1, 1)


def test_identities_sum_up_searches_and_events_by_user(
    algolia: LocalAlgolia, client: SearchClientSync, insights: InsightsClientSync
) -> None:
    assert algolia.identities() == {}
    client.search_single_index("products", {"userToken": "u-1"})
    client.search_single_index("products", {"userToken": "u-1"})
    client.search_single_index("products")
    events = [
        view("u-1"),
        view("u-1", authenticatedUserToken="b"),
        view("u-1", authenticatedUserToken="a"),
        view("u-2"),
    ]
    insights.push_events({"events": events})
    found: Mapping[str, UserSummary] = algolia.identities()
    assert found == {
        "u-1": UserSummary(searches=2, events=3, authenticated_user_tokens=("b", "a")),
        "127.0.0.1": UserSummary(searches=1, events=0, authenticated_user_tokens=()),
        "u-2": UserSummary(searches=0, events=1, authenticated_user_tokens=()),
    }


def test_searches_and_events_of_one_user_are_no_mismatch(
    algolia: LocalAlgolia, client: SearchClientSync, insights: InsightsClientSync
) -> None:
    found = client.search_single_index(
        "products", {"userToken": "u-1", "clickAnalytics": True}, {"headers": {"X-Algolia-UserToken": "u-1"}}
    )
    insights.push_events(
        {"events": [view("u-1", queryID=found.query_id), view("u-2"), view("u-2", queryID="message_1")]}
    )
    assert algolia.mismatches() == []


def test_an_event_of_another_user(
    algolia: LocalAlgolia, client: SearchClientSync, insights: InsightsClientSync
) -> None:
    found = client.search_single_index("products", {"userToken": "u-1", "query": "hat", "clickAnalytics": True})
    insights.push_events({"events": [view("u-2", queryID=found.query_id)]})
    (mismatch,) = algolia.mismatches()
    assert mismatch.kind == "event_token_differs"
    assert mismatch.search == algolia.searches[0]
    assert mismatch.event == algolia.events[0]
    assert mismatch.explanation == (
        "the event 'bought' of user token 'u-2' names a search for 'hat' in products by user token 'u-1'; "
        "Algolia attributes the event to that one. If one visitor did both, send the same token with both; if these "
        "are two visitors, as with a link that was shared or a page from a cache, send the event without the queryID"
    )


def test_a_purchase_that_names_two_searches(
    algolia: LocalAlgolia, client: SearchClientSync, insights: InsightsClientSync
) -> None:
    searches = [
        client.search_single_index("products", {"userToken": user, "clickAnalytics": True}) for user in ("u-1", "u-2")
    ]
    purchase = view(
        "u-1",
        eventSubtype="purchase",
        objectIDs=["hat", "shoe"],
        objectData=[{"queryID": search.query_id} for search in searches],
    )
    insights.push_events({"events": [purchase]})
    assert [mismatch.search for mismatch in algolia.mismatches()] == [algolia.searches[1]]


def test_an_event_of_a_search_without_token(
    algolia: LocalAlgolia, client: SearchClientSync, insights: InsightsClientSync
) -> None:
    found = client.search_single_index("products", {"clickAnalytics": True})
    insights.push_events({"events": [view("u-1", queryID=found.query_id)]})
    (mismatch,) = algolia.mismatches()
    assert mismatch.kind == "search_without_token"
    assert "carried no user token" in mismatch.explanation
    assert "127.0.0.1" in mismatch.explanation


def test_an_event_of_no_search(algolia: LocalAlgolia, insights: InsightsClientSync) -> None:
    insights.push_events({"events": [view("u-1", queryID="0" * 32)]})
    (mismatch,) = algolia.mismatches()
    assert mismatch.kind == "unknown_query_id"
    assert "0" * 32 in mismatch.explanation
    assert (mismatch.search, mismatch.event) == (None, algolia.events[0])


def test_an_event_of_a_forgotten_search(
    algolia: LocalAlgolia, client: SearchClientSync, insights: InsightsClientSync
) -> None:
    found = client.search_single_index("products", {"userToken": "u-1", "clickAnalytics": True})
    algolia.clear()
    insights.push_events({"events": [view("u-1", queryID=found.query_id)]})
    assert algolia.mismatches() == []


HOUR = 3600 * 1000


@pytest.mark.parametrize("fields", [{"eventType": "click", "positions": [1]}, {"eventType": "conversion"}])
def test_an_event_more_than_one_hour_after_its_search_is_a_mismatch(
    algolia: LocalAlgolia, client: SearchClientSync, insights: InsightsClientSync, fields: dict[str, Any]
) -> None:
    found = client.search_single_index("products", {"userToken": "u-1", "query": "hat", "clickAnalytics": True})
    searched_at = int(algolia.searches[0].received_at * 1000)
    event = view("u-1", queryID=found.query_id, **fields)

    insights.push_events({"events": [{**event, "timestamp": searched_at + HOUR}]})
    assert algolia.mismatches() == []
    insights.push_events({"events": [{**event, "timestamp": searched_at + HOUR + 2}]})

    (mismatch,) = algolia.mismatches()
    assert mismatch.kind == "event_too_late"
    assert (mismatch.search, mismatch.event) == (algolia.searches[0], algolia.events[1])
    assert "more than one hour after its search for 'hat' in products" in mismatch.explanation


def test_a_purchase_is_late_for_one_of_its_searches(
    algolia: LocalAlgolia, client: SearchClientSync, insights: InsightsClientSync, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [time.time()]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    searches = []
    for _ in range(2):
        searches.append(client.search_single_index("products", {"userToken": "u-1", "clickAnalytics": True}))
        clock[0] += 3000
    purchase = view(
        "u-1",
        eventSubtype="purchase",
        objectIDs=["hat", "shoe"],
        objectData=[{"queryID": search.query_id} for search in searches],
    )

    insights.push_events({"events": [purchase]})  # without a timestamp: now
    clock[0] += 10 * 3600
    insights.push_events({"events": [{**purchase, "timestamp": int((clock[0] - 11 * 3600) * 1000)}]})  # delivered late

    assert [(mismatch.kind, mismatch.search) for mismatch in algolia.mismatches()] == [
        ("event_too_late", algolia.searches[0])
    ]


def test_views_and_events_without_their_search_are_never_late(
    algolia: LocalAlgolia, client: SearchClientSync, insights: InsightsClientSync
) -> None:
    found = client.search_single_index("products", {"userToken": "u-1", "clickAnalytics": True})
    later = int(time.time() * 1000) + 2 * HOUR
    insights.push_events(
        {
            "events": [
                view("u-1", eventType="view", queryID=found.query_id, timestamp=later),
                view("u-1", timestamp=later),
                view("u-1", queryID="message_1", timestamp=later),
            ]
        }
    )
    assert algolia.mismatches() == []


def test_an_event_that_is_late_and_of_another_user_is_told_twice(
    algolia: LocalAlgolia, client: SearchClientSync, insights: InsightsClientSync
) -> None:
    found = client.search_single_index("products", {"userToken": "u-1", "clickAnalytics": True})
    later = int(time.time() * 1000) + 2 * HOUR
    insights.push_events({"events": [view("u-2", queryID=found.query_id, timestamp=later)]})
    assert [mismatch.kind for mismatch in algolia.mismatches()] == ["event_token_differs", "event_too_late"]


def test_a_search_with_two_tokens(ask: Ask, algolia: LocalAlgolia, client: SearchClientSync) -> None:
    ask("POST", QUERY, {"userToken": "u-2"}, {"X-Algolia-UserToken": "u-1"})
    key = client.generate_secured_api_key(algolia.api_key, {"userToken": "u-3"})
    ask("POST", QUERY, {"userToken": "u-2"}, {"x-algolia-api-key": key})
    first, second = algolia.mismatches()
    assert first.kind == second.kind == "search_tokens_differ"
    assert "the header X-Algolia-UserToken says 'u-1', the parameter userToken says 'u-2'" in first.explanation
    assert "the secured API key says 'u-3'" in second.explanation
    assert first.event is None


def test_clear_forgets_requests_and_keeps_the_records(ask: Ask, algolia: LocalAlgolia) -> None:
    ask("POST", QUERY, {})
    ask("POST", "/1/events", {"events": [view("u-1")]})
    algolia.clear()
    assert (algolia.requests, algolia.searches, algolia.events, algolia.identities()) == ([], [], [], {})
    assert ask("POST", QUERY, {}).json["nbHits"] == 3


def test_only_the_newest_are_kept() -> None:
    with LocalAlgolia(max_received=10) as algolia:
        algolia.save_objects("products", [{"objectID": "1"}])
        with SearchClientSync.create_with_config(algolia.search_config()) as client:
            for number in range(25):
                client.search_single_index("products", {"userToken": f"u-{number}"})
        with InsightsClientSync.create_with_config(algolia.insights_config()) as insights:
            insights.push_events({"events": [view(f"u-{number}") for number in range(25)]})
        newest = [f"u-{number}" for number in range(15, 25)]
        assert [search.user for search in algolia.searches] == newest
        assert [event.user_token for event in algolia.events] == newest
        assert len(algolia.requests) == 10


def test_large_bodies_are_kept_up_to_a_total(ask: Ask, algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(algolia._received._requests, "_max_bytes", 1_000_000)
    for _ in range(5):
        ask("POST", QUERY, json.dumps({"query": ""}) + " " * 300_000)
    assert len(algolia.requests) == 3
    assert len(algolia.searches) == 5


def test_only_the_newest_erasures_are_kept(ask: Ask, algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(received, "_MAX_ERASED", 2)
    for token in ("u-1", "u-2", "u-1", "u-3"):
        assert ask("DELETE", f"/1/usertokens/{token}").status == 200

    assert [token for _, token in algolia._received.erased_since(-1)] == ["u-1", "u-3"]


def test_query_ids_are_known_to_the_server_that_gave_them_only() -> None:
    one, other = QueryIDs(), QueryIDs()
    made = {one.new() for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(len(query_id) == 32 and int(query_id, 16) >= 0 for query_id in made)
    assert all(one.gave(query_id) for query_id in made)
    assert not any(other.gave(query_id) for query_id in made)
    assert not one.gave("message_x")


def test_there_is_no_profile_to_erase(ask: Ask) -> None:
    answer = ask("DELETE", "/1/profiles/visitor-1")

    assert (answer.status, answer.json["userToken"]) == (200, "visitor-1")


PLACEHOLDERS = ["null", "undefined", "None", "guest", "NULL", "Undefined", "none", "nil", "NaN", "anonymous", "Guest"]
PLACEHOLDERS += ["false", "N/A", "user-None", "user_null", "anonymous-undefined", "shop/guest", "id=nan"]
PLACEHOLDERS += ["00000000-0000-0000-0000-000000000000", "anonymous-00000000-0000-0000-0000-000000000000"]


@pytest.mark.parametrize("token", PLACEHOLDERS)
def test_a_placeholder_as_a_token_is_a_mismatch(
    ask: Ask, algolia: LocalAlgolia, client: SearchClientSync, token: str
) -> None:
    key = client.generate_secured_api_key(algolia.api_key, {"userToken": token})
    ask("POST", QUERY, {}, {"X-Algolia-UserToken": token})
    ask("POST", QUERY, {"userToken": token})
    ask("POST", QUERY, {}, {"x-algolia-api-key": key})
    ask("POST", "/1/events", {"events": [view(token), view("u-1", authenticatedUserToken=token)]})

    found = algolia.mismatches()
    assert [mismatch.kind for mismatch in found] == ["placeholder_token"] * 5
    assert all(f"{token!r}, a placeholder" in mismatch.explanation for mismatch in found)
    assert [mismatch.event is None for mismatch in found] == [True] * 3 + [False] * 2


@pytest.mark.parametrize(
    "token",
    ["nullable", "anonymous-5f0c", "guest-7", "u-1", "0", "a" * 128, "-none", "u7-none", "nonevil", "n-a", "None-7"],
)
def test_a_token_that_only_looks_like_a_placeholder_is_no_mismatch(ask: Ask, algolia: LocalAlgolia, token: str) -> None:
    ask("POST", QUERY, {}, {"X-Algolia-UserToken": token})

    assert algolia.mismatches() == []


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("ada@example.com", "it (15 characters) has '@' at position 4"),
        ("auth0|ada", "it (9 characters) has '|' at position 6"),
        ("ada b", "' ' at position 4"),
        ("a" * 129, "it has 129 characters"),
    ],
)
def test_a_token_that_algolia_refuses_is_told_and_not_quoted(
    ask: Ask, algolia: LocalAlgolia, token: str, said: str
) -> None:
    ask("POST", QUERY, {}, {"X-Algolia-UserToken": token})

    (mismatch,) = algolia.mismatches()
    assert mismatch.kind == "invalid_token"
    assert said in mismatch.explanation
    assert token not in mismatch.explanation


ADVICE = {
    "search_tokens_differ": "Send one token: set it in one place",
    "placeholder_token": "Send no token until there is one",
    "invalid_token": "Send a pseudonymous token",
    "event_token_differs": "send the event without the queryID",
    "search_without_token": "Search inside identity_scope(…)",
    "unknown_query_id": "Send the queryID of the response unchanged",
    "event_too_late": "search again and use the new queryID",
    "ab_test_without_user": "keep them out",
    "purchase_without_search": "keep the queryID of each item",
    "token_from_many_addresses": "look for a token that is kept in a global",
}


def test_each_mismatch_and_hint_says_what_to_do(ask: Ask, algolia: LocalAlgolia) -> None:
    late = int(time.time() * 1000) + 2 * HOUR
    asked = {"clickAnalytics": True, "query": "q" * 500}
    of_ada = ask("POST", QUERY, {**asked, "userToken": "ada"}).json["queryID"]
    of_nobody = ask("POST", QUERY, asked).json["queryID"]
    ask("POST", QUERY, {"userToken": "u-2"}, {"X-Algolia-UserToken": "u-1"})
    ask("POST", QUERY, {"userToken": "null"})
    ask("POST", QUERY, {"userToken": "ada@example.com"})
    for number in range(3):
        ask("POST", QUERY, {"userToken": "shared"}, {"X-Forwarded-For": f"203.0.113.{number}"})
    longest = {"eventName": "n" * 64, "userToken": "t" * 128}
    events = [
        view("u-1", **longest, queryID=of_ada),
        view("u-1", **longest, queryID=of_nobody),
        view("u-1", **longest, queryID="0" * 32),
        view("ada", queryID=of_ada, eventName="n" * 64, timestamp=late),
        view("u-1", **longest, eventSubtype="purchase"),
    ]
    assert ask("POST", "/1/events", {"events": events}).status == 200

    said = {one.kind: one.explanation for one in [*algolia.mismatches(), *algolia.hints()]}

    assert set(said) == {*get_args(MismatchKind), *get_args(HintKind)} == set(ADVICE)
    for kind, explanation in said.items():
        assert ADVICE[kind] in explanation
        assert len(explanation) <= MAX_TEXT  # the inspector shows all of it


class TestHints:
    def test_nobodys_searches_in_ab_tests(self, ask: Ask, algolia: LocalAlgolia) -> None:
        for _ in range(3):
            ask("POST", QUERY, {})
        (hint,) = algolia.hints()

        assert (hint.kind, hint.times, hint.search) == ("ab_test_without_user", 3, algolia.searches[0])
        assert "searches_without_user" in hint.explanation
        assert algolia.mismatches() == []

    @pytest.mark.parametrize(
        ("body", "headers"),
        [
            ({"enableABTest": False}, {}),
            ({"params": "enableABTest=false"}, {}),
            ({"analytics": False}, {}),
            ({"userToken": "u-1"}, {}),
            ({}, {"X-Forwarded-For": "203.0.113.7"}),
        ],
    )
    def test_those_that_take_no_part_or_are_somebodys(
        self, ask: Ask, algolia: LocalAlgolia, body: Any, headers: Any
    ) -> None:
        ask("POST", QUERY, body, headers)
        ask("POST", "/1/indexes/products/browse", {})

        assert algolia.hints() == []

    def test_a_purchase_that_no_search_led_to(self, ask: Ask, algolia: LocalAlgolia) -> None:
        bought = {"eventSubtype": "purchase"}
        led = {**bought, "objectData": [{"queryID": "0" * 32}]}
        ask("POST", "/1/events", {"events": [view("u-1", **bought), view("u-2", **led), view("u-3")]})

        (hint,) = algolia.hints()
        assert (hint.kind, hint.event) == ("purchase_without_search", algolia.events[0])

    def test_one_token_from_many_addresses(self, ask: Ask, algolia: LocalAlgolia) -> None:
        for number in range(4):
            ask("POST", QUERY, {"userToken": "shared"}, {"X-Forwarded-For": f"203.0.113.{number}"})
            one = {"X-Forwarded-For": f"203.0.113.{number}", "Cookie": "_ALGOLIA=anonymous-1"}
            ask("POST", QUERY, {"userToken": "anonymous-1"}, one)

        (hint,) = algolia.hints()
        assert (hint.kind, hint.times) == ("token_from_many_addresses", 4)
        assert "'shared' was seen with 4 addresses" in hint.explanation
