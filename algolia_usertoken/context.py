"""Whose request is being served right now.

One ContextVar holds it, so each thread and each asyncio task sees its own. What is set in a thread or a task is not
seen by the one that started it; threads and executors start with nothing, see `bind`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from .identity import Identity, as_identity

F = TypeVar("F", bound=Callable[..., Any])


class _Frame(NamedTuple):
    """What one scope says. Frames are never changed, so contexts may share them."""

    identity: Identity | None  # in force now
    given: Identity | None  # as the scope gave it: what set_…(None) falls back to
    scope: object  # whose frame it is
    outer: _Frame | None


_frame: ContextVar[_Frame | None] = ContextVar("algolia_usertoken", default=None)


def current_identity() -> Identity | None:
    """The identity of the request being served, or None where nobody said."""
    frame = _frame.get()
    return None if frame is None else frame.identity


class identity_scope:
    """Serve as `identity` inside a `with` block or a decorated function, sync or async.

        with identity_scope("u-1"):
            client.search_single_index("products", {"query": "shoes"})

    A string is a user token. `Identity()` means nobody; None means "no answer here": the provider is asked. Scopes
    nest, and the end of one restores what was in force before, also what `set_user_token` changed inside it. As a
    decorator it also takes generators, sync and async: the scope holds while they run, not between their steps.

    Raises:
        InvalidUserTokenError: `identity` is neither an Identity nor a valid token nor None.

    https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
    """

    __slots__ = ("_identity",)

    def __init__(self, identity: Identity | str | None) -> None:
        self._identity = as_identity(identity)

    def __enter__(self) -> Identity | None:
        _frame.set(_Frame(self._identity, self._identity, self, _frame.get()))
        return self._identity

    def __exit__(self, *exc_info: object) -> None:
        # No reset token: a block may end in another copy of the context than it began in (a streamed response). There
        # the frame is not ours, and stays. Frames on top of ours were left open, by a task cancelled in a thread, say.
        frame = _frame.get()
        while frame is not None and frame.scope is not self:
            frame = frame.outer
        if frame is not None:
            _frame.set(frame.outer)

    def __call__(self, function: F) -> F:
        """`function`, run inside this scope at every call."""
        wrapper: Callable[..., Any]
        if inspect.isgeneratorfunction(function):

            def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                return (yield from _run_in_scope(self, function(*args, **kwargs)))

        elif inspect.isasyncgenfunction(function):

            async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
                generator = function(*args, **kwargs)
                step, value = generator.asend, None
                while True:
                    with self:
                        try:
                            item = await step(value)
                        except StopAsyncIteration:
                            return
                    try:
                        step, value = generator.asend, (yield item)
                    except GeneratorExit:
                        with self:
                            await generator.aclose()
                        raise
                    except BaseException as error:
                        step, value = generator.athrow, error

        elif inspect.iscoroutinefunction(function):

            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

        else:

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self:
                    result = function(*args, **kwargs)
                # An async callable that does not look like one: an object, or a partial of one.
                return _await_in_scope(self, result) if inspect.iscoroutine(result) else result

        return functools.wraps(function)(wrapper)  # type: ignore[return-value]


def set_user_token(token: str | None) -> None:
    """Set the user token for the rest of this context, as `aa("setUserToken", …)` does; None takes it away.

    The rest of the identity (login, address, opt-out) stays.

    Raises:
        InvalidUserTokenError: `token` is not what Algolia accepts.

    https://github.com/algolia/search-insights.js
    """
    _change(user_token=token)


def set_authenticated_user_token(token: str | None) -> None:
    """Set who is logged in for the rest of this context, as `aa("setAuthenticatedUserToken", …)` does.

    None on logout; the user token stays.

    Raises:
        InvalidUserTokenError: `token` is not what Algolia accepts.

    https://github.com/algolia/search-insights.js
    """
    _change(authenticated_user_token=token)


def bind(function: F) -> F:
    """`function`, run as the identity that is current now, wherever and however often it is called.

    For what does not carry the context along: `threading.Thread`, executors, `loop.run_in_executor`.
    `asyncio.to_thread` and `asyncio.create_task` carry it by themselves.
    """
    return identity_scope(current_identity())(function)


def _change(**token: Any) -> None:
    frame = _frame.get() or _Frame(None, None, None, None)
    identity: Identity | None = replace(frame.identity or Identity(), **token)
    if identity == Identity():
        identity = frame.given and identity  # nothing left to say: where the scope had no answer, there is none again
    _frame.set(frame._replace(identity=identity))


async def _await_in_scope(scope: identity_scope, coroutine: Coroutine[Any, Any, Any]) -> Any:
    with scope:
        return await coroutine


def _run_in_scope(scope: identity_scope, generator: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    step, value = generator.send, None
    while True:
        with scope:
            try:
                item = step(value)
            except StopIteration as stop:
                return stop.value
        try:
            step, value = generator.send, (yield item)
        except GeneratorExit:
            with scope:
                generator.close()
            raise
        except BaseException as error:
            step, value = generator.throw, error
