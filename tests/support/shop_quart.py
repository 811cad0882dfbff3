"""Quart: handlers in threads and in the loop, streamed bodies, background tasks, hooks, an error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import shop
from quart import Quart, Response, g, request

from algolia_usertoken.integrations.asgi import IdentityMiddleware

shopping = Quart(__name__)


def header(scope: Any, name: bytes) -> str | None:
    return next((value.decode() for key, value in scope["headers"] if key == name), None)


@shopping.get("/<visitor>/sync/<number>")
def in_thread(visitor: str, number: str) -> Any:
    return shop.act_and_search(request.path[1:])


@shopping.get("/<visitor>/async/<number>")
async def in_async_handler(visitor: str, number: str) -> Any:
    return await shop.act_and_search_async(request.path[1:])


@shopping.get("/<visitor>/then-background/<number>")
def before_background(visitor: str, number: str) -> Any:
    what = request.path[1:]
    found = shop.act_and_search(what)
    g.then_search = what
    return found


@shopping.get("/<visitor>/then-background-async/<number>")
async def before_background_async(visitor: str, number: str) -> Any:
    what = request.path[1:]
    found = await shop.act_and_search_async(what)
    shopping.add_background_task(shop.search_async, what)
    shopping.add_background_task(shop.search, what)
    return found


@shopping.after_request
async def after_request(response: Response) -> Response:
    if "then_search" in g:
        shopping.add_background_task(shop.search_async, g.then_search)
        shopping.add_background_task(shop.search, g.then_search)
    return response


@shopping.before_request
def before_request() -> None:
    if request.path.split("/")[2] == "dependency":
        shop.act(request.path[1:])


@shopping.get("/<visitor>/dependency/<number>")
async def after_before_request(visitor: str, number: str) -> Any:
    return await shop.search_async(request.path[1:])


@shopping.get("/<visitor>/stream/<number>")
async def in_async_stream(visitor: str, number: str) -> Any:
    what = request.path[1:]

    async def body() -> AsyncIterator[bytes]:
        shop.act(what)
        for _ in range(3):
            await shop.search_async(what)
            yield b"."

    return body()


@shopping.get("/<visitor>/sync-stream/<number>")
def in_sync_stream(visitor: str, number: str) -> Any:
    what = request.path[1:]

    def body() -> Iterator[bytes]:
        shop.act(what)
        for _ in range(3):
            shop.search(what)
            yield b"."

    return body()


@shopping.get("/<visitor>/error/<number>")
def before_an_error(visitor: str, number: str) -> Any:
    shop.act_and_search(request.path[1:])
    raise ZeroDivisionError


@shopping.get("/<visitor>/crash/<number>")
async def before_a_crash(visitor: str, number: str) -> Any:
    shop.act(request.path[1:])
    raise RuntimeError("a crash that is meant")


@shopping.errorhandler(ZeroDivisionError)
@shopping.errorhandler(Exception)
async def on_error(error: Exception) -> Any:
    return await shop.search_async(request.path[1:]), 500


@shopping.after_serving
async def at_the_end() -> None:
    await shop.close_async()
    shop.client.close()


shopping.asgi_app = IdentityMiddleware(  # type: ignore[method-assign]
    shopping.asgi_app,
    authenticated_user_token=lambda scope: header(scope, b"x-login"),
    set_cookie=True,
    header=shop.HEADER,
    opted_out=lambda scope: shop.refused(header(scope, b"cookie")),
)
app = shop.watched_asgi(shopping)
