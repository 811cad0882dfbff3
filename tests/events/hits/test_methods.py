"""Events that come of hits, in another request than the search."""

from __future__ import annotations

import copy
import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from waiting import PATIENCE

from algolia_usertoken import (
    EventSender,
    HitReference,
    Identity,
    InvalidEventError,
    MemoryDelivery,
    MissingUserTokenError,
    TokenAwareClient,
    TokenAwareClientSync,
    identity_scope,
)
from algolia_usertoken.events.hits.methods import ReferenceMethods
from algolia_usertoken.events.methods import EventMethods
from algolia_usertoken.events.model import Event
from algolia_usertoken.testing import LocalAlgolia

SECRET = "a secret of the shop"
A, B = "a" * 32, "b" * 32
METHODS = ("clicked", "converted", "added_to_cart", "purchased")
WITH_VALUE = METHODS[2:]

each_method = pytest.mark.parametrize("method", METHODS)


class Told:
    """A sender that keeps its events, and what `on_error` is told."""

    def __init__(self) -> None:
        self.errors: list[tuple[Exception, Sequence[Event]]] = []
        self.delivery = MemoryDelivery()
        self.sender = EventSender(
            delivery=self.delivery,
            user_token="u-1",
            background=False,
            on_error=lambda error, events: self.errors.append((error, events)),
        )

    @property
    def events(self) -> list[Event]:
        """What was sent since the last time, without who, when, and the name."""
        self.sender.flush()
        found = [dict(event) for event in self.delivery.events]
        self.delivery.batches.clear()
        for event in found:
            assert event.pop("userToken") == "u-1"
            assert event.pop("timestamp")
            assert event.pop("eventName") == "Name"
        return found


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    with told.sender:
        yield told


def hit(object_id: str, query_id: str | None = A, position: int | None = 1, **more: Any) -> HitReference:
    index_name = more.pop("index_name", "shoes")
    return HitReference(query_id, index_name, object_id, position, **{"user_token": "u-1", **more})


def test_each_method_sends_the_event_of_the_api(told: Told) -> None:
    one = hit("1", position=21)
    paid: dict[str, Any] = {"object_data": [{"price": 9.5, "quantity": 2}], "value": 19, "currency": "EUR"}

    assert told.sender.clicked("Name", one) is True
    assert told.sender.converted("Name", one) is True
    assert told.sender.added_to_cart("Name", one) is True
    assert told.sender.added_to_cart("Name", one, **paid) is True
    assert told.sender.purchased("Name", one) is True
    assert told.sender.purchased("Name", one, **paid) is True

    about = {"index": "shoes", "objectIDs": ["1"]}
    to_cart = {"eventType": "conversion", "eventSubtype": "addToCart", **about, "queryID": A}
    purchase = {"eventType": "conversion", "eventSubtype": "purchase", **about}
    total = {"value": 19, "currency": "EUR"}
    assert told.events == [
        {"eventType": "click", **about, "positions": [21], "queryID": A},
        {"eventType": "conversion", **about, "queryID": A},
        to_cart,
        {**to_cart, "objectData": [{"price": 9.5, "quantity": 2}], **total},
        {**purchase, "objectData": [{"queryID": A}]},
        {**purchase, "objectData": [{"price": 9.5, "quantity": 2, "queryID": A}], **total},
    ]


def test_a_reference_without_a_search_sends_an_event_without_one(told: Told) -> None:
    one = HitReference(None, "shoes", "1")
    for method in METHODS:
        assert getattr(told.sender, method)("Name", one) is True

    about = {"index": "shoes", "objectIDs": ["1"]}
    assert told.events == [
        {"eventType": "click", **about},
        {"eventType": "conversion", **about},
        {"eventType": "conversion", "eventSubtype": "addToCart", **about},
        {"eventType": "conversion", "eventSubtype": "purchase", **about},
    ]


@each_method
def test_signatures_are_alike(method: str) -> None:
    parameters = inspect.signature(getattr(ReferenceMethods, method)).parameters
    paid = ["object_data", "value", "currency"] if method in WITH_VALUE else []

    assert list(parameters) == ["self", "event_name", "references", *paid, "identity", "timestamp"]
    assert parameters["references"].kind is inspect.Parameter.VAR_POSITIONAL
    assert issubclass(EventSender, ReferenceMethods)
    assert not set(METHODS) & set(vars(EventMethods))


# -- Whose search, whose event -----------------------------------------------------------------------------------------


@each_method
def test_what_was_made_for_another_goes_without_the_query_id(told: Told, method: str) -> None:
    theirs, nobodys = hit("1", user_token="u-2"), hit("1", user_token=None)
    verified = [HitReference.verify(one.sign(SECRET), SECRET) for one in (theirs, nobodys)]
    for one in (theirs, nobodys, *verified):
        assert getattr(told.sender, method)("Name", one) is True

    for event in told.events:
        assert event["objectIDs"] == ["1"]
        assert not {"queryID", "positions", "objectData"} & set(event)


@each_method
def test_whose_event_it_is_is_asked_once_and_counts(told: Told, method: str) -> None:
    send = getattr(told.sender, method)

    assert send("Name", hit("1", user_token="u-2"), identity="u-2", timestamp=None)
    assert send("Name", hit("1", user_token="u-2"), identity=Identity("u-2", "login"))
    assert send("Name", hit("1", user_token="login"), identity=Identity("u-2", "login"))
    assert send("Name", hit("1", user_token="login"), identity=Identity(authenticated_user_token="login"))
    with identity_scope("u-3"):
        assert send("Name", hit("1", user_token="u-3"))
    assert getattr(told.sender.with_identity("u-4"), method)("Name", hit("1", user_token="u-4"))

    told.sender.flush()
    found = [
        (event["userToken"], event.get("authenticatedUserToken"), A in str(event)) for event in told.delivery.events
    ]
    assert found == [
        ("u-2", None, True),
        ("u-2", "login", True),
        ("u-2", "login", False),  # the search carried another token than the event
        ("login", "login", True),
        ("u-3", None, True),
        ("u-4", None, True),
    ]


@each_method
def test_who_opted_out_sends_nothing(told: Told, method: str) -> None:
    for who in (Identity("u-1", opted_out=True), Identity(opted_out=True)):
        assert getattr(told.sender, method)("Name", hit("1"), hit("2", B), identity=who) is False

    assert told.events == told.errors == []
    assert told.sender.stats.refused == 0


@each_method
def test_an_event_of_nobody_is_refused(told: Told, method: str) -> None:
    for one in (hit("1"), hit("1", user_token=None), HitReference(None, "shoes", "1")):
        assert getattr(told.sender, method)("Name", one, identity=Identity()) is False

    assert told.events == []
    assert [type(error) for error, _ in told.errors] == [MissingUserTokenError] * 3


# -- Groups ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["clicked", "converted", "added_to_cart"])
def test_there_is_one_event_per_index_and_query_in_order(told: Told, method: str) -> None:
    hits = [
        hit("1", A, 5),
        hit("2", B, 6),
        hit("3", A, 2),
        hit("4", A, 9, index_name="hats"),
        hit("5", None, 3),
        hit("6", A, 7, user_token="u-2"),
        hit("7", B, 1),
        hit("3", A, 2),
    ]
    assert getattr(told.sender, method)("Name", *hits) is True

    sent = [(one["index"], one.get("queryID"), one["objectIDs"], one.get("positions")) for one in told.events]
    positions = [[5, 2, 2], [6, 1], [9], None] if method == "clicked" else [None] * 4
    assert sent == [
        ("shoes", A, ["1", "3", "3"], positions[0]),
        ("shoes", B, ["2", "7"], positions[1]),
        ("hats", A, ["4"], positions[2]),
        ("shoes", None, ["5", "6"], positions[3]),
    ]


def test_a_click_needs_a_position_to_be_attributed_and_a_conversion_does_not(told: Told) -> None:
    told.sender.clicked("Name", hit("1", position=None), hit("2", position=3), hit("3", position=None))
    told.sender.converted("Name", hit("1", position=None), hit("2", position=3))

    sent = [(one.get("queryID"), one["objectIDs"], one.get("positions")) for one in told.events]
    assert sent == [(None, ["1", "3"], None), (A, ["2"], [3]), (A, ["1", "2"], None)]


def test_a_purchase_is_one_event_per_index_whether_a_search_led_to_it_or_not(told: Told) -> None:
    hits = [
        hit("1", A),
        HitReference(None, "shoes", "2"),
        hit("3", B),
        hit("4", A, user_token="u-2"),
        hit("5", A, index_name="hats"),
    ]
    data = [{"price": number, "quantity": 1} for number in range(1, 6)]
    assert told.sender.purchased("Name", *hits, object_data=data, value="19.90", currency="EUR") is True

    purchase = {"eventType": "conversion", "eventSubtype": "purchase", "currency": "EUR"}
    assert told.events == [
        {
            **purchase,
            "index": "shoes",
            "objectIDs": ["1", "2", "3", "4"],
            "objectData": [
                {"price": 1, "quantity": 1, "queryID": A},
                {"price": 2, "quantity": 1},
                {"price": 3, "quantity": 1, "queryID": B},
                {"price": 4, "quantity": 1},
            ],
            "value": "14.90",  # its own 10, and the 4.90 that no item has
        },
        {
            **purchase,
            "index": "hats",
            "objectIDs": ["5"],
            "objectData": [{"price": 5, "quantity": 1, "queryID": A}],
            "value": "5",
        },
    ]


@pytest.mark.parametrize(
    ("hits", "data"),
    [
        ([hit("1", None), hit("2", None)], None),
        ([hit("1", A, user_token="u-2"), hit("2", A, user_token=None)], None),
        ([hit("1", A), hit("2", None)], [{"queryID": A}, {}]),
        ([hit("1", "message_abc"), hit("2", "message_abc")], None),  # which an item can't name
    ],
)
def test_a_purchase_needs_no_search(told: Told, hits: list[HitReference], data: Any) -> None:
    assert told.sender.purchased("Name", *hits) is True

    purchase = {"eventType": "conversion", "eventSubtype": "purchase", "index": "shoes", "objectIDs": ["1", "2"]}
    assert told.events == [purchase if data is None else {**purchase, "objectData": data}]


def test_a_message_of_an_agent_is_named_by_all_but_purchases(told: Told) -> None:
    one = hit("1", "message_abc")
    for method in METHODS:
        assert getattr(told.sender, method)("Name", one) is True

    assert [event.get("queryID") for event in told.events] == ["message_abc"] * 3 + [None]


@pytest.mark.parametrize(
    ("data", "value", "shares"),
    [
        ([{"price": 0.1, "quantity": 3}, {"price": 0.2, "quantity": 1}], 0.5, [0.3, 0.2]),
        ([{"price": 0.1, "quantity": 3}, {"price": 0.2, "quantity": 1}], 5.4, [5.2, 0.2]),
        ([{"price": 10, "quantity": 3}, {"price": 20, "quantity": 1}], 40, [20, 20]),  # less, by a voucher
        ([{"price": 10, "quantity": 3}, {"price": 20, "quantity": 1}], 50, [30, 20]),
        ([{"price": "0.10", "quantity": 3}, {"price": "0.20", "quantity": 1}], "1.00", ["0.80", "0.20"]),
        ([{"price": Decimal("0.10"), "quantity": 3}, {"price": 0.2, "quantity": 1}], Decimal("1.00"), [0.8, 0.2]),
        ([{"price": 2, "discount": 1, "quantity": 3}, {"price": 2, "quantity": 1}], 8, [6, 2]),  # off already
        ([{"price": 1, "quantity": 3}, {"price": 2}], 5, [5, None]),
        ([{"price": 1, "quantity": 3}, {"quantity": 2}], 5, [5, None]),
        ([{"price": "three", "quantity": 3}, {"price": 2, "quantity": 2}], 5, [5, None]),
        ([{"price": 1, "quantity": 3}, {"price": 2, "quantity": 2}], "five", ["five", None]),
        ([{"price": 1e300, "quantity": 3}, {"price": 1e-300, "quantity": 2}], 5, [5, None]),
        ([{"price": 1, "quantity": 3}, {"price": 2, "quantity": 2}], None, [None, None]),
        (None, 5, [5, None]),
    ],
)
@pytest.mark.parametrize("method", WITH_VALUE)
def test_each_event_has_its_share_of_the_value(
    told: Told, method: str, data: Any, value: Any, shares: list[Any]
) -> None:
    hits = [hit("1", A), hit("2", B, index_name="hats")]
    given = copy.deepcopy(data)
    assert getattr(told.sender, method)("Name", *hits, object_data=data, value=value) is True

    assert [event.get("value") for event in told.events] == shares
    assert data == given


# -- The hour ------------------------------------------------------------------------------------------------------

HOUR = 60 * 60
SEARCHED = 1_800_000_000  # seconds


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(SEARCHED + seconds, timezone.utc)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time, in seconds after the search."""

    def set_to(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: SEARCHED + seconds)

    set_to(0)
    return set_to


@each_method
@pytest.mark.parametrize("signed", [False, True])
def test_an_event_more_than_an_hour_after_its_search_is_sent_and_said_once(
    told: Told, method: str, signed: bool, clock: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    one = hit("1")
    text = one.sign(SECRET)
    clock(HOUR)
    assert getattr(told.sender, method)("Name", HitReference.verify(text, SECRET) if signed else one) is True
    assert not caplog.records

    clock(HOUR + 1)
    for _ in range(3):
        assert getattr(told.sender, method)("Name", HitReference.verify(text, SECRET) if signed else one) is True

    assert [A in str(event) for event in told.events] == [True] * 4
    (record,) = caplog.records
    assert record.getMessage() == (
        "an event came more than one hour after its search: it is sent, but Algolia's click analytics count "
        "clicks and conversions only within the first hour. This is logged once"
    )


@pytest.mark.parametrize(
    ("after", "timestamp", "said"),
    [(10 * HOUR, at(HOUR), False), (10 * HOUR, at(HOUR + 1), True), (0, at(HOUR + 1), True), (10 * HOUR, None, True)],
)
def test_it_is_the_events_own_time_that_counts(
    told: Told,
    clock: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
    after: float,
    timestamp: datetime | None,
    said: bool,
) -> None:
    one = hit("1")
    clock(after)
    assert told.sender.converted("Name", one, timestamp=timestamp) is True
    assert bool(caplog.records) == said


@pytest.mark.parametrize(
    "one",
    [
        {"query_id": None},
        {"user_token": "u-2"},
        {"user_token": None},
        {"position": None},
    ],
)
def test_an_event_without_its_search_is_never_too_late(
    told: Told, clock: Callable[[float], None], caplog: pytest.LogCaptureFixture, one: dict[str, Any]
) -> None:
    reference = hit("1", **one)
    clock(2 * HOUR)
    assert told.sender.clicked("Name", reference) is True
    assert not caplog.records


def test_a_reference_that_is_signed_later_or_again_knows_its_search(
    told: Told, clock: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    one = hit("1")
    clock(HOUR / 2)
    later = one.sign(SECRET)
    clock(HOUR)
    again = HitReference.verify(later, SECRET).sign(SECRET)
    clock(HOUR + 1)
    assert HitReference.verify(again, SECRET, max_age=1) == one

    told.sender.clicked("Name", HitReference.verify(again, SECRET))
    assert len(caplog.records) == 1
    assert len(one.sign(SECRET)) < len(later) + 4


def test_additions_to_the_cart_keep_their_data_and_the_total_once(told: Told) -> None:
    hits = [hit("1", A), hit("2", B), hit("3", A)]
    data = ({"price": number} for number in range(1, 4))
    assert told.sender.added_to_cart("Name", *hits, object_data=data, value=0, currency="EUR") is True

    sent = [(one["queryID"], one["objectData"], one.get("value"), one["currency"]) for one in told.events]
    assert sent == [(A, [{"price": 1}, {"price": 3}], 0, "EUR"), (B, [{"price": 2}], None, "EUR")]


@pytest.mark.parametrize("method", WITH_VALUE)
def test_the_reference_says_which_search_and_not_the_data(told: Told, method: str) -> None:
    data = [{"price": 1, "queryID": B}, {"price": 2, "queryID": B}]
    getattr(told.sender, method)("Name", hit("1", A), hit("2", A, user_token="u-2"), object_data=data)

    items = [item for event in told.events for item in event["objectData"]]
    assert items == [{"price": 1, "queryID": A} if method == "purchased" else {"price": 1}, {"price": 2}]
    assert data == [{"price": 1, "queryID": B}, {"price": 2, "queryID": B}]


@each_method
def test_45_references_become_three_events(told: Told, method: str) -> None:
    hits = [hit(str(number), A, number) for number in range(1, 46)]
    paid = {"value": 90, "object_data": [{"price": 2}] * 45} if method in WITH_VALUE else {}
    assert getattr(told.sender, method)("Name", *hits, **paid) is True

    events = told.events
    assert [object_id for event in events for object_id in event["objectIDs"]] == [one.object_id for one in hits]
    assert [len(event["objectIDs"]) for event in events] == [20, 20, 5]
    for field, in_those in (("positions", ("clicked",)), ("objectData", WITH_VALUE)):
        lengths = [len(event.get(field, ())) for event in events]
        assert lengths == ([20, 20, 5] if method in in_those else [0, 0, 0])
    assert [event.get("value") for event in events] == ([90, None, None] if method in WITH_VALUE else [None] * 3)
    assert all(A in str(event) for event in events)


# -- Refused -----------------------------------------------------------------------------------------------------------


@each_method
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((), "references is missing: give them after the name of the event"),
        (("1a0nSAAHovhuG",), "references must be HitReference objects, not str: verify a text first"),
        ((None,), "references must be HitReference objects, not NoneType"),
        (([hit("1")],), "references must be HitReference objects, not list: give them one by one"),
        ((hit("1"), {"objectID": "1"}), "references must be HitReference objects, not dict"),
    ],
)
def test_what_is_no_reference_is_an_invalid_event(told: Told, method: str, wrong: Any, message: str) -> None:
    assert getattr(told.sender, method)("Name", *wrong) is False

    assert told.events == []
    ((error, events),) = told.errors
    assert isinstance(error, InvalidEventError)
    assert error.field == "references"
    assert str(error).startswith(message)
    assert str(error).endswith("(event 'Name')")
    assert [event["eventName"] for event in events] == ["Name"]
    assert told.sender.stats.refused == 1


def test_an_event_name_that_was_forgotten_is_refused(told: Told) -> None:
    assert told.sender.clicked(hit("1")) is False  # type: ignore[arg-type]
    assert told.sender.clicked(hit("1"), hit("2")) is False  # type: ignore[arg-type]

    assert [error.field for error, _ in told.errors] == ["references", "eventName"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", WITH_VALUE)
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"object_data": []}, "objectData"),
        ({"object_data": [{}] * 3}, "objectData"),
        ({"object_data": {"price": 1}}, "objectData"),
        ({"object_data": 7}, "objectData"),
        ({"object_data": [{}, None]}, "objectData"),
        ({"object_data": [{}, {"price": []}]}, "objectData.price"),
        ({"object_data": [{}, {"cost": 1}]}, "objectData.cost"),
        ({"value": []}, "value"),
        ({"currency": "€"}, "currency"),
        ({"timestamp": 7}, "timestamp"),
        ({"timestamp": "now"}, "timestamp"),
    ],
)
def test_nothing_of_it_is_sent_where_a_part_is_invalid(
    told: Told, method: str, wrong: dict[str, Any], field: str
) -> None:
    send = getattr(told.sender, method)
    assert send("Name", hit("1", A), hit("2", None, index_name="hats"), **wrong) is False

    assert told.events == []
    ((error, _),) = told.errors
    assert isinstance(error, InvalidEventError)
    assert error.field == field


def test_a_bad_query_id_is_refused_and_each_event_counted(told: Told) -> None:
    assert told.sender.converted("Name", hit("1", A), hit("2", "no query id")) is False

    ((error, events),) = told.errors
    assert error.field == "queryID"  # type: ignore[attr-defined]
    assert [event["objectIDs"] for event in events] == [["1"], ["2"]]
    assert told.events == []
    assert told.sender.stats.refused == 2


@each_method
def test_strict_raises_what_is_refused(method: str) -> None:
    with EventSender(delivery=MemoryDelivery(), user_token="u-1", background=False, strict=True) as events:
        send = getattr(events, method)
        for wrong in ((), ("text",), (None,)):
            with pytest.raises(InvalidEventError, match=r"references (must be|is missing)"):
                send("Name", *wrong)
        with pytest.raises(InvalidEventError, match="eventName"):
            send("é", hit("1"))
        with pytest.raises(MissingUserTokenError):
            send("Name", hit("1"), identity=Identity())
        assert send("Name", hit("1", user_token="u-2")) is True
        assert events.stats.refused == 0


@each_method
def test_a_full_queue_drops_all_or_nothing(method: str) -> None:
    with EventSender(delivery=MemoryDelivery(), user_token="u-1", background=False, max_queue_size=2) as events:
        send = getattr(events, method)
        assert send("Name", hit("1")) is True
        assert send("Name", hit("1"), hit("2", A, index_name="hats")) is False
        assert (events.stats.accepted, events.stats.dropped) == (1, 2)

        assert events.flush() is True
        assert send("Name", hit("1"), hit("2", A, index_name="hats")) is True
        assert (events.stats.accepted, events.stats.dropped) == (3, 2)


# -- The whole way, as Algolia sees it ---------------------------------------------------------------------------------


def searched(events: EventSender, response: Any) -> list[str]:
    return [reference.sign(SECRET) for reference in events.references(response)]


def verified(texts: list[str]) -> list[HitReference]:
    return [HitReference.verify(text, SECRET) for text in texts]


def test_events_after_a_shared_link_credit_nobody_elses_search(
    sync_client: TokenAwareClientSync, algolia: LocalAlgolia
) -> None:
    with identity_scope("u-searched"):
        response = sync_client.search_single_index("products", {"query": "shoe", "clickAnalytics": True})
        texts = searched(sync_client.events, response)
    for who in ("u-searched", "u-friend"):
        with identity_scope(who):
            for method in METHODS:
                assert getattr(sync_client.events, method)("Name", *verified(texts))
    assert sync_client.events.flush(PATIENCE)

    found = [(event.user_token, event.query_ids) for event in algolia.events]
    # A purchase names the query once per object.
    assert found[:3] == [("u-searched", (response.query_id,))] * 3
    assert found[3][0] == "u-searched"
    assert set(found[3][1]) == {response.query_id}
    assert found[4:] == [("u-friend", ())] * 4
    assert algolia.events[0].event["positions"] == [1, 2]
    assert algolia.mismatches() == []


async def test_views_of_the_async_client_send_as_their_visitors(
    async_client: TokenAwareClient, algolia: LocalAlgolia
) -> None:
    algolia.save_objects("shoes", [{"objectID": str(number), "name": "Shoe"} for number in range(1, 46)])
    ada, ben = async_client.with_identity("ada"), async_client.with_identity("ben")
    search = {"query": "shoe", "clickAnalytics": True, "hitsPerPage": 45}
    texts = searched(ada.events, await ada.search_single_index("shoes", search))

    assert ada.events.clicked("Name", *verified(texts)) is True
    assert ben.events.clicked("Name", *verified(texts)) is True
    assert await async_client.events.aflush(PATIENCE)

    assert [(event.user_token, len(event.query_ids)) for event in algolia.events] == [("ada", 1)] * 3 + [("ben", 0)] * 3
    assert [event.event["positions"] for event in algolia.events[:3]] == [
        list(range(1, 21)),
        list(range(21, 41)),
        list(range(41, 46)),
    ]
    assert algolia.mismatches() == []


def test_a_multi_query_by_several_visitors_credits_each(
    sync_client: TokenAwareClientSync, algolia: LocalAlgolia
) -> None:
    algolia.save_objects("hats", [{"objectID": "h-1", "name": "Hat"}])
    request = {"clickAnalytics": True, "hitsPerPage": 2}
    with identity_scope("u-1"):
        response = sync_client.search(
            {
                "requests": [
                    {"indexName": "products", "query": "shoe", **request, "userToken": "u-1"},
                    {"indexName": "hats", "query": "hat", **request, "userToken": "u-1"},
                    {"indexName": "products", "query": "hat", **request, "userToken": "u-2"},
                ]
            }
        )
        references = verified(searched(sync_client.events, response))
        assert sync_client.events.purchased("Name", *references, value=9, currency="EUR")
        assert sync_client.events.clicked("Name", *references)
    assert sync_client.events.flush(PATIENCE)

    indices = [(event.event["index"], event.event["objectIDs"], len(set(event.query_ids))) for event in algolia.events]
    assert indices == [
        *(("products", ["1", "2", "3"], 1), ("hats", ["h-1"], 1)),
        *(("products", ["1", "2"], 1), ("hats", ["h-1"], 1), ("products", ["3"], 0)),
    ]
    assert [event.event.get("value") for event in algolia.events] == [9] + [None] * 4
    assert algolia.mismatches() == []


def test_a_search_by_nobody_is_nobodys_later_too(sync_client: TokenAwareClientSync, algolia: LocalAlgolia) -> None:
    response = sync_client.search_single_index("products", {"query": "shoe", "clickAnalytics": True})
    texts = searched(sync_client.events, response)
    with identity_scope("u-1"):  # has accepted a cookie since
        assert sync_client.events.clicked("Name", *verified(texts))
    assert sync_client.events.flush(PATIENCE)

    assert [event.query_ids for event in algolia.events] == [()]
    assert algolia.mismatches() == []


def test_references_that_were_cached_credit_only_who_searched(
    sync_client: TokenAwareClientSync, algolia: LocalAlgolia
) -> None:
    with identity_scope("u-1"):
        response = sync_client.search_single_index("products", {"query": "shoe", "clickAnalytics": True})
        cached = sync_client.events.references(response)
    for who in ("u-2", "u-1"):
        with identity_scope(who):
            assert sync_client.events.clicked("Name", cached[0])
    assert sync_client.events.flush(PATIENCE)

    assert [len(event.query_ids) for event in algolia.events] == [0, 1]
    assert algolia.mismatches() == []


@each_method
@pytest.mark.parametrize("wrong", [{"timestamp": 1.5}, {"identity": "a b"}, {"timestamp": datetime(2026, 1, 1)}])
def test_a_refused_event_is_told_with_its_objects(method: str, wrong: dict[str, Any], told: Told) -> None:
    assert not getattr(told.sender, method)("Event", HitReference(None, "products", "o-1"), **wrong)

    [(_, [event])] = told.errors
    assert (event["index"], event["objectIDs"]) == ("products", ["o-1"])
