"""Litestar: handlers in threads and in the loop, dependencies, background tasks, an error."""

from __future__ import annotations

from typing import Any

import shop
from litestar import Litestar, Request, Response, get
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar.di import Provide
from litestar.middleware import DefineMiddleware

from algolia_usertoken.integrations.asgi import IdentityMiddleware

AnyRequest = Request[Any, Any, Any]


def header(scope: Any, name: bytes) -> str | None:
    return next((value.decode() for key, value in scope["headers"] if key == name), None)


def what(request: AnyRequest) -> str:
    return request.url.path[1:]


def later(request: AnyRequest) -> BackgroundTasks:
    return BackgroundTasks(
        [BackgroundTask(shop.search, what(request)), BackgroundTask(shop.search_async, what(request))]
    )


@get("/{visitor:int}/sync/{number:str}", sync_to_thread=True)
def in_thread(request: AnyRequest) -> Response[Any]:
    return Response(shop.act_and_search(what(request)), background=later(request))


@get("/{visitor:int}/sync-in-loop/{number:str}", sync_to_thread=False)
def in_loop(request: AnyRequest) -> Response[Any]:
    shop.act(what(request))
    return Response(shop.seen(), background=later(request))


@get("/{visitor:int}/async/{number:str}")
async def in_async_handler(request: AnyRequest) -> Response[Any]:
    return Response(await shop.act_and_search_async(what(request)), background=later(request))


def act(request: AnyRequest) -> str:
    shop.act(what(request))
    return "done"


@get("/{visitor:int}/dependency/{number:str}", dependencies={"acted": Provide(act, sync_to_thread=True)})
async def after_dependency(request: AnyRequest, acted: str) -> Response[Any]:
    return Response(await shop.search_async(what(request)), background=later(request))


@get("/{visitor:int}/background/{number:str}")
async def before_background(request: AnyRequest) -> Response[Any]:
    tasks = [
        BackgroundTask(shop.act_and_search, what(request)),
        BackgroundTask(shop.search_async, what(request)),
    ]
    return Response(shop.seen(), background=BackgroundTasks(tasks))


@get("/{visitor:int}/error/{number:str}", sync_to_thread=True)
def before_an_error(request: AnyRequest) -> None:
    shop.act_and_search(what(request))
    raise ZeroDivisionError


@get("/{visitor:int}/crash/{number:str}")
async def before_a_crash(request: AnyRequest) -> None:
    shop.act(what(request))
    raise RuntimeError("a crash that is meant")


def on_error(request: AnyRequest, error: Exception) -> Response[Any]:
    assert request.scope["state"]["algolia_identity"] is not None
    return Response(shop.search(what(request)), status_code=500)


async def at_the_end() -> None:
    await shop.close_async()
    shop.client.close()


app = shop.watched_asgi(
    Litestar(
        [in_thread, in_loop, in_async_handler, after_dependency, before_background, before_an_error, before_a_crash],
        middleware=[
            DefineMiddleware(
                IdentityMiddleware,
                authenticated_user_token=lambda scope: header(scope, b"x-login"),
                set_cookie=True,
                header=shop.HEADER,
                opted_out=lambda scope: shop.refused(header(scope, b"cookie")),
            )
        ],
        exception_handlers={ZeroDivisionError: on_error, RuntimeError: on_error},
        on_shutdown=[at_the_end],
    )
)
