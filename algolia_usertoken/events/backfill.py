"""Delivers many existing events as the sender would, and reports for each event what became of it.

The caller puts one event after the other and waits while many are queued; a thread delivers them. The queue, the
requests, the retries and the search for refused events are the sender's own. Only the end differs: if the key is not
accepted, or if no answer has come for too long, the delivery stops, and all unsettled events are left to the caller.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import UnauthorizedDeliveryError
from .crew import Crew
from .delivery import Delivery
from .engine import Engine, MemoryQueue
from .in_flight import Done, InFlight
from .reporting import Reporter
from .retries import Answer
from .sending import Sending, final, said

_MOST_BATCHES = 4  # batches that may wait in the queue
_MOST_BYTES = 16_000_000  # bytes that may wait in the queue
_FLUSH_INTERVAL_S = 1.0
_LOOK_S = 0.1  # seconds between two looks while waiting


class Text(bytes):
    """An event as JSON text, with a note of where it comes from.

    Attributes:
        place: Any value that the caller wants to attach to the event.
    """

    place: Any


class Backfill:
    """Delivers the events that the caller puts, as the module describes.

    Args:
        delivery: Where to deliver to; the caller closes it.
        settled: Called after each answered request with the events that it settled.
        look: Called now and then while `put` and `finish` wait.
        patience_s: After how many seconds without an answer to stop.
        batch_size: Events per request.

    Attributes:
        accepted: How many events were delivered.
        rejected: Events that the receiver refused, each with the reason; the caller removes those that it has reported.
        stopped: Why nothing more is sent; None while all is well.
        unauthorized: Whether it stopped because the key is not accepted.
    """

    def __init__(
        self,
        delivery: Delivery,
        settled: Callable[[Sequence[Text]], None],
        look: Callable[[], None],
        *,
        patience_s: float,
        batch_size: int,
    ) -> None:
        self.accepted = 0
        self.rejected: deque[tuple[Text, str]] = deque()
        self.stopped: str | None = None
        self.unauthorized = False
        self._settled = settled
        self._look = look
        self._patience_s = patience_s
        self._answered_at = time.monotonic()
        self._engine = Engine(
            MemoryQueue(),
            max_queue_size=_MOST_BATCHES * batch_size,
            max_queue_bytes=_MOST_BYTES,
            batch_size=batch_size,
            flush_interval=_FLUSH_INTERVAL_S,
            max_retry_time=math.inf,
            notify=self._notify,
        )
        self._sending = _Sending(self._engine, delivery, self)
        self._crew = Crew(self._engine, self._sending, batch_size=batch_size, concurrency=1, background=True)

    def put(self, text: Text) -> bool:
        """Wait until there is room for an event, and queue it; False if nothing more is sent."""
        if self.stopped is None and self._engine.put(text):
            return True
        while self._goes_on():
            with self._engine.lock:  # the delivering thread holds this lock when it makes room
                if self._engine.put(text):
                    return True
                self._engine.lock.wait(_LOOK_S)
        return False

    def finish(self) -> bool:
        """Deliver the queued events; False if the delivery had to stop."""
        target = self._engine.flush(time.monotonic())
        self._crew.wake_or_start()
        while target is not None and not self._is_settled(target):
            with self._engine.lock:
                self._engine.lock.wait_for(lambda: self._is_settled(target) or self.stopped is not None, _LOOK_S)
            if not self._goes_on():
                return False
        self.end(0)
        return self.stopped is None

    def end(self, timeout_s: float) -> None:
        """Send nothing more, and wait for the request that is under way."""
        self._engine.close_full()
        self._crew.ends = True
        self._crew.signal()
        with self._engine.lock:
            self._engine.lock.wait_for(lambda: self._crew.is_empty, timeout_s)

    def answered(self) -> None:
        """Note that the receiver has answered."""
        self._answered_at = time.monotonic()

    def concluded(self, done: Done) -> None:
        """Note that these events are delivered or rejected."""
        texts: Sequence[Any] = done.group.events
        if done.error is None:
            self.accepted += len(texts)
        else:
            reason = said(done.error, texts)
            self.rejected.extend((text, reason) for text in texts)
        self._settled(texts)

    def stop(self, error: Exception, events: Sequence[bytes]) -> None:
        """Send nothing more."""
        self.unauthorized = isinstance(error, UnauthorizedDeliveryError)
        self.stopped = said(error, events)
        self._engine.close_full()

    def _notify(self) -> None:
        now = time.monotonic()
        if not self._engine.core.open:
            self._answered_at = now  # no request was pending, so the time without an answer starts now
        self._engine.mark(now)
        self._crew.wake_or_start()

    def _is_settled(self, target: int) -> bool:
        with self._engine.lock:
            return self._engine.is_settled(target)

    def _goes_on(self) -> bool:
        self._look()
        if self.stopped is None and time.monotonic() - self._answered_at > self._patience_s:
            self.stopped = self._sending.last_error or "no answer has come"
            self._engine.close_full()
        return self.stopped is None


class _Sending(Sending):
    def __init__(self, engine: Engine, delivery: Delivery, owner: Backfill) -> None:
        super().__init__(engine, delivery, Reporter(None))
        self._owner = owner

    def answered(self, group: InFlight, answer: Answer) -> None:
        if answer.kind == "unauthorized" and answer.error is not None:
            self._owner.stop(answer.error, group.events)
            return
        if answer.kind in ("delivered", "refused"):
            self._owner.answered()
        super().answered(group, answer)

    def conclude(self, done: Done) -> None:
        if done.outcome == "failed":
            self._owner.stop(final(done), done.group.events)
            return
        self._owner.concluded(done)
        self._engine.settle(done)
