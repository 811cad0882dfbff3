"""Under real servers: a crowd of visitors at once, and each search and event is its own visitor's. And what is queued
when a server stops is delivered.

First the shops of docs/examples, as their visitors use them. Then the probes, with what no shop has, see
support/probe.py: a few hundred requests per server; `WEB_REQUESTS=20000` in the environment sends as many, from 200
visitors.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException

import pytest
import serving
from browsing import Visitor as Customer
from browsing import buy_something
from crowd import Crowd, Visitor
from ports import free_port
from waiting import PATIENCE, wait_until

from algolia_usertoken.demo import catalogue
from algolia_usertoken.testing import LocalAlgolia

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.slow]

REQUESTS = int(os.environ.get("WEB_REQUESTS", "400"))
CUSTOMERS = 12
VISITORS = 200 if REQUESTS >= 2000 else 40

# The servers of the documented shops: the shop, and the command.
SHOPS: dict[str, tuple[str, Callable[[int], list[str]]]] = {
    "uvicorn, 2 workers, FastAPI": (
        "fastapi",
        lambda port: serving.uvicorn("documented_shop:app", port, "--workers", "2"),
    ),
    "gunicorn, threads, Flask": (
        "flask",
        lambda port: serving.gunicorn("documented_shop:app", port, "--threads", "16"),
    ),
    "gunicorn, preload, 2 workers, Flask": (
        "flask",
        lambda port: serving.gunicorn("documented_shop:app", port, "--preload", "--workers", "2", "--threads", "4"),
    ),
    "uvicorn, Django": ("django", lambda port: serving.uvicorn("documented_shop:asgi", port)),
    "gunicorn, threads, Django": (
        "django",
        lambda port: serving.gunicorn("documented_shop:app", port, "--threads", "16"),
    ),
}


def visit(port: int, number: int) -> Counter[tuple[str | None, str]]:
    """Visit a shop: who Algolia must be told of, as token and login, and with how many events.

    Every second visitor logs in and out again, and every third refuses the cookie. All search five times.
    """
    visitor = Customer(port)
    with visitor.http:
        visitor.open("/")
        visitor.press("consent-refuse" if number % 3 == 0 else "consent-accept")
        if number % 2:
            visitor.open("/login")
            visitor.press("login-submit", user=f"user {number}")
        for turn in range(5):
            visitor.open("/", q=f"visitor {number} turn {turn} {visitor.cookie}")
        buy_something(visitor, "knife")
        told = Counter({(visitor.cookie, visitor.who[1]): 4})
        if number % 2:
            visitor.press("logout")
        visitor.open("/product/p-01")
        told[visitor.cookie, ""] += 1
    assert (visitor.cookie is None) == (number % 3 == 0)
    return told if visitor.cookie else Counter()


@pytest.fixture
def algolia_of_shops() -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", catalogue())
        yield algolia


@pytest.mark.parametrize("server", SHOPS)
def test_no_visitor_of_a_documented_shop_is_mixed_up_with_another(
    server: str, algolia_of_shops: LocalAlgolia, tmp_path: pathlib.Path
) -> None:
    name, command = SHOPS[server]
    port, leaks = free_port(), tmp_path / "leaks"
    env = {"SHOP": name, "ALGOLIA_URL": algolia_of_shops.url, "SHOP_SECRET": "of all workers", "LEAKS": str(leaks)}

    with serving.running(command(port), port, tmp_path / "log", env):
        with ThreadPoolExecutor(CUSTOMERS) as threads:
            visits = list(threads.map(visit, [port] * CUSTOMERS, range(CUSTOMERS)))
        told = sum(visits, Counter[tuple[str | None, str]]())
        wait_until(lambda: len(algolia_of_shops.events) >= told.total())

    assert (
        Counter((event.user_token, event.authenticated_user_token or "") for event in algolia_of_shops.events) == told
    )
    assert len({token for token, _ in told}) == CUSTOMERS - CUSTOMERS // 3
    searches = [search for search in algolia_of_shops.searches if search.query.startswith("visitor")]
    assert len({search.query for search in searches}) == 5 * CUSTOMERS
    assert [search for search in searches if search.query.split()[-1] != str(search.user_token)] == []
    assert algolia_of_shops.mismatches() == []
    assert not leaks.exists(), leaks.read_text(encoding="utf-8")[:2000]


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
        lambda port: serving.uvicorn("probe_fastapi:app", port, "--workers", "2"),
        {
            **STARLETTE,
            "dependency": 2,
            "async-dependency": 2,
            "then-background": 3,
            "then-background-async": 3,
            "stream": 3,
            "sync-stream": 3,
            "websocket": 3,
        },
    ),
    "uvicorn, Starlette": (lambda port: serving.uvicorn("probe_fastapi:starlette", port), STARLETTE),
    "uvicorn, Starlette, behind BaseHTTPMiddleware": (
        lambda port: serving.uvicorn("probe_fastapi:behind", port),
        # What an async view sets does not reach the handler for Exception: that is for the task between the two.
        {kind: searches for kind, searches in STARLETTE.items() if kind != "crash"},
    ),
    "uvicorn, Starlette, inside of BaseHTTPMiddleware": (
        lambda port: serving.uvicorn("probe_fastapi:inside", port),
        STARLETTE,
    ),
    "uvicorn, Litestar": (
        lambda port: serving.uvicorn("probe_litestar:app", port),
        {"sync": 3, "sync-in-loop": 2, "async": 3, "dependency": 3, "background": 2, "error": 2, "crash": 1},
    ),
    "uvicorn, Quart": (lambda port: serving.uvicorn("probe_quart:app", port), QUART),
    "hypercorn, Quart": (lambda port: serving.hypercorn("probe_quart:app", port), QUART),
    "gunicorn, threads, Flask": (
        lambda port: serving.gunicorn("probe_flask:app", port, "--threads", "16"),
        {"sync": 1, "stream": 3, "context-stream": 3, "teardown": 1, "error": 1},
    ),
    "gunicorn, preload, WSGI": (
        lambda port: serving.gunicorn("probe_wsgi:app", port, "--preload", "--workers", "2", "--threads", "8"),
        {"sync": 1, "stream": 4, "generator": 2, "error": 1},
    ),
    "uvicorn, Django": (
        lambda port: serving.uvicorn("probe_django:asgi", port),
        {"sync": 1, "async": 1, "stream": 4, "async-stream": 3, "error": 1},
    ),
    "gunicorn, threads, Django": (
        lambda port: serving.gunicorn("probe_django:wsgi", port, "--threads", "16"),
        {"sync": 1, "async": 1, "stream": 4, "error": 1},
    ),
    "gunicorn, 2 workers, aiohttp": (
        lambda port: serving.gunicorn("probe_aiohttp:app", port, "-k", "aiohttp.GunicornWebWorker", "--workers", "2"),
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
def test_no_visitor_of_a_probe_is_mixed_up_with_another(
    server: str, crowded_algolia: LocalAlgolia, tmp_path: pathlib.Path
) -> None:
    command, kinds = SERVERS[server]
    port, leaks = free_port(), tmp_path / "leaks"
    env = {"LOCAL_ALGOLIA_PORT": str(crowded_algolia.port), "LEAKS": str(leaks)}
    crowd = Crowd(port, kinds, [Visitor(number) for number in range(VISITORS)], ACTS)

    with serving.running(command(port), port, tmp_path / "log", env):
        crowd.send(REQUESTS)

    crowd.check(crowded_algolia)
    assert not leaks.exists(), leaks.read_text(encoding="utf-8")[:2000]


# What the table under "Behind a proxy" in docs/deploying.md says, with this machine as the proxy.
BEHIND_A_PROXY: dict[str, tuple[Callable[[int], list[str]], str | None]] = {
    "uvicorn believes this machine": (lambda port: serving.uvicorn("probe_seen:with_address", port), "203.0.113.7"),
    "uvicorn believes those it is told": (
        lambda port: serving.uvicorn("probe_seen:with_address", port, "--forwarded-allow-ips", "10.0.0.0/8"),
        None,
    ),
    "gunicorn leaves the address as it is": (
        lambda port: serving.gunicorn("probe_seen:with_address_wsgi", port, "--forwarded-allow-ips", "*"),
        None,
    ),
    "ProxyFix puts it right": (lambda port: serving.gunicorn("probe_seen:with_address_fixed", port), "203.0.113.7"),
}


@pytest.mark.parametrize("server", BEHIND_A_PROXY)
def test_the_address_behind_a_proxy_is_the_one_that_the_server_knows(server: str, tmp_path: pathlib.Path) -> None:
    command, address = BEHIND_A_PROXY[server]
    port = free_port()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"X-Forwarded-For": "203.0.113.7"})

    with serving.running(command(port), port, tmp_path / "log"), urllib.request.urlopen(request) as response:
        assert json.loads(response.read())["client_ip"] == address

    said = "the peer's address is a private one" in (tmp_path / "log").read_text(encoding="utf-8")
    assert said is (address is None)


# What the table under "When a server stops" in docs/deploying.md says: the commands, and how many processes answer
# before the server is stopped. Until then nobody delivers what is queued: it waits for ten minutes.

UVICORN_WORKER = ("-k", "uvicorn_worker.UvicornWorker", "--workers", "2")
# Otherwise uWSGI reloads on SIGTERM; with its die-on-term, a worker that is in a request leaves without a hook.
GRACEFULLY = ("--hook-master-start", "unix_signal:15 gracefully_kill_them_all")
UWSGI = ("--master", "--processes", "2", "--enable-threads", *GRACEFULLY)
STOPPED: dict[str, tuple[Callable[[int], list[str]], int]] = {
    "uvicorn": (lambda port: serving.uvicorn("stopping:asgi", port), 1),
    "uvicorn, FastAPI with a lifespan": (lambda port: serving.uvicorn("stopping_fastapi:app", port), 1),
    "uvicorn, 2 workers": (lambda port: serving.uvicorn("stopping:asgi", port, "--workers", "2"), 2),
    "uvicorn, reload": (lambda port: serving.uvicorn("stopping:asgi", port, "--reload"), 1),
    "gunicorn, UvicornWorker": (lambda port: serving.gunicorn("stopping:asgi", port, *UVICORN_WORKER), 2),
    "gunicorn, UvicornWorker, max-requests": (
        lambda port: serving.gunicorn("stopping:asgi", port, *UVICORN_WORKER, "--max-requests", "5"),
        4,
    ),
    "gunicorn, asgi": (lambda port: serving.gunicorn("stopping:asgi", port, "-k", "asgi", "--workers", "2"), 2),
    "gunicorn, sync": (lambda port: serving.gunicorn("stopping:wsgi", port, "--workers", "2"), 2),
    "gunicorn, gthread": (lambda port: serving.gunicorn("stopping:wsgi", port, "--workers", "2", "--threads", "4"), 2),
    "gunicorn, gevent": (lambda port: serving.gunicorn("stopping:wsgi", port, "-k", "gevent", "--workers", "2"), 2),
    "gunicorn, gevent, preload, patched first": (
        lambda port: serving.gunicorn(
            "stopping:wsgi", port, *("-c", "gunicorn_gevent.py", "-k", "gevent", "--workers", "2", "--preload")
        ),
        2,
    ),
    "gunicorn, preload": (lambda port: serving.gunicorn("stopping:wsgi", port, "--workers", "2", "--preload"), 2),
    "gunicorn, max-requests": (
        lambda port: serving.gunicorn("stopping:wsgi", port, "--workers", "2", "--max-requests", "5"),
        4,
    ),
    "hypercorn, 2 workers": (lambda port: serving.hypercorn("stopping:asgi", port, "--workers", "2"), 2),
    "hypercorn, trio": (lambda port: serving.hypercorn("stopping:asgi", port, "-k", "trio"), 1),
    "granian, ASGI": (
        lambda port: serving.granian("stopping:asgi", port, "--interface", "asgi", "--workers", "2"),
        2,
    ),
    "granian, WSGI": (
        lambda port: serving.granian("stopping:wsgi", port, "--interface", "wsgi", "--workers", "2"),
        2,
    ),
    "waitress, with close_on_signal": (lambda port: serving.waitress("stopping:wsgi", port), 1),
    "uWSGI, lazy-apps": (lambda port: serving.uwsgi("stopping:wsgi", port, *UWSGI, "--lazy-apps"), 2),
    "uWSGI, fork hooks": (lambda port: serving.uwsgi("stopping:wsgi", port, *UWSGI, "--py-call-uwsgi-fork-hooks"), 2),
}


SHOPS_STOPPED: dict[str, tuple[str, Callable[[int], list[str]], int]] = {
    "uvicorn, 2 workers, FastAPI": (
        "fastapi",
        lambda port: serving.uvicorn("documented_shop:app", port, "--workers", "2"),
        2,
    ),
    "gunicorn, gthread, Flask": (
        "flask",
        lambda port: serving.gunicorn("documented_shop:app", port, "--workers", "2", "--threads", "4"),
        2,
    ),
    "gunicorn, preload, Django": (
        "django",
        lambda port: serving.gunicorn("documented_shop:app", port, "--workers", "2", "--preload"),
        2,
    ),
    "uvicorn, Django": ("django", lambda port: serving.uvicorn("documented_shop:asgi", port), 1),
    "gunicorn, UvicornWorker, preload, Django": (
        "django",
        lambda port: serving.gunicorn("documented_shop:asgi", port, *UVICORN_WORKER, "--preload"),
        2,
    ),
    "daphne, Django": ("django", lambda port: serving.daphne("documented_shop:asgi", port), 1),
}


class Asking:
    """Requests with a name each, several at once: the path of a probe, and the cookie of a visitor of a shop."""

    def __init__(self, port: int, *, of_shop: bool = False) -> None:
        self.port = port
        self.of_shop = of_shop
        self.names = itertools.count()
        self.answered: set[str] = set()
        self.processes: set[str] = set()

    def until(self, processes: int) -> None:
        """Ask until so many processes have answered."""
        with ThreadPoolExecutor(8) as pool:

            def done() -> bool:
                # A worker that has had its max-requests may leave a request without an answer.
                list(pool.map(self._ask, [f"anonymous-{next(self.names)}" for _ in range(16)]))
                return len(self.processes) >= processes

            wait_until(done)

    def _ask(self, name: str) -> None:
        path, headers = (
            ("/product/p-01", {"Cookie": f"consent=yes; _ALGOLIA={name}"}) if self.of_shop else (f"/{name}", {})
        )
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            body = response.read().decode()
        except (OSError, HTTPException):
            return
        finally:
            connection.close()
        assert response.status == 200, body
        self.answered.add(name)
        self.processes.add(response.headers["X-Process"] if self.of_shop else body)


def names_of(algolia: LocalAlgolia) -> list[str]:
    return [name for event in algolia.events for name in event.event["objectIDs"]]


# What ends with a signal that nobody handles: Waitress, and the workers of hypercorn once the first of them has ended.
ENDED_BY_A_SIGNAL = {"waitress, with close_on_signal", "hypercorn, 2 workers"}


@pytest.mark.parametrize("server", STOPPED)
def test_what_is_queued_is_delivered_when_a_server_stops(
    server: str, algolia: LocalAlgolia, tmp_path: pathlib.Path
) -> None:
    command, workers = STOPPED[server]
    port = free_port()
    asking = Asking(port)
    env = {"LOCAL_ALGOLIA_PORT": str(algolia.port), "CLOSE_ON_SIGNAL": "1" if server in ENDED_BY_A_SIGNAL else ""}

    with serving.running(command(port), port, tmp_path / "log", env):
        asking.until(workers)
        if "max-requests" not in server:
            assert not algolia.events, "this shows nothing if somebody has delivered before"

    arrived = names_of(algolia)
    assert asking.answered <= set(arrived), (tmp_path / "log").read_text(encoding="utf-8")[-2000:]
    assert len(arrived) == len(set(arrived))
    if "with a lifespan" in server:
        assert "at the shutdown" in arrived


@pytest.mark.parametrize("server", SHOPS_STOPPED)
def test_events_of_a_documented_shop_are_delivered_when_its_server_stops(
    server: str, algolia_of_shops: LocalAlgolia, tmp_path: pathlib.Path
) -> None:
    name, command, workers = SHOPS_STOPPED[server]
    port = free_port()
    asking = Asking(port, of_shop=True)
    env = {"SHOP": name, "ALGOLIA_URL": algolia_of_shops.url, "SHOP_SECRET": "of all workers", "KEEP_EVENTS": "1"}

    with serving.running(command(port), port, tmp_path / "log", env):
        asking.until(workers)
        assert not algolia_of_shops.events, "this shows nothing if somebody has delivered before"

    arrived = [event.user_token for event in algolia_of_shops.events]
    assert asking.answered <= set(arrived), (tmp_path / "log").read_text(encoding="utf-8")[-2000:]
    assert len(arrived) == len(set(arrived))


def test_a_sender_that_was_made_before_gevent_patches_freezes_no_worker(
    algolia: LocalAlgolia, tmp_path: pathlib.Path
) -> None:
    port = free_port()
    options = ["-k", "gevent", "--preload", "--timeout", "60", "--graceful-timeout", "60"]
    asking = Asking(port)

    command = serving.gunicorn("stopping:wsgi", port, *options)
    with serving.running(command, port, tmp_path / "log", {"LOCAL_ALGOLIA_PORT": str(algolia.port)}):
        asking.until(1)

    assert "WORKER TIMEOUT" not in (tmp_path / "log").read_text(encoding="utf-8")
    assert sorted(names_of(algolia)) == sorted(asking.answered)


@pytest.mark.parametrize("application", ["stopping:asgi", "stopping_fastapi:app"])
def test_a_server_stops_though_algolia_does_not_answer(
    application: str, algolia: LocalAlgolia, tmp_path: pathlib.Path
) -> None:
    algolia.hang_next(path="/1/events", times=None)
    port = free_port()
    env = {"LOCAL_ALGOLIA_PORT": str(algolia.port), "CLOSE_TIMEOUT": "0.5"}

    with serving.running(serving.uvicorn(application, port), port, tmp_path / "log", env):
        Asking(port).until(1)

    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert "events are not delivered yet, after the 0.5 seconds of close_timeout" in log
