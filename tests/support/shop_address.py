"""Applications that answer with the visitor's address that their middleware has found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from werkzeug.middleware.proxy_fix import ProxyFix

from algolia_usertoken import current_identity
from algolia_usertoken.integrations.asgi import IdentityMiddleware as ASGIMiddleware
from algolia_usertoken.integrations.wsgi import IdentityMiddleware as WSGIMiddleware


def address() -> str:
    identity = current_identity()
    return str(identity and identity.client_ip)


async def answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await Request(scope, receive).body()
        await PlainTextResponse(address())(scope, receive, send)


def answer_wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [address().encode()]


asgi = ASGIMiddleware(answer, client_ip=True)
wsgi = WSGIMiddleware(answer_wsgi, client_ip=True)
fixed = ProxyFix(wsgi, x_for=1, x_proto=1)
