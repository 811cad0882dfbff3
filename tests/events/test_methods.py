from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from algolia_usertoken import EventSender, Identity, InvalidEventError, TokenAwareClientSync
from algolia_usertoken.events.methods import EventMethods
from algolia_usertoken.events.model import Event, attributed, check_after_search, split
from algolia_usertoken.testing import LocalAlgolia

QUERY_ID = "0123456789abcdef" * 2
DATA = [{"price": 9.5, "discount": "1", "quantity": 2}]
DATA_AFTER_SEARCH = [{**DATA[0], "queryID": QUERY_ID}]


class Recording(EventMethods):
    """Does with an event what a sender does, but for sending it."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.calls: list[tuple[Any, Any]] = []

    def _send_new(
        self,
        event: Event,
        identity: Identity | str | None,
        timestamp: datetime | int | None,
        after_search: bool = False,
    ) -> bool:
        self.calls.append((identity, timestamp))
        if after_search:
            check_after_search(event)
        for part in split(event):
            made = attributed(part, Identity("u"))
            assert made is not None
            assert made.pop("userToken") == "u"
            self.events.append(made)
        return True


@pytest.fixture
def sender() -> Recording:
    return Recording()


# The method, its arguments after event_name and index_name, and the event besides those two.
METHODS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    (
        "clicked_object_ids_after_search",
        (["1", "2"], [3, 21], QUERY_ID),
        {"eventType": "click", "objectIDs": ["1", "2"], "positions": [3, 21], "queryID": QUERY_ID},
    ),
    ("clicked_object_ids", (["1"],), {"eventType": "click", "objectIDs": ["1"]}),
    ("viewed_object_ids", (["1"],), {"eventType": "view", "objectIDs": ["1"]}),
    ("converted_object_ids", (["1"],), {"eventType": "conversion", "objectIDs": ["1"]}),
    ("clicked_filters", (["a:b"],), {"eventType": "click", "filters": ["a:b"]}),
    ("viewed_filters", (["a:b"],), {"eventType": "view", "filters": ["a:b"]}),
    ("converted_filters", (["a:b"],), {"eventType": "conversion", "filters": ["a:b"]}),
    (
        "converted_object_ids_after_search",
        (["1"], QUERY_ID),
        {"eventType": "conversion", "objectIDs": ["1"], "queryID": QUERY_ID},
    ),
    (
        "added_to_cart_object_ids",
        (["1"],),
        {"eventType": "conversion", "eventSubtype": "addToCart", "objectIDs": ["1"]},
    ),
    (
        "added_to_cart_object_ids_after_search",
        (["1"], QUERY_ID),
        {"eventType": "conversion", "eventSubtype": "addToCart", "objectIDs": ["1"], "queryID": QUERY_ID},
    ),
    ("purchased_object_ids", (["1"],), {"eventType": "conversion", "eventSubtype": "purchase", "objectIDs": ["1"]}),
    (
        "purchased_object_ids_after_search",
        (["1"], DATA_AFTER_SEARCH),
        {
            "eventType": "conversion",
            "eventSubtype": "purchase",
            "objectIDs": ["1"],
            "objectData": DATA_AFTER_SEARCH,
        },
    ),
]
WITH_VALUE = [row for row in METHODS if row[0].startswith(("added", "purchased"))]
AFTER_SEARCH = [row for row in METHODS if row[0].endswith("after_search")]

each_method = pytest.mark.parametrize(("name", "arguments", "event"), METHODS, ids=[row[0] for row in METHODS])


def test_there_are_twelve() -> None:
    public = [name for name, value in vars(EventMethods).items() if inspect.isfunction(value) and name[0] != "_"]

    assert len(METHODS) == 12
    assert sorted(public) == sorted(name for name, _, _ in METHODS)
    assert issubclass(EventSender, EventMethods)


@each_method
def test_event_is_the_one_of_the_api(
    sender: Recording, name: str, arguments: tuple[Any, ...], event: dict[str, Any]
) -> None:
    assert getattr(sender, name)("Name", "products", *arguments) is True

    assert sender.events == [{"eventName": "Name", "index": "products", **event}]


@each_method
def test_signatures_are_those_of_v3(name: str, arguments: tuple[Any, ...], event: dict[str, Any]) -> None:
    parameters = list(inspect.signature(getattr(EventMethods, name)).parameters.values())[1:]
    positional = [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    keywords = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]

    assert positional[:2] == ["event_name", "index_name"]
    assert len(positional) == 2 + len(arguments)
    assert positional[2] == ("filters" if name.endswith("filters") else "object_ids")
    assert keywords[-2:] == ["identity", "timestamp"]
    assert all(parameter.default is None for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


@pytest.mark.parametrize(
    ("call", "event"),
    [
        (
            lambda sender: sender.clicked_object_ids_after_search(
                event_name="n", index_name="i", object_ids=["1"], positions=[1], query_id=QUERY_ID
            ),
            {"eventType": "click", "objectIDs": ["1"], "positions": [1], "queryID": QUERY_ID},
        ),
        (
            lambda sender: sender.viewed_filters(event_name="n", index_name="i", filters=["a:b"]),
            {"eventType": "view", "filters": ["a:b"]},
        ),
        (
            lambda sender: sender.purchased_object_ids_after_search(
                event_name="n", index_name="i", object_ids=["1"], object_data=DATA_AFTER_SEARCH
            ),
            {
                "eventType": "conversion",
                "eventSubtype": "purchase",
                "objectIDs": ["1"],
                "objectData": DATA_AFTER_SEARCH,
            },
        ),
    ],
)
def test_arguments_may_be_named(sender: Recording, call: Callable[[Any], bool], event: dict[str, Any]) -> None:
    call(sender)

    assert sender.events == [{"eventName": "n", "index": "i", **event}]


@pytest.mark.parametrize(("name", "arguments", "event"), WITH_VALUE, ids=[row[0] for row in WITH_VALUE])
def test_what_was_paid(sender: Recording, name: str, arguments: tuple[Any, ...], event: dict[str, Any]) -> None:
    method = getattr(sender, name)
    paid: dict[str, Any] = {"value": 17.0, "currency": "EUR"}
    if len(arguments) == 1 or arguments[1] == QUERY_ID:
        method("n", "i", *arguments, object_data=DATA, **paid)
        assert sender.events.pop() == {"eventName": "n", "index": "i", **event, "objectData": DATA, **paid}
    method("n", "i", *arguments, **paid)
    method("n", "i", *arguments, value=0)

    assert sender.events == [
        {"eventName": "n", "index": "i", **event, **paid},
        {"eventName": "n", "index": "i", **event, "value": 0},
    ]


@each_method
def test_identity_and_timestamp_are_handed_on(
    sender: Recording, name: str, arguments: tuple[Any, ...], event: dict[str, Any]
) -> None:
    method = getattr(sender, name)
    method("n", "i", *arguments)
    method("n", "i", *arguments, identity="u-1", timestamp=7)

    assert sender.calls == [(None, None), ("u-1", 7)]


@each_method
def test_nothing_given_is_changed(
    sender: Recording, name: str, arguments: tuple[Any, ...], event: dict[str, Any]
) -> None:
    given = [list(argument) if isinstance(argument, list) else argument for argument in arguments]
    getattr(sender, name)("n", "i", *given)

    assert given == list(arguments)
    for argument in given:
        if isinstance(argument, list):
            argument.append("later")
    for field in ("objectIDs", "filters", "positions"):
        assert sender.events[0].get(field) == event.get(field)


@each_method
def test_45_become_three_events(
    sender: Recording, name: str, arguments: tuple[Any, ...], event: dict[str, Any]
) -> None:
    many = [argument * 45 if isinstance(argument, list) and len(argument) == 1 else argument for argument in arguments]
    if name == "clicked_object_ids_after_search":
        many = [[str(i) for i in range(45)], range(1, 46), QUERY_ID]
    getattr(sender, name)("n", "i", *many)

    field = "filters" if name.endswith("filters") else "objectIDs"
    assert [len(sent[field]) for sent in sender.events] == [20, 20, 5]


@each_method
def test_no_objects_are_an_invalid_event(
    sender: Recording, name: str, arguments: tuple[Any, ...], event: dict[str, Any]
) -> None:
    for nothing in (None, [], "1", 7):
        with pytest.raises(InvalidEventError):
            getattr(sender, name)("n", "i", nothing, *arguments[1:])


@pytest.mark.parametrize(("name", "arguments", "event"), AFTER_SEARCH, ids=[row[0] for row in AFTER_SEARCH])
@pytest.mark.parametrize("nothing", [None, "", [], [None]])
def test_event_after_a_search_needs_the_search(
    sender: Recording, name: str, arguments: tuple[Any, ...], event: dict[str, Any], nothing: Any
) -> None:
    with pytest.raises(InvalidEventError, match=r"queryID|objectData"):
        getattr(sender, name)("n", "i", *arguments[:-1], nothing)


def test_clicks_after_a_search_need_positions(sender: Recording) -> None:
    for nothing in (None, [], [0]):
        with pytest.raises(InvalidEventError, match="positions"):
            sender.clicked_object_ids_after_search("n", "i", ["1"], nothing, QUERY_ID)  # type: ignore[arg-type]


def test_base_class_sends_nothing() -> None:
    with pytest.raises(NotImplementedError):
        EventMethods().viewed_object_ids("n", "i", ["1"])


def test_all_twelve_reach_algolia(sync_client: TokenAwareClientSync, algolia: LocalAlgolia) -> None:
    events = sync_client.with_identity(Identity("anon", "login")).events
    for name, arguments, _ in METHODS:
        assert getattr(events, name)("Name", "products", *arguments)
    assert sync_client.events.flush(10)

    assert [
        {field: value for field, value in received.event.items() if field != "timestamp"} for received in algolia.events
    ] == [
        {"eventName": "Name", "index": "products", **event, "userToken": "anon", "authenticatedUserToken": "login"}
        for _, _, event in METHODS
    ]
