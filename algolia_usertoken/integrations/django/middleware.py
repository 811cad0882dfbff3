"""The middleware: one class, for Django under WSGI and under ASGI, for sync and async views."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.utils.cache import patch_vary_headers

from ...context import current_identity, identity_scope
from ..visitor import COOKIE_MAX_AGE, drive, drive_async, is_for_shared_caches
from .conf import visitor_rules

__all__ = ["IdentityMiddleware"]

# On a request whose page names its visitor: a cache must then keep a copy for each.
IN_PAGE = "_algolia_user_token_in_page"
# The request that is being served, for templates that are rendered without it.
served: ContextVar[Any] = ContextVar("algolia_usertoken_django_request", default=None)


class IdentityMiddleware:
    """Serves each request as its visitor, streamed responses included; see the setting `ALGOLIA_USERTOKEN`.

    Put it after Django's session and authentication middleware. The functions of the settings are plain ones; for an
    async request they run in Django's thread for sync code, where the ORM may be used.

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
        identity, new_token = drive(self._rules.flow_of_environ(request.META), request)
        with identity_scope(identity), _serving(request):
            return self._finished(request, self.get_response(request), new_token)

    async def _acall(self, request: Any) -> Any:
        identity, new_token = await drive_async(self._rules.flow_of_environ(request.META), request)
        with identity_scope(identity), _serving(request):
            return self._finished(request, await self.get_response(request), new_token)

    def _finished(self, request: Any, response: Any, new_token: str | None) -> Any:
        if new_token is not None and not is_for_shared_caches(response.get("Cache-Control", "")):
            response.set_cookie(self._rules.cookie, new_token, max_age=COOKIE_MAX_AGE, secure=request.is_secure())
            patch_vary_headers(response, ["Cookie"])
        elif getattr(request, IN_PAGE, False):
            patch_vary_headers(response, ["Cookie"])
        # A file on disk is left to the server, which may have a short cut for it.
        if response.streaming and getattr(response, "file_to_stream", None) is None:
            _carry_along(response)
        return response


@contextlib.contextmanager
def _serving(request: Any) -> Iterator[None]:
    outer = served.get()
    served.set(request)
    try:
        yield
    finally:
        served.set(outer)


def _carry_along(response: Any) -> None:
    """Have the rest of a streamed response produced as whoever is current now: it runs when this middleware is done."""
    scope = identity_scope(current_identity())
    content, close = response.streaming_content, response.close
    contexts: list[Context] = []

    def run(function: Callable[..., Any], *args: Any) -> Any:
        # In one copy of the context that the server iterates in. Under ASGI a step runs in a thread, and when the
        # visitor leaves meanwhile, asgiref takes over what it has set by then, for good.
        if not contexts:
            contexts.append(copy_context())
            contexts[0].run(scope.__enter__)
        return contexts[0].run(function, *args)

    def steps() -> Iterator[bytes]:
        end = object()
        while (part := run(next, content, end)) is not end:
            yield part

    @scope
    async def async_steps() -> AsyncIterator[bytes]:
        async for part in content:
            yield part

    response.streaming_content = async_steps() if response.is_async else steps()
    response.close = lambda: run(close)
