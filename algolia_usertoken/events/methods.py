"""The twelve events by name, as methods; what becomes of an event is the sender's."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ..identity import Identity
from .model import Amount, ObjectData, ObjectID
from .rules import Event


class EventMethods:
    """The methods that the v3 client had (`insights_client.user(token).…`), and the four it never had.

    Each returns True where the event was accepted, and False where it was refused at the door (invalid, nobody's, of a
    visitor who opted out) or dropped. More than 20 objects or filters become several events of at most 20.

    Lists may be tuples, generators or other iterables, but no texts. Object ids may be ints and UUIDs, amounts
    `Decimal`, the items of `object_data` models of pydantic, names lazy texts of Django, and numbers numpy's.

    Keywords on all:
        identity: Whose event it is; by default the provider's answer, now.
        timestamp: When it happened, at most 30 days ago: an aware `datetime`, or an int of milliseconds since the
            epoch; by default now.

    The events and their fields: https://www.algolia.com/doc/rest-api/insights/push-events
    """

    def _send_new(
        self,
        event: Event,
        identity: Identity | str | None,
        timestamp: datetime | int | None,
        after_search: bool = False,
    ) -> bool:
        raise NotImplementedError

    def clicked_object_ids_after_search(
        self,
        event_name: str,
        index_name: str,
        object_ids: Iterable[ObjectID],
        positions: Iterable[int],
        query_id: str,
        *,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """A click on search results. `positions` are absolute, from 1: position on the page + page × hitsPerPage."""
        event: Event = {
            "eventType": "click",
            "eventName": event_name,
            "index": index_name,
            "objectIDs": object_ids,
            "positions": positions,
            "queryID": query_id,
        }
        return self._send_new(event, identity, timestamp, after_search=True)

    def clicked_object_ids(
        self,
        event_name: str,
        index_name: str,
        object_ids: Iterable[ObjectID],
        *,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """A click on objects that no search led to."""
        event: Event = {
            "eventType": "click",
            "eventName": event_name,
            "index": index_name,
            "objectIDs": object_ids,
        }
        return self._send_new(event, identity, timestamp)

    def viewed_object_ids(
        self,
        event_name: str,
        index_name: str,
        object_ids: Iterable[ObjectID],
        *,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Objects were seen."""
        event: Event = {
            "eventType": "view",
            "eventName": event_name,
            "index": index_name,
            "objectIDs": object_ids,
        }
        return self._send_new(event, identity, timestamp)

    def converted_object_ids(
        self,
        event_name: str,
        index_name: str,
        object_ids: Iterable[ObjectID],
        *,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """A conversion on objects that no search led to."""
        event: Event = {
            "eventType": "conversion",
            "eventName": event_name,
            "index": index_name,
            "objectIDs": object_ids,
        }
        return self._send_new(event, identity, timestamp)

    def clicked_filters(
        self,
        event_name: str,
        index_name: str,
        filters: Iterable[str],
        *,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """A click on filters, each `facet:value`, its parts URL-encoded, or all of it: `brand%3AAcme`."""
        event: Event = {
            "eventType": "click",
            "eventName": event_name,
            "index": index_name,
            "filters": filters,
        }
        return self._send_new(event, identity, timestamp)

    def viewed_filters(
        self,
        event_name: str,
        index_name: str,
        filters: Iterable[str],
        *,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Filters were seen; see `clicked_filters`."""
        event: Event = {
            "eventType": "view",
            "eventName": event_name,
            "index": index_name,
            "filters": filters,
        }
        return self._send_new(event, identity, timestamp)

    def converted_filters(
        self,
        event_name: str,
        index_name: str,
        filters: Iterable[str],
        *,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """A conversion under filters; see `clicked_filters`."""
        event: Event = {
            "eventType": "conversion",
            "eventName": event_name,
            "index": index_name,
            "filters": filters,
        }
        return self._send_new(event, identity, timestamp)

    def converted_object_ids_after_search(
        self,
        event_name: str,
        index_name: str,
        object_ids: Iterable[ObjectID],
        query_id: str,
        *,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """A conversion on search results."""
        event: Event = {
            "eventType": "conversion",
            "eventName": event_name,
            "index": index_name,
            "objectIDs": object_ids,
            "queryID": query_id,
        }
        return self._send_new(event, identity, timestamp, after_search=True)

    def added_to_cart_object_ids(
        self,
        event_name: str,
        index_name: str,
        object_ids: Iterable[ObjectID],
        *,
        object_data: Iterable[ObjectData] | None = None,
        value: Amount | None = None,
        currency: str | None = None,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Objects that no search led to were put into the cart.

        `object_data` has a price (final: the discount is off already), discount and quantity per object; `value` is the
        total, in `currency` (ISO 4217). Where there are more than 20 objects, and so several events, and each item has
        a price and a quantity, the `value` of each event is the sum of its own, and the first also has what `value` has
        beyond them all, as for shipping; else the first has all of it.
        """
        event: Event = {
            "eventType": "conversion",
            "eventName": event_name,
            "index": index_name,
            "eventSubtype": "addToCart",
            "objectIDs": object_ids,
        }
        _add(event, objectData=object_data, value=value, currency=currency)
        return self._send_new(event, identity, timestamp)

    def added_to_cart_object_ids_after_search(
        self,
        event_name: str,
        index_name: str,
        object_ids: Iterable[ObjectID],
        query_id: str,
        *,
        object_data: Iterable[ObjectData] | None = None,
        value: Amount | None = None,
        currency: str | None = None,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Search results were put into the cart; see `added_to_cart_object_ids`."""
        event: Event = {
            "eventType": "conversion",
            "eventName": event_name,
            "index": index_name,
            "eventSubtype": "addToCart",
            "objectIDs": object_ids,
            "queryID": query_id,
        }
        _add(event, objectData=object_data, value=value, currency=currency)
        return self._send_new(event, identity, timestamp, after_search=True)

    def purchased_object_ids(
        self,
        event_name: str,
        index_name: str,
        object_ids: Iterable[ObjectID],
        *,
        object_data: Iterable[ObjectData] | None = None,
        value: Amount | None = None,
        currency: str | None = None,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Objects that no search led to were bought; see `added_to_cart_object_ids`."""
        event: Event = {
            "eventType": "conversion",
            "eventName": event_name,
            "index": index_name,
            "eventSubtype": "purchase",
            "objectIDs": object_ids,
        }
        _add(event, objectData=object_data, value=value, currency=currency)
        return self._send_new(event, identity, timestamp)

    def purchased_object_ids_after_search(
        self,
        event_name: str,
        index_name: str,
        object_ids: Iterable[ObjectID],
        object_data: Iterable[ObjectData],
        *,
        value: Amount | None = None,
        currency: str | None = None,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Search results were bought, and perhaps other things with them, in one transaction.

        `object_data` has one item per object, with the `queryID` of the search that led to it, where one did: to one
        object at least, else see `purchased_object_ids`. Only those with a `queryID` count as revenue of a search.
        """
        event: Event = {
            "eventType": "conversion",
            "eventName": event_name,
            "index": index_name,
            "eventSubtype": "purchase",
            "objectIDs": object_ids,
            "objectData": object_data,
        }
        _add(event, value=value, currency=currency)
        return self._send_new(event, identity, timestamp, after_search=True)


def _add(event: Event, **fields: Any) -> None:
    event.update({name: value for name, value in fields.items() if value is not None})
