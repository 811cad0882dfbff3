from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from valid_events import DAYS_30, NOW, QUERY_ID, VALID, check, click, event, filters, purchase

from algolia_usertoken import InvalidEventError
from algolia_usertoken.events import rules
from algolia_usertoken.events.model import attributed
from algolia_usertoken.events.text import without_nones
from algolia_usertoken.local_algolia.insights_rules import refusal

pytestmark = pytest.mark.oldest_versions


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands."""
    monkeypatch.setattr(time, "time", lambda: NOW)


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
NO_QUERY_IDS += [" " * 32, "0 " * 16, "0_" * 16, "0" * 31 + "\n", "é" * 32, "٠" * 32, "A" + "0" * 31]
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
    "neither": (
        [event(objectIDs=...), event(objectIDs=None)],
        "objectIDs",
        "is missing: an event needs objectIDs or filters",
    ),
    "no objects": (
        [purchase(objectIDs=...)],
        "objectIDs",
        "is missing: an event needs objectIDs or filters (event",
    ),
    "both": (
        [event(filters=["a:b"]), event(filters=[])],
        "filters",
        "must not be given together with objectIDs",
    ),
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
        "is missing: a click after a search needs one for each object",
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
    "userToken": ([event(userToken=token) for token in [*NO_TOKENS, None, ...]], "userToken", "userToken "),
    "authenticatedUserToken": (
        [event(authenticatedUserToken=token) for token in NO_TOKENS],
        "authenticatedUserToken",
        "authenticatedUserToken ",
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
    assert message in str(caught.value).replace("is empty: it ", "").replace("is missing: it ", "")
    assert str(caught.value).startswith(field)


@pytest.mark.parametrize("field", ["eventName", "index", "eventType"])
def test_what_is_missing_is_said_to_be(field: str) -> None:
    for bad in (event(**{field: ...}), event(**{field: None})):
        with pytest.raises(InvalidEventError, match=rf"^{field} is missing: it must be .*( \(event '.*'\))?$"):
            check(bad)
    with pytest.raises(InvalidEventError) as caught:
        check(event(**{field: ""}))
    assert str(caught.value).startswith(f"{field} is empty: it must be ")


def test_texts_name_the_event_and_quote_nothing_else() -> None:
    with pytest.raises(InvalidEventError, match=r"\(event 'Seen'\)$"):
        check(event(index=""))
    with pytest.raises(InvalidEventError, match=r"printable ASCII characters: it has 65 characters$"):
        check(event(eventName="x" * 65))
    with pytest.raises(InvalidEventError, match=r"it has 3 characters, and the one at position 2 is not allowed$"):
        check(event(eventName="xéy"))
    with pytest.raises(InvalidEventError, match=r"not a string of 41 characters at position 2 \(event 'Seen'\)$"):
        check(filters(filters=["a:b", "x" * 41]))
    with pytest.raises(InvalidEventError, match=r"strings, not float at position 2 \(event 'Seen'\)$"):
        check(event(objectIDs=["1", 7.5]))
    with pytest.raises(InvalidEventError, match=r"^index is empty: it must be the name of an index$"):
        check(event(eventName="jane@example.com", index=""))  # the name of an event, but it may well be somebody's
    with pytest.raises(InvalidEventError, match=r"positions has 2 items for 1 objects$"):
        check(click(positions=[1, 2]))


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


@pytest.mark.slow
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


def test_limits_are_those_of_the_api() -> None:
    assert (rules.MAX_OBJECTS, rules.MAX_AGE_MS) == (20, DAYS_30)


SEEN = {"eventType": "view", "eventName": "Seen", "index": "products", "userToken": "u", "objectIDs": ["1"]}
BOUGHT = {**SEEN, "eventType": "conversion", "eventSubtype": "purchase"}
CLICKED = {**SEEN, "eventType": "click", "queryID": QUERY_ID, "positions": [1]}


@pytest.mark.parametrize(
    ("event", "field", "text"),
    [
        ({**SEEN, "eventName": ""}, "eventName", "is empty: it must be a string of 1 to 64 printable ASCII characters"),
        ({**SEEN, "index": ""}, "index", "is empty: it must be the name of an index"),
        ({**SEEN, "eventType": "buy"}, "eventType", "must be 'click', 'view', 'conversion' or 'instantsearch'"),
        ({**BOUGHT, "eventSubtype": "buy"}, "eventSubtype", "must be 'addToCart' or 'purchase'"),
        ({**SEEN, "filters": ["a:b"]}, "filters", "must not be given together with objectIDs"),
        (
            {**SEEN, "positions": [1]},
            "positions",
            "must not be given: only clicks after a search have them, with its queryID",
        ),
        ({**SEEN, "objectIDs": []}, "objectIDs", "is empty: it must be a list of 1 to 20 object IDs"),
        (
            {**CLICKED, "positions": None},
            "positions",
            "is missing: a click after a search needs one for each object",
        ),
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
        ({**BOUGHT, "objectIDs": None}, "objectIDs", "is missing: an event needs objectIDs or filters"),
        ({**SEEN, "objectIDs": None}, "objectIDs", "is missing: an event needs objectIDs or filters"),
        ({**SEEN, "objectIDs": None, "filters": []}, "filters", "is empty: it must be a list of 1 to 20 filters"),
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
def test_a_value_at_its_limits_is_accepted(value: Any) -> None:
    check({**BOUGHT, "value": value})


TOO_LONG = ": this Decimal has more digits than fit, so round it first, as in round(amount, 2)"


@pytest.mark.parametrize(
    ("bad", "field", "message"),
    [
        (
            {"eventType": "instantsearch", "eventName": "Seen", "userToken": "u", "agentID": ""},
            "agentID",
            "agentID is empty: it must be a string that is not empty (event 'Seen')",
        ),
        (
            event(objectIDs=[*(str(number) for number in range(19)), ""]),
            "objectIDs",
            "objectIDs must hold non-empty strings, not a string of 0 characters at position 20 (event 'Seen')",
        ),
        (
            purchase(value=Decimal("1.00000000000000000000001")),
            "value",
            f"value must be a number, or a string of at most 16 characters{TOO_LONG} (event 'Seen')",
        ),
        (
            purchase(objectData=[{"price": Decimal("1.00000000000000000000001")}]),
            "objectData.price",
            f"objectData.price must be a number or a string{TOO_LONG} (event 'Seen')",
        ),
        (
            purchase(objectData=[{"quantity": Decimal(1)}]),
            "objectData.quantity",
            "objectData.quantity must be an integer of 32 bits (event 'Seen')",
        ),
        (
            purchase(objectData=[{7: 1}]),
            "objectData",
            "objectData: int is not a field of an event (event 'Seen')",
        ),
    ],
)
def test_what_is_wrong_is_said_to_the_letter(bad: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(InvalidEventError) as caught:
        check(bad)

    assert (str(caught.value), caught.value.field) == (message, field)


@pytest.mark.parametrize(
    ("text", "of_what", "expected"),
    [
        (rules.object_ids_text, (["1"],), '"1"'),
        (rules.object_ids_text, (("1", '"'),), '"1","\\""'),
        (rules.object_ids_text, (["1", ""],), None),
        (rules.object_ids_text, ([""],), None),
        (rules.object_ids_text, ([1],), None),
        (rules.object_ids_text, (["1", 2],), None),
        (rules.object_ids_text, (["1", "2", "3"],), '"1","2","3"'),
        (rules.object_ids_text, (('","', "\\", "\n", "é"),), '"\\",\\"","\\\\","\\n","é"'),
        (rules.object_ids_text, (['a"', ""],), None),
        (rules.object_ids_text, ("12",), None),
        (rules.filters_text, (["a:b"],), '"a:b"'),
        (rules.filters_text, (("a:b", "c:d"),), '"a:b","c:d"'),
        (rules.filters_text, (['a:b","c:d'],), r'"a:b\",\"c:d"'),
        (rules.filters_text, (["a:b\n", "c:\\"],), r'"a:b\n","c:\\"'),
        (rules.filters_text, (["a:b", "é%3Ad"],), '"a:b","é%3Ad"'),
        (rules.filters_text, (["a:b", "c%"],), None),
        (rules.filters_text, (["a"],), None),
        (rules.filters_text, ({"a:b"},), None),
        (rules.positions_text, ([1], 1), "1"),
        (rules.positions_text, ((1, 22, 3), 3), "1,22,3"),
        (rules.positions_text, ([1, 2], 1), None),
        (rules.positions_text, ([1, True], 2), None),
        (rules.positions_text, ([10**5000], 1), None),
        (rules.positions_text, ({1}, 1), None),
        (rules.query_id_text, (QUERY_ID,), f'"{QUERY_ID}"'),
        (rules.query_id_text, ('message_"',), '"message_\\""'),
        (rules.query_id_text, ("x",), None),
        (rules.object_data_text, ({},), "{}"),
        (
            rules.object_data_text,
            ({"queryID": None, "price": 1.5, "discount": "é", "quantity": 2},),
            '{"price":1.5,"discount":"é","quantity":2}',
        ),
        (rules.object_data_text, ({"price": "1", "quantity": 2},), '{"price":"1","quantity":2}'),
        (
            rules.object_data_text,
            ({"queryID": QUERY_ID, "quantity": 2, "price": 1},),
            f'{{"price":1,"quantity":2,"queryID":"{QUERY_ID}"}}',
        ),
        (
            rules.object_data_text,
            ({"queryID": QUERY_ID, "quantity": 2, "price": 1, "discount": 0.5},),
            f'{{"price":1,"discount":0.5,"quantity":2,"queryID":"{QUERY_ID}"}}',
        ),
        (
            rules.object_data_text,
            ({"quantity": 2, "price": 1, "queryID": None, "discount": None},),
            '{"price":1,"quantity":2}',
        ),
        (rules.object_data_text, ({"quantity": 2, "price": 1, "queryID": "x"},), None),
        (rules.object_data_text, ({"quantity": 2, "price": 1, "queryID": QUERY_ID, "discount": []},), None),
        (rules.object_data_text, ({"quantity": 2, "price": 1, "colour": "red"},), None),
        (rules.object_data_text, ({"quantity": 2.0, "price": 1},), None),
        (rules.object_data_text, ({"quantity": 2, "price": True},), None),
        (rules.object_data_text, ({"quantity": 2, "price": -(10**309)},), None),
        (rules.object_data_text, ({"quantity": 2, "price": -(10**308)},), f'{{"price":-1{"0" * 308},"quantity":2}}'),
        (rules.object_data_text, ({"colour": "red"},), None),
    ],
)
def test_a_valid_event_is_written_as_compact_json(
    text: Callable[..., str | None], of_what: tuple[Any, ...], expected: str | None
) -> None:
    assert text(*of_what) == expected
