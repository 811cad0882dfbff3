"""Plain WSGI. A page names its visitor with `browser.script`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pages

from algolia_usertoken import browser
from algolia_usertoken.integrations.wsgi import IdentityMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def page(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    _, kind, rule = environ["PATH_INFO"].split("/")
    status, headers = pages.answer(kind, rule, environ.get("HTTP_IF_NONE_MATCH"))
    if status == 304:
        start_response("304 Not Modified", headers)
        return []
    body = pages.body(kind, browser.script() if kind == pages.NAMED else "").encode()
    start_response("200 OK", [*headers, ("Content-Length", str(len(body)))])
    return [body]


app = IdentityMiddleware(page, set_cookie=True)
