from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

import pytest
from valid_events import NOW, QUERY_ID, check, click, event, filters, purchase

from algolia_usertoken import Identity, InvalidEventError
from algolia_usertoken.events.model import attributed

pytestmark = pytest.mark.oldest_versions


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands."""
    monkeypatch.setattr(time, "time", lambda: NOW)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (event(event_name="x"), "event_name is not a field of an event: use eventName"),
        (event(event_name=None), "event_name is not a field of an event: use eventName"),
        (event(eventName=..., event_name="x"), "event_name is not a field of an event: use eventName"),
        (
            event(eventType=..., event_type="view"),
            "event_type is not a field of an event: use eventType",
        ),
        (
            event(objectIDs=..., object_ids=["1"]),
            "object_ids is not a field of an event: use objectIDs",
        ),
        (event(**{"object-ids": ["1"]}), "object-ids is not a field of an event: use objectIDs"),
        (event(user_token="u"), "user_token is not a field of an event: use userToken"),
        (event(Authenticated_User_Token="u"), None),
        (click(query_id=QUERY_ID), "query_id is not a field of an event: use queryID"),
        (event(eventType="conversion", event_subtype="purchase"), None),
        (purchase(object_data=[{}]), "object_data is not a field of an event: use objectData"),
        (event(eventType="conversion", object_data=[{}]), None),
        ({"eventType": "instantsearch", "eventName": "Used", "userToken": "u", "agent_id": "a"}, None),
        (event(objectIds=["1"]), "objectIDs is there twice, in different spellings"),
        (
            event(objectIDs=None, objectIds=["1"]),
            "objectIDs is there twice, in different spellings",
        ),
        (event(objectIDs=..., objectIds=["1"], objectids=["1"]), None),
        (event(EventType="view"), "eventType is there twice, in different spellings"),
        (event() | {7: 1}, "the name of a field must be a string, not int"),
        (event() | {None: 1}, "the name of a field must be a string, not NoneType"),
        (event() | {b"objectIDs": ["1"]}, "the name of a field must be a string, not bytes"),
        (event(**{"\ud800": 1}), "an unknown field has no JSON form: UnicodeEncodeError"),
        (event(colour=object()), "colour has no JSON form: TypeError"),
        (event(**{"a@b": {1, 2}}), "an unknown field has no JSON form: TypeError"),
        (purchase(objectData=[{"colour": "red"}]), "objectData.colour is not a field of an event"),
        (purchase(objectData=[{7: 1}]), "objectData: int is not a field of an event"),
        (
            purchase(objectData=[{"a@b": 1}]),
            "objectData: a string of 3 characters is not a field of an event",
        ),
        (
            purchase(objectData=[{"query_id": QUERY_ID}]),
            "objectData.query_id is not a field of an event: use queryID",
        ),
        (
            purchase(objectData=[{"price": 1, "Price": 1}]),
            "objectData.price is there twice, in different spellings",
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


@pytest.mark.slow
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


def test_any_mapping_is_an_event() -> None:
    given: Mapping[str, Any] = MappingProxyType(event())
    made = attributed(given, None)

    assert type(made) is dict
    assert made == event()


@pytest.mark.parametrize("bad", [None, 7, "text", object(), [1], ["ab", 7]])
def test_event_that_is_no_mapping_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidEventError, match=rf"^an event must be a mapping, not {type(bad).__name__}$") as caught:
        attributed(bad, Identity("u"))
    assert caught.value.field is None


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
