"""What becomes of events when the process forks, exits or gets a signal. Each case is a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collector import Collector
from ports import free_port
from waiting import PATIENCE

from algolia_usertoken import EventSender, MemoryDelivery

unix = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
Run = Callable[..., Any]
TERMINATED = -signal.SIGTERM


def all_once(collector: Collector, *expected: Any) -> None:
    for names in expected:
        lost = collector.lost(names)
        assert not lost, f"{len(lost)} lost"
    assert not collector.twice
    assert not collector.errors


# Exit.


def test_a_plain_exit_delivers_what_is_queued(run: Run, collector: Collector) -> None:
    collector.delay = 0.05
    run("from prelude import *; send(sender(max_queue_size=100_000), range(10_000))")
    all_once(collector, range(10_000))


@pytest.mark.parametrize("end", ["sys.exit(0)", "raise SystemExit", "1 / 0"])
def test_other_exits_too(run: Run, collector: Collector, end: str) -> None:
    run(f"import sys; from prelude import *; events = sender(); send(events, range(500)); {end}", code=None)
    all_once(collector, range(500))


@pytest.mark.parametrize("senders", [1, 10])
def test_a_hung_collector_delays_exit_by_close_timeout(run: Run, collector: Collector, senders: int) -> None:
    collector.hang()
    done = run(
        """
        import atexit, sys, time
        def report():
            print(time.monotonic() - ended, len(set(errors.ids)), len(errors.ids))
        atexit.register(report)  # before the library's import, so it runs after the library's own
        from prelude import *
        errors = Errors()
        made = [sender(close_timeout=1.0, on_error=errors) for _ in range(int(sys.argv[1]))]
        for number, one in enumerate(made):
            send(one, range(number * 10, number * 10 + 10))
        time.sleep(0.2)
        ended = time.monotonic()
        """,
        str(senders),
    )
    assert done.seconds < 60
    seconds, different, reported = done.stdout.split()
    assert float(seconds) < 8.0  # ten of them one after the other would take 10
    assert int(different) == int(reported) == senders * 10


def test_a_refused_connection_delays_exit_by_close_timeout(run: Run) -> None:
    done = run(
        """
        import sys
        from prelude import *
        errors = Errors(lambda: print(len(errors.ids), str(errors.calls[0][0]), flush=True))
        events = sender(int(sys.argv[1]), close_timeout=1.0, on_error=errors)
        send(events, range(10))
        """,
        str(free_port()),
    )
    assert done.seconds < 60
    assert done.stdout.startswith("10 not delivered when the process exited")


def test_an_idle_sender_does_not_delay_exit(run: Run, collector: Collector) -> None:
    done = run(
        """
        import atexit, time
        from prelude import *
        events = sender(close_timeout=100.0)
        atexit.register(lambda: print(time.monotonic() - ended))
        send(events, range(10))
        assert events.flush(30)
        unused = sender(close_timeout=100.0)
        ended = time.monotonic()
        """
    )
    assert done.seconds < 60
    all_once(collector, range(10))


@pytest.mark.parametrize("background", ["True", "False"])
def test_a_first_send_inside_atexit(run: Run, collector: Collector, background: str) -> None:
    # Handlers run last in, first out: one from before the import after the library’s own, one from after it before.
    run(
        """
        import atexit, sys
        background = sys.argv[1] == "True"
        def late(start):
            from prelude import send, sender
            send(made[0], range(start, start + 250))
            send(sender(background=background), range(start + 250, start + 500))
        made = []
        atexit.register(late, 0)
        from prelude import sender
        made.append(sender(background=background))
        atexit.register(late, 500)
        """,
        background,
    )
    all_once(collector, range(1000))


def test_the_import_inside_atexit(run: Run, collector: Collector) -> None:
    run(
        """
        import atexit, threading
        def late():
            from prelude import send, sender
            events = sender()
            send(events, range(500))
            send(sender(), range(500, 1000))
        atexit.register(late)
        """
    )
    all_once(collector, range(1000))


@pytest.mark.parametrize("senders", [1, 100])
def test_a_late_first_send_to_a_hung_collector_is_reported(run: Run, collector: Collector, senders: int) -> None:
    collector.hang()
    done = run(
        """
        import atexit, sys, threading
        def late():
            from prelude import Errors, send, sender
            errors = Errors(lambda: print(len(errors.ids), flush=True))
            global made
            made = []
            for _ in range(int(sys.argv[1])):
                made.append(sender(close_timeout=1.0, on_error=errors))
                send(made[-1], range(2))
        atexit.register(late)
        """,
        str(senders),
    )
    assert done.seconds < 60  # however many senders there are
    assert done.stdout.split()[-1:] == [str(2 * senders)]


def test_a_send_from_atexit_long_after_close_timeout(run: Run, collector: Collector) -> None:
    # The other handlers of the exit took their time; the collector is fine.
    collector.delay = 0.05
    done = run(
        """
        import atexit, time
        def late():
            now = time.monotonic
            time.monotonic = lambda: now() + 60
            send(events, range(10))
            print(events.stats.delivered)
        atexit.register(late)
        from prelude import send, sender
        events = sender()
        """
    )
    assert done.stdout == "10\n"
    all_once(collector, range(10))


def test_an_exit_after_the_thread_has_ended(run: Run, collector: Collector) -> None:
    run(
        """
        import atexit, time
        from prelude import *
        import algolia_usertoken.events.crew as crew
        crew.IDLE_TIME_S = 0.05
        made = [sender(flush_interval=0.01, close_timeout=15.0) for _ in range(3)]
        for number, one in enumerate(made):
            send(one, range(number * 10, number * 10 + 5))
        while sum(one.stats.delivered for one in made) < 15 or any(one._worker._crew.threads for one in made):
            time.sleep(0.01)
        atexit.register(lambda: [send(one, range(n * 10 + 5, n * 10 + 10)) for n, one in enumerate(made)])
        """
    )
    all_once(collector, range(30))


def test_a_sender_that_was_dropped_before_exit(run: Run, collector: Collector) -> None:
    run("from prelude import *; send(sender(), range(300)); send(sender(background=False), range(300, 600))")
    all_once(collector, range(600))


def test_non_daemon_threads_may_send_to_the_end(run: Run, collector: Collector) -> None:
    run(
        """
        import threading, time
        from prelude import *
        events = sender()
        def work():
            time.sleep(0.3)
            send(events, range(500))
        threading.Thread(target=work).start()
        """
    )
    all_once(collector, range(500))


def test_exit_while_daemon_threads_send(run: Run, collector: Collector) -> None:
    done = run(
        """
        import itertools, threading, time
        from prelude import *
        events = sender(close_timeout=2.0)
        def work():
            for number in itertools.count():
                events.send(event(number))
                time.sleep(0.0005)
        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.3)
        """
    )
    assert done.seconds < 60
    assert "Traceback" not in done.stderr


def test_nothing_is_imported_in_the_worker(run: Run, collector: Collector) -> None:
    # A fork in the middle of an import leaves the child with half a module.
    collector.poison("3")
    collector.answer(503, headers={"Retry-After": "0"})
    collector.answer(429, headers={"Retry-After": "0"})
    collector.answer(403)
    done = run(
        """
        import logging, sys, threading
        from prelude import *
        logging.basicConfig(level=logging.DEBUG)
        found = []
        def hook(name, arguments):
            if name == "import" and threading.current_thread().name.startswith("algolia-usertoken"):
                found.append(arguments[0])
        sys.addaudithook(hook)
        events = sender(int(sys.argv[1]), on_error=lambda error, events: None)
        send(events, range(10))
        events.send(event("\\ud800"))
        events.send(event("日本"))
        assert events.flush(20)
        refused = sender(int(sys.argv[2]), max_retry_time=0.1)
        send(refused, range(10))
        assert refused.flush(20)
        zipped = sender(config=config(int(sys.argv[1]), compression_type="gzip"))
        send(zipped, range(100, 200))
        assert zipped.flush(20)
        print(*sorted(set(found)))
        """,
        str(collector.port),
        str(free_port()),
    )
    assert done.stdout.split() == []


def test_nothing_is_imported_in_the_worker_over_https(run: Run, collector: Collector) -> None:
    # The collector speaks no TLS, so the handshake fails: by then, all is there that a handshake needs.
    done = run(
        """
        import sys, threading
        from prelude import *
        found = []
        def hook(name, arguments):
            if name == "import" and threading.current_thread().name.startswith("algolia-usertoken"):
                found.append(arguments[0])
        sys.addaudithook(hook)
        its_config = config()
        for host in its_config.hosts.write():
            host.scheme, host.url = "https", "localhost"
        events = sender(config=its_config, max_retry_time=0.0)
        send(events, range(10))
        events.flush(20)
        print(*sorted(set(found)))
        """
    )
    assert done.stdout.split() == []


# Forks.


@unix
@pytest.mark.parametrize("child_ends", ["flush", "exit", "close"])
@pytest.mark.parametrize("warm", [True, False])
def test_fork_with_200_queued(run: Run, collector: Collector, child_ends: str, warm: bool) -> None:
    collector.delay = 0.02
    run(
        """
        import os, sys
        from prelude import *
        events = sender(flush_interval=0.5)
        if sys.argv[2] == "True":
            send(events, range(5000, 5100))
            assert events.flush(30)
        send(events, range(200))
        child = os.fork()
        if not child:
            assert events.stats[:11] == (0,) * 11, events.stats
            assert send(events, range(1000, 2000)) == 1000
            if sys.argv[1] == "flush":
                assert events.flush(30)
                os._exit(0)
            if sys.argv[1] == "close":
                assert events.close(10)
                os._exit(0)
            sys.exit(0)
        assert events.stats.queued <= 200
        assert os.waitpid(child, 0)[1] == 0
        """,
        child_ends,
        str(warm),
    )
    all_once(collector, range(200), range(1000, 2000))
    assert len(collector.counts) == 1200 + 100 * warm


@unix
@pytest.mark.parametrize("imported", ["before", "in the child"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_multiprocessing_child_that_returns(collector: Collector, tmp_path: Path, method: str, imported: str) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing, sys
            {"from prelude import send, sender" if imported == "before" else ""}
            def work(start):
                from prelude import send, sender
                global events
                events = sender()
                send(events, range(start, start + 500))
                send(sender(background=False), range(start + 500, start + 1000))
            if __name__ == "__main__":
                {"events = sender(); send(events, range(200))" if imported == "before" else "pass"}
                context = multiprocessing.get_context({method!r})
                children = [context.Process(target=work, args=(start,)) for start in (1000, 2000)]
                for child in children:
                    child.start()
                for child in children:
                    child.join()
                assert [child.exitcode for child in children] == [0, 0]
            """
        )
    )
    programs = str(Path(__file__).parent / "programs")
    subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": programs, "COLLECTOR_PORT": str(collector.port)},
        check=True,
        timeout=PATIENCE,
    )
    all_once(collector, range(1000, 3000), range(200 * (imported == "before")))


@unix
def test_a_multiprocessing_child_uses_the_sender_of_its_parent(run: Run, collector: Collector) -> None:
    run(
        """
        import multiprocessing
        from prelude import *
        events = sender()
        def work():
            send(events, range(1000, 2000))
        send(events, range(200))
        context = multiprocessing.get_context("fork")
        child = context.Process(target=work)
        child.start()
        child.join()
        assert child.exitcode == 0
        """
    )
    all_once(collector, range(200), range(1000, 2000))


@unix
def test_the_workers_of_a_process_pool(run: Run, collector: Collector) -> None:
    run(
        """
        import concurrent.futures, multiprocessing
        from prelude import *
        events = sender()
        def work(start):
            return send(events, range(start, start + 100))
        context = multiprocessing.get_context("fork")
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            assert sum(pool.map(work, range(0, 1000, 100))) == 1000
        """
    )
    all_once(collector, range(1000))


@unix
def test_a_grandchild(run: Run, collector: Collector) -> None:
    run(
        """
        import os, sys
        from prelude import *
        events = sender()
        send(events, range(100))
        for generation in (1, 2, 3):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                break
            send(events, range(generation * 100, generation * 100 + 100))
        """
    )
    all_once(collector, range(400))


@unix
def test_15_forks_while_another_thread_sends_without_pause(run: Run, collector: Collector) -> None:
    done = run(
        """
        import os, signal, sys, threading, time
        from prelude import *
        events = sender(max_queue_size=1_000_000, batch_size=50, flush_interval=0.01, concurrency=2)
        stop = False
        accepted = 0
        def work():
            global accepted
            while not stop:
                accepted += events.send(event(f"p{accepted}"))
        thread = threading.Thread(target=work)
        thread.start()
        children = []
        for number in range(15):
            time.sleep(0.02)
            child = os.fork()
            if not child:
                signal.alarm(60)  # not to be waited for, if it hangs
                stop = True
                send(events, [f"c{number}-{n}" for n in range(50)])
                if number % 3 == 0:
                    os._exit(0 if events.flush(20) else 7)
                if number % 3 == 1:
                    os._exit(0 if events.close(20) else 8)
                sys.exit(0)
            children.append(child)
        stop = True
        thread.join()
        ends = [os.waitpid(child, 0)[1] for child in children]
        assert ends == [0] * 15, ends
        assert events.flush(20)
        assert events.stats.delivered == accepted
        print(accepted)
        """
    )
    accepted = int(done.stdout)
    all_once(
        collector,
        [f"p{number}" for number in range(accepted)],
        [f"c{number}-{n}" for number in range(15) for n in range(50)],
    )
    assert len(collector.counts) == accepted + 750


@unix
def test_a_child_can_exit_whatever_locks_the_threads_of_its_parent_held(run: Run, collector: Collector) -> None:
    run(
        """
        import gc, os, queue, signal, sys
        from prelude import *
        events = sender()
        send(events, range(10))
        assert events.flush()
        for one in gc.get_objects():  # urllib3 keeps connections in one, and closes them when a process exits
            if isinstance(one, queue.Queue):
                one.mutex.acquire()
        child = os.fork()
        if not child:
            signal.alarm(20)
            sys.exit(0)
        os._exit(os.waitpid(child, 0)[1])
        """
    )
    all_once(collector, range(10))


@unix
def test_a_fork_while_the_collector_hangs(run: Run, collector: Collector) -> None:
    collector.hang()
    process_started = time.monotonic()
    done = run(
        """
        import os, sys, time
        from prelude import *
        events = sender(close_timeout=0.5)
        send(events, range(100))
        time.sleep(0.2)  # the thread waits for the answer
        child = os.fork()
        if not child:
            send(events, range(1000, 1100))
            assert not events.flush(0.3)
            assert events.stats.queued == 100
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """
    )
    assert done.seconds < 60
    assert time.monotonic() - process_started < 60


@unix
def test_a_fork_from_on_error(run: Run, collector: Collector) -> None:
    collector.poison("3")
    run(
        """
        import os
        from prelude import *
        def fork(error, found):
            child = os.fork()
            if not child:
                os._exit(0 if events.send(event("child")) and events.flush(20) else 3)
            assert os.waitpid(child, 0)[1] == 0
        events = sender(on_error=fork)
        send(events, range(10))
        assert events.flush(30)
        """
    )
    all_once(collector, ["child", *(number for number in range(10) if number != 3)])


# Signals.

SIGNAL_PROGRAM = """
    import os, signal, sys, time
    from prelude import *
    SIGNAL = signal.SIGTERM
    def earlier(number, frame):
        print("earlier", number, frame is not None, flush=True)
        if sys.argv[1] == "exits":
            sys.exit(7)
    if sys.argv[1] in ("handler", "exits"):
        signal.signal(SIGNAL, earlier)
    elif sys.argv[1] == "ignore":
        signal.signal(SIGNAL, signal.SIG_IGN)
    errors = Errors(lambda: print("error", len(errors.ids), flush=True))
    count, close_timeout = int(sys.argv[2]), float(sys.argv[3])
    made = [sender(close_timeout=close_timeout, flush_interval=60.0, on_error=errors) for _ in range(count)]
    for number, one in enumerate(made):
        one.close_on_signal(SIGNAL)
        send(one, range(number * 500, number * 500 + 500))
    time.sleep(0.1)
    os.kill(os.getpid(), SIGNAL)
    print("survived", flush=True)
    if sys.argv[1] == "handler":
        assert send(made[0], ["after"]) == 1
    os._exit(0 if sys.argv[1] == "ignore" else made[0].flush(20) - 1)
"""


@unix
@pytest.mark.parametrize("senders", [1, 2])
@pytest.mark.parametrize(
    ("earlier", "code", "output"),
    [
        ("default", TERMINATED, []),
        ("ignore", 0, ["survived"]),
        ("handler", 0, ["earlier 15 True", "survived"]),
        ("exits", 7, ["earlier 15 True"]),
    ],
)
def test_close_on_signal(
    run: Run, collector: Collector, earlier: str, code: int, output: list[str], senders: int
) -> None:
    done = run(SIGNAL_PROGRAM, earlier, str(senders), "15", code=code)
    assert done.stdout.splitlines() == output
    all_once(collector, range(500 * senders))
    assert done.seconds < 60


@unix
@pytest.mark.parametrize("senders", [1, 2, 4])
def test_close_on_signal_with_a_hung_collector(run: Run, collector: Collector, senders: int) -> None:
    collector.hang()
    done = run(SIGNAL_PROGRAM, "default", str(senders), "1", code=TERMINATED)
    assert done.stdout.splitlines()[-1:] == [f"error {500 * senders}"]  # all that is lost is reported
    assert done.seconds < 60  # however many senders there are


@unix
def test_close_on_signal_in_the_middle_of_anything(run: Run, collector: Collector) -> None:
    done = run(
        """
        import os, signal, threading, time
        from prelude import *
        events = sender(flush_interval=0.001, batch_size=20, max_queue_size=1_000_000, close_timeout=10.0)
        events.close_on_signal(signal.SIGTERM)
        def kill():
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGTERM)
        threading.Thread(target=kill, daemon=True).start()
        number = 0
        while True:
            events.send(event(number))
            number += 1
            os.write(1, b".")
            if not number % 10:
                events.stats
            if not number % 100:
                events.flush()
        """,
        code=TERMINATED,
    )
    all_once(collector, range(len(done.stdout)))


@unix
@pytest.mark.parametrize("background", ["True", "False"])
def test_close_on_signal_during_a_flush(run: Run, collector: Collector, background: str) -> None:
    collector.delay = 0.5
    done = run(
        """
        import os, signal, sys, threading, time
        from prelude import *
        events = sender(close_timeout=100.0, background=sys.argv[1] == "True", batch_size=100)
        events.close_on_signal(signal.SIGTERM)
        send(events, range(300))
        def kill():
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGTERM)
        threading.Thread(target=kill, daemon=True).start()
        events.flush()
        time.sleep(5)
        """,
        background,
        code=TERMINATED,
    )
    assert not collector.lost(range(300))
    assert done.seconds < 60


@unix
def test_a_signal_to_a_forked_child_delivers_the_childs(run: Run, collector: Collector) -> None:
    run(
        """
        import os, signal, time
        from prelude import *
        events = sender(flush_interval=60.0)
        events.close_on_signal(signal.SIGTERM)
        send(events, range(100))
        read, write = os.pipe()
        child = os.fork()
        if not child:
            send(events, range(1000, 1100))
            os.write(write, b"x")
            time.sleep(20)
            os._exit(3)
        os.read(read, 1)
        os.kill(child, signal.SIGTERM)
        assert os.waitpid(child, 0)[1] == signal.SIGTERM
        """
    )
    all_once(collector, range(100), range(1000, 1100))


@unix
def test_ctrl_c(run: Run, collector: Collector) -> None:
    done = run(
        """
        import os, signal
        from prelude import *
        events = sender(flush_interval=60.0)
        events.close_on_signal(signal.SIGINT)
        send(events, range(100))
        try:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000): pass
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert done.stdout == "interrupted\n"
    all_once(collector, range(100))


def test_close_on_signal_outside_the_main_thread_is_a_value_error(run: Run) -> None:
    run(
        """
        import signal, threading
        from prelude import *
        events = sender()
        found = []
        def work():
            try:
                events.close_on_signal(signal.SIGTERM)
            except ValueError as error:
                found.append(error)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert len(found) == 1
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        """
    )


def test_a_sender_of_close_on_signal_can_go(run: Run, collector: Collector) -> None:
    # 20 that were closed hold up a signal no longer, and their handlers call no dead ones.
    run(
        """
        import os, signal, time
        from prelude import *
        for number in range(20):
            events = sender(close_timeout=15.0)
            events.close_on_signal(signal.SIGTERM)
            send(events, [number])
            assert events.close()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        """,
        code=TERMINATED,
    )
    all_once(collector, range(20))


@unix
@pytest.mark.parametrize(
    ("signum", "error", "text"),
    [
        (9, ValueError, "signum 9 is of a signal that nobody can handle"),
        (1000, ValueError, ""),
        ("SIGTERM", TypeError, "signum must be the number of a signal, not str"),
        (None, TypeError, "signum must be the number of a signal, not NoneType"),
    ],
)
def test_what_is_no_signal_is_refused(signum: Any, error: type[Exception], text: str) -> None:
    with EventSender(delivery=MemoryDelivery()) as events, pytest.raises(error, match=f"^{text}"):
        events.close_on_signal(signum)


def test_a_handler_that_is_not_pythons_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda signum: None)

    with (
        EventSender(delivery=MemoryDelivery()) as events,
        pytest.raises(ValueError, match="has a handler that was not set from Python"),
    ):
        events.close_on_signal(signal.SIGUSR2)
