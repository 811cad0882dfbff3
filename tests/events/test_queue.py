"""The core, told by hand what happens: what it says to do, and what it says has become of the events."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from algolia_usertoken.errors import BatchRejectedError, DeliveryError, RetryableDeliveryError
from algolia_usertoken.events.in_flight import Action, Done, InFlight, Post, Take, Wait
from algolia_usertoken.events.queue import Core
from algolia_usertoken.events.retries import Answer

DELIVERED = Answer("delivered")
REFUSED = Answer("refused", None, BatchRejectedError("no"))
RETRY = Answer("retry", None, RetryableDeliveryError("later"))


class Driver:
    """A core, and a queue of numbers in front of it."""

    def __init__(self, waiting: int = 0, **options: float) -> None:
        settings = {"batch_size": 100, "batch_bytes": 2_000_000, "flush_interval": 1.0, "max_retry_time": 300.0}
        self.core = Core(
            **{**settings, "max_suspect_bytes": 1_000_000, **options},  # type: ignore[arg-type]
            site_of=lambda event: 0,
            size_of=lambda event: 300,
        )
        self.queue = list(range(waiting))
        self.now = 0.0
        self.done: list[Done] = []

    def next(self) -> Action:
        """What to do, but for takes, which it does."""
        action = self.core.next(self.now, len(self.queue), 0.0)
        if isinstance(action, Take):
            taken, self.queue = self.queue[: action.limit], self.queue[action.limit :]
            self.core.took(taken, 0, self.now)
            action = self.core.next(self.now, len(self.queue), 0.0)
        return action

    def post(self) -> InFlight:
        action = self.next()
        assert isinstance(action, Post), action
        return action.group

    def wait(self) -> float:
        """The seconds it says to wait."""
        action = self.next()
        assert isinstance(action, Wait), action
        return action.until - self.now

    def answer(self, group: InFlight, answer: Answer, luck: float = 0.5) -> list[Done]:
        done = self.core.answered(group, answer, self.now, luck)
        for one in done:
            self.core.settled(one)
        self.done += done
        return done

    def events(self, outcome: str) -> list[int]:
        return sorted(event for done in self.done if done.outcome == outcome for event in done.group.events)


def test_an_event_waits_for_others_for_the_flush_interval() -> None:
    driver = Driver(3)

    assert driver.wait() == 1.0

    driver.now = 1.0
    assert list(driver.post().events) == [0, 1, 2]


def test_a_full_batch_does_not_wait() -> None:
    assert len(Driver(250).post().events) == 100


def test_nothing_waits_for_nothing() -> None:
    assert Driver().wait() == math.inf


def test_a_flush_ends_the_flush_interval_and_tells_when_it_is_done() -> None:
    driver = Driver(3)
    target = driver.core.flush(0.0, 3)
    assert not driver.core.is_settled(target, 3)

    driver.answer(driver.post(), DELIVERED)

    assert driver.core.is_settled(target, 0)
    assert driver.events("delivered") == [0, 1, 2]
    assert driver.core.counts.delivered == 3


def test_what_is_concluded_counts_when_it_is_settled() -> None:
    driver = Driver(3)
    target = driver.core.flush(0.0, 3)
    (done,) = driver.core.answered(driver.post(), DELIVERED, 0.0, 0.5)
    assert not driver.core.is_settled(target, 0)
    assert driver.core.open == 3

    driver.core.settled(done)

    assert driver.core.is_settled(target, 0)
    assert driver.core.open == 0


@pytest.mark.parametrize("retry_after", [None, 0.0, -5.0, math.nan])
def test_no_word_of_the_server_shortens_a_pause(retry_after: float | None) -> None:
    driver = Driver(100)

    driver.answer(driver.post(), Answer("retry", retry_after, RetryableDeliveryError("later")), luck=0.0)

    assert driver.wait() == pytest.approx(0.1)


@pytest.mark.parametrize("retry_after", [1e9, math.inf])
def test_no_word_of_the_server_makes_a_pause_longer_than_a_minute(retry_after: float) -> None:
    driver = Driver(100)

    driver.answer(driver.post(), Answer("retry", retry_after, RetryableDeliveryError("later")))

    assert driver.wait() == pytest.approx(60.0)


def test_ten_thousand_failures_are_no_overflow() -> None:
    driver = Driver(100, max_retry_time=math.inf)
    for _ in range(10_000):
        driver.answer(driver.post(), RETRY)
        driver.now += driver.wait()

    assert driver.core.counts.requests == 10_000
    assert driver.core.counts.retries == 9_999


def test_a_group_is_given_up_when_its_patience_ends() -> None:
    driver = Driver(100, max_retry_time=10.0)
    while not driver.done:
        driver.answer(driver.post(), RETRY)
        driver.now = max(driver.now, driver.core._pause_until)

    assert driver.events("failed") == list(range(100))
    assert driver.now <= 71.0


def test_while_the_way_is_down_nothing_more_is_taken() -> None:
    driver = Driver(1_000, max_retry_time=math.inf)
    for _ in range(50):
        driver.answer(driver.post(), RETRY)
        driver.now += driver.wait()

    assert len(driver.queue) == 800  # the second batch was tried in case the first was to blame


def test_a_group_that_fails_alone_does_not_hold_up_the_others() -> None:
    driver = Driver(1_000)
    failing = driver.post()
    driver.answer(failing, RETRY)
    delivered = 0
    while delivered < 900:
        action = driver.next()
        if isinstance(action, Wait):
            driver.now = action.until
            continue
        assert isinstance(action, Post)
        bad = 0 in action.group.events
        driver.answer(action.group, RETRY if bad else DELIVERED)
        delivered += 0 if bad else len(action.group.events)

    assert driver.now < 30.0


def test_a_flush_ends_a_pause_but_not_within_a_tenth_of_a_second() -> None:
    driver = Driver(100)
    driver.answer(driver.post(), Answer("retry", 60.0, RetryableDeliveryError("later")))
    assert driver.wait() == pytest.approx(60.0)

    driver.core.flush(0.0, 0)

    assert driver.wait() == pytest.approx(0.1)


def test_a_refused_group_is_taken_apart_beside_fresh_ones() -> None:
    driver = Driver(1_000)
    bad = {7, 77}
    kinds = []
    while driver.queue or driver.core.open:
        group = driver.post()
        kinds.append("suspect" if group.search else "fresh")
        driver.answer(group, DELIVERED if bad.isdisjoint(group.events) else REFUSED)

    assert driver.events("rejected") == [7, 77]
    assert driver.events("delivered") == sorted(set(range(1_000)) - bad)
    assert kinds[:4] == ["fresh", "suspect", "fresh", "suspect"]


def test_an_event_refused_alone_is_rejected() -> None:
    driver = Driver(1)
    driver.core.flush(0.0, 1)

    driver.answer(driver.post(), REFUSED)

    assert driver.events("rejected") == [0]


def test_a_fatal_answer_gives_the_group_up() -> None:
    driver = Driver(100)

    driver.answer(driver.post(), Answer("fatal", None, DeliveryError("no")))

    assert driver.events("failed") == list(range(100))


def test_no_request_is_larger_than_it_may_be() -> None:
    driver = Driver(100, batch_bytes=301 * 40)

    sizes = []
    while driver.queue or driver.core.open:
        group = driver.post()
        sizes.append(len(group.events))
        driver.answer(group, DELIVERED)

    assert sizes == [40, 40, 20]


def test_what_is_gone_is_counted_and_not_sent() -> None:
    driver = Driver(100)
    group = driver.post()

    assert driver.core.confirmed(group, group.events[:30])
    assert len(group.events) == 30
    driver.answer(group, DELIVERED)

    assert driver.core.counts.gone == 70
    assert driver.core.counts.delivered == 30
    assert driver.core.open == 0


def test_a_group_that_is_gone_as_a_whole_is_nobodys_any_more() -> None:
    driver = Driver(100)
    target = driver.core.flush(0.0, 100)
    group = driver.post()

    assert not driver.core.confirmed(group, [])

    assert driver.core.is_settled(target, 0)
    assert driver.wait() == math.inf


@pytest.mark.parametrize("answers", [[], [RETRY], [REFUSED], [REFUSED, RETRY], [REFUSED, REFUSED]])
def test_all_that_is_not_settled_can_be_given_up(answers: Sequence[Answer]) -> None:
    driver = Driver(300)
    for answer in answers:
        group = driver.post()
        driver.answer(group, answer)
        driver.now = max(driver.now, driver.core._pause_until)
    on_its_way = driver.post()

    group = driver.core.give_up(driver.queue)

    assert sorted(group.events) == list(range(300))
    driver.core.settled(Done("failed", group, DeliveryError("closed")))
    assert driver.core.open == 0
    assert driver.answer(on_its_way, DELIVERED) == []  # too late
    assert driver.core.counts.failed == 300
    assert driver.core.counts.delivered == 0


def test_the_answer_to_what_was_written_off_is_not_listened_to() -> None:
    driver = Driver(100)
    first = driver.post()

    assert driver.core.written_off(first, RETRY, 31.0, 0.5) == []
    assert driver.answer(first, DELIVERED) == []

    driver.now = 100.0
    again = driver.post()
    assert again.attempts == 1
    driver.answer(again, DELIVERED)
    assert driver.core.counts.delivered == 100


def test_what_was_given_up_is_not_concluded_again_when_it_is_written_off() -> None:
    driver = Driver(100)
    group = driver.post()
    given_up = driver.core.give_up([])
    driver.core.settled(Done("failed", given_up, None))

    assert driver.core.written_off(group, Answer("fatal", None, DeliveryError("no")), 31.0, 0.5) == []

    assert driver.core.open == 0
    assert driver.core.counts.failed == 100


def test_what_was_not_sent_after_all_is_sent_at_once() -> None:
    driver = Driver(100)
    driver.core.returned(driver.post(), 0.0)

    assert len(driver.post().events) == 100


def test_the_oldest_event_is_told() -> None:
    driver = Driver(100)
    assert driver.core.oldest(100, 5.0) == 5.0
    driver.now = 7.0
    group = driver.post()
    assert driver.core.oldest(0, 0.0) == 7.0

    driver.answer(group, DELIVERED)

    assert driver.core.oldest(0, 0.0) is None


def of_suspects(driver: Driver) -> InFlight:
    """A request of suspects, after a refusal of all that waits."""
    driver.answer(driver.post(), REFUSED)
    group = driver.post()
    assert group.search is not None
    return group


def deliver_all(driver: Driver) -> None:
    while driver.queue or driver.core.open:
        driver.answer(driver.post(), DELIVERED)


def test_what_is_gone_of_suspects_is_counted_and_not_sent() -> None:
    driver = Driver(100)
    group = of_suspects(driver)
    count = len(group.events)

    assert driver.core.confirmed(group, group.events[:1])
    driver.answer(group, DELIVERED)
    deliver_all(driver)

    assert driver.core.counts.gone == count - 1
    assert driver.core.counts.delivered == 100 - (count - 1)


def test_suspects_that_are_gone_as_a_whole_do_not_hold_up_the_others() -> None:
    driver = Driver(100)
    group = of_suspects(driver)
    count = len(group.events)

    assert not driver.core.confirmed(group, [])
    deliver_all(driver)

    assert (driver.core.counts.gone, driver.core.counts.delivered) == (count, 100 - count)


def test_what_was_written_off_or_given_up_is_not_sent_any_more() -> None:
    driver = Driver(100)
    group = driver.post()
    driver.core.give_up([])

    assert not driver.core.confirmed(group, group.events)
    driver.core.returned(group, 0.0)

    assert driver.wait() == math.inf


def test_a_fatal_answer_gives_only_those_suspects_up_that_it_is_about() -> None:
    driver = Driver(100)
    group = of_suspects(driver)

    driver.answer(group, Answer("fatal", None, DeliveryError("no")))
    deliver_all(driver)

    assert driver.events("failed") == sorted(group.events)
    assert driver.events("delivered") == sorted(set(range(100)) - set(group.events))


def test_suspects_are_given_up_when_their_patience_ends() -> None:
    driver = Driver(100, max_retry_time=10.0)
    driver.answer(driver.post(), REFUSED)
    for _ in range(100):
        action = driver.next()
        if isinstance(action, Post):
            driver.answer(action.group, RETRY)
        elif isinstance(action, Wait):
            if action.until == math.inf:
                break
            driver.now = action.until

    assert driver.events("failed") == list(range(100))
    assert driver.core.open == 0


def test_nothing_is_taken_while_too_many_are_set_aside() -> None:
    driver = Driver(300, max_suspect_bytes=0)
    group = of_suspects(driver)

    while group.search is not None:
        assert len(driver.queue) == 200
        driver.answer(group, DELIVERED)
        group = driver.post()

    assert driver.events("delivered") == list(range(100))


def test_what_is_probably_bad_waits_until_its_pause_ends() -> None:
    driver = Driver(3_000)
    while not any(len(done.group.events) > 1 for done in driver.done if done.outcome == "rejected"):
        driver.answer(driver.post(), REFUSED)
    driver.core.took([3_000, 3_001], 0, driver.now)
    group = driver.post()
    while list(group.events) != [3_000, 3_001]:
        driver.answer(group, REFUSED)
        group = driver.post()
    driver.queue.clear()
    driver.answer(group, REFUSED)

    assert 0 < driver.wait() < math.inf


def test_what_is_back_in_the_queue_is_waited_for_also_while_something_later_is_reported() -> None:
    driver = Driver(200, batch_size=100)
    driver.post()
    target = driver.core.flush(driver.now, 0)
    later = driver.post()
    driver.core.answered(later, DELIVERED, driver.now, 0.5)  # and is being reported
    given_up = driver.core.give_up([])
    driver.core.let_go(given_up)

    driver.core.took(given_up.events, 0, driver.now)

    assert not driver.core.is_settled(target, 0)
