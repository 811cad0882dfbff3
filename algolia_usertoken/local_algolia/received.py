"""The requests, searches and events that arrived, and their users.

All entries are frozen, and every returned list is a snapshot that the caller may keep.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Generic, Literal, TypeVar

from . import insights_rules

Operation = Literal["search", "browse", "facets", "recommend"]
# How many erased user tokens are remembered, for readers that have not yet read everything before the erasure.
_MAX_ERASED = 10_000

_E = TypeVar("_E")


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One HTTP request, whatever its answer.

    `path` is as it was sent, without the query string. `body` is the decompressed body. `status` is that of the answer,
    or None if a fault left the client without an answer. `received_at` is in seconds since the epoch.
    """

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes
    status: int | None
    client_ip: str
    received_at: float

    @property
    def _size(self) -> int:
        """About how many bytes came over the wire."""
        in_headers = sum(len(name) + len(value) for name, value in self.headers.items())
        return len(self.body) + len(self.path) + len(self.query_string) + in_headers


@dataclass(frozen=True, slots=True)
class ReceivedSearch:
    """One query: a search, one of a multi-query, a browse page, a facet search, or one recommendation (`operation`).

    `params` are its parameters; a `params` string is parsed. `user_token` is the token in effect: the parameter, else
    the header, else the one in the secured API key, else None. An empty token counts as none; an invalid one is kept as
    it is, because Algolia accepts any token on a search. `user` is the user that analytics would count: the token, else
    the first address of X-Forwarded-For, else the address of the client
    (https://www.algolia.com/doc/guides/sending-events/concepts/usertoken). `query_id` is the one in the answer, or None
    without `clickAnalytics`. `received_at` is in seconds since the epoch. `nb_hits` is how many records were found; it
    is None for facet values, and for a search that was refused.
    """

    operation: Operation
    index: str
    query: str
    params: Mapping[str, Any]
    user_token_header: str | None
    user_token_parameter: str | None
    user_token_in_key: str | None
    forwarded_for: str | None
    client_ip: str
    cookie: str | None
    user_token: str | None
    user: str
    query_id: str | None
    status: int
    method: str
    path: str
    received_at: float
    nb_hits: int | None = None


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One event of an accepted batch. `event` is the whole event, as it was sent.

    `query_ids` are its `queryID` and those in its `objectData`, each once. `received_at` is in seconds since the epoch.
    """

    event: Mapping[str, Any]
    index: str
    event_name: str
    event_type: str
    subtype: str | None
    user_token: str
    authenticated_user_token: str | None
    query_ids: tuple[str, ...]
    received_at: float

    @classmethod
    def of(cls, event: Mapping[str, Any], received_at: float) -> ReceivedEvent:
        """The entry for an event as it was sent; `received_at` in seconds since the epoch."""
        fields = insights_rules.fields_of(event)
        subtype = fields.get("eventSubtype")
        return cls(
            event=event,
            index=fields.get("index", ""),
            event_name=fields["eventName"],
            event_type=fields["eventType"],
            subtype=subtype if isinstance(subtype, str) else None,  # a click may have any value here
            user_token=fields["userToken"],
            authenticated_user_token=fields.get("authenticatedUserToken"),
            query_ids=tuple(dict.fromkeys(insights_rules.query_ids_of(event))),
            received_at=received_at,
        )


@dataclass(frozen=True, slots=True)
class UserSummary:
    """What arrived from one user: the numbers of searches and events, and the logins, in order of appearance."""

    searches: int
    events: int
    authenticated_user_tokens: tuple[str, ...]


class QueryIDs:
    """Makes query ids, 32 hexadecimal digits, and recognises them later by their second half, without storing them."""

    def __init__(self) -> None:
        self._ours = secrets.token_hex(8)

    def new(self) -> str:
        """An id that was never given."""
        return secrets.token_hex(8) + self._ours

    def gave(self, query_id: str) -> bool:
        """Whether an id was made here."""
        return len(query_id) == 32 and query_id.endswith(self._ours)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request, and the searches and events that came with it and are still kept. `number` counts requests."""

    number: int
    request: ReceivedRequest
    searches: list[ReceivedSearch]
    events: list[ReceivedEvent]


class _Newest(Generic[_E]):
    """The newest entries, each with the number of its request. Their number and their bytes in total are limited."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._kept: deque[tuple[int, int, _E]] = deque()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0

    def add(self, number: int, size: int, entry: _E) -> None:
        self._kept.append((number, size, entry))
        self._bytes += size
        while len(self._kept) > self._max_entries or (self._bytes > self._max_bytes and len(self._kept) > 1):
            self._bytes -= self._kept.popleft()[1]

    def keep(self, wanted: Callable[[_E], bool]) -> None:
        self._kept = deque(kept for kept in self._kept if wanted(kept[2]))
        self._bytes = sum(size for _, size, _ in self._kept)

    def after(self, number: int) -> list[tuple[int, _E]]:
        """The entries of the requests after the one of that number, each with the number of its request."""
        newest_first = takewhile(lambda kept: kept[0] > number, reversed(self._kept))
        return [(its_number, entry) for its_number, _, entry in newest_first][::-1]

    def all(self) -> list[_E]:
        return [entry for _, _, entry in self._kept]


class Received:
    """Keeps what arrived, in the order of arrival, and forgets the oldest first. Any thread may call any method.

    Args:
        max_entries: How many requests, how many searches and how many events are kept.
        max_bytes: How many bytes the entries of each kind may have together, as received over the network.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.query_ids = QueryIDs()
        self._lock = threading.Lock()
        self._requests: _Newest[ReceivedRequest] = _Newest(max_entries, max_bytes)
        self._searches: _Newest[ReceivedSearch] = _Newest(max_entries, max_bytes)
        self._events: _Newest[ReceivedEvent] = _Newest(max_entries, max_bytes)
        self._arrived = 0
        self._erased: dict[str, int] = {}

    def add(
        self,
        request: ReceivedRequest,
        searches: Sequence[ReceivedSearch] = (),
        events: Sequence[ReceivedEvent] = (),
    ) -> None:
        """Add a request with its searches and events in one step: any reader sees all of them, or none."""
        size = request._size
        share = size // (len(searches) or len(events) or 1)
        with self._lock:
            self._arrived += 1
            self._requests.add(self._arrived, size, request)
            for search in searches:
                self._searches.add(self._arrived, share, search)
            for event in events:
                self._events.add(self._arrived, share, event)

    def forget_user(self, user_token: str) -> None:
        """Erase the events of a user token, as `DELETE /1/usertokens/{userToken}` does."""
        with self._lock:
            self._events.keep(lambda event: event.user_token != user_token)
            self._erased.pop(user_token, None)
            self._erased[user_token] = self._arrived
            if len(self._erased) > _MAX_ERASED:
                del self._erased[next(iter(self._erased))]

    def erased_since(self, number: int) -> list[tuple[int, str]]:
        """The user tokens erased after the request of that number, each with the number of the last request before."""
        with self._lock:
            return [(at, token) for token, at in self._erased.items() if at > number]

    def arrived(self) -> int:
        """The number of the newest request, which is how many requests have ever arrived."""
        with self._lock:
            return self._arrived

    def since(self, number: int, limit: int) -> list[Arrival]:
        """The requests after the one of that number that are still kept, with their searches and events, oldest first.

        Returns at most `limit` requests, and stops early once their searches and events number `limit` or more.
        """
        with self._lock:
            found = {at: Arrival(at, request, [], []) for at, request in self._requests.after(number)[:limit]}
            for at, search in self._searches.after(number):
                if at in found:
                    found[at].searches.append(search)
            for at, event in self._events.after(number):
                if at in found:
                    found[at].events.append(event)
        arrivals = []
        for arrival in found.values():
            arrivals.append(arrival)
            limit -= len(arrival.searches) + len(arrival.events)
            if limit <= 0:
                break
        return arrivals

    def clear(self) -> None:
        """Forget what arrived, but keep the number of requests."""
        with self._lock:
            for kept in (self._requests, self._searches, self._events):
                kept.keep(lambda _: False)
            self._erased.clear()

    def requests(self) -> list[ReceivedRequest]:
        with self._lock:
            return self._requests.all()

    def searches(self) -> list[ReceivedSearch]:
        with self._lock:
            return self._searches.all()

    def events(self) -> list[ReceivedEvent]:
        with self._lock:
            return self._events.all()

    def both(self) -> tuple[list[ReceivedSearch], list[ReceivedEvent]]:
        """The searches and the events at the same moment."""
        with self._lock:
            return self._searches.all(), self._events.all()

    def identities(self) -> dict[str, UserSummary]:
        """What each user did, by user token or address, in order of appearance."""
        searches, events = self.both()
        found: dict[str, tuple[list[int], dict[str, None]]] = {}
        for search in searches:
            found.setdefault(search.user, ([0, 0], {}))[0][0] += 1
        for event in events:
            numbers, logins = found.setdefault(event.user_token, ([0, 0], {}))
            numbers[1] += 1
            if event.authenticated_user_token is not None:
                logins[event.authenticated_user_token] = None
        return {user: UserSummary(numbers[0], numbers[1], tuple(logins)) for user, (numbers, logins) in found.items()}
