"""What the sender counts and says: statistics, log lines that do not flood, and `on_error`."""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from ..errors import traced
from .rules import Event

logger = logging.getLogger("algolia_usertoken.events")

LOG_INTERVAL = 30.0  # seconds between two lines about the same
MAX_REASONS = 100  # why an event was refused; what comes after them shares a line

# What differs from one refusal of a kind to the next: the name of the event, numbers.
_PARTICULARS = re.compile(r"'[^']*'|\d+")

# For tests: called with why an event was refused or dropped, by any sender of the process.
watching: list[Callable[[str], None]] = []

OnError: TypeAlias = Callable[[Exception, Sequence[Event]], None]


class EventStats(NamedTuple):
    """What has become of the events so far: accepted + adopted = delivered + rejected + failed + gone + queued, always.

    The counts never fall.

    Attributes:
        accepted: Events that `send` or one of the twelve took.
        adopted: Events that were taken over from a dead process, out of the outbox.
        delivered: Events that Algolia has.
        rejected: Events that Algolia refused.
        failed: Events that were given up: no connection for too long, or no time left at `close`.
        gone: Events that another process has taken over, out of the outbox.
        queued: Events that wait or are on their way.
        refused: Events that were not accepted, being invalid, without a JSON form, or nobody's.
        dropped: Events that were not accepted, the queue being full or closed, or the outbox busy.
        requests: Requests made.
        retries: Requests that repeated an earlier one.
        oldest: Seconds that the oldest of the queued events has waited; None: none is queued.
        last_success: When events were last delivered, in seconds since the epoch; None: not yet.
        last_error: What the last attempt that failed said; None: none has.
    """

    accepted: int = 0
    delivered: int = 0
    rejected: int = 0
    failed: int = 0
    queued: int = 0
    refused: int = 0
    dropped: int = 0
    requests: int = 0
    retries: int = 0
    adopted: int = 0
    gone: int = 0
    oldest: float | None = None
    last_success: float | None = None
    last_error: str | None = None


class Counter:
    """Counts exactly without a lock on the way in, so also from a `__del__` that runs in the middle of anything."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._readings = 0
        self.renew_lock()

    def renew_lock(self) -> None:
        self._lock = threading.RLock()

    def increment(self) -> None:
        next(self._numbers)

    @property
    def value(self) -> int:
        with self._lock:
            value = next(self._numbers) - self._readings
            self._readings += 1
            return value


class Reporter:
    """Counts what is refused and dropped, calls `on_error`, and logs, each kind at most twice a minute.

    What is refused is of one kind where the field and the reason are the same.
    """

    def __init__(self, on_error: OnError | None) -> None:
        self.on_error = on_error
        self.start_empty()

    def start_empty(self) -> None:
        """As new: nothing counted, nothing said."""
        self.refused = Counter()
        self.dropped = Counter()
        self._log_lines: dict[str, _LogLine] = {
            kind: _LogLine()
            for kind in ("refused", "dropped", "rejected", "failed", "unauthorized", "on_error", "unattributed")
        }
        self._reasons = 0
        self._said: set[str] = set()
        self.renew_locks()

    def renew_locks(self) -> None:
        """Where gevent has patched `threading` since they were made."""
        self.refused.renew_lock()
        self.dropped.renew_lock()
        self._thread = threading.local()

    def refuse(self, error: Exception, events: Sequence[Event]) -> None:
        """Events that were invalid or nobody's were not accepted."""
        for _ in events or (None,):
            self.refused.increment()
            _tell_watchers(f"event refused: {error}")
        self.log(self._kind_of_refusal(error), f"event refused: {error}", max(1, len(events)))
        if not self.telling:  # an on_error that always sends what is refused would never end
            self.tell(error, events)

    def _kind_of_refusal(self, error: Exception) -> str:
        kind = f"refused ({_PARTICULARS.sub('…', str(error))})"
        if kind not in self._log_lines:
            if self._reasons >= MAX_REASONS:
                return "refused"
            self._reasons += 1
            self._log_lines[kind] = _LogLine()
        return kind

    def drop(self, reason: str) -> None:
        """An event was not accepted, the queue being full or closed."""
        self.dropped.increment()
        _tell_watchers(f"event dropped: {reason}")
        self.log("dropped", f"event dropped: {reason}")

    @property
    def telling(self) -> bool:
        """Whether this thread is inside `on_error`."""
        return getattr(self._thread, "waiting", None) is not None

    def tell(self, error: Exception, events: Sequence[Event]) -> None:
        """Call `on_error`; nothing that it raises comes back, and what it causes to be told waits until it is done."""
        if self.on_error is None:
            return
        if self.telling:
            self._thread.waiting.append((error, events))
            return
        waiting = self._thread.waiting = deque([(error, events)])
        try:
            while waiting:
                try:
                    self.on_error(*waiting.popleft())
                except Exception as raised:  # its text is left out: it may quote the events
                    self.log("on_error", f"on_error raised {traced(raised)}")
        finally:
            self._thread.waiting = None

    def log(self, kind: str, message: str, count: int = 1) -> None:
        """Log `message`, or have the next line of its kind say how many there were, if there was one a moment ago."""
        unsaid = self._log_lines[kind].due(count)
        if unsaid is not None:
            more = f" (and {unsaid - count} more since the last line)" if unsaid > count else ""
            with contextlib.suppress(Exception):  # a handler's fault is not the sender's
                logger.warning("%s%s", message, more)

    def log_once(self, message: str) -> None:
        """Log `message`, the first time only."""
        if message not in self._said:
            self._said.add(message)
            with contextlib.suppress(Exception):
                logger.warning("%s", message)

    def finish(self) -> None:
        """Say what has been left unsaid."""
        for kind, line in list(self._log_lines.items()):
            unsaid = line.due(0, at_once=True)
            if unsaid:
                with contextlib.suppress(Exception):
                    logger.warning("%s: %d more since the last line", kind, unsaid)


def _tell_watchers(why: str) -> None:
    for told in list(watching):
        told(why)


class _LogLine:
    def __init__(self) -> None:
        self._next = 0.0
        self._unsaid = 0

    def due(self, count: int, at_once: bool = False) -> int | None:
        """How many are to be said now, or None for later. Two threads at once may miscount a line, not a statistic."""
        self._unsaid += count
        now = time.monotonic()
        if now < self._next and not at_once:
            return None
        if self._unsaid:
            self._next = now + LOG_INTERVAL
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid
