"""Removes what an outbox holds of users who are to be forgotten, without taking events from a process that runs."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Collection
from typing import Any, NamedTuple

from ..errors import OutboxError
from . import sqlite
from .inspection import opened

_AT_ONCE = 500  # rows that one statement removes, so that others can write in between

# The rows of an owner that is not alive, which may have become one's that is.
_REMOVE = f"DELETE FROM events WHERE owner = ? AND number = ? AND owner NOT IN ({sqlite.ALIVE})"


class Erased(NamedTuple):
    """What became of the events of these users.

    Attributes:
        removed: Events that waited, or were set aside as damaged, and are gone.
        of_the_living: Events that stay: a process that runs has them, and delivers them.
    """

    removed: int
    of_the_living: int


def erase(path: str, tokens: Collection[str]) -> Erased:
    """Remove the events of users from the file of an outbox, but for those that a running process delivers.

    An event is of a user whose token is its `userToken` or its `authenticatedUserToken`. What is removed is overwritten
    on the disk, and leaves the log beside the file where nobody else reads at this moment.

    Args:
        path: The path that `SQLiteOutbox` has.
        tokens: User tokens, those of logins too.

    Raises:
        OutboxError: There is no such file, it is no outbox, one of an older version, or can't be written.
    """
    wanted = frozenset(tokens)
    with opened(path) as (connection, version):
        if version != sqlite.SCHEMA_VERSION:
            raise OutboxError(f"outbox {path}: it is of an older version; start the application once, or `drain` it")
        connection.execute("PRAGMA query_only = OFF")
        connection.execute("PRAGMA secure_delete = ON").fetchall()
        removed = _remove(connection, _events_of(connection, "events", wanted), _REMOVE, of_the_dead=True)
        damaged = _events_of(connection, "damaged", wanted)
        removed += _remove(connection, damaged, "DELETE FROM damaged WHERE owner = ? AND number = ?")
        with contextlib.suppress(sqlite3.OperationalError):  # somebody reads it
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return Erased(removed, len(_events_of(connection, "events", wanted)))


def _events_of(connection: sqlite3.Connection, table: str, tokens: frozenset[str]) -> list[tuple[int, int]]:
    """Owner and number of each event of these users."""
    found: list[tuple[int, int]] = []
    for owner, number, text in connection.execute(f"SELECT owner, number, CAST(body AS BLOB) FROM {table}"):
        if _is_of(text or b"", tokens):
            found.append((owner, number))
    return found


def _is_of(text: bytes, tokens: frozenset[str]) -> bool:
    try:
        event: Any = json.loads(text)
        return event.get("userToken") in tokens or event.get("authenticatedUserToken") in tokens
    except (ValueError, TypeError, AttributeError, RecursionError):  # damaged
        return any(f'"{token}"'.encode(errors="replace") in text for token in tokens)


def _remove(
    connection: sqlite3.Connection, rows: list[tuple[int, int]], statement: str, *, of_the_dead: bool = False
) -> int:
    removed = 0
    for start in range(0, len(rows), _AT_ONCE):
        connection.execute("BEGIN IMMEDIATE")
        try:
            now = sqlite.clock()
            more = (sqlite.BOOT, now, now) if of_the_dead else ()
            for row in rows[start : start + _AT_ONCE]:
                removed += connection.execute(statement, (*row, *more)).rowcount
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        time.sleep(0.001)
    return removed
