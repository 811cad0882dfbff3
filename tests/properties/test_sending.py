"""What an EventSender takes and what it delivers, whatever the events hold and whatever goes wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algolia_usertoken import (
    Batch,
    BatchRejectedError,
    DeliveryError,
    EventSender,
    MemoryDelivery,
    RetryableDeliveryError,
    UnauthorizedDeliveryError,
)

pytestmark = [pytest.mark.adds_no_coverage, pytest.mark.slow]

fewer = settings(max_examples=max(1, settings().max_examples // 10))

any_text = st.text(min_size=1, max_size=5)
with_surrogates = any_text | st.text(st.characters(categories=("Cs", "Ll")), min_size=1, max_size=3)
ERRORS = [BatchRejectedError, DeliveryError, RetryableDeliveryError, UnauthorizedDeliveryError, OSError, RuntimeError]


def event(object_id: str, price: str = "1") -> dict[str, Any]:
    return {
        "eventType": "conversion",
        "eventSubtype": "purchase",
        "eventName": "It happened",
        "index": "products",
        "objectIDs": [object_id],
        "objectData": [{"price": price}],
    }


def has_json_form(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def check_batch(batch: Batch) -> None:
    assert 1 <= len(batch.events) <= 1000
    assert len(batch.body) < 2_000_000
    assert json.loads(batch.body) == {"events": batch.events}


class Told:
    """What on_error was told of."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, error: Exception, events: Sequence[Any]) -> None:
        self.events += events


steps = st.lists(
    st.one_of(
        st.tuples(st.just("send"), any_text),
        st.tuples(st.just("send"), any_text),
        st.tuples(
            st.just("send an invalid one"), st.just("") | with_surrogates.filter(lambda text: not has_json_form(text))
        ),
        st.tuples(st.just("fail"), st.sampled_from(ERRORS)),
        st.tuples(st.just("flush"), st.none()),
    ),
    max_size=40,
)


@given(steps, st.integers(1, 5), st.integers(1, 8))
def test_every_event_is_accounted_for(steps: Any, batch_size: int, room: int) -> None:
    """accepted = delivered + rejected + failed + queued, after each step, and each event is in one of them."""
    delivery, told = MemoryDelivery(), Told()
    sender = EventSender(
        delivery=delivery,
        background=False,
        user_token="u",
        batch_size=batch_size,
        max_queue_size=room,
        max_retry_time=0,  # so that nothing waits: what could be tried again, has failed
        on_error=told,
    )
    accepted: list[str] = []
    invalid = dropped = 0
    for step, what in steps:
        if step == "send":
            full = sender.stats.queued == room
            assert sender.send(event(what)) is not full
            if full:
                dropped += 1
            else:
                accepted.append(what)
        elif step == "send an invalid one":
            assert not sender.send(event(what))
            invalid += 1
        elif step == "fail":
            delivery.fail_next(what("told to fail"))
        else:
            assert sender.flush()
            assert sender.stats.queued == 0
        stats = sender.stats
        assert stats.accepted == len(accepted) == stats.delivered + stats.rejected + stats.failed + stats.queued
        assert (stats.refused, stats.dropped) == (invalid, dropped)
        assert len(delivery.events) == stats.delivered
        assert len(told.events) == stats.rejected + stats.failed + invalid

    assert sender.close()
    stats = sender.stats
    assert stats.queued == 0
    settled = [each["objectIDs"][0] for each in delivery.events]
    given_up = [each["objectIDs"][0] for each in told.events]
    assert sorted(settled + [each for each in given_up if each and has_json_form(each)]) == sorted(accepted)
    # Nothing but what has a JSON form; and in order, but where a refused request is sent in parts beside later events.
    if ("fail", BatchRejectedError) not in steps:
        remaining = iter(accepted)
        assert all(each in remaining for each in settled)
    assert all(map(has_json_form, settled))
    for batch in delivery.batches:
        check_batch(batch)
        assert len(batch.events) <= batch_size


@given(st.lists(with_surrogates, min_size=1, max_size=12), st.integers(1, 12))
def test_one_bad_event_never_costs_its_neighbours(names: list[str], batch_size: int) -> None:
    delivery, told = MemoryDelivery(), Told()
    with EventSender(
        delivery=delivery, background=False, user_token="u", batch_size=batch_size, on_error=told
    ) as sender:
        assert [sender.send(event(name)) for name in names] == [has_json_form(name) for name in names]
        assert sender.flush()

    assert [each["objectIDs"][0] for each in delivery.events] == [name for name in names if has_json_form(name)]
    assert [each["objectIDs"][0] for each in told.events] == [name for name in names if not has_json_form(name)]


@fewer
@given(
    # Texts of up to 2.4 MB in UTF-8, as a character, how often.
    st.lists(
        st.tuples(
            st.sampled_from(['"', "a", "é", "€", "🔑", "\0", "\\"]),
            st.sampled_from([1, 1, 10, 99_000, 400_000, 600_000])
            | st.integers(330_000, 334_000)
            | st.integers(1, 9_999),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_no_request_of_a_sender_is_too_big(texts: list[tuple[str, int]]) -> None:
    delivery, told = MemoryDelivery(), Told()
    prices = [character * count for character, count in texts]
    with EventSender(delivery=delivery, background=False, user_token="u", on_error=told) as sender:
        assert all(sender.send(event("1", price), timestamp=None) for price in prices)
        assert sender.flush()
        stats = sender.stats

    for batch in delivery.batches:
        check_batch(batch)
    delivered = [each["objectData"][0]["price"] for each in delivery.events]
    too_big = [each["objectData"][0]["price"] for each in told.events]
    assert (stats.delivered, stats.rejected) == (len(delivered), len(too_big))
    assert delivered == [price for price in prices if price not in too_big]
    for price in prices:  # the rest of an event has some 200 bytes
        size = len(json.dumps(price, ensure_ascii=False).encode())
        assert (price in too_big) == (size >= 1_999_800) or 1_999_600 <= size <= 2_000_000


@fewer
@given(st.integers(1, 2_500), st.integers(1, 1_000))
def test_no_request_of_a_sender_has_too_many_events(count: int, batch_size: int) -> None:
    delivery = MemoryDelivery()
    with EventSender(delivery=delivery, background=False, user_token="u", batch_size=batch_size) as sender:
        assert all(sender.send(event(str(number))) for number in range(count))

    assert [each["objectIDs"][0] for each in delivery.events] == [str(number) for number in range(count)]
    assert [len(batch.events) for batch in delivery.batches[:-1]] == [batch_size] * ((count - 1) // batch_size)
    assert 1 <= len(delivery.batches[-1].events) <= batch_size
