"""What is legitimate, and worth knowing all the same. No assertion looks at it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http.cookies import CookieError, SimpleCookie
from typing import Any, Literal

from .received import ReceivedEvent, ReceivedSearch

HintKind = Literal["ab_test_without_user", "purchase_without_search", "token_from_many_addresses"]

COOKIE = "_ALGOLIA"
MANY_ADDRESSES = 3


@dataclass(frozen=True, slots=True)
class Hint:
    """
    Something that is no mistake by itself, and is told once however often it is seen (`times`).

    `search` or `event` is the first that it was seen in. `kind` is one of

    - `ab_test_without_user`: searches that carry neither a token nor a visitor's address take part in A/B tests, where
      they all count as one user;
    - `purchase_without_search`: a purchase names no search, so that no search gets the credit;
    - `token_from_many_addresses`: one token was seen with three addresses or more, and no cookie says that it is one
      visitor.
    """

    kind: HintKind
    explanation: str
    search: ReceivedSearch | None
    event: ReceivedEvent | None
    times: int = 1


def hints_of(searches: Iterable[ReceivedSearch], events: Iterable[ReceivedEvent]) -> list[Hint]:
    """All hints, those about searches first, each once."""
    seen: dict[str, Hint] = {}
    by_token: dict[str, tuple[ReceivedSearch, dict[str, int], set[str | None]]] = {}
    for search in searches:
        _count(seen, hint_of_search(search))
        if search.user_token is not None:
            _, addresses, cookies = by_token.setdefault(search.user_token, (search, {}, set()))
            address = first_address(search.forwarded_for) or search.client_ip
            addresses[address] = addresses.get(address, 0) + 1
            cookies.add(visitor_cookie(search.cookie))
    for token, (search, addresses, cookies) in by_token.items():
        one_visitor = len(cookies) == 1 and None not in cookies
        if len(addresses) >= MANY_ADDRESSES and not one_visitor:
            hint = Hint("token_from_many_addresses", explain_addresses(token, len(addresses)), search, None)
            seen[hint.explanation] = replace(hint, times=sum(addresses.values()))
    for event in events:
        _count(seen, hint_of_event(event))
    return list(seen.values())


def hint_of_search(search: ReceivedSearch) -> Hint | None:
    """That a search which nobody is named in takes part in A/B tests."""
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
    """That a purchase names no search."""
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


def explain_addresses(token: str, count: int) -> str:
    """In words, that one token was seen with so many addresses."""
    return (
        f"the user token {token[:60]!r} was seen with {count} addresses. One visitor may move, and an account may be "
        "used on several devices; but if these are different visitors, Algolia takes them for one: look for a token "
        "that is kept in a global, a default or a cache"
    )


def visitor_cookie(header: str | None) -> str | None:
    """The visitor's token as search-insights keeps it, out of a Cookie header."""
    if header is None or COOKIE not in header:
        return None
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:  # pragma: no cover - of some versions of Python, for what others ignore
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
