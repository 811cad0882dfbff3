"""A middleware inside another, of any kind: one visit, one token, one cookie."""

from __future__ import annotations

import asyncio
import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import a2wsgi
import flask
import httpx
import probe_django  # noqa: F401 - sets Django up
import pytest
from asgiref.wsgi import WsgiToAsgi
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import override_settings
from django.urls import re_path
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from algolia_usertoken import (
    Identity,
    TokenProvider,
    browser,
    current_identity,
    identity_scope,
    set_authenticated_user_token,
    set_user_token,
)
from algolia_usertoken.integrations import asgi, wsgi
from algolia_usertoken.integrations.flask import init_app

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is deprecated, and used
    from starlette.middleware.wsgi import WSGIMiddleware

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"
RESOLVING = TokenProvider("nightly-report", resolve=lambda: "resolved")


# -- What the innermost application does ---------------------------------------------------------------------------


def answer(query: str) -> str:
    """As JSON: who the visitor is to the view, after it has done what the query says."""
    if query == "login":
        set_authenticated_user_token("logged-in")
    elif query == "logout":
        set_authenticated_user_token(None)
    elif query == "token":
        set_user_token("set-in-the-view")
    elif query == "page":
        return json.dumps(browser.settings())
    identity, resolved = current_identity(), RESOLVING.identity()
    assert identity is not None
    assert resolved is not None
    return json.dumps(
        {
            "user_token": identity.user_token,
            "authenticated_user_token": identity.authenticated_user_token,
            "client_ip": identity.client_ip,
            "opted_out": identity.opted_out,
            "provider": resolved.user_token,
        }
    )


async def in_asgi(scope: Any, receive: Any, send: Any) -> None:
    body = answer(scope["query_string"].decode()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


def in_wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    body = answer(environ["QUERY_STRING"]).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


def in_flask(**keywords: Any) -> flask.Flask:
    app = flask.Flask("inner")
    init_app(app, **keywords)

    @app.get("/", defaults={"path": ""})
    @app.get("/<path:path>")
    def view(path: str) -> Any:
        return flask.Response(answer(flask.request.query_string.decode()), mimetype="application/json")

    return app


class InDjango:
    @staticmethod
    def view(request: Any) -> Any:
        return HttpResponse(answer(request.META["QUERY_STRING"]), content_type="application/json")

    @staticmethod
    async def async_view(request: Any) -> Any:
        return HttpResponse(answer(request.META["QUERY_STRING"]), content_type="application/json")


InDjango.urlpatterns = [re_path("async", InDjango.async_view), re_path("", InDjango.view)]  # type: ignore[attr-defined]


# -- Nestings ------------------------------------------------------------------------------------------------------

Keywords = dict[str, Any]


def asgi_of(app: Any, keywords: Keywords) -> Any:
    return asgi.IdentityMiddleware(app, **keywords)


def wsgi_of(app: Any, keywords: Keywords) -> Any:
    return wsgi.IdentityMiddleware(app, **keywords)


def mounted(outer: Keywords, inner: Keywords) -> Any:
    async def view(request: Any) -> Any:
        return JSONResponse(json.loads(answer(request.url.query)))

    sub_application = Starlette(
        routes=[Route("/{path:path}", view)], middleware=[Middleware(asgi.IdentityMiddleware, **inner)]
    )
    return Starlette(routes=[Mount("/sub", sub_application)], middleware=[Middleware(asgi.IdentityMiddleware, **outer)])


def mounted_wsgi(app: Any, outer: Keywords) -> Any:
    return Starlette(routes=[Mount("/sub", app)], middleware=[Middleware(asgi.IdentityMiddleware, **outer)])


def flask_of(app: Any, outer: Keywords) -> Any:
    """Flask, which hands a part of its paths to another WSGI application."""
    around = in_flask(**outer)
    around.add_url_rule("/sub/<path:path>", "sub", lambda path: app)
    return around


def flask_with_dispatcher(outer: Keywords, inner: Keywords) -> Any:
    """An inner one that the outer one's routing never sees: nobody but the inner one says who the visitor is."""
    around = flask.Flask("outer")
    around.wsgi_app = DispatcherMiddleware(around.wsgi_app, {"/sub": in_flask(**inner)})  # type: ignore[method-assign]
    init_app(around, **outer)
    return around


def flask_in_wsgi(outer: Keywords, inner: Keywords) -> Any:
    app = in_flask(**inner)
    app.wsgi_app = wsgi_of(app.wsgi_app, outer)  # type: ignore[method-assign]
    return app


def in_three(outer: Keywords, inner: Keywords) -> Any:
    return asgi_of(a2wsgi.WSGIMiddleware(wsgi_of(in_flask(**inner), {})), outer)  # type: ignore[arg-type]


NESTINGS: dict[str, Callable[[Keywords, Keywords], Any]] = {
    "ASGI in ASGI": lambda outer, inner: asgi_of(asgi_of(in_asgi, inner), outer),
    "Starlette mounted in Starlette": mounted,
    "WSGI in WSGI": lambda outer, inner: wsgi_of(wsgi_of(in_wsgi, inner), outer),
    "Flask in WSGI": flask_in_wsgi,
    "WSGI in Flask": lambda outer, inner: flask_of(wsgi_of(in_wsgi, inner), outer),
    "Flask in Flask": lambda outer, inner: flask_of(in_flask(**inner), outer),
    "WSGI in ASGI, by a2wsgi": lambda outer, inner: asgi_of(a2wsgi.WSGIMiddleware(wsgi_of(in_wsgi, inner)), outer),
    "WSGI in ASGI, by asgiref": lambda outer, inner: asgi_of(WsgiToAsgi(wsgi_of(in_wsgi, inner)), outer),
    "WSGI in ASGI, by Starlette": lambda outer, inner: asgi_of(WSGIMiddleware(wsgi_of(in_wsgi, inner)), outer),
    "Flask mounted in Starlette, by a2wsgi": lambda outer, inner: mounted_wsgi(
        a2wsgi.WSGIMiddleware(in_flask(**inner)),
        outer,  # type: ignore[arg-type]
    ),
    "Flask mounted in Starlette, by Starlette": lambda outer, inner: mounted_wsgi(
        WSGIMiddleware(in_flask(**inner)), outer
    ),
    "ASGI in WSGI": lambda outer, inner: wsgi_of(a2wsgi.ASGIMiddleware(asgi_of(in_asgi, inner)), outer),
    "ASGI in Flask": lambda outer, inner: flask_of(a2wsgi.ASGIMiddleware(asgi_of(in_asgi, inner)), outer),
    "Django in WSGI": lambda outer, inner: wsgi_of(WSGIHandler(), outer),
    "Django in Flask": lambda outer, inner: flask_of(WSGIHandler(), outer),
    "Django in ASGI": lambda outer, inner: asgi_of(ASGIHandler(), outer),
    "Django under WSGI in ASGI, by a2wsgi": lambda outer, inner: asgi_of(a2wsgi.WSGIMiddleware(WSGIHandler()), outer),
    "Django under WSGI in ASGI, by asgiref": lambda outer, inner: asgi_of(WsgiToAsgi(WSGIHandler()), outer),
    "Flask in WSGI in ASGI": in_three,
}


class Answer(NamedTuple):
    seen: dict[str, Any]
    set_cookies: list[str]
    headers: Any


class Nest:
    """One application with two middlewares; its requests are real to it, whatever its kind."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._build = NESTINGS[name]
        self._stack = ExitStack()

    def __enter__(self) -> Nest:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._stack.close()

    async def get(
        self, outer: Keywords, inner: Keywords, query: str = "", cookie: str | None = None, path: str = "/sub/sync"
    ) -> Answer:
        if "Django" in self.name:
            upper = {name.upper(): value for name, value in inner.items()}
            self._stack.enter_context(override_settings(ALGOLIA_USERTOKEN=upper, ROOT_URLCONF=InDjango))
        app = self._build(outer, inner)
        headers = {} if cookie is None else {"Cookie": cookie}
        if self.name.endswith(("in WSGI", "in Flask")):
            get = Client(app, use_cookies=False).get
            response: Any = await asyncio.to_thread(get, f"{path}?{query}", headers=headers)
            status, text, set_cookies = response.status_code, response.text, response.headers.getlist("Set-Cookie")
        else:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
                response = await client.get(f"{path}?{query}", headers=headers)
            status, text, set_cookies = response.status_code, response.text, response.headers.get_list("Set-Cookie")
        assert status == 200, text
        assert current_identity() is None
        return Answer(json.loads(text), set_cookies, response.headers)


PAIRS = [(name, "/sub/sync") for name in NESTINGS] + [(name, "/sub/async") for name in NESTINGS if "Django" in name]


@pytest.fixture(params=PAIRS, ids=", ".join)
def pair(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def path(pair: tuple[str, str]) -> str:
    return pair[1]


@pytest.fixture
def nest(pair: tuple[str, str]) -> Iterator[Nest]:
    with Nest(pair[0]) as nest:
        yield nest


def seen(
    user_token: str | None = None,
    authenticated_user_token: str | None = None,
    *,
    provider: str | None = ...,  # type: ignore[assignment]
    client_ip: str | None = None,
    opted_out: bool = False,
) -> dict[str, Any]:
    return {
        "user_token": user_token,
        "authenticated_user_token": authenticated_user_token,
        "client_ip": client_ip,
        "opted_out": opted_out,
        "provider": user_token if provider is ... else provider,
    }


def answers(value: Any) -> Callable[[Any], Any]:
    return lambda request: value


class TestOneVisit:
    async def test_one_token_and_one_cookie_where_both_may_give_one(self, nest: Nest, path: str) -> None:
        answer = await nest.get({"set_cookie": True}, {"set_cookie": True}, path=path)

        (set_cookie,) = answer.set_cookies
        assert set_cookie.startswith(f"_ALGOLIA={answer.seen['user_token']};")
        assert answer.seen["user_token"].startswith("anonymous-")

    async def test_of_two_middlewares_keeps_the_visitors_own_token(self, nest: Nest, path: str) -> None:
        answer = await nest.get({"set_cookie": True}, {"set_cookie": True}, "", f"_ALGOLIA={TOKEN}", path)

        assert answer.seen == seen(TOKEN)
        assert answer.set_cookies == []

    async def test_what_the_outer_one_decided_stays(self, nest: Nest, path: str) -> None:
        outer = {"cookie": "shop.visitor", "authenticated_user_token": answers("outer-login")}
        inner = {"authenticated_user_token": answers("inner-login"), "set_cookie": True}

        answer = await nest.get(outer, inner, "", f"_ALGOLIA={TOKEN}; shop.visitor=outer", path)

        assert answer.seen == seen("outer", "outer-login")
        assert answer.set_cookies == []

    async def test_the_inner_one_adds_what_the_outer_one_did_not_know(self, nest: Nest, path: str) -> None:
        answer = await nest.get({}, {"authenticated_user_token": answers("user-42")}, "", f"_ALGOLIA={TOKEN}", path)
        assert answer.seen == seen(TOKEN, "user-42")

        answer = await nest.get({"cookie": "none"}, {"cookie": "own"}, "", "own=user-token", path)
        assert answer.seen == seen("user-token")

        answer = await nest.get({}, {"set_cookie": True}, path=path)
        assert answer.set_cookies == [f"_ALGOLIA={answer.seen['user_token']}; Max-Age=15552000; Path=/"] or re.search(
            rf"^_ALGOLIA={answer.seen['user_token']};", answer.set_cookies[0]
        )

    async def test_an_opt_out_that_the_outer_one_knows_stays_one(self, nest: Nest, path: str) -> None:
        inner = {"set_cookie": True, "authenticated_user_token": answers("user-42"), "opted_out": answers(False)}

        for cookie in (None, f"_ALGOLIA={TOKEN}"):
            answer = await nest.get({"opted_out": answers(True), "set_cookie": True}, inner, "", cookie, path)

            assert answer.seen == seen(opted_out=True)
            assert answer.set_cookies == []

    async def test_an_opt_out_that_the_inner_one_knows_is_one(self, nest: Nest, path: str) -> None:
        outer = {"set_cookie": True, "authenticated_user_token": answers("user-42")}

        for cookie in (None, f"_ALGOLIA={TOKEN}"):
            answer = await nest.get(outer, {"opted_out": answers(True)}, "", cookie, path)

            assert answer.seen == seen(opted_out=True)
            assert answer.set_cookies == []

    @pytest.mark.parametrize("consent", [False, None])
    async def test_consent_that_the_outer_one_was_refused_stays_refused(
        self, nest: Nest, path: str, consent: Any
    ) -> None:
        answer = await nest.get({"set_cookie": answers(consent)}, {"set_cookie": True}, path=path)

        assert answer.seen == seen()
        assert answer.set_cookies == []

    async def test_a_login_in_the_view_holds(self, nest: Nest, path: str) -> None:
        answer = await nest.get({}, {}, "login", f"_ALGOLIA={TOKEN}", path)

        assert answer.seen == seen(TOKEN, "logged-in")

    @pytest.mark.parametrize("who", ["outer", "inner"])
    async def test_a_logout_of_the_login_alone_asks_once_more(self, nest: Nest, path: str, who: str) -> None:
        keywords: list[Keywords] = [{}, {}]
        keywords[who == "inner"] = {"authenticated_user_token": answers("user-42")}

        answer = await nest.get(*keywords, "logout", None, path)

        assert answer.seen == seen(provider="resolved")

    async def test_the_response_is_private_where_the_page_names_the_visitor(self, nest: Nest, path: str) -> None:
        answer = await nest.get({}, {"header": "X-Token"}, "page", f"_ALGOLIA={TOKEN}", path)

        assert answer.seen == browser.settings(TOKEN)
        assert answer.headers["Cache-Control"] == "private"
        assert {name.strip() for name in answer.headers["Vary"].split(",")} == {"Cookie", "X-Token"}


class TestThreeLevels:
    async def test_consent_refused_by_any_of_them_stays_refused(self) -> None:
        app = asgi_of(asgi_of(asgi_of(in_asgi, {"set_cookie": True}), {"set_cookie": answers(False)}), {})
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            response = await client.get("/")

        assert response.json() == seen()
        assert "Set-Cookie" not in response.headers


def test_flask_of_which_the_outer_never_heard_is_nobodys_until_its_own_says() -> None:
    def get(outer: Keywords, inner: Keywords) -> Any:
        return Client(flask_with_dispatcher(outer, inner), use_cookies=False).get("/sub/")

    assert json.loads(get({"opted_out": answers(True)}, {"authenticated_user_token": answers("u")}).text) == seen(
        None, "u", provider="resolved"
    )
    response = get({"set_cookie": True}, {"set_cookie": True})
    assert len(response.headers.getlist("Set-Cookie")) == 1


async def test_the_inner_middleware_serves_the_visit_where_another_task_stands_between() -> None:
    """As Starlette's BaseHTTPMiddleware does: what an async view sets reaches the outer one and the request's state."""
    after: list[Identity | None] = []

    class Between(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            response = await call_next(request)
            after.extend([current_identity(), request.state.algolia_identity])
            return response

    app = asgi_of(Between(asgi_of(in_asgi, {})), {})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        response = await client.get("/?login", headers={"Cookie": f"_ALGOLIA={TOKEN}"})

    assert response.json() == seen(TOKEN, "logged-in")
    assert after == [Identity(TOKEN, "logged-in")] * 2


async def test_a_scope_between_two_middlewares_stays_in_force_in_the_inner_one() -> None:
    async def in_scope(scope: Any, receive: Any, send: Any) -> None:
        with identity_scope("somebody-else"):
            await asgi_of(in_asgi, {"authenticated_user_token": answers("user-42")})(scope, receive, send)
        assert current_identity() == Identity(TOKEN, "user-42")

    app = asgi_of(in_scope, {})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        response = await client.get("/?login", headers={"Cookie": f"_ALGOLIA={TOKEN}"})

    assert response.json() == seen("somebody-else", "logged-in")


class TestASGIInWSGI:
    def test_what_the_inner_view_sets_is_there_when_it_is_done(self) -> None:
        inner = a2wsgi.ASGIMiddleware(asgi_of(in_asgi, {}))
        after: list[Identity | None] = []

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            body = list(inner(environ, start_response))
            after.append(current_identity())
            return body

        Client(wsgi_of(app, {}), use_cookies=False).get("/?login", headers={"Cookie": f"_ALGOLIA={TOKEN}"})

        assert after == [Identity(TOKEN, "logged-in")]

    async def test_handlers_outside_of_the_inner_middleware_find_the_visitor_on_the_request(self) -> None:
        async def crash(request: Any) -> Any:
            set_authenticated_user_token("logged-in")
            raise ZeroDivisionError

        async def on_crash(request: Any, error: Exception) -> Any:
            return JSONResponse(browser.settings(request.state.algolia_identity), status_code=500)

        app = Starlette(
            routes=[Route("/", crash)],
            middleware=[Middleware(asgi.IdentityMiddleware)],
            exception_handlers={Exception: on_crash},
        )
        client = Client(wsgi_of(a2wsgi.ASGIMiddleware(app), {}), use_cookies=False)  # type: ignore[arg-type]

        response = client.get("/", headers={"Cookie": f"_ALGOLIA={TOKEN}"})

        assert response.json == browser.settings(Identity(TOKEN, "logged-in"))


class TestAnotherRequest:
    """What is called with a request of its own is a visit of its own, also inside of another."""

    def test_of_a_test_client_in_a_view(self) -> None:
        inner = in_flask(set_cookie=True)
        outer = flask.Flask("outer")
        init_app(outer, set_cookie=True)

        @outer.get("/")
        def view() -> Any:
            before = current_identity()
            response = inner.test_client().get("/")
            assert current_identity() == before
            return [before.user_token, response.json["user_token"], response.headers["Set-Cookie"]]

        response = outer.test_client().get("/")

        own, theirs, set_cookie = response.json
        assert own != theirs
        assert response.headers["Set-Cookie"].startswith(f"_ALGOLIA={own};")
        assert set_cookie.startswith(f"_ALGOLIA={theirs};")

    async def test_of_a_wsgi_application_in_a_thread_of_an_asgi_view(self) -> None:
        """Its environ is of another request, though the context is that of an ASGI one."""
        inner = wsgi_of(in_wsgi, {"set_cookie": True})

        def view(request: Any) -> Any:
            response = Client(inner, use_cookies=False).get("/elsewhere")
            return JSONResponse([current_identity().user_token, json.loads(response.text)["user_token"]])

        app = Starlette(routes=[Route("/", view)], middleware=[Middleware(asgi.IdentityMiddleware, set_cookie=True)])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            own, theirs = (await client.get("/")).json()

        assert own != theirs
