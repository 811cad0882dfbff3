"""ASGI middleware: Starlette, FastAPI, Litestar, or any other ASGI application.

It is pure ASGI, because what sits between the application and its server in another task loses the context.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from ..context import identity_scope
from .visitor import COOKIE, VisitorRules, drive_async, is_for_shared_caches

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["IdentityMiddleware"]

STATE_KEY = "algolia_identity"


class IdentityMiddleware:
    """Serves each HTTP request and WebSocket as its visitor, to the last byte and background task.

        app = IdentityMiddleware(app, set_cookie=True)

    The identity is also in `scope["state"]["algolia_identity"]` (Starlette: `request.state.algolia_identity`), where
    handlers that run outside this middleware, as Starlette's for `Exception` do, find it.

    Args:
        app: The application.
        authenticated_user_token: A function of the ASGI scope that gives the pseudonymous id of who is logged in.
        cookie: The name of the cookie that holds the anonymous token.
        set_cookie: Whether a visitor without a token may be given one: True, False, or a function of the scope.
        header: The header in which your own mobile app may send its user token, `X-Algolia-UserToken` for example.
        client_ip: Note the peer's address, for the fallback where there is no token.
        opted_out: A function of the scope that says whether the visitor refused tracking.

    The functions may be coroutine functions. An error in one is logged, and taken as "not logged in", "no consent" or
    "opted out"; the visitor never sees it.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: `cookie` or `header` cannot be the name of one.

    The cookie is that of https://github.com/algolia/search-insights.js
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
        self.app = app
        self._rules = VisitorRules(
            authenticated_user_token=authenticated_user_token,
            cookie=cookie,
            set_cookie=set_cookie,
            header=header,
            client_ip=client_ip,
            opted_out=opted_out,
            allow_async=True,
        )
        self._header = header.lower().encode("ascii") if header is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
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
        if self._rules.asks:
            identity, new_token = await drive_async(self._rules.flow(*found), scope)
        else:
            identity, new_token = self._rules.decide(*found)
        scope.setdefault("state", {})[STATE_KEY] = identity
        if new_token is not None:
            send = self._with_cookie(send, new_token, scope.get("scheme") in ("https", "wss"))
        with identity_scope(identity):
            await self.app(scope, receive, send)

    def _with_cookie(self, send: Send, token: str, secure: bool) -> Send:
        cookie = (b"set-cookie", self._rules.set_cookie_value(token, secure=secure).encode("ascii"))

        async def send_with_cookie(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.accept"):
                headers = list(message.get("headers") or ())
                for name, value in headers:
                    if name.lower() == b"cache-control" and is_for_shared_caches(value.decode("latin-1")):
                        break
                else:
                    message = {**message, "headers": [*headers, cookie]}
            await send(message)

        return send_with_cookie
