"""aiohttp.web. A page names its visitor with `browser.script`."""

from __future__ import annotations

import pages
from aiohttp import web

from algolia_usertoken import browser
from algolia_usertoken.integrations.aiohttp import identity_middleware


async def page(request: web.Request) -> web.Response:
    kind, rule = request.match_info["kind"], request.match_info["rule"]
    status, headers = pages.answer(kind, rule, request.headers.get("If-None-Match"))
    body = pages.body(kind, browser.script() if kind == pages.NAMED else "") if status == 200 else None
    return web.Response(body=body, status=status, headers=headers)


def make_app(_: list[str]) -> web.Application:
    app = web.Application(middlewares=[identity_middleware(set_cookie=True)])
    app.router.add_get("/{kind}/{rule}", page)
    return app
