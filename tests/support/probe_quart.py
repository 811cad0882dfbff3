"""Quart: handlers in threads and in the loop, streamed bodies, background tasks, hooks, an error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import probe
from quart import Quart, Response, g, request

from algolia_usertoken.integrations.asgi import IdentityMiddleware

quart_app = Quart(__name__)


@quart_app.get("/<visitor>/sync/<number>")
def in_thread(visitor: str, number: str) -> Any:
    return probe.act_and_search(request.path[1:])


@quart_app.get("/<visitor>/async/<number>")
async def in_async_handler(visitor: str, number: str) -> Any:
    return await probe.act_and_search_async(request.path[1:])


@quart_app.get("/<visitor>/then-background/<number>")
def before_background(visitor: str, number: str) -> Any:
    what = request.path[1:]
    found = probe.act_and_search(what)
    g.then_search = what
    return found


@quart_app.get("/<visitor>/then-background-async/<number>")
async def before_background_async(visitor: str, number: str) -> Any:
    what = request.path[1:]
    found = await probe.act_and_search_async(what)
    quart_app.add_background_task(probe.search_async, what)
    quart_app.add_background_task(probe.search, what)
    return found


@quart_app.after_request
async def after_request(response: Response) -> Response:
    if "then_search" in g:
        quart_app.add_background_task(probe.search_async, g.then_search)
        quart_app.add_background_task(probe.search, g.then_search)
    return response


@quart_app.before_request
def before_request() -> None:
    if request.path.split("/")[2] == "dependency":
        probe.act(request.path[1:])


@quart_app.get("/<visitor>/dependency/<number>")
async def after_before_request(visitor: str, number: str) -> Any:
    return await probe.search_async(request.path[1:])


@quart_app.get("/<visitor>/stream/<number>")
async def in_async_stream(visitor: str, number: str) -> Any:
    what = request.path[1:]

    async def body() -> AsyncIterator[bytes]:
        probe.act(what)
        for _ in range(3):
            await probe.search_async(what)
            yield b"."

    return body()


@quart_app.get("/<visitor>/sync-stream/<number>")
def in_sync_stream(visitor: str, number: str) -> Any:
    what = request.path[1:]

    def body() -> Iterator[bytes]:
        probe.act(what)
        for _ in range(3):
            probe.search(what)
            yield b"."

    return body()


@quart_app.get("/<visitor>/error/<number>")
def before_an_error(visitor: str, number: str) -> Any:
    probe.act_and_search(request.path[1:])
    raise ZeroDivisionError


@quart_app.get("/<visitor>/crash/<number>")
async def before_a_crash(visitor: str, number: str) -> Any:
    probe.act(request.path[1:])
    raise RuntimeError("a crash that is meant")


@quart_app.errorhandler(ZeroDivisionError)
@quart_app.errorhandler(Exception)
async def on_error(error: Exception) -> Any:
    return await probe.search_async(request.path[1:]), 500


@quart_app.after_serving
async def at_the_end() -> None:
    await probe.close_async()
    probe.client.close()


quart_app.asgi_app = IdentityMiddleware(  # type: ignore[method-assign]
    quart_app.asgi_app,
    authenticated_user_token=lambda scope: probe.header(scope, b"x-login"),
    set_cookie=True,
    header=probe.HEADER,
    opted_out=lambda scope: probe.refused(probe.header(scope, b"cookie")),
)
app = probe.watched_asgi(quart_app)
