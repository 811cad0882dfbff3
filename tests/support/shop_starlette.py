"""Starlette: `app`; `behind`, with a BaseHTTPMiddleware inside ours; and `inside`, with one outside of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import shop
from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from algolia_usertoken import identity_scope
from algolia_usertoken.integrations.asgi import IdentityMiddleware


def what(request: Request) -> str:
    return request.url.path[1:]


def header(scope: Any, name: bytes) -> str | None:
    return next((value.decode() for key, value in scope["headers"] if key == name), None)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    yield
    await shop.close_async()
    shop.client.close()


def in_sync_view(request: Request) -> Response:
    tasks = BackgroundTasks(
        [BackgroundTask(shop.search_async, what(request)), BackgroundTask(shop.search, what(request))]
    )
    return JSONResponse(shop.act_and_search(what(request)), background=tasks)


async def in_async_view(request: Request) -> Response:
    tasks = BackgroundTasks(
        [BackgroundTask(shop.search, what(request)), BackgroundTask(shop.search_async, what(request))]
    )
    return JSONResponse(await shop.act_and_search_async(what(request)), background=tasks)


async def in_background(request: Request) -> Response:
    tasks = BackgroundTasks(
        [BackgroundTask(shop.act_and_search, what(request)), BackgroundTask(shop.search_async, what(request))]
    )
    return JSONResponse(shop.seen(), background=tasks)


async def before_an_error(request: Request) -> Response:
    await shop.act_and_search_async(what(request))
    raise ZeroDivisionError


def before_a_sync_error(request: Request) -> Response:
    shop.act_and_search(what(request))
    raise ZeroDivisionError


async def on_error(request: Request, error: Exception) -> Response:
    return JSONResponse(await shop.search_async(what(request)), status_code=500)


async def before_a_crash(request: Request) -> Response:
    shop.act(what(request))
    raise RuntimeError("a crash that is meant")


def before_a_sync_crash(request: Request) -> Response:
    shop.act(what(request))
    raise RuntimeError("a crash that is meant")


async def on_crash(request: Request, error: Exception) -> Response:
    # Starlette runs this handler outside of all middleware.
    with identity_scope(request.state.algolia_identity):
        return JSONResponse(await shop.search_async(what(request)), status_code=500)


class Between(BaseHTTPMiddleware):
    """A middleware that runs the application in a task of its own."""

    async def dispatch(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        return await call_next(request)


IDENTITY = Middleware(
    IdentityMiddleware,
    authenticated_user_token=lambda scope: header(scope, b"x-login"),
    set_cookie=True,
    header=shop.HEADER,
    opted_out=lambda scope: shop.refused(header(scope, b"cookie")),
)


def shopping(*middleware: Middleware) -> Any:
    return shop.watched_asgi(
        Starlette(
            routes=[
                Route("/{visitor}/sync/{number}", in_sync_view),
                Route("/{visitor}/async/{number}", in_async_view),
                Route("/{visitor}/background/{number}", in_background),
                Route("/{visitor}/error/{number}", before_an_error),
                Route("/{visitor}/sync-error/{number}", before_a_sync_error),
                Route("/{visitor}/crash/{number}", before_a_crash),
                Route("/{visitor}/sync-crash/{number}", before_a_sync_crash),
            ],
            middleware=list(middleware),
            exception_handlers={ZeroDivisionError: on_error, Exception: on_crash},
            lifespan=lifespan,
        )
    )


app = shopping(IDENTITY)
behind = shopping(IDENTITY, Middleware(Between))
inside = shopping(Middleware(Between), IDENTITY)
