"""Events near the borders of Algolia's tables: the sender's door and LocalAlgolia judge them alike.

Both have the rules from the same tables (https://www.algolia.com/doc/rest-api/insights/push-events), written apart.
"""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import json
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from algoliasearch.http.exceptions import RequestException
from algoliasearch.insights import models
from algoliasearch.insights.client import InsightsClientSync
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from algolia_usertoken import (
    EventSender,
    Identity,
    InvalidEventError,
    MemoryDelivery,
    MissingUserTokenError,
    TokenAwareInsightsClientSync,
)
from algolia_usertoken.events import model, rules, text
from algolia_usertoken.local_algolia import insights_rules
from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.slow]

NOW = 1_800_000_000  # seconds
MS = NOW * 1000
MONTH = 30 * 24 * 60 * 60 * 1000
QUERY_ID = "0123456789abcdef" * 2

many = settings(max_examples=3 * settings().max_examples)
few = settings(max_examples=max(1, settings().max_examples // 5))  # where each one costs a request


@pytest.fixture(scope="module", autouse=True)
def _now() -> Iterator[None]:
    """The clock stands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: float(NOW))
        yield


@pytest.fixture(scope="module")
def server() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        yield algolia


# -- Events to judge -----------------------------------------------------------------------------------------------


def ids(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def row(event_type: str, subtype: str | None = None, **fields: Any) -> dict[str, Any]:
    about = {} if "filters" in fields else {"objectIDs": ids(2)}
    kind = {"eventType": event_type} if subtype is None else {"eventType": event_type, "eventSubtype": subtype}
    return {"eventName": "It happened", "index": "products", "userToken": "u", **kind, **about, **fields}


MONEY: dict[str, Any] = {
    "objectData": [{"price": 1, "discount": "0.5", "quantity": 2}, {}],
    "value": 2,
    "currency": "EUR",
}
ROWS = [
    row("click", positions=[1, 21], queryID=QUERY_ID),
    row("click"),
    row("view"),
    row("conversion"),
    row("click", filters=["brand:Acme"]),
    row("view", filters=["brand:Acme"]),
    row("conversion", filters=["brand:Acme"]),
    row("conversion", queryID=QUERY_ID),
    row("conversion", "addToCart", **MONEY, queryID=QUERY_ID),
    row("conversion", "addToCart", **MONEY),
    row("conversion", "purchase", objectData=[{"queryID": QUERY_ID}, {"price": 2}]),
    row("conversion", objectData=[{"queryID": QUERY_ID}, {}], objectIDsWithInferredQueryID=["0"]),
    row("conversion", "purchase", **MONEY),
    {"eventType": "instantsearch", "eventName": "Started", "userToken": "u", "timestamp": MS, "agentID": "1"},
]

# For each field: right, on the border, just beyond it.
NEAR: dict[str, list[Any]] = {
    "eventName": ["x", "x" * 64, "x" * 65, "", " ", "~", "\x7f", "\x1f", "a\n", "é"],
    "eventType": ["click", "view", "conversion", "Click", "", "instantsearch", "addToCart"],
    "eventSubtype": ["addToCart", "purchase", "addtocart", "", "click"],
    "index": ["x", "", "é", " "],
    "userToken": ["x" * 128, "x" * 129, "", "a@b", "a b", "u\n", "_=/+-"],
    "authenticatedUserToken": ["x" * 128, "x" * 129, "", "a@b", "l\n", "_=/+-"],
    "timestamp": [MS, MS - MONTH, MS - MONTH - 1, 0, -1, NOW, float(MS), str(MS), MS + MONTH, 2**63 - 1, 2**63],
    "objectIDs": [ids(1), ids(2), ids(3), ids(20), ids(21), [], [""], ["1", ""], ["1", 1], ["1", None], "12"],
    "filters": [
        ["a:b"],
        ["a:b"] * 20,
        ["a:b"] * 21,
        [],
        [""],
        ["a"],
        [":b"],
        ["a:"],
        ["a:b:c"],
        ["a:%20"],
        ["a:%2"],
        ["%3A:b"],
        ["%:b"],
        ["a b:c"],
        ["a%3Ab"],
        ["a%3ab%3A"],
        ["%3Ab"],
        ["a%3A"],
        ["a%3Ab:"],
        ["a%3Ab%"],
        ["a%253Ab"],
        ["rating%3E%3D4"],
        ["a:\n"],
        ["\n:a"],
        ["a:b", 1],
        "a:b",
        ["é:é"],
    ],
    "positions": [
        [1, 2],
        [1],
        [1, 2, 3],
        [0, 1],
        [-1, 1],
        [1, 1],
        [1, 1.0],
        [1, True],
        [1, "2"],
        [],
        [1, None],
        [1, 10**400],
    ],
    "queryID": [
        QUERY_ID,
        QUERY_ID[1:],
        QUERY_ID + "0",
        QUERY_ID.upper(),
        "g" * 32,
        QUERY_ID + "\n",
        "message_",
        "message_ ",
        "message_a b",
        "message_!~",
        "message_" + "x" * 120,
        "message_" + "x" * 121,
        "message_é",
        "message_\n",
        "Message_1",
        "",
    ],
    "objectData": [[{}, {}], [{}], [{}, {}, {}], [], [{}, None], [{}, 1], [{}, []], {}, [{}] * 20, [{}] * 21],
    "value": [0, -1, 1.5, "1" * 16, "1" * 17, "", "x", True, 10**400, float("inf"), float("nan"), float("-inf")],
    "currency": ["EUR", "eur", "EU", "EURO", "", "EU1", "EUR\n", "€€€", " EU"],
    "algoliaSource": [["autocomplete"], ["a", "b"], [], ["a", 1], [None], [["a"]], ["a"] * 21, [""], "a", ("a",)],
    "agentID": ["1", "", 7, ["1"]],
    # In another case: the same field, where the event has it.
    "agentId": ["1", ""],
    "queryId": [QUERY_ID, "x"],
    "objectIds": [ids(2), "12"],
    "EVENTTYPE": ["click", "instantsearch"],
    "Positions": [[1, 2]],
    "Currency": ["EUR", 7],
    "objectdata": [[{}, {}], 7],
    # Nearly.
    "event_name": ["x", None],
    "object_ids": [ids(2)],
    "agent_id": ["1"],
    "event-type": ["click"],
    # Unknown.
    "sessionID": ["s", {"a": [None, 1.5]}],
    "price": [1, "x", [1]],
    "": [1],
    "é\ud800": [1],
}
KEYS: dict[str, list[Any]] = {
    "price": [0, -1, 1.5, "", "1" * 17, True, None, [], 10**400, float("inf")],
    "discount": [0, 1.5, "1" * 17, False, {}, float("nan")],
    "quantity": [0, -1, 1, 1.0, "1", True, None, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1],
    "queryID": [*NEAR["queryID"], None, 7],
    "queryId": [QUERY_ID, "x"],
    "objectID": ["1"],
    "query_id": [QUERY_ID, None],
}
ANYTHING = [None, 0, 1, -1, True, False, 1.5, "", "x", [], {}, [[]], [{}], ["x"], {"x": 1}, [None], [1]]

SINGLE_CHANGES: list[tuple[str, Any]] = [
    *((field, value) for field, values in NEAR.items() for value in values),
    *((field, value) for field in NEAR if field.isalpha() for value in [..., *ANYTHING]),
    *(("objectData", [{}, {key: value}]) for key, values in KEYS.items() for value in values),
]
near = st.sampled_from(SINGLE_CHANGES)
changes = st.one_of(
    near,
    near,
    near,
    near,
    st.tuples(st.just("eventName"), st.text(max_size=66)),
    st.tuples(st.sampled_from(["userToken", "authenticatedUserToken"]), st.text("aZ9_=/+-.\n", max_size=4)),
    st.tuples(st.just("timestamp"), st.integers(MS - MONTH - 2, MS - MONTH + 2)),
    st.tuples(st.just("filters"), st.lists(st.text("a:%23AFz\n", max_size=7), max_size=2)),
    st.tuples(st.just("objectIDs"), st.integers(0, 22).map(ids)),
    st.tuples(st.just("positions"), st.lists(st.integers(-1, 40), max_size=3)),
    st.tuples(st.just("value"), st.floats() | st.integers() | st.text(max_size=17)),
    st.tuples(st.just("currency"), st.text("aZ1é", min_size=2, max_size=4)),
)


def changed(event: dict[str, Any], changes: list[tuple[str, Any]]) -> dict[str, Any]:
    event = copy.deepcopy(event)
    for field, value in changes:
        if value is ...:
            event.pop(field, None)
        else:
            event[field] = copy.deepcopy(value)
    return event


events = st.builds(changed, st.sampled_from(ROWS), st.lists(changes, max_size=3))


# -- The two verdicts ----------------------------------------------------------------------------------------------


def as_sent(event: Any) -> Any:
    """What a server reads: JSON, and what is None was left out."""

    def without(mapping: Any) -> Any:
        if not isinstance(mapping, dict):
            return mapping
        return {key: value for key, value in mapping.items() if value is not None}

    event = without(event)
    if isinstance(event, dict) and isinstance(event.get("objectData"), list):
        event["objectData"] = [without(item) for item in event["objectData"]]
    return json.loads(json.dumps(event))


def of_the_door(event: Any) -> Any:
    """The event as it would be sent, or None: refused."""
    try:
        sent = model.attributed(event, None)
    except (InvalidEventError, MissingUserTokenError):
        return None
    assert sent is not None
    return text.without_nones(sent)


def of_the_stand_in(event: Any) -> bool:
    """Whether it takes a batch of this one."""
    return insights_rules.refusal({"events": [event]}, NOW) is None


# What the door refuses and LocalAlgolia takes, on purpose.

COMMON = {"eventName", "eventType", "userToken", "authenticatedUserToken", "timestamp"}
ABOUT = COMMON | {"index", "objectIDs", "filters", "positions", "queryID"}
HAS = {
    "click": ABOUT,
    "view": ABOUT,
    "conversion": ABOUT | {"eventSubtype", "objectData", "value", "currency"},
    "instantsearch": COMMON | {"agentID"},
}


def fields_of(event: dict[str, Any]) -> set[str]:
    """The fields that an event of its type has."""
    event_type = next((value for name, value in event.items() if name.lower() == "eventtype"), None)
    return (
        HAS.get(event_type, set().union(*HAS.values())) if isinstance(event_type, str) else set().union(*HAS.values())
    )


def spelled_in(event: dict[str, Any]) -> set[str]:
    """The fields whose names are put right on it, where their letters are in another case."""
    fields = fields_of(event)
    return fields if fields == HAS["instantsearch"] else HAS["conversion"] | fields


def is_nearly_a_field(event: Any) -> bool:
    """The name of a field in snake case is a mistake, though Algolia takes it for one that it does not know."""

    def has(mapping: dict[str, Any], fields: set[str]) -> bool:
        lowered = {field.lower() for field in fields}
        return any(
            name not in fields
            and name.lower() not in lowered
            and name.translate({ord(separator): None for separator in "_- "}).lower() in lowered
            for name in mapping
        )

    items = event.get("objectData")
    data = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return has(event, fields_of(event)) or any(has(item, {"price", "discount", "quantity", "queryID"}) for item in data)


def is_there_twice(event: Any) -> bool:
    """A field in two spellings: which one Algolia reads is not known."""
    lowered = [name.lower() for name in event if name.lower() in {field.lower() for field in spelled_in(event)}]
    return len(lowered) != len(set(lowered))


def is_in_another_case(event: Any) -> bool:
    """The name of a field, put right by both."""
    fields = spelled_in(event)
    lowered = {field.lower() for field in fields}
    return any(name not in fields and name.lower() in lowered for name in event)


def has_no_json_form(event: Any) -> bool:
    """What JSON has no form for would not be sent."""
    try:
        json.dumps(event, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return True
    return False


STRICTER = [is_nearly_a_field, is_there_twice, has_no_json_form]


def judge(event: dict[str, Any]) -> None:
    before = repr(event)
    sent = of_the_door(event)

    ordinary = text.written_event(event)
    written = None if ordinary is None else text.ended(ordinary, None, MS)
    if written is not None:  # it was an ordinary one
        assert sent is not None, event
        assert json.loads(written) == as_sent({"timestamp": MS} | sent), event

    if sent is not None:
        assert of_the_stand_in(as_sent(sent)), event
    else:
        assert not of_the_stand_in(as_sent(event)) or any(applies(event) for applies in STRICTER), event
    assert repr(event) == before


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_the_door_and_the_stand_in_agree_on_each_change_of_one_field(number: int) -> None:
    for change in SINGLE_CHANGES:
        judge(changed(ROWS[number], [change]))


@many
@given(events)
def test_the_door_and_the_stand_in_agree_on_any_changes(event: dict[str, Any]) -> None:
    judge(event)


FILTERS = st.lists(
    st.sampled_from([*":<>=!%ab13A \n", "é", "%3A", "%3a", "%3C", "%3e", "%3D", "%25", "%21"]), max_size=6
).map("".join)


@many
@given(FILTERS)
def test_the_door_and_the_stand_in_read_filters_alike(text: str) -> None:
    event = row("view", filters=[text])
    assert (of_the_door(event) is not None) == of_the_stand_in(event)


@pytest.mark.parametrize(
    ("applies", "event"),
    [
        (is_nearly_a_field, row("view", object_ids=["1"])),
        (is_nearly_a_field, row("click", query_id=None)),
        (is_nearly_a_field, {"eventType": "instantsearch", "eventName": "x", "userToken": "u", "agent_id": "1"}),
        (is_there_twice, row("view", OBJECTIDS=ids(2))),
        (has_no_json_form, row("view", sessionID=float("nan"))),
        (has_no_json_form, row("view", **{"\ud800": 1})),
    ],
)
def test_the_door_is_stricter_than_the_stand_in_only_where_it_is_meant_to_be(
    applies: Callable[[Any], bool], event: dict[str, Any]
) -> None:
    assert [each for each in STRICTER if each(event)] == [applies]
    assert of_the_door(event) is None
    if applies is not is_there_twice:
        assert of_the_stand_in(as_sent(event))


@given(st.sampled_from(ROWS))
def test_the_door_and_the_stand_in_take_the_rows_of_the_table(event: dict[str, Any]) -> None:
    assert of_the_door(event) == event
    assert of_the_stand_in(event)


@given(st.one_of(st.sampled_from(ANYTHING), st.lists(st.sampled_from(ANYTHING), max_size=2)))
def test_the_door_and_the_stand_in_refuse_what_is_no_event(thing: Any) -> None:
    assert of_the_door(thing) is None
    assert not of_the_stand_in(thing)


@given(
    events,
    st.none() | st.builds(Identity, st.none() | st.just("who"), st.none() | st.just("login"), opted_out=st.booleans()),
)
def test_the_stand_in_takes_what_the_door_has_filled_in(event: dict[str, Any], identity: Identity | None) -> None:
    try:
        sent = model.attributed(event, identity, MS)
    except (InvalidEventError, MissingUserTokenError):
        return
    if sent is None:
        assert identity is not None
        assert identity.opted_out
        assert event.get("userToken") is None
        return
    assert of_the_stand_in(as_sent(text.without_nones(sent)))
    assert sent["userToken"] == (
        event.get("userToken") or (identity and identity.user_token) or sent.get("authenticatedUserToken")
    )
    assert sent["timestamp"] == (MS if event.get("timestamp") is None else event["timestamp"])
    # Somebody else's event gets no login from here.
    login = identity.authenticated_user_token if identity is not None and event.get("userToken") is None else None
    assert sent.get("authenticatedUserToken") == (event.get("authenticatedUserToken") or login)


# -- A third opinion: algoliasearch's models -----------------------------------------------------------------------

# The class of an event, by the fields that the specification discriminates by (x-discriminator-fields), in its order.
CLASSES: list[tuple[Any, dict[str, Any]]] = [
    (models.ClickedObjectIDsAfterSearch, {"eventType": "click", "positions": ..., "queryID": ...}),
    (
        models.AddedToCartObjectIDsAfterSearch,
        {"eventType": "conversion", "eventSubtype": "addToCart", "queryID": ..., "objectIDs": ...},
    ),
    (
        models.PurchasedObjectIDsAfterSearch,
        {"eventType": "conversion", "eventSubtype": "purchase", "objectIDs": ..., "objectData": ...},
    ),
    (models.ConvertedObjectIDsAfterSearch, {"eventType": "conversion", "queryID": ...}),
    (models.ClickedObjectIDs, {"eventType": "click", "objectIDs": ...}),
    (models.PurchasedObjectIDs, {"eventType": "conversion", "eventSubtype": "purchase", "objectIDs": ...}),
    (models.AddedToCartObjectIDs, {"eventType": "conversion", "eventSubtype": "addToCart", "objectIDs": ...}),
    (models.ConvertedObjectIDs, {"eventType": "conversion", "objectIDs": ...}),
    (models.ClickedFilters, {"eventType": "click", "filters": ...}),
    (models.ConvertedFilters, {"eventType": "conversion", "filters": ...}),
    (models.ViewedObjectIDs, {"eventType": "view", "objectIDs": ...}),
    (models.ViewedFilters, {"eventType": "view", "filters": ...}),
    (getattr(models, "Instantsearch", None), {"eventType": "instantsearch"}),  # which earlier releases do not have
]
knows_all = pytest.mark.skipif(not hasattr(models, "Instantsearch"), reason="this release has no thirteenth event")

# Where the models take what the door refuses: the field, words of the refusal, and why the models do not see it.
LAXER: list[tuple[str | None, str, str]] = [
    ("eventName", "1 to 64 printable", "the pattern has no end in the models, nor has the length"),
    ("userToken", "userToken", "likewise, and the specification says 129 where the answer says 128"),
    ("authenticatedUserToken", "authenticatedUserToken", "likewise"),
    (
        "queryID",
        "32 hexadecimal digits",
        "likewise; and a view, or InstantSearch's event, has no queryID in the models",
    ),
    ("objectData.queryID", "32 hexadecimal digits", "likewise"),
    ("currency", "three letters", "the pattern takes a line break at the end"),
    ("index", "name of an index", "the models take an empty name; the answer 422 asks for one"),
    ("eventSubtype", "'addToCart' or 'purchase'", "any other makes it a plain conversion, which has no such field"),
    ("objectIDs", "list of 1 to 20", "the models know no lengths of lists"),
    ("objectIDs", "non-empty", "the models take an empty id, which is none"),
    ("filters", "list of 1 to 20", "the models know no lengths of lists"),
    ("filters", "facet:value", "that they are pairs, encoded, is said in words"),
    ("filters", "together with objectIDs", "one field against another: the models see one at a time"),
    ("positions", "only clicks after a search", "the models have no positions there; the answer 422 forbids them"),
    ("positions", "is missing", "a click with a queryID and no positions is a plain click to the models"),
    ("positions", "items for", "one field against another"),
    ("positions", "at least 1", "the models know no least number, and make numbers of texts and truths"),
    ("objectData", "items for", "one field against another"),
    ("objectData", "must be a list", "the models take what is empty for nothing"),
    ("objectData.price", "number or a string", "the model of a price takes any JSON"),
    ("objectData.discount", "number or a string", "the model of a discount takes any JSON"),
    ("objectData.quantity", "32 bits", "a number of any size, and one is made of texts and truths"),
    ("value", "number, or a string", "the model of a value takes any JSON, and knows no length"),
    ("timestamp", "30 days", "the models do not look at the clock"),
    ("timestamp", "integer of milliseconds", "a number of any size, and one is made of texts and truths"),
    ("agentID", "not empty", "the models know no least length"),
    (None, "is not a field of an event", "the models let unknown fields of objectData pass, and near misses"),
    (None, "is there twice", "the models know names in one case"),
]
# Where the door takes what the class that is chosen refuses.
STRICTER_MODELS = [
    ("a conversion of filters with a queryID fits another class, without it", lambda event: "filters" in event),
    ("a queryID of an agent's message is new in the specification", lambda event: "message_" in str(event)),
    (
        "InstantSearch's event is new in the specification",
        lambda event: event.get("eventType") == "instantsearch" and CLASSES[-1][0] is None,
    ),
]


def of_the_model(event: Any) -> bool:
    """Whether the model of its class takes an event."""

    def fits(fields: dict[str, Any]) -> bool:
        return all(event.get(name, value) == value or value is ... for name, value in fields.items()) and all(
            event.get(name) is not None for name in fields
        )

    chosen = next((model_class for model_class, fields in CLASSES if model_class is not None and fits(fields)), None)
    if chosen is None:
        return False
    try:
        chosen.from_dict(copy.deepcopy(event))
    except (ValueError, TypeError, AttributeError):  # ValidationError is a ValueError; the others, of what is no object
        return False
    return True


def reason_of(error: InvalidEventError) -> tuple[str | None, str, str] | None:
    """Why the models may well take what was refused with this error."""
    said = str(error)
    return next((row for row in LAXER if row[0] in (None, error.field) and row[1] in said), None)


def laxer(event: dict[str, Any]) -> InvalidEventError | None:
    """What the door says of an event that the models take and it does not."""
    try:
        model.attributed(event, None)
    except InvalidEventError as error:
        return None if has_no_json_form(event) or not of_the_model(as_sent(event)) else error
    except MissingUserTokenError:
        pass
    return None


def ask_the_model(event: dict[str, Any]) -> None:
    sent = of_the_door(event)
    if sent is not None:
        sent = as_sent(sent)
        assert of_the_model(sent) or any(applies(sent) for _, applies in STRICTER_MODELS), event
        return
    error = laxer(event)
    assert error is None or reason_of(error), (event, error)


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_the_door_and_the_models_of_algoliasearch_agree_on_each_change_of_one_field(number: int) -> None:
    assert of_the_model(ROWS[number]) or any(applies(ROWS[number]) for _, applies in STRICTER_MODELS)
    for change in SINGLE_CHANGES:
        ask_the_model(changed(ROWS[number], [change]))


@many
@given(events)
def test_the_door_and_the_models_of_algoliasearch_agree_on_any_changes(event: dict[str, Any]) -> None:
    ask_the_model(event)


@knows_all
def test_each_reason_for_a_laxer_model_is_needed() -> None:
    changed_events = (changed(one, [change]) for one, change in itertools.product(ROWS, SINGLE_CHANGES))
    found = {reason_of(error) for event in changed_events if (error := laxer(event)) is not None}

    assert [row for row in LAXER if row not in found] == []


# -- The same over HTTP --------------------------------------------------------------------------------------------


@few
@given(st.lists(events, min_size=1, max_size=3))
def test_a_batch_is_taken_or_refused_as_a_whole(server: LocalAlgolia, batch: list[dict[str, Any]]) -> None:
    assume(not any(applies(event) for applies in [*STRICTER, is_in_another_case] for event in batch))
    assume("nan" not in repr(batch).lower())  # which is no JSON
    assume("inf" not in repr(batch).lower())
    server.clear()
    with InsightsClientSync.create_with_config(server.insights_config()) as unchecked:
        try:
            unchecked.push_events({"events": [as_sent(event) for event in batch]})
            taken, status = True, 200
        except RequestException as error:
            taken = False
            status = error.status_code
    assert status == (200 if taken else 422)
    of_users = [as_sent(event) for event in batch if event.get("eventType") != "instantsearch"]
    assert [arrived.event for arrived in server.events] == (of_users if taken else [])

    with TokenAwareInsightsClientSync.create_with_config(server.insights_config()) as checked:
        if taken:
            checked.push_events({"events": batch})
            assert [arrived.event for arrived in server.events] == of_users * 2
        else:
            requests = len(server.requests)
            try:
                checked.push_events({"events": batch})
            except (InvalidEventError, MissingUserTokenError):
                assert len(server.requests) == requests
            else:  # a login made up for a missing user token
                assert any(event.get("userToken") is None for event in batch)


# -- The twelve ----------------------------------------------------------------------------------------------------

ARGUMENTS: dict[str, st.SearchStrategy[Any]] = {
    "event_name": st.sampled_from(["It happened", "It happened", *NEAR["eventName"]]),
    "index_name": st.sampled_from(["products", "products", *NEAR["index"]]),
    "object_ids": st.one_of(st.integers(0, 63).map(ids), st.sampled_from(NEAR["objectIDs"])),
    "filters": st.one_of(st.lists(st.just("a:b"), max_size=43), st.sampled_from(NEAR["filters"])),
    "positions": st.one_of(
        st.integers(0, 63).map(lambda count: [*range(1, count + 1)]), st.sampled_from(NEAR["positions"])
    ),
    "query_id": st.sampled_from([QUERY_ID, QUERY_ID, None, *NEAR["queryID"]]),
    "object_data": st.one_of(
        st.none(),
        st.integers(0, 63).map(lambda count: [{"queryID": QUERY_ID, "price": 1} for _ in range(count)]),
        st.sampled_from(NEAR["objectData"]),
    ),
    "value": st.none() | st.sampled_from(NEAR["value"]),
    "currency": st.none() | st.sampled_from(NEAR["currency"]),
}
METHODS = [
    name
    for name, method in inspect.getmembers(EventSender, inspect.isfunction)
    if not name.startswith("_") and {"event_name", "index_name"} <= inspect.signature(method).parameters.keys()
]


def arguments_of(name: str) -> list[str]:
    """The arguments of one of the twelve, but for whose and when."""
    return [argument for argument in inspect.signature(getattr(EventSender, name)).parameters if argument in ARGUMENTS]


def test_the_event_methods_are_twelve() -> None:
    assert len(METHODS) == 12


@given(st.data(), st.sampled_from(METHODS), st.booleans())
def test_the_stand_in_takes_what_an_event_method_accepts(data: st.DataObject, name: str, in_step: bool) -> None:
    wanted = inspect.signature(getattr(EventSender, name)).parameters
    arguments = {argument: data.draw(values, argument) for argument, values in ARGUMENTS.items() if argument in wanted}
    if in_step and "object_ids" in arguments:  # or no random lists would ever be of one length
        count = len(arguments["object_ids"])
        arguments.update({"positions": [*range(1, count + 1)]} if "positions" in arguments else {})
        if arguments.get("object_data") is not None:
            arguments["object_data"] = [{"queryID": QUERY_ID} for _ in range(count)]
    before = repr(arguments)
    delivery = MemoryDelivery()

    with EventSender(delivery=delivery, background=False, user_token="u") as sender:
        accepted = getattr(sender, name)(**arguments)
        assert sender.flush()

    assert repr(arguments) == before
    assert bool(delivery.events) == accepted
    if accepted:
        assert insights_rules.refusal(json.loads(delivery.batches[0].body), NOW) is None
        field = "objectIDs" if "object_ids" in arguments else "filters"
        given_ids = arguments.get("object_ids", arguments.get("filters"))
        assert [item for event in delivery.events for item in event[field]] == list(map(str, given_ids))


# -- Splitting -----------------------------------------------------------------------------------------------------

objects = st.integers(0, 90).map(ids)


@given(
    st.sampled_from(["objectIDs", "filters"]),
    objects,
    st.sets(st.sampled_from(["positions", "objectData", "value", "queryID"])),
)
def test_the_parts_of_an_event_are_the_whole(about: str, items: list[str], extra: set[str]) -> None:
    event: dict[str, Any] = {"eventName": "x", about: tuple(items)}
    values = {
        "positions": list(range(1, len(items) + 1)),
        "objectData": [{"price": number} for number in range(len(items))],
        "value": 7,
        "queryID": QUERY_ID,
    }
    event |= {field: values[field] for field in extra}

    parts = model.split(dict(event))

    lists = [about, *({"positions", "objectData"} & extra)]
    for field in lists:
        assert [item for part in parts for item in part[field]] == list(event[field])
        assert all(len(part[field]) == len(part[about]) <= 20 for part in parts)
        assert all(type(part[field]) is list and part[field] is not event[field] for part in parts)
    assert len(parts) == max(1, -(-len(items) // 20))
    assert [part.get("value") for part in parts] == [event.get("value"), *[None] * (len(parts) - 1)]
    rest = {"eventName", "queryID"} & set(event)
    assert all(
        {key: part[key] for key in part if key not in (*lists, "value")} == {key: event[key] for key in rest}
        for part in parts
    )


# -- Apart ---------------------------------------------------------------------------------------------------------


def imported(module: ModuleType) -> set[str]:
    """What a module imports from this package."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and (node.level or str(node.module).startswith("algolia_usertoken")):
            found.add("." * node.level + (node.module or ""))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("algolia_usertoken")}
    return found


def test_neither_the_door_nor_the_stand_in_imports_the_others_rules() -> None:
    assert imported(insights_rules) == set()
    assert imported(rules) == {"..", "..checks", "..errors", "."}
