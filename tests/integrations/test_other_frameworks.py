"""Frameworks without a module of their own do what docs/other-frameworks.md says, with the code that stands there."""

from __future__ import annotations

import http.client
import pathlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import serving
from crowd import Crowd, Visitor
from ports import free_port
from waiting import PATIENCE
from websockets.sync.client import connect

from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.slow

PROGRAM = pathlib.Path(serving.__file__).parent / "probe_sanic_tornado.py"
KINDS = {"async": 1, "stream": 3, "login": 1, "error": 2}
TOKENS = ["anonymous-1", "anonymous-2", None, "anonymous-no good", "anonymous-3"]


def test_sanic_under_an_asgi_server_mixes_nobody_up(algolia: LocalAlgolia, tmp_path: pathlib.Path) -> None:
    port, leaks = free_port(), tmp_path / "leaks"
    env = {"LOCAL_ALGOLIA_PORT": str(algolia.port), "LEAKS": str(leaks)}
    kinds = {"async": 1, "stream": 3, "error": 2, "websocket": 2}
    crowd = Crowd(port, kinds, [Visitor(number) for number in range(20)])

    with serving.running(serving.uvicorn("probe_sanic_tornado:asgi", port), port, tmp_path / "log", env):
        crowd.send(200)

    crowd.check(algolia)
    assert not leaks.exists(), leaks.read_text(encoding="utf-8")[:2000]


@contextmanager
def served(name: str, algolia: LocalAlgolia, folder: pathlib.Path) -> Iterator[int]:
    """A framework on its own server: its port."""
    port = free_port()
    command = [sys.executable, str(PROGRAM), name, str(port)]
    with serving.running(command, port, folder / "log", {"LOCAL_ALGOLIA_PORT": str(algolia.port)}):
        yield port


@pytest.mark.parametrize("name", ["sanic", "tornado"])
def test_a_framework_on_its_own_server_mixes_nobody_up(
    name: str, algolia: LocalAlgolia, tmp_path: pathlib.Path
) -> None:
    with served(name, algolia, tmp_path) as port:
        expected = take_turns(port)

    assert {search.query: search.user_token for search in algolia.searches} == expected
    assert len(algolia.searches) == 4 * 5 + 5 * (2 + 1) + 3 * 2


def take_turns(port: int) -> dict[str, str | None]:
    """Who must have searched for what: five visitors take turns on one connection, and three have a WebSocket."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    expected: dict[str, str | None] = {}
    for turn in range(4):
        for visitor, token in enumerate(TOKENS):
            kind = list(KINDS)[(turn + visitor) % 4]
            path = f"{visitor}/{kind}/{turn}"
            connection.request("GET", f"/{path}", headers={"Cookie": f"_ALGOLIA={token}"} if token else {})
            response = connection.getresponse()
            response.read()
            assert response.status == (500 if kind == "error" else 200)
            expected[path] = token if token and " " not in token else "user-42" if kind == "login" else None
    connection.close()
    for visitor, token in enumerate(TOKENS[:3]):
        path = f"{visitor}/websocket/1"
        headers = {"Cookie": f"_ALGOLIA={token}"} if token else {}
        with connect(f"ws://127.0.0.1:{port}/{path}", additional_headers=headers, proxy=None) as websocket:
            for _ in range(2):
                websocket.send("search")
                websocket.recv()
        expected[path] = token
    return expected


def test_tornado_sets_the_cookie_where_the_visitor_has_consented(algolia: LocalAlgolia, tmp_path: pathlib.Path) -> None:
    with served("tornado", algolia, tmp_path) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        for kind in ("async", "error"):
            connection.request("GET", f"/1/{kind}/1", headers={"Cookie": "consent=yes"})
            response = connection.getresponse()
            response.read()

            assert response.getheader("Cache-Control") == "private"
            assert str(response.getheader("Set-Cookie")).startswith(f"_ALGOLIA={algolia.searches[-1].user_token};")
        connection.close()
