"""The threads that drive the core of a sender: they wait, take events, send them, and end if there are none."""

from __future__ import annotations

import math
import random
import sys
import threading
import time
from functools import partial

from ..errors import OutboxError, RetryableDeliveryError
from .delivery import LONGEST_REQUEST_S
from .engine import Engine
from .in_flight import Done, InFlight, Post, Wait
from .retries import Answer
from .sending import Sending
from .threads import bounded, start

IDLE_TIME_S = 30.0  # how long a thread waits for an event before it ends
PAUSE_OF_FILE_S = 1.0  # how long to wait after an outbox could not be read
GRACE_S = 0.4  # how long beyond its deadline `close` waits until the delivery and the outbox are closed
ON_ERROR_S = 0.3  # how long beyond their deadline a flush, `close` and the exit wait for calls of on_error


class Crew:
    """All threads of a sender that deliver; see the module.

    Args:
        engine, sending: What the threads drive.
        batch_size: If at least that many events are left in the queue, a thread has another thread look at it, too.
        concurrency: How many threads there may be.
        background: Whether the threads go on while no caller waits for a flush.
    """

    def __init__(
        self, engine: Engine, sending: Sending, *, batch_size: int, concurrency: int, background: bool
    ) -> None:
        self._engine = engine
        self._sending = sending
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._background = background
        self.ends = False  # True: no more events will come, and a thread that has nothing to do ends at once
        self.renew()

    def renew(self) -> None:
        """Make new locks and forget all threads: after a fork, or where `is_outdated` says that it has to be done."""
        self._made_by = threading.Lock
        self._made_at_the_end = sys.is_finalizing()
        # Re-entrant, for a signal handler or a __del__ that runs while this thread holds it.
        self._engine.lock = self.lock = threading.Condition(threading.RLock())
        # A lock, used as a semaphore: unlike an Event's set(), release() may be called in the middle of any code.
        self.wake = threading.Lock()
        self.wake.acquire()
        self.threads: dict[int, _Attempt | None] = {}  # what each thread is delivering, by its ident
        # Threads that are about to run: who is about to start each, by its ident; None: it was started.
        self._starting: dict[object, int | None] = {}
        self.starts_none = False  # no thread could be started the last time
        self._parked = 0  # threads that wait for events
        self._is_helped = False  # whether a caller delivers in its own thread
        self.flush_until = -math.inf  # with background=False: until when a caller waits for a flush

    @property
    def is_outdated(self) -> bool:
        """Whether the locks and threads are of no use any more.

        That is so if gevent has patched `threading` since they were made. It is also so once the interpreter
        finalizes: it stops each daemon thread wherever that thread is, and a stopped thread never releases its locks.
        The only thread that still runs must not wait for them.
        """
        return self._made_by is not threading.Lock or (sys.is_finalizing() and not self._made_at_the_end)

    def wake_or_start(self) -> None:
        """Have a thread look at the queue: a waiting one, or a new one if `concurrency` allows it."""
        token = object()
        with self.lock:
            self._engine.idle = False
            needs_one = not self._parked and self._has_room
            if needs_one:
                self._starting[token] = threading.get_ident()
        if needs_one:
            self._start_thread(token)
        else:
            self.signal()

    @property
    def _has_room(self) -> bool:
        return len(self.threads) + self._starts + self._is_helped < self._concurrency

    @property
    def is_empty(self) -> bool:
        """Whether no thread runs or is about to run."""
        return not self.threads and not self._starts

    @property
    def _starts(self) -> int:
        """How many threads are about to run.

        A thread that the caller itself is about to start does not count: the caller is a signal handler or a `__del__`
        then, which has interrupted the start, and would wait in vain for that thread.
        """
        starters = list(self._starting.values())
        if not starters:
            return 0
        ident = threading.get_ident()
        return sum(starter != ident for starter in starters)

    def help(self) -> bool:
        """Register the calling thread as delivering, until `help_ends`; False where other threads deliver."""
        with self.lock:
            self._is_helped = self.is_empty or sys.is_finalizing()  # while it finalizes, other threads do not run
            return self._is_helped

    def help_ends(self) -> None:
        """The calling thread has stopped delivering: the next event has to notify a thread."""
        with self.lock:
            self._is_helped = False
            self._engine.idle = True

    def signal(self) -> None:
        """Have one of the waiting threads look at the queue."""
        # Not contextlib: it may be gone when a __del__ sends as the interpreter ends.
        try:  # noqa: SIM105
            self.wake.release()
        except RuntimeError:
            pass  # a thread was woken already, and has not looked yet

    def _start_thread(self, token: object) -> None:
        # Our lock is not held here: start() waits for the new thread, which may send an event from a __del__.
        try:
            run = partial(self._work, token)
            start(threading.Thread(target=run, name="algolia-usertoken-events", daemon=True))
            with self.lock:
                self.starts_none = False
                if token in self._starting:
                    self._starting[token] = None
        except BaseException as error:
            with self.lock:
                self._starting.pop(token, None)
                self.starts_none = self._engine.idle = True
            if not isinstance(error, RuntimeError):  # a RuntimeError means that no thread can be started
                raise

    # The threads, which deliver events.

    def _work(self, token: object) -> None:
        ident, lock = threading.get_ident(), self.lock
        with lock:
            if token not in self._starting:  # the locks were replaced since
                return
            del self._starting[token]
            delivering = len(self.threads) + self._is_helped
            if delivering >= self._concurrency:  # whoever interrupted the start has started another thread
                return
            self.threads[ident] = None
        try:
            idle_since = time.monotonic()
            while self.lock is lock and ident in self.threads:  # else the lock was replaced, or this thread written off
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
                        self.signal()  # another thread may have to end, too
                    lock.notify_all()

    def _look(self, ident: int, idle_since: float) -> Post | Wait | None:
        """What the thread is to do; None: it is to end."""
        engine = self._engine
        while True:
            now = time.monotonic()
            with self.lock:
                if engine.is_over:  # events that are left in an outbox stay there
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
                        if not self._background or not len(engine.queue):  # without it, the next flush delivers them
                            return None
                        if not self._has_room:  # meanwhile a `__del__` sent an event, which started a thread
                            return None
                        self.threads[ident] = None
                        continue
                    self._parked += 1
                    return action
            self.take_stored(action.limit, now)
        self.wake_or_start()  # another thread may go on with the rest
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
        """Send a group once, and handle the answer."""
        ident = threading.get_ident()
        timeout = LONGEST_REQUEST_S
        if not self._background or inline:
            timeout = max(0.05, min(timeout, self.flush_until - time.monotonic()))
        attempt = _Attempt(group, timeout)
        if not inline:
            self.threads[ident] = attempt
        try:
            answer = self._sending.attempt(group, timeout, may_be_interrupted=inline, begin=attempt.begin)
        finally:
            if self.threads.get(ident) is not None:
                self.threads[ident] = None
        if answer is not None:
            self._sending.answered(group, answer)

    def write_off(self, until: float) -> None:
        """Leave behind each thread that hangs beyond its deadline, and have its events sent once more.

        Events that are given up instead are reported; this waits for the report until `until`, and a little longer.
        """
        with self.lock:
            is_any_late = bool(self._late(time.monotonic()))
        if is_any_late:
            # This runs in a thread that no signal handler interrupts: a handler that closes waits for these reports.
            bounded(self._write_off, until + ON_ERROR_S - time.monotonic(), self.lock)

    def _late(self, now: float) -> list[tuple[int, _Attempt]]:
        """The threads that hang, by their ident; called with the lock."""
        return [
            (ident, attempt)
            for ident, attempt in self.threads.items()
            if attempt is not None and now > attempt.deadline + GRACE_S
        ]

    def _write_off(self) -> None:
        concluded: list[Done] = []
        with self.lock:
            now = time.monotonic()
            for ident, attempt in self._late(now):
                del self.threads[ident]
                error = RetryableDeliveryError("the delivery has not answered in time")
                answer = Answer("retry", None, error)
                concluded += self._engine.core.written_off(attempt.group, answer, now, random.random())
        for done in concluded:
            self._sending.conclude(done)


class _Attempt:
    """What a thread is delivering, and until when it should have an answer."""

    __slots__ = ("_timeout", "deadline", "group")

    def __init__(self, group: InFlight, timeout: float) -> None:
        self.group = group
        self.deadline = math.inf
        self._timeout = timeout

    def begin(self) -> None:
        """Start the time limit now, right before the request: the process may have been stopped until this moment."""
        self.deadline = time.monotonic() + self._timeout
