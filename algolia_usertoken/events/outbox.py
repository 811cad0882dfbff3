"""Events on disk until Algolia has them, in an SQLite file that several processes may share.

How it keeps its promises:

- An event belongs to one owner, which is one life of one process, and has a number unique within that owner. The
  owner's lease is a row that says until when the owner is alive. Another process adopts the events of a dead owner:
  they get a new owner and a new number.
- A process keeps in memory the numbers of its own waiting events, and reads an event only when it is about to deliver
  it. An event that is no longer in the file under its number was adopted by another process, which delivers it.
- A mutex guards the counts, and no thread holds it while it uses the file. `sqlite.py` says how the file is used
  without waiting for others; `rows.py` says how damaged rows are read.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ..checks import check_number, file_path
from ..errors import OutboxError
from . import sqlite
from .rows import MOST_NUMBERS, MOST_OF_ONE_CALL, Rows, StoredEvent, Troubles, numbers_of, timestamp_of
from .rules import MAX_AGE_MS

ADOPTED_AT_ONCE = 5_000  # events; other processes may adopt the rest until these are nearly delivered
_ADOPTED_FROM = 1 << 40  # the first number of adopted events, far above the numbers of a process's own events
_UNREADABLE = "can't be read, as the file is damaged there, and stay in the file"
_NO_JSON = "are not JSON any more, and were moved to its table `damaged`"
_UNREMOVABLE = (
    "were delivered or given up and can't be removed, as the file is damaged there: the next start delivers them again"
)
_UNMOVABLE = "of processes that ended can't be taken over, as the file is damaged there"


class SQLiteOutbox:
    """Keeps accepted events in an SQLite file until they are settled, for one `EventSender`.

    An event is in the file before `send` returns True, and stays until it is delivered, rejected or given up. Any
    number of processes of one machine may use the file. When a process dies or calls `close`, the other processes, or
    the next one to start, take over its remaining events. A forked child starts empty, with a lease of its own.

    If another process keeps the file locked, a `send` waits at most 0.25 seconds, and later calls hardly wait. An event
    that cannot be stored then is dropped, counted and reported. A new file can be read by its owner only (mode 0600).

    Args:
        path: The file, on a local disk; it is created if it does not exist. SQLite keeps `…-wal` and `…-shm` beside it.
        max_events: How many events the file may hold, for all processes together; further events are dropped.
        lease: Seconds within which other processes take over the events of a dead process, at least 1. A process that
            does not run for that long (stopped, suspended) counts as dead, and others deliver its waiting events.

    Raises:
        TypeError, ValueError: An argument has a wrong type or a wrong value.
        OutboxError: The file can't be created or written, is damaged, is not an outbox, or was made by a newer version
            of this package.

    https://www.sqlite.org/wal.html
    """

    def __init__(self, path: str | os.PathLike[str], *, max_events: int = 1_000_000, lease: float = 30.0) -> None:
        self.path = file_path(path)
        check_number("max_events", max_events, 1, sqlite.LARGEST, whole=True)
        check_number("lease", lease, 1, sqlite.LARGEST, unit="seconds")
        self.max_events = max_events
        self.lease = lease
        # A simulation replaces both: the machine's seconds, which measure the leases, and the time of day.
        self.clock: Callable[[], float] = sqlite.clock
        self.wall_clock: Callable[[], float] = time.time
        self._attached = self._closed = False
        self._start_empty()
        try:
            sqlite.prepare(self.rows.keeper)
        except BaseException:
            self._closed = True
            self.rows.close()
            raise
        self._file = self.rows.identity()
        sqlite.register(self)

    def _start_empty(self) -> None:
        """Set the state of a new outbox: no owner registered yet, no events, and no open connections."""
        self.rows = Rows(self.path)
        # Re-entrant, because a signal handler or a __del__ may run while this thread holds it.
        self._mutex: threading.Condition | threading.RLock = threading.RLock()
        self._adopting = threading.Lock()
        self._owner: int | None = None
        self._alive_until = 0.0
        self._life = 0  # counts how often the lease had ended before it was renewed
        self._numbers = itertools.count()
        self._adopted_numbers = itertools.count(_ADOPTED_FROM, MOST_NUMBERS)
        self._waiting: deque[int] = deque()  # numbers
        self._reading: dict[int, list[int]] = {}  # by thread: how many events each `take` took, until `took` is called
        self._read = 0  # events that left `_waiting` and still count as waiting
        self._adopted = self._gone = 0
        self._settled: list[int] = []  # numbers of events that are still to be removed
        self._damaged: list[int] = []  # numbers of events that are still to be moved to the table `damaged`
        self._more_to_adopt = False
        self._removed_some = False  # since the log was last cut
        self._troubles = Troubles()

    @property
    def connections(self) -> Sequence[sqlite.Connection]:
        """All connections to the file, for the hooks around a fork."""
        return self.rows.connections

    def start_again(self, inherited: Sequence[sqlite.Connection] = ()) -> None:
        """Start empty in a forked child; `inherited` are the parent's open connections."""
        self._start_empty()
        if inherited:
            self.rows.become_unusable()

    def share_lock(self, lock: threading.Condition) -> None:
        """Guard the counts with the sender's lock: with two locks, a `__del__` that sends could deadlock."""
        self._mutex = lock

    def attach(self) -> None:
        """Make this the outbox of a sender.

        Raises:
            ValueError: The outbox has a sender already, or is closed.
        """
        if self._closed or self._attached:
            what = "is closed" if self._closed else "has a sender already"
            raise ValueError(f"outbox {what}: make another SQLiteOutbox({self.path!r}, …), on the same file")
        self._attached = True

    def __len__(self) -> int:
        """The waiting events of this process. Events that `take` reads or has returned count until `took` is called."""
        with self._mutex:
            return len(self._waiting) + self._read

    def glance(self) -> int:
        """About how many events of this process wait; it needs no lock."""
        return len(self._waiting) + self._read

    def counts(self) -> tuple[int, int, int]:
        """Three counts of the same moment: waiting events (`len`), events adopted so far, and events that are gone.

        An event is gone if `take` did not find it, because another process adopted it or because it is damaged. It
        leaves `len` together with the events that `take` returned. Events that `confirm` leaves out are not counted
        here: the caller of `confirm` knows of them.
        """
        with self._mutex:
            return len(self), self._adopted, self._gone

    @property
    def trouble(self) -> str | None:
        """What is wrong with a file that still works, as a text for a log; None if nothing is wrong."""
        return str(self._troubles) or None

    # In.

    def append(self, event: bytes, /) -> None:
        """Store an event, given as JSON text in UTF-8. When this returns, the operating system has the event.

        Raises:
            OutboxError: The outbox is full or closed, or the file can't be written, is damaged, or locked.
        """
        owner, deadline = self._own_id()
        number, created_at = next(self._numbers), int(self.wall_clock() * 1000)
        if not self.rows.add(owner, number, created_at, event, self.max_events, deadline):
            raise self._error(f"it is full ({self.max_events} events)")
        self._waiting.append(number)

    def append_all(self, events: Sequence[bytes], /) -> None:
        """Store the events of one call, all or none of them.

        Raises:
            OutboxError: As for `append`; or there are more events than the file has room for, or than one call may
                store.
        """
        if len(events) > MOST_OF_ONE_CALL:
            raise self._error(f"one call made {len(events)} events, and at most {MOST_OF_ONE_CALL} can be stored")
        if not events:
            return
        owner, deadline = self._own_id()
        numbers = [next(self._numbers) for _ in events]
        if not self.rows.add_all(owner, numbers, int(self.wall_clock() * 1000), events, self.max_events, deadline):
            raise self._error(f"it has no room for {len(events)} events of one call (it holds {self.max_events})")
        self._waiting.extend(numbers)

    def _own_id(self) -> tuple[int, float | None]:
        """Our owner id and a deadline; the deadline is None if there was no need to register an owner first."""
        if self._closed:
            raise self._error("it is closed")
        if self._owner is not None:
            return self._owner, None
        deadline = time.monotonic() + sqlite.BUSY_TIMEOUT
        # Every process looks for dead owners once every third of the lease. So if this process dies right after this
        # line, another process adopts its events within the lease.
        alive_until = self.clock() + self.lease * 2 / 3
        owner = self.rows.register(alive_until, self.lease, deadline)
        with self._mutex:
            if self._owner is None:  # else another thread registered first, and the lease of this owner will expire
                self._alive_until, self._owner = alive_until, owner
            return self._owner, deadline

    # Out.

    def take(self, limit: int) -> list[bytes]:
        """Take the first waiting events, to deliver them; after each call the same thread calls `took`.

        Events older than 30 days by the time of day are returned without newer ones, as Algolia no longer accepts them.
        Algolia decides about them, because the clock may be wrong. So a call that meets both kinds returns fewer events
        than `limit`, in their order.

        Args:
            limit: How many events to take at most.

        Raises:
            OutboxError: The file can't be read; the events still wait.
        """
        events: list[bytes] = []
        left = 0  # events that leave `len` when `took` is called: those returned, and those that are gone
        try:
            while not events:
                with self._mutex:
                    count = 0 if self._closed else min(limit, len(self._waiting))
                    self._read += count  # first, so that a reader in between counts too many rather than too few
                    numbers = [self._waiting.popleft() for _ in range(count)]
                    life = self._life
                if not numbers:
                    break
                try:
                    events, others = self._sorted_out(numbers, life)
                except BaseException:
                    others = numbers
                    raise
                finally:
                    with self._mutex:
                        self._waiting.extendleft(reversed(others))
                        self._read -= len(others)
                        left += count - len(others)
        finally:
            self._reading.setdefault(threading.get_ident(), []).append(left)
        if self._more_to_adopt and len(self._waiting) < limit:
            with contextlib.suppress(OutboxError):  # `keep` will try again, and report the error
                self._adopt()
        return events

    def took(self) -> None:
        """Note that the worker now counts the events that this thread's last `take` returned."""
        ident = threading.get_ident()
        with self._mutex:
            reading = self._reading.get(ident, [0])
            self._read -= reading.pop()
            if not reading:
                self._reading.pop(ident, None)

    def _sorted_out(self, numbers: list[int], life: int) -> tuple[list[bytes], list[int]]:
        """Read these events; return those that can share a request, and the numbers of those that wait again."""
        texts, unreadable = self.rows.read(self._owner, numbers)
        oldest = self.wall_clock() * 1000 - MAX_AGE_MS
        chosen: list[bytes] = []
        others: list[int] = []
        damaged: list[int] = []
        kind: bool | None = None
        for place, number in enumerate(filter(texts.__contains__, numbers), start=1):
            if not place % 100:
                time.sleep(0)  # releases the interpreter lock, for which a `send` would otherwise wait milliseconds
            if others:
                others.append(number)
                continue
            try:
                too_old = timestamp_of(texts[number]) < oldest
            except ValueError:
                damaged.append(number)
                continue
            kind = too_old if kind is None else kind
            if too_old == kind:
                chosen.append(StoredEvent.of(number, texts[number], life))
            else:
                others.append(number)
        with self._mutex:
            self._gone += len(numbers) - len(chosen) - len(others)
            self._damaged += damaged
        self._troubles.say_of(unreadable, _UNREADABLE)
        self._troubles.say_of(damaged, _NO_JSON)
        if damaged:
            with contextlib.suppress(OutboxError):  # `keep` will try again, and report the error
                self._set_aside()
        return chosen, others

    def put_back(self, events: Sequence[bytes]) -> None:
        """Make events that were taken wait again, ahead of all others."""
        with self._mutex:
            self._waiting.extendleft(reversed(numbers_of(events)))

    def confirm(self, events: Sequence[bytes]) -> list[bytes]:
        """Return the events that this process still owns; the sender calls this before each attempt to deliver.

        The file is read only if the lease has expired since the events were read, for example because this process was
        stopped. If the file can't be read, all of the events count as owned: each event arrives at least once.
        """
        with self._mutex:
            life, alive = self._life, self.clock() < self._alive_until
        if alive and all(event.life == life for event in events if isinstance(event, StoredEvent)):
            return list(events)
        try:
            with contextlib.suppress(OutboxError):  # a locked file, say: then no other process can adopt them either
                self._renew(time.monotonic())
            with self._mutex:
                life = self._life
            there, _ = self.rows.read(self._owner, numbers_of(events))
        except OutboxError:
            return list(events)
        kept = [event for event in events if not isinstance(event, StoredEvent) or event.number in there]
        for event in kept:
            if isinstance(event, StoredEvent):
                event.life = life
        return kept

    def settle(self, events: Sequence[bytes]) -> None:
        """Remove events that were taken.

        Raises:
            OutboxError: The file can't be written, so the events are still in it. The outbox will try again to remove
                them; if the process ends before that succeeds, they are delivered again.
        """
        self._remove_settled(numbers_of(events))
        if not self._waiting:
            self._troubles.say("log", self.rows.cut_log(sqlite.LOG_LIMIT))

    # The lease, the log, and the events of dead processes.

    def keep(self) -> None:
        """Renew the lease, and adopt events whose owner is dead; the sender calls this every third of the lease.

        Raises:
            OutboxError: The file can't be used now; the next call tries again. Or the file still works, and the error
                reports, once, what `trouble` says.
        """
        if self._closed:
            return
        self._see_whether_the_file_is_there()
        self._own_id()
        self._renew()
        self.rows.forget_dead_owners(self.clock())
        self._remove_settled()
        self._set_aside()
        self._adopt()
        above, self._removed_some = (0 if self._removed_some and not len(self) else sqlite.LOG_LIMIT), False
        self._troubles.say("log", self.rows.cut_log(above))
        news = self._troubles.unreported()
        if news:
            raise self._error(news)

    def close(self) -> None:
        """Leave the waiting events to other processes at once, and close the file. `len` still counts them."""
        if self._closed:
            return
        self._closed = True
        if self._owner is not None:
            deadline = time.monotonic() + sqlite.CLOSE_TIMEOUT
            with contextlib.suppress(OutboxError):  # then the lease will expire by itself
                self._remove_settled(deadline=deadline)
                self.rows.end(self._owner, deadline)
        self.rows.close()

    def __del__(self) -> None:
        if not self.__dict__.get("_closed", True):
            self.close()

    def _renew(self, deadline: float | None = None) -> None:
        if self._owner is None:
            return
        alive_until = self.clock() + self.lease * 2 / 3
        self.rows.renew(self._owner, alive_until, self.lease, deadline)
        with self._mutex:
            # If the renewal is late, others may have adopted our events between the old end of the lease and now.
            self._life += self.clock() >= self._alive_until
            self._alive_until = alive_until

    def _remove_settled(self, more: Sequence[int] = (), deadline: float | None = None) -> None:
        with self._mutex:  # takes `more` in the same step, so that two settling threads each get their own result
            numbers, self._settled = [*self._settled, *more], []
        if not numbers:
            return
        try:
            self._troubles.say_of(self.rows.remove(self._owner, numbers, deadline), _UNREMOVABLE)
            self._removed_some = True
        except OutboxError as error:
            raise OutboxError(
                f"{error}; {len(numbers)} events that were delivered or given up could not be removed from the file: "
                "that is tried again, and if this process ends before, the next start delivers them again"
            ) from error.__cause__
        finally:
            with self._mutex:
                self._settled += numbers

    def _set_aside(self) -> None:
        with self._mutex:
            numbers, self._damaged = self._damaged, []
        try:
            self.rows.set_aside(self._owner, numbers)
        finally:
            with self._mutex:
                self._damaged += numbers

    def _adopt(self) -> None:
        """Adopt events of dead owners, behind all waiting events, as long as not too many wait."""
        if not self._adopting.acquire(blocking=False):
            return
        try:
            self._more_to_adopt = False
            stuck = 0
            for dead, numbers in self.rows.of_the_dead(self.clock()):
                room = ADOPTED_AT_ONCE - len(self._waiting)
                self._more_to_adopt |= room < len(numbers)
                if room <= 0:
                    break
                if dead != self._owner:
                    stuck += self._adopt_from(dead, numbers[:room])
            self._troubles.say("stuck", f"{stuck} events {_UNMOVABLE}" if stuck else None)
        finally:
            self._adopting.release()

    def _adopt_from(self, dead: int, numbers: list[int]) -> int:
        """Adopt these events of a dead owner; return how many can't be adopted."""
        moved: list[int] = []
        try:
            first = next(self._adopted_numbers)
            return len(self.rows.move(dead, numbers, self._owner, first, self.clock(), moved))
        finally:
            with self._mutex:
                self._waiting.extend(moved)
                self._adopted += len(moved)

    def _see_whether_the_file_is_there(self) -> None:
        if self.rows.identity() == self._file:
            return
        for connection in self.connections:
            connection.close()
        sqlite.prepare(self.rows.keeper)
        with self._mutex:
            self._settled, self._damaged = [], []
            self._owner, self._file, self._more_to_adopt = None, self.rows.identity(), False
            lost = len(self)  # `take` will not find them, and will count them as gone
        raise self._error(f"the file was removed or replaced while in use; {lost} events that waited in it are lost")

    def _error(self, what: str) -> OutboxError:
        return OutboxError(f"outbox {self.path}: {what}")

    def __getstate__(self) -> Any:
        raise TypeError("an SQLiteOutbox can't be pickled or copied: make a new one on the same file")
