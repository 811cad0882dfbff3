"""algolia-usertoken send: events from files, each told of by its line, and none twice."""

from __future__ import annotations

import collections
import contextlib
import errno
import gzip
import http.server
import io
import json
import os
import pathlib
import pty
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ports import free_port
from waiting import PATIENCE, wait_until

from algolia_usertoken import DeadLetters, EventSender, MemoryDelivery
from algolia_usertoken.cli import main
from algolia_usertoken.events import backfill, reading
from algolia_usertoken.events.reading import Item, UnreadableError, event_of, items_of
from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.slow

COMMAND = [sys.executable, "-m", "algolia_usertoken", "send"]
# The same, but after Ctrl-C it waits for the current request as long as it takes.
PATIENT_COMMAND = [
    *(sys.executable, "-c"),
    f"import sys; from algolia_usertoken.cli import main, send; send._PATIENCE_AT_END = {PATIENCE}; sys.exit(main())",
    "send",
]
DAY = 24 * 60 * 60 * 1000


def event(name: int | str, **more: Any) -> dict[str, Any]:
    made = {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": [str(name)], "userToken": "u"}
    return made | {"timestamp": int(time.time() * 1000) - 1000} | more


def ndjson(*events: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in events)


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def short(value: object) -> str:
    """The name of a case."""
    return repr(value)[:40]


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "orders.ndjson"


class Algolia(http.server.ThreadingHTTPServer):
    """Counts the objects of the events that it accepts, and refuses a request with an object "bad…" in it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: collections.Counter[str] = collections.Counter()
        self.requests = 0
        self.pause = 0.0
        self.status = 200
        self.most_answers = sys.maxsize  # further requests are taken, and answered only once `released` is set
        self.released = threading.Event()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Algolia
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        events = json.loads(self.rfile.read(int(self.headers["content-length"])))["events"]
        names = [one["objectIDs"][0] for one in events]
        self.server.requests += 1
        is_held, released = self.server.requests > self.server.most_answers, self.server.released
        status, message = self.server.status, "no"
        if status == 200 and any(name.startswith("bad") for name in names):
            status, message = 422, "objectIDs: not of this shop"
        if status == 200:
            self.server.received.update(names)
        if is_held:
            released.wait(PATIENCE)
        time.sleep(self.server.pause)
        answer = json.dumps({"status": status, "message": message}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def algolia() -> Iterator[Algolia]:
    with Algolia() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def _full_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is not full waits for the end of the input, however slowly that is read."""
    monkeypatch.setattr(backfill, "_FLUSH_INTERVAL_S", PATIENCE)


@pytest.fixture
def send(algolia: Algolia, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str], list[str]]]:
    """Runs the command; its exit code, and the lines of its output and of what it says of errors."""

    def run(*arguments: object, host: str | None = None) -> tuple[int, list[str], list[str]]:
        code = main(["send", *map(str, arguments), "--host", host or algolia.host])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


def read(content: bytes) -> list[Item]:
    return list(items_of(io.BytesIO(content)))


class TestReading:
    ONE, TWO = {"a": 1}, {"b": [1, "ö"]}

    @pytest.mark.parametrize(
        ("content", "lines"),
        [
            (b'{"a": 1}\n{"b": [1, "\xc3\xb6"]}\n', [1, 2]),
            (b'{"a": 1}\n{"b": [1, "\xc3\xb6"]}', [1, 2]),
            (b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \r\n {"b": [1, "\\u00f6"]} \r\n\r\n', [1, 4]),
            (b'[{"a": 1}, {"b": [1, "\xc3\xb6"]}]', [1, 1]),
            (b'\xef\xbb\xbf\n\n [\r\n  {"a":\n 1},\n  {"b": [1, "\xc3\xb6"]}\n]\n\n', [4, 6]),
        ],
    )
    @pytest.mark.parametrize("packed", ["as it is", "gzip", "gzip in parts", "gzip twice"])
    def test_ndjson_and_arrays_are_read_with_their_lines(self, content: bytes, lines: list[int], packed: str) -> None:
        if packed == "gzip in parts":
            content = gzipped(content[:7]) + gzipped(content[7:])
        elif packed != "as it is":
            content = gzipped(content)

        if packed == "gzip twice":
            assert all(item.wrong for item in read(gzipped(content)))  # who does so is told
            return
        assert read(content) == [Item(1, lines[0], self.ONE), Item(2, lines[1], self.TWO)]

    @pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b" \r\n", b"[]", b" [ ]\n", gzipped(b"")])
    def test_an_empty_file_has_no_events(self, content: bytes) -> None:
        assert read(content) == []

    @pytest.mark.parametrize("indent", [None, 1])  # on one line, which is read as a whole, and on several
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 64])
    def test_an_array_that_comes_in_pieces_cut_anywhere(
        self, size: int, indent: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "_CHUNK", size)
        values = [*(-1.5e300, 0, 123456, True, None, 'ö\\"\n😀', [], {}), {"long": "x" * 1000, "n": [[1], 2]}]
        content = json.dumps(values, ensure_ascii=False, indent=indent).encode()

        class Pieces(io.BytesIO):
            def read(self, many: int | None = -1) -> bytes:
                return super().read(size)

            read1 = read  # type: ignore[assignment]

        found = [item.value for item in items_of(Pieces(content))]
        assert found == json.loads(content)

    @pytest.mark.parametrize(
        ("line", "wrong"),
        [
            (b"garbage", "is not JSON"),
            (b"\x00\x01\x02", "is not JSON"),
            (b'{"a": "\xff"}', "is not UTF-8"),
            (b'{"a": 1} {"b": 2}', "is not JSON"),
            (b'{"a": 1', "is not JSON"),
            (b"[" * 100_000, "is nested too deeply"),
            (b'{"a":' * 100_000, "is nested too deeply"),
            (b"1" * 5000, "is not JSON"),
        ],
        ids=short,
    )
    def test_a_line_that_can_not_be_read_costs_no_other(self, line: bytes, wrong: str) -> None:
        assert read(b'{"a": 1}\n' + line + b'\n{"a": 1}\n') == [
            Item(1, 1, self.ONE),
            Item(2, 2, None, wrong),
            Item(3, 3, self.ONE),
        ]

    def test_a_line_without_an_end_costs_no_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "MOST_BYTES", 1000)

        assert read(b"x" * 5_000_000 + b'\n{"a": 1}\n') == [
            Item(1, 1, None, "has more than 1,000 bytes"),
            Item(2, 2, self.ONE),
        ]

    def test_json_over_several_lines_is_told_how_to_mend_it(self) -> None:
        assert "jq -c" in (read(json.dumps(self.ONE, indent=1).encode())[0].wrong or "")

    @pytest.mark.parametrize(
        ("content", "line", "why"),
        [
            (b'[{"a": 1},\n{"a": 1', 2, "is not JSON"),
            (b'[{"a": 1}\n', 2, "ends before the array"),
            (b'[{"a": 1},\n', 2, "ends before the array"),
            (b"[", 1, "ends before the array"),
            (b'[\n{"a": 1}\n{"a": 1}]', 3, "a comma must come here"),
            (b'[{"a": 1}]\n{"a": 1}\n', 2, "after the end of the array"),
            (b"[\n" + b"[" * 100_000, 2, "nested too deeply"),
            (b"[garbage" + b" " * 100 + b"]", 1, "is not JSON"),
            (b'["' + b"x" * 5000, 1, "more than 1,000 characters"),
            ("[]".encode("utf-16"), 1, "UTF-16"),
            (gzipped(b'{"a": 1}\n' * 1000)[:-4], 1000, "ends too early"),
            (gzipped(b'{"a": 1}\n' * 1000)[:-8] + b"12345678", 1000, "damaged"),
            (b"\x1f\x8bgarbage and more of it", 0, "damaged"),
        ],
        ids=short,
    )
    def test_where_the_rest_can_not_be_read_it_says_where(
        self, content: bytes, line: int, why: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if why.startswith("more"):
            monkeypatch.setattr(reading, "MOST_BYTES", 1000)
            monkeypatch.setattr(reading, "_CHUNK", 100)

        with pytest.raises(UnreadableError, match=why) as caught:
            read(content)
        assert caught.value.line == line

    def test_where_the_disk_fails_it_says_where(self) -> None:
        class Failing(io.BytesIO):
            def read1(self, size: int | None = -1) -> bytes:
                if self.tell() == len(self.getvalue()):
                    raise OSError(errno.EIO, "Input/output error")
                return super().read1(size)

        found = items_of(Failing(b'{"a": 1}\n{"a"'))

        assert next(found) == Item(1, 1, self.ONE)
        with pytest.raises(UnreadableError, match="Input/output error") as caught:
            next(found)
        assert caught.value.line == 1

    @pytest.mark.parametrize(
        ("written", "timestamp"),
        [
            ("2026-01-02T03:04:05.678+00:00", 1767323045678),
            ("2026-01-02T04:04:05.678+01:00", 1767323045678),
            ("2026-01-02T03:04:05.678", None),  # of which time zone is not known
            ("yesterday", None),
            (1767323045678, None),
            (None, None),
        ],
    )
    def test_a_dead_letter_dates_its_event(self, written: object, timestamp: int | None) -> None:
        letter = {"time": written, "reason": "no", "event": {"eventName": "Seen"}}
        dated = {"time": written, "reason": "no", "event": {"eventName": "Seen", "timestamp": 5}}

        assert event_of(letter).get("timestamp") == timestamp
        assert event_of(dated) == {"eventName": "Seen", "timestamp": 5}

    @pytest.mark.parametrize("value", [7, {"event": {}}, {"eventType": "view", "event": {}, "reason": "no"}], ids=str)
    def test_what_is_no_dead_letter_is_the_event_itself(self, value: object) -> None:
        assert event_of(value) is value


class TestWhatIsSent:
    @pytest.mark.usefixtures("_full_batches")
    def test_all_of_it_in_the_order_of_the_file(
        self, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(*map(event, range(2500))))

        assert send(path) == (0, ["2,500 events accepted, 0 refused."], [])
        assert list(algolia.received) == [str(name) for name in range(2500)]
        assert algolia.requests == 3
        assert list(path.parent.iterdir()) == [path]  # the count beside it is gone

    def test_what_is_refused_is_told_by_its_line_and_costs_no_other(
        self, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        good = [event(name) for name in range(1500)]
        lines = [
            *good[:700],
            event("secret-object", index=7),
            event(1, userToken="jane@example.com"),
            event("bad, says Algolia"),
            event(1, timestamp=int(time.time() * 1000) - 31 * DAY),
            [event(1)],
            event(1, colour=float("nan")),
            event("\ud800"),
            {key: value for key, value in event(1).items() if key != "userToken"},
            *good[700:],
        ]
        path.write_bytes(ndjson(*lines))

        code, out, err = send(path)

        assert (code, out) == (1, ["1,500 events accepted, 8 refused."])
        assert sorted(algolia.received) == sorted(str(name) for name in range(1500))
        told = {int(line.split(":")[1]): line.split(": ", 1)[1] for line in err}
        assert sorted(told) == [701, 702, 703, 704, 705, 706, 707, 708]
        assert all(line.startswith(f"{path}:") for line in err)
        assert told[701].startswith("index must be the name of an index")
        assert told[703] == "422: objectIDs: not of this shop"
        assert told[704].startswith("timestamp is more than 30 days ago")
        assert told[705] == "an event must be a mapping, not list"
        assert told[708].startswith("nobody to attribute the event")
        assert not re.search("jane|secret-object", "".join(err))

    def test_an_array_packed_with_gzip_under_any_name(
        self, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(gzipped(json.dumps([event(1), event(2, index=7), event(3)], indent=2).encode()))

        code, _, (line,) = send(path)

        assert code == 1
        assert line.startswith(f"{path}:12: index must")
        assert sorted(algolia.received) == ["1", "3"]

    def test_dead_letters_are_sent_as_their_events_dated_when_they_were_refused(
        self, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "failed.ndjson"
        started = int(time.time() * 1000)
        with EventSender(
            delivery=MemoryDelivery(), user_token="u", background=False, on_error=DeadLetters(path)
        ) as events:
            events.clicked_object_ids("Clicked", None, ["1"])  # type: ignore[arg-type]
        refused = int(time.time() * 1000)
        letter = json.loads(path.read_bytes())
        letter["event"]["userToken"] = "u-1"
        path.write_bytes(ndjson(letter))

        with LocalAlgolia() as local:
            assert main(["send", str(path), "--index", "products", "--host", f"127.0.0.1:{local.port}"]) == 0
            (arrived,) = local.events

        assert (arrived.event_name, arrived.user_token, arrived.index) == ("Clicked", "u-1", "products")
        assert started <= arrived.event["timestamp"] <= refused
        assert capsys.readouterr().out == "1 event accepted, 0 refused.\n"

    def test_an_index_for_events_that_name_none_and_a_time_for_those_without(
        self, path: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        bare = {key: value for key, value in event(1).items() if key not in ("index", "timestamp")}
        usage = {"eventType": "instantsearch", "eventName": "__start__", "userToken": "u"}
        path.write_bytes(ndjson(event(1), bare, usage))
        started = int(time.time() * 1000)

        with LocalAlgolia() as local:
            assert main(["send", str(path), "--index", "others", "--host", f"127.0.0.1:{local.port}"]) == 0
            first, second = local.events

        assert (first.index, second.index) == ("products", "others")
        assert started <= second.event["timestamp"] <= time.time() * 1000
        assert capsys.readouterr().out == (
            "3 events accepted, 0 refused.\nThat includes 2 events without a timestamp, counted as happening now.\n"
        )

    def test_in_a_thread_that_may_not_handle_signals(
        self, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(event(1)))
        with ThreadPoolExecutor() as threads:
            assert threads.submit(send, path).result(PATIENCE) == (0, ["1 event accepted, 0 refused."], [])

        assert list(algolia.received) == ["1"]

    @pytest.mark.usefixtures("_full_batches")
    def test_several_files_and_the_input(
        self, path: pathlib.Path, algolia: Algolia, monkeypatch: pytest.MonkeyPatch, send: Callable[..., Any]
    ) -> None:
        path.write_bytes(ndjson(event(1), event(2)))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(gzipped(ndjson(event(3), 7)))))

        code, out, err = send(path, "-")

        assert (code, out) == (1, ["3 events accepted, 1 refused."])
        assert err == ["-:2: an event must be a mapping, not int"]
        assert algolia.requests == 1

    def test_a_pipe_is_read_as_it_comes(self, tmp_path: pathlib.Path, algolia: Algolia) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        process = subprocess.Popen([*COMMAND, str(pipe), "--host", algolia.host], stdout=subprocess.PIPE)
        try:
            with pipe.open("wb", buffering=0) as end:
                end.write(ndjson(event(1)))
                wait_until(lambda: algolia.received)  # before the pipe has ended
                end.write(ndjson(event(2)))
            assert process.communicate(timeout=PATIENCE)[0] == b"2 events accepted, 0 refused.\n"
        finally:
            process.kill()
            process.wait()

    def test_what_is_written_to_the_file_meanwhile_is_sent_too(
        self, path: pathlib.Path, algolia: Algolia, send: Callable[..., Any]
    ) -> None:
        path.write_bytes(ndjson(*map(event, range(20_000))))
        algolia.most_answers = 0  # the command can't read to the end before the first answer

        def write() -> None:
            wait_until(lambda: algolia.requests)
            with path.open("ab") as file:
                file.write(ndjson(event("late")))
            algolia.released.set()

        thread = threading.Thread(target=write)
        thread.start()
        code, *_ = send(path)
        thread.join()

        assert (code, algolia.received["late"], len(algolia.received)) == (0, 1, 20_001)

    def test_a_dry_run_sends_nothing_needs_no_key_and_tells_the_same(
        self,
        path: pathlib.Path,
        algolia: Algolia,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.delenv("ALGOLIA_APP_ID", raising=False)
        monkeypatch.delenv("ALGOLIA_API_KEY", raising=False)
        path.write_bytes(ndjson(event(1), event(2, index=None)))

        assert main(["send", "--dry-run", str(path)]) == 1

        out, err = capsys.readouterr()
        assert out == "1 event would be sent, 1 refused.\n"
        assert err.startswith(f"{path}:2: index is missing: it must be the name of an index")
        assert algolia.requests == 0

    def test_a_damaged_file_is_sent_as_far_as_it_can_be_read(
        self, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(gzipped(ndjson(*map(event, range(5000))))[:-4])

        code, _, err = send(path)

        assert code == 2
        assert err == [f"{path}:5000: the gzip data ends too early"]
        assert len(algolia.received) == 5000


class TestWhatCanNotBeSent:
    @pytest.mark.parametrize("status", [401, 403])
    def test_with_a_wrong_key_it_ends_at_once(
        self, status: int, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(*map(event, range(10_000))))
        algolia.status = status

        code, out, err = send(path)

        assert (code, out, algolia.requests) == (2, [], 1)
        assert err == [
            (
                "algolia-usertoken: the key is not accepted: it must be one of this application, with the ACL `search` "
                f"({status}: no). 0 events accepted, 0 refused so far. --resume goes on from there."
            )
        ]

    def test_without_a_way_it_gives_up_after_a_while(
        self, path: pathlib.Path, send: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path.write_bytes(ndjson(*map(event, range(10_000))))

        class GivesUpSoon(backfill.Backfill):
            """It has half a second of patience once a request has failed."""

            def _goes_on(self) -> bool:
                if self._sending.last_error is not None:
                    self._patience_s = 0.5
                return super()._goes_on()

        monkeypatch.setattr(backfill, "Backfill", GivesUpSoon)

        code, out, err = send(path, host=f"127.0.0.1:{free_port()}")

        assert (code, out) == (2, [])
        assert err[0].startswith("algolia-usertoken: Algolia can't be reached (no connection: ")

    def test_what_passes_is_tried_again(self, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia) -> None:
        path.write_bytes(ndjson(event(1)))
        algolia.status = 503

        def mend() -> None:
            wait_until(lambda: algolia.requests > 1)
            algolia.status = 200

        thread = threading.Thread(target=mend)
        thread.start()
        assert send(path)[0] == 0
        thread.join()

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["missing"], "missing: No such file or directory"),
            (["."], ".: Is a directory"),
            (["a\0b"], "a\\x00b: a file cannot have this name"),
            (["orders.ndjson", "missing"], "missing: No such file or directory"),
            (["orders.ndjson", "./orders.ndjson"], "./orders.ndjson: is given twice"),
            (["--resume", "-"], "-: --resume works only with files, and this is not a file"),
        ],
    )
    def test_what_is_no_file_is_told_before_anything_is_sent(
        self,
        arguments: list[str],
        said: str,
        path: pathlib.Path,
        send: Callable[..., Any],
        algolia: Algolia,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        path.write_bytes(ndjson(event(1)))
        monkeypatch.chdir(path.parent)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))

        assert send(*arguments) == (2, [], [f"algolia-usertoken: {said}"])
        assert algolia.requests == 0

    def test_without_an_input_that_is_told(
        self, send: Callable[..., Any], algolia: Algolia, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", None)  # as under pythonw, or with the input closed

        assert send("-") == (2, [], ["algolia-usertoken: there is no input to read events from"])
        assert algolia.requests == 0

    def test_a_file_that_is_removed_before_its_turn_is_told(
        self, path: pathlib.Path, tmp_path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(event(1)))
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)

        def feed() -> None:
            with pipe.open("wb") as file:  # it waits until the pipe is read, and all files were looked at before
                path.unlink()
                file.write(ndjson(event(2)))

        thread = threading.Thread(target=feed, daemon=True)
        thread.start()

        assert send(pipe, path) == (2, ["1 event accepted, 0 refused."], [f"{path}:1: No such file or directory"])
        assert list(algolia.received) == ["2"]
        thread.join(PATIENCE)

    def test_without_a_key_it_says_what_is_missing(
        self, path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("ALGOLIA_APP_ID", raising=False)
        path.write_bytes(ndjson(event(1)))

        assert main(["send", str(path)]) == 2
        assert capsys.readouterr().err == "algolia-usertoken: --app-id is missing: give it, or set ALGOLIA_APP_ID\n"

    @pytest.mark.parametrize("option", ["--res", "--dry", "--ind=x", "--api=key"])
    def test_an_abbreviated_option_is_none(
        self, option: str, path: pathlib.Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            main(["send", str(path), option])
        assert "unrecognized arguments" in capsys.readouterr().err

    @pytest.mark.parametrize("device", ["/dev/full", "a pipe that nobody reads"])
    def test_an_output_that_takes_nothing_ends_it_without_a_traceback(
        self, device: str, path: pathlib.Path, algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(*([7] * 1000)))
        reading_end, writing_end = os.pipe()
        os.close(reading_end)
        with open("/dev/full", "wb") if device == "/dev/full" else os.fdopen(writing_end, "wb") as out:
            done = subprocess.run(
                [*COMMAND, str(path), "--host", algolia.host], stdout=out, stderr=out, check=False, timeout=PATIENCE
            )
        assert done.returncode in (2, 120, 141)  # 120: Python's own, where even stderr is full


ROUNDS = 5


class TestResuming:
    def test_after_kills_at_any_moment_no_event_is_lost_and_one_request_doubled_by_each(
        self, path: pathlib.Path, algolia: Algolia
    ) -> None:
        number = 15_000
        bad = set(range(500, number, 5003))
        path.write_bytes(ndjson(*(event(f"bad-{name}" if name in bad else name) for name in range(number))))
        algolia.pause = 0.01
        luck = random.Random(7)
        command = [*COMMAND, str(path), "--resume", "--host", algolia.host]
        kills = 0
        for _ in range(ROUNDS):
            before = algolia.requests
            # So few answers do not bring a run to its end, however late the kill comes.
            algolia.most_answers, algolia.released = before + 3, threading.Event()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(lambda n=before, p=process: algolia.requests > n or p.poll() is not None)
            time.sleep(luck.random() * 0.3)
            kills += process.poll() is None
            process.kill()
            process.wait(PATIENCE)
            algolia.released.set()
            time.sleep(0.1)  # until the request that was under way is counted
        algolia.most_answers = sys.maxsize
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)

        assert done.returncode in (0, 1), done.stderr
        assert kills == ROUNDS
        assert set(algolia.received) == {str(name) for name in range(number) if name not in bad}
        doubled = sum(algolia.received.values()) - len(algolia.received)
        assert doubled <= kills * 1000
        assert not path.with_name(f"{path.name}.progress").exists()

    @pytest.mark.parametrize("by_another_name", [False, True])
    def test_a_file_that_another_run_is_sending_is_not_sent_and_is_after_that_run_was_killed(
        self, by_another_name: bool, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(*map(event, range(1_500))))
        given = path.with_name("orders") if by_another_name else path
        if by_another_name:
            given.symlink_to(path)
        algolia.pause = PATIENCE  # the answer never comes: the run is killed first
        process = subprocess.Popen([*COMMAND, str(path), "--host", algolia.host], stdout=subprocess.DEVNULL)
        wait_until(lambda: algolia.requests > 0)

        for resume in ([], ["--resume"]):
            code, _, (line,) = send(given, *resume)
            assert code == 2
            assert line == (
                f"algolia-usertoken: {given}: another `algolia-usertoken send` is sending it: "
                "wait until that one has ended"
            )
        assert send(given, "--dry-run")[0] == 0

        process.kill()
        process.wait(PATIENCE)
        algolia.pause = 0.0
        assert send(given)[0] == 0
        assert len(algolia.received) == 1_500
        assert sorted(one.name for one in path.parent.iterdir()) == sorted({path.name, given.name})

    def test_a_file_in_a_directory_where_no_lock_can_be_made_is_sent(
        self, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(event(1)))
        path.with_name(f"{path.name}.progress.lock").mkdir()

        assert send(path)[0] == 0
        assert list(algolia.received) == ["1"]

    @pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
    def test_after_ctrl_c_none_is_lost_and_none_is_doubled(
        self, signum: signal.Signals, path: pathlib.Path, algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(*map(event, range(20_000))))
        algolia.most_answers = 2
        command = [*PATIENT_COMMAND, str(path), "--host", algolia.host]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: algolia.requests > 2)
        algolia.pause = 1.0  # the requests that are left would take 18 seconds
        process.send_signal(signum)
        algolia.released.set()
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130
        assert re.fullmatch(
            r"Interrupted\. [\d,]+ events accepted, 0 refused so far\. --resume goes on from there\.\n", err
        )
        assert len(algolia.received) < 20_000

        again = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert again.returncode == 2
        assert f"{path}: " in again.stderr
        assert "of its events were sent already: use --resume" in again.stderr

        algolia.pause = 0.0
        done = subprocess.run([*command, "--resume"], capture_output=True, text=True, timeout=PATIENCE, check=True)
        assert "were settled by an earlier run." in done.stdout
        assert set(algolia.received.values()) == {1}
        assert len(algolia.received) == 20_000

    def test_what_was_settled_out_of_order_is_not_sent_again(
        self, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(*map(event, range(10))))
        progress = path.with_name(f"{path.name}.progress")
        from algolia_usertoken.cli.done import Done

        done = Done(str(path))
        done.begin(resume=False)
        done.add([1, 2, 5, 6, 9])
        done.write()
        assert json.loads(progress.read_bytes())["also"] == [[5, 6], [9, 9]]

        assert send(path, "--resume")[1] == ["5 events accepted, 0 refused.", "5 were settled by an earlier run."]
        assert list(algolia.received) == ["2", "3", "6", "7", "9"]

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("garbage", "does not say how many events were sent"),
            ('{"sent": "x"}', "does not say how many events were sent"),
            ("[" * 100_000, "does not say how many events were sent"),
            ('{"sent": 1, "also": [], "bytes": 3, "sha256": "0"}', "belongs to another file"),
        ],
    )
    def test_a_count_of_something_else_is_told(
        self, text: str, said: str, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(event(1)))
        path.with_name(f"{path.name}.progress").write_text(text)

        code, _, (line,) = send(path, "--resume")

        assert code == 2
        assert said in line
        assert algolia.requests == 0

    @pytest.mark.parametrize(("content", "said"), [(b"\xff\xfe", "is not text"), (None, "Is a directory")])
    def test_a_count_that_can_not_be_read_is_told(
        self, content: bytes | None, said: str, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(event(1)))
        progress = path.with_name(f"{path.name}.progress")
        progress.mkdir() if content is None else progress.write_bytes(content)

        assert send(path, "--resume") == (2, [], [f"algolia-usertoken: {progress}: {said}"])
        assert algolia.requests == 0

    def test_a_file_that_has_grown_is_still_known(
        self, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path.write_bytes(ndjson(event(1)))
        algolia.status = 403
        send(path)
        from algolia_usertoken.cli.done import Done

        done = Done(str(path))
        done.begin(resume=False)
        done.add([1])
        done.write()
        with path.open("ab") as file:
            file.write(ndjson(event(2)))
        algolia.status = 200

        assert send(path, "--resume")[0] == 0
        assert list(algolia.received) == ["2"]

    def test_where_no_count_can_be_kept_that_is_told_once_and_all_is_sent(
        self, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(*map(event, range(3000))))
        path.with_name(f"{path.name}.progress.new").mkdir()

        code, _, err = send(path)

        assert (code, len(algolia.received)) == (0, 3000)
        why = f"{path}.progress: Is a directory"
        assert err == [f"algolia-usertoken: the progress cannot be saved, so --resume will not work: {why}"]


class TestOnATerminal:
    def test_send_shows_in_80_columns_how_far_it_is(self, path: pathlib.Path, algolia: Algolia) -> None:
        path.write_bytes(ndjson(*map(event, range(5000)), 7, *map(event, range(5000))))
        algolia.pause = 0.05
        parent, child = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, str(path), "--host", algolia.host], stdout=subprocess.DEVNULL, stderr=child
        )
        os.close(child)
        shown = b""
        try:
            while part := os.read(parent, 65_536):
                shown += part
        except OSError:  # of Linux, at the end
            pass
        finally:
            os.close(parent)
        assert process.wait(PATIENCE) == 1

        lines = [line for line in re.split(r"\r\x1b\[K|\r\n", shown.decode()) if line]
        bars = [line for line in lines if line.startswith("[")]
        assert bars
        assert all(
            re.fullmatch(r"\[#*\.*\] +\d+%  [\d,]+ events  [\d,]+/s  [01] refused  \d+:\d\d left", one) for one in bars
        )
        assert max(map(len, bars)) < 80
        assert f"{path}:5001: an event must be a mapping, not int" in lines

    def test_of_an_input_whose_size_is_not_known_it_shows_no_share(
        self, algolia: Algolia, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(ndjson(event(1), event(2)))))
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

        assert main(["send", "-", "--host", algolia.host]) == 0
        assert re.fullmatch(r"(\r\x1b\[K([012] events  [\d,]+/s  0 refused)?)+", capsys.readouterr().err)

    def test_send_shows_nothing_where_its_output_is_piped(
        self, path: pathlib.Path, send: Callable[..., Any], algolia: Algolia
    ) -> None:
        path.write_bytes(ndjson(event(1)))
        algolia.pause = 0.3

        assert send(path)[2] == []


MEMORY = """
import resource, sys
from algolia_usertoken.cli import main
code = main(["send", "--dry-run", "-"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.parametrize("shape", ["NDJSON", "array", "a line without an end", "an event without an end"])
def test_the_memory_of_send_does_not_grow_with_the_file(shape: str) -> None:
    def megabytes(size: int) -> int:
        process = subprocess.Popen([sys.executable, "-c", MEMORY], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        one = json.dumps(event(1)).encode()
        try:
            if shape == "array":
                process.stdin.write(b"[" + one)
            elif shape == "an event without an end":
                process.stdin.write(b'["')
            piece = {"NDJSON": one + b"\n", "array": b"," + one}.get(shape, b"x" * 1000)
            many = piece * (1_000_000 // len(piece))
            for _ in range(size):
                process.stdin.write(many)
            process.stdin.write(b"]" if shape == "array" else b"\n")
            process.stdin.close()
        except BrokenPipeError:  # it has ended, having read enough
            assert shape == "an event without an end"
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        out = process.stdout.read()
        process.stdout.close()
        process.wait(PATIENCE)
        return int(out.splitlines()[-1])

    assert megabytes(60) < megabytes(25) + 8
