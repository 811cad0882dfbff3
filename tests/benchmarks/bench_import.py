"""
What imports cost, each in an interpreter of its own.

    python tests/benchmarks/bench_import.py [--rounds N]

`import algolia_usertoken`, in milliseconds over a bare interpreter; and importing a client, next to importing
algoliasearch's: the ratio of the whole times, and of the times over a bare interpreter. In each round all are timed, in
turn, and what is printed is the median of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

IMPORTS = {
    "bare": "pass",
    "package": "import algolia_usertoken",
    "upstream": "from algoliasearch.search.client import SearchClientSync",
    "client": "from algolia_usertoken import TokenAwareClientSync",
}


def seconds(code: str) -> float:
    """How long an interpreter takes to run `code`, from start to end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    for code in IMPORTS.values():  # compiled files are written, and read once
        seconds(code)
    names = list(IMPORTS)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            times[name].append(seconds(IMPORTS[name]))

    def median(of: str, over: str) -> float:
        return statistics.median(one - bare for one, bare in zip(times[of], times[over], strict=True))

    whole = statistics.median(one / other for one, other in zip(times["client"], times["upstream"], strict=True))
    package, upstream, client = (median(name, "bare") * 1000 for name in names[1:])
    print(f"import algolia_usertoken      {package:6.1f} ms over a bare interpreter")
    print(f"algoliasearch's client        {upstream:6.1f} ms over a bare interpreter")
    print(f"a token-aware client          {client:6.1f} ms over a bare interpreter")
    print(f"token-aware / algoliasearch's {client / upstream:6.3f}    ({whole:.3f} with the interpreter's own start)")


if __name__ == "__main__":
    main()
