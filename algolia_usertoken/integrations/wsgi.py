"""WSGI middleware: any WSGI application. For Flask and Django there are modules of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from ..context import identity_scope
from .visitor import COOKIE, Visitor, VisitorRules, drive, is_for_shared_caches

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["IdentityMiddleware"]

# In the environ: the anonymous token just made for the visitor, which their cookie is to keep, or None.
NEW_TOKEN = "algolia_usertoken.new_token"


class IdentityMiddleware:
    """Serves each request as its visitor, the iteration and the closing of the body included.

        app = IdentityMiddleware(app, set_cookie=True)

    Each request runs in a copy of the context that is thrown away after it.

    Args:
        app: The application.
        authenticated_user_token: A function of the WSGI environ that gives the pseudonymous id of who is logged in.
        cookie: The name of the cookie that holds the anonymous token.
        set_cookie: Whether a visitor without a token may be given one: True, False, or a function of the environ.
        header: The header in which your own mobile app may send its user token, `X-Algolia-UserToken` for example.
        client_ip: Note the peer's address (`REMOTE_ADDR`), for the fallback where there is no token.
        opted_out: A function of the environ that says whether the visitor refused tracking.

    An error in one of the functions is logged, and taken as "not logged in", "no consent" or "opted out"; the visitor
    never sees it.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: `cookie` or `header` cannot be the name of one.

    The cookie is that of https://github.com/algolia/search-insights.js
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        authenticated_user_token: Callable[[WSGIEnvironment], str | None] | None = None,
        cookie: str = COOKIE,
        set_cookie: bool | Callable[[WSGIEnvironment], bool] = False,
        header: str | None = None,
        client_ip: bool = False,
        opted_out: Callable[[WSGIEnvironment], bool] | None = None,
    ) -> None:
        rules = VisitorRules(
            authenticated_user_token=authenticated_user_token,
            cookie=cookie,
            set_cookie=set_cookie,
            header=header,
            client_ip=client_ip,
            opted_out=opted_out,
        )
        self.app = app
        self._serve = serving(app, rules, lambda environ: _recognise(rules, environ))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._serve(environ, start_response)


def _recognise(rules: VisitorRules, environ: WSGIEnvironment) -> Visitor:
    return drive(rules.flow_of_environ(environ), environ)


def serving(
    app: WSGIApplication, rules: VisitorRules, recognise: Callable[[WSGIEnvironment], Visitor]
) -> WSGIApplication:
    """`app`, each request in a context of its own, as the visitor that `recognise` finds."""

    def begin(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        identity, environ[NEW_TOKEN] = recognise(environ)
        # Never left: the context is this request's alone, and goes when the body is closed.
        identity_scope(identity).__enter__()
        return app(environ, start_response)

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start_with_cookie(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            token = environ[NEW_TOKEN]
            if token is not None and not any(
                name.lower() == "cache-control" and is_for_shared_caches(value) for name, value in headers
            ):
                secure = environ.get("wsgi.url_scheme") == "https"
                headers = [*headers, ("Set-Cookie", rules.set_cookie_value(token, secure=secure))]
            return start_response(status, headers, *exc_info)

        context = copy_context()
        body = context.run(begin, environ, start_with_cookie)
        file_wrapper = environ.get("wsgi.file_wrapper")
        if type(body) in (list, tuple) or (isinstance(file_wrapper, type) and isinstance(body, file_wrapper)):
            return body  # no code of the application runs here, and the server may have a short cut for it
        return _Body(body, context)

    return serve


class _Body:
    """A response body whose every step runs in the context of its request."""

    def __init__(self, body: Iterable[bytes], context: Context) -> None:
        self._body = body
        self._context = context
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = self._context.run(iter, self._body)
        return self._context.run(next, self._iterator)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            self._context.run(close)
