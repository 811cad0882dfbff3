"""What Python code holds, as JSON has it."""

from __future__ import annotations

import itertools
import json
import time
from collections import OrderedDict, UserDict, UserList, UserString
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, getcontext, localcontext
from enum import Enum, IntEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from uuid import UUID

import django.utils.functional
import django.utils.translation
import numpy
import pytest
from algoliasearch.insights.models import Discount, ObjectDataAfterSearch, Price, Value
from django.conf import settings
from program_files import run_program
from pydantic import BaseModel, Field

from algolia_usertoken import EventSender, InvalidEventError, MemoryDelivery
from algolia_usertoken.events import plain

QUERY_ID = "0123456789abcdef" * 2


class Text(str):
    """A string that is none to whoever looks at it by its methods."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    __eq__ = __len__ = __bool__ = __repr__ = __str__  # type: ignore[assignment]

    def __hash__(self) -> int:
        raise ZeroDivisionError


class Kind(str, Enum):
    CLICK = "click"


class Number(IntEnum):
    SEVEN = 7


class WithStr:
    """What has a text that is no form of it."""

    def __str__(self) -> str:
        return "1"

    __repr__ = __str__


class Item(BaseModel):
    query_id: str | None = Field(None, alias="queryID")
    price: Decimal | None = None
    quantity: int | None = None


@pytest.fixture(autouse=True, scope="module")
def _django() -> None:
    if not settings.configured:
        settings.configure(USE_I18N=False)


def lazy(text: str) -> Any:
    return django.utils.translation.gettext_lazy(text)


# -- Each by itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x", "x"),
        (lambda: Text("x"), "x"),
        (Kind.CLICK, "click"),
        (numpy.str_("x"), "x"),
        (lambda: lazy("Seen"), "Seen"),
        (lambda: django.utils.functional.lazystr("Seen"), "Seen"),
    ],
)
def test_what_prints_as_a_text_becomes_a_str(value: Any, expected: str) -> None:
    made = plain.text(value() if callable(value) else value)
    assert type(made) is str
    assert str.__eq__(made, expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x", "x"),
        (7, "7"),
        (-7, "-7"),
        (10**30, "1" + "0" * 30),
        (Number.SEVEN, "7"),
        (numpy.int64(7), "7"),
        (numpy.uint8(7), "7"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (lambda: Text("x"), "x"),
    ],
)
def test_an_object_id_of_any_kind_becomes_a_str(value: Any, expected: str) -> None:
    made = plain.object_id(value() if callable(value) else value)
    assert type(made) is str
    assert made == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 7),
        (7.5, 7.5),
        ("7.50", "7.50"),
        (Decimal("79.90"), 79.9),
        (Decimal("79"), 79.0),
        (Decimal("-0.01"), -0.01),
        (Decimal("1E+2"), 100.0),
        (Decimal("0.1000000000000001"), 0.1000000000000001),
        (Decimal("1234567890.12345"), 1234567890.12345),
        (Decimal("12345678901234.5"), 12345678901234.5),
        (Decimal("9007199254740993"), "9007199254740993"),  # no float has it, and a text of 16 characters
        (numpy.float64(7.5), 7.5),
        (numpy.float32(7.5), 7.5),
        (numpy.int32(7), 7),
        (Number.SEVEN, 7),
        (Price(7.5), 7.5),
        (Discount("7.50"), "7.50"),
        (Value(7), 7.0),
        (lambda: lazy("7.50"), "7.50"),
    ],
)
def test_an_amount_of_any_kind_becomes_a_number(value: Any, expected: Any) -> None:
    made = plain.amount(value() if callable(value) and not isinstance(value, BaseModel) else value)
    assert type(made) is type(expected)
    assert made == expected


@pytest.mark.parametrize("convert", [plain.text, plain.object_id, plain.integer, plain.amount, plain.mapping])
@pytest.mark.parametrize(
    "value",
    [None, True, b"x", [], object(), WithStr(), numpy.bool_(True), Fraction(1, 2), UserString("x"), Item(), 1j, Kind],
    ids=lambda value: type(value).__name__,
)
def test_a_value_of_another_kind_is_handed_on_as_it_is(convert: Callable[[Any], Any], value: Any) -> None:
    if convert is plain.mapping and isinstance(value, BaseModel):
        assert convert(value) == {"queryID": None, "price": None, "quantity": None}
    else:
        assert convert(value) is value


@pytest.mark.parametrize(
    "value",
    [
        *(Decimal(1) / 3, Decimal("90071992547409.931"), Decimal("1E-400"), Decimal("1E+400"), Decimal("9" * 5000)),
        *(Decimal("1E-999999"), Decimal("1E+999999"), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")),
    ],
)
def test_a_decimal_that_fits_neither_a_number_nor_a_short_text_stays_one(value: Decimal) -> None:
    assert plain.amount(value) is value


def test_the_precision_of_the_context_does_not_matter() -> None:
    with localcontext() as context:
        context.prec = 2
        context.traps = dict.fromkeys(context.traps, True)
        assert plain.amount(Decimal("1234.56")) == 1234.56
        assert plain.shares(Decimal("1240"), [[{"price": Decimal("1234.56"), "quantity": 1}]]) == [1240.0]
    assert getcontext().prec == 28


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1},
        OrderedDict(a=1),
        MappingProxyType({"a": 1}),
        UserDict({"a": 1}),
    ],
)
def test_any_mapping_becomes_a_dict_of_its_own(value: Any) -> None:
    made = plain.mapping(value)
    assert type(made) is dict
    assert made == {"a": 1}
    assert made is not value


def test_models_are_read_by_their_aliases() -> None:
    assert plain.mapping(Item(queryID=QUERY_ID, price=Decimal("1.5"))) == {
        "queryID": QUERY_ID,
        "price": Decimal("1.5"),
        "quantity": None,
    }
    assert plain.mapping(ObjectDataAfterSearch(query_id=QUERY_ID, quantity=2)) == {"queryID": QUERY_ID, "quantity": 2}


class Endless(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        return map(str, itertools.count())

    def __len__(self) -> int:
        return 1


def test_an_iterable_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "MAX_ITEMS", 1000)
    endless = Endless()
    assert plain.mapping(endless) is endless
    assert plain.items(itertools.count()) is None
    assert plain.items(iter(range(1000))) == list(range(1000))


def test_unknown_fields_keep_their_form() -> None:
    held = {
        "list": ["x", ("y", 1), [None, True, 1.5, "é"]],
        "decimal": Decimal("79.90"),
        "id": UUID(int=7),
        "numpy": [numpy.int64(1), numpy.float32(1.5), numpy.bool_(True), numpy.str_("x")],
        "mapping": MappingProxyType({"a": Number.SEVEN}),
        "model": ObjectDataAfterSearch(query_id=QUERY_ID),
        "lazy": lazy("x"),
    }
    assert plain.json_form(held) == {
        "list": ["x", ["y", 1], [None, True, 1.5, "é"]],
        "decimal": 79.9,
        "id": "00000000-0000-0000-0000-000000000007",
        "numpy": [1, 1.5, True, "x"],
        "mapping": {"a": 7},
        "model": {"queryID": QUERY_ID},
        "lazy": "x",
    }


def test_pydantic_numpy_and_django_need_not_be_installed() -> None:
    run_program("events/programs/plain_alone.py", plain.__file__)


# -- Through the door ----------------------------------------------------------------------------------------------


@pytest.fixture
def delivery() -> MemoryDelivery:
    return MemoryDelivery()


@pytest.fixture
def sender(delivery: MemoryDelivery) -> Iterator[EventSender]:
    with EventSender(delivery=delivery, background=False, user_token="u", strict=True) as sender:
        yield sender


def sent(sender: EventSender, delivery: MemoryDelivery) -> dict[str, Any]:
    """The only event that was sent, without who and when, read back from the JSON."""
    sender.flush()
    (batch,) = delivery.batches
    (event,) = json.loads(batch.body)["events"]
    assert event.pop("userToken") == "u"
    assert event.pop("timestamp")
    return event


IDS: list[Any] = [["1", "2"], ("1", "2"), [1, 2], {"1": 0, "2": 0}.keys(), numpy.array([1, 2]), UserList(["1", "2"])]
IDS += [[numpy.int64(1), numpy.str_("2")], range(1, 3), {1: 0, 2: 0}.keys()]


@pytest.mark.parametrize("ids", IDS, ids=lambda ids: type(ids).__name__)
def test_a_collection_of_ids_of_any_kind_becomes_a_list(
    sender: EventSender, delivery: MemoryDelivery, ids: Any
) -> None:
    event = {"eventType": "click", "eventName": "Clicked", "index": "products"}
    assert sender.clicked_object_ids("Clicked", "products", ids)
    assert sent(sender, delivery) == {**event, "objectIDs": ["1", "2"]}
    delivery.batches.clear()

    assert sender.send({**event, "objectIDs": ids})
    assert sent(sender, delivery) == {**event, "objectIDs": ["1", "2"]}
    delivery.batches.clear()

    assert sender.send({**event, "objectIDs": (one for one in ids)})
    assert sent(sender, delivery) == {**event, "objectIDs": ["1", "2"]}


NO_IDS: list[Any] = ["12", b"12", bytearray(b"12"), {"1": 0}, 12, None, [True], [None], [b"1"], [1.0], [WithStr()]]
NO_IDS += [lazy("12"), django.utils.functional.lazystr("12")]


@pytest.mark.parametrize("ids", NO_IDS)
def test_what_are_no_ids_is_refused(sender: EventSender, ids: Any) -> None:
    with pytest.raises(InvalidEventError, match=r"^objectIDs must "):
        sender.clicked_object_ids("Clicked", "products", ids)
    with pytest.raises(InvalidEventError, match=r"^objectIDs "):
        sender.send({"eventType": "click", "eventName": "Clicked", "index": "products", "objectIDs": ids})


def test_a_purchase_as_a_shop_in_django_holds_it(sender: EventSender, delivery: MemoryDelivery) -> None:
    assert sender.purchased_object_ids_after_search(
        lazy("Bought"),
        lazy("products"),
        (one for one in (7, UUID(int=5), "x", "y")),
        (
            one
            for one in (
                Item(queryID=QUERY_ID, price=Decimal("79.90"), quantity=1),
                {"price": numpy.float64(1.5), "quantity": numpy.int32(2)},
                ObjectDataAfterSearch(price=Price("3.00"), quantity=1),
                MappingProxyType({"price": Decimal("9007199254740993"), "discount": Decimal("0.5")}),
            )
        ),
        value=Decimal("85.90"),
        currency=lazy("EUR"),
    )

    assert sent(sender, delivery) == {
        "eventType": "conversion",
        "eventSubtype": "purchase",
        "eventName": "Bought",
        "index": "products",
        "objectIDs": ["7", "00000000-0000-0000-0000-000000000005", "x", "y"],
        "objectData": [
            {"queryID": QUERY_ID, "price": 79.9, "quantity": 1},
            {"price": 1.5, "quantity": 2},
            {"price": "3.00", "quantity": 1},
            {"price": "9007199254740993", "discount": 0.5},
        ],
        "value": 85.9,
        "currency": "EUR",
    }


def test_a_click_with_values_of_numpy_is_sent(sender: EventSender, delivery: MemoryDelivery) -> None:
    now = numpy.int64(time.time() * 1000)
    positions = numpy.array([3, 4])
    assert sender.clicked_object_ids_after_search(
        Text("Clicked"), "products", ["1", "2"], positions, QUERY_ID, timestamp=now
    )
    sender.flush()
    (event,) = delivery.events
    assert event["positions"] == [3, 4]
    assert {type(number) for number in (*event["positions"], event["timestamp"])} == {int}
    assert (type(event["eventName"]), event["timestamp"]) == (str, now)


@pytest.mark.parametrize("amount", [Decimal(1) / 3, Decimal("1E-400"), Decimal("90071992547409.931")])
@pytest.mark.parametrize("field", ["value", "objectData.price", "objectData.discount"])
def test_a_decimal_that_is_too_long_is_refused_and_what_to_do_is_said(
    sender: EventSender, amount: Decimal, field: str
) -> None:
    paid = {"value": amount} if field == "value" else {"object_data": [{field.partition(".")[2]: amount}]}
    with pytest.raises(InvalidEventError) as caught:
        sender.purchased_object_ids("Bought", "products", ["1"], **paid)

    assert caught.value.field == field
    assert "this Decimal has more digits than fit, so round it first, as in round(amount, 2)" in str(caught.value)
    assert str(amount) not in str(caught.value)


def test_nothing_is_changed_that_was_given(sender: EventSender, delivery: MemoryDelivery) -> None:
    item = Item(queryID=QUERY_ID, price=Decimal("79.90"))
    given = {
        "eventType": Kind.CLICK,
        "eventName": Text("Clicked"),
        "index": "products",
        "objectIDs": [7],
        "colour": {"of": [item]},
    }
    before = dict(given)
    assert sender.send(given)

    assert all(given[name] is before[name] for name in before)
    assert given["objectIDs"] == [7]
    assert given["colour"] == {"of": [item]}
    given["colour"]["of"].append(1)  # type: ignore[index]
    assert sent(sender, delivery)["colour"] == {"of": [{"queryID": QUERY_ID, "price": 79.9, "quantity": None}]}
