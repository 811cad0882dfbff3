"""What the core says and is told: actions, groups of events on their way, what has become of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from .suspects import Event, Search, Suspect

Outcome: TypeAlias = Literal["delivered", "rejected", "failed"]


class Take(NamedTuple):
    """Take up to `limit` events out of the queue, and say which: `Core.took`."""

    limit: int


class Post(NamedTuple):
    """Send this group, and say what came of it: `Core.answered`."""

    group: InFlight


class Wait(NamedTuple):
    """Do nothing before `until` (monotonic seconds; infinity: before something happens)."""

    until: float


Action: TypeAlias = Take | Post | Wait


class Done(NamedTuple):
    """Events that are concluded: to be reported, then `Core.settled`."""

    outcome: Outcome
    group: InFlight
    error: Exception | None


class Taken:
    """What left the queue together: the place of its first event, and how many of its events are not settled."""

    __slots__ = ("first", "open", "since")

    def __init__(self, first: int, number: int, since: float) -> None:
        self.first = first
        self.open = number
        self.since = since  # its first event waits since then


class InFlight:
    """Events that are sent in one request, until they are settled or parted.

    Attributes:
        events: The events.
        attempts: How often they were sent, without an answer about themselves.
        first_sent: When that was for the first time.
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
        self.taken = taken  # of fresh events
        self.suspects = suspects  # else; each says of which `Taken` it is
        self.search = search
        self.attempts = 0
        self.backoff = 0  # failures since the pauses began anew
        self.first_sent: float | None = None
        self.until = 0.0
        self.abandoned = False  # given up while it was on its way: its answer comes too late


@dataclass(slots=True)
class Counts:
    """What has become of events so far."""

    delivered: int = 0
    rejected: int = 0
    failed: int = 0
    gone: int = 0
    requests: int = 0
    retries: int = 0
