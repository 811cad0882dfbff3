"""The core of the sender, without I/O: it holds the events that are not settled, and decides what to send and when.

It has no thread, lock, clock, file or socket, draws no random number, and does not look into events. A driver tells it
what has happened (events taken, an answer, the time, a flush) and does what it says next: `Take`, `Post`, `Wait`. The
drivers are the threads of the sender (`worker.py`), a Celery worker (`integrations/celery_delivery.py`) and a
simulation.

How it decides:

- Events are numbered by their place in the queue, so `flush` knows which came before it.
- A group that gets no answer about its events is sent again after a pause, until `max_retry_time` ends. During this
  pause no other group is sent either, because the connection to the receiver may be down. After three failures of one
  group, another group is tried. If that one succeeds, the pauses of the first group are for that group alone. If it
  fails, no new events are taken before a group succeeds.
- A refused group becomes suspects (`suspects.py`), which take turns with fresh events.
- An outcome (`Done`) counts only when the driver has reported it and calls `settled`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Sequence

from . import retries
from .in_flight import Action, Counts, Done, InFlight, Post, Take, Taken, Wait
from .retries import Answer
from .suspects import Event, Suspect, Suspects

FAILURES_BEFORE_ANOTHER = 3  # of one group, before another group is tried
MOST_HELD = 64  # groups that were taken and wait for another attempt
SHORTEST_BREAK_S = 0.1  # after an answer, also where a flush ends a pause


class Core:
    """See the module.

    Args:
        batch_size: Events per request.
        batch_bytes: Bytes per request, those between the events not counted.
        flush_interval: Seconds that an event waits for others to share its request.
        max_retry_time: Seconds after which a group that gets no answer about its events is given up.
        max_suspect_bytes: Bytes of suspects above which no new events are taken.
        site_of: The kind of an event, which stands for the call site that sends it.
        size_of: The bytes of an event.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        batch_bytes: int,
        flush_interval: float,
        max_retry_time: float,
        max_suspect_bytes: int,
        site_of: Callable[[Event], Hashable],
        size_of: Callable[[Event], int] = len,
    ) -> None:
        self.counts = Counts()
        self.taken = 0  # events that have left the queue; this number is the place of the next one
        self.open = 0  # of those, the ones that are not settled
        self.moves = 0  # how often events have left the queue, or were put back into it
        self._batch_size = batch_size
        self._batch_bytes = batch_bytes
        self._flush_interval = flush_interval
        self._max_retry_time = max_retry_time
        self._max_suspect_bytes = max_suspect_bytes
        self._size_of = size_of
        self._suspects = Suspects(site_of, size_of, most_events=batch_size, most_bytes=batch_bytes)
        self._takens: deque[Taken] = deque()  # in the order of their places
        self._taking = 0  # events that a driver takes out of the queue right now, at most
        self._ready: deque[InFlight] = deque()  # fresh groups that were taken
        self._again: list[InFlight] = []  # groups that wait for another attempt, in the order in which they failed
        self._on_their_way: set[InFlight] = set()
        self._flush_to = 0  # events before this place do not wait for others
        self._last_answer = -math.inf
        self._pause_until = -math.inf  # before this time, no group is sent
        self._failures_in_a_row = 0  # of any groups; it determines the next pause for all groups
        self._failing: set[InFlight] = set()  # groups that have failed since something succeeded
        self._turn = 0  # what is tried first: 0 fresh groups, 1 suspects, 2 groups that have failed often

    # What to do.

    def next(self, now: float, waiting: int, since: float) -> Action:
        """The action that the driver is to do now.

        Args:
            now: Monotonic seconds.
            waiting: Events in the queue.
            since: Since when the first of them has waited.
        """
        if self._pause_until > now:
            return Wait(self._pause_until)
        has_failed_seldom = self._due_again(now, most_failures=FAILURES_BEFORE_ANOTHER - 1)
        if has_failed_seldom is not None:
            return self._post_again(has_failed_seldom, now)
        turns: list[Callable[[], Action | None]] = [
            lambda: self._next_fresh(now, waiting, since),
            lambda: self._next_suspects(now),
            lambda: self._next_again(now),
        ]
        for turn in (self._turn, self._turn + 1, self._turn + 2):
            action = turns[turn % 3]()
            if action is not None:
                self._turn = turn % 3 if isinstance(action, Take) else (turn + 1) % 3  # what is taken is sent next
                return action
        return Wait(self._next_time(now, waiting, since))

    def took(
        self,
        events: Sequence[Event],
        gone: int,
        now: float,
        since: float | None = None,
        *,
        attempts: int = 0,
        first_sent: float | None = None,
    ) -> None:
        """Register that events have left the queue.

        Args:
            events: The events, which this core is to send.
            gone: How many others have left the queue, as they belong to another process now.
            now: Monotonic seconds.
            since: Since when the first of `events` has waited.
            attempts: How often another process has sent them already.
            first_sent: When that process first sent them, on the same clock as `now`.
        """
        self._taking = 0
        self.moves += 1
        self.taken += gone
        self.counts.gone += gone
        if not events:
            return
        taken = Taken(self.taken, len(events), now if since is None else since)
        self._takens.append(taken)
        self.taken += len(events)
        self.open += len(events)
        for part in self._parts(events):
            group = InFlight(part, taken=taken)
            group.attempts = group.backoff = attempts
            group.first_sent = first_sent
            self._ready.append(group)

    def confirmed(self, group: InFlight, kept: Sequence[Event]) -> bool:
        """Register that, of a group on its way, only `kept` are still ours: another process delivers the others.

        Returns:
            Whether there is anything left to send.
        """
        if group.abandoned:
            return False
        if len(kept) == len(group.events):
            return True
        self.counts.gone += len(group.events) - len(kept)
        mine = set(map(id, kept))
        if group.taken is not None:
            self._settle_events(group.taken, len(group.events) - len(mine))
        for suspect in group.suspects:
            if id(suspect.event) not in mine:
                self._settle_events(suspect.taken, 1)
        group.suspects = [suspect for suspect in group.suspects if id(suspect.event) in mine]
        if group.search is not None:
            group.search.suspects = list(group.suspects)
        group.events = kept
        if not kept:
            self._leave(group)
            if group.search is not None:
                self._suspects.returned(group.search)
        return bool(kept)

    # Answers and outcomes.

    def answered(self, group: InFlight, answer: Answer, now: float, luck: float) -> list[Done]:
        """Register the answer for `group`, and return the outcomes; `luck` is a random number in [0, 1)."""
        self._last_answer = now
        self._on_their_way.discard(group)
        if group.abandoned:
            self._failing.discard(group)
            return []
        if answer.kind in ("retry", "unauthorized"):
            return self._failed(group, answer, now, luck)
        self._leave(group)
        if answer.kind == "fatal":
            if group.search is not None:
                self._suspects.returned(group.search)
            return [Done("failed", group, answer.error)]
        self._failures_in_a_row = 0
        self._pause_until = -math.inf
        self._failing.clear()
        if answer.kind == "delivered":
            if group.search is None:
                self._suspects.clear(group.events)
            else:
                self._suspects.accepted(group.search)
            return [Done("delivered", group, None)]
        return self._refused(group, answer.error, now)

    def settled(self, done: Done) -> None:
        """Count an outcome of `answered` or `give_up`, which the driver has reported."""
        group, number = done.group, len(done.group.events)
        if group.taken is not None:
            self._settle_events(group.taken, number)
        for suspect in group.suspects:
            self._settle_events(suspect.taken, 1)
        counts = self.counts
        if done.outcome == "delivered":
            counts.delivered += number
        elif done.outcome == "rejected":
            counts.rejected += number
        else:
            counts.failed += number

    def written_off(self, group: InFlight, answer: Answer, now: float, luck: float) -> list[Done]:
        """Act as if `answer` had come for a group that has no answer in time; a later answer is ignored."""
        if group.abandoned:  # for example, a close has given it up already
            return []
        twin = InFlight(group.events, taken=group.taken, suspects=group.suspects, search=group.search)
        twin.attempts, twin.backoff, twin.first_sent = group.attempts, group.backoff, group.first_sent
        group.abandoned = True
        self._leave(group)
        return self.answered(twin, answer, now, luck)

    def returned(self, group: InFlight, now: float) -> None:
        """Have a group on its way sent again at once, as it was not sent, or nobody knows whether it was."""
        self._on_their_way.discard(group)
        if not group.abandoned:
            group.until = now
            self._again.append(group)

    # Flush, close, and the end.

    def flush(self, now: float, waiting: int) -> int:
        """Stop waiting for other events to share a request, and for pauses to end.

        Returns:
            The place up to which all events must be settled for the flush to be done.
        """
        target = self.taken + self._taking + waiting
        self._flush_to = max(self._flush_to, target)
        soon = max(now, self._last_answer + SHORTEST_BREAK_S)
        self._pause_until = min(self._pause_until, soon)
        self._failures_in_a_row = 0
        for group in self._again:
            group.until = min(group.until, soon)
            group.backoff = 0
        for group in self._on_their_way:
            group.backoff = 0
        self._suspects.hurry()
        return target

    def is_settled(self, target: int, waiting: int) -> bool:
        """Whether all events up to `target` are settled."""
        up_to = min(self._takens[0].first, self.taken) if self._takens else self.taken
        return up_to >= target or not (waiting or self.open or self._taking)

    def oldest(self, waiting: int, since: float) -> float | None:
        """Since when the oldest event that is not settled has waited."""
        if self._takens:
            return self._takens[0].since
        return since if waiting else None

    def give_up(self, rest: Sequence[Event], since: float = math.inf) -> InFlight:
        """Take out all events that are not settled, as one group; answers for groups on their way are ignored.

        Concluded groups that are being reported are not in it.

        Args:
            rest: The events that were left in the queue, which become part of the group.
            since: Since when the first of them has waited.
        """
        if rest:
            self.took(rest, 0, since)
        held = [*self._on_their_way, *self._again, *self._ready]
        suspects = self._suspects.take_all()
        for group in held:
            group.abandoned = True
            suspects += group.suspects
            if group.search is not None:
                suspects += group.search.rest
            if group.taken is not None:
                suspects += [Suspect(event, group.taken) for event in group.events]
        self._on_their_way.clear()
        self._again.clear()
        self._ready.clear()
        self._failing.clear()
        return InFlight([suspect.event for suspect in suspects], suspects=suspects)

    def let_go(self, group: InFlight) -> None:
        """Register that the events of a group that was given up are back in the queue, instead of settled."""
        self.moves += 1
        for suspect in group.suspects:
            self.taken = min(self.taken, suspect.taken.first)  # so that a flush that waits for them goes on
            self._settle_events(suspect.taken, 1)
        for taken in self._takens:  # events being reported: places must not be above those of events taken again
            taken.first = min(taken.first, self.taken)

    @property
    def held(self) -> list[InFlight]:
        """Groups that were taken and are not on their way, in the order in which they would be sent."""
        return [*sorted(self._again, key=lambda group: group.until), *self._ready]

    # Private methods.

    def _next_fresh(self, now: float, waiting: int, since: float) -> Action | None:
        at = self._fresh_at(now, waiting, since)
        if at is None or at > now:
            return None
        if self._ready:
            return self._post(self._ready.popleft(), now)
        self._taking = self._batch_size
        return Take(self._taking)

    def _next_suspects(self, now: float) -> Action | None:
        search = None if self._is_connection_down else self._suspects.next(now)
        if search is None:
            return None
        events = [suspect.event for suspect in search.suspects]
        return self._post(InFlight(events, suspects=search.suspects, search=search), now)

    def _next_again(self, now: float) -> Action | None:
        group = self._due_again(now)
        return None if group is None else self._post_again(group, now)

    def _due_again(self, now: float, most_failures: float = math.inf) -> InFlight | None:
        due = (group for group in self._again if group.until <= now and group.attempts <= most_failures)
        return min(due, key=lambda group: group.until, default=None)

    @property
    def _is_connection_down(self) -> bool:
        """Whether several groups have failed, and none has succeeded since."""
        return len(self._failing) > 1

    def _fresh_at(self, now: float, waiting: int, since: float) -> float | None:
        """When fresh events are to be sent; None: not before something happens."""
        if not self._ready and (self._taking or not waiting):
            return None
        if self._is_connection_down or any(group.attempts < FAILURES_BEFORE_ANOTHER for group in self._failing):
            return None
        if self._ready:
            return now
        if not self._may_take():
            return None
        if waiting >= self._batch_size or self.taken < self._flush_to:
            return now
        return since + self._flush_interval

    def _may_take(self) -> bool:
        return len(self._again) < MOST_HELD and self._suspects.bytes <= self._max_suspect_bytes

    def _next_time(self, now: float, waiting: int, since: float) -> float:
        times = [group.until for group in self._again]
        fresh_at = self._fresh_at(now, waiting, since)
        if fresh_at is not None:
            times.append(fresh_at)
        suspects_at = None if self._is_connection_down else self._suspects.due_at(now)
        if suspects_at is not None:
            times.append(suspects_at)
        return min(times, default=math.inf)

    def _post_again(self, group: InFlight, now: float) -> Post:
        self._again.remove(group)
        return self._post(group, now)

    def _post(self, group: InFlight, now: float) -> Post:
        if group.first_sent is None:
            group.first_sent = now
        self.counts.requests += 1
        self.counts.retries += group.attempts > 0
        self._on_their_way.add(group)
        return Post(group)

    def _parts(self, events: Sequence[Event]) -> list[Sequence[Event]]:
        """The events, in parts that each fit into a request."""
        if sum(map(self._size_of, events)) + len(events) <= self._batch_bytes:
            return [events]
        parts: list[list[Event]] = []
        size = math.inf
        for event in events:
            size += self._size_of(event) + 1
            if size > self._batch_bytes:
                parts.append([])
                size = self._size_of(event) + 1
            parts[-1].append(event)
        return list(parts)

    def _failed(self, group: InFlight, answer: Answer, now: float, luck: float) -> list[Done]:
        pause = retries.pause_s(answer, group.backoff, luck)
        group.attempts += 1
        group.backoff += 1
        # If a group fails while others succeed, the cause is not the connection, and its pauses are for it alone.
        alone = group.attempts > FAILURES_BEFORE_ANOTHER and not self._failing
        if not alone:
            self._failing.add(group)
            self._pause_until = now + retries.pause_s(answer, self._failures_in_a_row, luck)
            self._failures_in_a_row += 1
        assert group.first_sent is not None
        if retries.is_over(group.first_sent, now, pause, self._max_retry_time):
            self._leave(group)
            if group.search is not None:
                self._suspects.returned(group.search)
            return [Done("failed", group, answer.error)]
        group.until = now + pause
        self._again.append(group)
        return []

    def _refused(self, group: InFlight, error: Exception | None, now: float) -> list[Done]:
        if group.search is not None:
            rejected = self._suspects.refused(group.search)
        elif len(group.events) == 1:
            return [Done("rejected", group, error)]
        else:
            self._suspects.add([Suspect(event, group.taken) for event in group.events], now)
            return []
        return [
            Done("rejected", InFlight([one.event for one in suspects], suspects=suspects), error)
            for suspects in rejected
        ]

    def _leave(self, group: InFlight) -> None:
        self._on_their_way.discard(group)
        self._failing.discard(group)

    def _settle_events(self, taken: Taken, number: int) -> None:
        taken.open -= number
        self.open -= number
        while self._takens and not self._takens[0].open:
            self._takens.popleft()
