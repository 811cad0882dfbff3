"""The event methods: one for each kind of event that Algolia knows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ..identity import Identity
from .door import Door
from .model import Amount, ObjectData, ObjectID


class EventMethods(Door):
    """The methods that version 3 of algoliasearch had (`insights_client.user(token).…`), and four for carts and sales.

    Each method returns True if the event was accepted. It returns False if the event was refused (it is invalid, or
    nobody is known whose it is, or the visitor opted out) or dropped (the queue is full, or closed).

    A list may also be a tuple, a generator or another iterable, but not a string. An object id may also be an int or a
    UUID, an amount a `Decimal`, an item of `object_data` a pydantic model, a name a lazy string of Django, and a number
    one of numpy.

    https://www.algolia.com/doc/rest-api/insights/push-events
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
        """Somebody clicked objects in the results of a search.

        Args:
            event_name: What you call the event, as in "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the objects are in.
            object_ids: The objectIDs. More than 20 become several events.
            positions: Where each object stood in the results, from 1, over all pages: its position on the page +
                page × hitsPerPage.
            query_id: The `queryID` of the search, which its response has where it asked for `clickAnalytics`.
            identity: Whose event it is. By default, whom `token_provider` names now.
            timestamp: When, at most 30 days ago: an aware `datetime`, or milliseconds since the epoch. By default, now.

        Returns:
            True if it was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, if it was refused.
        """
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
        """Somebody clicked objects that no search led to.

        Args:
            event_name: What you call the event, as in "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the objects are in.
            object_ids: The objectIDs. More than 20 become several events.
            identity: Whose event it is. By default, whom `token_provider` names now.
            timestamp: When, at most 30 days ago: an aware `datetime`, or milliseconds since the epoch. By default, now.

        Returns:
            True if it was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, if it was refused.
        """
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
        """Somebody saw objects.

        Args:
            event_name: What you call the event, as in "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the objects are in.
            object_ids: The objectIDs. More than 20 become several events.
            identity: Whose event it is. By default, whom `token_provider` names now.
            timestamp: When, at most 30 days ago: an aware `datetime`, or milliseconds since the epoch. By default, now.

        Returns:
            True if it was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, if it was refused.
        """
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
        """Somebody converted objects that no search led to: subscribed to them, or shared them, for example.

        Args:
            event_name: What you call the event, as in "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the objects are in.
            object_ids: The objectIDs. More than 20 become several events.
            identity: Whose event it is. By default, whom `token_provider` names now.
            timestamp: When, at most 30 days ago: an aware `datetime`, or milliseconds since the epoch. By default, now.

        Returns:
            True if it was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, if it was refused.
        """
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
        """Somebody clicked filters.

        Args:
            event_name: What you call the event, as in "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the filters were used on.
            filters: Each is `facet:value`, URL-encoded, as in "brand:Acme". More than 20 become several events.
            identity: Whose event it is. By default, whom `token_provider` names now.
            timestamp: When, at most 30 days ago: an aware `datetime`, or milliseconds since the epoch. By default, now.

        Returns:
            True if it was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, if it was refused.
        """
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
        """Somebody saw results under filters.

        Args:
            event_name: What you call the event, as in "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the filters were used on.
            filters: Each is `facet:value`, URL-encoded, as in "brand:Acme". More than 20 become several events.
            identity: Whose event it is. By default, whom `token_provider` names now.
            timestamp: When, at most 30 days ago: an aware `datetime`, or milliseconds since the epoch. By default, now.

        Returns:
            True if it was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, if it was refused.
        """
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
        """Somebody converted under filters.

        Args:
            event_name: What you call the event, as in "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the filters were used on.
            filters: Each is `facet:value`, URL-encoded, as in "brand:Acme". More than 20 become several events.
            identity: Whose event it is. By default, whom `token_provider` names now.
            timestamp: When, at most 30 days ago: an aware `datetime`, or milliseconds since the epoch. By default, now.

        Returns:
            True if it was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, if it was refused.
        """
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
        """Somebody converted objects in the results of a search.

        Args:
            event_name: What you call the event, as in "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the objects are in.
            object_ids: The objectIDs. More than 20 become several events.
            query_id: The `queryID` of the search, which its response has where it asked for `clickAnalytics`.
            identity: Whose event it is. By default, whom `token_provider` names now.
            timestamp: When, at most 30 days ago: an aware `datetime`, or milliseconds since the epoch. By default, now.

        Returns:
            True if it was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, if it was refused.
        """
        return self._send_new(
            "conversion", event_name, index_name, object_ids, identity, timestamp, query_id=query_id, after_search=True
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
        """Somebody put objects into the cart that no search led to.

        Args:
            event_name: What you call the event, as in "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the objects are in.
            object_ids: The objectIDs. More than 20 become several events.
            object_data: For each object `price` (what is paid for one, the discount taken off), `discount` (per
                object) and `quantity`.
            value: The amount of all of it. Where it becomes several events, each has the sum of its own objects, and
                the first also what `value` has beyond them, as for shipping; without prices the first has it all.
            currency: The currency of the amounts, by ISO 4217, as in "EUR".
            identity: Whose event it is. By default, whom `token_provider` names now.
            timestamp: When, at most 30 days ago: an aware `datetime`, or milliseconds since the epoch. By default, now.

        Returns:
            True if it was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, if it was refused.
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
        """Somebody put objects into the cart that they found with a search.

        Args:
            event_name: What you call the event, as in "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the objects are in.
            object_ids: The objectIDs. More than 20 become several events.
            query_id: The `queryID` of the search, which its response has where it asked for `clickAnalytics`.
            object_data: For each object `price` (what is paid for one, the discount taken off), `discount` (per
                object) and `quantity`.
            value: The amount of all of it. Where it becomes several events, each has the sum of its own objects, and
                the first also what `value` has beyond them, as for shipping; without prices the first has it all.
            currency: The currency of the amounts, by ISO 4217, as in "EUR".
            identity: Whose event it is. By default, whom `token_provider` names now.
            timestamp: When, at most 30 days ago: an aware `datetime`, or milliseconds since the epoch. By default, now.

        Returns:
            True if it was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, if it was refused.
        """
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
        """Somebody bought objects that no search led to.

        Args:
            event_name: What you call the event, as in "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the objects are in.
            object_ids: The objectIDs. More than 20 become several events.
            object_data: For each object `price` (what is paid for one, the discount taken off), `discount` (per
                object) and `quantity`.
            value: The amount of all of it. Where it becomes several events, each has the sum of its own objects, and
                the first also what `value` has beyond them, as for shipping; without prices the first has it all.
            currency: The currency of the amounts, by ISO 4217, as in "EUR".
            identity: Whose event it is. By default, whom `token_provider` names now.
            timestamp: When, at most 30 days ago: an aware `datetime`, or milliseconds since the epoch. By default, now.

        Returns:
            True if it was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, if it was refused.
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
        """Somebody bought objects that they found with a search, and perhaps others with them, in one transaction.

        Args:
            event_name: What you call the event, as in "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the objects are in.
            object_ids: The objectIDs. More than 20 become several events.
            object_data: For each object `price` (what is paid for one, the discount taken off), `discount` (per
                object), `quantity`, and the `queryID` of the search that led to it. At least one has a `queryID`,
                and only those that have one count as revenue of a search.
            value: The amount of all of it. Where it becomes several events, each has the sum of its own objects, and
                the first also what `value` has beyond them, as for shipping; without prices the first has it all.
            currency: The currency of the amounts, by ISO 4217, as in "EUR".
            identity: Whose event it is. By default, whom `token_provider` names now.
            timestamp: When, at most 30 days ago: an aware `datetime`, or milliseconds since the epoch. By default, now.

        Returns:
            True if it was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, if it was refused.
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
