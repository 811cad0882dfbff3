"""aiohttp.web: the calls in each request are made for its visitor, also in streamed bodies and WebSockets.

aiohttp gives each request a task of its own, and so a copy of the context, which goes with it:
https://docs.aiohttp.org/en/stable/web_advanced.html#contextvars-support. The body, what `on_response_prepare` calls and
the access log come after all middlewares, in the same task. So the identity is not taken back before that task ends.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web import Request, StreamResponse
from multidict import CIMultiDict

from ..context import current_request
from ..identity import Identity
from .visitor import COOKIE, VISIT, Visit, VisitorRules, drive_async

__all__ = ["identity_middleware"]

# aiohttp-session's. The value is a secret of the visitor's.
_SESSION_COOKIE = "AIOHTTP_SESSION"
# Where the request keeps its visit, for a middleware inside of this one. aiohttp has keys of this kind since 3.14.
_VISIT: Any = web.RequestKey(VISIT, Visit) if hasattr(web, "RequestKey") else VISIT


class _Visit(Visit):
    task: asyncio.Task[Any] | None = None

    def end_with_this_task(self) -> None:
        """Let the end of the task that is running now be the end of the request."""
        self.is_open, self.task = True, asyncio.current_task()
        assert self.task is not None
        self.task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[Any]) -> None:
        if self.task is task:
            self.task = None
            self.close()


def identity_middleware(
    *,
    authenticated_user_token: Callable[[Request], str | Awaitable[str | None] | None] | None = None,
    cookie: str = COOKIE,
    set_cookie: bool | Callable[[Request], bool | Awaitable[bool]] = False,
    header: str | None = None,
    client_ip: bool = False,
    opted_out: Callable[[Request], bool | Awaitable[bool]] | None = None,
) -> Middleware:
    """Make a middleware that determines the visitor for whom the calls in a request or WebSocket are made.

        app = web.Application(middlewares=[identity_middleware(set_cookie=True)])

    What your code sets (`set_user_token`, `set_authenticated_user_token`) is valid for the rest of the request, also in
    `asyncio.to_thread`. If a sub-application has such a middleware of its own, that one adds only what this one did not
    know. The functions may be coroutine functions.

    If one of the functions raises an error, the error is logged, and the visitor never sees it. An error in
    `authenticated_user_token` means "not logged in", in `set_cookie` "no consent", in `opted_out` "opted out".

    Args:
        authenticated_user_token: A function that gets the request and returns the pseudonymous id of the user who is
            logged in (see `pseudonymous_user_token`), or None. By default, nobody is logged in.
            Without a user token, the login serves as one, whether or not there is a cookie.
        cookie: The name of the cookie that holds the user token. By default `_ALGOLIA`, the cookie of search-insights,
            from which only anonymous tokens are used.
        set_cookie: Whether a visitor without a token is given a new one, in that cookie, for 180 days: True, False, or
            a function that gets the request and returns True if the visitor has consented.
            A valid token in an existing cookie is used in any case.
        header: The name of the header in which your own mobile app sends its user token, for example
            `X-Algolia-UserToken`. By default, no header is read.
        client_ip: Whether searches without a token carry the visitor's IP address instead. It is taken from
            `request.remote`.
        opted_out: A function that gets the request and returns True if the visitor refuses tracking. Then searches
            carry no token, no events are sent, and no cookie is set.

    Returns:
        A middleware for `aiohttp.web.Application(middlewares=[…])`. Several applications may share it.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: `cookie` or `header` is not a valid name, or names a cookie or header that holds a secret.

    https://github.com/algolia/search-insights.js
    """
    rules = VisitorRules(
        authenticated_user_token=authenticated_user_token,
        cookie=cookie,
        set_cookie=set_cookie,
        header=header,
        client_ip=client_ip,
        opted_out=opted_out,
        allow_async=True,
        secret_cookies=[_SESSION_COOKIE],
    )

    @web.middleware
    async def serve_as_visitor(request: Request, handler: Handler) -> StreamResponse:
        cookies = "; ".join(request.headers.getall("Cookie", ()))
        claim = ",".join(request.headers.getall(header, ())) if header is not None else None
        visit: _Visit | None = request.get(_VISIT)
        visitor = await drive_async(rules.flow(cookies, claim, request.remote, visit), request)
        if visit is None:
            visit = request[_VISIT] = _Visit(Identity())
            visit.enter()
            visit.end_with_this_task()
            _write_headers_of(visit, request.writer, request.secure)
        elif not visit.is_open:  # a middleware around this one tries again, after a first try in another task
            visit.end_with_this_task()
        visit.recognised(rules, *visitor)
        with visit.resumed():  # this may be another task than the one in which it was opened
            return await handler(request)

    return serve_as_visitor


def _write_headers_of(visit: _Visit, writer: AbstractStreamWriter, secure: bool) -> None:
    """Have the writer of this request add the headers of the visit to the response.

    It does so for each response, whether the handler made it or aiohttp made it for an error, and after other code has
    changed the headers. `on_response_prepare`, aiohttp's own way to see headers, accepts no more functions when a
    middleware first runs.
    """
    write_headers = _without_reference(writer.write_headers)

    async def write_headers_for_visitor(status_line: str, headers: CIMultiDict[str]) -> None:
        if current_request() is not visit:
            # A middleware around this one runs it in another task, as `asyncio.wait_for` does before Python 3.12.
            visit.resume()
            visit.end_with_this_task()
        status = int(status_line.split()[1])
        given = list(headers.items())
        sent = visit.headers(status, given, secure=secure)
        if status == 101:
            visit.sent = None  # no cache keeps the messages of a WebSocket
        await write_headers()(status_line, headers if sent is given else CIMultiDict(sent))

    writer.write_headers = write_headers_for_visitor  # type: ignore[method-assign]


def _without_reference(method: Any) -> Callable[[], Any]:
    """A function that returns `method`. Its own object can keep this without a reference to itself.

    With such a reference, only the garbage collector could delete each request.
    """
    return weakref.WeakMethod(method) if inspect.ismethod(method) else lambda: method
