from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import hmac
import importlib.util
import inspect
import os
import pathlib
import pickle
import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any
from unittest import mock
from urllib.parse import parse_qs

import pytest
from algoliasearch.http.exceptions import RequestException
from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.http.transporter import EchoTransporter, Transporter
from algoliasearch.http.transporter_sync import EchoTransporterSync, TransporterSync
from algoliasearch.insights.client import InsightsClient, InsightsClientSync
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.recommend.client import RecommendClient, RecommendClientSync
from algoliasearch.search.client import SearchClient, SearchClientSync
from algoliasearch.search.config import SearchConfig, TransformationOptions
from algoliasearch.search.models import SearchParamsObject, SecuredApiKeyRestrictions
from program_files import run_program
from waiting import PATIENCE

from algolia_usertoken import (
    EventOptions,
    EventSender,
    EventStats,
    Identity,
    InvalidEventError,
    InvalidUserTokenError,
    MemoryDelivery,
    MissingUserTokenError,
    SQLiteOutbox,
    TokenAwareClient,
    TokenAwareClientSync,
    TokenAwareInsightsClient,
    TokenAwareInsightsClientSync,
    TokenAwareTransporter,
    TokenAwareTransporterSync,
    TokenProvider,
    identity_scope,
    make_token_aware,
)
from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.oldest_versions, pytest.mark.package_contents, pytest.mark.slow]

HEADER = "X-Algolia-UserToken"
IP = "203.0.113.7"

CLIENTS = [
    ("abtesting", "Abtesting"),
    ("abtesting_v3", "AbtestingV3"),
    ("agent_studio", "AgentStudio"),
    ("analytics", "Analytics"),
    ("composition", "Composition"),
    ("ingestion", "Ingestion"),
    ("insights", "Insights"),
    ("monitoring", "Monitoring"),
    ("personalization", "Personalization"),
    ("query_suggestions", "QuerySuggestions"),
    ("recommend", "Recommend"),
    ("search", "Search"),
]
# Older versions lack some.
CLIENTS = [(room, name) for room, name in CLIENTS if importlib.util.find_spec(f"algoliasearch.{room}")]


def echo(**kwargs: Any) -> TokenAwareClientSync:
    """A client whose answers are its requests."""
    config = SearchConfig("APP", "key")
    return TokenAwareClientSync(transporter=EchoTransporterSync(config), config=config, **kwargs)


def async_echo(**kwargs: Any) -> TokenAwareClient:
    config = SearchConfig("APP", "key")
    return TokenAwareClient(transporter=EchoTransporter(config), config=config, **kwargs)


def searched(client: Any, **options: Any) -> dict[str, str]:
    """The headers of a search."""
    answer = client.search_single_index_with_http_info("products", {"query": "shoe"}, options or None)
    if inspect.isawaitable(answer):
        answer = asyncio.run(_result(answer))
    headers: dict[str, str] = answer.headers
    return headers


async def _result(awaitable: Any) -> Any:
    return await awaitable


def users(algolia: LocalAlgolia) -> list[str | None]:
    return [search.user_token for search in algolia.searches]


def header(request: Any) -> str | None:
    return {name.lower(): value for name, value in request.headers.items()}.get(HEADER.lower())


# -- The constructor -----------------------------------------------------------------------------------------------


def test_clients_are_those_of_algoliasearch() -> None:
    assert issubclass(TokenAwareClient, SearchClient)
    assert issubclass(TokenAwareClientSync, SearchClientSync)
    for ours, theirs in ((TokenAwareClient, SearchClient), (TokenAwareClientSync, SearchClientSync)):
        assert list(inspect.signature(ours).parameters)[:4] == list(inspect.signature(theirs).parameters)


@pytest.mark.parametrize(
    "client_class", [TokenAwareClient, TokenAwareClientSync, TokenAwareInsightsClient, TokenAwareInsightsClientSync]
)
def test_application_and_key_are_those_of_the_environment_where_none_are_given(
    client_class: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALGOLIA_APP_ID", "APP")
    monkeypatch.setenv("ALGOLIA_API_KEY", "a-key")
    given = client_class("MINE", "mine")._config
    client = client_class()

    assert (given.app_id, given.api_key) == ("MINE", "mine")
    assert (client._config.app_id, client._config.api_key) == ("APP", "a-key")
    assert client._config.headers["x-algolia-api-key"] == "a-key"
    assert (client_class("MINE")._config.app_id, client_class("MINE")._config.api_key) == ("MINE", "a-key")
    assert client_class(config=given)._config is given
    assert client_class(transporter=client_class("MINE", "mine")._transporter)._config.app_id == "MINE"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (TokenAwareClient, SearchClient),
        (TokenAwareClientSync, SearchClientSync),
        (TokenAwareInsightsClient, InsightsClient),
        (TokenAwareInsightsClientSync, InsightsClientSync),
    ],
)
def test_methods_take_what_those_of_algoliasearch_take(ours: Any, theirs: Any) -> None:
    for name, method in inspect.getmembers(theirs, inspect.isroutine):
        if name.startswith("_") or name == "create_with_config":  # which takes more
            continue
        mine = getattr(ours, name)
        assert list(inspect.signature(mine).parameters) == list(inspect.signature(method).parameters), name
        assert inspect.iscoroutinefunction(mine) == inspect.iscoroutinefunction(method), name


@pytest.mark.parametrize("client_class", [TokenAwareClient, TokenAwareClientSync])
def test_clients_can_be_mocked_from_their_class(client_class: Any) -> None:
    client = mock.create_autospec(client_class)("APP", "key")

    assert isinstance(client, client_class)
    is_async = client_class is TokenAwareClient
    for name in ("search_single_index", "close", "set_transformation_options", "secured_api_key"):
        assert isinstance(getattr(client, name), mock.AsyncMock) == is_async
    with pytest.raises(TypeError, match="index_name"):
        client.search_single_index()


def test_a_patched_method_is_that_of_views_too() -> None:
    with mock.patch.object(TokenAwareClientSync, "search_single_index", autospec=True) as search:
        echo().search_single_index("products", {})
        echo().with_identity("u").search_single_index("products", {})
    client = echo()
    with mock.patch.object(client, "search_single_index") as search_of_one:
        client.search_single_index("products", {})
        client.with_identity("u").search_single_index("products", {})

    assert (search.call_count, search_of_one.call_count) == (2, 2)


@pytest.mark.parametrize("client_class", [TokenAwareClient, TokenAwareClientSync])
def test_constructor_takes_what_algoliasearch_takes(client_class: Any) -> None:
    assert client_class("APP", "key")._config.app_id == "APP"
    assert client_class(app_id="APP", api_key="key")._config.api_key == "key"
    config = SearchConfig("APP", "key")
    assert client_class(config=config)._config is config
    plain = (Transporter if client_class is TokenAwareClient else TransporterSync)(config)
    assert client_class("ignored", "ignored", plain)._config.app_id == "APP"
    with pytest.raises((AssertionError, ValueError), match="`app_id` is missing"):
        client_class("", "key")


@pytest.mark.parametrize("client_class", [TokenAwareClient, TokenAwareClientSync])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"user_token": "a@b"}, InvalidUserTokenError, "user_token (3 characters) has '@' at position 2"),
        ({"user_token": ""}, InvalidUserTokenError, "user_token is empty: to send no token, use None"),
        ({"user_token": 7}, InvalidUserTokenError, "user_token must be an Identity or a string, not int"),
        ({"token_provider": "u"}, TypeError, "token_provider must be a TokenProvider, not str"),
        (
            {"user_token": "u", "token_provider": TokenProvider()},
            ValueError,
            "user_token and token_provider both say whose calls these are: give one, or TokenProvider(default=",
        ),
        (
            {"user_token_in": "cookie"},
            ValueError,
            "user_token_in must be one of 'header', 'parameter', 'both', not another string, of 6 characters",
        ),
        (
            {"on_missing_user_token": "log"},
            ValueError,
            "on_missing_user_token must be one of 'ignore', 'warn', 'raise', not another string, of 3 characters",
        ),
        (
            {"events": "u"},
            TypeError,
            "events must be an EventSender, or its options as a mapping (EventOptions), not str",
        ),
        ({"events": [("strict", True)]}, TypeError, "events must be an EventSender, or its options as a mapping"),
        (
            {"events": {"stict": True}},
            TypeError,
            "events has no option 'stict': its options are delivery, ",
        ),
        ({"events": {7: True}}, TypeError, "events has no option 7: its options are delivery, outbox"),
        ({"events": {"user_token": "u"}}, TypeError, "events cannot have the option 'user_token': give user_token to"),
        (
            {"events": {"region": "de"}},
            TypeError,
            "events cannot have the option 'region': give insights_region to the",
        ),
        (
            {"events": {"config": None}},
            TypeError,
            "events cannot have the option 'config': give insights_config to the",
        ),
        ({"events": {"batch_size": 0}}, ValueError, "batch_size must be 1 to 1000, not 0"),
        ({"events": {"strict": "yes"}}, TypeError, "strict must be True or False, not str"),
        ({"events": {"outbox": "events.db"}}, TypeError, "outbox must be an SQLiteOutbox, not str"),
        ({"insights_region": "eu"}, ValueError, "`region` must be one of the following: de, us"),
        ({"insights_region": ""}, ValueError, "`region` must be one of the following: de, us"),
        (
            {"insights_region": "de", "insights_config": InsightsConfig("APP", "key")},
            ValueError,
            "insights_region and insights_config both say which region it is: give one of them",
        ),
        ({"insights_config": "us"}, TypeError, "insights_config must be an InsightsConfig, not str"),
    ],
)
def test_wrong_arguments_of_a_client_are_named(
    client_class: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        client_class("APP", "key", **arguments)
    assert str(caught.value).startswith(message)
    with pytest.raises(error) as caught:
        client_class.create_with_config(SearchConfig("APP", "key"), **arguments)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("client_class", [TokenAwareClient, TokenAwareClientSync])
def test_events_and_client_share_one_provider(client_class: Any) -> None:
    provider, other = TokenProvider("u"), TokenProvider("u")
    with EventSender("APP", "key", token_provider=provider) as events:
        for client in (
            client_class("APP", "key", events=events),
            client_class("APP", "key", events=events, token_provider=provider),
        ):
            assert client.token_provider is provider
            assert client.events is events
        for wrong in ({"token_provider": other}, {"user_token": "u"}):
            with pytest.raises(ValueError, match=r"^events has a token_provider of its own.*=events\.token_provider$"):
                client_class("APP", "key", events=events, **wrong)


@pytest.mark.parametrize("make", [echo, async_echo])
def test_searches_carry_the_user_token(make: Callable[..., Any]) -> None:
    assert searched(make(user_token="job"))[HEADER] == "job"
    assert searched(make(token_provider=TokenProvider(resolve=lambda: "resolved")))[HEADER] == "resolved"
    assert searched(make(user_token=Identity(None, "login")))[HEADER] == "login"
    assert HEADER not in searched(make())
    assert HEADER not in searched(make(user_token=Identity()))
    with identity_scope("context"):
        assert searched(make(user_token="job"))[HEADER] == "context"
        assert (
            searched(make(user_token="job"), headers={"x-algolia-usertoken": "call"})["x-algolia-usertoken"] == "call"
        )


@pytest.mark.parametrize("make", [echo, async_echo])
def test_options_of_a_client_reach_its_transporter(make: Callable[..., Any]) -> None:
    with pytest.raises(MissingUserTokenError):
        searched(make(on_missing_user_token="raise"))
    who = Identity("u", client_ip=IP)
    assert searched(make(user_token=who, forward_client_ip=True))["X-Forwarded-For"] == IP
    assert "X-Forwarded-For" not in searched(make(user_token=who))
    assert HEADER not in searched(make(user_token=who, user_token_in="parameter"))


# -- create_with_config --------------------------------------------------------------------------------------------


class MyClient(TokenAwareClient):
    """A client of somebody's own."""


class MyClientSync(TokenAwareClientSync):
    """A client of somebody's own."""


@pytest.mark.parametrize(
    ("client_class", "transporter_class"),
    [
        (TokenAwareClient, EchoTransporter),
        (TokenAwareClientSync, EchoTransporterSync),
        (MyClient, EchoTransporter),
        (MyClientSync, EchoTransporterSync),
    ],
)
def test_create_with_config_makes_a_client_of_its_class(client_class: Any, transporter_class: Any) -> None:
    config = SearchConfig("APP", "key")
    provider = TokenProvider(Identity("u", client_ip=IP))
    client = client_class.create_with_config(
        config,
        transporter_class(config),
        token_provider=provider,
        user_token_in="both",
        on_missing_user_token="raise",
        forward_client_ip=True,
    )

    assert type(client) is client_class
    assert client._config is config
    assert client.token_provider is provider
    headers = searched(client)
    assert (headers[HEADER], headers["X-Forwarded-For"]) == ("u", IP)
    assert type(client_class.create_with_config(SearchConfig("APP", "key"))) is client_class
    assert (
        searched(client_class.create_with_config(config, transporter_class(config), user_token="job"))[HEADER] == "job"
    )
    with EventSender("APP", "key") as events:
        assert client_class.create_with_config(config, events=events).events is events


@pytest.mark.parametrize("client_class", [TokenAwareClient, TokenAwareClientSync])
def test_create_with_config_reads_the_region_as_algoliasearch_does(client_class: Any) -> None:
    config = SearchConfig("APP", "key")
    config.region = "eu"  # type: ignore[assignment]
    client = client_class.create_with_config(config)

    assert client._ingestion_transporter is not None
    assert client_class.create_with_config(SearchConfig("APP", "key"))._ingestion_transporter is None


class AlgoliasOwnFour(TokenAwareClientSync):
    def __init__(self, app_id: Any = None, api_key: Any = None, transporter: Any = None, config: Any = None) -> None:
        super().__init__(app_id, api_key, transporter, config, user_token="own")


class NoDefaults(TokenAwareClientSync):
    def __init__(self, app_id: Any, api_key: Any, transporter: Any, config: Any) -> None:
        super().__init__(app_id, api_key, transporter, config, user_token="own")


class OtherDefault(TokenAwareClientSync):
    def __init__(self, *args: Any, user_token: Any = "own", **options: Any) -> None:
        super().__init__(*args, user_token=user_token, **options)


class MoreKeywords(TokenAwareClientSync):
    def __init__(self, *args: Any, tenant: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.tenant = tenant


class AsyncOwnFour(TokenAwareClient):
    def __init__(self, app_id: Any = None, api_key: Any = None, transporter: Any = None, config: Any = None) -> None:
        super().__init__(app_id, api_key, transporter, config, user_token="own")


@pytest.mark.parametrize("client_class", [AlgoliasOwnFour, NoDefaults, OtherDefault, AsyncOwnFour])
def test_create_with_config_passes_no_keywords_on_that_it_was_not_given(client_class: Any) -> None:
    config = SearchConfig("APP", "key")
    echo_class = EchoTransporter if issubclass(client_class, TokenAwareClient) else EchoTransporterSync
    client = client_class.create_with_config(config, echo_class(config))

    assert type(client) is client_class
    assert client._config is config
    assert searched(client)[HEADER] == "own"


def test_create_with_config_passes_on_what_it_was_given() -> None:
    config = SearchConfig("APP", "key")

    def create(client_class: Any, **options: Any) -> Any:
        return client_class.create_with_config(config, EchoTransporterSync(config), **options)

    assert searched(create(OtherDefault, user_token="given"))[HEADER] == "given"
    assert HEADER not in searched(create(OtherDefault, user_token=None))
    assert create(MoreKeywords, tenant="north").tenant == "north"
    with pytest.raises(TypeError, match="tenant"):
        create(TokenAwareClientSync, tenant="north")
    with pytest.raises(TypeError, match="user_token"):
        create(AlgoliasOwnFour, user_token="given")


# -- Transformations -----------------------------------------------------------------------------------------------


def transformation_options(algolia: LocalAlgolia) -> TransformationOptions:
    hosts = HostsCollection([Host(url=algolia.host, scheme="http", port=algolia.port)])
    return TransformationOptions("us", hosts=hosts, proxies={})


@pytest.mark.parametrize("late", [False, True])
def test_records_pushed_through_transformations_carry_the_token(algolia: LocalAlgolia, late: bool) -> None:
    config = algolia.search_config()
    if not late:
        config.transformation_options = transformation_options(algolia)
    with TokenAwareClientSync.create_with_config(config, user_token="u") as client:
        if late:
            client.set_transformation_options(transformation_options(algolia))
        for pusher in (
            client,
            client.with_identity("view"),
            client.with_identity("outer").with_identity("inner"),
            client,
        ):
            with pytest.raises(RequestException):  # the stand-in does not know the route
                pusher.save_objects_with_transformation("products", [{"objectID": "9"}])

    assert [header(request) for request in algolia.requests] == ["u", "view", "inner", "u"]
    assert {request.path for request in algolia.requests} == {"/1/push/products"}


async def test_async_records_pushed_through_transformations_carry_the_token(algolia: LocalAlgolia) -> None:
    config = algolia.search_config()
    config.transformation_options = transformation_options(algolia)
    async with TokenAwareClient.create_with_config(config, user_token="u") as client:
        for pusher in (client, client.with_identity("view"), client):
            with pytest.raises(RequestException):
                await pusher.save_objects_with_transformation("products", [{"objectID": "9"}])

    assert [header(request) for request in algolia.requests] == ["u", "view", "u"]


# -- make_token_aware ----------------------------------------------------------------------------------------------


def plain_client(room: str, name: str, sync: bool) -> Any:
    config_class = getattr(import_module(f"algoliasearch.{room}.config"), f"{name}Config")
    region = inspect.signature(config_class).parameters.get("region")
    needs_region = region is not None and region.default in ("", inspect.Parameter.empty)
    config = config_class("APP", "key", *(["us"] if needs_region else []))
    client_class = getattr(import_module(f"algoliasearch.{room}.client"), f"{name}Client{'Sync' if sync else ''}")
    return client_class.create_with_config(config, (EchoTransporterSync if sync else EchoTransporter)(config))


def asked(client: Any, **options: Any) -> dict[str, str]:
    """The headers of a request that every client can make."""
    answer = client.custom_get_with_http_info("1/anything", None, options or None)
    if inspect.isawaitable(answer):
        answer = asyncio.run(_result(answer))
    headers: dict[str, str] = answer.headers
    return headers


@pytest.mark.parametrize("sync", [True, False], ids=["sync", "async"])
@pytest.mark.parametrize(("room", "name"), CLIENTS)
def test_any_client_can_be_made_token_aware(room: str, name: str, sync: bool) -> None:
    client = plain_client(room, name, sync)
    assert HEADER not in asked(client)

    assert make_token_aware(client) is client
    with identity_scope("context"):
        assert asked(client)[HEADER] == "context"
    assert HEADER not in asked(client)

    make_token_aware(client, TokenProvider("again"))
    assert asked(client)[HEADER] == "again"
    assert isinstance(client._transporter, TokenAwareTransporterSync if sync else TokenAwareTransporter)
    assert type(vars(client._transporter)["_transporter"]) is (EchoTransporterSync if sync else EchoTransporter)


@pytest.mark.parametrize("make", [echo, async_echo])
def test_a_client_that_is_token_aware_stays_one_for_searches_and_events(make: Callable[..., Any]) -> None:
    client = make(user_token="first")
    provider = TokenProvider("second")
    make_token_aware(client, provider)

    assert searched(client)[HEADER] == "second"
    assert client.token_provider is provider
    assert client.events.token_provider is provider
    assert client.insights.token_provider is provider


def test_make_token_aware_takes_the_options() -> None:
    recommend = make_token_aware(
        plain_client("recommend", "Recommend", True),
        TokenProvider(Identity("u", client_ip=IP)),
        user_token_in="parameter",
        on_missing_user_token="raise",
        forward_client_ip=True,
    )
    query = {"requests": [{"indexName": "products", "model": "trending-items", "threshold": 0}]}
    answer = recommend.get_recommendations_with_http_info(query)

    assert '"queryParameters": {"userToken": "u"}' in answer.data
    assert answer.headers["X-Forwarded-For"] == IP
    assert HEADER not in answer.headers
    make_token_aware(recommend, on_missing_user_token="raise")
    with pytest.raises(MissingUserTokenError):
        recommend.get_recommendations_with_http_info(query)


def test_make_token_aware_reaches_the_transformations_too(algolia: LocalAlgolia) -> None:
    config = algolia.search_config()
    config.transformation_options = transformation_options(algolia)
    client = make_token_aware(SearchClientSync.create_with_config(config), TokenProvider("u"))
    with client, pytest.raises(RequestException):
        client.save_objects_with_transformation("products", [{"objectID": "9"}])

    assert [header(request) for request in algolia.requests] == ["u"]


@pytest.mark.parametrize(
    ("client", "kwargs", "error", "message"),
    [
        (None, {}, TypeError, "client must be an algoliasearch client, not NoneType"),
        (object(), {}, TypeError, "client must be an algoliasearch client, not object"),
        (..., {"token_provider": "u"}, TypeError, "token_provider must be a TokenProvider, not str"),
        (
            ...,
            {"user_token_in": "url"},
            ValueError,
            "user_token_in must be one of 'header', 'parameter', 'both', not another string, of 3 characters",
        ),
    ],
)
def test_make_token_aware_names_a_wrong_argument(
    client: Any, kwargs: dict[str, Any], error: type[Exception], message: str
) -> None:
    client = plain_client("search", "Search", True) if client is ... else client
    with pytest.raises(error) as caught:
        make_token_aware(client, **kwargs)

    assert str(caught.value) == message


async def test_recommend_carries_the_token_over_http(algolia: LocalAlgolia) -> None:
    query: Any = {"requests": [{"indexName": "products", "model": "trending-items", "threshold": 0}]}
    provider = TokenProvider("u")
    with make_token_aware(
        RecommendClientSync.create_with_config(algolia.recommend_config()), provider, user_token_in="both"
    ) as client:
        client.get_recommendations(query)
    async with make_token_aware(
        RecommendClient.create_with_config(algolia.recommend_config()), provider, user_token_in="parameter"
    ) as async_client:
        await async_client.get_recommendations(query)

    assert [(search.user_token_header, search.user_token_parameter) for search in algolia.searches] == [
        ("u", "u"),
        (None, "u"),
    ]


# -- Views ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [echo, async_echo])
def test_view_calls_as_its_identity(make: Callable[..., Any]) -> None:
    client = make(user_token="default")
    view = client.with_identity("view")

    assert type(view) is type(client)
    with identity_scope("context"):
        assert searched(view)[HEADER] == "view"
        assert searched(view.with_identity("inner"))[HEADER] == "inner"
        assert searched(view.with_identity(None))[HEADER] == "view"
        assert searched(client.with_identity(None))[HEADER] == "context"
        assert HEADER not in searched(client.with_identity(Identity()))
        assert HEADER not in searched(client.with_identity(Identity("u", opted_out=True)))
        assert searched(client.with_identity(Identity(None, "login")))[HEADER] == "login"
        assert searched(client.with_identity(Identity(client_ip=IP)))["X-Forwarded-For"] == IP
        assert searched(view, headers={HEADER: "call"})[HEADER] == "call"
        assert searched(client)[HEADER] == "context"
    assert searched(client)[HEADER] == "default"
    assert client.token_provider.identity() == Identity("default")
    assert view.token_provider.identity() == Identity("view")


@pytest.mark.parametrize("identity", ["a@b", "", 7])
def test_view_refuses_a_bad_identity(identity: Any) -> None:
    with pytest.raises(InvalidUserTokenError, match=r"^identity "):
        echo().with_identity(identity)


def test_a_view_of_a_client_keeps_its_options() -> None:
    client = echo(user_token_in="both", on_missing_user_token="raise", forward_client_ip=True)
    answer = client.with_identity(Identity("u", client_ip=IP)).search_single_index_with_http_info("products", {})

    assert answer.data == '{"userToken": "u"}'
    assert (answer.headers[HEADER], answer.headers["X-Forwarded-For"]) == ("u", IP)
    with pytest.raises(MissingUserTokenError):
        searched(client.with_identity(None))


@pytest.mark.parametrize(
    ("make", "transporter_class"), [(echo, TokenAwareTransporterSync), (async_echo, TokenAwareTransporter)]
)
def test_a_view_of_a_client_shares_its_connections(make: Callable[..., Any], transporter_class: Any) -> None:
    client = make()
    view = client.with_identity("u").with_identity("v")

    assert vars(view._transporter)["_transporter"] is vars(client._transporter)["_transporter"]
    assert type(view._transporter) is type(client._transporter) is transporter_class


class Closing(EchoTransporterSync):
    closed = 0

    def close(self) -> None:
        self.closed += 1


class AsyncClosing(EchoTransporter):
    closed = 0

    async def close(self) -> None:
        self.closed += 1


async def test_closing_a_view_closes_nothing() -> None:
    config = SearchConfig("APP", "key")
    transporter, async_transporter = Closing(config), AsyncClosing(config)
    with TokenAwareClientSync(transporter=transporter, config=config) as client:
        view = client.with_identity("u")
        with view, view.with_identity("v"):
            pass
        view.close()
        assert transporter.closed == 0
    assert transporter.closed == 1
    async with TokenAwareClient(transporter=async_transporter, config=config) as async_client:
        async with async_client.with_identity("u") as async_view, async_view.with_identity("v"):
            pass
        await async_view.close()
        assert async_transporter.closed == 0
    assert async_transporter.closed == 1


def test_events_and_insights_of_a_view_carry_its_identity_through_the_same_queue(
    sync_client: TokenAwareClientSync, algolia: LocalAlgolia
) -> None:
    view = sync_client.with_identity(Identity("view", "login"))
    inner = view.with_identity("inner")
    with identity_scope("context"):
        for client in (view, inner, inner.with_identity(None), sync_client):
            assert client.events.viewed_object_ids("Viewed", "products", ["1"])
            client.insights.push_events(
                {"events": [{"eventType": "view", "eventName": "Pushed", "index": "products", "objectIDs": ["1"]}]}
            )
    view.events.close()
    view.insights.close()
    view.close()
    assert sync_client.events.viewed_object_ids("Viewed", "products", ["1"], identity="last")
    assert sync_client.events.flush(20)

    expected = [("inner", None), ("inner", None), ("context", None)]
    for name, got in (("Pushed", expected), ("Viewed", [*expected, ("last", None)])):
        assert [
            (event.user_token, event.authenticated_user_token) for event in algolia.events if event.event_name == name
        ] == [("view", "login"), *got]


# -- events, insights ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "insights_class"), [(echo, TokenAwareInsightsClientSync), (async_echo, TokenAwareInsightsClient)]
)
def test_events_and_insights_are_made_once_and_share_the_provider(
    make: Callable[..., Any], insights_class: Any
) -> None:
    client = make(user_token="u")

    assert client.events is client.events
    assert client.insights is client.insights
    assert isinstance(client.events, EventSender)
    assert type(client.insights) is insights_class
    assert client.events.token_provider is client.insights.token_provider is client.token_provider
    assert (client.insights._config.app_id, client.insights._config.api_key) == ("APP", "key")


@pytest.mark.parametrize("make", [echo, async_echo])
def test_insights_config_is_for_insights_and_events(make: Callable[..., Any]) -> None:
    config = InsightsConfig("OTHER", "other-key", "de")

    assert make(insights_config=config).insights._config is config


@pytest.mark.parametrize("make", [echo, async_echo])
@pytest.mark.parametrize("region", ["us", "de"])
def test_insights_region_is_that_of_insights(make: Callable[..., Any], region: str) -> None:
    client = make(insights_region=region)

    config = client.insights._config
    assert (config.region, config.app_id, config.api_key) == (region, "APP", "key")
    assert [host.url for host in config.hosts.write()] == [f"insights.{region}.algolia.io"]
    assert client.with_identity("u").insights._config is config


def test_insights_has_no_region_where_none_is_given() -> None:
    assert echo().insights._config.region is None
    assert echo(insights_region=None).insights._config.region is None


@pytest.mark.parametrize("options", [{}, {"events": {"strict": True}}])
def test_events_go_to_insights_region_and_with_a_new_api_key(
    options: dict[str, Any], algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = set()

    def set_default_hosts(config: InsightsConfig) -> None:
        regions.add(config.region)
        config.hosts = algolia.insights_config().hosts

    monkeypatch.setattr(InsightsConfig, "set_default_hosts", set_default_hosts)
    config = algolia.search_config()
    config.set_client_api_key("old-key")
    client = TokenAwareClientSync.create_with_config(config, user_token="u", insights_region="de", **options)
    with client:
        client.set_client_api_key(algolia.api_key)
        assert view_shoe(client)

    assert len(algolia.events) == 1
    assert regions == {"de"}


@pytest.mark.parametrize("make", [echo, async_echo])
def test_options_of_events_are_those_of_the_clients_own_sender(make: Callable[..., Any]) -> None:
    told, delivery = [], MemoryDelivery()
    options: Any = types.MappingProxyType(
        {"delivery": delivery, "close_timeout": 2.5, "on_error": lambda error, events: told.append(error)}
    )
    client = make(user_token="u", events=options)

    assert client.events.close_timeout == 2.5
    assert client.events.token_provider is client.token_provider
    assert view_shoe(client.with_identity("view"))
    assert not client.events.viewed_object_ids("", "products", ["1"])
    assert client.events.flush(20)
    assert [event["userToken"] for event in delivery.events] == ["view"]
    assert [type(error) for error in told] == [InvalidEventError]


def test_strict_is_one_of_the_options_of_events() -> None:
    with echo(user_token="u", events={"strict": True}) as client, pytest.raises(InvalidEventError):
        client.events.viewed_object_ids("", "products", ["1"])


def test_a_later_change_of_the_options_changes_nothing() -> None:
    options: EventOptions = {"close_timeout": 2.5}
    client = echo(events=options)
    options["close_timeout"] = 7.0
    client.close()

    with client:
        assert client.events.close_timeout == 2.5


def test_empty_options_of_events_make_the_sender_that_there_is_without_any() -> None:
    client = echo(user_token="u", events={})

    assert client.events.close_timeout == echo().events.close_timeout


def test_an_outbox_ends_with_the_client_and_another_with_block_says_so(tmp_path: pathlib.Path) -> None:
    client = echo(user_token="u", events={"outbox": SQLiteOutbox(tmp_path / "events.db"), "delivery": MemoryDelivery()})
    with client:
        assert view_shoe(client)
    assert client.events.stats.delivered == 1

    with pytest.raises(ValueError, match="outbox is closed: make another"), client:
        pass

    assert not view_shoe(client)
    assert (client.events.stats.delivered, client.events.stats.dropped) == (1, 1)


def test_first_use_in_many_threads_at_once_makes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class SlowSender(EventSender):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            time.sleep(0.02)
            made.append(self)
            super().__init__(*args, **kwargs)

    class SlowInsights(TokenAwareInsightsClientSync):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            time.sleep(0.02)
            made.append(self)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr("algolia_usertoken.clients.EventSender", SlowSender)
    monkeypatch.setattr("algolia_usertoken.insights.TokenAwareInsightsClientSync", SlowInsights)
    client = echo()
    view = client.with_identity("u")
    barrier = threading.Barrier(8)

    def use(number: int) -> tuple[int, int]:
        barrier.wait()
        if number % 2:
            assert view.events.token_provider is view.token_provider
        return id(client.events), id(client.insights)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(use, range(8)))) == 1
    events, insights = client.events, client.insights
    client.close()
    # Of each kind one was kept. Those that came second had nothing.
    assert sum(one is events for one in made) == sum(one is insights for one in made) == 1
    assert all(one.stats.accepted == 0 and not one._worker._crew.threads for one in made if isinstance(one, SlowSender))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.parametrize("interruption", ["fork", "signal", "del"])
def test_first_use_may_be_interrupted_by_another(interruption: str) -> None:
    run_program("programs/first_use_interrupted.py", interruption)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TokenAwareClient, TokenAwareClientSync])
def test_a_client_has_imported_what_its_events_are_made_of(kind: Any) -> None:
    run_program(
        f"import sys; from algolia_usertoken import {kind.__name__} as Client; Client('A', 'k'); "
        "assert 'algolia_usertoken.events.sender' in sys.modules"
    )


def test_close_delivers_events_and_closes_what_the_client_opened(algolia: LocalAlgolia) -> None:
    client = TokenAwareClientSync.create_with_config(
        algolia.search_config(), insights_config=algolia.insights_config(), user_token="u"
    )
    client.events.viewed_object_ids("Viewed", "products", ["1"])
    client.search_single_index("products", {"query": "shoe"})
    client.close()

    assert [event.user_token for event in algolia.events] == ["u"]
    client.close()


async def test_close_of_an_async_client_delivers_its_events(algolia: LocalAlgolia) -> None:
    async with TokenAwareClient.create_with_config(
        algolia.search_config(), insights_config=algolia.insights_config(), user_token="u"
    ) as client:
        client.events.viewed_object_ids("Viewed", "products", ["1"])
        await client.insights.push_events(
            {"events": [{"eventType": "view", "eventName": "n", "index": "products", "objectIDs": ["1"]}]}
        )
        await client.search_single_index("products", {"query": "shoe"})

    assert [event.user_token for event in algolia.events] == ["u", "u"]


def test_close_flushes_given_events_but_leaves_them_open(algolia: LocalAlgolia) -> None:
    with EventSender(config=algolia.insights_config(), user_token="u") as events:
        with TokenAwareClientSync.create_with_config(algolia.search_config(), events=events) as client:
            client.events.viewed_object_ids("Viewed", "products", ["1"])
        assert len(algolia.events) == 1
        assert events.viewed_object_ids("Viewed", "products", ["1"])
    assert len(algolia.events) == 2


async def test_async_close_flushes_given_events_but_leaves_them_open(algolia: LocalAlgolia) -> None:
    with EventSender(config=algolia.insights_config(), user_token="u") as events:
        async with TokenAwareClient.create_with_config(algolia.search_config(), events=events) as client:
            client.events.viewed_object_ids("Viewed", "products", ["1"])
        assert len(algolia.events) == 1
        assert events.viewed_object_ids("Viewed", "products", ["1"])
    assert len(algolia.events) == 2


# -- After close ---------------------------------------------------------------------------------------------------


class Wrapped:
    """A sync or an async client, closed and opened in the same words."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.is_async = isinstance(client, TokenAwareClient)

    def close(self) -> None:
        closing = self.client.close()
        if self.is_async:
            asyncio.run(_result(closing))

    def within(self, do: Callable[[], Any]) -> Any:
        """What `do` returns inside a `with`, or `async with`, block."""
        if not self.is_async:
            with self.client as opened:
                assert opened is self.client
                return do()

        async def inside() -> Any:
            async with self.client as opened:
                assert opened is self.client
                return do()

        return asyncio.run(inside())


@pytest.fixture(params=[TokenAwareClientSync, TokenAwareClient])
def closable(request: pytest.FixtureRequest, algolia: LocalAlgolia) -> Wrapped:
    # Events wait for a flush or the close, however much time passes between two of them.
    return Wrapped(
        request.param.create_with_config(
            algolia.search_config(),
            insights_config=algolia.insights_config(),
            user_token="u",
            events={"flush_interval": 600, "close_timeout": PATIENCE},
        )
    )


def view_shoe(client: Any) -> bool:
    accepted: bool = client.events.viewed_object_ids("Viewed", "products", ["1"])
    return accepted


def test_after_close_the_stats_tell_what_became_of_the_events(closable: Wrapped, algolia: LocalAlgolia) -> None:
    client = closable.client
    assert view_shoe(client)
    assert not client.events.viewed_object_ids("", "products", ["1"])
    events = client.events
    closable.close()

    assert client.events is events
    assert client.events.stats[:11] == EventStats(accepted=1, delivered=1, refused=1, requests=1)[:11]
    assert len(algolia.events) == 1


def test_after_close_events_are_dropped_counted_and_logged(
    closable: Wrapped, algolia: LocalAlgolia, caplog: pytest.LogCaptureFixture
) -> None:
    client = closable.client
    view, events = client.with_identity("view"), client.events
    assert view_shoe(client)
    assert not caplog.messages
    closable.close()

    assert not view_shoe(client)
    assert not view_shoe(view)
    assert not view_shoe(client.with_identity("later"))
    assert not events.send({"eventType": "view", "eventName": "n", "index": "products", "objectIDs": ["1"]})
    assert client.events.flush(20)

    assert (events.stats.dropped, view.events.stats.dropped) == (4, 4)
    assert caplog.messages == ["event dropped: the client is closed"]
    assert [event.user_token for event in algolia.events] == ["u"]


def test_events_after_the_close_of_a_client_that_had_none_are_dropped(
    closable: Wrapped, algolia: LocalAlgolia, caplog: pytest.LogCaptureFixture
) -> None:
    closable.close()
    threads = set(threading.enumerate())

    assert not view_shoe(closable.client.with_identity("view"))
    assert not view_shoe(closable.client)
    assert closable.client.events.stats[:11] == EventStats(dropped=2)[:11]
    assert caplog.messages == ["event dropped: the client is closed"]
    assert set(threading.enumerate()) <= threads  # those of earlier tests may end meanwhile
    assert algolia.events == []


def test_a_second_close_changes_nothing(closable: Wrapped, algolia: LocalAlgolia) -> None:
    assert view_shoe(closable.client)
    closable.close()
    closable.close()

    assert not view_shoe(closable.client)
    assert closable.client.events.stats[:11] == EventStats(accepted=1, delivered=1, dropped=1, requests=1)[:11]
    assert len(algolia.events) == 1


@pytest.mark.parametrize("used", [True, False])
def test_a_with_block_opens_a_closed_client_again(closable: Wrapped, algolia: LocalAlgolia, used: bool) -> None:
    client = closable.client
    view = client.with_identity("view")
    if used:
        assert view_shoe(client)
    closable.close()
    assert not view_shoe(client)

    assert closable.within(lambda: (view_shoe(client), view_shoe(view))) == (True, True)
    assert client.events.stats[:11] == EventStats(accepted=2, delivered=2, requests=1)[:11]
    assert not view_shoe(client)
    assert [event.user_token for event in algolia.events] == ["u"] * used + ["u", "view"]


def test_a_with_block_around_a_view_opens_nothing(closable: Wrapped) -> None:
    view = Wrapped(closable.client.with_identity("view"))
    closable.close()

    assert view.within(lambda: view_shoe(view.client)) is False
    assert not view_shoe(closable.client)


def test_a_with_block_around_an_open_client_keeps_its_events(closable: Wrapped) -> None:
    events = closable.client.events
    assert closable.within(lambda: closable.client.events) is events


def test_a_sender_of_ones_own_goes_on_after_the_clients_close(algolia: LocalAlgolia) -> None:
    for client_class in (TokenAwareClient, TokenAwareClientSync):
        with EventSender(config=algolia.insights_config(), user_token="u") as events:
            client: Any = Wrapped(client_class.create_with_config(algolia.search_config(), events=events))
            client.close()
            assert view_shoe(client.client)
            assert client.client.events is events
    assert len(algolia.events) == 2


def test_a_sender_that_was_closed_itself_says_so(caplog: pytest.LogCaptureFixture) -> None:
    client = echo(user_token="u")
    client.events.close()

    assert not view_shoe(client)
    assert caplog.messages == ["event dropped: the sender is closed"]


def test_after_close_searches_and_insights_go_on_as_upstream(closable: Wrapped, algolia: LocalAlgolia) -> None:
    client = closable.client
    event = {"eventType": "view", "eventName": "n", "index": "products", "objectIDs": ["1"]}
    closable.close()

    def use() -> Any:
        return client.search_single_index("products", {}), client.insights.push_events({"events": [event]})

    async def use_async() -> None:
        for answer in use():
            await answer
        await client.close()

    if closable.is_async:
        asyncio.run(use_async())
    else:
        use()
        client.close()

    assert users(algolia) == ["u"]
    assert [event.user_token for event in algolia.events] == ["u"]


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda client: pickle.loads(pickle.dumps(client))])
def test_a_copy_of_a_closed_client_is_open(algolia: LocalAlgolia, again: Callable[..., Any]) -> None:
    client = TokenAwareClientSync.create_with_config(
        algolia.search_config(), insights_config=algolia.insights_config(), user_token="u"
    )
    client.close()
    with again(client) as other:
        assert view_shoe(other)
    assert not view_shoe(client)
    assert len(algolia.events) == 1


def test_a_sender_made_while_the_client_closes_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    client = echo(user_token="u")

    class ClosedMeanwhile(EventSender):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            client.close()  # as another thread would

    monkeypatch.setattr("algolia_usertoken.clients.EventSender", ClosedMeanwhile)

    assert not view_shoe(client)
    assert client.events.stats[:11] == EventStats(dropped=1)[:11]


def test_stats_after_close_count_the_events_that_there_was_no_time_for(algolia: LocalAlgolia) -> None:
    client = TokenAwareClientSync.create_with_config(
        algolia.search_config(), insights_config=algolia.insights_config(), user_token="u"
    )
    client.events._worker.close_timeout = 0
    algolia.fail_next(503, times=None)
    assert view_shoe(client)
    client.close()

    assert (client.events.stats.failed, client.events.stats.queued) == (1, 0)


@pytest.mark.slow
def test_a_client_needs_no_sqlite() -> None:
    run_program("programs/client_without_sqlite.py")


# -- What goes wrong in close --------------------------------------------------------------------------------------


class Unflushable(EventSender):
    def flush(self, timeout: float | None = None) -> bool:
        raise ZeroDivisionError

    async def aflush(self, timeout: float | None = None) -> bool:
        raise ZeroDivisionError


async def test_the_rest_is_closed_also_where_events_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    config = SearchConfig("APP", "key")
    transporter, async_transporter = Closing(config), AsyncClosing(config)
    client = TokenAwareClientSync(transporter=transporter, config=config, events=Unflushable("APP", "key"))
    async_client = TokenAwareClient(transporter=async_transporter, config=config, events=Unflushable("APP", "key"))
    insights, async_insights = Closing(config), AsyncClosing(config)
    monkeypatch.setattr(client.insights, "close", insights.close)
    monkeypatch.setattr(async_client.insights, "close", async_insights.close)

    with pytest.raises(ZeroDivisionError):
        client.close()
    with pytest.raises(ZeroDivisionError):
        await async_client.close()

    assert (transporter.closed, insights.closed) == (1, 1)
    assert (async_transporter.closed, async_insights.closed) == (1, 1)


# -- Over HTTP, again and again ------------------------------------------------------------------------------------


def test_sync_client_tells_users_apart(sync_client: TokenAwareClientSync, algolia: LocalAlgolia) -> None:
    def serve(number: int) -> None:
        with identity_scope(f"u-{number}"):
            for _ in range(5):
                sync_client.search_single_index("products", {"query": f"{number}"})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(serve, range(8)))

    assert {(search.query, search.user) for search in algolia.searches} == {(f"{i}", f"u-{i}") for i in range(8)}
    assert len(algolia.searches) == 40


async def test_async_client_tells_users_apart(async_client: TokenAwareClient, algolia: LocalAlgolia) -> None:
    async def serve(number: int) -> None:
        with identity_scope(f"u-{number}"):
            for _ in range(5):
                await async_client.search_single_index("products", {"query": f"{number}"})

    await asyncio.gather(*map(serve, range(8)))

    assert {(search.query, search.user) for search in algolia.searches} == {(f"{i}", f"u-{i}") for i in range(8)}
    assert len(algolia.searches) == 40


def test_models_and_options_of_a_search_are_not_changed(
    sync_client: TokenAwareClientSync, algolia: LocalAlgolia
) -> None:
    params = SearchParamsObject(query="shoe")
    options = {"headers": {"x-other": "1"}}
    before = params.to_dict()
    client = TokenAwareClientSync.create_with_config(algolia.search_config(), user_token="u", user_token_in="both")
    client.search_single_index("products", params, options)
    client.close()

    assert params.to_dict() == before
    assert options == {"headers": {"x-other": "1"}}
    assert (algolia.searches[0].user_token_header, algolia.searches[0].user_token_parameter) == ("u", "u")


def test_async_client_works_across_two_event_loops(algolia: LocalAlgolia) -> None:
    client = TokenAwareClient.create_with_config(algolia.search_config(), user_token="u")

    async def serve() -> None:
        async with client:
            await client.search_single_index("products", {"query": "shoe"})
            await client.with_identity("view").search_single_index("products", {"query": "shoe"})

    asyncio.run(serve())
    asyncio.run(serve())

    assert users(algolia) == ["u", "view"] * 2


def test_events_and_insights_of_an_async_client_work_across_two_event_loops(algolia: LocalAlgolia) -> None:
    client = TokenAwareClient.create_with_config(
        algolia.search_config(), insights_config=algolia.insights_config(), user_token="u"
    )

    async def serve() -> None:
        async with client:
            assert client.events.viewed_object_ids("Viewed", "products", ["1"])
            await client.insights.push_events(
                {"events": [{"eventType": "view", "eventName": "n", "index": "products", "objectIDs": ["1"]}]}
            )

    asyncio.run(serve())
    asyncio.run(serve())

    assert [event.user_token for event in algolia.events] == ["u"] * 4


def test_used_client_can_be_pickled_and_copied(sync_client: TokenAwareClientSync, algolia: LocalAlgolia) -> None:
    client = TokenAwareClientSync.create_with_config(
        algolia.search_config(),
        insights_config=algolia.insights_config(),
        user_token="u",
        user_token_in="both",
        events={"flush_interval": 600, "close_timeout": PATIENCE},  # the event waits for the close
    )
    client.search_single_index("products", {"query": "shoe"})
    client.events.viewed_object_ids("Viewed", "products", ["1"])
    client.insights.push_events(
        {"events": [{"eventType": "view", "eventName": "n", "index": "products", "objectIDs": ["1"]}]}
    )
    algolia.clear()
    for again in (
        pickle.loads(pickle.dumps(client)),
        pickle.loads(pickle.dumps(client.with_identity("u"))),
        copy.copy(client),
        copy.deepcopy(client),
    ):
        assert type(again) is TokenAwareClientSync
        again.search_single_index("products", {"query": "shoe"})
        assert again.events is not client.events
        assert again.events.token_provider is again.token_provider
        again.close()
    client.close()

    assert [(search.user_token_header, search.user_token_parameter) for search in algolia.searches] == [("u", "u")] * 4
    assert len(algolia.events) == 1


def test_unused_async_client_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(async_echo(user_token="u")))

    assert searched(again)[HEADER] == "u"


# -- Keys ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def insights_lead_here(algolia: LocalAlgolia, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client makes of its own accord talks to the stand-in."""
    monkeypatch.setattr(
        InsightsConfig, "set_default_hosts", lambda self: setattr(self, "hosts", algolia.insights_config().hosts)
    )


@pytest.mark.usefixtures("insights_lead_here")
@pytest.mark.parametrize("used_before", [False, True])
def test_new_api_key_is_used_for_events_and_insights_too(algolia: LocalAlgolia, used_before: bool) -> None:
    config = algolia.search_config()
    config.set_client_api_key("old-key")
    event = {"eventType": "view", "eventName": "n", "index": "products", "objectIDs": ["1"]}
    with TokenAwareClientSync.create_with_config(config, user_token="u") as client:
        if used_before:
            assert client.insights
            assert client.events
        client.set_client_api_key(algolia.api_key)
        client.search_single_index("products", {"query": "shoe"})
        client.insights.push_events({"events": [event]})
        client.events.send(event)
        assert client.events.flush(20)

    assert len(algolia.events) == 2


@pytest.mark.usefixtures("insights_lead_here")
async def test_new_api_key_is_used_for_events_too_async(algolia: LocalAlgolia) -> None:
    config = algolia.search_config()
    config.set_client_api_key("old-key")
    async with TokenAwareClient.create_with_config(config, user_token="u") as client:
        assert client.events
        await client.set_client_api_key(algolia.api_key)
        await client.search_single_index("products", {"query": "shoe"})
        client.events.viewed_object_ids("n", "products", ["1"])
        assert await client.events.aflush(20)

    assert len(algolia.events) == 1


def secured(key: str) -> tuple[str, dict[str, list[str]], str]:
    decoded = base64.b64decode(key).decode()
    return decoded[:64], parse_qs(decoded[64:]), decoded[64:]


@pytest.mark.parametrize(
    ("restrictions", "expected"),
    [
        (None, {"userToken": ["u"]}),
        ({}, {"userToken": ["u"]}),
        ({"validUntil": 9}, {"userToken": ["u"], "validUntil": ["9"]}),
        ({"userToken": "mine"}, {"userToken": ["mine"]}),
        ({"userToken": None}, {"userToken": ["u"]}),
        ({"searchParams": {"userToken": "mine", "filters": "a:b"}}, {"userToken": ["mine"], "filters": ["a:b"]}),
        ({"searchParams": {"filters": "a:b"}}, {"userToken": ["u"], "filters": ["a:b"]}),
        # An empty one would make a key for all users, and None one for a user called "None".
        ({"searchParams": {"userToken": "", "filters": "a:b"}}, {"userToken": ["u"], "filters": ["a:b"]}),
        ({"searchParams": {"userToken": None}}, {"userToken": ["u"]}),
        ({"userToken": "mine", "searchParams": {"userToken": ""}}, {"userToken": ["mine"]}),
        ({"userToken": "", "searchParams": {"userToken": "mine"}}, {"userToken": ["mine"]}),
        (SecuredApiKeyRestrictions(valid_until=9), {"userToken": ["u"], "validUntil": ["9"]}),
        (SecuredApiKeyRestrictions(user_token="mine"), {"userToken": ["mine"]}),
        (
            SecuredApiKeyRestrictions(search_params=SearchParamsObject(filters="a:b")),
            {"userToken": ["u"], "filters": ["a:b"]},
        ),
    ],
)
def test_secured_api_key_is_bound_to_the_user(restrictions: Any, expected: dict[str, list[str]]) -> None:
    before = copy.deepcopy(restrictions)
    key = echo(user_token="u").secured_api_key("parent", restrictions)
    signature, parameters, text = secured(key)

    assert parameters == expected
    assert signature == hmac.new(b"parent", text.encode(), hashlib.sha256).hexdigest()
    assert restrictions == before
    assert asyncio.run(async_echo(user_token="u").secured_api_key("parent", restrictions)) == key


def test_secured_api_key_is_the_users_of_now() -> None:
    client = echo(user_token="default")
    with identity_scope(Identity("anon", "login")):
        assert secured(client.secured_api_key("parent"))[1] == {"userToken": ["anon"]}
    assert secured(client.with_identity("view").secured_api_key("parent"))[1] == {"userToken": ["view"]}
    assert client.secured_api_key("parent") == client.generate_secured_api_key("parent", {"userToken": "default"})


@pytest.mark.parametrize("who", [None, Identity(), Identity(client_ip=IP), Identity("u", opted_out=True)])
def test_secured_api_key_needs_a_user(who: Any) -> None:
    message = (
        r"^no user token is known, and secured_api_key\(\) binds the key to the current one: .*generate_secured_api_key"
    )
    with pytest.raises(MissingUserTokenError, match=message):
        echo(user_token=who).secured_api_key("parent")
    with pytest.raises(MissingUserTokenError, match=message):
        asyncio.run(async_echo(user_token=who).secured_api_key("parent", {"validUntil": 9}))


def test_a_secured_api_key_of_a_client_works(algolia: LocalAlgolia, sync_client: TokenAwareClientSync) -> None:
    key = sync_client.with_identity("u").secured_api_key(algolia.api_key)
    config = algolia.search_config()
    config.set_client_api_key(key)
    with SearchClientSync.create_with_config(config) as front_end:
        front_end.search_single_index("products", {"query": "shoe"})

    assert users(algolia) == ["u"]


async def test_transformation_options_of_an_async_view_leave_its_parent_alone(algolia: LocalAlgolia) -> None:
    async with TokenAwareClient.create_with_config(algolia.search_config(), user_token="u-1") as client:
        await client.set_transformation_options(transformation_options(algolia))
        parents = client._ingestion_transporter
        view = client.with_identity("u-2")

        await view.set_transformation_options(transformation_options(algolia))

        assert client._ingestion_transporter is parents
        assert view._ingestion_transporter is not parents
        await view._ingestion_transporter.close()


def test_transformation_options_of_a_view_leave_its_parent_alone(algolia: LocalAlgolia) -> None:
    with TokenAwareClientSync.create_with_config(algolia.search_config(), user_token="u-1") as client:
        client.set_transformation_options(transformation_options(algolia))
        parents = client._ingestion_transporter
        view = client.with_identity("u-2")

        view.set_transformation_options(transformation_options(algolia))

        assert client._ingestion_transporter is parents
        assert view._ingestion_transporter is not parents
        view._ingestion_transporter.close()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_search_on_its_parents_connection() -> None:
    run_program("programs/searches_in_forks.py")
