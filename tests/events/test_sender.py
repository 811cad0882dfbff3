"""What `send` and the twelve promise to the caller."""

from __future__ import annotations

import asyncio
import copy
import gc
import itertools
import logging
import pickle
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.search.config import SearchConfig
from collector import Collector
from prelude import Errors, adds_up, event, send
from waiting import PATIENCE, wait_until

from algolia_usertoken import (
    EventSender,
    HitReference,
    Identity,
    InvalidEventError,
    InvalidUserTokenError,
    MemoryDelivery,
    MissingUserTokenError,
    SQLiteOutbox,
    TokenProvider,
    identity_scope,
)
from algolia_usertoken.events import accepting
from algolia_usertoken.events.crew import Crew
from algolia_usertoken.events.delivery import Batch
from algolia_usertoken.events.rules import Event
from algolia_usertoken.testing import LocalAlgolia

pytestmark = pytest.mark.slow

QUERY_ID = "43b15df305339e827f0ac0bdc5ebcaa7"
Make = Callable[..., EventSender]


@pytest.fixture
def delivery() -> MemoryDelivery:
    return MemoryDelivery()


def test_45_objects_bought_in_one_call_are_three_events_that_line_up(sender: Make, collector: Collector) -> None:
    collector.keep_events = True
    events = sender()
    names = [f"o{number}" for number in range(45)]
    data = [{"price": number, "quantity": 1, "queryID": QUERY_ID} for number in range(45)]
    before = copy.deepcopy((names, data))
    assert events.purchased_object_ids_after_search("Bought", "products", names, data, value=990, currency="EUR")
    assert events.flush(PATIENCE)
    assert [len(event["objectIDs"]) for event in collector.events] == [20, 20, 5]
    for one in collector.events:
        assert [f"o{item['price']}" for item in one["objectData"]] == one["objectIDs"]
        assert one["currency"] == "EUR"
    assert [one.get("value") for one in collector.events] == [190, 590, 210]  # of which each has its own
    assert [name for one in collector.events for name in one["objectIDs"]] == names
    assert len({one["timestamp"] for one in collector.events}) == 1
    assert events.stats[:5] == (3, 3, 0, 0, 0)
    assert (names, data) == before


def test_45_clicks_keep_their_positions(sender: Make, collector: Collector) -> None:
    collector.keep_events = True
    events = sender()
    clicks = (f"o{number}" for number in range(1, 46))  # generators are fine, too
    assert events.clicked_object_ids_after_search("Clicked", "products", clicks, range(1, 46), QUERY_ID)
    assert events.flush(PATIENCE)
    for one in collector.events:
        assert [f"o{position}" for position in one["positions"]] == one["objectIDs"]


@pytest.mark.parametrize("query_id", ["", "deadbeef", QUERY_ID.upper(), QUERY_ID + "\n", "'><script>", None, 7])
def test_a_query_id_out_of_a_visitors_url_is_refused_counted_and_reported(
    senders: Make, delivery: MemoryDelivery, query_id: Any, caplog: pytest.LogCaptureFixture
) -> None:
    errors = Errors()
    events = senders(delivery=delivery, on_error=errors)
    assert not events.clicked_object_ids_after_search("Clicked", "products", ["1"], [1], query_id)
    assert events.stats.refused == 1
    assert events.stats.accepted == 0
    [(error, [refused])] = errors.calls
    assert isinstance(error, InvalidEventError)
    assert error.field == "queryID"
    assert refused["objectIDs"] == ["1"]
    assert [record.levelno >= logging.WARNING for record in caplog.records] == [True]


def test_a_visitor_without_a_token_is_refused(delivery: MemoryDelivery) -> None:
    errors = Errors()
    with EventSender(delivery=delivery, on_error=errors) as events:
        assert not events.send(event(1))
        assert not events.viewed_object_ids("Seen", "products", ["1"])
        with identity_scope(Identity()):
            assert not events.send(event(1))
        assert events.stats.refused == 3
        assert [type(error) for error, _ in errors.calls] == [MissingUserTokenError] * 3
    assert delivery.events == []


def test_a_visitor_who_opted_out_is_quiet(delivery: MemoryDelivery, caplog: pytest.LogCaptureFixture) -> None:
    errors = Errors()
    with EventSender(delivery=delivery, on_error=errors, strict=True) as events:
        with identity_scope(Identity(opted_out=True)):
            assert not events.send(event(1))
            assert not events.viewed_object_ids("Seen", "products", [str(number) for number in range(45)])
        assert events.stats[:11] == (0,) * 11
    assert not errors.calls
    assert not caplog.records
    assert delivery.events == []


def test_strict_raises_what_is_refused_at_the_door(delivery: MemoryDelivery) -> None:
    with EventSender(delivery=delivery, strict=True) as events:
        with pytest.raises(MissingUserTokenError):
            events.send(event(1))
        with pytest.raises(InvalidEventError), identity_scope("visitor-1"):
            events.send({**event(1), "index": ""})


HUGE = 10**5000
BAD = [
    *(None, 7, "event", [], [1], [(1, 2)], {"eventName": object()}, {1: 2}, event("x") | {"index": []}),
    *(event("x") | {1: 2}, event("x") | {"objectIDs": HUGE}, event("x") | {"timestamp": -HUGE}),
    *(event("x") | {"eventType": []}, event("x") | {"eventName": []}, event("x") | {"userToken": {}}),
    event("x") | {"eventType": "conversion", "eventSubtype": "purchase", "value": HUGE},
    event("x") | {"eventType": "conversion", "eventSubtype": "purchase", "objectData": [{"price": HUGE}]},
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_nothing_that_is_sent_raises(senders: Make, delivery: MemoryDelivery, bad: Any) -> None:
    events = senders(delivery=delivery)
    accepted = events.send(bad)
    assert events.flush(PATIENCE)
    assert events.stats.refused == (not accepted)
    assert events.stats.rejected == accepted


def test_identity_and_time_are_those_of_the_call(senders: Make, delivery: MemoryDelivery) -> None:
    events = senders(delivery=delivery, flush_interval=0.1)
    before = int(time.time() * 1000)
    with identity_scope(Identity("visitor-2", "user-2")):
        events.send(event(1))
    after = int(time.time() * 1000)
    time.sleep(0.05)
    assert events.flush(PATIENCE)
    [one] = delivery.events
    assert (one["userToken"], one["authenticatedUserToken"]) == ("visitor-2", "user-2")
    assert before <= one["timestamp"] <= after


def test_a_list_that_the_caller_goes_on_using_does_no_harm_to_the_twelve(
    senders: Make, delivery: MemoryDelivery
) -> None:
    events = senders(delivery=delivery, background=False)
    names = ["1", "2"]
    events.viewed_object_ids("Seen", "products", names)
    names.clear()
    assert events.flush(PATIENCE)
    assert delivery.events[0]["objectIDs"] == ["1", "2"]


def test_a_full_queue_drops_at_once_and_counts(senders: Make, delivery: MemoryDelivery) -> None:
    delivery.hang()
    events = senders(delivery=delivery, max_queue_size=2000, close_timeout=0.2)
    accepted = send(events, range(10_000))
    stats = events.stats
    assert adds_up(stats)
    assert stats.accepted == accepted
    assert stats.accepted + stats.dropped == 10_000
    assert 2000 <= accepted <= 3000  # a batch may be on its way
    delivery.release()
    assert events.flush(PATIENCE)
    assert len(delivery.events) == accepted


def test_20_000_drops_are_at_most_10_log_lines_with_counts(
    senders: Make, delivery: MemoryDelivery, caplog: pytest.LogCaptureFixture
) -> None:
    delivery.hang()
    events = senders(delivery=delivery, max_queue_size=1, batch_size=1)
    send(events, range(3))
    caplog.clear()
    before = events.stats.dropped
    threads = [threading.Thread(target=send, args=(events, range(5000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    dropped = events.stats.dropped - before
    assert dropped > 19_990
    delivery.release()
    assert events.close(PATIENCE)
    lines = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert 1 <= len(lines) <= 10
    assert all(record.name == "algolia_usertoken.events" for record in caplog.records)
    assert any(character.isdigit() for character in "".join(lines))


def test_all_kinds_of_trouble_together_stay_a_few_lines(
    senders: Make, delivery: MemoryDelivery, caplog: pytest.LogCaptureFixture
) -> None:
    def on_error(error: Exception, events: Any) -> None:
        raise ZeroDivisionError

    events = senders(delivery=delivery, on_error=on_error, batch_size=1)
    for number in range(2000):
        events.send({**event(number), "eventType": "no such"})
        events.send(event(f"\ud800{number}"))  # no JSON
    assert events.close(PATIENCE)
    assert events.stats.refused == 4000
    assert len(caplog.records) <= 12
    assert "1999" in caplog.text


def test_sends_after_close_are_dropped_and_logged(
    senders: Make, delivery: MemoryDelivery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    events = senders(delivery=delivery)
    assert events.send(event(1))
    assert events.close(PATIENCE)
    assert events.close(PATIENCE)
    assert not events.send(event(2))
    assert not events.viewed_object_ids("Seen", "products", ["2"])
    assert events.flush(PATIENCE)
    assert events.stats[:7] == (1, 1, 0, 0, 0, 0, 2)
    assert "closed" in caplog.text


def test_an_event_that_found_room_before_the_close_is_delivered(
    senders: Make, delivery: MemoryDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = senders(delivery=delivery)
    worker = events._worker
    flush = worker.flush
    late = [b'{"eventType":"view","eventName":"Late","index":"i","objectIDs":["1"],"userToken":"u"}']

    def flush_and_then_queue(timeout: float | None = None) -> bool:
        done = flush(timeout)
        if late:
            worker._engine.idle = False  # as a busy thread leaves it: nobody is woken
            worker._engine.queue.append(late.pop())
        return done

    monkeypatch.setattr(worker, "flush", flush_and_then_queue)

    assert events.close(PATIENCE) is True
    assert (events.stats.queued, events.stats.delivered) == (0, 1)


def test_sends_while_it_is_closed_are_each_delivered_or_counted(senders: Make) -> None:
    for round in range(20):
        delivery = MemoryDelivery()
        events = senders(delivery=delivery, max_queue_size=1_000_000, batch_size=50)
        accepted = [0] * 4
        started = threading.Barrier(5)

        def work(place: int, events: Any = events, accepted: Any = accepted, started: Any = started) -> None:
            started.wait()
            accepted[place] = send(events, range(place * 10_000, place * 10_000 + 2000))

        threads = [threading.Thread(target=work, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
        time.sleep(round / 1000)
        events.close(PATIENCE)
        for thread in threads:
            thread.join()
        stats = events.stats
        assert adds_up(stats)
        assert stats.queued == 0
        assert stats.accepted == sum(accepted)
        assert stats.accepted + stats.dropped == 8000
        assert len(delivery.events) == stats.delivered


def test_close_closes_the_delivery_once() -> None:
    class Closing(MemoryDelivery):
        closed = 0

        def close(self) -> None:
            time.sleep(0.05)
            self.closed += 1

    delivery = Closing()
    events = EventSender(user_token="visitor-1", delivery=delivery, close_timeout=PATIENCE)
    events.send(event(1))
    threads = [threading.Thread(target=events.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert delivery.closed == 1


def test_a_view_shares_the_queue_and_closes_nothing(senders: Make, delivery: MemoryDelivery) -> None:
    events = senders(delivery=delivery)
    view = events.with_identity("visitor-2").with_identity("visitor-3")
    assert view.close()
    assert view.send(event(1))
    assert events.flush(PATIENCE)
    assert delivery.events[0]["userToken"] == "visitor-3"
    assert view.stats == events.stats


def test_a_view_keeps_its_sender_alive(delivery: MemoryDelivery) -> None:
    view = EventSender(user_token="visitor-1", delivery=delivery).with_identity("visitor-2")
    gc.collect()
    assert view.send(event(1))
    assert view.flush(PATIENCE)


def test_copies_are_refused(senders: Make, delivery: MemoryDelivery) -> None:
    events = senders(delivery=delivery)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="EventSender"):
            attempt(events)


@pytest.mark.parametrize("call", ["aflush", "aclose"])
async def test_async_flush_and_close_leave_the_loop_alone(call: str, sender: Make, collector: Collector) -> None:
    collector.hang()
    async with sender() as events:
        events.send(event(1))
        task = asyncio.create_task(getattr(events, call)(PATIENCE))
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert not task.done()
        collector.release()
        assert await task
    assert not events.send(event(2))
    assert collector.counts == {"1": 1}


def test_a_cancelled_aflush_does_not_hold_up_the_loop_or_the_exit(run: Any, collector: Collector) -> None:
    collector.hang()
    done = run("aflush_that_is_cancelled.py")
    assert done.stdout == "timed out\n"
    assert done.seconds < 60


def test_200_senders_that_were_made_and_dropped_leave_no_thread(collector: Collector) -> None:
    from prelude import sender

    gc.collect()
    before = set(threading.enumerate())
    references = []
    for number in range(200):
        events = sender(collector.port, flush_interval=60.0)
        assert events.send(event(number))
        references.append(weakref.ref(events._worker))
    del events
    assert collector.wait_for(200)
    gone = collector.wait_until(lambda: gc.collect() is not None and not any(reference() for reference in references))
    assert gone, f"{sum(reference() is not None for reference in references)} objects left"
    assert collector.wait_until(  # a thread that has let go of everything may need a moment to end
        lambda: not [one for one in set(threading.enumerate()) - before if one.name.startswith("algolia-usertoken")]
    )
    assert not collector.twice


def test_a_sender_that_is_dropped_while_its_thread_starts_goes(
    delivery: MemoryDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, work = threading.Event(), Crew._work

    def started(crew: Crew, token: object) -> None:
        assert go.wait(PATIENCE)
        work(crew, token)

    monkeypatch.setattr(Crew, "_work", started)
    events = EventSender(delivery=delivery, user_token="u", flush_interval=60.0)
    assert events.send(event(1))
    reference = weakref.ref(events._worker)
    del events
    gc.collect()
    go.set()
    wait_until(lambda: gc.collect() is not None and reference() is None)
    assert len(delivery.events) == 1


def test_senders_that_never_sent_leave_nothing(collector: Collector) -> None:
    from prelude import sender

    before = set(threading.enumerate())  # some of which, of earlier tests, may end meanwhile
    references = [weakref.ref(sender(collector.port)._worker) for _ in range(200)]
    gc.collect()
    assert set(threading.enumerate()) <= before
    assert not any(reference() for reference in references)


def test_a_sender_in_a_cycle_that_has_events_delivers_them(delivery: MemoryDelivery) -> None:
    events: Any = EventSender(user_token="visitor-1", delivery=delivery, flush_interval=60.0)
    events.itself = events
    events.send(event(1))
    del events
    gc.collect()
    wait_until(lambda: len(delivery.events) == 1)


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "concurrency", "count"), [(1000, 1, 1500), (1, 1, 300), (7, 4, 1500)])
def test_a_del_may_send_during_garbage_collection(
    run: Any, collector: Collector, batch_size: int, concurrency: int, count: int
) -> None:
    done = run("del_that_sends.py", str(batch_size), str(concurrency), str(count))
    made, from_del, accepted, delivered = map(int, done.stdout.split())
    assert made == from_del == count
    assert accepted == delivered == 2 * count
    assert not collector.lost(range(count))
    assert not collector.lost([f"d{number}" for number in range(1, count + 1)])
    assert not collector.twice


def test_a_del_may_send_while_its_thread_holds_the_locks(senders: Make, delivery: MemoryDelivery) -> None:
    events = senders(delivery=delivery, batch_size=1)
    worker: Any = events._worker

    class Sends:
        def __del__(self) -> None:
            events.send(event("from del"))
            assert adds_up(events.stats)

    for lock in (worker._crew.lock, worker._inline, events._reporter.dropped._lock):
        finished = threading.Event()

        def work(lock: Any = lock, finished: threading.Event = finished) -> None:
            with lock:
                one = Sends()
                del one
            finished.set()

        threading.Thread(target=work, daemon=True).start()
        assert finished.wait(PATIENCE), f"deadlock on {lock}"
    assert events.flush(PATIENCE)
    assert len(delivery.events) == 3


def test_a_del_may_send_while_the_thread_of_the_sender_starts(run: Any, collector: Collector) -> None:
    # The new thread collects garbage before `start` returns: the sender's lock must not be what it waits for.
    run("send_while_the_thread_starts.py")
    assert collector.counts == {"1": 1, "from del": 1}


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="gevent is not there yet")
def test_greenlets_of_gevent_may_send_and_exit(run: Any, collector: Collector) -> None:
    pytest.importorskip("gevent")
    done = run("gevent_greenlets.py")
    assert done.stdout == "exits\n"
    assert not collector.lost(range(2500))
    assert not collector.twice
    assert not done.stderr


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="gevent is not there yet")
def test_under_gevent_a_hung_collector_holds_up_no_flush(run: Any, collector: Collector) -> None:
    pytest.importorskip("gevent")
    collector.hang()
    done = run("gevent_while_the_collector_hangs.py")
    assert done.seconds < 60


# Wrong arguments.


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"on_error": "x"}, TypeError, "on_error must be callable, not str"),
        ({"max_queue_size": 1.5}, TypeError, "max_queue_size must be a whole number, not float"),
        ({"max_queue_size": 0}, ValueError, "max_queue_size must be at least 1, not 0"),
        ({"batch_size": 1001}, ValueError, "batch_size must be 1 to 1000, not 1001"),
        ({"flush_interval": "1"}, TypeError, "flush_interval must be a number of seconds, not str"),
        ({"flush_interval": float("nan")}, ValueError, "flush_interval must be at least 0, not nan"),
        ({"concurrency": True}, TypeError, "concurrency must be a whole number, not bool"),
        ({"max_retry_time": -1}, ValueError, "max_retry_time must be at least 0, not -1"),
        ({"close_timeout": None}, TypeError, "close_timeout must be a number of seconds, not NoneType"),
        ({"background": "no"}, TypeError, "background must be True or False, not str"),
        ({"strict": None}, TypeError, "strict must be True or False, not NoneType"),
        ({"config": "x"}, TypeError, "config must be an InsightsConfig, not str"),
        ({"config": SearchConfig("A", "k")}, TypeError, "config must be an InsightsConfig, not SearchConfig"),
        ({"delivery": "http"}, TypeError, "delivery must be an object with the methods of Delivery, not str"),
        ({"delivery": MemoryDelivery}, TypeError, "delivery must be .*, not the class MemoryDelivery"),
        ({"outbox": "events.db"}, TypeError, "outbox must be an SQLiteOutbox, not str"),
        ({"outbox": SQLiteOutbox}, TypeError, "outbox must be an SQLiteOutbox, not the class SQLiteOutbox"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=f"^{text}$"):
        EventSender(**{"delivery": MemoryDelivery()} | options)


class AsyncDelivery(MemoryDelivery):
    async def deliver(self, batch: Batch, timeout: float) -> None:  # type: ignore[override]
        raise AssertionError("never awaited")


async def async_on_error(error: Exception, events: Sequence[Event]) -> None:
    raise AssertionError("never awaited")


class AsyncOnError:
    async def __call__(self, error: Exception, events: Sequence[Event]) -> None:
        raise AssertionError("never awaited")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("delivery.deliver", {"delivery": AsyncDelivery()}),
        ("on_error", {"on_error": async_on_error}),
        ("on_error", {"on_error": AsyncOnError()}),
    ],
)
def test_a_coroutine_function_that_nobody_would_await_is_named(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be a plain function, not a coroutine function$"):
        EventSender(**{"delivery": MemoryDelivery()} | options)


@pytest.mark.parametrize("timeout", ["5", True, timedelta(seconds=5)])
def test_a_timeout_that_is_no_number_is_named(delivery: MemoryDelivery, timeout: Any) -> None:
    events = EventSender(delivery=delivery, user_token="u")
    for wait in (events.flush, events.close):
        with pytest.raises(TypeError, match=f"^timeout must be a number of seconds, not {type(timeout).__name__}$"):
            wait(timeout)
    assert events.send(event(1))  # it is not closed
    assert events.close(PATIENCE)


def test_a_timeout_that_is_nan_is_refused_as_no_wait_for_it_would_end(delivery: MemoryDelivery) -> None:
    events = EventSender(delivery=delivery, user_token="u")
    for wait in (events.flush, events.close):
        with pytest.raises(ValueError, match=r"^timeout must be a number of seconds, not nan$"):
            wait(float("nan"))
    assert events.send(event(1))  # it is not closed
    assert events.close(PATIENCE)


@pytest.mark.parametrize("early", [-1, -1e300, -(10**400), float("-inf")])
def test_a_timeout_below_zero_does_not_wait(delivery: MemoryDelivery, early: float) -> None:
    delivery.hang()
    events = EventSender(delivery=delivery, user_token="u")
    assert events.send(event(1))
    assert not events.flush(early)
    assert not events.close(early)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("long", [float("inf"), 1e300, 10**400])
def test_infinite_times_are_accepted(delivery: MemoryDelivery, long: float, background: bool) -> None:
    times = {"flush_interval": long, "max_retry_time": long, "close_timeout": long}
    events = EventSender(delivery=delivery, user_token="u", background=background, batch_size=2, **times)
    for number in range(3):
        assert events.send(event(number))
    assert events.flush(long)
    assert events.send(event(3))
    assert events.close(long)
    assert events.stats.delivered == 4

    events = EventSender(delivery=delivery, user_token="u", close_timeout=long, background=background)
    assert events.send(event(4))
    assert events.close()


def test_a_resolve_that_fails_breaks_no_page(delivery: MemoryDelivery) -> None:
    def resolve() -> str:
        raise RuntimeError("no request here")

    errors = Errors()
    with EventSender(delivery=delivery, token_provider=TokenProvider(resolve=resolve), on_error=errors) as events:
        assert not events.viewed_object_ids("Viewed", "products", ["1"])
        assert not events.send({**event(1), "userToken": None})
        assert not events.clicked("Clicked", HitReference(None, "products", "1", 1))
        assert events.stats.refused == 3
        for error, _ in errors.calls:
            assert isinstance(error, MissingUserTokenError)
            assert re.search(r"resolve\(\) raised RuntimeError in test_sender\.py, line \d+$", str(error))
            assert error.__cause__ is error.__context__ is None

        events.token_provider = TokenProvider(resolve=lambda: "not a token")
        assert not events.viewed_object_ids("Viewed", "products", ["1"])
        assert events.stats.refused == 4
        assert isinstance(errors.calls[-1][0], InvalidUserTokenError)
        events.token_provider = TokenProvider(resolve=resolve)

        # Where its answer is not needed, it is not asked.
        assert events.viewed_object_ids("Viewed", "products", ["1"], identity="u")
        assert events.send({**event(1), "userToken": "u"})
        with identity_scope("u"):
            assert events.viewed_object_ids("Viewed", "products", ["1"])


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [([], r"app_id \(or ALGOLIA_APP_ID\)"), (["APP"], r"api_key \(or ALGOLIA_API_KEY\)"), (["", "key"], "app_id ")],
)
def test_a_missing_application_id_or_key_is_named(
    arguments: list[str], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ALGOLIA_APP_ID", raising=False)
    monkeypatch.delenv("ALGOLIA_API_KEY", raising=False)

    with pytest.raises(ValueError, match=rf"^{missing}.* is missing: give it, or a config, or a delivery$"):
        EventSender(*arguments)


async def test_what_goes_wrong_in_aflush_reaches_who_awaits_it(
    delivery: MemoryDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EventSender(delivery=delivery) as events:
        with monkeypatch.context() as patch:
            patch.setattr(events, "flush", lambda timeout: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await events.aflush()


def test_a_thread_that_cannot_be_had_reaches_who_sent(
    delivery: MemoryDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(self: threading.Thread) -> None:
        raise MemoryError

    with EventSender(delivery=delivery, user_token="u") as events:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", no_thread)
            with pytest.raises(MemoryError):
                events.send(event(1))
        assert events.send(event(2))  # the next one starts it
        assert events.flush(PATIENCE)
        assert len(delivery.events) == 2


async def test_a_flush_that_is_done_after_its_caller_went(delivery: MemoryDelivery) -> None:
    async with EventSender(delivery=delivery, user_token="u", flush_interval=0.0) as events:
        delivery.hang()
        events.send(event(1))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(events.aflush(), 0.05)

        delivery.release()

        assert await events.aflush(PATIENCE)  # the loop has heard of both
        await asyncio.sleep(0.05)
        assert len(delivery.events) == 1


def test_without_background_one_flush_waits_for_another(delivery: MemoryDelivery) -> None:
    with EventSender(delivery=delivery, user_token="u", background=False) as events:
        events.send(event(1))
        delivery.hang()
        other = threading.Thread(target=events.flush, args=(PATIENCE,))
        other.start()
        while not any(events._worker._crew.threads.values()):
            time.sleep(0.001)

        assert not events.flush(0.05)

        delivery.release()
        other.join()
        assert events.flush(PATIENCE)
        assert len(delivery.events) == 1


# -- Whatever is given -------------------------------------------------------------------------------------------------


class Raises(Mapping[str, Any]):
    """A mapping, and an iterable, that raises whatever is asked of it, with something personal in the error."""

    def __getitem__(self, key: str) -> Any:
        raise ZeroDivisionError("jane@example.com")

    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError("jane@example.com")

    def __len__(self) -> int:
        return 1


class Unreadable:
    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError("jane@example.com")


class BadTime(datetime):
    """A time that cannot be read."""

    def utcoffset(self) -> Any:
        raise ZeroDivisionError("jane@example.com")


VIEW = {"eventType": "view", "eventName": "Seen", "index": "products", "objectIDs": ["1"], "userToken": "u-1"}
NOW = BadTime(2026, 1, 1)


@pytest.mark.parametrize(
    "send",
    [
        lambda events: events.send(Raises()),
        lambda events: events.send(VIEW, timestamp=NOW),
        lambda events: events.send({**VIEW, "objectIDs": Unreadable()}),
        lambda events: events.send({**VIEW, "more": Raises()}),
        lambda events: events.viewed_object_ids("Seen", "products", ["1"], identity="u-1", timestamp=NOW),
        lambda events: events.viewed_object_ids("Seen", "products", Unreadable(), identity="u-1"),
        lambda events: events.viewed_object_ids("Seen", "products", itertools.repeat("1"), identity="u-1"),
        lambda events: events.added_to_cart_object_ids("A", "p", ["1"], object_data=[Raises()], identity="u-1"),
        lambda events: events.clicked("C", HitReference(None, "products", "1"), identity="u-1", timestamp=NOW),
    ],
)
def test_an_event_that_cannot_be_read_is_refused_by_an_error_of_ours(delivery: MemoryDelivery, send: Any) -> None:
    with EventSender(delivery=delivery, strict=True) as events:
        with pytest.raises(InvalidEventError) as caught:
            send(events)
        assert "jane" not in str(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None
        assert events.stats.accepted == 0


def test_object_data_that_raises_when_it_is_looked_into_is_refused(delivery: MemoryDelivery) -> None:
    class Hostile(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise ZeroDivisionError

        def __iter__(self) -> Iterator[str]:
            raise ZeroDivisionError

        def __len__(self) -> int:
            raise ZeroDivisionError

    errors = Errors()
    with EventSender(user_token="u", delivery=delivery, on_error=errors) as events:
        assert not events.purchased_object_ids_after_search("Bought", "products", ["1"], [Hostile()])

        assert events.stats.refused == 1
    [(error, _)] = errors.calls
    assert isinstance(error, InvalidEventError)
    assert "can't be read: ZeroDivisionError" in str(error)


@pytest.mark.parametrize("argument", ["app_id", "api_key", "region"])
def test_a_config_beside_an_argument_that_it_has_is_refused_and_both_are_named(argument: str) -> None:
    config = InsightsConfig("APP", "KEY", "us")

    with pytest.raises(ValueError, match=f"^{argument} and config both say .*: give one of them$"):
        EventSender(config=config, **{argument: "de"})


def test_a_config_is_used_although_the_environment_names_another_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALGOLIA_APP_ID", "ANOTHER")
    monkeypatch.setenv("ALGOLIA_API_KEY", "another-key")

    with LocalAlgolia() as algolia, EventSender(config=algolia.insights_config(), user_token="u-1") as events:
        assert events.viewed_object_ids("Seen", "products", ["1"])
        assert events.flush(PATIENCE)

        assert [received.user_token for received in algolia.events] == ["u-1"]


def test_an_event_of_a_page_that_fails_in_an_unknown_way_costs_no_other(
    delivery: MemoryDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_text = accepting.text_of

    def fail_for_the_first(event: Any, *rest: Any) -> bytes | None:
        if event["objectIDs"] == ["1"]:
            raise RuntimeError("visitor-1")
        return of_text(event, *rest)

    monkeypatch.setattr(accepting, "text_of", fail_for_the_first)
    with EventSender(delivery=delivery, user_token="visitor-1", close_timeout=PATIENCE) as events:
        accepted, refused = events._send_each([event(1), event(2)], Identity("visitor-1"), int(time.time() * 1000))

    assert accepted == 1
    assert [str(error).startswith("the event can't be read: RuntimeError in test_sender.py") for error in refused] == [
        True
    ]
    assert [one["objectIDs"] for one in delivery.events] == [["2"]]
