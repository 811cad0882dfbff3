"""Under real servers: a crowd of visitors at once, and each search and event is its own visitor's.

A few hundred requests per server; `WEB_REQUESTS=20000` in the environment sends as many, from 200 visitors.
"""

from __future__ import annotations

import os
import pathlib
import urllib.request
from collections.abc import Callable, Iterator

import pytest
import serving
from crowd import Crowd, Visitor
from ports import free_port

from algolia_usertoken.testing import LocalAlgolia

REQUESTS = int(os.environ.get("WEB_REQUESTS", "400"))
VISITORS = 200 if REQUESTS >= 2000 else 40

# What a request may set before it searches. It holds for the rest of that request, and for no other.
ACTS = ("login", "logout", "token")

STARLETTE = {"sync": 3, "async": 3, "background": 2, "error": 2, "sync-error": 2, "crash": 1, "sync-crash": 1}
QUART = {
    "sync": 1,
    "async": 1,
    "dependency": 1,
    "then-background": 3,
    "then-background-async": 3,
    "stream": 3,
    "sync-stream": 3,
    "error": 2,
    "crash": 1,
}
SERVERS: dict[str, tuple[Callable[[int], list[str]], dict[str, int]]] = {
    "uvicorn, 2 workers, FastAPI": (
        lambda port: serving.uvicorn("shop_fastapi:app", port, "--workers", "2"),
        {
            "async": 1,
            "sync": 1,
            "dependency": 2,
            "async-dependency": 2,
            "then-background": 3,
            "then-background-async": 3,
            "stream": 3,
            "sync-stream": 3,
            "background": 2,
            "error": 2,
            "crash": 1,
            "sync-crash": 1,
            "websocket": 3,
        },
    ),
    "uvicorn, Starlette": (lambda port: serving.uvicorn("shop_starlette:app", port), STARLETTE),
    "uvicorn, Starlette, behind BaseHTTPMiddleware": (
        lambda port: serving.uvicorn("shop_starlette:behind", port),
        # What an async view sets does not reach the handler for Exception: that is for the task between the two.
        {kind: searches for kind, searches in STARLETTE.items() if kind != "crash"},
    ),
    "uvicorn, Starlette, inside of BaseHTTPMiddleware": (
        lambda port: serving.uvicorn("shop_starlette:inside", port),
        STARLETTE,
    ),
    "uvicorn, Litestar": (
        lambda port: serving.uvicorn("shop_litestar:app", port),
        {"sync": 3, "sync-in-loop": 2, "async": 3, "dependency": 3, "background": 2, "error": 2, "crash": 1},
    ),
    "uvicorn, Quart": (lambda port: serving.uvicorn("shop_quart:app", port), QUART),
    "hypercorn, Quart": (lambda port: serving.hypercorn("shop_quart:app", port), QUART),
    "gunicorn, threads, Flask": (
        lambda port: serving.gunicorn("shop_flask:app", port, "--threads", "16"),
        {"sync": 1, "stream": 3, "context-stream": 3, "teardown": 1, "error": 1},
    ),
    "gunicorn, preload, WSGI": (
        lambda port: serving.gunicorn("shop_wsgi:app", port, "--preload", "--workers", "2", "--threads", "8"),
        {"sync": 1, "stream": 4, "generator": 2, "error": 1},
    ),
    "uvicorn, Django": (
        lambda port: serving.uvicorn("shop_django:asgi", port),
        {"sync": 1, "async": 1, "stream": 4, "async-stream": 3, "error": 1},
    ),
    "gunicorn, threads, Django": (
        lambda port: serving.gunicorn("shop_django:wsgi", port, "--threads", "16"),
        {"sync": 1, "async": 1, "stream": 4, "error": 1},
    ),
    "gunicorn, 2 workers, aiohttp": (
        lambda port: serving.gunicorn("shop_aiohttp:app", port, "-k", "aiohttp.GunicornWebWorker", "--workers", "2"),
        {"async": 1, "thread": 1, "task": 2, "stream": 3, "body": 3, "websocket": 3, "error": 2, "crash": 1},
    ),
}


@pytest.fixture
def crowded_algolia() -> Iterator[LocalAlgolia]:
    with LocalAlgolia(max_received=200_000) as algolia:
        algolia.save_objects("products", [{"objectID": "1", "name": "Trail shoe"}])
        yield algolia


@pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("server", SERVERS)
def test_nobody_is_mixed_up(server: str, crowded_algolia: LocalAlgolia, tmp_path: pathlib.Path) -> None:
    command, kinds = SERVERS[server]
    port, leaks = free_port(), tmp_path / "leaks"
    env = {"LOCAL_ALGOLIA_PORT": str(crowded_algolia.port), "LEAKS": str(leaks)}
    crowd = Crowd(port, kinds, [Visitor(number) for number in range(VISITORS)], ACTS)

    with serving.running(command(port), port, tmp_path / "log", env):
        crowd.send(REQUESTS)

    crowd.check(crowded_algolia)
    assert not leaks.exists(), leaks.read_text(encoding="utf-8")[:2000]


# What the table under "Behind a proxy" in docs/deploying.md says, with this machine as the proxy.
BEHIND_A_PROXY: dict[str, tuple[Callable[[int], list[str]], str]] = {
    "uvicorn believes this machine": (lambda port: serving.uvicorn("shop_address:asgi", port), "203.0.113.7"),
    "uvicorn believes those it is told": (
        lambda port: serving.uvicorn("shop_address:asgi", port, "--forwarded-allow-ips", "10.0.0.0/8"),
        "None",
    ),
    "gunicorn leaves the address as it is": (
        lambda port: serving.gunicorn("shop_address:wsgi", port, "--forwarded-allow-ips", "*"),
        "None",
    ),
    "ProxyFix puts it right": (lambda port: serving.gunicorn("shop_address:fixed", port), "203.0.113.7"),
}


@pytest.mark.parametrize("server", BEHIND_A_PROXY)
def test_the_address_behind_a_proxy_is_the_one_that_the_server_knows(server: str, tmp_path: pathlib.Path) -> None:
    command, address = BEHIND_A_PROXY[server]
    port = free_port()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"X-Forwarded-For": "203.0.113.7"})

    with serving.running(command(port), port, tmp_path / "log"), urllib.request.urlopen(request) as response:
        assert response.read().decode() == address

    said = "is not one of the internet" in (tmp_path / "log").read_text(encoding="utf-8")
    assert said is (address == "None")
