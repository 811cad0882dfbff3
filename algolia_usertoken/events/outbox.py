"""Events on disk until Algolia has them."""

from __future__ import annotations

from collections.abc import Sequence

from .model import Event


class SQLiteOutbox:
    def __init__(self, path: str, *, max_events: int = 1_000_000, lease: float = 30.0) -> None:
        self.max_events = max_events
        self.lease = lease
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def append(self, event: Event, /) -> None:
        raise NotImplementedError

    def take(self, limit: int) -> list[Event]:
        raise NotImplementedError

    def put_back(self, events: Sequence[Event]) -> None:
        raise NotImplementedError

    def settle(self, events: Sequence[Event]) -> None:
        raise NotImplementedError

    def keep(self) -> list[Event]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
