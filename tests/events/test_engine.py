"""The queue in memory, and what is told of an event that waits there."""

from __future__ import annotations

import pytest

from algolia_usertoken.events.engine import MemoryQueue, site_of


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
