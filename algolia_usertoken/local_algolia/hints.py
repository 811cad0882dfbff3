"""Hints: things that are allowed, but that may point to a mistake. No assertion checks them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http.cookies import CookieError, SimpleCookie
from typing import Any, Literal

from .mismatches import shown
from .received import ReceivedEvent, ReceivedSearch

HintKind = Literal["ab_test_without_user", "purchase_without_search", "token_from_many_addresses"]

COOKIE = "_ALGOLIA"
MANY_VISITORS = 3
# How much of an address or a cookie is kept to tell visitors apart, in characters.
_LONGEST = 100


@dataclass(frozen=True, slots=True)
class Hint:
    """Something that is not a mistake by itself. It is listed once; `times` says how often it was seen.

    `search` or `event` is the first one in which it was seen. `kind` is one of

    - `ab_test_without_user`: searches that carry neither a token nor a visitor's address take part in A/B tests, where
      they all count as one user;
    - `purchase_without_search`: a purchase names no search, so that it is attributed to no search;
    - `token_from_many_addresses`: searches with one token came from at least three addresses, and no cookie shows that
      they are one visitor; or they carried the cookies of at least three visitors.
    """

    kind: HintKind
    explanation: str
    search: ReceivedSearch | None
    event: ReceivedEvent | None
    times: int = 1


def hints_of(searches: Iterable[ReceivedSearch], events: Iterable[ReceivedEvent]) -> list[Hint]:
    """All hints, each of them once, and those about searches first."""
    seen: dict[str, Hint] = {}
    by_token: dict[str, tuple[ReceivedSearch, Visitors]] = {}
    for search in searches:
        _count(seen, hint_of_search(search))
        if search.user_token is not None:
            by_token.setdefault(search.user_token, (search, Visitors()))[1].add(search)
    for token, (search, visitors) in by_token.items():
        many = visitors.many()
        if many is not None:
            hint = Hint("token_from_many_addresses", explain_many(token, many), search, None, visitors.searches)
            seen[hint.explanation] = hint
    for event in events:
        _count(seen, hint_of_event(event))
    return list(seen.values())


def hint_of_search(search: ReceivedSearch) -> Hint | None:
    """The hint that a search that names no user takes part in A/B tests."""
    if search.user_token is not None or search.forwarded_for or search.operation not in ("search", "facets"):
        return None
    if _is_off(search.params, "enableABTest") or _is_off(search.params, "analytics"):
        return None
    return Hint(
        "ab_test_without_user",
        f"searches in {search.index} that carry neither a user token nor a visitor's address take part in A/B tests, "
        f"where all of them count as one user, {search.user}. Where nobody is known, keep them out: "
        'searches_without_user="no_ab_test" of the client, or enableABTest: false in the search',
        search,
        None,
    )


def hint_of_event(event: ReceivedEvent) -> Hint | None:
    """The hint that a purchase names no search."""
    if event.subtype != "purchase" or event.query_ids:
        return None
    return Hint(
        "purchase_without_search",
        f"purchases {event.event_name!r} in {event.index} name no search, so that no search gets the credit for their "
        "revenue. That is right where none led to them; otherwise keep the queryID of each item from the click to the "
        "purchase, as HitReference does, and send it in objectData",
        None,
        event,
    )


class Visitors:
    """The visitors whose searches carried one token: their addresses, and the tokens in their cookies.

    Args:
        most: How many addresses and how many cookies are kept at most. None means all.
    """

    def __init__(self, most: int | None = None) -> None:
        self.addresses: dict[str, None] = {}
        self.cookies: dict[str, None] = {}
        self.searches = 0
        self._most = most
        self._without_cookie = False

    def add(self, search: ReceivedSearch) -> None:
        self.searches += 1
        self._keep(self.addresses, first_address(search.forwarded_for) or search.client_ip)
        cookie = visitor_cookie(search.cookie)
        if cookie is None:
            self._without_cookie = True
        else:
            self._keep(self.cookies, cookie)

    def many(self) -> str | None:
        """In words, how many visitors there seem to be; None if it may be only one."""
        if len(self.cookies) >= MANY_VISITORS:
            return f"{self._number(self.cookies)} cookies of visitors"
        is_one = len(self.cookies) == 1 and not self._without_cookie
        if len(self.addresses) >= MANY_VISITORS and not is_one:
            return f"{self._number(self.addresses)} addresses"
        return None

    def _keep(self, kept: dict[str, None], value: str) -> None:
        if self._most is None or len(kept) < self._most:
            kept[value[:_LONGEST]] = None

    def _number(self, kept: dict[str, None]) -> str:
        return f"{MANY_VISITORS} or more" if self._most is not None else str(len(kept))


def explain_many(token: str, many: str) -> str:
    """The explanation that one token came from so many visitors."""
    return (
        f"the user token {shown(token)} was seen with {many}. One visitor may move, and an account may be "
        "used on several devices; but if these are different visitors, Algolia takes them for one: look for a token "
        "that is kept in a global, a default or a cache"
    )


def visitor_cookie(header: str | None) -> str | None:
    """The visitor's token in a Cookie header, where search-insights stores it."""
    if header is None or COOKIE not in header:
        return None
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:  # pragma: no cover - some versions of Python raise it, others ignore the error
        return None
    return found.value if found is not None and found.value else None


def first_address(forwarded_for: str | None) -> str | None:
    """The visitor's own address in X-Forwarded-For."""
    return (forwarded_for or "").split(",", 1)[0].strip() or None


def _count(seen: dict[str, Hint], hint: Hint | None) -> None:
    if hint is not None:
        before = seen.get(hint.explanation)
        seen[hint.explanation] = hint if before is None else replace(before, times=before.times + 1)


def _is_off(params: Mapping[str, Any], name: str) -> bool:
    value = params.get(name)
    return value is False or (isinstance(value, str) and value.lower() == "false")
