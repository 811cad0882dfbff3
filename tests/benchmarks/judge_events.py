"""
What the event sender does in trouble, case by case and in full size, each case in a fresh process.

    python tests/benchmarks/judge_events.py [--only WORD]

The tests in `tests/events` look at the same cases, smaller, and at many more. Ends with status 1 where a case fails.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "events"
sys.path[:0] = [str(TESTS), str(TESTS.parent / "support")]

from collector import Collector  # noqa: E402
from ports import free_port  # noqa: E402

Case = Callable[[Collector], tuple[bool, str]]
CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        CASES[name] = function
        return function

    return add


def run(collector: Collector, program: str, timeout: float = 120.0) -> tuple[int, list[str], float]:
    """The status of a program, what it printed, and the seconds it took."""
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={**os.environ, "PYTHONPATH": str(TESTS / "programs"), "COLLECTOR_PORT": str(collector.port)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if "Traceback" in process.stderr:
        print(process.stderr, file=sys.stderr)
    return process.returncode, process.stdout.split(), time.monotonic() - started


def once(collector: Collector, expected: int) -> tuple[bool, str]:
    arrived, twice = len(collector.counts), len(collector.twice)
    return arrived == expected and not twice, f"{arrived} of {expected} arrived, {twice} twice"


@case("50,000 queued, plain exit, 50 ms collector")
def plain_exit(collector: Collector) -> tuple[bool, str]:
    collector.delay = 0.05
    _, _, seconds = run(collector, "from prelude import *; send(sender(max_queue_size=100_000), range(50_000))")
    held, text = once(collector, 50_000)
    return held, f"{text}, {seconds:.1f} s"


FORK = """
    import os, sys
    from prelude import *
    events = sender(flush_interval=0.5)
    send(events, range(200))
    child = os.fork()
    if not child:
        send(events, range(1000, 2000))
        %s
    os.waitpid(child, 0)
"""


def add_fork(name: str, end: str) -> None:
    @case(f"fork with 200 queued, child sends 1000 and {name}")
    def fork(collector: Collector) -> tuple[bool, str]:
        run(collector, FORK % end)
        return once(collector, 1200)


add_fork("flushes", "events.flush(); os._exit(0)")
add_fork("just exits", "sys.exit()")


def add_multiprocessing(method: str) -> None:
    @case(f"a multiprocessing child ({method}) that sends 1000 and returns")
    def child(collector: Collector) -> tuple[bool, str]:
        script = TESTS / "programs" / "child_that_returns.py"
        run(
            collector,
            f"import runpy, sys; sys.argv[1:] = [{method!r}]; runpy.run_path({str(script)!r}, None, '__main__')",
        )
        return once(collector, 1200)


for method in ("fork", "spawn", "forkserver"):
    add_multiprocessing(method)


@case("SIGTERM with close_on_signal, 10,000 queued, 50 ms collector")
def sigterm(collector: Collector) -> tuple[bool, str]:
    collector.delay = 0.05
    status, output, _ = run(
        collector,
        """
        import os, signal, time
        from prelude import *
        def earlier(number, frame):
            print("earlier", flush=True)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        signal.signal(signal.SIGTERM, earlier)
        events = sender()
        events.close_on_signal(signal.SIGTERM)
        send(events, range(10_000))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        """,
    )
    held, text = once(collector, 10_000)
    held = held and status == -signal.SIGTERM and output == ["earlier"]
    return held, f"{text}, earlier handler {'called' if output else 'not called'}, status {status}"


@case("3 poisoned of 1000")
def poisoned(collector: Collector) -> tuple[bool, str]:
    collector.poison("17", "500", "999")
    _, output, _ = run(
        collector,
        """
        from prelude import *
        errors = Errors()
        events = sender(on_error=errors)
        send(events, range(1000))
        assert events.flush(20)
        print(*sorted(errors.ids), events.stats.requests)
        """,
    )
    held, text = once(collector, 997)
    *reported, requests = output or ["0"]
    return held and reported == ["17", "500", "999"] and int(requests) <= 80, f"{text}, {requests} requests"


@case("NaN, set, object(), lone surrogate, cycle among 1000")
def no_json(collector: Collector) -> tuple[bool, str]:
    _, output, _ = run(
        collector,
        """
        from prelude import *
        events = sender()
        cycle = []
        cycle.append(cycle)
        bad = [float("nan"), {1}, object(), "\\ud800", cycle]
        send(events, range(995))
        purchase = {"eventType": "conversion", "eventSubtype": "purchase"}
        for number, value in enumerate(bad):
            name = value if isinstance(value, str) else f"bad-{number}"
            events.send({**event(name), **purchase, "objectData": [{"price": value}]})
        assert events.flush(20)
        print(events.stats.rejected + events.stats.refused)
        """,
    )
    held, text = once(collector, 995)
    return held and output == ["5"], f"{text}, accounted for {output}"


def add_trouble(name: str, tell: Callable[[Collector], None]) -> None:
    @case(name)
    def trouble(collector: Collector) -> tuple[bool, str]:
        tell(collector)
        _, _, seconds = run(
            collector,
            "from prelude import *; events = sender(); send(events, range(2500)); assert events.flush(60)",
        )
        held, text = once(collector, 2500)
        return held, f"{text}, {len(collector.requests)} requests, {seconds:.1f} s"


def come_up_late(collector: Collector) -> None:
    collector.stop()
    collector.port = free_port()
    threading.Timer(4.0, collector.start).start()


add_trouble("503 for 4 s", lambda collector: collector.answer(503, seconds=4.0 + 1.0))
add_trouble("connections refused until it comes up", come_up_late)
add_trouble("429 with Retry-After", lambda collector: collector.answer(429, times=3, headers={"Retry-After": "1"}))
add_trouble("403 for 4 s", lambda collector: collector.answer(403, seconds=4.0 + 1.0))
add_trouble("HTML 413 above 100 events", lambda collector: setattr(collector, "limit", 100))
add_trouble("connections closed after each answer", lambda collector: setattr(collector, "idle_time", 0.0))


@case("hung collector: flush(2), close(1), exit with close_timeout=1")
def hung(collector: Collector) -> tuple[bool, str]:
    collector.hang()
    _, output, _ = run(
        collector,
        """
        import time
        from prelude import *
        events = sender()
        send(events, range(2500))
        started = time.monotonic()
        assert events.flush(2) is False
        flushed = time.monotonic()
        assert events.close(1) is False
        print(flushed - started, time.monotonic() - flushed)
        assert events.stats.failed == 2500
        """,
    )
    _, _, alone = run(collector, "from prelude import *; sender()")
    _, _, seconds = run(collector, "from prelude import *; send(sender(close_timeout=1.0), range(2500))")
    flush, close, leave = float(output[0]), float(output[1]), seconds - alone
    return flush < 3 and close < 2 and leave < 2, f"{flush:.2f} s, {close:.2f} s, {leave:.2f} s"


@case("hung collector: 10,000 sends into a queue of 2,000")
def full(collector: Collector) -> tuple[bool, str]:
    collector.hang()
    _, output, _ = run(
        collector,
        """
        import time
        from prelude import *
        events = sender(max_queue_size=2000, close_timeout=0.2)
        made = [event(number) for number in range(10_000)]
        times, answers = [], []
        for one in made:
            started = time.perf_counter()
            answers.append(events.send(one))
            times.append((time.perf_counter() - started) * 1e6)
        times.sort()
        stats = events.stats
        exact = stats.accepted == sum(answers) and stats.accepted + stats.dropped == 10_000
        print(times[5000], times[9900], times[-1], exact)
        """,
    )
    median, slow, slowest = map(float, output[:3])
    held = slow < 5000 and slowest < 1e6 and output[3] == "True"  # a busy machine takes the one or the other
    return held, f"median {median:.1f} µs, p99 {slow:.0f} µs, slowest {slowest:.0f} µs, counts exact: {output[3]}"


@case("on_error raises, has a wrong signature, flushes, closes")
def on_error(collector: Collector) -> tuple[bool, str]:
    collector.poison("3", "7")
    _, output, _ = run(
        collector,
        """
        from prelude import *
        def raises(error, found): raise ZeroDivisionError
        def made(on_error):
            events = sender(on_error=on_error)
            names = [3, *(f"{id(events)}-{n}" for n in range(10)), 7, *(f"{id(events)}-{n}" for n in range(10, 20))]
            send(events, names)
            held.append(events.flush(5))
            held.append(events.close(5) and settled(events.stats) == (22, 20, 2, 0, 0))
        held = []
        made(raises)
        made(lambda: None)
        for name in ("flush", "close"):
            events = None
            events = sender(on_error=lambda error, found: getattr(events, name)(2))
            send(events, [3, *(f"{name}-{n}" for n in range(10)), 7, *(f"{name}-{n}" for n in range(10, 20))])
            held.append(events.flush(5))
            held.append(events.close(5) and settled(events.stats) == (22, 20, 2, 0, 0))
        print(held.count(True), len(held))
        """,
    )
    held, text = once(collector, 80)
    return held and output == ["8", "8"], f"{text}, {' of '.join(output)} checks hold"


@case("20,000 __del__ that send during gc (threshold 1)")
def in_gc(collector: Collector) -> tuple[bool, str]:
    _, output, _ = run(
        collector,
        """
        import gc
        from prelude import *
        events = sender(max_queue_size=1_000_000, batch_size=100, concurrency=2)
        sent = 0
        class Sends:
            def __init__(self): self.itself = self
            def __del__(self):
                global sent
                sent += 1
                events.send(event(sent))
        gc.set_threshold(1)
        for number in range(20_000):
            Sends()
            if not number % 100: events.stats
        gc.collect()
        assert events.flush(30)
        print(sent, events.stats.delivered)
        """,
    )
    held, text = once(collector, 20_000)
    return held and output == ["20000", "20000"], text


@case("200 senders made and dropped")
def many(collector: Collector) -> tuple[bool, str]:
    _, output, _ = run(
        collector,
        """
        import gc, threading, time, weakref
        from prelude import *
        references = []
        for number in range(200):
            events = sender(flush_interval=60.0)
            send(events, [number])
            references.append(weakref.ref(events._worker))
        del events
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and (threading.active_count() > 1 or any(one() for one in references)):
            time.sleep(0.05)
            gc.collect()
        print(threading.active_count() - 1, sum(one() is not None for one in references))
        """,
    )
    held, text = once(collector, 200)
    return held and output == ["0", "0"], f"{text}, {output[0]} threads and {output[1]} objects left"


@case("first send inside atexit")
def in_atexit(collector: Collector) -> tuple[bool, str]:
    run(
        collector,
        """
        import atexit, threading
        def late(start):
            from prelude import send, sender
            send(sender(), range(start, start + 500))
        atexit.register(late, 0)
        import prelude
        atexit.register(late, 500)
        """,
    )
    return once(collector, 1000)


@case("gevent's monkey-patching")
def gevent(collector: Collector) -> tuple[bool, str]:
    run(
        collector,
        """
        from gevent import monkey
        monkey.patch_all()
        import gevent
        from prelude import *
        events = sender()
        gevent.joinall([gevent.spawn(send, events, range(start, start + 500)) for start in range(0, 5000, 500)])
        assert events.flush(10)
        send(events, range(5000, 5500))
        """,
    )
    return once(collector, 5500)


@case("15 forks while another thread sends without pause")
def forks(collector: Collector) -> tuple[bool, str]:
    _, output, _ = run(
        collector,
        """
        import os, sys, threading, time
        from prelude import *
        events = sender(max_queue_size=1_000_000, flush_interval=0.01)
        stop, accepted = False, 0
        def work():
            global accepted
            while not stop:
                accepted += events.send(event(f"p{accepted}"))
        thread = threading.Thread(target=work)
        thread.start()
        children = []
        for number in range(15):
            time.sleep(0.1)
            child = os.fork()
            if not child:
                stop = True
                send(events, [f"c{number}-{n}" for n in range(1000)])
                sys.exit(0)
            children.append(child)
        stop = True
        thread.join()
        for child in children:
            os.waitpid(child, 0)
        assert events.flush(60)
        print(accepted)
        """,
    )
    return once(collector, int(output[0]) + 15_000)


@case("4 posters with poisoned events, stats read 2,000 times a second")
def sums(collector: Collector) -> tuple[bool, str]:
    bad = {str(number) for number in range(40_000) if str(number).endswith("777")}
    collector.poison(*bad)
    _, output, _ = run(
        collector,
        """
        import threading, time
        from prelude import *
        events = sender(concurrency=4, max_queue_size=1_000_000)
        stop, readings, broken = False, 0, 0
        def read():
            global readings, broken
            due = time.monotonic()
            while not stop:
                broken += not adds_up(events.stats)
                readings += 1
                due += 0.0005
                time.sleep(max(0, due - time.monotonic()))
        reader = threading.Thread(target=read)
        reader.start()
        started = time.monotonic()
        parts = [range(start, start + 10_000) for start in range(0, 40_000, 10_000)]
        threads = [threading.Thread(target=send, args=(events, part)) for part in parts]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        assert events.flush(60)
        stop = True
        reader.join()
        print(readings, round(readings / (time.monotonic() - started)), broken, events.stats.rejected)
        """,
    )
    held, text = once(collector, 40_000 - len(bad))
    held = held and output[2:] == ["0", str(len(bad))]
    return held, f"{text}, {output[0]} readings ({output[1]}/s), {output[2]} broken, {output[3]} rejected"


@case("20,000 drops")
def drops(collector: Collector) -> tuple[bool, str]:
    collector.hang()
    _, output, _ = run(
        collector,
        """
        import logging
        from prelude import *
        lines = []
        class Keep(logging.Handler):
            def emit(self, record): lines.append(record.getMessage())
        logging.getLogger().addHandler(Keep())
        events = sender(max_queue_size=10, batch_size=10, close_timeout=0.2)
        send(events, range(20_000))
        dropped = events.stats.dropped
        collector = events.close(0.2)
        print(dropped, len(lines))
        """,
    )
    return int(output[0]) > 19_900 and int(output[1]) <= 10, f"{output[0]} drops, {output[1]} lines in all"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name holds this")
    arguments = parser.parse_args()
    failed = 0
    for name, judge in CASES.items():
        if arguments.only not in name:
            continue
        with Collector() as collector:
            try:
                held, seen = judge(collector)
            except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
                held, seen = False, f"{type(error).__name__}: {str(error)[:100]}"
            failed += not held
            print(f"{'ok    ' if held else 'FAILED'} {name}: {seen}", flush=True)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
