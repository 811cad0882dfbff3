"""Flask: the calls in each request are made for its visitor, also in streamed bodies and in the teardown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, Request, request

from .. import browser
from ..checks import check_type
from ..identity import Identity
from .visitor import COOKIE, VISIT, Visit, VisitorRules, outer_visit
from .wsgi import recognise, serving

__all__ = ["init_app"]

_EXTENSION = "algolia_usertoken"
_TO_LEAVE = "algolia_usertoken.to_leave"  # the key in the environ of a visit that ends with Flask's context


def init_app(
    app: Flask,
    *,
    authenticated_user_token: Callable[[Request], str | None] | None = None,
    cookie: str = COOKIE,
    set_cookie: bool | Callable[[Request], bool] = False,
    header: str | None = None,
    client_ip: bool = False,
    opted_out: Callable[[Request], bool] | None = None,
) -> None:
    """Determine the visitor for whom the calls in each request of a Flask application are made, teardown included.

        init_app(app, authenticated_user_token=lambda request: session.get("token"))

    The functions get Flask's request. They may use `session` and everything else that belongs to a request, and run
    before the application's `before_request` functions. Templates can call `{{ algolia_user_token(nonce=…) }}`, which
    makes the `<script>` that tells search-insights who the visitor is.

    If one of the functions raises an error, the error is logged, and the visitor never sees it. An error in
    `authenticated_user_token` means "not logged in", in `set_cookie` "no consent", in `opted_out` "opted out".

    Args:
        app: The application.
        authenticated_user_token: A function that gets Flask's request and returns the pseudonymous id of the user who
            is logged in (see `pseudonymous_user_token`), or None. By default, nobody is logged in.
            Without a user token, the login serves as one, whether or not there is a cookie.
        cookie: The name of the cookie that holds the user token. By default `_ALGOLIA`, the cookie of search-insights,
            from which only anonymous tokens are used.
        set_cookie: Whether a visitor without a token is given a new one, in that cookie, for 180 days: True, False, or
            a function that gets Flask's request and returns True if the visitor has consented.
            A valid token in an existing cookie is used in any case.
        header: The name of the header in which your own mobile app sends its user token, for example
            `X-Algolia-UserToken`. By default, no header is read.
        client_ip: Whether searches without a token carry the visitor's IP address instead. It is taken from
            `request.remote_addr`.
        opted_out: A function that gets Flask's request and returns True if the visitor refuses tracking. Then searches
            carry no token, no events are sent, and no cookie is set.

    Raises:
        RuntimeError: This function was called with `app` before.
        TypeError: `app` is not a Flask application, or another argument is of the wrong type.
        ValueError: `cookie` or `header` is not a valid name, or names a cookie or header that holds a secret.

    https://github.com/algolia/search-insights.js
    """
    check_type("app", app, Flask, "a Flask application")
    rules = VisitorRules(
        authenticated_user_token=authenticated_user_token,
        cookie=cookie,
        set_cookie=set_cookie,
        header=header,
        client_ip=client_ip,
        opted_out=opted_out,
        secret_cookies=[app.config["SESSION_COOKIE_NAME"]],
    )
    if _EXTENSION in app.extensions:
        raise RuntimeError(f"init_app was called twice for {app!r}: call it once, with all of the keywords")
    app.extensions[_EXTENSION] = rules

    def begin(endpoint: str | None, values: dict[str, Any] | None) -> None:
        environ = request.environ
        visit = outer_visit(environ)
        if visit is None:
            # No server and no client has called the application, as with `test_request_context`. So this request ends
            # with Flask's own context.
            visit = environ[VISIT] = Visit(Identity())
            visit.enter()
            environ[_TO_LEAVE] = visit
        recognise(rules, environ, request, visit)

    def end(error: BaseException | None) -> None:
        visit = request.environ.pop(_TO_LEAVE, None)
        if visit is not None:
            visit.leave()
            visit.close()

    # Until Flask has opened the session, the request is nobody's. Of what Flask calls then, this comes first.
    app.wsgi_app = serving(app.wsgi_app, None)  # type: ignore[assignment,method-assign]
    app.url_value_preprocessor(begin)
    app.teardown_request(end)
    app.jinja_env.globals["algolia_user_token"] = browser.script
