"""Flask: each request is served as its visitor, streamed bodies and teardown included."""

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
_TO_LEAVE = "algolia_usertoken.to_leave"  # in the environ: the visit that the end of Flask's context ends


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
    """Serve each request of `app` as its visitor, and give its templates `{{ algolia_user_token(nonce=…) }}`.

        init_app(app, authenticated_user_token=lambda request: session.get("token"))

    The functions get Flask's request, and may use `session` and what else belongs to a request. They run before the
    application's `before_request` functions.

    Args:
        app: The application.
        authenticated_user_token: A function of the request that gives the pseudonymous id of who is logged in.
        cookie: The name of the cookie that holds the anonymous token.
        set_cookie: Whether a visitor without a token may be given one: True, False, or a function of the request.
        header: The header in which your own mobile app may send its user token, `X-Algolia-UserToken` for example.
        client_ip: Note the peer's address, for the fallback where there is no token.
        opted_out: A function of the request that says whether the visitor refused tracking.

    An error in one of the functions is logged, and taken as "not logged in", "no consent" or "opted out"; the visitor
    never sees it.

    Raises:
        RuntimeError: `app` has been given this before.
        TypeError: `app` is no Flask application, or an argument is of the wrong type.
        ValueError: `cookie` or `header` cannot be the name of one.

    The cookie is that of https://github.com/algolia/search-insights.js
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
            # No server and no client has called the application, as in `test_request_context`: this request ends with
            # Flask's own context.
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
