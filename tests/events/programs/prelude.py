"""What the programs have in common: senders that lead to the collector, and events with an id."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.insights.config import InsightsConfig

from algolia_usertoken import Batch, EventSender, MemoryDelivery

VISITOR = "visitor-1"


def config(port: int | None = None, **settings: Any) -> InsightsConfig:
    """A config that leads to the collector at `port`, by default that of the environment."""
    made = InsightsConfig("app", "key")
    made.hosts = HostsCollection([Host("127.0.0.1", scheme="http", port=port or int(os.environ["COLLECTOR_PORT"]))])
    made.proxies = {}
    for name, value in settings.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


def patient_config(port: int | None = None) -> InsightsConfig:
    """A config with which each request has 30 seconds: on a busy machine, the collector may answer late."""
    return config(port, connect_timeout=30_000, read_timeout=30_000)


def sender(port: int | None = None, **options: Any) -> EventSender:
    if "delivery" not in options and "config" not in options:
        options["config"] = patient_config(port)
    # On a busy machine the usual 5 seconds may be too few.
    return EventSender(user_token=VISITOR, **{"close_timeout": 30.0, **options})


def event(name: int | str) -> dict[str, Any]:
    return {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": [str(name)]}


def send(sender: EventSender, names: Sequence[int | str] | range) -> int:
    """How many were accepted."""
    return sum(sender.send(event(name)) for name in names)


def adds_up(stats: Any) -> bool:
    return stats.accepted == stats.delivered + stats.rejected + stats.failed + stats.queued  # type: ignore[no-any-return]


def settled(stats: Any) -> tuple[int, ...]:
    """Accepted, delivered, rejected, failed, queued."""
    return stats.accepted, stats.delivered, stats.rejected, stats.failed, stats.queued


class Errors:
    """An `on_error` that remembers."""

    def __init__(self, then: Callable[[], Any] | None = None) -> None:
        self.calls: list[tuple[Exception, list[dict[str, Any]]]] = []
        self.then = then

    def __call__(self, error: Exception, events: Sequence[dict[str, Any]]) -> None:
        self.calls.append((error, list(events)))
        if self.then is not None:
            self.then()

    @property
    def ids(self) -> list[str]:
        return [event["objectIDs"][0] for _, events in self.calls for event in events]


class Gate(MemoryDelivery):
    """Hangs in its first call, until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.go_on = threading.Event(), threading.Event()

    def deliver(self, batch: Batch, timeout: float | None) -> None:
        if not self.inside.is_set():
            self.inside.set()
            self.go_on.wait(120)
        super().deliver(batch, timeout)
