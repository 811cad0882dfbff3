"""The mock against the real thing: calls over loopback HTTP and under respx are recorded alike, and end alike."""

from __future__ import annotations

import asyncio
import gzip
import inspect
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import httpx
import pytest
import requests
import respx
from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.http.request_options import RequestOptions
from algoliasearch.http.transporter import Transporter
from algoliasearch.http.verb import Verb
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.search.config import SearchConfig
from ports import free_port
from waiting import PATIENCE

from algolia_usertoken import TokenAwareClient, TokenAwareClientSync
from algolia_usertoken.testing import AlgoliaMocker

pytestmark = [pytest.mark.usefixtures("_the_name_is_known"), pytest.mark.adds_no_coverage, pytest.mark.slow]
FOUND = {"hits": [{"objectID": "1", "name": "Schuh für Ålesund"}], "query": "q", "params": "", "processingTimeMS": 1}
HOSTS = 3
# What a library or the server's own address decides, or what is different each time.
NOT_COMPARED = {"host", "connection", "accept", "accept-encoding", "request-id"}


@pytest.fixture(scope="module")
def _the_name_is_known() -> None:
    assert AlgoliaMocker.name == "algolia"


@dataclass
class Answer:
    status: int = 200
    body: Any = field(default_factory=lambda: FOUND)
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


HANG, DROP = Answer(0), Answer(-1)
OVERLOADED = Answer(429, {"message": "slow down", "status": 429}, {"Retry-After": "0"})
DOWN = Answer(503, {"message": "down", "status": 503})
SSE = b"event: token\ndata: one\n\nevent: token\ndata: two\n\n"


@dataclass(frozen=True)
class Recorded:
    host: int
    method: str
    path: str
    headers: frozenset[tuple[str, str]]
    body: bytes


def recorded(host: int, method: str, path: str, headers: Any, body: bytes) -> Recorded:
    kept = frozenset((name.lower(), value) for name, value in headers if name.lower() not in NOT_COMPARED)
    kept -= {("content-length", "0")}
    if ("content-encoding", "gzip") in kept:  # the time is in it
        body, kept = gzip.decompress(body), frozenset(pair for pair in kept if pair[0] != "content-length")
    return Recorded(host, method, path, kept, body)


class Script:
    """Gives the answers one after the other, the last one for ever, and keeps what was asked."""

    def __init__(self, answers: list[Answer]) -> None:
        self._answers = answers
        self._lock = threading.Lock()
        self.asked: list[Recorded] = []

    def next(self, asked: Recorded) -> Answer:
        with self._lock:
            self.asked.append(asked)
            return self._answers[min(len(self.asked), len(self._answers)) - 1]


@contextmanager
def real_servers(script: Script) -> Iterator[list[int]]:
    """Servers on loopback ports that follow the script."""
    released = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            host = ports.index(self.server.server_address[1])
            answer = script.next(recorded(host, self.command, self.path, self.headers.items(), body))
            if answer is HANG or answer is DROP:
                released.wait(PATIENCE if answer is HANG else 0)
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: Any) -> None:
            pass  # who timed out has gone

    servers = [Server(("127.0.0.1", 0), Handler) for _ in range(HOSTS)]
    ports = [server.server_address[1] for server in servers]
    threads = [threading.Thread(target=server.serve_forever, args=(0.01,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield ports
    finally:
        released.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


@contextmanager
def mocked_servers(script: Script) -> Iterator[list[int]]:
    """Ports that nobody listens on, and a mock that follows the script."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(HOSTS)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()

    def answer(request: httpx.Request) -> httpx.Response:
        url = request.url
        asked = recorded(
            ports.index(url.port), request.method, url.raw_path.decode(), request.headers.items(), request.content
        )
        answer = script.next(asked)
        if answer is HANG:
            raise httpx.ReadTimeout("too late", request=request)
        if answer is DROP:
            raise httpx.RemoteProtocolError("Server disconnected", request=request)
        return httpx.Response(answer.status, headers=answer.headers, content=answer.content)

    with respx.mock(using="algolia") as router:
        router.route(host="127.0.0.1").mock(side_effect=answer)
        yield ports


def config_for(ports: list[int], **options: Any) -> SearchConfig:
    config = SearchConfig("APP", "key")
    config.hosts = HostsCollection(
        [Host(url="127.0.0.1", scheme="http", port=port) for port in ports], reorder_hosts=False
    )
    config.proxies = {}
    config.max_rate_limit_retries = 2
    config.connect_timeout = config.read_timeout = config.write_timeout = 20_000
    for name, value in options.items():
        setattr(config, name, value)
    return config


def search(client: Any) -> Any:
    return client.search_single_index("products", {"query": "Schuhe für Ålesund", "clickAnalytics": True})


def stream(client: Any) -> Any:
    options = RequestOptions(
        client._config,
        headers={"content-type": "application/json", "user-agent": "mine"},
        data='{"say": "hello"}',
        timeouts={"connect": 20_000, "read": 20_000, "write": 20_000},
    )
    events = client._transporter.request_stream(Verb.POST, "/1/agents/a", options, False)
    if hasattr(events, "__anext__"):

        async def collect() -> list[str]:
            return [event.data async for event in events]

        return collect()
    return [event.data for event in events]


CALLS: dict[str, tuple[Callable[[Any], Any], list[Answer], dict[str, Any]]] = {
    "a search": (search, [Answer()], {}),
    "a search of a view": (lambda client: search(client.with_identity("u-2")), [Answer()], {}),
    "a multi-query": (
        lambda client: client.search({"requests": [{"indexName": "a"}, {"indexName": "b", "userToken": "u-3"}]}),
        [Answer(body={"results": [FOUND, FOUND]})],
        {},
    ),
    "a path with all kinds of characters": (
        lambda client: client.custom_get("1/indexes/a%2Fb c/é+ü", {"x": "1 2", "y": "ä&=?"}),
        [Answer(body={"ok": True})],
        {},
    ),
    "an index with a slash": (lambda client: client.get_object("a/b é", "1 2"), [Answer(body={"objectID": "1"})], {}),
    "a header of the call": (
        lambda client: client.search_single_index(
            "i", {}, {"headers": {"x-Algolia-userTOKEN": "mine", "X-Extra": "1"}}
        ),
        [Answer()],
        {},
    ),
    "a write": (
        lambda client: client.save_object("i", {"objectID": "1", "name": "é"}),
        [Answer(201, {"createdAt": "2026-01-01T00:00:00Z", "taskID": 1, "objectID": "1"})],
        {},
    ),
    "a delete": (
        lambda client: client.delete_object("i", "1"),
        [Answer(200, {"deletedAt": "2026-01-01T00:00:00Z", "taskID": 1})],
        {},
    ),
    "events": (
        lambda client: client.insights.push_events(
            {"events": [{"eventType": "view", "eventName": "V", "index": "i", "objectIDs": ["1"]}]}
        ),
        [Answer(body={"status": 200, "message": "OK"})],
        {},
    ),
    "a second host": (search, [DOWN, Answer()], {}),
    "no host": (search, [DOWN], {}),
    "a time-out": (search, [HANG, Answer()], {"read_timeout": 1_500}),
    "a dropped connection": (search, [DROP], {}),
    "slow down, once": (search, [OVERLOADED, Answer()], {}),
    "slow down, always": (search, [OVERLOADED], {}),
    "an error": (search, [Answer(404, {"message": "Index i does not exist", "status": 404})], {}),
    "an error in HTML": (search, [Answer(400, b"<html>Bad Request</html>", {"Content-Type": "text/html"})], {}),
    "a gzipped answer": (
        search,
        [Answer(body=gzip.compress(json.dumps(FOUND).encode(), mtime=0), headers={"Content-Encoding": "gzip"})],
        {},
    ),
    "a gzipped request": (search, [Answer()], {"compression_type": "gzip", "compression_threshold": 1}),
    "another charset": (
        lambda client: client.custom_get("1/x"),
        [Answer(body='{"é": 1}'.encode("latin-1"), headers={"Content-Type": "application/json; charset=latin-1"})],
        {},
    ),
    "an empty answer": (lambda client: client.custom_get("1/x"), [Answer(200, b"")], {}),
    "no JSON": (search, [Answer(200, b"<html>")], {}),
}
if hasattr(Transporter, "request_stream"):
    CALLS |= {
        "a stream": (stream, [Answer(body=SSE, headers={"Content-Type": "text/event-stream"})], {}),
        "a stream, later": (stream, [OVERLOADED, Answer(body=SSE)], {}),
        "a stream that is refused": (stream, [Answer(403, {"message": "no"})], {}),
    }


def outcome(error: BaseException) -> str:
    kinds = {
        "no connection": (requests.ConnectionError, aiohttp.ClientConnectionError),
        "timed out": (requests.Timeout, asyncio.TimeoutError),
    }
    for name, classes in kinds.items():
        if isinstance(error, classes):
            return name
    return f"{type(error).__name__}: {error}"


def shown(result: Any) -> Any:
    return result.to_json() if hasattr(result, "to_json") else result


async def call(client_class: Any, config: SearchConfig, action: Callable[[Any], Any]) -> Any:
    insights = InsightsConfig("APP", "key")
    insights.hosts, insights.proxies = config.hosts, {}
    client = client_class.create_with_config(config, user_token="u-1", insights_config=insights)
    try:
        result = action(client)
        return shown(await result if inspect.isawaitable(result) else result)
    except Exception as error:
        return outcome(error)
    finally:
        closing = client.close()
        if inspect.isawaitable(closing):
            await closing


@pytest.mark.parametrize("client_class", [TokenAwareClientSync, TokenAwareClient], ids=["sync", "async"])
@pytest.mark.parametrize("name", CALLS)
def test_the_mock_is_as_the_real_thing(name: str, client_class: Any) -> None:
    action, answers, options = CALLS[name]

    def ended(servers: Any, options: dict[str, Any]) -> tuple[Any, list[Recorded]]:
        script = Script(answers)
        with servers(script) as ports:
            return asyncio.run(call(client_class, config_for(ports, **options), action)), script.asked

    mocked = ended(mocked_servers, options)
    real = ended(real_servers, options)
    while real != mocked and options.get("read_timeout", 60_000) < 60_000:
        # On a busy machine, an answer that comes may be as late as one that does not.
        options = {**options, "read_timeout": 5 * options["read_timeout"]}
        real = ended(real_servers, options)

    result, asked = real
    mocked_result, mocked_asked = mocked
    assert asked
    assert mocked_asked == asked
    assert mocked_result == result


@pytest.mark.parametrize("client_class", [TokenAwareClientSync, TokenAwareClient], ids=["sync", "async"])
def test_a_refused_connection_is_as_the_real_thing(client_class: Any) -> None:
    ports = [free_port() for _ in range(HOSTS)]
    real = asyncio.run(call(client_class, config_for(ports), search))
    with respx.mock(using="algolia") as router:
        router.route().mock(side_effect=httpx.ConnectError)
        mocked = asyncio.run(call(client_class, config_for(ports), search))

    assert mocked == real == "no connection"
