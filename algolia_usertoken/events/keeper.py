"""The thread that renews the lease of an outbox, and takes over the events of dead processes in its file."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..errors import OutboxError
from .outbox import SQLiteOutbox
from .threads import for_a_lock, start


class Keeper:
    """See the module.

    Args:
        outbox: The outbox.
        lock: A condition; notifying it makes the thread call `ends` again.
        ends: Says whether the thread is to end.
        found: Called without the lock, after each look at the file.
        fail: Called with the error if the file can't be used.
    """

    def __init__(
        self,
        outbox: SQLiteOutbox,
        lock: threading.Condition,
        ends: Callable[[], bool],
        found: Callable[[], None],
        fail: Callable[[OutboxError], None],
    ) -> None:
        self._outbox = outbox
        self._lock = lock
        self._ends = ends
        self._found = found
        self._fail = fail
        self._thread: threading.Thread | None = None
        self._has_ended = False

    def start(self) -> None:
        """Start the thread if it does not run yet; do nothing where no thread can be started."""
        if self._thread is not None:
            return
        self._thread = threading.Thread(target=self._run, name="algolia-usertoken-outbox", daemon=True)
        try:
            start(self._thread)
        except RuntimeError:  # the interpreter exits
            self._thread = None

    def end(self, seconds: float) -> None:
        """Wait at most `seconds` until the thread has stopped using the file; `ends` returns True already."""
        thread = self._thread
        if thread is not None and thread.ident not in (None, threading.get_ident()):
            with self._lock:  # released during the wait: see `bounded`
                self._lock.wait_for(lambda: self._has_ended, for_a_lock(seconds))

    def look(self) -> None:
        """Renew the lease, and adopt the events of dead processes, once."""
        try:
            self._outbox.keep()
        except OutboxError as error:
            self._fail(error)
        self._found()

    def _run(self) -> None:
        pause = min(self._outbox.lease / 3, threading.TIMEOUT_MAX)
        try:
            while not self._ends():
                self.look()
                with self._lock:
                    self._lock.wait_for(self._ends, pause)
        finally:
            with self._lock:
                self._has_ended = True
                self._lock.notify_all()
