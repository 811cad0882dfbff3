"""The text of an event: an ordinary one is written at once, and is what the longer way makes of it."""

from __future__ import annotations

import copy
import itertools
import json
import time
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from valid_events import NOW, QUERY_ID, click, event, filters, purchase

from algolia_usertoken import EventSender, Identity, InvalidEventError, MemoryDelivery, TokenProvider
from algolia_usertoken.events import text
from algolia_usertoken.events.accepting import text_of
from algolia_usertoken.events.model import attributed
from algolia_usertoken.events.rules import object_data_text
from algolia_usertoken.events.text import encoded, ended, without_nones, written_event

MS = int(NOW * 1000)
BOTH = Identity("anon", "login")


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands."""
    monkeypatch.setattr(time, "time", lambda: NOW)


def the_longer_way(given: Any, identity: Identity | None) -> bytes:
    made = attributed(given, identity, MS)
    assert made is not None
    return encoded(made)


def the_short_way(given: Any, identity: Identity | None) -> bytes | None:
    ordinary = written_event(given)
    return None if ordinary is None else ended(ordinary, identity, MS)


MONEY = {"value": 19, "currency": "EUR", "objectData": [{"price": 9.5, "discount": "0", "quantity": 2}]}
WRITTEN = {
    "a click after a search": click(objectIDs=["1", "2"], positions=[1, 41]),
    "a view": event(),
    "tuples": click(objectIDs=("1", "2"), positions=(1, 2)),
    "filters": filters(filters=['a:"', "b:\\", "ключ:🔑"]),
    "filters of a click after a search": filters(eventType="click", queryID=QUERY_ID),
    "texts with quotes": click(
        eventName='"\\', index='"\n\u2028é', objectIDs=['"', "\\", "\x00", "🔑"], positions=[1] * 4
    ),
    "an answer of an agent": event(eventType="conversion", queryID='message_"\\'),
    "twenty objects": event(objectIDs=[str(number) for number in range(20)]),
    "a purchase": purchase(**MONEY),
    "a cart": purchase(eventSubtype="addToCart", queryID=QUERY_ID, **MONEY),
    "a purchase without anything": purchase(),
    "amounts that are texts": purchase(value='"\\', objectData=[{"price": '"', "discount": "\\"}]),
    "amounts of any size": purchase(value=-(10**300), objectData=[{"price": 1e-300, "discount": 1e300}]),
    "items of a purchase": purchase(objectIDs=["1", "2"], objectData=[{"queryID": QUERY_ID, "price": None}, {}]),
    "a login of its own": event(authenticatedUserToken="l"),
    "a time of its own": event(timestamp=MS - 1000),
    "nulls": event(queryID=None, filters=None, positions=None, timestamp=None, value=None, eventSubtype=None),
    "a view of twenty texts, one with quotes": event(objectIDs=[*map(str, range(19)), '"'], algoliaSource=["a", ""]),
    "ids with quotes at their ends": event(objectIDs=['a"', '"b', '","', '""']),
    "ids of a subclass of a string": event(objectIDs=["1", type("Text", (str,), {"__str__": lambda self: "x"})("2")]),
    "ids of other scripts": event(objectIDs=["ключ", "🔑", "é"]),
    "items with a discount and a search": purchase(
        objectData=[{"price": 10, "discount": "1", "quantity": 1, "queryID": QUERY_ID}]
    ),
    "items without a discount": purchase(objectData=[{"price": 9.5, "discount": 0.0, "quantity": 1}]),
    "prices of zero": purchase(
        objectIDs=["1", "2"], objectData=[{"price": -0.0, "quantity": 0}, {"price": 0.0, "quantity": 0}]
    ),
    "items with a discount": purchase(objectData=[{"price": "10", "discount": 1, "quantity": -1}]),
    "items with a search and no quantity": purchase(objectData=[{"price": 1.5, "queryID": QUERY_ID, "discount": None}]),
    "what InstantSearch sends": event(algoliaSource=["instantsearch", "instantsearch-internal"]),
    "a source that says nothing": event(algoliaSource=[]),
    "sources with quotes": event(algoliaSource=['"', "\u2028"], colour=['","', "é"]),
    "a field of another type of event": event(agentID=7),
    "unknown fields": event(
        colour="rôt", n=1, x=1.5, yes=True, no=False, none=None, o={"a": [None, {"ü": 1e9}]}, e=[], l=[1, "a"]
    ),
    "unknown fields of strange names": event(**{"": 1, "é\"'{}\n": 2, "Colour-Of": 3, "a" * 1000: 4}),
    "unknown fields that hold what JSON has no own form for": event(
        price=Decimal("1.5"), ids=(1, Decimal(2)), of={1: 2, "1": 3}, text=type("Text", (str,), {})("é")
    ),
    "a purchase with an unknown field": purchase(store="b", **MONEY),
    "a use of InstantSearch": event(
        eventType="instantsearch", agentID="a", objectIDs=..., index=..., colour=["red"], userToken=None
    ),
    "a use of InstantSearch by an agent": event(eventType="instantsearch", objectIDs=..., index=..., agentID='"a"'),
    "a use of InstantSearch by nobody in particular": event(
        eventType="instantsearch", objectIDs=..., index=..., agentID=None
    ),
    "nobody's": event(userToken=None),
    "nobody's but a login's": event(userToken=..., authenticatedUserToken="l"),
}


@pytest.mark.parametrize("given", WRITTEN.values(), ids=WRITTEN.keys())
@pytest.mark.parametrize("identity", [Identity("anon"), BOTH], ids=["a token", "a login, too"])
def test_an_ordinary_event_is_written_as_the_longer_way_would(given: dict[str, Any], identity: Identity) -> None:
    for each in (given, {name: value for name, value in given.items() if name != "userToken"}):
        before = copy.deepcopy(each)
        short = the_short_way(each, identity)

        assert short is not None
        assert json.loads(short) == json.loads(the_longer_way(each, identity))
        assert b":null" not in short.replace(b"[null,", b"")
        assert each == before


endless: list[Any] = []
endless.append(endless)
SLOWLY = {
    "a position that is a float": click(objectIDs=["1"], positions=[1.0]),
    "a tuple of items": purchase(objectData=({},)),
    "a name in another case": event(objectIDs=..., objectIds=["1"]),
    "a name that is nearly an agent's": event(agentId="a"),
    "a name with a hyphen": event(**{"object-data": 1}),
    "a name of a subclass": event(**{type("Text", (str,), {})("colour"): 1}),
    "a name that is none": event() | {1: 2},
    "a name with a lone surrogate": event(**{"\ud800": 1}),
    "an unknown field with a lone surrogate": event(colour=["\ud800"]),
    "an unknown field without a JSON form": event(colour={1}),
    "an unknown number that is none": event(colour=float("inf")),
    "an unknown number of thousands of digits": event(colour=10**5000),
    "an unknown field without an end": event(colour=endless),
    "an empty id": event(objectIDs=["1", ""]),
    "an empty id beside quotes": event(objectIDs=["", '"']),
    "an id that is no text": event(objectIDs=["1", 2]),
    "a price without an end": purchase(objectData=[{"price": float("inf"), "quantity": 1}]),
    "a price beyond all floats": purchase(objectData=[{"price": 10**400, "quantity": 1}]),
    "a quantity of more than 32 bits": purchase(objectData=[{"price": 1, "quantity": 2**31}]),
    "a search that is none": purchase(objectData=[{"price": 1, "quantity": 1, "queryID": QUERY_ID.upper()}]),
    "three fields of which one is unknown": purchase(objectData=[{"price": 1, "quantity": 1, "colour": "red"}]),
    "four fields of which one is unknown": purchase(
        objectData=[{"price": 1, "quantity": 1, "queryID": QUERY_ID, "colour": "red"}]
    ),
    "a use of InstantSearch with an agent that is none": event(
        eventType="instantsearch", objectIDs=..., index=..., agentID=""
    ),
    "another type": event(eventType="buy"),
    "an event name that is none": event(eventName="é"),
    "a query ID that is none": event(queryID=QUERY_ID.upper()),
    "ids of a database": event(objectIDs=[1]),
    "a decimal": purchase(value=Decimal("1.5")),
    "a subclass of a list": event(objectIDs=type("List", (list,), {})(["1"])),
    "a subclass of a string": event(eventName=type("Text", (str,), {})("Seen")),
    "a lone surrogate": event(objectIDs=["\ud800"]),
    "a lone surrogate in a name": event(index="\ud800"),
    "a number of thousands of digits": click(positions=[10**5000]),
    "both lists": event(filters=["a:b"]),
    "neither list": event(objectIDs=...),
    "positions of a view": event(positions=[1]),
    "positions of a purchase": purchase(positions=[1]),
    "positions of a purchase after a search": purchase(queryID=QUERY_ID, positions=[1]),
    "filters of a purchase": purchase(filters=["a:b"]),
    "filters beside an unknown field": event(filters=["a:b"], colour="red"),
    "a currency of a plain conversion": event(eventType="conversion", currency="EUR", algoliaSource=["a"]),
    "items of a click": click(objectData=[{}]),
    "an index of a use of InstantSearch": event(eventType="instantsearch", objectIDs=..., agentID="a"),
    "no index of a use of InstantSearch": event(eventType="instantsearch", objectIDs=..., index=None, agentID="a"),
    "a use of InstantSearch without a name": {"eventType": "instantsearch", "agentID": "a"},
    "a use of InstantSearch with a name that is none": {"eventType": "instantsearch", "eventName": "é"},
    "a source that is no text": event(algoliaSource=[{1}]),
    "a source of nobody that is no text": event(userToken=..., algoliaSource=[{1}]),
    "positions of a click without a search": event(eventType="click", positions=[1]),
    "no positions of a click after a search": click(positions=...),
    "too few positions": click(objectIDs=["1", "2"]),
    "21 objects": event(objectIDs=[str(number) for number in range(21)]),
    "a subtype of a click": event(eventType="click", eventSubtype="purchase"),
    "a subtype of filters": filters(eventType="conversion", eventSubtype="purchase"),
    "another subtype": purchase(eventSubtype="buy"),
    "money of a plain conversion": event(eventType="conversion", value=1),
    "too few items": purchase(objectIDs=["1", "2"], objectData=[{}]),
    "an item of no kind": purchase(objectData=[{"colour": "red"}]),
    "no item": purchase(objectData=[None]),
    "an amount that is none": purchase(value=float("nan")),
    "a currency that is none": purchase(currency="EURO"),
    "an event of instantsearch": event(eventType="instantsearch"),
    "no type": event(eventType=["view"]),
    "a subtype that can't be compared": purchase(eventSubtype=["purchase"]),
    "no token": event(userToken="a@b"),
    "a token of a subclass": event(userToken=type("Text", (str,), {})("u")),
    "no login": event(authenticatedUserToken=""),
    "an old one": event(timestamp=1),
    "no event": [event()],
}


@pytest.mark.parametrize("given", SLOWLY.values(), ids=SLOWLY.keys())
def test_whatever_is_out_of_the_ordinary_is_left_to_the_longer_way(given: Any) -> None:
    assert the_short_way(given, BOTH) is None


def test_an_event_with_a_token_of_its_own_asks_nobody() -> None:
    def resolve() -> str:
        raise RuntimeError("nobody may ask")

    delivery = MemoryDelivery()
    with EventSender(
        delivery=delivery, background=False, token_provider=TokenProvider(resolve=resolve), strict=True
    ) as sender:
        for given in (
            event(),
            event(colour="red"),
            event(userToken=..., usertoken="u"),
            MappingProxyType(event()),
            event(objectIDs=(1,)),
        ):
            assert sender.send(given)

    assert [each["userToken"] for each in delivery.events] == ["u"] * 5


@pytest.mark.parametrize("identity", [None, Identity(), Identity(opted_out=True)])
def test_an_event_of_nobody_takes_the_longer_way(identity: Identity | None) -> None:
    assert not the_short_way(event(userToken=...), identity)
    assert the_short_way(event(), identity)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"index": "\ud800"}, "UnicodeEncodeError"),
        ({"objectIDs": ["1", "\udfff"]}, "UnicodeEncodeError"),
        ({"filters": ["a:\ud800"], "objectIDs": ...}, "UnicodeEncodeError"),
        ({"eventType": "conversion", "eventSubtype": "purchase", "value": "\ud800"}, "UnicodeEncodeError"),
        (
            {"eventType": "conversion", "eventSubtype": "purchase", "objectData": [{"price": "\ud800"}]},
            "UnicodeEncodeError",
        ),
    ],
)
def test_what_is_no_unicode_is_refused_at_the_door(bad: dict[str, Any], why: str) -> None:
    delivery = MemoryDelivery()
    told: list[Any] = []
    with EventSender(
        delivery=delivery, background=False, user_token="u", on_error=lambda *what: told.append(what)
    ) as sender:
        given = event(**bad)
        assert not sender.send(given)
        if bad.get("objectIDs") is not ... and "eventSubtype" not in bad:
            assert not sender.viewed_object_ids("Seen", given["index"], given["objectIDs"])
        assert sender.stats.refused == len(told)
        assert sender.stats.accepted == 0

    for error, events in told:
        assert isinstance(error, InvalidEventError)
        assert str(error) == f"the event has no JSON form: {why} (event 'Seen')"
        assert error.__context__ is None
        assert len(events) == 1
    assert told[0][1][0] is given


def test_parts_of_one_call_are_put_all_or_none() -> None:
    delivery = MemoryDelivery()
    with EventSender(delivery=delivery, background=False, user_token="u", max_queue_size=2) as sender:
        assert not sender.viewed_object_ids("Seen", "products", [str(number) for number in range(41)])
        assert sender.stats[:1] + sender.stats[4:7] == (0, 0, 0, 3)
        assert not sender.viewed_object_ids("Seen", "products", [*map(str, range(39)), "\ud800"])
        assert sender.viewed_object_ids("Seen", "products", [str(number) for number in range(40)])
        assert sender.flush()

    assert [len(each["objectIDs"]) for each in delivery.events] == [20, 20]


PRICES = [9.5, 10.0, 0.0, -0.0, 1e300, float("inf"), float("nan"), 7, -(10**308), 10**309, "9.50", '"', True, None, [1]]
QUANTITIES = [1, 0, -(2**31), 2**31 - 1, 2**31, True, 1.0, "1", None]
SEARCHES = [QUERY_ID, QUERY_ID.upper(), QUERY_ID[2:], QUERY_ID + "ab", "", " " * 32, "message_x", 7, None]


@pytest.mark.parametrize("price", PRICES)
def test_items_are_written_as_they_are_field_by_field(price: Any) -> None:
    for discount, quantity, search in itertools.product(PRICES, QUANTITIES, SEARCHES):
        fields = {"queryID": search, "quantity": quantity, "discount": discount, "price": price}
        data = {name: value for name, value in fields.items() if value is not None}
        expected = object_data_text(data)
        assert text._object_data_texts([data], 1) == expected, data
        assert text._object_data_texts([{"queryID": "f" * 32, "price": 1, "quantity": 1}, data], 2) == (
            expected and f'{{"price":1,"quantity":1,"queryID":"{"f" * 32}"}},{expected}'
        ), data
        assert text._object_data_texts([data], 2) is None


@pytest.mark.parametrize("given", [event(userToken=...), purchase(userToken=..., authenticatedUserToken="l", **MONEY)])
def test_nothing_is_written_of_a_visitor_who_opted_out(given: dict[str, Any]) -> None:
    out = Identity("anon", opted_out=True)
    assert the_short_way(given, out) == b""
    assert text_of(given, out, MS) is None

    own = the_short_way(given | {"userToken": "u"}, out)
    assert own
    assert json.loads(own)["userToken"] == "u"

    with EventSender(delivery=MemoryDelivery(), background=False, user_token=out, strict=True) as sender:
        assert not sender.send(given)
        assert not sender.viewed_object_ids("Seen", "products", ["1"])
        assert sender.stats.accepted == 0

    # That it is no Unicode is said, whoever sends it.
    assert the_short_way(given | {"colour": "\ud800"}, out) is None


def test_what_the_caller_changes_after_the_call_changes_nothing() -> None:
    delivery = MemoryDelivery()
    ids, item = ["1"], {"price": 1}
    given = purchase(objectIDs=ids, objectData=[item])
    with EventSender(delivery=delivery, background=False) as sender:
        assert sender.send(given)
        ids.append("2")
        item["price"] = 2
        given["index"] = "other"

    (sent,) = delivery.events
    assert sent == purchase(objectData=[{"price": 1}], timestamp=MS)


def test_fields_that_are_none_are_left_out_on_the_longer_way_too() -> None:
    assert without_nones({"a": None, "b": [None], "objectData": ({"price": None, "quantity": 1}, 7)}) == {
        "b": [None],
        "objectData": [{"quantity": 1}, 7],
    }


def test_what_json_knows_no_form_of_is_said_and_not_quoted() -> None:
    for bad, why in (({1}, "Object of type set is not JSON serializable"), (float("nan"), "ValueError")):
        with pytest.raises(InvalidEventError) as caught:
            encoded(event(colour=bad))
        assert str(caught.value) == f"the event has no JSON form: {why} (event 'Seen')"


def test_what_is_remembered_of_names_stays_small_whatever_is_sent() -> None:
    for number in range(1_100):
        assert the_short_way(event(index=f"products-{number}", **{f"colour-{number}": 1}), BOTH) is not None
        assert the_short_way({"eventType": "instantsearch", "eventName": f"Used {number}"}, BOTH) is not None
        assert the_short_way(purchase(objectData=[{"price": number + 0.5, "quantity": 1}]), BOTH) is not None
    assert the_short_way(event(index="i" * 1_000, **{"c" * 1_000: 1}), BOTH) is not None

    assert 0 < text._price.cache_info().currsize <= 1_024
    for remembered in (text._starts, text._starts_of_usage, text._unknown):
        assert 0 < len(remembered) <= 1_000
        assert max(map(len, remembered.values())) <= 500
