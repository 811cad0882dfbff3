"""The context: for whom the current request is served.

One ContextVar holds a frame with the identity, so each thread and each asyncio task finds its own request there. There
are two kinds of frames:

- `identity_scope` puts a frame there that is never changed. What is set inside a scope holds only in the task or thread
  that sets it.
- A web integration puts a `RequestFrame` there, which all tasks and threads of one request share. A framework runs a
  plain `def` view, a dependency or a background task in a thread with a copy of the context. What is set there has to
  hold for the rest of the request, so it is set on the frame, which the other copies have too.

Plain threads and executors start with an empty context: see `bind`.
"""

from __future__ import annotations

import functools
import inspect
import os
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
# all code treats it as such, except that a TokenProvider asks its `resolve` again.
LOGGED_OUT = Identity()

# The key of the identity in an ASGI scope's "state", for handlers that run outside of the middleware.
STATE_KEY = "algolia_identity"


class _Frame(NamedTuple):
    """The frame of one scope. Frames of this kind are never changed, so contexts may share them."""

    identity: Identity | None  # the identity that holds now
    given: Identity | None  # the identity that the scope was given, which decides who is served after a logout
    scope: object  # the scope that this frame belongs to
    outer: AnyFrame | None  # the frame that held before

    def changed(self, **token: Any) -> AnyFrame:
        identity: Identity | None = replace(self.identity or Identity(), **token)
        if identity == Identity() and (self.given is None or _knows_login_only(self.given)):
            # The identity has become empty: the scope has no answer any more, and the provider is asked.
            identity = LOGGED_OUT if isinstance(self.scope, RequestFrame) else None
        return self._replace(identity=identity)


class RequestFrame:
    """The frame of one web request, which all tasks and threads of that request share.

    Three rules decide what a change affects, so that neither two requests nor two tasks of one request are mixed up:

    - The context in which the request was opened (of its own task, or under WSGI of its own thread) changes the frame
      itself. All other code that runs at the same time has a copy of that context.
    - A thread without an event loop changes the frame too, and keeps what it has set for itself as well. So if two
      threads set different users at the same time, each goes on with its own.
    - Any other task gets a frame of its own, which the threads that it starts change in turn.

    After `close`, nobody changes the frame any more: code that still runs then changes its own context alone.

    Args:
        identity: Who the request is served as, to begin with.
        scope: For a frame of another task: the frame that the integration opened.
    """

    # Most requests leave these as they are. They are set on the class, as a frame is made for each request.
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
        # The frame has no reference to itself, as only the garbage collector could delete it then.
        return self._scope or self

    @property
    def outer(self) -> AnyFrame | None:
        """The frame that held before this one."""
        if self._token is None or self._scope is not None:
            return self._outer
        before = self._token.old_value
        return None if before is Token.MISSING else before

    def enter(self) -> None:
        """Put this frame into the current context, which from now on is the context of the request."""
        self._token = _frame.set(self)

    def leave(self) -> None:
        """Take this frame out of the current context, with all frames that were put there after it."""
        try:
            _frame.reset(self._token)  # type: ignore[arg-type]
        except ValueError:  # the context is a copy of the one in which the frame was put there
            _leave(self)
        self._token = None

    def resume(self) -> None:
        """Serve this request in the current context, which does not know of it and ends with it."""
        _frame.set(self)

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Serve this request in the current context, and put back afterwards what was there before.

        A scope that was opened since then still holds, and so does what another task or thread has set for itself.
        """
        before = _frame.get()
        if before is not self and current_request() is self:
            yield
            return
        # The frame around this one stays the same: this frame may be there already, and must not be around itself.
        _frame.set(self.outer)
        token, self._token = self._token, _frame.set(self)
        try:
            yield
        finally:
            self._token = token
            _frame.set(before)

    def close(self) -> None:
        """End the request."""
        self.is_open = False
        # The frame around this one may be that of an earlier request, and must not be kept: asyncio calls the callbacks
        # of a connection in the context in which it was last asked to read on.
        self._token = self._outer = None

    def show(self) -> bool:
        """Note that the response will name its visitor. False: it must not, as caches may share the response."""
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
        """The frame for this context after a change of `identity`, the identity that held here until now."""
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
        except (ValueError, RuntimeError):  # only the context that made a token accepts it, and only once
            return False
        self._token = _frame.set(self)
        return True


class _ThreadFrame:
    """The frame of a thread that has set something for its request. Only that thread sees what it has set."""

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
        # The change starts from what this thread has set, as another thread may have set something else meanwhile.
        return self.request.changed_from(self.identity, token)


AnyFrame: TypeAlias = "_Frame | RequestFrame | _ThreadFrame"

_frame: ContextVar[AnyFrame | None] = ContextVar("algolia_usertoken", default=None)


def current_identity() -> Identity | None:
    """Tell for whom the current request is served.

    Returns:
        The identity that a scope, `set_user_token` or a web integration has set, or None if none of them has.

    https://docs.python.org/3/library/contextvars.html
    """
    frame = _frame.get()
    return None if frame is None else frame.identity


class identity_scope:
    """A `with` block or a decorator: all calls inside are made for `identity`.

        with identity_scope("u-1"):
            client.search_single_index("products", {"query": "shoes"})

    Scopes can be nested. The end of a scope restores what held before it, also if `set_user_token` was called inside.
    As a decorator it takes functions, coroutine functions, generators and async generators. For a generator the scope
    holds while it runs, and not between its steps.

    A coroutine or a stream has to be awaited inside the block: it makes its request only then. Where that is not
    possible, use `client.with_identity`. In a generator, use the decorator: a `with` block that contains a `yield` also
    holds for the code that consumes the generator.

    Args:
        identity: For whom the calls are made: a string is a user token. `Identity()` means nobody. None means that the
            scope has no answer, and the provider is asked.

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
        # There is no reset token, as a block may end in another copy of the context than it began in (with a streamed
        # response). If the frame there is not that of this scope, it stays. Frames that were put there after that of
        # this scope were left open, for example by a task that was cancelled in a thread.
        _leave(self)

    def __call__(self, function: F) -> F:
        """The function that runs `function` inside this scope at every call."""
        wrapper: Callable[..., Any]
        if inspect.isgeneratorfunction(function):

            def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                return (yield from _run_in_scope(self, function(*args, **kwargs)))

        elif inspect.isasyncgenfunction(function):
            wrapper = _iterated_in_scope(self, function)

        elif inspect.iscoroutinefunction(function):

            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await function(*args, **kwargs)

        else:

            def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self:
                    result = function(*args, **kwargs)
                # What has only begun goes on in the scope. It may come from a callable that does not look like one that
                # goes on: an object, or a lambda.
                if inspect.iscoroutine(result) or (inspect.isgenerator(result) and inspect.isawaitable(result)):
                    return _await_in_scope(self, result)
                if inspect.isgenerator(result):
                    return _run_in_scope(self, result)
                return _iterated_in_scope(self, lambda: result)() if inspect.isasyncgen(result) else result

        return functools.wraps(function)(wrapper)  # type: ignore[return-value]


def set_user_token(token: str | None) -> None:
    """Set the user token of the visitor who is served, as `aa("setUserToken", …)` does in the browser.

    Under a web integration, it holds for the rest of the request, also if a plain `def` view, a dependency or a
    background task calls it, which the framework runs in a thread. Inside an `identity_scope`, it holds until the end
    of that scope, in this task or thread. Elsewhere it holds for the rest of this context.

    If several tasks of one request run at the same time, what a task sets holds for that task alone. What it sets in a
    thread holds for the request.

    The rest of the identity (login, address, opt-out) stays. Use it for the visitor whose request this is. To act for
    another user, use `identity_scope`.

    Args:
        token: The user token. None means that the visitor has no user token any more.

    Raises:
        InvalidUserTokenError: `token` is not what Algolia accepts.

    https://github.com/algolia/search-insights.js
    """
    _change(user_token=token)


def set_authenticated_user_token(token: str | None) -> None:
    """Set who is logged in, as `aa("setAuthenticatedUserToken", …)` does in the browser.

    It holds as long as what `set_user_token` sets: under a web integration for the rest of the request. The user token
    stays. A visitor who was known by the login alone is nobody after a logout, unless the `resolve` of the provider
    knows them.

    Args:
        token: The pseudonymous id of the user: see `pseudonymous_user_token`. None means that the user has logged out.

    Raises:
        InvalidUserTokenError: `token` is not what Algolia accepts.

    https://github.com/algolia/search-insights.js
    """
    _change(authenticated_user_token=token)


def as_of_now(function: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """A function that calls `function` for the identity that is current now; `function` must not set a token."""
    return functools.partial(_await_under, _frame.get(), function)


def current_request() -> RequestFrame | None:
    """The frame of the web request that is served, also inside scopes; None outside of a request, or after its end."""
    frame = _frame.get()
    while frame is not None:
        scope = frame.scope
        if isinstance(scope, RequestFrame) and scope.is_open:
            return scope
        frame = frame.outer
    return None


def may_name_visitor() -> bool:
    """Whether the response that is being made, if any, may name its visitor; if it may, this makes it private."""
    request = current_request()
    return request is None or request.show()


def _change(**token: Any) -> None:
    frame = _frame.get() or _Frame(None, None, None, None)
    _frame.set(frame.changed(**token))


def _leave(scope: object) -> None:
    """Take the frame of this scope out of the context, if it is there, with all frames that were put there after it."""
    frame = _frame.get()
    while frame is not None and frame.scope is not scope:
        frame = frame.outer
    if frame is not None:
        _frame.set(frame.outer)


def _knows_login_only(identity: Identity) -> bool:
    return identity.user_token is None and identity.authenticated_user_token is not None


def _is_in_event_loop() -> bool:
    """Whether an event loop runs in this thread, so that the caller is one of its tasks or callbacks."""
    # If an event loop runs, its library is imported already. An import here would make this package slow to import.
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


def _iterated_in_scope(
    scope: identity_scope, function: Callable[..., AsyncGenerator[Any, Any]]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    """The async generator function that runs each step of that of `function` inside the scope."""

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator = function(*args, **kwargs)
        step, value = generator.asend, None
        while True:
            with scope:
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    return
            try:
                step, value = generator.asend, (yield item)
            except GeneratorExit:
                with scope:
                    await generator.aclose()
                raise
            except BaseException as error:
                step, value = generator.athrow, error

    return wrapper


def _begin_without_identity() -> None:
    """Have a child of `multiprocessing`, or of Celery's billiard, begin without an identity, as a thread does.

    The workers of a pool that is first used in a scope or request are forked there. They would serve everybody as that
    one user, as long as they live. A child of a plain `os.fork` goes on for the user of its parent.
    """
    # This runs in each forked child, before the library that has made the child calls what is registered with it. A
    # library that is not imported yet has not made it.
    for library in ("multiprocessing.util", "billiard.util"):
        util: Any = sys.modules.get(library)
        if util is not None:
            util.register_after_fork(identity_scope, lambda _: _frame.set(None))


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_begin_without_identity)
