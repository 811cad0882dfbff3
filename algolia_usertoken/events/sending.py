"""One attempt to deliver a group of events, and the report of its outcome; shared by all threads that deliver."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence

from ..errors import BatchRejectedError, DeliveryError, OutboxError, RetryableDeliveryError, UserTokenError, raised
from .delivery import MAX_BYTES, Delivery, batch_of, without_values
from .engine import Engine
from .in_flight import Done, InFlight
from .reporting import Reporter
from .retries import Answer, answer_of
from .rules import Event


class Sending:
    """Sends groups of events, and reports.

    Attributes:
        last_success: When events were last delivered, in seconds since the epoch.
        last_error: The text of the last failure.
    """

    def __init__(self, engine: Engine, delivery: Delivery, reporter: Reporter) -> None:
        self._engine = engine
        self._delivery = delivery
        self._reporter = reporter
        self.last_success: float | None = None
        self.last_error: str | None = None

    def attempt(
        self, group: InFlight, timeout: float, may_be_interrupted: bool, begin: Callable[[], object]
    ) -> Answer | None:
        """Send a group once, within `timeout` seconds.

        Args:
            group: The group.
            timeout: The time limit of the request.
            may_be_interrupted: Whether Ctrl-C is raised in the calling thread, which flushes; the group waits again.
            begin: Called right before the request.

        Returns:
            The answer. None if nothing was sent, as another process has taken over the events, or they were given up.
        """
        error: BaseException | None = None
        try:
            if not self._engine.confirm(group):
                return None
            batch = batch_of(group.events)
            if len(batch.body) >= MAX_BYTES:
                what = f"the event has {len(batch.body)} bytes, and a request must have less than {MAX_BYTES}"
                raise BatchRejectedError(what)
            begin()
            # The last thing before the request, as the process may have been stopped for any time since `next` returned
            # the group. Only a stop between this line and the call can still have a group sent that was given up.
            if group.abandoned:
                return None
            self._delivery.deliver(batch, timeout)
        except OutboxError as busy:
            error = RetryableDeliveryError(str(busy))
        except BaseException as anything:
            error = anything
        if may_be_interrupted and error is not None and not isinstance(error, Exception):
            with self._engine.lock:
                self._engine.core.returned(group, time.monotonic())
            raise error
        return answer_of(error)

    def answered(self, group: InFlight, answer: Answer) -> None:
        """Handle the answer to an attempt."""
        if answer.error is None:
            self.last_success = time.time()
        else:
            self.last_error = said(answer.error, group.events)
            if answer.kind == "unauthorized":
                why = f"the API key is not accepted, so the events wait: {self.last_error}"
                self._reporter.log("unauthorized", why)
        for done in self._engine.answered(group, answer, time.monotonic(), random.random()):
            self.conclude(done)

    def conclude(self, done: Done) -> None:
        """Report an outcome, then count it, so that `on_error` has been called by the time `flush` returns."""
        if done.error is not None:
            self.report(done.outcome, final(done), done.group.events)
        try:
            self._engine.settle(done)
        except OutboxError as error:
            error.settled = True
            self.fail(error, done.group.events)

    def report(self, outcome: str, error: Exception, events: Sequence[bytes]) -> None:
        """Log that events were rejected or given up, and call `on_error`."""
        what = "event" if len(events) == 1 else f"{len(events)} events"
        self._reporter.log(outcome, f"{what} {outcome}: {said(error, events)}", len(events))
        self._call_on_error(error, events)

    def fail(self, error: OutboxError, events: Sequence[bytes] | None = ()) -> None:
        """Log an error of an outbox, and call `on_error` with the events concerned; with None, do not call it."""
        self.last_error = str(error)
        self._reporter.log("failed", str(error))
        if events is not None:
            self._call_on_error(error, events)

    def drop(self, error: DeliveryError, events: Sequence[bytes]) -> None:
        """Count and report events that were not accepted, as the outbox could not store them."""
        self.last_error = str(error)
        for _ in events:
            self._reporter.drop(str(error))
        self._call_on_error(error, events)

    def _call_on_error(self, error: Exception, events: Sequence[bytes]) -> None:
        if self._reporter.on_error is None:
            return
        try:
            self._reporter.call_on_error(error, [parsed(event) for event in events])
        except BaseException as from_there:  # for example SystemExit: on_error must not end this thread
            self._reporter.log("on_error", f"on_error raised {type(from_there).__name__}")


def parsed(event: bytes) -> Event:
    """A queued event as the application gave it, with the fields that the sender filled in."""
    try:
        found = json.loads(event)
    except (ValueError, RecursionError):  # somebody else wrote into the file of an outbox
        found = None
    return found if isinstance(found, dict) else {"unreadable": event.decode(errors="replace")}


def said(error: Exception, events: Sequence[bytes]) -> str:
    """The text for a log line about an error of a delivery, without the error's own text if its type is not ours."""
    if isinstance(error, UserTokenError):
        return without_values(str(error), map(parsed, events))
    return f"the delivery raised {raised(error)}"


def final(done: Done) -> Exception:
    """The error to report; if attempts were repeated until the group was given up, it says how many there were."""
    group, error = done.group, done.error
    assert error is not None
    if done.outcome != "failed" or answer_of(error).kind not in ("retry", "unauthorized"):
        return error
    final = DeliveryError(f"given up after {group.attempts} attempts: {said(error, group.events)}")
    final.__cause__ = error
    return final
