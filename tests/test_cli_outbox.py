"""algolia-usertoken outbox: what the person on call is told of a file, and what is delivered."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pty
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from waiting import PATIENCE, wait_until

from algolia_usertoken import OutboxError, SQLiteOutbox
from algolia_usertoken.cli import main
from algolia_usertoken.events.inspection import status_of
from algolia_usertoken.events.rows import Rows
from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "algolia_usertoken", "outbox"]


def text(name: int | str, **more: Any) -> bytes:
    event = {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": [str(name)], "userToken": "u"}
    return json.dumps(event | {"timestamp": int(time.time() * 1000)} | more).encode()


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return str(tmp_path / "events.db")


@pytest.fixture
def left(path: str) -> Callable[..., None]:
    """Leaves events of a process that has ended."""

    def leave(*names: int | str, **more: Any) -> None:
        outbox = SQLiteOutbox(path)
        for name in names:
            outbox.append(text(name, **more))
        outbox.close()

    return leave


@pytest.fixture
def algolia() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        yield algolia


class TestStatus:
    def test_tells_whose_events_wait_and_since_when(
        self, path: str, left: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        left(*range(1200))
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE events SET created_at = created_at - 3 * 3600000 WHERE number = 7")
            connection.execute("INSERT INTO damaged VALUES (1, 2, 3, '[')")
        connection.close()
        living = SQLiteOutbox(path, lease=3600)
        living.append(text(1))

        assert main(["outbox", "status", path]) == 0

        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "       1,201  events wait in the file, the oldest for 3 hours"
        assert lines[1:4] == [
            f"           1    of process {os.getpid()}, which runs and delivers them",
            "       1,200    of processes that have ended: the next start delivers them, or `drain`",
            "           1  more were damaged, and are in the table damaged",
        ]
        assert lines[4].endswith(" MB  the file")
        assert len(living) == 1
        living.keep()  # it was not taken for dead meanwhile
        living.close()

    def test_shows_what_was_stored_a_moment_ago(
        self, path: str, left: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        left(1)

        assert main(["outbox", "status", path]) == 0

        first = capsys.readouterr().out.splitlines()[0]
        assert re.fullmatch(r" +1  event waits in the file, the oldest for \d+ seconds", first)

    def test_of_an_empty_file_is_zero_events(self, path: str, capsys: pytest.CaptureFixture[str]) -> None:
        SQLiteOutbox(path).close()

        assert main(["outbox", "status", path]) == 0

        assert capsys.readouterr().out.splitlines()[0] == "           0  events wait in the file"

    def test_is_printed_as_json(self, path: str, left: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
        left(1, 2)

        assert main(["outbox", "status", "--json", path]) == 0

        told = json.loads(capsys.readouterr().out)
        assert told.pop("oldest") < 3600
        assert told.pop("file_bytes") > 0
        assert told == {
            "waiting": 2,
            "of_the_living": 0,
            "of_the_dead": 2,
            "damaged": 0,
            "log_bytes": 0,
            "is_whole": True,
            "owners": [{"pid": None, "alive": False, "events": 2}],
        }

    @pytest.mark.parametrize("command", ["status", "check", "drain"])
    def test_a_file_that_is_none_makes_none(
        self, command: str, path: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ["--host", "127.0.0.1:9"] if command == "drain" else []

        assert main(["outbox", command, path, *options]) == 2

        assert capsys.readouterr().err == f"algolia-usertoken: outbox {path}: there is no such file\n"
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("command", ["status", "check"])
    @pytest.mark.parametrize(
        ("kind", "said"),
        [
            ("empty", "the file is empty: no outbox was made in it yet"),
            (
                "text",
                "the file is not an SQLite database, or its start is damaged: if it was an outbox, move it away, ",
            ),
            ("overwritten", "the file is not an SQLite database, or its start is damaged: if it was an outbox, move "),
            ("foreign", "the file is the database of another program"),
            ("newer", "the file was made by a newer version of algolia-usertoken (schema 99)"),
        ],
    )
    def test_a_file_that_is_no_outbox_is_named_and_it_is_said_what_it_is(
        self,
        command: str,
        kind: str,
        said: str,
        path: str,
        left: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        if kind in ("overwritten", "newer"):
            left(1)
        statement = {"newer": "PRAGMA user_version = 99", "foreign": "CREATE TABLE shop (id)"}.get(kind)
        if statement is not None:
            with sqlite3.connect(path) as connection:
                connection.execute(statement)
            connection.close()
        else:
            content = pathlib.Path(path).read_bytes() if kind == "overwritten" else b""
            pathlib.Path(path).write_bytes(b"" if kind == "empty" else b"no database" * 500 + content[5500:])
        before = pathlib.Path(path).read_bytes()

        assert main(["outbox", command, path]) == 2

        assert capsys.readouterr().err.startswith(f"algolia-usertoken: outbox {path}: {said}")
        assert pathlib.Path(path).read_bytes() == before

    @pytest.mark.parametrize(
        ("kind", "said"),
        [("directory", "it is a directory"), ("pipe", "it is not a file")],
    )
    def test_a_path_of_something_else_is_named_and_not_opened(
        self, kind: str, said: str, path: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        os.mkdir(path) if kind == "directory" else os.mkfifo(path)

        assert main(["outbox", "check", path]) == 2

        assert capsys.readouterr().err == f"algolia-usertoken: outbox {path}: {said}\n"


class TestCheck:
    def test_finds_nothing_wrong_with_a_file_in_order(
        self, path: str, left: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        left(1, 2, 3)

        assert main(["outbox", "check", path]) == 0

        out = capsys.readouterr().out
        assert "wrong" not in out
        assert "3 events wait, and all of them can be read." in out

    @pytest.mark.parametrize(
        ("statement", "step", "said"),
        [
            ("UPDATE events SET body = '[' WHERE number = 1", "events", "1 of 3 events are not JSON."),
            ("INSERT INTO damaged VALUES (1, 2, 3, '[')", "damaged", "1 event was damaged"),
            ("UPDATE total SET events = 5", "count", "The file's own count is 5, but it has 3 events"),
            ("DROP TRIGGER count_up", "schema", "These are missing in the file: count_up."),
        ],
    )
    def test_finds_what_is_wrong(
        self,
        statement: str,
        step: str,
        said: str,
        path: str,
        left: Callable[..., None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        left(1, 2, 3)
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()

        assert main(["outbox", "check", "--json", path]) == 1

        told = json.loads(capsys.readouterr().out)
        assert told["faults"] == 1
        (wrong,) = [finding for finding in told["findings"] if finding["wrong"]]
        assert wrong["step"] == step
        assert wrong["said"].startswith(said)
        assert wrong["remedy"]

    def test_finds_damaged_pages(
        self, path: str, left: Callable[..., None], capsys: pytest.CaptureFixture[str]
    ) -> None:
        left(*range(500))
        content = bytearray(pathlib.Path(path).read_bytes())
        middle = len(content) // 2 // 4096 * 4096
        content[middle : middle + 4096] = b"\xff" * 4096
        pathlib.Path(path).write_bytes(content)

        assert main(["outbox", "check", path]) == 1
        out = capsys.readouterr().out
        assert "The file is damaged." in out
        assert "`algolia-usertoken outbox" in out
        assert main(["outbox", "status", path]) == 0
        assert "The file is damaged, and there may be more" in capsys.readouterr().out


class TestDrain:
    def test_delivers_what_ended_processes_have_left_and_nothing_else(
        self, path: str, left: Callable[..., None], algolia: LocalAlgolia, capsys: pytest.CaptureFixture[str]
    ) -> None:
        left(*range(1500))
        living = SQLiteOutbox(path, lease=3600)
        living.append(text("living"))

        assert main(["outbox", "drain", path, "--host", f"127.0.0.1:{algolia.port}"]) == 0

        assert capsys.readouterr().out.splitlines() == [
            "1,500 of 1,500 events delivered.",
            "Left to running processes, which deliver them: 1.",
        ]
        assert len(algolia.events) == 1500
        assert len(living.take(9)) == 1
        living.close()

    def test_what_algolia_rejects_is_told(
        self, path: str, left: Callable[..., None], algolia: LocalAlgolia, capsys: pytest.CaptureFixture[str]
    ) -> None:
        left(1, 2)
        left("bad", eventType="dance")

        assert main(["outbox", "drain", path, "--host", f"127.0.0.1:{algolia.port}"]) == 1

        out = capsys.readouterr().out
        assert out.startswith("2 of 3 events delivered.\n1 event refused: ")

    @pytest.mark.slow
    def test_what_can_not_be_delivered_stays_in_the_file(
        self, path: str, left: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from algolia_usertoken.cli import outbox as module

        left(1, 2)
        monkeypatch.setattr(module, "_PATIENCE", 0.5)

        assert main(["outbox", "drain", path, "--host", "127.0.0.1:9"]) == 1

        out = capsys.readouterr().out
        assert out.startswith("0 of 2 events delivered.\n2 events could not be delivered, and stay in the file.")
        heir = SQLiteOutbox(path)
        heir.keep()
        assert len(heir) == 2
        heir.close()

    @pytest.mark.slow
    def test_is_ended_by_ctrl_c_at_any_time(self, path: str, left: Callable[..., None]) -> None:
        left(1, 2)
        process = subprocess.Popen(
            [*COMMAND, "drain", path, "--host", "127.0.0.1:9"], stderr=subprocess.PIPE, text=True
        )
        try:
            wait_until(lambda: status_of(path).of_the_living == 2)

            process.send_signal(signal.SIGINT)

            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        assert process.returncode == 130
        assert "Traceback" not in err
        assert status_of(path).waiting == 2

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no terminals of this kind")
    def test_shows_its_progress_on_a_terminal(
        self, path: str, left: Callable[..., None], algolia: LocalAlgolia
    ) -> None:
        left(*range(30))
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [*COMMAND, "drain", path, "--host", f"127.0.0.1:{algolia.port}"], stdout=subprocess.PIPE, stderr=theirs
        ) as process:
            os.close(theirs)
            printed = b""
            with contextlib.suppress(OSError):  # of Linux, at the end
                while part := os.read(ours, 65_536):  # as it comes: a terminal holds little that nobody reads
                    printed += part
            assert process.wait(PATIENCE) == 0
        os.close(ours)
        shown = printed.decode()

        assert "30 delivered, 0 left" in shown
        assert shown.endswith("\r\x1b[K")

    def test_without_an_application_id_says_what_to_give(
        self, path: str, left: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        left(1)
        monkeypatch.delenv("ALGOLIA_APP_ID", raising=False)

        assert main(["outbox", "drain", path]) == 2

        assert capsys.readouterr().err == "algolia-usertoken: --app-id is missing: give it, or set ALGOLIA_APP_ID\n"

    def test_where_nothing_is_left_algolia_is_not_asked(self, path: str, capsys: pytest.CaptureFixture[str]) -> None:
        SQLiteOutbox(path).close()

        assert main(["outbox", "drain", path, "--app-id", "app", "--api-key", "key"]) == 0

        assert capsys.readouterr().out == "0 of 0 events delivered.\n"

    @pytest.mark.slow
    def test_is_patient_for_a_while(
        self, path: str, left: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from algolia_usertoken.cli import outbox as module

        left(1, 2)
        monkeypatch.setattr(module, "_PATIENCE", 2.0)
        monkeypatch.setattr(module, "_LOOK", 0.05)
        given_up = []  # when it closes its sender, which takes its time too
        close = module._Drained.close

        def timed_close(drained: Any) -> None:
            given_up.append(time.monotonic())
            close(drained)

        monkeypatch.setattr(module._Drained, "close", timed_close)
        started = time.monotonic()

        assert main(["outbox", "drain", path, "--host", "127.0.0.1:9"]) == 1

        assert given_up[0] - started > 2.0
        assert "2 events could not be delivered" in capsys.readouterr().out

    def test_what_the_file_does_not_let_drain_do_is_told(
        self,
        path: str,
        left: Callable[..., None],
        algolia: LocalAlgolia,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def remove(*_: Any) -> None:
            raise OutboxError("database or disk is full")

        left(1, 2)
        monkeypatch.setattr(Rows, "remove", remove)

        main(["outbox", "drain", path, "--host", f"127.0.0.1:{algolia.port}"])

        out = capsys.readouterr().out
        assert out.startswith("2 of 2 events delivered.\n")
        assert "database or disk is full; 2 events that were delivered or given up could not be removed" in " ".join(
            out.split()
        )
