"""HTTP requests that end in time, whatever the peer does, and whose answers are bounded in size.

The time-outs of requests and urllib3 apply to single operations: a peer that sends one byte per second, or a name that
resolves to many addresses, can take any amount of time. Here all operations of a request share one deadline, and each
gets the time that is left. A name look-up has no time-out, so it runs in a thread that may be left behind. A request
over an open connection starts no thread and takes no lock.
"""

from __future__ import annotations

import http.client
import io
import math
import netrc  # noqa: F401 - else requests would import it during the first request, which runs in a thread
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

from .threads import start

MAX_ANSWER_BYTES = 1_000_000  # including the headers
MAX_BODY_BYTES = 900_000

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection, HTTPSConnection
else:

    def _as_urllib3_has_it(name: str) -> type:
        """Return urllib3's own class, so that tools that record an application's requests do not record ours.

        Our requests are made at any time. If a patcher such as vcrpy has replaced urllib3's class while this module is
        imported, its replacement is a subclass of the real class.
        """
        found = getattr(urllib3.connection, name)
        return next((base for base in found.__mro__ if base.__module__ == "urllib3.connection"), found)

    HTTPConnection = _as_urllib3_has_it("HTTPConnection")
    HTTPSConnection = _as_urllib3_has_it("HTTPSConnection")


class Deadline:
    """The time by which the current request must have ended."""

    def __init__(self) -> None:
        self._until = -math.inf

    def set(self, seconds: float) -> None:
        """Set the deadline to this many seconds from now."""
        self._until = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._until

    def left(self) -> float:
        """The seconds that are left, more than 0.

        Raises:
            TimeoutError: No time is left.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


class Session(requests.Session):
    """A session for one thread at a time, whose requests keep to `deadline`.

    A request is made once, and redirects are not followed, because their targets accept no events. At most 1,000,000
    bytes of an answer are read, and they are decompressed to at most as many. The body of an error answer may be
    unreadable. `REQUESTS_CA_BUNDLE` and `CURL_CA_BUNDLE` are respected.
    """

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        adapter = _Adapter(deadline)
        self.mount("https://", adapter)
        self.mount("http://", adapter)
        self.headers["accept-encoding"] = "gzip"  # `_unpacked` can decompress it
        # Only requests.Session.request reads these variables, and algoliasearch does not call it.
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class _Adapter(HTTPAdapter):
    """Keeps connections without a lock: a fork could come while a thread holds the lock, and the child's exit needs it.

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
        if connection is not None:  # pools for a SOCKS proxy have connection classes of their own
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
            response.raw.close()  # keeps the connection if the answer was read to its end
        coding = response.headers.get("content-encoding", "").strip().lower()
        response.raw = io.BytesIO(_unpacked(body, coding))
        response.encoding = "utf-8"  # otherwise requests would guess the encoding, which is slow
        return response


def _read(raw: Any) -> bytes:
    body = b""
    while part := raw.read(MAX_BODY_BYTES + 1 - len(body), decode_content=False):
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise OSError("the answer is too long")
    return body


def _unpacked(body: bytes, coding: str) -> bytes:
    """Decompress the body to at most 1,000,000 bytes; a body that cannot be decompressed is returned as it is."""
    if coding not in ("gzip", "x-gzip", "deflate"):
        return body
    try:
        return zlib.decompressobj(wbits=32 + zlib.MAX_WBITS).decompress(body, MAX_ANSWER_BYTES)
    except zlib.error:
        return body


class _Connections:
    """The part of queue.LifoQueue that urllib3 and libraries that patch it need, for one thread at a time."""

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
    deadline: Deadline  # of the current request

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
                    found.settimeout(self.deadline.left())  # for the whole handshake
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
        while rest:  # SSLSocket.sendall would apply its time-out to each part
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
        if self.status < 200:  # else the bytes that follow would be read as the answer to the next request
            self.will_close = True


class _Reader(io.RawIOBase):
    """Reads one answer from a socket, until the deadline and up to the largest size."""

    def __init__(self, raw: Any, sock: Any, deadline: Deadline) -> None:
        self._raw = raw
        self._sock = sock
        self._timeout: float | None = sock.gettimeout()  # of each operation, from the config
        self._deadline = deadline
        self._most = MAX_ANSWER_BYTES  # bytes that may still be read

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


# Unfinished look-ups, by name. Later requests for the same name share a look-up that hangs, so it has only one thread.
_lookups: dict[str, _Lookup] = {}


class _Lookup:
    """A look-up of the addresses of a name."""

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
        OSError: The name has no address, or its addresses are not known in time.
    """
    lookup = _lookups.get(host)
    if lookup is None or lookup.pid != os.getpid():
        lookup = _lookups[host] = _Lookup(host)
        try:
            start(threading.Thread(target=lookup.run, name="algolia-usertoken-name", daemon=True))
        except RuntimeError:  # no thread can start, as the interpreter is exiting
            lookup.run()
    if not lookup.done.wait(deadline.left()):
        raise TimeoutError("timed out")
    if lookup.error is not None:
        raise lookup.error
    return lookup.addresses
