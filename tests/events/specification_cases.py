"""Bodies of `POST /1/events`, and whether Algolia's API specification takes them.

Each case names the place that it rests on, in `specs/insights/` of https://github.com/algolia/api-clients-automation as
of commit d30a53d83e (August 2026): a schema of `common/schemas`, or of `paths/pushEvents.yml` the request's body or one
of the examples of its 422 answer. Some rest on two: where a schema leaves out what an example of an answer says.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

NOW = 1_800_000_000.0  # seconds since the epoch, at which the cases are judged
MS = int(NOW) * 1000
MONTH = 30 * 24 * 60 * 60 * 1000
Q = "7dfe2ada7bca48bdd0629649df0bee07"
OTHER = "54ed4c9d94050a25e4e5ccf5d256ca42"


class Case(NamedTuple):
    """A body, whether it is taken, and the place that says so."""

    name: str
    body: Any
    taken: bool
    place: str


def event(event_type: str, subtype: str | None = None, **fields: Any) -> dict[str, Any]:
    """An event that is right; `...` leaves a field out."""
    made: dict[str, Any] = {"eventName": "It happened", "eventType": event_type, "userToken": "anonymous-user-1"}
    if event_type != "instantsearch":
        made |= {"index": "test-index"} | ({} if "filters" in fields else {"objectIDs": ["object-1", "object-2"]})
    if subtype is not None:
        made["eventSubtype"] = subtype
    made |= fields
    return {name: copy.deepcopy(value) for name, value in made.items() if value is not ...}


def click(**fields: Any) -> dict[str, Any]:
    return event("click", **{"positions": [1, 2], "queryID": Q, **fields})


def purchase(**fields: Any) -> dict[str, Any]:
    return event("conversion", "purchase", **fields)


def bought(*items: Any) -> dict[str, Any]:
    return purchase(objectIDs=[str(number) for number in range(len(items))], objectData=list(items))


def ids(count: int) -> list[str]:
    return [f"object-{number}" for number in range(count)]


_TAKEN: dict[str, dict[str, Any]] = {
    "ClickedObjectIDsAfterSearch.yml": {
        "a click after a search": click(),
        "with a login": click(authenticatedUserToken="user-1"),
        "with what Autocomplete and InstantSearch add": click(algoliaSource=["instantsearch"]),
        "with an agent's ids": click(agentId="a", toolCallId="t", sessionID="s"),
        "with a total and a currency, which it does not have": click(value=[1], currency={"code": "EUR"}),
    },
    "ClickedObjectIDs.yml": {
        "a click": event("click"),
        "with a field of no event": event("click", colour="red"),
        "with fields of Segment": event("click", price=9.99, quantity="2", coupon=None, category=["a"], position=3),
        "with a subtype, which it does not have": event("click", eventSubtype="anything"),
        "with a total, which it does not have": event("click", value="12345678901234567890"),
        "with an agent's id of any form": event("click", agentID=""),
    },
    "ClickedFilters.yml": {
        "a click on a filter": event("click", filters=["category:books"]),
        "with a query": event("click", filters=["category:books"], queryID=Q),
    },
    "ViewedFilters.yml": {"a view of filters": event("view", filters=["category:books"])},
    "ConvertedFilters.yml": {
        "a conversion of filters": event("conversion", filters=["category:books"]),
        "with a subtype, which it does not have": event("conversion", "rent", filters=["category:books"], value=[1]),
    },
    "ViewedObjectIDs.yml": {
        "a view": event("view"),
        "with a total and a currency, which it does not have": event("view", value={}, currency="dollars"),
        "with a field that holds anything": event("view", widgets=[{"type": "hits", "children": [None, 1.5]}]),
    },
    "ConvertedObjectIDs.yml": {
        "a conversion": event("conversion"),
        "with the queries that search-insights infers": event(
            "conversion", objectData=[{"queryID": Q}, {}], objectIDsWithInferredQueryID=["object-1"]
        ),
        "with a total and a currency, which it does not have": event("conversion", value=[], currency=978),
        "with objectData, which it does not have": event("conversion", objectData=[{"colour": "red"}]),
    },
    "ConvertedObjectIDsAfterSearch.yml": {"a conversion after a search": event("conversion", queryID=Q)},
    "AddedToCartObjectIDs.yml": {
        "an addition to the cart": event("conversion", "addToCart"),
        "with prices": event(
            "conversion", "addToCart", objectData=[{"price": 19.99, "quantity": 1}, {}], value=19.99, currency="EUR"
        ),
    },
    "AddedToCartObjectIDsAfterSearch.yml": {
        "an addition to the cart after a search": event(
            "conversion", "addToCart", queryID=Q, objectData=[{"price": 50, "quantity": 1}, {}], currency="USD"
        ),
    },
    "PurchasedObjectIDs.yml": {
        "a purchase": purchase(),
        "with prices": purchase(objectData=[{"price": 49.99, "quantity": 1}, {"price": 9.99}], value=69.97),
    },
    "PurchasedObjectIDsAfterSearch.yml": {
        "a purchase after two searches": bought({"queryID": Q, "price": 49.99}, {"queryID": OTHER, "discount": 0}),
        "of things that a search led to, and of others": bought({"queryID": Q, "price": 1}, {"price": 2}),
        "of one that says nothing": bought({"queryID": Q}, {}),
    },
    "Instantsearch.yml": {
        "at least": event("instantsearch"),
        "with an agent's id": event("instantsearch", agentID="agent-session-123"),
        "with a login and a time": event("instantsearch", authenticatedUserToken="user-1", timestamp=MS),
        "with fields of other events, in any form": event(
            "instantsearch", index=7, objectIDs="1", filters=[1], positions={}, queryID=[], objectData=1, value=[]
        ),
        "with what InstantSearch says of itself": event(
            "instantsearch", sessionID="s", version="4.118.0", performance={"bootstrapMs": 12}, widgets=[{"params": []}]
        ),
    },
    "EventAttributes.yml#/eventName": {
        "1 character": event("view", eventName="x"),
        "64 characters": event("view", eventName="x" * 64),
        "a space": event("view", eventName=" "),
        "a tilde": event("view", eventName="~"),
    },
    "EventAttributes.yml#/userToken": {
        "1 character": event("view", userToken="u"),
        "128 characters": event("view", userToken="x" * 128),
        "every character of the alphabet": event("view", userToken="azAZ09_=/+-"),
    },
    "EventAttributes.yml#/authenticatedUserToken": {
        "128 characters": event("view", authenticatedUserToken="x" * 128),
    },
    "EventAttributes.yml#/timestamp": {
        "now": event("view", timestamp=MS),
        "30 days ago": event("view", timestamp=MS - MONTH),
        "tomorrow": event("view", timestamp=MS + 24 * 60 * 60 * 1000),
        "64 bits": event("view", timestamp=2**63 - 1),
    },
    "EventAttributes.yml#/queryID": {
        "a message": click(queryID="message_my-custom-query-id"),
        "a message of all that is printable": click(queryID="message_" + "".join(map(chr, range(0x21, 0x7F)))),
        "a message of 128 characters": click(queryID="message_" + "x" * 120),
    },
    "EventAttributes.yml#/objectIDs": {
        "1 object": event("view", objectIDs=ids(1)),
        "20 objects": event("view", objectIDs=ids(20)),
        "an object with any name": event("view", objectIDs=["ключ 🔑 a:b/?#%"]),
    },
    "EventAttributes.yml#/filters": {
        "a value encoded": event("click", filters=["discount:10%25"]),
        "the whole encoded, as search-insights does it": event("click", filters=["brand%3AAcme"]),
        "the whole encoded, in lower case": event("click", filters=["brand%3aAcme"]),
        "the whole encoded once more": event("click", filters=["brand%3AAcme%2520Shoes"]),
        "the comparison of a rating menu, encoded": event("click", filters=["rating%3E%3D4"]),
        "20 filters": event("click", filters=["a:b"] * 20),
    },
    "EventAttributes.yml#/positions": {"1 and large ones": click(positions=[1, 1000])},
    "EventAttributes.yml#/price": {
        "a string of any length": bought({"price": "1" * 30}),
        "a number": bought({"price": -0.5}),
    },
    "EventAttributes.yml#/discount": {"a string": bought({"discount": "20"}), "a number": bought({"discount": 20})},
    "EventAttributes.yml#/quantity": {
        "the most of 32 bits": bought({"quantity": 2**31 - 1}),
        "the least of 32 bits": bought({"quantity": -(2**31)}),
    },
    "EventAttributes.yml#/objectDataAfterSearchList": {
        "20 items": purchase(objectIDs=ids(20), objectData=[{"queryID": Q}] * 20),
    },
    "EventAttributes.yml#/currency": {"lower case": purchase(currency="eur")},
    "EventAttributes.yml#/value": {
        "a string of 16 characters": purchase(value="1" * 16),
        "an empty string": purchase(value=""),
        "nothing": purchase(value=0),
        "a number below": purchase(value=-1.5),
    },
}
_REFUSED: dict[str, dict[str, Any]] = {
    "pushEvents.yml, 422 EventNameRequired": {"no name": event("view", eventName=...)},
    "pushEvents.yml, 422 WrongEventName": {
        "an empty name": event("view", eventName=""),
        "65 characters": event("view", eventName="x" * 65),
        "a name that is not ASCII": event("view", eventName="Gesehen: Schuhgröße"),
        "a line break": event("view", eventName="x\n"),
    },
    "pushEvents.yml, 422 EventTypeRequired": {"no type": event("view", eventType=...)},
    "pushEvents.yml, 422 WrongEventType": {
        "another type": event("buy"),
        "a type in another case": event("View"),
    },
    "pushEvents.yml, 422 IndexRequired": {"no index": event("view", index=...)},
    "pushEvents.yml, 422 UserTokenRequired": {
        "no token": event("view", userToken=...),
        "no token for InstantSearch's": event("instantsearch", userToken=...),
    },
    "pushEvents.yml, 422 WrongUserToken": {
        "an e-mail address": event("view", userToken="jane@example.com"),
        "an empty token": event("view", userToken=""),
        "129 characters": event("view", userToken="x" * 129),
        "a login that is an e-mail address": event("view", authenticatedUserToken="jane@example.com"),
        "a token that InstantSearch's can't have": event("instantsearch", userToken="a b"),
    },
    "pushEvents.yml, 422 NoObjectIDsOrFilters": {"neither objects nor filters": event("view", objectIDs=...)},
    "pushEvents.yml, 422 BothDefined": {"both": event("view", objectIDs=ids(1), filters=["a:b"])},
    "pushEvents.yml, 422 PositionsOnWrongEventType": {
        "positions of a view": event("view", positions=[1, 2]),
        "positions of a conversion": event("conversion", positions=[1, 2], queryID=Q),
    },
    "pushEvents.yml, 422 PositionsWithoutQueryID": {"positions without a query": click(queryID=...)},
    "pushEvents.yml, 422 WrongPositionsValue": {"position 0": click(positions=[0, 1])},
    "pushEvents.yml, 422 WrongPositionsItems": {
        "too few positions": click(positions=[1]),
        "a query without positions": click(positions=...),
        "a position of a filter": event("click", filters=["a:b"], queryID=Q, positions=[1]),
        "no positions of a filter": event("click", filters=["a:b"], queryID=Q, positions=[]),
    },
    "pushEvents.yml, 422 WrongQueryID": {
        "31 digits": click(queryID=Q[1:]),
        "upper case": click(queryID=Q.upper()),
        "a number": click(queryID=7),
    },
    "pushEvents.yml, 422 InvalidDataType": {
        "a number as a token": event("view", userToken=7),
        "a string for a list": event("view", objectIDs="object-1"),
        "a number in a list of strings": event("view", objectIDs=["object-1", 2.5]),
        "a string for a position": click(positions=[1, "2"]),
        "a name that is a list": event("view", eventName=["x"]),
    },
    "pushEvents.yml, 422 InvalidTimestamp": {
        "more than 30 days ago": event("view", timestamp=MS - MONTH - 1),
        "seconds": event("view", timestamp=MS // 1000),
        "more than 30 days ago, InstantSearch's": event("instantsearch", timestamp=MS - MONTH - 1),
    },
    "EventAttributes.yml#/timestamp": {
        "a string": event("view", timestamp=str(MS)),
        "more than 64 bits": event("view", timestamp=2**63),
    },
    "EventAttributes.yml#/queryID": {
        "a message with a space": click(queryID="message_a b"),
        "a message of nothing": click(queryID="message_"),
        "a message with an umlaut": click(queryID="message_ä"),
        "129 characters": click(queryID="message_" + "x" * 121),
    },
    "EventAttributes.yml#/agentID": {
        "an empty one": event("instantsearch", agentID=""),
        "a number": event("instantsearch", agentID=7),
    },
    "EventAttributes.yml#/objectIDs": {
        "none": event("view", objectIDs=[]),
        "21": event("view", objectIDs=ids(21)),
    },
    "EventAttributes.yml#/filters": {
        "none": event("view", filters=[]),
        "21": event("view", filters=["a:b"] * 21),
        "a facet alone": event("view", filters=["brand"]),
        "a % that encodes nothing": event("view", filters=["discount:10%"]),
        "a number": event("view", filters=[7]),
    },
    "EventAttributes.yml#/price": {"a list": bought({"price": [1]}), "a bool": bought({"price": True})},
    "EventAttributes.yml#/quantity": {
        "more than 32 bits": bought({"quantity": 2**31}),
        "less than 32 bits": bought({"quantity": -(2**31) - 1}),
        "a string": bought({"quantity": "1"}),
        "a half": bought({"quantity": 0.5}),
    },
    "EventAttributes.yml#/objectData": {
        "an unknown field": bought({"colour": "red"}),
        "an unknown field beside a query": bought({"queryID": Q, "objectID": "1"}),
    },
    "EventAttributes.yml#/objectDataAfterSearch": {
        "a message as the query": bought({"queryID": "message_abc"}),
        "31 digits": bought({"queryID": Q[1:]}),
    },
    "EventAttributes.yml#/objectDataList": {
        "too few items": purchase(objectData=[{"price": 1}]),
        "no items": purchase(objectData=[]),
        "an item that is no object": bought(7),
    },
    "EventAttributes.yml#/currency": {
        "two letters": purchase(currency="EU"),
        "four letters": purchase(currency="EURO"),
        "a digit": purchase(currency="EU1"),
    },
    "EventAttributes.yml#/value": {
        "a string of 17 characters": purchase(value="1" * 17),
        "a bool": purchase(value=True),
        "a list": purchase(value=[1]),
    },
    "PurchaseEvent.yml and AddToCartEvent.yml": {"another subtype of a conversion": event("conversion", "rent")},
}
_REQUEST = "pushEvents.yml, the request's body"

CASES: list[Case] = [
    *(
        Case(f"{place}: {name}", {"events": [one]}, taken, place)
        for taken, table in ((True, _TAKEN), (False, _REFUSED))
        for place, events in table.items()
        for name, one in events.items()
    ),
    Case("1000 events", {"events": [event("view")] * 1000}, True, _REQUEST),
    Case("fields beside the events", {"events": [event("view")], "batch": {"id": 7}, "x": None}, True, _REQUEST),
    Case("1001 events", {"events": [event("view")] * 1001}, False, "pushEvents.yml, 422 TooManyEvents"),
    Case("no events", {"events": []}, False, "pushEvents.yml, 422 NoEvents"),
    Case("an event for the body", event("view"), False, "pushEvents.yml, 422 NoEvents"),
    Case("a list for the body", [event("view")], False, "pushEvents.yml, 422 NoEventsField"),
    Case("one of them is wrong", {"events": [event("view"), event("view", index=...)]}, False, _REQUEST),
    Case("an event that is a string", {"events": ["click"]}, False, _REQUEST),
]
