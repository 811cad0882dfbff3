"""`on_error`: it gets each event that was given up once, with the reason, and harms nothing whatever it does."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from collector import Answer, Collector
from prelude import Errors, adds_up, event, send
from waiting import PATIENCE

from algolia_usertoken import (
    BatchRejectedError,
    DeliveryError,
    EventSender,
    InvalidEventError,
    MemoryDelivery,
    SQLiteOutbox,
)
from algolia_usertoken.events import reporting

Make = Callable[..., EventSender]


def raises(error: Exception, events: Sequence[Any]) -> None:
    raise ZeroDivisionError("on_error")


def wrong_signature() -> None:
    pass


def greedy(error: Exception, events: Any) -> None:
    events.clear()
    events.append(None)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("on_error", [raises, wrong_signature, greedy, print])
def test_an_on_error_that_misbehaves_harms_nothing(
    sender: Make, collector: Collector, on_error: Any, background: bool
) -> None:
    collector.poison("3", "7")
    events = sender(on_error=on_error, background=background)
    send(events, range(10))
    events.send({**event("refused"), "eventType": "no such"})
    assert events.flush(PATIENCE)
    send(events, range(10, 20))
    assert events.flush(PATIENCE)
    assert len(collector.counts) == 18
    assert not collector.twice
    assert events.stats[:6] == (20, 18, 2, 0, 0, 1)


def test_an_on_error_that_exits_ends_no_worker(sender: Make, collector: Collector) -> None:
    # As `sys.exit` does, gevent's kill, and `pytest.fail`: none of them an `Exception`.
    def on_error(error: Exception, events: Sequence[Any]) -> None:
        raise SystemExit("on_error")

    collector.poison("3", "7")
    events = sender(on_error=on_error)
    send(events, range(10))
    assert events.flush(PATIENCE)
    send(events, range(10, 20))
    assert events.flush(PATIENCE)
    assert len(collector.counts) == 18
    assert events.stats[:5] == (20, 18, 2, 0, 0)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("batch_size", [1000, 1])
@pytest.mark.parametrize("call", ["flush()", "flush(1)", "close()", "close(1)", "stats", "send", "threads flush"])
def test_an_on_error_may_call_the_sender(
    sender: Make, collector: Collector, call: str, batch_size: int, background: bool
) -> None:
    bad = [3, 7, 8, 19]
    collector.poison(*map(str, bad))
    events: Any = None

    def act() -> None:
        if call == "send":
            events.send(event(f"again-{len(errors.calls)}"))
        elif call == "stats":
            assert adds_up(events.stats)
        elif call == "threads flush":
            threading.Thread(target=events.flush, args=(5,)).start()
        else:
            name, arguments = call.rstrip(")").split("(")
            getattr(events, name)(*map(float, filter(None, [arguments])))

    errors = Errors(act)
    events = sender(on_error=errors, batch_size=batch_size, background=background, close_timeout=2.0)
    send(events, range(20))
    done = threading.Event()

    def finish() -> None:
        events.flush(PATIENCE)
        events.close(PATIENCE)
        done.set()

    threading.Thread(target=finish, daemon=True).start()
    assert done.wait(PATIENCE), "deadlock"
    assert collector.wait_until(lambda: events.stats.queued == 0)
    stats = events.stats
    assert adds_up(stats)
    assert (stats.rejected, stats.failed) == (4, 0)
    assert sorted(errors.ids, key=int) == [str(number) for number in bad]
    assert not collector.lost([number for number in range(20) if number not in bad])
    assert not collector.twice
    assert stats.delivered == len(collector.counts)


def test_on_error_that_sends_at_the_door_does_not_recurse(senders: Make) -> None:
    events: Any = None
    errors = Errors(lambda: events.send({"eventName": "bad, too"}))
    events = senders(delivery=MemoryDelivery(), on_error=errors)
    events.send({"eventName": "bad"})
    assert events.stats.refused == 2
    assert len(errors.calls) == 1


def test_on_error_that_flushes_at_the_door(sender: Make, collector: Collector) -> None:
    events: Any = None
    errors = Errors(lambda: events.flush(PATIENCE))
    events = sender(on_error=errors)
    send(events, range(10))
    events.send({"eventName": "bad"})
    assert len(collector.counts) == 10


def test_without_background_what_a_flush_from_on_error_finds_is_reported_too(
    sender: Make, collector: Collector
) -> None:
    collector.poison("2")
    events: Any = None
    errors = Errors(lambda: events.flush(PATIENCE))
    events = sender(on_error=errors, background=False)
    send(events, range(5))
    events.send({"eventName": "bad"})  # on_error flushes
    events.flush(PATIENCE)
    assert len(collector.counts) == 4
    assert [type(error) for error, _ in errors.calls] == [InvalidEventError, BatchRejectedError]


@pytest.mark.parametrize("background", [True, False])
def test_when_flush_returns_on_error_has_been_told(sender: Make, collector: Collector, background: bool) -> None:
    told = []

    def on_error(error: Exception, events: Sequence[Any]) -> None:
        time.sleep(0.2)
        told.extend(events)

    collector.poison("1")
    # All events of a flush in one request, however late the machine lets the test send the last one.
    events = sender(on_error=on_error, background=background, max_retry_time=0, flush_interval=600.0)
    send(events, range(3))
    assert events.flush(PATIENCE)
    assert [one["objectIDs"] for one in told] == [["1"]]
    collector.answer(404)
    send(events, range(3, 6))
    assert events.close(PATIENCE)
    assert len(told) == 4


@pytest.mark.slow
def test_an_exit_waits_until_on_error_is_done(run: Any, collector: Collector) -> None:
    collector.answer(404)
    done = run("on_error_at_exit.py")
    assert done.stdout.startswith("5 given up after 1 attempts: 404")


def test_each_event_is_reported_once_with_its_reason(sender: Make, collector: Collector) -> None:
    def choose(ids: Sequence[str]) -> Answer | None:
        names = set(ids)
        if names & {"5", "905"}:
            return Answer(400, body=b'{"message":"bad event"}')
        return Answer(404, body=b'{"message":"no such app"}') if names & {"1500"} else None

    collector.choose = choose
    errors = Errors()
    events = sender(on_error=errors, batch_size=500, concurrency=4, max_retry_time=0)
    send(events, range(2000))
    assert events.flush(PATIENCE)
    collector.hang()
    send(events, range(2000, 2100))
    events.send({**event("door"), "index": ""})
    assert not events.close(0.5)
    assert collector.wait_until(lambda: "2000" in errors.ids)  # `close` waits only a moment for `on_error`
    stats = events.stats
    assert adds_up(stats)
    reasons = {one["objectIDs"][0]: str(error) for error, found in errors.calls for one in found}
    assert len(errors.ids) == len(reasons) == stats.rejected + stats.failed + stats.refused
    assert "bad event" in reasons["5"]
    assert "bad event" in reasons["905"]
    assert "404" in reasons["1500"]
    assert "closed" in reasons["2000"]
    assert "index" in reasons["door"]
    assert not collector.ids.intersection(reasons)
    assert {str(number) for number in range(2000)} == collector.ids | (set(reasons) & set(map(str, range(2000))))
    assert all(isinstance(error, (DeliveryError, InvalidEventError)) for error, _ in errors.calls)


def test_every_loss_is_logged_with_a_count(
    sender: Make, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.answer(404)
    events = sender(max_retry_time=0, flush_interval=600.0)  # all in one request
    send(events, range(321))
    assert events.flush(PATIENCE)
    assert events.close(PATIENCE)
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.name == "algolia_usertoken.events"
    assert "321" in record.getMessage()
    assert "404" in record.getMessage()


def test_a_log_handler_that_raises_kills_no_worker(sender: Make, collector: Collector) -> None:
    class Raises(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("no space left")

    handler = Raises()
    logging.getLogger("algolia_usertoken").addHandler(handler)
    try:
        collector.poison("3")
        events = sender()
        send(events, range(10))
        assert events.flush(PATIENCE)
        send(events, range(10, 20))
        assert events.flush(PATIENCE)
        assert events.send({"eventName": "bad"}) is False
    finally:
        logging.getLogger("algolia_usertoken").removeHandler(handler)
    assert len(collector.counts) == 19
    assert adds_up(events.stats)


def test_a_log_handler_that_sends_does_not_recurse(sender: Make, collector: Collector) -> None:
    # A handler that counts warnings by sending events.
    events: Any = None

    class Sends(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            events.send({"eventName": "bad"})

    handler = Sends()
    logging.getLogger("algolia_usertoken").addHandler(handler)
    try:
        events = sender()
        events.send({"eventName": "bad"})
    finally:
        logging.getLogger("algolia_usertoken").removeHandler(handler)
    assert 1 <= events.stats.refused <= 5


@pytest.mark.parametrize("call", ["aflush", "aclose"])
@pytest.mark.parametrize("background", [True, False])
def test_an_on_error_that_flushes_or_closes_as_async_code_does(
    sender: Make, collector: Collector, call: str, background: bool
) -> None:
    collector.poison("3", "7")
    events: Any = None
    answers: list[bool] = []

    async def act() -> None:
        answers.append(await getattr(events, call)())

    errors = Errors(lambda: None if over.is_set() else asyncio.run(act()))
    events = sender(on_error=errors, background=background, close_timeout=2.0)
    send(events, range(10))
    done, over = threading.Event(), threading.Event()
    threading.Thread(target=lambda: (events.flush(PATIENCE), done.set()), daemon=True).start()
    in_time = done.wait(PATIENCE)
    over.set()  # what the end of the test gives up must not wait, too
    assert in_time, "deadlock"
    assert len(collector.counts) == 8
    assert sorted(errors.ids) == ["3", "7"]
    assert events.stats[:5] == (10, 8, 2, 0, 0)


# -- The log -------------------------------------------------------------------------------------------------------

WRONG: list[dict[str, Any]] = [
    {"eventName": "é"},
    {"index": ""},
    {"objectIDs": "1"},
    {"objectIDs": [1.5]},
    {"queryID": "jane@example.com"},
    {"userToken": "jane@example.com"},
    {"timestamp": 1},
    {"event_name": "Seen"},
    {"colour": object()},
]


def test_nine_mistakes_make_nine_lines_and_each_is_said_at_once(
    senders: Make, caplog: pytest.LogCaptureFixture
) -> None:
    events = senders(delivery=MemoryDelivery())
    for number, wrong in enumerate(WRONG, start=1):
        assert events.send({**event(1), **wrong}) is False
        assert len(caplog.records) == number
    for wrong in WRONG * 10:
        events.send({**event(1), **wrong, "eventName": wrong.get("eventName", "Another name")})

    assert len(caplog.records) == len(WRONG)
    assert "jane" not in caplog.text
    assert events.stats.refused == 11 * len(WRONG)


SAID = "event refused: index is empty: it must be the name of an index (event 'Seen')"


def test_what_was_not_said_is_said_with_its_count(
    senders: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(reporting, "time", SimpleNamespace(monotonic=lambda: now))  # other threads have the real one
    events = senders(delivery=MemoryDelivery(), background=False)
    for _ in range(3):
        events.send({**event(1), "index": ""})
    now += reporting.LOG_INTERVAL + 1
    events.send({**event(1), "index": ""})
    events.send({**event(1), "eventType": "buy"})
    events.send({**event(1), "eventType": "buy"})
    events.close()

    assert [record.getMessage() for record in caplog.records] == [
        SAID,
        f"{SAID} (and 2 more since the last line)",
        "event refused: eventType must be 'click', 'view', 'conversion' or 'instantsearch' (event 'Seen')",
        "refused (eventType must be …, …, … or … (event …)): 1 more since the last line",
    ]


def test_however_many_reasons_there_are_the_kinds_are_bounded(senders: Make, caplog: pytest.LogCaptureFixture) -> None:
    events = senders(delivery=MemoryDelivery())
    names = ["".join(letters) for letters in itertools.product("abcdefghij", repeat=3)]
    for name in names:
        events.send({**event(1), name: object()})

    assert events.stats.refused == len(names) == 1000
    assert len(caplog.records) == reporting.MAX_REASONS + 1


def test_what_on_error_causes_to_be_told_waits_until_it_is_done() -> None:
    told: list[str] = []

    def on_error(error: Exception, events: Sequence[Any]) -> None:
        told.append(f"begin {error}")
        if str(error) == "first":
            reporter.call_on_error(DeliveryError("second"), [])
        told.append(f"end {error}")

    reporter = reporting.Reporter(on_error)
    reporter.call_on_error(DeliveryError("first"), [])

    assert told == ["begin first", "end first", "begin second", "end second"]
    assert not reporter.is_in_on_error


def test_an_on_error_that_causes_an_error_each_time_is_not_called_for_ever() -> None:
    calls: list[Exception] = []

    def on_error(error: Exception, events: Sequence[Any]) -> None:
        calls.append(error)
        reporter.call_on_error(error, events)

    reporter = reporting.Reporter(on_error)
    for times in (1, 2):  # it counts anew each time
        reporter.call_on_error(ValueError("given up"), [])
        assert len(calls) == times * (1 + reporting.MOST_OF_ITS_OWN)


def test_an_on_error_that_sends_again_to_a_full_outbox_is_not_called_for_ever(tmp_path: Path) -> None:
    calls: list[Exception] = []

    def on_error(error: Exception, lost: Sequence[Any]) -> None:
        calls.append(error)
        for one in lost:
            events.send(one)

    outbox = SQLiteOutbox(tmp_path / "outbox.db", max_events=1)
    events = EventSender(delivery=MemoryDelivery(), user_token="u", outbox=outbox, background=False, on_error=on_error)
    assert send(events, range(2)) == 1
    assert len(calls) == 1 + reporting.MOST_OF_ITS_OWN
    assert events.stats.dropped == len(calls) + 1  # the last one is only counted
    assert events.close()
