"""Whose request is being served right now.

One ContextVar holds it, so each thread and each asyncio task finds its own request there. It holds one of two kinds:

- `identity_scope` puts an immutable frame there. What is set inside a scope stays in the task or thread that sets it.
- A web integration puts a `RequestFrame` there, which all tasks and threads of one request share. A framework runs a
  plain `def` view, a dependency or a background task in a thread with a copy of the context; what is set there has to
  hold for the rest of the request, and reaches the other copies through the frame that they share.

Plain threads and executors start with nothing, see `bind`.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias, TypeVar

from .identity import Identity, as_identity

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


# The identity of a request whose visitor was known by the login alone and has logged out. It equals `Identity()`, and
# everything that takes an identity takes it for that, but a TokenProvider asks its `resolve` again.
LOGGED_OUT = Identity()

# Where an ASGI scope's "state" has the identity, for handlers that run outside of the middleware.
STATE_KEY = "algolia_identity"


class _Frame(NamedTuple):
    """What one scope says. Frames of this kind are never changed, so contexts may share them."""

    identity: Identity | None  # in force now
    given: Identity | None  # what the scope was given, which decides what is left after a logout
    scope: object  # the scope whose frame this is
    outer: AnyFrame | None

    def changed(self, **token: Any) -> AnyFrame:
        identity: Identity | None = replace(self.identity or Identity(), **token)
        if identity == Identity() and (self.given is None or _knows_login_only(self.given)):
            # There is nothing left to say: the scope has no answer, and the provider is asked.
            identity = LOGGED_OUT if isinstance(self.scope, RequestFrame) else None
        return self._replace(identity=identity)


class RequestFrame:
    """Who one web request is served as, shared by all tasks and threads of that request.

    Three rules say where a change goes, so that neither two requests nor two tasks of one request are mixed up:

    - The context in which the request was opened changes the frame itself: its own task, or under WSGI its own thread.
      Whatever else runs at the same time has a copy of that context.
    - A thread without an event loop changes the frame too, and keeps what it has set as a copy of its own. So two
      threads that set different users at the same time each go on with their own.
    - Any other task gets a frame of its own, which the threads that it starts change in turn.

    After `close` nobody changes the frame any more: whatever still runs then changes its own context alone.

    Args:
        identity: Who the request is served as, to begin with.
        scope: For a frame of another task: the frame that the integration opened.
    """

    # What most requests leave as it is stands here, as one is made for each request.
    is_open = True
    is_shown = False  # whether a page or a JSON answer has the identity in it
    state: MutableMapping[str, Any] | None = None  # an ASGI scope's "state", to be kept up to date
    _scope: RequestFrame | None = None
    _token: Token[AnyFrame | None] | None = None  # of the context that this frame belongs to
    _outer: AnyFrame | None = None

    def __init__(self, identity: Identity, scope: RequestFrame | None = None) -> None:
        self.identity: Identity | None = identity
        self.given: Identity | None = identity
        if scope is not None:
            self._scope = scope

    @property
    def scope(self) -> RequestFrame:
        """The frame that the integration opened."""
        # It holds no reference to itself, for only the garbage collector could end it then.
        return self._scope or self

    @property
    def outer(self) -> AnyFrame | None:
        """What was in force before this frame."""
        if self._token is None or self._scope is not None:
            return self._outer
        before = self._token.old_value
        return None if before is Token.MISSING else before

    def enter(self) -> None:
        """Put this frame on top of the current context, which is its own from now on."""
        self._token = _frame.set(self)

    def leave(self) -> None:
        """Take this frame off the current context, with all that was put on top of it."""
        try:
            _frame.reset(self._token)  # type: ignore[arg-type]
        except ValueError:  # the context is a copy of the one in which the frame was put there
            _leave(self)
        self._token = None

    def resume(self) -> None:
        """Serve this request in a context that does not know of it, and that ends with the request."""
        _frame.set(self)

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Serve this request in the current context, which is its own meanwhile; what was there before comes back.

        A scope that was opened since, and what another task or thread has set for itself, stay in force.
        """
        before = _frame.get()
        if before is not self and current_request() is self:
            yield
            return
        # What is around this frame stays there: it may be this frame that was in force, and none is around itself.
        _frame.set(self.outer)
        token, self._token = self._token, _frame.set(self)
        try:
            yield
        finally:
            self._token = token
            _frame.set(before)

    def close(self) -> None:
        """Say that the request has ended."""
        self.is_open = False
        # What is around this frame may be the frame of an earlier request: asyncio calls the callbacks of a connection
        # in the context in which it was last asked to read on.
        self._token = self._outer = None

    def show(self) -> bool:
        """Note that the response is about to name its visitor; False where it must not, as caches may share it."""
        self.is_shown = True
        return True

    def become(self, identity: Identity) -> None:
        """Serve the rest of the request as `identity`."""
        self.identity = identity
        if self.state is not None:
            self.state[STATE_KEY] = identity

    def changed(self, **token: Any) -> AnyFrame:
        return self.changed_from(self.identity, token)

    def changed_from(self, identity: Identity | None, token: dict[str, Any]) -> AnyFrame:
        """The frame for this context after a change of `identity`, which is what this context has seen until now."""
        identity = replace(identity or Identity(), **token)
        if identity == Identity() and self.given is not None and _knows_login_only(self.given):
            identity = LOGGED_OUT
        if not self.scope.is_open:
            return _Frame(identity, self.given, self.scope, self.outer)
        if self._is_in_own_context():
            self.become(identity)
            return self
        if not _is_in_event_loop():
            self.become(identity)
            return _ThreadFrame(self, identity, threading.get_ident())
        own = RequestFrame(identity, self.scope)
        own.given, own._outer = self.given, self.outer
        own.enter()
        return own

    def _is_in_own_context(self) -> bool:
        if self._token is None:
            return False
        try:
            _frame.reset(self._token)
        except (ValueError, RuntimeError):  # only the context that made a token takes it back, and only once
            return False
        self._token = _frame.set(self)
        return True


class _ThreadFrame:
    """What a thread has set for its request, for as long as that thread looks."""

    __slots__ = ("_identity", "_thread", "request")

    def __init__(self, request: RequestFrame, identity: Identity, thread: int) -> None:
        self.request = request
        self._identity = identity
        self._thread = thread

    @property
    def identity(self) -> Identity | None:
        # Frameworks copy the context of such a thread back into the task that waited for it.
        return self._identity if self._thread == threading.get_ident() else self.request.identity

    @property
    def scope(self) -> object:
        return self.request.scope

    @property
    def outer(self) -> AnyFrame | None:
        return self.request.outer

    def changed(self, **token: Any) -> AnyFrame:
        # From what this thread has set; another may have set something else meanwhile.
        return self.request.changed_from(self.identity, token)


AnyFrame: TypeAlias = "_Frame | RequestFrame | _ThreadFrame"

_frame: ContextVar[AnyFrame | None] = ContextVar("algolia_usertoken", default=None)


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

    A scope decides about what runs inside it. A coroutine or a stream that leaves the block before it was awaited is
    not served by it: await it inside, or use `client.with_identity`. In a generator, use the decorator: a `with` block
    that is open at a `yield` holds for what consumes the generator, too.

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
        _leave(self)

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
    """Set the user token of the visitor being served, as `aa("setUserToken", …)` does; None takes it away.

    Under one of the web integrations this holds for the rest of the request, wherever that runs: also when it is
    called in a plain `def` view, a dependency or a background task, which the framework runs in a thread. Inside an
    `identity_scope` it holds to the end of that scope, in this task or thread; elsewhere for the rest of this context.
    It is meant for the request's own visitor. To act for anybody else, use `identity_scope`. In a request, what one of
    several tasks that run at the same time sets stays with that task, unless it sets it in a thread: that counts as set
    by the request.

    The rest of the identity (login, address, opt-out) stays.

    Raises:
        InvalidUserTokenError: `token` is not what Algolia accepts.

    https://github.com/algolia/search-insights.js
    """
    _change(user_token=token)


def set_authenticated_user_token(token: str | None) -> None:
    """Set who is logged in, as `aa("setAuthenticatedUserToken", …)` does; None on logout, which keeps the user token.

    It holds as long as what `set_user_token` sets: under one of the web integrations for the rest of the request. A
    visitor who was known by the login alone is nobody after a logout, unless the provider's `resolve` knows them.

    Raises:
        InvalidUserTokenError: `token` is not what Algolia accepts.

    https://github.com/algolia/search-insights.js
    """
    _change(authenticated_user_token=token)


def as_of_now(function: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """`function`, each call of which runs as whoever is current now; there is no scope, so nothing may be set in it."""
    return functools.partial(_await_under, _frame.get(), function)


def current_request() -> RequestFrame | None:
    """The frame of the web request that is being served, inside scopes too; None outside of one or after its end."""
    frame = _frame.get()
    while frame is not None:
        scope = frame.scope
        if isinstance(scope, RequestFrame) and scope.is_open:
            return scope
        frame = frame.outer
    return None


def _change(**token: Any) -> None:
    frame = _frame.get() or _Frame(None, None, None, None)
    _frame.set(frame.changed(**token))


def _leave(scope: object) -> None:
    """Take the frame of this scope off the context, where it is there, and with it what was left open on top of it."""
    frame = _frame.get()
    while frame is not None and frame.scope is not scope:
        frame = frame.outer
    if frame is not None:
        _frame.set(frame.outer)


def _knows_login_only(identity: Identity) -> bool:
    return identity.user_token is None and identity.authenticated_user_token is not None


def _is_in_event_loop() -> bool:
    """Whether an event loop runs in this thread: what is called is in one of its tasks or callbacks."""
    # An event loop that runs has imported its library; importing it here would only make this package slow to import.
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return True
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True


async def _await_in_scope(scope: identity_scope, coroutine: Coroutine[Any, Any, Any]) -> Any:
    with scope:
        return await coroutine


async def _await_under(frame: AnyFrame | None, function: Callable[..., Awaitable[T]], *args: Any) -> T:
    above = _frame.set(frame)
    try:
        return await function(*args)
    finally:
        _frame.reset(above)


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
