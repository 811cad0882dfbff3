"""Events of the page, through the application's own server: whose they become, from where they may come, answers."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any, NamedTuple

import flask
import httpx
import probe_django  # noqa: F401 - sets Django up
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from algoliasearch.insights.client import InsightsClientSync
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings
from django.urls import path
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from werkzeug.test import Client

from algolia_usertoken import (
    EventSender,
    Identity,
    MemoryDelivery,
    SQLiteOutbox,
    TokenAwareClient,
    TokenAwareClientSync,
    TokenProvider,
    identity_scope,
)
from algolia_usertoken.errors import InvalidEventError
from algolia_usertoken.integrations import asgi, relay, wsgi
from algolia_usertoken.integrations.aiohttp import identity_middleware
from algolia_usertoken.integrations.flask import init_app
from algolia_usertoken.integrations.relay import EventsRelay, RelayAnswer
from algolia_usertoken.local_algolia.insights_rules import refusal
from algolia_usertoken.testing import LocalAlgolia

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"
OTHER = "anonymous-00000000-0000-4000-8000-000000000000"
EVENT = {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": ["1"]}
HOUR_MS = 60 * 60 * 1000
OWN_PAGE = {"origin": "https://shop.example", "host": "shop.example"}


@pytest.fixture(autouse=True)
def _say_again() -> None:
    relay._say_once.cache_clear()


@pytest.fixture
def delivery() -> MemoryDelivery:
    return MemoryDelivery()


@pytest.fixture
def events(delivery: MemoryDelivery) -> Iterator[EventSender]:
    """A sender whose provider and default must play no part."""
    provider = TokenProvider("the-default", resolve=lambda: Identity("the-providers", "his-login"))
    with EventSender(delivery=delivery, token_provider=provider, background=False) as events:
        yield events


def body_of(*events: Any, **beside: Any) -> bytes:
    return json.dumps({"events": events, **beside}).encode()


class Relayed:
    """What `handle` answers to a page of the site, and what becomes of it."""

    def __init__(self, events: EventSender, delivery: MemoryDelivery, **options: Any) -> None:
        self.events, self.delivery, self.relay = events, delivery, EventsRelay(events, **options)

    def __call__(self, *events: Any) -> RelayAnswer:
        return self.relay.handle(body_of(*events), **OWN_PAGE)

    def one(self, event: Any, identity: Identity | str | None = TOKEN) -> dict[str, Any]:
        """The event as it is delivered."""
        before = len(self.delivered)
        with identity_scope(identity):
            assert self(event) == (200, "OK", 1, 0)
        (delivered,) = self.delivered[before:]
        return delivered

    @property
    def delivered(self) -> list[dict[str, Any]]:
        self.events.flush()
        return self.delivery.events


@pytest.fixture
def relayed(events: EventSender, delivery: MemoryDelivery) -> Relayed:
    return Relayed(events, delivery)


def who(event: Mapping[str, Any]) -> tuple[Any, Any]:
    return event.get("userToken"), event.get("authenticatedUserToken")


class TestWhose:
    def test_an_event_becomes_the_visitors_whom_the_server_knows(self, relayed: Relayed) -> None:
        assert who(relayed.one(EVENT, Identity(TOKEN, "login-1"))) == (TOKEN, "login-1")
        assert who(relayed.one(EVENT, "app-1")) == ("app-1", None)

    def test_a_login_alone_is_the_user_token_too(self, relayed: Relayed) -> None:
        claims = {**EVENT, "userToken": OTHER}

        assert who(relayed.one(claims, Identity(None, "login-1"))) == ("login-1", "login-1")

    def test_what_the_page_claims_does_not_count_where_the_server_knows(self, relayed: Relayed) -> None:
        claims = {**EVENT, "userToken": OTHER, "authenticatedUserToken": "somebody"}

        assert who(relayed.one(claims)) == (TOKEN, None)

    @pytest.mark.parametrize("nobody", [None, Identity(), Identity(client_ip="203.0.113.7")])
    def test_an_anonymous_token_counts_where_the_server_knows_nobody(
        self, relayed: Relayed, nobody: Identity | None
    ) -> None:
        claims = {**EVENT, "userToken": OTHER, "authenticatedUserToken": "somebody"}

        assert who(relayed.one(claims, nobody)) == (OTHER, None)

    @pytest.mark.parametrize(
        "claim", ["user-1", "", "anonymous", "Anonymous-1", "anonymous-a b", "anonymous-" + "a" * 200, 7, [OTHER], None]
    )
    def test_no_token_but_an_anonymous_one_counts_where_the_server_knows_nobody(
        self, relayed: Relayed, claim: Any
    ) -> None:
        with identity_scope(Identity()):
            answer = relayed({**EVENT, "userToken": claim, "authenticatedUserToken": "somebody"})

        assert (answer.status, answer.accepted, answer.refused) == (422, 0, 1)
        assert answer.message.startswith("nobody to attribute the event")
        assert relayed.delivered == []

    @pytest.mark.parametrize(
        "name",
        [
            "usertoken",
            "USERTOKEN",
            "u\u017ferToken",
            "userTo\u212aen",
            "authenticatedUsertoken",
            "authenticatedU\u017ferToken",
        ],
    )
    def test_a_token_is_one_under_whatever_letters_algolia_may_read_as_its_name(
        self, relayed: Relayed, name: str
    ) -> None:
        delivered = relayed.one({**EVENT, name: "somebody"})

        assert name not in delivered
        assert who(delivered) == (TOKEN, None)
        with identity_scope(Identity()):
            assert relayed({**EVENT, name: OTHER}).status == 422

    def test_where_a_visitor_opted_out_it_answers_as_if_all_was_sent(self, relayed: Relayed) -> None:
        with identity_scope(Identity(opted_out=True)):
            answer = relayed({**EVENT, "userToken": OTHER})

        assert answer[:2] == (200, "OK")
        assert relayed.delivered == []
        assert relayed.events.stats.accepted == 0

    def test_outside_of_the_middleware_this_is_said_once(
        self, relayed: Relayed, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert relayed({**EVENT, "userToken": OTHER}).status == 200
        assert relayed({**EVENT, "userToken": "user-1"}).status == 422

        said = [record.message for record in caplog.records if record.name == "algolia_usertoken.integrations"]
        assert len(said) == 1
        assert "outside of the middleware" in said[0]
        assert [who(event) for event in relayed.delivered] == [(OTHER, None)]


class TestWhen:
    @pytest.mark.parametrize("ago_ms", [1, HOUR_MS - 10_000])
    def test_the_time_of_the_page_is_believed_within_the_last_hour(
        self, relayed: Relayed, ago_ms: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = time.time()
        monkeypatch.setattr("algolia_usertoken.integrations.relay.time", SimpleNamespace(time=lambda: now))
        happened = int(now * 1000) - ago_ms

        assert relayed.one({**EVENT, "timestamp": happened})["timestamp"] == happened

    @pytest.mark.parametrize("ago_ms", [HOUR_MS + 1, -60_000, 40 * 24 * HOUR_MS])
    def test_an_earlier_or_later_time_is_now(self, relayed: Relayed, ago_ms: int) -> None:
        before = int(time.time() * 1000)

        found = relayed.one({**EVENT, "timestamp": before - ago_ms})["timestamp"]

        assert before <= found <= int(time.time() * 1000)

    @pytest.mark.parametrize("timestamp", [None, True, "yesterday", 1.7e12, 2**70, [1], ...])
    def test_a_time_that_is_none_is_now(self, relayed: Relayed, timestamp: Any) -> None:
        before = int(time.time() * 1000)
        event = EVENT if timestamp is ... else {**EVENT, "timestamp": timestamp, "Timestamp": 1}

        delivered = relayed.one(event)

        assert before <= delivered["timestamp"] <= int(time.time() * 1000)
        assert "Timestamp" not in delivered


def asked_from(events: EventSender, origins: Any = (), **place: str | None) -> int:
    options: Any = {"origin": None, "host": "shop.example", **place}
    with identity_scope(TOKEN):
        return EventsRelay(events, origins=origins).handle(body_of(EVENT), **options).status


class TestFromWhere:
    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("https://shop.example", "shop.example"),
            ("http://shop.example", "shop.example"),
            ("https://shop.example:8443", "shop.example:8443"),
            ("https://Shop.Example", "shop.EXAMPLE"),
            ("http://[::1]:8000", "[::1]:8000"),
            ("http://127.0.0.1", "127.0.0.1"),
        ],
    )
    def test_a_page_of_the_site_itself_may(self, events: EventSender, origin: str, host: str) -> None:
        assert asked_from(events, origin=origin, host=host) == 200

    @pytest.mark.parametrize(
        "origin",
        [
            "null",
            "",
            "https://evil.example",
            "https://shop.example.evil.example",
            "https://evilshop.example",
            "https://shop.example:8443",
            "https://shop.example:443",
            "https://shop.example.",
            "https://shop.example/",
            "https://user@shop.example",
            "https://shop.example, https://evil.example",
            "https://sh\u043ep.example",
            "https://xn--shp-9cd.example",
            "shop.example",
            "//shop.example",
            "ftp://shop.example",
            "file://shop.example",
            "chrome-extension://shop.example",
            "https://shop.example@evil.example",
            "https://localhost",
            " https://shop.example",
        ],
    )
    def test_a_page_of_another_or_a_look_alike_site_may_not(
        self, events: EventSender, origin: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert asked_from(events, origin=origin) == 403
        assert asked_from(events, origin=origin, fetch_site="same-origin") == 403
        assert asked_from(events, [None, "https://www.shop.example"], origin=origin) == 403

        assert events.stats.accepted == 0
        (record,) = caplog.records
        assert "EventsRelay(origins=…)" in record.message
        assert not origin or origin not in record.message

    @pytest.mark.parametrize("host", [None, "", "evil.example"])
    def test_no_page_may_where_the_host_is_another(self, events: EventSender, host: str | None) -> None:
        assert asked_from(events, origin="https://shop.example", host=host) == 403
        assert asked_from(events, origin="https://", host=host) == 403

    def test_a_site_that_is_listed_may(self, events: EventSender) -> None:
        listed = ["https://Shop.example", "capacitor://localhost", "http://127.0.0.1:8000"]
        for origin in (
            "https://shop.example",
            "HTTPS://shop.example",
            "capacitor://localhost",
            "http://127.0.0.1:8000",
        ):
            assert asked_from(events, listed, origin=origin, host="internal:9000") == 200
        for origin in ("http://shop.example", "https://shop.example:8443", "http://127.0.0.1"):
            assert asked_from(events, listed, origin=origin, host="internal:9000") == 403

    @pytest.mark.parametrize(
        ("fetch_site", "origins", "status"),
        [
            ("same-origin", [], 200),
            ("same-site", [], 403),
            ("cross-site", [], 403),
            ("none", [], 403),
            (None, [], 403),
            (None, ["https://shop.example"], 403),
            (None, [None], 200),
            ("cross-site", [None], 200),
        ],
    )
    def test_a_request_without_an_origin_is_judged_by_sec_fetch_site(
        self, events: EventSender, fetch_site: str | None, origins: list[Any], status: int
    ) -> None:
        assert asked_from(events, origins, fetch_site=fetch_site) == status


class TestAnswers:
    def test_one_bad_event_costs_no_other(self, relayed: Relayed) -> None:
        bad: list[Any] = [{**EVENT, "objectIDs": []}, {**EVENT, "user_token": "x"}, None, "event", 7, [], {}]
        with identity_scope(TOKEN):
            answer = relayed(bad[0], EVENT, *bad[1:], {**EVENT, "eventName": "Also seen"})

        assert answer == RelayAnswer(200, "OK", 2, 7)
        assert [event["eventName"] for event in relayed.delivered] == ["Seen", "Also seen"]
        assert relayed.events.stats.refused == 7

    @pytest.mark.parametrize(
        "value",
        [b"1" + b"0" * 5_000, b"-" + b"9" * 5_000, b"[[1" + b"0" * 5_000 + b"]]", b"1e999", b'"\\ud800"'],
        ids=["long number", "negative", "nested", "infinite", "half a character"],
    )
    def test_nor_does_one_whose_json_python_cannot_keep(self, relayed: Relayed, value: bytes) -> None:
        body = b'{"events": [%s, {"x": %s, "eventName": "Odd"}, %s]}' % (
            json.dumps(EVENT).encode(),
            value,
            json.dumps({**EVENT, "eventName": "Also seen"}).encode(),
        )
        with identity_scope(TOKEN):
            answer = relayed.relay.handle(body, **OWN_PAGE)

        assert answer == RelayAnswer(200, "OK", 2, 1)
        assert [event["eventName"] for event in relayed.delivered] == ["Seen", "Also seen"]
        assert relayed.relay.handle(b'{"events": [%s]}' % value, **OWN_PAGE)[::3] == (422, 1)

    def test_where_none_is_good_the_first_reason_is_said(self, relayed: Relayed) -> None:
        with identity_scope(TOKEN):
            answer = relayed({**EVENT, "index": ""}, {**EVENT, "objectIDs": []})

        assert answer == (422, "index is empty: it must be the name of an index (event 'Seen')", 0, 2)

    @pytest.mark.parametrize("strict", [False, True])
    def test_what_is_refused_is_reported_and_never_raised(self, strict: bool, delivery: MemoryDelivery) -> None:
        told: list[Any] = []
        with (
            EventSender(
                delivery=delivery, strict=strict, background=False, on_error=lambda *args: told.append(args)
            ) as events,
            identity_scope(TOKEN),
        ):
            assert Relayed(events, delivery)({**EVENT, "objectIDs": []}).status == 422

        ((error, (event,)),) = told
        assert isinstance(error, InvalidEventError)
        assert event == {**EVENT, "objectIDs": []}

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"\xff\xfe{\x00}\x00",
            b'{"events": [NaN]}',
            b"[" * 500_000,
            b'{"events": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            "\ufeff{}".encode(),
            body_of(EVENT) + b" {}",
            b"\xc2\xa0" + body_of(EVENT),
        ],
        ids=["nothing", "half", "UTF-16", "NaN", "deep", "deep and closed", "BOM", "two", "no-break"],
    )
    def test_of_what_is_no_json(self, relayed: Relayed, body: bytes) -> None:
        answer = relayed.relay.handle(body, **OWN_PAGE)

        assert answer[:2] in (
            (400, "The body is not JSON"),
            (422, "nobody to attribute the event to: no user token is known"),
        )
        assert answer.accepted == 0

    @pytest.mark.parametrize(("before", "after"), [(b"\r\n\t ", b""), (b"", b" \n"), (b" ", b" ")])
    def test_of_json_with_white_space_around_it(self, relayed: Relayed, before: bytes, after: bytes) -> None:
        with identity_scope(TOKEN):
            answer = relayed.relay.handle(before + body_of(EVENT) + after, **OWN_PAGE)

        assert answer == (200, "OK", 1, 0)

    @pytest.mark.parametrize(
        "data", [None, 7, "events", [], [EVENT], {}, {"events": None}, {"events": []}, {"events": EVENT}]
    )
    def test_of_what_has_no_events(self, relayed: Relayed, data: Any) -> None:
        assert relayed.relay.handle(json.dumps(data).encode(), **OWN_PAGE)[::2] == (422, 0)

    def test_of_a_thousand_events_and_of_more(self, relayed: Relayed) -> None:
        with identity_scope(TOKEN):
            assert relayed(*[EVENT] * 1000) == (200, "OK", 1000, 0)
            assert relayed(*[EVENT] * 1001)[::2] == (422, 0)

        assert relayed.events.stats.accepted == 1000

    def test_of_a_body_that_is_too_long(self, events: EventSender, delivery: MemoryDelivery) -> None:
        body = body_of(EVENT)
        with identity_scope(TOKEN):
            assert EventsRelay(events, max_bytes=len(body)).handle(body, **OWN_PAGE).status == 200
            assert EventsRelay(events, max_bytes=len(body) - 1).handle(body, **OWN_PAGE).status == 413
            assert EventsRelay(events).handle(body + b" " * 1_000_000, **OWN_PAGE).status == 413

    def test_where_the_queue_is_full_or_closed(self, delivery: MemoryDelivery) -> None:
        events = EventSender(delivery=delivery, background=False, max_queue_size=2)
        full = Relayed(events, delivery)
        with identity_scope(TOKEN):
            assert full(EVENT, EVENT, EVENT)[::2] == (503, 0)  # all or none, so that the page may send them again
            assert full(EVENT, EVENT).status == 200
            assert full(EVENT, {**EVENT, "index": ""}) == (
                503,
                "The events cannot be queued now: the queue is full, or the sender is closed",
                0,
                2,
            )
            events.close()
            assert full(EVENT).status == 503

        assert (events.stats.accepted, events.stats.dropped, events.stats.refused) == (2, 5, 1)

    def test_accepted_events_are_in_the_outbox_before_the_answer(self, tmp_path: Any, delivery: MemoryDelivery) -> None:
        outbox = SQLiteOutbox(tmp_path / "outbox.db")
        with EventSender(delivery=delivery, outbox=outbox, background=False) as events:
            with identity_scope(TOKEN):
                assert Relayed(events, delivery)(EVENT, EVENT).accepted == 2
            assert len(outbox) == 2

    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({"events": None}, TypeError, "events must be an EventSender, or a client that has one, not NoneType"),
            ({"events": TokenAwareClientSync}, TypeError, "or a client that has one, not the class TokenAwareClient"),
            ({"events": InsightsClientSync("APP", "KEY")}, TypeError, "that has one, not InsightsClientSync"),
            ({"origins": "https://shop.example"}, TypeError, "origins must be a list of origins, not str"),
            ({"origins": 7}, TypeError, "origins must be a list of origins, not int"),
            ({"origins": [7]}, TypeError, "each of origins must be a string or None, not int"),
            ({"origins": ["null"]}, ValueError, "origins must be as browsers send them"),
            ({"origins": ["*"]}, ValueError, "origins must be as browsers send them"),
            ({"origins": ["shop.example"]}, ValueError, "origins must be as browsers send them"),
            ({"origins": ["https://shop.example/"]}, ValueError, "origins must be as browsers send them"),
            ({"origins": ["https://a.example,https://b.example"]}, ValueError, "origins must be as browsers send them"),
            ({"origins": ["https://shop.example:443"]}, ValueError, "origins must not name a default port"),
            ({"origins": ["http://shop.example:80"]}, ValueError, "origins must not name a default port"),
            ({"max_bytes": 0}, ValueError, "max_bytes must be at least 1, not 0"),
            ({"max_bytes": True}, TypeError, "max_bytes must be a whole number, not bool"),
        ],
    )
    def test_wrong_arguments_of_the_relay_are_named(
        self, events: EventSender, arguments: dict[str, Any], error: type[Exception], text: str
    ) -> None:
        with pytest.raises(error, match=text):
            EventsRelay(**{"events": events, **arguments})

    def test_a_client_that_was_opened_again_gets_the_events_in_its_new_sender(self) -> None:
        with LocalAlgolia() as algolia:
            client = TokenAwareClientSync.create_with_config(
                algolia.search_config(), insights_config=algolia.insights_config()
            )
            relay = EventsRelay(client)
            for accepted in (1, 2):
                with client, identity_scope(TOKEN):
                    assert relay.handle(body_of(EVENT), **OWN_PAGE).status == 200
                assert relay.handle(body_of({**EVENT, "userToken": TOKEN}), **OWN_PAGE).status == 503  # it is closed
                assert [event.user_token for event in algolia.events] == [TOKEN] * accepted

    async def test_a_lifespan_that_opens_and_closes_the_client_may_run_twice(self) -> None:
        with LocalAlgolia() as algolia:
            client = TokenAwareClient.create_with_config(
                algolia.search_config(), insights_config=algolia.insights_config()
            )

            @contextlib.asynccontextmanager
            async def lifespan(app: FastAPI) -> AsyncIterator[None]:
                async with client:
                    yield

            app = FastAPI(lifespan=lifespan)
            app.add_middleware(EventsRelay(client).asgi)
            app.add_middleware(asgi.IdentityMiddleware)
            for _ in range(2):
                transport = httpx.ASGITransport(app)
                async with (
                    app.router.lifespan_context(app),
                    httpx.AsyncClient(transport=transport, base_url="https://shop.example") as page,
                ):
                    headers = {"Origin": "https://shop.example", "Cookie": f"_ALGOLIA={TOKEN}"}
                    answer = await page.post("/1/events", json={"events": [EVENT]}, headers=headers)
                    assert answer.json() == {"status": 200, "message": "OK"}

            assert [event.user_token for event in algolia.events] == [TOKEN, TOKEN]

    def test_a_body_that_is_no_bytes(self, relayed: Relayed) -> None:
        with pytest.raises(TypeError, match="body must be bytes, not str"):
            relayed.relay.handle("{}", **OWN_PAGE)  # type: ignore[arg-type]


# -- The adapters ------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Mapping[str, str]


Ask = Callable[..., Awaitable[Answer]]
AS_VISITOR = {"Cookie": f"_ALGOLIA={TOKEN}", "Origin": "http://shop.example", "Host": "shop.example"}
BEACON = {**AS_VISITOR, "Content-Type": "text/plain;charset=UTF-8"}
QUERY = "?X-Algolia-Application-Id=APP&X-Algolia-API-Key=a-key&X-Algolia-Agent=insights-js%20(2.17.3)"


def read(status: int, content: bytes, headers: Mapping[str, str]) -> Answer:
    is_json = headers.get("Content-Type") == "application/json"
    return Answer(status, json.loads(content) if is_json and content else content, headers)


async def ask_asgi(app: Any, method: str, path: str, headers: dict[str, str], body: Any) -> Answer:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        answer = await client.request(method, path, headers=headers, content=body)
    return read(answer.status_code, answer.content, answer.headers)


async def ask_wsgi(app: Any, method: str, path: str, headers: dict[str, str], body: Any) -> Answer:
    client = Client(app, use_cookies=False)
    answer = await asyncio.to_thread(
        client.open, path, "http://shop.example", method=method, headers=headers, data=body
    )
    return read(answer.status_code, answer.data, answer.headers)


async def ask_aiohttp(app: Any, method: str, path: str, headers: dict[str, str], body: Any) -> Answer:
    data = io.BytesIO(body) if isinstance(body, bytes) and body else body
    async with (
        TestClient(TestServer(app)) as client,
        client.request(method, path, headers=headers, data=data) as answer,
    ):
        return read(answer.status, await answer.read(), answer.headers)


async def page_asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})


def page_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"page"]


class InDjango:
    urlpatterns: list[Any]


def adapter_of(name: str, relay: EventsRelay, stack: ExitStack) -> Ask:
    """How to ask an application of this kind that has the relay, inside the middleware."""
    app: Any
    if name == "ASGI":
        app, ask = asgi.IdentityMiddleware(relay.asgi(page_asgi)), ask_asgi
    elif name == "FastAPI":
        app, ask = FastAPI(), ask_asgi
        app.get("/")(lambda: "page")
        app.add_middleware(relay.asgi)
        app.add_middleware(asgi.IdentityMiddleware)
    elif name == "WSGI":
        app, ask = wsgi.IdentityMiddleware(relay.wsgi(page_wsgi)), ask_wsgi
    elif name == "Flask":
        app, ask = flask.Flask("shop"), ask_wsgi
        app.get("/")(lambda: "page")
        init_app(app)
        relay.flask(app)
    elif name == "aiohttp":
        app, ask = web.Application(middlewares=[identity_middleware()]), ask_aiohttp

        async def page(request: web.Request) -> web.Response:
            return web.Response(text="page")

        app.router.add_get("/", page)
        relay.aiohttp(app)
    else:
        urls = type("Urls", (), {"urlpatterns": [path("1/events", relay.django), path("", lambda _: _page())]})
        middleware = [
            "django.middleware.csrf.CsrfViewMiddleware",
            "algolia_usertoken.integrations.django.IdentityMiddleware",
        ]
        stack.enter_context(
            override_settings(
                ROOT_URLCONF=urls, MIDDLEWARE=middleware, ALGOLIA_USERTOKEN={}, ALLOWED_HOSTS=["shop.example"]
            )
        )
        app, ask = (WSGIHandler(), ask_wsgi) if name == "Django under WSGI" else (ASGIHandler(), ask_asgi)

    async def asked(body: Any = b"", method: str = "POST", path: str = f"/1/events{QUERY}", **more: Any) -> Answer:
        headers = {**BEACON, **more}
        headers = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
        return await ask(app, method, path, headers, body)

    return asked


def _page() -> Any:
    from django.http import HttpResponse

    return HttpResponse("page")


ADAPTERS = ["ASGI", "FastAPI", "WSGI", "Flask", "aiohttp", "Django under WSGI", "Django under ASGI"]


@pytest.fixture(params=ADAPTERS)
def ask(request: pytest.FixtureRequest, events: EventSender) -> Iterator[Ask]:
    with ExitStack() as stack:
        yield adapter_of(request.param, EventsRelay(events, max_bytes=10_000), stack)


class TestAdapters:
    async def test_a_beacon_arrives_as_its_visitor(
        self, ask: Ask, relayed: Relayed, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        answer = await ask(body_of({**EVENT, "userToken": OTHER, "authenticatedUserToken": "somebody"}))

        assert (answer.status, answer.body) == (200, {"status": 200, "message": "OK"})
        assert [who(event) for event in relayed.delivered] == [(TOKEN, None)]
        assert "a-key" not in "".join(
            record.getMessage() for record in caplog.records if record.name.startswith("algolia_usertoken")
        )

    @pytest.mark.parametrize(
        "kind", ["application/json", "application/x-www-form-urlencoded", "multipart/form-data", None]
    )
    async def test_a_body_is_read_whatever_its_content_type_says(
        self, ask: Ask, relayed: Relayed, kind: str | None
    ) -> None:
        answer = await ask(body_of(EVENT), **{"Content-Type": kind})

        assert answer.status in ((200,) if kind in ("application/json", None) else (200, 400))
        assert {who(event) for event in relayed.delivered} <= {(TOKEN, None)}

    async def test_the_rest_of_the_application_is_as_it_was(self, ask: Ask) -> None:
        answer = await ask(method="GET", path="/")

        assert (answer.status, answer.body) in ((200, b"page"), (200, "page"))
        assert (await ask(body_of(EVENT), path="/1/event")).status in (200, 404)

    async def test_a_page_of_another_site_is_refused(self, ask: Ask, relayed: Relayed) -> None:
        for origin in ("https://evil.example", "null", "http://shop.example.evil.example", None):
            assert (await ask(body_of(EVENT), Origin=origin)).status == 403
        assert (await ask(body_of(EVENT), Host="evil.example")).status == 403
        assert (await ask(body_of(EVENT), Origin=None, Sec_Fetch_Site="same-origin")).status == 200

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
    async def test_another_method_is_not_allowed(self, ask: Ask, method: str) -> None:
        answer = await ask(method=method)

        assert (answer.status, answer.headers["Allow"]) == (405, "POST")

    async def test_a_bad_body_is_answered_with_400_or_422(self, ask: Ask) -> None:
        assert (await ask(b"")).status == 400
        assert (await ask(b"{")).status == 400
        assert (await ask(b"{}")).status == 422

    async def test_a_long_body_is_not_read_to_its_end(self, ask: Ask, relayed: Relayed) -> None:
        body = body_of(EVENT)
        assert (await ask(body + b" " * (10_000 - len(body)))).status == 200
        assert (await ask(body + b" " * (10_001 - len(body)))).status == 413
        assert (await ask(b" " * 3_000_000)).status == 413

    async def test_503_where_the_sender_is_closed(self, ask: Ask, events: EventSender) -> None:
        events.close()

        assert (await ask(body_of(EVENT))).status == 503


@pytest.mark.parametrize("name", ["ASGI", "aiohttp"])
async def test_a_body_in_pieces_whose_length_nobody_has_said(name: str, events: EventSender, relayed: Relayed) -> None:
    async def pieces(content: bytes) -> Any:
        for start in range(0, len(content), 50):
            yield content[start : start + 50]

    with ExitStack() as stack:
        ask = adapter_of(name, EventsRelay(events, max_bytes=1_000), stack)
        assert (await ask(pieces(body_of(*[EVENT] * 5)))).status == 200
        assert (await ask(pieces(body_of(*[EVENT] * 50)))).status == 413

    assert len(relayed.delivered) == 5


async def test_under_aiohttp_a_body_that_unpacks_to_too_much_or_to_nothing(events: EventSender) -> None:
    with ExitStack() as stack:
        ask = adapter_of("aiohttp", EventsRelay(events), stack)
        packed = gzip.compress(b" " * 50_000_000)
        assert (await ask(gzip.compress(body_of(EVENT)), **{"Content-Encoding": "gzip"})).status == 200
        assert (await ask(packed, **{"Content-Encoding": "gzip"})).status in (400, 413)
        assert (await ask(b"no gzip", **{"Content-Encoding": "gzip"})).status == 400


async def test_under_asgi_a_body_in_one_message(events: EventSender, delivery: MemoryDelivery) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body_of(EVENT), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"origin", b"http://a"), (b"host", b"a")]
    scope = {"type": "http", "method": "POST", "path": "/1/events", "headers": headers}
    with identity_scope("u-1"):
        await EventsRelay(events).asgi(page_asgi)(scope, receive, send)
    events.flush()

    assert sent[0]["status"] == 200
    assert [event["userToken"] for event in delivery.events] == ["u-1"]


async def test_under_asgi_a_visitor_who_goes_before_the_body_is_there(events: EventSender) -> None:
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    headers = [(b"origin", b"http://a"), (b"host", b"a")]
    scope = {"type": "http", "method": "POST", "path": "/1/events", "headers": headers}

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await EventsRelay(events).asgi(page_asgi)(scope, receive, send)

    assert (messages, sent) == ([], [])


async def test_a_body_without_an_end_is_read_until_it_is_too_long(events: EventSender) -> None:
    """Under ASGI, where each server has its own way to hand over a body, and under aiohttp."""
    relay = EventsRelay(events, max_bytes=1_000)
    given = 0

    async def receive() -> Any:
        nonlocal given
        given += 1
        assert given < 100, "it goes on reading"
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    async def read() -> bytes:
        return bytes((await receive())["body"])

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"origin", b"http://a"), (b"host", b"a")]
    scope = {"type": "http", "method": "POST", "path": "/1/events", "headers": headers}
    await relay.asgi(page_asgi)(scope, receive, send)
    assert (sent[0]["status"], given) == (413, 11)
    given = 0
    assert (await relay._answer_stream(read)).status == 413
    assert given == 11


async def test_under_asgi_headers_that_are_there_twice_are_no_good(events: EventSender) -> None:
    app = asgi.IdentityMiddleware(EventsRelay(events).asgi(page_asgi))
    twice = [("Origin", "http://evil.example"), ("Origin", "http://shop.example"), ("Host", "shop.example")]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as client:
        answer = await client.post("/1/events", headers=twice, content=body_of(EVENT))

    assert answer.status_code == 403


async def test_under_asgi_in_an_application_that_is_mounted(events: EventSender, relayed: Relayed) -> None:
    inner = EventsRelay(events).asgi(page_asgi)
    app = asgi.IdentityMiddleware(Starlette(routes=[Mount("/shop", inner)]))

    for asked, content in (("/shop/1/events", b'"OK"'), ("/shop/", b"page"), ("/1/events", b"Not Found")):
        answer = await ask_asgi(app, "POST", asked, BEACON, body_of(EVENT))
        found = json.dumps(answer.body).encode() if isinstance(answer.body, dict) else answer.body
        assert content in found

    assert [who(event) for event in relayed.delivered] == [(TOKEN, None)]


async def test_under_asgi_whatever_is_no_request_passes(events: EventSender) -> None:
    passed: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        passed.append(scope["type"])

    for kind in ("lifespan", "websocket"):
        await EventsRelay(events).asgi(app)({"type": kind, "path": "/1/events"}, None, None)  # type: ignore[arg-type]

    assert passed == ["lifespan", "websocket"]


class TestUnderWsgi:
    def answer(self, events: EventSender, **environ: Any) -> str:
        found: list[str] = []
        app = wsgi.IdentityMiddleware(EventsRelay(events, max_bytes=1_000).wsgi(page_wsgi))
        given = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/1/events",
            "HTTP_HOST": "a",
            "HTTP_ORIGIN": "http://a",
            "HTTP_COOKIE": f"_ALGOLIA={TOKEN}",
            "wsgi.url_scheme": "http",
            **environ,
        }
        list(app(given, lambda status, headers: found.append(status)))  # type: ignore[arg-type,return-value,func-returns-value]
        return found[0]

    def test_a_length_that_is_none_or_wrong(self, events: EventSender) -> None:
        class Endless:
            def read(self, size: int) -> bytes:
                return b" " * size

        for length in ("", "-1", "1e3", "٣", "abc"):
            assert self.answer(events, CONTENT_LENGTH=length, **{"wsgi.input": Endless()}) == "400 Bad Request"
        assert self.answer(events, CONTENT_LENGTH="9" * 18).startswith("413 ")
        terminated = {"wsgi.input": Endless(), "wsgi.input_terminated": True}
        assert self.answer(events, **terminated).startswith("413 ")

    def test_a_body_that_cannot_be_read(self, events: EventSender) -> None:
        class Gone:
            def read(self, size: int) -> bytes:
                raise OSError("the visitor has gone")

        assert self.answer(events, CONTENT_LENGTH="10", **{"wsgi.input": Gone()}) == "400 Bad Request"

    def test_a_body_that_comes_in_pieces(self, events: EventSender) -> None:
        class Pieces:
            left = body_of(EVENT)

            def read(self, size: int) -> bytes:
                piece, self.left = self.left[:7], self.left[7:]
                return piece

        assert self.answer(events, CONTENT_LENGTH=str(len(Pieces.left)), **{"wsgi.input": Pieces()}) == "200 OK"


async def test_under_flask_where_a_function_has_read_the_body_before(events: EventSender, relayed: Relayed) -> None:
    app = flask.Flask("shop")
    init_app(app)
    EventsRelay(events).flask(app, "/collect/1/events")

    @app.before_request
    def read_it() -> None:
        flask.request.get_data()

    assert (await ask_wsgi(app, "POST", "/collect/1/events", BEACON, body_of(EVENT))).status == 200
    assert len(relayed.delivered) == 1


@pytest.mark.parametrize(
    ("adapter", "app", "text"),
    [
        ("asgi", flask.Flask("shop"), "flask application: use flask"),
        ("asgi", 7, "app must be an ASGI application"),
        ("wsgi", page_asgi, "app must be a WSGI application"),
        ("flask", page_wsgi, "app must be a Flask application, not function"),
        ("aiohttp", flask.Flask("shop"), "app must be an aiohttp.web.Application, not Flask"),
    ],
)
def test_an_application_of_another_kind_is_refused(events: EventSender, adapter: str, app: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        getattr(EventsRelay(events), adapter)(app)


@pytest.mark.parametrize("path", ["/événements/1/events", "/事件/1/events", "/a b/1/events"])
async def test_a_path_may_have_any_letters(events: EventSender, relayed: Relayed, path: str) -> None:
    relay = EventsRelay(events)
    flask_app = flask.Flask("shop")
    init_app(flask_app)
    relay.flask(flask_app, path)
    aiohttp_app = web.Application(middlewares=[identity_middleware()])
    relay.aiohttp(aiohttp_app, path)
    asked = [
        ask_asgi(asgi.IdentityMiddleware(relay.asgi(page_asgi, path)), "POST", path, BEACON, body_of(EVENT)),
        ask_wsgi(wsgi.IdentityMiddleware(relay.wsgi(page_wsgi, path)), "POST", path, BEACON, body_of(EVENT)),
        ask_wsgi(flask_app, "POST", path, BEACON, body_of(EVENT)),
        ask_aiohttp(aiohttp_app, "POST", path, BEACON, body_of(EVENT)),
    ]

    assert [(answer.status, answer.body) for answer in [await each for each in asked]] == [
        (200, {"status": 200, "message": "OK"})
    ] * 4
    assert [who(event) for event in relayed.delivered] == [(TOKEN, None)] * 4


@pytest.mark.parametrize(("adapter", "app"), [("asgi", page_asgi), ("wsgi", page_wsgi), ("flask", flask.Flask("shop"))])
def test_a_path_without_a_slash_is_refused(events: EventSender, adapter: str, app: Any) -> None:
    with pytest.raises(ValueError, match="path must start with a slash, not '1/events'"):
        getattr(EventsRelay(events), adapter)(app, "1/events")
    with pytest.raises(TypeError, match="path must be a string, not NoneType"):
        getattr(EventsRelay(events), adapter)(app, None)


# -- Hostile bodies ----------------------------------------------------------------------------------------------------

NAMES = [
    *("userToken", "authenticatedUserToken", "timestamp", "usertoken", "USERTOKEN", "u\u017ferToken", "userTo\u212aen"),
    *("user_token", "user-token", "authenticatedusertoken", "authenticated_user_token", "__proto__", "events", "index"),
    *("objectIDs", "objectData", "eventType", "eventName", "eventSubtype", "queryID", "positions", "filters", "value"),
    *("\ud800", "", "a" * 200, "\u0000", "currency", "objectids", "Timestamp", "algoliaSource"),
]
VICTIM = "victim-1"
SCALARS: list[Any] = [
    *(VICTIM, OTHER, "", None, True, 0, -1, 2**63, 2**70, 1e308, 0.1, "view", "click", "conversion", "instantsearch"),
    *("\ud800", "\u2028</script>", "anonymous-\n", "a" * 300, "purchase", "brand:x", "0" * 32, 1_800_000_000_000),
]


def hostile_value(luck: random.Random, depth: int = 0) -> Any:
    kind = luck.random()
    if depth > 3 or kind < 0.6:
        return luck.choice(SCALARS)
    if kind < 0.8:
        return [hostile_value(luck, depth + 1) for _ in range(luck.randrange(4))]
    return {luck.choice(NAMES): hostile_value(luck, depth + 1) for _ in range(luck.randrange(4))}


def hostile_event(luck: random.Random) -> Any:
    if luck.random() < 0.1:
        return hostile_value(luck)
    event: dict[str, Any] = {**EVENT, "userToken": luck.choice([OTHER, VICTIM])} if luck.random() < 0.8 else {}
    for _ in range(luck.randrange(1, 5)):
        event[luck.choice(NAMES)] = hostile_value(luck)
    return event


def hostile_body(luck: random.Random) -> bytes:
    data: Any = {"events": [hostile_event(luck) for _ in range(luck.randrange(1, 5))]}
    if luck.random() < 0.1:
        data = hostile_value(luck)
    elif luck.random() < 0.2:
        data[luck.choice(NAMES)] = hostile_value(luck)
    body = json.dumps(data, ensure_ascii=luck.random() < 0.5).encode("utf-8", "surrogatepass")
    if luck.random() < 0.1:
        at = luck.randrange(len(body) + 1)
        body = body[:at] + luck.randbytes(luck.randrange(4)) + body[at + luck.randrange(4) :]
    if luck.random() < 0.02:
        body = b'{"events":[' + b'{"a":' * luck.randrange(2_000)
    if luck.random() < 0.1:  # the same name twice, which dumps can't write
        body = body.replace(b'{"eventType"', b'{"userToken":"victim-1","userToken":"victim-1","eventType"')
    return body


@pytest.mark.slow
@pytest.mark.parametrize("identity", [Identity(TOKEN), Identity(TOKEN, "login-1"), Identity()], ids=str)
def test_of_ten_thousand_hostile_bodies_none_arrives_under_anybody_else(
    identity: Identity, delivery: MemoryDelivery
) -> None:
    luck = random.Random(20261129)
    statuses: set[int] = set()
    with EventSender(delivery=delivery, background=False, max_queue_size=100_000) as events:
        take = EventsRelay(events)
        with identity_scope(identity):
            for _ in range(10_000):
                statuses.add(take.handle(hostile_body(luck), **OWN_PAGE).status)
        events.flush()
        counted = events.stats

    assert statuses == {200, 400, 422}
    assert len(delivery.events) == counted.accepted > 1_000
    if identity.user_token is None:  # the page says who it is, but for the letters that were changed
        assert {who(event)[0][:10] for event in delivery.events} == {"anonymous-"}
        assert {who(event)[1] for event in delivery.events} == {None}
    else:
        assert {who(event) for event in delivery.events} == {(identity.user_token, identity.authenticated_user_token)}
    for event in delivery.events:
        # However it is read, it names nobody else: neither at the top, nor under a name that reads alike.
        assert [name for name in event if name.casefold() == "usertoken"] == ["userToken"]
        assert len([name for name in event if name.casefold() == "authenticatedusertoken"]) == (
            who(event)[1] is not None
        )
        assert [name for name in event if name.casefold() == "timestamp"] == ["timestamp"]
    for start in range(0, len(delivery.events), 1000):  # nor would Algolia refuse any
        assert refusal({"events": delivery.events[start : start + 1000]}, time.time()) is None
