"""What the inspector page shows: who searched and clicked, and what does not fit, kept up to date as things arrive."""

from __future__ import annotations

import pathlib
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any

from .received import Received, ReceivedEvent, ReceivedSearch, mismatch_in_event, mismatch_in_search

PAGE = pathlib.Path(__file__).with_name("inspector.html")

COOKIE = "_ALGOLIA"
MAX_USERS = 1_000
MAX_USERS_SHOWN = 100
MAX_ENTRIES_PER_USER = 30
MAX_MISMATCHES_SHOWN = 20
MAX_QUERY_IDS = 100_000
# What one look takes in at most, so that a page opened late does not hold up those who search.
MAX_ENTRIES_PER_LOOK = 5_000


@dataclass(slots=True)
class _User:
    has_token: bool
    searches: int = 0
    events: int = 0
    wrong: int = 0
    logins: dict[str, None] = field(default_factory=dict)
    visitors: dict[str, None] = field(default_factory=dict)
    entries: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_ENTRIES_PER_USER))

    @property
    def why(self) -> list[str]:
        if not self.has_token or len(self.visitors) < 2:
            return []
        seen = ", ".join(self.visitors)
        return [f"one token from several visitors ({seen}): Algolia takes them for one user"]


class Inspector:
    """Looks at what arrived since it last looked. Not thread-safe: the server's loop asks."""

    def __init__(self, received: Received) -> None:
        self._received = received
        self.forget()

    def forget(self) -> None:
        """Begin anew, with what arrives from now on."""
        self._seen = self._received.totals()
        self._users: OrderedDict[str, _User] = OrderedDict()
        self._answered: OrderedDict[str, ReceivedSearch] = OrderedDict()
        self._mismatches: deque[str] = deque(maxlen=MAX_MISMATCHES_SHOWN)
        self._searches = self._events = self._refused = self._wrong = self._user_count = 0

    def state(self) -> dict[str, Any]:
        """What the page shows, as JSON values."""
        requests, searches, events, self._seen = self._received.since(self._seen, MAX_ENTRIES_PER_LOOK)
        self._refused += sum(request.status is None or request.status >= 400 for request in requests)
        # By time, so that a search comes before the click on it.
        arrived: list[ReceivedSearch | ReceivedEvent] = [*searches, *events]
        for entry in sorted(arrived, key=lambda entry: entry.received_at):
            if isinstance(entry, ReceivedSearch):
                self._take_search(entry)
            else:
                self._take_event(entry)
        shown = list(reversed(self._users.items()))[:MAX_USERS_SHOWN]
        return {
            "searches": self._searches,
            "events": self._events,
            "refused": self._refused,
            "user_count": self._user_count,
            "mismatch_count": self._wrong + sum(len(user.why) for user in self._users.values()),
            "mismatches": list(reversed(self._mismatches)),
            "users": [
                {
                    "user": name,
                    "has_token": user.has_token,
                    "searches": user.searches,
                    "events": user.events,
                    "wrong": user.wrong,
                    "why": user.why,
                    "logins": list(user.logins),
                    "entries": list(reversed(user.entries)),
                }
                for name, user in shown
            ],
        }

    def _take_search(self, search: ReceivedSearch) -> None:
        self._searches += 1
        if search.query_id is not None:
            self._answered[search.query_id] = search
            if len(self._answered) > MAX_QUERY_IDS:
                self._answered.popitem(last=False)
        why = []
        mismatch = mismatch_in_search(search)
        if mismatch is not None:
            why.append(mismatch.explanation)
        if search.user_token is None:
            why.append(f"no user token: Algolia counts this search as the address {search.user}")
        user = self._user(search.user, search.user_token is not None)
        user.searches += 1
        cookie = _cookie(search.cookie)
        visitor = cookie or search.forwarded_for
        if visitor is not None and len(user.visitors) < 5:
            user.visitors[visitor[:60]] = None
        self._note(
            user,
            why,
            at=search.received_at,
            what=f"{search.operation} “{search.query}” in {search.index}"
            + ("" if search.status == 200 else f" → {search.status}"),
            header=search.user_token_header,
            parameter=search.user_token_parameter,
            cookie=cookie,
            address=search.forwarded_for or search.client_ip,
            login=None,
        )

    def _take_event(self, event: ReceivedEvent) -> None:
        self._events += 1
        found = (
            mismatch_in_event(event, query_id, self._answered.get(query_id), self._received.query_ids)
            for query_id in event.query_ids
        )
        user = self._user(event.user_token, True)
        user.events += 1
        if event.authenticated_user_token is not None and len(user.logins) < 5:
            user.logins[event.authenticated_user_token] = None
        self._note(
            user,
            [mismatch.explanation for mismatch in found if mismatch is not None],
            at=event.received_at,
            what=f"{event.subtype or event.event_type} “{event.event_name}” in {event.index}",
            header=None,
            parameter=event.user_token,
            cookie=None,
            address=None,
            login=event.authenticated_user_token,
        )

    def _user(self, name: str, has_token: bool) -> _User:
        user = self._users.get(name)
        if user is None:
            user = self._users[name] = _User(has_token)
            self._user_count += 1
            if len(self._users) > MAX_USERS:
                self._users.popitem(last=False)
        self._users.move_to_end(name)
        return user

    def _note(self, user: _User, why: list[str], **entry: Any) -> None:
        self._wrong += len(why)
        user.wrong += len(why)
        self._mismatches += why
        user.entries.append({**{name: _short(value) for name, value in entry.items()}, "why": why})


def _cookie(header: str | None) -> str | None:
    """The visitor's token as search-insights keeps it, out of a Cookie header."""
    try:
        found = SimpleCookie(header or "").get(COOKIE)
    except CookieError:
        return None
    return found.value if found is not None else None


def _short(value: Any) -> Any:
    return f"{value[:199]}…" if isinstance(value, str) and len(value) > 200 else value
