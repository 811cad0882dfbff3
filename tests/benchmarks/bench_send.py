"""
How fast `algolia-usertoken send` sends a file, next to the sender that a program feeds with the same file.

    python tests/benchmarks/bench_send.py

Both run in a process of their own, one after the other, several times, and deliver over HTTP to a collector on loopback
that counts. The program reads a line, `json.loads` makes it a dict, and `EventSender.send` takes it, with a queue that
holds them all. The command checks the same, keeps a count beside the file after each request, and has at most 4,000
events in memory. The ratio is of events per second of processor time, which is not what others on the machine take;
memory is the highest of the process, with 100,000 events and with ten times as many.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from counting_collector import EVENT_NAME, Collector, counts

COMMAND = """
import resource, sys, time
from algolia_usertoken.cli import main
import algolia_usertoken.events.accepting, algolia_usertoken.events.backfill, algoliasearch.insights.config
wall, processor = time.perf_counter(), time.process_time()
assert main(["send", "--host", f"127.0.0.1:{sys.argv[1]}", sys.argv[2]]) == 0
"""
PROGRAM = """
import json, resource, sys, time
from algoliasearch.http.hosts import Host, HostsCollection
from algoliasearch.insights.config import InsightsConfig
from algolia_usertoken import EventSender
config = InsightsConfig("APP", "key")
config.hosts = HostsCollection([Host(url="127.0.0.1", scheme="http", port=int(sys.argv[1]))])
wall, processor = time.perf_counter(), time.process_time()
sender = EventSender(config=config, max_queue_size=10**9, max_queue_bytes=10**12)
with open(sys.argv[2], encoding="utf-8") as file:
    for line in file:
        assert sender.send(json.loads(line))
assert sender.close(600)
"""
MEASURED = """
wall, processor = time.perf_counter() - wall, time.process_time() - processor
print(wall, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write_events(path: pathlib.Path, number: int) -> None:
    now = int(time.time() * 1000)
    with path.open("w", encoding="utf-8") as file:
        for one in range(number):
            event = {
                "eventType": "conversion",
                "eventSubtype": "purchase",
                "eventName": EVENT_NAME,
                "index": "products",
                "objectIDs": [f"p-{one}"],
                "objectData": [{"price": 9.5, "quantity": 2}],
                "currency": "EUR",
                "userToken": f"user-{one % 1000}",
                "timestamp": now - one,
            }
            file.write(f"{json.dumps(event)}\n")


def run(code: str, port: int, path: pathlib.Path, number: int) -> tuple[float, float, float]:
    """Events per second, and per second of processor time; and megabytes."""
    before = counts(port).events
    command = [sys.executable, "-c", code + MEASURED, str(port), str(path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert counts(port).events - before == number
    wall, processor, kilobytes = map(float, out.splitlines()[-1].split())
    return number / wall, number / processor, kilobytes / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000, metavar="N", help="of the smaller file")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="with the smaller file")
    parser.add_argument("--only-rate", action="store_true", help="leave the file of ten times as many out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Collector() as collector:
        path = pathlib.Path(folder, "events.ndjson")
        write_events(path, arguments.events)
        ratios = []
        for _ in range(arguments.rounds):
            program = run(PROGRAM, collector.port, path, arguments.events)
            command = run(COMMAND, collector.port, path, arguments.events)
            ratios.append(command[1] / program[1])
            for name, (wall, processor, megabytes) in (("program", program), ("command", command)):
                print(f"{name}  {wall:9,.0f}/s  {processor:9,.0f}/s of processor time  {megabytes:6.0f} MB", flush=True)
        print(f"ratio    {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)
        if not arguments.only_rate:
            write_events(path, arguments.events * 10)
            wall, _, megabytes = run(COMMAND, collector.port, path, arguments.events * 10)
            print(f"command  {wall:9,.0f}/s  {megabytes:6.0f} MB with ten times as many events")


if __name__ == "__main__":
    main()
