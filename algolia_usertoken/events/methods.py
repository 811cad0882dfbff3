"""The twelve events by name, as methods."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ..identity import Identity
from .door import Door
from .model import Amount, ObjectData, ObjectID


class EventMethods(Door):
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
        return self._send_new(
            "click",
            event_name,
            index_name,
            object_ids,
            identity,
            timestamp,
            positions=positions,
            query_id=query_id,
            after_search=True,
        )

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
        return self._send_new("click", event_name, index_name, object_ids, identity, timestamp)

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
        return self._send_new("view", event_name, index_name, object_ids, identity, timestamp)

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
        return self._send_new("conversion", event_name, index_name, object_ids, identity, timestamp)

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
        return self._send_new("click", event_name, index_name, filters, identity, timestamp, field="filters")

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
        return self._send_new("view", event_name, index_name, filters, identity, timestamp, field="filters")

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
        return self._send_new("conversion", event_name, index_name, filters, identity, timestamp, field="filters")

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
        return self._send_new(
            "conversion",
            event_name,
            index_name,
            object_ids,
            identity,
            timestamp,
            query_id=query_id,
            after_search=True,
        )

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
        return self._send_new(
            "conversion",
            event_name,
            index_name,
            object_ids,
            identity,
            timestamp,
            subtype="addToCart",
            object_data=object_data,
            value=value,
            currency=currency,
        )

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
        return self._send_new(
            "conversion",
            event_name,
            index_name,
            object_ids,
            identity,
            timestamp,
            subtype="addToCart",
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
        object_ids: Iterable[ObjectID],
        *,
        object_data: Iterable[ObjectData] | None = None,
        value: Amount | None = None,
        currency: str | None = None,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Objects that no search led to were bought; see `added_to_cart_object_ids`."""
        return self._send_new(
            "conversion",
            event_name,
            index_name,
            object_ids,
            identity,
            timestamp,
            subtype="purchase",
            object_data=object_data,
            value=value,
            currency=currency,
        )

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
        return self._send_new(
            "conversion",
            event_name,
            index_name,
            object_ids,
            identity,
            timestamp,
            subtype="purchase",
            object_data=object_data,
            value=value,
            currency=currency,
            after_search=True,
        )
