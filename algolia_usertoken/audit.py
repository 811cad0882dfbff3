"""Judges some days' traffic: what its figures say about user tokens, tracked searches and events.

This module only judges; `traffic` asks Algolia for the figures. Each finding says in plain words what is fine, or what
is wrong and what to do about it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .check import Finding

_DAYS_TO_COMPARE = 2
STEPS = ("searches", "users", "results", "tracking", "clicks", "query ids", "positions", "conversion", "days")


@dataclass(frozen=True, slots=True)
class Figures:
    """What Algolia counted, on one day or on all days.

    Attributes:
        searches: All searches except those with `analytics: false`; the queries typed within 30 seconds count as one.
        users: The number of different user tokens, and of different IP addresses for searches without a token.
        without_results: Searches that found nothing.
        tracked: Searches with `clickAnalytics`, which have a queryID.
        click_rate: The share of tracked searches with a click, from 0 to 1; None if no search was tracked.
        conversion_rate: The share of tracked searches with a conversion of any kind; None if no search was tracked.
        clicks: Click events that name a tracked search.
        conversions, added_to_cart, purchases: The same for conversions of any kind, for additions to a cart and for
            purchases.

    https://www.algolia.com/doc/guides/search-analytics/concepts/metrics
    """

    searches: int = 0
    users: int = 0
    without_results: int = 0
    tracked: int = 0
    click_rate: float | None = None
    conversion_rate: float | None = None
    clicks: int = 0
    conversions: int = 0
    added_to_cart: int = 0
    purchases: int = 0


@dataclass(frozen=True, slots=True)
class Day:
    """One day in UTC, with `date` such as 2026-01-31. `is_over`: the day was over when Algolia was asked."""

    date: str
    is_over: bool
    figures: Figures


@dataclass(frozen=True, slots=True)
class Position:
    """The number of clicks on hits from position `first` to `last`; -1 means the end of the list."""

    first: int
    last: int
    clicks: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """The figures of some days: of all days together, of each day in order, and the positions of the clicks."""

    total: Figures
    days: Sequence[Day]
    positions: Sequence[Position] = ()


class Threshold(NamedTuple):
    """The number at which a verdict changes, and the reason for this number."""

    value: float
    reason: str


THRESHOLDS: Mapping[str, Threshold] = {
    "searches": Threshold(100, "With fewer searches, or fewer tracked ones, a share can be high or low by chance."),
    "users": Threshold(
        3, "If so few users make a hundred searches, they are servers, or all visitors share one token."
    ),
    "searches per user and day": Threshold(
        30, "A visitor searches a few times on a day. On no site do visitors make thirty searches on average."
    ),
    "searches per user": Threshold(
        1.05, "On each site, some visitors search twice. If nearly none does, each request is a new user."
    ),
    "share without results": Threshold(
        0.5, "Five to ten per cent are common. If half of all searches find nothing, something is wrong."
    ),
    "share tracked": Threshold(
        0.5, "Clicks after untracked searches are not counted, and here most searches are untracked."
    ),
    "click rate": Threshold(0.01, "If all clicks are sent, visitors click after ten to forty of a hundred searches."),
    "events per tracked search": Threshold(
        1, "Visitors click one or two hits after some searches, and none after most: the average is below one."
    ),
    "clicks at one position": Threshold(30, "Of thirty real clicks, some are on the second hit or later."),
    "clicks without conversion": Threshold(
        50, "After about one of ten clicks, something is put into a cart: after fifty clicks, at least once."
    ),
    "carts without purchase": Threshold(30, "About one of three carts is bought: of thirty, at least one."),
    "a usual day": Threshold(20, "If a usual day has twenty of them, a day without any is not chance."),
}


def judge(traffic: Traffic) -> list[Finding]:
    """Judge the figures: one finding for each step, or a single finding if there are too few searches to tell.

        wrong = [finding for finding in judge(traffic) if finding.state == "wrong"]

    Args:
        traffic: The figures.

    Returns:
        The findings, in the order of `STEPS`, their state "ok", "wrong", "unknown" or "skipped".
    """
    total = traffic.total
    if total.searches < _at("searches"):
        return [_too_few(total)]
    findings = [
        Finding("searches", "ok", f"{total.searches:,} searches."),
        _users(traffic),
        _results(total),
        _tracking(total),
    ]
    because_of = _why_no_events(total)
    if because_of:
        events = ("query ids", "positions", "conversion")
        skipped = events if because_of == "clicks" else ("clicks", *events)
        findings += [_clicks(total)] if because_of == "clicks" else []
        findings += [Finding(step, "skipped", f"Not judged, because of the {because_of}.") for step in skipped]
    else:
        findings += [_clicks(total), _query_ids(total), _positions(traffic), _conversion(total)]
    return [*findings, _days(traffic)]


def _at(name: str) -> float:
    return THRESHOLDS[name].value


def _why_no_events(total: Figures) -> str | None:
    """The step whose finding makes it useless to judge events; None if there is no such step."""
    if not total.tracked:
        return "tracking"
    if total.tracked < _at("searches") or not (total.clicks or total.conversions):
        return "clicks"
    return None


def _too_few(total: Figures) -> Finding:
    if not total.searches:
        return Finding(
            "searches",
            "unknown",
            "No search was counted on these days, so there is nothing to judge.",
            "Does the application search this index itself, or a replica of it? Searches with `analytics: false` are "
            "not counted.",
        )
    return Finding(
        "searches",
        "unknown",
        f"{_count(total.searches, 'search', 'searches')} on these days: too few to judge.",
        "Ask for more days: --days 30.",
    )


def _users(traffic: Traffic) -> Finding:
    total = traffic.total
    # Algolia counts the users of a day when the day is over, so today may have searches but no users yet.
    known = [day.figures for day in traffic.days if day.figures.users]
    if not total.users or not known:
        return Finding(
            "users", "unknown", "Algolia has not counted the users yet. It takes a day.", "Ask again tomorrow."
        )
    searches, of_days = sum(day.searches for day in known), sum(day.users for day in known)
    users = min(total.users, of_days)
    a_day = searches / of_days
    said = f"{searches:,} searches came from {_count(users, 'user', 'users')}"
    if (searches >= _at("searches") and users <= _at("users")) or a_day >= _at("searches per user and day"):
        return Finding(
            "users",
            "wrong",
            f"{said}, {_number(a_day)} per user and day: either most carry no token, so that they count for the "
            "server's address, or all carry the same token.",
            "Search with a token-aware client, inside the middleware that recognises the visitor, and give the client "
            "no user_token that all visitors would share. `algolia-usertoken check` tells whether the header arrives.",
        )
    if searches >= _at("searches") and searches / users < _at("searches per user"):
        return Finding(
            "users",
            "wrong",
            f"{said}: nearly every search has a user of its own, so each request gets a new token, and the cookie is "
            "not kept.",
            "Let the middleware keep the token (set_cookie=True), do not make a new token in each request, and make "
            "sure that no cache or proxy in front of the application removes Set-Cookie or Cookie.",
        )
    return Finding("users", "ok", f"{said}, {_number(searches / users)} each.")


def _results(total: Figures) -> Finding:
    share = total.without_results / total.searches
    said = f"{total.without_results:,} of {total.searches:,} searches ({share:.1%}) found nothing"
    if share >= _at("share without results"):
        return Finding(
            "results",
            "wrong",
            f"{said}: that is most of them.",
            "Look in the dashboard at the searches without results. Common reasons are filters that no record passes, "
            "and an index that is empty or in another language.",
        )
    return Finding("results", "ok", f"{said}.")


def _tracking(total: Figures) -> Finding:
    if not total.tracked:
        return Finding(
            "tracking",
            "wrong",
            "No search was tracked: clickAnalytics is missing, so no event can be counted for a search.",
            "Search with clickAnalytics=True (with InstantSearch: insights: true), in each request of a multi-query.",
        )
    share = total.tracked / total.searches
    said = f"{total.tracked:,} of {total.searches:,} searches ({share:.1%}) were tracked"
    if share < _at("share tracked"):
        return Finding(
            "tracking",
            "wrong",
            f"{said}: most searches are made without clickAnalytics.",
            "Find the code that searches without clickAnalytics=True. If visitors never see those results, search "
            "there with `analytics: false`.",
        )
    return Finding("tracking", "ok", f"{said}.")


def _clicks(total: Figures) -> Finding:
    searches = f"{total.tracked:,} tracked searches"
    if total.tracked < _at("searches"):
        return Finding("clicks", "unknown", f"{searches}: too few to judge.", "Ask for more days: --days 30.")
    rate = total.click_rate or 0.0
    if not total.clicks and not total.conversions:
        return Finding(
            "clicks",
            "wrong",
            f"No event was counted for {searches}: events are not sent, or carry no queryID or a wrong one, or happen "
            "more than an hour after the search.",
            "Send clicks with the queryID of their search: client.events.clicked(reference), or "
            "clicked_object_ids_after_search. `algolia-usertoken check` tells whether Algolia accepts an event.",
        )
    if not total.clicks:
        return Finding(
            "clicks",
            "wrong",
            f"{_count(total.conversions, 'conversion', 'conversions')} but no clicks were counted for {searches}: "
            "clicks are not sent, or carry no queryID.",
            "Send a click with the queryID and the position when a visitor opens a hit: client.events.clicked("
            "reference), or clicked_object_ids_after_search.",
        )
    said = f"{_count(total.clicks, 'click', 'clicks')} for {searches}; {rate:.1%} of these were clicked"
    if rate < _at("click rate"):
        return Finding(
            "clicks",
            "wrong",
            f"{said}: hardly any click is counted, so most clicks are not sent, or lose their queryID.",
            "Look for pages of hits whose links send no click, and for ad blockers: an EventsRelay takes the events of "
            "the page through your own server.",
        )
    return Finding("clicks", "ok", f"{said}.")


def _query_ids(total: Figures) -> Finding:
    """Judge whether many searches share one query ID: that of a cached page or of a session, or an invented one."""
    many = [
        _count(number, one, f"{one}s")
        for number, rate, one in (
            (total.clicks, total.click_rate, "click"),
            (total.conversions, total.conversion_rate, "conversion"),
        )
        if max(number / total.tracked, rate or 0.0) > _at("events per tracked search")
    ]
    if many:
        return Finding(
            "query ids",
            "wrong",
            f"{' and '.join(many)} for only {total.tracked:,} tracked searches: so positions or query IDs are "
            "invented, or many searches share one queryID.",
            "Take queryID and position from the answer to the visitor's own search, as client.events.references("
            "results) does. Do not keep an answer with its queryID in a cache that visitors share.",
        )
    return Finding("query ids", "ok", "There are fewer clicks and conversions than tracked searches.")


def _positions(traffic: Traffic) -> Finding:
    clicks = sum(position.clicks for position in traffic.positions)
    if clicks < _at("clicks at one position"):
        return Finding("positions", "skipped", f"Not judged: {_count(clicks, 'click', 'clicks')} with a position.")
    used = [position for position in traffic.positions if position.clicks]
    if len(used) == 1:
        (only,) = used
        where = f"the position {only.first}" if only.first == only.last else f"positions from {only.first} on"
        return Finding(
            "positions",
            "wrong",
            f"All {clicks:,} clicks are at {where}: so positions are invented.",
            "Send the position of the hit in the results of all pages, from 1: client.events.references(results) "
            "counts it.",
        )
    return Finding("positions", "ok", f"{clicks:,} clicks are at different positions.")


def _conversion(total: Figures) -> Finding:
    if not total.conversions:
        if total.clicks < _at("clicks without conversion"):
            said = f"No conversion yet, after {_count(total.clicks, 'click', 'clicks')}: too few to judge."
            return Finding("conversion", "skipped", said)
        return Finding(
            "conversion",
            "wrong",
            f"{total.clicks:,} clicks but no conversions: purchases carry no queryID, or are not sent, or come more "
            "than an hour after the search.",
            "Keep the reference of the hit for the cart and the order, as a QueryMemory in the session does, and send "
            "it with client.events.purchased(*references). If a click is the goal of your site, all is well.",
        )
    said = f"{_count(total.conversions, 'conversion', 'conversions')} for {total.tracked:,} tracked searches"
    if total.added_to_cart >= _at("carts without purchase") and not total.purchases:
        return Finding(
            "conversion",
            "wrong",
            f"{said}: {total.added_to_cart:,} times something was put into a cart, but nothing was bought: purchases "
            "carry no queryID, or are not sent, or come more than an hour after the search.",
            "Keep the references of a cart until the order, as a QueryMemory in the session does, and send them with "
            "client.events.purchased(*references).",
        )
    return Finding("conversion", "ok", f"{said}, {total.conversion_rate or 0.0:.1%} of these.")


_OF_A_DAY: Mapping[str, Callable[[Figures], int]] = {
    "searches": lambda figures: figures.searches,
    "tracked searches": lambda figures: figures.tracked,
    "clicks": lambda figures: figures.clicks,
    "conversions": lambda figures: figures.conversions,
}


def _days(traffic: Traffic) -> Finding:
    over = [day for day in traffic.days if day.is_over]
    stopped = list(_stopped(over))
    if stopped:
        return Finding(
            "days",
            "wrong",
            "; ".join(stopped) + ".",
            "Find out what was changed or did not run on that day: a release, a key that expired, a worker that "
            "delivers events. If the site was closed, all is well.",
        )
    if sum(bool(day.figures.searches) for day in over) < _DAYS_TO_COMPARE:
        return Finding("days", "skipped", "Not judged: too few of the days that are over have searches.")
    return Finding("days", "ok", "Nothing stopped on any of the days that are over.")


def _stopped(days: Sequence[Day]) -> Iterator[str]:
    """Say which figures were 0 on a day but not on a usual day. Days before the first non-zero figure do not count."""
    reported: set[str] = set()
    for name, number_of in _OF_A_DAY.items():
        numbers = [number_of(day.figures) for day in days]
        begun = next((at for at, number in enumerate(numbers) if number), len(numbers))
        later = numbers[begun:]
        usual = statistics.median(number for number in later if number) if later else 0
        empty = [day.date for day, number in zip(days[begun:], later, strict=True) if not number]
        empty = [date for date in empty if date not in reported]  # a day without searches has no clicks either
        reported.update(empty)
        if empty and usual >= _at("a usual day"):
            more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
            yield f"No {name} on {empty[0]}{more}, and {_number(usual)} on a usual day"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:,.1f}"
