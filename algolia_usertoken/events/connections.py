"""HTTP requests that end in time, whatever the peer does, and whose answers have a bound.

The time-outs of requests and urllib3 are those of single operations: a peer that sends a byte per second, or a name
that resolves to many addresses, takes as long as it likes. Here all operations of a request share one deadline. Each
gets what is left of it; a look-up of a name, which knows no time-out, is made in a thread that may be left behind. A
request over a connection that is open starts no thread and takes no lock.
"""

from __future__ import annotations

import http.client
import io
import math
import netrc  # noqa: F401 - requests imports it at a first request, which is made in a thread
import os
import queue
import socket
import ssl
import threading
import time
import zlib
from functools import partial
from typing import TYPE_CHECKING, Any

import requests
import urllib3.connection
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError

MAX_ANSWER_BYTES = 1_000_000  # with its head
MAX_BODY_BYTES = 900_000

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection, HTTPSConnection
else:

    def _as_urllib3_has_it(name: str) -> type:
        """What is recorded of an application's requests is not to include ours, which are made at any time.

        Where this is imported while a patcher, as vcrpy is, puts a class of its own into the place of urllib3's, that
        class is a subclass of the real one.
        """
        found = getattr(urllib3.connection, name)
        return next((base for base in found.__mro__ if base.__module__ == "urllib3.connection"), found)

    HTTPConnection = _as_urllib3_has_it("HTTPConnection")
    HTTPSConnection = _as_urllib3_has_it("HTTPSConnection")


class Deadline:
    """When the request that is being made must have ended."""

    def __init__(self) -> None:
        self._until = -math.inf

    def set(self, seconds: float) -> None:
        """It must end in so many seconds."""
        self._until = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._until

    def left(self) -> float:
        """Seconds, more than 0.

        Raises:
            TimeoutError: There are none.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class Session(requests.Session):
    """A session for one thread at a time, whose requests keep to `deadline`.

    A request is made once, and a redirect is not followed: where it leads, no event is taken. Of an answer at most
    1,000,000 bytes are read, and unpacked to at most as many; of what it says in an error, nothing need be readable.
    `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE` count.
    """

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        adapter = _Adapter(deadline)
        self.mount("https://", adapter)
        self.mount("http://", adapter)
        self.headers["accept-encoding"] = "gzip"  # what `_unpacked` knows
        # requests.Session.request would look for them, which algoliasearch does not call.
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class _Adapter(HTTPAdapter):
    """Keeps connections without a lock: a fork could come while a thread holds it, and the child needs it to exit.

    https://urllib3.readthedocs.io/en/stable/reference/urllib3.connectionpool.html#urllib3.connectionpool.ConnectionPool
    """

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self._equip(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        known = proxy in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **options)
        return manager if known else self._equip(manager)

    def _equip(self, manager: Any) -> Any:
        manager.pool_classes_by_scheme = {
            scheme: self._equipped(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
        }
        return manager

    def _equipped(self, pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
        attributes: dict[str, Any] = {"QueueCls": _Connections}
        connection = _CONNECTIONS.get(pool)
        if connection is not None:  # those to a SOCKS proxy have their own
            bound = type(connection.__name__, (connection,), {"deadline": self._deadline})
            attributes["ConnectionCls"] = bound
        return type(pool.__name__, (pool,), attributes)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        response = super().send(request, *args, **{**options, "stream": True})
        try:
            body = _read(response.raw)
        except (HTTPError, OSError):
            if response.status_code < 400:
                raise
            body = b""  # the status says enough
        finally:
            response.raw.close()  # if it was read to its end, the connection is kept
        coding = response.headers.get("content-encoding", "").strip().lower()
        response.raw = io.BytesIO(_unpacked(body, coding))
        response.encoding = "utf-8"  # or requests would guess, which takes long
        return response


def _read(raw: Any) -> bytes:
    body = b""
    while part := raw.read(MAX_BODY_BYTES + 1 - len(body), decode_content=False):
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise OSError("the answer is too long")
    return body


def _unpacked(body: bytes, coding: str) -> bytes:
    """At most 1,000,000 bytes, whatever comes out of the body; what cannot be unpacked, as it is."""
    if coding not in ("gzip", "x-gzip", "deflate"):
        return body
    try:
        return zlib.decompressobj(wbits=32 + zlib.MAX_WBITS).decompress(body, MAX_ANSWER_BYTES)
    except zlib.error:
        return body


class _Connections:
    """What urllib3, and those who patch it, need of a queue.LifoQueue, for one thread at a time."""

    def __init__(self, maxsize: int) -> None:
        self._connections: list[Any] = []

    def put(self, connection: Any, block: bool = True) -> None:
        self._connections.append(connection)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return self._connections.pop()
        except IndexError:
            raise queue.Empty from None

    def qsize(self) -> int:
        return len(self._connections)


class _HTTPConnection(HTTPConnection):
    deadline: Deadline  # of the request that is being made

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.response_class: Any = partial(_Response, self.deadline)

    def _new_conn(self) -> socket.socket:
        host, timeout = self._dns_host, self.timeout
        failure: Exception = OSError("the name has no address")
        try:
            for address in _addresses(host, self.deadline):
                left = self.deadline.left()
                self.host, self.timeout = address, left if timeout is None else min(timeout, left)
                try:
                    found = super()._new_conn()
                except (NewConnectionError, ConnectTimeoutError) as error:
                    failure = error
                else:
                    found.settimeout(self.deadline.left())  # of a handshake as a whole
                    return found
        finally:
            self.host, self.timeout = host, timeout
        raise failure

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self.sock.settimeout(self.deadline.left())
        if not isinstance(self.sock, ssl.SSLSocket):
            super().send(data)
            return
        rest = memoryview(data)
        while rest:  # the time-out of SSLSocket.sendall is that of each part
            self.sock.settimeout(self.deadline.left())
            rest = rest[self.sock.send(rest) :]


class _HTTPSConnection(_HTTPConnection, HTTPSConnection):
    pass


_CONNECTIONS: dict[type, type[_HTTPConnection]] = {
    HTTPConnectionPool: _HTTPConnection,
    HTTPSConnectionPool: _HTTPSConnection,
}


class _Response(http.client.HTTPResponse):
    def __init__(self, deadline: Deadline, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp: Any = io.BufferedReader(_Reader(self.fp.detach(), sock, deadline))

    def begin(self) -> None:
        super().begin()
        if self.status < 200:  # what comes after it would be taken for the answer to the next request
            self.will_close = True


class _Reader(io.RawIOBase):
    """Reads one answer from a socket, while there is time and while it is not too long."""

    def __init__(self, raw: Any, sock: Any, deadline: Deadline) -> None:
        self._raw = raw
        self._sock = sock
        self._timeout: float | None = sock.gettimeout()  # of each operation, as the config has it
        self._deadline = deadline
        self._most = MAX_ANSWER_BYTES  # bytes that may still come

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if not self._most:
            raise OSError("the answer is too long")
        left = self._deadline.left()
        self._sock.settimeout(left if self._timeout is None else min(self._timeout, left))
        found: int | None = self._raw.readinto(memoryview(buffer)[: self._most])
        self._most -= found or 0
        return found

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()


# Look-ups that go on, by name. One that hangs is shared by those who ask for the name next, so there is one thread.
_lookups: dict[str, _Lookup] = {}


class _Lookup:
    """The addresses of a name."""

    def __init__(self, host: str) -> None:
        self.pid = os.getpid()
        self.done = threading.Event()
        self.addresses: list[str] = []
        self.error: BaseException | None = None
        self._host = host

    def run(self) -> None:
        try:
            found = socket.getaddrinfo(self._host.strip("[]"), None, 0, socket.SOCK_STREAM)
            self.addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
        except UnicodeError:
            self.error = OSError("a host cannot have that name")
        except BaseException as error:
            self.error = error
        finally:
            _lookups.pop(self._host, None)
            self.done.set()


def _addresses(host: str, deadline: Deadline) -> list[str]:
    """The addresses of a name, within the deadline.

    Raises:
        OSError: It has none, or they are not known in time.
    """
    lookup = _lookups.get(host)
    if lookup is None or lookup.pid != os.getpid():
        lookup = _lookups[host] = _Lookup(host)
        try:
            threading.Thread(target=lookup.run, name="algolia-usertoken-name", daemon=True).start()
        except RuntimeError:  # the interpreter exits
            lookup.run()
    if not lookup.done.wait(deadline.left()):
        raise TimeoutError("timed out")
    if lookup.error is not None:
        raise lookup.error
    return lookup.addresses
