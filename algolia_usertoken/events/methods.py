"""The twelve events by name, as methods; what becomes of an event is the sender's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ..identity import Identity
from .model import Event


class EventMethods:
    """The methods that the v3 client had (`insights_client.user(token).…`), and the four it never had.

    Each returns True where the event was accepted, and False where it was refused at the door (invalid, nobody's, of a
    visitor who opted out) or dropped. More than 20 objects or filters become several events of at most 20.

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
        object_ids: Iterable[str],
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
        object_ids: Iterable[str],
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
        object_ids: Iterable[str],
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
        object_ids: Iterable[str],
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
        """A click on filters, each `facet:value`, URL-encoded."""
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
        """Filters were seen, each `facet:value`, URL-encoded."""
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
        """A conversion under filters, each `facet:value`, URL-encoded."""
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
        object_ids: Iterable[str],
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
        object_ids: Iterable[str],
        *,
        object_data: Iterable[Mapping[str, Any]] | None = None,
        value: float | str | None = None,
        currency: str | None = None,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Objects that no search led to were put into the cart.

        `object_data` has a price, discount and quantity per object; `value` is the total, in `currency` (ISO 4217).
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
        object_ids: Iterable[str],
        query_id: str,
        *,
        object_data: Iterable[Mapping[str, Any]] | None = None,
        value: float | str | None = None,
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
        object_ids: Iterable[str],
        *,
        object_data: Iterable[Mapping[str, Any]] | None = None,
        value: float | str | None = None,
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
        object_ids: Iterable[str],
        object_data: Iterable[Mapping[str, Any]],
        *,
        value: float | str | None = None,
        currency: str | None = None,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Search results were bought. `object_data` has one item per object, each with its search's `queryID`.

        What no search led to belongs into an event of its own, see `purchased_object_ids`.
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
