"""Interleaved calls of many users through one client never carry one another's token.

The script benchmarks/bench_isolation.py does the same a million times.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from algoliasearch.http.api_response import ApiResponse
from algoliasearch.http.transporter import Transporter
from algoliasearch.http.transporter_sync import TransporterSync
from algoliasearch.search.config import SearchConfig

from algolia_usertoken import (
    Identity,
    TokenAwareClient,
    TokenAwareClientSync,
    current_identity,
    identity_scope,
    set_user_token,
)

pytestmark = [pytest.mark.oldest_versions, pytest.mark.adds_no_coverage, pytest.mark.slow]

HEADER = "X-Algolia-UserToken"
DEFAULT = "the-default"
THREADS = TASKS = 8


class MirrorSync(TransporterSync):
    """Answers with what it was given to send."""

    def request(self, verb: Any, path: str, request_options: Any, use_read_transporter: bool) -> ApiResponse[str]:
        return ApiResponse(verb=verb, path=path, headers=request_options.headers, raw_data=request_options.data)


class Mirror(Transporter):
    """Answers with what it was given to send, after others had their turn."""

    async def request(self, verb: Any, path: str, request_options: Any, use_read_transporter: bool) -> ApiResponse[str]:
        await asyncio.sleep(0)
        return ApiResponse(verb=verb, path=path, headers=request_options.headers, raw_data=request_options.data)


def call_of(client: Any, number: int, token: str) -> tuple[Any, str | None]:
    """Make a call in one of the ways there are to say whose it is, and tell what token it must carry."""
    body = {"query": token}
    search = client.search_single_index_with_http_info
    way = number % 6
    if way == 0:
        with identity_scope(token):
            return search("products", body), token
    if way == 1:
        return client.with_identity(token).search_single_index_with_http_info("products", body), token
    if way == 2:
        with identity_scope(None):
            set_user_token(token)
            return search("products", body), token
    if way == 3:
        with identity_scope("somebody-else"):
            return search("products", body, {"headers": {HEADER: token}}), token
    if way == 4:
        with identity_scope(Identity()):
            return search("products", body), None
    return search("products", body), DEFAULT


def is_leak(sent: ApiResponse[str], token: str, expected: str | None) -> bool:
    return (sent.headers or {}).get(HEADER) != expected or sent.raw_data != f'{{"query": "{token}"}}'


def in_a_thread(client: TokenAwareClientSync, name: str, count: int) -> int:
    """`count` calls, one after the other, each for another user; the number of leaks."""
    leaks = 0
    for number in range(count):
        token = f"{name}-{number}"
        sent, expected = call_of(client, number, token)
        leaks += is_leak(sent, token, expected)
    return leaks + (current_identity() is not None)


async def in_a_task(client: TokenAwareClient, name: str, count: int) -> int:
    """As `in_a_thread`; what a scope says holds until the answer is there."""
    leaks = 0
    for number in range(count):
        token = f"{name}-{number}"
        if number % 2:  # the call is made inside the scope and awaited inside it, too
            with identity_scope(token):
                sent, expected = await client.search_single_index_with_http_info("products", {"query": token}), token
                assert current_identity() == Identity(token)
        else:
            view = client.with_identity(token)
            sent, expected = await view.search_single_index_with_http_info("products", {"query": token}), token
        leaks += is_leak(sent, token, expected)
    return leaks + (current_identity() is not None)


@contextmanager
def hurried_threads() -> Iterator[None]:
    """Threads take turns a hundred times as often as usual."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 100)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def leaks_of(requests: int) -> int:
    """The leaks in that many requests, half of them from threads and half from tasks, all at once."""
    config = SearchConfig("app", "key")
    sync_client = TokenAwareClientSync(transporter=MirrorSync(config), config=config, user_token=DEFAULT)
    client = TokenAwareClient(transporter=Mirror(config), config=config, user_token=DEFAULT)
    start = threading.Barrier(THREADS + 1)

    def thread(number: int) -> int:
        start.wait()
        return in_a_thread(sync_client, f"thread-{number}", requests // 2 // THREADS)

    async def all_tasks() -> int:
        tasks = [in_a_task(client, f"task-{number}", requests // 2 // TASKS) for number in range(TASKS)]
        return sum(await asyncio.gather(*tasks))

    def loop() -> int:
        start.wait()
        return asyncio.run(all_tasks())

    with hurried_threads(), ThreadPoolExecutor(THREADS + 1) as pool:
        done = [pool.submit(loop), *(pool.submit(thread, number) for number in range(THREADS))]
        return sum(future.result() for future in done)


def test_no_request_carries_the_token_of_another() -> None:
    assert leaks_of(20_000) == 0


async def test_tasks_of_one_scope_and_a_scope_per_task() -> None:
    """A task starts with the identity of the one that made it, and what it sets stays its own."""
    config = SearchConfig("app", "key")
    client = TokenAwareClient(transporter=Mirror(config), config=config)

    async def visit(token: str | None) -> str | None:
        if token is not None:
            set_user_token(token)
        sent = await client.search_single_index_with_http_info("products", {"query": "shoes"})
        return (sent.headers or {}).get(HEADER)

    with identity_scope("outer"):
        tokens = [None, "inner-1", None, "inner-2"]
        assert await asyncio.gather(*map(visit, tokens)) == ["outer", "inner-1", "outer", "inner-2"]
        assert current_identity() == Identity("outer")
