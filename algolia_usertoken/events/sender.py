"""EventSender: accepts events at once, attributed to whoever the call is for, and delivers them in the background."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from os import environ
from typing import Any

from algoliasearch.insights.config import InsightsConfig
from typing_extensions import Self

from ..checks import check_bool, check_number, check_type, wrong_type
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
    """Sends Insights events on behalf of whoever a call is for, without making the caller wait.

    `send` and the twelve methods take the identity and the time now, check the event and queue it; a thread, started by
    the first event, delivers batches. What Algolia would refuse is refused at the door.

    Args:
        app_id, api_key, region, config: As in algoliasearch's `InsightsClient`. `app_id` and `api_key` default to the
            environment's `ALGOLIA_APP_ID` and `ALGOLIA_API_KEY`.
        user_token: Who is meant where nobody else says.
        token_provider: Decides whose events they are. Not together with `user_token`.
        delivery: Where to deliver to; by default the Insights API, over HTTP.
        outbox: Where to keep events on disk until Algolia has them; by default they wait in memory.
        max_queue_size: Events that may wait (batches on their way not counted); a further one is dropped.
        max_queue_bytes: Bytes of JSON that may wait, likewise.
        batch_size: Events per request, 1 to 1000.
        flush_interval: Seconds that an event waits for others to share its request.
        concurrency: Threads that deliver at once, for slow links.
        max_retry_time: Seconds after which a batch that finds no connection is given up.
        close_timeout: Seconds that `close` and the exit of the process take at most; `math.inf`: as long as it takes.
        background: False where threads do not run (AWS Lambda, scripts): `flush` delivers.
        strict: Raise what is refused at the door, for development and tests, instead of counting and reporting it.
        on_error: Called with an error and the events concerned: what was refused, rejected or given up. From the
            thread that sent, or from the one that delivers; what it raises is logged.

    Raises:
        ValueError: An argument is out of its range, or app id and key are missing.
        TypeError: An argument is something else.

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
        if delivery is not None and (isinstance(delivery, type) or not hasattr(delivery, "deliver")):
            raise wrong_type("delivery", "an object with the methods of Delivery", delivery)
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
        self._parent: EventSender | None = None  # of a view

    @property
    def stats(self) -> EventStats:
        """The counts so far; they add up at every moment."""
        return self._worker.stats

    def with_identity(self, identity: Identity | str | None) -> Self:
        """A view that sends as `identity` through the same queue; closing it closes nothing."""
        return self._with_provider(self.token_provider.with_identity(identity))

    def _with_provider(self, token_provider: TokenProvider) -> Self:
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.token_provider = token_provider
        view._parent = self
        return view

    def flush(self, timeout: float | None = None) -> bool:
        """Deliver what is queued, at once.

        Args:
            timeout: Seconds to wait at most; None: as long as it takes.

        Returns:
            True if everything that was accepted before is settled, that is delivered, rejected or given up.
        """
        return self._worker.flush(_checked_timeout(timeout))

    def close(self, timeout: float | None = None) -> bool:
        """Take no more events, deliver what is queued, and end; on a view, do nothing.

        Args:
            timeout: Seconds to wait at most; None: `close_timeout`. What there is no time for has failed.

        Returns:
            True if everything that was accepted is settled.
        """
        return True if self._parent is not None else self._worker.close(_checked_timeout(timeout))

    def _close_with_client(self) -> None:
        """Say of events that are dropped that the client is closed, to which this sender belongs."""
        self._worker.closed_owner = "client"

    async def aflush(self, timeout: float | None = None) -> bool:
        """`flush` for async code: the event loop goes on meanwhile."""
        if self._worker.asked_by_on_error():
            return self.flush(timeout)  # which does not wait
        return await _in_thread(self.flush, timeout)

    async def aclose(self, timeout: float | None = None) -> bool:
        """`close` for async code: the event loop goes on meanwhile."""
        if self._worker.asked_by_on_error():
            return self.close(timeout)
        return await _in_thread(self.close, timeout)

    def close_on_signal(self, signum: int) -> None:
        """On this signal (`signal.SIGTERM`, say), deliver, then let the earlier disposition act.

        Deliver what is queued, within `close_timeout`; then call the handler that was set before, or let the signal end
        the process as it would have. Call it in the main thread, after others have set their handlers.

        Raises:
            ValueError: Not in the main thread, no such signal, one that has a handler written in C, or SIGKILL.
            TypeError: `signum` is no number.
        """
        process.deliver_on_signal(self._worker, signum)

    def __getstate__(self) -> Any:
        raise TypeError("an EventSender can't be pickled or copied: its queue belongs to this process; make a new one")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # A view keeps its sender alive, so this is the last one.
        if self.__dict__.get("_parent", self) is None:
            self._worker.orphan()


def _insights_config(app_id: str | None, api_key: str | None, region: str | None) -> InsightsConfig:
    app_id = environ.get("ALGOLIA_APP_ID") if app_id is None else app_id
    api_key = environ.get("ALGOLIA_API_KEY") if api_key is None else api_key
    if not app_id or not api_key:
        missing = "api_key (or ALGOLIA_API_KEY)" if app_id else "app_id (or ALGOLIA_APP_ID)"
        raise ValueError(f"{missing} is missing: give it, or a config, or a delivery")
    return InsightsConfig(app_id, api_key, region)


async def _in_thread(function: Callable[[float | None], bool], timeout: float | None) -> bool:
    """Not in an executor: the end of the loop would wait for it, even where nobody does any more."""
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
    return min(timeout, threading.TIMEOUT_MAX)  # as long as a lock can wait
