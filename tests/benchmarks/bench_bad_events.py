"""
What bad events cost the good ones: 500 events a second, 20 ms for an answer, and a receiver that refuses what is bad.

    python tests/benchmarks/bench_bad_events.py [--seconds N]

random 1 %    one event in a hundred is bad, two threads
by site 25 %  all events of 5 of 20 call sites are bad, one thread
random 25 %   one event in four is bad, one thread: more than can be found in the time, so it takes longer
all           each of 1,000 events is bad

The receiver is in this process, and only knows whether a request holds a bad event. Latency is from `send` to the
request that was accepted.
"""

from __future__ import annotations

import argparse
import random
import threading
import time
from collections.abc import Callable

from algolia_usertoken import Batch, BatchRejectedError, EventSender

ANSWER_S = 0.02
RATE = 500  # events per second
SITES = 20


class Receiver:
    """Takes 20 ms for an answer, and refuses each request with a bad event in it."""

    def __init__(self, is_bad: Callable[[str], bool]) -> None:
        self.is_bad = is_bad
        self.latencies: list[float] = []
        self.requests = self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def deliver(self, batch: Batch, timeout: float | None) -> None:
        with self._lock:
            self.requests += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        time.sleep(ANSWER_S)
        names = [event["objectIDs"][0] for event in batch.events]
        now = time.monotonic()
        with self._lock:
            self.at_once -= 1
            if any(map(self.is_bad, names)):
                raise BatchRejectedError("something is bad")
            self.latencies += [now - float(name.split("-")[1]) for name in names]

    def close(self) -> None:
        pass


def play(name: str, is_bad: Callable[[str], bool], concurrency: int, seconds: float) -> None:
    receiver = Receiver(is_bad)
    rejected: list[str] = []

    def on_error(error: Exception, events: object) -> None:
        rejected.extend(event["objectIDs"][0] for event in events)  # type: ignore[attr-defined]

    sender = EventSender(delivery=receiver, user_token="u", concurrency=concurrency, on_error=on_error)
    start, number, good = time.monotonic(), 0, 0
    while (passed := time.monotonic() - start) < seconds:
        while number < passed * RATE:
            object_id = f"{number}-{time.monotonic()!r}"
            good += not is_bad(object_id)
            sender.viewed_object_ids(f"Viewed {number % SITES}", "products", [object_id])
            number += 1
        time.sleep(0.005)
    done = sender.flush(1_200)
    took = time.monotonic() - start
    stats = sender.stats
    latencies = sorted(receiver.latencies)
    p99 = latencies[int(len(latencies) * 0.99)] if latencies else 0.0
    given_up = sum(not is_bad(object_id) for object_id in rejected)
    print(
        f"{name:<13} {number:>6} events, {len(latencies)} of {good} good ones arrived, {given_up} given up, "
        f"{stats.dropped} dropped, p99 {p99:.2f} s, {receiver.requests} requests, at most {receiver.most_at_once} "
        f"at once, {took:.0f} s{'' if done else ', NOT DONE'}",
        flush=True,
    )
    sender.close()


def chance(share: float) -> Callable[[str], bool]:
    """Whether an event is bad, by its number: always the same answer."""
    draw = random.Random(1)
    bad = [draw.random() < share for _ in range(100_000)]
    return lambda object_id: bad[int(object_id.split("-")[0]) % 100_000]


def all_bad() -> None:
    receiver = Receiver(lambda object_id: True)
    sender = EventSender(delivery=receiver, user_token="u")
    for number in range(1_000):
        sender.viewed_object_ids("Viewed", "products", [f"{number}-0"])
    sender.flush(600)
    print(
        f"all           1,000 events, {sender.stats.rejected} rejected after {receiver.requests} requests", flush=True
    )
    sender.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    threads = [
        threading.Thread(target=play, args=("random 1 %", chance(0.01), 2, seconds)),
        threading.Thread(
            target=play, args=("by site 25 %", lambda one: int(one.split("-")[0]) % SITES < 5, 1, seconds)
        ),
        threading.Thread(target=play, args=("random 25 %", chance(0.25), 1, seconds)),
        threading.Thread(target=all_bad),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
