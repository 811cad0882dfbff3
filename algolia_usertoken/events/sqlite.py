"""The file of an outbox: connections that wait only briefly, what their errors mean, the schema, and forks.

How it keeps its promises:

- Each call of SQLite is one attempt that does not wait. If the file is locked, the thread releases its connection
  before it waits for the next attempt. So no thread that needs the connection waits for another process.
- One call is one transaction and one call into C. So a signal handler or a `__del__`, which may well send or flush,
  never runs in the middle of a transaction of its own thread.
- No connection stays open across a fork. SQLite's locks belong to the process, which keeps them in memory for each
  file. A child that inherits this memory believes that it holds the locks, but other processes can take them.
- A lease says until when its owner is alive, in seconds since the machine was started, and during which run of the
  machine (its boot id). The time of day, which may jump, plays no part.
"""

from __future__ import annotations

import contextlib
import errno
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
BUSY_AGAIN = 0.025  # the same, after a call has waited in vain
SET_UP_TIMEOUT = 5.0  # the same, when the file is created or changed to this schema
CLOSE_TIMEOUT = 0.25  # seconds that a close waits for a thread that is in the middle of a call
LOG_LIMIT = 8 * 1024 * 1024  # bytes to which the log (…-wal) is cut after a rush
LARGEST = 2**63 - 1  # the largest number that SQLite stores
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
# In schema 1 a lease ended at a time of day. `_set_up` keeps the seconds that are left of it, by the machine's clock.
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
# One statement, so that all its values are from the same moment.
WHAT_FILE = """
SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
       (SELECT count(*) FROM sqlite_master)
"""
# The owners that are alive; parameters: the boot id of the machine, now, now. Where the system has no boot id, a lease
# that seems to have been renewed in the future is from before the machine restarted, so its owner is dead.
ALIVE = "SELECT id FROM owners WHERE boot = ? AND alive_until > ? AND alive_until <= ? + lease"

_T = TypeVar("_T")


def clock() -> float:
    """Seconds since the machine was started; on Linux this includes the time during which the machine slept."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()  # pragma: no cover - not on Linux


def _boot() -> str:
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):  # pragma: no cover - not on Linux
        return ""


BOOT = _boot()  # the boot id of the machine; empty if the system has none


class Connection:
    """A connection to SQLite for one thread at a time, opened on first use.

    Args:
        path: The file.
        checkpoint_every: When the log has this many pages, a write of this connection moves them into the file.
    """

    def __init__(self, path: str, checkpoint_every: int) -> None:
        self.path = path
        # For simulations: called before each attempt. An error that it raises counts as SQLite's, and nothing waits.
        self.fault: Callable[[], None] | None = None
        # Re-entrant, because a signal handler or a __del__ may run while this thread holds it.
        self.lock = threading.RLock()
        self._checkpoint_every = checkpoint_every
        self._connection: sqlite3.Connection | None = None
        self._in_vain = False  # the last thread that waited for the file did so in vain, and no process wrote meanwhile
        self._closed = False

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement finds.

        Raises:
            OutboxError: The file can't be read.
        """
        return self.run(lambda connection: connection.execute(sql, parameters).fetchall())

    def write(self, sql: str, parameters: Sequence[Any] = (), deadline: float | None = None) -> sqlite3.Cursor:
        """Run a statement; `rowcount` of the returned cursor says how many rows the statement has changed.

        Args:
            sql, parameters: The statement.
            deadline: Until when to wait for the file, by `time.monotonic`; by default for `BUSY_TIMEOUT` seconds.

        Raises:
            OutboxError: The file can't be written.
        """
        return self.run(lambda connection: connection.execute(sql, parameters), deadline)

    def run(self, action: Callable[[sqlite3.Connection], _T], deadline: float | None = None) -> _T:
        """Attempt `action`; repeat it while the file is locked, until the deadline."""
        if self.lock.acquire(blocking=False):
            done, result = self._attempt(action)
            if done:
                return result  # type: ignore[return-value]
        start, written = time.monotonic(), self._last_written()
        if deadline is None:
            deadline = start + BUSY_TIMEOUT
        if self._in_vain:
            deadline = min(deadline, start + BUSY_AGAIN)
        may_wait, waited_in_vain, pause = deadline > start, self._in_vain, _POLL[0]
        while (left := deadline - time.monotonic()) > 0 and self._in_vain <= waited_in_vain:
            if self.lock.acquire(timeout=min(left, _POLL[1])):
                done, result = self._attempt(action)
                if done:
                    return result  # type: ignore[return-value]
                time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
                pause = min(pause * 2, _POLL[1])
        if may_wait:  # else this says nothing of the file, and threads that wait for it go on waiting
            # If other processes go on writing, they are not stuck, so the next call may wait for them again.
            self._in_vain = written == self._last_written()
        raise OutboxError(f"outbox {self.path}: {_LOCKED}")

    def _last_written(self) -> int:
        try:
            return os.stat(f"{self.path}-wal").st_mtime_ns
        except OSError:
            return 0

    def _attempt(self, action: Callable[[sqlite3.Connection], _T]) -> tuple[bool, _T | None]:
        """Attempt `action` while this thread holds the lock, then release the lock; False if the file is locked."""
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
            if self._closed:  # closed meanwhile, by a caller that did not wait for the lock
                self._let_go()
            self.lock.release()

    def close(self, deadline: float | None = None, *, for_good: bool = False) -> bool:
        """Close the connection; False if another thread is still in the middle of a call at the deadline."""
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
            # No fsync per event: the operating system has the event, whatever happens to the process.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint = {self._checkpoint_every}").fetchall()
            connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}").fetchall()
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection


class Unusable(Connection):
    """The connection of a child whose fork Python did not know of: SQLite's memory there belongs to the parent."""

    def _open(self) -> sqlite3.Connection:
        raise OutboxError(
            f"outbox {self.path}: this process was forked while the file was open, and not by Python; make the sender "
            "after the fork (under uWSGI: lazy-apps, or @postfork)"
        )


def address_of(path: str) -> str:
    """The URI for SQLite. Its mode keeps SQLite from recreating a missing file without a schema and readable by all."""
    # Not pathlib's `as_uri`: it imports modules when it is called, and a fork may happen during an import.
    text = quote(os.fsencode(path.replace(os.sep, "/")))
    return f"file:{'' if text.startswith('/') else '/'}{text}?mode=rw"


def explained(path: str, error: sqlite3.Error) -> OutboxError:
    """The `OutboxError` that says what an error of SQLite means."""
    what = str(error)
    if _is_locked(error):
        what = _LOCKED
    elif is_damage(error):
        what = f"the file is damaged ({what}); `algolia-usertoken outbox check` tells more"
    elif "readonly" in what:  # pragma: no cover - root may write everywhere
        what = f"this user may not write in the file or in its directory, and SQLite needs both ({what})"
    elif "unable to open" in what:
        try:
            os.stat(path)
            may_use = os.access(path, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)
            if not may_use:  # pragma: no cover - root may
                what = f"{what}: {os.strerror(errno.EACCES)}"
        except OSError as reason:
            what = f"{what}: {reason.strerror}"
    return OutboxError(f"outbox {path}: {what}")


def _is_locked(error: sqlite3.Error) -> bool:
    return "locked" in str(error) or "locking protocol" in str(error)


def is_damage(error: BaseException | None) -> bool:
    """Whether an error of SQLite, or the cause of an `OutboxError`, says that the file is damaged."""
    if isinstance(error, OutboxError):
        error = error.__cause__
    return isinstance(error, sqlite3.DatabaseError) and ("malformed" in str(error) or "not a database" in str(error))


# The file and its schema.


_making = threading.Lock()


def prepare(connection: Connection) -> None:
    """Make the file an outbox of this schema; a new file can be read by its owner only (mode 0600).

    Raises:
        OutboxError: The file is something else, or can't be made an outbox.
    """
    deadline = time.monotonic() + SET_UP_TIMEOUT
    _make(connection.path)
    (what_file,) = connection.run(lambda it: it.execute(WHAT_FILE).fetchall(), deadline)
    version = schema_version(connection.path, *what_file)
    ((mode,),) = connection.run(lambda it: it.execute("PRAGMA journal_mode = WAL").fetchall(), deadline)
    if mode != "wal":  # pragma: no cover - such file systems are not at hand
        raise OutboxError(f"outbox {connection.path}: the file system has no shared memory, which SQLite needs (WAL)")
    if version < SCHEMA_VERSION:
        connection.run(_set_up, deadline)
    else:  # learn now whether the file can be written; if it is locked, sending will report that
        connection.run(_see_whether_it_can_be_written)


def schema_version(path: str, application_id: int, version: int, tables: int) -> int:
    """The version of the schema of an outbox's file, by the values of `WHAT_FILE`; 0 for an empty database.

    Raises:
        OutboxError: The file is the database of another program, or of a newer version.
    """
    if application_id != APPLICATION_ID and (application_id or version or tables):
        raise OutboxError(f"outbox {path}: the file is the database of another program")
    if version > SCHEMA_VERSION:
        raise OutboxError(
            f"outbox {path}: the file was made by a newer version of algolia-usertoken (schema {version})"
        )
    return version


def _make(path: str) -> None:
    # Opens a new file only: to close an existing one would release the locks that SQLite has on it in this process.
    with _making:
        try:
            made = os.open(os.path.realpath(path), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except FileExistsError:
            return
        except OSError as error:
            raise OutboxError(f"outbox {path}: the file can't be made: {error.strerror}") from error
        try:
            if hasattr(os, "fchmod"):  # sets the mode whatever the umask is
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
        if version != SCHEMA_VERSION:  # no other process has done it meanwhile
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


# Forks.


class Holder(Protocol):
    """An object that has connections."""

    @property
    def connections(self) -> Sequence[Connection]: ...

    def start_again(self, inherited: Sequence[Connection], /) -> None:
        """Start anew in a forked child; `inherited` are the connections that could not be closed before the fork."""


_holders: weakref.WeakSet[Holder] = weakref.WeakSet()
_forking = threading.RLock()
_paused: list[Connection] = []
_not_paused: list[Connection] = []
leaked: list[Connection] = []  # in a child: the parent's open connections, which the child must not even close


def register(holder: Holder) -> None:
    """Close the connections of `holder` before each fork."""
    _holders.add(holder)


def _before_fork() -> None:
    """Close all connections, except those that other threads still use after a short wait."""
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
