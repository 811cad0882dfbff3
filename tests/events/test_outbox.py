"""Events on disk, as the worker sees them.

What a sender makes of it is tested in test_outbox_sender.py.
"""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from algolia_usertoken import OutboxError
from algolia_usertoken.events import outbox as module
from algolia_usertoken.events import rows
from algolia_usertoken.events.outbox import SQLiteOutbox

DAY = 24 * 60 * 60 * 1000  # milliseconds


def event(name: int | str) -> dict[str, Any]:
    return {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": [str(name)]}


def text(name: int | str, **more: Any) -> bytes:
    """An event as the outbox takes it."""
    return json.dumps(event(name) | more).encode()


def names(events: Any) -> list[str]:
    return [(json.loads(one) if isinstance(one, bytes) else one)["objectIDs"][0] for one in events]


@pytest.fixture(autouse=True)
def _a_clock_that_stands() -> Iterator[None]:
    """No lease ends because the machine is busy; `later` moves the clock of one outbox."""
    now = module.sqlite.clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.sqlite, "clock", lambda: now)
        yield


def take(outbox: SQLiteOutbox, limit: int = 100) -> list[str]:
    """The names of events that an outbox hands out, and is told to have."""
    events = outbox.take(limit)
    outbox.took()
    return names(events)


def later(outbox: SQLiteOutbox, seconds: float) -> None:
    """Have the clock of an outbox say that so much time has passed since the machine was started."""
    clock = outbox.clock
    outbox.clock = lambda: clock() + seconds


# One outbox.


def test_events_come_in_order_and_stay_until_they_are_settled(
    outbox: SQLiteOutbox, sql: Callable[..., list[Any]]
) -> None:
    for name in range(5):
        outbox.append(text(name))

    first = outbox.take(3)

    assert first == [text(0), text(1), text(2)]
    assert len(outbox) == 5
    outbox.took()
    assert len(outbox) == 2
    outbox.put_back(first[1:])
    assert len(outbox) == 4
    assert take(outbox) == ["1", "2", "3", "4"]
    assert sql("SELECT events FROM total") == [(5,)]
    outbox.settle(first)
    assert names(body.encode() for (body,) in sql("SELECT body FROM events ORDER BY number")) == ["3", "4"]
    assert sql("SELECT events FROM total") == [(2,)]


def test_an_event_comes_back_as_the_bytes_it_was(outbox: SQLiteOutbox, sql: Callable[..., list[Any]]) -> None:
    event = json.dumps({"eventName": "Gesehen: \u00e9 \U0001f600 \0 \" '"}, ensure_ascii=False).encode()

    outbox.append(event)

    assert outbox.take(1) == [event]
    assert sql("SELECT typeof(body), json_extract(body, '$.eventName') FROM events") == [
        ("text", json.loads(event)["eventName"].partition("\0")[0])
    ]


def test_what_take_returns_waits_until_each_thread_has_said_that_it_took_it(outbox: SQLiteOutbox) -> None:
    for name in range(9):
        outbox.append(text(name))

    def take_and_go() -> None:
        outbox.take(4)
        outbox.take(2)
        outbox.took()

    thread = threading.Thread(target=take_and_go)
    thread.start()
    thread.join()
    outbox.take(3)

    assert outbox.counts() == (7, 0, 0)
    outbox.took()
    assert outbox.counts() == (4, 0, 0)
    assert outbox.take(1) == []
    outbox.took()
    outbox.took()
    assert outbox.counts() == (4, 0, 0)


@pytest.mark.slow
def test_as_many_events_as_one_call_may_make_are_stored_at_once(path: str, sql: Callable[..., list[Any]]) -> None:
    outbox = SQLiteOutbox(path)

    outbox.append_all([text(name) for name in range(rows.MOST_OF_ONE_CALL)])

    assert sql("SELECT events FROM total") == [(rows.MOST_OF_ONE_CALL,)]
    assert take(outbox, 3) == ["0", "1", "2"]
    outbox.close()


@pytest.mark.slow
def test_the_counts_are_of_one_moment(path: str, end_leases: Callable[[], Any]) -> None:
    first, second = SQLiteOutbox(path), SQLiteOutbox(path)
    for name in range(2000):
        first.append(text(name))
    wrong: list[Any] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            waiting, adopted, gone = first.counts()
            # What `take` found to be gone waits until `took`.
            if not 0 <= waiting - (2000 + adopted - gone) <= 2000:
                wrong.append((waiting, adopted, gone))

    looker = threading.Thread(target=look)
    looker.start()
    for _ in range(10):
        for one, other in ((first, second), (second, first)):
            later(one, 60)
            one.keep()
            other.take(100)  # finds that they are gone
            other.took()
            later(other, 60)
    done.set()
    looker.join()

    assert wrong == []
    waiting, adopted, gone = first.counts()
    assert waiting == 2000 + adopted - gone
    assert adopted >= 9 * 2000
    first.close()
    second.close()


def test_the_size_is_that_of_the_file(path: str, outbox: SQLiteOutbox) -> None:
    for name in range(6):
        outbox.append(text(name))
    small = SQLiteOutbox(path, max_events=10)
    for name in range(4):
        small.append(text(name))

    with pytest.raises(OutboxError, match=r"events\.db: it is full \(10 events\)"):
        small.append(text("too many"))

    outbox.settle(outbox.take(1))
    small.append(text("one more"))
    with pytest.raises(OutboxError, match="full"):
        small.append(text("too many"))
    small.close()


def test_the_events_of_one_call_are_stored_all_or_none(path: str, sql: Callable[..., list[Any]]) -> None:
    outbox = SQLiteOutbox(path, max_events=10)
    outbox.append_all([])
    outbox.append_all([text(name) for name in range(6)])

    with pytest.raises(OutboxError, match="no room for 5 events of one call"):
        outbox.append_all([text(name) for name in range(6, 11)])

    assert len(outbox) == 6
    outbox.append_all([text(name) for name in range(6, 10)])
    assert take(outbox) == [str(name) for name in range(10)]
    assert sql("SELECT events FROM total") == [(10,)]
    with pytest.raises(OutboxError, match=r"made \d+ events, and at most \d+ can be stored"):
        outbox.append_all([text(1)] * (rows.MOST_OF_ONE_CALL + 1))
    outbox.close()
    with pytest.raises(OutboxError, match="it is closed"):
        outbox.append_all([text(1)] * 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": ":memory:"}, ValueError, "path must"),
        ({"path": ""}, ValueError, "path must"),
        ({"path": "a\0b"}, ValueError, "path must"),
        ({"path": b"events.db"}, TypeError, "path must"),
        ({"path": 3}, TypeError, "path must be a str or a path, not int"),
        ({"path": None}, TypeError, "path must be a str or a path, not NoneType"),
        ({"max_events": 0}, ValueError, "max_events must be 1 to 9223372036854775807, not 0"),
        ({"max_events": 1.5}, TypeError, "max_events must be a whole number"),
        ({"max_events": True}, TypeError, "max_events"),
        ({"lease": 0.5}, ValueError, "lease must be 1 to 9223372036854775807, not 0.5"),
        ({"lease": float("nan")}, ValueError, "lease"),
        ({"lease": float("inf")}, ValueError, "lease"),
        ({"lease": "30"}, TypeError, "lease must be a number of seconds, not str"),
    ],
)
def test_wrong_arguments_of_an_outbox_are_named(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        SQLiteOutbox(**{"path": tmp_path / "events.db"} | arguments)

    assert list(tmp_path.iterdir()) == []


# Several owners.


def test_adopted_events_come_behind_ones_own_under_a_new_number(
    outbox: SQLiteOutbox, sibling: SQLiteOutbox, end_leases: Callable[[], Any], sql: Callable[..., list[Any]]
) -> None:
    for name in "ab":
        outbox.append(text(name))
    sibling.append(text("c"))
    sibling.keep()
    assert sibling.counts() == (1, 0, 0)
    end_leases()

    sibling.keep()

    assert sibling.counts() == (3, 2, 0)
    sibling.append(text("d"))
    assert take(sibling) == ["c", "a", "b", "d"]
    assert min(number for (number,) in sql("SELECT number FROM events ORDER BY number DESC LIMIT 2")) > 1000
    # Who was taken for dead delivers none of them.
    assert outbox.counts() == (2, 0, 0)
    outbox.append(text("e"))
    outbox.keep()
    assert take(outbox) == ["e"]
    assert outbox.counts() == (0, 0, 2)


def test_what_is_adopted_away_and_back_is_no_longer_what_was_taken(outbox: SQLiteOutbox, sibling: SQLiteOutbox) -> None:
    outbox.append(text(1))
    taken = outbox.take(1)
    outbox.took()
    later(sibling, 100)
    sibling.keep()
    later(outbox, 200)
    outbox.keep()

    assert outbox.confirm(taken) == []

    outbox.settle(taken)
    assert outbox.counts() == (1, 1, 0)
    assert take(outbox) == ["1"]


def test_what_was_taken_stays_taken_from_who_was_taken_for_dead(
    outbox: SQLiteOutbox, sibling: SQLiteOutbox, end_leases: Callable[[], Any], sql: Callable[..., list[Any]]
) -> None:
    outbox.append(text(1))
    taken = outbox.take(1)
    end_leases()
    sibling.keep()

    outbox.settle(taken)

    assert sql("SELECT events FROM total") == [(1,)]
    assert take(sibling) == ["1"]


def test_who_comes_back_in_time_keeps_its_events(
    outbox: SQLiteOutbox, sibling: SQLiteOutbox, end_leases: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.append(text(1))
    end_leases()
    move = sibling.rows.move

    def move_and_be_overtaken(*arguments: Any) -> Any:
        outbox.keep()
        return move(*arguments)

    monkeypatch.setattr(sibling.rows, "move", move_and_be_overtaken)
    sibling.keep()

    assert sibling.counts() == (0, 0, 0)
    assert take(outbox) == ["1"]


def test_of_two_that_adopt_at_once_each_event_is_one_s(
    path: str, outbox: SQLiteOutbox, end_leases: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in range(20):
        outbox.append(text(name))
    end_leases()
    monkeypatch.setattr(module, "ADOPTED_AT_ONCE", 8)
    first, second = SQLiteOutbox(path), SQLiteOutbox(path)
    move = second.rows.move

    def move_and_be_overtaken(*arguments: Any) -> Any:
        first.keep()
        return move(*arguments)

    monkeypatch.setattr(second.rows, "move", move_and_be_overtaken)
    second.keep()
    monkeypatch.undo()
    second.keep()

    both = [take(first), take(second)]
    assert sorted(both[0] + both[1], key=int) == [str(name) for name in range(20)]
    assert [len(one) for one in both] == [first.counts()[1], second.counts()[1]]
    first.close()
    second.close()


def test_many_are_adopted_little_by_little(
    path: str, outbox: SQLiteOutbox, end_leases: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ADOPTED_AT_ONCE", 10)
    monkeypatch.setattr(rows, "MOST_NUMBERS", 7)
    for name in range(100):
        outbox.append(text(name))
    end_leases()
    heir = SQLiteOutbox(path)
    heir.keep()
    assert len(heir) == 10

    adopted: list[str] = []
    while some := take(heir, 5):
        adopted += some

    assert adopted == [str(name) for name in range(100)]
    assert heir.counts() == (0, 100, 0)
    assert take(outbox) == []
    assert outbox.counts() == (0, 0, 100)
    heir.close()


# Clocks.


def test_who_was_stopped_asks_what_is_still_its_own(outbox: SQLiteOutbox, sibling: SQLiteOutbox) -> None:
    outbox.append(text("a"))
    outbox.append(text("b"))
    mine, lost = outbox.take(1), outbox.take(1)
    now = outbox.clock()
    outbox.clock = sibling.clock = lambda: now + 100
    sibling.keep()  # both are the sibling's now
    taken = sibling.take(1)
    sibling.took()

    # However soon the keeper's thread goes on after the stop.
    outbox.keep()

    assert outbox.confirm(mine + lost) == []
    assert sibling.confirm(taken) == taken
    outbox.append(text("c"))
    assert take(outbox) == ["c"]


def test_confirm_asks_the_file_only_once_where_nobody_has_taken_over(
    outbox: SQLiteOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.append(text("a"))
    taken = outbox.take(1)
    later(outbox, 100)
    assert outbox.confirm(taken) == taken

    monkeypatch.setattr(outbox.rows, "read", lambda *_: 1 / 0)

    assert outbox.confirm(taken) == taken
    assert outbox.confirm([b"from elsewhere"]) == [b"from elsewhere"]


def test_where_the_file_can_not_tell_what_was_taken_is_ones_own(outbox: SQLiteOutbox) -> None:
    outbox.append(text("a"))
    taken = outbox.take(1)
    later(outbox, 100)
    for connection in outbox.connections:
        connection.fault = fail

    assert outbox.confirm(taken) == taken


def fail(*_: Any) -> Any:
    raise sqlite3.OperationalError("disk I/O error")


@pytest.mark.parametrize("seconds", [-5e8, -7200, 7200, 5e8])
def test_a_jump_of_the_time_of_day_takes_nothing_from_anybody(
    path: str, outbox: SQLiteOutbox, sibling: SQLiteOutbox, seconds: float
) -> None:
    now = int(time.time() * 1000)
    outbox.append(text("now", timestamp=now))

    for one in (outbox, sibling):
        one.wall_clock = lambda: time.time() + seconds
        one.keep()

    assert sibling.counts() == (0, 0, 0)
    assert take(outbox) == ["now"]


def test_events_older_than_thirty_days_come_among_themselves_and_stay_in_order(
    path: str, outbox: SQLiteOutbox, sql: Callable[..., list[Any]]
) -> None:
    now = int(time.time() * 1000)
    ages = {"new": 0, "old": 31 * DAY, "nearly": 29 * DAY, "older": 300 * DAY, "newest": -DAY}
    for name, age in ages.items():
        outbox.append(text(name, timestamp=now - age))
    outbox.append(text("timeless"))
    outbox.append(text("odd", timestamp="now"))
    outbox.close()
    heir = SQLiteOutbox(path)
    heir.keep()

    assert take(heir) == ["new"]
    assert take(heir) == ["old"]
    heir.append(text("mine", timestamp=now))
    assert take(heir) == ["nearly"]
    assert take(heir) == ["older"]
    assert take(heir) == ["newest", "timeless", "odd", "mine"]
    assert heir.counts() == (0, 7, 0)
    assert sql("SELECT events FROM total") == [(8,)]
    heir.close()


@pytest.mark.parametrize(
    ("change", "adopted"),
    [
        ("boot = 'the life before'", True),
        ("boot = NULL", True),
        # Of a system without a name for its lives: the clock has begun anew.
        ("alive_until = alive_until + 10000", True),
        ("alive_until = alive_until", False),
    ],
)
def test_a_machine_that_was_started_anew_has_no_owner_that_is_alive(
    change: str, adopted: bool, outbox: SQLiteOutbox, sibling: SQLiteOutbox, sql: Callable[..., list[Any]]
) -> None:
    outbox.append(text(1))
    sql(f"UPDATE owners SET {change}")

    sibling.keep()

    assert len(sibling) == adopted


# What is damaged.


@pytest.mark.parametrize(
    "body",
    [b"[1", b"", b"[]", b'"text"', b'{"a":NaN}', b"\xff{}", b'{"a":1} {"b":2}', b"\x00", b'{"a":"\xed\xa0\x80"}'],
)
def test_a_row_that_is_no_event_any_more_is_set_aside_and_told(
    body: bytes, outbox: SQLiteOutbox, sql: Callable[..., list[Any]]
) -> None:
    for name in range(3):
        outbox.append(text(name))
    sql("UPDATE events SET body = CAST(? AS TEXT) WHERE number = 1", body)

    assert take(outbox) == ["0", "2"]

    assert outbox.counts() == (0, 0, 1)
    assert sql("SELECT CAST(body AS BLOB) FROM damaged") == [(body,)]
    assert sql("SELECT count(*) FROM events") == [(2,)]
    assert "1 events are not JSON any more, and were moved" in str(outbox.trouble)
    with pytest.raises(OutboxError, match="1 events are not JSON any more"):
        outbox.keep()
    outbox.keep()  # told once


def test_what_can_not_be_set_aside_at_once_is_so_later(outbox: SQLiteOutbox, sql: Callable[..., list[Any]]) -> None:
    outbox.append(text(1))
    sql("UPDATE events SET body = '['")
    sql("BEGIN IMMEDIATE")
    assert take(outbox) == []
    sql("ROLLBACK")

    with pytest.raises(OutboxError, match="not JSON"):
        outbox.keep()

    assert sql("SELECT body FROM damaged") == [("[",)]


# Its end.


def test_a_closed_outbox_refuses_events_and_gives_none(path: str) -> None:
    outbox = SQLiteOutbox(path)
    outbox.append(text(1))
    outbox.close()

    with pytest.raises(OutboxError, match="it is closed"):
        outbox.append(text(2))
    outbox.keep()
    assert take(outbox) == []
    assert len(outbox) == 1
    with pytest.raises(ValueError, match="is closed"):
        outbox.attach()
    with pytest.raises(TypeError, match="pickled"):
        outbox.__reduce_ex__(2)


def test_what_is_left_at_close_is_free_at_once(path: str, sibling: SQLiteOutbox) -> None:
    outbox = SQLiteOutbox(path)
    outbox.append(text(1))
    outbox.close()

    sibling.keep()

    assert take(sibling) == ["1"]


def test_an_outbox_is_one_sender_s(outbox: SQLiteOutbox) -> None:
    outbox.attach()
    with pytest.raises(ValueError, match="has a sender already"):
        outbox.attach()


@pytest.mark.slow
def test_one_that_nobody_closed_closes_itself(path: str) -> None:
    outbox = SQLiteOutbox(path)
    outbox.append(text(1))
    del outbox
    gc.collect()

    os.rename(path, f"{path}.moved")  # nobody holds on to it: the write-ahead log is gone with the last connection
    assert not os.path.exists(f"{path}-wal")


def test_what_was_delivered_and_is_still_in_the_file_is_told_and_removed_later(
    outbox: SQLiteOutbox, sql: Callable[..., list[Any]]
) -> None:
    outbox.append(text(1))
    taken = outbox.take(1)
    outbox.took()
    sql("BEGIN IMMEDIATE")

    with pytest.raises(
        OutboxError, match=r"locked.*1 events that were delivered .* the next start delivers them again"
    ):
        outbox.settle(taken)
    with pytest.raises(OutboxError, match="locked"):
        outbox.keep()

    sql("ROLLBACK")
    outbox.keep()
    assert sql("SELECT count(*) FROM events") == [(0,)]


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_is_taken_away_is_told_and_made_anew(path: str, replaced: bool, outbox: SQLiteOutbox) -> None:
    outbox.append(text("lost"))
    for name in (path, f"{path}-wal", f"{path}-shm"):
        os.unlink(name)
    if replaced:
        SQLiteOutbox(path).close()

    with pytest.raises(OutboxError, match="removed or replaced while in use; 1 events"):
        outbox.keep()

    outbox.append(text("kept"))
    assert take(outbox) == ["kept"]
    assert outbox.counts() == (0, 0, 1)
    outbox.close()
    heir = SQLiteOutbox(path)
    heir.keep()
    assert take(heir) == ["kept"]
    heir.close()


def test_who_asks_while_another_adopts_leaves_it_to_that_one(outbox: SQLiteOutbox, path: str) -> None:
    dead = SQLiteOutbox(path)
    dead.append(text("left"))
    dead.close()
    with outbox._adopting:
        outbox.keep()
        assert len(outbox) == 0

    outbox.keep()

    assert take(outbox) == ["left"]


def test_nobody_adopts_from_itself(outbox: SQLiteOutbox) -> None:
    outbox.append(text(1))
    later(outbox, 10_000)  # its own lease has ended

    outbox._adopt()

    assert outbox.counts() == (1, 0, 0)


def test_who_has_stored_nothing_has_no_lease_and_knows_what_is_from_elsewhere(path: str) -> None:
    outbox = SQLiteOutbox(path)

    assert outbox.confirm([b"from elsewhere"]) == [b"from elsewhere"]
