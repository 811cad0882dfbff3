"""
What the ASGI middleware costs per request, next to asgi-correlation-id's.

    python tests/benchmarks/bench_asgi.py

Both wrap the same application, which answers at once, and get the same requests, with the headers of a browser, of 200
visitors in turn: either with what each middleware looks for (a cookie, a request id), or without it, so that each makes
one of its own. There is no server between. The ratios are of the processor time that each adds to the bare application:
1 is the same cost.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from typing import Any
from uuid import uuid4

from asgi_correlation_id import CorrelationIdMiddleware

from algolia_usertoken import anonymous_user_token
from algolia_usertoken.integrations.asgi import IdentityMiddleware

VISITORS = 200
HEADERS = [
    (b"host", b"shop.example"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-GB,en;q=0.5"),
    (b"accept-encoding", b"gzip, deflate, br"),
    (b"referer", b"https://shop.example/"),
]
COOKIES = (
    b"_ga=GA1.1.1834621875.1735689600; sessionid=0s7x4f2c8d5e9b1a3g6h; csrftoken=k2J8sPq5VtYw3XzA7bCdEf; theme=dark; "
    b"_ALGOLIA="
)


async def bare(scope: Any, receive: Any, send: Any) -> None:
    # New at each request: middleware may write into it.
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def receive() -> Any:
    raise AssertionError("the application reads no body")


async def send(message: Any) -> None:
    pass


async def seconds(app: Any, visitors: list[list[tuple[bytes, bytes]]], requests: int) -> float:
    start = time.process_time()
    for number in range(requests):
        headers = visitors[number % len(visitors)]
        await app(
            {
                "type": "http",
                "method": "GET",
                "path": "/",
                "scheme": "https",
                "headers": list(headers),
                "client": ("203.0.113.7", 50000),
                "state": {},
            },
            receive,
            send,
        )
    return (time.process_time() - start) / requests


async def compare(visitors: list[list[tuple[bytes, bytes]]], options: argparse.Namespace, **keywords: Any) -> str:
    ours, theirs = IdentityMiddleware(bare, **keywords), CorrelationIdMiddleware(bare)
    added: list[tuple[float, float]] = []
    for _ in range(options.rounds):
        alone = await seconds(bare, visitors, options.requests)
        added.append(
            (
                await seconds(theirs, visitors, options.requests) - alone,
                await seconds(ours, visitors, options.requests) - alone,
            )
        )
    theirs_median, ours_median = (statistics.median(column) for column in zip(*added, strict=True))
    ratio = statistics.median(ours / theirs for theirs, ours in added)
    return (
        f"asgi-correlation-id {theirs_median * 1e6:5.2f} µs   IdentityMiddleware {ours_median * 1e6:5.2f} µs   "
        f"ratio {ratio:.2f}"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000, help="per middleware and round")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    new = [HEADERS] * VISITORS
    returning = [
        [*HEADERS, (b"cookie", COOKIES + anonymous_user_token().encode()), (b"x-request-id", uuid4().hex.encode())]
        for _ in range(VISITORS)
    ]
    everything: dict[str, Any] = {
        "authenticated_user_token": lambda scope: "user-42",
        "set_cookie": lambda scope: True,
        "opted_out": lambda scope: False,
        "header": "X-Algolia-UserToken",
        "client_ip": True,
    }
    print("with every option, a visitor with a cookie:", await compare(returning, options, **everything))
    print("a new visitor, who is given one:           ", await compare(new, options, set_cookie=True))
    print("a visitor with a cookie:                   ", await compare(returning, options, set_cookie=True))


if __name__ == "__main__":
    asyncio.run(main())
