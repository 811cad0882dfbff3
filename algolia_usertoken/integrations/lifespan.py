"""The lifespan of an ASGI application: queued events are delivered when the server stops.

Some servers end a process in such a way that no exit hook of Python runs: uvicorn raises the signal that stopped it
once more. So the last chance is the shutdown that these servers announce to the application.

https://asgi.readthedocs.io/en/latest/specs/lifespan.html
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_DELIVERS = "algolia_usertoken.delivers"  # it is in the scope if a middleware around this one delivers
_SENDER = "algolia_usertoken.events.sender"
_STARTUP, _SHUTDOWN = "lifespan.startup", "lifespan.shutdown"
_END_OF_SHUTDOWN = frozenset({f"{_SHUTDOWN}.complete", f"{_SHUTDOWN}.failed"})

logger = logging.getLogger("algolia_usertoken.integrations")


async def run_lifespan(app: Callable[..., Awaitable[None]], scope: Any, receive: Receive, send: Send) -> None:
    """Run the lifespan of an application, and deliver queued events before the server hears that it is done.

    If the application has no lifespan (it returns, or raises an error before it took a message) or returns before the
    shutdown, this function answers the server in its place, as the server might announce no shutdown otherwise. If the
    application raises an error after it took a message, the server gets that error.
    """
    if _DELIVERS in scope:
        await app(scope, receive, send)
        return
    scope[_DELIVERS] = True
    lifespan = _Lifespan(receive, send)
    try:
        await app(scope, lifespan.receive, lifespan.send)
    except Exception as error:
        if lifespan.last is not None:
            if lifespan.last == _SHUTDOWN:
                await _deliver()
            raise
        # The text of the error is the application's, and is not logged.
        logger.info("the application has no lifespan: it raised %s before it took a message", type(error).__name__)
    await lifespan.go_on()


class _Lifespan:
    """The two functions that the application gets, and what has passed through them."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.last: str | None = None  # the type of the last message, of either side
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        message = await self._receive()
        self.last = message["type"]
        return message

    async def send(self, message: Message) -> None:
        self.last = message["type"]
        if self.last in _END_OF_SHUTDOWN:
            await _deliver()
        await self._send(message)

    async def go_on(self) -> None:
        """Answer for an application that has returned."""
        while True:
            if self.last in (_STARTUP, _SHUTDOWN):
                await self.send({"type": f"{self.last}.complete"})
            elif self.last in (None, f"{_STARTUP}.complete"):
                await self.receive()
            else:
                return


async def _deliver() -> None:
    """Deliver the queued events of all senders of this process, in a thread; the event loop goes on meanwhile."""
    if _SENDER not in sys.modules:
        return  # there are no senders
    from ..events.process import deliver_all

    done, set_done = _event_of_the_loop()

    def run() -> None:
        try:
            deliver_all()
        finally:  # so that the server can stop in any case
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                set_done()

    # It is not a thread of an executor, as the application may use all of those.
    thread = threading.Thread(target=run, name="algolia-usertoken-shutdown", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread can start any more
        run()
    await done.wait()


def _event_of_the_loop() -> tuple[Any, Callable[[], object]]:
    """An event of asyncio or trio, whichever runs, and a function with which another thread sets it."""
    trio: Any = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        event = trio.Event()
        return event, partial(trio.lowlevel.current_trio_token().run_sync_soon, event.set)
    import asyncio

    event = asyncio.Event()
    return event, partial(asyncio.get_running_loop().call_soon_threadsafe, event.set)
