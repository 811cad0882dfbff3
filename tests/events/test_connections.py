"""Requests end in time, and their answers have a bound, whatever the peer does."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
import urllib3.util.connection
import vcr
from algoliasearch.http.hosts import Host, HostsCollection
from collector import HTML, Collector
from prelude import config, event
from urllib3.connectionpool import HTTPConnectionPool
from waiting import PATIENCE, wait_until

from algolia_usertoken import (
    Batch,
    BatchRejectedError,
    EventSender,
    InsightsDelivery,
    RetryableDeliveryError,
)
from algolia_usertoken.events import connections
from algolia_usertoken.events.connections import _unpacked
from algolia_usertoken.events.delivery import batch_of

pytestmark = pytest.mark.slow

BATCH = batch_of([b'{"objectIDs":["1"]}'])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

Handler = Callable[[socket.socket], Any]


class Peer:
    """A server on loopback that treats each connection as `handler` says."""

    def __init__(self, handler: Handler, context: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self._handler = handler
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._context is None:
                self._handler(connection)
            else:
                with self._context.wrap_socket(connection, server_side=True) as secured:
                    self._handler(secured)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    """Starts servers, and stops them."""
    started: list[Peer] = []

    def start(handler: Handler, context: ssl.SSLContext | None = None) -> Peer:
        started.append(Peer(handler, context))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificates of `authority` are trusted, as they are behind a company's proxy."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))


def delivery_to(port: int, scheme: str = "http", host: str = "127.0.0.1", **options: Any) -> InsightsDelivery:
    its_config = config(port, **options)
    its_config.hosts = HostsCollection([Host("localhost" if scheme == "https" else host, scheme=scheme, port=port)])
    return InsightsDelivery(its_config)


def read_request(connection: socket.socket) -> bytes:
    """One request, its head and its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536) or _gone()
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
    )
    while len(body) < length:
        body += connection.recv(65536) or _gone()
    return head + b"\r\n\r\n" + body


def _gone() -> bytes:
    raise ConnectionResetError


def answering(*answers: bytes) -> Handler:
    """Answers the requests of a connection one by one, the last answer again and again."""

    def handle(connection: socket.socket) -> None:
        number = 0
        while True:
            read_request(connection)
            connection.sendall(answers[min(number, len(answers) - 1)])
            number += 1

    return handle


def trickling(data: bytes, pause: float = 0.1) -> Handler:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(pause)

    return handle


# Time. Each of these answers ends in a success after 4 to 12 seconds, where each byte has a time-out of its own.

TRICKLES = {
    "status line": b"HTTP/1.1 200 " + b"O" * 30 + b"\r\nContent-Length: 0\r\n\r\n",
    "header": OK.replace(b"\r\n", b"\r\nX: " + b"y" * 40 + b"\r\n", 1),
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 62\r\n\r\n{" + b" " * 60 + b"}",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n1\r\n" * 10 + b"0\r\n\r\n",
    "trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 10 + b"\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + OK,
}


@pytest.mark.parametrize("name", TRICKLES)
def test_an_answer_that_comes_byte_by_byte_ends_with_the_deadline(peer: Callable[..., Peer], name: str) -> None:
    delivery = delivery_to(peer(trickling(TRICKLES[name])).port)
    with pytest.raises(RetryableDeliveryError, match=r"^timed out$"):
        delivery.deliver(BATCH, 0.5)
    delivery.close()


@pytest.mark.usefixtures("trusted")
def test_an_answer_over_tls_that_comes_byte_by_byte_ends_with_the_deadline(
    peer: Callable[..., Peer], context: ssl.SSLContext
) -> None:
    delivery = delivery_to(peer(trickling(TRICKLES["body"]), context).port, "https")
    with pytest.raises(RetryableDeliveryError, match=r"^timed out$"):
        delivery.deliver(BATCH, 1.0)
    delivery.close()


def test_a_body_that_comes_late_ends_with_the_deadline(peer: Callable[..., Peer]) -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(OK[:-2])
        time.sleep(5)
        connection.sendall(OK[-2:])

    delivery = delivery_to(peer(handle).port)
    with pytest.raises(RetryableDeliveryError):
        delivery.deliver(BATCH, 0.3)
    delivery.close()


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_peer_that_reads_slowly_holds_no_request_beyond_its_deadline(
    peer: Callable[..., Peer], context: ssl.SSLContext, scheme: str
) -> None:
    def handle(connection: socket.socket) -> None:
        while connection.recv(20_000):
            time.sleep(0.1)

    server = peer(handle, context if scheme == "https" else None)
    delivery = delivery_to(server.port, scheme)
    with pytest.raises(RetryableDeliveryError, match=r"^timed out$"):
        delivery.deliver(batch_of([b'{"objectIDs":["' + b"x" * 20_000_000 + b'"]}']), 1.0)
    delivery.close()


@pytest.mark.usefixtures("trusted")
def test_a_handshake_that_does_not_come_ends_with_the_deadline(peer: Callable[..., Peer]) -> None:
    delivery = delivery_to(peer(lambda _: time.sleep(5)).port, "https")
    with pytest.raises(RetryableDeliveryError, match=r"^timed out$"):
        delivery.deliver(BATCH, 0.3)
    delivery.close()


def test_the_answer_of_a_proxy_that_comes_byte_by_byte_ends_with_the_deadline(peer: Callable[..., Peer]) -> None:
    proxy = peer(trickling(b"HTTP/1.1 200 Connection established\r\n" + b"X: y\r\n" * 10 + b"\r\n"))
    delivery = delivery_to(1, "https", proxies={"https": f"http://127.0.0.1:{proxy.port}"})
    with pytest.raises(RetryableDeliveryError, match=r"^timed out$"):
        delivery.deliver(BATCH, 0.5)
    delivery.close()


def test_a_look_up_that_hangs_is_left_behind_once(monkeypatch: pytest.MonkeyPatch, collector: Collector) -> None:
    released, asked, real = threading.Event(), [], socket.getaddrinfo

    def hang(host: Any, *rest: Any) -> Any:
        if host != "localhost":
            return real(host, *rest)
        asked.append(host)
        released.wait(60)
        return real("127.0.0.1", *rest)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    delivery = delivery_to(collector.port, host="localhost")

    def is_asked() -> bool:
        with pytest.raises(RetryableDeliveryError, match=r"^timed out$"):
            delivery.deliver(BATCH, 0.05)
        return bool(asked)

    wait_until(is_asked)  # on a busy machine, the time of a request may be over before its look-up begins
    for _ in range(4):
        assert is_asked()
    assert len(asked) == 1
    released.set()
    delivery.deliver(BATCH, 30.0)
    assert collector.counts == {"1": 1}
    delivery.close()


def test_a_child_does_not_wait_for_a_look_up_of_its_parent(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    released, real = threading.Event(), socket.getaddrinfo
    parent = os.getpid()

    def hang_in_the_parent(host: Any, *rest: Any) -> Any:
        if host == "localhost" and os.getpid() == parent:
            released.wait(60)
        return real(host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", hang_in_the_parent)
    delivery = delivery_to(collector.port, host="localhost")
    with pytest.raises(RetryableDeliveryError):
        delivery.deliver(BATCH, 0.05)
    child = os.fork()
    if not child:
        try:
            delivery.deliver(BATCH, 30.0)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    released.set()
    wait_until(lambda: "localhost" not in connections._lookups)  # or the next test would share the look-up
    assert collector.counts == {"1": 1}
    delivery.close()


def test_a_name_that_does_not_resolve_is_said_in_the_system_s_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(RetryableDeliveryError, match=r"^no connection: ConnectionError: Name or service not known$"):
        delivery_to(1, host="localhost").deliver(BATCH, 30.0)


def test_a_look_up_that_ends_in_no_address_or_in_a_fault_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise UnicodeError("label too long")

    for answer in (lambda *_: [], fail):
        monkeypatch.setattr(socket, "getaddrinfo", answer)
        with pytest.raises(RetryableDeliveryError, match=r"^no connection: "):
            delivery_to(1, host="localhost").deliver(BATCH, 30.0)
        assert "localhost" not in connections._lookups


def test_all_addresses_of_a_name_share_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    now = 0.0

    def hang(address: Any, timeout: float, **_: Any) -> Any:
        nonlocal now
        given.append(timeout)
        now += timeout
        raise TimeoutError

    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{number}", 0)) for number in range(1, 50)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
    monkeypatch.setattr(urllib3.util.connection, "create_connection", hang)
    monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=lambda: now))
    with pytest.raises(RetryableDeliveryError, match=r"^timed out$"):
        delivery_to(1, host="localhost", connect_timeout=8_000).deliver(BATCH, 30.0)
    assert given == [8.0, 8.0, 8.0, 6.0]


def test_a_further_address_of_a_name_is_tried_where_the_first_refuses(
    monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    real = socket.getaddrinfo

    def two(host: Any, port: Any, *rest: Any) -> Any:
        if host != "localhost":
            return real(host, port, *rest)
        return real("127.0.0.2", port, *rest) + real("127.0.0.1", port, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", two)
    delivery = delivery_to(collector.port, host="localhost")
    delivery.deliver(BATCH, 30.0)
    assert collector.requests[0].headers["host"] == f"localhost:{collector.port}"
    delivery.close()


@pytest.mark.parametrize("timeout", [0.0, -1.0, 1e-9])
def test_where_there_is_no_time_no_request_is_made(collector: Collector, timeout: float) -> None:
    with pytest.raises(RetryableDeliveryError, match=r"^timed out$"):
        delivery_to(collector.port).deliver(BATCH, timeout)
    assert not collector.requests


@pytest.mark.parametrize("timeout", [None, 1e300, float("inf"), float("nan")])
def test_no_request_has_more_than_30_seconds(collector: Collector, timeout: Any) -> None:
    delivery = delivery_to(collector.port)
    delivery.deliver(BATCH, timeout)
    [transporter] = delivery._idle
    assert 0 < transporter.deadline.left() <= 30
    delivery.close()


# Answers: their size and form.


def test_of_an_answer_without_end_a_megabyte_is_read(peer: Callable[..., Peer]) -> None:
    sent: list[int] = []

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        total = 0
        with contextlib.suppress(OSError):
            while total < 200_000_000:
                total += connection.send(b" " * 65536)
        sent.append(total)

    delivery = delivery_to(peer(handle).port)
    with pytest.raises(RetryableDeliveryError, match=r"^no connection: OSError$"):
        delivery.deliver(BATCH, 30.0)
    wait_until(lambda: sent)
    assert sent[0] < 50_000_000  # what was on its way included
    delivery.close()


@pytest.mark.parametrize(
    "filler",
    [b"1;" + b"x" * 60_000 + b"\r\n \r\n", b"0\r\n" + b"X: " + b"y" * 60_000 + b"\r\n"],
    ids=["chunk", "trailer"],
)
def test_what_surrounds_a_body_counts_too(peer: Callable[..., Peer], filler: bytes) -> None:
    sent: list[int] = []

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        total = 0
        with contextlib.suppress(OSError):
            while total < 200_000_000:
                total += connection.send(filler)
        sent.append(total)

    delivery = delivery_to(peer(handle).port)
    with pytest.raises(RetryableDeliveryError):
        delivery.deliver(BATCH, 30.0)
    wait_until(lambda: sent)
    assert sent[0] < 50_000_000
    delivery.close()


def test_a_bomb_of_gzip_is_unpacked_to_a_megabyte() -> None:
    bomb = gzip.compress(b"[" * 50_000_000)
    assert len(bomb) < 100_000
    assert len(_unpacked(bomb, "gzip")) <= 1_000_000
    assert _unpacked(gzip.compress(b"{}"), "x-gzip") == b"{}"
    assert _unpacked(bomb, "") == bomb
    assert _unpacked(b"no gzip", "gzip") == b"no gzip"


def test_an_answer_in_gzip_is_understood(collector: Collector) -> None:
    collector.answer(422, headers={"Content-Encoding": "gzip"}, body=gzip.compress(b'{"message": "bad event"}'))
    collector.answer(200, headers={"Content-Encoding": "gzip"}, body=gzip.compress(b'{"status": 200}'))
    delivery = delivery_to(collector.port)
    with pytest.raises(BatchRejectedError, match=r"^422: bad event$"):
        delivery.deliver(BATCH, 30.0)
    delivery.deliver(BATCH, 30.0)
    assert collector.connections == 1
    delivery.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 413 Too Large\r\nContent-Length: 5000000\r\n\r\n" + HTML * 20_000,
        b"HTTP/1.1 413 Too Large\r\nContent-Length: 1000\r\n\r\n<html>",
        b"HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\nrubbish",
        b"HTTP/1.1 413 Too Large\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nwhat",
    ],
    ids=["long", "cut off", "no chunk", "no gzip"],
)
def test_a_status_counts_where_what_is_said_with_it_cannot_be_read(peer: Callable[..., Peer], answer: bytes) -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)

    with pytest.raises(BatchRejectedError, match=r"^413: Too Large$"):
        delivery_to(peer(handle).port).deliver(BATCH, 30.0)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n",
        b"rubbish\r\n\r\n",
        b"HTTP/1.1 2xx OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"Content-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 199 What\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /caf\xe9\xff\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
    ],
)
def test_a_malformed_answer_is_no_delivery_and_no_end_of_the_events(peer: Callable[..., Peer], answer: bytes) -> None:
    def handle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)

    delivery = delivery_to(peer(handle).port)
    with pytest.raises(RetryableDeliveryError) as caught:
        delivery.deliver(BATCH, 30.0)
    assert caught.value.__context__ is None
    delivery.close()


def test_what_follows_an_interim_answer_does_not_answer_the_next_request(peer: Callable[..., Peer]) -> None:
    first = threading.Event()

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        if not first.is_set():
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
            first.set()
            time.sleep(0.2)  # until the next request is on its way
            connection.sendall(OK)
            read_request(connection)
        connection.sendall(b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")

    server = peer(handle)
    delivery = delivery_to(server.port)
    with pytest.raises(RetryableDeliveryError, match=r"^103: Early Hints$"):
        delivery.deliver(BATCH, 30.0)
    with pytest.raises(BatchRejectedError):
        delivery.deliver(BATCH, 30.0)
    assert server.connections == 2
    delivery.close()


# Connections.


def test_a_connection_is_kept_for_the_next_request_in_whatever_thread(collector: Collector) -> None:
    delivery = delivery_to(collector.port)
    for _ in range(3):
        thread = threading.Thread(target=delivery.deliver, args=(BATCH, 30.0))
        thread.start()
        thread.join()
    assert collector.connections == 1
    assert len(collector.requests) == 3
    delivery.close()


def test_close_closes_what_is_open_and_what_is_on_its_way(peer: Callable[..., Peer]) -> None:
    ended, asked, go_on = [], threading.Event(), threading.Event()

    def handle(connection: socket.socket) -> None:
        read_request(connection)
        asked.set()
        go_on.wait(60)
        connection.sendall(OK)
        ended.append(connection.recv(1))

    delivery = delivery_to(peer(handle).port)
    thread = threading.Thread(target=delivery.deliver, args=(BATCH, 30.0))
    thread.start()
    assert asked.wait(60)
    delivery.close()
    go_on.set()
    thread.join()
    wait_until(lambda: ended)
    assert ended == [b""]
    delivery.close()


@pytest.mark.usefixtures("trusted")
def test_a_certificate_of_requests_ca_bundle_is_trusted(peer: Callable[..., Peer], context: ssl.SSLContext) -> None:
    server = peer(answering(OK), context)
    delivery = delivery_to(server.port, "https")
    for _ in range(3):
        delivery.deliver(BATCH, 30.0)
    assert server.connections == 1
    delivery.close()


def test_a_certificate_of_nobody_is_not_trusted(peer: Callable[..., Peer], context: ssl.SSLContext) -> None:
    server = peer(answering(OK), context)
    with pytest.raises(RetryableDeliveryError, match=r"^no connection: SSLError"):
        delivery_to(server.port, "https").deliver(BATCH, 30.0)
    assert server.connections == 1  # tried once; when to try again is the sender's to say


@pytest.mark.usefixtures("trusted")
def test_goes_through_the_proxy_of_the_environment_s_https_proxy(
    peer: Callable[..., Peer], context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = []

    def tunnel(connection: socket.socket) -> None:
        heads.append(read_request(connection))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with context.wrap_socket(connection, server_side=True) as secured:
            answering(OK)(secured)

    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{peer(tunnel).port}")
    from algoliasearch.insights.config import InsightsConfig

    its_config = InsightsConfig("APP", "key")
    its_config.hosts = HostsCollection([Host("localhost", scheme="https", port=1)])
    delivery = InsightsDelivery(its_config)
    for _ in range(2):
        delivery.deliver(BATCH, 30.0)
    assert len(heads) == 1
    assert heads[0].startswith(b"CONNECT localhost:1 ")
    delivery.close()


def test_a_proxy_that_wants_a_password_is_tried_again(peer: Callable[..., Peer]) -> None:
    proxy = peer(answering(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"))
    for scheme in ("http", "https"):
        delivery = delivery_to(1, scheme, proxies={scheme: f"http://127.0.0.1:{proxy.port}"})
        with pytest.raises(RetryableDeliveryError):
            delivery.deliver(BATCH, 30.0)
        delivery.close()


# Those who patch what HTTP is made of.


@pytest.mark.parametrize("mode", ["once", "none", "new_episodes", "all"])
def test_a_cassette_of_vcrpy_around_the_application_s_code_holds_no_event_back(
    senders: Callable[..., EventSender], collector: Collector, tmp_path: Path, mode: Any
) -> None:
    events = senders(collector.port, flush_interval=0.0)
    for number in range(5):  # on a connection that is there before it, in it, and after it
        events.send(event(number))
    assert events.flush(PATIENCE)
    with vcr.use_cassette(str(tmp_path / "cassette.yaml"), record_mode=mode) as cassette:
        for number in range(5, 10):
            events.send(event(number))
        assert events.flush(PATIENCE)
        others = senders(collector.port)
        others.send(event(10))
        assert others.flush(PATIENCE)
        assert len(cassette) == 0
    for number in range(11, 15):
        events.send(event(number))
    assert events.flush(PATIENCE)
    assert collector.counts == {str(number): 1 for number in range(15)}
    assert not collector.errors


def test_what_is_imported_in_a_cassette_of_vcrpy_outlives_it(run: Callable[..., Any], collector: Collector) -> None:
    run("import_in_a_cassette.py")
    assert not collector.lost(range(10))
    assert not collector.twice


def test_a_patcher_that_fails_in_the_sender_s_thread_costs_no_event(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no requests in tests, please: jane@example.com")

    delivery = delivery_to(collector.port)
    with monkeypatch.context() as patch:
        patch.setattr("http.client.HTTPConnection.putrequest", refuse)
        with pytest.raises(RetryableDeliveryError, match=r"^no connection: RuntimeError$") as caught:
            delivery.deliver(BATCH, 30.0)
        assert caught.value.__context__ is None
    delivery.deliver(BATCH, 30.0)
    delivery.close()


# gevent.


def test_under_gevent_a_trickle_and_a_look_up_that_hangs_end_with_the_deadline(
    run: Callable[..., Any], collector: Collector, peer: Callable[..., Peer]
) -> None:
    server = peer(trickling(TRICKLES["body"]))
    run(
        "gevent_deadlines.py",
        str(server.port),
    )
    assert collector.counts == {"1": 1}


def test_a_batch_reads_its_events_from_its_text_when_asked() -> None:
    texts = [b'{"objectIDs":["1"]}', '{"objectIDs":["é"]}'.encode()]
    batch = batch_of(texts)
    assert batch.body == b'{"events":[' + b",".join(texts) + b"]}"
    assert batch.events == [{"objectIDs": ["1"]}, {"objectIDs": ["é"]}]
    assert batch.events is batch.events
    assert batch == Batch(batch.events, batch.body) != Batch([], b"")
    assert hash(batch) == hash(Batch([], batch.body))
    assert batch != "batch"
    assert "objectIDs" not in repr(batch)
    with pytest.raises(AttributeError):
        batch.body = b""  # type: ignore[misc]


def test_a_proxy_of_another_kind_keeps_its_own_connections() -> None:
    class SocksPool(HTTPConnectionPool):  # as urllib3.contrib.socks has one
        class ConnectionCls(connections.HTTPConnection):
            pass

    equipped = connections._Adapter(connections.Deadline())._equipped(SocksPool)

    assert issubclass(equipped, SocksPool)
    assert equipped.ConnectionCls is SocksPool.ConnectionCls
    assert equipped.QueueCls is connections._Connections  # type: ignore[comparison-overlap]


def test_the_queue_of_connections_says_how_many_there_are() -> None:
    # urllib3 asks where it logs that there is no room, vcrpy where it resets what is kept.
    kept = connections._Connections(10)
    kept.put("connection")

    assert kept.qsize() == 1
    assert kept.get() == "connection"
    assert kept.qsize() == 0
