"""Litestar: handlers in threads and in the loop, dependencies, background tasks, an error."""

from __future__ import annotations

from typing import Any

import probe
from litestar import Litestar, Request, Response, get
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar.di import Provide
from litestar.middleware import DefineMiddleware

from algolia_usertoken.integrations.asgi import IdentityMiddleware

AnyRequest = Request[Any, Any, Any]


def what(request: AnyRequest) -> str:
    return request.url.path[1:]


def later(request: AnyRequest) -> BackgroundTasks:
    return BackgroundTasks(
        [BackgroundTask(probe.search, what(request)), BackgroundTask(probe.search_async, what(request))]
    )


@get("/{visitor:int}/sync/{number:str}", sync_to_thread=True)
def in_thread(request: AnyRequest) -> Response[Any]:
    return Response(probe.act_and_search(what(request)), background=later(request))


@get("/{visitor:int}/sync-in-loop/{number:str}", sync_to_thread=False)
def in_loop(request: AnyRequest) -> Response[Any]:
    probe.act(what(request))
    return Response(probe.seen(), background=later(request))


@get("/{visitor:int}/async/{number:str}")
async def in_async_handler(request: AnyRequest) -> Response[Any]:
    return Response(await probe.act_and_search_async(what(request)), background=later(request))


def act(request: AnyRequest) -> str:
    probe.act(what(request))
    return "done"


@get("/{visitor:int}/dependency/{number:str}", dependencies={"acted": Provide(act, sync_to_thread=True)})
async def after_dependency(request: AnyRequest, acted: str) -> Response[Any]:
    return Response(await probe.search_async(what(request)), background=later(request))


@get("/{visitor:int}/background/{number:str}")
async def before_background(request: AnyRequest) -> Response[Any]:
    tasks = [
        BackgroundTask(probe.act_and_search, what(request)),
        BackgroundTask(probe.search_async, what(request)),
    ]
    return Response(probe.seen(), background=BackgroundTasks(tasks))


@get("/{visitor:int}/error/{number:str}", sync_to_thread=True)
def before_an_error(request: AnyRequest) -> None:
    probe.act_and_search(what(request))
    raise ZeroDivisionError


@get("/{visitor:int}/crash/{number:str}")
async def before_a_crash(request: AnyRequest) -> None:
    probe.act(what(request))
    raise RuntimeError("a crash that is meant")


def on_error(request: AnyRequest, error: Exception) -> Response[Any]:
    assert request.scope["state"]["algolia_identity"] is not None
    return Response(probe.search(what(request)), status_code=500)


async def at_the_end() -> None:
    await probe.close_async()
    probe.client.close()


app = probe.watched_asgi(
    Litestar(
        [in_thread, in_loop, in_async_handler, after_dependency, before_background, before_an_error, before_a_crash],
        middleware=[
            DefineMiddleware(
                IdentityMiddleware,
                authenticated_user_token=lambda scope: probe.header(scope, b"x-login"),
                set_cookie=True,
                header=probe.HEADER,
                opted_out=lambda scope: probe.refused(probe.header(scope, b"cookie")),
            )
        ],
        exception_handlers={ZeroDivisionError: on_error, RuntimeError: on_error},
        on_shutdown=[at_the_end],
    )
)
