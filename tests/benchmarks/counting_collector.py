"""A server on loopback that counts the events posted to it, fast enough to be nobody's bottleneck.

It runs in a process of its own and parses nothing: an event is one occurrence of `EVENT_NAME` in a body, in whatever
format. To `GET` it answers with the counts so far.
"""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import multiprocessing
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

EVENT_NAME = "Product Clicked"
_MARK = EVENT_NAME.encode()
# What each of the senders takes for a yes.
_ANSWER = json.dumps({"status": 200, "code": 200, "message": "OK", "success": True}).encode()


class Counts(NamedTuple):
    events: int
    requests: int
    bytes: int


class Collector:
    """Use it in a `with` block; `port` is where it listens.

    Args:
        delay: Seconds before each answer, as over a slow link.
    """

    def __init__(self, delay: float = 0.0) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, delay), daemon=True)

    def __enter__(self) -> Collector:
        self._process.start()
        self.port: int = self._pipe.recv()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        self._process.join()


def counts(port: int) -> Counts:
    """What has arrived at the collector on `port` so far."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return Counts(*answer)


class _Counting(asyncio.Protocol):
    def __init__(self, total: list[int], delay: float) -> None:
        self._total = total  # of all connections
        self._delay = delay
        self._received = bytearray()
        self._missing = 0  # bytes until the request is complete, once its head is

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._missing:
            self._missing = max(0, self._missing - len(data))
        while self._received and not self._missing:
            end = self._received.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            head = bytes(self._received[:end])
            length = _content_length(head)
            if len(self._received) < end + length:
                self._missing = end + length - len(self._received)
                return
            self._answer(head, bytes(self._received[end : end + length]))
            del self._received[: end + length]

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"GET"):
            self._transport.write(_response(json.dumps(self._total).encode()))
            return
        if b"content-encoding: gzip" in head.lower():
            body = gzip.decompress(body)
        self._total[0] += body.count(_MARK)
        self._total[1] += 1
        self._total[2] += len(body)
        if self._delay:
            asyncio.get_running_loop().call_later(self._delay, self._transport.write, _response(_ANSWER))
        else:
            self._transport.write(_response(_ANSWER))


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _serve(pipe: Connection, delay: float) -> None:
    async def main() -> None:
        loop, total = asyncio.get_running_loop(), [0, 0, 0]
        server = await loop.create_server(lambda: _Counting(total, delay), "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())
