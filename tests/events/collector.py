"""
A collector of events on loopback that counts each event, and that fails in the ways that real ones do.

It runs in threads of its own, on a free port:

    with Collector() as collector:
        collector.delay = 0.05                        # seconds before each answer
        collector.hang()                              # no more answers, until release()
        collector.answer(429, times=2, headers={"Retry-After": "1"})
        collector.answer(503, seconds=4.0)
        collector.answer(ACCEPT_AND_DROP)             # takes the events, and closes the connection without an answer
        collector.poison("7", "8")                    # 400 for each request that holds one of these
        collector.limit = 100                         # 413 with a page of HTML for more events than this
        collector.keys = {"new key"}                  # 403 for any other
        collector.idle_time = 0.0                     # seconds after an answer until an idle connection is closed
        collector.drip = 0.2                          # seconds between two bytes of an answer

An event's id is the first of its `objectIDs`. `counts` says how often each arrived, in requests that were answered with
200 or taken by `ACCEPT_AND_DROP`.
"""

from __future__ import annotations

import collections
import contextlib
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

DROP = 0  # close the connection without an answer
ACCEPT_AND_DROP = -1  # take the events, then do so
HTML = b"<html><body><h1>Request Entity Too Large</h1></body></html>"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    delay: float = 0.0


@dataclass(frozen=True)
class Arrived:
    """One request, and what it was answered."""

    time: float  # monotonic seconds
    method: str
    path: str
    headers: Mapping[str, str]
    size: int  # bytes, unpacked
    ids: Sequence[str]
    status: int


class Collector:
    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.delay = 0.0
        self.limit: int | None = None
        self.keys: set[str] | None = None
        self.idle_time: float | None = None
        self.drip: float | None = None
        self.choose: Callable[[Sequence[str]], Answer | None] | None = None
        self.keep_events = False
        self.events: list[dict[str, Any]] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.requests: list[Arrived] = []
        self.errors: list[str] = []
        self.in_doubt: set[str] = set()  # ids of events that were taken, and whose sender got no answer
        self.connections = 0  # so far
        self.held = 0  # requests that came while it answered none
        self._answers: collections.deque[Answer] = collections.deque()
        self._for_now: tuple[float, Answer] | None = None
        self._until: float | None = None  # known with the first request: a busy machine may be late with it
        self._poisoned: set[str] = set()
        self._released = threading.Event()
        self._released.set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._closing = False

    def __enter__(self) -> Collector:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Collector:
        self._closing = False
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=512)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        self._closing = True
        self._released.set()
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.close_connections()

    def close_connections(self) -> None:
        """Close those that are open, without a word."""
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    # What it is told.

    def hang(self) -> None:
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    def poison(self, *ids: str) -> None:
        self._poisoned.update(ids)

    def answer(
        self,
        status: int,
        *,
        times: int = 1,
        seconds: float | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> None:
        """Answer like this, for so many requests or, counted from the next one, for so many seconds."""
        answer = Answer(status, headers or {}, body)
        if seconds is None:
            self._answers.extend([answer] * times)
        else:
            self._for_now, self._until = (seconds, answer), None

    # What it saw.

    @property
    def open_connections(self) -> int:
        with self._lock:
            return len(self._open)

    @property
    def ids(self) -> set[str]:
        return set(self.counts)

    @property
    def twice(self) -> set[str]:
        return {name for name, count in self.counts.items() if count > 1}

    def lost(self, expected: range | Sequence[str]) -> set[str]:
        return {str(name) for name in expected} - set(self.counts)

    def wait_for(self, count: int) -> bool:
        """Wait until this many events have arrived."""
        return self.wait_until(lambda: sum(self.counts.values()) >= count)

    def wait_until(self, true: Callable[[], Any]) -> bool:
        deadline = time.monotonic() + 120.0  # what takes longer hangs, on a busy machine too
        while not true():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    # How it works.

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(connection)
        try:
            with connection, connection.makefile("rb") as file:
                while not self._closing and self._serve_one(connection, file):
                    connection.settimeout(self.idle_time or None)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open.discard(connection)

    def _serve_one(self, connection: socket.socket, file: Any) -> bool:
        line = file.readline()
        connection.settimeout(None)
        if not line:
            return False
        method, _, rest = line.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0]
        if not path.startswith("/"):
            return False  # no HTTP: TLS, say
        headers = {}
        while (line := file.readline().strip()) and b":" in line:
            name, value = line.decode("latin-1").split(":", 1)
            headers[name.lower()] = value.strip()
        body = file.read(int(headers.get("content-length", 0)))
        if len(body) < int(headers.get("content-length", 0)):
            return False  # the sender is gone
        if not self._released.is_set():
            with self._lock:
                self.held += 1
            self._released.wait()
        if self._closing:
            return False
        ids: list[str] = []
        events: list[dict[str, Any]] = []
        try:
            if headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            events = json.loads(body.decode())["events"] if body else []
            ids = [str(event["objectIDs"][0]) for event in events]
            answer = self._decide(ids, headers)
        except (ValueError, KeyError, TypeError, OSError) as error:
            self.errors.append(f"{method} {path}: {error!r}")
            answer = Answer(400, body=b'{"status":400,"message":"no JSON"}')
        if method != "POST" or path != "/1/events":
            self.errors.append(f"{method} {path}")
        time.sleep(answer.delay or self.delay)
        with self._lock:
            self.requests.append(Arrived(time.monotonic(), method, path, headers, len(body), ids, answer.status))
            if answer.status in (200, ACCEPT_AND_DROP):
                self.counts.update(ids)
                if self.keep_events:
                    self.events += events
        if answer.status == ACCEPT_AND_DROP:
            self.in_doubt.update(ids)
        if answer.status in (DROP, ACCEPT_AND_DROP):
            return False
        try:
            self._respond(connection, answer)
        except OSError:
            self.in_doubt.update(ids)
            raise
        return self.idle_time != 0

    def _decide(self, ids: Sequence[str], headers: Mapping[str, str]) -> Answer:
        with self._lock:
            if self._answers:
                return self._answers.popleft()
        if self._for_now is not None:
            seconds, answer = self._for_now
            self._until = self._until or time.monotonic() + seconds
            if time.monotonic() < self._until:
                return answer
        if self.choose is not None and (chosen := self.choose(ids)) is not None:
            return chosen
        if self.keys is not None and headers.get("x-algolia-api-key") not in self.keys:
            return Answer(403, body=b'{"status":403,"message":"Invalid Application-ID or API key"}')
        if self.limit is not None and len(ids) > self.limit:
            return Answer(413, {"Content-Type": "text/html"}, HTML)
        poisoned = self._poisoned.intersection(ids)
        if poisoned:
            return Answer(400, body=json.dumps({"status": 400, "message": f"poisoned: {min(poisoned)}"}).encode())
        return Answer(200)

    def _respond(self, connection: socket.socket, answer: Answer) -> None:
        body = answer.body
        if body is None:
            body = json.dumps(
                {"status": answer.status, "message": "OK" if answer.status == 200 else "told to"}
            ).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        response = f"HTTP/1.1 {answer.status} Told\r\n{head}\r\n".encode("latin-1") + body
        if self.drip is None:
            connection.sendall(response)
            return
        for byte in response:
            connection.sendall(bytes([byte]))
            time.sleep(self.drip)
