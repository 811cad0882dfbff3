"""Searches from many event loops, in a process of its own: `python -X dev -W error in_loops.py`.

Prints the outcome of each scenario as JSON: its traceback and its output on stderr, for example a ResourceWarning, or
"" if it succeeded.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import logging
import os
import socket
import sys
import threading
import traceback
import urllib.request
import warnings
import wsgiref.simple_server
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import aiohttp

from algolia_usertoken import TokenAwareClient, identity_scope
from algolia_usertoken.testing import LocalAlgolia

Scenario = Callable[[LocalAlgolia, TokenAwareClient], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


async def search(client: TokenAwareClient, number: int = 0) -> None:
    with identity_scope(f"u-{number}"):
        response = await client.search_single_index("products", {"query": f"{number}"})
    assert response.query == f"{number}"
    # The session that sent the search belongs to the running loop.
    assert client._transporter._session.connector._loop is asyncio.get_running_loop()


def open_sockets(algolia: LocalAlgolia) -> int:
    """How many connections to Algolia this process holds open."""
    gc.collect()
    peers = []
    for one in [thing for thing in gc.get_objects() if isinstance(thing, socket.socket)]:
        with contextlib.suppress(OSError):
            peers.append(one.getpeername())
    return sum(isinstance(peer, tuple) and peer[1] == algolia.port for peer in peers)


def run_bare(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine in a loop that is closed without `shutdown_asyncgens`."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(coroutine)
    loop.close()


@contextlib.contextmanager
def threads(*works: Callable[[], Any]) -> Iterator[None]:
    """Run functions in threads while the block runs. An error in a thread is raised at the end."""
    errors = []

    def run(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=run, args=[work]) for work in works]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        for thread in running:
            thread.join()
    if errors:
        raise errors[0]


# -- Loops that end ------------------------------------------------------------------------------------------------


@scenario
def five_loops_in_turn_and_four_threads_with_a_loop_each(algolia: LocalAlgolia, client: TokenAwareClient) -> None:
    async def many(first: int, count: int) -> None:
        for number in range(first, first + count, 5):
            await asyncio.gather(*[search(client, number + i) for i in range(5)])

    def thread(first: int) -> None:
        for turn in range(5):
            asyncio.run(many(first + turn * 25, 25))

    for turn in range(5):
        asyncio.run(many(turn * 100, 100))
        assert open_sockets(algolia) == 0
    with threads(*[lambda number=number: thread(500 + number * 125) for number in range(4)]):
        pass

    assert open_sockets(algolia) == 0
    assert len(algolia.searches) == 1_000
    assert all(search.user_token == f"u-{search.query}" for search in algolia.searches)


@scenario
def threads_that_open_and_close_the_client_for_themselves(algolia: LocalAlgolia, client: TokenAwareClient) -> None:
    async def open_and_close(first: int) -> None:
        for _ in range(15):
            async with client:
                await asyncio.gather(*[search(client, first + i) for i in range(4)])

    with threads(*[lambda number=number: asyncio.run(open_and_close(number * 10)) for number in range(4)]):
        pass

    assert len(algolia.searches) == 4 * 15 * 4
    assert open_sockets(algolia) == 0


@scenario
def loops_closed_without_notice(algolia: LocalAlgolia, client: TokenAwareClient) -> None:
    for turn in range(3):
        run_bare(search(client, turn))
        assert open_sockets(algolia) == 1  # the one of this loop; that of the previous loop was closed
    asyncio.run(search(client))

    assert open_sockets(algolia) == 0


@scenario
def a_loop_closed_without_notice_beside_one_that_goes_on(algolia: LocalAlgolia, client: TokenAwareClient) -> None:
    async def go_on() -> None:
        await search(client)
        await asyncio.to_thread(lambda: run_bare(search(client)))
        assert open_sockets(algolia) == 2
        await search(client)
        assert open_sockets(algolia) == 1

    asyncio.run(go_on())


@scenario
def a_client_closed_in_another_loop_than_those_that_are_gone(algolia: LocalAlgolia, client: TokenAwareClient) -> None:
    for turn in range(3):
        run_bare(search(client, turn))
    asyncio.run(client.close())

    assert open_sockets(algolia) == 0


@scenario
def a_client_closed_in_one_loop_while_another_searches(algolia: LocalAlgolia, client: TokenAwareClient) -> None:
    closed, searched = threading.Event(), threading.Event()

    async def go_on() -> None:
        await search(client)
        before = client._transporter._session.connector
        searched.set()
        while not closed.is_set():
            await search(client)
        await search(client)
        assert client._transporter._session.connector is before

    async def close() -> None:
        for _ in range(20):
            await search(client)
            await client.close()
            await client.with_identity("u").close()

    with threads(lambda: asyncio.run(go_on())):
        try:
            assert searched.wait(60)
            asyncio.run(close())
        finally:
            closed.set()

    assert open_sockets(algolia) == 0


@scenario
def a_client_that_is_dropped_and_never_closed(algolia: LocalAlgolia, client: TokenAwareClient) -> None:
    async def once() -> None:
        await search(TokenAwareClient.create_with_config(algolia.search_config()))

    for _ in range(3):
        asyncio.run(once())
        assert open_sockets(algolia) == 0


@scenario
def a_search_when_the_loop_has_closed_its_generators(algolia: LocalAlgolia, client: TokenAwareClient) -> None:
    left: list[Any] = []

    async def rows(close: bool) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            for _ in range(10_000):
                if client._transporter._session.closed:
                    break
                await asyncio.sleep(0)
            await search(client)
            if close:
                await client.close()

    async def main(close: bool) -> None:
        await search(client)
        left.append(rows(close))
        await anext(left[-1])

    asyncio.run(main(True))
    assert open_sockets(algolia) == 0
    asyncio.run(main(False))
    asyncio.run(client.close())

    assert len(algolia.searches) == 4
    assert open_sockets(algolia) == 0


@scenario
def connections_are_reused_within_a_loop(algolia: LocalAlgolia, client: TokenAwareClient) -> None:
    async def main() -> None:
        for number in range(10):
            await search(client, number)
            await search(client.with_identity("view"))
        assert open_sockets(algolia) == 1

    asyncio.run(main())


# -- Frameworks that run each async view in a loop of its own -------------------------------------------------------


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        pass


def ask(application: Any, algolia: LocalAlgolia) -> None:
    """Serve an application on a thread that is not the main thread, as threaded workers do, and request 20 pages."""
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, application, handler_class=Quiet)
    with server, threads(lambda: server.serve_forever(poll_interval=0.01)):
        try:
            for number in range(20):
                url = f"http://127.0.0.1:{server.server_port}/{number}"
                with urllib.request.urlopen(url, timeout=60) as response:
                    assert response.read() == b"found"
                assert open_sockets(algolia) == 0
        finally:
            server.shutdown()

    found = [(search.query, search.user_token) for search in algolia.searches]
    assert found == [(f"{number}", f"u-{number}") for number in range(20)]


@scenario
def async_views_of_flask(algolia: LocalAlgolia, client: TokenAwareClient) -> None:
    from flask import Flask

    app = Flask(__name__)

    @app.get("/<int:number>")
    async def view(number: int) -> str:
        await search(client, number)
        return "found"

    ask(app, algolia)


urlpatterns: list[Any] = []


@scenario
def async_views_of_django_under_wsgi(algolia: LocalAlgolia, client: TokenAwareClient) -> None:
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpResponse
    from django.urls import path

    async def view(request: Any, number: int) -> HttpResponse:
        await search(client, number)
        return HttpResponse("found")

    settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="for this test", USE_TZ=True)
    django.setup()
    urlpatterns.append(path("<int:number>", view))

    ask(get_wsgi_application(), algolia)


# -- Forks ---------------------------------------------------------------------------------------------------------


def forked(algolia: LocalAlgolia, client: TokenAwareClient, before: Coroutine[Any, Any, None]) -> None:
    """Fork children from a parent whose loop is open. The children search in new loops, and so does the parent."""
    warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(before)
    for _ in range(3):
        children = []
        for number in range(4):
            child = os.fork()
            if not child:
                status = 1
                try:
                    loop.run_until_complete(loop.shutdown_asyncgens())  # closes no connection of the parent
                    for _ in range(3):
                        asyncio.run(search(client, number))
                    run_bare(search(client, number))
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
        loop.run_until_complete(client.search_single_index("products", {"query": "parent"}))
    loop.run_until_complete(client.close())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()

    assert open_sockets(algolia) == 0
    assert len(algolia.searches) == 3 * 4 * 4 + 4


if hasattr(os, "fork"):

    @scenario
    def a_forked_child_of_an_async_parent(algolia: LocalAlgolia, client: TokenAwareClient) -> None:
        forked(algolia, client, search(client))

    @scenario
    def a_forked_child_of_an_async_parent_with_a_session_of_its_own(
        algolia: LocalAlgolia, client: TokenAwareClient
    ) -> None:
        async def before() -> None:
            client._transporter._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector())
            await client.search_single_index("products", {"query": "parent"})

        forked(algolia, client, before())


def outcome(run: Scenario) -> str:
    """The output of a scenario on stderr, and its traceback."""
    written = io.StringIO()
    with contextlib.redirect_stderr(written):
        try:
            with LocalAlgolia() as algolia:
                algolia.save_objects("products", [{"objectID": "1"}])
                run(algolia, TokenAwareClient.create_with_config(algolia.search_config()))
                gc.collect()
        except BaseException:
            traceback.print_exc()
    return written.getvalue()


if __name__ == "__main__":
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # in development mode, asyncio also logs slow callbacks
    json.dump({name: outcome(run) for name, run in SCENARIOS.items()}, sys.stdout)
