from __future__ import annotations

import os
import signal
import socket
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from algolia_usertoken import TokenAwareClient, TokenAwareClientSync
from algolia_usertoken.testing import LocalAlgolia

RECORDS = [
    {"objectID": "1", "name": "Trail shoe", "brand": "Larkfoot", "price": 89},
    {"objectID": "2", "name": "Deck shoe", "brand": "Larkfoot", "price": 74},
    {"objectID": "3", "name": "Wool hat", "brand": "Fernhill", "price": 22},
]
# What a machine may have set, and no test may feel: each runs without, and so does each program that it starts.
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
OF_THE_MACHINE = {
    *PROXIES,
    *map(str.lower, PROXIES),
    *("CI", "BUILD_NUMBER"),  # pytest cuts no line of its summary where one of them is set
    *("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "TERM", "COLORTERM", "COLUMNS", "LINES"),
    *("PYTHONOPTIMIZE", "PYTHONUNBUFFERED", "PYTHONWARNINGS", "PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"),
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("DJANGO_SETTINGS_MODULE", "FLASK_APP", "FLASK_DEBUG"),
    *("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "GUNICORN_CMD_ARGS", "PORT"),
}
OF_THE_MACHINE_BY_PREFIX = ("ALGOLIA_", "UVICORN_", "CELERY_")
LOOPBACK = ("127.", "::1", "localhost")

# For tests/properties: each run takes the same examples and looks at no clock, so that none fails by chance. To search
# on, with new ones: HYPOTHESIS_PROFILE=weekly, or --hypothesis-profile=weekly.
_settings = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("everyday", _settings, max_examples=300, derandomize=True)
settings.register_profile("weekly", _settings, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "everyday"))

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _same_on_every_machine() -> Iterator[None]:
    """pytest itself, outside of the tests, goes on as the machine wants it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name in OF_THE_MACHINE or name.startswith(OF_THE_MACHINE_BY_PREFIX):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """A test that would reach anything but loopback fails."""

    def guarded(function: Callable[..., Any], host_of: Callable[..., Any]) -> Callable[..., Any]:
        def guard(*args: Any, **kwargs: Any) -> Any:
            host = host_of(*args)
            if isinstance(host, str) and host and not host.startswith(LOOPBACK):
                pytest.fail(f"a test tried to reach {host}", pytrace=False)
            return function(*args, **kwargs)

        return guard

    def host_of_address(_: socket.socket, address: Any) -> Any:
        return address[0] if isinstance(address, tuple) else None

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name), host_of_address))
        patch.setattr(socket, "getaddrinfo", guarded(socket.getaddrinfo, lambda host, *_: host))
        yield


_waited_for: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@pytest.fixture(autouse=True)
def _nothing_is_said_later() -> Iterator[None]:
    """A sender that was closed says in this test, and not in the next, which may read the log, what it has given up.

    `close` waits only a moment for that.
    """
    yield
    for thread in threading.enumerate():
        if thread.name == "algolia-usertoken-bounded" and thread not in _waited_for:
            _waited_for.add(thread)  # it may hang for good: no other test waits for it
            thread.join(5)


@pytest.fixture
def algolia() -> Iterator[LocalAlgolia]:
    """A stand-in for Algolia that has received nothing yet and holds three records, in the index "products"."""
    with LocalAlgolia() as algolia:
        algolia.save_objects("products", RECORDS)
        yield algolia


@pytest.fixture
def sync_client(algolia: LocalAlgolia) -> Iterator[TokenAwareClientSync]:
    """A sync client of `algolia` that knows nobody by default."""
    with TokenAwareClientSync.create_with_config(
        algolia.search_config(), insights_config=algolia.insights_config()
    ) as client:
        yield client


@pytest.fixture
async def async_client(algolia: LocalAlgolia) -> AsyncIterator[TokenAwareClient]:
    """An async client of `algolia` that knows nobody by default."""
    async with TokenAwareClient.create_with_config(
        algolia.search_config(), insights_config=algolia.insights_config()
    ) as client:
        yield client
