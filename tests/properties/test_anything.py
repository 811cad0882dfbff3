"""Whatever is given to the door: no error but ours leaves it, nothing given is changed, and what it takes is right."""

from __future__ import annotations

import inspect
import itertools
import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy
import pytest
from algoliasearch.http.transporter_sync import EchoTransporterSync
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.insights.models import ObjectDataAfterSearch, Price
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from algolia_usertoken import (
    EventSender,
    HitReference,
    MemoryDelivery,
    TokenAwareInsightsClientSync,
    UserTokenError,
)
from algolia_usertoken.events import plain
from algolia_usertoken.local_algolia import insights_rules

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.slow]

SECRET = "jane@example.com"
NOW = 1_800_000_000  # seconds
QUERY_ID = "0123456789abcdef" * 2
ABOUT = {"eventName": "It happened", "index": "products", "userToken": "u"}
OBJECTS = {**ABOUT, "objectIDs": ["1", "2"]}
MONEY = {"objectData": [{"price": 1, "discount": "0.5", "quantity": 2}, {}], "value": 2, "currency": "EUR"}
EVENTS: list[dict[str, Any]] = [
    {**OBJECTS, "eventType": "click", "positions": [1, 21], "queryID": QUERY_ID},
    {**OBJECTS, "eventType": "view", "algoliaSource": ["autocomplete"]},
    {**OBJECTS, "eventType": "conversion", "queryID": "message_x"},
    {**OBJECTS, "eventType": "conversion", "eventSubtype": "purchase", **MONEY},
    {**ABOUT, "eventType": "click", "filters": ["brand%3AAcme"]},
    {"eventType": "instantsearch", "eventName": "__start__", "userToken": "u", "agentID": "a"},
]
NAMES = sorted({name for event in EVENTS for name in event})
NAMES += ["authenticatedUserToken", "timestamp", "price", "quantity", "objectIds", "event_name", "objectID", "", "é"]
METHODS = [
    name
    for name, method in inspect.getmembers(EventSender, inspect.isfunction)
    if not name.startswith("_") and {"event_name", "index_name"} <= inspect.signature(method).parameters.keys()
]
ARGUMENTS: dict[str, Any] = {
    "event_name": "It happened",
    "index_name": "products",
    "object_ids": ["1", "2"],
    "filters": ["a:b"],
    "positions": [1, 21],
    "query_id": QUERY_ID,
    "object_data": [{"queryID": QUERY_ID, "price": 1, "quantity": 2}, {}],
    "value": 2,
    "currency": "EUR",
    "identity": None,
    "timestamp": None,
}
thorough = settings(
    max_examples=3 * settings().max_examples, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@pytest.fixture(scope="module", autouse=True)
def _now() -> Iterator[None]:
    """The clock stands, and what has no end is given up soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: float(NOW))
        patch.setattr(plain, "MAX_ITEMS", 1000)
        yield


# -- Objects that mean no good -------------------------------------------------------------------------------------


class Armed:
    """Whether the objects fail: not while a test is prepared, nor while it is reported."""

    now = False

    def __enter__(self) -> None:
        Armed.now = True

    def __exit__(self, *exc_info: object) -> None:
        Armed.now = False


EVERY = """
__eq__ __ne__ __lt__ __gt__ __hash__ __iter__ __len__ __bool__ __str__ __repr__ __format__ __contains__ __getitem__
__int__ __index__ __float__ __call__ __reversed__ __next__ __copy__ __deepcopy__ __reduce__ keys values items get copy
to_dict model_dump is_finite lower encode isascii as_integer_ratio hex utcoffset
"""


def failing(*bases: type, keeping: str = "") -> Any:
    """A class whose every method raises an error that quotes a secret."""

    def method(name: str) -> Any:
        def fails(self: Any, *arguments: Any, **keywords: Any) -> Any:
            if Armed.now:
                raise ZeroDivisionError(SECRET)
            return getattr(super(made, self), name)(*arguments, **keywords)

        return fails

    def kind(self: Any) -> Any:
        if Armed.now:
            raise ZeroDivisionError(SECRET)
        return made

    methods = {name: method(name) for name in EVERY.split() if name not in keeping.split()}
    made = type("Failing", bases, methods | ({"__class__": property(kind)} if bases == (object,) else {}))
    return made


FailingText, FailingNumber, FailingFloat = failing(str), failing(int), failing(float)
FailingList, FailingTuple, FailingDict = failing(list), failing(tuple), failing(dict)
FailingMapping, FailingObject, FailingDecimal = failing(Mapping), failing(object), failing(Decimal)
FailingTime = failing(datetime)
FailingModel = failing(ObjectDataAfterSearch, keeping="__eq__ __hash__ __repr__ __str__ __iter__")


class FailingKey(str):
    """Equal hashes, so that a dict asks whether it is the same key, and gets an error for it."""

    def __hash__(self) -> int:
        return hash("objectIDs")

    def __eq__(self, other: object) -> bool:
        if Armed.now:
            raise ZeroDivisionError(SECRET)
        return self is other


class Lying(Mapping[str, Any]):
    """Another answer each time."""

    def __init__(self) -> None:
        self.times = itertools.count()

    def __getitem__(self, key: str) -> Any:
        return [["1"], 7, None, {"a": 1}, "x"][next(self.times) % 5]

    def __iter__(self) -> Iterator[str]:
        return iter(["eventName", "objectIDs", "price"][: next(self.times) % 3 + 1])

    def __len__(self) -> int:
        return next(self.times) % 3


def one_that_fails() -> Iterator[str]:
    yield "1"
    raise ZeroDivisionError(SECRET)


MAKE_HOSTILE = [
    lambda: FailingText("x"),
    lambda: FailingText("objectIDs"),
    lambda: FailingNumber(7),
    lambda: FailingFloat(7.5),
    lambda: FailingList(["1"]),
    lambda: FailingTuple(("1",)),
    lambda: FailingDict({"price": 1}),
    FailingMapping,
    FailingObject,
    lambda: FailingModel(),
    lambda: FailingTime(2027, 1, 15, tzinfo=timezone.utc),
    lambda: FailingDecimal("1.5"),
    Lying,
    one_that_fails,
    itertools.count,
    lambda: map(str, itertools.count()),
    lambda: FailingObject,
    lambda: 10**5000,
    object,
]
hostile = st.sampled_from(MAKE_HOSTILE).map(lambda make: make())
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, 2**31, 2**63, NOW * 1000]),
    st.floats(),
    st.text(st.characters(codec=None), max_size=8),
    st.sampled_from(["x", "1", "a:b", "\ud800", "EUR", "click", QUERY_ID, "message_x", "purchase", "instantsearch"]),
    st.binary(max_size=3),
    st.decimals(),
    st.sampled_from([Decimal("79.90"), Decimal("1E+999999"), Decimal("1E-999999"), Decimal("sNaN")]),
    st.uuids(),
    st.sampled_from(
        [numpy.int64(7), numpy.float32(1.5), numpy.float64("nan"), numpy.bool_(True), numpy.str_("x"), numpy.array(1)]
    ),
    st.datetimes(),
    st.sampled_from([ObjectDataAfterSearch(price=Price(1.5)), Price("x"), UUID(int=7), frozenset("ab"), int, 1j]),
)
anything = st.recursive(
    st.one_of(scalars, scalars, hostile),
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.lists(inside, max_size=3).map(tuple),
        st.lists(inside, max_size=3).map(iter),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=3)), inside, max_size=3),
        st.dictionaries(st.one_of(st.integers(), st.none(), st.binary(max_size=2)), inside, max_size=2),
    ),
    max_leaves=6,
)
names = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(NAMES),
    st.sampled_from(NAMES).map(str.upper),
    st.text(st.characters(codec=None), max_size=5),
    st.one_of(
        st.integers(), st.none(), st.binary(max_size=2), st.just(FailingKey("x")), st.just(FailingKey("userToken"))
    ),
)


@st.composite
def events_like(draw: st.DrawFn) -> Any:
    event: dict[Any, Any] = dict(draw(st.sampled_from([*EVENTS, {}])))
    for name, value in draw(st.lists(st.tuples(names, anything), max_size=3)):
        event[name] = value
    if draw(st.booleans()):
        event.pop("userToken", None)
    return event


def shown(thing: Any) -> Any:
    """What a thing is made of, to be compared by identity, without asking it."""
    if type(thing) is dict:
        return [(id(key), id(value), shown(value)) for key, value in dict.items(thing)]
    if type(thing) in (list, tuple):
        return [(id(value), shown(value)) for value in thing]
    return None


def accepted_are_right(delivery: MemoryDelivery) -> None:
    for batch in delivery.batches:
        assert insights_rules.refusal(json.loads(batch.body), NOW) is None, batch.body


@thorough
@given(st.one_of(events_like(), events_like(), anything), anything, anything, st.booleans())
def test_send_never_raises_whatever_it_is_given(event: Any, identity: Any, timestamp: Any, plainly: bool) -> None:
    told: list[str] = []
    before = shown(event)
    delivery = MemoryDelivery()
    on_error = lambda error, _: told.append(str(error))  # noqa: E731
    with EventSender(delivery=delivery, background=False, user_token="u", on_error=on_error) as sender, Armed():
        accepted = sender.send(event) if plainly else sender.send(event, identity=identity, timestamp=timestamp)
        assert type(accepted) is bool
        sender.flush()
        assert sender.stats.refused == (not accepted)
        assert sender.stats.delivered + sender.stats.rejected == accepted

    assert shown(event) == before
    assert not any(SECRET in each for each in told)
    accepted_are_right(delivery)


@thorough
@given(
    st.sampled_from(METHODS),
    st.dictionaries(st.sampled_from([*ARGUMENTS]), anything, max_size=3),
    st.sampled_from([1, 1, 1, 30]),
)
def test_the_event_methods_never_raise_whatever_they_are_given(name: str, odd: dict[str, Any], times: int) -> None:
    wanted = inspect.signature(getattr(EventSender, name)).parameters
    arguments = {
        argument: odd.get(argument, value * times if isinstance(value, list) else value)
        for argument, value in ARGUMENTS.items()
        if argument in wanted
    }
    before = shown(arguments)
    delivery = MemoryDelivery()
    with EventSender(delivery=delivery, background=False, user_token="u") as sender, Armed():
        accepted = getattr(sender, name)(**arguments)
        assert type(accepted) is bool
        assert accepted or odd
        sender.flush()
        assert (sender.stats.delivered + sender.stats.rejected > 0) == accepted

    assert shown(arguments) == before
    accepted_are_right(delivery)


REFERENCES = [HitReference(QUERY_ID, "products", "1", 1, user_token="u"), HitReference(None, "hats", "2")]
REFERENCES += [HitReference("message_x", "products", "3", 1, user_token="u"), HitReference("é", "products", "4")]


@given(
    st.sampled_from(["clicked", "converted", "added_to_cart", "purchased"]),
    st.lists(st.one_of(st.sampled_from(REFERENCES), st.sampled_from(REFERENCES), anything), max_size=3),
    anything,
    anything,
    st.booleans(),
)
def test_methods_for_references_never_raise_whatever_they_are_given(
    name: str, references: list[Any], object_data: Any, value: Any, paid: bool
) -> None:
    has_money = paid and name in ("added_to_cart", "purchased")
    given_data = [object_data for _ in references] if has_money else None
    before = shown([references, given_data, value])
    delivery = MemoryDelivery()
    with EventSender(delivery=delivery, background=False, user_token="u") as sender, Armed():
        money = {"object_data": given_data, "value": value} if has_money else {}
        assert type(getattr(sender, name)("Name", *references, **money)) is bool
        sender.flush()

    assert shown([references, given_data, value]) == before
    accepted_are_right(delivery)


@thorough
@given(
    st.one_of(
        st.fixed_dictionaries({"events": st.lists(st.one_of(events_like(), events_like(), anything), max_size=3)}),
        st.fixed_dictionaries({"events": st.lists(events_like(), max_size=2), "beside": anything}),
        st.dictionaries(names, anything, max_size=2),
        anything,
    )
)
def test_push_events_raises_only_its_own_errors_whatever_it_is_given(body: Any) -> None:
    before = shown(body)
    config = InsightsConfig("app", "key")
    client = TokenAwareInsightsClientSync.create_with_config(config, EchoTransporterSync(config), user_token="u")
    answer, failure = None, None
    try:
        with Armed():
            answer = client.push_events_with_http_info(body)
    except Exception as error:
        failure = error

    assert shown(body) == before
    if answer is not None:
        assert insights_rules.refusal(json.loads(answer.data or ""), NOW) is None
    elif body is None:  # algoliasearch says so
        assert "insights_events" in str(failure)
    else:
        assert isinstance(failure, UserTokenError)
        assert SECRET not in str(failure)
