"""The threads that drive the core of a sender: they wait, take, send, and end when there is nothing to do."""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from collections.abc import Sequence

from ..errors import OutboxError, RetryableDeliveryError
from .delivery import LONGEST_REQUEST_S
from .engine import Engine
from .in_flight import Done, InFlight, Post, Wait
from .retries import Answer
from .sending import Sending
from .threads import bounded

IDLE_TIME_S = 30.0  # that a thread waits for an event before it ends
PAUSE_OF_FILE_S = 1.0  # after an outbox could not be read
GRACE_S = 0.4  # for what must not make `close` or the exit late: on_error, a delivery's close


class Crew:
    """See the module.

    Args:
        engine, sending: What the threads drive.
        batch_size: Events that a thread leaves to others, where there are that many.
        concurrency: How many threads there may be.
        background: Whether they go on while nobody waits for a flush.
    """

    def __init__(
        self, engine: Engine, sending: Sending, *, batch_size: int, concurrency: int, background: bool
    ) -> None:
        self._engine = engine
        self._sending = sending
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._background = background
        self.ends = False  # nothing more will come: a thread that has nothing to do ends at once
        self.renew()

    def renew(self) -> None:
        """Locks and threads as new: after a fork, and where gevent has patched `threading` since they were made."""
        self.made_by = threading.Lock
        # Re-entrant, for a signal handler or a __del__ that runs while this thread holds it.
        self._engine.lock = self.lock = threading.Condition(threading.RLock())
        # A lock as a semaphore: unlike an Event's set(), release() may come in the middle of anything.
        self.wake = threading.Lock()
        self.wake.acquire()
        self.threads: dict[int, _Attempt | None] = {}  # by their idents, and what each is delivering
        self.starting = 0  # threads that are on their way
        self._parked = 0  # threads that wait for events
        self._is_helped = False  # somebody delivers in a thread of his own
        self.flush_until = -math.inf  # until when somebody waits for a flush, with background=False

    def wake_or_start(self) -> None:
        """Have a thread look at the queue: one that waits, or a new one if there may be more."""
        with self.lock:
            self._engine.idle = False
            start = not self._parked and self._has_room
            self.starting += start
        if start:
            self._start_thread()
        else:
            self.signal()

    @property
    def _has_room(self) -> bool:
        return len(self.threads) + self.starting + self._is_helped < self._concurrency

    @property
    def is_empty(self) -> bool:
        """Whether no thread runs, or is about to."""
        return not self.threads and not self.starting

    def help(self) -> bool:
        """Say that the calling thread delivers, until `help_ends`; False where others do."""
        with self.lock:
            self._is_helped = self.is_empty or sys.is_finalizing()  # then they do not run any more
            return self._is_helped

    def help_ends(self) -> None:
        """Nobody looks at the queue any more, but those who are told to."""
        with self.lock:
            self._is_helped = False
            self._engine.idle = True

    def signal(self) -> None:
        """Have one of the threads that wait look at the queue."""
        # Not contextlib: it may be gone when a __del__ sends as the interpreter ends.
        try:  # noqa: SIM105
            self.wake.release()
        except RuntimeError:
            pass  # somebody was woken already, and has not looked yet

    def _start_thread(self) -> None:
        # Without our lock: start() waits for the new thread, and that one may send, from a __del__.
        try:
            threading.Thread(target=self._work, name="algolia-usertoken-events", daemon=True).start()
        except BaseException as error:
            with self.lock:
                self.starting -= 1
                self._engine.idle = True
            if not isinstance(error, RuntimeError):  # which says that no thread can be started
                raise

    # Out: the threads.

    def _work(self) -> None:
        ident, lock = threading.get_ident(), self.lock
        with lock:
            self.starting -= 1
            self.threads[ident] = None
        try:
            idle_since = time.monotonic()
            while self.lock is lock and ident in self.threads:  # else it was replaced, or written off
                action = self._look(ident, idle_since)
                if action is None:
                    break
                if isinstance(action, Post):
                    self.attempt(action.group)
                    idle_since = time.monotonic()
                else:
                    self._park(lock, action.until)
        finally:
            with lock:
                if self.lock is lock:
                    self.threads.pop(ident, None)
                    self._engine.idle = True
                    if self.threads:
                        self.signal()  # the next one may have to end, too
                    lock.notify_all()

    def _look(self, ident: int, idle_since: float) -> Post | Wait | None:
        """What to do; None: it is time to end."""
        engine = self._engine
        while True:
            now = time.monotonic()
            with self.lock:
                if engine.closed:  # what an outbox has left, stays there
                    del self.threads[ident]
                    return None
                action = engine.next(now)
                if isinstance(action, Post):
                    more = self._parked > 0 or self._has_room
                    engine.idle = more
                    if more and len(engine.queue) >= self._batch_size:
                        break
                    return action
                if isinstance(action, Wait):
                    if self._may_end(action, now, idle_since):
                        del self.threads[ident]  # before the last look at the queue
                        if not self._background or not len(engine.queue):  # without, the rest is the next flush's
                            return None
                        if not self._has_room:  # a `__del__` has sent in between, and started another thread
                            return None
                        self.threads[ident] = None
                        continue
                    self._parked += 1
                    return action
            self.take_stored(action.limit, now)
        self.wake_or_start()  # somebody else may go on with the rest
        return action

    def _may_end(self, action: Wait, now: float, idle_since: float) -> bool:
        if not self._background and now >= self.flush_until:
            return True
        if action.until < math.inf or len(self._engine.queue):
            return False
        return self.ends or not self._background or now - idle_since >= IDLE_TIME_S

    def _park(self, lock: threading.Condition, until: float) -> None:
        if not self._background:
            until = min(until, self.flush_until)
        timeout = min(IDLE_TIME_S, until - time.monotonic())
        self.wake.acquire(timeout=max(0.0, timeout))
        with lock:
            if self.lock is lock:
                self._parked -= 1

    def take_stored(self, limit: int, now: float, deadline: float = math.inf) -> None:
        """Take events out of the outbox, or wait a moment where it can't be read."""
        try:
            self._engine.take_stored(limit, now)
        except OutboxError as error:
            self._sending.fail(error, None)
            self.wake.acquire(timeout=max(0.0, min(PAUSE_OF_FILE_S, deadline - time.monotonic())))

    def attempt(self, group: InFlight, inline: bool = False) -> None:
        """Send a group once, and see to what comes of it."""
        ident = threading.get_ident()
        timeout = LONGEST_REQUEST_S
        if not self._background or inline:
            timeout = max(0.05, min(timeout, self.flush_until - time.monotonic()))
        if not inline:
            self.threads[ident] = _Attempt(group, time.monotonic() + timeout)
        try:
            answer = self._sending.attempt(group, timeout, may_be_interrupted=inline)
        finally:
            if self.threads.get(ident) is not None:
                self.threads[ident] = None
        if answer is not None:
            self._sending.answered(group, answer)

    def write_off(self, until: float) -> None:
        """A thread that hangs beyond its deadline is left behind, and its events are sent once more.

        Where they are given up, that is told, which is waited for until then, and a little longer.
        """
        now = time.monotonic()
        with self.lock:
            late = [
                (ident, attempt)
                for ident, attempt in self.threads.items()
                if attempt is not None and now > attempt.deadline + GRACE_S
            ]
            concluded: list[Done] = []
            for ident, attempt in late:
                del self.threads[ident]
                error = RetryableDeliveryError("the delivery has not answered in time")
                answer = Answer("retry", None, error)
                concluded += self._engine.core.written_off(attempt.group, answer, now, random.random())
        if concluded:
            bounded(lambda: self._conclude(concluded), until + GRACE_S - time.monotonic(), self.lock)

    def _conclude(self, concluded: Sequence[Done]) -> None:
        for done in concluded:
            self._sending.conclude(done)


class _Attempt:
    """What a thread is delivering, and until when it should have an answer."""

    __slots__ = ("deadline", "group")

    def __init__(self, group: InFlight, deadline: float) -> None:
        self.group = group
        self.deadline = deadline
