"""`POST /1/events`: what Algolia takes is taken, what it refuses is refused, in the same words."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from algoliasearch.http.exceptions import RequestException
from algoliasearch.insights.client import InsightsClient, InsightsClientSync

from algolia_usertoken.testing import LocalAlgolia

Ask = Callable[..., Any]
QUERY_ID = "0123456789abcdef0123456789abcdef"
DAY = 86_400_000


def event(kind: str = "view", **fields: Any) -> dict[str, Any]:
    """An event without what it is about."""
    return {"eventType": kind, "eventName": "It happened", "index": "products", "userToken": "user-1", **fields}


def objects(kind: str = "view", count: int = 1, **fields: Any) -> dict[str, Any]:
    return event(kind, objectIDs=[str(number) for number in range(count)], **fields)


def now() -> int:
    return int(time.time() * 1000)


# One for each row of the table of events, and what may be added to it.
ACCEPTED = {
    "clickedObjectIDsAfterSearch": objects("click", 2, positions=[1, 2], queryID=QUERY_ID),
    "clickedObjectIDs": objects("click"),
    "viewedObjectIDs": objects("view"),
    "convertedObjectIDs": objects("conversion"),
    "clickedFilters": event("click", filters=["brand:acme"]),
    "viewedFilters": event("view", filters=["brand:acme"]),
    "convertedFilters": event("conversion", filters=["brand:acme"]),
    "convertedObjectIDsAfterSearch": objects("conversion", queryID=QUERY_ID),
    "addedToCartObjectIDs": objects("conversion", eventSubtype="addToCart"),
    "addedToCartObjectIDsAfterSearch": objects("conversion", eventSubtype="addToCart", queryID=QUERY_ID),
    "purchasedObjectIDs": objects("conversion", eventSubtype="purchase"),
    "purchasedObjectIDsAfterSearch": objects("conversion", eventSubtype="purchase", objectData=[{"queryID": QUERY_ID}]),
    "addedToCartObjectIDs, with everything": objects(
        "conversion",
        2,
        eventSubtype="addToCart",
        objectData=[{"price": 1, "discount": "0.5", "quantity": 2}, {}],
        value="12.50",
        currency="EUR",
        authenticatedUserToken="login-1",
    ),
    "purchasedObjectIDs, with everything": objects(
        "conversion",
        eventSubtype="purchase",
        objectData=[{"price": "1.0", "discount": 0.5, "quantity": 2, "queryID": QUERY_ID}],
        value=12.5,
        currency="eur",
    ),
    "20 objects": objects("view", 20),
    "20 filters": event("view", filters=["a:b"] * 20),
    "a name of 64": objects(eventName="x" * 64),
    "a name with every kind of sign": objects(eventName=" ~!\"'<>&"),
    "a token of 128": objects(userToken="x" * 128),
    "a token of every kind of sign": objects(userToken="aZ09_=/+-", authenticatedUserToken="aZ09_=/+-"),
    "a filter with more colons": event(filters=["url:http://x"]),
    "an encoded filter": event(filters=["discount:10%25"]),
    "a filter as InstantSearch sends it": event(filters=["brand:Best & Co"]),
    "the id of a message": objects("conversion", queryID="message_Abc-1.!~"),
    "the longest id of a message": objects("conversion", queryID="message_" + "x" * 120),
    "the longest value": objects("conversion", eventSubtype="purchase", value="1" * 16),
    "what Autocomplete adds": objects(algoliaSource=["autocomplete", "autocomplete-internal"]),
    "no source": objects(algoliaSource=[]),
    "sources beyond the number of objects": objects(algoliaSource=["x"] * 21),
    "now": objects(timestamp=now()),
    "29 days ago": objects(timestamp=now() - 29 * DAY),
}

# field, what is said of it, and the event
REFUSED: list[tuple[str, str, Any]] = [
    ("", "expected object, got string", "click"),
    ("", "expected object, got null", None),
    ("", "expected object, got array", []),
    (".eventName", "required", {key: value for key, value in objects().items() if key != "eventName"}),
    (".eventName", "expected string, got null", objects(eventName=None)),
    (".eventName", "Invalid eventName syntax", objects(eventName="")),
    (".eventName", "Invalid eventName syntax", objects(eventName="x" * 65)),
    (".eventName", "Invalid eventName syntax", objects(eventName="Clické")),
    (".eventName", "Invalid eventName syntax", objects(eventName="line\n")),
    (".eventType", "must be one of", {key: value for key, value in objects().items() if key != "eventType"}),
    (".eventType", "must be one of", objects("purchase")),
    (".eventType", "must be one of", objects("Click")),
    (".eventType", "expected string, got number", event(eventType=1, objectIDs=["a"])),
    (".index", "The index field is required", {key: value for key, value in objects().items() if key != "index"}),
    (".index", "The index field is required", objects(index="")),
    (".index", "expected string, got array", objects(index=[])),
    (".userToken", "Missing userToken", {key: value for key, value in objects().items() if key != "userToken"}),
    (".userToken", "expected string, got number", objects(userToken=42)),
    (".userToken", "expected string, got null", objects(userToken=None)),
    (".userToken", "between 1 and 128", objects(userToken="")),
    (".userToken", "between 1 and 128", objects(userToken="x" * 129)),
    (".userToken", "must contain only", objects(userToken="me@example.com")),
    (".userToken", "must contain only", objects(userToken="user-1\n")),
    (".userToken", "must contain only", objects(userToken="GA1.2.3")),
    (".userToken", "must contain only", objects(userToken="üser")),
    (".authenticatedUserToken", "must contain only", objects(authenticatedUserToken="auth0|1")),
    (".authenticatedUserToken", "expected string, got null", objects(authenticatedUserToken=None)),
    (".authenticatedUserToken", "expected string, got boolean", objects(authenticatedUserToken=True)),
    (".eventSubtype", "must be one of", objects("conversion", eventSubtype="wishlist")),
    (".eventSubtype", "conversion", objects("click", eventSubtype="purchase")),
    (".eventSubtype", "expected string, got null", objects("conversion", eventSubtype=None)),
    (".objectIDs", "needs objectIDs", event("conversion", eventSubtype="addToCart", filters=["a:b"])),
    (".objectIDs", "Events should specify either", event()),
    (".filters", "and not both", objects(filters=["a:b"])),
    (".objectIDs", "must not be empty", objects(count=0)),
    (".objectIDs", "Cannot process more than 20 objects in an event", objects(count=21)),
    (".objectIDs", "expected array, got string", event(objectIDs="a")),
    (".objectIDs[1]", "expected string, got number", event(objectIDs=["a", 1])),
    (".objectIDs[0]", "must not be empty", event(objectIDs=[""])),
    (".filters", "must not be empty", event(filters=[])),
    (".filters", "more than 20", event(filters=["a:b"] * 21)),
    (".filters[0]", "expected facet:value", event(filters=["brand"])),
    (".filters[0]", "expected facet:value", event(filters=["brand:"])),
    (".filters[0]", "expected facet:value", event(filters=[":acme"])),
    (".filters[0]", "URL-encoded", event(filters=["discount:10%"])),
    (".filters[0]", "expected string, got object", event(filters=[{}])),
    (".positions", "same number of ObjectIDs and Positions", objects("click", queryID=QUERY_ID)),
    (".positions", "same number of", objects("click", 2, positions=[1], queryID=QUERY_ID)),
    (".positions", "expected array, got number", objects("click", positions=1, queryID=QUERY_ID)),
    (".positions", "must not be empty", objects("click", positions=[], queryID=QUERY_ID)),
    (".positions", "more than 20", objects("click", positions=[1] * 21, queryID=QUERY_ID)),
    (".positions[0]", "at least 1", objects("click", positions=[0], queryID=QUERY_ID)),
    (".positions[0]", "expected integer, got string", objects("click", positions=["1"], queryID=QUERY_ID)),
    (".positions[0]", "expected integer, got boolean", objects("click", positions=[True], queryID=QUERY_ID)),
    (".positions[0]", "expected integer, got number", objects("click", positions=[1.5], queryID=QUERY_ID)),
    (".positions", "Only event of type click", objects("view", positions=[1])),
    (".positions", "Only event of type click", objects("conversion", positions=[1], queryID=QUERY_ID)),
    (".queryID", "needs the queryID", objects("click", positions=[1])),
    (".queryID", "32 hexadecimal digits", objects("conversion", queryID=QUERY_ID.upper())),
    (".queryID", "32 hexadecimal digits", objects("conversion", queryID=QUERY_ID[1:])),
    (".queryID", "32 hexadecimal digits", objects("conversion", queryID=QUERY_ID + "0")),
    (".queryID", "32 hexadecimal digits", objects("conversion", queryID=QUERY_ID + "\n")),
    (".queryID", "32 hexadecimal digits", objects("conversion", queryID="message_")),
    (".queryID", "32 hexadecimal digits", objects("conversion", queryID="message_" + "x" * 121)),
    (".queryID", "32 hexadecimal digits", objects("conversion", queryID="message_é")),
    (".queryID", "expected string, got null", objects("conversion", queryID=None)),
    (".objectData", "eventSubtype", objects("conversion", objectData=[{}])),
    (".value", "eventSubtype", objects("click", value=1)),
    (".currency", "eventSubtype", objects("view", currency="EUR")),
    (".objectData", "as many items", objects("conversion", 2, eventSubtype="purchase", objectData=[{}])),
    (".objectData", "must not be empty", objects("conversion", eventSubtype="purchase", objectData=[])),
    (".objectData", "expected array, got object", objects("conversion", eventSubtype="purchase", objectData={})),
    (".objectData[0]", "expected object", objects("conversion", eventSubtype="purchase", objectData=[1])),
    (
        ".objectData[0].price",
        "number or string",
        objects("conversion", eventSubtype="purchase", objectData=[{"price": None}]),
    ),
    (
        ".objectData[0].discount",
        "number or string",
        objects("conversion", eventSubtype="purchase", objectData=[{"discount": []}]),
    ),
    (
        ".objectData[0].quantity",
        "expected integer, got string",
        objects("conversion", eventSubtype="purchase", objectData=[{"quantity": "1"}]),
    ),
    (
        ".objectData[0].queryID",
        "32 hexadecimal",
        objects("conversion", eventSubtype="purchase", objectData=[{"queryID": "x"}]),
    ),
    (
        ".objectData[0].query_id",
        "did you mean queryID",
        objects("conversion", eventSubtype="purchase", objectData=[{"query_id": QUERY_ID}]),
    ),
    (".value", "at most 16", objects("conversion", eventSubtype="purchase", value="1" * 17)),
    (".value", "number or string", objects("conversion", eventSubtype="purchase", value=True)),
    (".value", "number or string", objects("conversion", eventSubtype="purchase", value=None)),
    (".currency", "three-letter", objects("conversion", eventSubtype="purchase", currency="EURO")),
    (".currency", "three-letter", objects("conversion", eventSubtype="purchase", currency="E1R")),
    (".currency", "expected string, got number", objects("conversion", eventSubtype="purchase", currency=978)),
    (".timestamp", "30 days", objects(timestamp=now() - 31 * DAY)),
    (".timestamp", "30 days", objects(timestamp=now() // 1000)),
    (".timestamp", "expected integer, got string", objects(timestamp=str(now()))),
    (".timestamp", "expected integer, got number", objects(timestamp=now() + 0.5)),
    (".timestamp", "expected integer, got null", objects(timestamp=None)),
    (".algoliaSource", "expected array, got string", objects(algoliaSource="autocomplete")),
    (".algoliaSource[0]", "expected string, got null", objects(algoliaSource=[None])),
    (".value", "expected a finite number", objects("conversion", eventSubtype="purchase", value=10**400)),
    (".user_token", "did you mean userToken", objects(user_token="user-1")),
    (".object_ids", "did you mean objectIDs", event(object_ids=["a"])),
    (".color", "unknown attribute", objects(color="red")),
]


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(ask: Ask, algolia: LocalAlgolia, name: str) -> None:
    answer = ask("POST", "/1/events", {"events": [ACCEPTED[name]]})
    assert (answer.status, answer.json) == (200, {"status": 200, "message": "OK"})
    assert [received.event for received in algolia.events] == [ACCEPTED[name]]


@pytest.mark.parametrize(("field", "said", "bad"), REFUSED)
def test_refused_with_its_whole_batch(ask: Ask, algolia: LocalAlgolia, field: str, said: str, bad: Any) -> None:
    answer = ask("POST", "/1/events", {"events": [objects(), bad, objects()]})
    assert answer.status == answer.json["status"] == 422
    assert answer.json["message"].startswith(f"events[1]{field}: ")
    assert said in answer.json["message"]
    assert algolia.events == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "events: No events to process"),
        (b"", "events: No events to process"),
        ([], "events: No events to process"),
        ("null", "events: No events to process"),
        (objects(), "events: No events to process"),
        ({"events": []}, "events: No events to process"),
        ({"events": {}}, "events: expected array, got object"),
        ({"events": [objects()], "user": 1}, "user: unknown attribute; the body has events and nothing else"),
        ({"events": [objects()] * 1001}, "events: at most 1000 events in a request, got 1001"),
    ],
)
def test_refused_bodies(ask: Ask, body: Any, message: str) -> None:
    answer = ask("POST", "/1/events", body)
    assert (answer.status, answer.json) == (422, {"message": message, "status": 422})


def test_1000_events(ask: Ask, algolia: LocalAlgolia) -> None:
    assert ask("POST", "/1/events", {"events": [objects()] * 1000}).status == 200
    assert len(algolia.events) == 1000


@pytest.mark.parametrize(
    "body", [b"{", b"\xff", b'{"events": [NaN]}', b'{"events": [1' + b"0" * 5_000 + b"]}", b"[" * 100_000]
)
def test_malformed_json_is_answered_with_html(ask: Ask, body: bytes) -> None:
    answer = ask("POST", "/1/events", body)
    assert answer.status == 400
    assert answer.headers["content-type"].startswith("text/html")
    assert b"<html>" in answer.body


def test_an_infinite_value(ask: Ask) -> None:
    body = json.dumps({"events": [objects("conversion", eventSubtype="purchase", value=0)]}).replace(": 0}", ": 1e999}")
    assert ask("POST", "/1/events", body).json["message"] == "events[0].value: expected a finite number"


@pytest.mark.parametrize(("size", "status"), [(2_000_000, 200), (2_000_001, 413)])
def test_no_body_over_2_mb(ask: Ask, algolia: LocalAlgolia, size: int, status: int) -> None:
    body = json.dumps({"events": [objects()]})
    answer = ask("POST", "/1/events", body + " " * (size - len(body)))
    assert answer.status == status
    assert len(algolia.events) == (status == 200)


@pytest.mark.parametrize("headers", [{"x-algolia-api-key": "wrong"}, {"x-algolia-application-id": ""}])
def test_wrong_key(ask: Ask, headers: dict[str, str]) -> None:
    answer = ask("POST", "/1/events", {"events": [objects()]}, headers)
    assert (answer.status, answer.json) == (401, {"message": "Invalid credentials", "status": 401})


def test_what_instantsearch_reports_of_itself_is_no_event(ask: Ask, algolia: LocalAlgolia) -> None:
    report = {"eventType": "instantsearch", "eventName": "__start__", "version": "4.118.1", "widgets": [{"type": "x"}]}

    assert ask("POST", "/1/events", {"events": [report, objects()]}).status == 200

    assert [received.event_name for received in algolia.events] == [objects()["eventName"]]
    assert ask("POST", "/1/events", {"events": [report, objects(index="")]}).status == 422


@pytest.mark.parametrize(("method", "path"), [("GET", "/1/events"), ("POST", "/1/event"), ("POST", "/1/events/1")])
def test_unknown_path(ask: Ask, method: str, path: str) -> None:
    assert ask(method, path).status == 404


async def test_the_clients_see_success_and_the_message(algolia: LocalAlgolia, insights: InsightsClientSync) -> None:
    assert insights.push_events({"events": [objects()]}).message == "OK"
    bad = {"events": [objects(userToken="me@example.com")]}
    with pytest.raises(RequestException, match=r"events\[0\]\.userToken") as caught:
        insights.push_events(bad)
    assert caught.value.status_code == 422
    async with InsightsClient.create_with_config(algolia.insights_config()) as client:
        assert (await client.push_events({"events": [objects()]})).message == "OK"
        with pytest.raises(RequestException, match=r"events\[0\]\.userToken"):
            await client.push_events(bad)
    assert len(algolia.events) == 2


def test_what_is_kept_of_an_event(ask: Ask, algolia: LocalAlgolia) -> None:
    other = QUERY_ID[::-1]
    sent = objects(
        "conversion",
        3,
        eventSubtype="purchase",
        authenticatedUserToken="login-1",
        objectData=[{"queryID": other}, {}, {"queryID": other}],
        queryID=QUERY_ID,
    )
    before = time.time()
    ask("POST", "/1/events", {"events": [sent]})
    (kept,) = algolia.events
    assert kept.event == sent
    assert (kept.index, kept.event_name, kept.event_type, kept.subtype) == (
        "products",
        "It happened",
        "conversion",
        "purchase",
    )
    assert (kept.user_token, kept.authenticated_user_token) == ("user-1", "login-1")
    assert kept.query_ids == (QUERY_ID, other)
    assert before <= kept.received_at <= time.time()


def test_deleting_a_user_token_erases_its_events(algolia: LocalAlgolia, insights: InsightsClientSync) -> None:
    insights.push_events({"events": [objects(userToken="a/b"), objects(userToken="c")]})
    assert insights.delete_user_token_with_http_info("a/b").status_code == 200
    assert [received.user_token for received in algolia.events] == ["c"]
