"""FastAPI: sync and async views, dependencies, streamed bodies, background tasks, a WebSocket, errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import shop
from fastapi import BackgroundTasks, Depends, FastAPI, Request, WebSocket
from starlette.responses import JSONResponse, StreamingResponse

from algolia_usertoken import browser, identity_scope
from algolia_usertoken.integrations.asgi import IdentityMiddleware


def header(scope: Any, name: bytes) -> str | None:
    return next((value.decode() for key, value in scope["headers"] if key == name), None)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await shop.close_async()
    shop.client.close()


shopping = FastAPI(lifespan=lifespan)
shopping.add_middleware(
    IdentityMiddleware,
    authenticated_user_token=lambda scope: header(scope, b"x-login"),
    set_cookie=True,
    header=shop.HEADER,
    opted_out=lambda scope: shop.refused(header(scope, b"cookie")),
)


@shopping.get("/{visitor}/async/{number}")
async def in_async_view(request: Request) -> Any:
    return await shop.act_and_search_async(request.url.path[1:])


@shopping.get("/{visitor}/sync/{number}")
def in_sync_view(request: Request) -> Any:
    return shop.act_and_search(request.url.path[1:])


def sync_dependency(request: Request) -> Iterator[None]:
    shop.act(request.url.path[1:])
    yield
    shop.search(request.url.path[1:])


async def async_dependency(request: Request) -> AsyncIterator[None]:
    shop.act(request.url.path[1:])
    yield
    await shop.search_async(request.url.path[1:])


@shopping.get("/{visitor}/dependency/{number}", dependencies=[Depends(sync_dependency)])
async def after_sync_dependency(request: Request) -> Any:
    return await shop.search_async(request.url.path[1:])


@shopping.get("/{visitor}/async-dependency/{number}", dependencies=[Depends(async_dependency)])
def after_async_dependency(request: Request) -> Any:
    return shop.search(request.url.path[1:])


@shopping.get("/{visitor}/then-background/{number}")
def before_background(request: Request, tasks: BackgroundTasks) -> Any:
    tasks.add_task(shop.search_async, request.url.path[1:])
    tasks.add_task(shop.search, request.url.path[1:])
    return shop.act_and_search(request.url.path[1:])


@shopping.get("/{visitor}/then-background-async/{number}")
async def before_background_async(request: Request, tasks: BackgroundTasks) -> Any:
    tasks.add_task(shop.search_async, request.url.path[1:])
    tasks.add_task(shop.search, request.url.path[1:])
    return await shop.act_and_search_async(request.url.path[1:])


@shopping.get("/{visitor}/stream/{number}")
async def in_async_stream(request: Request, pause: float = 0) -> Any:
    async def body() -> AsyncIterator[bytes]:
        shop.act(request.url.path[1:])
        for _ in range(3):
            await shop.search_async(request.url.path[1:])
            yield b"."
            await asyncio.sleep(pause)

    return StreamingResponse(body())


@shopping.get("/{visitor}/sync-stream/{number}")
def in_sync_stream(request: Request) -> Any:
    def body() -> Iterator[bytes]:
        shop.act(request.url.path[1:])
        for _ in range(3):
            shop.search(request.url.path[1:])
            yield b"."

    return StreamingResponse(body())


@shopping.get("/{visitor}/background/{number}")
async def in_background(request: Request, tasks: BackgroundTasks) -> Any:
    tasks.add_task(shop.act_and_search, request.url.path[1:])
    tasks.add_task(shop.search_async, request.url.path[1:])
    return shop.seen()


@shopping.get("/{visitor}/error/{number}")
async def before_an_error(request: Request) -> Any:
    await shop.act_and_search_async(request.url.path[1:])
    raise ZeroDivisionError


@shopping.exception_handler(ZeroDivisionError)
async def on_error(request: Request, error: Exception) -> Any:
    return JSONResponse(await shop.search_async(request.url.path[1:]), status_code=500)


@shopping.get("/{visitor}/crash/{number}")
async def before_a_crash(request: Request) -> Any:
    shop.act(request.url.path[1:])
    raise RuntimeError("a crash that is meant")


@shopping.get("/{visitor}/sync-crash/{number}")
def before_a_crash_in_a_thread(request: Request) -> Any:
    shop.act(request.url.path[1:])
    raise RuntimeError("a crash that is meant")


@shopping.exception_handler(Exception)
async def on_crash(request: Request, error: Exception) -> Any:
    # Starlette runs this handler outside of all middleware.
    with identity_scope(request.state.algolia_identity):
        return JSONResponse(await shop.search_async(request.url.path[1:]), status_code=500)


@shopping.websocket("/{visitor}/websocket/{number}")
async def in_websocket(websocket: WebSocket) -> None:
    await websocket.accept()
    shop.act(websocket.url.path[1:])
    async for _ in websocket.iter_text():
        await websocket.send_json(await shop.search_async(websocket.url.path[1:]))


@shopping.get("/settings")
async def settings() -> Any:
    return browser.settings()


app = shop.watched_asgi(shopping)
