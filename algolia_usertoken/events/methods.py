"""The twelve events by name, as methods; what becomes of an event is the sender's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from ..identity import Identity


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
        event_type: str,
        event_name: str,
        index_name: str,
        identity: Identity | str | None,
        timestamp: datetime | int | None,
        **fields: Any,
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
        return self._send_new(
            "click",
            event_name,
            index_name,
            identity,
            timestamp,
            object_ids=object_ids,
            positions=positions,
            query_id=query_id,
            after_search=True,
        )

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
        return self._send_new("click", event_name, index_name, identity, timestamp, object_ids=object_ids)

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
        return self._send_new("view", event_name, index_name, identity, timestamp, object_ids=object_ids)

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
        return self._send_new("conversion", event_name, index_name, identity, timestamp, object_ids=object_ids)

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
        return self._send_new("click", event_name, index_name, identity, timestamp, filters=filters)

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
        return self._send_new("view", event_name, index_name, identity, timestamp, filters=filters)

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
        return self._send_new("conversion", event_name, index_name, identity, timestamp, filters=filters)

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
        return self._send_new(
            "conversion",
            event_name,
            index_name,
            identity,
            timestamp,
            object_ids=object_ids,
            query_id=query_id,
            after_search=True,
        )

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
        return self._send_new(
            "conversion",
            event_name,
            index_name,
            identity,
            timestamp,
            subtype="addToCart",
            object_ids=object_ids,
            object_data=object_data,
            value=value,
            currency=currency,
        )

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
        return self._send_new(
            "conversion",
            event_name,
            index_name,
            identity,
            timestamp,
            subtype="addToCart",
            object_ids=object_ids,
            query_id=query_id,
            object_data=object_data,
            value=value,
            currency=currency,
            after_search=True,
        )

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
        return self._send_new(
            "conversion",
            event_name,
            index_name,
            identity,
            timestamp,
            subtype="purchase",
            object_ids=object_ids,
            object_data=object_data,
            value=value,
            currency=currency,
        )

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
        return self._send_new(
            "conversion",
            event_name,
            index_name,
            identity,
            timestamp,
            subtype="purchase",
            object_ids=object_ids,
            object_data=object_data,
            value=value,
            currency=currency,
            after_search=True,
        )
