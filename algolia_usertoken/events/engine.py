"""What every driver of the core shares: the queue of events, and the core, which is guarded by one lock.

There is no thread and no clock in it. `put` takes no lock, so that it may run in a `__del__`, which may interrupt any
code, this module included. Three rules make sure that a thread looks at the queue after each event:

1. `idle` is set before every look at the queue: a thread that appends an event after the look notifies the driver.
2. `close` sets `closed`, and has each event notify, before its last look: a thread that appends an event after that
   look handles the event itself.
3. A thread marks itself as gone before its last look: a thread that appends an event after that look starts another
   one. (The driver implements this rule.)
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, TypeVar

from .delivery import MAX_BYTES_OF_EVENTS
from .in_flight import Action, Done, InFlight, Take
from .queue import Core
from .retries import Answer

_T = TypeVar("_T")


class Waiting(Protocol):
    """Where accepted events wait, each as its JSON text.

    `append`, `append_all`, `glance` and `len` are called without a lock. The others are called by one thread at a time,
    except `confirm` and `settle`.
    """

    def __len__(self) -> int: ...
    def glance(self) -> int: ...  # as `len`, but without any lock; while a thread takes events, it may be a little off
    def append(self, event: bytes, /) -> None: ...
    def append_all(self, events: Sequence[bytes], /) -> None: ...
    def take(self, limit: int) -> list[bytes]: ...
    def took(self) -> None: ...
    def put_back(self, events: Sequence[bytes]) -> None: ...
    def confirm(self, events: Sequence[bytes]) -> Sequence[bytes]: ...
    def settle(self, events: Sequence[bytes]) -> None: ...
    def counts(self) -> tuple[int, int, int]: ...


class MemoryQueue(deque[bytes]):
    """Events that wait in memory."""

    append_all = deque.extend
    glance = deque.__len__

    def take(self, limit: int) -> list[bytes]:
        """Take the first events out of the queue."""
        events: list[bytes] = []
        with contextlib.suppress(IndexError):  # a `__del__` that interrupts this may deliver, and take them
            while len(events) < limit:
                events.append(self.popleft())
        return events

    def took(self) -> None:
        """Do nothing: events that were taken are not in the queue any more."""

    def put_back(self, events: Sequence[bytes]) -> None:
        """Put events back into the queue, before all others."""
        self.extendleft(reversed(events))

    def confirm(self, events: Sequence[bytes]) -> Sequence[bytes]:
        """All of the events: no other process can have taken them over."""
        return events

    def settle(self, events: Sequence[bytes]) -> None:
        """Do nothing: events that were taken are not in the queue any more."""

    def counts(self) -> tuple[int, int, int]:
        """How many events wait, how many were adopted, and how many are gone."""
        return len(self), 0, 0


class Engine:
    """The queue of a sender, to which `put` adds events, and the core, which decides what to send.

    Args:
        queue: Where events wait: in memory, or in an outbox.
        max_queue_size, max_queue_bytes: How much may wait in memory; an outbox has a bound of its own.
        batch_size, flush_interval, max_retry_time: See `Core`.
        notify: Called without a lock when a driver has to look at the queue.

    Attributes:
        lock: A condition around a re-entrant lock: a signal handler or a `__del__` may run while its thread holds it.
    """

    def __init__(
        self,
        queue: Waiting,
        *,
        max_queue_size: int,
        max_queue_bytes: int,
        batch_size: int,
        flush_interval: float,
        max_retry_time: float,
        notify: Callable[[], None],
    ) -> None:
        self.queue = queue
        self.in_memory = isinstance(queue, MemoryQueue)
        self._glance = queue.glance
        self.lock = threading.Condition(threading.RLock())
        self.core = Core(
            batch_size=batch_size,
            batch_bytes=MAX_BYTES_OF_EVENTS,
            flush_interval=flush_interval,
            max_retry_time=max_retry_time,
            max_suspect_bytes=max_queue_bytes,
            site_of=site_of,
        )
        self.idle = True  # whether the next event has to notify
        self.closed = False  # whether an event that comes in now is given up by the thread that puts it
        self.is_over = False  # whether it is closed for good; `closed` is also True during the last look of a close
        self.notify_every = batch_size
        self._notify = notify
        self._max_queue_size = self._capacity = max_queue_size if self.in_memory else sys.maxsize
        self._max_queue_bytes = max_queue_bytes if self.in_memory else sys.maxsize
        self._is_bounded = self.in_memory  # whether `put` checks the bounds; also True once the sender is closing
        self._bytes_in = self._bytes_out = 0  # bytes of the events that were put, and of those that were taken
        self._gone = 0
        self._since = 0.0  # since when the first event in the queue has waited
        self._was_empty = True
        self._marks: deque[tuple[int, float]] = deque()  # a place in the queue, and when it was filled

    # Accepting events: called from anywhere, without a lock.

    def put(self, event: bytes) -> bool:
        """Queue an event; False: there is no room.

        Raises:
            OutboxError: The outbox cannot store it.
        """
        queue, size = self.queue, len(event)
        # Threads that call this at the same moment may exceed the bounds by the events that they add.
        if self._is_bounded and (
            len(queue) >= self._capacity or self._bytes_in - self._bytes_out + size > self._max_queue_bytes
        ):
            return False
        self._bytes_in += size
        queue.append(event)
        if self.idle or not self._glance() % self.notify_every:
            self._notify()
        return True

    def put_all(self, events: Sequence[bytes]) -> bool:
        """Queue events that belong together, or none of them where there is no room for all.

        Raises:
            OutboxError: The outbox cannot store them.
        """
        size = sum(map(len, events))
        if (
            len(self.queue) + len(events) > self._capacity
            or self._bytes_in - self._bytes_out + size > self._max_queue_bytes
        ):
            return False
        self._bytes_in += size
        self.queue.append_all(events)
        self._notify()
        return True

    @property
    def why_full(self) -> str:
        """The reason to report where `put` found no room."""
        if len(self.queue) >= self._max_queue_size:
            return f"the queue is full ({self._max_queue_size} events)"
        return f"the queue has no room for it ({self._max_queue_bytes} bytes)"

    def mark(self, now: float) -> None:
        """Note when the queue was filled up to here, to know how long events wait; `notify` calls this."""
        self._marks.append((self.core.taken + len(self.queue), now))

    # Delivering events: called by drivers.

    def next(self, now: float) -> Action:
        """The next action. Events in memory are taken here, so a `Take` is always of an outbox: see `take_stored`."""
        with self.lock:
            self.idle = True  # before the look at the queue
            waiting = len(self.queue)
            action = self._core_next(now, waiting)
            while isinstance(action, Take) and self.in_memory:  # again if a `__del__` in between has taken the events
                events = self.queue.take(action.limit)
                self._bytes_out += sum(map(len, events))
                self.core.took(events, 0, now, self._since)
                self._look_at_marks()
                action = self._core_next(now, len(self.queue))
            self.idle = not waiting
            return action

    def take_stored(self, limit: int, now: float) -> None:
        """Perform the `Take` of an outbox, without the lock, as reading the file may take a while.

        Raises:
            OutboxError: The file can't be read; the events still wait.
        """
        events: Sequence[bytes] = ()
        try:
            events = self.queue.take(limit)
        finally:
            with self.lock:
                _, _, gone = self.queue.counts()
                self.queue.took()
                self.core.took(events, gone - self._gone, now, self._since)
                self._gone = gone
                self._look_at_marks()
                self.lock.notify_all()  # a flush may have waited for events that are gone

    def confirm(self, group: InFlight) -> bool:
        """Whether any event of the group still belongs to this process, and not to another; asked before each attempt.

        Raises:
            OutboxError: The file can't be read.
        """
        if self.in_memory:
            return True
        kept = self.queue.confirm(group.events)
        with self.lock:
            is_any_left = self.core.confirmed(group, kept)
            self.lock.notify_all()  # as in `take_stored`
            return is_any_left

    def answered(self, group: InFlight, answer: Answer, now: float, luck: float) -> list[Done]:
        """Tell the core the answer for `group`. The driver reports each `Done`, then passes it to `settle`."""
        with self.lock:
            return self.core.answered(group, answer, now, luck)

    def settle(self, done: Done) -> None:
        """Count an outcome that was reported.

        Raises:
            OutboxError: The events could not be removed from the file, and may be delivered again.
        """
        try:
            self.queue.settle(done.group.events)
        finally:
            with self.lock:
                self.core.settled(done)
                self.lock.notify_all()

    # Flush, close, and the end.

    def flush(self, now: float) -> int | None:
        """End all pauses. Returns the place up to which all events must be settled; None: all are settled already."""
        with self.lock:
            target = self._asked(lambda waiting: self.core.flush(now, waiting))
            self.lock.notify_all()
            return None if self.is_settled(target) else target

    def is_settled(self, target: int) -> bool:
        """Whether all events up to `target` are settled; called with the lock."""
        return self._asked(lambda waiting: self.core.is_settled(target, waiting))

    def _asked(self, question: Callable[[int], _T]) -> _T:
        """The answer to a question that needs the number of waiting events.

        It is asked again if events were moved meanwhile: a signal handler may flush and close in between, and what it
        has no time for waits in the outbox again.
        """
        while True:
            moves = self.core.moves
            answer = question(len(self.queue))
            if moves == self.core.moves:
                return answer

    def begin_close(self) -> None:
        """Accept no more events."""
        with self.lock:
            self._capacity, self._is_bounded = -1, True
            self.lock.notify_all()

    def close_if_empty(self) -> bool:
        """Close, unless an event came in meanwhile: `put` may have found room for it just before `begin_close`.

        Returns:
            Whether all events are settled. What another thread has closed stays closed: it closes the outbox, too.
        """
        with self.lock:
            notify_every, self.notify_every = self.notify_every, 1  # each event notifies, whatever `idle` is
            self.closed = self.idle = True  # before the last look
            is_empty = self.is_settled(sys.maxsize)
            # `is_over` is read only now: a signal handler that waits in between releases the lock.
            self.closed = self.is_over = is_empty or self.is_over
            if not self.closed:
                self.notify_every = notify_every
            return is_empty

    def close_full(self) -> None:
        """Close, even if events are left."""
        with self.lock:
            self.notify_every = 1
            self.closed = self.is_over = self.idle = True
            self.lock.notify_all()

    def give_up(self) -> InFlight:
        """Take out all events that are not settled, except those being reported; an outbox keeps the events."""
        with self.lock:
            since = self._waits_since()
            rest = self.queue.take(len(self.queue)) if self.in_memory else ()
            self._bytes_out += sum(map(len, rest))
            group = self.core.give_up(rest, since)
            if not self.in_memory:
                self.queue.put_back(group.events)
                self.core.let_go(group)
                group = InFlight(())
            self.lock.notify_all()
            return group

    def oldest(self) -> float | None:
        """Since when the oldest event that is not settled has waited; called with the lock."""
        return self.core.oldest(len(self.queue), self._waits_since())

    def _waits_since(self) -> float:
        if not self._was_empty:
            return self._since
        # No driver has looked at the queue yet.
        return next((at for place, at in list(self._marks) if place > self.core.taken), math.inf)

    def _core_next(self, now: float, waiting: int) -> Action:
        if self._was_empty and waiting:
            self._since = now
        self._was_empty = not waiting
        return self.core.next(now, waiting, self._since)

    def _look_at_marks(self) -> None:
        self._was_empty = not len(self.queue)
        while self._marks and self._marks[0][0] <= self.core.taken:
            self._since = self._marks.popleft()[1]
        if self._was_empty:  # this corrects the bytes if two threads have counted at the same moment
            self._bytes_in = self._bytes_out


def site_of(event: bytes) -> Hashable:
    """The kind of an event, which stands for the place in the program that sends it.

    Bad events of one kind are usually bad for the same reason.
    """
    try:
        fields: dict[str, Any] = json.loads(event)
        site = fields.get("eventName"), fields.get("eventSubtype"), fields.get("index"), frozenset(fields)
        hash(site)  # somebody may have written a list into the file of an outbox
        return site
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
