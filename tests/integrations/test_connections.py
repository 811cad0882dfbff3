"""Several requests of one connection, which behind a proxy are those of several visitors.

uvicorn may begin one in the context of an earlier one: where that was read on, and where a request came before the
answer to another was complete (HTTP/1.1 pipelining).
"""

from __future__ import annotations

import json
import pathlib
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import serving
from ports import free_port
from waiting import PATIENCE

pytestmark = pytest.mark.slow

LARGE = b"x" * 3_000_000


class Answer(NamedTuple):
    seen: dict[str, Any]
    set_cookie: str | None


class Connection:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._answers = self._socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self._answers.close()
        self._socket.close()

    def send(self, *requests: bytes) -> list[Answer]:
        """All at once; the answers come in the same order."""
        self._socket.sendall(b"".join(requests))
        return [self._answer() for _ in requests]

    def _answer(self) -> Answer:
        assert self._answers.readline().startswith(b"HTTP/1.1 200 ")
        headers: dict[str, str] = {}
        while (line := self._answers.readline().decode()) != "\r\n":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = self._answers.read(int(headers["content-length"]))
        return Answer(json.loads(body), headers.get("set-cookie"))


def get(path: str, token: str | None = None, body: bytes = b"") -> bytes:
    cookie = f"Cookie: _ALGOLIA={token}\r\n" if token is not None else ""
    method = "POST" if body else "GET"
    return f"{method} {path} HTTP/1.1\r\nHost: shop\r\nContent-Length: {len(body)}\r\n{cookie}\r\n".encode() + body


def seen(token: str, login: str | None = None) -> Answer:
    identity = {"user_token": token, "authenticated_user_token": login, "client_ip": None, "opted_out": False}
    return Answer(identity, None)


@pytest.fixture(scope="module", params=["h11", "httptools"])
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    log: pathlib.Path = tmp_path_factory.mktemp("uvicorn") / "log"
    with serving.running(serving.uvicorn("probe_seen:one_connection", port, "--http", request.param), port, log):
        yield port
        with Connection(port) as connection:
            connection.send(get("/release"))


def test_a_request_that_was_pipelined_is_a_visit_of_its_own(port: int) -> None:
    """The background task of the first one runs still: it waits for the end of these tests."""
    with Connection(port) as connection:
        first, second = connection.send(get("/guarded/login", "anonymous-1"), get("/guarded/page", "anonymous-2"))

    assert (first, second) == (seen("anonymous-1", "user-42"), seen("anonymous-2"))


def test_a_request_pipelined_to_a_wsgi_application_beside_the_asgi_middleware_is_a_visit_of_its_own(port: int) -> None:
    with Connection(port) as connection:
        first, second = connection.send(get("/guarded/login", "anonymous-1"), get("/wsgi/page", "anonymous-2"))
    assert (first, second) == (seen("anonymous-1", "user-42"), seen("anonymous-2"))

    with Connection(port) as connection:
        first, second = connection.send(get("/guarded/login", "anonymous-1"), get("/wsgi/page"))
    assert second.seen["user_token"].startswith("anonymous-")
    assert second.set_cookie is not None
    assert second.set_cookie.startswith(f"_ALGOLIA={second.seen['user_token']};")


def test_what_runs_outside_of_the_middleware_never_sees_an_earlier_visitor(port: int) -> None:
    """A body of this size is read in parts: the connection is paused and read on, in the context of that request."""
    with Connection(port) as connection:
        assert connection.send(get("/guarded/page", "anonymous-1", LARGE)) == [seen("anonymous-1")]
        assert connection.send(get("/outside")) == [Answer({"identity": None}, None)]
        assert connection.send(get("/guarded/page", "anonymous-2")) == [seen("anonymous-2")]
        assert connection.send(get("/outside")) == [Answer({"identity": None}, None)]


def test_what_runs_outside_of_the_middleware_sees_nobody_where_a_body_was_not_read(port: int) -> None:
    with Connection(port) as connection:
        assert connection.send(get("/guarded/unread", "anonymous-1", LARGE)) == [seen("anonymous-1")]
        assert connection.send(get("/outside")) == [Answer({"identity": None}, None)]
