"""The event senders of this process, for tests: their queued events are sent before a test ends, or never."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ..errors import DeliveryError
from ..events import process


def accepted() -> dict[Any, int]:
    """How many events each sender has accepted so far."""
    return {worker: worker.stats.accepted for worker in _workers()}


def flush_all(timeout: float, since: Mapping[Any, int] | None = None) -> None:
    """Deliver the queued events of all senders at once, within `timeout` seconds.

    `since` is an earlier result of `accepted`. With it, only senders that have accepted events since then deliver.
    """
    threads = [
        threading.Thread(target=worker.flush, args=(timeout,), daemon=True) for worker in _unsettled(since or {})
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)


def give_up_all(error: DeliveryError, since: Mapping[Any, int]) -> None:
    """Give up the queued events of the senders that `flush_all` would choose."""
    for worker in _unsettled(since):
        worker.abandon(error)


def _workers() -> list[Any]:
    return list(process.workers())


def _unsettled(since: Mapping[Any, int]) -> list[Any]:
    return [worker for worker in _workers() if worker.stats.queued and worker.stats.accepted != since.get(worker)]
