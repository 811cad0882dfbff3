"""What the person on call is told of files that are older, or not whole; the commands are in test_cli_outbox.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from test_sqlite import SCHEMA_1, text

from algolia_usertoken import OutboxError, SQLiteOutbox
from algolia_usertoken.events.inspection import check, status_of


def test_a_file_of_the_first_schema_can_be_inspected(path: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMA_1)

    status = status_of(path)
    findings = list(check(path))

    connection.close()
    assert (status.waiting, status.of_the_living, status.of_the_dead, status.damaged) == (3, 2, 1, 0)
    assert [(owner.pid, owner.alive, owner.events) for owner in status.owners] == [(None, False, 1), (None, True, 2)]
    assert not any(finding.wrong for finding in findings)


def test_a_file_without_its_table_is_an_error_and_not_empty(path: str, sql: Callable[..., list[Any]]) -> None:
    SQLiteOutbox(path).close()
    sql("DROP TABLE events")

    with pytest.raises(OutboxError, match="no such table"):
        status_of(path)


def test_a_file_whose_schema_is_damaged_is_said_to_be_so(path: str) -> None:
    outbox = SQLiteOutbox(path)
    outbox.append(text(1))
    outbox.close()
    # As a disk does it.
    with open(path, "r+b") as file:
        content = file.read()
        file.seek(content.index(b"CREATE TABLE total"))
        file.write(b"CREATE TABBY total")

    with pytest.raises(OutboxError, match="the file is damaged"):
        list(check(path))


def test_damage_that_happens_during_a_check_is_reported(path: str, sql: Callable[..., list[Any]]) -> None:
    SQLiteOutbox(path).close()
    findings = check(path)
    assert not next(findings).wrong
    sql("PRAGMA writable_schema = ON")
    sql("UPDATE sqlite_master SET sql = 'CREATE TABBY total' WHERE name = 'total'")
    sql("PRAGMA schema_version = 1000")

    pages, events = findings

    assert (pages.step, pages.wrong, events.step, events.wrong) == ("pages", True, "events", True)
    assert "malformed database schema" in pages.said
