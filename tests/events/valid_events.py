"""Events that Algolia takes, and changes of them, for the tests of rules, of what is put right, and of the text."""

from __future__ import annotations

from typing import Any

from algolia_usertoken.events.model import attributed
from algolia_usertoken.events.rules import check_user_token

QUERY_ID = "0123456789abcdef" * 2
OTHER_QUERY_ID = "f" * 32
NOW = 1_800_000_000.0  # seconds
DAYS_30 = 30 * 24 * 60 * 60 * 1000


def event(**changes: Any) -> dict[str, Any]:
    """A valid event; `...` leaves a field out."""
    fields = {
        "eventType": "view",
        "eventName": "Seen",
        "index": "products",
        "objectIDs": ["1"],
        "userToken": "u",
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not ...}


def click(**changes: Any) -> dict[str, Any]:
    """A click after a search."""
    return event(**{"eventType": "click", "positions": [1], "queryID": QUERY_ID, **changes})


def purchase(**changes: Any) -> dict[str, Any]:
    return event(**{"eventType": "conversion", "eventSubtype": "purchase", **changes})


def filters(**changes: Any) -> dict[str, Any]:
    return event(**{"objectIDs": ..., "filters": ["brand:Acme"], **changes})


def check(event: dict[str, Any]) -> None:
    """Check an event that says whose it is, as a sender does: InvalidEventError where it breaks a rule of Algolia's."""
    check_user_token(event, "userToken")
    attributed(event, None)


# -- check: what Algolia takes -------------------------------------------------------------------------------------

VALID = {
    # The rows of the events.
    "clickedObjectIDsAfterSearch": click(objectIDs=["1", "2"], positions=[1, 41]),
    "clickedObjectIDs": event(eventType="click"),
    "viewedObjectIDs": event(),
    "convertedObjectIDs": event(eventType="conversion"),
    "clickedFilters": filters(eventType="click"),
    "viewedFilters": filters(),
    "convertedFilters": filters(eventType="conversion"),
    "convertedObjectIDsAfterSearch": event(eventType="conversion", queryID=QUERY_ID),
    "addedToCartObjectIDs": event(eventType="conversion", eventSubtype="addToCart"),
    "addedToCartObjectIDsAfterSearch": event(eventType="conversion", eventSubtype="addToCart", queryID=QUERY_ID),
    "purchasedObjectIDs": purchase(),
    "purchasedObjectIDs with data": purchase(
        objectData=[{"price": 9.5, "discount": "0", "quantity": 2}], value=19, currency="EUR"
    ),
    "purchasedObjectIDsAfterSearch": purchase(
        objectIDs=["1", "2"], objectData=[{"queryID": QUERY_ID}, {"queryID": OTHER_QUERY_ID, "price": "3"}]
    ),
    # The fields, at their bounds.
    "eventName of 1": event(eventName="x"),
    "eventName of 64": event(eventName="x" * 64),
    "eventName of any printable ASCII": event(eventName="".join(map(chr, range(0x20, 0x20 + 64)))),
    "eventName up to ~": event(eventName=" }~"),
    "20 objects": event(objectIDs=[str(i) for i in range(20)]),
    "objectID of anything": event(objectIDs=["ключ 🔑 a:b/?#%"]),
    "20 filters": filters(filters=[f"brand:{i}" for i in range(20)]),
    "filter encoded as a whole": filters(filters=["brand%3AAcme", "brand%3aAcme%2520Shoes", "a%3Ab%3Ac"]),
    "filter of a rating menu": filters(filters=["rating%3E%3D4", "rating>=4", "price%3C10"]),
    "filter URL-encoded": filters(filters=["brand%3Ax:a%20b%2fc%F0%9F%8D%A6", "a.b:c:d", "x:!~&$'()*+,/;=?@"]),
    "queryID of an agent's message": event(eventType="conversion", queryID="message_abc-123"),
    "queryID of an agent's message, printable": event(eventType="conversion", queryID="message_!~:'"),
    "queryID of 128": event(eventType="conversion", queryID="message_" + "x" * 120),
    "userToken of 128": event(userToken="x" * 128),
    "authenticatedUserToken": event(authenticatedUserToken="aZ09_=/+-"),
    "timestamp of 30 days": event(timestamp=int(NOW * 1000) - DAYS_30),
    "timestamp of tomorrow": event(timestamp=int(NOW * 1000) + 86_400_000),
    "value of 16 letters": purchase(value="1" * 16),
    "value of nothing": purchase(value=0),
    "value that is negative": purchase(value=-1.5),
    "currency in any case": purchase(currency="eur"),
    "what Autocomplete adds": event(algoliaSource=["autocomplete", "autocomplete-internal"]),
    "price of anything": purchase(objectData=[{"price": "a very long price indeed"}]),
    "value of no letters": purchase(value=""),
    "quantity of 32 bits": purchase(objectData=[{"quantity": 2**31 - 1}]),
    "quantity of -32 bits": purchase(objectData=[{"quantity": -(2**31)}]),
    "timestamp of 64 bits": event(timestamp=2**63 - 1),
    "items with and without a search": purchase(
        objectIDs=["1", "2"], objectData=[{"queryID": QUERY_ID, "price": 1}, {"price": 2}]
    ),
    "what inferQueryID adds": event(
        eventType="conversion",
        objectIDs=["1", "2"],
        objectData=[{"queryID": QUERY_ID}, {}],
        objectIDsWithInferredQueryID=["1"],
    ),
    "what InstantSearch's chat adds": click(agentId="a", toolCallId="t", sessionID=["s"]),
    "what Segment adds": event(price=1.5, quantity=2, currency="a long one", value=[1], coupon={"code": None}),
    "a field of nobody's": event(colour={"red": [1, None, 1.5, {"é": "\u2028"}]}),
    "a name of anything": event(**{"": 1, "a b": 2, "é": 3, "jane@example.com": 4, "x" * 100: 5}),
    "a snake_case name of a field of other events": event(agent_id=1, event_subtype=2, object_data=3),
    "objectData of any form, on a click": click(objectData=[{"colour": "red"}, 7]),
    "a subtype of any form, on filters": filters(eventType="conversion", eventSubtype="purchase", value=[1]),
    "another subtype on a click": click(eventSubtype="open"),
    "sources of any form": event(algoliaSource={"by": ["autocomplete", 1]}),
    "instantsearch": {"eventType": "instantsearch", "eventName": "__start__", "userToken": "u", "agentID": "a"},
    "instantsearch with anything": {
        "eventType": "instantsearch",
        "eventName": "__start__",
        "userToken": "u",
        "authenticatedUserToken": "l",
        "timestamp": int(NOW * 1000),
        "index": 7,
        "objectIDs": "1",
        "filters": [1],
        "positions": {},
        "queryID": [],
        "objectData": 1,
        "value": [],
        "widgets": [{"type": "ais.hits", "children": []}],
    },
}
