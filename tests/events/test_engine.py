"""The queue in memory, and what is told of an event that waits there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from algolia_usertoken import SQLiteOutbox
from algolia_usertoken.events.engine import Engine, MemoryQueue, Waiting, site_of
from algolia_usertoken.events.in_flight import Take


def engine_of(queue: Waiting, notify: Callable[[], None] = lambda: None) -> Engine:
    return Engine(
        queue,
        max_queue_size=10,
        max_queue_bytes=1_000,
        batch_size=1_000,
        flush_interval=0.0,
        max_retry_time=1.0,
        notify=notify,
    )


def test_a_queue_in_memory_does_what_an_outbox_does() -> None:
    queue = MemoryQueue([b"3"])

    queue.put_back([b"1", b"2"])

    assert queue.counts() == (3, 0, 0)
    assert queue.take(2) == [b"1", b"2"]
    assert queue.confirm([b"1", b"2"]) == [b"1", b"2"]
    queue.took()
    queue.settle([b"1", b"2"])
    assert list(queue) == [b"3"]


def test_events_of_one_call_site_have_the_same_site() -> None:
    first, second, other = b'{"eventName":"a","index":"b"}', b'{"index":"b","eventName":"a"}', b'{"eventName":"a"}'

    assert site_of(first) == site_of(second) != site_of(other)


@pytest.mark.parametrize("text", [b"[", b"[1]", b"\xff", b"[" * 100_000, b'{"eventName":["a"]}'])
def test_a_text_that_is_no_event_is_of_no_call_site(text: bytes) -> None:
    assert site_of(text) is None


@pytest.mark.parametrize("close", [Engine.close_full, Engine.close_if_empty])
def test_an_event_that_comes_in_after_the_last_look_of_a_close_is_seen_to(close: Callable[[Engine], object]) -> None:
    notified: list[None] = []
    engine = engine_of(MemoryQueue(), lambda: notified.append(None))

    close(engine)
    engine.idle = False  # a flush of somebody else has woken a thread, which finds that it is closed
    assert engine.put(b"{}")  # it had found room before

    assert notified


def test_what_one_close_has_closed_stays_closed_when_another_finds_an_event() -> None:
    engine = engine_of(MemoryQueue())

    assert engine.close_if_empty()
    assert engine.put(b"{}")  # it had found room before
    assert not engine.close_if_empty()

    assert engine.closed


@pytest.mark.parametrize("look", [0, 1])
def test_a_flush_in_which_a_signal_handler_gives_up_is_not_done(
    path: str, monkeypatch: pytest.MonkeyPatch, look: int
) -> None:
    outbox = SQLiteOutbox(path)
    engine = engine_of(outbox)
    engine.put(b"{}")
    action = engine.next(1.0)
    assert isinstance(action, Take)
    engine.take_stored(action.limit, 1.0)
    length = SQLiteOutbox.__len__
    in_between = [lambda: None] * look + [engine.give_up]  # after the first or the second look at the queue

    def length_and(self: SQLiteOutbox) -> int:
        found = length(self)
        if in_between:
            in_between.pop(0)()
        return found

    monkeypatch.setattr(SQLiteOutbox, "__len__", length_and)

    assert engine.flush(2.0) is not None

    assert not in_between
    outbox.close()


@pytest.mark.parametrize("look", [lambda engine: engine.is_settled(1), Engine.close_if_empty], ids=["flush", "close"])
def test_a_look_in_which_events_are_taken_and_put_back_finds_them(
    path: str, monkeypatch: pytest.MonkeyPatch, look: Callable[[Engine], bool]
) -> None:
    outbox = SQLiteOutbox(path)
    engine = engine_of(outbox)
    engine.put(b"{}")
    length = SQLiteOutbox.__len__

    def interrupted(self: SQLiteOutbox) -> int:
        monkeypatch.setattr(SQLiteOutbox, "__len__", length)
        engine.next(1.0)
        engine.take_stored(1, 1.0)  # a signal handler flushes
        found = length(self)
        engine.give_up()  # and another one closes
        return found

    assert engine.flush(1.0) == 1
    monkeypatch.setattr(SQLiteOutbox, "__len__", interrupted)

    assert not look(engine)

    assert len(outbox) == 1
    outbox.close()


def test_one_event_does_not_exceed_the_bytes_of_the_queue() -> None:
    engine = engine_of(MemoryQueue())

    assert engine.put(b"x" * 600)
    assert not engine.put(b"x" * 401)
    assert engine.put(b"x" * 400)
    assert not engine.put(b"x")
    assert engine.why_full == "the queue has no room for it (1000 bytes)"


def test_an_event_larger_than_the_queue_is_not_accepted() -> None:
    assert not engine_of(MemoryQueue()).put(b"x" * 1_001)
