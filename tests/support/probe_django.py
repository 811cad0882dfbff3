"""Django in one file: sync and async views, streamed bodies, an error, login; under WSGI and under ASGI."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import django
import probe
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler, ASGIRequest
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.template import engines
from django.urls import path
from django.views.decorators.cache import cache_page

from algolia_usertoken import browser, set_authenticated_user_token

HERE = os.path.dirname(__file__)

settings.configure(
    SECRET_KEY="for tests only",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="probe_django",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "algolia_usertoken.integrations.django",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "algolia_usertoken.integrations.django.IdentityMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
        }
    ],
    ALGOLIA={"APPLICATION_ID": probe.algolia.app_id, "API_KEY": probe.algolia.api_key},
    ALGOLIA_USERTOKEN={
        "AUTHENTICATED_USER_TOKEN": "probe_django.login_of",
        "SET_COOKIE": True,
        "HEADER": probe.HEADER,
        "OPTED_OUT": lambda request: probe.refused(request.META.get("HTTP_COOKIE")),
    },
    USE_TZ=True,
)


def login_of(request: HttpRequest) -> str | None:
    return request.session.get("token") or request.headers.get("X-Login")


def in_sync_view(request: HttpRequest, **_: Any) -> Any:
    return JsonResponse(probe.act_and_search(request.path[1:]))


async def in_async_view(request: HttpRequest, **_: Any) -> Any:
    probe.act(request.path[1:])
    return JsonResponse(await probe.search_async(request.path[1:], shared=isinstance(request, ASGIRequest)))


def in_sync_stream(request: HttpRequest, **_: Any) -> Any:
    def body() -> Iterator[bytes]:
        try:
            probe.act(request.path[1:])
            for _ in range(3):
                probe.search(request.path[1:])
                yield b"."
                time.sleep(float(request.GET.get("pause", 0)))
        finally:
            probe.search(request.path[1:])

    return StreamingHttpResponse(body())


async def in_async_stream(request: HttpRequest, **_: Any) -> Any:
    async def body() -> AsyncIterator[bytes]:
        probe.act(request.path[1:])
        for _ in range(3):
            await probe.search_async(request.path[1:])
            yield b"."
            await asyncio.sleep(float(request.GET.get("pause", 0)))

    return StreamingHttpResponse(body())


def before_an_error(request: HttpRequest, **_: Any) -> Any:
    probe.act(request.path[1:])
    raise ZeroDivisionError


def on_error(request: HttpRequest) -> Any:
    return JsonResponse(probe.search(request.path[1:]), status=500)


def login(request: HttpRequest) -> Any:
    request.session["token"] = request.POST["token"]
    set_authenticated_user_token(request.POST["token"])
    return JsonResponse(probe.search("login"))


def logout(request: HttpRequest) -> Any:
    request.session.flush()
    set_authenticated_user_token(None)
    return JsonResponse(probe.search("logout"))


def settings_as_json(request: HttpRequest) -> Any:
    return JsonResponse(browser.settings())


def page(request: HttpRequest) -> Any:
    from django.http import HttpResponse

    source = request.GET.get("template", "{% algolia_user_token %}")
    template = engines["django"].from_string("{% load algolia_usertoken %}<html>" + source + "</html>")
    return HttpResponse(template.render({}, request))


handler500 = on_error
urlpatterns = [
    path("<visitor>/sync/<number>", in_sync_view),
    path("<visitor>/async/<number>", in_async_view),
    path("<visitor>/stream/<number>", in_sync_stream),
    path("<visitor>/async-stream/<number>", in_async_stream),
    path("<visitor>/error/<number>", before_an_error),
    path("login", login),
    path("logout", logout),
    path("settings", settings_as_json),
    path("page", page),
    path("cached-page", cache_page(60)(page)),
    path("cached-settings", cache_page(60)(settings_as_json)),
]

django.setup(set_prefix=False)
# uvicorn ends itself with the signal that it got. So Python runs no exit hooks, and Django is not told of a shutdown.
if "LOCAL_ALGOLIA_PORT" in os.environ:
    probe.client.events.close_on_signal(signal.SIGTERM)
wsgi, watched_asgi = probe.watched_wsgi(WSGIHandler()), probe.watched_asgi(ASGIHandler())


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":  # Django supports no other type
        await watched_asgi(scope, receive, send)
