"""WSGI middleware: any WSGI application. For Flask and Django there are modules of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context, copy_context
from typing import Any

from ..context import current_request
from ..identity import Identity
from .visitor import COOKIE, VISIT, Visit, VisitorRules, bridged_visit, check_application, drive, outer_visit

# These are in wsgiref.types, which Python 3.10 does not have.
WSGIEnvironment = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WSGIApplication = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]

__all__ = ["IdentityMiddleware"]

_ASGI = "it is an ASGI application; use algolia_usertoken.integrations.asgi.IdentityMiddleware"
_INSTEAD = {
    "aiohttp": "use algolia_usertoken.integrations.aiohttp.identity_middleware",
    "tornado": "Tornado runs no middleware; enter identity_scope() in your handlers' prepare()",
    **dict.fromkeys(("starlette", "fastapi", "litestar", "quart", "sanic"), _ASGI),
}


class IdentityMiddleware:
    """WSGI middleware that determines the visitor for whom the calls in a request are made, until its body is closed.

        app = IdentityMiddleware(app, set_cookie=True)

    Each request runs in a copy of the context, which is thrown away afterwards. What your code sets (`set_user_token`,
    `set_authenticated_user_token`) is valid for the rest of the request, also in threads that have a copy of the
    context. Inside another middleware of this package, this one adds only what the other did not know.

    If one of the functions raises an error, the error is logged, and the visitor never sees it. An error in
    `authenticated_user_token` means "not logged in", in `set_cookie` "no consent", in `opted_out` "opted out".

    Args:
        app: The application.
        authenticated_user_token: A function that gets the WSGI environ and returns the pseudonymous id of the user who
            is logged in (see `pseudonymous_user_token`), or None. By default, nobody is logged in.
            Without a user token, the login serves as one, whether or not there is a cookie.
        cookie: The name of the cookie that holds the user token. By default `_ALGOLIA`, the cookie of search-insights,
            from which only anonymous tokens are used.
        set_cookie: Whether a visitor without a token is given a new one, in that cookie, for 180 days: True, False, or
            a function that gets the WSGI environ and returns True if the visitor has consented.
            A valid token in an existing cookie is used in any case.
        header: The name of the header in which your own mobile app sends its user token, for example
            `X-Algolia-UserToken`. By default, no header is read.
        client_ip: Whether searches without a token carry the visitor's IP address instead. It is taken from
            `REMOTE_ADDR`.
        opted_out: A function that gets the WSGI environ and returns True if the visitor refuses tracking. Then searches
            carry no token, no events are sent, and no cookie is set.

    Raises:
        TypeError: An argument is of the wrong type.
        ValueError: `cookie` or `header` is not a valid name, or names a cookie or header that holds a secret.

    https://github.com/algolia/search-insights.js
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
        check_application(app, _INSTEAD, "a WSGI", "environ", "start_response")
        if inspect.iscoroutinefunction(app):
            raise TypeError("app must be a WSGI application, not a coroutine function")
        self.app = app
        self._serve = serving(app, lambda environ, visit: recognise(rules, environ, environ, visit))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self._serve(environ, start_response)


def recognise(rules: VisitorRules, environ: WSGIEnvironment, request: Any, visit: Visit) -> None:
    """Find out who sent a request; `request` is the argument of the application's functions."""
    outer = None if visit.rules is None else visit
    visit.recognised(rules, *drive(rules.flow_of_environ(environ, outer), request))


def serving(app: WSGIApplication, found: Callable[[WSGIEnvironment, Visit], None] | None) -> WSGIApplication:
    """An application that serves each request of `app` in a context of its own, as the visitor that `found` finds."""

    def begin(environ: WSGIEnvironment, start_response: StartResponse, visit: Visit) -> Iterable[bytes]:
        if found is not None:
            found(environ, visit)
        # The visit is never left, as the context is only for this request, and ends when the body is closed.
        visit.enter()
        return app(environ, start_response)

    def serve(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        outer = outer_visit(environ) or bridged_visit(environ)
        if outer is not None:
            environ[VISIT] = outer
            if found is not None:
                found(environ, outer)
            if current_request() is outer:
                return app(environ, start_response)
            context = copy_context()
            return _in_context(context, context.run(_resume, outer, app, environ, start_response), environ, None)

        def start_for_visitor(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            secure = environ.get("wsgi.url_scheme") == "https"
            code = int(status[:3]) if status[:3].isdigit() else 200
            return start_response(status, visit.headers(code, headers, secure=secure), *exc_info)

        visit = environ[VISIT] = Visit(Identity())
        context = copy_context()
        try:
            body = context.run(begin, environ, start_for_visitor, visit)
        except BaseException:
            visit.close()
            raise
        return _in_context(context, body, environ, visit)

    return serve


def _resume(visit: Visit, app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    visit.resume()
    return app(environ, start_response)


def _in_context(
    context: Context, body: Iterable[bytes], environ: WSGIEnvironment, visit: Visit | None
) -> Iterable[bytes]:
    """The body, each step of which runs in `context`; its end closes `visit`."""
    file_wrapper = environ.get("wsgi.file_wrapper")
    if type(body) in (list, tuple) or (isinstance(file_wrapper, type) and isinstance(body, file_wrapper)):
        # No code of the application runs for such a body, and the server may have a quicker way to send it.
        if visit is not None:
            visit.close()
        return body
    return _Body(body, context, visit)


class _Body:
    """A response body, each step of which runs in the context of its request."""

    def __init__(self, body: Iterable[bytes], context: Context, visit: Visit | None) -> None:
        self._body = body
        self._context = context
        self._visit = visit
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = self._context.run(iter, self._body)
        return self._context.run(next, self._iterator)

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                self._context.run(close)
        finally:
            if self._visit is not None:
                self._visit.close()
