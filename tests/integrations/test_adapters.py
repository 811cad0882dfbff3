"""What holds for each web integration: the cookie, the last word of the application, and what a stream may say."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest.mock import Mock

import flask
import httpx
import probe_django  # noqa: F401 - sets Django up
import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import re_path
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from werkzeug.test import Client

from algolia_usertoken import Identity, TokenAwareClient, TokenAwareClientSync, browser, clients, current_identity
from algolia_usertoken.integrations import asgi, wsgi
from algolia_usertoken.integrations.flask import init_app

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"
Keywords = dict[str, Any]


class Page(NamedTuple):
    """What the application answers; a body that is no string is streamed, and made while it is read."""

    body: Callable[[], str | Iterator[str]]
    headers: Sequence[tuple[str, str]] = ()


def who() -> str:
    return json.dumps(getattr(current_identity(), "user_token", None))


def in_asgi(page: Page, keywords: Keywords) -> Any:
    async def view(request: Any) -> Any:
        body = page.body()
        response = (
            Response(body)
            if isinstance(body, str)
            else StreamingResponse(aiter_of(body))  # in the loop: each step is one of this request's
        )
        response.raw_headers += [(name.lower().encode(), value.encode()) for name, value in page.headers]
        return response

    return asgi.IdentityMiddleware(Starlette(routes=[Route("/", view)]), **keywords)


async def aiter_of(parts: Iterator[str]) -> Any:
    for part in parts:
        await asyncio.sleep(0)
        yield part


def in_wsgi(page: Page, keywords: Keywords) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        body = page.body()
        start_response("200 OK", [("Content-Type", "text/html"), *page.headers])
        return [body.encode()] if isinstance(body, str) else (part.encode() for part in body)

    return wsgi.IdentityMiddleware(app, **keywords)


def in_flask(page: Page, keywords: Keywords) -> Any:
    app = flask.Flask("shop")
    init_app(app, **keywords)

    @app.get("/")
    def view() -> Any:
        response = flask.Response(page.body())
        response.headers.extend(page.headers)
        return response

    return app


class InDjango:
    page: Page

    @classmethod
    def view(cls, request: Any) -> Any:
        body = cls.page.body()
        if isinstance(body, str):
            response: Any = HttpResponse(body)
        else:
            response = StreamingHttpResponse(aiter_of(body) if hasattr(request, "scope") else body)
        for name, value in cls.page.headers:
            if name == "Set-Cookie":
                response.cookies.load(value)
            else:
                response[name] = value
        return response


InDjango.urlpatterns = [re_path("", InDjango.view)]  # type: ignore[attr-defined]


class Answer(NamedTuple):
    text: str
    set_cookies: list[str]
    headers: Any


class Adapter:
    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name = name
        self._stack = stack

    async def get(self, page: Page, cookies: str | None = None, **keywords: Any) -> Answer:
        if self.name.startswith("Django"):
            settings = {name.upper(): value for name, value in keywords.items()}
            self._stack.enter_context(override_settings(ALGOLIA_USERTOKEN=settings, ROOT_URLCONF=InDjango))
            InDjango.page = page
            app: Any = WSGIHandler() if self.name.endswith("WSGI") else ASGIHandler()
        else:
            app = {"ASGI": in_asgi, "WSGI": in_wsgi, "Flask": in_flask}[self.name](page, keywords)
        headers = {} if cookies is None else {"Cookie": cookies}
        if self.name.endswith("ASGI"):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
                response: Any = await client.get("/", headers=headers)
            answer = Answer(response.text, response.headers.get_list("Set-Cookie"), response.headers)
        else:
            get = Client(app, use_cookies=False).get
            response = await asyncio.to_thread(get, "/", headers=headers)
            set_cookies = [value.lstrip() for value in response.headers.getlist("Set-Cookie")]
            answer = Answer(response.text, set_cookies, response.headers)
        assert response.status_code == 200
        return answer


@pytest.fixture(params=["ASGI", "WSGI", "Flask", "Django under WSGI", "Django under ASGI"])
def adapter(request: pytest.FixtureRequest) -> Iterator[Adapter]:
    with ExitStack() as stack:
        yield Adapter(request.param, stack)


class TestConsent:
    @pytest.mark.parametrize(
        "answer", ["no", "yes", 1, 1.0, [True], Mock(), b"\1"], ids=lambda answer: type(answer).__name__
    )
    async def test_is_true_and_nothing_else(
        self, adapter: Adapter, answer: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        page = await adapter.get(Page(who), set_cookie=lambda request: answer)

        assert (page.text, page.set_cookies) == ("null", [])
        (record,) = [record for record in caplog.records if record.name.startswith("algolia_usertoken")]
        assert record.levelno == logging.WARNING
        assert "only True is the visitor's consent" in record.getMessage()

    @pytest.mark.parametrize("answer", [False, None])
    async def test_refused_is_nothing_to_log(
        self, adapter: Adapter, answer: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        page = await adapter.get(Page(who), set_cookie=lambda request: answer)

        assert (page.text, page.set_cookies) == ("null", [])
        assert [record for record in caplog.records if record.name.startswith("algolia_usertoken")] == []

    async def test_given_brings_a_cookie(self, adapter: Adapter) -> None:
        page = await adapter.get(Page(who), set_cookie=lambda request: True)

        (set_cookie,) = page.set_cookies
        assert set_cookie.startswith(f"_ALGOLIA={json.loads(page.text)};")


class TestCookieOfAnotherName:
    @pytest.mark.parametrize("token", ["visitor-1", "a/b+c==", TOKEN])
    async def test_holds_any_valid_token(self, adapter: Adapter, token: str) -> None:
        page = await adapter.get(Page(who), f"shop.visitor={token}", cookie="shop.visitor", set_cookie=True)

        assert (json.loads(page.text), page.set_cookies) == (token, [])

    @pytest.mark.parametrize("value", ["jane@example.com", "a.b.c", "%7B%7D", '"quoted"', "x" * 129])
    async def test_that_holds_something_else_is_never_overwritten(self, adapter: Adapter, value: str) -> None:
        for set_cookie in (True, lambda request: True):
            page = await adapter.get(
                Page(who), f"shop.visitor={value}; a=1", cookie="shop.visitor", set_cookie=set_cookie
            )

            assert (page.text, page.set_cookies) == ("null", [])

    async def test_that_is_empty_or_missing_is_given(self, adapter: Adapter) -> None:
        for cookie in ("shop.visitor=", "a=1"):
            page = await adapter.get(Page(who), cookie, cookie="shop.visitor", set_cookie=True)

            (set_cookie,) = page.set_cookies
            assert set_cookie.startswith(f"shop.visitor={json.loads(page.text)};")

    async def test_algolias_own_is_put_right(self, adapter: Adapter) -> None:
        """What is no anonymous token in there, search-insights replaces too."""
        page = await adapter.get(Page(who), "_ALGOLIA=user-42", set_cookie=True)

        (set_cookie,) = page.set_cookies
        assert set_cookie.startswith("_ALGOLIA=anonymous-")


class TestTheApplicationHasTheLastWord:
    """Where it sets or deletes the cookie itself in a response."""

    @pytest.mark.parametrize(
        "own",
        [
            "_ALGOLIA=anonymous-of-the-application; Path=/",
            '_ALGOLIA=""; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/',
        ],
        ids=["sets", "deletes"],
    )
    @pytest.mark.parametrize("names_its_visitor", [False, True])
    async def test_there_is_no_other_cookie(self, adapter: Adapter, own: str, names_its_visitor: bool) -> None:
        page = Page(browser.script if names_its_visitor else who, [("Set-Cookie", own)])

        for cookie in (None, f"_ALGOLIA={TOKEN}"):
            answer = await adapter.get(page, cookie, set_cookie=True)

            (set_cookie,) = answer.set_cookies
            assert set_cookie.partition(";")[0] == own.partition(";")[0]

    async def test_another_cookie_of_its_own_is_none_of_ours(self, adapter: Adapter) -> None:
        answer = await adapter.get(Page(who, [("Set-Cookie", "x_ALGOLIA=1; Path=/")]), set_cookie=True)

        names = sorted(set_cookie.partition("=")[0] for set_cookie in answer.set_cookies)
        assert names == ["_ALGOLIA", "x_ALGOLIA"]


class TestStream:
    """A template tag that is reached when the headers have gone."""

    @staticmethod
    def late() -> Iterator[str]:
        yield "<html>"
        yield browser.script()

    async def test_names_nobody_where_caches_may_keep_it(self, adapter: Adapter) -> None:
        for headers in ([], [("Cache-Control", "public, max-age=60")], [("Cache-Control", "no-cache")]):
            answer = await adapter.get(Page(self.late, headers), f"_ALGOLIA={TOKEN}")

            assert "setAuthenticatedUserToken" in answer.text
            assert TOKEN not in answer.text

    async def test_names_nobody_where_the_visitor_got_no_cookie(self, adapter: Adapter) -> None:
        answer = await adapter.get(Page(self.late, [("Cache-Control", "public, max-age=60")]), set_cookie=True)

        assert answer.set_cookies == []
        assert "anonymous-" not in answer.text

    async def test_names_the_visitor_where_it_is_private(self, adapter: Adapter) -> None:
        answer = await adapter.get(Page(self.late, [("Cache-Control", "private")]), f"_ALGOLIA={TOKEN}")
        assert TOKEN in answer.text

        answer = await adapter.get(Page(self.late), set_cookie=True)  # which makes it private
        (set_cookie,) = answer.set_cookies
        assert set_cookie.partition(";")[0].removeprefix("_ALGOLIA=") in answer.text
        assert answer.headers["Cache-Control"] == "private"


class TestSecuredApiKey:
    """Anybody can read the user token in a key that `secured_api_key` has made."""

    CLIENT = TokenAwareClientSync("app", "key")

    def key(self) -> str:
        return self.CLIENT.secured_api_key("parent", {"filters": "brand:Larkfoot"})

    def named(self, restrictions: dict[str, Any]) -> Callable[[], str]:
        return lambda: self.CLIENT.secured_api_key("parent", restrictions)

    def late(self) -> Iterator[str]:
        yield "<html>"
        yield self.key()

    @pytest.mark.parametrize(
        "headers",
        [[], [("Cache-Control", "public, max-age=60")], [("Cache-Control", "s-maxage=60"), ("X-Accel-Expires", "60")]],
    )
    async def test_makes_the_response_private(self, adapter: Adapter, headers: list[tuple[str, str]]) -> None:
        for cookie in (f"_ALGOLIA={TOKEN}", None):
            answer = await adapter.get(Page(self.key, headers), cookie, set_cookie=True)

            directives = answer.headers["Cache-Control"].split(", ")
            assert directives[0] == "private"
            assert {"public", "s-maxage=60"}.isdisjoint(directives)
            assert "X-Accel-Expires" not in answer.headers
            assert answer.headers["Vary"] == "Cookie"
            token = TOKEN if cookie else answer.set_cookies[0].partition(";")[0].removeprefix("_ALGOLIA=")
            assert f"userToken={token}" in b64decode(answer.text).decode()

    @pytest.mark.parametrize("restrictions", [{"userToken": TOKEN}, {"searchParams": {"userToken": TOKEN}}])
    async def test_does_so_too_where_the_application_gives_the_token(
        self, adapter: Adapter, restrictions: dict[str, Any]
    ) -> None:
        answer = await adapter.get(Page(self.named(restrictions), [("Cache-Control", "public")]))

        assert answer.headers["Cache-Control"] == "private"

    async def test_of_no_user_changes_nothing(self, adapter: Adapter) -> None:
        page = Page(lambda: self.CLIENT.generate_secured_api_key("parent", {}), [("Cache-Control", "public")])

        assert (await adapter.get(page, f"_ALGOLIA={TOKEN}")).headers["Cache-Control"] == "public"

    async def test_too_late_is_logged_once(self, adapter: Adapter, caplog: pytest.LogCaptureFixture) -> None:
        clients._warn_of_shared_key.cache_clear()
        for _ in range(2):
            await adapter.get(Page(self.late, [("Cache-Control", "public")]), f"_ALGOLIA={TOKEN}")
        await adapter.get(Page(self.late, [("Cache-Control", "private")]), f"_ALGOLIA={TOKEN}")

        (record,) = (record for record in caplog.records if record.name == "algolia_usertoken.clients")
        assert "call secured_api_key() before the response begins" in record.getMessage()
        assert TOKEN not in record.getMessage()

    async def test_of_the_async_client_makes_the_response_private(self) -> None:
        async def view(request: Any) -> Response:
            async with TokenAwareClient("app", "key") as client:
                return Response(await client.secured_api_key("parent"), headers={"Cache-Control": "public"})

        app = asgi.IdentityMiddleware(Starlette(routes=[Route("/", view)]))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop.example") as visitor:
            answer = await visitor.get("/", headers={"Cookie": f"_ALGOLIA={TOKEN}"})

        assert answer.headers["Cache-Control"] == "private"


def test_flasks_stream_template_names_nobody() -> None:
    app = flask.Flask("shop")
    init_app(app)
    page = "<html>" + "{% for _ in range(2000) %}.........{% endfor %}{{ algolia_user_token() }}"
    app.add_url_rule("/", "page", lambda: flask.Response(flask.stream_template_string(page)))

    answer = app.test_client(use_cookies=False).get("/", headers={"Cookie": f"_ALGOLIA={TOKEN}"})

    assert "<script>" in answer.text
    assert TOKEN not in answer.text


def test_flasks_preprocess_request_leaves_nobody_behind() -> None:
    app = flask.Flask("shop")
    app.secret_key = "for tests only"
    init_app(app, authenticated_user_token=lambda request: flask.session.get("token", "user-42"), set_cookie=True)

    for _ in range(2):
        with app.test_request_context("/", headers={"Cookie": f"_ALGOLIA={TOKEN}"}):
            assert current_identity() is None
            app.preprocess_request()
            assert current_identity() == Identity(TOKEN, "user-42")
            with app.test_request_context("/", headers={"Cookie": "_ALGOLIA=anonymous-2"}):
                app.preprocess_request()
                assert current_identity() == Identity("anonymous-2", "user-42")
            assert current_identity() == Identity(TOKEN, "user-42")
        assert current_identity() is None
    with contextlib.suppress(ZeroDivisionError), app.test_request_context("/"):
        app.preprocess_request()
        raise ZeroDivisionError
    assert current_identity() is None
