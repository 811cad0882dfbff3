from __future__ import annotations

import asyncio
import copy
import inspect
import json
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from algoliasearch.http.transporter import EchoTransporter
from algoliasearch.http.transporter_sync import EchoTransporterSync
from algoliasearch.insights import models
from algoliasearch.insights.client import InsightsClient, InsightsClientSync
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.insights.models import (
    ClickedObjectIDs,
    ClickEvent,
    EventsItems,
    InsightsEvents,
    ObjectDataAfterSearch,
    Price,
)
from taking import taken_events

from algolia_usertoken import (
    Identity,
    InvalidEventError,
    InvalidUserTokenError,
    MissingUserTokenError,
    TokenAwareInsightsClient,
    TokenAwareInsightsClientSync,
    TokenProvider,
    identity_scope,
)
from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.oldest_versions, pytest.mark.package_contents]

Push = Callable[..., Any]

QUERY_ID = "0123456789abcdef" * 2


def event(**changes: Any) -> dict[str, Any]:
    """A valid event that is nobody's; None leaves a field out."""
    fields = {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": ["1"], **changes}
    return {name: value for name, value in fields.items() if value is not None}


@pytest.fixture(params=["sync", "async"])
def push(request: pytest.FixtureRequest, algolia: LocalAlgolia) -> Push:
    """Push events through a client made with the keywords given, over HTTP, and return its answer."""

    def push(events: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            with TokenAwareInsightsClientSync.create_with_config(algolia.insights_config(), **kwargs) as client:
                return client.push_events(events)

        async def push_async() -> Any:
            async with TokenAwareInsightsClient.create_with_config(algolia.insights_config(), **kwargs) as client:
                return await client.push_events(events)

        return asyncio.run(push_async())

    return push


def tokens(algolia: LocalAlgolia) -> list[tuple[str, str | None]]:
    return [(event.user_token, event.authenticated_user_token) for event in algolia.events]


# -- Whose the events are ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "own", "expected"),
    [
        ("anon", {}, ("anon", None)),
        (Identity("anon", "login"), {}, ("anon", "login")),
        (Identity(None, "login"), {}, ("login", "login")),
        # An event with a user token of its own is somebody else's: it gets no login from here.
        (Identity("anon", "login"), {"userToken": "own"}, ("own", None)),
        (Identity("anon", "login"), {"userToken": "anon"}, ("anon", None)),
        (Identity("anon", "login"), {"userToken": "own", "authenticatedUserToken": "own-login"}, ("own", "own-login")),
        (Identity("anon", "login"), {"authenticatedUserToken": "own-login"}, ("anon", "own-login")),
        (None, {"userToken": "own"}, ("own", None)),
        (None, {"authenticatedUserToken": "own-login"}, ("own-login", "own-login")),
        (Identity(opted_out=True), {"userToken": "own"}, ("own", None)),
    ],
)
def test_push_events_fills_in_the_user_and_the_login(
    push: Push, algolia: LocalAlgolia, who: Any, own: dict[str, str], expected: tuple[str, str | None]
) -> None:
    events = {"events": [event(**own)]}
    before = copy.deepcopy(events)
    answer = push(events, user_token=who)

    assert (answer.status, answer.message) == (200, "OK")
    assert tokens(algolia) == [expected]
    assert events == before


def test_each_event_of_a_batch_is_filled_for_itself(push: Push, algolia: LocalAlgolia) -> None:
    with identity_scope(Identity("anon", "login")):
        push({"events": [event(), event(userToken="own"), event(authenticatedUserToken="other")]})

    assert tokens(algolia) == [("anon", "login"), ("own", None), ("anon", "other")]


def test_null_tokens_are_filled_in_too(push: Push, algolia: LocalAlgolia) -> None:
    push({"events": [{**event(), "userToken": None, "authenticatedUserToken": None}]}, user_token=Identity("a", "l"))

    assert tokens(algolia) == [("a", "l")]


def test_provider_is_asked_once_per_call(push: Push, algolia: LocalAlgolia) -> None:
    answers = iter(["first", "second"])
    push({"events": [event(), event()]}, token_provider=TokenProvider(resolve=lambda: next(answers)))

    assert tokens(algolia) == [("first", None)] * 2


def test_what_is_pushed_is_otherwise_as_it_was_given(push: Push, algolia: LocalAlgolia) -> None:
    given = event(
        eventType="conversion",
        eventSubtype="purchase",
        objectIDs=["1", "2"],
        objectData=[{"price": 1.5, "quantity": 2}, {"price": "3", "discount": 0}],
        value=4.5,
        currency="EUR",
    )
    push({"events": [given]}, user_token="u")

    assert [received.event for received in algolia.events] == [{**given, "userToken": "u"}]


def test_models_are_taken_and_not_changed(push: Push, algolia: LocalAlgolia) -> None:
    click = ClickedObjectIDs(
        event_name="Clicked", event_type=ClickEvent.CLICK, index="products", object_ids=["1"], user_token="own"
    )
    events = InsightsEvents(events=[EventsItems(click)])
    before = events.to_dict()
    answer = push(events, user_token=Identity("anon", "login"))

    assert (answer.status, tokens(algolia)) == (200, [("own", None)])
    assert events.to_dict() == before


# -- Opted out -----------------------------------------------------------------------------------------------------


def test_events_of_who_opted_out_are_quietly_left_out(push: Push, algolia: LocalAlgolia) -> None:
    answer = push({"events": [event(), event(userToken="own"), event()]}, user_token=Identity("u", "l", opted_out=True))

    assert (answer.status, answer.message) == (200, "OK")
    assert tokens(algolia) == [("own", None)]


def test_push_events_answers_as_algolia_would_where_nothing_is_to_send(push: Push, algolia: LocalAlgolia) -> None:
    answer = push({"events": [event(), event()]}, user_token=Identity("u", opted_out=True))

    assert (answer.status, answer.message) == (200, "OK")
    assert algolia.requests == []


@pytest.mark.parametrize("sync", [True, False])
def test_push_events_with_http_info_answers_where_nothing_is_to_send(sync: bool) -> None:
    who = Identity(opted_out=True)
    body = {"events": [event()]}
    if sync:
        answer = TokenAwareInsightsClientSync("APP", "key", user_token=who).push_events_with_http_info(body)
    else:
        client = TokenAwareInsightsClient("APP", "key", user_token=who)
        answer = asyncio.run(client.push_events_with_http_info(body))

    assert (answer.verb, answer.path, answer.status_code) == ("POST", "/1/events", 200)
    assert answer.raw_data == answer.data == '{"status": 200, "message": "OK"}'


# -- What Algolia would refuse -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "field", "message"),
    [
        (
            {"eventName": ""},
            "eventName",
            "eventName is empty: it must be a string of 1 to 64 printable",
        ),
        ({"objectIDs": []}, "objectIDs", "objectIDs is empty: it must be a list of 1 to 20"),
        ({"userToken": "a@b"}, "userToken", "userToken (3 characters) has '@' at position 2"),
        ({"authenticatedUserToken": "a@b"}, "authenticatedUserToken", "authenticatedUserToken (3 charac"),
        ({"timestamp": 1}, "timestamp", "timestamp is more than 30 days ago"),
    ],
)
@pytest.mark.parametrize("position", [0, 2])
def test_refusal_says_which_event_and_which_field(
    push: Push, algolia: LocalAlgolia, bad: dict[str, Any], field: str, message: str, position: int
) -> None:
    events = [event(), event(), event()]
    events[position] = event(**bad)
    with pytest.raises(InvalidEventError) as caught:
        push({"events": events}, user_token="u")

    assert str(caught.value).startswith(f"events[{position}]")
    assert message in str(caught.value)
    assert caught.value.field == field
    assert algolia.requests == []


@pytest.mark.parametrize("who", [None, Identity(), Identity(client_ip="203.0.113.7")])
def test_event_that_is_nobodys_is_refused(push: Push, algolia: LocalAlgolia, who: Any) -> None:
    with pytest.raises(MissingUserTokenError) as caught:
        push({"events": [event(userToken="own"), event(eventName="Seen too")]}, user_token=who)

    assert str(caught.value).startswith("events[1]: nobody to attribute the event 'Seen too' to")
    assert algolia.requests == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"events": []},
        {"events": None},
        {"events": "x"},
        {"events": (event() for _ in range(2))},
        {"events": {"eventType": "view"}},
        [event()],
        {"events": [event()] * 1001},
    ],
    ids=["empty", "no events", "null", "text", "generator", "object", "bare list", "1001"],
)
def test_body_without_1_to_1000_events_is_refused(push: Push, algolia: LocalAlgolia, body: Any) -> None:
    with pytest.raises(InvalidEventError, match=r"^events must be a list of 1 to 1000 events$") as caught:
        push(body, user_token="u")

    assert caught.value.field == "events"
    assert algolia.requests == []


def test_push_events_sends_a_thousand_events(push: Push, algolia: LocalAlgolia) -> None:
    push({"events": [event()] * 1000}, user_token="u")

    assert len(algolia.events) == 1000


@pytest.mark.parametrize("item", [None, "text", 7, ["eventType"]])
def test_event_that_is_no_mapping_is_refused(push: Push, item: Any) -> None:
    with pytest.raises(InvalidEventError, match=r"^events\[1\]: an event must be a mapping, not "):
        push({"events": [event(), item]}, user_token="u")


def test_push_events_leaves_a_missing_body_to_algoliasearch_to_refuse(push: Push) -> None:
    with pytest.raises(ValueError, match="insights_events"):
        push(None, user_token="u")


# -- The clients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(TokenAwareInsightsClient, InsightsClient), (TokenAwareInsightsClientSync, InsightsClientSync)],
)
def test_clients_are_those_of_algoliasearch(ours: Any, theirs: Any) -> None:
    assert issubclass(ours, theirs)
    assert list(inspect.signature(ours).parameters)[:5] == list(inspect.signature(theirs).parameters)
    client = ours("APP", "key", "de")
    assert client._config.hosts.read()[0].url == "insights.de.algolia.io"
    assert isinstance(client.token_provider, TokenProvider)


@pytest.mark.parametrize("client_class", [TokenAwareInsightsClient, TokenAwareInsightsClientSync])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"user_token": "a@b"}, InvalidUserTokenError, "user_token (3 characters) has '@'"),
        ({"token_provider": "u"}, TypeError, "token_provider must be a TokenProvider, not str"),
        ({"user_token": "u", "token_provider": TokenProvider()}, ValueError, "user_token and token_provider both say"),
    ],
)
def test_wrong_arguments_of_an_insights_client_are_named(
    client_class: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        client_class("APP", "key", **arguments)
    assert str(caught.value).startswith(message)
    with pytest.raises(error) as caught:
        client_class.create_with_config(InsightsConfig("APP", "key"), **arguments)
    assert str(caught.value).startswith(message)


class Mine(TokenAwareInsightsClientSync):
    """A client of somebody's own."""


@pytest.mark.parametrize(
    ("client_class", "transporter_class"),
    [
        (TokenAwareInsightsClient, EchoTransporter),
        (TokenAwareInsightsClientSync, EchoTransporterSync),
        (Mine, EchoTransporterSync),
    ],
)
def test_create_with_config_makes_a_client_of_its_class(client_class: Any, transporter_class: Any) -> None:
    config = InsightsConfig("APP", "key", "us")
    transporter = transporter_class(config)
    provider = TokenProvider()
    client = client_class.create_with_config(config, transporter, token_provider=provider)

    assert type(client) is client_class
    assert (client._config, client._transporter, client.token_provider) == (config, transporter, provider)
    assert client_class.create_with_config(config, user_token="u").token_provider.identity() == Identity("u")


def test_request_options_reach_algolia() -> None:
    config = InsightsConfig("APP", "key")
    client = TokenAwareInsightsClientSync(transporter=EchoTransporterSync(config), config=config, user_token="u")
    answer = client.push_events_with_http_info({"events": [event()]}, {"headers": {"x-other": "1"}})

    assert (answer.verb, answer.path, answer.headers["x-other"]) == ("POST", "/1/events", "1")


# -- Views ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(algolia: LocalAlgolia) -> Iterator[TokenAwareInsightsClientSync]:
    with TokenAwareInsightsClientSync.create_with_config(algolia.insights_config(), user_token="default") as client:
        yield client


@pytest.fixture
async def async_client(algolia: LocalAlgolia) -> AsyncIterator[TokenAwareInsightsClient]:  # type: ignore[misc]
    async with TokenAwareInsightsClient.create_with_config(algolia.insights_config(), user_token="default") as client:
        yield client


def test_view_pushes_as_its_identity(client: TokenAwareInsightsClientSync, algolia: LocalAlgolia) -> None:
    view = client.with_identity(Identity("view", "login"))
    with identity_scope("context"):
        for pusher in (view, view.with_identity("inner"), view.with_identity(None), client.with_identity(None), client):
            pusher.push_events({"events": [event()]})
        with pytest.raises(MissingUserTokenError):
            client.with_identity(Identity()).push_events({"events": [event()]})
    client.push_events({"events": [event()]})

    assert tokens(algolia) == [
        ("view", "login"),
        ("inner", None),
        ("view", "login"),
        ("context", None),
        ("context", None),
        ("default", None),
    ]
    assert view._transporter is client._transporter
    with pytest.raises(InvalidUserTokenError):
        client.with_identity("a@b")


class Closing(EchoTransporterSync):
    closed = 0

    def close(self) -> None:
        self.closed += 1


class AsyncClosing(EchoTransporter):
    closed = 0

    async def close(self) -> None:
        self.closed += 1


async def test_closing_a_view_closes_nothing() -> None:
    config = InsightsConfig("APP", "key")
    transporter, async_transporter = Closing(config), AsyncClosing(config)
    client = TokenAwareInsightsClientSync(transporter=transporter, config=config)
    with client.with_identity("u") as view, view.with_identity("v"):
        pass
    assert transporter.closed == 0
    client.close()
    assert transporter.closed == 1

    async_client = TokenAwareInsightsClient(transporter=async_transporter, config=config)
    async with async_client.with_identity("u") as async_view, async_view.with_identity("v"):
        pass
    assert async_transporter.closed == 0
    await async_client.close()
    assert async_transporter.closed == 1


async def test_async_view_pushes_as_its_identity(async_client: TokenAwareInsightsClient, algolia: LocalAlgolia) -> None:
    await async_client.with_identity("view").push_events({"events": [event()]})
    await async_client.push_events({"events": [event()]})

    assert tokens(algolia) == [("view", None), ("default", None)]


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"events": [event()], "user": 1}, {"user": 1}),
        ({"events": (event(),), "batch": {"id": [None, 1.5]}}, {"batch": {"id": [None, 1.5]}}),
        ({"Events": [event()], "": "x"}, {"": "x"}),
    ],
)
def test_what_stands_beside_events_is_sent_too(body: dict[str, Any], sent: dict[str, Any]) -> None:
    before = copy.deepcopy(body)
    config = InsightsConfig("APP", "key")
    client = TokenAwareInsightsClientSync.create_with_config(config, EchoTransporterSync(config), user_token="u")
    answer = client.push_events_with_http_info(body)

    assert answer.data is not None
    assert json.loads(answer.data) == {**sent, "events": [{**event(), "userToken": "u"}]}
    assert body == before


class Broken(dict[str, Any]):
    """Something whose every look inside raises an error that quotes a secret."""

    def get(self, *arguments: Any) -> Any:
        raise ZeroDivisionError("jane@example.com")

    __getitem__ = __iter__ = keys = items = values = __len__ = __contains__ = to_dict = get


class NotEvenThat:
    """Something that has a form to ask for, which it refuses to give."""

    def to_dict(self) -> Any:
        raise ZeroDivisionError("jane@example.com")


@pytest.mark.parametrize(
    ("body", "message", "field"),
    [
        ({"events": [event()], "user": object()}, "user has no JSON form: TypeError", "user"),
        ({"events": [event()], "jane@example.com": {1}}, "an unknown field has no JSON form: TypeError", None),
        ({"events": [event()], "Events": []}, "events is there twice, in different spellings", "events"),
        ({"_events": [event()]}, "_events is not a field of an event: use events", "_events"),
        ({"events": [event()], 7: 1}, "the name of a field must be a string, not int", None),
        (
            {"events": [event(), {**event(), "object_ids": []}]},
            "events[1]: object_ids is not a field of an",
            "object_ids",
        ),
        ({"events": [Broken()]}, "events[0]: eventName is missing: it must be a string", "eventName"),
        (
            {"events": [{**event(), "objectIDs": Broken()}]},
            "events[0]: objectIDs must be a list of 1 to 20",
            "objectIDs",
        ),
        (Broken(), "events must be a list of 1 to 1000 events", "events"),
        ({"events": [NotEvenThat()]}, "the event can't be read: ZeroDivisionError in test_insights.py", None),
        (NotEvenThat(), "the event can't be read: ZeroDivisionError in test_insights.py", None),
    ],
)
def test_what_can_not_be_sent_is_refused(
    push: Push, algolia: LocalAlgolia, body: Any, message: str, field: str | None
) -> None:
    with pytest.raises(InvalidEventError) as caught:
        push(body, user_token="u")

    assert str(caught.value).startswith(message)
    assert caught.value.field == field
    assert "jane" not in "".join(traceback.format_exception(caught.value))
    assert algolia.requests == []


def test_decimals_ids_and_models_are_taken(push: Push, algolia: LocalAlgolia) -> None:
    item = ObjectDataAfterSearch(query_id=QUERY_ID, price=Price(9.5), quantity=2)
    bought = {
        **event(),
        "eventType": "conversion",
        "eventSubtype": "purchase",
        "objectIDs": (7, UUID(int=5)),
        "objectData": [item, {"price": Decimal("79.90")}],
        "value": Decimal("98.9"),
    }
    push({"events": [bought]}, user_token="u")

    (arrived,) = algolia.events
    assert arrived.event["objectIDs"] == ["7", "00000000-0000-0000-0000-000000000005"]
    assert arrived.event["objectData"] == [{"queryID": QUERY_ID, "price": 9.5, "quantity": 2}, {"price": 79.9}]
    assert arrived.event["value"] == 98.9


# -- What algoliasearch posts --------------------------------------------------------------------------------------

PAID: dict[str, Any] = {"currency": "EUR", "value": models.Value(16.5)}
PRICES = [
    models.ObjectData(price=models.Price(10.5), quantity=1),
    models.ObjectData(price=models.Price("3"), discount=models.Discount("0.5"), quantity=2),
]
OF_A_SEARCH = models.ObjectDataAfterSearch(query_id=QUERY_ID, price=models.Price(1.0), discount=models.Discount(0.0))
ON_FILTERS: dict[str, Any] = {"object_ids": None, "filters": ["brand:Acme", "discount:10%25", "brand%3AAcme"]}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("ClickedObjectIDsAfterSearch", {"event_type": "click", "positions": [1, 12], "query_id": QUERY_ID}),
    ("ClickedObjectIDs", {"event_type": ClickEvent.CLICK, "authenticated_user_token": "login-1"}),
    ("ClickedFilters", {"event_type": "click", **ON_FILTERS}),
    ("ViewedObjectIDs", {"event_type": "view"}),
    ("ViewedFilters", {"event_type": "view", **ON_FILTERS}),
    ("ConvertedObjectIDs", {"event_type": "conversion"}),
    ("ConvertedObjectIDsAfterSearch", {"event_type": "conversion", "query_id": QUERY_ID}),
    ("ConvertedFilters", {"event_type": "conversion", **ON_FILTERS}),
    (
        "AddedToCartObjectIDs",
        {"event_type": "conversion", "event_subtype": "addToCart", "object_data": PRICES, **PAID},
    ),
    (
        "AddedToCartObjectIDsAfterSearch",
        {
            "event_type": "conversion",
            "event_subtype": "addToCart",
            "query_id": QUERY_ID,
            "object_data": [OF_A_SEARCH, models.ObjectDataAfterSearch(quantity=2)],
            **PAID,
        },
    ),
    (
        "PurchasedObjectIDs",
        {
            "event_type": "conversion",
            "event_subtype": "purchase",
            "object_data": PRICES,
            "value": models.Value("16.50"),
        },
    ),
    (
        "PurchasedObjectIDsAfterSearch",
        {
            "event_type": "conversion",
            "event_subtype": "purchase",
            "object_data": [OF_A_SEARCH, models.ObjectDataAfterSearch(price=models.Price(2.0))],
            **PAID,
        },
    ),
    ("Instantsearch", {"event_type": "instantsearch", "index": None, "object_ids": None, "agent_id": "agent-1"}),
]


@pytest.mark.parametrize(("name", "fields"), MODELS, ids=[name for name, _ in MODELS])
def test_what_algoliasearch_posts_of_its_models_is_taken(
    algolia: LocalAlgolia, name: str, fields: dict[str, Any]
) -> None:
    model_class = getattr(models, name, None)
    if model_class is None:
        pytest.skip("this release has no such model")
    fields = {
        "event_name": "It happened",
        "index": "products",
        "user_token": "user-1",
        "object_ids": ["1", "2"],
    } | fields
    made = model_class(**{field: value for field, value in fields.items() if value is not None})
    wrapped = EventsItems(made)

    with InsightsClientSync.create_with_config(algolia.insights_config()) as theirs:
        theirs.push_events(InsightsEvents(events=[wrapped]))
        theirs.push_events({"events": [made.to_dict()]})

    first, second = taken_events(algolia)
    assert first == second
    assert first.keys() >= {"eventName", "eventType", "userToken"}
