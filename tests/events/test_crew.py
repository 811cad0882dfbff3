"""The threads that deliver: how they end, and what becomes of one that hangs, or whose locks are replaced."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from prelude import Errors, Gate, event, send
from waiting import PATIENCE, wait_until

from algolia_usertoken import Batch, EventSender, MemoryDelivery
from algolia_usertoken.events import crew as module
from algolia_usertoken.events.crew import Crew
from algolia_usertoken.events.in_flight import InFlight, Post
from algolia_usertoken.events.threads import start

Make = Callable[..., EventSender]
LONG = 10 * PATIENCE  # seconds


def crew_of(sender: EventSender) -> Crew:
    return sender._worker._crew


def only_thread_of(crew: Crew) -> threading.Thread:
    (ident,) = crew.threads
    (thread,) = (thread for thread in threading.enumerate() if thread.ident == ident)
    return thread


def ended(thread: threading.Thread) -> bool:
    thread.join(PATIENCE)
    return not thread.is_alive()


def send_together(events: EventSender, count: int) -> None:
    """Have so many events leave in one request, however slowly they are sent: the sender's flush_interval is `LONG`."""
    send(events, range(count))
    assert not events.flush(0)  # the first delivery of these tests hangs


def make_late(crew: Crew, seconds: float = PATIENCE) -> None:
    """Have all that is being delivered be beyond its deadline, and written off; wait so long for the reports."""
    for attempt in crew.threads.values():
        assert attempt is not None
        attempt.deadline = 0.0
    crew.write_off(time.monotonic() + seconds)


@pytest.mark.slow
def test_a_thread_that_hangs_is_left_behind_and_ends_when_it_comes_back(senders: Make) -> None:
    delivery = Gate()
    events = senders(delivery=delivery, flush_interval=LONG)
    send_together(events, 3)
    crew = crew_of(events)
    wait_until(lambda: len(events._worker._engine.queue) == 0 and delivery.inside.is_set())
    thread = only_thread_of(crew)

    make_late(crew)

    assert crew.is_empty
    assert events.flush(PATIENCE)
    assert [one["objectIDs"] for one in delivery.events] == [["0"], ["1"], ["2"]]
    delivery.go_on.set()
    assert ended(thread)
    assert events.stats[:5] == (3, 3, 0, 0, 0)


def test_a_slow_on_error_does_not_delay_who_leaves_a_thread_behind(senders: Make) -> None:
    delivery = Gate()
    telling, go_on, told = threading.Event(), threading.Event(), threading.Event()

    def on_error(error: Exception, found: Any) -> None:
        telling.set()
        go_on.wait(PATIENCE)
        told.set()

    events = senders(delivery=delivery, on_error=on_error, max_retry_time=0.0, flush_interval=LONG)
    send_together(events, 3)
    assert delivery.inside.wait(PATIENCE)

    make_late(crew_of(events), seconds=0)

    assert not told.is_set()
    assert telling.wait(PATIENCE)
    assert not told.is_set()
    go_on.set()
    delivery.go_on.set()
    assert told.wait(PATIENCE)


def test_where_there_is_no_patience_what_hangs_has_failed(senders: Make) -> None:
    delivery, errors = Gate(), Errors()
    events = senders(delivery=delivery, on_error=errors, max_retry_time=0.0, flush_interval=LONG)
    send_together(events, 3)
    assert delivery.inside.wait(PATIENCE)

    make_late(crew_of(events))

    assert errors.ids == ["0", "1", "2"]
    assert events.stats.failed == 3
    delivery.go_on.set()


def test_a_close_that_interrupts_who_leaves_a_thread_behind_tells_all_before_it_returns(
    senders: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery, errors = Gate(), Errors()
    events = senders(delivery=delivery, on_error=errors, max_retry_time=0.0, flush_interval=LONG)
    send_together(events, 3)
    assert delivery.inside.wait(PATIENCE)
    monkeypatch.setattr("algolia_usertoken.events.worker.ON_ERROR_S", PATIENCE)  # the close waits as long as it takes
    bounded, told_by_close = module.bounded, []

    def interrupted(*args: Any) -> None:
        events.close(0.0)  # as a signal handler does at this moment
        told_by_close.extend(errors.ids)
        bounded(*args)

    monkeypatch.setattr(module, "bounded", interrupted)
    make_late(crew_of(events))

    assert told_by_close == ["0", "1", "2"]
    assert errors.ids == told_by_close
    delivery.go_on.set()


def test_the_time_of_a_request_begins_when_it_is_known_whose_the_events_are(
    senders: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = Gate()
    events = senders(delivery=delivery, flush_interval=0.01)
    crew, engine = crew_of(events), events._worker._engine
    before = []

    def confirm(group: InFlight) -> bool:
        before.extend(attempt.deadline for attempt in crew.threads.values() if attempt is not None)
        return True

    monkeypatch.setattr(engine, "confirm", confirm)
    send(events, range(3))
    assert delivery.inside.wait(PATIENCE)

    assert before == [math.inf]
    assert [attempt.deadline < math.inf for attempt in crew.threads.values() if attempt is not None] == [True]
    delivery.go_on.set()


@pytest.mark.slow
def test_a_thread_that_delivers_while_the_locks_are_replaced_ends_after_it(senders: Make) -> None:
    delivery = Gate()
    events = senders(delivery=delivery)
    send(events, range(3))
    assert delivery.inside.wait(PATIENCE)
    thread = only_thread_of(crew_of(events))

    crew_of(events)._made_by = None  # as if they were made before gevent patched `threading`
    events._worker._renew_outdated_locks()
    delivery.go_on.set()

    assert ended(thread)
    assert events.flush(PATIENCE)
    assert events.stats[:5] == (3, 3, 0, 0, 0)


@pytest.mark.parametrize("background", [True, False])
def test_a_flush_that_interrupts_the_start_of_a_thread_does_not_wait_for_that_thread(
    senders: Make, monkeypatch: pytest.MonkeyPatch, background: bool
) -> None:
    # A signal handler that flushes may come after the decision to start a thread, and before its start.
    delivery = MemoryDelivery()
    events = senders(delivery=delivery, background=background)
    flushed: list[bool] = []

    def start_and_be_interrupted(thread: threading.Thread) -> None:
        monkeypatch.setattr(module, "start", start)
        flushed.append(events.flush(PATIENCE))
        start(thread)

    monkeypatch.setattr(module, "start", start_and_be_interrupted)
    send(events, range(3))

    assert events.flush(PATIENCE)
    assert flushed == [True]
    assert len(delivery.events) == 3
    wait_until(lambda: not crew_of(events)._starting)
    assert len(crew_of(events).threads) <= 1


def test_a_flush_whose_thread_has_ended_already_starts_another_and_does_not_deliver_itself(
    senders: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A delivery may take any time, and only a thread of its own can be left behind.
    by: list[threading.Thread] = []

    class Delivery(MemoryDelivery):
        def deliver(self, batch: Batch, timeout: float | None) -> None:
            by.append(threading.current_thread())

    events = senders(delivery=Delivery(), background=False)
    send(events, range(3))
    work = Crew._work

    def find_nothing(crew: Crew, token: object) -> None:
        monkeypatch.setattr(Crew, "_work", work)
        del crew._starting[token]

    monkeypatch.setattr(Crew, "_work", find_nothing)

    assert events.flush(PATIENCE)
    assert len(by) == 1
    assert by[0] is not threading.current_thread()


def test_a_thread_that_starts_after_the_locks_were_replaced_ends_at_once(
    senders: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = MemoryDelivery()
    events = senders(delivery=delivery)
    late: list[threading.Thread] = []

    def start_after_new_locks(thread: threading.Thread) -> None:
        crew_of(events)._made_by = None  # as if they were made before gevent patched `threading`
        events._worker._renew_outdated_locks()
        late.append(thread)
        start(thread)

    monkeypatch.setattr(module, "start", start_after_new_locks)
    send(events, [1])
    assert ended(late[0])
    monkeypatch.setattr(module, "start", start)

    assert events.flush(PATIENCE)
    assert events.stats[:5] == (1, 1, 0, 0, 0)


def test_a_thread_that_waits_while_the_locks_are_replaced_ends(senders: Make) -> None:
    events = senders(delivery=MemoryDelivery())
    send(events, range(3))
    assert events.flush(PATIENCE)
    crew = crew_of(events)
    wait_until(lambda: crew._parked and crew.wake.locked())  # it waits: nothing that was signalled earlier wakes it
    thread, wake = only_thread_of(crew), crew.wake

    crew_of(events)._made_by = None  # as if they were made before gevent patched `threading`
    events._worker._renew_outdated_locks()
    wake.release()

    assert ended(thread)
    assert crew._parked == 0
    send(events, range(3))
    assert events.flush(PATIENCE)


def test_what_was_given_up_on_its_way_is_not_sent(senders: Make) -> None:
    delivery = MemoryDelivery()
    events = senders(delivery=delivery, background=False)
    send(events, range(3))
    engine = events._worker._engine
    engine.flush(time.monotonic())
    action = engine.next(time.monotonic())
    assert isinstance(action, Post)
    engine.give_up()

    crew_of(events).attempt(action.group, inline=True)

    assert delivery.batches == []


@pytest.mark.parametrize("concurrency", [1, 2])
def test_what_is_sent_as_a_thread_ends_is_delivered(
    senders: Make, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    monkeypatch.setattr(module, "IDLE_TIME_S", 0.05)
    delivery = MemoryDelivery()
    events = senders(delivery=delivery, concurrency=concurrency, flush_interval=0.01)
    last = []

    class Threads(dict[int, Any]):
        def __delitem__(self, ident: int) -> None:
            super().__delitem__(ident)
            if not last:
                last.append(ident)
                events.send(event("last"))  # as a `__del__` may

    crew_of(events).threads = Threads()
    events.send(event("first"))

    wait_until(lambda: len(delivery.events) == 2)
    wait_until(lambda: crew_of(events).is_empty)
    assert [one["objectIDs"] for one in delivery.events] == [["first"], ["last"]]
