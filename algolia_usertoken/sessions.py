"""Connections that are used only in the event loop and in the process that opened them.

A transporter of algoliasearch opens one session at its first request and keeps it in `_session`. But an aiohttp session
can be used only in the event loop that opened it, and no session can be used both in a process and in its fork.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from aiohttp import ClientSession, TCPConnector
from algoliasearch.http.transporter import Transporter
from algoliasearch.http.transporter_sync import TransporterSync
from requests import Session

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from types import CodeType


class _Opened(NamedTuple):
    session: ClientSession
    end: AsyncGenerator[None, None] | None  # it is kept here, as the loop has only a weak reference to it


class SessionPerLoop:
    """The `_session` of an async transporter, which has an aiohttp session for each event loop.

    It opens a session at the first request of a loop, with the arguments that algoliasearch uses. It closes the session
    when the loop shuts down its async generators, as with `asyncio.run` and asgiref, or when the client is closed in
    this loop. If a loop was closed without that, its sockets are closed at the next request of any loop.
    """

    def __init__(self) -> None:
        self._opened: dict[asyncio.AbstractEventLoop, _Opened] = {}
        self._transporter: weakref.ref[Transporter] | None = None
        _per_loop.add(self)

    def stand_in(self, transporter: Transporter) -> None:
        """Become the session of a transporter."""
        self._transporter = weakref.ref(transporter)
        transporter._session = self  # type: ignore[assignment]

    def request(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request in the session of the running loop: `aiohttp.ClientSession.request`."""
        return self._of_running_loop().request(*args, **kwargs)

    @property
    def closed(self) -> bool:
        """Whether no loop has a session that is open."""
        return all(opened.session.closed for opened in list(self._opened.values()))

    async def close(self) -> None:
        """Close the session of the running loop and those of loops that are closed.

        Any other loop may be searching in another thread, and keeps its session until it ends.
        """
        transporter = None if self._transporter is None else self._transporter()
        if transporter is not None and transporter.__dict__.get("_session") is None:
            self.stand_in(transporter)  # algoliasearch has removed it, but other loops go on
        self._close_those_of_closed_loops()
        opened = self._opened.pop(asyncio.get_running_loop(), None)
        if opened is not None:
            await _close(opened.session)
            if opened.end is not None:
                await opened.end.aclose()

    def _of_running_loop(self) -> ClientSession:
        loop = asyncio.get_running_loop()
        opened = self._opened.get(loop)
        if opened is None or opened.session.closed:
            session = ClientSession(connector=TCPConnector(use_dns_cache=False), trust_env=True)
            opened = self._opened[loop] = _Opened(session, _at_the_end_of(loop, self, session))
        if len(self._opened) > 1:
            self._close_those_of_closed_loops()
        return opened.session

    def _close_those_of_closed_loops(self) -> None:
        for loop in list(self._opened):
            if loop.is_closed():
                opened = self._opened.pop(loop, None)
                if opened is not None:  # pragma: no branch - another thread was quicker
                    _close_without_loop(opened.session)

    def _forget(self, loop: asyncio.AbstractEventLoop, session: ClientSession) -> None:
        opened = self._opened.get(loop)
        if opened is not None and opened.session is session:
            self._opened.pop(loop, None)

    def _leave_to_parent(self) -> None:
        _of_parents.append(self._opened)
        for opened in self._opened.values():
            connector = opened.session.connector
            opened.session.detach()  # it counts as closed, so that the child's exit does not complain
            _of_parents.append(connector)
        self._opened = {}

    def __getattr__(self, name: str) -> Any:
        # Any other attribute is that of the session of the running loop.
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            session = self._of_running_loop()
        except RuntimeError:
            raise AttributeError(f"{name}: no event loop is running, and each has a session of its own") from None
        return getattr(session, name)

    def __reduce__(self) -> tuple[type[SessionPerLoop], tuple[()]]:
        return SessionPerLoop, ()  # a copy, or another process, opens sessions of its own


def look_after(transporter: Any) -> None:
    """Have a transporter serve every event loop and survive forks, if no transporter of this package is around it."""
    leave_to_parent_in_a_fork(transporter)
    prepare = what_prepares_for_loops(transporter)
    if prepare is not None:
        prepare(transporter)


def what_prepares_for_loops(transporter: Any) -> Callable[[Any], None] | None:
    """The function to call with a transporter before each request, so that it serves the running event loop."""
    if not isinstance(transporter, Transporter):
        return None
    return drop_session_of_closed_loop if _opens_its_own(type(transporter)) else keep_session_per_loop


def keep_session_per_loop(transporter: Transporter) -> None:
    """Have a transporter that has no session use one for each event loop."""
    if transporter.__dict__.get("_session") is None:
        # All threads use the same SessionPerLoop, even if two of them arrive here at once.
        sessions: SessionPerLoop = transporter.__dict__.setdefault("_session_per_loop", SessionPerLoop())
        sessions.stand_in(transporter)


def drop_session_of_closed_loop(transporter: Transporter) -> None:
    """Have a transporter that opens its sessions itself open a new one if the loop of the last one is closed."""
    session = transporter.__dict__.get("_session")
    if isinstance(session, ClientSession) and session._loop.is_closed():
        transporter._session = None
        _close_without_loop(session)


async def close_sessions(transporter: Any) -> None:
    """Close a transporter; other event loops keep their sessions."""
    attributes = getattr(transporter, "__dict__", {})
    sessions = attributes.get("_session_per_loop")
    upstreams = type(transporter).close is Transporter.close and "close" not in attributes
    # algoliasearch's `close` removes the session first, and then another thread may not find it.
    if sessions is None or not upstreams or attributes.get("_session") is not sessions:
        await transporter.close()
    if sessions is not None:
        await sessions.close()


def _opens_its_own(transporter_class: type) -> bool:
    """Whether a subclass of `Transporter` opens its sessions itself, for example with a CA of its own."""
    ancestors = transporter_class.__mro__
    for ancestor in ancestors[: ancestors.index(Transporter)]:
        for value in vars(ancestor).values():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            if any("_session" in code.co_names for code in _codes(getattr(function, "__code__", None))):
                return True
    return False


def _codes(code: CodeType | None) -> Iterator[CodeType]:
    """The code of a function and of the functions in it."""
    if code is not None:
        yield code
        for constant in code.co_consts:
            if hasattr(constant, "co_names"):
                yield from _codes(constant)


def _at_the_end_of(
    loop: asyncio.AbstractEventLoop, sessions: SessionPerLoop, session: ClientSession
) -> AsyncGenerator[None, None] | None:
    """An async generator that closes the session when the loop shuts down its async generators."""
    if getattr(loop, "_asyncgens_shutdown_called", False):
        return None  # too late; asyncio would warn
    end = _end(os.getpid(), weakref.ref(sessions), loop, session)
    with suppress(StopIteration):
        end.__anext__().send(None)  # it runs until its `yield`, as it awaits nothing before that
    return end


async def _end(
    pid: int, sessions: weakref.ref[SessionPerLoop], loop: asyncio.AbstractEventLoop, session: ClientSession
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        if os.getpid() == pid:  # if a forked child closed it, the parent would lose it
            owner = sessions()
            if owner is not None:
                owner._forget(loop, session)
            await _close(session)


async def _close(session: ClientSession) -> None:
    """Close a session in its own event loop, and wait until its sockets are closed."""
    transports = _transports(session)
    await session.close()
    for transport in transports:
        transport.abort()  # with TLS it may wait for its peer, longer than the loop exists
    for _ in range(2):  # the loop closes the sockets in its next round, and with TLS in the one after that
        await asyncio.sleep(0)


def _close_without_loop(session: ClientSession) -> None:
    """Close a session whose event loop is closed, and its sockets, which aiohttp leaves to the garbage collector."""
    transports = _transports(session)
    closing = session.close()
    with suppress(StopIteration):
        closing.send(None)  # the loop is closed, so there is nothing to wait for
    closing.close()
    for transport in transports:
        # With TLS, the socket has a transport of its own, which has to be aborted first.
        of_socket = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None) or transport
        for part in (of_socket, transport):
            with suppress(RuntimeError):  # "Event loop is closed": only the socket is still to be closed
                part.abort()
        # asyncio's transports have this method. Those of uvloop are closed with their loop.
        if hasattr(of_socket, "_call_connection_lost"):  # pragma: no branch
            with suppress(RuntimeError):
                of_socket._call_connection_lost(None)


def _transports(session: ClientSession) -> list[Any]:
    """asyncio's transports of the connections, idle and busy."""
    connector: Any = session.connector
    if connector is None:
        return []
    idle = [protocol for connections in connector._conns.values() for protocol, *_ in connections]
    transports = [getattr(protocol, "transport", None) for protocol in (*idle, *connector._acquired)]
    return [transport for transport in transports if transport is not None]


# -- Forks ---------------------------------------------------------------------------------------------------------

_per_loop: weakref.WeakSet[SessionPerLoop] = weakref.WeakSet()
# The transporters inside those of this package, by their id, as not every subclass has a hash.
_sending: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
# The parent's sessions and pools. A child keeps them open: a thread that it does not have may hold their locks.
_of_parents: list[Any] = []


def leave_to_parent_in_a_fork(transporter: Any) -> None:
    """Have a forked process open connections of its own for this transporter, if it is one of algoliasearch."""
    if isinstance(transporter, Transporter | TransporterSync):
        _sending[id(transporter)] = transporter


def _leave_connections_to_parent() -> None:
    for sessions in list(_per_loop):
        sessions._leave_to_parent()
    for transporter in list(_sending.values()):
        session = transporter.__dict__.get("_session")
        if session is None or isinstance(session, SessionPerLoop) or _left_pools(session):
            continue
        _of_parents.append(session)
        transporter._session = None  # a request opens another


def _left_pools(session: Any) -> bool:
    """Give a `requests` session new connection pools. It stays, as the application may have set it up itself."""
    if not isinstance(session, Session):
        return False
    try:
        adapters: list[Any] = list(session.adapters.values())
        for adapter in adapters:
            if hasattr(adapter, "init_poolmanager"):
                _of_parents.append((adapter.poolmanager, adapter.proxy_manager))
                adapter.init_poolmanager(adapter._pool_connections, adapter._pool_maxsize, adapter._pool_block)
                adapter.proxy_manager = {}
    except Exception:  # an adapter of the application's own may work in another way
        return False
    return True


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_leave_connections_to_parent)
