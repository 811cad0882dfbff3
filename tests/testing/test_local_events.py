"""`POST /1/events`: what Algolia takes is taken, what it refuses is refused, in the same words."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from algoliasearch.http.exceptions import RequestException
from algoliasearch.insights.client import InsightsClient, InsightsClientSync

from algolia_usertoken.local_algolia import insights_rules
from algolia_usertoken.testing import LocalAlgolia, assert_same_identity

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


def bought(data: Any, count: int = 1, **fields: Any) -> dict[str, Any]:
    return objects("conversion", count, eventSubtype="purchase", objectData=data, **fields)


def without(field: str, event: dict[str, Any] | None = None) -> dict[str, Any]:
    return {key: value for key, value in (event or objects()).items() if key != field}


def report(**fields: Any) -> dict[str, Any]:
    return {"eventType": "instantsearch", "eventName": "__start__", "userToken": "user-1", **fields}


# Each case rests on a place in Algolia's specification: a file of specs/insights/common/schemas without its ending,
# "texts" for the error texts in specs/insights/paths/pushEvents.yml, "body" for the schema of the body there. What the
# specification leaves open is marked: "field" where a library of Algolia's sends it, "open" where the choice is ours.
ACCEPTED: list[tuple[str, str, dict[str, Any]]] = [
    # One for each event, and what may be added to it.
    ("ClickedObjectIDsAfterSearch", "", objects("click", 2, positions=[1, 2], queryID=QUERY_ID)),
    ("ClickedObjectIDs", "", objects("click")),
    ("ViewedObjectIDs", "", objects("view")),
    ("ConvertedObjectIDs", "", objects("conversion")),
    ("ClickedFilters", "", event("click", filters=["brand:acme"])),
    ("ViewedFilters", "", event("view", filters=["brand:acme"])),
    ("ConvertedFilters", "", event("conversion", filters=["brand:acme"])),
    ("ConvertedObjectIDsAfterSearch", "", objects("conversion", queryID=QUERY_ID)),
    ("AddedToCartObjectIDs", "", objects("conversion", eventSubtype="addToCart")),
    ("AddedToCartObjectIDsAfterSearch", "", objects("conversion", eventSubtype="addToCart", queryID=QUERY_ID)),
    ("PurchasedObjectIDs", "", objects("conversion", eventSubtype="purchase")),
    ("PurchasedObjectIDsAfterSearch", "", bought([{"queryID": QUERY_ID}])),
    ("Instantsearch", "", report()),
    (
        "AddedToCartObjectIDs",
        "with everything",
        objects(
            "conversion",
            2,
            eventSubtype="addToCart",
            objectData=[{"price": 1, "discount": "0.5", "quantity": 2}, {}],
            value="12.50",
            currency="EUR",
            authenticatedUserToken="login-1",
        ),
    ),
    (
        "PurchasedObjectIDsAfterSearch",
        "with everything",
        bought([{"price": "1.0", "discount": 0.5, "quantity": 2, "queryID": QUERY_ID}], value=12.5, currency="eur"),
    ),
    ("Instantsearch", "with everything", report(agentID="a", timestamp=now(), authenticatedUserToken="login-1")),
    # The forms of the fields.
    ("EventAttributes#objectIDs", "20", objects("view", 20)),
    ("EventAttributes#filters", "20", event("view", filters=["a:b"] * 20)),
    ("EventAttributes#eventName", "64", objects(eventName="x" * 64)),
    ("EventAttributes#eventName", "every kind of sign", objects(eventName=" ~!\"'<>&")),
    ("texts#WrongUserToken", "128", objects(userToken="x" * 128)),
    ("EventAttributes#userToken", "every sign", objects(userToken="aZ09_=/+-", authenticatedUserToken="aZ09_=/+-")),
    ("EventAttributes#filters", "more colons", event(filters=["url:http://x"])),
    ("EventAttributes#filters", "an encoded value", event(filters=["discount:10%25"])),
    ("field: search-insights", "the whole encoded", event(filters=["brand%3AAcme"])),
    ("field: search-insights", "the whole encoded twice", event(filters=["discount%3A10%2525"])),
    ("field: InstantSearch's ratingMenu", "whole encoded", event("click", filters=["rating%3E%3D4"])),
    ("field: InstantSearch's ratingMenu", "as it is", event("click", filters=["rating>=4", "rating<-0.5"])),
    ("open", "a filter that needed no encoding by its pattern", event(filters=["brand:Best & Co", "é:é"])),
    ("EventAttributes#queryID", "a message's", objects("conversion", queryID="message_Abc-1.!~")),
    ("EventAttributes#queryID", "a message's, 128", objects("conversion", queryID="message_" + "x" * 120)),
    ("EventAttributes#value", "16 characters", bought([{}], value="1" * 16)),
    ("EventAttributes#value", "any of so few characters", bought([{}], value="")),
    ("EventAttributes#price", "of any length", bought([{"price": "1" * 17, "discount": "1" * 100}])),
    ("EventAttributes#quantity", "32 bits", bought([{"quantity": 2**31 - 1}, {"quantity": -(2**31)}], 2)),
    ("EventAttributes#positions", "no upper end", objects("click", positions=[10**30], queryID=QUERY_ID)),
    ("EventAttributes#timestamp", "now", objects(timestamp=now())),
    ("EventAttributes#timestamp", "29 days ago", objects(timestamp=now() - 29 * DAY)),
    ("open", "the future", objects(timestamp=now() + 400 * DAY)),
    ("EventAttributes#timestamp", "64 bits", objects(timestamp=2**63 - 1)),
    # Purchases.
    ("EventAttributes#objectDataAfterSearch", "a mixed basket", bought([{"queryID": QUERY_ID}, {"price": 2}], 2)),
    ("EventAttributes#objectDataAfterSearch", "a basket of nothing known", bought([{}, {}], 2)),
    ("field: search-insights, deprecated", "a queryID on a purchase", bought([{}], queryID=QUERY_ID)),
    (
        "field: search-insights with inferQueryID",
        "an add to the cart",
        objects("conversion", eventSubtype="addToCart", objectData=[{"queryID": QUERY_ID}]),
    ),
    # Fields that the schema of the event does not have.
    ("ViewedObjectIDs", "unknown fields", objects(color="red", price=1, quantity=2, user_token=None, object_ids=[7])),
    ("ViewedObjectIDs", "unknown fields of any form", objects(a={"b": [[], {"c": None}]}, **{"": 1, "é\ud800": 2})),
    ("ViewedObjectIDs", "a name of any length", objects(**{"x" * 100_000: 1})),
    ("field: InstantSearch", "its sources", objects(algoliaSource=["instantsearch", "instantsearch-automatic"])),
    ("ViewedObjectIDs", "sources of any form", objects(algoliaSource=7)),
    ("field: InstantSearch's chat", "agentId", objects("click", agentId="", toolCallId="t", sessionID=7)),
    ("ClickedObjectIDs", "agentID is another event's", objects("click", agentID=7)),
    (
        "field: search-insights with inferQueryID",
        "data",
        objects("conversion", 2, objectData=[{"queryID": QUERY_ID}, {}]),
    ),
    ("field: search-insights", "inferred", objects("conversion", objectIDsWithInferredQueryID=["0"], objectData=[{}])),
    (
        "ConvertedObjectIDs",
        "a purchase's fields",
        objects("conversion", objectData=[{"color": 1}], value=[], currency=7),
    ),
    (
        "ConvertedObjectIDsAfterSearch",
        "likewise",
        objects("conversion", queryID=QUERY_ID, objectData=5, value="x" * 17),
    ),
    ("ClickedObjectIDs", "likewise", objects("click", objectData=None, value=True, currency="EURO")),
    ("ClickedObjectIDs", "a subtype is a conversion's", objects("click", eventSubtype="purchase")),
    ("ViewedObjectIDs", "a subtype of any form", objects("view", eventSubtype=5)),
    ("ConvertedFilters", "a subtype is of objects", event("conversion", eventSubtype="addToCart", filters=["a:b"])),
    ("field: InstantSearch", "a queryID on a view", objects("view", queryID=QUERY_ID)),
    ("ConvertedFilters", "with a queryID", event("conversion", filters=["a:b"], queryID=QUERY_ID)),
    ("ClickedFilters", "with a queryID", event("click", filters=["a:b"], queryID=QUERY_ID)),
    ("Instantsearch", "fields of other events", report(index="", objectIDs=7, filters=[], positions=None, queryID="x")),
    ("Instantsearch", "one in two spellings", report(objectIDs=7, ObjectIds=8)),
    ("field: InstantSearch", "its start", report(version="4.118.1", widgets=[{"type": "x"}], sessionID="s")),
    # Letters of another case: version 3 of Algolia's Python client sends objectIds, and expects 200.
    ("field: algoliasearch 3", "objectIds", {**without("objectIDs"), "objectIds": ["1"]}),
    ("open", "all of them", {name.upper(): value for name, value in objects("click").items()}),
    ("open", "in objectData", bought([{"QueryId": QUERY_ID, "PRICE": 1}])),
    ("open", "agentId", report(agentId="a")),
]

WRONG_TOKEN = (
    "UserToken must contain only alphanumeric, equal, plus, slash, hyphen, or underscore characters, "
    "and be between 1 and 128 characters long"
)
WRONG_LOGIN = "Invalid payload: events[1].authenticatedUserToken: must contain only alphanumeric"
WRONG_NAME = "EventName must contain only visible ASCII characters, and be between 1 and 64 characters long"
WRONG_TYPE = 'EventType must be one of "click", "conversion", "view" or "instantsearch"'
WRONG_QUERY_ID = "Query ID must be a search query ID (32 characters hexadecimal string)"
WRONG_COUNT = "Event of type click should have the same number of ObjectIDs and Positions"
NEITHER = "Event should specify either some ObjectIDs or some Filters"
BOTH = "Event should specify ObjectIDs or Filters, but not both"
TOO_OLD = "The timestamp is too far in the past"


def expected(wanted: str, got: str) -> str:
    return f"Invalid type for field events: expected {wanted}, got {got}"


# Where it rests, the beginning of the message, and the event.
REFUSED: list[tuple[str, str, Any]] = [
    ("body", expected("object", "string"), "click"),
    ("body", expected("object", "null"), None),
    ("body", expected("object", "array"), []),
    ("texts#EventNameRequired", "EventName is required", without("eventName")),
    ("texts#InvalidDataType", expected("string", "null"), objects(eventName=None)),
    ("texts#WrongEventName", WRONG_NAME, objects(eventName="")),
    ("texts#WrongEventName", WRONG_NAME, objects(eventName="x" * 65)),
    ("texts#WrongEventName", WRONG_NAME, objects(eventName="Clické")),
    ("texts#WrongEventName", WRONG_NAME, objects(eventName="line\n")),
    ("texts#EventTypeRequired", "EventType is required", without("eventType")),
    ("texts#WrongEventType", WRONG_TYPE, objects("purchase")),
    ("texts#WrongEventType", WRONG_TYPE, objects("Click")),
    ("texts#InvalidDataType", expected("string", "number"), event(eventType=1, objectIDs=["a"])),
    ("texts#IndexRequired", "The index field is required", without("index")),
    ("open: no minLength", "The index field is required", objects(index="")),
    ("texts#InvalidDataType", expected("string", "array"), objects(index=[])),
    ("texts#UserTokenRequired", "The userToken field is required", without("userToken")),
    ("texts#InvalidDataType", expected("string", "number"), objects(userToken=42)),
    ("texts#InvalidDataType", expected("string", "null"), objects(userToken=None)),
    ("texts#WrongUserToken", WRONG_TOKEN, objects(userToken="")),
    ("texts#WrongUserToken, the pattern has 129", WRONG_TOKEN, objects(userToken="x" * 129)),
    ("texts#WrongUserToken", WRONG_TOKEN, objects(userToken="me@example.com")),
    ("texts#WrongUserToken", WRONG_TOKEN, objects(userToken="user-1\n")),
    ("texts#WrongUserToken", WRONG_TOKEN, objects(userToken="GA1.2.3")),
    ("texts#WrongUserToken", WRONG_TOKEN, objects(userToken="üser")),
    ("EventAttributes#authenticatedUserToken", WRONG_LOGIN, objects(authenticatedUserToken="auth0|1")),
    ("EventAttributes#authenticatedUserToken", WRONG_LOGIN, objects(authenticatedUserToken="")),
    ("texts#InvalidDataType", expected("string", "null"), objects(authenticatedUserToken=None)),
    ("texts#InvalidDataType", expected("string", "boolean"), objects(authenticatedUserToken=True)),
    ("AddToCartEvent", "Invalid payload: events[1].eventSubtype", objects("conversion", eventSubtype="wishlist")),
    ("AddToCartEvent", "Invalid payload: events[1].eventSubtype", objects("conversion", eventSubtype="addtocart")),
    ("texts#InvalidDataType", expected("string", "null"), objects("conversion", eventSubtype=None)),
    # Objects and filters.
    ("texts#NoObjectIDsOrFilters", NEITHER, event()),
    ("texts#BothDefined", BOTH, objects(filters=["a:b"])),
    ("texts#BothDefined", BOTH, objects(filters=[])),
    ("EventAttributes#objectIDs", NEITHER, objects(count=0)),
    ("EventAttributes#filters", NEITHER, event(filters=[])),
    (
        "EventAttributes#objectIDs",
        "Invalid payload: events[1].objectIDs: Cannot process more than 20",
        objects(count=21),
    ),
    ("EventAttributes#filters", "Invalid payload: events[1].filters: Cannot", event(filters=["a:b"] * 21)),
    ("EventAttributes#objectIDs", expected("array", "string"), event(objectIDs="a")),
    ("EventAttributes#objectIDs", expected("string", "number"), event(objectIDs=["a", 1])),
    ("EventAttributes#filters", expected("string", "object"), event(filters=[{}])),
    ("open: no minLength", "Invalid payload: events[1].objectIDs[1]: must not be empty", event(objectIDs=["a", ""])),
    ("EventAttributes#filters", "Invalid payload: events[1].filters[0]: must not be empty", event(filters=[""])),
    *(
        (
            "EventAttributes#filters",
            "Invalid payload: events[1].filters[0]: expected facet:value",
            event(filters=[value]),
        )
        for value in (
            "brand",
            "brand:",
            ":acme",
            "brand%3A",
            "%3Aacme",
            "brand=acme",
            "price!=4",
            "price>=",
            "price%3E%3D",
            "brand%253AAcme",
        )
    ),
    (
        "EventAttributes#filters",
        "Invalid payload: events[1].filters[0]: must be URL-enc",
        event(filters=["discount:10%"]),
    ),
    ("EventAttributes#filters", "Invalid payload: events[1].filters[0]: must be URL-enc", event(filters=["a%3Ab%2"])),
    # After a search.
    ("texts#WrongPositionsItems", WRONG_COUNT, objects("click", queryID=QUERY_ID)),
    ("texts#WrongPositionsItems", WRONG_COUNT, objects("click", 2, positions=[1], queryID=QUERY_ID)),
    ("texts#WrongPositionsItems", WRONG_COUNT, objects("click", positions=[], queryID=QUERY_ID)),
    ("texts#WrongPositionsItems", WRONG_COUNT, objects("click", positions=[1] * 21, queryID=QUERY_ID)),
    ("texts#WrongPositionsItems", WRONG_COUNT, event("click", filters=["a:b"], positions=[1], queryID=QUERY_ID)),
    ("EventAttributes#positions", expected("array", "number"), objects("click", positions=1, queryID=QUERY_ID)),
    (
        "texts#WrongPositionsValue",
        "Event of type click may only have strictly positive positions",
        objects("click", positions=[0], queryID=QUERY_ID),
    ),
    ("EventAttributes#positions", expected("integer", "string"), objects("click", positions=["1"], queryID=QUERY_ID)),
    ("EventAttributes#positions", expected("integer", "boolean"), objects("click", positions=[True], queryID=QUERY_ID)),
    ("EventAttributes#positions", expected("integer", "number"), objects("click", positions=[1.5], queryID=QUERY_ID)),
    *(
        ("texts#PositionsOnWrongEventType", "Only event of type click should specify the positions attribute", wrong)
        for wrong in (
            objects("view", positions=[1]),
            objects("conversion", positions=[1], queryID=QUERY_ID),
            event(filters=["a:b"], positions=None),
        )
    ),
    (
        "texts#PositionsWithoutQueryID",
        "Event of type click with positions should specify a queryID",
        objects("click", positions=[1]),
    ),
    *(
        ("EventAttributes#queryID", WRONG_QUERY_ID, objects("conversion", queryID=value))
        for value in (
            QUERY_ID.upper(),
            QUERY_ID[1:],
            QUERY_ID + "0",
            QUERY_ID + "\n",
            "message_",
            "message_a b",
            "message_a\n",
            "message_é",
            "message_" + "x" * 121,
            "Message_a",
            "",
        )
    ),
    ("texts#WrongQueryID", WRONG_QUERY_ID, objects("view", queryID="x")),
    ("EventAttributes#queryID", expected("string", "null"), objects("conversion", queryID=None)),
    # Purchases.
    ("EventAttributes#objectDataList", "Invalid payload: events[1].objectData: must have as many", bought([{}], 2)),
    ("EventAttributes#objectDataList", "Invalid payload: events[1].objectData: must not be empty", bought([])),
    ("EventAttributes#objectDataList", expected("array", "object"), bought({})),
    ("EventAttributes#objectDataList", expected("array", "null"), bought(None)),
    ("EventAttributes#objectData", expected("object", "number"), bought([1])),
    ("EventAttributes#price", expected("number or string", "null"), bought([{"price": None}])),
    ("EventAttributes#discount", expected("number or string", "array"), bought([{"discount": []}])),
    ("EventAttributes#quantity", expected("integer", "string"), bought([{"quantity": "1"}])),
    ("EventAttributes#quantity", expected("integer", "number"), bought([{"quantity": 1.5}])),
    ("EventAttributes#quantity", expected("int32", "number"), bought([{"quantity": 2**31}])),
    ("EventAttributes#quantity", expected("int32", "number"), bought([{"quantity": -(2**31) - 1}])),
    ("EventAttributes#objectDataAfterSearch", WRONG_QUERY_ID, bought([{"queryID": "message_a"}])),
    ("EventAttributes#objectDataAfterSearch", WRONG_QUERY_ID, bought([{"queryID": QUERY_ID + "\n"}])),
    ("EventAttributes#objectDataAfterSearch", expected("string", "null"), bought([{"queryID": None}])),
    (
        "EventAttributes#objectData",
        "Invalid payload: events[1].objectData[0].query_id: unknown attribute (did you mean queryID?)",
        bought([{"query_id": QUERY_ID}]),
    ),
    (
        "EventAttributes#objectData",
        "Invalid payload: events[1].objectData[1].color: unknown",
        bought([{}, {"color": 1}], 2),
    ),
    (
        "EventAttributes#objectData",
        f"Invalid payload: events[1].objectData[0].{'x' * 40}: unknown",
        objects("conversion", eventSubtype="addToCart", objectData=[{"x" * 100_000: 1}]),
    ),
    (
        "EventAttributes#value",
        "Invalid payload: events[1].value: must have at most 16 char",
        bought([{}], value="1" * 17),
    ),
    ("EventAttributes#value", expected("number or string", "boolean"), bought([{}], value=True)),
    ("EventAttributes#value", expected("number or string", "null"), bought([{}], value=None)),
    ("EventAttributes#value", "Invalid payload: events[1].value: expected a finite", bought([{}], value=10**400)),
    *(
        (
            "EventAttributes#currency",
            "Invalid payload: events[1].currency: expected a three",
            bought([{}], currency=value),
        )
        for value in ("EURO", "E1R", "EUR\n", "")
    ),
    ("EventAttributes#currency", expected("string", "number"), bought([{}], currency=978)),
    # Time.
    ("texts#InvalidTimestamp", TOO_OLD, objects(timestamp=now() - 31 * DAY)),
    ("texts#InvalidTimestamp", TOO_OLD, objects(timestamp=now() // 1000)),
    ("EventAttributes#timestamp", expected("integer", "string"), objects(timestamp=str(now()))),
    ("EventAttributes#timestamp", expected("integer", "number"), objects(timestamp=now() + 0.5)),
    ("EventAttributes#timestamp", expected("integer", "null"), objects(timestamp=None)),
    ("EventAttributes#timestamp", expected("int64", "number"), objects(timestamp=2**63)),
    # The thirteenth.
    ("Instantsearch", "EventName is required", without("eventName", report())),
    ("Instantsearch", WRONG_NAME, report(eventName="")),
    ("Instantsearch", "The userToken field is required", without("userToken", report())),
    ("Instantsearch", WRONG_TOKEN, report(userToken="me@example.com")),
    ("Instantsearch", WRONG_LOGIN, report(authenticatedUserToken="auth0|1")),
    ("Instantsearch", TOO_OLD, report(timestamp=1)),
    ("EventAttributes#agentID", "Invalid payload: events[1].agentID: must not be empty", report(agentID="")),
    ("EventAttributes#agentID", expected("string", "number"), report(agentId=7)),
    # Letters of another case.
    ("EventAttributes#objectIDs", expected("array", "string"), {**without("objectIDs"), "objectIds": "1"}),
    ("texts#BothDefined", BOTH, objects(Filters=["a:b"])),
    ("EventAttributes#price", expected("number or string", "boolean"), bought([{"Price": True}])),
    *(
        ("open", f"Invalid payload: events[1]{where}: is there twice, in different spellings", wrong)
        for where, wrong in (
            (".objectIDs", objects(objectIds=["1"])),
            (".userToken", objects(usertoken="user-1")),
            (".value", objects("click", value=1, VALUE=1)),
            (".objectData[0].price", bought([{"price": 1, "Price": 1}])),
            (".agentID", report(agentID="a", agentId="a")),
            (".eventType", report(EventType="click")),
        )
    ),
]


def ids_of(cases: list[tuple[str, str, Any]]) -> list[str]:
    return [" ".join(case[:2]).strip() for case in cases]


@pytest.mark.parametrize(("place", "case", "good"), ACCEPTED, ids=ids_of(ACCEPTED))
def test_valid_events_are_accepted(
    ask: Ask, algolia: LocalAlgolia, place: str, case: str, good: dict[str, Any]
) -> None:
    answer = ask("POST", "/1/events", {"events": [good]})
    assert (answer.status, answer.json) == (200, {"status": 200, "message": "OK"})
    assert [received.event for received in algolia.events] == [good] * (good.get("eventType") != "instantsearch")


@pytest.mark.parametrize(("place", "message", "bad"), REFUSED, ids=ids_of(REFUSED))
def test_an_invalid_event_is_refused_with_its_whole_batch(
    ask: Ask, algolia: LocalAlgolia, place: str, message: str, bad: Any
) -> None:
    answer = ask("POST", "/1/events", {"events": [objects(), bad, objects()]})
    assert answer.status == answer.json["status"] == 422
    told = answer.json["message"]
    assert told.startswith(message) if message.startswith("Invalid payload") else told == message
    assert algolia.events == []


NO_EVENTS = "No events to process"
BATCH = "Invalid type for field : expected insights.PublicEventsBatch, got"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, NO_EVENTS),
        (b"", NO_EVENTS),
        ("null", NO_EVENTS),
        (objects(), NO_EVENTS),
        ({"events": []}, NO_EVENTS),
        ({"events": None}, NO_EVENTS),
        ([], f"{BATCH} array"),
        ([objects()], f"{BATCH} array"),
        ('"events"', f"{BATCH} string"),
        ("7", f"{BATCH} number"),
        ({"events": objects()}, "Invalid type for field events: expected array, got object"),
        ({"events": [objects()], "Events": []}, "Invalid payload: events: is there twice, in different spellings"),
        ({"events": [objects()] * 1001}, "Cannot process more than 1000 events in a batch"),
    ],
)
def test_a_body_without_a_list_of_events_is_refused(ask: Ask, body: Any, message: str) -> None:
    answer = ask("POST", "/1/events", body)
    assert (answer.status, answer.json) == (422, {"message": message, "status": 422})


@pytest.mark.parametrize("name", ["events", "Events"])
def test_unknown_fields_beside_the_events_pass(ask: Ask, algolia: LocalAlgolia, name: str) -> None:
    body = {"user": 1, "": {"x": [None]}, "x" * 1000: [], name: [objects()]}
    assert ask("POST", "/1/events", body).status == 200
    assert len(algolia.events) == 1


def test_1000_events_of_one_request_are_taken(ask: Ask, algolia: LocalAlgolia) -> None:
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


def test_an_infinite_value_of_an_event_is_refused(ask: Ask) -> None:
    body = json.dumps({"events": [bought([{}], value=0)]}).replace(": 0}", ": 1e999}")
    assert (
        ask("POST", "/1/events", body).json["message"] == "Invalid payload: events[0].value: expected a finite number"
    )


@pytest.mark.parametrize(
    "extra",
    [
        pytest.param('"x":' + "[" * 900 + "]" * 900, id="deep nesting"),
        pytest.param('"x":' + '{"x":' * 5_000 + "1" + "}" * 5_000, id="deeper nesting"),
        pytest.param('"x":1' + "0" * 4_000, id="a long integer"),
        pytest.param('"x":1' + "0" * 9_000, id="a longer integer"),
        pytest.param('"x":1e999', id="a number that is none"),
        pytest.param('"x":-Infinity', id="no JSON"),
        pytest.param('"\\ud800":"\\udfff","index":"\\ud800"', id="lone surrogates"),
        pytest.param('"index":"a","index":"b","userToken":"c","userToken":"d"', id="names that are there twice"),
        pytest.param('"' + "k" * 1_000_000 + '":1', id="a long name"),
        pytest.param('"filters":' + "[" * 900 + "]" * 900, id="deep nesting of a field"),
        pytest.param('"objectData":[' + '{"queryID":' * 400 + "1" + "}" * 400 + "]", id="deep nesting of data"),
        pytest.param('"userToken":[],"eventType":{}', id="what can't be a key"),
    ],
)
@pytest.mark.parametrize("kind", ["click", "instantsearch"])
def test_hostile_events_are_answered(ask: Ask, algolia: LocalAlgolia, kind: str, extra: str) -> None:
    body = json.dumps({"events": [objects(kind)]})[:-3] + "," + extra + "}]}"

    answer = ask("POST", "/1/events", body)

    assert answer.status in (200, 400, 422)
    assert algolia.mismatches() == []
    assert len(algolia.events) == (answer.status == 200 and kind == "click")
    assert ask("GET", "/inspector/state").status == 200


@pytest.mark.parametrize(("size", "status"), [(2_000_000, 200), (2_000_001, 413)])
def test_events_of_more_than_2_mb_are_refused(ask: Ask, algolia: LocalAlgolia, size: int, status: int) -> None:
    body = json.dumps({"events": [objects()]})
    answer = ask("POST", "/1/events", body + " " * (size - len(body)))
    assert answer.status == status
    assert len(algolia.events) == (status == 200)


@pytest.mark.parametrize("headers", [{"x-algolia-api-key": "wrong"}, {"x-algolia-application-id": ""}])
def test_events_with_a_wrong_key_are_refused(ask: Ask, headers: dict[str, str]) -> None:
    answer = ask("POST", "/1/events", {"events": [objects()]}, headers)
    assert (answer.status, answer.json) == (401, {"message": "Invalid credentials", "status": 401})


def test_what_instantsearch_reports_of_itself_is_no_event(ask: Ask, algolia: LocalAlgolia) -> None:
    assert ask("POST", "/1/events", {"events": [report(), objects()]}).status == 200

    assert [received.event_name for received in algolia.events] == [objects()["eventName"]]
    assert ask("POST", "/1/events", {"events": [report(), objects(index="")]}).status == 422


@pytest.mark.parametrize(("method", "path"), [("POST", "/1/event"), ("POST", "/1/events/1"), ("GET", "/1/event")])
def test_an_unknown_path_of_insights_is_a_404(ask: Ask, method: str, path: str) -> None:
    answer = ask(method, path)
    assert (answer.status, answer.json["status"]) == (404, 404)
    assert answer.json["message"].startswith("Path not supported by Insights REST API. Please have a look at [https://")


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_events_are_posted_and_nothing_else(ask: Ask, algolia: LocalAlgolia, method: str) -> None:
    answer = ask(method, "/1/events", {"events": [objects()]} if method != "GET" else None)
    assert (answer.status, answer.json) == (405, {"message": "Method Not Allowed", "status": 405})
    assert algolia.events == []


async def test_the_clients_see_success_and_the_message(algolia: LocalAlgolia, insights: InsightsClientSync) -> None:
    assert insights.push_events({"events": [objects()]}).message == "OK"
    bad = {"events": [objects(userToken="me@example.com")]}
    with pytest.raises(RequestException, match="UserToken must contain only") as caught:
        insights.push_events(bad)
    assert caught.value.status_code == 422
    async with InsightsClient.create_with_config(algolia.insights_config()) as client:
        assert (await client.push_events({"events": [objects()]})).message == "OK"
        with pytest.raises(RequestException, match="UserToken must contain only"):
            await client.push_events(bad)
    assert len(algolia.events) == 2


def test_local_algolia_keeps_the_fields_of_an_event(ask: Ask, algolia: LocalAlgolia) -> None:
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


def test_local_algolia_keeps_an_event_whose_names_are_in_other_letters(ask: Ask, algolia: LocalAlgolia) -> None:
    sent = {name.upper(): value for name, value in objects("conversion", queryID=QUERY_ID).items()}
    assert ask("POST", "/1/events", {"events": [sent]}).status == 200
    (kept,) = algolia.events
    assert kept.event == sent
    assert (kept.index, kept.event_name, kept.event_type, kept.subtype) == (
        "products",
        "It happened",
        "conversion",
        None,
    )
    assert (kept.user_token, kept.query_ids) == ("user-1", (QUERY_ID,))
    assert_same_identity(algolia, token="user-1")


def test_the_searches_of_a_conversion_whose_query_ids_were_inferred(ask: Ask, algolia: LocalAlgolia) -> None:
    data = [{"queryID": QUERY_ID}, {"queryID": 7}, None, {"QueryId": QUERY_ID[::-1]}, {"queryID": "x"}]
    assert ask("POST", "/1/events", {"events": [objects("conversion", objectData=data)]}).status == 200
    assert algolia.events[0].query_ids == (QUERY_ID, QUERY_ID[::-1])


def test_deleting_a_user_token_erases_its_events(algolia: LocalAlgolia, insights: InsightsClientSync) -> None:
    insights.push_events({"events": [objects(userToken="a/b"), objects(userToken="c")]})
    assert insights.delete_user_token_with_http_info("a/b").status_code == 200
    assert [received.user_token for received in algolia.events] == ["c"]


def test_a_body_that_is_no_object_has_no_events() -> None:
    assert insights_rules.events_of([]) is None
    assert insights_rules.events_of({"Events": [1]}) == [1]
