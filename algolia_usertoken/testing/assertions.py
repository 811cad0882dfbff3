"""Assertions that requests and events agree about who the user is. A failure says what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .seen import Seen, seen_in, settle

_ROWS_PER_USER = 5
_USERS = 10
_WIDTH = 60


def assert_same_identity(
    *sources: Any, token: str | None = None, searches: int | None = None, events: int | None = None
) -> None:
    """Fail unless every search and every event in the sources carries one and the same user token.

    A search without a token is a disagreement, because Algolia counts it for the server's IP address. Two tokens in one
    search and events under two logins are disagreements too. Other requests count if they carry a token. The function
    waits up to two seconds for events that are still queued.

    Args:
        sources: Where to look: the router of `algolia_mock`, a route or a call of respx, an `httpx.Request`; a
            LocalAlgolia, or requests, searches or events that it received; a `MemoryDelivery`; an event; an iterable of
            any of those.
        token: The user token that they must carry. By default, any one that they agree about.
        searches: How many searches there must be. By default, any number. Each query of a multi-query counts as one.
            Exports and requests without a successful answer do not count.
        events: How many events there must be. By default, any number.

    Raises:
        AssertionError: They disagree, no user is named, the sources are empty, or the number of searches or events is
            another one.
        TypeError: A source is none of those, `token` is not a string, or `searches` or `events` is not a number.

    https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
    """
    __tracebackhide__ = True
    if token is not None and not (isinstance(token, str) and token):
        raise TypeError(f"token must be a string that is not empty, or None, not {token!r}")
    for name, wanted in (("searches", searches), ("events", events)):
        if wanted is not None and (isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0):
            raise TypeError(f"{name} must be an integer of at least 0, or None, not {wanted!r}")
    settle()
    seen = list(seen_in(sources))
    if not seen:
        raise AssertionError(_NOTHING_SEEN)
    users = {one.user_token for one in seen}
    logins = {one.authenticated_user_token for one in seen} - {None}
    if users == {None}:
        raise AssertionError(_failure("no request says who the user is:", seen, _advice(users)))
    if len(users) > 1:
        raise AssertionError(_failure("requests disagree about who the user is:", seen, _advice(users)))
    if token is not None and users != {token}:
        raise AssertionError(_failure(f"the user is not {_shown(token)}:", seen, _WRONG_USER))
    if len(logins) > 1:
        logged_in = [
            one._replace(user_token=one.authenticated_user_token, where=one.where.replace("userToken", _LOGIN))
            for one in seen
            if one.authenticated_user_token is not None
        ]
        raise AssertionError(_failure("events disagree about who is logged in:", logged_in, _TWO_LOGINS))
    for name, wanted, number in (
        ("search", searches, sum(one.searches for one in seen)),
        ("event", events, sum(one.events for one in seen)),
    ):
        if wanted is not None and number != wanted:
            raise AssertionError(_failure(f"not {_count(wanted, name)}, but {number}:", seen, _WRONG_NUMBER))


def assert_anonymous(*sources: Any) -> None:
    """Fail if a request or an event in the sources names a user, by a user token or a login, in any place.

    Use it for visitors who opted out, and for searches as `Identity()`. An `anonymous-…` token of a visitor is a token
    too. The function waits up to two seconds for events that are still queued.

    Args:
        sources: Where to look, as in `assert_same_identity`.

    Raises:
        AssertionError: A user is named, or the sources are empty.
        TypeError: A source is none of those.
    """
    __tracebackhide__ = True
    settle()
    seen = list(seen_in(sources))
    if not seen:
        raise AssertionError(_NOTHING_SEEN)
    named = [one for one in seen if one.user_token is not None or one.authenticated_user_token is not None]
    if named:
        raise AssertionError(_failure("requests name a user, and should name nobody:", named, _NOT_ANONYMOUS))


_WRONG_NUMBER = """\
An event is missing here if the sender refused it, or if the code did not
send it. The log names refused events; EventSender(strict=True) raises them."""
_LOGIN = "authenticatedUserToken"
_NOTHING_SEEN = """\
there was no search and no event to look at.

Was the code under test called? respx forgets its calls when a mock ends,
so use the assertion before that."""
_WRONG_USER = """\
current_identity() tells whose request it is at that point. The first of
these that names a user wins: the call itself, a bound client, the context,
resolve(), the default."""
_TWO_LOGINS = """\
A login is in force until set_authenticated_user_token(None), or the end
of its scope: give each request a scope of its own."""
_NOT_ANONYMOUS = """\
A visitor who opted out is Identity(opted_out=True), and a search for
nobody is made as Identity(). A token from elsewhere stands in the call
itself, in config.headers, or in the client's user_token=."""


def _count(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {'searches' if name == 'search' else 'events'}"


def _advice(users: set[str | None]) -> str:
    advice = []
    if None in users:
        advice.append(
            "A search without a token counts as the server's IP address. Make it\n"
            "inside identity_scope(…) or behind the middleware; threads and executors\n"
            "need bind()."
        )
    if len(users - {None}) > 1:
        advice.append(
            "One user has one token, on searches and events alike. Look for a token\n"
            "that is kept in a global, a cache or a default, and for set_user_token()\n"
            "without a scope around it."
        )
    return "\n".join(advice)


def _failure(title: str, seen: list[Seen], advice: str) -> str:
    return "\n".join([title, *_table(seen), "", advice])


def _table(seen: list[Seen]) -> Iterator[str]:
    """A line for each place that names a user, for the first few places of each user."""
    by_user: dict[str | None, int] = {}
    rows, left_out = [], 0
    for one in seen:
        count = by_user[one.user_token] = by_user.get(one.user_token, 0) + 1
        if count > _ROWS_PER_USER or len(by_user) > _USERS:
            left_out += 1
        else:
            name = "-" if one.user_token is None else _shown(one.user_token)
            rows.append((name, str(one.method), _shown(one.path), f"({one.where})"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "   ".join(_padded(row, widths))
    if left_out:
        who = f", of {len(by_user)} users" if len(by_user) > _USERS else ""
        yield f"  … and {left_out} more like these{who}"


def _padded(row: Iterable[str], widths: list[int]) -> list[str]:
    name, method, path, where = row
    return [name.ljust(widths[0]), f"{method.ljust(widths[1])}  {path.ljust(widths[2])}", where]


def _shown(text: Any) -> str:
    """Any value as text on one line that is not too long."""
    text = text if isinstance(text, str) else repr(text)
    text = text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode()
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
