"""The middleware: one class, for Django under WSGI and under ASGI, for sync and async views."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from ...context import current_request
from ...identity import Identity
from ..visitor import COOKIE_MAX_AGE, VISIT, Visit, bridged_visit, drive, drive_async, outer_visit
from .conf import visitor_rules

__all__ = ["IdentityMiddleware"]

# The request that is being served, for templates that are rendered without it.
served: ContextVar[Any] = ContextVar("algolia_usertoken_django_request", default=None)


class IdentityMiddleware:
    """Serves each request as its visitor, streamed responses included; see the setting `ALGOLIA_USERTOKEN`.

    Put it after Django's session and authentication middleware. The functions of the settings are plain ones; for an
    async request they run in Django's thread for sync code, where the ORM may be used. Around it there may be another
    middleware of this package, as `asgi.IdentityMiddleware`: then this one adds only what that did not know.

    Raises:
        ImproperlyConfigured: From the constructor, which Django calls when it starts: the settings are wrong.

    The cookie is that of https://github.com/algolia/search-insights.js
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        self._rules = visitor_rules(in_thread=self._is_async)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        if self._is_async:
            return self._acall(request)
        outer, visit = _visit_of(request)
        visit.recognised(self._rules, *drive(self._rules.flow_of_environ(request.META, outer), request))
        with _serving(request, visit, outer):
            response = self.get_response(request)
        return response if outer is not None else _finished(request, response, visit)

    async def _acall(self, request: Any) -> Any:
        outer, visit = _visit_of(request)
        visit.recognised(self._rules, *await drive_async(self._rules.flow_of_environ(request.META, outer), request))
        with _serving(request, visit, outer):
            response = await self.get_response(request)
        return response if outer is not None else _finished(request, response, visit)


def _visit_of(request: Any) -> tuple[Visit | None, Visit]:
    """The visit that a middleware around Django has opened, or None; and the one that this request belongs to."""
    scope = getattr(request, "scope", None)
    outer = outer_visit(request.META) or bridged_visit() if scope is None else outer_visit(scope)
    visit = outer or Visit(Identity())
    (request.META if scope is None else scope)[VISIT] = visit
    visit.when_shown = functools.partial(_keep_out_of_caches, request)
    return outer, visit


def _keep_out_of_caches(request: Any) -> None:
    # Django's own switch: neither `cache_page` nor the cache of the whole site keeps the response.
    request._cache_update_cache = False


@contextlib.contextmanager
def _serving(request: Any, visit: Visit, outer: Visit | None) -> Iterator[None]:
    before = served.get()
    served.set(request)
    if outer is None:
        visit.enter()
    try:
        if outer is None or current_request() is outer:
            yield
        else:
            with outer.resumed():
                yield
    finally:
        if outer is None:
            visit.leave()
        served.set(before)


def _finished(request: Any, response: Any, visit: Visit) -> Any:
    """The response, with what the visit says in its headers, and streamed as this visit."""
    if visit.is_shown or visit.new_token is not None:
        _say_in_headers(request, response, visit)
    else:
        visit.sent = {"status": response.status_code, "headers": response.items()}
    # A file on disk is left to the server, which may have a short cut for it.
    if response.streaming and getattr(response, "file_to_stream", None) is None:
        _carry_along(response, visit)
    else:
        visit.close()
    return response


def _say_in_headers(request: Any, response: Any, visit: Visit) -> None:
    # ConditionalGetMiddleware, which is around this one, makes a 304 of the response to such a request.
    may_become_304 = "HTTP_IF_NONE_MATCH" in request.META or "HTTP_IF_MODIFIED_SINCE" in request.META
    own_cookies = [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
    headers = visit.headers(
        304 if may_become_304 else response.status_code, [*response.items(), *own_cookies], secure=request.is_secure()
    )
    said = {name.lower(): value for name, value in headers if name.lower() != "set-cookie"}
    for name, _ in list(response.items()):
        if name.lower() not in said:
            del response[name]
    for name, value in headers:
        if name.lower() in said and response.get(name) != value:
            response[name] = value
    if visit.rules is not None and sum(name == "Set-Cookie" for name, _ in headers) > len(own_cookies):
        response.set_cookie(visit.rules.cookie, visit.new_token, max_age=COOKIE_MAX_AGE, secure=request.is_secure())


def _carry_along(response: Any, visit: Visit) -> None:
    """Have the rest of a streamed response produced as this visit: it runs when this middleware is done."""
    content, close = response.streaming_content, response.close
    contexts: list[Context] = []

    def run(function: Callable[..., Any], *args: Any) -> Any:
        # In one copy of the context that the server iterates in. Under ASGI a step runs in a thread, and when the
        # visitor leaves meanwhile, asgiref takes over what it has set by then, for good.
        if not contexts:
            contexts.append(copy_context())
            contexts[0].run(visit.resume)
        return contexts[0].run(function, *args)

    def steps() -> Iterator[bytes]:
        end = object()
        while (part := run(next, content, end)) is not end:
            yield part

    async def async_steps() -> AsyncIterator[bytes]:
        iterator = content.__aiter__()
        while True:
            with visit.resumed():
                try:
                    part = await iterator.__anext__()
                except StopAsyncIteration:
                    return
            yield part

    def close_all() -> None:
        try:
            run(close)
        finally:
            visit.close()

    response.streaming_content = async_steps() if response.is_async else steps()
    response.close = close_all
