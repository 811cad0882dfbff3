"""Starlette. A page names its visitor with `browser.script`."""

from __future__ import annotations

import pages
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from algolia_usertoken import browser
from algolia_usertoken.integrations.asgi import IdentityMiddleware


async def page(request: Request) -> Response:
    kind, rule = request.path_params["kind"], request.path_params["rule"]
    status, headers = pages.answer(kind, rule, request.headers.get("if-none-match"))
    body = pages.body(kind, browser.script() if kind == pages.NAMED else "") if status == 200 else None
    return Response(body, status, dict(headers))


app = IdentityMiddleware(Starlette(routes=[Route("/{kind}/{rule}", page)]), set_cookie=True)
