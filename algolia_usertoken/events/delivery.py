"""How a batch of events reaches Algolia, or whatever else it is delivered to."""

from __future__ import annotations

import json
import netrc  # noqa: F401 - requests imports it at a first request, which is made in a thread
import os
import queue
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote, unquote

import requests
from algoliasearch.http.api_response import ApiResponse
from algoliasearch.http.hosts import Host
from algoliasearch.http.request_options import RequestOptions
from algoliasearch.http.retry import RetryOutcome, RetryStrategy
from algoliasearch.http.transporter_sync import TransporterSync
from algoliasearch.http.verb import Verb
from algoliasearch.insights.config import InsightsConfig
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from ..errors import BatchRejectedError, DeliveryError, RetryableDeliveryError, UnauthorizedDeliveryError, kind_of
from .model import Event

MAX_EVENTS = 1000
MAX_BYTES = 2_000_000  # a body must be smaller


@dataclass(frozen=True, slots=True)
class Batch:
    """One request's worth of events.

    `events` are 1 to 1000 events as dicts, not to be changed; `body` is the JSON text `{"events":[…]}` in UTF-8, of
    less than 2,000,000 bytes.
    """

    events: Sequence[Event]
    body: bytes


@runtime_checkable
class Delivery(Protocol):
    """Takes one batch at a time to where it belongs.

    With `concurrency` above 1, `deliver` is called from several threads at once; after a fork, in another process.
    """

    def deliver(self, batch: Batch, timeout: float | None) -> None:
        """Deliver `batch`, within about `timeout` seconds (None: as long as it takes).

        Raises:
            BatchRejectedError: Something in the batch is bad. It is split, until what is bad stands alone.
            RetryableDeliveryError: Try again, after its `delay` or with exponential back-off. An `OSError` (which
                connection errors and time-outs are) means the same.
            UnauthorizedDeliveryError: The key is not accepted; try again, slowly.
            DeliveryError: Give the batch up. So does any other exception.
        """

    def close(self) -> None:
        """Let go of connections; called once, by the sender's `close`."""


class InsightsDelivery:
    """Delivers to the Insights API, over algoliasearch's own sync transporter.

    Hosts, proxies, user agent, time-outs and gzip are the config's. What a sender has no use for is switched off: that
    a host is left alone for 300 seconds after one error, and that a 429 is slept through inside the call.

    https://www.algolia.com/doc/rest-api/insights/push-events
    """

    def __init__(self, config: InsightsConfig) -> None:
        config.set_default_hosts()  # type: ignore[no-untyped-call]
        self._config = copy(config)  # shares the headers: a key that is set later counts
        self._config.hosts = deepcopy(config.hosts)
        self._config.max_rate_limit_retries = 0
        self._request_options = RequestOptions(self._config)
        self._local = threading.local()

    def deliver(self, batch: Batch, timeout: float | None) -> None:
        """Post `batch`; `timeout`, in seconds, bounds the config's own time-outs. Errors as in `Delivery`."""
        body: str | bytes = batch.body.decode() if self._config.compression_type else batch.body
        options = self._request_options.merge(timeouts=self._timeouts(timeout))
        options.data = body
        failure: DeliveryError
        try:
            self._transporter().request(Verb.POST, "/1/events", options, False)
            return
        except DeliveryError as error:
            error.args = (without_values(str(error), batch.events)[:500], *error.args[1:])
            raise
        except requests.RequestException as error:
            failure = RetryableDeliveryError(f"no connection: {kind_of(error)}")
        except UnicodeError as error:  # of a header that can't be sent
            failure = DeliveryError(f"the request could not be made: {kind_of(error)}")
        raise failure  # not chained: those errors keep the request, and may quote its headers

    def close(self) -> None:
        """Close the connection of this thread; those of others go with their threads."""
        transporter = self._local.__dict__.pop("transporter", None)
        if transporter is not None and self._local.pid == os.getpid():
            transporter.close()

    def _transporter(self) -> TransporterSync:
        # A transporter keeps the state of its request on itself, and a connection must not be shared with a fork.
        local = self._local
        if local.__dict__.get("pid") != os.getpid():
            local.pid = os.getpid()
            local.__dict__.pop("transporter", None)
        if "transporter" not in local.__dict__:
            local.transporter = _InsightsTransporter(self._config)
        transporter: TransporterSync = local.transporter
        return transporter

    def _timeouts(self, timeout: float | None) -> dict[str, int]:
        config = self._config
        limit = None if timeout is None else max(1, int(timeout * 1000))
        timeouts = {"connect": config.connect_timeout, "write": config.write_timeout, "read": config.read_timeout}
        return {name: value if limit is None else min(value, limit) for name, value in timeouts.items()}


class _InsightsTransporter(TransporterSync):
    def __init__(self, config: InsightsConfig) -> None:
        super().__init__(config)
        self._retry_strategy = _ErrorPerResponse()
        # As algoliasearch makes it, but for redirects: where they lead, no event is taken.
        session = requests.Session()
        session.mount("https://", _Adapter(max_retries=Retry(connect=0)))
        session.mount("http://", _Adapter())
        session.max_redirects = 0
        self._session = session


class _Adapter(HTTPAdapter):
    """Keeps connections without a lock: a fork could come while a thread holds it, and the child needs it to exit.

    https://urllib3.readthedocs.io/en/stable/reference/urllib3.connectionpool.html#urllib3.connectionpool.ConnectionPool
    """

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self._without_lock(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options)
        return manager if known else self._without_lock(manager)

    def _without_lock(self, manager: Any) -> Any:
        manager.pool_classes_by_scheme = {
            scheme: type(pool.__name__, (pool,), {"QueueCls": _Connections})
            for scheme, pool in manager.pool_classes_by_scheme.items()
        }
        return manager


class _Connections:
    """What urllib3 needs of a queue.LifoQueue, for the one thread that a transporter is used in."""

    def __init__(self, maxsize: int) -> None:
        self._connections: list[Any] = []

    def put(self, connection: Any, block: bool = True) -> None:
        self._connections.append(connection)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return self._connections.pop()
        except IndexError:
            raise queue.Empty from None

    def qsize(self) -> int:  # for vcrpy, which closes connections that were made inside a cassette
        return len(self._connections)


class _ErrorPerResponse(RetryStrategy):
    """Leaves it to the sender whether and when to try again."""

    def valid_hosts(self, hosts: list[Host]) -> list[Host]:
        return hosts

    def decide(self, host: Host, response: ApiResponse[Any]) -> str:
        if response.is_timed_out_error:
            raise RetryableDeliveryError("timed out")
        status = response.status_code or 0
        if status // 100 == 2:
            return RetryOutcome.SUCCESS
        message = f"{status}: {_message_of(response)}"
        if status in (400, 413, 422):
            raise BatchRejectedError(message)
        if status in (401, 403):
            raise UnauthorizedDeliveryError(message)
        if status in (408, 429) or status // 100 != 4:
            raise RetryableDeliveryError(message, _retry_after(response))
        raise DeliveryError(message)


def _message_of(response: ApiResponse[Any]) -> str:
    """What Algolia says, where it answers in JSON; else the reason phrase."""
    try:
        message = json.loads(response.data or "")["message"]
    except (ValueError, TypeError, KeyError):
        message = response.error_message
    return str(message)[:2000]


# To the end, where it is cut off.
_IN_QUOTES = re.compile(r"""(?<!\w)(["'`])(?P<inside>.*?)(?:\1(?!\w)|$)""", re.DOTALL)
# The name of a field, or one of the values that a rule allows.
_is_word = re.compile(r"(?:events\[\d+\]\.)?[A-Za-z]{1,40}(?:\[\d+\])?").fullmatch
_NOT_PERSONAL = frozenset({"eventName", "eventType", "eventSubtype", "index", "currency"})


def without_values(text: str, events: Iterable[Event]) -> str:
    """What a receiver says of events, without what it quotes of them, so that it is safe to log.

    Left out are the values of the events, apart from names and types; what stands in quotes, unless it is one word, as
    the name of a field is, or one of those names; and whatever has an `@`. A value of up to three characters is left
    out in quotes only: it may be part of any word or number.
    """
    kept: set[Any] = set()
    values: set[str] = set()
    lowered = text.lower()
    for event in events:
        kept.update(event[field] for field in _NOT_PERSONAL.intersection(event) if isinstance(event[field], str))
        for value in _strings([value for field, value in event.items() if field not in _NOT_PERSONAL]):
            values.update(form for form in _forms(value) if len(form) > 3 and form.lower() in lowered)
    for value in sorted(values, key=len, reverse=True):  # the longest first, as one may be part of another
        pattern = rf"(?<!\d){value}(?!\d)" if value.isdecimal() else re.escape(value)
        text = re.sub(pattern, "…", text, flags=re.IGNORECASE)

    def unquoted(found: re.Match[str]) -> str:
        inside = found["inside"]
        return found[0] if _is_word(inside) or (inside in kept and "@" not in inside) else "…"

    words = _IN_QUOTES.sub(unquoted, text).split(" ")
    return " ".join("…" if "@" in word else word for word in words)


def _strings(values: list[Any]) -> Iterator[str]:
    """The texts in JSON values, however deep; they may lead back to themselves."""
    seen: set[int] = set()
    while values:
        value = values.pop()
        if isinstance(value, str):
            yield str.__str__(value)
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            values += dict.values(value) if isinstance(value, dict) else value


def _forms(value: str) -> set[str]:
    """How a value may be written in an answer."""
    if value.isascii() and value.isalnum():
        return {value}
    return {value, unquote(value), quote(value, safe="", errors="replace"), json.dumps(value)[1:-1]}


def _retry_after(response: ApiResponse[Any]) -> float | None:
    """Seconds, given as such or as a date (RFC 9110, 10.2.3)."""
    value = (response.headers or {}).get("retry-after") or ""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return None if date.tzinfo is None else max(0.0, date.timestamp() - time.time())


class MemoryDelivery:
    """Keeps what was delivered, for tests.

    `batches` are the batches that arrived, in order, and `events` all their events.
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._failures: list[Exception] = []
        self._released = threading.Event()
        self._released.set()

    @property
    def events(self) -> list[Event]:
        """The events of all batches that arrived, in order."""
        return [event for batch in self.batches for event in batch.events]

    def fail_next(self, error: Exception | None = None, *, times: int = 1) -> None:
        """Raise `error` for the next `times` batches; by default a `RetryableDeliveryError`."""
        self._failures += [error or RetryableDeliveryError("told to fail")] * times

    def hang(self) -> None:
        """Answer no more, until `release()`."""
        self._released.clear()

    def release(self) -> None:
        """Answer again, what hangs now included."""
        self._released.set()

    def deliver(self, batch: Batch, timeout: float | None) -> None:
        """Keep `batch`, or do what `fail_next` or `hang` asked for. Raises what those say."""
        if not self._released.wait(timeout):
            raise RetryableDeliveryError("timed out")
        if self._failures:
            raise self._failures.pop(0)
        self.batches.append(batch)

    def close(self) -> None:
        """There is nothing to close."""
