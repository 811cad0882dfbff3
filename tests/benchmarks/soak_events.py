"""
Hours of trouble in minutes: what becomes of events while the collector fails in another way every 100 ms.

    python tests/benchmarks/soak_events.py [--seconds N] [--events N] [--threads N] [--seed N]

The sender runs in this process, the collector in another. Checked are: accepted = delivered + rejected + failed; that
each event that was delivered arrived, and none twice but those whose answer was lost; that `on_error` got all others
once; and that memory is flat. Ends with status 1 where one of them does not hold.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import os
import random
import resource
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "events"
sys.path[:0] = [str(TESTS), str(TESTS / "programs")]

POISON = 0.0005  # of the events


def serve(pipe: Connection, seed: int) -> None:
    """The collector's process: another fault every 100 ms, until told to stop."""
    from collector import ACCEPT_AND_DROP, DROP, Answer, Collector

    chance = random.Random(seed)
    faults: dict[str, int] = {}
    current: list[Any] = [None]
    with Collector() as collector:

        def choose(ids: Sequence[str]) -> Answer | None:
            bad = [name for name in ids if name.startswith("poison")]
            fault = current[0]
            if fault == "lost answer" and not bad:
                return Answer(ACCEPT_AND_DROP)
            if isinstance(fault, Answer):
                return fault
            if bad:
                return Answer(400, body=json.dumps({"message": f"poisoned: {bad[0]}"}).encode())
            return None

        collector.choose = choose
        pipe.send(collector.port)
        while not pipe.poll(0.1):
            collector.release()
            collector.limit = collector.idle_time = None
            collector.delay = 0.0
            name = chance.choice(["fine"] * 6 + ["503", "429", "403", "404", "drop", "lost answer", "slow", "hung"])
            name = chance.choice([name] * 4 + ["413", "stale", "closed", "502 in HTML"])
            faults[name] = faults.get(name, 0) + 1
            current[0] = {
                "503": Answer(503),
                "429": Answer(429, {"Retry-After": chance.choice(["0", "1"])}),
                "403": Answer(403),
                "404": Answer(404) if not chance.randrange(10) else None,
                "drop": Answer(DROP),
                "lost answer": "lost answer",
                "502 in HTML": Answer(502, {"Content-Type": "text/html"}, b"<h1>Bad gateway</h1>"),
            }.get(name)
            if name == "slow":
                collector.delay = 0.05
            elif name == "hung":
                collector.hang()
            elif name == "413":
                collector.limit = 100
            elif name == "stale":
                collector.idle_time = 0.0
            elif name == "closed":
                collector.close_connections()
        pipe.recv()
        current[0] = None
        collector.release()
        collector.limit = collector.idle_time = None
        collector.delay = 0.0
        pipe.send("fine now")
        pipe.recv()
        pipe.send((dict(collector.counts), collector.in_doubt, len(collector.requests), faults, collector.errors))


def megabytes() -> float:
    """Of memory in use now."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, arguments.seed), daemon=True)
    process.start()
    port = pipe.recv()

    from prelude import adds_up, event, sender

    reported: dict[str, str] = {}
    twice_reported: list[str] = []
    lock = threading.Lock()

    def on_error(error: Exception, events: Sequence[Any]) -> None:
        with lock:
            for one in events:
                name = one["objectIDs"][0]
                if name in reported:
                    twice_reported.append(name)
                reported[name] = str(error)

    events = sender(port, on_error=on_error, concurrency=2, max_queue_size=20_000, flush_interval=0.1)
    sent: list[set[str]] = [set() for _ in range(arguments.threads)]
    each = arguments.events // arguments.threads
    started = time.monotonic()

    def work(place: int) -> None:
        chance = random.Random(arguments.seed * 1000 + place)
        for number in range(each):
            name = f"{'poison' if chance.random() < POISON else 'good'}-{place}-{number}"
            while not events.send(event(name)):
                time.sleep(0.01)  # the queue is full
            sent[place].add(name)
            ahead = started + number * arguments.seconds / each - time.monotonic()
            if ahead > 0.002:
                time.sleep(ahead)

    threads = [threading.Thread(target=work, args=(place,)) for place in range(arguments.threads)]
    for thread in threads:
        thread.start()
    memory: list[float] = []
    broken = 0
    readings = 0
    said = time.monotonic()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.05)
        stats = events.stats
        readings += 1
        broken += not adds_up(stats)
        if time.monotonic() - said > arguments.seconds / 10:
            said = time.monotonic()
            gc.collect()
            names = sum(map(len, sent)) / 1e6 * 150  # what we keep ourselves: about 150 bytes a name
            memory.append(megabytes() - names)
            print(f"{said - started:5.0f} s  {memory[-1]:6.1f} MB besides the names  {stats}", flush=True)
    pipe.send("enough")
    pipe.recv()
    closed = events.close(120.0)
    stats = events.stats
    pipe.send("what was there?")
    counts, in_doubt, requests, faults, errors = pipe.recv()
    process.join(10)

    names = set().union(*sent)
    arrived = set(counts)
    duplicates = {name for name, count in counts.items() if count > 1}
    checks = {
        "close was in time": closed,
        "accepted = delivered + rejected + failed": stats.accepted == stats.delivered + stats.rejected + stats.failed,
        "accepted is what send said": stats.accepted == len(names),
        f"the sum held at {readings} readings": not broken,
        "all of them arrived or were reported": not names - arrived - set(reported),
        "all that is counted as delivered arrived": stats.delivered == len(names - set(reported)),
        "on_error got each of the others once": not twice_reported and len(reported) == stats.rejected + stats.failed,
        "twice only where an answer was lost or late": len(duplicates - in_doubt) == 0,
        "no malformed request": not errors,
        "memory is flat": max(memory[len(memory) // 2 :], default=0) - max(memory[: len(memory) // 2], default=0) < 8,
    }
    print(f"{time.monotonic() - started:.0f} s, {requests} requests, {len(duplicates)} twice, {faults}")
    print(stats)
    for name, held in checks.items():
        print("ok    " if held else "BROKEN", name)
    return not all(checks.values())


if __name__ == "__main__":
    sys.exit(main())
