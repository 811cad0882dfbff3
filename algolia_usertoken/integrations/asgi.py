"""ASGI middleware, for Starlette, FastAPI, Litestar and any other ASGI application.

It runs no task of its own between the application and the server, as the context would be lost there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ..context import STATE_KEY, as_of_now
from ..errors import middleware_missed
from .lifespan import run_lifespan
from .shared_caches import is_about_caching_as_bytes
from .visitor import COOKIE, VISIT, Visit, VisitorRules, as_text, check_application, drive_async, outer_visit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["IdentityMiddleware"]

# The methods of requests without a body, for which the server reads nothing more. A WebSocket has no method, and its
# connection serves no other request.
_HAVE_NO_BODY = frozenset({"GET", "HEAD", None})
_SAY_NOTHING = frozenset({b"content-type", b"content-length"})  # the headers that are there most often
_INSTEAD = {
    "aiohttp": "use algolia_usertoken.integrations.aiohttp.identity_middleware",
    "tornado": "Tornado runs no middleware; enter identity_scope() in your handlers' prepare()",
    "flask": "use algolia_usertoken.integrations.flask.init_app",
}


class IdentityMiddleware:
    """ASGI middleware that determines the visitor for whom the calls in an HTTP request or WebSocket are made.

        app.add_middleware(IdentityMiddleware, set_cookie=True)  # FastAPI and Starlette
        app = IdentityMiddleware(app, set_cookie=True)  # any ASGI application

    In FastAPI and Starlette, the middleware that you add last is the outermost one. If one of the functions below needs
    the session or the user, add SessionMiddleware and AuthenticationMiddleware after this one.

    What your code sets (`set_user_token`, `set_authenticated_user_token`) is valid for the rest of the request, also in
    plain `def` views, dependencies and background tasks. Handlers that run outside this middleware, for example
    Starlette's handler for `Exception`, find the identity in `scope["state"]["algolia_identity"]`. Inside another
    middleware of this package, this one adds only what the other did not know.

    When the server says in the ASGI lifespan that it stops, each `EventSender` of the process delivers its queued
    events, within its `close_timeout`. The application itself needs no lifespan handler for that.

    If one of the functions raises an error, the error is logged, and the visitor never sees it. An error in
    `authenticated_user_token` means "not logged in", in `set_cookie` "no consent", in `opted_out` "opted out". The
    functions may be coroutine functions.

    Args:
        app: The application.
        authenticated_user_token: A function that gets the ASGI scope and returns the pseudonymous id of the user who is
            logged in (see `pseudonymous_user_token`), or None. By default, nobody is logged in.
            Without a user token, the login serves as one, whether or not there is a cookie.
        cookie: The name of the cookie that holds the user token. By default `_ALGOLIA`, the cookie of search-insights,
            from which only anonymous tokens are used.
        set_cookie: Whether a visitor without a token is given a new one, in that cookie, for 180 days: True, False, or
            a function that gets the ASGI scope and returns True if the visitor has consented.
            A valid token in an existing cookie is used in any case.
        header: The name of the header in which your own mobile app sends its user token, for example
            `X-Algolia-UserToken`. By default, no header is read.
        client_ip: Whether searches without a token carry the visitor's IP address instead. It is taken from
            `scope["client"]`.
        opted_out: A function that gets the ASGI scope and returns True if the visitor refuses tracking. Then searches
            carry no token, no events are sent, and no cookie is set.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: `cookie` or `header` is not a valid name, or names a cookie or header that holds a secret.

    https://github.com/algolia/search-insights.js
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticated_user_token: Callable[[Scope], str | Awaitable[str | None] | None] | None = None,
        cookie: str = COOKIE,
        set_cookie: bool | Callable[[Scope], bool | Awaitable[bool]] = False,
        header: str | None = None,
        client_ip: bool = False,
        opted_out: Callable[[Scope], bool | Awaitable[bool]] | None = None,
    ) -> None:
        check_application(app, _INSTEAD, "an ASGI", "scope", "receive", "send")
        self.app = app
        self._rules = VisitorRules(
            authenticated_user_token=authenticated_user_token,
            cookie=cookie,
            set_cookie=set_cookie,
            header=header,
            client_ip=client_ip,
            opted_out=opted_out,
            allow_async=True,
            hint_about=_hint_about,
        )
        self._header = header.lower().encode("ascii") if header is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            if scope["type"] == "lifespan":
                await run_lifespan(self.app, scope, receive, send)
            else:
                await self.app(scope, receive, send)
            return
        cookies = claim = None
        claim_header = self._header
        for name, value in scope["headers"]:
            if name == b"cookie":  # over HTTP/2 in several pieces
                cookies = value if cookies is None else cookies + b"; " + value
            elif name == claim_header:
                claim = value if claim is None else claim + b"," + value
        client = scope.get("client")
        found = (
            cookies and cookies.decode("latin-1"),
            claim and claim.decode("latin-1"),
            client and client[0],
        )
        if (VISIT in scope or "wsgi_environ" in scope) and (outer := outer_visit(scope)) is not None:
            scope[VISIT] = outer
            if outer.state is None:
                outer.state = scope.setdefault("state", {})
            outer.recognised(self._rules, *await drive_async(self._rules.flow(*found, outer), scope))
            outer.state[STATE_KEY] = outer.identity
            with outer.resumed():  # this may be another task than the one in which it was opened
                await self.app(scope, receive, send)
            return
        if self._rules.asks:
            visitor = await drive_async(self._rules.flow(*found), scope)
        else:
            visitor = self._rules.decide(*found)
        identity, new_token = visitor
        visit = scope[VISIT] = Visit(identity)
        visit.rules = self._rules
        if new_token is not None:
            visit.new_token = new_token
        visit.path = scope.get("path")
        visit.state = scope.setdefault("state", {})
        visit.state[STATE_KEY] = identity
        if scope.get("method") not in _HAVE_NO_BODY:
            # When the server asks asyncio to read more from a connection, asyncio keeps the context of that moment, and
            # from then on calls the server in it. There uvicorn begins the next requests of the connection, which
            # behind a proxy are those of other visitors. They have visits of their own inside this middleware, but code
            # outside it would see the visit of this request.
            receive, send = as_of_now(receive), as_of_now(send)
        visit.enter()
        try:
            await self.app(scope, receive, self._sender(visit, send, scope))
        finally:
            visit.leave()
            visit.close()

    def _sender(self, visit: Visit, send: Send, scope: Scope) -> Send:
        async def send_for_visitor(message: Message) -> None:
            kind = message["type"]
            if kind == "http.response.start":
                if visit.is_shown or visit.new_token is not None:
                    message = self._of_visitor(visit, message, scope)
                else:
                    visit.sent = message
            elif kind == "websocket.accept" and visit.new_token is not None:
                message = self._of_visitor(visit, message, scope)
                visit.sent = None  # no cache keeps the messages of a WebSocket
            await send(message)

        return send_for_visitor

    def _of_visitor(self, visit: Visit, message: Message, scope: Scope) -> Message:
        """The first message of a response with the headers of the visit."""
        secure = scope.get("scheme") in ("https", "wss")
        status = message.get("status", 101)
        headers = list(message.get("headers") or ())
        if visit.is_shown or status == 304 or visit.is_opted_out or _say_something(headers):
            texts = visit.headers(status, as_text(headers), secure=secure)
            headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in texts]
        elif visit.rules is not None and visit.new_token is not None:  # pragma: no branch - else this is not called
            # This is the same, but quicker: the application has no header about caches and cookies.
            cookie = visit.rules.set_cookie_value(visit.new_token, secure=secure)
            headers += [(b"cache-control", b"private"), (b"set-cookie", cookie.encode("ascii"))]
        visit.sent = message = {**message, "headers": headers}
        return message


def _hint_about(error: Exception) -> str:
    """What to do if a function does not find in the scope what another middleware puts there."""
    middleware = middleware_missed(error)
    if middleware is None:
        return ""
    return (
        f"If it needs what {middleware} puts into the scope: {middleware} must be outside IdentityMiddleware. In "
        "FastAPI and Starlette, call add_middleware() with it after IdentityMiddleware, as the one that is added last "
        "is outermost. "
    )


def _say_something(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a response has headers about caches or cookies."""
    for name, _ in headers:
        if name not in _SAY_NOTHING:
            name = name.lower()
            if name == b"set-cookie" or is_about_caching_as_bytes(name):
                return True
    return False
