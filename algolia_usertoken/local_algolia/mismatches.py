"""Mismatches: searches and events that disagree about who the user is, or about the time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from . import insights_rules
from .received import QueryIDs, ReceivedEvent, ReceivedSearch

MismatchKind = Literal[
    "search_tokens_differ",
    "placeholder_token",
    "invalid_token",
    "event_token_differs",
    "search_without_token",
    "unknown_query_id",
    "event_too_late",
]
# The text that programs write if they have no token, in any case, and also after a prefix, as in f"user-{None}". If it
# is used as a token, many visitors count as one user.
_is_placeholder = re.compile(
    r"(?:[a-z]+[-_/=+])?"
    r"(?:null|undefined|none|nil|nan|false|n/a|guest|anonymous|unknown|0{8}-0{4}-0{4}-0{4}-0{12})",
    re.IGNORECASE | re.ASCII,
).fullmatch
# https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
_is_token = re.compile(r"[a-zA-Z0-9_=/+-]{1,128}").fullmatch
_foreign = re.compile(r"[^a-zA-Z0-9_=/+-]").search
# How long after its search a click or a conversion still counts in Algolia's click analytics, in seconds.
COUNTED_FOR = 3600


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A disagreement between searches and events: about who the user is, or about the time.

    `kind` is one of

    - `search_tokens_differ`: the header, the parameter and the secured key of one search carry different tokens;
    - `placeholder_token`: a search or an event names a user such as `null`, `undefined`, `guest` or `user-None`, which
      many visitors share;
    - `invalid_token`: a search carries a token that Algolia's rule refuses (letters, digits and `_=/+-`, at most 128),
      such as an e-mail address; events with it would be refused, so no event can belong to the same user;
    - `event_token_differs`: an event names a search that had another token, and Algolia attributes the event to the
      token of the search (https://support.algolia.com/hc/en-us/articles/9671338778385);
    - `search_without_token`: an event names a search that had no token;
    - `unknown_query_id`: an event names a search that this server never answered;
    - `event_too_late`: a click or a conversion happened more than one hour after the search that it names, so that
      Algolia's click analytics does not count it for that search.
    """

    kind: MismatchKind
    explanation: str
    search: ReceivedSearch | None
    event: ReceivedEvent | None


def mismatches_of(
    searches: Iterable[ReceivedSearch], events: Iterable[ReceivedEvent], query_ids: QueryIDs
) -> list[Mismatch]:
    """All mismatches, those of searches first; `query_ids` knows which query ids were ever given."""
    searches = list(searches)
    answered = {search.query_id: search for search in searches if search.query_id is not None}
    found = [mismatch for search in searches for mismatch in mismatches_in_search(search)]
    for event in events:
        found += mismatches_in_event_alone(event)
        for query_id in event.query_ids:
            found += mismatches_in_event(event, query_id, answered.get(query_id), query_ids)
    return found


def mismatches_in_event(
    event: ReceivedEvent, query_id: str, search: ReceivedSearch | None, query_ids: QueryIDs
) -> list[Mismatch]:
    """The mismatches between an event and the search whose queryID it names; None if no such search is known."""
    found = (_wrong_user(event, query_id, search, query_ids), _too_late(event, search))
    return [mismatch for mismatch in found if mismatch is not None]


def _too_late(event: ReceivedEvent, search: ReceivedSearch | None) -> Mismatch | None:
    """The mismatch of an event that is too late for its search, by its own time and not by that of its delivery.

    Views are not counted for a search, so they are never too late.
    """
    if search is None or event.event_type == "view" or happened_at(event) - search.received_at <= COUNTED_FOR:
        return None
    return Mismatch(
        "event_too_late",
        f"the event {event.event_name!r} of user token {shown(event.user_token)} happened more than one hour "
        f"after its search for {shown(search.query)} in {search.index}; Algolia accepts it, but its click analytics "
        "does not count it for that search. The timestamp must be the time at which the visitor acted, not the time "
        "of sending; for a visitor who comes back later, search again and use the new queryID, or send "
        "the event without a queryID",
        search,
        event,
    )


def _wrong_user(
    event: ReceivedEvent, query_id: str, search: ReceivedSearch | None, query_ids: QueryIDs
) -> Mismatch | None:
    about = f"the event {event.event_name!r} of user token {shown(event.user_token)}"
    if search is None:
        # The answer may have been forgotten since, or this is the id of an agent's message: no mismatch is certain.
        if query_id.startswith("message_") or query_ids.gave(query_id):
            return None
        return Mismatch(
            "unknown_query_id",
            f"{about} names the queryID {query_id}, which no search on this server was answered with, so that no "
            "search gets the credit. Send the queryID of the response unchanged, from the same application as the "
            "event; an answer from before this server started, or from a fixture, is not known here",
            None,
            event,
        )
    if search.user_token is None:
        return Mismatch(
            "search_without_token",
            f"{about} names a search for {shown(search.query)} in {search.index} that carried no user token; "
            f"Algolia counts that search, and with it this event, as the user {shown(search.user)}. {SEND_A_TOKEN}",
            search,
            event,
        )
    if search.user_token != event.user_token:
        return Mismatch(
            "event_token_differs",
            f"{about} names a search for {shown(search.query)} in {search.index} by user token "
            f"{shown(search.user_token)}; Algolia attributes the event to that one. If one visitor did both, send the "
            "same token with both; if these are two visitors, as with a link that was shared or a page from a cache, "
            "send the event without the queryID",
            search,
            event,
        )
    return None


def mismatches_in_search(search: ReceivedSearch) -> list[Mismatch]:
    """The mismatches in one search by itself: several users, a placeholder, an invalid token."""
    tokens = {
        "the header X-Algolia-UserToken": search.user_token_header,
        "the parameter userToken": search.user_token_parameter,
        "the secured API key": search.user_token_in_key,
    }
    said = {place: token for place, token in tokens.items() if token}
    about = f"a search for {shown(search.query)} in {search.index}"
    found = []
    if len(set(said.values())) > 1:
        places = ", ".join(f"{place} says {shown(token)}" for place, token in said.items())
        explanation = (
            f"{about} names several users: {places}. Algolia does not document which of them counts. Send one token: "
            "set it in one place, and look for another in config.headers, in the call's own options and in the key"
        )
        found.append(Mismatch("search_tokens_differ", explanation, search, None))
    for token in dict.fromkeys(said.values()):
        if _is_placeholder(token):
            explanation = f"{about} carries the user token {shown(token)}{_PLACEHOLDER_MEANS}"
            found.append(Mismatch("placeholder_token", explanation, search, None))
        elif not _is_token(token):
            explanation = (
                f"{about} carries a user token that Algolia's rule forbids: {_wrong_with(token)}{_INVALID_MEANS}"
            )
            found.append(Mismatch("invalid_token", explanation, search, None))
    return found


def mismatches_in_event_alone(event: ReceivedEvent) -> list[Mismatch]:
    """The mismatches in one event by itself, whichever search it names: a placeholder."""
    tokens = {"user token": event.user_token, "authenticated user token": event.authenticated_user_token}
    return [
        Mismatch(
            "placeholder_token",
            f"the event {event.event_name!r} carries the {name} {shown(token)}{_PLACEHOLDER_MEANS}",
            None,
            event,
        )
        for name, token in tokens.items()
        if token is not None and _is_placeholder(token)
    ]


# The advice for a search that carries no token.
SEND_A_TOKEN = (
    "Search inside identity_scope(…) or behind the middleware, so that the search carries its visitor's token; threads "
    "and executors need bind()"
)
_PLACEHOLDER_MEANS = (
    ", a placeholder for a token that was not there: all visitors who have none count as this one user. Send no token "
    "until there is one; look for str(None), for a template's or a page's variable that is not set, and for a default"
)
_INVALID_MEANS = (
    ". Events with it are refused, so that no click is ever this search's, and it may be personal data. Send a "
    "pseudonymous token: pseudonymous_user_token() makes one of an id or an e-mail address"
)


def _wrong_with(token: str) -> str:
    """The error in a token, without a quote of the token, which may be an e-mail address."""
    wrong = _foreign(token)
    if wrong is None:
        return f"it has {len(token)} characters, and at most 128 are allowed"
    return f"it ({len(token)} characters) has {wrong[0]!a} at position {wrong.start() + 1}"


def shown(text: str) -> str:
    """A text as the explanations quote it."""
    return repr(text if len(text) <= 60 else text[:59] + "…")


def happened_at(event: ReceivedEvent) -> float:
    """When the event happened, in seconds since the epoch: its own timestamp, else the time when it was received."""
    timestamp = insights_rules.fields_of(event.event).get("timestamp")
    return event.received_at if timestamp is None else timestamp / 1000
