"""Django inside another middleware of this package, and what a login or logout changes for the rest of a request."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import django
import httpx
import probe_django  # noqa: F401 - sets Django up
import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from asgiref.wsgi import WsgiToAsgi
from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from django.views.decorators.cache import cache_page

from algolia_usertoken import (
    Identity,
    browser,
    current_identity,
    identity_scope,
    set_authenticated_user_token,
    set_user_token,
)
from algolia_usertoken.integrations import asgi, wsgi

pytestmark = pytest.mark.oldest_versions

OURS = "algolia_usertoken.integrations.django.IdentityMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
TOKEN = f"anonymous-{uuid.UUID(int=1)}"

seen: list[tuple[str, Identity | None]] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    seen.clear()
    yield
    assert current_identity() is None


class Watching:
    """A middleware of the application: who it is when the response comes back. Here an event would be sent."""

    sync_capable = async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        if iscoroutinefunction(self):
            return self.later(request)
        response = self.get_response(request)
        seen.append(("middleware", current_identity()))
        return response

    async def later(self, request: Any) -> Any:
        response = await self.get_response(request)
        seen.append(("middleware", current_identity()))
        return response


class WatchingInThread(Watching):
    """One that Django runs in a thread when it serves asynchronously."""

    async_capable = False


MIDDLEWARE = (SESSIONS, OURS, f"{__name__}.Watching")


def asked(
    server: str,
    view: Any,
    *,
    around: Callable[[Any], Any] = lambda app: app,
    middleware: tuple[str, ...] = MIDDLEWARE,
    cookies: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    **settings: Any,
) -> httpx.Response:
    """The response of Django, under WSGI or ASGI, with a middleware `around` it."""

    async def ask(app: Any) -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop", cookies=cookies) as c:
            return await c.get("/", headers=headers)

    with override_settings(ROOT_URLCONF=(path("", view),), MIDDLEWARE=middleware, ALGOLIA_USERTOKEN=settings):
        if server == "asgi":
            return asyncio.run(ask(around(ASGIHandler())))
        transport = httpx.WSGITransport(around(WSGIHandler()))
        with httpx.Client(transport=transport, base_url="http://shop", cookies=cookies) as client:
            return client.get("/", headers=headers)


def around_with(server: str, **keywords: Any) -> Callable[[Any], Any]:
    return lambda app: (asgi if server == "asgi" else wsgi).IdentityMiddleware(app, **keywords)


def tell(request: Any) -> JsonResponse:
    identity = current_identity() or Identity("nobody-said")
    return JsonResponse({"login": identity.authenticated_user_token, "out": identity.opted_out, **browser.settings()})


async def tell_async(request: Any) -> JsonResponse:
    return tell(request)


servers = pytest.mark.parametrize("server", ["wsgi", "asgi"])
views = pytest.mark.parametrize("view", [tell, tell_async], ids=["sync view", "async view"])


@servers
@views
class TestInsideAnotherMiddleware:
    def test_there_is_one_token_and_one_cookie(self, server: str, view: Any) -> None:
        response = asked(server, view, around=around_with(server, set_cookie=True), SET_COOKIE=True)

        (cookie,) = response.headers.get_list("set-cookie")
        assert cookie == f"_ALGOLIA={response.json()['userToken']}; Max-Age=15552000; Path=/"
        assert response.headers["cache-control"] == "private"
        assert response.headers["vary"] == "Cookie"

    def test_a_token_that_django_alone_may_make_comes_with_its_cookie(self, server: str, view: Any) -> None:
        response = asked(server, view, around=around_with(server), SET_COOKIE=True, HEADER="X-Token")

        (cookie,) = response.headers.get_list("set-cookie")
        assert cookie.startswith(f"_ALGOLIA={response.json()['userToken']};")
        assert response.headers["vary"] == "Cookie, X-Token"

    def test_an_opt_out_stays_one(self, server: str, view: Any) -> None:
        response = asked(
            server,
            view,
            around=around_with(server, opted_out=lambda request: True),
            cookies={"_ALGOLIA": TOKEN},
            SET_COOKIE=True,
            AUTHENTICATED_USER_TOKEN=lambda request: "user-42",
        )

        assert response.json() == {"login": None, "out": True, "useCookie": False, "userHasOptedOut": True}
        assert "set-cookie" not in response.headers

    def test_django_adds_the_login_it_knows(self, server: str, view: Any) -> None:
        response = asked(
            server,
            view,
            around=around_with(server),
            cookies={"_ALGOLIA": TOKEN},
            AUTHENTICATED_USER_TOKEN=lambda request: "user-42",
        )

        assert (response.json()["userToken"], response.json()["login"]) == (TOKEN, "user-42")

    def test_a_page_is_kept_out_of_djangos_caches(self, server: str, view: Any) -> None:
        update, fetch = (f"django.middleware.cache.{name}CacheMiddleware" for name in ("Update", "FetchFrom"))
        tokens = [f"anonymous-{uuid.UUID(int=number)}" for number in range(3)]
        # Before version 5 Django's decorators knew no async view.
        decorators = (lambda view: view, cache_page(60)) if view is tell or django.VERSION >= (5,) else ()
        for decorated in [decorate(view) for decorate in decorators]:
            with override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}):
                responses = [
                    asked(
                        server,
                        decorated,
                        around=around_with(server),
                        middleware=(update, *MIDDLEWARE, fetch),
                        cookies={"_ALGOLIA": token},
                    )
                    for token in tokens
                ]

            assert [response.json()["userToken"] for response in responses] == tokens
            assert {response.headers["cache-control"] for response in responses} == {"private"}

    def test_twice_in_middleware_counts_once(self, server: str, view: Any) -> None:
        response = asked(server, view, middleware=(SESSIONS, OURS, OURS), SET_COOKIE=True)

        (cookie,) = response.headers.get_list("set-cookie")
        assert cookie.strip().startswith(f"_ALGOLIA={response.json()['userToken']};")

    def test_a_scope_that_was_opened_between_the_two_stays(self, server: str, view: Any) -> None:
        def between(app: Any) -> Any:
            return around_with(server)(identity_scope("in-between")(app))

        assert asked(server, view, around=between).json()["userToken"] == "in-between"


@views
def test_under_wsgi_in_a_thread_of_an_asgi_server_there_is_one_token_and_one_cookie(view: Any) -> None:
    async def ask() -> httpx.Response:
        app = asgi.IdentityMiddleware(WsgiToAsgi(WSGIHandler()), set_cookie=True)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            return await client.get("/")

    with override_settings(
        ROOT_URLCONF=(path("", view),), MIDDLEWARE=MIDDLEWARE, ALGOLIA_USERTOKEN={"SET_COOKIE": True}
    ):
        response = asyncio.run(ask())

    (cookie,) = response.headers.get_list("set-cookie")
    assert cookie.startswith(f"_ALGOLIA={response.json()['userToken']};")


@servers
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "alone"])
@pytest.mark.parametrize("is_async", [True, False], ids=["async stream", "stream"])
def test_a_stream_is_its_visitors_to_the_end(server: str, nested: bool, is_async: bool, recwarn: Any) -> None:
    def view(request: Any) -> StreamingHttpResponse:
        def body() -> Iterator[str]:
            yield json.dumps([str(current_identity())])
            set_authenticated_user_token("user-42")
            yield json.dumps([str(current_identity())])

        async def async_body() -> AsyncIterator[str]:
            for part in body():
                yield part

        return StreamingHttpResponse(async_body() if is_async else body())

    around: Any = around_with(server) if nested else lambda app: app
    response = asked(server, view, around=around, cookies={"_ALGOLIA": TOKEN})

    before, after = Identity(TOKEN), Identity(TOKEN, "user-42")
    assert response.text == json.dumps([str(before)]) + json.dumps([str(after)])
    # Django says so itself where it has to read a stream at once.
    assert all("StreamingHttpResponse must consume" in str(warning.message) for warning in recwarn)


def jane() -> Any:
    user = User(pk=42, username="jane")
    user.save = lambda *_, **__: None  # there is no database: Django notes the time of the login
    return user


def logged_in(**_: Any) -> None:
    set_authenticated_user_token("user-42")
    seen.append(("signal", current_identity()))


def logged_out(**_: Any) -> None:
    set_authenticated_user_token(None)
    seen.append(("signal", current_identity()))


@pytest.fixture
def _signals() -> Iterator[None]:
    user_logged_in.connect(logged_in)
    user_logged_out.connect(logged_out)
    yield
    user_logged_in.disconnect(logged_in)
    user_logged_out.disconnect(logged_out)


def logging_in(request: Any) -> HttpResponse:
    login(request, jane(), backend="django.contrib.auth.backends.ModelBackend")
    seen.append(("view", current_identity()))
    return HttpResponse()


def logging_out(request: Any) -> HttpResponse:
    logout(request)
    seen.append(("view", current_identity()))
    return HttpResponse()


@servers
@pytest.mark.parametrize("nested", [True, False], ids=["nested", "alone"])
@pytest.mark.parametrize("watching", ["Watching", "WatchingInThread"])
@pytest.mark.parametrize("view", [logging_in, logging_out])
@pytest.mark.usefixtures("_signals")
def test_login_and_logout_hold_in_signal_view_and_later_middleware(
    server: str, nested: bool, watching: str, view: Any
) -> None:
    asked(
        server,
        view,
        around=around_with(server) if nested else lambda app: app,
        middleware=(SESSIONS, OURS, f"{__name__}.{watching}"),
        cookies={"_ALGOLIA": TOKEN},
        AUTHENTICATED_USER_TOKEN=lambda request: "user-41",
    )

    now = Identity(TOKEN, "user-42" if view is logging_in else None)
    assert seen == [("signal", now), ("view", now), ("middleware", now)]


@pytest.mark.skipif(django.VERSION < (5,), reason="Django 5 has alogin() and alogout()")
@servers
@pytest.mark.usefixtures("_signals")
def test_login_and_logout_of_an_async_view_hold_in_later_middleware(server: str) -> None:
    async def view(request: Any) -> HttpResponse:
        from django.contrib.auth import alogin, alogout

        await alogin(request, jane(), backend="django.contrib.auth.backends.ModelBackend")
        seen.append(("view", current_identity()))
        await alogout(request)
        seen.append(("view", current_identity()))
        return HttpResponse()

    asked(server, view, cookies={"_ALGOLIA": TOKEN})

    before, after = Identity(TOKEN, "user-42"), Identity(TOKEN)
    assert seen == [("signal", before), ("view", before), ("signal", after), ("view", after), ("middleware", after)]


@servers
def test_what_an_async_view_sets_holds_in_a_middleware_that_runs_in_a_thread(server: str) -> None:
    async def view(request: Any) -> HttpResponse:
        set_user_token("in-the-view")
        return HttpResponse()

    asked(server, view, middleware=(SESSIONS, OURS, f"{__name__}.WatchingInThread"))

    assert seen == [("middleware", Identity("in-the-view"))]


def test_an_error_that_no_handler_takes_reaches_the_outer_middleware() -> None:
    class Gone(BaseException):
        pass

    def view(request: Any) -> HttpResponse:
        raise Gone

    with pytest.raises(Gone):
        asked("wsgi", view, around=around_with("wsgi"))


@pytest.mark.parametrize("nested", [True, False], ids=["nested", "alone"])
def test_an_error_in_what_a_stream_awaits_is_the_streams(nested: bool) -> None:
    async def body() -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        loop.call_soon(answer.set_exception, ConnectionError())
        try:
            await answer
        except ConnectionError:
            yield str(current_identity())

    async def view(request: Any) -> StreamingHttpResponse:
        return StreamingHttpResponse(body())

    around: Any = around_with("asgi") if nested else lambda app: app

    assert asked("asgi", view, around=around, cookies={"_ALGOLIA": TOKEN}).text == str(Identity(TOKEN))
