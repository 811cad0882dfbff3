"""The queue and its threads: flush and close in time and truthful, the sums, the wake-ups."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from collector import Answer, Collector
from prelude import Errors, Gate, adds_up, event, send
from waiting import PATIENCE, wait_until

from algolia_usertoken import (
    Batch,
    BatchRejectedError,
    EventSender,
    MemoryDelivery,
    RetryableDeliveryError,
    SQLiteOutbox,
)

pytestmark = pytest.mark.slow

Make = Callable[..., EventSender]


@pytest.mark.parametrize("background", [True, False])
def test_flush_returns_in_time_where_the_collector_hangs(sender: Make, collector: Collector, background: bool) -> None:
    collector.hang()
    events = sender(background=background)
    send(events, range(1500))
    started = time.monotonic()
    assert events.flush(1) is False
    assert 0.9 < time.monotonic() - started < 20
    assert events.stats.queued == 1500
    started = time.monotonic()
    assert events.flush(0) is False
    assert events.flush(-1) is False
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("background", [True, False])
def test_close_returns_in_time_where_the_collector_hangs(sender: Make, collector: Collector, background: bool) -> None:
    collector.hang()
    errors = Errors()
    events = sender(background=background, on_error=errors)
    send(events, range(1500))
    time.sleep(0.1)
    started = time.monotonic()
    assert events.close(1) is False
    assert time.monotonic() - started < 20
    assert events.stats[:5] == (1500, 0, 0, 1500, 0)
    assert collector.wait_until(lambda: len(errors.ids) == 1500)  # which close does not wait for, if it takes long
    assert sorted(errors.ids, key=int) == [str(number) for number in range(1500)]
    collector.release()
    time.sleep(0.2)
    assert events.stats[:5] == (1500, 0, 0, 1500, 0)  # the late answer changes nothing
    assert len(errors.ids) == 1500


def test_a_hung_collector_that_recovers_gets_the_rest(sender: Make, collector: Collector) -> None:
    collector.hang()
    events = sender()
    send(events, range(1500))
    assert not events.flush(0.3)
    collector.release()
    assert events.flush(PATIENCE)
    assert not collector.lost(range(1500))
    assert not collector.twice


def test_10_000_sends_into_a_queue_of_2_000(sender: Make, collector: Collector) -> None:
    collector.hang()
    events = sender(max_queue_size=2000, close_timeout=0.3)
    taken = []
    accepted = 0
    for number in range(10_000):
        one = event(number)
        started = time.perf_counter()
        accepted += events.send(one)
        taken.append(time.perf_counter() - started)
    # None waits for the collector. On a busy machine one or another waits for the processor.
    assert sorted(taken)[-10] < 10.0  # a request to the collector would wait for 30
    stats = events.stats
    assert (stats.accepted, stats.dropped) == (accepted, 10_000 - accepted)
    assert 2000 <= accepted <= 3000
    assert not events.close()
    assert events.stats[:5] == (accepted, 0, 0, accepted, 0)


def test_flush_none_waits_for_all(sender: Make, collector: Collector) -> None:
    collector.delay = 0.3
    events = sender(batch_size=10)
    send(events, range(45))
    assert events.flush() is True
    assert sum(collector.counts.values()) == 45
    assert events.flush(0) is True


def test_flush_is_true_only_for_what_was_accepted_before(senders: Make) -> None:
    class Slow(MemoryDelivery):
        def deliver(self, batch: Batch, timeout: float | None) -> None:
            time.sleep(0.001)
            super().deliver(batch, timeout)

    delivery = Slow()
    events = senders(delivery=delivery, max_queue_size=1_000_000, batch_size=50, concurrency=3, flush_interval=0.01)
    wrong: list[str] = []

    def work(place: int) -> None:
        for round in range(15):
            names = [f"{place}-{round}-{number}" for number in range(40)]
            send(events, names)
            if not events.flush(PATIENCE):
                wrong.append(f"{place}-{round}: False")
            arrived = {one["objectIDs"][0] for one in delivery.events}
            if not arrived.issuperset(names):
                wrong.append(f"{place}-{round}: {len(set(names) - arrived)} not there")

    threads = [threading.Thread(target=work, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert events.stats.delivered == len(delivery.events) == 6 * 15 * 40


def test_flush_ends_although_others_send_without_pause(sender: Make, collector: Collector) -> None:
    events = sender(max_queue_size=2_000)
    stop = threading.Event()

    def work() -> None:
        number = 0
        while not stop.is_set():
            events.send(event(f"x{number}"))
            number += 1
            if not number % 50:
                time.sleep(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for number in range(5):
            wait_until(lambda number=number: events.send(event(number)))  # type: ignore[misc]  # the queue may be full
            assert events.flush(PATIENCE)
            assert str(number) in collector.counts
    finally:
        stop.set()
        thread.join()


def test_the_flush_interval_gathers_a_batch(sender: Make, collector: Collector) -> None:
    events = sender(flush_interval=3.0)
    started = time.monotonic()
    for number in range(10):
        events.send(event(number))
        time.sleep(0.01)
    sending_took = time.monotonic() - started
    assert collector.wait_for(10)
    assert len(collector.requests) <= 1 + sending_took // 3.0  # 1, where the machine is not too busy to send them


def test_a_single_event_leaves_after_the_flush_interval(sender: Make, collector: Collector) -> None:
    events = sender(flush_interval=0.2)
    for number in range(3):
        started = time.monotonic()
        events.send(event(number))
        assert collector.wait_for(number + 1)
        assert 0.1 < time.monotonic() - started < 20


def test_a_full_batch_leaves_at_once(sender: Make, collector: Collector) -> None:
    events = sender(flush_interval=60.0, batch_size=100)
    send(events, range(100))
    assert collector.wait_for(100)


def test_an_idle_thread_ends_and_comes_back(
    sender: Make, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algolia_usertoken.events.crew.IDLE_TIME_S", 0.1)
    events = sender(flush_interval=0.01, concurrency=3)
    worker: Any = events._worker
    for round in range(4):
        send(events, range(round * 10, round * 10 + 10))
        assert collector.wait_for(round * 10 + 10)
        assert collector.wait_until(lambda: not worker._crew.threads)
    assert not collector.twice
    assert events.stats.delivered == 40


def test_events_sent_at_the_moment_a_thread_ends_are_delivered(
    sender: Make, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algolia_usertoken.events.crew.IDLE_TIME_S", 0.01)
    events = sender(flush_interval=0.0)
    for number in range(100):
        events.send(event(number))
        assert collector.wait_for(number + 1), number
        time.sleep(0.008 + number % 5 / 1000)
    assert not collector.twice


def test_no_more_threads_than_told(sender: Make, collector: Collector) -> None:
    collector.hang()
    events = sender(batch_size=10, concurrency=3)
    for number in range(600):
        events.send(event(number))
    assert collector.wait_until(lambda: collector.held == 3)  # all three have something to do
    collector.delay = 0.05
    collector.release()
    assert events.flush(PATIENCE)
    assert collector.connections == 3  # each thread has one


def test_where_no_thread_can_start_flush_delivers(
    sender: Make, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_start = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name.startswith("algolia-usertoken"):
            raise RuntimeError("can't start new thread")
        really_start(self)

    events = sender()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert send(events, range(10)) == 10
        assert events.flush(PATIENCE)
        assert send(events, range(10, 20)) == 10
    assert send(events, range(20, 30)) == 10
    assert collector.wait_for(30)
    assert not collector.twice


@pytest.mark.parametrize("rounds", [2000])
def test_4_posters_with_poisoned_events_while_stats_are_read(sender: Make, collector: Collector, rounds: int) -> None:
    collector.choose = lambda ids: Answer(400) if any(name.endswith("77") for name in ids) else None
    errors = Errors()
    events = sender(concurrency=4, batch_size=100, max_queue_size=1_000_000, on_error=errors)
    wrong: list[Any] = []
    stop = threading.Event()
    readings = 0

    def read() -> None:
        nonlocal readings
        earlier = events.stats
        while not stop.is_set():
            stats = events.stats
            readings += 1
            if not adds_up(stats) or any(now < then for now, then in zip(stats[:4], earlier[:4], strict=True)):
                wrong.append(stats)
            earlier = stats
            time.sleep(0.0003)

    reader = threading.Thread(target=read)
    reader.start()
    threads = [
        threading.Thread(target=send, args=(events, range(place * rounds, (place + 1) * rounds))) for place in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert events.flush(PATIENCE)
    wait_until(lambda: readings > 200)
    stop.set()
    reader.join()
    assert not wrong
    bad = {str(number) for number in range(4 * rounds) if str(number).endswith("77")}
    assert collector.ids == {str(number) for number in range(4 * rounds)} - bad
    assert not collector.twice
    assert events.stats[:5] == (4 * rounds, 4 * rounds - len(bad), len(bad), 0, 0)
    assert sorted(errors.ids) == sorted(bad)


def test_max_queue_size_of_one_and_batch_size_of_one(senders: Make) -> None:
    delivery = MemoryDelivery()
    events = senders(delivery=delivery, max_queue_size=1, batch_size=1)
    accepted = send(events, range(500))
    assert events.flush(PATIENCE)
    assert len(delivery.events) == accepted
    assert events.stats.accepted + events.stats.dropped == 500


# background=False.


def test_without_background_flush_delivers_and_no_thread_runs(sender: Make, collector: Collector) -> None:
    before = set(threading.enumerate())
    events = sender(background=False, batch_size=100)
    send(events, range(1050))
    time.sleep(0.1)
    assert not collector.requests
    assert not [one for one in set(threading.enumerate()) - before if one.name.startswith("algolia")]
    assert events.flush(PATIENCE)
    assert not collector.lost(range(1050))
    assert events.stats[:5] == (1050, 1050, 0, 0, 0)
    wait_until(lambda: not [one for one in set(threading.enumerate()) - before if one.name.startswith("algolia")])


def test_without_background_what_flush_had_no_time_for_stays(sender: Make, collector: Collector) -> None:
    # Not a time-out: what is in flight then may arrive twice.
    collector.choose = lambda ids: Answer(503, {"Retry-After": "60"}, b"")
    events = sender(background=False)
    send(events, range(100))
    assert not events.flush(5)
    wait_until(lambda: len(collector.requests) == events.stats.requests)  # it has answered them all, with 503
    assert events.stats.queued == 100
    collector.choose = None
    assert events.flush(PATIENCE)
    assert not collector.lost(range(100))
    assert not collector.twice


def test_without_background_several_threads_may_flush(sender: Make, collector: Collector) -> None:
    events = sender(background=False, batch_size=10)
    wrong = []

    def work(place: int) -> None:
        for round in range(10):
            names = [f"{place}-{round}-{number}" for number in range(25)]
            send(events, names)
            if not events.flush(PATIENCE) or not collector.ids.issuperset(names):
                wrong.append((place, round))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not collector.twice
    assert events.stats.delivered == 1000


def test_without_background_poison_and_order(sender: Make, collector: Collector) -> None:
    collector.poison("3", "60")
    errors = Errors()
    events = sender(background=False, on_error=errors)
    send(events, range(100))
    assert events.close(PATIENCE)
    assert sorted(errors.ids) == ["3", "60"]
    assert len(collector.counts) == 98


def test_a_batch_that_is_taken_apart_keeps_its_order(senders: Make) -> None:
    delivery = MemoryDelivery()
    delivery.fail_next(BatchRejectedError("split"), times=3)
    events = senders(delivery=delivery, batch_size=100, flush_interval=10 * PATIENCE)  # all leave in one request
    send(events, range(100))
    assert events.flush(PATIENCE)
    assert [one["objectIDs"][0] for one in delivery.events] == [str(number) for number in range(100)]


def test_a_delivery_that_exits_is_not_called_without_end(senders: Make) -> None:
    # What is no `Exception` (gevent's kill, say) ends no thread, and makes it no busy loop either.
    class Exits(MemoryDelivery):
        calls = 0

        def deliver(self, batch: Batch, timeout: float | None) -> None:
            self.calls += 1
            if self.calls < 1000:
                raise SystemExit("deliver")
            super().deliver(batch, timeout)

    delivery = Exits()
    errors = Errors()
    events = senders(delivery=delivery, on_error=errors, max_retry_time=1.0)
    send(events, range(10))
    events.flush(1)
    assert delivery.calls < 20
    assert adds_up(events.stats)


def test_close_while_on_error_takes_its_time(sender: Make, collector: Collector) -> None:
    collector.poison("3")
    told: list[str] = []
    telling, go_on = threading.Event(), threading.Event()

    def on_error(error: Exception, found: Any) -> None:
        if len(found) == 1:
            telling.set()
            go_on.wait(PATIENCE)
        told.extend(one["objectIDs"][0] for one in found)

    events = sender(on_error=on_error, batch_size=10)
    send(events, range(10))
    assert telling.wait(PATIENCE)
    started = time.monotonic()
    assert events.close(0.2) is False
    assert time.monotonic() - started < 20
    assert adds_up(events.stats)
    go_on.set()
    assert collector.wait_until(lambda: events.stats.queued == 0)
    stats = events.stats
    assert adds_up(stats)
    assert stats.rejected == 1
    assert stats.delivered == len(collector.counts)
    assert collector.wait_until(lambda: len(told) == 10 - stats.delivered)
    assert sorted(told) == sorted({str(number) for number in range(10)} - collector.ids)


# What is seldom: other locks, an outbox that fails, whoever delivers in its own thread.


@pytest.mark.parametrize("background", [True, False])
def test_locks_that_are_patched_late_are_made_anew(
    senders: Make, monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    delivery = MemoryDelivery()
    events = senders(delivery=delivery, background=background)
    send(events, [1] if not background else [])
    lock = threading.Lock
    monkeypatch.setattr(threading, "Lock", lambda: lock())  # as gevent's patch_all does

    send(events, [2])

    assert events.flush(PATIENCE)
    assert not events._worker._crew.is_outdated
    assert len(delivery.events) == (1 if background else 2)


def test_events_that_belong_together_are_dropped_together_where_the_outbox_fails(senders: Make, path: str) -> None:
    def fail() -> None:
        raise sqlite3.OperationalError("disk I/O error")

    errors = Errors()
    outbox = SQLiteOutbox(path)
    events = senders(delivery=MemoryDelivery(), outbox=outbox, on_error=errors, background=False)
    outbox.rows.adder.fault = fail

    assert not events.viewed_object_ids("Seen", "products", [str(number) for number in range(45)])

    assert events.stats.dropped == 3
    assert len(errors.calls[0][1]) == 3


def test_an_outbox_is_drained_in_the_thread_that_asks(senders: Make, path: str) -> None:
    delivery = MemoryDelivery()
    events = senders(delivery=delivery, outbox=SQLiteOutbox(path), background=False)
    send(events, range(3))

    assert events._worker.drain(time.monotonic() + PATIENCE)

    assert len(delivery.events) == 3
    assert events.stats.queued == 0


def test_whoever_drains_waits_for_the_pause_after_a_failure_where_there_is_time(senders: Make) -> None:
    delivery = MemoryDelivery()
    events = senders(delivery=delivery, background=False)
    send(events, range(3))

    delivery.fail_next(RetryableDeliveryError("later", delay=60))
    started = time.monotonic()
    assert not events._worker.drain(started + 50)
    assert time.monotonic() - started < 50  # it is of no use to wait
    delivery.fail_next(RetryableDeliveryError("later"))
    assert events._worker.drain(time.monotonic() + PATIENCE)

    assert len(delivery.events) == 3


@pytest.mark.parametrize("when", ["while it waits", "while it delivers"])
def test_whoever_drains_waits_for_a_thread_that_was_started_meanwhile(
    senders: Make, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    delivery = MemoryDelivery()
    delivery.hang()
    events = senders(delivery=delivery, concurrency=2)
    worker = events._worker
    begun = threading.Event()
    if when == "while it waits":  # it finds no thread, and before it looks again there is one
        send(events, range(3))
        look = worker._wait_for

        def look_too_early(target: int, deadline: float) -> bool:
            monkeypatch.setattr(worker, "_wait_for", look)
            begun.set()
            return False

        monkeypatch.setattr(worker, "_wait_for", look_too_early)
    else:  # a thread takes the events first
        monkeypatch.setattr(worker, "_wake", lambda: None)
        send(events, range(3))
        monkeypatch.undo()
        drain = worker._drain_here

        def after_another(deadline: float) -> bool:
            monkeypatch.undo()
            worker._wake()
            wait_until(lambda: events.stats.requests)
            begun.set()
            return drain(deadline)

        monkeypatch.setattr(worker, "_drain_here", after_another)
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(worker.drain(time.monotonic() + PATIENCE)))
    thread.start()
    assert begun.wait(PATIENCE)
    time.sleep(0.1)

    delivery.release()
    thread.join(PATIENCE)

    assert done == [True]
    assert len(delivery.events) == 3


def test_whoever_drains_where_threads_have_done_all_has_nothing_to_do(senders: Make) -> None:
    events = senders(delivery=MemoryDelivery())
    send(events, range(3))
    assert events.flush(PATIENCE)
    assert not events._worker._crew.is_empty

    assert events._worker.drain(time.monotonic() + PATIENCE)


def test_who_flushes_or_drains_while_another_thread_drains_waits_for_that_one(senders: Make) -> None:
    delivery = Gate()
    events = senders(delivery=delivery, background=False)
    send(events, range(3))
    worker = events._worker
    thread = threading.Thread(target=worker.drain, args=(time.monotonic() + PATIENCE,))
    thread.start()
    assert delivery.inside.wait(PATIENCE)

    assert not worker.drain(time.monotonic() + 0.1)
    assert not events.flush(0.2)
    delivery.go_on.set()
    assert events.flush(PATIENCE)

    thread.join()
    assert len(delivery.events) == 3


def test_who_waits_for_a_thread_that_is_left_behind_delivers_itself(senders: Make) -> None:
    delivery = Gate()
    events = senders(delivery=delivery)
    send(events, range(3))
    worker, crew = events._worker, events._worker._crew
    assert delivery.inside.wait(PATIENCE)
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(worker.drain(time.monotonic() + PATIENCE)))
    thread.start()
    time.sleep(0.1)

    for attempt in crew.threads.values():
        assert attempt is not None
        attempt.deadline = 0.0
    with crew.lock:
        crew.write_off(time.monotonic())
        crew.lock.notify_all()

    thread.join(PATIENCE)
    assert done == [True]
    assert len(delivery.events) == 3
    delivery.go_on.set()


def test_an_exit_waits_for_the_thread_that_tells_what_a_close_has_left(
    senders: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("algolia_usertoken.events.worker.ON_ERROR_S", PATIENCE)  # a busy machine needs longer
    delivery = MemoryDelivery()
    delivery.hang()
    telling, go_on, told = threading.Event(), threading.Event(), threading.Event()

    def on_error(error: Exception, events: object) -> None:
        telling.set()
        go_on.wait(PATIENCE)
        time.sleep(0.1)
        told.set()

    events = senders(delivery=delivery, on_error=on_error)
    send(events, range(3))
    closing = threading.Thread(target=events.close, args=(0.1,))
    closing.start()
    assert telling.wait(PATIENCE)

    assert events._worker.begin_exit()
    go_on.set()
    events._worker.finish_exit(0)

    assert told.is_set()
    delivery.release()
    closing.join(PATIENCE)
    assert not events._worker.begin_exit()


def test_a_signal_handler_that_ends_the_process_amid_the_last_look_of_a_close(
    senders: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = MemoryDelivery()
    events = senders(delivery=delivery)
    worker = events._worker
    core = worker._engine.core
    is_settled, found = core.is_settled, []

    def look(target: int, waiting: int) -> bool:
        if target == sys.maxsize and not found:  # it had found room before the close began
            worker._engine.queue.append(json.dumps(event(1)).encode())
            found.append(worker.begin_exit())
            waiting += 1
        return is_settled(target, waiting)

    monkeypatch.setattr(core, "is_settled", look)

    assert events.close(PATIENCE)

    assert found == [True]
    assert len(delivery.events) == 1
