"""What the middleware does in the lifespan of an ASGI application. Real servers that stop are in test_servers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import litestar
import pytest
import quart
import trio
from fastapi import FastAPI
from program_files import run_program
from starlette.applications import Starlette
from starlette.middleware import Middleware
from waiting import PATIENCE

from algolia_usertoken import EventSender, MemoryDelivery
from algolia_usertoken.integrations.asgi import IdentityMiddleware

STARTUP, SHUTDOWN = {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
EVENT = {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": ["1"]}
App = Callable[[Any, Any, Any], Awaitable[None]]


class Server:
    """The side of a server: which messages it got, and how many events had been delivered then."""

    def __init__(self, *senders: MemoryDelivery) -> None:
        self.messages = [STARTUP, SHUTDOWN]
        self.got: list[tuple[str, int]] = []
        self.scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._deliveries = senders

    async def receive(self) -> Any:
        assert self.messages, "a server sends no more than that"
        return self.messages.pop(0)

    async def send(self, message: Any) -> None:
        self.got.append((message["type"], sum(len(delivery.events) for delivery in self._deliveries)))

    async def run(self, app: App) -> None:
        await app(self.scope, self.receive, self.send)


@pytest.fixture
def delivery() -> MemoryDelivery:
    return MemoryDelivery()


@pytest.fixture
def events(delivery: MemoryDelivery) -> Iterator[EventSender]:
    """A sender with an event that only somebody who stops delivers."""
    with EventSender(delivery=delivery, user_token="visitor", flush_interval=600, close_timeout=PATIENCE) as events:
        events.send(EVENT)
        yield events
        delivery.release()


async def has_one(scope: Any, receive: Any, send: Any) -> None:
    assert await receive() == STARTUP
    await send({"type": "lifespan.startup.complete"})
    assert await receive() == SHUTDOWN
    await send({"type": "lifespan.shutdown.complete"})


async def returns_at_once(scope: Any, receive: Any, send: Any) -> None:
    pass


async def raises_at_once(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(f"Django can only handle ASGI/HTTP connections, not {scope['type']}.")


async def returns_after_the_startup_came(scope: Any, receive: Any, send: Any) -> None:
    await receive()


async def returns_once_started(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})


async def returns_after_the_shutdown_came(scope: Any, receive: Any, send: Any) -> None:
    await returns_once_started(scope, receive, send)
    await receive()


COMPLETE = [("lifespan.startup.complete", 0), ("lifespan.shutdown.complete", 1)]


@pytest.mark.parametrize(
    "app",
    [
        has_one,
        returns_at_once,
        raises_at_once,
        returns_after_the_startup_came,
        returns_once_started,
        returns_after_the_shutdown_came,
    ],
)
async def test_events_are_delivered_before_the_shutdown_is_complete(
    app: App, events: EventSender, delivery: MemoryDelivery
) -> None:
    server = Server(delivery)

    await server.run(IdentityMiddleware(app))

    assert server.got == COMPLETE
    assert server.messages == []


async def test_an_error_before_a_message_is_logged_without_its_text(
    events: EventSender, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "algolia_usertoken.integrations")

    await Server().run(IdentityMiddleware(raises_at_once))

    assert [record.message for record in caplog.records] == [
        "the application has no lifespan: it raised ValueError before it took a message"
    ]


async def test_events_are_delivered_before_a_shutdown_that_failed(
    events: EventSender, delivery: MemoryDelivery
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await returns_after_the_shutdown_came(scope, receive, send)
        await send({"type": "lifespan.shutdown.failed", "message": "no"})

    server = Server(delivery)

    await server.run(IdentityMiddleware(app))

    assert server.got == [("lifespan.startup.complete", 0), ("lifespan.shutdown.failed", 1)]


async def test_events_are_delivered_before_an_error_in_the_shutdown_reaches_the_server(
    events: EventSender, delivery: MemoryDelivery
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await returns_after_the_shutdown_came(scope, receive, send)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Server().run(IdentityMiddleware(app))

    assert len(delivery.events) == 1


@pytest.mark.parametrize("started", [True, False])
async def test_an_error_after_a_message_is_the_servers(
    started: bool, events: EventSender, delivery: MemoryDelivery
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (returns_once_started if started else returns_after_the_startup_came)(scope, receive, send)
        raise ZeroDivisionError

    server = Server(delivery)

    with pytest.raises(ZeroDivisionError):
        await server.run(IdentityMiddleware(app))

    assert server.got == [("lifespan.startup.complete", 0)] * started
    assert server.messages == [SHUTDOWN]


async def test_a_startup_that_failed_is_the_end(events: EventSender) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    server = Server()

    await server.run(IdentityMiddleware(app))

    assert server.got == [("lifespan.startup.failed", 0)]
    assert server.messages == [SHUTDOWN]


async def test_a_server_that_stops_while_the_application_starts_is_not_answered() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    server = Server()

    with pytest.raises(asyncio.CancelledError):
        await server.run(IdentityMiddleware(app))

    assert server.got == []


async def test_a_message_of_another_kind_ends_what_the_middleware_runs() -> None:
    server = Server()
    server.messages = [{"type": "http.disconnect"}]

    await server.run(IdentityMiddleware(returns_at_once))

    assert server.got == []


async def test_the_events_of_every_sender_of_the_process_are_delivered() -> None:
    deliveries = [MemoryDelivery() for _ in range(3)]
    made = [
        EventSender(delivery=each, user_token="visitor", flush_interval=600, close_timeout=PATIENCE)
        for each in deliveries
    ]
    for each in made:
        each.send(EVENT)

    await Server().run(IdentityMiddleware(has_one))

    assert [each.stats.delivered for each in made] == [1, 1, 1]
    assert made[0].send(EVENT), "a sender takes events after a shutdown too: a test client starts and stops at will"
    for each in made:
        each.close()
    assert made[0].stats.delivered == 2


async def test_the_applications_own_shutdown_may_send_events(events: EventSender, delivery: MemoryDelivery) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await returns_after_the_shutdown_came(scope, receive, send)
        events.send(EVENT)
        await send({"type": "lifespan.shutdown.complete"})

    server = Server(delivery)

    await server.run(IdentityMiddleware(app))

    assert server.got[-1] == ("lifespan.shutdown.complete", 2)


@pytest.mark.parametrize("app", [has_one, returns_at_once, raises_at_once])
async def test_of_two_middlewares_the_outer_one_delivers_once(
    app: App, events: EventSender, delivery: MemoryDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    from algolia_usertoken.events import process

    calls = []
    monkeypatch.setattr(process, "deliver_all", lambda original=process.deliver_all: calls.append(original()))

    async def copies_its_scope(scope: Any, receive: Any, send: Any) -> None:
        await inner(dict(scope), receive, send)

    inner = IdentityMiddleware(app)
    server = Server(delivery)

    await server.run(IdentityMiddleware(copies_its_scope))

    assert server.got == COMPLETE
    assert len(calls) == 1


async def test_the_event_loop_goes_on_while_events_are_delivered(events: EventSender, delivery: MemoryDelivery) -> None:
    delivery.hang()
    server = Server(delivery)

    shutdown = asyncio.create_task(server.run(IdentityMiddleware(returns_at_once)))
    await asyncio.sleep(0.2)  # which ends while that hangs
    assert server.got == COMPLETE[:1]
    delivery.release()
    await shutdown

    assert server.got == COMPLETE


async def test_what_there_is_no_time_for_is_logged_and_the_server_stops(caplog: pytest.LogCaptureFixture) -> None:
    delivery = MemoryDelivery()
    delivery.hang()
    server = Server(delivery)
    with EventSender(delivery=delivery, user_token="visitor", flush_interval=600, close_timeout=0.2) as events:
        events.send(EVENT)

        await server.run(IdentityMiddleware(has_one))

        assert server.got == [("lifespan.startup.complete", 0), ("lifespan.shutdown.complete", 0)]
        delivery.release()
        assert events.close(PATIENCE)
    assert "1 events are not delivered yet, after the 0.2 seconds of close_timeout" in caplog.messages
    assert events.stats.delivered == 1


async def test_a_server_that_waits_no_longer_may_cancel(events: EventSender, delivery: MemoryDelivery) -> None:
    delivery.hang()

    shutdown = asyncio.create_task(Server(delivery).run(IdentityMiddleware(returns_at_once)))
    await asyncio.sleep(0.1)
    shutdown.cancel()
    with pytest.raises(asyncio.CancelledError):
        await shutdown

    delivery.release()
    assert events.flush(PATIENCE)


def test_a_loop_that_has_ended_is_not_told(events: EventSender, delivery: MemoryDelivery) -> None:
    delivery.hang()

    async def stop() -> None:
        shutdown = asyncio.create_task(Server(delivery).run(IdentityMiddleware(returns_at_once)))
        await asyncio.sleep(0.1)
        shutdown.cancel()

    asyncio.run(stop())
    delivery.release()
    for thread in threading.enumerate():
        if thread.name == "algolia-usertoken-shutdown":
            thread.join(PATIENCE)  # an error of it would fail this test

    assert events.stats.delivered == 1


async def test_where_no_thread_can_start_events_are_delivered_in_the_servers(
    delivery: MemoryDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(delivery)
    with EventSender(delivery=delivery, user_token="visitor", background=False) as events:
        events.send(EVENT)
        with monkeypatch.context() as patch:

            def start(thread: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            patch.setattr(threading.Thread, "start", start)
            await server.run(IdentityMiddleware(has_one))

    assert server.got == COMPLETE


def quart_app() -> Any:
    app = quart.Quart("shop")
    app.asgi_app = IdentityMiddleware(app.asgi_app)
    return app


FRAMEWORKS: dict[str, Callable[[], Any]] = {
    "Starlette": lambda: Starlette(middleware=[Middleware(IdentityMiddleware)]),
    "FastAPI": lambda: FastAPI(middleware=[Middleware(IdentityMiddleware)]),
    "Quart": quart_app,
    "Litestar": lambda: IdentityMiddleware(litestar.Litestar()),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_frameworks_pass_the_lifespan_on_to_where_the_documentation_puts_the_middleware(
    framework: str, events: EventSender, delivery: MemoryDelivery
) -> None:
    server = Server(delivery)

    await server.run(FRAMEWORKS[framework]())

    assert server.got == COMPLETE


@pytest.mark.parametrize("app", [has_one, raises_at_once])
def test_events_are_delivered_at_the_shutdown_under_trio(
    app: App, events: EventSender, delivery: MemoryDelivery
) -> None:
    server = Server(delivery)

    trio.run(server.run, IdentityMiddleware(app))

    assert server.got == COMPLETE


def test_a_process_without_a_sender_does_not_load_one() -> None:
    done = run_program("programs/lifespan_without_a_sender.py")

    assert done.stdout.split("\n")[:3] == ["lifespan.startup.complete", "lifespan.shutdown.complete", "[]"]
