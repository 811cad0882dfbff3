from __future__ import annotations

import copy
import itertools
import time
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from algoliasearch.insights.models import ObjectDataAfterSearch
from valid_events import DAYS_30, NOW, OTHER_QUERY_ID, QUERY_ID, check, click, event, purchase

from algolia_usertoken import Identity, InvalidEventError, MissingUserTokenError
from algolia_usertoken.events.model import (
    attributed,
    check_after_search,
    event_time,
    milliseconds,
    names_search,
    split,
)

pytestmark = pytest.mark.oldest_versions


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands."""
    monkeypatch.setattr(time, "time", lambda: NOW)


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
@pytest.mark.parametrize("bad", [None, 7, "o-1", b"o-1", bytearray(b"o-1"), memoryview(b"o-1"), {"o-1": 1}])
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
        ({}, "queryID", "queryID is missing: search with clickAnalytics to get one"),
        ({"queryID": None}, "queryID", "queryID is missing"),
        ({"queryID": None, "objectData": [{"queryID": QUERY_ID}]}, "queryID", "queryID is missing"),
        (
            {"objectData": [{}, {"price": 1}]},
            "objectData.queryID",
            "objectData.queryID is missing: give it for at least one object, or use purchased_object_ids",
        ),
        ({"objectData": [{"queryID": None}]}, "objectData.queryID", "objectData.queryID is missing"),
        ({"objectData": ["x"]}, "objectData.queryID", "objectData.queryID is missing"),
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
        (0, 0),
        (-5, -5),
        (1_799_999_999_999, 1_799_999_999_999),
        (EPOCH, 0),
        (datetime(2027, 1, 15, 8, 0, 0, 123_000, tzinfo=timezone.utc), 1_800_000_000_123),
        (datetime(2027, 1, 15, 10, 0, 0, 123_999, tzinfo=timezone(timedelta(hours=2))), 1_800_000_000_123),
    ],
)
def test_a_timestamp_of_any_kind_becomes_milliseconds(timestamp: Any, expected: int) -> None:
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
        (datetime(2026, 8, 1), "timestamp must have a time zone, as in datetime.now(timezone.utc)"),
        (
            datetime(2026, 8, 1, tzinfo=NoZone()),
            "timestamp must have a time zone, as in datetime.now(timezone.utc)",
        ),
        (1.5, "timestamp must be a datetime or an int of milliseconds, not float"),
        (True, "timestamp must be a datetime or an int of milliseconds, not bool"),
        ("2026-08-01", "timestamp must be a datetime or an int of milliseconds, not str"),
        (datetime(2026, 8, 1).date(), "timestamp must be a datetime or an int of milliseconds, not date"),
    ],
)
def test_a_timestamp_that_is_no_time_is_refused(bad: Any, message: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        milliseconds(bad)

    assert (str(caught.value), caught.value.field) == (message, "timestamp")


# -- Money, where one call becomes several events --------------------------------------------------------------------


def test_each_part_has_the_sum_of_its_own_and_the_first_what_is_left() -> None:
    data = [{"price": "0.10", "quantity": 1}] * 20 + [{"price": 2, "quantity": 3}] * 5
    parts = split({"objectIDs": objects(25), "objectData": data, "value": Decimal("40.5")})

    assert [part["value"] for part in parts] == [10.5, 30.0]
    assert [len(part["objectData"]) for part in parts] == [20, 5]
    assert parts[1]["objectData"][0] == {"price": 2, "quantity": 3}


def test_items_are_made_plain_before_they_are_summed() -> None:
    data = (MappingProxyType({"Price": Decimal("1.5"), "quantity": 2}) for _ in range(21))
    parts = split({"objectIDs": objects(21), "objectData": data, "value": 63})

    assert [part["value"] for part in parts] == [60, 3]
    assert parts[1]["objectData"] == [{"price": 1.5, "quantity": 2}]


def test_without_all_prices_and_quantities_the_first_part_keeps_the_value() -> None:
    for data in ([{"price": 1}] * 21, [{"quantity": 1}] * 21):
        parts = split({"objectIDs": objects(21), "objectData": data, "value": 21})
        assert [part.get("value") for part in parts] == [21, None]
    parts = split({"objectIDs": objects(21), "value": 21})
    assert [part.get("value") for part in parts] == [21, None]


def test_parts_without_a_value_get_none() -> None:
    given = {"objectIDs": objects(21), "objectData": [{"price": 1, "quantity": 1}] * 21}

    assert all("value" not in part for part in split(given))


@pytest.mark.parametrize(
    ("object_data", "expected"),
    [
        ([{"queryID": QUERY_ID}], True),
        ([{"price": 1}, {"queryID": QUERY_ID}], True),
        ([{"price": 1}], False),
        ([{"queryID": None}], False),
        ([{"queryid": QUERY_ID}], False),
        ([{}], False),
        ([None], False),
        ([], False),
        (None, False),
        (({"queryID": QUERY_ID},), False),
        ("x", False),
        (7, False),
    ],
)
def test_what_ordinary_object_data_names_a_search(object_data: Any, expected: bool) -> None:
    assert names_search(object_data) is expected


def test_attributed_keeps_no_item_of_the_callers() -> None:
    item = {"price": 1}
    for given in ([item], (item,)):
        made = attributed(purchase(objectData=given), None)
        item["price"] = 2
        assert made is not None
        assert made["objectData"] == [{"price": 1}]
        item["price"] = 1


def test_what_is_made_plain_is_attributed_likewise() -> None:
    made = attributed(event(objectIDs=(1, 2), userToken=...), BOTH, 1_799_999_999_000)

    assert made == event(
        objectIDs=["1", "2"], userToken="anon", authenticatedUserToken="login", timestamp=1_799_999_999_000
    )


def test_an_event_that_raises_is_refused_and_not_quoted() -> None:
    class Raises:
        def __iter__(self) -> Any:
            raise RuntimeError("jane@example.com")

    with pytest.raises(InvalidEventError, match=r"^the event can't be read: RuntimeError") as caught:
        attributed(event(objectIDs=Raises()), BOTH)
    assert "jane" not in str(caught.value)
    assert caught.value.__context__ is None
