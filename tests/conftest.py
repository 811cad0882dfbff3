from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from algolia_usertoken import TokenAwareClient, TokenAwareClientSync
from algolia_usertoken.testing import LocalAlgolia

RECORDS = [
    {"objectID": "1", "name": "Trail shoe", "brand": "Larkfoot", "price": 89},
    {"objectID": "2", "name": "Deck shoe", "brand": "Larkfoot", "price": 74},
    {"objectID": "3", "name": "Wool hat", "brand": "Fernhill", "price": 22},
]
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """A test that would reach anything but loopback fails, and proxies of the machine play no part."""
    real_connect, real_connect_ex = socket.socket.connect, socket.socket.connect_ex

    def check(address: Any) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            pytest.fail(f"a test tried to reach {address[0]}:{address[1]}", pytrace=False)

    def connect(self: socket.socket, address: Any) -> None:
        check(address)
        return real_connect(self, address)

    def connect_ex(self: socket.socket, address: Any) -> int:
        check(address)
        return real_connect_ex(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket.socket, "connect_ex", connect_ex)
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
