"""
How fast LocalAlgolia is, next to a bare handler of the same server library.

    python tests/benchmarks/local_algolia.py

10,000 searches from 8 threads and 8 tasks at once, in a process of their own, go first to a handler that reads the body
and answers with bytes made before, of average length, and then to LocalAlgolia, which parses, searches and keeps; in
blocks of 1,000, in turn. An answer other than 200 ends it.
The last line has the median of the ratios: 1 would be as fast as the bare handler. By the clock it means little on a
machine that has other things to do; by CPU time, of both ends together, it says what one core could do.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import aiohttp
from aiohttp import web

from algolia_usertoken.testing import LocalAlgolia

THREADS = TASKS = 8
PATH = "/1/indexes/products/query"
WORDS = ["blue", "red", "green", "shirt", "hat", "shoe", "wool", "cotton", "large", "small", "light", "warm"]
RECORDS = [
    {
        "objectID": str(number),
        "name": f"{WORDS[number % 12].title()} {WORDS[number * 5 % 12]} {number}",
        "description": f"A {WORDS[number * 7 % 12]} thing of {WORDS[number * 11 % 12]}, number {number}",
        "brand": f"Brand {number % 10}",
        "price": number,
    }
    for number in range(500)
]
BODIES = [
    json.dumps({"query": f"{first} {second}"[:9], "clickAnalytics": True, "userToken": f"user-{first}"})
    for first in WORDS
    for second in WORDS
]
HEADERS = {
    "x-algolia-application-id": "LOCALALGOLIA",
    "x-algolia-api-key": "local-api-key",
    "content-type": "application/json",
}


class Bare:
    """The least that aiohttp.web can do: read, answer."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._ready = threading.Event()

    def __enter__(self) -> int:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._ready.wait()
        return self.port

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        runner = web.ServerRunner(web.Server(self._handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await self._stopping.wait()
        await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(body=self._answer, content_type="application/json")


def search_in_a_thread(port: int, bodies: list[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for body in bodies:
        connection.request("POST", PATH, body, HEADERS)
        response = connection.getresponse()
        answer = response.read()
        assert response.status == 200, answer
    connection.close()


async def search_in_tasks(port: int, shares: list[list[str]]) -> None:
    url = f"http://127.0.0.1:{port}{PATH}"
    async with aiohttp.ClientSession(headers=HEADERS) as session:

        async def search(bodies: list[str]) -> None:
            for body in bodies:
                async with session.post(url, data=body) as response:
                    answer = await response.read()
                    assert response.status == 200, answer

        await asyncio.gather(*(search(share) for share in shares))


def average_answer(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    answers = []
    for body in BODIES:
        connection.request("POST", PATH, body, HEADERS)
        answers.append(connection.getresponse().read())
    connection.close()
    average = sum(map(len, answers)) // len(answers)
    return min(answers, key=lambda answer: abs(len(answer) - average))


def load(port: int, searches: int) -> tuple[float, float]:
    """How long so many searches take, over all threads and tasks: seconds by the clock, and of this process's CPU."""
    bodies = [BODIES[number % len(BODIES)] for number in range(searches)]
    shares = [bodies[number :: THREADS + TASKS] for number in range(THREADS + TASKS)]
    started, used = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(THREADS + 1) as pool:
        running = [pool.submit(search_in_a_thread, port, share) for share in shares[:THREADS]]
        running.append(pool.submit(lambda: asyncio.run(search_in_tasks(port, shares[THREADS:]))))
        for each in running:
            each.result()
    return time.perf_counter() - started, time.process_time() - used


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--searches", type=int, default=10_000)
    parser.add_argument("--block", type=int, default=1_000)
    options = parser.parse_args()
    ratios: list[tuple[float, float]] = []
    with multiprocessing.get_context("spawn").Pool(1) as elsewhere, LocalAlgolia() as algolia:
        algolia.save_objects("products", RECORDS)

        def block(port: int) -> tuple[float, float]:
            """Seconds by the clock, and of CPU time: those who ask are elsewhere, and who answers is this process."""
            used = time.process_time()
            clock, asking = elsewhere.apply(load, (port, options.block))
            return clock, asking + time.process_time() - used

        with Bare(average_answer(algolia.port)) as port:
            block(port)
            block(algolia.port)
            for _ in range(max(options.searches // options.block, 1)):
                bare, local = block(port), block(algolia.port)
                ratios.append((bare[0] / local[0], bare[1] / local[1]))
                rates = [f"{options.block / seconds:6,.0f}" for seconds in (bare[0], local[0], bare[1], local[1])]
                print(
                    f"by the clock: bare {rates[0]}/s, LocalAlgolia {rates[1]}/s, ratio {ratios[-1][0]:.2f}   "
                    f"by CPU time: bare {rates[2]}/s, LocalAlgolia {rates[3]}/s, ratio {ratios[-1][1]:.2f}",
                    flush=True,
                )
    clock, cpu = (statistics.median(each) for each in zip(*ratios, strict=True))
    print(f"ratio by the clock {clock:.2f}, by CPU time {cpu:.2f}")


if __name__ == "__main__":
    main()
