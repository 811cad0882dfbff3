"""Suspects, the events of refused requests, and how the bad ones among them are found with few more requests.

A request is refused as a whole if one event in it is bad, and only the receiver knows which one. This module decides
which suspects go into the next request, and what an answer says about them. It does no I/O, and the caller tells it the
time.

- Suspects wait in pools, one per call site: a mistake in a program makes all events of one call site bad, and the
  events of other call sites must not wait for them.
- The number of events drawn from a pool is such that all of them are good in half of the cases. A drawn group that is
  refused is halved. If the left half is accepted, the right half has a bad event. If the left half is refused,
  nothing is known about the right half any more, and it goes back into the pool. This is adaptive group testing
  (https://en.wikipedia.org/wiki/Group_testing).
- Only an event that was refused alone is rejected, with one exception: if many events in a row, drawn from all over the
  pool, are refused alone, and none is accepted, the rest of the pool is rejected with them. The same holds for all
  pools together: where everything is refused, each may be too small to reach that number by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

Event = Any  # never looked into here

REFUSED_BEFORE_SPREAD = 8  # refusals in a row, after which a draw is spread over the pool: neighbours are bad together
SINGLES_IF_NONE_ACCEPTED = 128  # events refused alone, in a row, after which the rest of a pool is given up
SINGLES_IF_SOME_ACCEPTED = 1_024
SINGLES_AFTER_CONCLUSION = 16
REFUSED_BEFORE_SAMPLES = 32  # refusals in a row, of all pools, after which single events are drawn from all pools
MOST_BEFORE_SAMPLES = 64  # so many refusals in a row if some pool was not tried yet
PAUSE_AFTER_CONCLUSION_S = 2.0  # doubled with each further conclusion
MOST_CONCLUSIONS = 5  # conclusions that lengthen the pause, to 64 seconds
MOST_POOLS = 1_000  # pools whose history is kept
MEMORY_PER_EVENT = 0.995  # the factor by which an older observation counts less with each further event
GOLDEN = 0.6180339887498949  # the fractional parts of its multiples are spread evenly


class Suspect(NamedTuple):
    """An event of a refused request; `taken` says with which others it left the queue, for the core's counts."""

    event: Event
    taken: Any


class Search:
    """A group of suspects to be sent, and the other suspects about which its answer will say something."""

    __slots__ = ("drawn", "is_sample", "pool", "rest", "suspects")

    def __init__(
        self, pool: Pool, suspects: list[Suspect], rest: list[Suspect], drawn: bool, is_sample: bool = False
    ) -> None:
        self.pool = pool
        self.suspects = suspects
        self.rest = rest  # the right half, if `suspects` are the left half of a group with a bad event
        self.drawn = drawn  # True: drawn from the pool; False: a part of a group that was refused, or a sample
        self.is_sample = is_sample  # whether it is one event, drawn from all pools


class Pool:
    """The suspects of one call site."""

    __slots__ = (
        "accepted",
        "bad",
        "conclusions",
        "draw_size",
        "draws",
        "good",
        "known_bad",
        "on_their_way",
        "refusals",
        "singles",
        "unknown",
        "until",
    )

    def __init__(self, draw_size: int) -> None:
        self.unknown: list[Suspect] = []
        self.known_bad: list[list[Suspect]] = []  # groups with at least one bad event each
        self.on_their_way = 0  # searches without an answer yet
        self.draw_size = draw_size
        self.draws = 0
        self.good = self.bad = 0.0  # good and bad events seen lately
        self.accepted = 0  # events that were accepted since the pool was last empty
        self.refusals = 0  # in a row
        self.singles = 0  # events that were refused alone, in a row
        self.conclusions = 0  # how often the rest was given up, with nothing accepted since
        self.until = 0.0  # when the next events may be drawn

    @property
    def is_empty(self) -> bool:
        return not (self.unknown or self.known_bad or self.on_their_way)

    def observe(self, good: int, bad: int) -> None:
        kept = MEMORY_PER_EVENT ** (good + bad)
        self.good, self.bad = self.good * kept + good, self.bad * kept + bad

    def limit(self) -> int:
        """How many events to draw so that all are good in half of the cases, judging by the events seen lately."""
        if not self.bad:
            return self.draw_size
        return max(1, min(self.draw_size, int(0.69 * (self.good + self.bad) / self.bad)))

    def draw(self, limit: int) -> list[Suspect]:
        """Take up to `limit` of the events about which nothing is known: the first ones, or some from all over."""
        self.draws += 1
        if self.refusals < REFUSED_BEFORE_SPREAD or limit >= len(self.unknown):
            drawn, self.unknown = self.unknown[:limit], self.unknown[limit:]
            return drawn
        size, start = len(self.unknown), self.draws * GOLDEN
        positions = {int((start + i / limit) % 1.0 * size) for i in range(limit)}
        drawn = [self.unknown[position] for position in sorted(positions)]
        self.unknown = [suspect for position, suspect in enumerate(self.unknown) if position not in positions]
        return drawn


class Suspects:
    """All pools of a sender.

    Args:
        site_of: The call site of an event; asked only while there are suspects.
        size_of: The bytes of an event.
        most_events, most_bytes: What a request may hold.
    """

    def __init__(
        self,
        site_of: Callable[[Event], Hashable],
        size_of: Callable[[Event], int],
        *,
        most_events: int,
        most_bytes: int,
    ) -> None:
        self._site_of = site_of
        self._size_of = size_of
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._pools: dict[Hashable, Pool] = {}  # the pool that was added to last comes last
        self.bytes = 0  # of the events of all pools, those on their way not counted
        # About all pools together, since there were no suspects.
        self._is_any_accepted = False  # fresh events count, too
        self._refusals = 0  # in a row
        self._samples = 0  # how many were drawn
        self._samples_refused = 0  # in a row

    def add(self, refused: Sequence[Suspect], now: float) -> None:
        """Add events that were refused together."""
        if all(pool.is_empty for pool in self._pools.values()):
            self._is_any_accepted = False
            self._refusals = self._samples_refused = 0
        by_site: dict[Hashable, list[Suspect]] = {}
        for suspect in refused:
            by_site.setdefault(self._site_of(suspect.event), []).append(suspect)
        for site, suspects in by_site.items():
            alone = len(by_site) == 1
            pool = self._pools.pop(site, None)
            if pool is None:
                pool = Pool(len(suspects))
            elif pool.is_empty:
                pool.draw_size = max(pool.draw_size, len(suspects))
            if alone:  # all of them were just refused
                pool.draw_size = max(1, min(pool.draw_size, len(suspects) // 2))
            self._pools[site] = pool
            if pool.conclusions and not pool.unknown:
                pool.until = now + PAUSE_AFTER_CONCLUSION_S * 2 ** min(pool.conclusions, MOST_CONCLUSIONS)
            self._wait_again(pool, suspects, first=False)
        self._forget_idle_pools()

    def next(self, now: float) -> Search | None:
        """The search to send next, if there is one: from the pool with the fewest refusals in a row.

        If nothing was accepted, and much was refused, it is one event, drawn from all pools (see `_sample`).
        """
        if not self._is_any_accepted and self._refusals >= REFUSED_BEFORE_SAMPLES:
            sample = self._sample()
            if sample is not None:
                return sample
        pool = min(
            (pool for pool in self._pools.values() if self._is_due(pool, now)),
            key=lambda pool: pool.refusals,
            default=None,
        )
        if pool is None:
            return None
        if pool.known_bad:
            group = pool.known_bad.pop()
            middle = (len(group) + 1) // 2
            search = Search(pool, group[:middle], group[middle:], drawn=False)
            self.bytes -= self._bytes_of(group)
        else:
            drawn = self._cut(pool, pool.draw(min(pool.limit(), self._most_events)))
            search = Search(pool, drawn, [], drawn=True)
            self.bytes -= self._bytes_of(drawn)
        pool.on_their_way += 1
        return search

    def due_at(self, now: float) -> float | None:
        """When there is something to send; None: nothing waits, except for answers."""
        times = [max(now, pool.until) for pool in self._pools.values() if pool.known_bad or pool.unknown]
        return min(times, default=None)

    def hurry(self) -> None:
        """End the pauses of all pools: wait no longer for more events that are probably bad."""
        for pool in self._pools.values():
            pool.until = 0.0

    def accepted(self, search: Search) -> None:
        """Register that the receiver has accepted the suspects of a search."""
        pool, number = search.pool, len(search.suspects)
        pool.on_their_way -= 1
        pool.refusals = pool.singles = pool.conclusions = 0
        pool.accepted += number
        self._some_accepted()
        pool.observe(number, 0)
        if search.drawn:
            pool.draw_size = min(self._most_events, max(pool.draw_size, number) * 2)
        if search.rest:
            self._know_bad(pool, search.rest)
        self._end_episode(pool)

    def refused(self, search: Search) -> list[list[Suspect]]:
        """Register that the receiver has refused the suspects of a search, and return the groups rejected by that."""
        pool, suspects = search.pool, search.suspects
        pool.on_their_way -= 1
        pool.refusals += 1
        self._refusals += 1
        self._wait_again(pool, search.rest)
        if search.drawn:
            pool.draw_size = max(1, len(suspects) // 2)
        if len(suspects) > 1:
            self._know_bad(pool, suspects)
            return []
        pool.singles += 1
        pool.observe(0, 1)
        self._samples_refused += search.is_sample
        rest: list[Suspect] = []
        if self._samples_refused >= SINGLES_IF_NONE_ACCEPTED:
            self._samples_refused = 0
            for each in self._sampled_pools:
                rest += self._give_up(each)
                self._end_episode(each)
        elif pool.singles >= self._most_singles(pool):
            rest = self._give_up(pool)
        self._end_episode(pool)
        return [suspects, rest] if rest else [suspects]

    def returned(self, search: Search, *, unknown: Iterable[Suspect] = ()) -> None:
        """Register that a search has ended without an answer about it.

        The events in `unknown`, and the `rest` of the search, wait again; its other suspects are not kept.
        """
        search.pool.on_their_way -= 1
        self._wait_again(search.pool, [*unknown, *search.rest])
        self._end_episode(search.pool)

    def clear(self, events: Iterable[Event]) -> None:
        """Register accepted fresh events, and end the pauses of their call sites: the mistake there seems corrected."""
        self._some_accepted()
        if any(pool.conclusions for pool in self._pools.values()):
            for site in {self._site_of(event) for event in events}:
                if site in self._pools:
                    self._pools[site].conclusions = 0
                    self._pools[site].until = 0.0

    def take_all(self) -> list[Suspect]:
        """Take out all suspects that wait."""
        found = [suspect for pool in self._pools.values() for suspect in self._take_out(pool)]
        self._pools.clear()
        return found

    @property
    def _sampled_pools(self) -> list[Pool]:
        """The pools with events and without a conclusion; the others need fewer refusals, and wait between them."""
        return [pool for pool in self._pools.values() if (pool.known_bad or pool.unknown) and not pool.conclusions]

    def _some_accepted(self) -> None:
        self._is_any_accepted = True
        self._refusals = self._samples_refused = 0

    def _sample(self) -> Search | None:
        """One event, drawn from all pools without a conclusion, to find out whether any event of them is good.

        What is known of groups with a bad event is forgotten. It is None if fewer than two pools have events, as one
        pool can judge by itself, or if a pool was not tried yet: all of its events may be good.
        """
        pools = self._sampled_pools
        if len(pools) < 2 or (self._refusals < MOST_BEFORE_SAMPLES and not all(pool.refusals for pool in pools)):
            return None
        for pool in pools:
            pool.unknown += [suspect for group in pool.known_bad for suspect in group]
            pool.known_bad.clear()
        self._samples += 1
        place = int(self._samples * GOLDEN % 1.0 * sum(len(pool.unknown) for pool in pools))
        for pool in pools:
            if place < len(pool.unknown):
                break
            place -= len(pool.unknown)
        suspect = pool.unknown.pop(place)
        self.bytes -= self._size_of(suspect.event)
        pool.on_their_way += 1
        return Search(pool, [suspect], [], drawn=False, is_sample=True)

    def _is_due(self, pool: Pool, now: float) -> bool:
        if pool.known_bad:
            return True
        return bool(pool.unknown) and (pool.until <= now or len(pool.unknown) >= self._most_events)

    def _cut(self, pool: Pool, drawn: list[Suspect]) -> list[Suspect]:
        """As many of the drawn suspects as fit into a request; the others wait again."""
        size = 0
        for number, suspect in enumerate(drawn):
            size += self._size_of(suspect.event) + 1
            if size > self._most_bytes and number:
                pool.unknown[:0] = drawn[number:]
                return drawn[:number]
        return drawn

    def _most_singles(self, pool: Pool) -> int:
        if pool.accepted:
            return SINGLES_IF_SOME_ACCEPTED
        return SINGLES_AFTER_CONCLUSION if pool.conclusions else SINGLES_IF_NONE_ACCEPTED

    def _give_up(self, pool: Pool) -> list[Suspect]:
        pool.conclusions += 1
        pool.singles = 0
        return self._take_out(pool)

    def _take_out(self, pool: Pool) -> list[Suspect]:
        found = [suspect for group in pool.known_bad for suspect in group] + pool.unknown
        self.bytes -= self._bytes_of(found)
        pool.known_bad.clear()
        pool.unknown = []
        return found

    def _wait_again(self, pool: Pool, suspects: list[Suspect], *, first: bool = True) -> None:
        if first:
            pool.unknown[:0] = suspects
        else:
            pool.unknown += suspects
        self.bytes += self._bytes_of(suspects)

    def _know_bad(self, pool: Pool, group: list[Suspect]) -> None:
        pool.known_bad.append(group)
        self.bytes += self._bytes_of(group)

    def _end_episode(self, pool: Pool) -> None:
        if pool.is_empty:
            pool.accepted = pool.refusals = pool.singles = 0

    def _forget_idle_pools(self) -> None:
        if len(self._pools) > MOST_POOLS:
            idle = [site for site, pool in self._pools.items() if pool.is_empty]
            for site in idle[: len(self._pools) - MOST_POOLS]:
                del self._pools[site]

    def _bytes_of(self, suspects: Iterable[Suspect]) -> int:
        return sum(self._size_of(suspect.event) for suspect in suspects)
