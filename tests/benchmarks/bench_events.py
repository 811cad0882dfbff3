"""
What an event costs to send, next to other senders of events.

    python tests/benchmarks/bench_events.py [--rounds N] [--all] [--json FILE] [--svg DIR]

enqueue     the call, in a tight loop, while threads deliver to a collector on loopback
throughput  from the first call until `flush` returns and the collector has all of it
memory      what a waiting event holds on to; every event has strings and a user of its own
hung        the call, five times as often as the queue has room, with a collector that never answers

Each measure of each sender runs in a fresh process. Each round takes all of them in turn, and the next in another
order; a ratio is formed within a round, and what is printed is the median of the rounds. posthog, segment and
confluent-kafka are always there, `--all` adds some more. `--svg` writes the pictures and the table of the docs.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import os
import pathlib
import platform
import socket
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import charts
from counting_collector import Collector, counts
from senders import OTHERS, OURS, RIVALS, SENDERS, Sender, new_query_id

USER_TOKEN = "anonymous-5c3f8f2e-4a15-4f62-9a3d-0c1f6f9a7e21"
QUEUE_SIZE = 2_000  # where the collector hangs
SLOW_LINK = 0.05  # seconds

Results = dict[str, dict[str, list[dict[str, float]]]]  # by measure and sender, one dict a round


# In a process of its own: one measure of one sender.


def events(sender: Sender, number: int) -> Iterator[tuple[Any, ...]]:
    """The arguments of that many events."""
    for i in range(number):
        yield sender.arguments(USER_TOKEN, f"object-{i}", i % 20 + 1, new_query_id())


def as_user(name: str, user_token: str) -> Any:
    """Where ours takes the user from; others are told with each event."""
    if SENDERS[name].distribution != "algolia-usertoken":
        return contextlib.nullcontext()
    from algolia_usertoken import identity_scope

    return identity_scope(user_token)


def durations(sender: Sender, number: int) -> list[int]:
    """How long each call takes, in nanoseconds, sorted."""
    clock, enqueue, taken = time.perf_counter_ns, sender.enqueue, []
    for arguments in list(events(sender, number)):
        start = clock()
        enqueue(*arguments)
        taken.append(clock() - start)
    return sorted(taken)


def described(taken: list[int]) -> dict[str, float]:
    """In microseconds. The mean has in it what other threads take from this one."""
    shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
    found = {name: taken[int(len(taken) * share)] / 1e3 for name, share in shares.items()}
    return {"mean": statistics.fmean(taken) / 1e3, **found}


def enqueue(name: str, port: int, number: int) -> dict[str, float]:
    sender = SENDERS[name](port, number * 2)
    with as_user(name, USER_TOKEN):
        durations(sender, number // 10)
        return described(durations(sender, number))


def hung(name: str, port: int, number: int) -> dict[str, float]:
    server = socket.create_server(("127.0.0.1", 0))  # connects, and never answers
    sender = SENDERS[name](server.getsockname()[1], QUEUE_SIZE)
    with as_user(name, USER_TOKEN):
        return described(durations(sender, number))


def throughput(name: str, port: int, number: int) -> dict[str, float]:
    sender = SENDERS[name](port, number)
    prepared = list(events(sender, number))
    before = counts(port)
    gc.collect()
    with as_user(name, USER_TOKEN):
        start = time.perf_counter()
        for arguments in prepared:
            sender.enqueue(*arguments)
        sender.flush()
        seconds = time.perf_counter() - start
    after = counts(port)
    # confluent-kafka has a broker of its own, and says itself whether all has arrived.
    arrived = number * sender.arrived if hasattr(sender, "arrived") else after.events - before.events
    return {
        "events per second": number / seconds,
        "arrived": arrived,
        "requests": after.requests - before.requests,
        "bytes per event": (after.bytes - before.bytes) / max(1, arrived),
    }


def memory(name: str, port: int, number: int) -> dict[str, float]:
    server = socket.create_server(("127.0.0.1", 0))
    sender = SENDERS[name](server.getsockname()[1], number * 2)
    with as_user(name, USER_TOKEN):
        for arguments in events(sender, 2_000):  # what is made once: caches, threads, a connection
            sender.enqueue(*arguments)
    time.sleep(1.0)
    gc.collect()
    tracemalloc.start()
    for i in range(number):
        user_token = f"anonymous-{new_query_id()}"
        with as_user(name, user_token):
            sender.enqueue(*sender.arguments(user_token, f"product-{i}", i % 20 + 1, new_query_id()))
    gc.collect()
    return {"bytes": tracemalloc.get_traced_memory()[0] / number}


MEASURES = {"enqueue": enqueue, "hung": hung, "memory": memory, "throughput": throughput}


def measure_here(measure: str, name: str, port: int, number: int) -> None:
    print(json.dumps(MEASURES[measure](name, port, number)), flush=True)
    os._exit(0)  # some would wait for the collector that never answers


# In the process that is started: all of them.


def measure_in_a_process(measure: str, name: str, port: int, number: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", measure, name, str(port), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise SystemExit(f"{measure} of {name} failed:\n{done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    if result.get("arrived", number) != number:
        print(f"  {name}: {result['arrived']} of {number} events arrived", file=sys.stderr)
    return result


def run(names: list[str], rounds: int, number: int) -> Results:
    results: Results = {measure: defaultdict(list) for measure in [*MEASURES, "slow link"]}
    with Collector() as collector, Collector(SLOW_LINK) as slow:
        for i in range(rounds):
            print(f"round {i + 1} of {rounds}", file=sys.stderr, flush=True)
            order = names[i % len(names) :] + names[: i % len(names)]
            for measure in MEASURES:
                if measure == "memory" and i:
                    continue  # the same each time
                events = {"throughput": number, "hung": QUEUE_SIZE * 5}.get(measure, number // 5)
                for name in order:
                    results[measure][name].append(measure_in_a_process(measure, name, collector.port, events))
            for name in ("send", "four at once"):
                results["slow link"][name].append(measure_in_a_process("throughput", name, slow.port, number))
    return results


def medians(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    return {
        measure: {
            name: {key: statistics.median(one[key] for one in all_rounds) for key in all_rounds[0]}
            for name, all_rounds in by_name.items()
        }
        for measure, by_name in results.items()
    }


def ratios(results: Results) -> dict[str, list[float]]:
    """How many times better than the better of posthog and segment, each round for itself."""

    def of(measure: str, key: str, ours: str, more_is_better: bool) -> list[float]:
        best = max if more_is_better else min
        found = []
        for i, one in enumerate(results[measure][ours]):
            rival = best(results[measure][name][i][key] for name in RIVALS)
            found.append(one[key] / rival if more_is_better else rival / one[key])
        return found

    return {
        f"{what}, {SENDERS[ours].label}": of(measure, key, ours, more_is_better)
        for what, measure, key, more_is_better in (
            ("a call, median", "enqueue", "p50", False),
            ("a call, mean", "enqueue", "mean", False),
            ("throughput", "throughput", "events per second", True),
            ("memory", "memory", "bytes", False),
        )
        for ours in OURS
    }


def beside_kafka(results: Results) -> str:
    """How the twelve compare with librdkafka, the highest reference there is."""

    def of(measure: str, key: str) -> float:
        pairs = zip(results[measure]["by name"], results[measure]["kafka"], strict=True)
        return statistics.median(ours[key] / theirs[key] for ours, theirs in pairs)

    return (
        f"Beside confluent-kafka, fed with json.dumps and delivering to its built-in broker: a call of ours takes "
        f"{of('enqueue', 'p50'):.2f} of the time of theirs, and the throughput is "
        f"{of('throughput', 'events per second'):.2f} of theirs."
    )


def machine() -> dict[str, Any]:
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def table(names: list[str], middle: dict[str, dict[str, dict[str, float]]]) -> str:
    """In Markdown."""
    lines = [
        "| | a call, median µs | mean µs | p99.9 with a hung collector, µs | events/s | bytes per waiting event |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in names:
        label = f"**`{SENDERS[name].label}`**" if name in OURS else SENDERS[name].label
        figures = [
            f"{middle['enqueue'][name]['p50']:.1f}",
            f"{middle['enqueue'][name]['mean']:.1f}",
            f"{middle['hung'][name]['p99.9']:,.0f}",
            f"{middle['throughput'][name]['events per second']:,.0f}",
            f"{middle['memory'][name]['bytes']:,.0f}",
        ]
        lines.append(f"| {label} | {' | '.join(figures)} |")
    return "\n".join(lines)


def summary(results: Results, rounds: int, number: int, names: list[str]) -> str:
    """The sentences below the table."""
    here, middle = machine(), medians(results)
    lines = ["| times better than the better of posthog and segment | median of the rounds | all rounds |"]
    lines.append("| --- | ---: | ---: |")
    for what, found in ratios(results).items():
        spread = f"{min(found):.1f} to {max(found):.1f}" if len(found) > 1 else "one round"
        lines.append(f"| {what} | {statistics.median(found):.1f} | {spread} |")
    one, four = (middle["slow link"][name]["events per second"] for name in ("send", "four at once"))
    slow = f"Over a link that takes {SLOW_LINK * 1000:.0f} ms for an answer, one thread carries {one:,.0f} events/s"
    lines += ["", f"{slow}, and `concurrency=4` {four:,.0f}."]
    lines += ["", beside_kafka(results)]
    versions = ", ".join(dict.fromkeys(SENDERS[name].version() for name in names))
    where = f"{here['cores']} cores, {here['python']}, {here['system']}"
    lines += ["", f"{rounds} rounds of {number:,} events on {where}: {versions}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=100_000, help="events of a throughput measurement")
    parser.add_argument("--all", action="store_true", help="all senders that are known here")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write all figures of all rounds")
    parser.add_argument("--svg", type=pathlib.Path, metavar="DIR", help="write the pictures and the table of the docs")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure, name, port, number = arguments.one
        measure_here(measure, name, int(port), int(number))
    names = [*OURS, *RIVALS, "kafka", *(OTHERS if arguments.all else ())]
    results = run(names, arguments.rounds, arguments.events)
    middle = medians(results)
    text = f"{table(names, middle)}\n\n{summary(results, arguments.rounds, arguments.events, names)}\n"
    print(text)
    if arguments.json:
        figures = {"machine": machine(), "medians": middle, "ratios": ratios(results), "rounds": results}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    if arguments.svg:
        arguments.svg.mkdir(parents=True, exist_ok=True)
        (arguments.svg / "events-table.txt").write_text(text, encoding="utf-8")
        labels = {name: SENDERS[name].label for name in names}
        rates = {name: middle["throughput"][name]["events per second"] for name in names}
        costs = {name: middle["enqueue"][name]["p50"] for name in names}
        for file, title, values in (
            ("events-throughput.svg", "Events delivered per second (more is better)", rates),
            ("events-enqueue.svg", "What a call costs, median, in µs (less is better)", costs),
        ):
            (arguments.svg / file).write_text(charts.bars(title, labels, values, OURS), encoding="utf-8")


if __name__ == "__main__":
    main()
