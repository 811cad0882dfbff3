"""The event methods: one for each kind of event that Algolia knows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from ..identity import Identity
from .accepting import Accepting
from .model import Amount, ObjectData, ObjectID


class EventMethods(Accepting):
    """The methods that version 3 of algoliasearch had (`insights_client.user(token).…`), and four for carts and sales.

    Each method returns True if the event was accepted. It returns False if the event was refused (it is invalid, its
    user is not known, or the visitor opted out) or dropped (the queue is full, or the sender is closed).

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
        """Send the event that a user clicked objects in the results of a search.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that contains the objects.
            object_ids: The objectIDs of the objects. More than 20 are sent in several events.
            positions: The position of each object in the results of all pages, from 1: its position on the page + page
                × hitsPerPage.
            query_id: The `queryID` in the response of the search. It is there if the search asked for `clickAnalytics`.
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.
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
        """Send the event that a user clicked objects that no search led to.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that contains the objects.
            object_ids: The objectIDs of the objects. More than 20 are sent in several events.
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.
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
        """Send the event that a user saw objects.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that contains the objects.
            object_ids: The objectIDs of the objects. More than 20 are sent in several events.
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.
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
        """Send the event that a user converted objects that no search led to: shared them, for example.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that contains the objects.
            object_ids: The objectIDs of the objects. More than 20 are sent in several events.
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.
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
        """Send the event that a user clicked filters.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the filters were used on.
            filters: The filters, each as `facet:value`, URL-encoded ("brand:Acme"). More than 20 are sent in several
                events.
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.
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
        """Send the event that a user saw results to which filters were applied.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the filters were used on.
            filters: The filters, each as `facet:value`, URL-encoded ("brand:Acme"). More than 20 are sent in several
                events.
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.
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
        """Send the event that a user converted while filters were applied.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that the filters were used on.
            filters: The filters, each as `facet:value`, URL-encoded ("brand:Acme"). More than 20 are sent in several
                events.
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.
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
        """Send the event that a user converted objects in the results of a search.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that contains the objects.
            object_ids: The objectIDs of the objects. More than 20 are sent in several events.
            query_id: The `queryID` in the response of the search. It is there if the search asked for `clickAnalytics`.
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.
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
        """Send the event that a user put objects into the cart that no search led to.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that contains the objects.
            object_ids: The objectIDs of the objects. More than 20 are sent in several events.
            object_data: One dict for each object, in the same order: `price` (of one piece, after the discount),
                `discount` (on one piece) and `quantity` (an integer).
            value: The total amount. If there are several events, each gets the sum of the prices of its own objects.
                The first also gets the rest, for example for shipping; without prices, it gets all of `value`.
            currency: The currency of the amounts: the three letters of ISO 4217, for example "EUR".
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.
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
        """Send the event that a user put objects into the cart that they found with a search.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that contains the objects.
            object_ids: The objectIDs of the objects. More than 20 are sent in several events.
            query_id: The `queryID` in the response of the search. It is there if the search asked for `clickAnalytics`.
            object_data: One dict for each object, in the same order: `price` (of one piece, after the discount),
                `discount` (on one piece) and `quantity` (an integer).
            value: The total amount. If there are several events, each gets the sum of the prices of its own objects.
                The first also gets the rest, for example for shipping; without prices, it gets all of `value`.
            currency: The currency of the amounts: the three letters of ISO 4217, for example "EUR".
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.
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
        """Send the event that a user bought objects that no search led to.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that contains the objects.
            object_ids: The objectIDs of the objects. More than 20 are sent in several events.
            object_data: One dict for each object, in the same order: `price` (of one piece, after the discount),
                `discount` (on one piece) and `quantity` (an integer).
            value: The total amount. If there are several events, each gets the sum of the prices of its own objects.
                The first also gets the rest, for example for shipping; without prices, it gets all of `value`.
            currency: The currency of the amounts: the three letters of ISO 4217, for example "EUR".
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.
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
        """Send the event that a user bought objects found with a search, and perhaps others, in one transaction.

        Args:
            event_name: Your own name for the event, like "Product Clicked": 1 to 64 printable ASCII characters.
            index_name: The index that contains the objects.
            object_ids: The objectIDs of the objects. More than 20 are sent in several events.
            object_data: One dict for each object, in the same order: `price` (of one piece, after the discount),
                `discount` (on one piece), `quantity` (an integer), and the `queryID` of the search that led to the
                object. At least one must have a `queryID`. Only objects with a `queryID` count as revenue of a search.
            value: The total amount. If there are several events, each gets the sum of the prices of its own objects.
                The first also gets the rest, for example for shipping; without prices, it gets all of `value`.
            currency: The currency of the amounts: the three letters of ISO 4217, for example "EUR".
            identity: The user of the event, or their user token. By default, the user that `token_provider` names now.
            timestamp: When it happened: an aware `datetime`, or epoch milliseconds, at most 30 days ago. Default: now.

        Returns:
            True if the event was accepted, False if it was refused or dropped.

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.
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
