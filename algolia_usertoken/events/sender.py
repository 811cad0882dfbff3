"""EventSender: accepts events at once, for the user that the call is for, and delivers them in the background."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

from algoliasearch.insights.config import InsightsConfig
from typing_extensions import Self

from ..checks import app_id_and_key, check_bool, check_number, check_type, is_async, wrong_type
from ..identity import Identity
from ..provider import TokenProvider, one_provider
from . import process
from .delivery import Delivery, InsightsDelivery
from .hits.methods import ReferenceMethods
from .methods import EventMethods
from .reporting import EventStats, OnError, Reporter
from .rules import MAX_EVENTS
from .worker import Worker

try:
    from .outbox import SQLiteOutbox
except ImportError:  # a Python without sqlite3, where there are no outboxes
    SQLiteOutbox = Any  # type: ignore[assignment,misc]


class EventSender(EventMethods, ReferenceMethods):
    """Sends Insights events, each for the user that the call is for, without making the caller wait.

        events = EventSender("APP_ID", "API_KEY", region="de")
        events.viewed_object_ids("Product Viewed", "products", ["p-01"])

    `send` and the event methods determine at once to which user the event belongs and when it happened. They check the
    event, refuse it if Algolia would refuse it, and queue it otherwise. The first event starts a thread, which delivers
    the events in batches.

    Args:
        app_id: The id of the application. By default, the value of the environment variable `ALGOLIA_APP_ID`.
        api_key: An API key with the ACL `search`. By default, the environment variable `ALGOLIA_API_KEY`.
        region: The region in which Algolia keeps the application's events: "us" or "de". By default, the events go to a
            host that forwards them.
        config: An `InsightsConfig` of algoliasearch, which has the id, the key and the region. It cannot be given
            together with `app_id`, `api_key` or `region`.
        user_token: The user of the events if nothing else names one, for example the name of a background job.
        token_provider: The `TokenProvider` that decides who the user of each event is. Give that of your search client.
            It cannot be given together with `user_token`. By default, a new one, which asks the context.
        delivery: The object that delivers the batches. By default, one that posts them to the Insights API. An object
            of your own decides where the events go, and `app_id`, `api_key`, `region` and `config` are not used.
        outbox: A `SQLiteOutbox`, which keeps the events on disk until Algolia has them. By default, they wait in
            memory.
        max_queue_size: How many events may wait in memory, without those of batches that are being delivered. If the
            queue is full, a new event is dropped. With an `outbox`, its `max_events` is the limit instead.
        max_queue_bytes: How many bytes of JSON may wait in memory, counted in the same way. With an `outbox`, the queue
            has no such limit.
        batch_size: How many events one request has at most, 1 to 1000.
        flush_interval: How many seconds at most an event waits for others that can share its request. 0: it does not
            wait.
        concurrency: How many threads deliver at the same time. Give more than 1 only for slow connections.
        max_retry_time: For how many seconds the sender retries a batch before it gives the batch up. `math.inf`: for
            ever.
        close_timeout: How many seconds `close`, or the exit of the process, waits for the delivery at most. `math.inf`:
            until all events are settled.
        background: Whether a thread delivers the events. Give False if no thread can run between calls (AWS Lambda), or
            if you want none (scripts). Then only `flush` and `close` deliver.
        strict: Whether `send` and the event methods raise an error if they refuse an event. Use it in development and
            tests. By default, a refused event is counted, logged and reported to `on_error`.
        on_error: A function that is called as `on_error(error, events)` when events were refused by the sender,
            rejected by Algolia, or given up. It is called in the thread that sends or in the one that delivers. Errors
            that it raises are logged. If it sends events itself, the errors that this causes are passed to it after
            that call, at most 100 of them; the others are only logged and counted.

    Raises:
        ValueError: A number is out of its range, the application's id or key is missing, or two arguments say the same:
            `user_token` and `token_provider`, or `config` and one that it has.
        TypeError: An argument is of the wrong type.
        InvalidUserTokenError: Algolia does not accept `user_token` as a user token.

    https://www.algolia.com/doc/rest-api/insights/push-events
    """

    def __init__(
        self,
        app_id: str | None = None,
        api_key: str | None = None,
        region: str | None = None,
        config: InsightsConfig | None = None,
        *,
        user_token: Identity | str | None = None,
        token_provider: TokenProvider | None = None,
        delivery: Delivery | None = None,
        outbox: SQLiteOutbox | None = None,
        max_queue_size: int = 10_000,
        max_queue_bytes: int = 67_108_864,
        batch_size: int = 1_000,
        flush_interval: float = 1.0,
        concurrency: int = 1,
        max_retry_time: float = 300.0,
        close_timeout: float = 5.0,
        background: bool = True,
        strict: bool = False,
        on_error: OnError | None = None,
    ) -> None:
        check_number("max_queue_size", max_queue_size, 1, whole=True)
        check_number("max_queue_bytes", max_queue_bytes, 1, whole=True)
        check_number("batch_size", batch_size, 1, MAX_EVENTS, whole=True)
        check_number("flush_interval", flush_interval, 0, unit="seconds")
        check_number("concurrency", concurrency, 1, whole=True)
        check_number("max_retry_time", max_retry_time, 0, unit="seconds")
        check_number("close_timeout", close_timeout, 0, unit="seconds")
        check_bool("background", background)
        check_bool("strict", strict)
        if on_error is not None and not callable(on_error):
            raise wrong_type("on_error", "callable", on_error)
        if config is not None:
            check_type("config", config, InsightsConfig, "an InsightsConfig")
            for name, value, what in (
                ("app_id", app_id, "which application it is"),
                ("api_key", api_key, "which key it is"),
                ("region", region, "which region it is"),
            ):
                if value is not None:
                    raise ValueError(f"{name} and config both say {what}: give one of them")
        if delivery is not None and (isinstance(delivery, type) or not hasattr(delivery, "deliver")):
            raise wrong_type("delivery", "an object with the methods of Delivery", delivery)
        # Nobody would await what these return, so nothing would be delivered, and nobody would learn of an error.
        for name, function in (("delivery.deliver", getattr(delivery, "deliver", None)), ("on_error", on_error)):
            if is_async(function):
                raise TypeError(f"{name} must be a plain function, not a coroutine function")
        if outbox is not None and (isinstance(outbox, type) or not hasattr(outbox, "attach")):
            raise wrong_type("outbox", "an SQLiteOutbox", outbox)
        self.token_provider = one_provider(user_token, token_provider)
        self.close_timeout = close_timeout
        self._strict = strict
        self._reporter = Reporter(on_error)
        self._worker = Worker(
            InsightsDelivery(config or _insights_config(app_id, api_key, region)) if delivery is None else delivery,
            self._reporter,
            outbox,
            max_queue_size=max_queue_size,
            max_queue_bytes=max_queue_bytes,
            batch_size=batch_size,
            flush_interval=min(flush_interval, threading.TIMEOUT_MAX),
            concurrency=concurrency,
            max_retry_time=max_retry_time,
            close_timeout=min(close_timeout, threading.TIMEOUT_MAX),
            background=background,
        )
        self._parent: EventSender | None = None  # the sender that this one is a view of

    @property
    def stats(self) -> EventStats:
        """What has become of the events so far. The counts add up at every moment: see `EventStats`."""
        return self._worker.stats

    def with_identity(self, identity: Identity | str | None) -> Self:
        """Return a view of this sender, which sends all its events for `identity`.

        The view uses the queue of this sender. Closing the view closes nothing.

        Args:
            identity: The user of the events: an `Identity`, or a string, which is a user token. `Identity()` means
                nobody. With None, this sender's token provider decides.

        Raises:
            InvalidUserTokenError: `identity` is neither an Identity nor a valid token nor None.

        https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
        """
        return self._with_provider(self.token_provider.with_identity(identity))

    def _with_provider(self, token_provider: TokenProvider) -> Self:
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.token_provider = token_provider
        view._parent = self
        return view

    def flush(self, timeout: float | None = None) -> bool:
        """Deliver the queued events now, and wait until that is done.

        Args:
            timeout: How many seconds to wait at most. With None, there is no limit.

        Returns:
            True if every event that was accepted before is settled, that is, delivered, rejected or given up. False if
            the time was not enough for that. `stats` says what has become of the events.

        Raises:
            TypeError: `timeout` is not a number.
            ValueError: `timeout` is "not a number" (NaN).
        """
        return self._worker.flush(_checked_timeout(timeout))

    def close(self, timeout: float | None = None) -> bool:
        """Accept no more events, deliver the queued ones, and end the threads. On a view, this does nothing.

        Args:
            timeout: How many seconds to wait at most. With None, the limit is `close_timeout`. Events that are not
                delivered by then are counted as failed; with an outbox, they stay there until the next start.

        Returns:
            True if every accepted event was settled in time, that is, delivered, rejected or given up after its
            retries. False if the time ran out. `stats` says what has become of the events.

        Raises:
            TypeError: `timeout` is not a number.
            ValueError: `timeout` is "not a number" (NaN).
        """
        return True if self._parent is not None else self._worker.close(_checked_timeout(timeout))

    def _close_with_client(self) -> None:
        """Have log lines about dropped events say that the client is closed, rather than the sender."""
        self._worker.closed_owner = "client"

    async def aflush(self, timeout: float | None = None) -> bool:
        """Do what `flush` does, for async code: the event loop goes on meanwhile.

        Args:
            timeout: How many seconds to wait at most. With None, there is no limit.

        Returns:
            True if every event that was accepted before is settled, that is, delivered, rejected or given up. False if
            the time was not enough for that. `stats` says what has become of the events.

        Raises:
            TypeError: `timeout` is not a number.
            ValueError: `timeout` is "not a number" (NaN).
        """
        if self._worker.asked_by_on_error():
            return self.flush(timeout)  # here, it does not wait
        return await _in_thread(self.flush, timeout)

    async def aclose(self, timeout: float | None = None) -> bool:
        """Do what `close` does, for async code: the event loop goes on meanwhile.

        Args:
            timeout: How many seconds to wait at most. With None, the limit is `close_timeout`.

        Returns:
            True if every accepted event was settled in time, that is, delivered, rejected or given up after its
            retries. False if the time ran out. `stats` says what has become of the events.

        Raises:
            TypeError: `timeout` is not a number.
            ValueError: `timeout` is "not a number" (NaN).
        """
        if self._worker.asked_by_on_error():
            return self.close(timeout)
        return await _in_thread(self.close, timeout)

    def close_on_signal(self, signum: int) -> None:
        """When a signal comes, deliver the queued events, and then do what the signal would have done without this.

        The queued events are delivered within `close_timeout`. Then the handler that was set before is called, or the
        signal ends the process. Call this in the main thread, after other code has set its handlers.

        Args:
            signum: The number of the signal, `signal.SIGTERM` for example.

        Raises:
            ValueError: This is not the main thread, there is no such signal, its handler was not set from Python, or
                nobody can handle it (SIGKILL).
            TypeError: `signum` is not a number.

        https://docs.python.org/3/library/signal.html
        """
        process.deliver_on_signal(self._worker, signum)

    def __getstate__(self) -> Any:
        raise TypeError("an EventSender can't be pickled or copied, as its queue is this process's own: make a new one")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # A view keeps its sender alive, so nobody can reach this sender any more.
        if self.__dict__.get("_parent", self) is None:
            self._worker.orphan()


def _insights_config(app_id: str | None, api_key: str | None, region: str | None) -> InsightsConfig:
    app_id, api_key = app_id_and_key(app_id, api_key)
    if not app_id or not api_key:
        missing = "api_key (or ALGOLIA_API_KEY)" if app_id else "app_id (or ALGOLIA_APP_ID)"
        raise ValueError(f"{missing} is missing: give it, or a config, or a delivery")
    return InsightsConfig(app_id, api_key, region)


async def _in_thread(function: Callable[[float | None], bool], timeout: float | None) -> bool:
    """Call `function` in a thread, and wait for it.

    The thread does not belong to an executor, as the event loop waits for an executor's threads when it ends, even if
    no other code waits for them any more.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def settle(error: Exception | None, result: bool) -> None:
        if not done.done():
            done.set_result(result) if error is None else done.set_exception(error)

    def run() -> None:
        error, result = None, False
        try:
            result = function(timeout)
        except Exception as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, error, result)

    threading.Thread(target=run, name="algolia-usertoken-flush", daemon=True).start()
    return await done


def _checked_timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    check_number("timeout", timeout, None, unit="seconds")
    return max(min(timeout, threading.TIMEOUT_MAX), -threading.TIMEOUT_MAX)  # a lock cannot wait longer
