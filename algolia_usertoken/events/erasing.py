"""Removes the events of users who are to be forgotten from an outbox, except those that a running process holds."""

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

# Removes an event only if its owner is dead now; a live process may have adopted the event since it was found.
_REMOVE = f"DELETE FROM events WHERE owner = ? AND number = ? AND owner NOT IN ({sqlite.ALIVE})"


class Erased(NamedTuple):
    """What became of the events of these users.

    Attributes:
        removed: How many waiting or damaged events were removed.
        of_the_living: How many events stay, because a running process holds and delivers them.
    """

    removed: int
    of_the_living: int


def erase(path: str, tokens: Collection[str]) -> Erased:
    """Remove the events of users from the file of an outbox, except those that a running process delivers.

    An event belongs to a user if its `userToken` or its `authenticatedUserToken` is a token of the user. Removed events
    are overwritten on the disk; they also leave the log beside the file, unless somebody else reads it at this moment.

    Args:
        path: The path given to `SQLiteOutbox`.
        tokens: User tokens, including those of logins.

    Raises:
        OutboxError: There is no such file, it is not an outbox, it is of an older version, or it can't be written.
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
        with contextlib.suppress(sqlite3.OperationalError):  # somebody else reads the log
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return Erased(removed, len(_events_of(connection, "events", wanted)))


def _events_of(connection: sqlite3.Connection, table: str, tokens: frozenset[str]) -> list[tuple[int, int]]:
    """The owner and the number of each event of these users."""
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
        finally:
            if connection.in_transaction:  # after some errors SQLite has rolled it back itself
                connection.execute("ROLLBACK")
        time.sleep(0.001)
    return removed
