"""Sends many searches at once, faster than any client does."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from waiting import PATIENCE

from algolia_usertoken.testing import LocalAlgolia

BODY = b'{"query": "hat", "hitsPerPage": 1}'


class Pipeline:
    """A connection that sends requests before the answers to earlier ones have arrived."""

    def __init__(self, algolia: LocalAlgolia, connection: socket.socket) -> None:
        self.algolia = algolia
        self.connection = connection

    def search_as(self, user_tokens: Iterable[str]) -> None:
        """Search once with each of these user tokens. All searches are answered when this returns."""
        requests = [self._request(user_token) for user_token in user_tokens]
        self.connection.sendall(b"".join(requests))
        answers = b""
        while answers.count(b'"serverTimeMS"') < len(requests):
            received = self.connection.recv(1_000_000)
            assert received, "the server hung up"
            answers += received
        assert answers.count(b"HTTP/1.1 200 OK") == len(requests)

    def _request(self, user_token: str) -> bytes:
        head = (
            f"POST /1/indexes/products/query HTTP/1.1\r\nHost: {self.algolia.host}\r\nContent-Length: {len(BODY)}\r\n"
            f"X-Algolia-Application-Id: {self.algolia.app_id}\r\nX-Algolia-API-Key: {self.algolia.api_key}\r\n"
            f"X-Algolia-UserToken: {user_token}\r\n\r\n"
        )
        return head.encode() + BODY


@contextmanager
def pipeline(algolia: LocalAlgolia) -> Iterator[Pipeline]:
    with socket.create_connection((algolia.host, algolia.port), timeout=PATIENCE) as connection:
        yield Pipeline(algolia, connection)
