from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from waiting import PATIENCE

from algolia_usertoken import EventSender, Identity, InvalidEventError, MemoryDelivery, TokenAwareClientSync
from algolia_usertoken.events.methods import EventMethods
from algolia_usertoken.events.rules import Event
from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.oldest_versions

QUERY_ID = "0123456789abcdef" * 2
DATA = [{"price": 9.5, "discount": "1", "quantity": 2}]
DATA_AFTER_SEARCH = [{**DATA[0], "queryID": QUERY_ID}]


class Recording(EventSender):
    """A sender that keeps what it sends."""

    def __init__(self) -> None:
        self.delivery = MemoryDelivery()
        super().__init__(delivery=self.delivery, user_token="u", background=False, strict=True)

    @property
    def sent(self) -> list[Event]:
        """What was sent since the last time, with who and when."""
        assert self.flush()
        found = [dict(event) for event in self.delivery.events]
        self.delivery.batches.clear()
        return found

    @property
    def events(self) -> list[Event]:
        """What was sent since the last time, without who and when."""
        found = self.sent
        for event in found:
            assert event.pop("userToken") == "u"
            assert event.pop("timestamp")
        return found


@pytest.fixture
def sender() -> Iterator[Recording]:
    with Recording() as sender:
        yield sender


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


def test_the_event_methods_are_twelve() -> None:
    public = [name for name, value in vars(EventMethods).items() if inspect.isfunction(value) and name[0] != "_"]

    assert len(METHODS) == 12
    assert sorted(public) == sorted(name for name, _, _ in METHODS)
    assert issubclass(EventSender, EventMethods)


@each_method
def test_each_method_sends_the_event_of_the_api(
    sender: Recording, name: str, arguments: tuple[Any, ...], event: dict[str, Any]
) -> None:
    assert getattr(sender, name)("Name", "products", *arguments) is True

    assert sender.events == [{"eventName": "Name", "index": "products", **event}]


@each_method
def test_signatures_are_those_of_version_3_of_algoliasearch(
    name: str, arguments: tuple[Any, ...], event: dict[str, Any]
) -> None:
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
def test_arguments_may_be_given_by_name(sender: Recording, call: Callable[[Any], bool], event: dict[str, Any]) -> None:
    call(sender)

    assert sender.events == [{"eventName": "n", "index": "i", **event}]


@pytest.mark.parametrize(("name", "arguments", "event"), WITH_VALUE, ids=[row[0] for row in WITH_VALUE])
def test_value_and_currency_are_sent_with_carts_and_purchases(
    sender: Recording, name: str, arguments: tuple[Any, ...], event: dict[str, Any]
) -> None:
    method = getattr(sender, name)
    paid: dict[str, Any] = {"value": 17.0, "currency": "EUR"}
    if len(arguments) == 1 or arguments[1] == QUERY_ID:
        method("n", "i", *arguments, object_data=DATA, **paid)
        assert sender.events == [{"eventName": "n", "index": "i", **event, "objectData": DATA, **paid}]
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
    before = int(time.time() * 1000)
    method("n", "i", *arguments)
    method("n", "i", *arguments, identity="u-1", timestamp=(at := before - 1000))

    first, second = sender.sent
    assert first["userToken"] == "u"
    assert before <= first["timestamp"] <= time.time() * 1000
    assert (second["userToken"], second["timestamp"]) == ("u-1", at)


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
    (sent,) = sender.events
    for field in ("objectIDs", "filters", "positions"):
        assert sent.get(field) == event.get(field)


@each_method
def test_45_objects_become_three_events(
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


@each_method
def test_what_is_out_of_the_ordinary_is_the_same_event(
    sender: Recording, name: str, arguments: tuple[Any, ...], event: dict[str, Any]
) -> None:
    def generated(argument: Any) -> Any:
        return (each for each in argument) if isinstance(argument, list) else argument

    assert getattr(sender, name)("Name", "products", *map(generated, arguments))

    assert sender.events == [{"eventName": "Name", "index": "products", **event}]


@pytest.mark.parametrize(("name", "arguments", "event"), AFTER_SEARCH, ids=[row[0] for row in AFTER_SEARCH])
def test_that_a_search_is_missing_is_said_before_that_nobody_is_known(
    name: str, arguments: tuple[Any, ...], event: dict[str, Any]
) -> None:
    nothing = [{"price": 1}] if name.startswith("purchased") else None
    nobodys = EventSender(delivery=MemoryDelivery(), background=False, strict=True)

    with pytest.raises(InvalidEventError, match="queryID is missing"):
        getattr(nobodys, name)("n", "i", *arguments[:-1], nothing)
    nobodys.close()


def test_all_twelve_reach_algolia(sync_client: TokenAwareClientSync, algolia: LocalAlgolia) -> None:
    events = sync_client.with_identity(Identity("anon", "login")).events
    for name, arguments, _ in METHODS:
        assert getattr(events, name)("Name", "products", *arguments)
    assert sync_client.events.flush(PATIENCE)

    assert [
        {field: value for field, value in received.event.items() if field != "timestamp"} for received in algolia.events
    ] == [
        {"eventName": "Name", "index": "products", **event, "userToken": "anon", "authenticatedUserToken": "login"}
        for _, _, event in METHODS
    ]
