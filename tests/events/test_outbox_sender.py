"""A sender with an outbox: nothing that was accepted is lost, whatever happens to the process.

`OUTBOX_KILLS=50` makes the test that kills processes do it that often.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from collector import Answer, Collector
from prelude import event
from waiting import PATIENCE, wait_until

from algolia_usertoken import EventSender, InvalidEventError, MemoryDelivery, OutboxError, SQLiteOutbox
from algolia_usertoken.events import sqlite

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("OUTBOX_KILLS", "4"))
DAY = 24 * 60 * 60 * 1000  # milliseconds


@pytest.fixture(autouse=True)
def _patience_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, a thread may stop for seconds in the middle of a call of SQLite, and the others wait for it.

    The usual time-outs would drop an event, or leave a lease; tests/events/test_sqlite.py is about them.
    """
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", PATIENCE)
    monkeypatch.setattr(sqlite, "CLOSE_TIMEOUT", PATIENCE)


def text(name: int | str, **more: Any) -> bytes:
    """An event as an outbox takes it."""
    return json.dumps(event(name) | more).encode()


def names(events: Any) -> list[str]:
    return [(json.loads(one) if isinstance(one, bytes) else one)["objectIDs"][0] for one in events]


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def expect(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line


def test_a_full_outbox_drops_and_tells(path: str) -> None:
    told: list[Any] = []
    delivery = MemoryDelivery()
    delivery.hang()
    sender = EventSender(
        delivery=delivery,
        outbox=SQLiteOutbox(path, max_events=10),
        user_token="u",
        on_error=lambda *what: told.append(what),
        flush_interval=0,
        batch_size=1,
    )

    accepted = [sender.send(event(name)) for name in range(12)]

    assert accepted == [True] * 10 + [False] * 2
    delivery.release()
    assert sender.close(PATIENCE)
    assert sorted(names(delivery.events), key=int) == [str(name) for name in range(10)]
    stats = sender.stats
    assert (stats.accepted, stats.delivered, stats.dropped) == (10, 10, 2)
    assert [(type(error), len(events)) for error, events in told] == [(OutboxError, 1)] * 2


def test_one_outbox_has_one_sender(path: str, outbox: SQLiteOutbox) -> None:
    with EventSender(delivery=MemoryDelivery(), outbox=outbox, user_token="u", close_timeout=PATIENCE):
        with pytest.raises(ValueError, match="has a sender already"):
            EventSender(delivery=MemoryDelivery(), outbox=outbox, user_token="u")
        with EventSender(delivery=MemoryDelivery(), outbox=SQLiteOutbox(path), user_token="u") as other:
            assert other.send(event(1))
    with pytest.raises(ValueError, match="is closed"):
        EventSender(delivery=MemoryDelivery(), outbox=outbox, user_token="u")
    with pytest.raises(TypeError, match="pickled"):
        outbox.__reduce_ex__(2)


def test_a_file_that_gets_corrupt_drops_events_and_says_so(path: str) -> None:
    told: list[Any] = []
    delivery = MemoryDelivery()
    outbox = SQLiteOutbox(path)
    sender = EventSender(
        delivery=delivery,
        outbox=outbox,
        user_token="u",
        on_error=lambda *what: told.append(what),
        flush_interval=10 * PATIENCE,
    )
    assert sender.send(event(1))
    with contextlib.ExitStack() as locked:
        # No connection may remember pages of the file: its thread could still read the event then, and deliver it.
        for connection in outbox.connections:
            locked.enter_context(connection.lock)
            connection.close()
        content = Path(path).read_bytes()
        Path(path).write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    started = time.monotonic()

    assert not sender.send(event(2))

    assert not sender.flush(0.5)
    assert not sender.close(0.5)
    assert time.monotonic() - started < PATIENCE
    assert {type(error) for error, _ in told} == {OutboxError}
    assert sender.stats.dropped == 1
    assert (sender.stats.accepted, sender.stats.queued) == (1, 1)


def test_a_full_disk_drops_events_and_sending_goes_on_when_there_is_room(
    path: str, run: Callable[..., Any], collector: Collector
) -> None:
    few = int(run("outbox_on_a_full_disk.py", path).stdout)

    assert len(collector.counts) == few + 100
    assert not collector.twice


def test_what_is_left_at_close_is_free_at_once(path: str, sibling: SQLiteOutbox) -> None:
    before = set(threading.enumerate())
    delivery = MemoryDelivery()
    delivery.hang()
    sender = EventSender(delivery=delivery, outbox=SQLiteOutbox(path), user_token="u", flush_interval=0)
    for name in range(20):
        sender.send(event(name))

    assert not sender.close(0.2)

    assert sender.stats.queued == sender.stats.accepted == 20
    assert not sender.send(event("late"))
    assert not sender.flush(0.2)
    delivery.release()
    # The close waits only for a moment until the file is closed, which takes longer on a busy machine.
    wait_until(lambda: sibling.keep() or len(sibling))
    assert sorted(names(sibling.take(99)), key=int) == [str(name) for name in range(20)]
    wait_until(lambda: not [one for one in set(threading.enumerate()) - before if "algolia" in one.name])


def test_a_delivery_whose_close_raises_leaves_the_outbox_closed(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = MemoryDelivery()
    monkeypatch.setattr(delivery, "close", lambda: 1 / 0)
    sender = EventSender(delivery=delivery, outbox=SQLiteOutbox(path), user_token="u")
    with pytest.raises(ZeroDivisionError):
        sender.close(PATIENCE)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM owners").fetchone() == (0,)
    connection.close()


def test_close_wakes_who_waits_in_flush(path: str) -> None:
    delivery = MemoryDelivery()
    delivery.hang()
    sender = EventSender(delivery=delivery, outbox=SQLiteOutbox(path), user_token="u", flush_interval=0)
    sender.send(event(1))
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(sender.flush()))
    thread.start()
    time.sleep(0.1)

    sender.close(0.1)

    thread.join(PATIENCE)
    delivery.release()
    assert answers == [False]


def test_flush_does_not_wait_for_what_others_took_over(
    path: str, sibling: SQLiteOutbox, end_leases: Callable[[], Any]
) -> None:
    delivery = MemoryDelivery()
    sibling.lease = 30 * PATIENCE  # the sender takes nothing back
    with EventSender(
        delivery=delivery, outbox=SQLiteOutbox(path), user_token="u", flush_interval=10 * PATIENCE
    ) as sender:
        for name in range(5):
            sender.send(event(name))
        wait_until(lambda: end_leases() == [] and not sibling.keep() and len(sibling) == 5)
        sender.send(event("mine"))

        assert sender.flush(PATIENCE)

        assert names(delivery.events) == ["mine"]
        assert (sender.stats.accepted, sender.stats.delivered, sender.stats.gone) == (6, 1, 5)


def flush_in_a_thread(sender: EventSender) -> threading.Thread:
    """A flush without a time-out, which would otherwise find at its end that there is nothing to wait for."""
    thread = threading.Thread(target=sender.flush, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def _threads_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends, having been idle for a while, wakes who waits in flush."""
    monkeypatch.setattr("algolia_usertoken.events.crew.IDLE_TIME_S", 10 * PATIENCE)


@pytest.mark.usefixtures("_threads_that_never_end")
def test_a_flush_ends_where_others_took_over_all_that_it_waits_for(
    path: str, sibling: SQLiteOutbox, end_leases: Callable[[], Any]
) -> None:
    outbox = SQLiteOutbox(path, lease=30 * PATIENCE)  # it does not look for what the others have left
    sibling.lease = 30 * PATIENCE
    with EventSender(delivery=MemoryDelivery(), outbox=outbox, user_token="u", flush_interval=10 * PATIENCE) as sender:
        for name in range(5):
            sender.send(event(name))
        wait_until(lambda: end_leases() == [] and not sibling.keep() and len(sibling) == 5)

        flush = flush_in_a_thread(sender)

        flush.join(PATIENCE)
        assert not flush.is_alive()
        assert sender.stats.gone == 5


@pytest.mark.usefixtures("_threads_that_never_end")
def test_a_flush_ends_where_all_is_gone_before_it_is_sent(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SQLiteOutbox, "confirm", lambda outbox, events: [])
    with EventSender(
        delivery=MemoryDelivery(), outbox=SQLiteOutbox(path), user_token="u", flush_interval=10 * PATIENCE
    ) as sender:
        for name in range(5):
            sender.send(event(name))

        flush = flush_in_a_thread(sender)

        flush.join(PATIENCE)
        assert not flush.is_alive()
        assert sender.stats.gone == 5


def test_without_threads_flush_adopts(path: str, outbox: SQLiteOutbox, end_leases: Callable[[], Any]) -> None:
    outbox.append(text("left"))
    end_leases()
    delivery = MemoryDelivery()
    with EventSender(delivery=delivery, outbox=SQLiteOutbox(path), user_token="u", background=False) as sender:
        sender.send(event("mine"))

        assert sender.flush(PATIENCE)

        assert names(delivery.events) == ["mine", "left"]


def test_events_older_than_thirty_days_are_offered_in_a_request_of_their_own(
    path: str, outbox: SQLiteOutbox, end_leases: Callable[[], Any], sql: Callable[..., list[Any]]
) -> None:
    now = int(time.time() * 1000)
    for name, age in (("new", 0), ("old", 31 * DAY), ("nearly", 29 * DAY), ("older", 300 * DAY)):
        outbox.append(text(name, timestamp=now - age))
    end_leases()
    delivery = MemoryDelivery()

    with EventSender(
        delivery=delivery, outbox=SQLiteOutbox(path), user_token="u", flush_interval=10 * PATIENCE
    ) as sender:
        wait_until(lambda: sender.stats.queued == 4)
        assert sender.flush(PATIENCE)
        assert sender.stats.delivered == 4

    assert [names(batch.events) for batch in delivery.batches] == [["new"], ["old"], ["nearly"], ["older"]]
    assert sql("SELECT events FROM total") == [(0,)]


def test_many_threads_may_send_through_one_outbox(path: str, sql: Callable[..., list[Any]]) -> None:
    delivery = MemoryDelivery()
    wrong: list[Any] = []
    with EventSender(
        delivery=delivery, outbox=SQLiteOutbox(path), user_token="u", flush_interval=0, batch_size=50, concurrency=3
    ) as sender:

        def send(thread: int) -> None:
            for number in range(250):
                assert sender.send(event(f"{thread}-{number}"))
                stats = sender.stats
                if stats.accepted != stats.delivered + stats.rejected + stats.failed + stats.queued:
                    wrong.append(stats)

        threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sender.flush(PATIENCE)
        assert sender.stats.delivered == 2000

    assert wrong == []
    assert len(set(names(delivery.events))) == len(delivery.events) == 2000
    assert sql("SELECT events FROM total") == [(0,)]


def test_a_del_may_send_through_an_outbox_during_garbage_collection(path: str) -> None:
    delivery = MemoryDelivery()
    sender = EventSender(delivery=delivery, outbox=SQLiteOutbox(path), user_token="u", flush_interval=0, batch_size=20)

    class Sends:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            sender.send(event("from del"))

    thresholds = gc.get_threshold()
    gc.set_threshold(3, 2, 2)
    try:
        for name in range(300):
            Sends()
            assert sender.send(event(name))
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    assert sender.close(PATIENCE)

    assert sender.stats.delivered == 600
    assert names(delivery.events).count("from del") == 300


def test_a_signal_handler_that_flushes_is_not_what_it_waits_for(path: str, run: Callable[..., Any]) -> None:
    run("outbox_flushed_by_a_signal_handler.py", path)


def test_a_forked_child_has_events_and_a_connection_of_its_own(
    path: str, run: Callable[..., Any], collector: Collector
) -> None:
    last = int(run("outbox_and_forks.py", path).stdout)

    expected = [
        *range(200),
        *range(10_000, last),
        *(n for child in range(1, 9) for n in range(child * 1000, child * 1000 + 100)),
    ]
    assert collector.counts == dict.fromkeys(map(str, expected), 1)


def test_a_child_that_outlives_its_parent_loses_nothing(
    path: str, run: Callable[..., Any], sql: Callable[..., list[Any]]
) -> None:
    # With a connection that is open across the fork, the parent would take the log away from under the child.
    run("outbox_of_a_child_that_outlives_its_parent.py", path)

    wait_until(lambda: sql("SELECT events FROM total") == [(3,)])
    assert sorted(eval(body)["objectIDs"][0] for (body,) in sql("SELECT body FROM events")) == [
        "child 1",
        "child 2",
        "parent",
    ]


@pytest.mark.slow
def test_what_an_exit_has_no_time_for_is_delivered_after_the_next_start(
    path: str, run: Callable[..., Any], start: Callable[..., subprocess.Popen[str]], collector: Collector
) -> None:
    collector.hang()
    process = start("outbox_at_exit_and_next_start.py", 300, stdin=subprocess.PIPE)
    assert collector.wait_until(lambda: collector.held)
    process.communicate("go\n", 60)
    assert process.returncode == 0
    collector.release()
    # They were in flight, and nobody was there for the answer.
    assert collector.wait_until(lambda: len(collector.requests) == collector.held)
    assert collector.ids == set(map(str, range(300)))
    collector.counts.clear()

    run("outbox_at_exit_and_next_start.py", path, "0")

    assert collector.counts == dict.fromkeys(map(str, range(300)), 1)


SENDS = "outbox_sends_until_killed.py"


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing(
    tmp_path: Path, collector: Collector, start: Callable[..., subprocess.Popen[str]], sql: Callable[..., list[Any]]
) -> None:
    accepted = tmp_path / "accepted"
    numbers = iter(range(1000))
    lease = 30 * PATIENCE  # nobody takes a process for dead that only waits for the processor

    def another() -> tuple[str, subprocess.Popen[str]]:  # it takes over what those have left that were killed before
        name = f"p{next(numbers)}"
        return name, start(SENDS, name, accepted, lease, "endless", 0.05)

    def kill(process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        sql("UPDATE owners SET alive_until = 0 WHERE pid = ?", process.pid)

    collector.delay = 0.01
    running = [another() for _ in range(4)]
    wait_until(lambda: len({request.headers["x-process"] for request in collector.requests}) == 4)
    for kills in range(KILLS):
        wait_until(lambda kills=kills: len(accepted.read_text().split()) > 100 * (kills + 1))  # type: ignore[misc]
        time.sleep(random.uniform(0.01, 0.5))
        _, process = running.pop(random.randrange(4))
        kill(process)
        running.append(another())
    for _, process in running:
        kill(process)
    start(SENDS, "last", accepted, lease, 0, 0.05, stdin=subprocess.PIPE)
    wait_until(lambda: sql("SELECT events FROM total") == [(0,)])

    promised = accepted.read_text().split()
    assert len(promised) > 100 * KILLS
    assert set(promised) - set(collector.counts) == set()
    last_requests = {request.headers["x-process"]: request for request in collector.requests}
    twice = collector.twice
    for request in collector.requests:
        again = twice.intersection(request.ids)
        if again and request is not last_requests[request.headers["x-process"]]:
            twice_later = {
                one
                for one in again
                if any(one in other.ids for other in collector.requests if other.time > request.time)
            }
            assert not twice_later, f"{request.headers['x-process']} had settled them"
    print(f"{KILLS} kills: {len(promised)} accepted, 0 lost, {len(twice)} twice, {len(collector.requests)} requests")


@pytest.mark.slow
def test_siblings_take_over_within_the_lease(
    tmp_path: Path, collector: Collector, start: Callable[..., subprocess.Popen[str]], sql: Callable[..., list[Any]]
) -> None:
    sibling = start(SENDS, "sibling", tmp_path / "accepted", 1.5, 0, 0.05, stdin=subprocess.PIPE)
    expect(sibling, "sent")
    collector.choose = lambda ids: Answer(503)
    victim = start(SENDS, "victim", tmp_path / "accepted", 1.5, 50, 0.05, stdin=subprocess.PIPE)
    expect(victim, "sent")
    wait_until(lambda: collector.requests)  # on the victim's only connection

    victim.kill()
    victim.wait()
    alive_for = sql("SELECT max(alive_until) FROM owners")[0][0] - sqlite.clock()
    wait_until(lambda: not collector.open_connections)  # the victim's last request was answered
    collector.choose = None

    assert collector.wait_for(50)
    assert alive_for <= 1.5
    assert {request.headers["x-process"] for request in collector.requests if request.status == 200} == {"sibling"}
    assert not collector.twice


def test_who_is_stopped_for_longer_than_the_lease_leaves_what_waits(
    tmp_path: Path, collector: Collector, start: Callable[..., subprocess.Popen[str]], sql: Callable[..., list[Any]]
) -> None:
    stopped = start(SENDS, "stopped", tmp_path / "accepted", 1.5, 50, 10 * PATIENCE, stdin=subprocess.PIPE)
    expect(stopped, "sent")
    tell(stopped, "stop")
    assert os.WIFSTOPPED(os.waitpid(stopped.pid, os.WUNTRACED)[1])
    sibling = start(SENDS, "sibling", tmp_path / "accepted", 1.5, 0, 0.05, stdin=subprocess.PIPE)
    expect(sibling, "sent")
    wait_until(lambda: sql("SELECT events FROM total") == [(0,)])
    assert collector.lost([f"stopped-{number}" for number in range(50)]) == set()

    stopped.send_signal(signal.SIGCONT)
    tell(stopped, "flush")
    expect(stopped, "True")

    assert {request.headers["x-process"] for request in collector.requests} == {"sibling"}
    assert not collector.twice


@pytest.fixture
def errors() -> list[tuple[Exception, list[dict[str, Any]]]]:
    return []


@pytest.fixture
def sender(path: str, errors: list[Any]) -> Iterator[EventSender]:
    with EventSender(
        delivery=MemoryDelivery(),
        outbox=SQLiteOutbox(path),
        user_token="u",
        flush_interval=0.0,
        on_error=lambda error, events: errors.append((error, list(events))),
    ) as sender:
        yield sender


def fail(*_: Any, **__: Any) -> Any:
    raise OutboxError("outbox: the disk is full")


def test_an_event_without_a_json_form_is_refused(sender: EventSender, errors: list[Any]) -> None:
    assert not sender.send(event("\ud800"))

    assert sender.stats.refused == 1
    assert isinstance(errors[0][0], InvalidEventError)


def test_events_that_cannot_be_removed_from_the_file_are_delivered_all_the_same(
    sender: EventSender, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(SQLiteOutbox, "settle", fail)

    assert sender.send(event(1))
    assert sender.flush(PATIENCE)

    assert sender.stats.delivered == 1
    wait_until(lambda: "the disk is full" in caplog.text)


def test_a_lease_that_cannot_be_kept_is_reported(
    sender: EventSender, errors: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SQLiteOutbox, "keep", fail)

    sender._worker._keeper.look()

    assert "the disk is full" in str(errors[0][0])
    assert errors[0][1] == []


def test_without_background_a_file_that_fails_is_said_and_flush_is_false(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with EventSender(delivery=MemoryDelivery(), outbox=SQLiteOutbox(path), user_token="u", background=False) as sender:
        sender.send(event(1))
        with monkeypatch.context() as patch:
            patch.setattr(SQLiteOutbox, "take", fail)

            def is_said() -> bool:  # in time, unless the machine is busy
                assert not sender.flush(1)
                return "the disk is full" in caplog.text

            wait_until(is_said)
        assert sender.flush(PATIENCE)
        assert sender.stats.delivered == 1


def test_at_exit_there_may_be_no_thread_for_the_lease(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def no_thread(thread: threading.Thread) -> None:
        if thread.name == "algolia-usertoken-outbox":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    delivery = MemoryDelivery()
    with EventSender(delivery=delivery, outbox=SQLiteOutbox(path), user_token="u") as sender:
        assert sender.send(event(1))
        assert sender.flush(PATIENCE)
    assert names(delivery.events) == ["1"]
