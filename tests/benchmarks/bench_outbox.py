"""
What an event costs that waits on disk: `send` with an outbox, beside `put` of litequeue, whose queue is an SQLite file.

    python tests/benchmarks/bench_outbox.py [--blocks N] [--drained N] [--directory DIR]

put      both files in one directory, with the same settings (a write-ahead log, `synchronous = NORMAL`: no fsync per
         event), in short blocks in random order. `send` takes a dict and finds out whose event it is; `put` gets the
         text of the same event ready made, and, for itself, from json.dumps, as who has a dict has to. Nobody takes out
         meanwhile. The time of the thread is that without what other programs of the machine take.
drain    `send` 100 times a second while events that wait already are delivered to a LocalAlgolia, in another process
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.insights.config import InsightsConfig
from litequeue import LiteQueue

from algolia_usertoken import EventSender, MemoryDelivery, SQLiteOutbox, identity_scope
from algolia_usertoken.testing import LocalAlgolia

USER_TOKEN = "anonymous-5c3f8f2e-4a15-4f62-9a3d-0c1f6f9a7e21"
CALLS = 20  # of a block
PAUSE_S = 0.01  # between two calls while events are drained


def event(number: int) -> dict[str, Any]:
    return {
        "eventType": "click",
        "eventName": "Product Clicked",
        "index": "products",
        "objectIDs": [f"object-{number}"],
        "positions": [number % 20 + 1],
        "queryID": uuid.uuid4().hex,
    }


def as_text(number: int) -> str:
    given = {**event(number), "userToken": USER_TOKEN, "timestamp": int(time.time() * 1000)}
    return json.dumps(given, separators=(",", ":"))


def settings_of(path: Path) -> str:
    connection = sqlite3.connect(path)
    (journal,), (page,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "page_size"))
    connection.close()
    return f"journal_mode={journal}, page_size={page}"


def described(taken: Sequence[float]) -> str:
    """Of the blocks, in microseconds per call."""
    low = sorted(taken)
    return f"{low[0]:6.1f} {low[len(low) // 10]:6.1f} {statistics.median(low):6.1f}"


def bench_put(directory: Path, blocks: int) -> None:
    theirs = LiteQueue(directory / "litequeue.db")
    ours = EventSender(outbox=SQLiteOutbox(directory / "outbox.db"), delivery=MemoryDelivery(), background=False)

    def send(events: Sequence[dict[str, Any]]) -> None:
        call = ours.send
        for one in events:
            call(one)

    def put(texts: Sequence[str]) -> None:
        call = theirs.put
        for one in texts:
            call(one)

    def dumps_and_put(events: Sequence[dict[str, Any]]) -> None:
        call, dumps = theirs.put, json.dumps
        for one in events:
            call(dumps(one))

    ways: dict[str, tuple[Callable[[Any], None], Callable[[int], Any]]] = {
        "send": (send, event),
        "put": (put, as_text),
        "json.dumps, put": (dumps_and_put, event),
    }
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    draw = random.Random(1)
    with identity_scope(USER_TOKEN):
        for block in range(blocks):
            for name in draw.sample(sorted(ways), len(ways)):
                call, made = ways[name]
                given = [made(block * CALLS + number) for number in range(CALLS)]
                cpu_start, start = time.thread_time_ns(), time.perf_counter_ns()
                call(given)
                end, cpu_end = time.perf_counter_ns(), time.thread_time_ns()
                wall[name].append((end - start) / CALLS / 1e3)
                cpu[name].append((cpu_end - cpu_start) / CALLS / 1e3)
            if not block % 50:
                ours.flush()
    assert ours.stats.accepted == blocks * CALLS
    print(f"{blocks} blocks of {CALLS} calls; {settings_of(directory / 'outbox.db')} and synchronous=NORMAL in both")
    print("µs per call, of the blocks:   least  tenth median   the thread's own: least  tenth median")
    for name in ways:
        print(f"{name:<27} {described(wall[name])}                   {described(cpu[name])}")
    for other in ("put", "json.dumps, put"):
        found = [
            share(sorted(taken["send"])) / share(sorted(taken[other]))
            for taken in (wall, cpu)
            for share in (min, statistics.median)
        ]
        print(
            f"`send` takes of `{other}`: {found[0]:.2f} by the least, {found[1]:.2f} by the median; "
            f"of the thread's own time {found[2]:.2f} and {found[3]:.2f}"
        )
    ours.close(0)


def serve(pipe: Connection) -> None:
    with LocalAlgolia() as algolia:
        pipe.send(algolia.port)
        pipe.recv()
        pipe.send(len(algolia.events))


def bench_drain(directory: Path, waiting: int) -> None:
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    config = InsightsConfig("LOCALALGOLIA", "local-api-key")
    config.hosts = HostsCollection([Host("127.0.0.1", scheme="http", port=pipe.recv())])
    path = directory / "drained.db"
    with identity_scope(USER_TOKEN):
        before = SQLiteOutbox(path)  # of a process that ended
        for number in range(waiting):
            before.append(as_text(number).encode())
        before.close()
        taken = []
        start = time.perf_counter()
        ours = EventSender(outbox=SQLiteOutbox(path), config=config)
        while ours.stats.delivered < waiting:
            one = event(len(taken))
            began = time.perf_counter_ns()
            ours.send(one)
            taken.append((time.perf_counter_ns() - began) / 1e6)
            time.sleep(PAUSE_S)
        seconds = time.perf_counter() - start
        ours.close(60)
    pipe.send("how many?")
    arrived = pipe.recv()
    process.join(10)
    taken.sort()
    print(
        f"{waiting:,} waiting events drained in {seconds:.1f} s, {len(taken)} sent meanwhile, {arrived:,} arrived, "
        f"{ours.stats.dropped} dropped; `send` in ms: median {statistics.median(taken):.3f}, "
        f"p99 {taken[int(len(taken) * 0.99)]:.2f}, the slowest {taken[-1]:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=500)
    parser.add_argument("--drained", type=int, default=20_000, metavar="N")
    parser.add_argument("--directory", type=Path, help="on the disk to try; by default where temporary files are")
    arguments = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}, litequeue {version('litequeue')}")
    with tempfile.TemporaryDirectory(dir=arguments.directory) as name:
        bench_put(Path(name), arguments.blocks)
        bench_drain(Path(name), arguments.drained)


if __name__ == "__main__":
    main()
