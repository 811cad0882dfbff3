"""Shows what the file of an outbox holds, for the person on call. It changes nothing and takes no events."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from ..errors import OutboxError
from . import sqlite
from .rows import Rows, timestamp_of

_BUSY_TIMEOUT = 5.0  # seconds; somebody who inspects the file can wait
_SAVE = (
    "End the processes that use it. `algolia-usertoken outbox drain` delivers what can be read. Then move the file "
    "away, with those beside it that end in -wal and -shm: the application makes a new one."
)
_AT_ONCE = 1_000  # events
_TABLES_AND_TRIGGERS = {"events", "owners", "total", "damaged", "count_up", "count_down"}


@dataclass(frozen=True)
class Owner:
    """A process that has events in the file.

    Attributes:
        pid: Its process id; None if it is not known.
        alive: Whether its lease has not expired. Then only this process delivers its events; otherwise any process may.
        events: How many of its events wait.
    """

    pid: int | None
    alive: bool
    events: int


@dataclass(frozen=True)
class Status:
    """The state of an outbox's file.

    Attributes:
        waiting: How many events wait.
        of_the_living: How many of them belong to running processes, which deliver them.
        of_the_dead: How many belong to processes that have ended: the next start delivers them.
        oldest: Seconds since the oldest event was stored, by the time of day; None if no event waits.
        damaged: How many damaged events are in the table `damaged`.
        file_bytes, log_bytes: The size on disk of the file and of the log beside it.
        is_whole: False if the file is damaged; it may then hold more events.
        owners: The processes that the events belong to.
    """

    waiting: int
    of_the_living: int
    of_the_dead: int
    oldest: float | None
    damaged: int
    file_bytes: int
    log_bytes: int
    is_whole: bool = True
    owners: list[Owner] = field(default_factory=list)


@dataclass(frozen=True)
class Finding:
    """What one step of a check found, in words, and what to do if something is wrong."""

    step: str
    wrong: bool
    said: str
    remedy: str = ""


def status_of(path: str) -> Status:
    """The state of an outbox's file.

    Raises:
        OutboxError: There is no such file, or it is not an outbox, or it can't be read.
    """
    with opened(path) as (connection, version):
        if version == 1:
            alive = {(owner,) for (owner,) in connection.execute(
                "SELECT id FROM owners WHERE alive_until > ?", (time.time(),)
            )}  # fmt: skip
            pids: dict[int, int] = {}
            damaged = 0
        else:
            now = sqlite.clock()
            alive = set(connection.execute(sqlite.ALIVE, (sqlite.BOOT, now, now)))
            pids = dict(connection.execute("SELECT id, pid FROM owners"))
            ((damaged,),) = connection.execute("SELECT count(*) FROM damaged")
        counted, is_whole = _counted(connection, path)
    owners = [Owner(pids.get(owner), (owner,) in alive, events) for owner, events, _ in counted]
    living = sum(owner.events for owner in owners if owner.alive)
    waiting = sum(owner.events for owner in owners)
    oldest = min((created_at for *_, created_at in counted if created_at is not None), default=None)
    return Status(
        waiting,
        living,
        waiting - living,
        None if oldest is None else max(0.0, round(time.time() - oldest / 1000, 3)),
        damaged,
        _size(path),
        _size(f"{path}-wal"),
        is_whole,
        owners,
    )


def _counted(connection: sqlite3.Connection, path: str) -> tuple[list[tuple[int, int, int | None]], bool]:
    """For each owner its id, its number of events, and when the first was stored; and whether all events were found."""
    try:
        return list(connection.execute("SELECT owner, count(*), min(created_at) FROM events GROUP BY owner")), True
    except sqlite3.DatabaseError as error:
        if not sqlite.is_damage(error):
            raise
    rows = Rows(path)
    try:
        return [(owner, events, None) for owner, events in rows.counted()], False
    finally:
        rows.close()


def check(path: str, progress: Callable[[int, int], None] = lambda done, of: None) -> Iterator[Finding]:
    """Check an outbox's file; yield each finding, good or bad, as soon as it is known.

    Args:
        path: The file.
        progress: Called now and then with the number of events read so far and the number of all events.

    Raises:
        OutboxError: There is no such file, or it is not an outbox.
    """
    with opened(path) as (connection, version):
        yield Finding("schema", False, f"The file is an outbox, of schema {version}.")
        faults = _faults(connection)
        if faults:
            first = faults[0].splitlines()[-1]
            yield Finding("pages", True, f"The file is damaged. The first fault that SQLite found: {first}", _SAVE)
        else:
            yield Finding("pages", False, "SQLite finds no fault in the file.")
        try:
            missing = _TABLES_AND_TRIGGERS - {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            missing -= {"damaged"} if version == 1 else set()
            if missing:
                yield Finding("schema", True, f"These are missing in the file: {', '.join(sorted(missing))}.", _SAVE)
                return
            yield from _events(connection, progress)
            if version > 1:
                yield from _damaged(connection)
        except sqlite3.DatabaseError as error:
            if not faults:  # pragma: no cover - SQLite finds a fault where it can't read
                raise
            yield Finding("events", True, f"Not all events can be read: {error}.", _SAVE)


def _faults(connection: sqlite3.Connection) -> list[str]:
    try:
        faults = [fault for (fault,) in connection.execute("PRAGMA integrity_check(1)")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return faults if faults != ["ok"] else []


def _damaged(connection: sqlite3.Connection) -> Iterator[Finding]:
    ((count,),) = connection.execute("SELECT count(*) FROM damaged")
    if count:
        said = f"{_events_and(count, 'was', 'were')} damaged, and never delivered."
        yield Finding("damaged", True, said, "Look at them in the table damaged, and delete them from it.")


def _events(connection: sqlite3.Connection, progress: Callable[[int, int], None]) -> Iterator[Finding]:
    ((total,),) = connection.execute("SELECT sum(events) FROM total")
    cursor = connection.execute("SELECT CAST(body AS BLOB) FROM events")
    read = wrong = 0
    while texts := cursor.fetchmany(_AT_ONCE):
        read += len(texts)
        for (text,) in texts:
            try:
                timestamp_of(text)
            except ValueError:
                wrong += 1
        progress(read, total)
    if wrong:
        remedy = "Do nothing: the process that delivers the other events moves these to the table damaged."
        yield Finding("events", True, f"{wrong} of {_events_and(read, 'is', 'are')} not JSON.", remedy)
    else:
        yield Finding("events", False, f"{_events_and(read, 'waits', 'wait')}, and all of them can be read.")
    if total != read:
        yield Finding(
            "count",
            True,
            f"The file's own count is {total}, but it has {_events_and(read)}: its limit (max_events) is wrong by the "
            "difference.",
            f"End the processes that use it, and run: sqlite3 FILE 'UPDATE total SET events = {read}'",
        )


@contextlib.contextmanager
def opened(path: str) -> Iterator[tuple[sqlite3.Connection, int]]:
    """Open the file; yield a connection that only reads (`query_only`), and the version of the schema."""
    if not os.path.isfile(path):
        what = "it is a directory" if os.path.isdir(path) else "it is not a file"
        raise OutboxError(f"outbox {path}: {what if os.path.exists(path) else 'there is no such file'}")
    try:
        address = sqlite.address_of(os.path.abspath(path))
        connection = sqlite3.connect(address, uri=True, timeout=_BUSY_TIMEOUT, isolation_level=None)
        try:
            connection.execute("PRAGMA query_only = ON")
            (what_file,) = connection.execute(sqlite.WHAT_FILE)
            version = sqlite.schema_version(path, *what_file)
            if version == 0:
                raise OutboxError(f"outbox {path}: the file is empty: no outbox was made in it yet")
            yield connection, version
        finally:
            connection.close()
    except sqlite3.Error as error:
        if "not a database" in str(error):
            raise OutboxError(
                f"outbox {path}: the file is not an SQLite database, or its start is damaged: "
                "if it was an outbox, move it away, and the next start of the application makes a new one"
            ) from error
        raise sqlite.explained(path, error) from error


def _events_and(count: int, one: str = "", several: str = "") -> str:
    """The number of events, and the form of a verb that fits it."""
    return f"1 event {one}".strip() if count == 1 else f"{count:,} events {several}".strip()


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
