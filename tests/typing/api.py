"""The public API, written out once as a user would, for mypy and pyright. It is checked, never run.

Where a line ends in `type: ignore`, what it does must be refused: an unneeded one is an error to both.
"""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
# pyright: reportUnknownMemberType=false
# (For algoliasearch's request options are a bare `dict`.)

from __future__ import annotations

import pathlib
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from aiohttp import web
from algoliasearch.http.transporter import Transporter
from algoliasearch.http.transporter_sync import TransporterSync
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.insights.models import EventsResponse
from algoliasearch.recommend.client import RecommendClient, RecommendClientSync
from algoliasearch.search.client import SearchClient, SearchClientSync
from algoliasearch.search.config import SearchConfig
from algoliasearch.search.models import SearchResponse, SecuredApiKeyRestrictions
from typing_extensions import assert_type

from algolia_usertoken import (
    Batch,
    BatchRejectedError,
    DeadLetters,
    Delivery,
    DeliveryError,
    EventOptions,
    EventSender,
    EventStats,
    HitReference,
    Identity,
    InsightsDelivery,
    InvalidClientIPError,
    InvalidEventError,
    InvalidReferenceError,
    InvalidUserTokenError,
    MemoryDelivery,
    MissingUserTokenError,
    MissingUserTokenWarning,
    OutboxError,
    QueryMemory,
    RetryableDeliveryError,
    SQLiteOutbox,
    TokenAwareClient,
    TokenAwareClientSync,
    TokenAwareInsightsClient,
    TokenAwareInsightsClientSync,
    TokenAwareTransporter,
    TokenAwareTransporterSync,
    TokenProvider,
    UnauthorizedDeliveryError,
    UserTokenError,
    anonymous_user_token,
    bind,
    browser,
    current_identity,
    identity_scope,
    make_token_aware,
    pseudonymous_user_token,
    set_authenticated_user_token,
    set_user_token,
    validate_user_token,
)
from algolia_usertoken.integrations.aiohttp import identity_middleware
from algolia_usertoken.integrations.asgi import ASGIApp
from algolia_usertoken.integrations.relay import EventsRelay, RelayAnswer
from algolia_usertoken.integrations.wsgi import WSGIApplication
from algolia_usertoken.testing import LocalAlgolia

# -- Who -----------------------------------------------------------------------------------------------------------

nobody = Identity()
identity = Identity("u-1", "l-1", "203.0.113.7", True)
identity = Identity(user_token="u-1", authenticated_user_token=None, client_ip=None, opted_out=False)
assert_type(identity.user_token, str | None)
assert_type(identity.authenticated_user_token, str | None)
assert_type(identity.client_ip, str | None)
assert_type(identity.opted_out, bool)
Identity(7)  # type: ignore[arg-type]
Identity(b"u-1")  # type: ignore[arg-type]
Identity(opted_out="yes")  # type: ignore[arg-type]
Identity(user="u-1")  # type: ignore[call-arg]
identity.user_token = "u-2"  # type: ignore[misc]

assert_type(validate_user_token("u-1"), str)
assert_type(anonymous_user_token(), str)
assert_type(pseudonymous_user_token(7, secret="k"), str)
assert_type(pseudonymous_user_token("7", secret=b"k", prefix="member-"), str)
validate_user_token(None)  # type: ignore[arg-type]
pseudonymous_user_token("7")  # type: ignore[call-arg]
pseudonymous_user_token("7", "k")  # type: ignore[call-arg]
pseudonymous_user_token(None, secret="k")  # type: ignore[arg-type]

# -- Errors --------------------------------------------------------------------------------------------------------

try:
    validate_user_token("u-1")
except (InvalidUserTokenError, InvalidClientIPError, MissingUserTokenError) as user_token_error:
    a_base: UserTokenError = user_token_error
except InvalidEventError as invalid_event:
    assert_type(invalid_event.field, str | None)
    a_value_error: ValueError = invalid_event
except RetryableDeliveryError as retryable:
    assert_type(retryable.delay, float | None)
except (BatchRejectedError, UnauthorizedDeliveryError, OutboxError) as delivery_error:
    a_delivery_error: DeliveryError = delivery_error
a_warning: type[UserWarning] = MissingUserTokenWarning

# -- Whose request this is -----------------------------------------------------------------------------------------

assert_type(current_identity(), Identity | None)
with identity_scope("u-1") as scoped:
    assert_type(scoped, Identity | None)
with identity_scope(identity), identity_scope(nobody), identity_scope(None):
    pass
identity_scope(7)  # type: ignore[arg-type]
identity_scope()  # type: ignore[call-arg]
set_user_token("u-1")
set_user_token(None)
set_user_token(identity)  # type: ignore[arg-type]
set_authenticated_user_token("l-1")
set_authenticated_user_token(None)
set_authenticated_user_token(7)  # type: ignore[arg-type]


@identity_scope("job")
def function(number: int, *, text: str = "") -> str:
    return text * number


@identity_scope("job")
async def coroutine_function(number: int) -> str:
    return "x" * number


@identity_scope("job")
def generator(number: int) -> Iterator[int]:
    yield from range(number)


@identity_scope("job")
async def async_generator(number: int) -> AsyncIterator[int]:
    yield number


assert_type(function(2, text="x"), str)
assert_type(generator(2), Iterator[int])
assert_type(async_generator(2), AsyncIterator[int])
assert_type(bind(function)(2), str)
function("2")  # type: ignore[arg-type]
bind(function)("2")  # type: ignore[arg-type]
bind("function")  # type: ignore[type-var]
identity_scope("job")("function")  # type: ignore[type-var]


async def use_decorated() -> None:
    assert_type(await coroutine_function(2), str)
    assert_type(await bind(coroutine_function)(2), str)


def resolve() -> str | None:
    return None


def resolve_identity() -> Identity:
    return nobody


def resolve_number() -> int:
    return 7


provider = TokenProvider()
provider = TokenProvider("u-1", resolve=resolve)
provider = TokenProvider(default=identity, resolve=resolve_identity)
assert_type(provider.identity(), Identity | None)
assert_type(provider.with_identity("u-1"), TokenProvider)
TokenProvider(7)  # type: ignore[arg-type]
TokenProvider("u-1", resolve)  # type: ignore[call-arg]
TokenProvider(resolve=resolve_number)  # type: ignore[arg-type]
TokenProvider(resolve="u-1")  # type: ignore[arg-type]


class MyProvider(TokenProvider):
    def identity(self) -> Identity | None:
        return Identity("mine")


# -- Search --------------------------------------------------------------------------------------------------------

config = SearchConfig("app", "key")
insights_config = InsightsConfig("app", "key", "de")


def takes_what_algoliasearch_makes(client: SearchClient | SearchClientSync | Transporter | TransporterSync) -> None:
    pass


def search_clients(transporter: Transporter, transporter_sync: TransporterSync, events: EventSender) -> None:
    client = TokenAwareClientSync("app", "key", transporter_sync, config)
    client = TokenAwareClientSync(
        "app",
        "key",
        user_token="u-1",
        token_provider=MyProvider(),
        user_token_in="both",
        on_missing_user_token="warn",
        forward_client_ip=True,
        insights_config=insights_config,
        events=events,
    )
    takes_what_algoliasearch_makes(client)
    assert_type(TokenAwareClientSync.create_with_config(config, user_token=identity), TokenAwareClientSync)
    assert_type(MyClient.create_with_config(config, transporter_sync, token_provider=provider), MyClient)
    assert_type(client.with_identity("u-1"), TokenAwareClientSync)
    assert_type(MyClient().with_identity(None), MyClient)
    assert_type(client.token_provider, TokenProvider)
    assert_type(client.events, EventSender)
    assert_type(client.insights, TokenAwareInsightsClientSync)
    assert_type(client.secured_api_key("parent", {"validUntil": 9}), str)
    assert_type(client.secured_api_key("parent", SecuredApiKeyRestrictions(filters="a:b")), str)
    assert_type(client.search_single_index("products", {"query": "shoe"}), SearchResponse)
    client.set_client_api_key("new")
    client.close()

    TokenAwareClientSync(user_token=7)  # type: ignore[arg-type]
    TokenAwareClientSync(user_token_in="cookie")  # type: ignore[arg-type]
    TokenAwareClientSync(on_missing_user_token="fail")  # type: ignore[arg-type]
    TokenAwareClientSync(searches_without_user="no_ab_test")
    TokenAwareClientSync(searches_without_user="no")  # type: ignore[arg-type]
    TokenAwareClientSync(token_provider="u-1")  # type: ignore[arg-type]
    TokenAwareClientSync(events=client)  # type: ignore[arg-type]
    TokenAwareClientSync(events={"strict": True, "outbox": SQLiteOutbox("events.db"), "on_error": on_error})
    TokenAwareClientSync(events=EventOptions(max_queue_bytes=1_000_000, delivery=MyDelivery()), insights_region="de")
    TokenAwareClientSync.create_with_config(config, events={"background": False}, insights_region="us")
    TokenAwareClientSync(events={"stict": True})  # type: ignore[arg-type]
    TokenAwareClientSync(events={"strict": "yes"})  # type: ignore[arg-type]
    TokenAwareClientSync(events={"user_token": "u-1"})  # type: ignore[arg-type]
    TokenAwareClientSync(insights_region=7)  # type: ignore[arg-type]
    TokenAwareClientSync(insights_config=config)  # type: ignore[arg-type]
    TokenAwareClientSync("app", "key", transporter)  # type: ignore[arg-type]
    TokenAwareClientSync("app", "key", None, None, "u-1")  # type: ignore[call-arg]
    TokenAwareClientSync.create_with_config(config, user_token_in="cookie")  # type: ignore[arg-type]
    TokenAwareClientSync.create_with_config(config, user="u-1")  # type: ignore[call-arg]
    TokenAwareClientSync.create_with_config(config, transporter)  # type: ignore[arg-type]
    client.with_identity(7)  # type: ignore[arg-type]
    client.secured_api_key()  # type: ignore[call-arg]


class MyClient(TokenAwareClientSync):
    pass


async def async_search_clients(
    transporter: Transporter, transporter_sync: TransporterSync, events: EventSender
) -> None:
    client = TokenAwareClient("app", "key", transporter, config, events=events)
    takes_what_algoliasearch_makes(client)
    assert_type(TokenAwareClient.create_with_config(config, transporter, user_token="u-1"), TokenAwareClient)
    assert_type(client.with_identity(identity), TokenAwareClient)
    assert_type(client.events, EventSender)
    assert_type(client.insights, TokenAwareInsightsClient)
    assert_type(await client.secured_api_key("parent"), str)
    assert_type(await client.search_single_index("products", {"query": "shoe"}), SearchResponse)
    await client.set_client_api_key("new")
    await client.close()

    TokenAwareClient("app", "key", transporter_sync)  # type: ignore[arg-type]
    TokenAwareClient(user_token_in=None)  # type: ignore[arg-type]


def any_client(transporter: Transporter, transporter_sync: TransporterSync) -> None:
    assert_type(make_token_aware(RecommendClientSync("app", "key")), RecommendClientSync)
    assert_type(
        make_token_aware(
            RecommendClient("app", "key"),
            provider,
            user_token_in="parameter",
            on_missing_user_token="raise",
            forward_client_ip=True,
        ),
        RecommendClient,
    )
    make_token_aware(RecommendClient("app", "key"), "u-1")  # type: ignore[arg-type]
    make_token_aware(RecommendClient("app", "key"), user_token_in="cookie")  # type: ignore[arg-type]

    takes_what_algoliasearch_makes(TokenAwareTransporter(transporter, provider))
    takes_what_algoliasearch_makes(
        TokenAwareTransporterSync(
            transporter_sync, provider, user_token_in="both", on_missing_user_token="ignore", forward_client_ip=False
        )
    )
    TokenAwareTransporter(transporter)  # type: ignore[call-arg]
    TokenAwareTransporterSync(transporter_sync, None)  # type: ignore[arg-type]
    TokenAwareTransporterSync(transporter_sync, provider, user_token_in="cookie")  # type: ignore[arg-type]


# -- Events --------------------------------------------------------------------------------------------------------


def insights_clients(transporter_sync: TransporterSync) -> None:
    client = TokenAwareInsightsClientSync("app", "key", "de", transporter_sync, insights_config, user_token="u-1")
    assert_type(TokenAwareInsightsClientSync.create_with_config(insights_config), TokenAwareInsightsClientSync)
    assert_type(client.with_identity("u-1"), TokenAwareInsightsClientSync)
    assert_type(client.push_events({"events": [{"eventType": "view"}]}), EventsResponse)
    TokenAwareInsightsClientSync(token_provider="u-1")  # type: ignore[arg-type]
    TokenAwareInsightsClientSync(user_token=7)  # type: ignore[arg-type]
    client.with_identity(7)  # type: ignore[arg-type]


async def async_insights_clients(transporter: Transporter) -> None:
    client = TokenAwareInsightsClient(config=insights_config, transporter=transporter, token_provider=provider)
    assert_type(client.with_identity(nobody), TokenAwareInsightsClient)
    assert_type(await client.push_events({"events": []}), EventsResponse)


def on_error(error: Exception, events: Sequence[Mapping[str, Any]]) -> None:
    pass


def on_error_alone(error: Exception) -> None:
    pass


class MyDelivery:
    def deliver(self, batch: Batch, timeout: float) -> None:
        assert_type(batch.events, Sequence[dict[str, Any]])
        assert_type(batch.body, bytes)

    def close(self) -> None:
        pass


a_delivery: Delivery = MyDelivery()
a_delivery = InsightsDelivery(insights_config)
a_delivery = MemoryDelivery()

events = EventSender("app", "key", "de")
events = EventSender(
    config=insights_config,
    user_token="u-1",
    delivery=MyDelivery(),
    outbox=SQLiteOutbox("events.db", max_events=1000, lease=30.0),
    max_queue_size=10,
    batch_size=1,
    flush_interval=0.5,
    concurrency=2,
    max_retry_time=60,
    close_timeout=1,
    background=False,
    strict=True,
    on_error=on_error,
)
EventSender(token_provider=provider)
EventSender(user_token=7)  # type: ignore[arg-type]
EventSender(delivery=print)  # type: ignore[arg-type]
EventSender(on_error=on_error_alone)  # type: ignore[arg-type]
EventSender(max_queue_size="10")  # type: ignore[arg-type]

ids, filters, data = ["1", "2"], ["brand:Acme"], [{"price": 9.5, "queryID": "0" * 32}]
now = datetime.now(timezone.utc)
assert_type(events.clicked_object_ids_after_search("n", "i", ids, [1, 2], "q", identity="u-1", timestamp=now), bool)
assert_type(events.clicked_object_ids("n", "i", ids, identity=identity, timestamp=1_800_000_000_000), bool)
assert_type(events.viewed_object_ids("n", "i", (str(i) for i in range(3)), identity=None, timestamp=None), bool)
assert_type(events.converted_object_ids("n", "i", set(ids)), bool)
assert_type(events.clicked_filters("n", "i", filters), bool)
assert_type(events.viewed_filters("n", "i", tuple(filters)), bool)
assert_type(events.converted_filters("n", "i", filters=filters), bool)
assert_type(events.converted_object_ids_after_search("n", "i", ids, "q"), bool)
assert_type(events.added_to_cart_object_ids("n", "i", ids, object_data=data, value=9.5, currency="EUR"), bool)
assert_type(events.added_to_cart_object_ids_after_search("n", "i", ids, "q", value="9.50"), bool)
assert_type(events.purchased_object_ids("n", "i", ids, object_data=data), bool)
assert_type(events.purchased_object_ids_after_search("n", "i", ids, data, value=19, currency="EUR"), bool)
assert_type(events.send({"eventType": "view"}, identity="u-1", timestamp=now), bool)
events.viewed_object_ids("n", "i", 7)  # type: ignore[arg-type]
events.viewed_object_ids("n", "i")  # type: ignore[call-arg]
events.viewed_object_ids("n", "i", ids, "u-1")  # type: ignore[call-arg]
events.viewed_object_ids("n", "i", ids, timestamp="now")  # type: ignore[arg-type]
events.clicked_object_ids_after_search("n", "i", ids, ["1"], "q")  # type: ignore[list-item]
events.converted_object_ids_after_search("n", "i", ids, None)  # type: ignore[arg-type]
events.purchased_object_ids_after_search("n", "i", ids)  # type: ignore[call-arg]
events.added_to_cart_object_ids("n", "i", ids, currency=978)  # type: ignore[arg-type]
events.send("view")  # type: ignore[arg-type]

assert_type(events.flush(), bool)

references = events.references(SearchResponse(hits=[]), "i", identity="u-1")
assert_type(references, list[HitReference])
assert_type(events.references({"hits": []}), list[HitReference])
assert_type(references[0].query_id, str | None)
assert_type((references[0].index_name, references[0].object_id), tuple[str, str])
assert_type(references[0].position, int | None)
assert_type(references[0].sign("secret"), str)
assert_type(references[0].made_for("u-1") and references[0].made_for(identity), bool)
assert_type(HitReference.verify(None, b"secret", max_age=0.5), HitReference)
assert_type(HitReference.verify("text", "secret", max_age=None), HitReference)
reference = HitReference("q", "i", "1", 7, user_token="u-1")
assert_type(events.clicked("n", reference, *references, identity=identity, timestamp=now), bool)
assert_type(events.converted("n", *references), bool)
assert_type(events.added_to_cart("n", reference, object_data=data, value=9.5, currency="EUR"), bool)
assert_type(events.purchased("n", reference, object_data=iter(data), value="9.5", identity="u-1"), bool)
events.clicked("n", "text")  # type: ignore[arg-type]
events.clicked("n", references)  # type: ignore[arg-type]
reference.position = 7  # type: ignore[misc]
reference.sign(7)  # type: ignore[arg-type]
HitReference.verify("text", "secret", 7)  # type: ignore[call-arg]
memory = QueryMemory({})
memory = QueryMemory(dict[str, Any](), max_items=100, key="queries")
assert_type(memory.recall("i", ["1", 2]), list[HitReference])
memory.remember(references)
memory.remember(iter([reference]), identity="u-1")
memory.forget("i", ("1",))
memory.remember(reference)  # type: ignore[arg-type]
memory.recall("i", 7)  # type: ignore[arg-type]
QueryMemory()  # type: ignore[call-arg]
letters = DeadLetters("failed.ndjson")
letters = DeadLetters(pathlib.Path("failed.ndjson"), max_bytes=1_000_000)
EventSender("APP", "key", on_error=letters)
DeadLetters(7)  # type: ignore[arg-type]
DeadLetters("failed.ndjson", 1_000_000)  # type: ignore[call-arg]
not_signed: Exception = InvalidReferenceError("too old")
letters(not_signed, [{"eventName": "n"}])
assert_type(events.flush(1.5), bool)
assert_type(events.close(timeout=None), bool)
assert_type(events.with_identity("u-1"), EventSender)
assert_type(events.token_provider, TokenProvider)
assert_type(events.stats, EventStats)
assert_type(events.stats.accepted, int)
assert_type(events.stats.delivered + events.stats.rejected + events.stats.failed + events.stats.queued, int)
assert_type(events.stats.refused + events.stats.dropped + events.stats.requests + events.stats.retries, int)
events.close_on_signal(signal.SIGTERM)
with events as entered_events:
    assert_type(entered_events, EventSender)
events.stats.accepted = 7  # type: ignore[misc]


async def async_events() -> None:
    assert_type(await events.aflush(1), bool)
    assert_type(await events.aclose(), bool)
    async with events as entered:
        assert_type(entered, EventSender)


# -- In a web application ------------------------------------------------------------------------------------------

web.Application(middlewares=[identity_middleware(set_cookie=lambda request: "consent" in request.cookies)])
identity_middleware(set_cookie="no")  # type: ignore[arg-type]


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    pass


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    return []


relay = EventsRelay(events)
relay = EventsRelay(TokenAwareClient())
relay = EventsRelay(TokenAwareClientSync())
EventsRelay("events")  # type: ignore[arg-type]
relay = EventsRelay(events, origins=["https://shop.example", None], max_bytes=10_000)
EventsRelay()  # type: ignore[call-arg]
EventsRelay(events, origins=[7])  # type: ignore[list-item]
assert_type(relay.handle(b"{}", origin=None, host="shop.example"), RelayAnswer)
answer = relay.handle(b"{}", origin="https://shop.example", host=None, fetch_site="same-origin")
assert_type((answer.status, answer.message, answer.accepted, answer.refused), tuple[int, str, int, int])
relay.handle("{}", origin=None, host=None)  # type: ignore[arg-type]
assert_type(relay.asgi(asgi_app), ASGIApp)
assert_type(relay.wsgi(wsgi_app, path="/collect/1/events"), WSGIApplication)
relay.aiohttp(web.Application(), "/collect/1/events")
assert_type(browser.settings("u-1", use_cookie=True, host="/collect"), dict[str, Any])
assert_type(browser.script(nonce="n", host="https://shop.example"), str)
browser.settings(host=7)  # type: ignore[arg-type]


# -- In tests ------------------------------------------------------------------------------------------------------

with LocalAlgolia() as algolia:
    assert_type(algolia, LocalAlgolia)
    assert_type(algolia.search_config(), SearchConfig)
    assert_type(algolia.insights_config(), InsightsConfig)
    assert_type(algolia.save_objects("products", [{"objectID": "1"}]), list[str])
    assert_type([search.user_token for search in algolia.searches], list[str | None])
    assert_type([event.user_token for event in algolia.events], list[str])
LocalAlgolia(port="80")  # type: ignore[arg-type]
