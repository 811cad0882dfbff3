from __future__ import annotations

import os
import signal
import socket
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
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
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
def _no_network() -> Iterator[None]:
    """A test that would reach anything but loopback fails, and proxies of the machine play no part."""

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
        for name in PROXY_VARIABLES:
            patch.delenv(name, raising=False)
            patch.delenv(name.lower(), raising=False)
        yield


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
