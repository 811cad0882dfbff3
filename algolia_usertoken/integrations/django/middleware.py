"""The middleware: one class, for Django under WSGI and under ASGI, for sync and async views."""

from __future__ import annotations

import contextlib
import copy
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from ...identity import Identity
from ..visitor import VISIT, Visit, bridged_visit, drive, drive_async, outer_visit
from .conf import visitor_rules
from .page_cache import leave_out_pages_that_name_their_visitor

__all__ = ["IdentityMiddleware"]

# The request that is being served, for templates that are rendered without it.
served: ContextVar[Any] = ContextVar("algolia_usertoken_django_request", default=None)


class IdentityMiddleware:
    """Django middleware that determines the visitor for whom the calls in a request and its streamed response are made.

        MIDDLEWARE = [..., "algolia_usertoken.integrations.django.IdentityMiddleware"]
        ALGOLIA_USERTOKEN = {"SET_COOKIE": True, "AUTHENTICATED_USER_TOKEN": "shop.users.token_of"}

    Put it after Django's session and authentication middleware. The keys of the setting `ALGOLIA_USERTOKEN` are the
    keywords of the other integrations: AUTHENTICATED_USER_TOKEN, COOKIE, SET_COOKIE, HEADER, CLIENT_IP and OPTED_OUT.
    Functions in it get Django's request, and may be given as dotted paths. They must be plain functions. For an async
    request they run in Django's thread for sync code, where they may use the ORM.

    Another middleware of this package, for example `asgi.IdentityMiddleware`, may be around this one. Then this one
    adds only what the other did not know.

    Args:
        get_response: The next middleware or the view, which Django gives.

    Raises:
        ImproperlyConfigured: The setting is wrong. Django makes the middleware when it starts, so it raises this then.

    https://docs.djangoproject.com/en/stable/topics/http/middleware/
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        self._rules = visitor_rules(in_thread=self._is_async)
        if self._is_async:
            markcoroutinefunction(self)
        leave_out_pages_that_name_their_visitor()

    def __call__(self, request: Any) -> Any:
        if self._is_async:
            return self._acall(request)
        outer, visit = _visit_of(request)
        visit.recognised(self._rules, *drive(self._rules.flow_of_environ(request.META, outer), request))
        with _serving(request, visit, outer):
            return _finished(request, self.get_response(request), visit, outer)

    async def _acall(self, request: Any) -> Any:
        outer, visit = _visit_of(request)
        visit.recognised(self._rules, *await drive_async(self._rules.flow_of_environ(request.META, outer), request))
        with _serving(request, visit, outer):
            return _finished(request, await self.get_response(request), visit, outer)


def _visit_of(request: Any) -> tuple[Visit | None, Visit]:
    """Return the visit that a middleware around this one has opened, or None; and the visit of this request."""
    scope = getattr(request, "scope", None)
    outer = outer_visit(request.META) or bridged_visit(request.META) if scope is None else outer_visit(scope)
    visit = (request.META if scope is None else scope)[VISIT] = outer or Visit(Identity())
    return outer, visit


@contextlib.contextmanager
def _serving(request: Any, visit: Visit, outer: Visit | None) -> Iterator[None]:
    before = served.get()
    served.set(request)
    try:
        with visit.resumed():
            yield
    except BaseException:
        if outer is None:
            visit.close()
        raise
    finally:
        served.set(before)


def _finished(request: Any, response: Any, visit: Visit, outer: Visit | None) -> Any:
    """The response with the headers of the visit. If it is streamed, it is streamed as this visit."""
    if outer is None:
        response = _with_headers(request, response, visit)
    # The server sends a file on disk itself, perhaps in a quicker way.
    if response.streaming and getattr(response, "file_to_stream", None) is None:
        _carry_along(response, visit, outer)
    elif outer is None:
        visit.close()
    return response


def _with_headers(request: Any, response: Any, visit: Visit) -> Any:
    status = response.status_code
    if visit.is_shown or visit.new_token is not None:
        response = _copy(response)
        if visit.new_token is not None and _may_become_304(request, response):
            if visit.is_shown:
                # The page has the new token in it, so it has to arrive. Its validators do not know of the token.
                del response["ETag"], response["Last-Modified"]
            else:
                status = 304
        cookies = [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
        before = [*response.items(), *cookies]
        after = visit.headers(status, before, secure=request.is_secure())
        for name in {name for name, _ in before} - {name for name, _ in after}:
            del response[name]
        for name, value in after:
            if (name, value) in before:
                continue
            if name == "Set-Cookie":
                response.cookies.load(value)
            else:
                response[name] = value
    # The headers are looked at when the stream begins, as a middleware around this one may change them.
    visit.sent = {"status": status, "headers": response.items()}
    return response


def _copy(response: Any) -> Any:
    """The same response with headers of its own, as an application may give one response to many visitors.

    `copy.copy` will not do, as for Django's responses it leaves out what cannot be pickled.
    """
    own = object.__new__(type(response))
    vars(own).update(vars(response))
    own.headers = type(response.headers)(dict(response.items()))
    own.cookies = copy.deepcopy(response.cookies)
    return own


def _may_become_304(request: Any, response: Any) -> bool:
    """Whether Django's ConditionalGetMiddleware, which is around this one, may answer with a 304 instead."""
    if request.method != "GET":
        return False
    has_etag = "ETag" in response or not response.streaming  # that middleware makes one from the content
    return ("HTTP_IF_NONE_MATCH" in request.META and has_etag) or (
        "HTTP_IF_MODIFIED_SINCE" in request.META and "Last-Modified" in response
    )


def _carry_along(response: Any, visit: Visit, outer: Visit | None) -> None:
    """Have the rest of a streamed response produced as this visit, after this middleware has returned.

    All of it runs in one copy of the context that the view has left. What a step sets there holds at the next step, and
    nowhere else. Under ASGI a step of a sync stream runs in a thread. If the visitor leaves meanwhile, asgiref would
    otherwise take what the step has set into its own context, for good.
    """
    content, close, context = response.streaming_content, response.close, copy_context()

    def steps() -> Iterator[Any]:
        end = object()
        while (part := context.run(next, content, end)) is not end:
            yield part

    async def async_steps() -> AsyncIterator[Any]:
        iterator = aiter(content)
        while True:
            try:
                part = await _in_context(context, anext(iterator))
            except StopAsyncIteration:
                return
            yield part

    def close_all() -> None:
        try:
            context.run(close)
        finally:
            if outer is None:
                visit.close()

    response.streaming_content = async_steps() if response.is_async else steps()
    response.close = close_all


@types.coroutine
def _in_context(context: Context, awaitable: Awaitable[Any]) -> Generator[Any, Any, Any]:
    """Await something, each step in `context`. A task could do that too, but would not be cancelled with this one."""
    steps: Any = awaitable.__await__()
    step, value = steps.send, None
    while True:
        try:
            waiting_for = context.run(step, value)
        except StopIteration as end:
            return end.value
        try:
            step, value = steps.send, (yield waiting_for)
        except BaseException as error:
            step, value = steps.throw, error
