"""How batches fare with a collector that is slow, hung, unwilling or gone."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
from collector import ACCEPT_AND_DROP, DROP, HTML, Answer, Collector
from ports import free_port
from prelude import Errors, adds_up, config, event, send, settled
from waiting import PATIENCE

from algolia_usertoken import (
    Batch,
    BatchRejectedError,
    Delivery,
    DeliveryError,
    EventSender,
    InsightsDelivery,
    InvalidEventError,
    MemoryDelivery,
    RetryableDeliveryError,
    UnauthorizedDeliveryError,
)
from algolia_usertoken.events import retries
from algolia_usertoken.events.delivery import batch_of, without_values

pytestmark = [pytest.mark.oldest_versions, pytest.mark.slow]

Make = Callable[..., EventSender]

# A flush_interval for events that a test wants to see in one request, however late the machine lets it send the last.
IN_ONE_REQUEST = 600.0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-offs short enough for a test."""
    monkeypatch.setattr(retries, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(retries, "FIRST_PAUSE_UNAUTHORIZED_S", 0.1)
    monkeypatch.setattr(retries, "SHORTEST_PAUSE_S", 0.02)
    monkeypatch.setattr(retries, "LONGEST_PAUSE_S", 0.3)


def all_once(collector: Collector, events: EventSender, count: int) -> None:
    assert not collector.lost(range(count))
    assert not collector.twice
    assert not collector.errors
    assert settled(events.stats) == (count, count, 0, 0, 0)
    assert events.stats.requests == len(collector.requests)


def test_events_arrive_once_after_a_collector_answered_503_for_a_while(sender: Make, collector: Collector) -> None:
    collector.answer(503, seconds=1.5)
    events = sender()
    send(events, range(2500))
    assert events.flush(PATIENCE)
    all_once(collector, events, 2500)
    assert 1 <= events.stats.retries <= 20


@pytest.mark.parametrize(
    "status", [302, 304, 402, 404, 405, 407, 408, 409, 410, 429, 451, 499, 500, 502, 504, 999, DROP]
)
@pytest.mark.usefixtures("quick")
def test_a_status_that_will_pass_is_retried(sender: Make, collector: Collector, status: int) -> None:
    collector.answer(status, times=3, headers={"Location": f"http://127.0.0.1:{collector.port}/login"})
    errors = Errors()
    events = sender(on_error=errors)
    send(events, range(500))
    assert events.flush(PATIENCE)
    assert not collector.lost(range(500))
    assert not collector.twice
    assert events.stats.delivered == 500
    assert events.stats.retries == 3
    assert not errors.calls


def test_a_redirect_to_a_page_counts_as_no_delivery(sender: Make, collector: Collector) -> None:
    # A captive portal or proxy answers 302, and its page 200.
    collector.answer(302, headers={"Location": f"http://127.0.0.1:{collector.port}/login"})
    events = sender()
    send(events, range(5))
    events.flush(PATIENCE)
    assert collector.errors == []
    assert events.stats.delivered == len(collector.counts)


def test_refused_connections_until_it_comes_up(senders: Make) -> None:
    collector = Collector(free_port())
    events = senders(collector.port)
    send(events, range(1200))
    assert not events.flush(0.7)
    assert events.stats.queued == 1200
    with collector:
        assert events.flush(PATIENCE)
        all_once_here = collector.counts
    assert len(all_once_here) == 1200
    assert set(all_once_here.values()) == {1}
    assert events.stats.delivered == 1200


def test_429_waits_as_long_as_it_was_asked_to(sender: Make, collector: Collector) -> None:
    collector.answer(429, headers={"Retry-After": "2"})
    events = sender(batch_size=10, flush_interval=IN_ONE_REQUEST)
    send(events, range(10))
    assert collector.wait_for(10)
    first, second = (request.time for request in collector.requests)
    assert second - first >= 1.95
    assert events.flush(PATIENCE)
    all_once(collector, events, 10)


def test_a_retry_after_may_be_a_date(collector: Collector) -> None:
    delivery = InsightsDelivery(config(collector.port))
    for seconds in (3600, -3600):
        collector.answer(429, headers={"Retry-After": formatdate(time.time() + seconds, usegmt=True)})
        with pytest.raises(RetryableDeliveryError) as caught:
            delivery.deliver(batch("1"), 30.0)
        assert caught.value.delay is not None
        assert seconds - PATIENCE < caught.value.delay <= seconds
    delivery.close()


def test_retry_after_has_a_cap(sender: Make, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "LONGEST_PAUSE_S", 0.5)
    collector.answer(429, headers={"Retry-After": "86400"})
    events = sender()
    send(events, range(10))
    assert events.flush(PATIENCE)
    all_once(collector, events, 10)


@pytest.mark.parametrize(
    "value",
    [
        "Wed, 21 Oct 2065 07:28:00 GMT",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "Wed, 21 Oct 2065 07:28:00 -0000",
        "Wed, 99 Oct 2065 07:28:00 GMT",
        f"Wed, 21 Oct {'9' * 30} 07:28:00 GMT",
        *("-5", "nan", "inf", "1e9", "", "soon", "٣", "9" * 400, "0.1"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_a_strange_retry_after_stops_nothing(
    sender: Make, collector: Collector, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "LONGEST_PAUSE_S", 0.3)
    if not value.isascii():
        pytest.skip("no header of HTTP")
    collector.answer(429, headers={"Retry-After": value})
    events = sender()
    send(events, range(10))
    assert events.flush(PATIENCE)
    all_once(collector, events, 10)


def test_a_retry_after_does_not_hold_up_close(sender: Make, collector: Collector) -> None:
    collector.answer(429, times=100, headers={"Retry-After": "30"})
    errors = Errors()
    events = sender(on_error=errors)
    send(events, range(10))
    assert collector.wait_until(lambda: collector.requests)
    started = time.monotonic()
    assert not events.close(0.5)
    assert time.monotonic() - started < 20
    assert events.stats.failed == 10
    # `close` waits only a moment for `on_error`.
    assert collector.wait_until(lambda: sorted(errors.ids) == sorted(map(str, range(10))))


def test_403_and_back_is_one_loud_line(sender: Make, collector: Collector, caplog: pytest.LogCaptureFixture) -> None:
    collector.answer(403, seconds=1.5)
    errors = Errors()
    events = sender(on_error=errors)
    send(events, range(1500))
    assert events.flush(PATIENCE)
    all_once(collector, events, 1500)
    assert events.stats.retries <= 6
    assert not errors.calls
    loud = [record for record in caplog.records if record.levelname in ("WARNING", "ERROR", "CRITICAL")]
    assert len(loud) == 1
    assert "403" in loud[0].getMessage()


@pytest.mark.usefixtures("quick")
def test_a_rotated_key_that_is_set_on_the_config_is_used(senders: Make, collector: Collector) -> None:
    collector.keys = {"key"}
    its_config = config(collector.port)
    events = senders(config=its_config)
    send(events, range(10))
    assert events.flush(PATIENCE)
    collector.keys = {"new key"}
    send(events, range(10, 20))
    assert not events.flush(0.3)
    its_config.set_client_api_key("new key")
    assert events.flush(PATIENCE)
    all_once(collector, events, 20)
    assert collector.requests[-1].headers["x-algolia-api-key"] == "new key"


@pytest.mark.parametrize("status", [400, 422])
def test_3_poisoned_of_1000(sender: Make, collector: Collector, status: int) -> None:
    bad = {"17", "500", "999"}
    collector.choose = lambda ids: (
        Answer(status, body=json.dumps({"message": f"bad: {sorted(bad.intersection(ids))[0]}"}).encode())
        if bad.intersection(ids)
        else None
    )
    errors = Errors()
    events = sender(on_error=errors, flush_interval=IN_ONE_REQUEST)
    send(events, range(1000))
    assert events.flush(PATIENCE)
    assert settled(events.stats) == (1000, 997, 3, 0, 0)
    assert collector.ids == {str(number) for number in range(1000)} - bad
    assert not collector.twice
    assert len(collector.requests) <= 80
    assert sorted(errors.ids) == sorted(bad)
    for error, [one] in errors.calls:
        assert isinstance(error, BatchRejectedError)
        assert f"{status}: bad: {one['objectIDs'][0]}" in str(error)
        assert one["userToken"] == "visitor-1"


def test_an_html_413_makes_smaller_batches(sender: Make, collector: Collector) -> None:
    collector.limit = 100
    events = sender()
    send(events, range(1000))
    assert events.flush(PATIENCE)
    assert not collector.lost(range(1000))
    assert not collector.twice
    assert settled(events.stats) == (1000, 1000, 0, 0, 0)


def test_an_html_413_for_a_single_event_rejects_it(
    sender: Make, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.limit = 0
    errors = Errors()
    events = sender(on_error=errors)
    send(events, range(3))
    assert events.flush(PATIENCE)
    assert settled(events.stats) == (3, 0, 3, 0, 0)
    assert sorted(errors.ids) == ["0", "1", "2"]
    assert HTML.decode() not in caplog.text


def test_max_retry_time_gives_up_with_the_reason(sender: Make, collector: Collector) -> None:
    collector.answer(500, times=1000)
    errors = Errors()
    events = sender(on_error=errors, max_retry_time=0.6, flush_interval=IN_ONE_REQUEST)
    send(events, range(10))
    assert events.flush(PATIENCE)
    [(error, failed)] = errors.calls
    assert type(error) is DeliveryError
    assert "500" in str(error)
    assert isinstance(error.__cause__, RetryableDeliveryError)
    assert len(failed) == 10
    assert settled(events.stats) == (10, 0, 0, 10, 0)


def test_a_slow_collector_costs_the_caller_nothing(sender: Make, collector: Collector) -> None:
    collector.delay = 0.2
    collector.hang()
    events = sender(batch_size=100, concurrency=4)
    started = time.monotonic()
    send(events, range(1000))
    assert time.monotonic() - started < 20
    assert collector.wait_until(lambda: collector.held == 4)
    collector.release()
    assert events.flush(PATIENCE)
    assert collector.connections == 4
    all_once(collector, events, 1000)


@pytest.mark.usefixtures("quick")
def test_a_stale_keep_alive_connection(sender: Make, collector: Collector) -> None:
    collector.idle_time = 0.1
    events = sender(flush_interval=IN_ONE_REQUEST)
    for round in range(5):
        send(events, range(round * 10, round * 10 + 10))
        assert events.flush(PATIENCE)
        assert collector.wait_until(lambda: collector.open_connections == 0)
    all_once(collector, events, 50)
    assert events.stats.failed == 0


@pytest.mark.usefixtures("quick")
def test_connections_that_close_right_after_each_answer_or_right_at_a_request(
    sender: Make, collector: Collector
) -> None:
    collector.idle_time = 0
    events = sender(batch_size=1)
    send(events, range(30))
    assert events.flush(PATIENCE)
    collector.idle_time = None
    send(events, range(30, 35))
    assert events.flush(PATIENCE)
    collector.answer(DROP)
    send(events, range(35, 40))
    assert events.flush(PATIENCE)
    assert not collector.lost(range(40))
    assert not collector.twice
    assert settled(events.stats) == (40, 40, 0, 0, 0)


@pytest.mark.usefixtures("quick")
def test_an_answer_that_is_lost_may_cost_a_duplicate_but_no_event(sender: Make, collector: Collector) -> None:
    collector.answer(ACCEPT_AND_DROP)
    events = sender(flush_interval=IN_ONE_REQUEST)
    send(events, range(10))
    assert events.flush(PATIENCE)
    assert set(collector.counts.values()) == {2}
    assert settled(events.stats) == (10, 10, 0, 0, 0)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, {"Content-Length": "1000"}, b"{}"),  # and no more
        Answer(200, {"Content-Encoding": "gzip"}, b"no gzip"),
        Answer(200, {"Content-Type": "text/html; charset=no-such"}, b"\xff\xfe"),
        Answer(500, {"Content-Type": "application/json; charset=utf-16"}, b"{\x00"),
        Answer(500, {}, b'{"message": ["a", {"list": 1}]}'),
        Answer(500, {}, b'"message"'),
        Answer(500, {"X": "y" * 70_000}, b"{}"),
        Answer(200, {f"X-{number}": "y" for number in range(200)}, b"{}"),
        Answer(999, {}, b"{}"),
    ],
)
@pytest.mark.usefixtures("quick")
def test_malformed_answers_end_in_a_retry_or_in_a_delivery(sender: Make, collector: Collector, answer: Answer) -> None:
    collector._answers.append(answer)
    errors = Errors()
    its_config = config(collector.port, write_timeout=500)
    delivery = InsightsDelivery(its_config)
    events = sender(delivery=delivery, on_error=errors)
    send(events, range(5))
    assert events.flush(PATIENCE)
    assert settled(events.stats) == (5, 5, 0, 0, 0)
    assert not errors.calls
    assert not collector.lost(range(5))


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("names", [["é日本語🚲"], [f"日本語-{number}" for number in range(500)]])
def test_non_ascii_text_arrives_with_and_without_gzip(
    senders: Make, collector: Collector, compression: Any, names: list[str]
) -> None:
    events = senders(config=config(collector.port, compression_type=compression))
    for index in ("商品", "plain"):
        for name in names:
            assert events.send({**event(name), "index": index})
        assert events.flush(PATIENCE)
    assert set(collector.counts) == set(names)
    assert set(collector.counts.values()) == {2}
    assert not collector.errors
    large = [request for request in collector.requests if len(request.ids) > 100]
    assert all(("content-encoding" in request.headers) == (compression is not None) for request in large)


def test_gzip_of_a_large_body_marks_no_later_small_one(senders: Make, collector: Collector) -> None:
    events = senders(config=config(collector.port, compression_type="gzip"), flush_interval=IN_ONE_REQUEST)
    for batch in (range(100), range(100, 101), range(101, 200), range(200, 201)):
        send(events, batch)
        assert events.flush(PATIENCE)
    all_once(collector, events, 201)
    assert ["content-encoding" in request.headers for request in collector.requests] == [True, False, True, False]


def test_no_body_reaches_2_000_000_bytes(sender: Make, collector: Collector) -> None:
    events = sender(flush_interval=IN_ONE_REQUEST)
    text = "日本" * 1000  # 6,000 bytes in UTF-8
    for number in range(1000):
        assert events.send({**event(number), "objectIDs": [str(number), text]})
    assert events.flush(PATIENCE)
    all_once(collector, events, 1000)
    assert max(request.size for request in collector.requests) < 2_000_000
    assert len(collector.requests) <= 8


def test_an_event_of_2_000_000_bytes_is_rejected_alone(sender: Make, collector: Collector) -> None:
    errors = Errors()
    events = sender(on_error=errors, flush_interval=IN_ONE_REQUEST)
    send(events, range(10))
    events.send({**event("big"), "objectIDs": ["big", "é" * 1_000_000]})
    assert events.flush(PATIENCE)
    assert len(collector.counts) == 10
    assert errors.ids == ["big"]
    assert "2000000" in str(errors.calls[0][0])
    assert len(collector.requests) <= 12


def cycle() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


class Unfriendly:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


NO_JSON = {
    "NaN": float("nan"),
    "set": {1},
    "object": object(),
    "surrogate": "\ud800",
    "cycle": cycle(),
    "bytes": b"x",
    "key": {(1, 2): 3},
    "unfriendly": Unfriendly(),
    "mixed": {"a": [{"b": {1, 2}}]},
}


def test_what_has_no_json_form_costs_its_neighbours_nothing(sender: Make, collector: Collector) -> None:
    errors = Errors()
    events = sender(on_error=errors, flush_interval=60.0)
    for number in range(900):
        assert events.send(event(number))
        if number % 100 == 50 and number // 100 < len(NO_JSON):
            name = list(NO_JSON)[number // 100]
            data = {"price": 1}
            one = {**event(name), "eventType": "conversion", "eventSubtype": "purchase", "objectData": [data]}
            assert events.send(one)
            data["price"] = NO_JSON[name]  # as another thread might; or the check at the door let it through
    assert events.flush(PATIENCE)
    assert not collector.lost(range(900))
    assert not collector.twice
    if collector.ids.intersection(NO_JSON):  # it took a copy of its own: just as well
        assert events.stats.delivered == 909
        return
    assert sorted(errors.ids) == sorted(NO_JSON)
    assert settled(events.stats) == (909, 900, 9, 0, 0)
    assert {type(error) for error, _ in errors.calls} == {InvalidEventError}


@pytest.mark.parametrize("name", list(NO_JSON))
def test_what_has_no_json_form_is_refused_or_rejected_never_raised(
    sender: Make, collector: Collector, name: str
) -> None:
    errors = Errors()
    events = sender(on_error=errors)
    bad = NO_JSON[name]
    purchase = {"eventType": "conversion", "eventSubtype": "purchase"}
    assert events.send(event(1))
    tried = [
        {**event(name), "custom": bad},
        {**event(name), **purchase, "objectData": [{"price": bad}]},
        {**event(name), **purchase, "objectData": [{"custom": bad}]},
        {**event(name), **purchase, "objectData": bad},
        {**event(name), **purchase, "value": bad},
        {**event(name), "objectIDs": [bad]},
        {**event(name), "index": bad},
        {**event(name), "timestamp": bad},
        {**event(name), "userToken": bad},
    ]
    for one in tried:
        events.send(one)
    assert events.send(event(2))
    assert events.flush(PATIENCE)
    assert collector.counts == {"1": 1, "2": 1}
    assert events.stats.rejected + events.stats.refused == len(tried) == len(errors.calls)


def test_a_lone_surrogate_is_rejected_alone(sender: Make, collector: Collector) -> None:
    errors = Errors()
    events = sender(on_error=errors)
    send(events, [*range(500), "\ud800", *range(500, 1000)])
    assert events.flush(PATIENCE)
    assert not collector.lost(range(1000))
    assert not collector.twice
    assert errors.ids == ["\ud800"]


def test_a_field_that_is_none_is_not_sent(sender: Make, collector: Collector) -> None:
    collector.keep_events = True
    events = sender()
    assert events.send({**event(1), "queryID": None, "value": None, "index": ":null"})
    assert events.flush(PATIENCE)
    assert None not in collector.events[0].values()
    assert collector.events[0]["index"] == ":null"


def test_a_host_that_failed_is_tried_again_at_once(sender: Make, collector: Collector) -> None:
    collector.answer(500, times=3)
    started = time.monotonic()
    events = sender()
    send(events, range(5))
    assert events.flush(PATIENCE)
    assert time.monotonic() - started < 20
    all_once(collector, events, 5)


# The protocol.


def batch(*names: str) -> Batch:
    events = [event(name) for name in names]
    return Batch(events, json.dumps({"events": events}).encode())


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, BatchRejectedError),
        (413, BatchRejectedError),
        (422, BatchRejectedError),
        (401, UnauthorizedDeliveryError),
        (403, UnauthorizedDeliveryError),
        (408, RetryableDeliveryError),
        (429, RetryableDeliveryError),
        (503, RetryableDeliveryError),
        (302, RetryableDeliveryError),
        (404, RetryableDeliveryError),
    ],
)
def test_each_status_raises_its_own_error_after_one_request(
    collector: Collector, status: int, error: type[Exception]
) -> None:
    collector.answer(status, headers={"Retry-After": "7"})
    delivery = InsightsDelivery(config(collector.port))
    with pytest.raises(error, match=f"^{status}: told to") as raised:
        delivery.deliver(batch("1"), 30.0)
    assert type(raised.value) is error
    if isinstance(raised.value, RetryableDeliveryError):
        assert raised.value.delay == 7.0
    assert len(collector.requests) == 1  # no retry, no sleep in here
    delivery.deliver(batch("1"), None)
    delivery.close()


@pytest.mark.parametrize(
    "body", [b"", b" \r\n", b"{}", b'{"status":200}', b"null", b"[1]", b"\xef\xbb\xbf{}", b'"\xff"']
)
@pytest.mark.parametrize("status", [200, 202])
def test_a_success_has_an_empty_body_or_json(collector: Collector, status: int, body: bytes) -> None:
    collector.answer(status, body=body)
    delivery = InsightsDelivery(config(collector.port))
    delivery.deliver(batch("1"), 30.0)
    delivery.close()


@pytest.mark.parametrize(
    "body", [b"<html>Please log in</html>", HTML, b"OK", b"{", b"{}{}", b"[" * 100_000, b"\x00", b"\x1f\x8b\x08"]
)
def test_a_page_with_status_200_is_no_delivery(collector: Collector, body: bytes) -> None:
    # As a captive portal, or a proxy that wants somebody to log in, answers.
    collector.answer(200, body=body, headers={"Content-Type": "text/html"})
    delivery = InsightsDelivery(config(collector.port))
    with pytest.raises(RetryableDeliveryError, match=r"^200: the answer is no JSON"):
        delivery.deliver(batch("1"), 30.0)
    delivery.deliver(batch("1"), 30.0)
    delivery.close()


NESTED = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (NESTED, "Told"),
        (b'{"message": ' + NESTED + b"}", "Told"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "Told"),
        (b'{"message": ["a", {"list": 1}]}', "Told"),
        (b'{"message": null}', "Told"),
        (b'["message"]', "Told"),
        (b'"message"', "Told"),
        (b'{"message": "\xff\xfe"}', "\ufffd\ufffd"),
        (b'{"message": "' + b"x" * 800_000 + b'"}', "x" * 495),
        (b"x" * 3_000_000, "Told"),
        (b"\x00" * 100, "Told"),
    ],
    ids=[
        "nested",
        "nested message",
        "nested objects",
        "list",
        "null",
        "no object",
        "text",
        "no UTF-8",
        "long",
        "huge",
        "zeros",
    ],
)
@pytest.mark.parametrize("status", [400, 503])
def test_what_is_said_in_an_error_may_be_of_any_depth_size_and_encoding(
    collector: Collector, status: int, body: bytes, said: str
) -> None:
    collector.answer(status, body=body, headers={"Content-Type": "application/json; charset=no-such"})
    delivery = InsightsDelivery(config(collector.port))
    with pytest.raises(BatchRejectedError if status == 400 else RetryableDeliveryError) as caught:
        delivery.deliver(batch("1"), 30.0)
    assert str(caught.value) == f"{status}: {said}"
    delivery.close()


def test_deliver_keeps_to_its_time_out(collector: Collector) -> None:
    collector.hang()
    delivery = InsightsDelivery(config(collector.port))
    started = time.monotonic()
    with pytest.raises(RetryableDeliveryError, match="timed out"):
        delivery.deliver(batch("1"), 0.3)
    assert time.monotonic() - started < 20
    delivery.close()


def test_a_refused_connection_is_retryable() -> None:
    delivery = InsightsDelivery(config(free_port()))
    with pytest.raises(RetryableDeliveryError, match="no connection"):
        delivery.deliver(batch("1"), 30.0)


def test_the_config_is_not_changed(collector: Collector) -> None:
    its_config = config(collector.port)
    before = {**its_config.__dict__, "headers": dict(its_config.headers)}
    delivery = InsightsDelivery(its_config)
    delivery.deliver(batch("1"), 30.0)
    delivery.close()
    assert its_config.__dict__ == before


def test_the_three_deliveries_are_deliveries(collector: Collector) -> None:
    class Mine:
        def deliver(self, batch: Batch, timeout: float | None) -> None: ...

        def close(self) -> None: ...

    for one in (InsightsDelivery(config(collector.port)), MemoryDelivery(), Mine()):
        assert isinstance(one, Delivery)


def test_a_memory_delivery_fails_and_hangs_as_told(senders: Make) -> None:
    delivery = MemoryDelivery()
    events = senders(delivery=delivery, batch_size=10, flush_interval=IN_ONE_REQUEST)
    delivery.fail_next()
    delivery.fail_next(BatchRejectedError("bad"))
    send(events, range(10))
    assert events.flush(PATIENCE)
    assert len(delivery.events) == 10
    assert [len(one.events) for one in delivery.batches] == [5, 5]
    delivery.hang()
    send(events, range(10))
    assert not events.flush(0.1)
    delivery.release()
    assert events.flush(PATIENCE)
    assert len(delivery.events) == 20
    assert json.loads(delivery.batches[0].body)["events"] == delivery.batches[0].events


@pytest.mark.parametrize("delay", [-1.0, float("nan"), 0.0, 10**400])
@pytest.mark.usefixtures("quick")
def test_a_strange_delay_of_ones_own_delivery_kills_nothing(
    senders: Make, delay: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "LONGEST_PAUSE_S", 0.3)
    delivery = MemoryDelivery()
    delivery.fail_next(RetryableDeliveryError("wait", delay))
    events = senders(delivery=delivery)
    send(events, range(10))
    assert events.flush(PATIENCE)
    send(events, range(10))
    assert events.flush(PATIENCE)
    assert adds_up(events.stats)
    assert events.stats.delivered >= 10


@pytest.mark.parametrize("error", [ValueError("bug"), OSError("gone"), TimeoutError(), ConnectionResetError()])
@pytest.mark.usefixtures("quick")
def test_other_errors_of_ones_own_delivery(senders: Make, error: Exception) -> None:
    delivery = MemoryDelivery()
    delivery.fail_next(error)
    errors = Errors()
    events = senders(delivery=delivery, on_error=errors, flush_interval=IN_ONE_REQUEST)
    send(events, range(10))
    assert events.flush(PATIENCE)
    if isinstance(error, OSError):
        assert settled(events.stats) == (10, 10, 0, 0, 0)
    else:
        assert settled(events.stats) == (10, 0, 0, 10, 0)
        assert [found for found, _ in errors.calls] == [error]


def test_a_memory_delivery_that_hangs_times_out() -> None:
    delivery = MemoryDelivery()
    delivery.hang()

    with pytest.raises(RetryableDeliveryError, match="timed out"):
        delivery.deliver(Batch([event(1)], b"{}"), 0.01)

    delivery.release()
    delivery.deliver(Batch([event(1)], b"{}"), 0.01)
    assert len(delivery.batches) == 1


def test_goes_by_way_of_the_config_s_proxy() -> None:
    asked: list[tuple[str, int]] = []

    class Proxy(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked.append((self.path, self.client_address[1]))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever).start()
        delivery = InsightsDelivery(config(1, proxies={"http": f"http://127.0.0.1:{server.server_port}"}))
        delivery.deliver(batch("1"), 30.0)
        delivery.deliver(batch("2"), 30.0)
        delivery.close()
        server.shutdown()

    assert [path for path, _ in asked] == ["http://127.0.0.1:1/1/events"] * 2
    assert asked[0] == asked[1]  # on one connection


# What is said of events.


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("objectIDs must be given", "objectIDs must be given"),
        ("422: The value 'jane@example.com' is not valid", "422: The value … is not valid"),
        ("objectIDs: jane@example.com", "objectIDs: …"),
        ("objectIDs: JANE@EXAMPLE.COM is unknown", "objectIDs: … is unknown"),
        ("objectIDs: jane%40example.com", "objectIDs: …"),
        ("objectIDs: 203.0.113.77", "objectIDs: …"),
        ("no such item: a b/c; a%20b%2Fc", "no such item: …; …"),
        ("filter email:jane@work.example", "filter …"),  # decoded
        ("object 12345 of 123456", "object … of 123456"),
        ("not valid: 'jane@exam", "not valid: …"),  # cut off
        (
            'EventType must be one of "click", "conversion" or "view"',
            'EventType must be one of "click", "conversion" or "view"',
        ),
        (
            "'events[0].userToken' isn't valid, nor is the event's index 'products'",
            "'events[0].userToken' isn't valid, nor is the event's index 'products'",
        ),
        ("'Product Viewed' is not known", "'Product Viewed' is not known"),
        ("a 'b c' `d-e` it's", "a … … it's"),
        ("page 17 of 1", "page 17 of 1"),
        ("item '17'", "item …"),
        ("ÄÖÜß: \\u00e4\\u00f6\\u00fc\\u00df", "…: …"),
    ],
)
def test_what_a_receiver_says_is_told_without_the_values_of_the_events(said: str, shown: str) -> None:
    loop: list[Any] = ["12345"]
    loop.append(loop)
    ids = ["jane@example.com", "203.0.113.77", "a b/c", "17", "äöüß"]
    seen = {**event("1"), "eventName": "Product Viewed", "objectIDs": ids, "filters": ["email:jane%40work.example"]}

    assert without_values(said, [seen, {**event("1"), "custom": {"deep": loop}}]) == shown


def test_what_algolia_says_of_an_event_is_told_without_its_values(
    sender: Make, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    collector.choose = lambda ids: Answer(422, body=json.dumps({"message": f"objectIDs: '{ids[0]}' is bad"}).encode())
    errors = Errors()
    events = sender(on_error=errors)
    send(events, ["jane@example.com"])
    assert events.flush(PATIENCE)
    [(error, [lost])] = errors.calls
    assert str(error) == "422: objectIDs: … is bad"
    assert lost["objectIDs"] == ["jane@example.com"]  # the events themselves stay whole
    assert "event rejected: 422: objectIDs: … is bad" in caplog.text


def test_why_there_is_no_connection_is_told_in_the_system_s_words() -> None:
    delivery = InsightsDelivery(config(free_port()))
    with pytest.raises(RetryableDeliveryError, match=r"^no connection: ConnectionError: .*refused$") as caught:
        delivery.deliver(batch("1"), 30.0)
    assert caught.value.__context__ is None


def test_a_key_that_no_header_can_hold_is_said_and_not_tried_again(collector: Collector) -> None:
    made = config(collector.port)
    made.headers["x-algolia-api-key"] = "kéy\u2028"
    delivery = InsightsDelivery(config=made)

    with pytest.raises(DeliveryError, match="the request could not be made: UnicodeEncodeError") as caught:
        delivery.deliver(batch_of([b'{"objectIDs":["1"]}']), 30)

    assert not isinstance(caught.value, RetryableDeliveryError)
    assert not collector.requests
    delivery.close()


def test_a_child_does_not_close_the_connections_of_its_parent(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = InsightsDelivery(config=config(collector.port))
    delivery.deliver(batch_of([b'{"objectIDs":["1"]}']), 30)
    kept = list(delivery._idle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        delivery.close()

    assert delivery._idle == kept != []
    delivery.close()
    assert not delivery._idle
