"""The rows of an outbox's file: around damaged pages, and what becomes of the log beside it."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prelude import event
from waiting import PATIENCE

from algolia_usertoken import OutboxError, SQLiteOutbox
from algolia_usertoken.events import rows, sqlite

PAGE = 4096


def text(name: int | str) -> bytes:
    return json.dumps(event(name) | {"eventName": "x" * 200}).encode()


def names(events: list[bytes]) -> list[int]:
    return [int(json.loads(one)["objectIDs"][0]) for one in events]


def move_into_file(outbox: SQLiteOutbox) -> None:
    """Have nothing in the log, and no connection that remembers pages."""
    outbox.rows.keeper.read("PRAGMA wal_checkpoint(TRUNCATE)")
    for connection in outbox.connections:
        connection.close()


def overwrite_leaves(path: str, count: int) -> set[int]:
    """Overwrite some pages that hold events, in the middle; the names of the events there."""
    content = bytearray(Path(path).read_bytes())
    # A leaf of an index, with many of our texts on it.
    leaves = [
        start
        for start in range(PAGE, len(content), PAGE)
        if content[start] == 10 and content[start : start + PAGE].count(b'"objectIDs"') > 5
    ]
    hit = leaves[len(leaves) // 2 : len(leaves) // 2 + count]
    lost: set[int] = set()
    for start in hit:
        for cell in range(int.from_bytes(content[start + 3 : start + 5], "big")):
            place = start + 8 + 2 * cell
            body = bytes(content[start + int.from_bytes(content[place : place + 2], "big") : start + PAGE])
            lost.add(int(body.partition(b'"objectIDs": ["')[2].partition(b'"')[0]))
        content[start : start + PAGE] = b"\xff" * PAGE
    # As a disk does it: the file stays the same one, and the locks of this process stay.
    with open(path, "r+b") as file:
        file.write(content)
    return lost


def drain(outbox: SQLiteOutbox) -> list[int]:
    events: list[int] = []
    while some := outbox.take(50):
        outbox.took()
        events += names(some)
        outbox.settle(some)
    outbox.took()
    return events


@pytest.mark.parametrize("count", [1, 3])
def test_events_on_damaged_pages_are_told_and_never_keep_the_others(path: str, count: int) -> None:
    outbox = SQLiteOutbox(path)
    for name in range(400):
        outbox.append(text(name))
    move_into_file(outbox)
    lost = overwrite_leaves(path, count)

    delivered = drain(outbox)

    missing = set(range(400)) - set(delivered)
    assert len(lost) > 5 * count
    # SQLite finds the event between two pages by way of both.
    assert lost <= missing
    assert len(missing) <= len(lost) + 2 * count
    assert len(delivered) == len(set(delivered))
    assert outbox.counts() == (0, 0, len(missing))
    with pytest.raises(OutboxError, match=f"{len(missing)} events can't be read, as the file is damaged there"):
        outbox.keep()
    outbox.keep()
    assert "can't be read" in str(outbox.trouble)
    outbox.close()


@pytest.mark.parametrize("count", [1, 3])
def test_events_of_the_dead_are_adopted_around_damaged_pages(
    path: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "STEP", 64)
    for _ in range(2):
        dead = SQLiteOutbox(path)
        for name in range(200):
            dead.append(text(name))
        dead.close()
    lost = overwrite_leaves(path, count)
    heir = SQLiteOutbox(path)

    told = []
    for _ in range(3):
        try:
            heir.keep()
        except OutboxError as error:
            told.append(str(error))

    adopted = heir.counts()[1]
    # A page is changed together with its neighbours: what is beside a damaged one may have to stay where it is.
    assert 400 - 60 * count <= adopted <= 400 - len(lost)
    assert len(told) <= 1
    assert len(drain(heir)) == adopted
    heir.close()


def test_what_is_damaged_as_a_whole_stays_queued(path: str) -> None:
    outbox = SQLiteOutbox(path)
    for name in range(10):
        outbox.append(text(name))
    move_into_file(outbox)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:PAGE] + b"\xff" * (len(content) - PAGE))

    with pytest.raises(OutboxError, match="the file is damaged"):
        outbox.take(5)
    with pytest.raises(OutboxError, match="the file is damaged"):
        outbox.keep()

    assert outbox.counts() == (10, 0, 0)


def test_what_can_not_be_removed_is_told_and_not_tried_for_ever(
    outbox: SQLiteOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in range(3):
        outbox.append(text(name))
    taken = outbox.take(3)
    outbox.took()
    delete = outbox.rows._delete

    def fail_on_one(owner: int | None, numbers: Any, deadline: float | None) -> None:
        if 1 in numbers:
            raise OutboxError("damaged") from sqlite3.DatabaseError("database disk image is malformed")
        delete(owner, numbers, deadline)

    monkeypatch.setattr(outbox.rows, "_delete", fail_on_one)
    outbox.settle(taken)

    with pytest.raises(OutboxError, match="1 events were delivered or given up and can't be removed"):
        outbox.keep()
    outbox.keep()


# The log.


def size_of_log(path: str) -> int:
    return os.path.getsize(f"{path}-wal")


def test_the_log_is_cut_when_all_is_delivered(path: str, outbox: SQLiteOutbox) -> None:
    for name in range(3000):
        outbox.append(text(name))
    assert size_of_log(path) > 1_000_000
    drain(outbox)

    outbox.keep()

    assert size_of_log(path) == 0


def test_while_events_wait_a_long_log_begins_anew_and_is_cut_by_who_writes_next(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOG_LIMIT", 100_000)
    outbox = SQLiteOutbox(path)
    for name in range(500):
        outbox.append(text(name))
    assert size_of_log(path) > 1_000_000

    outbox.keep()
    outbox.append(text(500))

    assert size_of_log(path) <= 100_000
    outbox.close()


def test_a_rush_leaves_no_long_log(path: str, outbox: SQLiteOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOG_LIMIT", 100_000)
    for name in range(500):
        outbox.append(text(name))
    assert size_of_log(path) > 100_000

    drain(outbox)

    assert size_of_log(path) <= 100_000


def test_who_reads_without_an_end_is_told_once_until_it_ends(
    path: str, outbox: SQLiteOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOG_LIMIT", 100_000)
    monkeypatch.setattr(rows, "LOG_PATIENCE", 0.0)
    outbox.append(text(0))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()
    for name in range(500):
        outbox.append(text(name))

    with pytest.raises(
        OutboxError, match=r"events\.db-wal has \d MB and can't be cut, as another process does not end"
    ):
        outbox.keep()
    outbox.keep()  # told once
    assert "can't be cut" in str(outbox.trouble)

    reader.close()
    outbox.keep()
    assert outbox.trouble is None
    drain(outbox)
    assert size_of_log(path) <= 100_000


def test_who_reads_for_a_moment_is_no_trouble(path: str, outbox: SQLiteOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "LOG_LIMIT", 100_000)
    monkeypatch.setattr(rows, "LOG_PATIENCE", PATIENCE)
    outbox.append(text(0))
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()
    for name in range(500):
        outbox.append(text(name))

    outbox.keep()
    outbox.keep()

    assert outbox.trouble is None
    reader.close()


def test_a_reader_that_blocks_the_log_costs_an_append_nothing(
    path: str, outbox: SQLiteOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.rows.adder._checkpoint_every = 10  # as if the log were very long
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchall()

    for name in range(300):
        outbox.append(text(name))

    assert len(drain(outbox)) == 300
    reader.close()


def test_many_threads_append_take_and_settle_at_once(
    path: str, outbox: SQLiteOutbox, sql: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", PATIENCE)  # on a busy machine the others may take any time
    delivered: list[int] = []
    done = threading.Event()

    def append(thread: int) -> None:
        for number in range(250):
            outbox.append(text(thread * 1000 + number))

    def deliver() -> None:
        while not done.is_set() or len(outbox):
            some = outbox.take(50)
            outbox.took()
            delivered.extend(names(some))
            outbox.settle(some)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(8)]
    workers = [threading.Thread(target=deliver) for _ in range(3)]
    for thread in [*threads, *workers]:
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    for thread in workers:
        thread.join()

    assert len(delivered) == len(set(delivered)) == 2000
    assert sql("SELECT events FROM total") == [(0,)]
    assert outbox.counts() == (0, 0, 0)


def test_the_log_of_a_file_that_is_gone_keeps_nobody(tmp_path: Path) -> None:
    assert rows.Rows(str(tmp_path / "none")).cut_log(0) is None


# Other faults.


def test_a_text_nested_as_deeply_as_can_be_does_not_say_when_it_was() -> None:
    assert rows.timestamp_of(b"[" * 100_000) == math.inf


def test_a_disk_that_fails_is_not_taken_for_a_damaged_file(outbox: SQLiteOutbox) -> None:
    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    outbox.append(text(1))
    (owner,) = outbox.rows._owners()
    outbox.rows.keeper.fault = fail

    with pytest.raises(OutboxError, match="disk I/O error"):
        outbox.rows.counted()
    with pytest.raises(OutboxError, match="disk I/O error"):
        next(outbox.rows._numbers(owner))


def test_where_nothing_can_be_found_beyond_the_damage_each_owner_there_was_is_looked_for(
    outbox: SQLiteOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.append(text(1))
    read = outbox.rows.keeper.read

    def fail(sql: str, parameters: Any = ()) -> Any:
        if sql == rows._NEXT_OWNER:
            raise OutboxError("damaged") from sqlite3.DatabaseError("database disk image is malformed")
        return read(sql, parameters)

    monkeypatch.setattr(outbox.rows.keeper, "read", fail)

    assert [count for _, count in outbox.rows.counted()] == [1]
