from __future__ import annotations

import copy
import itertools
import json
import random
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from types import MappingProxyType
from typing import Any

import pytest
from algoliasearch.insights.models import ObjectDataAfterSearch

from algolia_usertoken import Identity, InvalidEventError, MissingUserTokenError
from algolia_usertoken.events import model
from algolia_usertoken.events.model import (
    attributed,
    check,
    check_after_search,
    event_time,
    milliseconds,
    split,
    without_nones,
)
from algolia_usertoken.local_algolia.insights_rules import refusal

QUERY_ID = "0123456789abcdef" * 2
OTHER_QUERY_ID = "f" * 32
NOW = 1_800_000_000.0  # seconds
DAYS_30 = 30 * 24 * 60 * 60 * 1000


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands."""
    monkeypatch.setattr(time, "time", lambda: NOW)


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


@pytest.mark.parametrize("good", VALID.values(), ids=VALID.keys())
def test_what_algolia_takes_is_let_through(good: dict[str, Any]) -> None:
    before = copy.deepcopy(good)
    check(good)

    assert good == before
    assert attributed(good, None) == before
    assert refusal({"events": [good]}, NOW) is None


# -- check: what Algolia refuses -----------------------------------------------------------------------------------

NO_NAMES = ["", "x" * 65, "é", "a\n", "\t", "a\x7f", "\x1f", None, 7, b"x", ["x"], ...]
NO_OBJECTS = [
    [],
    [str(i) for i in range(21)],
    "1",
    {"1": 1},
    7,
    [""],
    [1.0],
    [True],
    [b"1"],
    [None],
    [["1"]],
    ["1", ""],
]
NO_FILTERS = [[], [f"brand:{i}" for i in range(21)], "brand:x", 7, ["brand"], ["brand:"], [":x"]]
NO_FILTERS += [["brand%3A"], ["%3AAcme"], ["%3A"], ["brand%3AAcme%"], ["rating%3E"], ["a%3Db"], ["brand%20Acme"]]
NO_FILTERS += [["a:b%2"], ["a:b%zz"], ["a%:b"], ["a:b%"], [""], [7], [None], ["a:b", "c"]]
NO_QUERY_IDS = [QUERY_ID[1:], QUERY_ID + "0", QUERY_ID.upper(), "g" * 32, "", "message_", "message_é", "message_\n", 7]
NO_QUERY_IDS += ["message_a b", "message_ ", "Message_a", " message_a"]
NO_QUERY_IDS += ["message_" + "x" * 121, QUERY_ID + "\n", f" {QUERY_ID}", ["x"]]
NO_TOKENS = ["", "a@b", "a b", "x" * 129, "u\n", 7, True, b"u", ["u"]]
NO_VALUES = ["1" * 17, True, float("nan"), float("inf"), -float("inf"), [1], {}, b"1", 10**400]
NO_AMOUNTS = [True, float("nan"), float("inf"), [1], b"1", 10**400]

INVALID: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "eventName": (
        [event(eventName=name) for name in NO_NAMES],
        "eventName",
        "must be a string of 1 to 64 printable ASCII characters",
    ),
    "index": ([event(index=index) for index in ("", None, 7, ["x"], ...)], "index", "must be the name of an index"),
    "eventType": (
        [event(eventType=kind) for kind in ("", "buy", "Click", None, 7, ["click"], ...)],
        "eventType",
        "must be 'click', 'view', 'conversion' or 'instantsearch'",
    ),
    "eventSubtype": (
        [event(eventType="conversion", eventSubtype=subtype) for subtype in ("", "buy", "addtocart", 7, ["purchase"])],
        "eventSubtype",
        "must be 'addToCart' or 'purchase'",
    ),
    "objectIDs": (
        [event(objectIDs=ids) for ids in NO_OBJECTS[:5]],
        "objectIDs",
        "must be a list of 1 to 20 object IDs",
    ),
    "an objectID": ([event(objectIDs=ids) for ids in NO_OBJECTS[5:]], "objectIDs", "must hold non-empty strings, not "),
    "neither": ([event(objectIDs=...), event(objectIDs=None)], "objectIDs", "or filters must be given"),
    "no objects": ([purchase(objectIDs=...)], "objectIDs", "or filters must be given (event"),
    "both": ([event(filters=["a:b"]), event(filters=[])], "filters", "must not stand beside objectIDs"),
    "filters": ([filters(filters=some) for some in NO_FILTERS[:4]], "filters", "must be a list of 1 to 20 filters"),
    "a filter": (
        [filters(filters=some) for some in NO_FILTERS[4:]],
        "filters",
        "must be 'facet:value', URL-encoded, not ",
    ),
    "queryID": (
        [event(eventType="conversion", queryID=query_id) for query_id in NO_QUERY_IDS],
        "queryID",
        "must be 32 hexadecimal digits in lower case",
    ),
    "no positions": (
        [click(positions=...), click(positions=None)],
        "positions",
        "must be given for a click after a search",
    ),
    "positions": ([click(positions=some) for some in ("1", 1, {1: 1})], "positions", "must be a list"),
    "as many positions": ([click(positions=some) for some in ([], [1, 2])], "positions", " items for 1 objects"),
    "a position": (
        [click(positions=[position]) for position in (0, -1, 1.0, "1", True, None)],
        "positions",
        "must be integers of at least 1: position on the page + page × hitsPerPage",
    ),
    "objectData": ([purchase(objectData=data) for data in ("x", 7, {"price": 1})], "objectData", "must be a list"),
    "as many objectData": (
        [purchase(objectData=data) for data in ([], [{}, {}])],
        "objectData",
        " items for 1 objects",
    ),
    "an objectData": (
        [purchase(objectData=[data]) for data in (None, 7, "price", [])],
        "objectData",
        "must hold objects, not ",
    ),
    "price": (
        [purchase(objectData=[{"price": price}]) for price in NO_AMOUNTS],
        "objectData.price",
        "must be a number or a string",
    ),
    "discount": (
        [purchase(objectData=[{"price": 1, "discount": discount}]) for discount in NO_AMOUNTS],
        "objectData.discount",
        "must be a number or a string",
    ),
    "quantity": (
        [purchase(objectData=[{"quantity": quantity}]) for quantity in (1.0, "1", True, [1], 2**31, -(2**31) - 1)],
        "objectData.quantity",
        "must be an integer of 32 bits",
    ),
    "queryID of an objectData": (
        [purchase(objectData=[{"queryID": query_id}]) for query_id in [*NO_QUERY_IDS, "message_abc"]],
        "objectData.queryID",
        "must be 32 hexadecimal digits in lower case",
    ),
    "userToken": ([event(userToken=token) for token in [*NO_TOKENS, None, ...]], "userToken", "userToken: user token "),
    "authenticatedUserToken": (
        [event(authenticatedUserToken=token) for token in NO_TOKENS],
        "authenticatedUserToken",
        "authenticatedUserToken: user token ",
    ),
    "timestamp": (
        [event(timestamp=at) for at in (1.5, "1", True, float(NOW * 1000), datetime.now(timezone.utc), 2**63)],
        "timestamp",
        "must be an integer of milliseconds",
    ),
    "timestamp long ago": (
        [event(timestamp=at) for at in (int(NOW * 1000) - DAYS_30 - 1, 0, -1, int(NOW))],
        "timestamp",
        "is more than 30 days ago (it counts milliseconds since 1970)",
    ),
    "agentID": (
        [
            {"eventType": "instantsearch", "eventName": "Used", "userToken": "u", "agentID": agent}
            for agent in ("", 7, ["a"], True)
        ],
        "agentID",
        "must be a string that is not empty",
    ),
    "value": (
        [purchase(value=value) for value in NO_VALUES],
        "value",
        "must be a number, or a string of at most 16 characters",
    ),
    "currency": (
        [purchase(currency=currency) for currency in ("", "EU", "EURO", "€€€", "E1R", "EUR\n", 978, ["EUR"])],
        "currency",
        "must be the three letters of ISO 4217, as in 'EUR'",
    ),
}


@pytest.mark.parametrize(
    ("bad", "field", "message"),
    [
        pytest.param(bad, field, message, id=f"{name}-{i}")
        for name, (bads, field, message) in INVALID.items()
        for i, bad in enumerate(bads)
    ],
)
def test_what_algolia_refuses_is_refused_and_the_field_is_named(bad: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        check(bad)

    assert caught.value.field == field
    assert message in str(caught.value)
    assert str(caught.value).startswith(field)


@pytest.mark.parametrize("field", ["eventName", "index", "eventType"])
def test_what_is_missing_is_said_to_be(field: str) -> None:
    for bad in (event(**{field: ...}), event(**{field: None})):
        with pytest.raises(InvalidEventError, match=rf"^{field} must be .* and is missing( \(event '.*'\))?$"):
            check(bad)
    with pytest.raises(InvalidEventError) as caught:
        check(event(**{field: ""}))
    assert "missing" not in str(caught.value)


def test_texts_name_the_event_and_quote_nothing_else() -> None:
    with pytest.raises(InvalidEventError, match=r"\(event 'Seen'\)$"):
        check(event(index=""))
    with pytest.raises(InvalidEventError, match=r"printable ASCII characters: it has 65$"):
        check(event(eventName="x" * 65))
    with pytest.raises(InvalidEventError, match=r"ASCII characters: it has 3, and the one at position 2 is none$"):
        check(event(eventName="xéy"))
    with pytest.raises(InvalidEventError, match=r"not a string of 41 characters at position 2 \(event 'Seen'\)$"):
        check(filters(filters=["a:b", "x" * 41]))
    with pytest.raises(InvalidEventError, match=r"strings, not float at position 2 \(event 'Seen'\)$"):
        check(event(objectIDs=["1", 7.5]))
    with pytest.raises(InvalidEventError, match=r"^index must be the name of an index$"):
        check(event(eventName="jane@example.com", index=""))  # the name of an event, but it may well be somebody's
    with pytest.raises(InvalidEventError, match=r"positions has 2 items for 1 objects$"):
        check(click(positions=[1, 2]))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (event(event_name="x"), "event_name is no field of an event: eventName is meant"),
        (event(event_name=None), "event_name is no field of an event: eventName is meant"),
        (event(eventName=..., event_name="x"), "event_name is no field of an event: eventName is meant"),
        (
            event(eventType=..., event_type="view"),
            "event_type is no field of an event: eventType is meant",
        ),
        (
            event(objectIDs=..., object_ids=["1"]),
            "object_ids is no field of an event: objectIDs is meant",
        ),
        (event(**{"object-ids": ["1"]}), "objectIDs is no field of an event: objectIDs is meant"),
        (event(user_token="u"), "user_token is no field of an event: userToken is meant"),
        (event(Authenticated_User_Token="u"), None),
        (click(query_id=QUERY_ID), "query_id is no field of an event: queryID is meant"),
        (event(eventType="conversion", event_subtype="purchase"), None),
        (purchase(object_data=[{}]), "object_data is no field of an event: objectData is meant"),
        (event(eventType="conversion", object_data=[{}]), None),
        ({"eventType": "instantsearch", "eventName": "Used", "userToken": "u", "agent_id": "a"}, None),
        (event(objectIds=["1"]), "objectIDs is there twice, its letters in another case"),
        (
            event(objectIDs=None, objectIds=["1"]),
            "objectIDs is there twice, its letters in another case",
        ),
        (event(objectIDs=..., objectIds=["1"], objectids=["1"]), None),
        (event(EventType="view"), "eventType is there twice, its letters in another case"),
        (event() | {7: 1}, "the name of a field must be a string, not int"),
        (event() | {None: 1}, "the name of a field must be a string, not NoneType"),
        (event() | {b"objectIDs": ["1"]}, "the name of a field must be a string, not bytes"),
        (event(**{"\ud800": 1}), "an unknown field has no JSON form: UnicodeEncodeError"),
        (event(colour=object()), "colour has no JSON form: TypeError"),
        (event(**{"a@b": {1, 2}}), "an unknown field has no JSON form: TypeError"),
        (purchase(objectData=[{"colour": "red"}]), "objectData.colour is no field of an event"),
        (purchase(objectData=[{7: 1}]), "objectData: int is no field of an event"),
        (
            purchase(objectData=[{"a@b": 1}]),
            "objectData: a string of 3 characters is no field of an event",
        ),
        (
            purchase(objectData=[{"query_id": QUERY_ID}]),
            "objectData.query_id is no field of an event: queryID is meant",
        ),
        (
            purchase(objectData=[{"price": 1, "Price": 1}]),
            "objectData.price is there twice, its letters in another case",
        ),
    ],
)
def test_name_that_is_no_fields_is_refused_and_the_one_that_is_meant_is_named(
    bad: dict[str, Any], message: str | None
) -> None:
    with pytest.raises(InvalidEventError) as caught:
        check(bad)

    if message is not None:
        assert str(caught.value).removesuffix(" (event 'Seen')") == message


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (event(objectIDs=..., objectIds=["1"]), event()),  # as Algolia's own client for Python sent, version 3
        (event(objectIDs=..., OBJECTIDS=["1"]), event()),
        (event(eventType=..., eventtype="view"), event()),
        (event(eventType=..., eventtype="instantsearch", agentid="a", objectIDs=..., index=...), None),
        (event(userToken=..., usertoken="u"), event()),
        (click(queryID=..., queryId=QUERY_ID), click()),
        (
            purchase(eventSubtype=..., eventSubType="purchase", Value=1, Currency="EUR"),
            purchase(value=1, currency="EUR"),
        ),
        (
            purchase(objectData=[{"queryId": QUERY_ID, "Price": 1}]),
            purchase(objectData=[{"queryID": QUERY_ID, "price": 1}]),
        ),
        (event(queryID=..., queryId=QUERY_ID), event(queryID=QUERY_ID)),
        (event(agentId="a", Value=[1]), event(agentId="a", value=[1])),  # of which a view has neither
    ],
)
def test_name_whose_letters_are_in_another_case_is_put_right(
    given: dict[str, Any], sent: dict[str, Any] | None
) -> None:
    before = copy.deepcopy(given)
    made = attributed(given, None)

    assert given == before
    if sent is not None:
        assert made == sent
    else:
        assert made == {"eventType": "instantsearch", "eventName": "Seen", "userToken": "u", "agentID": "a"}


@pytest.mark.parametrize(
    "hopeless",
    [float("nan"), float("inf"), {1, 2}, b"x", object(), "\ud800", {"a": [{"b": float("nan")}]}, datetime(2026, 1, 1)],
)
def test_what_has_no_json_form_is_refused_and_the_field_is_named(hopeless: Any) -> None:
    circular: list[Any] = []
    circular.append(circular)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (hopeless, circular, deep):
        with pytest.raises(InvalidEventError, match=r"^colour has no JSON form: \w+ \(event 'Seen'\)$") as caught:
            check(event(colour=value))
        assert caught.value.field == "colour"
    del deep


def test_tuples_are_lists() -> None:
    check(click(objectIDs=("1", "2"), positions=(1, 2)))
    check(filters(filters=("a:b",)))
    check(purchase(objectData=({"price": 1},)))


DOUBTFUL = {
    "a field of another case": click(queryID=..., queryId=QUERY_ID),
    "a snake_case field": click(query_id=QUERY_ID),
    "an unknown field": event(colour="red"),
    "an unknown field in objectData": purchase(objectData=[{"colour": "red"}]),
    "positions of a view": event(positions=[1]),
    "positions of a conversion": event(eventType="conversion", positions=[1]),
    "positions without a search": event(eventType="click", positions=[1]),
    "positions of filters": filters(eventType="click", positions=[1]),
    "objectData of filters": filters(eventType="conversion", objectData=[{}]),
    "objectData of a plain conversion": event(eventType="conversion", objectData=[{"price": 1}]),
    "objectData of a click": event(eventType="click", objectData=[{"price": 1}]),
    "value of a plain conversion": event(eventType="conversion", value=1),
    "currency of a view": event(currency="EUR"),
    "message_ and a space": event(eventType="conversion", queryID="message_a b"),
    **{
        f"{field} null": event(**{field: None})
        for field in ("queryID", "filters", "timestamp", "authenticatedUserToken")
    },
    **{
        f"{field} null": event(**{field: None})
        for field in ("positions", "objectData", "value", "currency", "eventSubtype")
    },
    "objectIDs null beside filters": filters(objectIDs=None),
    **{f"{key} null": purchase(objectData=[{key: None}]) for key in ("price", "discount", "quantity", "queryID")},
}


@pytest.mark.parametrize("doubtful", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_what_is_let_through_is_taken_by_the_stand_in(doubtful: dict[str, Any]) -> None:
    try:
        attributed_event = attributed(doubtful, None)
    except InvalidEventError:
        return

    assert attributed_event is not None
    sent = without_nones(attributed_event)
    assert refusal({"events": [json.loads(json.dumps(sent))]}, NOW) is None


def test_ten_thousand_mutations_are_judged_as_the_stand_in_judges_them() -> None:
    """Of the values of each field, good and bad ones, in any combination; nulls and misplaced fields apart."""
    rng = random.Random(11)
    values: dict[str, list[Any]] = {
        "eventName": ["Seen", "x" * 64, *NO_NAMES[:4]],
        "index": ["products", ""],
        "userToken": ["u", "x" * 128, "x" * 129, "a@b", ...],
        "authenticatedUserToken": [..., ..., "l", "", "a b"],
        "timestamp": [..., ..., int(NOW * 1000), int(NOW * 1000) - DAYS_30, int(NOW * 1000) - DAYS_30 - 1, "1"],
    }
    verdicts = set()
    for _ in range(10_000):
        made = copy.deepcopy(rng.choice(list(VALID.values())))
        for field in rng.sample(list(values), rng.choice((0, 1, 1, 2))):
            made[field] = rng.choice(values[field])
            if made[field] is ...:
                del made[field]
        if "queryID" in made and rng.random() < 0.3:
            made["queryID"] = rng.choice(["message_x", *NO_QUERY_IDS[:6]])
        if "positions" in made and rng.random() < 0.5:
            made["positions"] = [rng.choice((0, 1, 1, 2)) for _ in range(rng.choice((0, 1, 2, 2)))]
        try:
            check(made)
            refused = None
        except InvalidEventError as error:
            refused = error
        expected = refusal({"events": [made]}, NOW)
        assert (refused is None) == (expected is None), (made, refused, expected)
        verdicts.add(refused is None)
    assert verdicts == {True, False}


# -- attributed ----------------------------------------------------------------------------------------------------

BOTH = Identity("anon", "login")


@pytest.mark.parametrize(
    ("own", "identity", "expected"),
    [
        ({}, Identity("anon"), {"userToken": "anon"}),
        ({}, BOTH, {"userToken": "anon", "authenticatedUserToken": "login"}),
        ({}, Identity(None, "login"), {"userToken": "login", "authenticatedUserToken": "login"}),
        ({}, Identity("anon", client_ip="203.0.113.7"), {"userToken": "anon"}),
        ({"userToken": None}, BOTH, {"userToken": "anon", "authenticatedUserToken": "login"}),
        ({"authenticatedUserToken": None}, BOTH, {"userToken": "anon", "authenticatedUserToken": "login"}),
        ({"userToken": "own"}, BOTH, {"userToken": "own"}),
        ({"userToken": "anon"}, BOTH, {"userToken": "anon"}),
        ({"userToken": "own"}, None, {"userToken": "own"}),
        ({"userToken": "own"}, Identity(), {"userToken": "own"}),
        ({"userToken": "own"}, Identity("u", opted_out=True), {"userToken": "own"}),
        (
            {"userToken": "own", "authenticatedUserToken": "own-login"},
            BOTH,
            {"userToken": "own", "authenticatedUserToken": "own-login"},
        ),
        ({"authenticatedUserToken": "own-login"}, BOTH, {"userToken": "anon", "authenticatedUserToken": "own-login"}),
        (
            {"authenticatedUserToken": "own-login"},
            None,
            {"userToken": "own-login", "authenticatedUserToken": "own-login"},
        ),
        (
            {"authenticatedUserToken": "own-login"},
            Identity(),
            {"userToken": "own-login", "authenticatedUserToken": "own-login"},
        ),
    ],
)
def test_event_is_filled_in_from_the_identity(
    own: dict[str, Any], identity: Identity | None, expected: dict[str, str]
) -> None:
    given = event(userToken=...) | own
    before = copy.deepcopy(given)

    assert attributed(given, identity) == event(userToken=...) | expected
    assert given == before


@pytest.mark.parametrize("identity", [Identity(opted_out=True), Identity("u", "l", opted_out=True)])
@pytest.mark.parametrize("own", [{}, {"userToken": None}, {"authenticatedUserToken": "l"}])
def test_event_of_who_opted_out_is_none(identity: Identity, own: dict[str, Any]) -> None:
    assert attributed(event(userToken=...) | own, identity) is None


@pytest.mark.parametrize("identity", [None, Identity(), Identity(client_ip="203.0.113.7")])
@pytest.mark.parametrize("own", [{}, {"userToken": None, "authenticatedUserToken": None}])
def test_event_that_is_nobodys_is_refused(identity: Identity | None, own: dict[str, Any]) -> None:
    with pytest.raises(MissingUserTokenError) as caught:
        attributed(event(userToken=..., eventName="Seen in the shop") | own, identity)

    assert str(caught.value) == "nobody to attribute the event 'Seen in the shop' to: no user token is known"


def test_what_is_wrong_with_an_event_is_said_before_that_it_is_nobodys() -> None:
    with pytest.raises(InvalidEventError, match=r"^index "):
        attributed(event(userToken=..., index=""), None)


@pytest.mark.parametrize(
    "bad",
    [event(index=""), event(userToken="a@b"), event(authenticatedUserToken=""), event(timestamp=1), purchase(value=[])],
)
def test_attributed_checks_everything(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidEventError):
        attributed(bad, BOTH)
    with pytest.raises(InvalidEventError):
        check(bad)


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [
        (..., None, ...),
        (..., 1_799_999_999_000, 1_799_999_999_000),
        (None, 1_799_999_999_000, 1_799_999_999_000),
        (1_799_999_000_000, 1_799_999_999_000, 1_799_999_000_000),
        (1_799_999_000_000, None, 1_799_999_000_000),
    ],
)
def test_timestamp_is_filled_in_where_there_is_none(own: Any, given: int | None, expected: Any) -> None:
    made = attributed(event(timestamp=own), None, given)

    assert made is not None
    assert made.get("timestamp", ...) == expected


@pytest.mark.parametrize("timestamp", [int(NOW * 1000) - DAYS_30 - 1, 1, -1])
def test_timestamp_to_fill_in_is_checked_too(timestamp: int) -> None:
    assert event_time(int(NOW * 1000) - DAYS_30) == int(NOW * 1000) - DAYS_30
    with pytest.raises(InvalidEventError, match=r"^timestamp is more than 30 days ago"):
        event_time(timestamp)


def test_any_mapping_is_an_event() -> None:
    given: Mapping[str, Any] = MappingProxyType(event())
    made = attributed(given, None)

    assert type(made) is dict
    assert made == event()


@pytest.mark.parametrize("bad", [None, 7, "text", object(), [1], ["ab", 7]])
def test_event_that_is_no_mapping_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidEventError, match=rf"^an event must be a mapping, not {type(bad).__name__}$") as caught:
        attributed(bad, BOTH)
    assert caught.value.field is None


# -- split ---------------------------------------------------------------------------------------------------------


def objects(count: int) -> list[str]:
    return [f"o-{i}" for i in range(count)]


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, [0]), (1, [1]), (19, [19]), (20, [20]), (21, [20, 1]), (40, [20, 20]), (41, [20, 20, 1])]
)
@pytest.mark.parametrize("field", ["objectIDs", "filters"])
def test_split_makes_events_of_at_most_20(field: str, count: int, sizes: list[int]) -> None:
    parts = split({"eventName": "n", field: objects(count)})

    assert [len(part[field]) for part in parts] == sizes
    assert list(itertools.chain(*(part[field] for part in parts))) == objects(count)
    assert all(part["eventName"] == "n" for part in parts)


def test_45_objects_with_positions_and_data_line_up_and_the_value_is_on_the_first() -> None:
    whole = click(
        objectIDs=objects(45),
        positions=list(range(1, 46)),
        objectData=[{"price": i} for i in range(45)],
        value=990,
        currency="EUR",
    )
    parts = split(whole)

    assert [len(part["objectIDs"]) for part in parts] == [20, 20, 5]
    for part in parts:
        numbers = [int(object_id[2:]) for object_id in part["objectIDs"]]
        assert part["positions"] == [number + 1 for number in numbers]
        assert part["objectData"] == [{"price": number} for number in numbers]
        assert (part["queryID"], part["currency"], part["userToken"]) == (QUERY_ID, "EUR", "u")
    assert [part.get("value", ...) for part in parts] == [990, ..., ...]  # there is no quantity


def test_split_takes_any_iterable_and_shares_no_list_with_its_caller() -> None:
    ids, positions = objects(2), (position for position in (1, 2))
    (part,) = split({"objectIDs": ids, "positions": positions})
    ids.append("later")

    assert part == {"objectIDs": objects(2), "positions": [1, 2]}
    assert split({"filters": dict.fromkeys(["a:b", "c:d"]).keys()}) == [{"filters": ["a:b", "c:d"]}]


@pytest.mark.parametrize("field", ["objectIDs", "filters", "positions", "objectData"])
@pytest.mark.parametrize("bad", [None, 7, "o-1", b"o-1", {"o-1": 1}])
def test_what_must_be_a_list_is_one(field: str, bad: Any) -> None:
    with pytest.raises(InvalidEventError, match=rf"^{field} must be a list, not ") as caught:
        split({"objectIDs": objects(1), field: bad} if field != "filters" else {"filters": bad})

    assert caught.value.field == field


@pytest.mark.parametrize("field", ["positions", "objectData"])
@pytest.mark.parametrize("count", [0, 20, 22])
def test_lists_that_do_not_line_up_are_refused(field: str, count: int) -> None:
    with pytest.raises(InvalidEventError, match=rf"^{field} has {count} items for 21 objects$") as caught:
        split({"objectIDs": objects(21), field: [1] * count})

    assert caught.value.field == field


# -- check_after_search --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "good",
    [
        {"queryID": QUERY_ID},
        {"queryID": QUERY_ID, "objectData": [{}]},
        {"objectData": [{"queryID": QUERY_ID}, {"queryID": OTHER_QUERY_ID}]},
        {"objectData": ({"queryID": QUERY_ID} for _ in range(2))},
        {"objectData": [{"price": 1}, {"queryID": QUERY_ID}]},
        {"objectData": [{"queryID": None}, {}, {"queryid": QUERY_ID}]},
        {"objectData": [ObjectDataAfterSearch(query_id=QUERY_ID)]},
    ],
)
def test_event_after_a_search_names_it(good: dict[str, Any]) -> None:
    check_after_search(good)

    assert not good.get("objectData") or isinstance(good["objectData"], list)


@pytest.mark.parametrize(
    ("bad", "field", "message"),
    [
        ({}, "queryID", "queryID must be given: search with clickAnalytics to get one"),
        ({"queryID": None}, "queryID", "queryID must be given"),
        ({"queryID": None, "objectData": [{"queryID": QUERY_ID}]}, "queryID", "queryID must be given"),
        (
            {"objectData": [{}, {"price": 1}]},
            "objectData.queryID",
            "objectData.queryID must be given for one object at least: the search that led to it.",
        ),
        ({"objectData": [{"queryID": None}]}, "objectData.queryID", "objectData.queryID must be given"),
        ({"objectData": ["x"]}, "objectData.queryID", "objectData.queryID must be given"),
        ({"objectData": None}, "objectData", "objectData must be a list, not NoneType"),
    ],
)
def test_event_after_a_search_that_does_not_name_it_is_refused(bad: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        check_after_search(bad)

    assert caught.value.field == field
    assert str(caught.value).startswith(message)


# -- milliseconds --------------------------------------------------------------------------------------------------

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (None, 1_800_000_000_000),
        (0, 0),
        (-5, -5),
        (1_799_999_999_999, 1_799_999_999_999),
        (EPOCH, 0),
        (datetime(2027, 1, 15, 8, 0, 0, 123_000, tzinfo=timezone.utc), 1_800_000_000_123),
        (datetime(2027, 1, 15, 10, 0, 0, 123_999, tzinfo=timezone(timedelta(hours=2))), 1_800_000_000_123),
    ],
)
def test_milliseconds(timestamp: Any, expected: int) -> None:
    assert milliseconds(timestamp) == expected
    assert type(milliseconds(timestamp)) is int


def test_milliseconds_of_a_datetime_are_exact() -> None:
    start = datetime(2026, 8, 1, tzinfo=timezone.utc)
    for i in range(0, 100_000, 7):
        at = start + timedelta(milliseconds=i)
        assert milliseconds(at) == (at - EPOCH) // timedelta(milliseconds=1)


class NoZone(tzinfo):
    def utcoffset(self, at: datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (datetime(2026, 8, 1), "timestamp must have a time zone: datetime.now(timezone.utc), say"),
        (datetime(2026, 8, 1, tzinfo=NoZone()), "timestamp must have a time zone: datetime.now(timezone.utc), say"),
        (1.5, "timestamp must be a datetime or an int of milliseconds, not float"),
        (True, "timestamp must be a datetime or an int of milliseconds, not bool"),
        ("2026-08-01", "timestamp must be a datetime or an int of milliseconds, not str"),
        (datetime(2026, 8, 1).date(), "timestamp must be a datetime or an int of milliseconds, not date"),
    ],
)
def test_what_is_no_time_is_refused(bad: Any, message: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        milliseconds(bad)

    assert (str(caught.value), caught.value.field) == (message, "timestamp")


def test_limits_are_those_of_the_api() -> None:
    assert (model.MAX_OBJECTS, model.MAX_AGE) == (20, DAYS_30)


def test_what_the_caller_changes_afterwards_changes_nothing() -> None:
    class List(list[str]):
        pass

    data, sources, ids = {"price": 1}, ["a"], List(["1"])
    event = {
        "eventType": "conversion",
        "eventSubtype": "purchase",
        "eventName": "Bought",
        "index": "products",
        "objectIDs": ids,
        "objectData": (MappingProxyType(data),),
        "algoliaSource": sources,
    }
    queued = attributed(event, Identity("u-1"), int(NOW * 1000))

    data["price"] = 2
    sources.append("b")
    ids.append("2")

    assert queued is not None
    assert queued["objectIDs"] == ["1"]
    assert queued["objectData"] == [{"price": 1}]
    assert json.dumps(queued["objectData"]) == '[{"price": 1}]'
    assert queued["algoliaSource"] == ["a"]


SEEN = {"eventType": "view", "eventName": "Seen", "index": "products", "userToken": "u", "objectIDs": ["1"]}
BOUGHT = {**SEEN, "eventType": "conversion", "eventSubtype": "purchase"}
CLICKED = {**SEEN, "eventType": "click", "queryID": QUERY_ID, "positions": [1]}


@pytest.mark.parametrize(
    ("event", "field", "text"),
    [
        ({**SEEN, "eventName": ""}, "eventName", "must be a string of 1 to 64 printable ASCII characters"),
        ({**SEEN, "index": ""}, "index", "must be the name of an index"),
        ({**SEEN, "eventType": "buy"}, "eventType", "must be 'click', 'view', 'conversion' or 'instantsearch'"),
        ({**BOUGHT, "eventSubtype": "buy"}, "eventSubtype", "must be 'addToCart' or 'purchase'"),
        ({**SEEN, "filters": ["a:b"]}, "filters", "must not stand beside objectIDs"),
        (
            {**SEEN, "positions": [1]},
            "positions",
            "belong to a click on objects after a search, with its queryID",
        ),
        ({**SEEN, "objectIDs": []}, "objectIDs", "must be a list of 1 to 20 object IDs"),
        ({**CLICKED, "positions": None}, "positions", "must be given for a click after a search"),
        ({**CLICKED, "positions": 1}, "positions", "must be a list"),
        (
            {**CLICKED, "positions": [0]},
            "positions",
            "must be integers of at least 1: position on the page + page × hitsPerPage",
        ),
        ({**BOUGHT, "value": "x" * 17}, "value", "must be a number, or a string of at most 16 characters"),
        ({**BOUGHT, "currency": "EURO"}, "currency", "must be the three letters of ISO 4217, as in 'EUR'"),
        ({**BOUGHT, "objectData": 7}, "objectData", "must be a list"),
        (
            {**BOUGHT, "objectData": ["seven"]},
            "objectData",
            "must hold objects, not a string of 5 characters at position 1",
        ),
        ({**BOUGHT, "objectData": [{"price": []}]}, "objectData.price", "must be a number or a string"),
        ({**BOUGHT, "objectData": [{"quantity": 1.5}]}, "objectData.quantity", "must be an integer of 32 bits"),
        ({**BOUGHT, "objectIDs": None}, "objectIDs", "or filters must be given"),
        ({**SEEN, "objectIDs": None}, "objectIDs", "or filters must be given"),
        ({**SEEN, "objectIDs": None, "filters": []}, "filters", "must be a list of 1 to 20 filters"),
        ({**SEEN, "timestamp": "now"}, "timestamp", "must be an integer of milliseconds"),
    ],
)
def test_what_is_wrong_is_said_in_words(event: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        check(event)

    assert caught.value.field == field
    name = " (event 'Seen')" if event["eventName"] else ""
    assert str(caught.value) == f"{field} {text}{name}"


@pytest.mark.parametrize("value", ["1", "x" * 16, 0, -1.5])
def test_a_value_at_its_limits(value: Any) -> None:
    check({**BOUGHT, "value": value})
