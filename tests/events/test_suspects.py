"""The bad among the good: how many requests it takes to find them, and that no good event is given up with them."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable

import pytest

from algolia_usertoken.events.suspects import (
    MOST_BEFORE_SAMPLES,
    MOST_POOLS,
    REFUSED_BEFORE_SAMPLES,
    SINGLES_IF_NONE_ACCEPTED,
    Search,
    Suspect,
    Suspects,
)

Site = Callable[[int], Hashable]


def suspects_of(site_of: Site = lambda event: 0, most_events: int = 1000, most_bytes: int = 2_000_000) -> Suspects:
    return Suspects(site_of, lambda event: 300, most_events=most_events, most_bytes=most_bytes)


def events_of(search: Search) -> list[int]:
    return [suspect.event for suspect in search.suspects]


def search_all(suspects: Suspects, bad: set[int], now: float = 0.0) -> tuple[list[int], list[list[int]], int]:
    """What is accepted, the groups that are rejected, and the requests it takes."""
    accepted: list[int] = []
    rejected: list[list[int]] = []
    requests = 0
    while (search := suspects.next(now)) is not None:
        requests += 1
        if bad.isdisjoint(events_of(search)):
            accepted += events_of(search)
            suspects.accepted(search)
        else:
            rejected += [[suspect.event for suspect in group] for group in suspects.refused(search)]
    return accepted, rejected, requests


def add(suspects: Suspects, events: range, now: float = 0.0) -> None:
    suspects.add([Suspect(event, None) for event in events], now)


@pytest.mark.parametrize(
    ("bad", "most"), [(1, 40), (10, 160), (50, 450), (250, 1_100), (500, 1_200), (900, 1_200), (1000, 200)]
)
@pytest.mark.parametrize("seed", range(5))
def test_each_bad_event_is_rejected_alone_and_each_good_one_accepted(bad: int, most: int, seed: int) -> None:
    chosen = set(random.Random(seed).sample(range(1000), bad))
    suspects = suspects_of()
    add(suspects, range(1000))

    accepted, rejected, requests = search_all(suspects, chosen)

    assert sorted(accepted) == sorted(set(range(1000)) - chosen)
    assert {event for group in rejected for event in group} == chosen
    assert requests <= most
    assert suspects.bytes == 0
    assert suspects.next(0.0) is None


def test_where_all_are_bad_the_rest_is_given_up_together() -> None:
    suspects = suspects_of()
    add(suspects, range(10_000))

    accepted, rejected, requests = search_all(suspects, set(range(10_000)))

    assert not accepted
    assert sum(map(len, rejected)) == 10_000
    assert max(map(len, rejected)) > 9_000
    assert requests <= 200


@pytest.mark.parametrize("sites", [2, 12, 20, 100, 1_000])
def test_where_all_events_of_all_call_sites_are_bad_the_rest_is_given_up_together(sites: int) -> None:
    suspects = suspects_of(lambda event: event % sites)
    add(suspects, range(1_000))

    accepted, rejected, requests = search_all(suspects, set(range(1_000)))

    assert not accepted
    assert sum(map(len, rejected)) == 1_000
    assert len(rejected[-1]) > 780
    each_was_tried = min(max(REFUSED_BEFORE_SAMPLES, sites), MOST_BEFORE_SAMPLES)
    assert requests == each_was_tried + SINGLES_IF_NONE_ACCEPTED
    assert suspects.bytes == 0


@pytest.mark.parametrize(
    ("what", "good"),
    [
        ("at random", set(random.Random(1).sample(range(1_000), 50))),
        ("the last ones", set(range(950, 1_000))),
        ("the first ones", set(range(50))),
        ("of one call site", set(range(7, 1_000, 20))),
    ],
)
@pytest.mark.parametrize("sites", [2, 12, 20, 100, 1_000])
def test_where_one_in_twenty_is_good_no_good_event_is_given_up(what: str, good: set[int], sites: int) -> None:
    suspects = suspects_of(lambda event: event % sites)
    add(suspects, range(1_000))

    accepted, _, _ = search_all(suspects, set(range(1_000)) - good)

    assert sorted(accepted) == sorted(good)


@pytest.mark.parametrize("bad_sites", [2, 20, 40, 60])
def test_a_small_call_site_is_tried_by_itself_before_all_are_given_up_together(bad_sites: int) -> None:
    suspects = suspects_of(lambda event: "good" if event < 10 else event % bad_sites)
    events = list(range(50 * bad_sites + 10))
    random.Random(bad_sites).shuffle(events)
    suspects.add([Suspect(event, None) for event in events], 0.0)

    accepted, _, _ = search_all(suspects, set(events) - set(range(10)))

    assert sorted(accepted) == list(range(10))


def test_after_all_call_sites_were_given_up_together_their_next_events_wait() -> None:
    suspects = suspects_of(lambda event: event % 3)
    add(suspects, range(1_000))
    search_all(suspects, set(range(1_000)))
    add(suspects, range(1_000, 1_100), now=1.0)

    assert suspects.next(1.0) is None
    due_at = suspects.due_at(1.0)
    assert due_at is not None
    assert due_at >= 3.0
    assert search_all(suspects, set(range(1_000, 1_100)), due_at)[2] <= 3 * 20


def test_good_events_of_a_large_call_site_are_found_among_many_small_bad_ones() -> None:
    suspects = suspects_of(lambda event: min(event, 200))
    add(suspects, range(1_000))
    good = set(random.Random(2).sample(range(200, 1_000), 100))

    accepted, _, _ = search_all(suspects, set(range(1_000)) - good)

    assert sorted(accepted) == sorted(good)


def test_an_accepted_fresh_event_ends_the_search_for_any_good_event() -> None:
    suspects = suspects_of(lambda event: event % 20)
    add(suspects, range(1_000))
    for _ in range(REFUSED_BEFORE_SAMPLES + SINGLES_IF_NONE_ACCEPTED - 1):
        search = suspects.next(0.0)
        assert search is not None
        suspects.refused(search)

    suspects.clear([1_000])
    last = suspects.next(0.0)

    assert last is not None
    assert sum(map(len, suspects.refused(last))) <= 1


def test_a_new_search_for_any_good_event_begins_when_there_were_no_suspects() -> None:
    suspects = suspects_of(lambda event: event % 20)
    add(suspects, range(1_000))
    search_all(suspects, set())  # all are accepted
    add(suspects, range(1_000))

    _, rejected, requests = search_all(suspects, set(range(1_000)))

    assert sum(map(len, rejected)) == 1_000
    assert requests <= 200


def test_a_call_site_that_was_given_up_before_is_not_given_up_with_the_others() -> None:
    suspects = suspects_of(lambda event: 0 if event < 1_000 else event % 20)
    add(suspects, range(1_000))
    search_all(suspects, set(range(1_000)))
    add(suspects, range(1_000, 2_000), now=1.0)
    add(suspects, range(5), now=1.0)  # they wait for others

    _, rejected, _ = search_all(suspects, set(range(2_000)), now=1.0)

    assert {event for group in rejected for event in group}.isdisjoint(range(1, 5))


def test_1024_refusals_are_needed_where_something_was_accepted() -> None:
    suspects = suspects_of()
    add(suspects, range(3_000))
    good = {0, 1}  # which the first draws, taken from the front, find

    _, rejected, requests = search_all(suspects, set(range(3_000)) - good)

    assert requests > 1_024
    assert {event for group in rejected for event in group} == set(range(3_000)) - good


def test_refusals_are_counted_all_over_the_pool_before_it_is_given_up() -> None:
    # The first 900 are bad, as of one visitor; those behind them are good.
    suspects = suspects_of()
    add(suspects, range(1000))

    accepted, _, _ = search_all(suspects, set(range(900)))

    assert sorted(accepted) == list(range(900, 1000))


def test_a_bad_call_site_does_not_cost_the_others_their_turn() -> None:
    suspects = suspects_of(lambda event: event % 20)
    add(suspects, range(1000))
    bad = {event for event in range(1000) if event % 20 < 5}
    first: list[int] = []
    while len(first) < 750:
        search = suspects.next(0.0)
        assert search is not None
        if bad.isdisjoint(events_of(search)):
            first += events_of(search)
            suspects.accepted(search)
        else:
            suspects.refused(search)

    assert sorted(first) == sorted(set(range(1000)) - bad)


def test_after_a_conclusion_the_site_waits_for_more_and_needs_16_refusals() -> None:
    suspects = suspects_of()
    add(suspects, range(1000))
    search_all(suspects, set(range(1000)))
    add(suspects, range(1000, 1100), now=10.0)

    assert suspects.next(10.0) is None
    due = suspects.due_at(10.0)
    assert due is not None
    assert due == pytest.approx(14.0)
    _, rejected, requests = search_all(suspects, set(range(2000)), now=due)

    assert sum(map(len, rejected)) == 100
    assert requests < 40


def test_hurry_ends_the_wait_after_a_conclusion() -> None:
    suspects = suspects_of()
    add(suspects, range(1000))
    search_all(suspects, set(range(1000)))
    add(suspects, range(1000, 1100), now=10.0)

    suspects.hurry()

    assert suspects.next(10.0) is not None


def test_an_accepted_fresh_event_clears_its_site() -> None:
    suspects = suspects_of()
    add(suspects, range(1000))
    search_all(suspects, set(range(1000)))
    suspects.clear([5])
    add(suspects, range(1000, 1100), now=10.0)

    assert suspects.next(10.0) is not None


def test_a_draw_fits_into_a_request() -> None:
    suspects = suspects_of(most_bytes=3_100)
    add(suspects, range(100))

    search = suspects.next(0.0)

    assert search is not None
    assert len(search.suspects) == 10
    assert suspects.bytes == 90 * 300


def test_what_got_no_answer_waits_again_in_front_of_the_rest() -> None:
    suspects = suspects_of()
    add(suspects, range(8))
    first = suspects.next(0.0)
    assert first is not None
    suspects.refused(first)
    left = suspects.next(0.0)
    assert left is not None
    assert left.rest

    suspects.returned(left, unknown=left.suspects)

    accepted, rejected, _ = search_all(suspects, set())
    assert sorted(accepted) == list(range(8))
    assert not rejected


def test_sites_that_nobody_can_number_are_forgotten() -> None:
    suspects = suspects_of(lambda event: event)
    for number in range(MOST_POOLS + 50):
        add(suspects, range(2 * number, 2 * number + 2))
        search_all(suspects, set())

    assert len(suspects._pools) <= MOST_POOLS + 2


def test_take_all_leaves_nothing() -> None:
    suspects = suspects_of(lambda event: event % 3)
    add(suspects, range(30))

    assert sorted(suspect.event for suspect in suspects.take_all()) == list(range(30))
    assert suspects.bytes == 0
    assert suspects.next(0.0) is None
    assert suspects.due_at(0.0) is None


def test_an_event_of_a_site_that_has_no_suspects_clears_nothing() -> None:
    suspects = suspects_of(lambda event: event // 10_000)
    add(suspects, range(2_000))
    search_all(suspects, set(range(2_000)))
    add(suspects, range(2))
    assert suspects.next(0.0) is None  # they are probably bad, too, and wait

    suspects.clear([10_000])
    assert suspects.next(0.0) is None

    suspects.clear([5])
    assert suspects.next(0.0) is not None
