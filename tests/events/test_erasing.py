"""Erasing users from the file of an outbox, where that goes wrong; tests/test_cli_erase.py has the rest."""

from __future__ import annotations

import json
import pathlib
import sqlite3

import pytest

from algolia_usertoken import OutboxError, SQLiteOutbox
from algolia_usertoken.events.erasing import erase
from algolia_usertoken.events.inspection import status_of
from algolia_usertoken.events.sqlite import SCHEMA_VERSION


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """The file of a process that has ended with three events."""
    outbox = SQLiteOutbox(tmp_path / "events.db")
    for number in range(3):
        outbox.append(json.dumps({"userToken": "gone", "objectIDs": [str(number)], "timestamp": 1}).encode())
    outbox.close()
    return tmp_path / "events.db"


def change(path: pathlib.Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(statement)
    connection.close()


def test_a_file_of_an_older_version_stays_as_it_is(path: pathlib.Path) -> None:
    change(path, f"PRAGMA user_version = {SCHEMA_VERSION - 1}")

    with pytest.raises(OutboxError, match="it is of an older version"):
        erase(str(path), ["gone"])

    change(path, f"PRAGMA user_version = {SCHEMA_VERSION}")
    assert status_of(str(path)).waiting == 3


@pytest.mark.parametrize("who_rolls_back", ["ABORT", "ROLLBACK"])
def test_an_error_amid_a_transaction_is_told_and_leaves_all_events(path: pathlib.Path, who_rolls_back: str) -> None:
    condition = "WHEN old.number = (SELECT max(number) FROM events)"
    fault = f"SELECT RAISE({who_rolls_back}, 'the fault'); END"
    change(path, f"CREATE TRIGGER fails BEFORE DELETE ON events {condition} BEGIN {fault}")

    with pytest.raises(OutboxError, match="the fault"):
        erase(str(path), ["gone"])

    assert status_of(str(path)).waiting == 3
