"""aiohttp.web: handlers, threads, tasks, two kinds of streamed bodies, a WebSocket, and errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import probe
from aiohttp import web

from algolia_usertoken.integrations.aiohttp import identity_middleware

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
routes = web.RouteTableDef()


@routes.get("/{visitor}/async/{number}")
async def in_handler(request: web.Request) -> web.Response:
    return web.json_response(await probe.act_and_search_async(request.path[1:]))


@routes.get("/{visitor}/thread/{number}")
async def in_thread(request: web.Request) -> web.Response:
    return web.json_response(await asyncio.to_thread(probe.act_and_search, request.path[1:]))


@routes.get("/{visitor}/stream/{number}")
async def in_stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    probe.act(request.path[1:])
    for _ in range(3):
        await probe.search_async(request.path[1:])
        await response.write(b".")
        await asyncio.sleep(float(request.query.get("pause", 0)))
    return response


@routes.get("/{visitor}/body/{number}")
async def in_body(request: web.Request) -> web.Response:
    async def body() -> AsyncIterator[bytes]:
        probe.act(request.path[1:])
        for _ in range(3):
            await probe.search_async(request.path[1:])
            yield b"."

    return web.Response(body=body())


@routes.get("/{visitor}/task/{number}")
async def in_tasks(request: web.Request) -> web.Response:
    probe.act(request.path[1:])
    await asyncio.gather(*(probe.search_async(request.path[1:]) for _ in range(2)))
    return web.json_response(probe.seen())


@routes.get("/{visitor}/websocket/{number}")
async def in_websocket(request: web.Request) -> web.StreamResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    probe.act(request.path[1:])
    async for _ in websocket:
        await websocket.send_json(await probe.search_async(request.path[1:]))
    return websocket


@routes.get("/{visitor}/error/{number}")
async def before_an_error(request: web.Request) -> web.Response:
    await probe.act_and_search_async(request.path[1:])
    raise ZeroDivisionError


@routes.get("/{visitor}/crash/{number}")
async def before_a_crash(request: web.Request) -> web.Response:
    await probe.act_and_search_async(request.path[1:])
    raise RuntimeError("a crash that is meant")


@web.middleware
async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
    probe.watch(f"before {request.path}")
    try:
        return await handler(request)
    except ZeroDivisionError:
        return web.json_response(await probe.search_async(request.path[1:]), status=500)


async def close(app: web.Application) -> None:
    probe.watch("at the end")
    await probe.close_async()
    probe.client.close()


def new_app() -> web.Application:
    app = web.Application(
        middlewares=[
            around,
            identity_middleware(
                authenticated_user_token=lambda request: request.headers.get("X-Login"),
                set_cookie=True,
                header=probe.HEADER,
                opted_out=lambda request: probe.refused(request.headers.get("Cookie")),
            ),
        ]
    )
    app.add_routes(routes)
    app.on_cleanup.append(close)
    return app


app = new_app()
