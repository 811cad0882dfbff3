"""References to hits, and the events that come of them, as methods; what becomes of an event is the sender's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from ...errors import InvalidEventError, UserTokenError
from ...identity import Identity, as_identity
from ..door import Door, texts_of
from ..given import as_list
from ..model import Amount, ObjectData, event_time, share, split
from ..plain import mapping
from ..rules import Event, check_same_length, of_event, quoted, unreadable
from .reference import HitReference, is_old, token_of
from .results import references_in


class ReferenceMethods(Door):
    """Attribution across requests: `references` are made when somebody searches, and sent when something comes of it.

    `clicked`, `converted` and `added_to_cart` send one event per index and query, and `purchased` one per index. A
    reference goes without its query id where it was made for another user (the link was shared), or for nobody. They
    return True where all events were accepted, and False where one was refused at the door or dropped, as the twelve.

    Algolia's click analytics count an event that happens within one hour of its search. A later one is sent all the
    same, and the first of them is logged.
    """

    def references(
        self, results: Any, index_name: str | None = None, *, identity: Identity | str | None = None
    ) -> list[HitReference]:
        """One reference per hit, in the order of the results, for events that come of them later.

        Call it right after the search, for the same user. Results without a `queryID` give references without one: this
        is logged, and with `strict` raised. Search with `clickAnalytics` to get one.

        Args:
            results: What a search or a recommendation returned: algoliasearch's models, a multi-query with the hits of
                all its results, several in a list, or their JSON.
            index_name: The index that events shall name; by default each result's own.
            identity: Whose search it was; by default the provider's answer, now. A `userToken` that the result repeats
                among its `params` wins.

        Raises:
            ValueError: The results do not name their index, and `index_name` does not either; or they are the values of
                a facet, or have a hit without objectID.
            TypeError: `results` is not what a search returns.
            InvalidEventError: With `strict`: there is no `queryID`.
        """
        who = self.token_provider.identity() if identity is None else as_identity(identity)
        found = references_in(results, index_name, token_of(who))
        for reference in found:
            if reference.query_id is None and not reference.made_for(None):  # of nobody's, there is nothing to tell
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
        """Clicks on hits. Without a position, a click is not attributed to its search either."""
        event: Event = {"eventType": "click", "eventName": event_name}
        return self._send_references(event, references, identity, timestamp)

    def converted(
        self,
        event_name: str,
        *references: HitReference,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Conversions on hits."""
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
        """Hits were put into the cart.

        `object_data` has a price, discount and quantity per reference; which search it was, the reference says. `value`
        is the total of all, in `currency` (ISO 4217). Several events have their shares of it, as those of
        `purchased_object_ids`.
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
        """Hits were bought; see `added_to_cart`.

        What is bought of one index is one event, and one transaction, whether a search led to it or not.
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
            now = event_time(timestamp)
            events = events_after(event, references, who, object_data)
            late = come_late(event, references, who, now)
            unattributed = [part for each in events for part in split(each)]
            if len(unattributed) > 1:
                share(event.get("value"), unattributed)
            parts = texts_of(unattributed, who, now)
        except UserTokenError as error:
            failure = error
        except Exception as error:
            failure = unreadable(error)
        if failure is not None:
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
    """`event` about the objects of `references`, once per index and query.

    A purchase names the query of each object that a search led to, so there is one per index.

    Raises:
        InvalidEventError: There are no references, or something else among them; or `object_data` is no list, or not as
            long.
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


def come_late(event: Event, references: Sequence[HitReference], identity: Identity | None, now: int) -> str | None:
    """What to say where an event comes too late after its search for click analytics.

    Args:
        event: What happened.
        references: The hits that it is about.
        identity: Whose event it is.
        now: When it happened, in milliseconds since the epoch.
    """
    for reference in references:
        if is_old(reference, now) and _query_id(event, reference, identity) is not None:
            return (
                "an event came more than one hour after its search: it is sent, but Algolia counts clicks and "
                "conversions of the first hour only in its click analytics. This is said once"
            )
    return None


def _query_id(event: Event, reference: HitReference, identity: Identity | None) -> str | None:
    """The search that an event about a hit can name.

    Algolia attributes an event with a query id to the token of the search, whatever its own: so it gets one only where
    they are the same. A click after a search needs a position, and the items of a purchase name no message of an agent.
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
    """Object data with this query id and no other; what is no object at all is for the event's own check."""
    data = mapping(item)
    if type(data) is not dict:
        return item
    own = {key: value for key, value in data.items() if not (isinstance(key, str) and key.lower() == "queryid")}
    return own if query_id is None else {**own, "queryID": query_id}


def _paid(value: Amount | None, currency: str | None) -> Event:
    paid = {"value": value, "currency": currency}
    return {name: each for name, each in paid.items() if each is not None}
