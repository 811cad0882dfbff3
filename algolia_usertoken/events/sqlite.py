"""The file of an outbox: connections that wait only for a moment, what their errors mean, the schema, and forks.

How it keeps its promises:

- Each call of SQLite is one attempt that does not wait. Where the file is locked, the thread lets go of its connection
  before it waits for the next attempt. So nobody who needs the connection waits for another process.
- One call is one transaction and one call into C. So no signal handler and no `__del__`, which may well send or flush,
  finds its own thread in the middle of a transaction.
- Nothing is open across a fork. SQLite's locks are those of the process, kept per file in its memory: a child that
  inherits them believes to have them, and the file can be taken away from under it.
- A lease says until when its owner is alive, in seconds since the machine was started, and in which life of it.
  The time of day, which may jump, plays no part.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from ..errors import OutboxError

BUSY_TIMEOUT = 0.25  # seconds that a call waits at most while another process writes
BUSY_AGAIN = 0.025  # the same, after one has waited in vain
SET_UP_TIMEOUT = 5.0  # the same, where the file is made or changed to this schema
CLOSE_TIMEOUT = 0.25  # seconds that a close waits for a thread that is in the middle of a call
LOG_LIMIT = 8 * 1024 * 1024  # bytes that the log (…-wal) keeps after a rush
LARGEST = 2**63 - 1  # number that it stores
APPLICATION_ID = 0x416C6755  # marks the file as ours: "AlgU"
SCHEMA_VERSION = 2

_LOCKED = "the file is locked: another process is in the middle of writing for too long"
_POLL = (0.0005, 0.001)  # seconds between two attempts: at first, and at most
_V1_GRACE = 60.0  # seconds that an owner of schema 1 may still count as alive

_EVENTS = """
CREATE TABLE IF NOT EXISTS events (
    owner INTEGER NOT NULL, number INTEGER NOT NULL, created_at INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (owner, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS total (events INTEGER NOT NULL);
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT * FROM total);
CREATE TRIGGER IF NOT EXISTS count_up AFTER INSERT ON events BEGIN UPDATE total SET events = events + 1; END;
CREATE TRIGGER IF NOT EXISTS count_down AFTER DELETE ON events BEGIN UPDATE total SET events = events - 1; END;
"""
_OWNERS = """
CREATE TABLE IF NOT EXISTS owners (
    id INTEGER PRIMARY KEY AUTOINCREMENT, alive_until REAL NOT NULL, boot TEXT, lease REAL, pid INTEGER
);
"""
# Of an owner of schema 1, whose lease was by the time of day: `alive_until` is at first what it had left.
_OWNERS_FROM_V1 = """
ALTER TABLE owners ADD COLUMN boot TEXT;
ALTER TABLE owners ADD COLUMN lease REAL;
ALTER TABLE owners ADD COLUMN pid INTEGER;
"""
_DAMAGED = """
CREATE TABLE IF NOT EXISTS damaged (
    owner INTEGER NOT NULL, number INTEGER NOT NULL, created_at INTEGER NOT NULL, body,
    PRIMARY KEY (owner, number)
);
"""
# One statement, so that what it says is of one moment.
WHAT_FILE = """
SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
       (SELECT count(*) FROM sqlite_master)
"""
# The owners that are alive; parameters: the life of the machine, now, now. One that seems to have renewed its lease in
# the future did so before a clock without a name for its lives began anew.
ALIVE = "SELECT id FROM owners WHERE boot = ? AND alive_until > ? AND alive_until <= ? + lease"

_T = TypeVar("_T")


def clock() -> float:
    """Seconds since the machine was started, those included that it slept where the system counts them (Linux)."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()  # pragma: no cover - not on Linux


def _boot() -> str:
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):  # pragma: no cover - not on Linux
        return ""


BOOT = _boot()  # which life of the machine this is, where the system has a name for it


class Connection:
    """A connection to SQLite for one thread at a time, opened when it is used first.

    Args:
        path: The file.
        checkpoint_every: Pages in the log after which a write of this connection moves them into the file.
    """

    def __init__(self, path: str, checkpoint_every: int) -> None:
        self.path = path
        # Called before each attempt; what it raises counts as SQLite's own, without the waiting. For simulations.
        self.fault: Callable[[], None] | None = None
        # Re-entrant, for a signal handler or a __del__ that runs while this thread holds it.
        self.lock = threading.RLock()
        self._checkpoint_every = checkpoint_every
        self._connection: sqlite3.Connection | None = None
        self._in_vain = False  # the last one that waited for the file did so in vain, and nobody wrote meanwhile
        self._closed = False

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement finds.

        Raises:
            OutboxError: The file can't be read.
        """
        return self.run(lambda connection: connection.execute(sql, parameters).fetchall())

    def write(self, sql: str, parameters: Sequence[Any] = (), deadline: float | None = None) -> sqlite3.Cursor:
        """Run a statement; `rowcount` of what this returns says how many rows it has changed.

        Args:
            sql, parameters: The statement.
            deadline: Until when to wait for the file, by `time.monotonic`; by default `BUSY_TIMEOUT` seconds.

        Raises:
            OutboxError: The file can't be written.
        """
        return self.run(lambda connection: connection.execute(sql, parameters), deadline)

    def run(self, action: Callable[[sqlite3.Connection], _T], deadline: float | None = None) -> _T:
        """Attempt `action`, again and again while the file is locked, until the deadline."""
        if self.lock.acquire(blocking=False):
            done, result = self._attempt(action)
            if done:
                return result  # type: ignore[return-value]
        start, written = time.monotonic(), self._last_written()
        if deadline is None:
            deadline = start + BUSY_TIMEOUT
        if self._in_vain:
            deadline = min(deadline, start + BUSY_AGAIN)
        waited_in_vain, pause = self._in_vain, _POLL[0]
        while (left := deadline - time.monotonic()) > 0 and self._in_vain <= waited_in_vain:
            if self.lock.acquire(timeout=min(left, _POLL[1])):
                done, result = self._attempt(action)
                if done:
                    return result  # type: ignore[return-value]
                time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
                pause = min(pause * 2, _POLL[1])
        # Others that go on writing are not stuck: it is worth while to wait for them once more.
        self._in_vain = written == self._last_written()
        raise OutboxError(f"outbox {self.path}: {_LOCKED}")

    def _last_written(self) -> int:
        try:
            return os.stat(f"{self.path}-wal").st_mtime_ns
        except OSError:
            return 0

    def _attempt(self, action: Callable[[sqlite3.Connection], _T]) -> tuple[bool, _T | None]:
        """Attempt `action` with the lock held, and let go of it; False where the file is locked."""
        try:
            if self._closed:
                raise OutboxError(f"outbox {self.path}: it is closed")
            connection = self._connection
            try:
                if self.fault is not None:
                    self.fault()
                if connection is None:
                    connection = self._open()
                result = action(connection)
            except sqlite3.ProgrammingError:
                if connection is self._connection:
                    raise
                return False, None  # a signal handler has forked in between
            self._in_vain = False
            return True, result
        except sqlite3.Error as error:
            if self.fault is None and _is_locked(error):
                return False, None
            raise explained(self.path, error) from error
        finally:
            if self._closed:  # meanwhile, by one who did not wait
                self._let_go()
            self.lock.release()

    def close(self, deadline: float | None = None, *, for_good: bool = False) -> bool:
        """Let go of the file; False where a thread is in the middle of a call until the deadline."""
        if deadline is None:
            deadline = time.monotonic() + CLOSE_TIMEOUT
        self._closed |= for_good
        if not self.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return False
        try:
            self._let_go()
        finally:
            self.lock.release()
        return True

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            address_of(self.path),
            uri=True,
            timeout=0,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=32,
        )
        try:
            # Without an fsync per event: whatever happens to the process, the operating system has it.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {self._checkpoint_every}").fetchall()
            connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}").fetchall()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection


class Unusable(Connection):
    """In a child of a fork that Python was not told about: what SQLite has in memory is the parent's."""

    def _open(self) -> sqlite3.Connection:
        raise OutboxError(
            f"outbox {self.path}: this process was forked while the file was open, and not by Python; make the sender "
            "after the fork (under uWSGI: lazy-apps, or @postfork)"
        )


def address_of(path: str) -> str:
    """What SQLite opens. A file that is gone must not be made anew, without a schema and for everybody to read."""
    # Not pathlib's `as_uri`, which imports what it needs when it is called, where a fork may come.
    text = quote(os.fsencode(path.replace(os.sep, "/")))
    return f"file:{'' if text.startswith('/') else '/'}{text}?mode=rw"


def explained(path: str, error: sqlite3.Error) -> OutboxError:
    """What an error of SQLite means."""
    what = str(error)
    if _is_locked(error):
        what = _LOCKED
    elif is_damage(error):
        what = f"the file is damaged ({what}); `algolia-usertoken outbox check` tells more"
    elif "unable to open" in what:
        try:
            os.stat(path)
        except OSError as reason:
            what = f"{what}: {reason.strerror}"
    return OutboxError(f"outbox {path}: {what}")


def _is_locked(error: sqlite3.Error) -> bool:
    return "locked" in str(error) or "locking protocol" in str(error)


def is_damage(error: BaseException | None) -> bool:
    """Whether SQLite says, in an error or in that which is behind ours, that the file is damaged."""
    if isinstance(error, OutboxError):
        error = error.__cause__
    return isinstance(error, sqlite3.DatabaseError) and ("malformed" in str(error) or "not a database" in str(error))


# The file and its schema.


_making = threading.Lock()


def prepare(connection: Connection) -> None:
    """See to it that the file is an outbox of this schema; one that is made is for its owner alone (0600).

    Raises:
        OutboxError: It is something else, or can't be made one.
    """
    deadline = time.monotonic() + SET_UP_TIMEOUT
    _make(connection.path)
    ((application_id, version, tables),) = connection.run(lambda it: it.execute(WHAT_FILE).fetchall(), deadline)
    if application_id != APPLICATION_ID and (application_id or version or tables):
        raise OutboxError(f"outbox {connection.path}: the file is the database of another program")
    if version > SCHEMA_VERSION:
        raise OutboxError(
            f"outbox {connection.path}: the file was made by a newer version of algolia-usertoken (schema {version})"
        )
    ((mode,),) = connection.run(lambda it: it.execute("PRAGMA journal_mode = WAL").fetchall(), deadline)
    if mode != "wal":  # pragma: no cover - such file systems are not at hand
        raise OutboxError(f"outbox {connection.path}: the file system has no shared memory, which SQLite needs (WAL)")
    if version < SCHEMA_VERSION:
        connection.run(_set_up, deadline)
    else:  # whether it can be written is better known now; where it is locked, sending will tell
        connection.run(_see_whether_it_can_be_written)


def _make(path: str) -> None:
    # Only a file that is new is opened here: closing one would end the locks that SQLite has on it in this process.
    with _making:
        try:
            made = os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except FileExistsError:
            return
        except OSError as error:
            raise OutboxError(f"outbox {path}: the file can't be made: {error.strerror}") from error
        try:
            if hasattr(os, "fchmod"):  # whatever the umask takes away
                os.fchmod(made, 0o600)
        finally:
            os.close(made)


def _see_whether_it_can_be_written(connection: sqlite3.Connection) -> None:
    try:
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    except sqlite3.OperationalError as error:
        if not _is_locked(error):
            raise


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        if version != SCHEMA_VERSION:  # not by another meanwhile
            for statement in _statements(_EVENTS + (_OWNERS_FROM_V1 if version == 1 else _OWNERS) + _DAMAGED):
                connection.execute(statement)
            if version == 1:
                connection.execute(
                    "UPDATE owners SET boot = ?, lease = ?, alive_until = ? + max(0, min(alive_until - ?, ?))",
                    (BOOT, _V1_GRACE, clock(), time.time(), _V1_GRACE),
                )
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _statements(script: str) -> list[str]:
    statements, statement = [], ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            statements.append(statement)
            statement = ""
    return statements


# What happens at a fork.


class Holder(Protocol):
    """What has connections."""

    @property
    def connections(self) -> Sequence[Connection]: ...

    def start_again(self, inherited: Sequence[Connection], /) -> None:
        """In a forked child; `inherited` are connections that the fork could not close."""


_holders: weakref.WeakSet[Holder] = weakref.WeakSet()
_forking = threading.RLock()
_paused: list[Connection] = []
_not_paused: list[Connection] = []
leaked: list[Connection] = []  # of the parent, in a child: not even closing them would be right


def register(holder: Holder) -> None:
    """See to it that nothing of `holder` is open across a fork."""
    _holders.add(holder)


def _before_fork() -> None:
    """Close, where a moment is enough for those who use SQLite right now."""
    _forking.acquire()
    deadline = time.monotonic() + CLOSE_TIMEOUT
    for holder in list(_holders):
        for connection in holder.connections:
            if connection.lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                connection.close()
                _paused.append(connection)
            else:
                _not_paused.append(connection)


def _after_fork_in_parent() -> None:
    _not_paused.clear()
    while _paused:
        _paused.pop().lock.release()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking
    _forking = threading.RLock()
    _paused.clear()
    for holder in list(_holders):
        inherited = [one for one in holder.connections if one.is_open or one in _not_paused]
        leaked.extend(inherited)
        holder.start_again(inherited)
    _not_paused.clear()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
