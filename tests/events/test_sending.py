"""One attempt to deliver a group, made by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from algolia_usertoken import Batch, MemoryDelivery, OutboxError
from algolia_usertoken.events.engine import Engine, MemoryQueue
from algolia_usertoken.events.in_flight import InFlight, Post
from algolia_usertoken.events.reporting import Reporter
from algolia_usertoken.events.sending import Sending, parsed

EVENT = b'{"objectIDs":["1"]}'


def begin_nothing() -> None:
    """What is called right before the request."""


def engine_of(*events: bytes) -> Engine:
    engine = Engine(
        MemoryQueue(events),
        max_queue_size=100,
        max_queue_bytes=10_000,
        batch_size=100,
        flush_interval=1.0,
        max_retry_time=10.0,
        notify=lambda: None,
    )
    engine.flush(0.0)
    return engine


def post(engine: Engine) -> InFlight:
    action = engine.next(time.monotonic())
    assert isinstance(action, Post)
    return action.group


def test_what_is_nobodys_any_more_is_not_sent() -> None:
    engine, delivery = engine_of(EVENT), MemoryDelivery()
    group = post(engine)
    engine.give_up()

    assert (
        Sending(engine, delivery, Reporter(None)).attempt(group, 1.0, may_be_interrupted=False, begin=begin_nothing)
        is None
    )
    assert delivery.batches == []


def test_what_is_given_up_after_the_file_was_asked_is_not_sent() -> None:
    engine, delivery = engine_of(EVENT), MemoryDelivery()
    group = post(engine)
    sending = Sending(engine, delivery, Reporter(None))

    assert sending.attempt(group, 1.0, may_be_interrupted=False, begin=engine.give_up) is None
    assert delivery.batches == []


def test_where_an_outbox_can_not_tell_whose_it_is_it_is_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, delivery = engine_of(EVENT), MemoryDelivery()
    group = post(engine)

    def confirm(events: Sequence[bytes]) -> Sequence[bytes]:
        raise OutboxError("the file is locked")

    monkeypatch.setattr(engine, "in_memory", False)
    monkeypatch.setattr(engine.queue, "confirm", confirm, raising=False)
    answer = Sending(engine, delivery, Reporter(None)).attempt(
        group, 1.0, may_be_interrupted=False, begin=begin_nothing
    )

    assert answer is not None
    assert (answer.kind, str(answer.error)) == ("retry", "the file is locked")
    assert delivery.batches == []


def test_ctrl_c_in_the_thread_of_whoever_flushes_is_raised_and_the_group_waits_again() -> None:
    class Interrupted(MemoryDelivery):
        def deliver(self, batch: Batch, timeout: float | None) -> None:
            raise KeyboardInterrupt

    engine = engine_of(EVENT)
    group = post(engine)

    with pytest.raises(KeyboardInterrupt):
        Sending(engine, Interrupted(), Reporter(None)).attempt(group, 1.0, may_be_interrupted=True, begin=begin_nothing)

    assert post(engine) is group


@pytest.mark.parametrize(("text", "told"), [(b"[", "["), (b"[1]", "[1]"), (b"\xff", "\ufffd"), (b"[" * 100_000, None)])
def test_what_somebody_wrote_into_the_file_is_told_as_it_is(text: bytes, told: str | None) -> None:
    assert parsed(text) == {"unreadable": text.decode() if told is None else told}
    assert parsed(EVENT) == {"objectIDs": ["1"]}
