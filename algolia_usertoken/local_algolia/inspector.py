"""The data of the inspector page: who searched and clicked, and which mismatches there are, updated as data arrives."""

from __future__ import annotations

import hashlib
import pathlib
import secrets
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl

from . import insights_rules
from .hints import (
    Visitors,
    explain_many,
    first_address,
    hint_of_event,
    hint_of_search,
    visitor_cookie,
)
from .mismatches import (
    SEND_A_TOKEN,
    mismatches_in_event,
    mismatches_in_event_alone,
    mismatches_in_search,
    shown,
)
from .received import Received, ReceivedEvent, ReceivedRequest, ReceivedSearch
from .routes import users_in

PAGE = pathlib.Path(__file__).with_name("inspector.html")

MAX_USERS = 1_000
MAX_USERS_SHOWN = 100
MAX_ENTRIES_PER_USER = 30
MAX_VISITORS_PER_USER = 5
MAX_MISMATCHES_SHOWN = 20
MAX_REFUSALS_SHOWN = 5
MAX_QUERY_IDS = 100_000
MAX_NAME = 160
MAX_TEXT = 600
# The most arrivals that are read at once, so that a page that is opened late does not delay the searches.
MAX_ARRIVALS_PER_LOOK = 2_000


@dataclass(slots=True)
class _User:
    name: str
    has_token: bool
    changed: int = 0  # the number of the newest arrival of this user
    searches: int = 0
    events: int = 0
    wrong: int = 0
    logins: dict[str, None] = field(default_factory=dict)
    visitors: Visitors = field(default_factory=lambda: Visitors(MAX_VISITORS_PER_USER))
    hint: str | None = None  # says that several visitors seem to share this token
    entries: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_ENTRIES_PER_USER))


class Inspector:
    """Reads the requests that arrived since it last read, and tells each page what changed since the page last asked.

    It keeps a bounded amount, however much arrives. It is not thread-safe: only the server's event loop calls it.
    """

    def __init__(self, received: Received) -> None:
        self._received = received
        self._number = 0
        self._erased_at = -1  # the number of the request before the latest erasure done
        self._begin()

    def forget(self) -> None:
        """Forget everything, and start again with the next request that arrives."""
        self._number = self._erased_at = self._received.arrived()
        self._begin()

    def _begin(self) -> None:
        self._epoch = secrets.token_hex(8)
        self._users: OrderedDict[tuple[bool, str], _User] = OrderedDict()
        self._answered: OrderedDict[str, ReceivedSearch] = OrderedDict()
        self._mismatches: _Notes = OrderedDict()
        self._hints: _Notes = OrderedDict()
        # Each refusal with the segments of its path that may name a user.
        self._refusals: deque[tuple[dict[str, Any], list[str]]] = deque(maxlen=MAX_REFUSALS_SHOWN)
        self._searches = self._events = self._refused = self._wrong = self._hinted = 0
        self._user_count = self._entry_count = 0

    def state(self, epoch: str | None = None, number: int = 0) -> dict[str, Any]:
        """The data that the page shows, as JSON values, with only those users that changed since the given state.

        `epoch` and `number` are those of the last state that the page got. `behind` is how many requests are not yet
        read.
        """
        for arrival in self._received.since(self._number, MAX_ARRIVALS_PER_LOOK):
            self._erase_before(arrival.number)
            self._number = arrival.number
            self._take_request(arrival.request)
            for search in arrival.searches:
                self._take_search(search)
            for event in arrival.events:
                self._take_event(event, arrival.request)
        self._erase_before(self._number + 1)
        if epoch != self._epoch:
            number = -1
        changed = []
        for user in islice(reversed(self._users.values()), MAX_USERS_SHOWN):
            if user.changed <= number:
                break
            changed.append(user)
        return {
            "epoch": self._epoch,
            "number": self._number,
            "behind": self._received.arrived() - self._number,
            "searches": self._searches,
            "events": self._events,
            "refused": self._refused,
            "user_count": self._user_count,
            "users_shown": MAX_USERS_SHOWN,
            "mismatch_count": self._wrong,
            "mismatches": _newest_first(self._mismatches),
            "hint_count": self._hinted,
            "hints": _newest_first(self._hints),
            "refusals": [refusal for refusal, _ in reversed(self._refusals)],
            "users": [_as_json(user) for user in changed],
        }

    def _take_request(self, request: ReceivedRequest) -> None:
        if request.status is None or request.status >= 400:
            self._refused += 1
            answer = request.status or "no answer, as a test asked"
            text = _short(f"{request.method} {request.path} → {answer}")
            refusal = {"id": self._refused, "text": text, "times": 1}
            self._refusals.append((refusal, users_in(request.method, request.path)))

    def _take_search(self, search: ReceivedSearch) -> None:
        self._searches += 1
        if search.query_id is not None:
            self._answered[search.query_id] = _slim(search)
            if len(self._answered) > MAX_QUERY_IDS:
                self._answered.popitem(last=False)
        user = self._user(search.user, search.user_token is not None)
        user.searches += 1
        why = [mismatch.explanation for mismatch in mismatches_in_search(search)]
        if search.user_token is None:
            why.append(
                f"a search without a user token: Algolia counts it as the address {user.name}, together with all "
                f"others from there. {SEND_A_TOKEN}"
            )
        cookie = visitor_cookie(search.cookie)
        address = first_address(search.forwarded_for)
        hint = hint_of_search(search)
        if hint is not None:
            self._note_hint(user, hint.explanation)
        self._note(
            user,
            why,
            kind="search",
            at=search.received_at,
            what=("" if search.operation == "search" else f"{search.operation} ")
            + f"“{search.query}” in {search.index}"
            + ("" if search.status == 200 else f" → {search.status}"),
            header=search.user_token_header,
            parameter=search.user_token_parameter,
            key=search.user_token_in_key,
            cookie=cookie,
            address=address or search.client_ip,
            login=None,
            query_id=search.query_id,
        )
        self._note_visitor(user, search)

    def _take_event(self, event: ReceivedEvent, request: ReceivedRequest) -> None:
        self._events += 1
        found = mismatches_in_event_alone(event)
        found += [
            mismatch
            for query_id in event.query_ids
            for mismatch in mismatches_in_event(event, query_id, self._answered.get(query_id), self._received.query_ids)
        ]
        user = self._user(event.user_token, True)
        user.events += 1
        if event.authenticated_user_token is not None and len(user.logins) < MAX_VISITORS_PER_USER:
            user.logins[event.authenticated_user_token] = None
        cookie = visitor_cookie(request.headers.get("cookie"))
        address = first_address(request.headers.get("x-forwarded-for"))
        self._note(
            user,
            list(dict.fromkeys(mismatch.explanation for mismatch in found)),
            kind="event",
            at=event.received_at,
            what=f"{event.subtype or event.event_type} “{event.event_name}” in {event.index}",
            header=request.headers.get("x-algolia-usertoken"),
            parameter=event.user_token,
            key=None,
            cookie=cookie,
            address=address or request.client_ip,
            login=event.authenticated_user_token,
            query_id=next(iter(event.query_ids), None),
            of_search=self._of_search(event),
            sender=_sender(request),
            **_objects(event),
        )
        hint = hint_of_event(event)
        if hint is not None:
            self._note_hint(user, hint.explanation)

    def _user(self, said: str, has_token: bool) -> _User:
        name = _name(said)
        user = self._users.get((has_token, name))
        if user is None:
            user = self._users[has_token, name] = _User(name, has_token)
            self._user_count += 1
            if len(self._users) > MAX_USERS:
                self._users.popitem(last=False)
        self._users.move_to_end((has_token, name))
        user.changed = self._number
        return user

    def _note(self, user: _User, why: list[str], **entry: Any) -> None:
        why = [_short(text, MAX_TEXT) for text in why]
        for text in why:
            self._note_mismatch(user, text)
        self._entry_count += 1
        shown = {**_NO_OBJECTS, **{name: _short(value) for name, value in entry.items()}}
        user.entries.append({"id": self._entry_count, **shown, "why": why})

    def _note_visitor(self, user: _User, search: ReceivedSearch) -> None:
        if search.user_token is None:
            return
        user.visitors.add(search)
        many = user.visitors.many()
        if many is not None and user.hint is None:
            user.hint = _short(explain_many(search.user_token, many), MAX_TEXT)
            self._note_hint(user, user.hint)

    def _note_mismatch(self, user: _User, text: str) -> None:
        self._wrong += 1
        user.wrong += 1
        _add(self._mismatches, self._wrong, user, text)

    def _note_hint(self, user: _User, text: str) -> None:
        self._hinted += 1
        _add(self._hints, self._hinted, user, _short(text, MAX_TEXT))

    def _of_search(self, event: ReceivedEvent) -> str | None:
        """In words, which search an event belongs to; None if it names no search, or no known one."""
        search = next((self._answered[each] for each in event.query_ids if each in self._answered), None)
        return None if search is None else f"“{search.query}” in {search.index}"

    def _erase_before(self, number: int) -> None:
        """Forget the users that were erased before the request of that number, and all other data that names them."""
        for at, token in self._received.erased_since(self._erased_at):
            if at < number:
                self._erased_at = at
                self._erase(token)

    def _erase(self, token: str) -> None:
        name = _name(token)
        user = self._users.pop((True, name), None)
        if user is not None:
            self._user_count -= 1
            self._searches -= user.searches
            self._events -= user.events
            self._wrong -= user.wrong
        self._answered = OrderedDict(
            (query_id, search) for query_id, search in self._answered.items() if search.user_token != token[:MAX_NAME]
        )
        for other in self._users.values():
            kept = (entry for entry in other.entries if not _names(entry, token))
            other.entries = deque(kept, MAX_ENTRIES_PER_USER)
            other.logins.pop(name, None)
        for notes in (self._mismatches, self._hints):
            for key in [key for key, note in notes.items() if note["user"] == name or _mentions(note["text"], token)]:
                del notes[key]
        kept_refusals = [(refusal, users) for refusal, users in self._refusals if token not in users]
        self._refusals = deque(kept_refusals, MAX_REFUSALS_SHOWN)
        self._epoch = secrets.token_hex(8)  # so that a page that shows the user loads all again


_Notes = OrderedDict[tuple[str, str], dict[str, Any]]
_NO_OBJECTS: dict[str, Any] = {
    "object_ids": [],
    "positions": [],
    "query_id": None,
    "of_search": None,
    "sender": None,
}


def _sender(request: ReceivedRequest) -> str | None:
    """The library that sent events: search-insights from a page; a Python library from a server or through a relay."""
    query = {name.lower(): value for name, value in parse_qsl(request.query_string)}
    headers = request.headers
    said = query.get("x-algolia-agent") or headers.get("x-algolia-agent") or headers.get("user-agent")
    return _short(said.partition(";")[0].strip(), 60) if said else None


def _add(notes: _Notes, number: int, user: _User, text: str) -> None:
    """Add a note, or count it once more if it is listed for this user and text; the newest note is the last."""
    note = notes.setdefault((user.name, text), {"id": number, "text": text, "times": 0, "user": user.name})
    note["times"] += 1
    notes.move_to_end((user.name, text))
    if len(notes) > MAX_MISMATCHES_SHOWN:
        notes.popitem(last=False)


def _newest_first(notes: _Notes) -> list[dict[str, Any]]:
    return sorted(notes.values(), key=lambda note: -note["id"])


def _objects(event: ReceivedEvent) -> dict[str, Any]:
    """The objects of an event and their positions on the page; no more of them than Algolia accepts."""
    fields = insights_rules.fields_of(event.event)
    return {
        "object_ids": [_short(each, 60) for each in fields.get("objectIDs") or []],
        "positions": list(fields.get("positions") or []),
    }


def _names(entry: Mapping[str, Any], token: str) -> bool:
    """Whether a row of another user names this one."""
    said = (entry["header"], entry["parameter"], entry["key"], entry["cookie"], entry["login"])
    return _short(token) in said or any(_mentions(why, token) for why in entry["why"])


def _mentions(text: str, token: str) -> bool:
    """Whether an explanation quotes the token. Without quotes, it may be an ordinary word, such as "user"."""
    return shown(token) in text


def _as_json(user: _User) -> dict[str, Any]:
    return {
        "id": f"{'token' if user.has_token else 'address'} {user.name}",
        "user": user.name,
        "has_token": user.has_token,
        "changed": user.changed,
        "searches": user.searches,
        "events": user.events,
        "wrong": user.wrong,
        "hint": user.hint,
        "logins": list(user.logins),
        "entries": list(reversed(user.entries)),
    }


def _name(user: str) -> str:
    """The name of a user; if it is too long to be shown, a shorter one that no other user has."""
    if len(user) <= MAX_NAME:
        return user
    digest = hashlib.blake2b(user.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{user[:60]}… ({len(user)} characters, {digest})"


def _slim(search: ReceivedSearch) -> ReceivedSearch:
    """The search with only the data that a mismatch with an event depends on, none of which is large."""
    token = search.user_token and search.user_token[:MAX_NAME]
    return replace(
        search,
        params={},
        query=search.query[:MAX_NAME],
        index=search.index[:MAX_NAME],
        user=search.user[:MAX_NAME],
        user_token=token,
        user_token_header=None,
        user_token_parameter=None,
        user_token_in_key=None,
        forwarded_for=None,
        cookie=None,
        path="",
    )


def _short(value: Any, length: int = 200) -> Any:
    return f"{value[: length - 1]}…" if isinstance(value, str) and len(value) > length else value
