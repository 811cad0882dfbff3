"""The file of an outbox: what it is, how long a call waits for it, who may read it, and what a fork does to it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prelude import event
from program_files import command_of
from waiting import PATIENCE, wait_until

from algolia_usertoken import OutboxError, SQLiteOutbox
from algolia_usertoken.events import sqlite

pytestmark = pytest.mark.slow

# What today's release makes, with two events of an owner that is alive, and one of an owner that is not.
SCHEMA_1 = """
CREATE TABLE owners (id INTEGER PRIMARY KEY AUTOINCREMENT, alive_until REAL NOT NULL);
CREATE TABLE events (
    owner INTEGER NOT NULL, number INTEGER NOT NULL, created_at INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (owner, number)
) WITHOUT ROWID;
CREATE TABLE total (events INTEGER NOT NULL);
INSERT INTO total VALUES (0);
CREATE TRIGGER count_up AFTER INSERT ON events BEGIN UPDATE total SET events = events + 1; END;
CREATE TRIGGER count_down AFTER DELETE ON events BEGIN UPDATE total SET events = events - 1; END;
PRAGMA application_id = 0x416C6755;
PRAGMA user_version = 1;
PRAGMA journal_mode = WAL;
INSERT INTO owners VALUES (6, unixepoch() - 5), (7, unixepoch() + 50);
INSERT INTO events VALUES (6, 0, 1, '{"objectIDs":["dead"]}'), (7, 0, 1, '{"objectIDs":["alive 1"]}'),
    (7, 1, 1, '{"objectIDs":["alive 2"]}');
"""


def text(name: int | str) -> bytes:
    return json.dumps(event(name)).encode()


def names(events: list[bytes]) -> list[str]:
    return [json.loads(one)["objectIDs"][0] for one in events]


class Neighbour:
    """Another process that has the file open, in the middle of a transaction, and is stopped there."""

    def __init__(self, path: str, *statements: str) -> None:
        self.process = subprocess.Popen(
            command_of("events/programs/holds_the_file.py", path, *statements),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"there\n"
        self.process.send_signal(signal.SIGSTOP)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def neighbour(path: str) -> Iterator[Callable[..., Neighbour]]:
    made: list[Neighbour] = []

    def make(*statements: str) -> Neighbour:
        made.append(Neighbour(path, *statements))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def many(path: str) -> Iterator[list[SQLiteOutbox]]:
    """For what can be tried only once with each: where one is too slow, the machine may be busy."""
    many = [SQLiteOutbox(path) for _ in range(10)]
    yield many
    for one in many:
        one.close()


def took(action: Callable[[], Any]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


# A neighbour that is stopped in the middle of writing. What a call takes is at most 0.25 seconds, far from what waiting
# for each other, or for 5 seconds, would take. On a busy machine it may take any time, but not again and again.


def test_a_stopped_writer_costs_many_threads_that_append_at_once_a_moment(
    outbox: SQLiteOutbox, path: str, many: list[SQLiteOutbox], neighbour: Callable[..., Neighbour]
) -> None:
    for one in [outbox, *many]:
        one.append(text("before"))
    writer = neighbour("BEGIN IMMEDIATE")

    def is_in_time(outbox: SQLiteOutbox) -> bool:
        failed: list[str] = []
        slowest: list[float] = []

        def append() -> None:
            for _ in range(5):
                started = time.monotonic()
                try:
                    outbox.append(text("meanwhile"))
                except OutboxError as error:
                    failed.append(str(error))
                slowest.append(time.monotonic() - started)

        threads = [threading.Thread(target=append) for _ in range(8)]
        all_of_it = took(lambda: [[thread.start() for thread in threads], [thread.join() for thread in threads]])

        assert len(failed) == 40
        assert all("the file is locked" in one for one in failed)
        return max(slowest) < 1 and all_of_it < 2  # one wait, and then next to nothing

    assert any(is_in_time(one) for one in [outbox, *many])
    writer.end()
    outbox.append(text("after"))
    assert names(outbox.take(9)) == ["before", "after"]


def test_others_that_go_on_writing_are_waited_for_again(
    path: str, outbox: SQLiteOutbox, sql: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox.append(text(1))
    sql("BEGIN IMMEDIATE")
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.1)
    connection = outbox.rows.adder
    written = iter(range(100))

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_last_written", lambda: next(written))
        with pytest.raises(OutboxError, match="locked"):
            outbox.append(text(2))
        assert not connection._in_vain
    with pytest.raises(OutboxError, match="locked"):
        outbox.append(text(2))
    assert connection._in_vain

    sql("ROLLBACK")
    outbox.append(text(3))
    assert not connection._in_vain


def test_one_deadline_holds_for_all_that_a_first_append_has_to_do(
    outbox: SQLiteOutbox, neighbour: Callable[..., Neighbour], monkeypatch: pytest.MonkeyPatch
) -> None:
    deadlines: list[float | None] = []
    write = sqlite.Connection.write

    def noted(self: Any, sql: str, parameters: Any = (), deadline: float | None = None) -> Any:
        deadlines.append(deadline)
        return write(self, sql, parameters, deadline)

    monkeypatch.setattr(sqlite.Connection, "write", noted)
    outbox.append(text(1))

    assert len(deadlines) == 2
    assert deadlines[0] is not None
    assert deadlines[0] == deadlines[1]


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_stopped_writer_keeps_nobody_from_reading_closing_and_starting(
    path: str, many: list[SQLiteOutbox], neighbour: Callable[..., Neighbour], statement: str
) -> None:
    for one in many:
        one.append(text("before"))
    neighbour(statement)

    assert any(took(lambda: names(one.take(9)) == ["before"] or 1 / 0) < 2 for one in many)  # noqa: B023
    with pytest.raises(OutboxError, match="locked"):
        many[0].keep()
    wait_until(lambda: took(lambda: SQLiteOutbox(path).close()) < 2)
    assert any(took(one.close) < 2 for one in many)


def test_a_stopped_writer_delays_no_fork(
    path: str, run: Callable[..., Any], neighbour: Callable[..., Neighbour]
) -> None:
    SQLiteOutbox(path).close()
    neighbour("BEGIN IMMEDIATE")

    assert float(run("forks_while_appends_wait.py", path).stdout) < 1.5


def test_a_thread_in_the_middle_of_a_long_call_delays_a_fork_by_a_moment_and_the_child_says_so(
    path: str, run: Callable[..., Any]
) -> None:
    run("fork_during_a_long_call.py", path)


def test_a_thread_in_the_middle_of_a_long_call_delays_others_by_a_moment(outbox: SQLiteOutbox) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def long_call(_: Any) -> None:
        inside.set()
        go_on.wait(2 * PATIENCE)

    thread = threading.Thread(target=outbox.rows.adder.run, args=(long_call,))
    thread.start()
    assert inside.wait(PATIENCE)

    def append() -> None:
        with pytest.raises(OutboxError, match="locked"):
            outbox.append(text(1))

    wait_until(lambda: took(append) < 2)
    assert took(outbox.close) < PATIENCE / 2  # and not until that call is done
    go_on.set()
    thread.join()
    assert not outbox.rows.adder.is_open


def test_a_call_that_does_not_wait_ends_no_other_wait(outbox: SQLiteOutbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", PATIENCE)
    inside, go_on = threading.Event(), threading.Event()
    adder = outbox.rows.adder

    def long_call(_: Any) -> None:
        inside.set()
        go_on.wait(PATIENCE)

    results: list[Any] = []
    first = threading.Thread(target=adder.run, args=(long_call,))
    first.start()
    assert inside.wait(PATIENCE)
    waits = threading.Thread(target=lambda: results.append(adder.read("SELECT 7")))
    waits.start()
    time.sleep(0.1)

    with pytest.raises(OutboxError, match="locked"):
        adder.run(lambda connection: None, time.monotonic())

    time.sleep(0.1)
    go_on.set()
    first.join()
    waits.join()
    assert results == [[(7,)]]


def test_an_injected_fault_does_not_wait(outbox: SQLiteOutbox) -> None:
    def locked() -> None:
        raise sqlite3.OperationalError("database is locked")

    outbox.append(text(1))
    for connection in outbox.connections:
        connection.fault = locked
    slept = threading.Event()
    sleep, own = time.sleep, threading.get_ident()  # other threads of this process may sleep

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", lambda seconds: slept.set() if threading.get_ident() == own else sleep(seconds))
        with pytest.raises(OutboxError, match="the file is locked"):
            outbox.append(text(2))
        with pytest.raises(OutboxError, match="the file is locked"):
            outbox.keep()

    assert not slept.is_set()


# Files that can't be used.


@pytest.mark.parametrize("kind", ["garbage", "torn", "truncated", "foreign", "newer", "directory", "no directory"])
def test_a_file_that_is_no_outbox(path: str, kind: str) -> None:
    if kind == "garbage":
        Path(path).write_bytes(b"not a database" * 1000)
    elif kind in ("torn", "truncated"):
        SQLiteOutbox(path).close()
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[:100] + b"\xff" * (len(content) - 100) if kind == "torn" else content[:5000])
    elif kind == "directory":
        Path(path).mkdir()
    elif kind == "no directory":
        path = path.replace("events.db", "missing/events.db")
    else:
        if kind == "newer":
            SQLiteOutbox(path).close()
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 9" if kind == "newer" else "CREATE TABLE shop (id)")
        connection.close()

    message = {
        "newer": "newer version of algolia-usertoken",
        "foreign": "another program",
        "directory": "unable to open",
        "no directory": "can't be made: No such file or directory",
    }.get(kind, "the file is damaged")
    with pytest.raises(OutboxError, match=rf"events\.db: .*{message}"):
        SQLiteOutbox(path)


@pytest.mark.parametrize("kind", ["all pages", "the first page", "truncated"])
def test_a_file_that_gets_damaged_is_said_to_be_so_at_the_first_append(path: str, kind: str) -> None:
    outbox = SQLiteOutbox(path)
    for connection in outbox.connections:  # what it remembers of the file would do for a while
        connection.close()
    content = Path(path).read_bytes()
    damaged = {
        "all pages": content[:4096] + b"\xff" * (len(content) - 4096),
        "the first page": b"\xff" * 4096 + content[4096:],
        "truncated": content[: len(content) // 4096 // 2 * 4096],
    }
    Path(path).write_bytes(damaged[kind])

    with pytest.raises(OutboxError, match=r"events\.db: the file is damaged \(.*`algolia-usertoken outbox check`"):
        outbox.append(text(1))

    assert took(outbox.close) < PATIENCE


def test_a_file_or_directory_that_cannot_be_written_is_said_to_be_so(run: Callable[..., Any]) -> None:
    # Not in pytest's directory, which the program could not even enter where it gives up the rights of root.
    with tempfile.TemporaryDirectory() as directory:
        for name, mode in (("old.db", 0o666), ("closed.db", 0)):
            SQLiteOutbox(Path(directory, name)).close()
            os.chmod(Path(directory, name), mode)
        os.chmod(directory, 0o555)
        try:
            lines = run("outboxes_in_a_read_only_directory.py", directory).stdout.splitlines()
        finally:
            os.chmod(directory, 0o755)

    not_both = "this user may not write in the file or in its directory, and SQLite needs both"
    assert lines == [
        f"outbox {directory}/new.db: the file can't be made: Permission denied",
        f"outbox {directory}/old.db: {not_both} (attempt to write a readonly database)",
        f"outbox {directory}/closed.db: unable to open database file: Permission denied",
    ]


def test_a_full_disk_drops_what_has_no_room_keeps_what_has_and_goes_on_when_there_is_some(
    path: str, run: Callable[..., Any]
) -> None:
    run("file_on_a_full_disk.py", path)


# Who may read it.


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_a_file_that_is_made_is_its_owner_s_alone_whatever_the_umask(path: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        outbox = SQLiteOutbox(path)
        outbox.append(text(1))
        made = [path, f"{path}-wal", f"{path}-shm"]
        modes = [stat.S_IMODE(os.stat(name).st_mode) for name in made]
    finally:
        os.umask(before)
    outbox.close()

    assert modes == [0o600] * 3


def test_a_file_that_is_there_keeps_its_mode(path: str) -> None:
    Path(path).touch()
    os.chmod(path, 0o640)

    outbox = SQLiteOutbox(path)
    outbox.append(text(1))

    assert {stat.S_IMODE(os.stat(f"{path}{end}").st_mode) for end in ("", "-wal", "-shm")} == {0o640}
    outbox.close()


def test_a_path_of_any_characters_and_one_through_a_link(tmp_path: Path) -> None:
    odd = tmp_path / "a b%41?#é&mode=memory.db"
    os.symlink(odd, tmp_path / "link.db")

    outbox = SQLiteOutbox(tmp_path / "link.db")
    outbox.append(text(1))
    outbox.close()

    assert stat.S_IMODE(os.stat(odd).st_mode) == 0o600
    heir = SQLiteOutbox(odd)
    heir.keep()
    assert len(heir) == 1
    heir.close()


# Schemas.


def test_a_file_of_schema_1_is_taken_over(path: str, sql: Callable[..., list[Any]]) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(SCHEMA_1.replace("unixepoch()", str(time.time())))
    connection.close()

    outbox = SQLiteOutbox(path)
    outbox.append(text("new"))
    outbox.keep()

    assert names(outbox.take(9)) == ["new", "dead"]
    assert sql("SELECT user_version FROM pragma_user_version") == [(sqlite.SCHEMA_VERSION,)]
    clock = outbox.clock
    outbox.clock = lambda: clock() + 55  # the lease that the other had left has ended
    outbox.keep()
    assert names(outbox.take(9)) == ["alive 1", "alive 2"]
    assert sql("SELECT events FROM total") == [(4,)]
    outbox.close()


def test_a_file_that_many_make_at_once(
    start: Callable[..., subprocess.Popen[str]], sql: Callable[..., list[Any]]
) -> None:
    processes = [start("file_made_on_a_word.py", stdin=subprocess.PIPE) for _ in range(6)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()

    assert [process.wait(PATIENCE) for process in processes] == [0] * 6
    assert sql("SELECT events FROM total") == [(6,)]


# Forks.


def test_a_child_of_a_fork_that_python_did_not_make_says_so(outbox: SQLiteOutbox) -> None:
    outbox.append(text(1))

    inherited = [one for one in outbox.connections if one.is_open]
    outbox.start_again(inherited)  # without what Python calls before a fork

    assert len(outbox) == 0
    with pytest.raises(OutboxError, match="make the sender after the fork"):
        outbox.append(text(2))
    for connection in inherited:
        connection.close()


def test_children_and_their_parent_append_to_one_file_at_once(path: str, run: Callable[..., Any]) -> None:
    run("children_that_append.py", path)


@pytest.mark.parametrize("handler", ["forks", "appends"])
def test_a_signal_handler_in_the_middle_of_an_append(path: str, run: Callable[..., Any], handler: str) -> None:
    run("append_while_a_signal_handler_runs.py", path, handler)


# What a connection meets.


def test_a_connection_that_is_closed_for_good_says_so(outbox: SQLiteOutbox) -> None:
    outbox.append(text(1))
    keeper = outbox.rows.keeper
    assert keeper.close(for_good=True)

    with pytest.raises(OutboxError, match="it is closed"):
        keeper.read("SELECT 1")
    assert not keeper.is_open


def test_what_was_closed_in_the_middle_is_attempted_again(
    outbox: SQLiteOutbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", PATIENCE)  # on a busy machine the second attempt may come late
    keeper = outbox.rows.keeper
    attempts: list[sqlite3.Connection] = []

    def action(connection: sqlite3.Connection) -> list[Any]:
        attempts.append(connection)
        if len(attempts) == 1:
            keeper.close()  # as the hook before a fork does, in a signal handler
        return connection.execute("SELECT 7").fetchall()

    assert keeper.run(action) == [(7,)]
    assert len(attempts) == 2


def test_a_statement_that_is_wrong_is_attempted_once(outbox: SQLiteOutbox) -> None:
    with pytest.raises(OutboxError, match="binding"):
        outbox.rows.keeper.read("SELECT ?")


def test_a_file_that_is_gone_is_said_in_the_system_s_words(path: str, outbox: SQLiteOutbox) -> None:
    for connection in outbox.connections:
        connection.close()
    os.unlink(path)

    with pytest.raises(OutboxError, match="unable to open database file: No such file or directory"):
        outbox.rows.keeper.read("SELECT 1")


def test_where_a_file_has_no_mode(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fchmod", raising=False)  # as on Windows

    outbox = SQLiteOutbox(path)
    outbox.append(text(1))

    assert names(outbox.take(9)) == ["1"]
    outbox.close()


def test_a_file_that_can_only_be_read_is_no_outbox(path: str, outbox: SQLiteOutbox) -> None:
    outbox.append(text(1))
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        sqlite._see_whether_it_can_be_written(connection)
    connection.close()


def test_a_set_up_that_fails_leaves_nothing_behind(
    path: str, sql: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_statements", lambda script: ["CREATE TABLE half (made)", "and no SQL"])
        with pytest.raises(OutboxError, match="syntax error"):
            SQLiteOutbox(path).append(text(1))
    assert sql("SELECT name FROM sqlite_master") == []

    outbox = SQLiteOutbox(path)
    outbox.append(text(1))
    outbox.close()
