"""Insights clients whose `push_events` fills in the user of each event, and refuses what Algolia would refuse."""

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

from .checks import app_id_and_key
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
    """What the async and the sync client have in common: everything but the I/O."""

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
        if transporter is None and config is None:
            app_id, api_key = app_id_and_key(app_id, api_key)
        super().__init__(app_id, api_key, region, transporter, config)  # type: ignore[call-arg]
        look_after(self._transporter)  # type: ignore[attr-defined]

    @classmethod
    def create_with_config(
        cls,
        config: InsightsConfig,
        transporter: AnyTransporter | None = None,
        **options: Unpack[InsightsClientOptions],
    ) -> Self:
        """Make a client with an `InsightsConfig` of your own.

        Args:
            config: The config.
            transporter: The object that sends the requests. By default, algoliasearch's own transporter.
            options: Keywords of the constructor. The constructor of a subclass gets only those that are given here, and
                `transporter` and `config`.

        Returns:
            A client of this class.

        Raises:
            ValueError, TypeError, InvalidUserTokenError: For the same reasons as in the constructor.

        https://www.algolia.com/old-docs/libraries/python/v4/customize/
        """
        return cls(config=config, transporter=transporter, **options)

    def with_identity(self, identity: Identity | str | None) -> Self:
        """Return a view of this client, which sends all its events for `identity`.

        The view uses the connections of this client. Closing the view closes nothing.

        Args:
            identity: The user of the events: an `Identity`, or a string, which is a user token. `Identity()` means
                nobody. With None, this client's token provider decides.

        Raises:
            InvalidUserTokenError: `identity` is neither an Identity nor a valid token nor None.

        https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
        """
        return self._with_provider(self.token_provider.with_identity(identity))

    def _with_provider(self, token_provider: TokenProvider) -> Self:
        view = copy(self)
        view.token_provider = token_provider
        view._is_view = True
        return view

    def _attributed(self, insights_events: InsightsEvents | dict[str, Any]) -> dict[str, Any] | None:
        """The body to send; None if all of its events are those of visitors who opted out."""
        identity = self.token_provider.identity()
        try:
            return _attributed(insights_events, identity)
        except UserTokenError:
            raise
        except Exception as error:  # an object in the events raised it
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
    """A model of algoliasearch as a dict; anything else as it is."""
    return thing if isinstance(thing, dict | type) or not hasattr(thing, "to_dict") else thing.to_dict()


def _nothing_to_send() -> ApiResponse[str]:
    """The answer to a request that is not sent, as all of its events are those of visitors who opted out."""
    data = json.dumps({"status": 200, "message": "OK"})
    return ApiResponse(verb=Verb.POST, path="/1/events", status_code=200, data=data, raw_data=data)


class TokenAwareInsightsClient(_TokenAwareInsights[Transporter], InsightsClient):
    """algoliasearch's `InsightsClient`, whose `push_events` fills in the user of each event.

    If an event has no user token, `push_events` fills in `userToken` and `authenticatedUserToken`. It leaves out the
    events of visitors who opted out. It does not change the events that you pass.

    Args:
        app_id: The id of the application. By default, the value of the environment variable `ALGOLIA_APP_ID`.
        api_key: An API key with the ACL `search`. By default, the environment variable `ALGOLIA_API_KEY`.
        region: The region in which Algolia keeps the application's events: `"us"` or `"de"`. By default, the events go
            to a host that forwards them.
        transporter: The object that sends the requests. By default, algoliasearch's own transporter.
        config: An `InsightsConfig` of algoliasearch, which is used instead of `app_id`, `api_key` and `region`.
        user_token: The user of the events if nothing else names one, for example the name of a background job.
        token_provider: The `TokenProvider` that decides who the user of each event is. Give that of your search client.
            It cannot be given together with `user_token`. By default, a new one, which asks the context.

    Raises:
        ValueError: Both `user_token` and `token_provider` are given.
        TypeError: `token_provider` is not a TokenProvider.
        InvalidUserTokenError: Algolia does not accept `user_token` as a user token.
        InvalidEventError: From `push_events`, for an event that Algolia would refuse. The text says which one, and why.
        MissingUserTokenError: From `push_events`, for an event for which no identity is known.

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

    # algoliasearch's own method is typed in such a way that mypy takes it for Any on Python 3.10.
    async def __aenter__(self) -> Self:
        """This client; `async with` closes it at the end of the block."""
        return self

    async def close(self) -> None:
        """Close the connections. On a view, this does nothing."""
        if not self._is_view:
            await super().close()


class TokenAwareInsightsClientSync(_TokenAwareInsights[TransporterSync], InsightsClientSync):
    """algoliasearch's `InsightsClientSync`, whose `push_events` fills in the user of each event.

    If an event has no user token, `push_events` fills in `userToken` and `authenticatedUserToken`. It leaves out the
    events of visitors who opted out. It does not change the events that you pass.

    Args:
        app_id: The id of the application. By default, the value of the environment variable `ALGOLIA_APP_ID`.
        api_key: An API key with the ACL `search`. By default, the environment variable `ALGOLIA_API_KEY`.
        region: The region in which Algolia keeps the application's events: `"us"` or `"de"`. By default, the events go
            to a host that forwards them.
        transporter: The object that sends the requests. By default, algoliasearch's own transporter.
        config: An `InsightsConfig` of algoliasearch, which is used instead of `app_id`, `api_key` and `region`.
        user_token: The user of the events if nothing else names one, for example the name of a background job.
        token_provider: The `TokenProvider` that decides who the user of each event is. Give that of your search client.
            It cannot be given together with `user_token`. By default, a new one, which asks the context.

    Raises:
        ValueError: Both `user_token` and `token_provider` are given.
        TypeError: `token_provider` is not a TokenProvider.
        InvalidUserTokenError: Algolia does not accept `user_token` as a user token.
        InvalidEventError: From `push_events`, for an event that Algolia would refuse. The text says which one, and why.
        MissingUserTokenError: From `push_events`, for an event for which no identity is known.

    https://www.algolia.com/doc/rest-api/insights/push-events
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

    # algoliasearch's own method is typed in such a way that mypy takes it for Any on Python 3.10.
    def __enter__(self) -> Self:
        """This client; `with` closes it at the end of the block."""
        return self

    def close(self) -> None:
        """Close the connections. On a view, this does nothing."""
        if not self._is_view:
            super().close()
