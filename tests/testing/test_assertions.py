"""assert_same_identity and assert_anonymous: what they take, what they see, and what they say."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from algoliasearch.search.client import SearchClientSync
from waiting import PATIENCE

from algolia_usertoken import EventSender, Identity, MemoryDelivery, TokenAwareClientSync, identity_scope
from algolia_usertoken.testing import AlgoliaRouter, LocalAlgolia, assert_anonymous, assert_same_identity

QUERY = "/1/indexes/products/query"
EVENT = {"eventType": "view", "eventName": "Viewed", "index": "products", "objectIDs": ["1"]}


@pytest.fixture
def router() -> Iterator[AlgoliaRouter]:
    with AlgoliaRouter() as router:
        yield router


@pytest.fixture
def client(router: AlgoliaRouter) -> Iterator[TokenAwareClientSync]:
    with TokenAwareClientSync("APP", "key") as client:
        yield client


def search(client: Any, user: Any = None, **params: Any) -> Any:
    with identity_scope(user):
        return client.search_single_index("products", {"query": "shoe", **params})


def view(client: TokenAwareClientSync, user: Any) -> None:
    with identity_scope(user):
        assert client.events.viewed_object_ids("Viewed", "products", ["1"])
    assert client.events.flush(PATIENCE)


def request(body: Any = None, path: str = QUERY, method: str = "POST", **headers: str) -> httpx.Request:
    content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Request(method, f"https://app-dsn.algolia.net{path}", headers=named, content=content)


def said_by(check: Callable[..., None], *sources: Any, **options: Any) -> str:
    with pytest.raises(AssertionError) as failure:
        check(*sources, **options)
    return str(failure.value)


def test_assert_same_identity_passes_where_all_requests_are_of_one_user(
    client: TokenAwareClientSync, router: AlgoliaRouter
) -> None:
    search(client, "u-1")
    view(client, Identity("u-1", "login-1"))

    assert_same_identity(router)
    assert_same_identity(router, token="u-1")


def test_assert_same_identity_lists_the_requests_of_two_users(
    client: TokenAwareClientSync, router: AlgoliaRouter
) -> None:
    search(client, "u-1")
    view(client, "u-2")

    assert (
        said_by(assert_same_identity, router)
        == """\
requests disagree about who the user is:
  u-1   POST  /1/indexes/products/query   (header)
  u-2   POST  /1/events                   (events[0].userToken)

One user has one token, on searches and events alike. Look for a token
that is kept in a global, a cache or a default, and for set_user_token()
without a scope around it."""
    )


def test_a_search_that_was_forgotten(client: TokenAwareClientSync, router: AlgoliaRouter) -> None:
    search(client, "u-1")
    search(client)

    assert (
        said_by(assert_same_identity, router)
        == """\
requests disagree about who the user is:
  u-1   POST  /1/indexes/products/query   (header)
  -     POST  /1/indexes/products/query   (no token)

A search without a token counts as the server's IP address. Make it
inside identity_scope(…) or behind the middleware; threads and executors
need bind()."""
    )


def test_assert_same_identity_fails_where_no_request_names_a_user(
    client: TokenAwareClientSync, router: AlgoliaRouter
) -> None:
    search(client)

    said = said_by(assert_same_identity, router)

    assert said.startswith("no request says who the user is:\n  -   POST  /1/indexes/products/query   (no token)\n")
    assert "identity_scope" in said


def test_assert_same_identity_fails_for_another_user_than_expected(
    client: TokenAwareClientSync, router: AlgoliaRouter
) -> None:
    search(client, "u-1")

    said = said_by(assert_same_identity, router, token="u-2")

    assert said.startswith("the user is not u-2:\n  u-1   POST  /1/indexes/products/query   (header)\n")


def test_assert_same_identity_fails_for_two_logins_of_one_user(
    client: TokenAwareClientSync, router: AlgoliaRouter
) -> None:
    view(client, "u-1")
    view(client, Identity("u-1", "login-1"))
    assert_same_identity(router)
    view(client, Identity("u-1", "login-2"))

    assert said_by(assert_same_identity, router).startswith(
        "events disagree about who is logged in:\n"
        "  login-1   POST  /1/events   (events[0].authenticatedUserToken)\n"
        "  login-2   POST  /1/events   (events[0].authenticatedUserToken)\n"
    )


@pytest.mark.parametrize("check", [assert_same_identity, assert_anonymous])
@pytest.mark.parametrize("sources", [(), ([],), ([[]],)])
def test_assertions_fail_where_there_is_no_request_to_look_at(check: Any, sources: Any) -> None:
    assert said_by(check, *sources).startswith("there was no search and no event to look at.\n")


def test_assert_anonymous_lists_the_requests_that_name_a_user(
    client: TokenAwareClientSync, router: AlgoliaRouter
) -> None:
    search(client, Identity(opted_out=True))
    search(client, Identity(client_ip="203.0.113.7"))
    assert_anonymous(router)
    search(client, "anonymous-1")

    assert (
        said_by(assert_anonymous, router)
        == """\
requests name a user, and should name nobody:
  anonymous-1   POST  /1/indexes/products/query   (header)

A visitor who opted out is Identity(opted_out=True), and a search for
nobody is made as Identity(). A token from elsewhere stands in the call
itself, in config.headers, or in the client's user_token=."""
    )


def test_a_login_alone_is_not_anonymous() -> None:
    event = {**EVENT, "authenticatedUserToken": "login-1"}

    assert "(no token)" in said_by(assert_anonymous, event)


SECURED = SearchClientSync("APP", "key").generate_secured_api_key("parent", {"userToken": "u-1"})
MULTI = {"requests": [{"indexName": "a", "userToken": "u-1"}, {"indexName": "b", "params": "query=x&userToken=u-2"}]}


@pytest.mark.parametrize(
    ("source", "users"),
    [
        (request(x_algolia_usertoken="u-1"), ["u-1 header"]),
        (request({"userToken": "u-1"}), ["u-1 userToken"]),
        (request({"params": "userToken=u-1"}), ["u-1 userToken"]),
        (request({"userToken": "u-1"}, x_algolia_usertoken="u-2"), ["u-2 header", "u-1 userToken"]),
        (request(MULTI, "/1/indexes/*/queries"), ["u-1 requests[0].userToken", "u-2 requests[1].userToken"]),
        (request({"requests": [{}, {"userToken": "u-1"}]}, "/1/indexes/*/queries"), ["u-1 requests[1].userToken", "-"]),
        (
            request({"requests": [{}, {"userToken": "u-1"}]}, "/1/indexes/*/queries", x_algolia_usertoken="u-1"),
            ["u-1 header", "u-1 requests[1].userToken"],
        ),
        (request(path="/1/indexes/products?userToken=u-1", method="GET"), ["u-1 userToken"]),
        (request(gzip.compress(b'{"userToken": "u-1"}'), content_encoding="gzip"), ["u-1 userToken"]),
        (request(b"{nonsense"), ["-"]),
        (request(b"\x1f\x8b"), ["-"]),
        (request(gzip.compress(b"{}")[:-1], content_encoding="gzip"), ["-"]),
        (request(b"{", path="/1/indexes/*/queries"), ["-"]),
        (request(b"\x1f\x8b", content_encoding="gzip"), ["-"]),
        (request({"userToken": 7}), ["int 7 userToken"]),
        # What browsers send in the URL.
        (request(path=f"{QUERY}?X-Algolia-UserToken=u-1"), ["u-1 header"]),
        (request(path=f"{QUERY}?x-algolia-api-key={SECURED}"), ["u-1 API key"]),
        # Secured keys, of whichever parent.
        (request(x_algolia_api_key=SECURED), ["u-1 API key"]),
        (request({"userToken": "u-2"}, x_algolia_api_key=SECURED), ["u-1 API key", "u-2 userToken"]),
        (request(x_algolia_api_key=base64.b64encode(b"userToken=u-1").decode()), ["-"]),
        (request(x_algolia_api_key="no key"), ["-"]),
        # No searches, but for what they carry.
        (request(path="/1/indexes/products/settings", method="GET"), []),
        (request(path="/1/indexes/products/settings", method="GET", x_algolia_usertoken="u-1"), ["u-1 header"]),
        (request(path="/1/indexes/products/browse"), []),
        (request(path="/1/indexes/products/browse", x_algolia_usertoken="u-1"), ["u-1 header"]),
        (request({"userToken": "in a record"}, "/1/indexes/products"), []),
        # Events.
        ({**EVENT, "userToken": "u-1"}, ["u-1 userToken"]),
        ({"events": [{**EVENT, "userToken": "u-1"}, EVENT]}, ["u-1 events[0].userToken", "-"]),
        (request({"events": [{**EVENT, "userToken": "u-1"}]}, "/1/events"), ["u-1 events[0].userToken"]),
        (request(b"nonsense", "/1/events"), []),
        (request(b"[" * 100_000, "/1/events"), []),
        ({**EVENT, "userToken": ["u-1"]}, ["list ['u-1'] userToken"]),
        ({**EVENT, "userToken": ""}, ["-"]),
        (request({"events": 7}, "/1/events"), []),
        (request({"events": [7]}, "/1/events"), []),
        # Several of them.
        ([{**EVENT, "userToken": "u-1"}, (request({"userToken": "u-2"}),)], ["u-1 userToken", "u-2 userToken"]),
    ],
)
def test_assertions_see_each_place_in_which_a_request_names_a_user(source: Any, users: list[str]) -> None:
    from algolia_usertoken.testing.seen import seen_in

    seen = [f"{one.user_token} {one.where}" if one.user_token else "-" for one in seen_in(source)]

    assert seen == users


def test_assert_same_identity_takes_routers_routes_calls_requests_and_deliveries(
    client: TokenAwareClientSync, router: AlgoliaRouter
) -> None:
    route = router.post(path=QUERY).respond(json={"hits": [], "query": "", "params": "", "processingTimeMS": 1})
    search(client, "u-1")
    delivery = MemoryDelivery()
    with EventSender(delivery=delivery, user_token="u-1") as sender:
        sender.viewed_object_ids("Viewed", "products", ["1"])

    for source in (router, route, router.calls, router.calls.last, router.calls.last.request, delivery):
        assert_same_identity(source, token="u-1")
    assert_same_identity(delivery.batches, router, token="u-1")


def test_a_call_that_was_not_answered_is_seen_too(client: TokenAwareClientSync, router: AlgoliaRouter) -> None:
    route = router.post(path=QUERY).mock(side_effect=httpx.ReadTimeout)
    with pytest.raises(Exception, match="Unreachable hosts"):
        search(client, "u-1")

    assert_same_identity(route, token="u-1")


def test_assert_same_identity_takes_what_a_local_algolia_received() -> None:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", [{"objectID": "1"}])
        with TokenAwareClientSync.create_with_config(
            algolia.search_config(), insights_config=algolia.insights_config()
        ) as client:
            search(client, "u-1")
            search(client, "u-1", userToken="u-1")
            client.browse("products", {})
            view(client, "u-1")

        for source in (algolia, algolia.requests, algolia.searches, algolia.events, algolia.events[0]):
            assert_same_identity(source, token="u-1")
        search(client, Identity())
        assert "(no token)" in said_by(assert_same_identity, algolia)
        assert "(no token)" in said_by(assert_same_identity, algolia.searches)


def test_the_token_in_a_secured_key() -> None:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", [{"objectID": "1"}])
        config = algolia.search_config()
        with SearchClientSync.create_with_config(config) as parent:
            key = parent.generate_secured_api_key(algolia.api_key, {"userToken": "u-1"})
        config.set_client_api_key(key)
        with SearchClientSync.create_with_config(config) as client:
            client.search_single_index("products", {})

        assert_same_identity(algolia, algolia.searches, token="u-1")
        assert "(API key)" in said_by(assert_anonymous, algolia)


def test_the_token_in_a_secured_key_where_nothing_is_served(router: AlgoliaRouter) -> None:
    with SearchClientSync("APP", SECURED) as client:
        client.search_single_index("products", {})
        assert_same_identity(router, token="u-1")
        client.search_single_index("products", {"userToken": "u-2"})

    assert "(API key)" in said_by(assert_same_identity, router)


@pytest.mark.parametrize("source", [None, 7, "u-1", b"u-1", object(), {"neither": "this"}, [None]])
@pytest.mark.parametrize("check", [assert_same_identity, assert_anonymous])
def test_anything_else_is_a_type_error(check: Any, source: Any) -> None:
    with pytest.raises(TypeError, match=r"^a source "):
        check(source)


@pytest.mark.parametrize("token", ["", 7, Identity("u-1")])
def test_the_token_is_a_string(token: Any) -> None:
    with pytest.raises(TypeError, match=r"^token must be a string that is not empty, or None, not "):
        assert_same_identity({**EVENT, "userToken": "u-1"}, token=token)


def test_a_login_that_is_no_string() -> None:
    event = {**EVENT, "userToken": "u-1", "authenticatedUserToken": {"id": 7}}

    said = said_by(assert_same_identity, event, {**event, "authenticatedUserToken": "login-1"})

    assert "\n  dict {'id': 7}   POST" in said


def test_long_lists_are_cut_by_user() -> None:
    events = [{**EVENT, "userToken": f"u-{number % 2}"} for number in range(100)]

    said = said_by(assert_same_identity, events)

    assert said.count("POST") == 10
    assert "\n  … and 90 more like these\n" in said

    said = said_by(assert_same_identity, [{**EVENT, "userToken": f"u-{number}"} for number in range(100)])
    assert said.count("POST") == 10
    assert "\n  … and 90 more like these, of 100 users\n" in said


def test_hostile_tokens_and_paths_stay_on_their_line() -> None:
    hostile = "\x1b[31m\n" + "x" * 1000
    said = said_by(
        assert_same_identity, {**EVENT, "userToken": hostile}, request(path=f"/1/indexes/{quote('p' * 500)}/query")
    )

    lines = said.splitlines()
    assert lines[1].startswith("  \\x1b[31m\\nxxx")
    assert all(len(line) < 160 for line in lines)
    assert "\x1b" not in said


class TestHowMany:
    def test_searches_and_events_are_counted(self, client: TokenAwareClientSync, router: AlgoliaRouter) -> None:
        search(client, "u-1", userToken="u-1")  # which two places name
        with identity_scope("u-1"):
            client.search({"requests": [{"indexName": "products"}, {"indexName": "products"}]})
            list(client.browse_objects("products", lambda _: None) or ())
        view(client, "u-1")

        assert_same_identity(router, searches=3, events=1)
        assert_same_identity(router.searches, searches=3, events=0)
        assert_same_identity(router.events, searches=0, events=1)

    def test_a_search_for_facet_values_and_by_get_is_one(self) -> None:
        facets = request({"params": "userToken=u-1"}, path="/1/indexes/products/facets/brand/query")
        by_get = httpx.Request("GET", "https://x.algolia.net/1/indexes/products?userToken=u-1")

        assert_same_identity(facets, by_get, searches=2, events=0)

    def test_one_too_few_says_what_was_seen(self, client: TokenAwareClientSync, router: AlgoliaRouter) -> None:
        search(client, "u-1")

        said = said_by(assert_same_identity, router, searches=1, events=1)
        assert said.startswith("not 1 event, but 0:\n  u-1   POST")
        assert "refused" in said
        assert said_by(assert_same_identity, router, searches=2).startswith("not 2 searches, but 1:")

    def test_what_is_tried_again_is_one(self, client: TokenAwareClientSync, router: AlgoliaRouter) -> None:
        route = router.post(path=QUERY)
        answer = {"hits": [], "query": "", "params": "", "processingTimeMS": 1}
        route.side_effect = [httpx.Response(503), httpx.ReadTimeout, httpx.Response(200, json=answer)]
        search(client, "u-1")

        assert route.call_count == 3
        assert_same_identity(router, searches=1, events=0)

    def test_what_is_tried_again_is_one_in_local_algolia_too(self) -> None:
        with LocalAlgolia() as algolia:
            algolia.save_objects("products", [{"objectID": "1"}])
            algolia.fail_next(503, path="/1/events")
            with TokenAwareClientSync.create_with_config(
                algolia.search_config(), insights_config=algolia.insights_config()
            ) as client:
                search(client, "u-1")
                view(client, "u-1")

            assert len(algolia.requests) == 3
            assert_same_identity(algolia, searches=1, events=1)

    def test_a_usage_report_is_no_event(self) -> None:
        report = {"eventType": "instantsearch", "eventName": "__start__", "userToken": "u-1"}

        assert_same_identity({"events": [report, {**EVENT, "userToken": "u-1"}]}, events=1)

    @pytest.mark.parametrize("number", [-1, True, 1.0, "1"])
    def test_a_number_that_is_none(self, number: Any) -> None:
        with pytest.raises(TypeError, match="events must be an integer"):
            assert_same_identity({**EVENT, "userToken": "u-1"}, events=number)
