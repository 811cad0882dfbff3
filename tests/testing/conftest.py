from __future__ import annotations

import http.client
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp.http_exceptions import HttpProcessingError
from algoliasearch.insights.client import InsightsClientSync
from algoliasearch.search.client import SearchClientSync
from waiting import PATIENCE

from algolia_usertoken.testing import LocalAlgolia

RECORDS = [
    {"objectID": "shirt", "name": "Blue Shirt", "brand": "Acme", "price": 20, "sizes": ["S", "M"], "sale": True},
    {"objectID": "hat", "name": "Blue hat", "brand": "Acme", "price": 10, "sizes": ["M"], "sale": False},
    {"objectID": "shoe", "name": "Red shoe <new>", "brand": "Best & Co", "price": 90.5, "maker": {"city": "Paris"}},
]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Ask = Callable[..., Answer]


@pytest.fixture
def algolia(caplog: pytest.LogCaptureFixture) -> Iterator[LocalAlgolia]:
    with LocalAlgolia() as running:
        running.save_objects("products", RECORDS)
        yield running
    # Whatever was sent, nothing went wrong on this side; what is no HTTP at all may be logged.
    own = ("algolia_usertoken.local_algolia", "asyncio", "aiohttp")
    for record in caplog.get_records("call"):
        cause = record.exc_info[1] if record.exc_info else None
        quiet = record.levelno < logging.WARNING or not record.name.startswith(own)
        assert quiet or isinstance(cause, HttpProcessingError), record.getMessage()


@pytest.fixture
def ask(algolia: LocalAlgolia) -> Ask:
    """One request by hand, on a connection of its own."""

    def ask(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        if body is not None and not isinstance(body, bytes):
            body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        key = {"x-algolia-application-id": algolia.app_id, "x-algolia-api-key": algolia.api_key}
        connection = http.client.HTTPConnection(algolia.host, algolia.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {**key, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    return ask


@pytest.fixture
def client(algolia: LocalAlgolia) -> Iterator[SearchClientSync]:
    client = SearchClientSync.create_with_config(algolia.search_config())
    yield client
    client.close()


@pytest.fixture
def insights(algolia: LocalAlgolia) -> Iterator[InsightsClientSync]:
    client = InsightsClientSync.create_with_config(algolia.insights_config())
    yield client
    client.close()
