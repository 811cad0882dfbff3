"""Deliveries, which take a batch of events to Algolia or to another place."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from copy import copy, deepcopy
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote, unquote

from algoliasearch.http.api_response import ApiResponse
from algoliasearch.http.hosts import Host
from algoliasearch.http.request_options import RequestOptions
from algoliasearch.http.retry import RetryOutcome, RetryStrategy
from algoliasearch.http.transporter_sync import TransporterSync
from algoliasearch.http.verb import Verb
from algoliasearch.insights.config import InsightsConfig

from ..errors import BatchRejectedError, DeliveryError, RetryableDeliveryError, UnauthorizedDeliveryError, kind_of
from .connections import Deadline, Session
from .rules import Event

MAX_BYTES = 2_000_000  # a body must be smaller
MAX_BYTES_OF_EVENTS = MAX_BYTES - len(b'{"events":[]}') - 1  # with the commas in between
LONGEST_REQUEST_S = 30.0


class Batch:
    """The events of one request. It must not be changed.

    Args:
        events: 1 to 1000 events as dicts. None: they are decoded from `body` on first access.
        body: The JSON text `{"events":[…]}` in UTF-8, less than 2,000,000 bytes.

    https://www.algolia.com/doc/rest-api/insights/push-events
    """

    __slots__ = ("_body", "_events")

    def __init__(self, events: Sequence[Event] | None, body: bytes) -> None:
        self._events = events
        self._body = body

    @property
    def events(self) -> Sequence[Event]:
        """The events as dicts."""
        if self._events is None:
            self._events = json.loads(self._body)["events"]
        return self._events

    @property
    def body(self) -> bytes:
        """The JSON text of the events."""
        return self._body

    def __eq__(self, other: object) -> bool:
        return self._body == other._body if isinstance(other, Batch) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._body)

    def __repr__(self) -> str:
        return f"<Batch of {len(self._body)} bytes>"


def batch_of(texts: Sequence[bytes]) -> Batch:
    """A batch of events that are given as JSON texts."""
    return Batch(None, b'{"events":[' + b",".join(texts) + b"]}")


@runtime_checkable
class Delivery(Protocol):
    """What an `EventSender` delivers with: any object that has these two methods.

    If the sender's `concurrency` is more than 1, several threads call `deliver` at once. After a fork, another process
    calls it.
    """

    def deliver(self, batch: Batch, timeout: float) -> None:
        """Deliver a batch.

        Args:
            batch: The events.
            timeout: How many seconds the delivery may take, at most 30.

        Raises:
            BatchRejectedError: An event in the batch is bad: the sender finds it and leaves it out.
            RetryableDeliveryError: The sender tries again, after the error's `delay` or with exponential back-off. An
                `OSError`, as of a connection or a time-out, means the same.
            UnauthorizedDeliveryError: The key is not accepted: the sender tries again, slowly.
            DeliveryError: The sender gives up the batch. Any other exception means the same.
        """

    def close(self) -> None:
        """Close the connections. The sender's `close` calls this once."""


class InsightsDelivery:
    """Delivers to the Insights API, with algoliasearch's own sync transporter.

    Hosts, proxies, user agent, time-outs and gzip are those of the config. Two features of the transporter are switched
    off, as the sender does the same better: avoiding a host for 300 seconds after one error, and sleeping after a 429.

    A request ends within `timeout` seconds, at most 30, whatever happens: this includes the look-up of the host's name,
    the handshake, and an answer that comes byte by byte. Only the statuses 400, 413 and 422 are about the events, and
    only 401 and 403 are about the key. A 2xx counts as Algolia's answer if its body is empty or JSON. Any other answer
    is about the connection, and Algolia may accept the batch later.

    Args:
        config: The application, the key, the region, and how to connect.

    https://www.algolia.com/doc/rest-api/insights/push-events
    """

    def __init__(self, config: InsightsConfig) -> None:
        config.set_default_hosts()  # type: ignore[no-untyped-call]
        self._config = copy(config)  # shares the headers with `config`, so that a key set there later is used
        self._config.hosts = deepcopy(config.hosts)
        self._config.max_rate_limit_retries = 0
        self._request_options = RequestOptions(self._config)
        self._pid = os.getpid()
        self._idle: list[_InsightsTransporter] = []  # each with its open connections
        self._closed = False

    def deliver(self, batch: Batch, timeout: float | None) -> None:
        """Post a batch.

        Args:
            batch: The events.
            timeout: How many seconds the request may take. None: 30.

        Raises:
            BatchRejectedError, RetryableDeliveryError, UnauthorizedDeliveryError, DeliveryError: As in `Delivery`.
        """
        body: str | bytes = batch.body.decode() if self._config.compression_type else batch.body
        seconds = LONGEST_REQUEST_S if timeout is None else min(LONGEST_REQUEST_S, timeout)
        options = self._request_options.merge(timeouts=self._timeouts(seconds))
        options.data = body
        failure: DeliveryError
        transporter = self._take()
        transporter.deadline.set(seconds)
        try:
            transporter.request(Verb.POST, "/1/events", options, False)
            return
        except DeliveryError as error:
            error.args = (without_values(str(error), batch.events)[:500], *error.args[1:])
            raise
        except UnicodeError as error:  # a header cannot be sent
            failure = DeliveryError(f"the request could not be made: {kind_of(error)}")
        except Exception as error:  # requests, urllib3, or code that patches them, raised it
            if sys.is_finalizing():  # pragma: no cover - coverage is not measured any more
                # urllib3 imports a module to read an answer, which is not possible any more.
                failure = DeliveryError(f"no answer can be read while the interpreter ends: {kind_of(error)}")
            else:
                over = transporter.deadline.is_over
                failure = RetryableDeliveryError("timed out" if over else f"no connection: {kind_of(error)}")
        finally:
            self._give_back(transporter)
        raise failure  # not chained: the original errors hold the request and may quote its headers

    def close(self) -> None:
        """Close the connections. A connection that a request is using is closed when the request ends."""
        self._closed = True
        if self._pid == os.getpid():
            while self._idle:
                self._idle.pop().close()

    def _take(self) -> _InsightsTransporter:
        # One transporter per request, as it holds the request's state; a forked child must not use its parent's.
        pid = os.getpid()
        if self._pid != pid:
            self._pid, self._idle = pid, []
        try:
            return self._idle.pop()
        except IndexError:
            return _InsightsTransporter(self._config)

    def _give_back(self, transporter: _InsightsTransporter) -> None:
        if self._closed:
            transporter.close()
        else:
            self._idle.append(transporter)

    def _timeouts(self, seconds: float) -> dict[str, int]:
        config = self._config
        limit = max(1, int(seconds * 1000))
        timeouts = {"connect": config.connect_timeout, "write": config.write_timeout, "read": config.read_timeout}
        return {name: min(value, limit) for name, value in timeouts.items()}


class _InsightsTransporter(TransporterSync):
    def __init__(self, config: InsightsConfig) -> None:
        super().__init__(config)
        self._retry_strategy = _ErrorPerResponse()
        self.deadline = Deadline()
        self._session = Session(self.deadline)


class _ErrorPerResponse(RetryStrategy):
    """Raises an error for each failed answer, so that the sender decides whether and when to try again."""

    def valid_hosts(self, hosts: list[Host]) -> list[Host]:
        return hosts

    def decide(self, host: Host, response: ApiResponse[Any]) -> str:
        if response.is_timed_out_error:
            raise RetryableDeliveryError("timed out")
        status = response.status_code or 0
        said = _json_of(response)
        if status // 100 == 2:
            if said is _NO_JSON:  # the page of a captive portal, for example
                raise RetryableDeliveryError(f"{status}: the answer is no JSON, so it is not Algolia's")
            return RetryOutcome.SUCCESS
        # The message is Algolia's own if the answer is JSON; else it is the reason phrase.
        message = said.get("message") if isinstance(said, dict) else None
        message = f"{status}: {message if isinstance(message, str) else response.error_message}"[:2000]
        if status in (400, 413, 422):
            raise BatchRejectedError(message)
        if status in (401, 403):
            raise UnauthorizedDeliveryError(message)
        raise RetryableDeliveryError(message, _retry_after(response))


_NO_JSON = object()


def _json_of(response: ApiResponse[Any]) -> Any:
    """The decoded JSON of an answer; None if the answer is empty, `_NO_JSON` if it is not JSON."""
    text = (response.data or "").strip("\ufeff \t\r\n")
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return _NO_JSON


# A quoted part of a message; if the closing quote was cut off, the part goes to the end.
_IN_QUOTES = re.compile(r"""(?<!\w)(["'`])(?P<inside>.*?)(?:\1(?!\w)|$)""", re.DOTALL)
# The name of a field, or one of the values that a rule allows.
_is_word = re.compile(r"(?:events\[\d+\]\.)?[A-Za-z]{1,40}(?:\[\d+\])?").fullmatch
_NOT_PERSONAL = frozenset({"eventName", "eventType", "eventSubtype", "index", "currency"})


def without_values(text: str, events: Iterable[Event]) -> str:
    """A receiver's message about events, without the values that it quotes from them, so that it is safe to log.

    Three things are replaced by "…": the values of the events, apart from names and types; text in quotes, unless it is
    a single word such as the name of a field, or one of those names; and each word with an `@`. A value of up to three
    characters is replaced only in quotes, because it may be part of any word or number.
    """
    kept: set[Any] = set()
    values: set[str] = set()
    lowered = text.lower()
    for event in events:
        kept.update(event[field] for field in _NOT_PERSONAL.intersection(event) if isinstance(event[field], str))
        for value in _strings([value for field, value in event.items() if field not in _NOT_PERSONAL]):
            values.update(form for form in _forms(value) if len(form) > 3 and form.lower() in lowered)
    for value in sorted(values, key=len, reverse=True):  # the longest first, as a value may be part of another one
        pattern = rf"(?<!\d){value}(?!\d)" if value.isdecimal() else re.escape(value)
        text = re.sub(pattern, "…", text, flags=re.IGNORECASE)

    def unquoted(found: re.Match[str]) -> str:
        inside = found["inside"]
        return found[0] if _is_word(inside) or (inside in kept and "@" not in inside) else "…"

    words = _IN_QUOTES.sub(unquoted, text).split(" ")
    return " ".join("…" if "@" in word else word for word in words)


def _strings(values: list[Any]) -> Iterator[str]:
    """The strings in JSON values, at any depth; the values may contain themselves."""
    seen: set[int] = set()
    while values:
        value = values.pop()
        if isinstance(value, str):
            yield str.__str__(value)
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            values += dict.values(value) if isinstance(value, dict) else value


def _forms(value: str) -> set[str]:
    """The forms in which a value may be written in an answer."""
    if value.isascii() and value.isalnum():
        return {value}
    return {value, unquote(value), quote(value, safe="", errors="replace"), json.dumps(value)[1:-1]}


def _retry_after(response: ApiResponse[Any]) -> float | None:
    """The seconds of Retry-After, which holds seconds or a date (RFC 9110, 10.2.3); None if it holds neither."""
    value = (response.headers or {}).get("retry-after") or ""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        return None if date.tzinfo is None else date.timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None


class MemoryDelivery:
    """Keeps the batches that a sender delivers, for tests.

        events = EventSender(delivery=MemoryDelivery(), user_token="user-1")

    Attributes:
        batches: The batches that arrived, in their order.
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
        """Have the next batches fail.

        Args:
            error: The error to raise. By default, a `RetryableDeliveryError`.
            times: For how many batches.
        """
        self._failures += [error or RetryableDeliveryError("fail_next() was called")] * times

    def hang(self) -> None:
        """Do not answer any more, until `release()` is called: deliveries time out."""
        self._released.clear()

    def release(self) -> None:
        """Answer again, also to deliveries that hang now."""
        self._released.set()

    def deliver(self, batch: Batch, timeout: float) -> None:
        """Keep a batch, or fail or hang, if `fail_next` or `hang` was called.

        Args:
            batch: The events.
            timeout: For how many seconds to hang at most.

        Raises:
            RetryableDeliveryError: `hang` was called, and `release` was not called within the timeout.
            Exception: The error that `fail_next` was given.
        """
        if not self._released.wait(timeout):
            raise RetryableDeliveryError("timed out")
        if self._failures:
            raise self._failures.pop(0)
        self.batches.append(batch)

    def close(self) -> None:
        """Do nothing, as there is nothing to close."""
