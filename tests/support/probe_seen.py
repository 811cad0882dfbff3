"""Applications that answer with the visitor whom their middleware has found.

`one_connection` is for several requests of one connection: a server may begin a request in the context of the previous
one. `/guarded/…` is under the ASGI middleware, `/wsgi…` under the WSGI middleware alone, `/outside` under none. The
three `with_address…` are for addresses behind a proxy.
"""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import Any

import probe
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from werkzeug.middleware.proxy_fix import ProxyFix

from algolia_usertoken import set_authenticated_user_token
from algolia_usertoken.integrations import asgi, wsgi

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is deprecated, but still in use
    from starlette.middleware.wsgi import WSGIMiddleware

released = asyncio.Event()


async def view(request: Request) -> Response:
    await request.body()
    return JSONResponse(probe.seen(), background=BackgroundTask(released.wait))


async def unread(request: Request) -> Response:
    return JSONResponse(probe.seen())


async def login(request: Request) -> Response:
    set_authenticated_user_token("user-42")
    return JSONResponse(probe.seen(), background=BackgroundTask(released.wait))


async def release(request: Request) -> Response:
    released.set()
    return JSONResponse(None)


def in_wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    body = json.dumps(probe.seen()).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


async def outside(request: Request) -> Response:
    return JSONResponse(probe.seen())


one_connection = Starlette(
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


async def in_asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await JSONResponse(probe.seen())(scope, receive, send)


with_address = asgi.IdentityMiddleware(in_asgi, client_ip=True)
with_address_wsgi = wsgi.IdentityMiddleware(in_wsgi, client_ip=True)
with_address_fixed = ProxyFix(with_address_wsgi, x_for=1, x_proto=1)
