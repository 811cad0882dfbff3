"""Applications for requests on one connection: a server may begin a request in the context of the previous one.

`/guarded/…` is under the ASGI middleware, `/wsgi…` under the WSGI middleware alone, `/outside` under none.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import Any

import shop
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from algolia_usertoken import set_authenticated_user_token
from algolia_usertoken.integrations import asgi, wsgi

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is deprecated, but still in use
    from starlette.middleware.wsgi import WSGIMiddleware

released = asyncio.Event()


async def view(request: Request) -> Response:
    await request.body()
    return JSONResponse(shop.seen(), background=BackgroundTask(released.wait))


async def unread(request: Request) -> Response:
    return JSONResponse(shop.seen())


async def login(request: Request) -> Response:
    set_authenticated_user_token("user-42")
    return JSONResponse(shop.seen(), background=BackgroundTask(released.wait))


async def release(request: Request) -> Response:
    released.set()
    return JSONResponse(None)


def in_wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    body = json.dumps(shop.seen()).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


async def outside(request: Request) -> Response:
    return JSONResponse(shop.seen())


app = Starlette(
    routes=[
        Mount(
            "/guarded",
            routes=[
                Route("/login", login),
                Route("/unread", unread, methods=["POST"]),
                Route("/{path:path}", view, methods=["GET", "POST"]),
            ],
            middleware=[Middleware(asgi.IdentityMiddleware, set_cookie=True)],
        ),
        Mount("/wsgi", WSGIMiddleware(wsgi.IdentityMiddleware(in_wsgi, set_cookie=True))),
        Route("/outside", outside),
        Route("/release", release),
    ]
)
