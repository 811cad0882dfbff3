"""The methods that make references to hits, and the methods that send events about them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from ...errors import InvalidEventError, UserTokenError
from ...identity import Identity, as_identity
from ..accepting import Accepting, texts_of
from ..given import as_list
from ..model import Amount, ObjectData, event_time, share, split
from ..plain import mapping
from ..rules import Event, check_same_length, of_event, quoted, unreadable
from .reference import HitReference, is_old, token_of
from .results import references_in


class ReferenceMethods(Accepting):
    """Attribution across requests: make `references` when somebody searches, and send events about them later.

    `clicked`, `converted` and `added_to_cart` send one event for each index and query, and `purchased` sends one for
    each index. They return True if all of these were accepted, and False if one was refused or dropped.

    An event has the query id of its search only if the search was made for the same user. If a user shares a link, the
    events of others who follow the link have no query id. Algolia's click analytics count an event within one hour
    after its search. A later event is still sent; the first one is logged.
    """

    def references(
        self, results: Any, index_name: str | None = None, *, identity: Identity | str | None = None
    ) -> list[HitReference]:
        """Make one reference for each hit, in the order of the results, for the events about them later.

        Call it right after the search, for the same user. Search with `clickAnalytics`, so that the results have a
        `queryID`: without it the references have none either, which is logged, or raised with `strict`.

        Args:
            results: What a search or a recommendation returned: algoliasearch's models, those of a multi-query, a list
                of them, or their JSON.
            index_name: The index that the events will name. By default, the one that each result names.
            identity: The user of the search, or their user token. By default, the user that `token_provider` names now.
                If a result repeats the `userToken` in its `params`, that token takes priority.

        Returns:
            References that you can send now, keep in a session, or `sign` for a link or a form.

        Raises:
            ValueError: Neither the results nor `index_name` name an index, or the results are facet values, or a hit
                has no objectID.
            TypeError: `results` is not what a search returns.
            InvalidUserTokenError: `identity` is neither an Identity nor a valid token, or `resolve()` returned such a
                value.
            InvalidEventError: With `strict`, if there is no `queryID`.

        https://support.algolia.com/hc/en-us/articles/9671338778385
        """
        who = self.token_provider.identity() if identity is None else as_identity(identity)
        found = references_in(results, index_name, token_of(who))
        for reference in found:
            # If the search has no user token, no event could be attributed to it anyway.
            if reference.query_id is None and not reference.made_for(None):
                message = (
                    f"queryID is missing in the results of the index{quoted(reference.index_name, ' ')}: "
                    "search with clickAnalytics to get one, or no click can be attributed to the search"
                )
                self._report_unattributed(InvalidEventError(message, "queryID"))
                break
        return found

    def clicked(
        self,
        event_name: str,
        *references: HitReference,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Send the event that a user clicked hits.

        A click is attributed to its search only if the reference has a position, as those from search results have.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            *references: References from `references`, `HitReference.verify` or `QueryMemory.recall`, one by one.
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped. An event with the reference of
            another user is accepted, without the query ID.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.

        https://www.algolia.com/doc/rest-api/insights/push-events
        """
        event: Event = {"eventType": "click", "eventName": event_name}
        return self._send_references(event, references, identity, timestamp)

    def converted(
        self,
        event_name: str,
        *references: HitReference,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Send the event that a user converted hits: shared them, for example.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            *references: References from `references`, `HitReference.verify` or `QueryMemory.recall`, one by one.
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped. An event with the reference of
            another user is accepted, without the query ID.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.

        https://www.algolia.com/doc/rest-api/insights/push-events
        """
        event: Event = {"eventType": "conversion", "eventName": event_name}
        return self._send_references(event, references, identity, timestamp)

    def added_to_cart(
        self,
        event_name: str,
        *references: HitReference,
        object_data: Iterable[ObjectData] | None = None,
        value: Amount | None = None,
        currency: str | None = None,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Send the event that a user put hits into the cart.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            *references: References from `references`, `HitReference.verify` or `QueryMemory.recall`, one by one.
            object_data: One dict for each reference, in the same order: `price` (of one piece, after the discount),
                `discount` (on one piece) and `quantity` (an integer). The `queryID` comes from the reference.
            value: The total amount. If there are several events, each gets the sum of the prices of its own objects.
                The first also gets the rest, for example for shipping; without prices, it gets all of `value`.
            currency: The currency of the amounts: the three letters of ISO 4217, for example "EUR".
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped. An event with the reference of
            another user is accepted, without the query ID.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.

        https://www.algolia.com/doc/rest-api/insights/push-events
        """
        event: Event = {"eventType": "conversion", "eventName": event_name, "eventSubtype": "addToCart"}
        return self._send_references(event | _paid(value, currency), references, identity, timestamp, object_data)

    def purchased(
        self,
        event_name: str,
        *references: HitReference,
        object_data: Iterable[ObjectData] | None = None,
        value: Amount | None = None,
        currency: str | None = None,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Send the event that a user bought hits.

        All purchased objects of one index are one event and one transaction, whether a search led to them or not.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            *references: References from `references`, `HitReference.verify` or `QueryMemory.recall`, one by one.
            object_data: One dict for each reference, in the same order: `price` (of one piece, after the discount),
                `discount` (on one piece) and `quantity` (an integer). The `queryID` comes from the reference.
            value: The total amount. If there are several events, each gets the sum of the prices of its own objects.
                The first also gets the rest, for example for shipping; without prices, it gets all of `value`.
            currency: The currency of the amounts: the three letters of ISO 4217, for example "EUR".
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped. An event with the reference of
            another user is accepted, without the query ID.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.

        https://www.algolia.com/doc/rest-api/insights/push-events
        """
        event: Event = {"eventType": "conversion", "eventName": event_name, "eventSubtype": "purchase"}
        return self._send_references(event | _paid(value, currency), references, identity, timestamp, object_data)

    def _send_references(
        self,
        event: Event,
        references: Sequence[HitReference],
        identity: Identity | str | None,
        timestamp: datetime | int | None,
        object_data: Iterable[ObjectData] | None = None,
    ) -> bool:
        events = [event]
        failure: UserTokenError | None = None
        parts: list[bytes] = []
        try:
            who = self._provided() if identity is None else as_identity(identity)
            events = events_after(event, references, who, object_data)
            now = event_time(timestamp)
            late = warning_if_late(event, references, who, now)
            unattributed = [part for each in events for part in split(each)]
            if len(unattributed) > 1:
                share(event.get("value"), unattributed)
            parts = texts_of(unattributed, who, now)
        except UserTokenError as error:
            failure = error
        except Exception as error:
            failure = unreadable(error)
        if failure is not None:
            if events[0] is event:  # the user is not known; `on_error` nevertheless gets the events with their objects
                with contextlib.suppress(Exception):
                    events = events_after(event, references, None, object_data)
            return self._refuse(failure, *events)
        accepted = self._put_all(parts)
        if accepted and late:
            self._reporter.log_once(late)
        return accepted

    def _report_unattributed(self, error: InvalidEventError) -> None:
        if self._strict:
            raise error
        self._reporter.log("unattributed", str(error))


def events_after(
    event: Event,
    references: Sequence[HitReference],
    identity: Identity | None,
    object_data: Iterable[ObjectData] | None,
) -> list[Event]:
    """Make the events about these references from `event`: one for each index and query.

    The event of a purchase names a query for each object, so there is one event for each index.

    Raises:
        InvalidEventError: There are no references, or one of them is no `HitReference`; or `object_data` is no list, or
            has another number of items.
    """
    _check_references(event, references)
    data = None if object_data is None else as_list("objectData", object_data)
    if data is not None:
        check_same_length("objectData", data, references)
    is_purchase = event.get("eventSubtype") == "purchase"
    groups: dict[tuple[str, Any], Event] = {}
    for number, reference in enumerate(references):
        query_id = _query_id(event, reference, identity)
        key = (reference.index_name, None if is_purchase else query_id)
        if key not in groups:
            groups[key] = {**event, "index": reference.index_name, "objectIDs": [], "objectData": []}
        group = groups[key]
        group["objectIDs"].append(reference.object_id)
        if query_id is not None and not is_purchase:
            group["queryID"] = query_id
            if event["eventType"] == "click":
                group.setdefault("positions", []).append(reference.position)
        item = data[number] if data is not None else {}
        group["objectData"].append(_with_query_id(item, query_id if is_purchase else None))
    first, *others = groups.values()
    for other in others:
        other.pop("value", None)
    for group in groups.values():
        if data is None and not any(group["objectData"]):
            del group["objectData"]
    return [first, *others]


def warning_if_late(
    event: Event, references: Sequence[HitReference], identity: Identity | None, now: int
) -> str | None:
    """The text to log if an event comes too late after its search to count in click analytics; None if it does not.

    Args:
        event: What happened.
        references: The hits that the event is about.
        identity: Whose event it is.
        now: When it happened, in milliseconds since the epoch.
    """
    for reference in references:
        if is_old(reference, now) and _query_id(event, reference, identity) is not None:
            return (
                "an event came more than one hour after its search: it is sent, but Algolia's click analytics count "
                "clicks and conversions only within the first hour. This is logged once"
            )
    return None


def _query_id(event: Event, reference: HitReference, identity: Identity | None) -> str | None:
    """The query id that an event about a hit can have.

    Algolia attributes an event with a query id to the user token of the search, whatever token the event has. So an
    event gets a query id only if both tokens are the same. A click after a search also needs a position, and the items
    of a purchase cannot name the message of an agent.
    """
    if reference.query_id is None or not reference.made_for(identity):
        return None
    if event["eventType"] == "click":
        return None if reference.position is None else reference.query_id
    is_message = event.get("eventSubtype") == "purchase" and reference.query_id.startswith("message_")
    return None if is_message else reference.query_id


def _check_references(event: Event, references: Sequence[Any]) -> None:
    which = of_event(event)
    if not references:
        raise InvalidEventError(f"references is missing: give them after the name of the event{which}", "references")
    for reference in references:
        if not isinstance(reference, HitReference):
            kind = type(reference).__name__
            hint = {"str": ": verify a text first", "list": ": give them one by one, as in *references"}.get(kind, "")
            message = f"references must be HitReference objects, not {kind}{hint}{which}"
            raise InvalidEventError(message, "references")


def _with_query_id(item: Any, query_id: str | None) -> Any:
    """Object data with this query id and no other. Data that is no object stays, and the event's check refuses it."""
    data = mapping(item)
    if type(data) is not dict:
        return item
    own = {key: value for key, value in data.items() if not (isinstance(key, str) and key.lower() == "queryid")}
    return own if query_id is None else {**own, "queryID": query_id}


def _paid(value: Amount | None, currency: str | None) -> Event:
    paid = {"value": value, "currency": currency}
    return {name: each for name, each in paid.items() if each is not None}
