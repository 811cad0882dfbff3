"""Celery: a task runs as whoever it was sent for, and a worker delivers events.

The identity travels in a header of the task's message, with `delay`, `retry`, `chain`, `group` and `chord`.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
import traceback
from collections.abc import Mapping, MutableMapping
from contextlib import nullcontext
from typing import Any
from weakref import WeakKeyDictionary

from algoliasearch.insights.config import InsightsConfig
from celery import Celery, signals
from kombu.exceptions import OperationalError

from ..context import current_identity, identity_scope
from ..errors import (
    BatchRejectedError,
    InvalidClientIPError,
    InvalidUserTokenError,
    RetryableDeliveryError,
    UnauthorizedDeliveryError,
    kind_of,
)
from ..events.delivery import Batch, Delivery, InsightsDelivery
from ..identity import Identity
from ..provider import TokenProvider, check_provider

__all__ = ["CeleryDelivery", "install", "uninstall"]

HEADER = "algolia_identity"
LONGEST_WAIT = 600.0  # seconds between two attempts of a worker
RETRIES = 150  # which takes a day or so
SECONDS_BETWEEN_COMPLAINTS = 60.0

logger = logging.getLogger("algolia_usertoken.integrations")

# Celery's signals belong to the process, not to an application. This says for which ones they are connected, and whom
# each asks for the identity.
_installed: WeakKeyDictionary[Celery, TokenProvider | None] = WeakKeyDictionary()
_configs: WeakKeyDictionary[Celery, dict[str, Any]] = WeakKeyDictionary()  # of the deliveries of each, by queue
_ARGSREPR = "(events)"  # what logs and monitors of Celery show instead of them
_silent_until = 0.0
_SCOPE = "_algolia_identity_scope"  # on a task's request: what was set for it


def install(app: Celery, *, token_provider: TokenProvider | None = None) -> None:
    """Send the current identity along with each task, and run each task as the identity sent with it.

    Call it where the application is made, so that the processes that send and the workers both do. A task sent where
    there was no identity has none, so a client's default applies. What runs eagerly, in the caller's process, runs as
    the caller, who does not become what it sets. A header `algolia_identity` given to `apply_async` stays. Done twice,
    it counts once.

    Celery's signals are those of the process: with two applications in one, both send, and ask the same provider.

    Args:
        app: The Celery application.
        token_provider: Decides whose a task is when it is sent: give the client's, where its `resolve` or its default
            knows. Without it the context alone is asked. Where its `resolve` fails, the task runs as nobody.

    Raises:
        TypeError: `app` is no Celery application, or `token_provider` no TokenProvider.
        ValueError: This process has another `token_provider` already, for this application or another one.
    """
    if not isinstance(app, Celery):
        raise TypeError(f"app must be a Celery application, not {type(app).__name__}")
    if token_provider is not None:
        check_provider(token_provider)
        if _provider() not in (None, token_provider):
            raise ValueError("this process has another token_provider, and Celery does not say which application sends")
    _installed[app] = token_provider or _installed.get(app)
    for signal, receiver in _receivers():
        signal.connect(receiver, weak=False, dispatch_uid=f"algolia_usertoken.{receiver.__name__}")


def uninstall(app: Celery) -> None:
    """Undo `install`; for an application that was not given it, nothing."""
    if app not in _installed:
        return
    del _installed[app]
    if not _installed:
        for signal, receiver in _receivers():
            signal.disconnect(dispatch_uid=f"algolia_usertoken.{receiver.__name__}")


def _receivers() -> list[tuple[Any, Any]]:
    return [
        (signals.before_task_publish, _send),
        (signals.task_prerun, _begin),
        (signals.task_postrun, _end),
    ]


def _send(headers: MutableMapping[str, Any] | None = None, **_: Any) -> None:
    if headers is None or HEADER in headers:
        return
    provider = _provider()
    try:
        identity = current_identity() if provider is None else provider.identity()
    except Exception as error:
        # Celery would log the text of the error, which may be personal, and the task would run as the client's default.
        _complain(error)
        identity = Identity()
    if identity is not None:
        headers[HEADER] = _as_header(identity)


def _complain(error: Exception) -> None:
    global _silent_until
    now = time.monotonic()
    if now < _silent_until:
        return
    _silent_until = now + SECONDS_BETWEEN_COMPLAINTS
    logger.error(
        "token_provider failed with %s; the task that is sent runs as nobody. This is logged at most once a minute. It "
        "was raised here:\n%s",
        type(error).__name__,
        "".join(traceback.format_tb(error.__traceback__)).rstrip(),
    )


def _provider() -> TokenProvider | None:
    """The one that the applications of this process ask, if any."""
    return next((provider for provider in _installed.values() if provider is not None), None)


def _begin(task: Any, **_: Any) -> None:
    # An eager task runs as its caller, who is not to become what it sets.
    eager = task.request.is_eager
    scope = identity_scope(current_identity() if eager else _as_identity(task.request.get(HEADER)))
    setattr(task.request, _SCOPE, scope)
    scope.__enter__()


def _end(task: Any, **_: Any) -> None:
    # There is no scope where the task itself has called `install`.
    scope = task.request.__dict__.pop(_SCOPE, nullcontext())
    scope.__exit__(None, None, None)


def _as_header(identity: Identity) -> dict[str, Any]:
    fields = {
        "user_token": identity.user_token,
        "authenticated_user_token": identity.authenticated_user_token,
        "client_ip": identity.client_ip,
        "opted_out": identity.opted_out or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _as_identity(header: object) -> Identity | None:
    if header is None:
        return None
    try:
        if not isinstance(header, Mapping):
            raise TypeError(f"must be a mapping, not {type(header).__name__}")
        return Identity(**header)
    except (InvalidUserTokenError, InvalidClientIPError, TypeError):
        # Somebody's, but not known whose: nobody's, rather than the client's default.
        logger.warning("the header %s of a task is no identity; the task runs as nobody", HEADER)
        return Identity()


class CeleryDelivery:
    """Hands batches of events to a Celery worker, which delivers them: `EventSender(delivery=CeleryDelivery(app))`.

    For those whom one process no longer serves: the broker keeps what Algolia does not take, and outlives the process.
    Make it where the application is made, so that the workers know the task, and have one of them take the queue:
    `celery -A shop worker -Q celery,algolia-events`.

    A batch is acknowledged once it is delivered (`acks_late`), so a worker that is killed meanwhile loses none, and
    may deliver it twice. What may be accepted later is retried, for up to a day; a batch that Algolia refuses is split
    until what is bad stands alone, which is logged.

    Args:
        app: The Celery application.
        queue: The queue for the batches.
        config: App id, key and region for the workers; by default from the environment's `ALGOLIA_APP_ID` and
            `ALGOLIA_API_KEY` there.

    Raises:
        TypeError: `app` is no Celery application.
        ValueError: `queue` has another `config` already.
    """

    def __init__(self, app: Celery, queue: str = "algolia-events", *, config: InsightsConfig | None = None) -> None:
        if not isinstance(app, Celery):
            raise TypeError(f"app must be a Celery application, not {type(app).__name__}")
        known = _configs.setdefault(app, {}).setdefault(queue, config)
        if known is not config:  # Celery would keep the first task of that name
            raise ValueError(f"queue {queue!r} has a CeleryDelivery with another config: each needs a queue of its own")
        self._queue = queue
        self._config = config
        self._insights: Delivery | None = None

        @app.task(  # type: ignore[untyped-decorator,unused-ignore]
            name=f"algolia_usertoken.deliver.{queue}",
            bind=True,
            acks_late=True,
            reject_on_worker_lost=True,
            ignore_result=True,
            max_retries=RETRIES,
        )
        def deliver_events(task: Any, body: str) -> None:
            self._deliver_in_worker(task, body)

        self._task = deliver_events

    def deliver(self, batch: Batch, timeout: float | None) -> None:
        """Hand a batch to the broker.

        Raises:
            RetryableDeliveryError: It cannot be reached.
        """
        try:
            self._task.apply_async((batch.body.decode(),), queue=self._queue, retry=False, argsrepr=_ARGSREPR)
            return
        except OperationalError as error:
            failure = RetryableDeliveryError(f"no connection to the broker: {kind_of(error)}")
        raise failure  # not chained: what a broker says may have its password in it

    def close(self) -> None:
        """Nothing: the connections are the application's."""

    def _deliver_in_worker(self, task: Any, body: str) -> None:
        events = json.loads(body)["events"]
        try:
            self._to_algolia().deliver(Batch(events, body.encode()), 30.0)
        except BatchRejectedError as error:
            if len(events) == 1:
                logger.warning("event rejected: %s", error)
                return
            middle = len(events) // 2
            for half in (events[:middle], events[middle:]):
                task.apply_async((self._body(half).decode(),), queue=self._queue, argsrepr=_ARGSREPR)
        except (RetryableDeliveryError, UnauthorizedDeliveryError, OSError) as error:
            wait = getattr(error, "delay", None)
            if wait is None:
                wait = random.uniform(1, min(LONGEST_WAIT, 2**task.request.retries + 1))
            countdown = min(wait, LONGEST_WAIT)
            raise task.retry(exc=error, countdown=countdown, queue=self._queue, argsrepr=_ARGSREPR) from error

    @staticmethod
    def _body(events: list[Any]) -> bytes:
        return json.dumps({"events": events}, separators=(",", ":"), ensure_ascii=False).encode()

    def _to_algolia(self) -> Delivery:
        if self._insights is None:
            config = self._config
            if config is None:
                config = InsightsConfig(os.environ.get("ALGOLIA_APP_ID"), os.environ.get("ALGOLIA_API_KEY"))
            self._insights = InsightsDelivery(config)
        return self._insights
