"""The driver of a sender's core: it starts the threads that deliver, and handles fork, exit and close.

With `background=True`, the first event starts daemon threads, which deliver, and end when they have had nothing to do
for a while. With `background=False`, a thread delivers while `flush` or `close` waits for it. Where no thread can be
started, because the interpreter exits, the thread that calls `flush` delivers.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import DeliveryError
from . import process
from .crew import GRACE_S, ON_ERROR_S, Crew
from .delivery import Delivery
from .engine import Engine, MemoryQueue, Waiting
from .in_flight import Done, Post, Take
from .reporting import EventStats, Reporter
from .sending import Sending
from .threads import MOMENT_S, bounded, for_a_lock

if TYPE_CHECKING:
    from .keeper import Keeper
    from .outbox import SQLiteOutbox

PAUSE_OF_FLUSH_S = 0.01  # between two checks of a flush, while another thread reports the events that it waits for


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
        self.closed_owner = "sender"  # or "client", if one owns the sender: what a log line calls closed
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
        self._start_keeper()

    def start_empty(self) -> None:
        """Make the worker as new: without events, counts and threads, and with locks that no thread holds."""
        queue: Waiting = MemoryQueue() if self._outbox is None else self._outbox
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
        self._late = False  # True: the interpreter exits, no thread is started any more, events are sent at once
        self._sending = Sending(self._engine, self._delivery, self._reporter)
        self._reporter.start_empty()
        self._crew = Crew(
            self._engine,
            self._sending,
            batch_size=self._batch_size,
            concurrency=self._concurrency,
            background=self._background,
        )
        self._crew.ends = self._closing or self._orphaned
        self._renew_own_locks()

    def _renew_outdated_locks(self) -> None:
        """Make new locks if the old ones are of no use any more; called before any of them is needed."""
        if self._crew.is_outdated:
            self._crew.renew()
            self._renew_own_locks()

    def _renew_own_locks(self) -> None:
        self._inline = threading.RLock()
        self._inline_owner: int | None = None
        self._keeper = self._new_keeper()
        if self._outbox is not None:
            self._outbox.share_lock(self._crew.lock)
        self._reporter.renew_locks()

    def _new_keeper(self) -> Keeper | None:
        if self._outbox is None or sys.is_finalizing():  # no thread can be started, and nothing can be imported
            return None
        from .keeper import Keeper  # imported here, as some Pythons have no sqlite3

        lock = self._crew.lock

        def ends() -> bool:
            return self._crew.ends or self._crew.lock is not lock

        return Keeper(self._outbox, lock, ends, self._found_by_keeper, self._sending.fail)

    def _start_keeper(self) -> None:
        """Start the keeper if it does not run yet, also in a forked child, where the outbox has its own lock again."""
        if self._outbox is not None and self._keeper is not None:
            self._outbox.share_lock(self._crew.lock)
            if self._background:
                self._keeper.start()

    # Accepting events.

    def put(self, event: bytes) -> bool:
        """Queue an event, or drop it where there is no room."""
        try:
            if self._engine.put(event):
                return True
        except DeliveryError as error:  # raised by an outbox
            self._sending.drop(error, [event])
            return False
        return self._drop(1)

    def put_all(self, events: Sequence[bytes]) -> bool:
        """Queue events that belong together, or drop them all where there is no room for all."""
        try:
            if self._engine.put_all(events):
                return True
        except DeliveryError as error:
            self._sending.drop(error, events)
            return False
        return self._drop(len(events))

    def _drop(self, number: int) -> bool:
        reason = f"the {self.closed_owner} is closed" if self._closing else self._engine.why_full
        for _ in range(number):
            self._reporter.drop(reason)
        return False

    def _notify(self) -> None:
        """Make sure that a thread looks at the queue."""
        process.hook_exit_of_child()
        self._renew_outdated_locks()
        engine = self._engine
        engine.mark(time.monotonic())
        if engine.closed:  # the event came in while the sender was closing
            self.abandon(DeliveryError("the sender was closed"))
        elif self._late:
            if self._inline_owner == threading.get_ident():  # a `__del__` in the thread that delivers put it
                return
            while True:
                if not process.drain_late(self):
                    self.abandon(self._exit_error())
                    return
                if not len(engine.queue) or not self._crew.is_empty:  # else an event came in at the last moment
                    return
        elif not self._background:
            engine.idle = False
        else:
            self._wake()

    def _wake(self) -> None:
        self._start_keeper()
        self._crew.wake_or_start()

    def _found_by_keeper(self) -> None:
        if len(self._engine.queue) and self._engine.idle:
            self._notify()

    # Flush, close, and the end of the process.

    @property
    def stats(self) -> EventStats:
        """The counts, all read at the same moment."""
        self._renew_outdated_locks()
        with self._crew.lock:
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
                last_success=self._sending.last_success,
                last_error=self._sending.last_error,
            )

    def flush(self, timeout: float | None = None) -> bool:
        """Deliver the events that are queued now. True: all are settled; False: that takes longer than `timeout`."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        self._renew_outdated_locks()
        if self._keeper is not None and not self._background:
            bounded(self._keeper.look, deadline - time.monotonic(), self._crew.lock)
        target = self._engine.flush(time.monotonic())
        if target is None:
            return True
        if self.asked_by_on_error():
            return False
        while True:
            self._deliver_until(deadline)
            if self._crew.is_empty and self._crew.starts_none:  # else a thread found nothing to do, and has ended
                return self.drain(deadline)
            with self._crew.lock:
                if self._wait_for(target, deadline):
                    return True
                if self._engine.is_over or time.monotonic() >= deadline:
                    return False
                self._crew.lock.wait(PAUSE_OF_FLUSH_S)  # another thread is reporting the rest

    def _wait_for(self, target: int, deadline: float) -> bool:
        """Wait until all events up to `target` are settled, or no thread is left to deliver; whether all are."""
        with self._crew.lock:
            self._crew.lock.wait_for(
                lambda: self._engine.is_settled(target) or self._engine.is_over or self._crew.is_empty,
                None if deadline == math.inf else for_a_lock(deadline - time.monotonic()),
            )
            return self._engine.is_settled(target)

    def _deliver_until(self, deadline: float) -> None:
        """Have a thread deliver; with `background=False`, until `deadline` (monotonic seconds)."""
        with self._crew.lock:
            self._crew.flush_until = max(self._crew.flush_until, deadline)
        if not self._background:
            self._crew.write_off(deadline)
        self._wake()

    def close(self, timeout: float | None = None) -> bool:
        """Accept no more events, deliver the queued ones, and end. Events not settled in time are abandoned."""
        self._renew_outdated_locks()
        timeout = self.close_timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        self._closing = self._crew.ends = True
        self._engine.begin_close()
        done = self.flush(timeout)
        while done and not self._engine.close_if_empty():
            done = self.flush(max(0.0, deadline - time.monotonic()))
        if not done and self.asked_by_on_error():
            return False  # the queued events are still delivered
        if not done:
            self._engine.close_full()
            error = DeliveryError(f"the sender was closed, and {timeout:g} seconds were not enough")
            self.abandon(error, deadline + ON_ERROR_S - time.monotonic())
        with self._crew.lock:
            first, self._ended = not self._ended, True
            self._crew.lock.notify_all()
        if first:
            self._crew.signal()
            try:
                bounded(self._delivery.close, deadline + GRACE_S - time.monotonic(), self._crew.lock)
            finally:  # an application's own delivery may raise an error
                if self._outbox is not None and self._keeper is not None:
                    self._keeper.end(deadline + GRACE_S - time.monotonic())
                    bounded(self._outbox.close, deadline + GRACE_S - time.monotonic(), self._crew.lock)
                self._reporter.finish()
        return done

    def begin_exit(self) -> bool:
        """End all pauses, as the process exits, and start delivering. False if there is nothing to deliver."""
        self._renew_outdated_locks()
        if self._engine.flush(time.monotonic()) is None:
            return False
        if self._engine.is_over:
            return self._engine.core.open > 0  # the thread that closed it is about to report what was left
        if self._background:
            self._deliver_until(time.monotonic() + self.close_timeout)
        return True

    def finish_exit(self, timeout: float) -> None:
        """Wait until the events that `begin_exit` found are settled, and give up those that are not by then."""
        deadline = time.monotonic() + timeout
        if not self.flush(timeout):
            self.abandon(self._exit_error(), deadline + ON_ERROR_S - time.monotonic())
        self._reporter.finish()

    def _exit_error(self) -> DeliveryError:
        return DeliveryError(f"not delivered when the process exited (close_timeout is {self.close_timeout:g} seconds)")

    def be_late(self) -> None:
        """Deliver each event as soon as it is put, as from now on no thread would deliver it later."""
        self._late = True
        self._engine.notify_every = 1

    def orphan(self) -> None:
        """Deliver the remaining events and end, as nobody can send, flush or close any more."""
        if sys.is_finalizing():  # pragma: no cover - coverage is not measured any more
            return  # the hook at exit has delivered what there was, and all threads are stopped
        self._orphaned = self._crew.ends = True
        if not self._crew.is_empty:
            self._engine.flush(time.monotonic())
            self._crew.signal()
        elif len(self._engine.queue):
            process.keep(self)

    def asked_by_on_error(self) -> bool:
        """Whether the caller is itself the thread that would have to deliver, inside `on_error` or a `__del__`."""
        ident = threading.get_ident()
        return ident in self._crew.threads or (self._reporter.is_in_on_error and ident == self._inline_owner)

    def drain(self, deadline: float) -> bool:
        """Deliver in the calling thread, until `deadline` (monotonic seconds); whether all events are settled.

        Where another thread delivers already, the calling thread waits for it, so that `concurrency` is not exceeded.
        """
        if self._outbox is not None and sys.is_finalizing():  # pragma: no cover - coverage is not measured any more
            return False  # the events stay in the file, as the answer to a request can hardly be read any more
        while True:
            if not self._crew.is_empty and not sys.is_finalizing():  # while it finalizes, other threads do not run
                target = self._engine.flush(time.monotonic())
                self._crew.signal()
                if target is None or self.asked_by_on_error():  # if so, the caller is that other thread
                    return True
                if self._wait_for(target, deadline):
                    return True
                if self._others_deliver(deadline):  # the last thread had ended, and another one was started meanwhile
                    continue
                if not self._crew.is_empty:
                    return False
            if not self._inline.acquire(timeout=for_a_lock(deadline - time.monotonic())):
                return False
            outer, self._inline_owner = self._inline_owner, threading.get_ident()
            try:
                if outer is not None or self._crew.help():
                    if self._drain_here(deadline):
                        return True
                    if outer is not None or not self._others_deliver(deadline):
                        return False
            finally:  # if `help` returned False, a thread was started at this moment
                if outer is None:
                    self._crew.help_ends()
                self._inline_owner = outer
                self._inline.release()
                if outer is None and self._background and not self._late and len(self._engine.queue):
                    self._wake()  # for events that came in meanwhile

    def _others_deliver(self, deadline: float) -> bool:
        """Whether other threads deliver, and there is time to wait for them."""
        has_time = not self._engine.is_over and time.monotonic() < deadline
        return has_time and not self._crew.is_empty and not sys.is_finalizing()

    def _drain_here(self, deadline: float) -> bool:
        target = self._engine.flush(time.monotonic())
        with self._crew.lock:
            self._crew.flush_until = max(self._crew.flush_until, deadline)
        while target is not None and not self._engine.is_settled(target):
            now = time.monotonic()
            if self._engine.is_over or now > deadline:  # events that are left in an outbox stay there
                return False
            action = self._engine.next(now)
            if isinstance(action, Post):
                self._crew.attempt(action.group, inline=True)
            elif isinstance(action, Take):
                self._crew.take_stored(action.limit, now, deadline)
            elif action.until >= deadline:  # `until` is infinite where nothing is left that this thread could do
                return False
            else:
                self._crew.wake.acquire(timeout=for_a_lock(action.until - now))
        return True

    def abandon(self, error: DeliveryError, seconds: float = math.inf) -> None:
        """Count all events that are not settled as failed, report them, and wait at most `seconds` for that report.

        With an outbox, the events stay in it, for the next start.
        """
        until = time.monotonic() + seconds
        group = self._engine.give_up()
        if group.events:
            bounded(lambda: self._sending.report("failed", error, group.events), seconds, self._crew.lock)
            self._engine.settle(Done("failed", group, error))
        if seconds < math.inf and not self.asked_by_on_error():
            with self._crew.lock:  # another thread may be reporting events that it gave up, or that were refused
                # Where the process was stopped meanwhile, no time is left, and that thread still needs a moment.
                left = for_a_lock(max(MOMENT_S, until - time.monotonic()))
                self._crew.lock.wait_for(lambda: not self._engine.core.open, left)
