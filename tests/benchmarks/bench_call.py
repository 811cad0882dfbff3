"""
What a token-aware call costs, next to the same call with the header passed by hand.

    python tests/benchmarks/bench_call.py [--rounds N] [--calls N]

Both go through algoliasearch's echo transporters, which send nothing. Each round times both, one after the other and in
turn who is first; the ratio of a round is theirs, and what is printed is the median of the rounds, with the middle half
of them. 1 would be for free.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable

import algoliasearch
from algoliasearch.http.transporter import EchoTransporter
from algoliasearch.http.transporter_sync import EchoTransporterSync
from algoliasearch.search.client import SearchClient, SearchClientSync
from algoliasearch.search.config import SearchConfig

from algolia_usertoken import TokenAwareClient, TokenAwareClientSync, identity_scope

TOKEN = "visitor-1"
BODY = {"query": "shoes", "hitsPerPage": 20, "filters": "brand:Larkfoot"}
Measure = Callable[[int], Awaitable[float]]


def measures() -> dict[str, tuple[Measure, Measure]]:
    """For sync and async: how long that many calls take with the header by hand, and through a token-aware client."""
    config = SearchConfig("app", "key")
    plain_sync = SearchClientSync(transporter=EchoTransporterSync(config), config=config)
    aware_sync = TokenAwareClientSync(transporter=EchoTransporterSync(config), config=config)
    plain = SearchClient(transporter=EchoTransporter(config), config=config)
    aware = TokenAwareClient(transporter=EchoTransporter(config), config=config)

    async def by_hand_sync(calls: int) -> float:
        search = plain_sync.search_single_index_with_http_info
        started = time.perf_counter()
        for _ in range(calls):
            search("products", BODY, {"headers": {"X-Algolia-UserToken": TOKEN}})
        return time.perf_counter() - started

    async def token_aware_sync(calls: int) -> float:
        search = aware_sync.search_single_index_with_http_info
        with identity_scope(TOKEN):
            started = time.perf_counter()
            for _ in range(calls):
                search("products", BODY)
            return time.perf_counter() - started

    async def by_hand(calls: int) -> float:
        search = plain.search_single_index_with_http_info
        started = time.perf_counter()
        for _ in range(calls):
            await search("products", BODY, {"headers": {"X-Algolia-UserToken": TOKEN}})
        return time.perf_counter() - started

    async def token_aware(calls: int) -> float:
        search = aware.search_single_index_with_http_info
        with identity_scope(TOKEN):
            started = time.perf_counter()
            for _ in range(calls):
                await search("products", BODY)
            return time.perf_counter() - started

    return {"sync": (by_hand_sync, token_aware_sync), "async": (by_hand, token_aware)}


async def ratios(by_hand: Measure, token_aware: Measure, rounds: int, calls: int) -> tuple[list[float], list[float]]:
    """The ratio of each round, and the seconds of one call by hand."""
    found, seconds = [], []
    await by_hand(calls)
    await token_aware(calls)
    for number in range(rounds):
        if number % 2:
            ours, theirs = await token_aware(calls), await by_hand(calls)
        else:
            theirs, ours = await by_hand(calls), await token_aware(calls)
        found.append(ours / theirs)
        seconds.append(theirs / calls)
    return found, seconds


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--calls", type=int, default=500, help="calls of each kind in a round")
    arguments = parser.parse_args()
    gc.disable()
    print(f"algoliasearch {algoliasearch.__version__}, {arguments.rounds} rounds of {arguments.calls} calls")
    for name, pair in measures().items():
        found, seconds = await ratios(*pair, arguments.rounds, arguments.calls)
        low, middle, high = statistics.quantiles(found, n=4)
        by_hand = statistics.median(seconds) * 1e6
        print(f"{name:5}  by hand {by_hand:5.1f} µs  token-aware / by hand {middle:.3f}  ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    asyncio.run(main())
