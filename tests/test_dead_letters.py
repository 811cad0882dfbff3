"""Dead letters: what `on_error` gets, one JSON line each, in a file that several threads and processes write to."""

from __future__ import annotations

import contextlib
import enum
import errno
import fcntl
import gc
import itertools
import json
import logging
import os
import pathlib
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from waiting import PATIENCE, wait_until

from algolia_usertoken import (
    BatchRejectedError,
    DeadLetters,
    DeliveryError,
    EventSender,
    InvalidEventError,
    MemoryDelivery,
    OutboxError,
    SQLiteOutbox,
)
from algolia_usertoken import dead_letters as module
from algolia_usertoken.dead_letters import erase

EVENT = {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": ["1"], "userToken": "u"}
ERROR = InvalidEventError("index must be the name of an index")


def read(path: pathlib.Path) -> list[Any]:
    """The letters of a file; each line must be JSON of its own."""

    def none(constant: str) -> Any:
        raise AssertionError(constant)

    return [json.loads(line, parse_constant=none) for line in path.read_bytes().splitlines()]


def events_in(path: pathlib.Path) -> list[Any]:
    return [letter["event"] for letter in read(path)]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "failed.ndjson"


def in_a_process(code: str, *arguments: object) -> None:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


class TestLines:
    def test_tell_when_why_and_what(self, path: pathlib.Path) -> None:
        before = datetime.now(timezone.utc).replace(microsecond=0)

        DeadLetters(path)(ERROR, [EVENT, {**EVENT, "objectIDs": ["2"]}])

        first, second = read(path)
        assert list(first) == ["time", "reason", "event"]
        assert before <= datetime.fromisoformat(first["time"]) <= datetime.now(timezone.utc)
        assert first["reason"] == "index must be the name of an index"
        assert (first["event"], second["event"]["objectIDs"]) == (EVENT, ["2"])

    def test_of_an_error_that_is_not_of_this_package_its_type_is_told(self, path: pathlib.Path) -> None:
        DeadLetters(path)(KeyError("gone"), [EVENT])

        assert read(path)[0]["reason"] == "KeyError: 'gone'"

    def test_what_the_sender_knows_is_written_as_it_would_be_sent(self, path: pathlib.Path) -> None:
        class Colour(str, enum.Enum):
            RED = "red"

        uuid = UUID(int=7)
        DeadLetters(path)(ERROR, [{"value": Decimal("9.5"), "objectIDs": [uuid], "colour": Colour.RED}])

        assert events_in(path) == [{"value": 9.5, "objectIDs": [str(uuid)], "colour": "red"}]

    @pytest.mark.slow
    def test_of_anything_that_is_no_json_the_rest_is_kept(self, path: pathlib.Path) -> None:
        class Hostile:
            def __str__(self) -> str:
                raise SystemError

        class HostileText(str):
            __slots__ = ()

            def __str__(self) -> str:
                raise SystemError

        round_and_round: dict[str, Any] = {"eventName": "Seen"}
        round_and_round["again"] = round_and_round
        deep: list[Any] = []
        for _ in range(100_000):
            deep = [deep]
        odd = [
            *(b"bytes", None, 7, "text", {1, 2}, object(), Hostile(), HostileText("x"), Exception("x"), "\ud800"),
            *(float("nan"), 10**5000, {(1, 2): 3}, {b"key": b"value"}, {Hostile(): Hostile()}, round_and_round, deep),
            iter([1]),
        ]
        letters = DeadLetters(path)
        for one in odd:
            letters(ERROR, [one])
            letters(ERROR, [{"eventName": "Seen", "odd": one, "objectIDs": ["1"]}])
        letters(Exception(Hostile()), [EVENT])
        del deep, odd, one
        gc.collect()

        found = events_in(path)
        assert len(found) == 18 * 2 + 1
        assert all((one["eventName"], one["objectIDs"]) == ("Seen", ["1"]) for one in found[1::2])

    def test_of_a_mapping_without_an_end_only_its_text_is_kept(self, path: pathlib.Path) -> None:
        class Endless(Mapping[str, int]):
            def __getitem__(self, key: str) -> int:
                return 1

            def __iter__(self) -> Iterator[str]:
                return map(str, itertools.count())

            def __len__(self) -> int:
                return sys.maxsize

            def __str__(self) -> str:
                return "endless"

        DeadLetters(path)(ERROR, [{"eventName": "Seen", "value": float("nan"), "odd": Endless()}])

        assert events_in(path) == [{"eventName": "Seen", "value": "nan", "odd": "endless"}]

    def test_a_long_reason_is_cut(self, path: pathlib.Path) -> None:
        DeadLetters(path)(DeliveryError("x" * 5_000_000), [EVENT])

        assert len(read(path)[0]["reason"]) == 1000


class TestWhatTheSenderTells:
    def test_refused_rejected_and_given_up(self, path: pathlib.Path) -> None:
        delivery = MemoryDelivery()
        with EventSender(delivery=delivery, on_error=DeadLetters(path), background=False) as events:
            events.send({**EVENT, "index": 7})
            delivery.fail_next(BatchRejectedError("422: no"))
            events.send(EVENT)
            events.flush()
            delivery.fail_next(DeliveryError("the way is gone"))
            events.send(EVENT)
            events.flush()

        assert [letter["reason"][:12] for letter in read(path)] == ["index must b", "422: no", "the way is g"]
        assert "timestamp" in events_in(path)[1]

    def test_what_was_delivered_and_only_can_not_be_removed_from_an_outbox_is_none(
        self, path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outbox = SQLiteOutbox(tmp_path / "events.db")
        delivery = MemoryDelivery()
        told: list[Exception] = []
        letters = DeadLetters(path)

        def on_error(error: Exception, events: Any) -> None:
            told.append(error)
            letters(error, events)

        def remove(*_: Any) -> None:
            raise OutboxError("the disk is full")

        with EventSender(delivery=delivery, outbox=outbox, on_error=on_error, background=False) as events:
            events.send(EVENT)
            monkeypatch.setattr(outbox.rows, "remove", remove)
            events.flush()
            monkeypatch.undo()

        assert len(delivery.events) == 1
        assert isinstance(told[0], OutboxError)
        assert not path.exists()

    def test_what_an_outbox_could_not_take_is_one(self, path: pathlib.Path, tmp_path: pathlib.Path) -> None:
        outbox = SQLiteOutbox(tmp_path / "events.db", max_events=1)
        with EventSender(
            delivery=MemoryDelivery(), outbox=outbox, on_error=DeadLetters(path), background=False
        ) as events:
            assert [events.send(EVENT), events.send(EVENT)] == [True, False]

        assert len(read(path)) == 1


class TestTheFile:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
    def test_one_that_is_made_is_for_its_owner_alone(self, umask: int, path: pathlib.Path) -> None:
        before = os.umask(umask)
        try:
            DeadLetters(path)(ERROR, [EVENT])
        finally:
            os.umask(before)

        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_one_that_is_there_keeps_its_mode_which_is_said_once(
        self, path: pathlib.Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path.touch()
        path.chmod(0o640)
        letters = DeadLetters(path, max_bytes=10_000)
        for _ in range(100):
            letters(ERROR, [EVENT])

        assert [stat.S_IMODE(one.stat().st_mode) for one in (path, before(path))] == [0o640, 0o640]
        assert [record.message for record in caplog.records] == [
            f"dead letters {path}: other users may read it: its mode is 640, and should be 600"
        ]

    def test_is_where_it_was_when_the_working_directory_changes(
        self, path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        letters = DeadLetters(path.name)
        monkeypatch.chdir("/")
        letters(ERROR, [EVENT])

        assert len(read(path)) == 1

    def test_a_link_to_it_stays_one(self, path: pathlib.Path, tmp_path: pathlib.Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        real = tmp_path / "elsewhere" / "letters"
        path.symlink_to(real)
        letters = DeadLetters(path, max_bytes=10_000)
        for _ in range(100):
            letters(ERROR, [EVENT])

        assert path.is_symlink()
        assert before(real).is_file()

    def test_after_half_a_line_a_new_one_is_begun(self, path: pathlib.Path) -> None:
        path.write_text('{"time": "2026')
        path.chmod(0o600)
        DeadLetters(path)(ERROR, [EVENT])

        half, whole = path.read_text().splitlines()
        assert half == '{"time": "2026'
        assert json.loads(whole)["event"] == EVENT

    def test_path_and_bound_of_dead_letters_are_shown(self, path: pathlib.Path) -> None:
        assert repr(DeadLetters(path, max_bytes=20_000)) == f"DeadLetters({str(path)!r}, max_bytes=20000)"

    def test_one_that_was_moved_away_or_removed_is_made_anew(self, path: pathlib.Path) -> None:
        letters = DeadLetters(path)
        letters(ERROR, [EVENT])
        path.rename(before(path))
        letters(ERROR, [EVENT, EVENT])

        assert [len(read(one)) for one in (before(path), path)] == [1, 2]


def before(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}.1")


@pytest.fixture
def when_locked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Calls a function each time a file was locked: what another process does between opening and locking."""

    def use(do: Callable[[], object]) -> None:
        real = fcntl.flock

        def flock(file: int, operation: int) -> None:
            real(file, operation)
            if operation & fcntl.LOCK_EX:
                do()

        monkeypatch.setattr(fcntl, "flock", flock)

    return use


class TestItsBound:
    def test_the_file_and_its_predecessor_are_never_longer_together(self, path: pathlib.Path) -> None:
        letters = DeadLetters(path, max_bytes=20_000)
        for number in range(500):
            letters(ERROR, [{**EVENT, "objectIDs": [str(number)]}])
            assert sum(one.stat().st_size for one in path.parent.iterdir()) <= 20_000

        kept = [int(event["objectIDs"][0]) for one in (before(path), path) for event in events_in(one)]
        assert kept == list(range(kept[0], 500))
        assert len(kept) > 50

    def test_a_call_with_more_events_than_fit_goes_on_in_the_next_file(self, path: pathlib.Path) -> None:
        DeadLetters(path, max_bytes=20_000)(ERROR, [{**EVENT, "objectIDs": [str(number)]} for number in range(80)])

        kept = [int(event["objectIDs"][0]) for one in (before(path), path) for event in events_in(one)]
        assert kept == list(range(80))

    def test_a_line_that_would_never_fit_is_left_out_and_costs_no_other(
        self, path: pathlib.Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        letters = DeadLetters(path, max_bytes=10_000)
        letters(ERROR, [EVENT, {**EVENT, "objectIDs": ["x" * 10_000]}, EVENT])

        assert events_in(path) == [EVENT, EVENT]
        assert "is left out: it is longer than half of max_bytes" in caplog.text


WRITE = """
import sys
from algolia_usertoken import DeadLetters, InvalidEventError
letters = DeadLetters(sys.argv[1], max_bytes=int(sys.argv[2]))
for number in range(300):
    letters(InvalidEventError("no"), [{"objectIDs": [sys.argv[3] + str(number)], "filler": "x" * 50}])
"""


class TestTogether:
    @pytest.mark.slow
    @pytest.mark.parametrize("max_bytes", [100_000_000, 300_000])
    def test_processes_and_threads_lose_no_line_and_break_none(self, max_bytes: int, path: pathlib.Path) -> None:
        letters = DeadLetters(path, max_bytes=max_bytes)

        def write(name: str) -> None:
            for number in range(300):
                letters(ERROR, [{"objectIDs": [f"{name}{number}"], "filler": "x" * 50}])

        command = [sys.executable, "-c", WRITE, str(path), str(max_bytes)]
        processes = [subprocess.Popen([*command, name]) for name in "ab"]
        threads = [threading.Thread(target=write, args=(name,)) for name in "cd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [process.wait(PATIENCE) for process in processes] == [0, 0]

        files = [one for one in (before(path), path) if one.exists()]
        kept = [event["objectIDs"][0] for one in files for event in events_in(one)]
        assert len(kept) == len(set(kept)) == 1200

    def test_a_kill_at_any_moment_breaks_at_most_the_line_that_was_being_written(self, path: pathlib.Path) -> None:
        endless = WRITE.replace("range(300)", "range(10**9)")
        for name in "abc":
            process = subprocess.Popen([sys.executable, "-c", endless, str(path), "60000", name])

            def has_renamed_and_written(name: str = name) -> bool:
                with contextlib.suppress(FileNotFoundError):  # the process has renamed it at this moment
                    return before(path).exists() and f'["{name}' in path.read_text()
                return False

            try:
                wait_until(has_renamed_and_written)
            finally:
                process.kill()
                process.wait(PATIENCE)
        DeadLetters(path)(ERROR, [EVENT])

        broken = 0
        for one in (before(path), path):
            for line in one.read_bytes().splitlines():
                try:
                    json.loads(line)
                except ValueError:
                    broken += 1
        assert broken <= 3

    def test_a_forked_child_writes_as_its_parent(self, path: pathlib.Path) -> None:
        letters = DeadLetters(path)
        letters(ERROR, [EVENT])
        child = os.fork()
        if not child:
            letters(ERROR, [EVENT])
            os._exit(0)
        os.waitpid(child, 0)
        letters(ERROR, [EVENT])

        assert len(read(path)) == 3

    def test_a_process_that_keeps_the_file_locked_costs_a_moment_and_no_line(self, path: pathlib.Path) -> None:
        letters = DeadLetters(path)
        letters(ERROR, [EVENT])
        with path.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            for _ in range(1000):  # had each to wait, it would take minutes
                letters(ERROR, [EVENT])

        assert len(read(path)) == 1001

    def test_one_that_is_moved_away_before_it_is_locked_gets_no_line(
        self, path: pathlib.Path, when_locked: Callable[[Callable[[], object]], None]
    ) -> None:
        letters = DeadLetters(path)
        letters(ERROR, [EVENT])
        when_locked(lambda: before(path).exists() or path.rename(before(path)))
        letters(ERROR, [EVENT, EVENT])

        assert [len(read(one)) for one in (before(path), path)] == [1, 2]

    def test_one_that_is_moved_away_again_and_again_is_given_up(
        self,
        path: pathlib.Path,
        when_locked: Callable[[Callable[[], object]], None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        when_locked(lambda: path.rename(before(path)))
        DeadLetters(path)(ERROR, [EVENT])

        said = "nothing can be written: OSError: other processes rename it again and again"
        assert [record.message for record in caplog.records] == [f"dead letters {path}: {said}"]

    def test_one_that_another_process_makes_at_the_same_moment_is_shared(
        self, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.open

        def slower(name: Any, flags: int, *mode: Any, **more: Any) -> int:
            if flags & os.O_CREAT and not path.exists():
                path.write_bytes(b"{}\n")
            return real(name, flags, *mode, **more)

        monkeypatch.setattr(os, "open", slower)
        DeadLetters(path)(ERROR, [EVENT])
        monkeypatch.undo()

        assert [line.get("event") for line in read(path)] == [None, EVENT]

    def test_a_signal_handler_that_comes_amid_a_call_may_call_it_too(self, path: pathlib.Path) -> None:
        letters = DeadLetters(path)
        inner = 0

        def handler(*_: Any) -> None:
            nonlocal inner
            inner += 1
            letters(ERROR, [EVENT])
            signal.setitimer(signal.ITIMER_REAL, 0.001)  # only now: it must not interrupt itself without end

        old = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        try:
            outer, until = 0, time.monotonic() + PATIENCE
            while inner < 100 and time.monotonic() < until:
                letters(ERROR, [EVENT])
                outer += 1
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)

        assert len(read(path)) == inner + outer
        assert inner >= 100


FULL = """
import json, logging, resource, sys
from algolia_usertoken import DeadLetters, InvalidEventError
logging.basicConfig(format="%(message)s", stream=sys.stdout)
letters = DeadLetters(sys.argv[1])
letters(InvalidEventError("no"), [{"objectIDs": ["1"]}])
resource.setrlimit(resource.RLIMIT_FSIZE, (200, resource.RLIM_INFINITY))
for _ in range(3):
    letters(InvalidEventError("no"), [{"objectIDs": ["x" * 500]}])
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
letters(InvalidEventError("no"), [{"objectIDs": ["2"]}])
"""


class TestWhatGoesWrong:
    def test_a_line_that_there_is_no_room_for_leaves_nothing_behind(self, path: pathlib.Path) -> None:
        command = [sys.executable, "-c", FULL, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)

        assert [event["objectIDs"] for event in events_in(path)] == [["1"], ["2"]]
        assert done.stdout.splitlines() == [f"dead letters {path}: nothing can be written: OSError: File too large"]

    def test_a_line_of_which_nothing_can_be_written_costs_no_other(
        self, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        letters = DeadLetters(path)
        letters(ERROR, [EVENT])
        monkeypatch.setattr(os, "write", full)
        letters(ERROR, [EVENT])
        monkeypatch.undo()
        letters(ERROR, [EVENT])

        assert events_in(path) == [EVENT, EVENT]

    def test_on_a_file_system_without_locks_it_writes_all_the_same(
        self, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def flock(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", flock)
        letters = DeadLetters(path, max_bytes=10_000)
        for _ in range(30):
            letters(ERROR, [EVENT])

        assert len(read(before(path))) + len(read(path)) == 30

    def test_without_locks_and_modes_as_on_windows_it_writes_and_erases(
        self, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "fcntl", None)
        monkeypatch.delattr(os, "fchmod")
        letters = DeadLetters(path, max_bytes=10_000)
        for _ in range(30):
            letters(ERROR, [EVENT])
        letters(ERROR, [{**EVENT, "userToken": "gone"}])

        assert erase(path, ["gone"]) == (1, 0)
        assert len(read(before(path))) + len(read(path)) == 30

    def test_what_are_no_events_is_logged_once_and_never_raised(
        self, path: pathlib.Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        letters: Any = DeadLetters(path)
        for _ in range(3):
            letters(ERROR, None)

        assert [record.message for record in caplog.records] == [
            f"dead letters {path}: nothing can be written: TypeError"
        ]

    @pytest.mark.parametrize(
        ("kind", "said"),
        [
            ("missing directory", "FileNotFoundError: No such file or directory"),
            ("directory", "IsADirectoryError: Is a directory"),
            ("FIFO", "OSError: it is not a file"),
            ("device", "OSError: it is not a file"),
            ("file as a directory", "NotADirectoryError: Not a directory"),
            ("loop", "OSError: Too many levels of symbolic links"),
            ("long name", "OSError: File name too long"),
        ],
    )
    def test_is_logged_once_and_never_raised(
        self, kind: str, said: str, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "there"
        if kind == "missing directory":
            path = path / "failed.ndjson"
        elif kind == "directory":
            path.mkdir()
        elif kind == "FIFO":
            os.mkfifo(path)
        elif kind == "device":
            path = pathlib.Path("/dev/full")
        elif kind == "file as a directory":
            path.touch()
            path = path / "failed.ndjson"
        elif kind == "loop":
            path.symlink_to(path)
        else:
            path = path / ("x" * 5000)
        letters = DeadLetters(path)
        for _ in range(3):
            letters(ERROR, [EVENT])

        assert [record.message for record in caplog.records] == [f"dead letters {path}: nothing can be written: {said}"]

    def test_a_handler_of_logs_that_fails_does_no_harm(self, tmp_path: pathlib.Path) -> None:
        class Fails(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise LookupError

        logger = logging.getLogger("algolia_usertoken.dead_letters")
        logger.addHandler(fails := Fails())
        try:
            DeadLetters(tmp_path / "missing" / "failed.ndjson")(ERROR, [EVENT])
        finally:
            logger.removeHandler(fails)

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({"path": 7}, TypeError),
            ({"path": b"failed"}, TypeError),
            ({"path": ""}, ValueError),
            ({"path": "a\0b"}, ValueError),
            ({"path": "failed", "max_bytes": 9_999}, ValueError),
            ({"path": "failed", "max_bytes": 1e6}, TypeError),
            ({"path": "failed", "max_bytes": True}, TypeError),
        ],
    )
    def test_a_wrong_argument_is_refused(self, arguments: dict[str, Any], error: type[Exception]) -> None:
        with pytest.raises(error, match=r"path|max_bytes"):
            DeadLetters(**arguments)


class TestErase:
    @pytest.fixture
    def letters(self, path: pathlib.Path) -> DeadLetters:
        letters = DeadLetters(path)
        letters(ERROR, [{**EVENT, "userToken": "gone"}, {**EVENT, "userToken": "gone-too"}])
        path.rename(before(path))
        letters(ERROR, [{**EVENT, "userToken": "stays", "authenticatedUserToken": "gone"}, EVENT, {"who": ["gone"]}])
        return letters

    def test_removes_what_names_the_user_from_both_files(self, letters: DeadLetters, path: pathlib.Path) -> None:
        before(path).chmod(0o640)

        assert erase(path, ["gone"]) == (3, 0)

        assert [event["userToken"] for event in events_in(before(path))] == ["gone-too"]
        assert events_in(path) == [EVENT]
        assert [stat.S_IMODE(one.stat().st_mode) for one in (before(path), path)] == [0o640, 0o600]
        assert sorted(one.name for one in path.parent.iterdir()) == [path.name, before(path).name]

    def test_keeps_lines_that_are_no_json_and_counts_them(self, letters: DeadLetters, path: pathlib.Path) -> None:
        with path.open("a") as file:
            file.write('{"event": {"userToken": "gone"\n')

        assert erase(path, {"gone"}) == (3, 1)
        assert path.read_text().splitlines()[-1] == '{"event": {"userToken": "gone"'

    def test_changes_no_file_that_has_nothing_to_remove(self, letters: DeadLetters, path: pathlib.Path) -> None:
        files = [one.stat().st_ino for one in (before(path), path)]

        assert erase(path, ["nobody"]) == (0, 0)
        assert [one.stat().st_ino for one in (before(path), path)] == files

    def test_where_there_is_no_file_says_so_and_makes_none(self, path: pathlib.Path) -> None:
        with pytest.raises(FileNotFoundError):
            erase(path, ["gone"])
        assert list(path.parent.iterdir()) == []

    def test_where_the_file_vanishes_meanwhile_says_so_and_makes_none(
        self, path: pathlib.Path, when_locked: Callable[[Callable[[], object]], None]
    ) -> None:
        path.touch()
        when_locked(path.unlink)

        with pytest.raises(FileNotFoundError):
            erase(path, ["gone"])
        assert list(path.parent.iterdir()) == []

    def test_a_file_that_another_process_keeps_locked_stays_as_it_is(
        self, letters: DeadLetters, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "_ERASING_PATIENCE_S", 0.02)
        with path.open("rb") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            with pytest.raises(OSError, match="another process keeps it locked"):
                erase(path, ["gone"])

        assert [len(read(one)) for one in (before(path), path)] == [2, 3]

    def test_no_line_is_lost_that_is_written_meanwhile(
        self, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("PATIENCE_S", "_ERASING_PATIENCE_S"):  # so that each line is written under the lock
            monkeypatch.setattr(module, name, PATIENCE)
        letters = DeadLetters(path)
        stop = threading.Event()
        written = 0

        def write() -> None:
            nonlocal written
            while not stop.is_set():
                letters(ERROR, [EVENT, {**EVENT, "userToken": f"gone-{written}"}])
                written += 1

        thread = threading.Thread(target=write)
        thread.start()
        removed = 0
        try:
            for _ in range(6):
                wait_until(lambda n=written: written > n)
                removed += erase(path, [f"gone-{number}" for number in range(written)]).removed
        finally:
            stop.set()
            thread.join()
        removed += erase(path, [f"gone-{number}" for number in range(written)]).removed

        assert removed == written
        assert events_in(path) == [EVENT] * written

    def test_no_line_is_lost_that_is_written_without_the_lock_when_the_file_is_gone_already(
        self, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        letters = DeadLetters(path)
        letters(ERROR, [{**EVENT, "userToken": "gone"}])
        append = module._append
        removed: list[int] = []

        def append_late(file: int, data: bytes, size: int | None) -> None:
            if size is None:  # it did not get the lock
                holder.close()
                removed.append(erase(path, ["gone"]).removed)
            append(file, data, size)

        monkeypatch.setattr(module, "PATIENCE_S", 0.02)
        monkeypatch.setattr(module, "_append", append_late)
        with path.open("rb") as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)

            letters(ERROR, [EVENT])

        assert removed == [1]
        assert events_in(path) == [EVENT]


@pytest.fixture(autouse=True)
def _no_file_stays_open(tmp_path: pathlib.Path) -> Iterator[None]:
    """None of this test: other threads of the process, of earlier tests, may open and close what they need."""
    yield
    opened = []
    for descriptor in pathlib.Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of this loop itself, and of other threads
            opened.append(os.readlink(descriptor))
    assert [file for file in opened if file.startswith((str(tmp_path), "/dev/full"))] == []
