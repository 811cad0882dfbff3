"""
What arrived, whose it was, and which events do not fit the searches they name.

All entries are frozen, and every list handed out is a snapshot that the caller may keep.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Generic, Literal, TypeVar

from . import insights_rules

Operation = Literal["search", "browse", "facets", "recommend"]
MismatchKind = Literal[
    "search_tokens_differ", "event_token_differs", "search_without_token", "unknown_query_id", "event_too_late"
]
# How long after its search a click or a conversion still counts in Algolia's click analytics, in seconds.
_COUNTED_FOR = 3600

_E = TypeVar("_E")


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """
    One HTTP request, whatever its answer.

    `path` is as it was sent, without the query string. `body` is what arrived after decompression. `status` is that
    of the answer, or None where a fault left the client without one. `received_at` is in seconds since the epoch.
    """

    method: str
    path: str
    query_string: str
    headers: Mapping[str, str]
    body: bytes
    status: int | None
    client_ip: str
    received_at: float


@dataclass(frozen=True, slots=True)
class ReceivedSearch:
    """
    One query: a search, one of a multi-query, a browse page, a facet search, or one recommendation (`operation`).

    `params` are its parameters, a `params` string taken apart. `user_token` is the one in effect: the parameter, else
    the header, else the one in the secured API key, else None; an empty one counts as none, and an invalid one as it
    is, for Algolia refuses none of a search. `user` is whom analytics would count: the token, else the first address
    of X-Forwarded-For, else the peer's (https://www.algolia.com/doc/guides/sending-events/concepts/usertoken).
    `query_id` is the one answered with, or None without `clickAnalytics`. `received_at` is in seconds since the epoch.
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


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """
    One event of an accepted batch. `event` is the whole of it, as it was sent.

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
            subtype=subtype if isinstance(subtype, str) else None,  # on a click it may be anything
            user_token=fields["userToken"],
            authenticated_user_token=fields.get("authenticatedUserToken"),
            query_ids=tuple(dict.fromkeys(insights_rules.query_ids_of(event))),
            received_at=received_at,
        )

    @property
    def _happened_at(self) -> float:
        """In seconds since the epoch: the time that the event gives, else when it was received."""
        timestamp = insights_rules.fields_of(self.event).get("timestamp")
        return self.received_at if timestamp is None else timestamp / 1000


@dataclass(frozen=True, slots=True)
class UserSummary:
    """How much of what arrived was one user's: numbers of searches and events, and the logins seen, in order."""

    searches: int
    events: int
    authenticated_user_tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """
    A disagreement between searches and events: about who the user is, or about the time.

    `kind` is one of

    - `search_tokens_differ`: header, parameter and secured key of one search do not carry the same token;
    - `event_token_differs`: an event names a search that had another token, to which Algolia attributes it
      (https://support.algolia.com/hc/en-us/articles/9671338778385);
    - `search_without_token`: an event names a search that had no token;
    - `unknown_query_id`: an event names a search that this server never answered;
    - `event_too_late`: a click or a conversion happened more than one hour after the search that it names, so that
      Algolia's click analytics does not count it for that search.
    """

    kind: MismatchKind
    explanation: str
    search: ReceivedSearch | None
    event: ReceivedEvent | None


class QueryIDs:
    """
    Query ids, 32 hexadecimal digits, that can be recognised later without being kept.

    The first half is a number, the second a keyed digest of it.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(16)
        self._numbers = count(secrets.randbits(63))

    def new(self) -> str:
        number = next(self._numbers).to_bytes(8, "big")
        return number.hex() + self._digest(number)

    def gave(self, query_id: str) -> bool:
        try:
            number = bytes.fromhex(query_id[:16])
        except ValueError:
            return False
        return len(query_id) == 32 and self._digest(number) == query_id[16:]

    def _digest(self, number: bytes) -> str:
        return hashlib.blake2b(number, digest_size=8, key=self._key).hexdigest()


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request, and the searches and events that came with it and are still kept. `number` counts requests."""

    number: int
    request: ReceivedRequest
    searches: list[ReceivedSearch]
    events: list[ReceivedEvent]


class _Newest(Generic[_E]):
    """
    The newest entries: at most so many, and at most so many bytes of request bodies behind them.

    Each is kept with the number of the request that brought it.
    """

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._entries: deque[tuple[_E, int, int]] = deque()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0

    def add(self, entry: _E, size: int, number: int) -> None:
        self._entries.append((entry, size, number))
        self._bytes += size
        while len(self._entries) > self._max_entries or (self._bytes > self._max_bytes and len(self._entries) > 1):
            self._bytes -= self._entries.popleft()[1]

    def keep(self, wanted: Callable[[_E], bool]) -> None:
        self._entries = deque(kept for kept in self._entries if wanted(kept[0]))
        self._bytes = sum(size for _, size, _ in self._entries)

    def after(self, number: int, last: int | None = None) -> Iterator[tuple[_E, int]]:
        """The entries that requests after `number` brought, up to `last`, each with the number of its own."""
        start = bisect_right(self._entries, number, key=lambda kept: kept[2])
        for entry, _, its_number in islice(self._entries, start, None):
            if last is not None and its_number > last:
                return
            yield entry, its_number

    def all(self) -> list[_E]:
        return [entry for entry, _, _ in self._entries]


class Received:
    """Keeps what arrived, in the order of arrival, and forgets the oldest first. Any thread may call any method."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.query_ids = QueryIDs()
        self._lock = threading.Lock()
        self._requests: _Newest[ReceivedRequest] = _Newest(max_entries, max_bytes)
        self._searches: _Newest[ReceivedSearch] = _Newest(max_entries, max_bytes)
        self._events: _Newest[ReceivedEvent] = _Newest(max_entries, max_bytes)
        self._arrived = 0

    def add(
        self,
        request: ReceivedRequest,
        searches: Sequence[ReceivedSearch] = (),
        events: Sequence[ReceivedEvent] = (),
    ) -> None:
        """A request, with what it asked or reported, at once: whoever sees one of them sees them all."""
        size = len(request.body)
        share = size // (len(searches) or len(events) or 1)
        with self._lock:
            self._arrived += 1
            self._requests.add(request, size, self._arrived)
            for search in searches:
                self._searches.add(search, share, self._arrived)
            for event in events:
                self._events.add(event, share, self._arrived)

    def forget_user(self, user_token: str) -> None:
        """Erase the events of a user token, as `DELETE /1/usertokens/{userToken}` does."""
        with self._lock:
            self._events.keep(lambda event: event.user_token != user_token)

    def arrived(self) -> int:
        """The number of the newest request: how many ever arrived."""
        with self._lock:
            return self._arrived

    def since(self, number: int, limit: int) -> list[Arrival]:
        """
        What came after the request of that number, in order, the oldest of what is still kept first.

        At most so many requests, and no more of them once they brought so many searches and events.
        """
        with self._lock:
            found = {
                its_number: Arrival(its_number, request, [], [])
                for request, its_number in islice(self._requests.after(number), limit)
            }
            last = max(found, default=number)
            for search, its_number in self._searches.after(number, last):
                if its_number in found:  # pragma: no branch - its request may be forgotten before it is
                    found[its_number].searches.append(search)
            for event, its_number in self._events.after(number, last):
                if its_number in found:  # pragma: no branch - as above
                    found[its_number].events.append(event)
        arrivals = []
        for arrival in found.values():
            arrivals.append(arrival)
            limit -= len(arrival.searches) + len(arrival.events)
            if limit <= 0:
                break
        return arrivals

    def clear(self) -> None:
        with self._lock:
            for kept in (self._requests, self._searches, self._events):
                kept.keep(lambda _: False)

    def requests(self) -> list[ReceivedRequest]:
        with self._lock:
            return self._requests.all()

    def searches(self) -> list[ReceivedSearch]:
        with self._lock:
            return self._searches.all()

    def events(self) -> list[ReceivedEvent]:
        with self._lock:
            return self._events.all()

    def identities(self) -> dict[str, UserSummary]:
        searches, events = self._both()
        found: dict[str, tuple[list[int], dict[str, None]]] = {}
        for search in searches:
            found.setdefault(search.user, ([0, 0], {}))[0][0] += 1
        for event in events:
            numbers, logins = found.setdefault(event.user_token, ([0, 0], {}))
            numbers[1] += 1
            if event.authenticated_user_token is not None:
                logins[event.authenticated_user_token] = None
        return {user: UserSummary(numbers[0], numbers[1], tuple(logins)) for user, (numbers, logins) in found.items()}

    def mismatches(self) -> list[Mismatch]:
        searches, events = self._both()
        answered = {search.query_id: search for search in searches if search.query_id is not None}
        found = [mismatch for search in searches if (mismatch := mismatch_in_search(search)) is not None]
        for event in events:
            for query_id in event.query_ids:
                found += mismatches_in_event(event, query_id, answered.get(query_id), self.query_ids)
        return found

    def _both(self) -> tuple[list[ReceivedSearch], list[ReceivedEvent]]:
        with self._lock:
            return self._searches.all(), self._events.all()


def mismatches_in_event(
    event: ReceivedEvent, query_id: str, search: ReceivedSearch | None, query_ids: QueryIDs
) -> list[Mismatch]:
    """What does not fit between an event and the search with the queryID that it names, None being none known."""
    found = (_wrong_user(event, query_id, search, query_ids), _too_late(event, search))
    return [mismatch for mismatch in found if mismatch is not None]


def _too_late(event: ReceivedEvent, search: ReceivedSearch | None) -> Mismatch | None:
    """An event's own time counts, not that of its delivery, and views are not counted for a search at all."""
    if search is None or event.event_type == "view" or event._happened_at - search.received_at <= _COUNTED_FOR:
        return None
    return Mismatch(
        "event_too_late",
        f"the event {event.event_name!r} of user token {_shown(event.user_token)} happened more than one hour "
        f"after its search for {_shown(search.query)} in {search.index}; Algolia accepts it, but its click analytics "
        "does not count it for that search. The timestamp must be the time at which the visitor acted, not the time "
        "of sending; for a visitor who comes back later, search again and use the new queryID, or send "
        "the event without a queryID",
        search,
        event,
    )


def _wrong_user(
    event: ReceivedEvent, query_id: str, search: ReceivedSearch | None, query_ids: QueryIDs
) -> Mismatch | None:
    about = f"the event {event.event_name!r} of user token {_shown(event.user_token)}"
    if search is None:
        # Of an answer since forgotten nothing can be said, nor of the id of an agent's message.
        if query_id.startswith("message_") or query_ids.gave(query_id):
            return None
        return Mismatch(
            "unknown_query_id",
            f"{about} names the queryID {query_id}, which no search on this server was answered with",
            None,
            event,
        )
    if search.user_token is None:
        return Mismatch(
            "search_without_token",
            f"{about} names a search for {_shown(search.query)} in {search.index} that carried no user token; "
            f"Algolia counts that search, and with it this event, as the user {_shown(search.user)}",
            search,
            event,
        )
    if search.user_token != event.user_token:
        return Mismatch(
            "event_token_differs",
            f"{about} names a search for {_shown(search.query)} in {search.index} by user token "
            f"{_shown(search.user_token)}; Algolia attributes the event to that one",
            search,
            event,
        )
    return None


def mismatch_in_search(search: ReceivedSearch) -> Mismatch | None:
    """Where one search names several users."""
    tokens = {
        "the header X-Algolia-UserToken": search.user_token_header,
        "the parameter userToken": search.user_token_parameter,
        "the secured API key": search.user_token_in_key,
    }
    said = {place: token for place, token in tokens.items() if token}
    if len(set(said.values())) < 2:
        return None
    return Mismatch(
        "search_tokens_differ",
        f"a search for {_shown(search.query)} in {search.index} names several users: "
        + ", ".join(f"{place} says {_shown(token)}" for place, token in said.items()),
        search,
        None,
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
