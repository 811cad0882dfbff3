"""Insights clients whose `push_events` fills in whose the events are, and refuses what Algolia would refuse."""

from __future__ import annotations

import json
from copy import copy
from typing import Any, Generic, TypedDict, TypeVar

from algoliasearch.http.api_response import ApiResponse
from algoliasearch.http.request_options import RequestOptions
from algoliasearch.http.transporter import Transporter
from algoliasearch.http.transporter_sync import TransporterSync
from algoliasearch.http.verb import Verb
from algoliasearch.insights.client import InsightsClient, InsightsClientSync
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.insights.models import InsightsEvents
from typing_extensions import Self, Unpack

from .errors import InvalidEventError, MissingUserTokenError, UserTokenError
from .events.given import batch_copy
from .events.model import attributed
from .events.rules import MAX_EVENTS, unreadable
from .events.text import without_nones
from .identity import Identity
from .provider import TokenProvider, one_provider
from .sessions import look_after

AnyTransporter = TypeVar("AnyTransporter", Transporter, TransporterSync)


class InsightsClientOptions(TypedDict, total=False):
    """The keywords that the clients take beside those of algoliasearch."""

    user_token: Identity | str | None
    token_provider: TokenProvider | None


class _TokenAwareInsights(Generic[AnyTransporter]):
    """What both clients do: everything but the I/O."""

    token_provider: TokenProvider
    _is_view = False

    def __init__(
        self,
        app_id: str | None = None,
        api_key: str | None = None,
        region: str | None = None,
        transporter: AnyTransporter | None = None,
        config: InsightsConfig | None = None,
        *,
        user_token: Identity | str | None = None,
        token_provider: TokenProvider | None = None,
    ) -> None:
        self.token_provider = one_provider(user_token, token_provider)
        super().__init__(app_id, api_key, region, transporter, config)  # type: ignore[call-arg]
        look_after(self._transporter)  # type: ignore[attr-defined]

    @classmethod
    def create_with_config(
        cls,
        config: InsightsConfig,
        transporter: AnyTransporter | None = None,
        **options: Unpack[InsightsClientOptions],
    ) -> Self:
        """A client with a customised `InsightsConfig` and, if given, transporter.

        Args:
            config: The config.
            transporter: The transporter.
            options: Keywords for the constructor, which gets those that are given here and no others, and `transporter`
                and `config`.
        """
        return cls(config=config, transporter=transporter, **options)

    def with_identity(self, identity: Identity | str | None) -> Self:
        """A view that pushes as `identity`; it shares the connections, and closing it closes nothing."""
        return self._with_provider(self.token_provider.with_identity(identity))

    def _with_provider(self, token_provider: TokenProvider) -> Self:
        view = copy(self)
        view.token_provider = token_provider
        view._is_view = True
        return view

    def _attributed(self, insights_events: InsightsEvents | dict[str, Any]) -> dict[str, Any] | None:
        """The body to send, or None where each of its events is of a visitor who opted out."""
        identity = self.token_provider.identity()
        try:
            return _attributed(insights_events, identity)
        except UserTokenError:
            raise
        except Exception as error:  # of what was given
            failure = unreadable(error)
        raise failure


def _attributed(insights_events: Any, identity: Identity | None) -> dict[str, Any] | None:
    body = batch_copy(_of_model(insights_events))
    events = body.get("events")
    if not isinstance(events, list | tuple) or not 0 < len(events) <= MAX_EVENTS:
        raise InvalidEventError(f"events must be a list of 1 to {MAX_EVENTS} events", "events")
    to_send = []
    for i, given in enumerate(events):
        try:
            event = attributed(_of_model(given), identity)
        except InvalidEventError as error:
            raise InvalidEventError(f"events[{i}]: {error}", error.field) from None
        except MissingUserTokenError as error:
            raise MissingUserTokenError(f"events[{i}]: {error}") from None
        if event is not None:
            to_send.append(without_nones(event))
    return {**body, "events": to_send} if to_send else None


def _of_model(thing: Any) -> Any:
    """What one of algoliasearch's models says; else the thing itself."""
    return thing if isinstance(thing, dict | type) or not hasattr(thing, "to_dict") else thing.to_dict()


def _nothing_to_send() -> ApiResponse[str]:
    """What Algolia answers, for events that are quietly not sent."""
    data = json.dumps({"status": 200, "message": "OK"})
    return ApiResponse(verb=Verb.POST, path="/1/events", status_code=200, data=data, raw_data=data)


class TokenAwareInsightsClient(_TokenAwareInsights[Transporter], InsightsClient):
    """algoliasearch's `InsightsClient`, whose `push_events` knows whose the events are.

    It fills `userToken` and `authenticatedUserToken` where an event has none, and leaves out the events of a visitor
    who opted out. Nothing it is given is changed.

    Args:
        app_id, api_key, region, transporter, config: As in `InsightsClient`.
        user_token: Who is meant where nobody else says.
        token_provider: Decides whose events they are: share it with the search client. Not together with `user_token`.

    Raises:
        InvalidEventError: From `push_events`, for what Algolia would refuse; the text says which event and field.
        MissingUserTokenError: From `push_events`, for an event that nobody is known for.

    https://www.algolia.com/doc/rest-api/insights/push-events
    """

    async def push_events_with_http_info(
        self,
        insights_events: InsightsEvents | dict[str, Any],
        request_options: dict[str, Any] | RequestOptions | None = None,
    ) -> ApiResponse[str]:
        body = None if insights_events is None else self._attributed(insights_events)
        if body is None and insights_events is not None:
            return _nothing_to_send()
        return await super().push_events_with_http_info(body, request_options)

    # algoliasearch's own is typed so that mypy takes it for Any on Python 3.10.
    async def __aenter__(self) -> Self:
        return self

    async def close(self) -> None:
        """Close the connections; on a view, nothing."""
        if not self._is_view:
            await super().close()


class TokenAwareInsightsClientSync(_TokenAwareInsights[TransporterSync], InsightsClientSync):
    """algoliasearch's `InsightsClientSync`, whose `push_events` knows whose the events are.

    What it does, its arguments and errors are those of `TokenAwareInsightsClient`.
    """

    def push_events_with_http_info(
        self,
        insights_events: InsightsEvents | dict[str, Any],
        request_options: dict[str, Any] | RequestOptions | None = None,
    ) -> ApiResponse[str]:
        body = None if insights_events is None else self._attributed(insights_events)
        if body is None and insights_events is not None:
            return _nothing_to_send()
        return super().push_events_with_http_info(body, request_options)

    # algoliasearch's own is typed so that mypy takes it for Any on Python 3.10.
    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """Close the connections; on a view, nothing."""
        if not self._is_view:
            super().close()
