"""Celery: a worker delivers events.

One message is one batch. One run of the task drives the core of the sender with it, so a worker tries again, splits
refused batches and gives up as a sender does. If the core has to wait, the events that are left go back to the broker.
Their messages say how often and for how many seconds they were tried, so that no clocks of two machines are compared.
A message is acknowledged when its events are delivered, or are with the broker in other messages.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from algoliasearch.insights.config import InsightsConfig
from celery import Celery, signals

from ..checks import check_type
from ..errors import DeliveryError, RetryableDeliveryError, UnauthorizedDeliveryError, kind_of, raised
from ..events.delivery import (
    LONGEST_REQUEST_S,
    MAX_BYTES,
    MAX_BYTES_OF_EVENTS,
    Batch,
    Delivery,
    InsightsDelivery,
    batch_of,
)
from ..events.engine import site_of
from ..events.in_flight import InFlight, Post, Wait
from ..events.queue import Core
from ..events.retries import Answer, answer_of, is_over, pause_s

__all__ = ["CeleryDelivery"]

PATIENCE_S = 86_400.0  # for how long a batch is tried, without the time that its message waits for a worker
LONGEST_RUN_S = 60.0  # after which a task hands the remaining events back; its last request may add 30 seconds
TIME_LIMIT_S = 300  # of a run, as the limit of the application or of the worker may be shorter than a request
SECONDS_BETWEEN_COMPLAINTS = 60.0

logger = logging.getLogger("algolia_usertoken.integrations")

_configs: WeakKeyDictionary[Celery, dict[str, Any]] = WeakKeyDictionary()  # of each application's deliveries, by queue
_OPTIONS = {
    "argsrepr": "(events)",  # what logs and monitors of Celery show instead of the events
    "kwargsrepr": "{}",
    "ignore_result": True,
    "time_limit": TIME_LIMIT_S,
    "soft_time_limit": TIME_LIMIT_S - 10,
}


class CeleryDelivery:
    """Hands batches of events to a Celery worker, which delivers them: `EventSender(delivery=CeleryDelivery(app))`.

    The broker keeps the events that Algolia does not accept yet, even if the process that sent them has ended. Make
    the delivery where the application is made, so that the workers know its task, and have a worker take the queue:
    `celery -A shop worker -Q celery,algolia-events`. Deploy the workers first, as a worker that does not know the task
    throws its messages away.

    A message is acknowledged when each of its events is delivered, or has gone back to the queue for another attempt,
    or is in the queue of dead letters, `algolia-events-dead`, with the reason: Algolia refused it, or accepted nothing
    for a day. So no event is lost if a worker is killed, reaches a time limit, fails or has no key, but some events may
    be delivered twice. Where tasks run eagerly, a batch is delivered at once.

    Args:
        app: The Celery application.
        queue: The name of the queue for the batches.
        config: The application, the key and the region for the workers. By default, `ALGOLIA_APP_ID` and
            `ALGOLIA_API_KEY` of their environment.

    Raises:
        TypeError: `app` is no Celery application.
        ValueError: `queue` has another `config` already.

    https://docs.celeryq.dev/en/stable/userguide/tasks.html
    """

    def __init__(self, app: Celery, queue: str = "algolia-events", *, config: InsightsConfig | None = None) -> None:
        check_type("app", app, Celery, "a Celery application")
        known = _configs.setdefault(app, {}).setdefault(queue, config)
        if known is not config:  # Celery would keep the first task of the same name
            raise ValueError(f"queue {queue!r} has a CeleryDelivery with another config: each needs a queue of its own")
        self._app = app
        self._queue = queue
        self._config = config
        self._insights: Delivery | None = None
        self._silent_until = 0.0

        @app.task(  # type: ignore[untyped-decorator,unused-ignore]
            name=f"algolia_usertoken.deliver.{queue}",
            Request=f"{__package__}.celery_request:DeliverRequest",
            send_again=self._send_again,
            acks_late=True,
            # All three are set, as before Celery 5.7 the first one stands for the others.
            acks_on_failure_or_timeout=False,
            acks_on_failure=False,
            acks_on_timeout=False,
            reject_on_worker_lost=True,
            ignore_result=True,
        )
        def deliver_events(body: str, attempts: int = 0, age_s: float = 0.0) -> None:
            self._deliver_in_worker(body, attempts, age_s)

        self._task = deliver_events
        signals.worker_ready.connect(self._complain_at_start)  # a weak reference to this delivery

    @property
    def dead_letters(self) -> str:
        """The name of the queue for events that were given up."""
        return f"{self._queue}-dead"

    def deliver(self, batch: Batch, timeout: float) -> None:
        """Give a batch to the broker.

        Args:
            batch: The events.
            timeout: Not used, as Celery's own settings say how long this may take.

        Raises:
            RetryableDeliveryError: The broker cannot be reached, or does not accept the batch.
        """
        if self._app.conf.task_always_eager:  # a sender knows better what to do with an error than an eager task
            self._to_algolia().deliver(batch, timeout)
            return
        try:
            self._send(batch.body.decode(), retry=False)
            return
        except Exception as error:
            failure = RetryableDeliveryError(f"no connection to the broker: {kind_of(error)}")
        raise failure  # it is not chained to the broker's error, in which there may be a password

    def close(self) -> None:
        """Do nothing, as the connections are those of the Celery application."""

    # In a worker.

    def _deliver_in_worker(self, body: str, attempts: int, age_s: float) -> None:
        texts = [json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode() for event in _events_of(body)]
        start = now = time.monotonic()
        core = Core(
            batch_size=max(1, len(texts)),
            batch_bytes=MAX_BYTES_OF_EVENTS,
            flush_interval=0.0,
            max_retry_time=PATIENCE_S,
            max_suspect_bytes=2 * MAX_BYTES,
            site_of=site_of,
        )
        core.took(texts, 0, now, attempts=attempts, first_sent=now - age_s if attempts else None)
        given_up: dict[str, list[Any]] = {}  # by the reason
        until = now
        while now < start + LONGEST_RUN_S:
            action = core.next(now, 0, now)
            if not isinstance(action, Post):  # it is a `Wait`, as nothing is left to take
                until = action.until if isinstance(action, Wait) else now
                break
            answer = self._attempt(action.group)
            now = time.monotonic()
            for done in core.answered(action.group, answer, now, random.random()):
                if done.outcome != "delivered":
                    reason = f"{done.outcome}: {_said(done.error)}"
                    given_up.setdefault(reason, []).extend(map(json.loads, done.group.events))
                core.settled(done)
        for reason, events in given_up.items():
            self._bury(events, reason, age_s + now - start)
        self._hand_back(core, until, now)

    def _attempt(self, group: InFlight) -> Answer:
        error: Exception | None = None
        try:
            self._to_algolia().deliver(batch_of(group.events), LONGEST_REQUEST_S)
        except Exception as found:
            error = found
        answer = answer_of(error)
        if answer.kind in ("retry", "unauthorized"):
            self._complain(f"events are not delivered, and wait: {_said(answer.error)}")
        return answer

    def _hand_back(self, core: Core, until: float, now: float) -> None:
        """Send the events that are not settled to the broker, as messages for other runs."""
        held = core.held
        known = {id(event) for group in held for event in group.events}
        suspects = InFlight([event for event in core.give_up([]).events if id(event) not in known])
        for group in [*held, suspects] if suspects.events else held:
            wait = max(0.0, group.until - now, until - now)
            age_s = 0.0 if group.first_sent is None else now - group.first_sent + wait
            self._send(batch_of(group.events).body.decode(), group.attempts, age_s, wait)

    def _send_again(self, why: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        """Send the message of an unfinished run once more, for a run after a pause; after a day, give its events up."""
        attempts, age_s = kwargs.get("attempts", 0), kwargs.get("age_s", 0.0)
        wait = pause_s(Answer("retry"), attempts, random.random())
        self._complain(f"events are tried again: {why}")
        if is_over(0.0, age_s, wait, PATIENCE_S):
            self._bury(_events_of(*args[:1]), f"failed: {why}", age_s)
        else:
            self._publish(args, {**kwargs, "attempts": attempts + 1, "age_s": age_s + wait}, countdown=wait)

    def _send(self, body: str, attempts: int = 0, age_s: float = 0.0, wait: float = 0.0, **options: Any) -> None:
        tried = {"attempts": attempts, "age_s": age_s} if attempts else {}
        if wait:
            options["countdown"] = wait
        self._publish((body,), tried, **options)

    def _publish(self, args: Sequence[Any], kwargs: dict[str, Any], **options: Any) -> None:
        # Not sent by the task, whose apply_async has rules of its own for arguments and for time limits.
        self._app.send_task(self._task.name, args, kwargs, **{**_OPTIONS, "queue": self._queue, **options})

    def _bury(self, events: Sequence[Any], reason: str, age_s: float) -> None:
        letter = {"reason": reason, "age_s": age_s, "events": events}
        policy = self._app.conf.task_publish_retry_policy
        with self._app.connection_or_acquire() as connection, connection.SimpleQueue(self.dead_letters) as letters:
            letters.put(letter, serializer="json", retry=True, retry_policy=policy)
        what = "event" if len(events) == 1 else f"{len(events)} events"
        logger.warning("%s put into the queue %r: %s", what, self.dead_letters, reason)

    def _to_algolia(self) -> Delivery:
        """The delivery to Algolia, made on first use.

        Raises:
            UnauthorizedDeliveryError: There is no key.
        """
        if self._insights is None:
            config = self._config
            if config is None:
                app_id, api_key = os.environ.get("ALGOLIA_APP_ID"), os.environ.get("ALGOLIA_API_KEY")
                if not app_id or not api_key:
                    raise UnauthorizedDeliveryError("the environment has no ALGOLIA_APP_ID and ALGOLIA_API_KEY")
                config = InsightsConfig(app_id, api_key)
            self._insights = InsightsDelivery(config)
        return self._insights

    def _complain_at_start(self, sender: Any = None, **_: Any) -> None:
        """Log an error when a worker without a key starts, rather than at its first event."""
        app = getattr(sender, "app", None)
        if app is not self._app or self._queue not in app.amqp.queues.consume_from:
            return
        try:
            self._to_algolia()
        except DeliveryError as error:
            logger.error("this worker consumes the queue %r, but its events will wait: %s", self._queue, error)

    def _complain(self, message: str) -> None:
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + SECONDS_BETWEEN_COMPLAINTS
            logger.warning("%s. This is logged at most once a minute", message)


def _said(error: Exception | None) -> str:
    """The text for an error; an error that is not ours is named without its own text, which may quote anything."""
    return str(error) if isinstance(error, DeliveryError) else raised(error or DeliveryError())


def _events_of(body: Any = None) -> list[Any]:
    """The events of a message; for a message from other code, whatever it holds, which Algolia will refuse."""
    try:
        events = json.loads(body)["events"]
    except Exception:
        return [body]
    return events if isinstance(events, list) else [events]
