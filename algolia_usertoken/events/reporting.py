"""What the sender counts and reports: statistics, log lines whose number is bounded, and `on_error`."""

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

LOG_INTERVAL = 30.0  # seconds between two lines of one kind
MOST_OF_ITS_OWN = 100  # errors that on_error may cause itself and be called with; any others are only logged
MAX_REASONS = 100  # kinds of refusal that have log lines of their own; all others share one

# The parts of a message that differ between two refusals of one kind: the names of events, and numbers.
_PARTICULARS = re.compile(r"'[^']*'|\d+")

# Functions that every sender of the process calls with the reason for a refused or dropped event. Tests add theirs.
watchers: list[Callable[[str], None]] = []

OnError: TypeAlias = Callable[[Exception, Sequence[Event]], None]


class EventStats(NamedTuple):
    """What has become of the events so far.

    accepted + adopted = delivered + rejected + failed + gone + queued, at every moment. All these counts except
    `queued` can only grow.

    Attributes:
        accepted: Events that `send` or an event method accepted.
        adopted: Events of a process that has ended, which this one took over from the outbox.
        delivered: Events that Algolia accepted.
        rejected: Events that Algolia refused.
        failed: Events that were given up: there was no connection for too long, or no time left at `close`.
        gone: Events that another process took over from the outbox.
        queued: Events that wait or are on their way.
        refused: Events that were not accepted, as they are invalid, or no user is known for them.
        dropped: Events that were not accepted, as the queue is full or closed, or the outbox can't store them.
        requests: Requests that were made.
        retries: Requests that repeated an earlier one.
        oldest: For how many seconds the oldest of the queued events has waited; None: no event is queued.
        last_success: When events were last delivered, in seconds since the epoch; None: none were yet.
        last_error: The text of the last failed attempt; None: no attempt has failed.
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
    """Counts exactly, and takes no lock to count, so that a `__del__` can count wherever it interrupts other code."""

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
    """Counts the events that are refused and dropped, calls `on_error`, and logs each kind at most twice a minute.

    Two refusals are of one kind if the field and the reason are the same.
    """

    def __init__(self, on_error: OnError | None) -> None:
        self.on_error = on_error
        self.start_empty()

    def start_empty(self) -> None:
        """Forget what was counted and logged."""
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
        """Make new locks, as gevent may have patched `threading` since the old ones were made."""
        self.refused.renew_lock()
        self.dropped.renew_lock()
        self._thread = threading.local()

    def refuse(self, error: Exception, events: Sequence[Event]) -> None:
        """Count, log and report events that were not accepted, as they are invalid or no user is known for them."""
        for _ in events or (None,):
            self.refused.increment()
            _call_watchers(f"event refused: {error}")
        self.log(self._kind_of_refusal(error), f"event refused: {error}", max(1, len(events)))
        if not self.is_in_on_error:  # else an on_error that sends a refused event would call itself for ever
            self.call_on_error(error, events)

    def _kind_of_refusal(self, error: Exception) -> str:
        kind = f"refused ({_PARTICULARS.sub('…', str(error))})"
        if kind not in self._log_lines:
            if self._reasons >= MAX_REASONS:
                return "refused"
            self._reasons += 1
            self._log_lines[kind] = _LogLine()
        return kind

    def drop(self, reason: str) -> None:
        """Count and log an event that was not accepted, as the queue is full or closed."""
        self.dropped.increment()
        _call_watchers(f"event dropped: {reason}")
        self.log("dropped", f"event dropped: {reason}")

    @property
    def is_in_on_error(self) -> bool:
        """Whether this thread is inside `on_error`."""
        return getattr(self._thread, "waiting", None) is not None

    def call_on_error(self, error: Exception, events: Sequence[Event]) -> None:
        """Call `on_error`, and log what it raises. Errors that it causes itself are passed to it after that call.

        If there are many of these, it gets the first ones only. An `on_error` that sends its events again would be
        called for ever if they can't be delivered any more, as the process exits.
        """
        if self.on_error is None:
            return
        if self.is_in_on_error:
            self._thread.of_its_own += 1
            if self._thread.of_its_own <= MOST_OF_ITS_OWN:
                self._thread.waiting.append((error, events))
            return
        waiting = self._thread.waiting = deque([(error, events)])
        self._thread.of_its_own = 0
        try:
            while waiting:
                try:
                    self.on_error(*waiting.popleft())
                except Exception as raised:  # its text is left out: it may quote the events
                    self.log("on_error", f"on_error raised {traced(raised)}")
        finally:
            self._thread.waiting = None

    def log(self, kind: str, message: str, count: int = 1) -> None:
        """Log `message`; if a line of its kind was logged a moment ago, the next line says how many there were."""
        unsaid = self._log_lines[kind].due(count)
        if unsaid is not None:
            more = f" (and {unsaid - count} more since the last line)" if unsaid > count else ""
            with contextlib.suppress(Exception):  # an error in a logging handler must not disturb the sender
                logger.warning("%s%s", message, more)

    def log_once(self, message: str) -> None:
        """Log `message`, the first time only."""
        if message not in self._said:
            self._said.add(message)
            with contextlib.suppress(Exception):
                logger.warning("%s", message)

    def finish(self) -> None:
        """Log how many events of each kind there were since the last line of that kind."""
        for kind, line in list(self._log_lines.items()):
            unsaid = line.due(0, at_once=True)
            if unsaid:
                with contextlib.suppress(Exception):
                    logger.warning("%s: %d more since the last line", kind, unsaid)


def _call_watchers(why: str) -> None:
    for watcher in list(watchers):
        watcher(why)


class _LogLine:
    def __init__(self) -> None:
        self._next = 0.0
        self._unsaid = 0

    def due(self, count: int, at_once: bool = False) -> int | None:
        """How many events to report now; None: later. Two threads at once may miscount a line, but no statistic."""
        self._unsaid += count
        now = time.monotonic()
        if now < self._next and not at_once:
            return None
        if self._unsaid:
            self._next = now + LOG_INTERVAL
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid
