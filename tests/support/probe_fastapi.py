"""FastAPI, and Starlette alone: views in threads and in the loop, dependencies, streams, background tasks, errors.

`app` is FastAPI, with a WebSocket too. `starlette` has the plain views only; `behind` is the same with a
BaseHTTPMiddleware inside ours, and `inside` with one outside of ours.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import probe
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.background import BackgroundTasks as StarletteBackgroundTasks
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from algolia_usertoken import identity_scope
from algolia_usertoken.integrations.asgi import IdentityMiddleware


def what(request: Request) -> str:
    return request.url.path[1:]


def tasks(*functions: Callable[[str], Any], request: Request) -> StarletteBackgroundTasks:
    return StarletteBackgroundTasks([BackgroundTask(function, what(request)) for function in functions])


# -- Of both -----------------------------------------------------------------------------------------------------------


def in_sync_view(request: Request) -> Response:
    found = probe.act_and_search(what(request))
    return JSONResponse(found, background=tasks(probe.search_async, probe.search, request=request))


async def in_async_view(request: Request) -> Response:
    found = await probe.act_and_search_async(what(request))
    return JSONResponse(found, background=tasks(probe.search, probe.search_async, request=request))


async def in_background(request: Request) -> Response:
    background = tasks(probe.act_and_search, probe.search_async, request=request)
    return JSONResponse(probe.seen(), background=background)


async def before_an_error(request: Request) -> Response:
    await probe.act_and_search_async(what(request))
    raise ZeroDivisionError


def before_a_sync_error(request: Request) -> Response:
    probe.act_and_search(what(request))
    raise ZeroDivisionError


async def on_error(request: Request, error: Exception) -> Response:
    return JSONResponse(await probe.search_async(what(request)), status_code=500)


async def before_a_crash(request: Request) -> Response:
    probe.act(what(request))
    raise RuntimeError("a crash that is meant")


def before_a_sync_crash(request: Request) -> Response:
    probe.act(what(request))
    raise RuntimeError("a crash that is meant")


async def on_crash(request: Request, error: Exception) -> Response:
    # Starlette runs this handler outside of all middleware.
    with identity_scope(request.state.algolia_identity):
        return JSONResponse(await probe.search_async(what(request)), status_code=500)


VIEWS: dict[str, Callable[[Request], Any]] = {
    "sync": in_sync_view,
    "async": in_async_view,
    "background": in_background,
    "error": before_an_error,
    "sync-error": before_a_sync_error,
    "crash": before_a_crash,
    "sync-crash": before_a_sync_crash,
}
IDENTITY = Middleware(
    IdentityMiddleware,
    authenticated_user_token=lambda scope: probe.header(scope, b"x-login"),
    set_cookie=True,
    header=probe.HEADER,
    opted_out=lambda scope: probe.refused(probe.header(scope, b"cookie")),
)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    await probe.close_async()
    probe.client.close()


# -- Starlette ---------------------------------------------------------------------------------------------------------


class Between(BaseHTTPMiddleware):
    """A middleware that runs the application in a task of its own."""

    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)


def starlette_with(*middleware: Middleware) -> Any:
    return probe.watched_asgi(
        Starlette(
            routes=[Route(f"/{{visitor}}/{kind}/{{number}}", view) for kind, view in VIEWS.items()],
            middleware=list(middleware),
            exception_handlers={ZeroDivisionError: on_error, Exception: on_crash},
            lifespan=lifespan,
        )
    )


starlette = starlette_with(IDENTITY)
behind = starlette_with(IDENTITY, Middleware(Between))
inside = starlette_with(Middleware(Between), IDENTITY)


# -- FastAPI -----------------------------------------------------------------------------------------------------------

fastapi = FastAPI(
    middleware=[IDENTITY], exception_handlers={ZeroDivisionError: on_error, Exception: on_crash}, lifespan=lifespan
)
for kind, view in VIEWS.items():
    fastapi.get(f"/{{visitor}}/{kind}/{{number}}")(view)


def sync_dependency(request: Request) -> Iterator[None]:
    probe.act(what(request))
    yield
    probe.search(what(request))


async def async_dependency(request: Request) -> AsyncIterator[None]:
    probe.act(what(request))
    yield
    await probe.search_async(what(request))


@fastapi.get("/{visitor}/dependency/{number}", dependencies=[Depends(sync_dependency)])
async def after_sync_dependency(request: Request) -> Any:
    return await probe.search_async(what(request))


@fastapi.get("/{visitor}/async-dependency/{number}", dependencies=[Depends(async_dependency)])
def after_async_dependency(request: Request) -> Any:
    return probe.search(what(request))


@fastapi.get("/{visitor}/then-background/{number}")
def before_background(request: Request, tasks: BackgroundTasks) -> Any:
    tasks.add_task(probe.search_async, what(request))
    tasks.add_task(probe.search, what(request))
    return probe.act_and_search(what(request))


@fastapi.get("/{visitor}/then-background-async/{number}")
async def before_background_async(request: Request, tasks: BackgroundTasks) -> Any:
    tasks.add_task(probe.search_async, what(request))
    tasks.add_task(probe.search, what(request))
    return await probe.act_and_search_async(what(request))


@fastapi.get("/{visitor}/stream/{number}")
async def in_async_stream(request: Request, pause: float = 0) -> Any:
    async def body() -> AsyncIterator[bytes]:
        probe.act(what(request))
        for _ in range(3):
            await probe.search_async(what(request))
            yield b"."
            await asyncio.sleep(pause)

    return StreamingResponse(body())


@fastapi.get("/{visitor}/sync-stream/{number}")
def in_sync_stream(request: Request) -> Any:
    def body() -> Iterator[bytes]:
        probe.act(what(request))
        for _ in range(3):
            probe.search(what(request))
            yield b"."

    return StreamingResponse(body())


@fastapi.websocket("/{visitor}/websocket/{number}")
async def in_websocket(websocket: WebSocket) -> None:
    await websocket.accept()
    probe.act(websocket.url.path[1:])
    async for _ in websocket.iter_text():
        await websocket.send_json(await probe.search_async(websocket.url.path[1:]))


app = probe.watched_asgi(fastapi)
