"""The threads that drive the core of a sender, and what else a process does to it: fork, exit, close.

With `background=True` daemon threads, started by the first event, deliver and end when there is nothing to do for a
while. With `background=False` a thread delivers while `flush` or `close` wait for it. Where no thread can be started,
as the interpreter exits, whoever flushes delivers.
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..errors import BatchRejectedError, DeliveryError, OutboxError, RetryableDeliveryError, UserTokenError, raised
from . import process
from .delivery import MAX_BYTES, Batch, Delivery, batch_of, without_values
from .engine import Engine, MemoryQueue, Waiting
from .in_flight import Done, InFlight, Post, Take, Wait
from .model import Event
from .reporting import EventStats, Reporter
from .retries import Answer, answer_of

if TYPE_CHECKING:
    from .outbox import SQLiteOutbox

IDLE_TIME_S = 30.0  # that a thread waits for an event before it ends
DEADLINE_S = 30.0  # of one request
PAUSE_OF_FILE_S = 1.0  # after an outbox could not be read
PAUSE_OF_FLUSH_S = 0.01
GRACE_S = 0.4  # for what must not make `close` or the exit late: on_error, a delivery's close


class Worker:
    """See the module. The arguments are those of `EventSender`."""

    def __init__(
        self,
        delivery: Delivery,
        reporter: Reporter,
        outbox: SQLiteOutbox | None = None,
        *,
        max_queue_size: int,
        max_queue_bytes: int,
        batch_size: int,
        flush_interval: float,
        concurrency: int,
        max_retry_time: float,
        close_timeout: float,
        background: bool,
    ) -> None:
        if outbox is not None:
            outbox.attach()
        self.close_timeout = close_timeout
        self.closed_owner = "sender"  # what to say is closed, where an event is dropped after `close`
        self._delivery = delivery
        self._reporter = reporter
        self._outbox = outbox
        self._max_queue_size = max_queue_size
        self._max_queue_bytes = max_queue_bytes
        self._batch_size = batch_size
        self._flush_interval = flush_interval
        self._concurrency = concurrency if background else 1
        self._max_retry_time = max_retry_time
        self._background = background
        self._closing = self._ended = self._orphaned = self._late = False
        self.start_empty()
        process.register(self)
        if outbox is not None and background:
            self._start_keeper()

    def start_empty(self) -> None:
        """As new: no events, counts, threads, and locks that nobody holds."""
        queue: Waiting = MemoryQueue() if self._outbox is None else self._outbox  # type: ignore[assignment]
        self._engine = Engine(
            queue,
            max_queue_size=self._max_queue_size,
            max_queue_bytes=self._max_queue_bytes,
            batch_size=self._batch_size,
            flush_interval=self._flush_interval,
            max_retry_time=self._max_retry_time,
            notify=self._notify,
        )
        if self._closing:
            self._engine.begin_close()
            self._engine.close_full()
        self._late = False  # the interpreter exits: no more threads, send at once
        self._last_success: float | None = None
        self._last_error: str | None = None
        self._reporter.start_empty()
        self._renew_locks()

    def _renew_locks(self) -> None:
        """Locks and threads as new: after a fork, and where gevent has patched `threading` since they were made."""
        self._made_by = threading.Lock
        # Re-entrant, for a signal handler or a __del__ that runs while this thread holds it.
        self._engine.lock = self._lock = threading.Condition(threading.RLock())
        if self._outbox is not None:
            self._outbox.share_lock(self._lock)
        # A lock as a semaphore: unlike an Event's set(), release() may come in the middle of anything.
        self._wake = threading.Lock()
        self._wake.acquire()
        self._threads: dict[int, _Attempt | None] = {}  # by their idents, and what each is delivering
        self._starting = 0  # threads that are on their way
        self._parked = 0  # threads that wait for events
        self._keeper: threading.Thread | None = None
        self._flush_until = -math.inf  # until when somebody waits for a flush, with background=False
        self._inline = threading.RLock()
        self._inline_owner: int | None = None
        self._reporter.renew_locks()

    # In.

    def put(self, event: bytes) -> bool:
        """Queue an event, or drop it where there is no room."""
        try:
            if self._engine.put(event):
                return True
        except DeliveryError as error:  # of an outbox
            return self._drop_with(error, [event])
        return self._drop(1)

    def put_all(self, events: Sequence[bytes]) -> bool:
        """Queue events that belong together, or drop them all where there is no room for all."""
        try:
            if self._engine.put_all(events):
                return True
        except DeliveryError as error:
            return self._drop_with(error, events)
        return self._drop(len(events))

    def _drop(self, number: int) -> bool:
        reason = f"the {self.closed_owner} is closed" if self._closing else self._engine.why_full
        for _ in range(number):
            self._reporter.drop(reason)
        return False

    def _drop_with(self, error: DeliveryError, events: Sequence[bytes]) -> bool:
        self._last_error = str(error)
        for _ in events:
            self._reporter.drop(str(error))
        self._reporter.tell(error, [parsed(event) for event in events])
        return False

    def _notify(self) -> None:
        """See to it that somebody looks at the queue."""
        process.hook_exit_of_child()
        engine = self._engine
        engine.mark(time.monotonic())
        if self._made_by is not threading.Lock:
            self._renew_locks()
        if engine.closed:  # the event came in while we were closing
            self.abandon(DeliveryError("the sender was closed"))
        elif self._late:
            if self._inline_owner == threading.get_ident():  # a `__del__` amid delivering, which goes on with this
                return
            while len(engine.queue):
                if not process.drain_late(self):
                    self.abandon(self._exit_error())
                    return
        elif not self._background:
            engine.idle = False
        else:
            self._wake_or_start()

    def _wake_or_start(self) -> None:
        if self._outbox is not None and self._keeper is None and self._background:
            self._start_keeper()  # a forked child has none
        with self._lock:
            self._engine.idle = False
            start = not self._parked and self._has_room
            self._starting += start
        if start:
            self._start_thread()
        else:
            self._signal()

    @property
    def _has_room(self) -> bool:
        return len(self._threads) + self._starting < self._concurrency

    @property
    def _nobody_delivers(self) -> bool:
        return not self._threads and not self._starting

    def _signal(self) -> None:
        # Not contextlib: it may be gone when a __del__ sends as the interpreter ends.
        try:  # noqa: SIM105
            self._wake.release()
        except RuntimeError:
            pass  # somebody was woken already, and has not looked yet

    def _start_thread(self) -> None:
        # Without our lock: start() waits for the new thread, and that one may send, from a __del__.
        try:
            threading.Thread(target=self._work, name="algolia-usertoken-events", daemon=True).start()
        except BaseException as error:
            with self._lock:
                self._starting -= 1
                self._engine.idle = True
            if not isinstance(error, RuntimeError):  # which says that no thread can be started
                raise

    # Out: the threads.

    def _work(self) -> None:
        ident, lock = threading.get_ident(), self._lock
        with lock:
            self._starting -= 1
            self._threads[ident] = None
        try:
            idle_since = time.monotonic()
            while self._lock is lock and ident in self._threads:  # else it was replaced, or written off
                action = self._look(ident, idle_since)
                if action is None:
                    break
                if isinstance(action, Post):
                    self._attempt(action.group)
                    idle_since = time.monotonic()
                else:
                    self._park(lock, action.until)
        finally:
            with lock:
                if self._lock is lock:
                    self._threads.pop(ident, None)
                    if self._threads:
                        self._signal()  # the next one may have to end, too
                    lock.notify_all()

    def _look(self, ident: int, idle_since: float) -> Post | Wait | None:
        """What to do; None: it is time to end."""
        engine = self._engine
        while True:
            now = time.monotonic()
            with self._lock:
                if engine.closed:  # what an outbox has left, stays there
                    del self._threads[ident]
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
                        del self._threads[ident]  # before the last look at the queue
                        if not self._background or not len(engine.queue):  # without, the rest is the next flush's
                            return None
                        if not self._has_room:  # a `__del__` has sent in between, and started another thread
                            return None
                        self._threads[ident] = None
                        continue
                    self._parked += 1
                    return action
            self._take_stored(action.limit, now)
        self._wake_or_start()  # somebody else may go on with the rest
        return action

    def _may_end(self, action: Wait, now: float, idle_since: float) -> bool:
        if not self._background and now >= self._flush_until:
            return True
        if action.until < math.inf or len(self._engine.queue):
            return False
        return self._closing or self._orphaned or not self._background or now - idle_since >= IDLE_TIME_S

    def _park(self, lock: threading.Condition, until: float) -> None:
        if not self._background:
            until = min(until, self._flush_until)
        timeout = min(IDLE_TIME_S, until - time.monotonic())
        self._wake.acquire(timeout=max(0.0, timeout))
        with lock:
            if self._lock is lock:
                self._parked -= 1

    def _take_stored(self, limit: int, now: float, deadline: float = math.inf) -> None:
        try:
            self._engine.take_stored(limit, now)
        except OutboxError as error:
            self._last_error = str(error)
            self._reporter.log("failed", str(error))
            self._wake.acquire(timeout=max(0.0, min(PAUSE_OF_FILE_S, deadline - time.monotonic())))

    def _attempt(self, group: InFlight, inline: bool = False) -> None:
        """Send a group once, and see to what comes of it."""
        ident = threading.get_ident()
        timeout = DEADLINE_S
        if not self._background or inline:
            timeout = max(0.05, min(timeout, self._flush_until - time.monotonic()))
        batch: Batch | None = None
        error: BaseException | None = None
        if not inline:
            self._threads[ident] = _Attempt(group, time.monotonic() + timeout)
        try:
            if not self._engine.confirm(group):
                return
            batch = batch_of(group.events)
            if len(batch.body) >= MAX_BYTES:
                raise BatchRejectedError(
                    f"the event has {len(batch.body)} bytes, and a request must have less than {MAX_BYTES}"
                )
            self._delivery.deliver(batch, timeout)
        except OutboxError as busy:
            error = RetryableDeliveryError(str(busy))
        except BaseException as anything:
            error = anything
        finally:
            if self._threads.get(ident) is not None:
                self._threads[ident] = None
        if inline and error is not None and not isinstance(error, Exception):
            with self._lock:  # Ctrl-C, in the thread of whoever flushes
                self._engine.core.returned(group, time.monotonic())
            raise error
        answer = answer_of(error)
        if answer.error is None:
            self._last_success = time.time()
        else:
            self._last_error = said(answer.error, group.events)
            if answer.kind == "unauthorized":
                why = f"events are not accepted with this key, and wait: {self._last_error}"
                self._reporter.log("unauthorized", why)
        for done in self._engine.answered(group, answer, time.monotonic(), random.random()):
            self._conclude(done)

    def _conclude(self, done: Done) -> None:
        """Report, then count: when flush returns, on_error has been told."""
        try:
            if done.error is not None:
                self._report(done.outcome, _final(done), done.group.events)
        except BaseException as error:  # SystemExit from on_error, say: this thread is not its to end
            self._reporter.log("on_error", f"on_error raised {type(error).__name__}")
        finally:
            try:
                self._engine.settle(done)
            except OutboxError as error:
                self._last_error = str(error)
                self._reporter.log("failed", str(error))
                self._tell(error, [parsed(event) for event in done.group.events])

    def _tell(self, error: DeliveryError, events: Sequence[Event]) -> None:
        try:
            self._reporter.tell(error, events)
        except BaseException as from_there:  # SystemExit from on_error, say: this thread is not its to end
            self._reporter.log("on_error", f"on_error raised {type(from_there).__name__}")

    def _report(self, outcome: str, error: Exception, events: Sequence[bytes]) -> None:
        what = "event" if len(events) == 1 else f"{len(events)} events"
        self._reporter.log(outcome, f"{what} {outcome}: {said(error, events)}", len(events))
        if self._reporter.on_error is not None:
            self._reporter.tell(error, [parsed(event) for event in events])

    # The keeper of an outbox.

    def _start_keeper(self) -> None:
        self._keeper = threading.Thread(target=self._keep, name="algolia-usertoken-outbox", daemon=True)
        try:
            self._keeper.start()
        except RuntimeError:  # the interpreter exits
            self._keeper = None

    def _keep(self) -> None:
        """Keep the lease on our events in the outbox, and take over those of dead processes."""
        assert self._outbox is not None
        lock = self._lock
        pause = min(self._outbox.lease / 3, threading.TIMEOUT_MAX)
        while not (self._closing or self._orphaned) and self._lock is lock:
            self._keep_once(self._outbox)
            with lock:
                lock.wait_for(lambda: self._closing or self._orphaned or self._lock is not lock, pause)

    def _keep_once(self, outbox: SQLiteOutbox) -> None:
        try:
            outbox.keep()
        except OutboxError as error:
            self._last_error = str(error)
            self._reporter.log("failed", str(error))
            self._tell(error, [])
        if len(outbox) and self._engine.idle:
            self._notify()

    # Flush, close, and the end of the process.

    @property
    def stats(self) -> EventStats:
        """The counts of one moment."""
        with self._lock:
            engine, reporter = self._engine, self._reporter
            core, counts = engine.core, engine.core.counts
            waiting, adopted, _ = engine.queue.counts()
            queued = waiting + core.open
            oldest = engine.oldest()
            return EventStats(
                accepted=counts.delivered + counts.rejected + counts.failed + counts.gone + queued - adopted,
                adopted=adopted,
                delivered=counts.delivered,
                rejected=counts.rejected,
                failed=counts.failed,
                gone=counts.gone,
                queued=queued,
                refused=reporter.refused.value,
                dropped=reporter.dropped.value,
                requests=counts.requests,
                retries=counts.retries,
                oldest=None if oldest is None else max(0.0, time.monotonic() - oldest),
                last_success=self._last_success,
                last_error=self._last_error,
            )

    def flush(self, timeout: float | None = None) -> bool:
        """Deliver what is queued now; True once all of it is settled, False where that takes longer than `timeout`."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        if self._made_by is not threading.Lock:
            self._renew_locks()
        if self._outbox is not None and not self._background:
            bounded(lambda outbox=self._outbox: self._keep_once(outbox), deadline - time.monotonic())  # type: ignore[misc]
        target = self._engine.flush(time.monotonic())
        if target is None:
            return True
        if self.asked_by_on_error():
            return False
        while True:
            self._deliver_until(deadline)
            if self._nobody_delivers:  # no thread can be started
                return self.drain(deadline)
            with self._lock:
                self._lock.wait_for(
                    lambda: (
                        self._engine.is_settled(target) or self._engine.closed or not (self._threads or self._starting)
                    ),
                    None if deadline == math.inf else max(0.0, deadline - time.monotonic()),
                )
                if self._engine.is_settled(target):
                    return True
                if self._engine.closed or time.monotonic() >= deadline:
                    return False
                self._lock.wait(PAUSE_OF_FLUSH_S)  # somebody else is reporting the rest

    def _deliver_until(self, deadline: float) -> None:
        """Have a thread deliver."""
        with self._lock:
            self._flush_until = max(self._flush_until, deadline)
        if not self._background:
            self._write_off()
        self._wake_or_start()

    def _write_off(self) -> None:
        """A thread that hangs beyond its deadline is left behind, and its events are sent once more."""
        now = time.monotonic()
        with self._lock:
            late = [
                (ident, attempt)
                for ident, attempt in self._threads.items()
                if attempt is not None and now > attempt.deadline + GRACE_S
            ]
            concluded: list[Done] = []
            for ident, attempt in late:
                del self._threads[ident]
                error = RetryableDeliveryError("the delivery has not answered in time")
                answer = Answer("retry", None, error)
                concluded += self._engine.core.written_off(attempt.group, answer, now, random.random())
        for done in concluded:
            self._conclude(done)

    def close(self, timeout: float | None = None) -> bool:
        """Take no more, deliver what is queued, and end; what there is no time for has failed."""
        timeout = self.close_timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        self._closing = True
        self._engine.begin_close()
        done = self.flush(timeout)
        while done and not self._engine.close_if_empty():
            done = self.flush(max(0.0, deadline - time.monotonic()))
        if not done and self.asked_by_on_error():
            return False  # what is queued is delivered still
        if not done:
            self._engine.close_full()
            error = DeliveryError(f"the sender was closed, and {timeout:g} seconds were not enough")
            bounded(lambda: self.abandon(error), deadline + GRACE_S - time.monotonic())
        with self._lock:
            first, self._ended = not self._ended, True
            self._lock.notify_all()
        if first:
            self._signal()
            try:
                bounded(self._delivery.close, deadline + GRACE_S - time.monotonic())
            finally:  # one of somebody's own may raise
                if self._outbox is not None:
                    bounded(self._outbox.close, deadline + GRACE_S - time.monotonic())
                self._reporter.finish()
        return done

    def begin_exit(self) -> bool:
        """The process exits: hurry. False if there is nothing to deliver."""
        if self._engine.flush(time.monotonic()) is None:
            return False
        if self._background:
            self._deliver_until(time.monotonic() + self.close_timeout)
        return True

    def finish_exit(self, timeout: float) -> None:
        """Wait until what `begin_exit` found is settled, and give up what is not."""
        deadline = time.monotonic() + timeout
        if not self.flush(timeout):
            bounded(lambda: self.abandon(self._exit_error()), deadline + GRACE_S - time.monotonic())
        self._reporter.finish()

    def _exit_error(self) -> DeliveryError:
        return DeliveryError(f"not delivered when the process exited (close_timeout is {self.close_timeout:g} seconds)")

    def be_late(self) -> None:
        """From now on nobody comes back to deliver: send what is put at once."""
        self._late = True
        self._engine.notify_every = 1

    def orphan(self) -> None:
        """Nobody can send, flush or close any more: deliver what is left and end."""
        self._orphaned = True
        if self._threads or self._starting:
            self._engine.flush(time.monotonic())
            self._signal()
        elif len(self._engine.queue):
            process.keep(self)

    def asked_by_on_error(self) -> bool:
        """Whether the thread that would have to deliver is the one that asks for it."""
        ident = threading.get_ident()
        return self._reporter.telling and (ident in self._threads or ident == self._inline_owner)

    def drain(self, deadline: float) -> bool:
        """Deliver in this thread, until `deadline` (monotonic seconds); whether all is settled."""
        if not self._inline.acquire(timeout=_for_a_lock(deadline - time.monotonic())):
            return False
        outer, self._inline_owner = self._inline_owner, threading.get_ident()
        try:
            with self._lock:
                target = self._engine.core.flush(time.monotonic(), len(self._engine.queue))
                self._flush_until = max(self._flush_until, deadline)
            while not self._engine.is_settled(target):
                now = time.monotonic()
                if self._engine.closed or now >= deadline:  # what an outbox has left, stays there
                    return False
                action = self._engine.next(now)
                if isinstance(action, Post):
                    self._attempt(action.group, inline=True)
                elif isinstance(action, Take):
                    self._take_stored(action.limit, now, deadline)
                elif action.until >= deadline:  # or there is nothing left that this thread could do
                    return False
                else:
                    self._wake.acquire(timeout=_for_a_lock(action.until - now))
            return True
        finally:
            self._inline_owner = outer
            self._inline.release()

    def abandon(self, error: DeliveryError) -> None:
        """Count all that is not settled as failed; with an outbox it stays there, for the next start."""
        group = self._engine.give_up()
        if group.events:
            self._conclude(Done("failed", group, error))


class _Attempt:
    """What a thread is delivering, and until when it should have an answer."""

    __slots__ = ("deadline", "group")

    def __init__(self, group: InFlight, deadline: float) -> None:
        self.group = group
        self.deadline = deadline


def bounded(function: Callable[[], object], seconds: float) -> None:
    """Run what may take any time, and wait for it for some seconds only; what it raises is raised here."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="algolia-usertoken-bounded", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread can be started
        run()
    else:
        thread.join(None if seconds == math.inf else _for_a_lock(max(0.05, seconds)))
    for error in errors:
        raise error


def parsed(event: bytes) -> Event:
    """An event that waited, as it was given, but for what was filled in."""
    try:
        found = json.loads(event)
    except (ValueError, RecursionError):  # somebody wrote into the file of an outbox
        found = None
    return found if isinstance(found, dict) else {"unreadable": event.decode(errors="replace")}


def said(error: Exception, events: Sequence[bytes]) -> str:
    """What a log line says of an error of a delivery: of one that is not of our types, not its text."""
    if isinstance(error, UserTokenError):
        return without_values(str(error), map(parsed, events))
    return f"the delivery raised {raised(error)}"


def _final(done: Done) -> Exception:
    """The error to tell: of one that was met again and again, how often."""
    group, error = done.group, done.error
    assert error is not None
    if done.outcome != "failed" or answer_of(error).kind not in ("retry", "unauthorized"):
        return error
    final = DeliveryError(f"given up after {group.attempts} attempts: {said(error, group.events)}")
    final.__cause__ = error
    return final


def _for_a_lock(seconds: float) -> float:
    """As long as a lock can wait."""
    return min(max(0.0, seconds), threading.TIMEOUT_MAX)
