"""How a sender accepts events: it checks each event, adds its user and queues its JSON text, or refuses the event."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..errors import MissingUserTokenError, UserTokenError, middleware_missed, raised
from ..identity import Identity, as_identity
from ..provider import TokenProvider
from .given import own_copy
from .model import attribute, check_after_search, event_time, names_search, new_event, split
from .reporting import Reporter
from .rules import Event, unreadable
from .text import encoded, ended, written, written_event
from .worker import Worker


class Accepting:
    """The code that `send`, the event methods and the methods that take references have in common.

    The events of a call are queued together, after all of them were checked and written as JSON text.
    """

    token_provider: TokenProvider
    _strict: bool
    _reporter: Reporter
    _worker: Worker

    def send(
        self,
        event: Mapping[str, Any],
        *,
        identity: Identity | str | None = None,
        timestamp: datetime | int | None = None,
    ) -> bool:
        """Queue an Insights event, given as a mapping with the field names of the Insights API.

        A field whose value is None is left out. A field that the API does not know is sent with any value, as Algolia
        accepts such fields. An event with a field name in snake case (`event_type`) is refused. A name that differs
        only in upper and lower case (`objectIds`) is corrected.

        Args:
            event: The event, with keys in camel case (`eventType`). It is not changed. If it has a `userToken` or a
                `timestamp`, these are used instead of `identity` and `timestamp`.
            identity: The user of the event: an `Identity`, or a string, which is a user token. By default, the user
                that `token_provider` names now.
            timestamp: When the event happened, at most 30 days ago: a `datetime` with a time zone, or milliseconds
                since the epoch. By default, now.

        Returns:
            True if the event was accepted. False if it was refused (it is invalid, its user is not known, or the
            visitor opted out) or dropped (the queue is full, or the sender is closed).

        Raises:
            InvalidEventError, InvalidUserTokenError, MissingUserTokenError: With `strict`, if the event was refused.

        https://www.algolia.com/doc/rest-api/insights/push-events
        """
        failure: UserTokenError | None = None
        try:
            ordinary = written_event(event)
            own: Any = own_copy(event) if ordinary is None else None
            user_token = own.get("userToken") if ordinary is None else ordinary[1]
            # If the event has a user token of its own, the provider is not asked.
            asks = identity is None and user_token is None
            who = self._provided() if asks else as_identity(identity)
            now = int(time.time() * 1000) if timestamp is None else event_time(timestamp)
            body = None if ordinary is None else ended(ordinary, who, now)
            if body is None:
                body = checked_text(own_copy(event) if own is None else own, who, now)
        except UserTokenError as error:
            failure = error
        except Exception as error:  # an object in the event raised it: events never break a page
            failure = unreadable(error)
        if failure is not None:
            return self._refuse(failure, event)
        return self._worker.put(body) if body else False

    def _send_each(
        self, events: Sequence[Any], identity: Identity | None, timestamp: int
    ) -> tuple[int, list[UserTokenError]]:
        """Queue events for a caller that gets no exceptions: a refused event is reported, and no error is raised.

        An invalid event does not affect the others. The valid ones are queued together, or none of them if there is no
        room.

        Args:
            events: Events, or values of any type that a page sent instead.
            identity: The user of the events that name none.
            timestamp: The time of the events that have none of their own, in milliseconds since the epoch.

        Returns:
            How many were accepted, and the errors of those that were refused.
        """
        bodies: list[bytes] = []
        refused: list[UserTokenError] = []
        for event in events:
            failure: UserTokenError
            try:
                body = text_of(event, identity, timestamp)
            except UserTokenError as error:
                failure = error
            except Exception as error:
                failure = unreadable(error)
            else:
                bodies += [] if body is None else [body]
                continue
            refused.append(failure)
            self._reporter.refuse(failure, [event])
        accepted = self._worker.put(bodies[0]) if len(bodies) == 1 else self._put_all(bodies)
        return len(bodies) if accepted else 0, refused

    def _send_new(
        self,
        event_type: str,
        name: str,
        index: str,
        items: Any,
        identity: Identity | str | None,
        timestamp: datetime | int | None,
        positions: Any = None,
        query_id: Any = None,
        object_data: Any = None,
        value: Any = None,
        currency: Any = None,
        field: str = "objectIDs",
        subtype: str | None = None,
        after_search: bool = False,
    ) -> bool:
        """Send the event that has these fields, or the parts that it is split into; `items` is the value of `field`."""
        body: bytes | None = None
        who: Identity | None = None
        now = 0
        failure: UserTokenError | None = None
        try:
            who = self._provided() if identity is None else as_identity(identity)
            now = int(time.time() * 1000) if timestamp is None else event_time(timestamp)
            if query_id is not None or not after_search or names_search(object_data):
                text = written(
                    event_type,
                    subtype,
                    name,
                    index,
                    field,
                    items,
                    positions,
                    query_id,
                    object_data,
                    value,
                    currency,
                )
                body = None if text is None else ended((text, None, None, None), who, now)
        except UserTokenError as error:
            failure = error
        except Exception as error:
            failure = unreadable(error)
        if body is not None:
            return bool(body) and self._worker.put(body)
        event = new_event(
            event_type,
            subtype,
            name,
            index,
            field,
            items,
            positions,
            query_id,
            object_data,
            value,
            currency,
            after_search,
        )
        return self._send_built(event, who, now, failure, after_search)

    def _send_built(
        self, event: Event, who: Identity | None, now: int, failure: UserTokenError | None, after_search: bool
    ) -> bool:
        """Send an event that is not an ordinary one (see `text.py`), or refuse it, if `failure` says why."""
        parts: list[bytes] = []
        try:
            if after_search:
                check_after_search(event)
            if failure is None:
                parts = texts_of(split(event), who, now)
        except UserTokenError as error:
            failure = error
        except Exception as error:
            failure = unreadable(error)
        return self._put_all(parts) if failure is None else self._refuse(failure, event)

    def _provided(self) -> Identity | None:
        try:
            return self.token_provider.identity()
        except UserTokenError:
            raise
        except Exception as error:  # the application's `resolve` raised it: events never break a page
            missed = middleware_missed(error)
            hint = f". If it needs what {missed} puts into the request, that must have run before" if missed else ""
            message = f"nobody to attribute the event to: resolve() raised {raised(error)}{hint}"
        # The error is not chained, and its text is left out, as it may quote the user that was not found.
        raise MissingUserTokenError(message)

    def _put_all(self, parts: Sequence[bytes]) -> bool:
        return bool(parts) and self._worker.put_all(parts)

    def _refuse(self, error: UserTokenError, *events: Any) -> bool:
        if self._strict:
            raise error
        self._reporter.refuse(error, events)
        return False


def text_of(event: Any, identity: Identity | None, timestamp: int) -> bytes | None:
    """Return the text of an event with the fields of the API; None if its user opted out.

    Raises:
        UserTokenError: The event is refused.
    """
    ordinary = written_event(event)
    body = None if ordinary is None else ended(ordinary, identity, timestamp)
    return checked_text(own_copy(event), identity, timestamp) if body is None else body or None


def checked_text(own: Event, identity: Identity | None, timestamp: int) -> bytes | None:
    """Do what `text_of` does, for a copy that `own_copy` made of an event that is not an ordinary one."""
    checked = attribute(own, identity, timestamp)
    return None if checked is None else encoded(checked)


def texts_of(events: Sequence[Event], identity: Identity | None, timestamp: int) -> list[bytes]:
    """Return the texts of events that belong together; none if their user opted out."""
    checked = [attribute(event, identity, timestamp) for event in events]
    return [encoded(event) for event in checked if event is not None]
