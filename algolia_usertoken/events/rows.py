"""The SQL statements on the rows of an outbox's file, and how they work around damaged rows.

Many rows are moved or removed in small steps, because other processes can't write during a step. If SQLite reports
that the file is damaged, a statement is repeated with fewer and fewer rows until the rows that can't be used are known.
So one damaged page never keeps other events from being delivered.
"""

from __future__ import annotations

import contextlib
import json
import math
import operator
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import OutboxError
from . import sqlite
from .sqlite import Connection

STEP = 200  # rows that one statement moves or removes, which takes a few milliseconds
REST = 0.0015  # seconds between two such statements, a gap in which waiting processes can add an event
MOST_NUMBERS = 1 << 20  # largest difference between the first and the last number of the rows moved at once
LOG_PATIENCE = 5.0  # seconds that another process may read the same state of the file before this is reported
# The most rows added at once, which is how many parameters a statement may have.
MOST_OF_ONE_CALL = 32_000 if sqlite3.sqlite_version_info >= (3, 32) else 900  # https://www.sqlite.org/limits.html

# If the file is full, the body is NULL, which the column forbids, so OR IGNORE skips the row. `INSERT … SELECT … WHERE`
# would do the same but take a third longer: because of the trigger, SQLite copies the selected rows to another table.
_ADD = "INSERT OR IGNORE INTO events VALUES (?, ?, ?, CASE WHEN (SELECT events FROM total) < ? THEN ? END)"
_RENEW = "INSERT OR REPLACE INTO owners (id, alive_until, boot, lease, pid) VALUES (?, ?, ?, ?, ?)"
_NEXT_OWNER = "SELECT owner FROM events WHERE owner > ? ORDER BY owner LIMIT ?"
_NEXT_NUMBERS = "SELECT number FROM events WHERE owner = ? AND number > ? ORDER BY number LIMIT ?"


class StoredEvent(bytes):
    """An event from the file, as JSON text in UTF-8.

    Attributes:
        number: Its number in the file, unique among the events of its owner.
        life: How often the owner's lease had ended when the event was last seen in the file.
    """

    number: int
    life: int

    @classmethod
    def of(cls, number: int, text: bytes, life: int) -> StoredEvent:
        event = cls(text)
        event.number, event.life = number, life
        return event


def numbers_of(events: Sequence[bytes]) -> list[int]:
    """The numbers of the events that come from the file; the other events are skipped."""
    return [event.number for event in events if isinstance(event, StoredEvent)]


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


_decode = json.JSONDecoder(parse_constant=_refuse).decode


def timestamp_of(text: bytes) -> float:
    """When an event happened, in milliseconds since the epoch; infinity if the event has no timestamp.

    Raises:
        ValueError: The text is not the JSON text of an event.
    """
    try:
        event = _decode(text.decode())
    except RecursionError:  # deeply nested, but the process that wrote the event could encode it
        return math.inf
    if not isinstance(event, dict):
        raise ValueError("no object")
    timestamp = event.get("timestamp")
    return timestamp if isinstance(timestamp, int) else math.inf


class Rows:
    """The statements of one process, on two connections: one adds events, the other does everything else.

    Each method raises an `OutboxError` if the file can't be used.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # A checkpoint may take a while: the delivering connection makes it, unless nothing is delivered for long.
        self.adder = Connection(path, checkpoint_every=10_000)
        self.keeper = Connection(path, checkpoint_every=1_000)
        self._log_stands_at: tuple[int, float] | None = None  # the page where checkpoints get stuck, and since when

    @property
    def connections(self) -> Sequence[Connection]:
        """All connections to the file, for the hooks around a fork."""
        return self.adder, self.keeper

    def become_unusable(self) -> None:
        """Refuse all use of the file, in a forked child that has inherited open connections."""
        self.adder = self.keeper = sqlite.Unusable(self.path, 0)

    # Owners, and how long they are alive.

    def register(self, alive_until: float, lease: float, deadline: float) -> int:
        """Register a new owner, and return its id."""
        owner = self.adder.write(_RENEW, (None, alive_until, sqlite.BOOT, lease, os.getpid()), deadline).lastrowid
        assert owner is not None
        return owner

    def renew(self, owner: int, alive_until: float, lease: float, deadline: float | None = None) -> None:
        """Renew the lease of `owner`: it counts as alive until `alive_until`."""
        self.keeper.write(_RENEW, (owner, alive_until, sqlite.BOOT, lease, os.getpid()), deadline)

    def forget_dead_owners(self, now: float) -> None:
        """Remove the leases that have expired."""
        self.keeper.write(f"DELETE FROM owners WHERE id NOT IN ({sqlite.ALIVE})", (sqlite.BOOT, now, now))

    def end(self, owner: int, deadline: float) -> None:
        """End the lease of `owner`, so that it counts as dead."""
        self.keeper.write("DELETE FROM owners WHERE id = ?", (owner,), deadline)

    # Events of one owner, by their numbers.

    def add(
        self, owner: int, number: int, created_at: int, text: bytes, max_events: int, deadline: float | None
    ) -> bool:
        """Add an event; return False if the file holds `max_events` already."""
        return self.adder.write(_ADD, (owner, number, created_at, max_events, text.decode()), deadline).rowcount > 0

    def add_all(
        self, owner: int, numbers: Sequence[int], created_at: int, texts: Sequence[bytes], max_events: int,
        deadline: float | None,
    ) -> bool:  # fmt: skip
        """Add at most `MOST_OF_ONE_CALL` events, all or none; return False if there is no room for all of them."""
        values = ",".join(f"({number:d},?)" for number in numbers)
        sql = (
            f"INSERT INTO events SELECT {owner:d}, column1, {created_at:d}, CAST(column2 AS TEXT) "
            f"FROM (VALUES {values}) WHERE (SELECT events FROM total) <= {max_events - len(texts):d}"
        )
        return self.adder.write(sql, texts, deadline).rowcount > 0

    def read(self, owner: int | None, numbers: Sequence[int]) -> tuple[dict[int, bytes], list[int]]:
        """Return the texts found in the file, by number, and the numbers of the events that can't be read."""
        found: dict[int, bytes] = {}
        return found, self._piecemeal(lambda some: found.update(self._texts(owner, some)), numbers)

    def remove(self, owner: int | None, numbers: list[int], deadline: float | None = None) -> list[int]:
        """Remove events, and their numbers from `numbers` step by step; return the numbers that can't be removed."""
        left: list[int] = []
        while numbers:
            some = numbers[:STEP]
            left += self._piecemeal(lambda some: self._delete(owner, some, deadline), some)
            del numbers[: len(some)]
            if numbers:
                time.sleep(REST)
        return left

    def set_aside(self, owner: int | None, numbers: list[int]) -> None:
        """Move events to the table of damaged events, and remove their numbers from `numbers` step by step."""
        while numbers:
            some = numbers[:STEP]
            self.keeper.write(
                "INSERT OR REPLACE INTO damaged SELECT owner, number, created_at, body FROM events "
                f"WHERE owner = ? AND number {_among(some)}",
                (owner,),
            )
            self._delete(owner, some, None)
            del numbers[: len(some)]

    def _texts(self, owner: int | None, numbers: Sequence[int]) -> list[tuple[int, bytes]]:
        return self.keeper.read(
            f"SELECT number, CAST(body AS BLOB) FROM events WHERE owner = ? AND number {_among(numbers)}", (owner,)
        )

    def _delete(self, owner: int | None, numbers: Sequence[int], deadline: float | None) -> None:
        self.keeper.write(f"DELETE FROM events WHERE owner = ? AND number {_among(numbers)}", (owner,), deadline)

    # Events of dead owners.

    def of_the_dead(self, now: float) -> Iterator[tuple[int, list[int]]]:
        """Yield each dead owner that has events, with the numbers of the events to move in one step."""
        alive = {owner for (owner,) in self.keeper.read(sqlite.ALIVE, (sqlite.BOOT, now, now))}
        for owner in self._owners():
            numbers: list[int] = []
            for number in self._numbers(owner) if owner not in alive else ():
                if numbers and (len(numbers) == STEP or number >= numbers[0] + MOST_NUMBERS):
                    yield owner, numbers
                    time.sleep(REST)
                    numbers = []
                numbers.append(number)
            if numbers:
                yield owner, numbers

    def counted(self) -> list[tuple[int, int]]:
        """Each owner that has events, and how many of its events can be found outside the damaged parts of the file."""
        return [(owner, count) for owner in self._owners() if (count := sum(1 for _ in self._numbers(owner)))]

    def move(
        self, dead: int, numbers: list[int], owner: int | None, first: int, now: float, moved: list[int]
    ) -> list[int]:
        """Move events from the owner `dead` to `owner`, with new numbers from `first`; add these numbers to `moved`.

        If two processes try this at once, the second finds nothing to move. A process also moves nothing if the old
        owner has renewed its lease in the meantime.

        Returns:
            The numbers that can't be moved.
        """
        shift = first - numbers[0]

        def update(some: Sequence[int]) -> None:
            count = self.keeper.write(
                f"UPDATE events SET owner = ?, number = number + ? WHERE owner = ? AND number {_among(some)} "
                f"AND owner NOT IN ({sqlite.ALIVE})",
                (owner, shift, dead, sqlite.BOOT, now, now),
            ).rowcount
            new = [number + shift for number in some]
            moved.extend(new if count == len(new) else [number for number, _ in self._texts(owner, new)])

        return self._piecemeal(update, numbers)

    # How to work around damage.

    def _piecemeal(self, action: Callable[[Sequence[int]], object], numbers: Sequence[int]) -> list[int]:
        """Run `action` on the numbers, or on ever smaller parts if the file is damaged; return those that fail.

        Raises:
            OutboxError: Something else is wrong with the file, or all of it is damaged.
        """
        if not numbers:
            return []
        try:
            action(numbers)
            return []
        except OutboxError as error:
            if not sqlite.is_damage(error):
                raise
        self.keeper.read("SELECT max(id), (SELECT events FROM total) FROM owners")
        if len(numbers) == 1:
            return list(numbers)
        middle = len(numbers) // 2
        return self._piecemeal(action, numbers[:middle]) + self._piecemeal(action, numbers[middle:])

    def _owners(self) -> Iterator[int]:
        """Yield the owners that have events; where the file is damaged, also the owners that may have some."""
        after = 0
        while True:
            try:
                found = self.keeper.read(_NEXT_OWNER, (after, 1))
                if not found:
                    return
                ((after,),) = found
                yield after
            except OutboxError as error:
                if not sqlite.is_damage(error):
                    raise
                beyond = self._beyond_damage(_NEXT_OWNER, (), after)
                ((last,),) = self.keeper.read("SELECT max(seq) FROM sqlite_sequence WHERE name = 'owners'")
                yield from range(after + 1, (last if beyond is None else min(beyond, last)) + 1)
                if beyond is None:
                    return
                after = beyond

    def _numbers(self, owner: int) -> Iterator[int]:
        """Yield the numbers of an owner's events; where the file is damaged, only those that can be found."""
        after, most = -1, STEP
        while True:
            try:
                found = [number for (number,) in self.keeper.read(_NEXT_NUMBERS, (owner, after, most))]
            except OutboxError as error:
                if not sqlite.is_damage(error):
                    raise
                if most > 1:
                    most //= 2
                    continue
                beyond = self._beyond_damage(_NEXT_NUMBERS, (owner,), after)
                if beyond is None:
                    return
                after, most = beyond, STEP
                continue
            if not found:
                return
            yield from found
            after = found[-1]

    def _beyond_damage(self, sql: str, parameters: Sequence[int], after: int) -> int | None:
        """The first key, or one a little later, beyond which `sql` works again; None if there is no such key.

        The last two parameters of `sql` are a key and a limit.
        """

        def readable(key: int) -> bool:
            with contextlib.suppress(OutboxError):
                self.keeper.read(sql, (*parameters, key, 1))
                return True
            return False

        step = 1
        while not readable(after + step):
            step *= 2
            if step > 1 << 61:
                return None
        low, high = after + step // 2, after + step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if readable(middle) else (middle, high)
        return high

    # The file, and the log beside it.

    def cut_log(self, above: int) -> str | None:
        """If the log has more bytes than `above`, move its content into the file, so that the log starts again.

        If the file holds no events, the log is truncated at once; nobody can write during that time. Otherwise the next
        write cuts the log to `LOG_LIMIT`.

        Returns:
            A text that says what keeps the log from being cut, if that has lasted `LOG_PATIENCE` seconds; else None.
        """
        log = f"{self.path}-wal"
        try:
            if os.stat(log).st_size > above:
                # The first checkpoint is a passive one, which does not keep others from writing.
                ((_, pages, moved),) = self.keeper.read("PRAGMA wal_checkpoint(PASSIVE)")
                if pages == moved and self.keeper.read("SELECT 0 FROM total WHERE events = 0"):
                    self.keeper.read("PRAGMA wal_checkpoint(TRUNCATE)")
                size, now = os.stat(log).st_size, time.monotonic()
                if pages > moved and size > sqlite.LOG_LIMIT:
                    if self._log_stands_at is None or self._log_stands_at[0] != moved:
                        self._log_stands_at = moved, now
                    if now - self._log_stands_at[1] < LOG_PATIENCE:
                        return None
                    return (
                        f"{log} has {size / 1e6:.0f} MB and can't be cut, as another process does not end its reading "
                        "of the file (a backup, a transaction that was left open)"
                    )
        except (OutboxError, OSError):
            return None
        self._log_stands_at = None
        return None

    def identity(self) -> tuple[int, int] | None:
        """The device and inode of the file now at the path; None if there is no file."""
        try:
            found = os.stat(self.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def close(self) -> None:
        """Close the connections for good, within `CLOSE_TIMEOUT`."""
        deadline = time.monotonic() + sqlite.CLOSE_TIMEOUT
        for connection in self.connections:
            connection.close(deadline, for_good=True)


def _among(numbers: Sequence[int]) -> str:
    """The SQL condition for a number to be one of these; the numbers are in the text, as SQLite limits parameters."""
    if numbers[-1] - numbers[0] == len(numbers) - 1 and all(map(operator.lt, numbers, numbers[1:])):
        return f"BETWEEN {numbers[0]:d} AND {numbers[-1]:d}"
    return f"IN ({','.join(map(str, numbers))})"


class Troubles:
    """What is wrong with a file that still works. Each kind of trouble is reported once, and again if it gets worse."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}
        self._reported: set[str] = set()

    def __str__(self) -> str:
        return "; ".join(self._said.values())

    def say(self, kind: str, text: str | None) -> None:
        """Note what is wrong, under a kind of trouble; with None, note that this kind is over."""
        if text is not None:
            self._said[kind] = text
        else:
            self._said.pop(kind, None)
            self._reported.discard(kind)

    def say_of(self, numbers: Sequence[int], what: str) -> None:
        """Add the number of these events to the count of the events that `what` is true of."""
        if numbers:
            before = int(self._said.get(what, "0 ").partition(" ")[0])
            self._said[what] = f"{before + len(numbers)} events {what}"
            self._reported.discard(what)

    def unreported(self) -> str:
        """The troubles that this method has not returned before."""
        news = "; ".join(text for kind, text in self._said.items() if kind not in self._reported)
        self._reported.update(self._said)
        return news
