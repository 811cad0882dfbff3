"""Finds the places that name a user, in requests to Algolia, in events, and in objects that keep those."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from ..errors import DeliveryError
from ..events import reporting
from ..local_algolia import insights_rules
from ..local_algolia.keys import signed_in
from ..search_request import SearchParameters, search_kind
from . import senders

_PATIENCE = 2.0  # how long to wait for queued events, in seconds
_HEADER = "x-algolia-usertoken"
_KEY = "x-algolia-api-key"
_EVENTS = "/1/events"


def settle() -> None:
    """Wait until the queued events are sent, but not for long."""
    senders.flush_all(_PATIENCE)


@contextlib.contextmanager
def events_end_here(where: str) -> Iterator[None]:
    """Wait for the events that are queued inside the block, but not for long; events not sent by then are given up."""
    before = senders.accepted()
    try:
        yield
    finally:
        senders.flush_all(_PATIENCE, before)
        senders.give_up_all(DeliveryError(f"not delivered when {where} ended"), before)


@contextlib.contextmanager
def refusals_noted(reasons: list[str]) -> Iterator[None]:
    """Add to `reasons` why events are refused or dropped inside the block, whichever sender does it."""
    if reasons.append in reporting.watchers:  # both fixtures are used in one test
        yield
        return
    reporting.watchers.append(reasons.append)
    try:
        yield
    finally:
        reporting.watchers.remove(reasons.append)


class Seen(NamedTuple):
    """One place that names a user, or where one should have been named (`user_token` is None).

    `searches` and `events` are how many of them it stands for: a search or event with several places counts at the
    first place.
    """

    user_token: str | None
    authenticated_user_token: str | None
    method: str
    path: str
    where: str
    searches: int = 0
    events: int = 0


def seen_in(source: Any) -> Iterator[Seen]:
    """The places in a source that name a user, in order. `assert_same_identity` says what a source may be.

    Sources are recognised by their attributes, not by their class, so that their libraries need not be imported here.
    """
    if isinstance(source, list):  # also respx's list of calls, which claims to have every attribute
        for one in source:
            yield from seen_in(one)
    elif hasattr(source, "searches") and hasattr(source, "requests"):  # a LocalAlgolia
        yield from seen_in(list(source.requests))
    elif hasattr(source, "calls"):  # a router or a route of respx
        yield from seen_in(list(source.calls))
    elif hasattr(source, "request") and hasattr(source, "has_response"):  # one of its calls
        taken = source.has_response and source.response.is_success
        yield from seen_in(source.request) if taken else _uncounted(seen_in(source.request))
    elif hasattr(source, "query_string") and hasattr(source, "body"):  # a ReceivedRequest
        seen = _in_request(source.method, source.path, source.query_string, source.headers, source.body)
        yield from seen if source.status is not None and source.status < 300 else _uncounted(seen)
    elif hasattr(source, "url") and hasattr(source, "content"):  # an httpx.Request
        path, _, query_string = source.url.raw_path.decode().partition("?")
        yield from _in_request(source.method, path, query_string, source.headers, source.content)
    elif hasattr(source, "user_token_parameter"):  # a ReceivedSearch
        yield from _in_received_search(source)
    elif hasattr(source, "event"):  # a ReceivedEvent
        yield _in_event(source.event, "userToken")
    elif isinstance(source, Mapping):
        yield from _in_mapping(source)
    elif hasattr(source, "events"):  # a MemoryDelivery, or one of its batches
        yield from _in_batch(source.events)
    elif isinstance(source, Iterable) and not isinstance(source, (str, bytes)):
        for one in source:
            yield from seen_in(one)
    else:
        raise TypeError(
            "a source must be algolia_mock, a route or call of respx, a LocalAlgolia or what it received, a "
            f"MemoryDelivery, an event, or several of them, not {type(source).__name__}"
        )


def _in_request(method: str, path: str, query_string: str, headers: Mapping[str, str], body: bytes) -> Iterator[Seen]:
    if headers.get("content-encoding") == "gzip" and body[:2] == b"\x1f\x8b":
        try:
            body = gzip.decompress(body)
        except (EOFError, OSError, zlib.error):
            body = b""  # an invalid body is no error here: Algolia refuses it
    # Browsers send in the URL what other clients send as headers.
    in_url = {name.lower(): value for name, value in parse_qsl(query_string)}
    in_header = headers.get(_HEADER) or in_url.get(_HEADER)
    in_key = signed_in(headers.get(_KEY) or in_url.get(_KEY) or "").get("userToken")
    if method == "POST" and path == _EVENTS:
        yield from _in_events(body)
        return
    kind = search_kind(method, path)
    if kind is None:
        if in_header:
            yield Seen(in_header, None, method, path, "header")
        return
    options: Any = SimpleNamespace(data=body, query_parameters={})
    tokens = SearchParameters(kind, options, f"{path}?{query_string}").tokens
    outer = {"header": in_header, "API key": in_key}
    seen = [Seen(token, None, method, path, where) for where, token in outer.items() if token]
    for number, token in enumerate(tokens):
        if token is not None:
            where = "userToken" if len(tokens) == 1 else f"requests[{number}].userToken"
            seen.append(Seen(_text(token), None, method, path, where))
    # An export is made for no user, and analytics ignore it.
    is_export = kind.endswith("browse")
    unnamed = not tokens or None in tokens
    if unnamed and not any(outer.values()) and not is_export:
        seen.append(Seen(None, None, method, path, "no token"))
    for number, one in enumerate(seen):
        yield one._replace(searches=0 if is_export or number else _queries_in(kind, body))


def _queries_in(kind: str, body: bytes) -> int:
    """How many searches a request asks for."""
    if kind not in ("queries", "recommendations"):
        return 1
    try:
        return len(json.loads(body)["requests"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return 1


def _uncounted(seen: Iterable[Seen]) -> Iterator[Seen]:
    """The places in a request that failed, as before a retry. Their users count, but not their searches and events."""
    return (one._replace(searches=0, events=0) for one in seen)


def _in_events(body: bytes) -> Iterator[Seen]:
    try:
        events = insights_rules.events_of(json.loads(body))
    except (ValueError, RecursionError):
        return
    if isinstance(events, list):
        yield from _in_batch(events)


def _in_batch(events: Iterable[Any]) -> Iterator[Seen]:
    for number, event in enumerate(events):
        if isinstance(event, Mapping):
            yield _in_event(event, f"events[{number}].userToken")


def _in_event(event: Mapping[str, Any], where: str) -> Seen:
    fields = insights_rules.fields_of(event)
    token, login = _text(fields.get("userToken")), _text(fields.get("authenticatedUserToken"))
    count = 0 if insights_rules.is_usage_report(event) else 1
    return Seen(token, login, "POST", _EVENTS, where if token else "no token", events=count)


def _text(token: Any) -> str | None:
    """A token in the form to compare: None if it is empty. A value that is not a string never equals a token."""
    if token is None or token == "":
        return None
    return token if isinstance(token, str) else f"{type(token).__name__} {token!r}"


def _in_received_search(search: Any) -> Iterator[Seen]:
    places = {
        "header": search.user_token_header,
        "userToken": search.user_token_parameter,
        "API key": search.user_token_in_key,
    }
    found = [Seen(token, None, search.method, search.path, where) for where, token in places.items() if token]
    if not found and search.operation != "browse":
        found = [Seen(None, None, search.method, search.path, "no token")]
    for number, one in enumerate(found):
        yield one._replace(searches=0 if search.operation == "browse" or number else 1)


def _in_mapping(source: Mapping[str, Any]) -> Iterator[Seen]:
    if insights_rules.fields_of(source).keys() & {"eventType", "eventName"}:
        yield _in_event(source, "userToken")
    elif isinstance(source.get("events"), list):
        yield from _in_batch(source["events"])
    else:
        raise TypeError("a source that is a dict must be an Insights event, or {'events': […]}")
