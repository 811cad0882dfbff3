"""What the core and its drivers exchange: actions, groups of events on their way, and outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from .suspects import Event, Search, Suspect

Outcome: TypeAlias = Literal["delivered", "rejected", "failed"]


class Take(NamedTuple):
    """Take up to `limit` events out of the queue, and pass them to `Core.took`."""

    limit: int


class Post(NamedTuple):
    """Send this group, and pass the answer to `Core.answered`."""

    group: InFlight


class Wait(NamedTuple):
    """Do nothing before `until` (monotonic seconds; infinity: until something happens)."""

    until: float


Action: TypeAlias = Take | Post | Wait


class Done(NamedTuple):
    """Events whose outcome is known: the driver reports it, then calls `Core.settled`."""

    outcome: Outcome
    group: InFlight
    error: Exception | None


class Taken:
    """Events that left the queue together: the place of the first one, and how many of them are not settled."""

    __slots__ = ("first", "open", "since")

    def __init__(self, first: int, number: int, since: float) -> None:
        self.first = first
        self.open = number
        self.since = since  # since when the first event has waited


class InFlight:
    """Events that are sent in one request, until they are settled or split up.

    Attributes:
        events: The events.
        attempts: How often they were sent without an answer that was about them.
        first_sent: When they were sent for the first time.
        until: When they may be sent again.
    """

    __slots__ = ("abandoned", "attempts", "backoff", "events", "first_sent", "search", "suspects", "taken", "until")

    def __init__(
        self,
        events: Sequence[Event],
        *,
        taken: Taken | None = None,
        suspects: Sequence[Suspect] = (),
        search: Search | None = None,
    ) -> None:
        self.events = events
        self.taken = taken  # if the events are fresh
        self.suspects = suspects  # if they are not: each suspect has a `taken` of its own
        self.search = search
        self.attempts = 0
        self.backoff = 0  # failures since a flush last reset the pauses
        self.first_sent: float | None = None
        self.until = 0.0
        self.abandoned = False  # True: given up; an answer that comes later is ignored


@dataclass(slots=True)
class Counts:
    """What has become of events so far."""

    delivered: int = 0
    rejected: int = 0
    failed: int = 0
    gone: int = 0
    requests: int = 0
    retries: int = 0
