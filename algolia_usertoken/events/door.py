"""The door of an event sender: what comes in is checked, attributed, and put where it waits, as text; or refused."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ..errors import MissingUserTokenError, UserTokenError, raised
from ..identity import Identity, as_identity
from ..provider import TokenProvider
from .given import own_copy
from .model import attribute, check_after_search, event_time, names_search, new_event, split
from .reporting import Reporter
from .rules import Event, unreadable
from .text import encoded, unknown_fields, written, written_event
from .worker import Worker


class Door:
    """What `send`, the twelve methods and those that take references have in common.

    Nothing is put before all of a call was checked and has its text.
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
        """Queue an Insights event, given as the API takes it (camelCase keys); what is None is left out.

        Fields that such an event does not have pass, whatever they hold, as Algolia takes them. A name in snake case is
        refused; one whose letters are in another case (`objectIds`) is put right.

        Args:
            event: The event; it is not changed. Its own `userToken` and `timestamp` win.
            identity: Whose event it is; by default the provider's answer, now.
            timestamp: When it happened: an aware `datetime` or an int of milliseconds since the epoch; by default now.

        Returns:
            True: accepted. False: refused at the door (invalid, nobody's, of a visitor who opted out), or dropped, the
            queue being full or closed.

        Raises:
            InvalidEventError, MissingUserTokenError: With `strict`, what else is counted and reported.
        """
        failure: UserTokenError | None = None
        try:
            unknown = unknown_fields(event)
            own: Any = own_copy(event) if unknown is None else event
            # An event with a user token of its own takes nothing from here, and asks nobody.
            asks = identity is None and own.get("userToken") is None
            who = self._provided() if asks else as_identity(identity)
            now = int(time.time() * 1000) if timestamp is None else event_time(timestamp)
            body = None if unknown is None else written_event(own, who, now, unknown)
            if body is None:
                body = checked_text(own_copy(event) if own is event else own, who, now)
        except UserTokenError as error:
            failure = error
        except Exception as error:  # of what was given: events never break a page
            failure = unreadable(error)
        if failure is not None:
            return self._refuse(failure, event)
        return body is not None and self._worker.put(body)

    def _send_each(
        self, events: Sequence[Any], identity: Identity | None, timestamp: int
    ) -> tuple[int, list[UserTokenError]]:
        """Queue the events of somebody who is not here to be told: what is refused is reported, and never raised.

        What is invalid costs no other event. The valid ones are queued together, or none where there is no room.

        Args:
            events: Events, or whatever was sent instead.
            identity: Whose they are, where they don't say so.
            timestamp: When they happened, where they don't say so, in milliseconds since the epoch.

        Returns:
            How many were accepted, and why the refused ones were.
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
        """Send the event that these fields are, or those that it is split into; `items` are what `field` holds."""
        body: bytes | None = None
        who: Identity | None = None
        now = 0
        failure: UserTokenError | None = None
        try:
            who = self._provided() if identity is None else as_identity(identity)
            now = int(time.time() * 1000) if timestamp is None else event_time(timestamp)
            if (
                who is not None
                and (user_token := who.user_token) is not None
                and not who.opted_out
                and (query_id is not None or not after_search or names_search(object_data))
            ):
                body = written(
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
                    user_token,
                    who.authenticated_user_token,
                    now,
                )
        except UserTokenError as error:
            failure = error
        except Exception as error:
            failure = unreadable(error)
        if body is not None:
            return self._worker.put(body)
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
        """Send an event that is out of the ordinary, or refuse it, if that was its failure."""
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
        except Exception as error:  # of the application's `resolve`: events never break a page
            message = f"nobody to attribute the event to: resolve() raised {raised(error)}"
        # Not chained, and without the text of that error: it may quote whom it did not find.
        raise MissingUserTokenError(message)

    def _put_all(self, parts: Sequence[bytes]) -> bool:
        return bool(parts) and self._worker.put_all(parts)

    def _refuse(self, error: UserTokenError, *events: Any) -> bool:
        if self._strict:
            raise error
        self._reporter.refuse(error, events)
        return False


def text_of(event: Any, identity: Identity | None, timestamp: int) -> bytes | None:
    """The text of an event with the fields of the API; None where it is of somebody who opted out.

    Raises:
        UserTokenError: It is refused.
    """
    unknown = unknown_fields(event)
    body = None if unknown is None else written_event(event, identity, timestamp, unknown)
    return checked_text(own_copy(event), identity, timestamp) if body is None else body


def checked_text(own: Event, identity: Identity | None, timestamp: int) -> bytes | None:
    """As `text_of`, of a copy that was made by `own_copy`, the longer way."""
    checked = attribute(own, identity, timestamp)
    return None if checked is None else encoded(checked)


def texts_of(events: Sequence[Event], identity: Identity | None, timestamp: int) -> list[bytes]:
    """The texts of events that belong together; none, where whose they are opted out."""
    checked = [attribute(event, identity, timestamp) for event in events]
    return [encoded(event) for event in checked if event is not None]
