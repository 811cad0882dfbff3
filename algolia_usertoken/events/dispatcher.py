"""The queue behind an EventSender, and the threads that deliver what is in it.

How it keeps its promises:

- `put` takes no lock: a bound check, an append, and now and then a wake-up. It may run in a `__del__`, in the middle of
  anything, this module included.
- Events on their way are counted before they leave the queue, under one lock, so queued, delivered, rejected and failed
  add up to what was accepted at every moment; `accepted` is their sum, and is not counted itself.
- Events are numbered by their place in the queue, so `flush` knows which came before it.
- A fork leaves the child an empty queue, new locks and no threads.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import (
    BatchRejectedError,
    DeliveryError,
    RetryableDeliveryError,
    UnauthorizedDeliveryError,
    UserTokenError,
    raised,
)
from . import lifecycle
from .delivery import MAX_BYTES, Batch, Delivery, without_values
from .reporting import EventStats, Reporter
from .rules import Event

if TYPE_CHECKING:
    from .outbox import SQLiteOutbox

IDLE_TIME = 30.0  # seconds that a thread waits for an event before it ends
BACKOFF = (0.5, 30.0)  # seconds: the first and the longest wait before another attempt, of which a random part is taken
UNAUTHORIZED_BACKOFF = (2.0, 60.0)
MAX_RETRY_AFTER = 60.0  # seconds that a receiver may ask us to wait


class Queue(Protocol):
    """Where accepted events wait. `append` and `len` are called without a lock, the others under the dispatcher's."""

    def __len__(self) -> int: ...
    def append(self, event: bytes, /) -> None: ...
    def take(self, limit: int) -> list[bytes]: ...
    def put_back(self, events: Sequence[bytes]) -> None: ...
    def settle(self, events: Sequence[bytes]) -> None: ...
    def gone(self) -> int: ...  # events that left it otherwise, as `take` found out


class MemoryQueue(deque[bytes]):
    """Events that wait in memory."""

    def take(self, limit: int) -> list[bytes]:
        return [self.popleft() for _ in range(min(limit, len(self)))]

    def put_back(self, events: Sequence[bytes]) -> None:
        self.extendleft(reversed(events))

    def settle(self, events: Sequence[bytes]) -> None:
        pass

    def gone(self) -> int:
        return 0


class _Parcel:
    """Events that left the queue together, in the parts that are not settled yet; the last part is the next."""

    __slots__ = ("abandoned", "number", "parts", "settling")

    def __init__(self, number: int, events: list[bytes]) -> None:
        self.number = number  # of its first event
        self.parts = [events]
        self.settling = 0  # events whose outcome is being reported
        self.abandoned = False

    @property
    def events(self) -> list[bytes]:
        return [event for part in reversed(self.parts) for event in part]


class _OutOfTime(Exception):
    pass


class Dispatcher:
    def __init__(
        self,
        delivery: Delivery,
        reporter: Reporter,
        outbox: SQLiteOutbox | None = None,
        *,
        max_queue_size: int,
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
        self._capacity = max_queue_size if outbox is None else sys.maxsize  # -1 once closing; an outbox has a bound
        self._batch_size = batch_size
        self._flush_interval = flush_interval
        self._concurrency = concurrency
        self._max_retry_time = max_retry_time
        self._background = background
        self._closing = self._closed = self._ended = self._orphaned = False
        self.start_empty()
        lifecycle.register(self)
        if outbox is not None and background:
            self._start_keeper()

    def start_empty(self) -> None:
        """As new: no events, counts, threads, and locks that nobody holds."""
        self._queue: Queue = MemoryQueue() if self._outbox is None else self._outbox
        # Re-entrant, for a signal handler or a __del__ that runs while this thread holds it.
        self._lock = threading.Condition(threading.RLock())
        # A lock as a semaphore: unlike an Event's set(), release() may come in the middle of anything.
        self._wake = threading.Lock()
        self._wake.acquire()
        self._threads: set[int] = set()
        self._starting = 0  # threads that are on their way
        self._keeper: threading.Thread | None = None
        self._parked = 0  # threads that wait for events
        self._idle = True  # whether the next event has to wake or start one
        self._notify_every = self._batch_size  # events
        self._late = False  # the interpreter exits: no more threads, send at once
        self._reporter.start_empty()
        self._taken = 0  # events that have left the queue
        self._flush_to = 0  # number of the first event that may wait
        self._parcels: dict[int, _Parcel] = {}
        self._inline = threading.RLock()
        self._inline_owner: int | None = None
        self._delivered = self._rejected = self._failed = self._requests = self._retries = 0

    # In: called from anywhere, without a lock.

    def put(self, event: bytes) -> bool:
        """Queue an event, or drop it where there is no room."""
        if len(self._queue) >= self._capacity:
            self._drop()
            return False
        return self._append(event)

    def put_all(self, events: Sequence[bytes]) -> bool:
        """Queue events that belong together, or drop them all where there is no room for all."""
        if len(self._queue) + len(events) > self._capacity:
            for _ in events:
                self._drop()
            return False
        return all([self._append(event) for event in events])  # noqa: C419 - each of them

    def _drop(self) -> None:
        full = f"the queue is full ({self._capacity} events)"
        self._reporter.drop(f"the {self.closed_owner} is closed" if self._closing else full)

    def _append(self, event: bytes) -> bool:
        queue = self._queue
        try:
            queue.append(event)
        except DeliveryError as error:  # of an outbox
            self._reporter.drop(str(error))
            self._reporter.tell(error, Parsed([event]))
            return False
        if self._idle or not len(queue) % self._notify_every:
            self._notify()
        return True

    def orphan(self) -> None:
        """Nobody can send, flush or close any more: deliver what is left and end."""
        self._orphaned = True
        if self._threads or self._starting:
            self._signal()
        elif len(self._queue):
            lifecycle.keep(self)

    def _notify(self) -> None:
        """See to it that somebody looks at the queue."""
        lifecycle.hook_exit_of_child()
        if self._closed:  # the event came in while we were closing
            self.abandon(DeliveryError("the sender was closed"))
        elif self._late:
            if not lifecycle.drain_late(self):
                self.abandon(self._exit_error())
        elif not self._background:
            self._idle = False
        else:
            if self._outbox is not None and self._keeper is None:
                self._start_keeper()  # a forked child has none
            with self._lock:
                self._idle = False
                start = not self._parked and len(self._threads) + self._starting < self._concurrency
                self._starting += start
            if start:
                self._start_thread()
            else:
                self._signal()

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
                self._idle = True
            if not isinstance(error, RuntimeError):  # which says that the interpreter exits: the hook will deliver
                raise

    def _start_keeper(self) -> None:
        self._keeper = threading.Thread(target=self._keep, name="algolia-usertoken-outbox", daemon=True)
        try:
            self._keeper.start()
        except RuntimeError:  # the interpreter exits
            self._keeper = None

    # Out: the threads.

    def _keep(self) -> None:
        """Keep the lease on our events in the outbox, and take over those of dead processes."""
        assert self._outbox is not None
        pause = min(self._outbox.lease / 3, threading.TIMEOUT_MAX)
        while not (self._closing or self._orphaned):
            self._keep_once(self._outbox)
            with self._lock:
                self._lock.wait_for(lambda: self._closing or self._orphaned, pause)

    def _keep_once(self, outbox: SQLiteOutbox) -> None:
        try:
            with self._lock:
                expired = outbox.keep()
                self._failed += len(expired)
                waiting = len(self._queue)
        except DeliveryError as error:
            self._reporter.log("failed", str(error))
            self._reporter.tell(error, [])
        else:
            if expired:
                too_old = DeliveryError("events are older than 30 days")
                self._report("failed", too_old, expired, str(too_old))
            if waiting and self._idle:
                self._notify()

    def _work(self) -> None:
        with self._lock:
            self._starting -= 1
            self._threads.add(threading.get_ident())
        try:
            while (parcel := self._next_parcel()) is not None:
                while parcel.parts and not parcel.abandoned:
                    try:
                        self._deliver(parcel)
                    except BaseException as error:  # SystemExit from on_error, say: this thread is not its to end
                        self._reporter.log("on_error", f"on_error raised {type(error).__name__}")
        finally:
            with self._lock:
                self._threads.discard(threading.get_ident())
                if self._threads:
                    self._signal()  # the next one may have to end, too

    def _next_parcel(self) -> _Parcel | None:
        """Wait for a full batch, or for the flush interval after a first event; None: it is time to end."""
        idle_since, first_seen = time.monotonic(), None
        while True:
            parcel, more, failure = None, False, None
            with self._lock:
                self._idle = True  # before the look at the queue: who appends after it, wakes us
                # What an outbox has left when it is closed, stays there.
                size, now = 0 if self._closed else len(self._queue), time.monotonic()
                hurry = self._taken < self._flush_to or self._closing or self._orphaned
                if size:
                    first_seen = first_seen or now
                    timeout = first_seen + self._flush_interval - now
                    if size >= self._batch_size or hurry or timeout <= 0:
                        try:
                            parcel = self._take()
                        except DeliveryError as error:  # of an outbox
                            failure = error
                        more = len(self._queue) >= (1 if hurry else self._batch_size)
                        timeout = 0.0 if failure is None else 1.0
                    self._idle = parcel is not None and (
                        self._parked > 0 or len(self._threads) + self._starting < self._concurrency
                    )
                else:
                    first_seen, timeout = None, IDLE_TIME
                    if self._closing or self._orphaned or now - idle_since >= IDLE_TIME:
                        self._threads.discard(threading.get_ident())
                        return None
                self._parked += parcel is None
            if parcel is not None:
                if more:
                    self._notify()  # somebody else may go on with the rest
                return parcel
            if failure is not None:
                self._reporter.log("failed", str(failure))
            self._wake.acquire(timeout=timeout)
            with self._lock:
                self._parked -= 1

    def _take(self) -> _Parcel | None:
        events = self._queue.take(self._batch_size)
        gone = self._queue.gone()
        if gone:  # other processes will deliver them
            self._taken += gone
            self._lock.notify_all()
        if not events:
            return None
        parcel = _Parcel(self._taken, events)
        self._taken += len(events)
        self._parcels[parcel.number] = parcel
        return parcel

    def _deliver(self, parcel: _Parcel, deadline: float | None = None) -> bool:
        """Settle a parcel, part by part; False where `deadline` came first."""
        while parcel.parts and not parcel.abandoned:
            part = parcel.parts[-1]
            try:
                self._post(_batch(part), parcel, deadline)
            except BatchRejectedError as error:
                if len(part) > 1:
                    self._split(parcel, part)
                else:
                    self._settle(parcel, part, "rejected", error)
            except _OutOfTime:
                return False
            except Exception as error:
                self._settle(parcel, part, "failed", error)
            else:
                self._settle(parcel, part, "delivered")
        return not parcel.abandoned

    def _post(self, batch: Batch, parcel: _Parcel, deadline: float | None) -> None:
        """Deliver a batch, again and again if need be; what it raises is final."""
        start = time.monotonic()
        attempt = 0
        last: Exception
        while True:
            with self._lock:
                if parcel.abandoned:  # pragma: no cover - where close() comes between two attempts
                    raise _OutOfTime
                self._requests += 1
                self._retries += attempt > 0
            try:
                return self._delivery.deliver(
                    batch, None if deadline is None else max(0.0, deadline - time.monotonic())
                )
            except UnauthorizedDeliveryError as error:
                wait, last = _backoff(UNAUTHORIZED_BACKOFF, attempt), error
                said = _said(error, batch.events)
                self._reporter.log("unauthorized", f"events are not accepted with this key, and wait: {said}")
            except RetryableDeliveryError as error:
                wait, last = _backoff(BACKOFF, attempt), error
                if error.delay is not None and error.delay >= 0:
                    wait = error.delay
            except OSError as error:
                wait, last = _backoff(BACKOFF, attempt), error
            except BaseException as error:
                if isinstance(error, Exception) or threading.get_ident() not in self._threads:
                    raise
                # This thread is not the delivery's to end.
                raise DeliveryError(f"the delivery raised {type(error).__name__}") from error
            attempt += 1
            wait = min(wait, MAX_RETRY_AFTER)
            if time.monotonic() + wait - start > self._max_retry_time:
                raise DeliveryError(f"given up after {attempt} attempts: {_said(last, batch.events)}") from last
            if not self._pause(wait, parcel, deadline):
                raise _OutOfTime

    def _pause(self, seconds: float, parcel: _Parcel, deadline: float | None) -> bool:
        """Wait; less long where `close` comes meanwhile, and not beyond the deadline, which makes it False."""
        in_time = deadline is None or time.monotonic() + seconds < deadline
        if deadline is not None:
            seconds = max(0.0, min(seconds, deadline - time.monotonic()))
        with self._lock:
            closing = self._closing
            self._lock.wait_for(lambda: parcel.abandoned or self._closing != closing, seconds)
        return in_time and not parcel.abandoned

    def _split(self, parcel: _Parcel, part: list[bytes]) -> None:
        middle = len(part) // 2
        with self._lock:
            if not parcel.abandoned:  # pragma: no branch - close() may come between the answer and this
                parcel.parts[-1:] = [part[middle:], part[:middle]]

    def _settle(self, parcel: _Parcel, part: list[bytes], outcome: str, error: Exception | None = None) -> None:
        with self._lock:
            if parcel.abandoned:
                return
            parcel.parts.pop()
            parcel.settling = len(part)
        disk_error = None
        try:
            if error is not None:
                # First: when flush returns, on_error has been told.
                self._report(outcome, error, part, _said(error, Parsed(part)))
        finally:
            with self._lock:
                try:
                    self._queue.settle(part)
                except DeliveryError as raised:  # of an outbox: they will be delivered once more
                    disk_error = raised
                parcel.settling = 0
                self._count(outcome, len(part))
                if not parcel.parts:
                    self._parcels.pop(parcel.number, None)
                self._lock.notify_all()
        if disk_error is not None:
            self._reporter.log("failed", str(disk_error))

    def _count(self, outcome: str, events: int) -> None:
        self._delivered += events if outcome == "delivered" else 0
        self._rejected += events if outcome == "rejected" else 0
        self._failed += events if outcome == "failed" else 0

    def _report(self, outcome: str, error: Exception, events: Sequence[bytes], said: str) -> None:
        what = "event" if len(events) == 1 else f"{len(events)} events"
        self._reporter.log(outcome, f"{what} {outcome}: {said}", len(events))
        self._reporter.tell(error, Parsed(events))

    # Flush, close, and the end of the process.

    @property
    def stats(self) -> EventStats:
        with self._lock:
            parcels = self._parcels.values()
            queued = len(self._queue) + sum(len(part) for parcel in parcels for part in parcel.parts)
            queued += sum(parcel.settling for parcel in parcels)
            settled = self._delivered, self._rejected, self._failed
            return EventStats(
                sum(settled) + queued,
                *settled,
                queued,
                self._reporter.refused.value,
                self._reporter.dropped.value,
                self._requests,
                self._retries,
            )

    def flush(self, timeout: float | None = None) -> bool:
        """Deliver what is queued now; True once all of it is settled, False where that takes longer than `timeout`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._outbox is not None and not self._background:
            self._keep_once(self._outbox)
        with self._lock:
            target = self._taken + len(self._queue)
            if self._settled_up_to() >= target:
                return True
            self._flush_to = max(self._flush_to, target)
            self._lock.notify_all()
        if self.asked_by_on_error():
            return False
        self._notify()
        if not self._threads and not self._starting:
            return self.drain(deadline)
        return self._wait_until_settled(target, deadline)

    def close(self, timeout: float | None = None) -> bool:
        """Take no more, deliver what is queued, and end; what there is no time for has failed."""
        timeout = self.close_timeout if timeout is None else timeout
        with self._lock:
            self._closing, self._capacity = True, -1
            self._lock.notify_all()
        deadline = time.monotonic() + timeout
        done = self.flush(timeout)
        while done and not self._closed_empty():
            done = self.flush(max(0.0, deadline - time.monotonic()))
        if not done and self.asked_by_on_error():
            return False  # what is queued is delivered still
        if not done:
            self._closed = self._idle = True
            self.abandon(DeliveryError(f"the sender was closed, and {timeout:g} seconds were not enough"))
        with self._lock:
            first, self._ended = not self._ended, True
            self._lock.notify_all()  # who waits for what stays in an outbox
        if first:
            self._signal()
            try:
                self._delivery.close()
            finally:  # one of somebody's own may raise
                if self._outbox is not None:
                    self._outbox.close()
                self._reporter.finish()
        return done

    def _closed_empty(self) -> bool:
        """Close, unless an event came in meanwhile: its sender may have found room before there was none."""
        with self._lock:
            self._closed = self._idle = True  # first: who comes after our look sees to the event itself
            self._closed = self._settled_up_to() >= self._taken + len(self._queue)
            return self._closed

    def begin_exit(self) -> bool:
        """The process exits: hurry. False if there is nothing to deliver."""
        with self._lock:
            self._flush_to = self._taken + len(self._queue)
            if self._settled_up_to() >= self._flush_to:
                return False
        self._notify()
        return True

    def finish_exit(self, timeout: float) -> None:
        """Wait until what `begin_exit` found is settled, and give up what is not."""
        if not self.flush(timeout):
            self.abandon(self._exit_error())
        self._reporter.finish()

    def _exit_error(self) -> DeliveryError:
        return DeliveryError(f"not delivered when the process exited (close_timeout is {self.close_timeout:g} seconds)")

    def be_late(self) -> None:
        """From now on nobody comes back to deliver: send what is put at once."""
        self._late = True
        self._notify_every = 1

    def asked_by_on_error(self) -> bool:
        """Whether the thread that would have to deliver is the one that asks for it."""
        ident = threading.get_ident()
        return self._reporter.telling and (ident in self._threads or ident == self._inline_owner)

    def _settled_up_to(self) -> int:
        return min(self._parcels, default=self._taken)

    def _wait_until_settled(self, target: int, deadline: float | None) -> bool:
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        with self._lock:
            self._lock.wait_for(lambda: self._settled_up_to() >= target or self._closed, timeout)
            return self._settled_up_to() >= target

    def drain(self, deadline: float | None) -> bool:
        """Deliver in this thread; where there is no time, what is left goes back into the queue."""
        if not self._inline.acquire(timeout=-1 if deadline is None else max(0.0, deadline - time.monotonic())):
            return False
        outer, self._inline_owner = self._inline_owner, threading.get_ident()
        try:
            with self._lock:
                target = self._taken + len(self._queue)
            while True:
                with self._lock:
                    if self._taken >= target or not len(self._queue):
                        break
                    parcel = self._take()
                if parcel is None:
                    return self._settled_up_to() >= target
                delivered = False
                try:
                    delivered = self._deliver(parcel, deadline)
                finally:  # also where Ctrl-C comes in between
                    if not delivered:
                        self._take_back(parcel)
                if not delivered:
                    return False
        except DeliveryError as error:  # of an outbox
            self._reporter.log("failed", str(error))
            return False
        finally:
            self._inline_owner = outer
            self._inline.release()
        # A signal may come in the middle of this. What was being delivered then goes on only after its handler.
        return self._wait_until_settled(target, deadline if outer is None else time.monotonic())

    def _take_back(self, parcel: _Parcel) -> None:
        with self._lock:
            # The other way only where close() comes in between.
            if not parcel.abandoned and self._parcels.pop(parcel.number, None) is not None:  # pragma: no branch
                events = parcel.events
                self._queue.put_back(events)
                self._taken -= len(events)

    def abandon(self, error: DeliveryError) -> None:
        """Count all that is not settled as failed; with an outbox it stays there, for the next start."""
        with self._lock:
            events: list[bytes] = []
            for parcel in list(self._parcels.values()):
                parcel.abandoned = True
                events += parcel.events
                parcel.parts.clear()
                if not parcel.settling:
                    del self._parcels[parcel.number]
            if self._outbox is not None:
                self._outbox.put_back(events)
                self._taken -= len(events)
                if self._closing:  # or the threads would take them again
                    self._outbox.close()
                return
            waiting = self._queue.take(len(self._queue))
            self._taken += len(waiting)
            events += waiting
            self._failed += len(events)
            self._lock.notify_all()
        if events:  # pragma: no branch - a thread may have settled the last of them meanwhile
            self._report("failed", error, events, str(error))


class Parsed(Sequence[Event]):
    """Events that are parsed from their texts when somebody looks."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        self._texts = texts
        self._events: list[Event] | None = None

    def _parsed(self) -> list[Event]:
        if self._events is None:
            self._events = [json.loads(text) for text in self._texts]
        return self._events

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, key: Any) -> Any:
        return self._parsed()[key]

    def __eq__(self, other: object) -> bool:
        return self._parsed() == other


def _batch(events: list[bytes]) -> Batch:
    """The events and their JSON text.

    Raises:
        BatchRejectedError: It is too long.
    """
    body = b'{"events":[%b]}' % b",".join(events)
    if len(body) >= MAX_BYTES:
        raise BatchRejectedError(f"the event has {len(body)} bytes, and a request must have less than {MAX_BYTES}")
    return Batch(Parsed(events), body)


def _said(error: Exception, events: Sequence[Event]) -> str:
    """What a log line says of an error of a delivery: of one that is not of our types, not its text."""
    if isinstance(error, UserTokenError):
        return without_values(str(error), events)
    return f"the delivery raised {raised(error)}"


def _backoff(backoff: tuple[float, float], attempt: int) -> float:
    """Exponential, with full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter"""
    first, longest = backoff
    return random.uniform(0, min(longest, first * 2**attempt))
