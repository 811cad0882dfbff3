"""The text of an event: an ordinary one is written at once, and is what the longer way makes of it."""

from __future__ import annotations

import copy
import json
import time
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from valid_events import NOW, QUERY_ID, click, event, filters, purchase

from algolia_usertoken import EventSender, Identity, InvalidEventError, MemoryDelivery, TokenProvider
from algolia_usertoken.events.model import attributed
from algolia_usertoken.events.text import encoded, has_known_fields, without_nones, written_event

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
    "nobody's": event(userToken=None),
    "nobody's but a login's": event(userToken=..., authenticatedUserToken="l"),
}


@pytest.mark.parametrize("given", WRITTEN.values(), ids=WRITTEN.keys())
@pytest.mark.parametrize("identity", [Identity("anon"), BOTH], ids=["a token", "a login, too"])
def test_an_ordinary_event_is_written_as_the_longer_way_would(given: dict[str, Any], identity: Identity) -> None:
    before = copy.deepcopy(given)
    assert has_known_fields(given)
    text = written_event(given, identity, MS)

    assert text is not None
    assert json.loads(text) == json.loads(the_longer_way(given, identity))
    assert b":null" not in text
    assert given == before


SLOWLY = {
    "a position that is a float": click(objectIDs=["1"], positions=[1.0]),
    "a tuple of items": purchase(objectData=({},)),
    "an unknown field": event(colour="red"),
    "a name in another case": event(objectIDs=..., objectIds=["1"]),
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
    assert not has_known_fields(given) or written_event(given, BOTH, MS) is None


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
    assert written_event(event(userToken=...), identity, MS) is None
    assert written_event(event(), identity, MS) is not None


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
