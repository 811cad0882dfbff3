"""What becomes of events when the process forks, exits or gets a signal. Each case is a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from collector import Collector
from ports import free_port
from prelude import patient_config
from waiting import wait_until

from algolia_usertoken import EventSender, MemoryDelivery, SQLiteOutbox

pytestmark = pytest.mark.slow

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
def test_an_exit_by_an_exception_delivers_what_is_queued(run: Run, collector: Collector, end: str) -> None:
    run(f"import sys; from prelude import *; events = sender(); send(events, range(500)); {end}", code=None)
    all_once(collector, range(500))


@pytest.mark.parametrize("senders", [1, 10])
def test_a_hung_collector_delays_exit_by_close_timeout(run: Run, collector: Collector, senders: int) -> None:
    collector.hang()
    done = run(
        "exit_while_the_collector_hangs.py",
        str(senders),
    )
    assert done.seconds < 60
    seconds, different, reported = done.stdout.split()
    assert float(seconds) < 25.0  # ten of them one after the other would take 30
    assert int(different) == int(reported) == senders * 10


def test_a_refused_connection_delays_exit_by_close_timeout(run: Run) -> None:
    done = run(
        "exit_while_connections_are_refused.py",
        str(free_port()),
    )
    assert done.seconds < 60
    assert done.stdout.startswith("10 not delivered when the process exited")


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="Python 3.12 starts no thread at the exit")
def test_slow_on_errors_of_many_senders_delay_exit_as_long_as_one_does(run: Run) -> None:
    done = run("exit_with_many_slow_on_errors.py", str(free_port()))
    assert done.seconds < 60  # one after another, they would take 90
    assert done.stdout == "300\n"


def test_an_on_error_that_sends_again_does_not_keep_the_process_from_ending(run: Run) -> None:
    done = run("on_error_that_sends_at_the_very_end.py", str(free_port()))
    assert done.stdout == "True\n"


@pytest.mark.parametrize("background", ["True", "False"])
def test_events_that_are_sent_while_the_exit_delivers_are_delivered(
    run: Run, collector: Collector, background: str
) -> None:
    run("send_while_the_exit_delivers.py", background)
    all_once(collector, range(2))


def test_an_idle_sender_does_not_delay_exit(run: Run, collector: Collector) -> None:
    done = run("exit_while_idle.py")
    assert done.seconds < 60
    all_once(collector, range(10))


@pytest.mark.parametrize("background", ["True", "False"])
def test_events_that_are_first_sent_inside_atexit_are_delivered(
    run: Run, collector: Collector, background: str
) -> None:
    # Handlers run last in, first out: one from before the import after the library’s own, one from after it before.
    run(
        "first_send_at_exit.py",
        background,
    )
    all_once(collector, range(1000))


def test_events_are_delivered_where_the_library_is_imported_inside_atexit(run: Run, collector: Collector) -> None:
    run("import_at_exit.py")
    all_once(collector, range(200))


@pytest.mark.parametrize("senders", [1, 100])
def test_a_late_first_send_to_a_hung_collector_is_reported(run: Run, collector: Collector, senders: int) -> None:
    collector.hang()
    done = run(
        "first_send_at_exit_while_the_collector_hangs.py",
        str(senders),
    )
    assert done.seconds < 60  # however many senders there are
    assert done.stdout.split()[-1:] == [str(2 * senders)]


def test_events_sent_in_atexit_long_after_close_timeout_are_delivered(run: Run, collector: Collector) -> None:
    # The other handlers of the exit took their time; the collector is fine.
    collector.delay = 0.05
    done = run("send_at_exit_after_close_timeout.py")
    assert done.stdout == "10\n"
    all_once(collector, range(10))


def test_events_sent_at_exit_after_the_thread_has_ended_are_delivered(run: Run, collector: Collector) -> None:
    run("exit_after_the_thread_has_ended.py")
    all_once(collector, range(30))


@pytest.mark.parametrize("outbox", [False, True])
@pytest.mark.parametrize("call", ["nothing", "flush", "close", "stats"])
def test_a_lock_that_a_stopped_thread_holds_does_not_keep_the_process_from_ending(
    run: Run, collector: Collector, tmp_path: Path, call: str, outbox: bool
) -> None:
    # The interpreter stops its daemon threads wherever they are, before it calls the last `__del__` methods.
    done = run("exit_with_a_lock_held.py", call, str(tmp_path / "outbox.db") if outbox else "memory")
    assert done.stdout == ("" if call == "nothing" else "(True,)\n")
    all_once(collector, range(3))


def test_an_event_sent_while_the_interpreter_finalizes_is_posted_once(run: Run, collector: Collector) -> None:
    # urllib3 imports a module before it reads an answer, and nothing can be imported any more: so nobody knows whether
    # Algolia has accepted the event, and to send it again would count it twice.
    done = run("exit_with_a_lock_held.py", "send", "memory")
    assert done.stdout == "(3, True, (6, 3, 0, 3, 0))\n"
    assert "no answer can be read while the interpreter ends" in done.stderr
    all_once(collector, range(6))


def test_an_event_sent_while_the_interpreter_finalizes_stays_in_the_outbox(
    run: Run, collector: Collector, tmp_path: Path
) -> None:
    path = tmp_path / "outbox.db"
    done = run("exit_with_a_lock_held.py", "send", str(path))
    assert done.stdout == "(3, False, (6, 3, 0, 0, 3))\n"
    with EventSender(outbox=SQLiteOutbox(path, lease=1), config=patient_config(collector.port)):
        wait_until(lambda: not collector.lost(range(6)))
    all_once(collector, range(6))


def test_events_of_a_sender_that_was_dropped_before_the_exit_are_delivered(run: Run, collector: Collector) -> None:
    run("from prelude import *; send(sender(), range(300)); send(sender(background=False), range(300, 600))")
    all_once(collector, range(600))


def test_non_daemon_threads_may_send_to_the_end(run: Run, collector: Collector) -> None:
    run("thread_that_sends_after_the_main_one.py")
    all_once(collector, range(500))


def test_an_exit_while_daemon_threads_send_ends_quietly(run: Run, collector: Collector) -> None:
    done = run("exit_while_daemon_threads_send.py")
    assert done.seconds < 60
    assert "Traceback" not in done.stderr


def test_nothing_is_imported_in_the_worker(run: Run, collector: Collector) -> None:
    # A fork in the middle of an import leaves the child with half a module.
    collector.poison("3")
    collector.answer(503, headers={"Retry-After": "0"})
    collector.answer(429, headers={"Retry-After": "0"})
    collector.answer(403)
    done = run(
        "imports_in_the_worker.py",
        str(collector.port),
        str(free_port()),
    )
    assert done.stdout.split() == []


def test_nothing_is_imported_in_the_worker_over_https(run: Run, collector: Collector) -> None:
    # The collector speaks no TLS, so the handshake fails: by then, all is there that a handshake needs.
    done = run("imports_in_the_worker_over_https.py")
    assert done.stdout.split() == []


# Forks.


@unix
@pytest.mark.parametrize("child_ends", ["flush", "exit", "close"])
@pytest.mark.parametrize("warm", [True, False])
def test_a_fork_with_200_queued_delivers_each_event_once(
    run: Run, collector: Collector, child_ends: str, warm: bool
) -> None:
    collector.delay = 0.02
    run(
        "fork_with_200_queued.py",
        child_ends,
        str(warm),
    )
    all_once(collector, range(200), range(1000, 2000))
    assert len(collector.counts) == 1200 + 100 * warm


@unix
@pytest.mark.parametrize("imported", ["before", "in the child"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_events_of_a_multiprocessing_child_that_returns_are_delivered(
    run: Run, collector: Collector, method: str, imported: str
) -> None:
    run("children_that_return.py", method, imported)
    all_once(collector, range(1000, 3000), range(200 * (imported == "before")))


@unix
def test_a_multiprocessing_child_may_use_the_sender_of_its_parent(run: Run, collector: Collector) -> None:
    run("child_that_uses_its_parents_sender.py")
    all_once(collector, range(200), range(1000, 2000))


@unix
def test_events_of_the_workers_of_a_process_pool_are_delivered(run: Run, collector: Collector) -> None:
    run("process_pool.py")
    all_once(collector, range(1000))


@unix
def test_events_of_a_grandchild_are_delivered(run: Run, collector: Collector) -> None:
    run("grandchild.py")
    all_once(collector, range(400))


@unix
def test_15_forks_while_another_thread_sends_lose_nothing(run: Run, collector: Collector) -> None:
    done = run("forks_while_a_thread_sends.py")
    accepted = int(done.stdout)
    all_once(
        collector,
        [f"p{number}" for number in range(accepted)],
        [f"c{number}-{n}" for number in range(15) for n in range(50)],
    )
    assert len(collector.counts) == accepted + 750


@unix
def test_a_child_can_exit_whatever_locks_the_threads_of_its_parent_held(run: Run, collector: Collector) -> None:
    run("fork_while_locks_are_held.py")
    all_once(collector, range(10))


@unix
def test_a_child_forked_while_the_collector_hangs_has_a_queue_of_its_own(run: Run, collector: Collector) -> None:
    collector.hang()
    process_started = time.monotonic()
    done = run("fork_while_the_collector_hangs.py")
    assert done.seconds < 60
    assert time.monotonic() - process_started < 60


@unix
def test_a_child_forked_in_on_error_delivers_its_events(run: Run, collector: Collector) -> None:
    collector.poison("3")
    run("fork_from_on_error.py")
    all_once(collector, ["child", *(number for number in range(10) if number != 3)])


# Signals.


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
def test_close_on_signal_delivers_and_then_does_what_the_earlier_handler_did(
    run: Run, collector: Collector, earlier: str, code: int, output: list[str], senders: int
) -> None:
    done = run("close_on_signal.py", earlier, str(senders), "100", code=code)
    assert done.stdout.splitlines() == output
    all_once(collector, range(500 * senders))
    assert done.seconds < 60


@unix
@pytest.mark.parametrize("senders", [1, 2, 4])
def test_close_on_signal_with_a_hung_collector_ends_after_close_timeout(
    run: Run, collector: Collector, senders: int
) -> None:
    collector.hang()
    done = run("close_on_signal.py", "default", str(senders), "1", code=TERMINATED)
    assert done.stdout.splitlines()[-1:] == [f"error {500 * senders}"]  # all that is lost is reported
    assert done.seconds < 60  # however many senders there are


@unix
def test_close_on_signal_delivers_whatever_it_interrupts(run: Run, collector: Collector) -> None:
    done = run(
        "close_on_signal_in_the_middle.py",
        code=TERMINATED,
    )
    all_once(collector, range(len(done.stdout)))


@unix
@pytest.mark.parametrize("background", ["True", "False"])
def test_close_on_signal_delivers_during_a_flush(run: Run, collector: Collector, background: str) -> None:
    collector.delay = 0.5
    done = run(
        "close_on_signal_during_a_flush.py",
        background,
        code=TERMINATED,
    )
    assert not collector.lost(range(300))
    assert done.seconds < 60


@unix
def test_a_signal_to_a_forked_child_delivers_the_childs(run: Run, collector: Collector) -> None:
    run("close_on_signal_in_a_child.py")
    all_once(collector, range(100), range(1000, 1100))


@unix
def test_close_on_signal_delivers_before_ctrl_c_raises_keyboard_interrupt(run: Run, collector: Collector) -> None:
    done = run("close_on_ctrl_c.py")
    assert done.stdout == "interrupted\n"
    all_once(collector, range(100))


def test_close_on_signal_outside_the_main_thread_is_a_value_error(run: Run) -> None:
    run("close_on_signal_in_a_thread.py")


def test_senders_that_were_closed_do_not_hold_up_a_signal(run: Run, collector: Collector) -> None:
    # 20 that were closed hold up a signal no longer, and their handlers call no dead ones.
    run(
        "close_on_signal_of_closed_senders.py",
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
