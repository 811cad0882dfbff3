"""Events on disk until Algolia has them, in an SQLite file that several processes may share.

How it keeps its promises:

- An event belongs to one owner, which is one life of one process, and has a number there. The owner's lease is a row
  that says until when it is alive. Events of an owner that is not, are adopted: they get a new owner and number.
- A process knows the numbers of its own events that wait, in memory, and reads an event when it is about to deliver it.
  One that is no longer there under its number was adopted by somebody else, and is left to them.
- Each call of SQLite is a transaction of its own and one call into C. So no signal handler and no `__del__`, which may
  well send or flush, finds this thread in the middle of one. Appending has a connection and a lock of its own: a
  handler that interrupts it and waits for the threads that deliver is not what they wait for.
- Nothing is open across a fork. SQLite's locks are those of the process, kept per file in its memory: a child that
  inherits them believes to have them, and the file can be taken away from under it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from ..errors import OutboxError
from .rules import MAX_AGE_MS

BUSY_TIMEOUT = 5.0  # seconds to wait while another process writes
CLOSE_TIMEOUT = 1.0  # the same, when closing
ADOPTED_AT_ONCE = 5_000  # events; the rest is left to others until these are nearly delivered
APPLICATION_ID = 0x416C6755  # marks the file as ours: "AlgU"
SCHEMA_VERSION = 1

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS owners (id INTEGER PRIMARY KEY AUTOINCREMENT, alive_until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    owner INTEGER NOT NULL, number INTEGER NOT NULL, created_at INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (owner, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS total (events INTEGER NOT NULL);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT * FROM total);
CREATE TRIGGER IF NOT EXISTS count_up AFTER INSERT ON events BEGIN UPDATE total SET events = events + 1; END;
CREATE TRIGGER IF NOT EXISTS count_down AFTER DELETE ON events BEGIN UPDATE total SET events = events - 1; END;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""
# One statement, so that what it says is of one moment.
_WHAT_FILE = """
SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
       (SELECT count(*) FROM sqlite_master)
"""
_APPEND = "INSERT INTO events SELECT ?, ?, ?, ? WHERE (SELECT events FROM total) < ?"
# Walks from owner to owner along the key, instead of over all events.
_DEAD_OWNERS = """
WITH RECURSIVE owner(id) AS (
    SELECT min(owner) FROM events
    UNION ALL SELECT (SELECT min(owner) FROM events WHERE owner > id) FROM owner WHERE id IS NOT NULL
)
SELECT id FROM owner WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM owners WHERE alive_until > ?)
"""
# Of two that try, one finds nothing to update any more; nor does who comes as the owner is alive again.
_ADOPT = """
UPDATE events SET owner = ?, number = number + ? WHERE owner = ? AND number BETWEEN ? AND ?
AND owner NOT IN (SELECT id FROM owners WHERE alive_until > ?)
"""
_ADOPTED_FROM = 1 << 40  # the first number of what is adopted, far above one's own
_MOST_NUMBERS = 1 << 20  # that one adoption may use up

_T = TypeVar("_T")


class StoredEvent(bytes):
    """The text of an event from the file; `number` is its place there."""

    number: int

    @classmethod
    def of(cls, number: int, body: str) -> StoredEvent:
        try:
            event = cls(body.encode() if isinstance(json.loads(body), dict) else b"")
        except (ValueError, TypeError):
            event = cls(b"")
        if not event:  # somebody wrote into the file; refused by Algolia, it is reported
            event = cls(json.dumps({"unreadable": str(body)}).encode())
        event.number = number
        return event


class SQLiteOutbox:
    """Keeps accepted events in an SQLite file until they are settled, for one `EventSender`.

    An event is in the file before `send` returns True, and stays until it is delivered, rejected or given up. Any
    number of processes of one machine may use the file; what one leaves behind, by dying or at `close`, is taken over
    by the others, or by the next to start. A forked child starts empty, with a lease of its own.

    Args:
        path: The file, on a local disk; made where there is none. Beside it SQLite keeps `…-wal` and `…-shm`.
        max_events: Events that the file may hold, those of all processes together; a further one is dropped.
        lease: Seconds within which the events of a process that died are taken over, at least 1. A process that does
            not run for so long (stopped, suspended) counts as dead, and leaves what waits to the others.

    Raises:
        TypeError, ValueError: An argument is not what it must be.
        OutboxError: The file can't be made or written, is no outbox, or one of a newer version of this package.

    https://www.algolia.com/doc/rest-api/insights/push-events (for the 30 days)
    """

    def __init__(self, path: str | os.PathLike[str], *, max_events: int = 1_000_000, lease: float = 30.0) -> None:
        self.path = _checked_path(path)
        _check_number("max_events", max_events, 1, whole=True)
        _check_number("lease", lease, 1)
        self.max_events = max_events
        self.lease = lease
        self._attached = self._closed = False
        self._start_empty()
        _outboxes.add(self)
        try:
            _prepare(self._keeper)
        except BaseException:
            self._closed = True
            self._keeper.close()
            raise

    def _start_empty(self) -> None:
        """As new: an owner to be, without events, whose connections are not open yet."""
        # Appending leaves checkpoints, which may take a while, to those who deliver, unless there are none.
        self._appender = _Connection(self.path, checkpoint_every=10_000)
        self._keeper = _Connection(self.path, checkpoint_every=1_000)
        self._owner: int | None = None
        self._numbers = itertools.count()
        self._adopted_numbers = itertools.count(_ADOPTED_FROM, _MOST_NUMBERS)
        self._waiting: deque[int] = deque()  # numbers
        self._gone = 0
        self._too_old: list[int] = []  # numbers of adopted events, to be reported
        self._settled: list[int] = []  # numbers of events that are still to be deleted
        self._more_to_adopt = False

    @property
    def connections(self) -> Sequence[_Connection]:
        """Both connections to the file, for the hooks around a fork."""
        return self._appender, self._keeper

    def start_again(self) -> None:
        """In a forked child."""
        inherited = [connection for connection in self.connections if connection.is_open]
        self._start_empty()
        if inherited:
            _leaked.extend(inherited)  # not even closing them would be right
            self._appender = self._keeper = _Unusable(self.path, 0)

    def attach(self) -> None:
        """Make this the outbox of a sender.

        Raises:
            ValueError: It is another's already, or closed.
        """
        if self._closed or self._attached:
            what = "is closed" if self._closed else "has a sender already"
            raise ValueError(
                f"outbox {what}: make another SQLiteOutbox({self.path!r}, …), on the same file if you like"
            )
        self._attached = True

    def __len__(self) -> int:
        """Events of this process that wait."""
        return len(self._waiting)

    def append(self, event: bytes, /) -> None:
        """Store an event; it is on disk when this returns.

        Raises:
            OutboxError: The outbox is full or closed, or the file can't be written.
        """
        if self._closed:
            raise self._error("it is closed")
        now = int(time.time() * 1000)
        timestamp = json.loads(event).get("timestamp")
        created_at = min(timestamp, now) if type(timestamp) is int else now
        number = next(self._numbers)
        owner = self._owner or self._register()
        stored = self._appender.write(_APPEND, (owner, number, created_at, event.decode(), self.max_events))
        if not stored:
            raise self._error(f"it is full ({self.max_events} events)")
        self._waiting.append(number)

    def take(self, limit: int) -> list[bytes]:
        """The first events that wait, to be delivered.

        Raises:
            OutboxError: The file can't be read; they still wait.
        """
        numbers: list[int] = []
        with contextlib.suppress(IndexError):
            while not self._closed and len(numbers) < limit:
                numbers.append(self._waiting.popleft())
        if not numbers:
            return []
        try:
            bodies = dict(self._own_events("number, body", numbers))
        except OutboxError:
            self._waiting.extendleft(reversed(numbers))
            raise
        events: list[bytes] = [StoredEvent.of(number, bodies[number]) for number in numbers if number in bodies]
        self._gone += len(numbers) - len(events)
        if self._more_to_adopt and len(self._waiting) < limit:
            with contextlib.suppress(OutboxError):  # `keep` will try, and tell
                self._adopt()
        return events

    def gone(self) -> int:
        """How many events no longer wait, found by `take` to be somebody else's, since the last call."""
        gone, self._gone = self._gone, 0
        return gone

    def put_back(self, events: Sequence[bytes]) -> None:
        """Have events that were taken wait again, before all others."""
        self._waiting.extendleft(reversed(_numbers_of(events)))

    def settle(self, events: Sequence[bytes]) -> None:
        """Remove events that were taken.

        Raises:
            OutboxError: The file can't be written; it will be tried again.
        """
        self._settled += _numbers_of(events)
        self._delete_settled()

    def keep(self) -> list[bytes]:
        """Stay alive for the others, and adopt events whose owner is not; to be called every third of the lease.

        Returns:
            Adopted events that Algolia takes no more, being older than 30 days; they are removed.

        Raises:
            OutboxError: The file can't be used; it will be tried again.
        """
        if self._closed:
            return []
        now = time.time()
        owner = self._owner or self._register()
        # Who dies right after has its events adopted by one who comes every third of the lease: within the lease.
        self._keeper.write("INSERT OR REPLACE INTO owners VALUES (?, ?)", (owner, now + self.lease * 2 / 3))
        self._keeper.write("DELETE FROM owners WHERE alive_until <= ?", (now,))
        self._delete_settled()
        self._adopt()
        return self._remove_too_old()

    def close(self) -> None:
        """Leave what waits to others, at once, and let go of the file. `len` still tells how many were left."""
        if self._closed:
            return
        self._closed = True
        if self._owner is not None:
            with contextlib.suppress(OutboxError):  # the lease will end
                self._keeper.hurry()
                self._delete_settled()
                self._keeper.write("DELETE FROM owners WHERE id = ?", (self._owner,))
        self._appender.close()
        self._keeper.close()

    def __del__(self) -> None:
        if not self.__dict__.get("_closed", True):
            self.close()

    def _register(self) -> int:
        with self._appender.lock:
            if self._owner is None:
                self._appender.write("INSERT INTO owners (alive_until) VALUES (?)", (time.time() + self.lease * 2 / 3,))
                if self._owner is None:  # a __del__ may have sent meanwhile, and registered
                    self._owner = self._appender.last_id
            return self._owner

    def _own_events(self, columns: str, numbers: Iterable[int]) -> list[tuple[Any, ...]]:
        return self._keeper.read(
            f"SELECT {columns} FROM events WHERE owner = ? AND number IN {_listed(numbers)}", (self._owner,)
        )

    def _delete(self, numbers: Iterable[int]) -> None:
        self._keeper.write(f"DELETE FROM events WHERE owner = ? AND number IN {_listed(numbers)}", (self._owner,))

    def _delete_settled(self) -> None:
        while self._settled:
            numbers = self._settled[:1000]
            self._delete(numbers)
            del self._settled[: len(numbers)]

    def _adopt(self) -> None:
        """Make events of dead owners ours, as long as not too many wait, behind all that do."""
        now = time.time()
        self._more_to_adopt = False
        for (dead,) in self._keeper.read(_DEAD_OWNERS, (now,)):
            room = ADOPTED_AT_ONCE - len(self._waiting)
            if room <= 0:
                self._more_to_adopt = True
                return
            found = self._keeper.read(
                "SELECT number, created_at FROM events WHERE owner = ? ORDER BY number LIMIT ?", (dead, room)
            )
            if not found:  # pragma: no cover - adopted by another meanwhile
                continue
            first = found[0][0]
            adopted = [(number, created_at) for number, created_at in found if number < first + _MOST_NUMBERS]
            shift = next(self._adopted_numbers) - first
            if not self._keeper.write(_ADOPT, (self._owner, shift, dead, first, adopted[-1][0], now)):
                continue
            for number, created_at in adopted:
                too_old = created_at < now * 1000 - MAX_AGE_MS
                (self._too_old if too_old else self._waiting).append(number + shift)
            self._more_to_adopt |= len(found) == room or len(adopted) < len(found)

    def _remove_too_old(self) -> list[bytes]:
        if not self._too_old:
            return []
        events: list[bytes] = [
            StoredEvent.of(number, body) for number, body in self._own_events("number, body", self._too_old)
        ]
        self._delete(self._too_old)
        self._too_old.clear()
        return events

    def _error(self, what: str) -> OutboxError:
        return OutboxError(f"outbox {self.path}: {what}")

    def __getstate__(self) -> Any:
        raise TypeError("an SQLiteOutbox can't be pickled or copied: make a new one on the same file")


class _Connection:
    """A connection to SQLite for one thread at a time, opened when it is used first."""

    def __init__(self, path: str, checkpoint_every: int) -> None:
        self.path = path
        # Re-entrant, for a signal handler or a __del__ that runs while this thread holds it.
        self.lock = threading.RLock()
        self.last_id = 0
        self._checkpoint_every = checkpoint_every  # pages
        self._connection: sqlite3.Connection | None = None

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            with self.lock:
                return (self._connection or self._open()).execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def write(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement; how many rows it has changed."""
        try:
            with self.lock:
                cursor = (self._connection or self._open()).execute(sql, parameters)
                self.last_id = cursor.lastrowid or 0
                return cursor.rowcount
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def script(self, sql: str) -> None:
        """Run a transaction."""
        try:
            with self.lock:
                connection = self._connection or self._open()
                try:
                    connection.executescript(sql)
                finally:
                    if connection.in_transaction:  # pragma: no cover - only after an error of the disk
                        connection.rollback()
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def hurry(self) -> None:
        """From now on, do not wait for long."""
        self.read(f"PRAGMA busy_timeout = {CLOSE_TIMEOUT * 1000:.0f}")

    def close(self) -> None:
        with self.lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False, cached_statements=16
        )
        try:
            # Without an fsync per event: whatever happens to the process, the operating system has it.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {self._checkpoint_every}").fetchall()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _explained(self, error: sqlite3.Error) -> OutboxError:
        return OutboxError(f"outbox {self.path}: {error}")


class _Unusable(_Connection):
    """In a child of a fork that Python was not told about: what SQLite has in memory is the parent's."""

    def _open(self) -> sqlite3.Connection:
        raise OutboxError(
            f"outbox {self.path}: this process was forked while the file was open, and not by Python; make the sender "
            "after the fork (under uWSGI: lazy-apps, or @postfork)"
        )


def _prepare(connection: _Connection) -> None:
    """See to it that the file is an outbox.

    Raises:
        OutboxError: It is something else, or can't be made one.
    """
    application_id, version, tables = _patiently(lambda: connection.read(_WHAT_FILE))[0]
    if application_id != APPLICATION_ID and (application_id or version or tables):
        raise OutboxError(f"outbox {connection.path}: the file is the database of another program")
    if version > SCHEMA_VERSION:
        raise OutboxError(
            f"outbox {connection.path}: the file was made by a newer version of algolia-usertoken (schema {version})"
        )
    ((mode,),) = _patiently(lambda: connection.read("PRAGMA journal_mode = WAL"))
    if mode != "wal":  # pragma: no cover - such file systems are not at hand
        raise OutboxError(f"outbox {connection.path}: the file system has no shared memory, which SQLite needs (WAL)")
    # Also where it exists: that it can be written is better known now.
    _patiently(lambda: connection.script(_SCHEMA))


def _patiently(action: Callable[[], _T]) -> _T:
    """Do what may find the file locked without waiting: that is so where several processes set it up at once."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            return action()
        except OutboxError as error:
            if "locked" not in str(error.__cause__) or time.monotonic() >= deadline:
                raise
            time.sleep(0.02)


def _checked_path(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        raise TypeError(f"path must be a str or a path, not {type(path).__name__}")
    if not text or text == ":memory:" or "\0" in text:
        what = "of a name with a null character" if "\0" in text else repr(text)
        raise ValueError(f"path must be that of a file, not {what}")
    return os.path.abspath(text)  # the working directory may change


def _check_number(name: str, value: float, least: int, *, whole: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise TypeError(f"{name} must be {'a whole number' if whole else 'a number'}, not {type(value).__name__}")
    if not least <= value < 2**63:
        raise ValueError(f"{name} must be at least {least}, not {value}")


def _numbers_of(events: Sequence[bytes]) -> list[int]:
    return [event.number for event in events if isinstance(event, StoredEvent)]


def _listed(numbers: Iterable[int]) -> str:
    # As text: how many parameters a statement may have depends on how SQLite was built.
    return f"({','.join(map(str, numbers))})"


# What happens at a fork.

_outboxes: weakref.WeakSet[SQLiteOutbox] = weakref.WeakSet()
_forking = threading.RLock()
_paused: list[_Connection] = []
_leaked: list[_Connection] = []


def _before_fork() -> None:
    """Wait until nobody uses SQLite, and close."""
    _forking.acquire()
    for outbox in list(_outboxes):
        for connection in outbox.connections:
            connection.lock.acquire()
            connection.close()
            _paused.append(connection)


def _after_fork_in_parent() -> None:
    while _paused:
        _paused.pop().lock.release()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking
    _forking = threading.RLock()
    _paused.clear()
    for outbox in list(_outboxes):
        outbox.start_again()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
