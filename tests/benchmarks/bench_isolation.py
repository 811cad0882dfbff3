"""
A million interleaved requests of as many users, through one sync and one async client: does any carry another's token?

    python tests/benchmarks/bench_isolation.py [--requests N]

Eight threads and eight tasks, all at once. Prints counts; ends with 1 at a leak.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

from test_isolation import TASKS, THREADS, leaks_of


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, help="how many, 1,000,000 by default")
    requests = parser.parse_args().requests
    done = leaks = 0
    started = time.perf_counter()
    while done < requests:
        step = min(100_000, max(requests - done, THREADS + TASKS)) // (THREADS + TASKS) * (THREADS + TASKS)
        leaks += leaks_of(step)
        done += step
        seconds = time.perf_counter() - started
        print(f"{done:,} requests, {leaks:,} leaks, {seconds:.0f} s, {done / seconds:,.0f} a second", flush=True)
    return 1 if leaks else 0


if __name__ == "__main__":
    sys.exit(main())
