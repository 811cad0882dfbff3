"""EventSender: accepts events at once, attributed to whoever the call is for, and delivers them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from os import environ
from typing import TYPE_CHECKING, Any

from ..errors import UserTokenError
from ..identity import Identity, as_identity
from ..provider import TokenProvider, one_provider
from .methods import EventMethods
from .model import Event, attributed, milliseconds, new_event, split

if TYPE_CHECKING:
    from algoliasearch.insights.config import InsightsConfig
    from typing_extensions import Self

logger = logging.getLogger("algolia_usertoken.events")

BATCH_SIZE = 1000

OnError = Callable[[Exception, Sequence[Event]], None]


@dataclass(frozen=True)
class EventStats:
    """What has become of the events so far: accepted = delivered + failed + queued."""

    accepted: int = 0
    delivered: int = 0
    failed: int = 0
    queued: int = 0
    refused: int = 0


class _Queue:
    """The events that wait, and the client that will push them; shared by a sender and its views."""

    def __init__(self, make_config: Callable[[], InsightsConfig], on_error: OnError | None) -> None:
        self.make_config = make_config
        self.on_error = on_error
        self.events: list[Event] = []
        self.stats = EventStats()
        self.lock = threading.Lock()

    def count(self, **changes: int) -> None:
        with self.lock:
            now = {name: getattr(self.stats, name) + change for name, change in changes.items()}
            self.stats = replace(self.stats, **now)

    def report(self, error: Exception, events: Sequence[Event]) -> None:
        logger.warning("%s", error)
        if self.on_error is not None:
            try:
                self.on_error(error, events)
            except Exception:
                logger.exception("on_error raised")


class EventSender(EventMethods):
    """Sends Insights events on behalf of whoever a call is for.

    `send` and the twelve methods take the identity and the time now and queue the event; `flush` and `close` deliver.

    Args:
        app_id, api_key, region, config: As in algoliasearch's `InsightsClient`; `app_id` and `api_key` default to the
            environment's `ALGOLIA_APP_ID` and `ALGOLIA_API_KEY`.
        user_token: Who is meant where nobody else says.
        token_provider: Decides whose events they are. Not together with `user_token`.
        strict: Raise what is refused at the door, for development and tests, instead of counting and reporting it.
        on_error: Called with the error and the events concerned: what was refused or could not be delivered.
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
        strict: bool = False,
        on_error: OnError | None = None,
    ) -> None:
        self.token_provider = one_provider(user_token, token_provider)
        self._strict = strict

        def make_config() -> InsightsConfig:
            from algoliasearch.insights.config import InsightsConfig

            if config is not None:
                return config
            return InsightsConfig(
                app_id or environ.get("ALGOLIA_APP_ID"), api_key or environ.get("ALGOLIA_API_KEY"), region
            )

        if config is None:
            make_config()  # what is missing is said now
        self._queue = _Queue(make_config, on_error)
        self._is_view = False

    @property
    def stats(self) -> EventStats:
        """The counts so far."""
        return self._queue.stats

    def with_identity(self, identity: Identity | str | None) -> Self:
        """A view that sends as `identity` through the same queue; closing it closes nothing."""
        return self._with_provider(self.token_provider.with_identity(identity))

    def _with_provider(self, token_provider: TokenProvider) -> Self:
        view = copy(self)
        view.token_provider = token_provider
        view._is_view = True
        return view

    def send(
        self,
        event: Mapping[str, Any],
        *,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Queue an Insights event, given as the API takes it (camelCase keys). See `EventMethods`.

        Returns:
            True: accepted. False: refused at the door (invalid, nobody's, of a visitor who opted out).

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, what else is counted and given to `on_error`.
        """
        return self._accept(lambda: [dict(event)], identity, timestamp)

    def _send_new(
        self,
        event_type: str,
        event_name: str,
        index_name: str,
        identity: Identity | str | None,
        timestamp: datetime | int | None,
        **fields: Any,
    ) -> bool:
        return self._accept(lambda: split(new_event(event_type, event_name, index_name, **fields)), identity, timestamp)

    def _accept(
        self, make: Callable[[], list[Event]], identity: Identity | str | None, timestamp: datetime | int | None
    ) -> bool:
        events: list[Event] = []
        try:
            events = make()
            who = as_identity(identity) or self.token_provider.identity()
            now = milliseconds(timestamp)
            accepted = [attributed({"timestamp": now, **event}, who) for event in events]
        except UserTokenError as error:
            if self._strict:
                raise
            self._queue.count(refused=max(1, len(events)))
            self._queue.report(error, events)
            return False
        to_send = [event for event in accepted if event is not None]
        with self._queue.lock:
            self._queue.events += to_send
        self._queue.count(accepted=len(to_send), queued=len(to_send))
        return bool(to_send)

    def flush(self, timeout: float | None = None) -> bool:
        """Deliver what is queued; True if all of it was."""
        from ..insights import TokenAwareInsightsClientSync

        queue = self._queue
        with queue.lock:
            events, queue.events = queue.events, []
        if not events:
            return True
        delivered = True
        client = TokenAwareInsightsClientSync(config=queue.make_config())
        try:
            for start in range(0, len(events), BATCH_SIZE):
                batch = events[start : start + BATCH_SIZE]
                try:
                    client.push_events({"events": batch})
                except Exception as error:
                    queue.count(failed=len(batch), queued=-len(batch))
                    queue.report(error, batch)
                    delivered = False
                else:
                    queue.count(delivered=len(batch), queued=-len(batch))
        finally:
            client.close()
        return delivered

    def close(self, timeout: float | None = None) -> bool:
        """Deliver what is queued and end; True if all of it was delivered."""
        return self.flush(timeout)

    async def aflush(self, timeout: float | None = None) -> bool:
        """`flush` for async code: the event loop is not blocked."""
        import asyncio

        return await asyncio.to_thread(self.flush, timeout)

    async def aclose(self, timeout: float | None = None) -> bool:
        """`close` for async code: the event loop is not blocked."""
        import asyncio

        return await asyncio.to_thread(self.close, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
