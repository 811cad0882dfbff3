"""Plays worlds one after the other, and says which fail: `python tests/simulation/run.py FIRST NUMBER`.

`python tests/simulation/run.py SEED` replays one, with its traceback.
"""

from __future__ import annotations

import sys
import time
import traceback

from world import Failure, run


def main() -> int:
    first = int(sys.argv[1])
    if len(sys.argv) == 2:
        run(first)
        print(f"seed {first}: fine")
        return 0
    number = int(sys.argv[2])
    most = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    failed, start = 0, time.process_time()
    for seed in range(first, first + number):
        begin = time.process_time()
        try:
            run(seed)
        except Failure as error:
            failed += 1
            print(error, flush=True)
            if failed >= most:
                break
        except BaseException:
            traceback.print_exc()
            raise
        if time.process_time() - begin > 0.5:
            print(f"seed {seed} took {time.process_time() - begin:.1f} s", flush=True)
    took = time.process_time() - start
    print(
        f"{seed + 1 - first} worlds, {failed} failed, {took:.1f} s of the processor: {(seed + 1 - first) / took:.0f}/s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
