"""
What the relay costs per request, next to bare ASGI handlers that take the same bodies.

    python tests/benchmarks/bench_relay.py

One bare handler reads the JSON of the body and answers with JSON, the least that anything which takes events does; the
other drops the body unread, and answers with bytes that were ready. All run under uvicorn, in a process of their own,
and get the same beacons, over several connections: one event each, of a visitor with a cookie. The relay is inside the
middleware, whose share is shown too, and its sender delivers in the background to nobody.

The figures are of the server's processor time, in short blocks that take turns, as a machine is not always equally
fast. A ratio of 1 is as many requests as the handler that reads JSON. What they are hangs on what uvicorn itself takes
for a request: with h11, which it brings, three to five times as long as with httptools.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "support"))
from ports import free_port

TOKEN = "anonymous-5c3f8f2e-8a1d-4f6b-9c0e-2d7b1a4e6f38"
EVENT = {
    "eventType": "click",
    "eventName": "Product Clicked",
    "index": "products",
    "objectIDs": ["p-01"],
    "positions": [7],
    "queryID": "0123456789abcdef" * 2,
    "userToken": TOKEN,
}
BODY = json.dumps({"events": [EVENT]}).encode()
CONNECTIONS = 16
QUERY = "X-Algolia-Application-Id=APP&X-Algolia-API-Key=key&X-Algolia-Agent=insights-js%20(2.17.3)"


async def reading(scope: Any, receive: Any, send: Any) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message.get("more_body", False)
    if not isinstance(json.loads(body)["events"], list):
        raise TypeError
    await answer(send, json.dumps({"status": 200, "message": "OK"}).encode())


async def bare(scope: Any, receive: Any, send: Any) -> None:
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await answer(send, b'{"status": 200, "message": "OK"}')


async def answer(send: Any, content: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def middleware() -> Any:
    """The factory of the bare handler inside the middleware."""
    from algolia_usertoken.integrations.asgi import IdentityMiddleware

    return IdentityMiddleware(bare)


def relay() -> Any:
    """The factory of the application with the relay."""
    from algolia_usertoken import EventSender
    from algolia_usertoken.integrations.asgi import IdentityMiddleware
    from algolia_usertoken.integrations.relay import EventsRelay

    class ToNobody:
        def deliver(self, batch: Any, timeout: float | None = None) -> None:
            pass

        def close(self) -> None:
            pass

    return IdentityMiddleware(EventsRelay(EventSender(delivery=ToNobody(), max_queue_size=100_000)).asgi(bare))


class Server:
    def __init__(self, application: str, *options: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "uvicorn", f"bench_relay:{application}", *options, "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--log-level", "warning", "--no-access-log", "--lifespan", "off"],
            cwd=pathlib.Path(__file__).parent,
        )
        self.request = (
            f"POST /1/events?{QUERY} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nOrigin: http://127.0.0.1:{self.port}\r\n"
            f"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
            f"Content-Type: text/plain;charset=UTF-8\r\nCookie: theme=dark; _ALGOLIA={TOKEN}\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY
        until = time.monotonic() + 60
        while True:
            try:
                self.sockets = [
                    socket.create_connection(("127.0.0.1", self.port), timeout=60) for _ in range(CONNECTIONS)
                ]
                return
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
                time.sleep(0.1)

    def _processor_seconds(self) -> float:
        """Of all its threads, as Linux counts them."""
        threads = pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def seconds_per_request(self, requests: int) -> float:
        """Of its processor time."""
        before = self._processor_seconds()
        for _ in range(requests):
            for connection in self.sockets:
                connection.sendall(self.request)
            for connection in self.sockets:
                self._await_answer(connection)
        return (self._processor_seconds() - before) / (requests * CONNECTIONS)

    def _await_answer(self, connection: socket.socket) -> None:
        answer = b""
        while not answer.endswith(b'"OK"}'):
            part = connection.recv(65_536)
            if not part:
                raise RuntimeError(f"the server said {answer[:200]!r} and closed")
            answer += part

    def stop(self) -> None:
        for connection in self.sockets:
            connection.close()
        self.process.terminate()
        self.process.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--requests", type=int, default=12, help="of a connection in a round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=60, help="of which the median counts (default: %(default)s)")
    parser.add_argument("--http", choices=["h11", "httptools"], default="h11", help="(default: %(default)s)")
    options = parser.parse_args()
    http = "--http", options.http
    servers: list[Server] = []
    try:
        servers += [Server("reading", *http), Server("bare", *http)]
        servers += [Server("middleware", "--factory", *http), Server("relay", "--factory", *http)]
        for server in servers:
            server.seconds_per_request(20)
        rounds = [[server.seconds_per_request(options.requests) for server in servers] for _ in range(options.rounds)]
    finally:
        for server in servers:
            server.stop()
    print(f"requests per second of processor time, under uvicorn with {options.http}")
    names = ("handler that reads JSON", "handler that reads nothing", "middleware around that", "relay")
    for number, name in enumerate(names):
        speed = 1 / statistics.median(found[number] for found in rounds)
        ratio = statistics.median(found[0] / found[number] for found in rounds)
        print(f"{name:<26} {speed:8,.0f}, {ratio:.2f} of the first")


if __name__ == "__main__":
    main()
