"""The search clients: algoliasearch's own, which know for which user each call is."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any, Generic, TypedDict, TypeVar

from algoliasearch.http.transporter import Transporter
from algoliasearch.http.transporter_sync import TransporterSync
from algoliasearch.insights.config import InsightsConfig
from algoliasearch.search.client import SearchClient, SearchClientSync
from algoliasearch.search.config import SearchConfig, TransformationOptions
from algoliasearch.search.models import SecuredApiKeyRestrictions
from typing_extensions import Self, Unpack

# Only for annotations: what they name is costly to import, and the package imports it when somebody evaluates them.
import algolia_usertoken

from .checks import app_id_and_key, check_type, wrong_type
from .context import may_name_visitor
from .errors import MissingUserTokenError

# The sender is imported here and not at the first use of `events`. In the middle of that import a fork could happen, or
# a signal handler could send an event, which would then wait for the import for ever.
from .events.reporting import OnError
from .events.sender import EventSender
from .identity import Identity
from .provider import TokenProvider, one_provider
from .transporter import (
    AnyTransporter,
    OnMissingUserToken,
    SearchesWithoutUser,
    TokenAwareTransporter,
    TokenAwareTransporterSync,
    UserTokenIn,
)

Client = TypeVar("Client")

logger = logging.getLogger("algolia_usertoken.clients")


# The arguments of a sender that the client gives to its own one, and the names under which the client takes them.
_FROM_CLIENT = {
    "app_id": "app_id",
    "api_key": "api_key",
    "region": "insights_region",
    "config": "insights_config",
    "user_token": "user_token",
    "token_provider": "token_provider",
}


class EventOptions(TypedDict, total=False):
    """The options of `EventSender` that a client takes as its `events=`. They mean what they mean there.

        TokenAwareClientSync(events={"strict": True, "flush_interval": 0.2})

    The client itself knows the user of the events and the application to which they go.
    """

    delivery: algolia_usertoken.Delivery | None
    outbox: algolia_usertoken.SQLiteOutbox | None
    max_queue_size: int
    max_queue_bytes: int
    batch_size: int
    flush_interval: float
    concurrency: int
    max_retry_time: float
    close_timeout: float
    background: bool
    strict: bool
    on_error: OnError | None


class ClientOptions(TypedDict, total=False):
    """The keywords that the clients take beside those of algoliasearch."""

    user_token: Identity | str | None
    token_provider: TokenProvider | None
    user_token_in: UserTokenIn
    on_missing_user_token: OnMissingUserToken
    searches_without_user: SearchesWithoutUser
    forward_client_ip: bool
    insights_config: InsightsConfig | None
    insights_region: str | None
    events: EventSender | EventOptions | None


class _TokenAwareClient(Generic[AnyTransporter]):
    """What the async and the sync client have in common: everything but the I/O."""

    _config: Any
    _transporter: Any
    _ingestion_transporter: Any
    _parent: Any = None  # the client that this is a view of
    _closed = False  # `close` was called, and no `with` block has opened the client again

    def __init__(
        self,
        app_id: str | None = None,
        api_key: str | None = None,
        transporter: AnyTransporter | None = None,
        config: SearchConfig | None = None,
        *,
        user_token: Identity | str | None = None,
        token_provider: TokenProvider | None = None,
        user_token_in: UserTokenIn = "header",
        on_missing_user_token: OnMissingUserToken = "ignore",
        forward_client_ip: bool = False,
        searches_without_user: SearchesWithoutUser = "count",
        insights_config: InsightsConfig | None = None,
        insights_region: str | None = None,
        events: EventSender | EventOptions | None = None,
    ) -> None:
        given: EventSender | None = None
        self._event_options: dict[str, Any] | None = None
        if isinstance(events, EventSender):
            given = events
        elif events is not None:
            self._event_options = _checked_options(events)
        if insights_config is not None:
            check_type("insights_config", insights_config, InsightsConfig, "an InsightsConfig")
        if insights_region is not None and insights_config is not None:
            raise ValueError("insights_region and insights_config both say which region it is: give one of them")
        self._provider = one_provider(user_token, token_provider, None if given is None else given.token_provider)
        self._options: dict[str, Any] = {
            "user_token_in": user_token_in,
            "on_missing_user_token": on_missing_user_token,
            "forward_client_ip": forward_client_ip,
            "searches_without_user": searches_without_user,
        }
        self._insights_config = insights_config
        self._insights_region = insights_region
        self._given_events = given
        if transporter is None and config is None:
            app_id, api_key = app_id_and_key(app_id, api_key)
        super().__init__(app_id, api_key, transporter, config)  # type: ignore[call-arg]
        make_token_aware(self, self._provider, **self._options)
        # Both are checked now, where the developer sees an error, and not at the first event of a visitor.
        if insights_region is not None:
            self._used_insights_config().set_default_hosts()  # type: ignore[no-untyped-call]
        if self._event_options is not None:
            self._own_events()

    @property
    def token_provider(self) -> TokenProvider:
        """The provider that decides who the user of each call is. `events` and `insights` share it."""
        return self._provider

    @classmethod
    def create_with_config(
        cls,
        config: SearchConfig,
        transporter: AnyTransporter | None = None,
        **options: Unpack[ClientOptions],
    ) -> Self:
        """Make a client with a `SearchConfig` of your own.

        Args:
            config: The config.
            transporter: The object that sends the requests. By default, algoliasearch's own transporter.
            options: Keywords of the constructor. The constructor of a subclass gets only those that are given here, and
                `app_id`, `api_key`, `transporter` and `config`, as algoliasearch calls its own.

        Returns:
            A client of this class.

        Raises:
            ValueError, TypeError, InvalidUserTokenError: For the same reasons as in the constructor.

        https://www.algolia.com/old-docs/libraries/python/v4/customize/
        """
        # algoliasearch's method also prepares the config. The client that it makes is of its own class, and not used.
        super().create_with_config(config, transporter)  # type: ignore[misc]
        return cls(app_id=config.app_id, api_key=config.api_key, transporter=transporter, config=config, **options)

    def with_identity(self, identity: Identity | str | None) -> Self:
        """Return a view of this client, which makes all its calls, and sends all its events, for `identity`.

        The view uses the connections and the event queue of this client. Closing the view closes nothing.

        Args:
            identity: The user for whom the view makes calls: an `Identity`, or a string, which is a user token.
                `Identity()` means nobody. With None, this client's token provider decides.

        Returns:
            A client of the same class.

        Raises:
            InvalidUserTokenError: `identity` is neither an Identity nor a valid token nor None.

        https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
        """
        view = copy(self)
        view._parent = self._parent or self
        view._provider = self._provider.with_identity(identity)
        view._ingestion_transporter = copy(self._ingestion_transporter)
        return make_token_aware(view, view._provider, **self._options)

    @property
    def events(self) -> EventSender:
        """The sender of this client's events, which shares `token_provider`. It is made when it is first used.

        The client closes it with itself. After that, its `stats` can still be read, and further events are dropped.
        """
        sender = (self._parent or self)._own_events()
        return sender if sender.token_provider is self._provider else sender._with_provider(self._provider)

    def _own_events(self) -> EventSender:
        if self._given_events is not None:
            return self._given_events
        made: EventSender | None = self.__dict__.get("_made_events")
        if made is not None:
            return made
        events: EventSender = self._made("events", self._new_events)
        if self._closed:  # the client was closed before this first use, or while the sender was made
            events._close_with_client()
            events.close()
        return events

    def _begin_close(self) -> EventSender | None:
        """Accept no more events, and return the client's own sender, which has to be closed, if there is one."""
        # This comes first: a thread that makes a sender from now on closes it.
        self._closed = True
        made: EventSender | None = self.__dict__.get("_made_events")
        if made is not None:
            made._close_with_client()
        return made

    def _open_again(self) -> None:
        """Open the client again for a `with` block after `close`: the next event gets a new sender."""
        if self._closed:
            made = self.__dict__.pop("_made_events", None)
            self._closed = False
            if self._event_options is not None:
                try:
                    self._own_events()
                except BaseException:  # an outbox in the options was closed with the sender before, for example
                    self._made_events, self._closed = made, True
                    raise

    def _insights(self) -> Any:
        client = (self._parent or self)._own_insights()
        return client if client.token_provider is self._provider else client._with_provider(self._provider)

    def _own_insights(self) -> Any:
        return self._made("insights", self._new_insights)

    def _made(self, name: str, make: Callable[[], Any]) -> Any:
        """Return what `make` made at the first use, which is kept under this name.

        There is no lock: a signal handler or a `__del__` that comes here too may interrupt the thread that holds it,
        and after a fork that thread may not exist any more. Where two threads come at once, both make one, and the
        first is kept.
        """
        made = self.__dict__.get(f"_made_{name}")
        return self.__dict__.setdefault(f"_made_{name}", make()) if made is None else made

    def _leave_ingestion_to_parent(self) -> None:
        if self._parent is not None:
            self._ingestion_transporter = None  # else algoliasearch would close that of the client

    def _used_insights_config(self) -> InsightsConfig:
        if self._insights_config is not None:
            return self._insights_config
        config: InsightsConfig = self._made(
            "insights_config",
            lambda: InsightsConfig(self._config.app_id, self._config.api_key, self._insights_region),
        )
        return config

    def _new_events(self) -> EventSender:
        return EventSender(
            config=self._used_insights_config(), token_provider=self._provider, **self._event_options or {}
        )

    def _new_insights(self) -> Any:
        raise NotImplementedError

    def _set_insights_api_key(self, api_key: str) -> None:
        config = (self._parent or self).__dict__.get("_made_insights_config")
        if config is not None:
            config.set_client_api_key(api_key)

    def _restricted_to_user(self, restrictions: dict[str, Any] | SecuredApiKeyRestrictions | None) -> dict[str, Any]:
        """`restrictions` with the current user token, unless they have one themselves."""
        given: dict[str, Any] = (
            {} if restrictions is None else restrictions if isinstance(restrictions, dict) else restrictions.to_dict()
        )
        parameters = given.get("searchParams") or {}
        if not parameters.get("userToken") and "userToken" in parameters:
            # It is empty, and algoliasearch would let it win: the key would be that of all users.
            parameters = {name: value for name, value in parameters.items() if name != "userToken"}
            given = {**given, "searchParams": parameters}
        if given.get("userToken") or parameters.get("userToken"):
            _note_in_response()
            return given
        identity = self.token_provider.identity()
        if identity is None or identity.opted_out or identity.user_token is None:
            raise MissingUserTokenError(
                "no user token is known, and secured_api_key() binds the key to the current one: "
                "call it where one is known, or use generate_secured_api_key() for a key of all users"
            )
        _note_in_response()
        return {**given, "userToken": identity.user_token}

    def _build_ingestion_transporter(self, *args: Any, **kwargs: Any) -> Any:
        client = super()._build_ingestion_transporter(*args, **kwargs)  # type: ignore[misc]
        return make_token_aware(client, self.token_provider, **self._options)

    def __getstate__(self) -> dict[str, Any]:
        # Another process makes its own when it first uses them.
        own = ("_made_events", "_made_insights", "_closed")
        return {name: value for name, value in self.__dict__.items() if name not in own}


def _note_in_response() -> None:
    """Have the response that is being made leave shared caches alone, as it will name its visitor."""
    if not may_name_visitor():
        _warn_of_shared_key()  # but the key is made: it may not be for this response at all


@functools.cache
def _warn_of_shared_key() -> None:
    logger.warning(
        "a secured API key was made for a response whose headers were sent before, and allow shared caches to keep it. "
        "If the key is in that response, call secured_api_key() before the response begins, or send Cache-Control: "
        "private with it. This is logged once"
    )


class TokenAwareClient(_TokenAwareClient[Transporter], SearchClient):
    """algoliasearch's async `SearchClient`, which names in each request the user for whom the call is made.

        async with TokenAwareClient("APP_ID", "API_KEY") as client:
            with identity_scope("user-1"):
                await client.search_single_index("products", {"query": "shoes"})

    Args:
        app_id: The id of the application. By default, the value of the environment variable `ALGOLIA_APP_ID`.
        api_key: An API key. By default, the value of the environment variable `ALGOLIA_API_KEY`.
        transporter: The object that sends the requests. By default, algoliasearch's own transporter.
        config: A `SearchConfig` of algoliasearch, which is used instead of `app_id` and `api_key`.
        user_token: The user of a call if nothing else names one, for example the name of a background job.
        token_provider: The `TokenProvider` that decides who the user of each call is. It cannot be given together with
            `user_token`. By default, a new one, which asks the context.
        user_token_in: The place of the user token in a request: `"header"` (`X-Algolia-UserToken`), `"parameter"` (the
            search parameter `userToken`, which Personalization and Recommend need) or `"both"`.
        on_missing_user_token: What to do with a search for which no identity is known: `"ignore"` sends it, `"warn"`
            sends it and issues a `MissingUserTokenWarning`, `"raise"` raises a `MissingUserTokenError` instead.
        forward_client_ip: Whether a search with a user token also sends the visitor's IP address (`X-Forwarded-For`),
            for geo search and analytics by country. By default, only searches without a token send it.
        searches_without_user: What to do with a query that has neither a user token nor an IP address, so that Algolia
            takes your server for its user: `"count"` sends it as it is, `"no_ab_test"` keeps it out of A/B tests,
            `"no_analytics"` out of analytics too. What the query itself sets (`enableABTest`, `analytics`) is not
            changed.
        insights_config: An `InsightsConfig` for `insights` and `events`. By default, one with the client's application
            and key.
        insights_region: The region in which Algolia keeps the application's events: `"us"` or `"de"`. It cannot be
            given together with `insights_config`. By default, the events go to a host that forwards them.
        events: An `EventSender`, whose token provider the client then uses too; or options (`EventOptions`, for example
            `{"strict": True}`) for a sender that the client makes, and that is closed with the client.

    Raises:
        ValueError: Two arguments name the user of the calls, or the region; or an option is out of its range.
        TypeError: An argument is of the wrong type, or `events` has an option that does not exist.
        InvalidUserTokenError: Algolia does not accept `user_token` as a user token.

    https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
    """

    @property
    def insights(self) -> algolia_usertoken.TokenAwareInsightsClient:
        """An Insights client that shares `token_provider`. It is made when it is first used."""
        client: algolia_usertoken.TokenAwareInsightsClient = self._insights()
        return client

    def _new_insights(self) -> algolia_usertoken.TokenAwareInsightsClient:
        from .insights import TokenAwareInsightsClient

        return TokenAwareInsightsClient(config=self._used_insights_config(), token_provider=self._provider)

    async def secured_api_key(
        self, parent_api_key: str, restrictions: dict[str, Any] | SecuredApiKeyRestrictions | None = None
    ) -> str:
        """Make a secured API key for a front end, which is bound to the current user token.

        Anybody can read the token in the key. So, under a web integration, this makes the response private, as
        `browser.script` does. Call it before the response begins.

        Args:
            parent_api_key: The search-only key to restrict.
            restrictions: More restrictions, as `generate_secured_api_key` takes them. If they have a `userToken`, that
                one is used.

        Returns:
            The key.

        Raises:
            MissingUserTokenError: No user token is known.

        https://www.algolia.com/doc/guides/security/api-keys/how-to/user-restricted-access-to-data
        """
        return await self.generate_secured_api_key(parent_api_key, self._restricted_to_user(restrictions))

    # algoliasearch's own method is typed in such a way that mypy takes it for Any on Python 3.10.
    async def __aenter__(self) -> Self:
        """This client; `async with` closes it at the end of the block."""
        self._open_again()
        return self

    async def set_transformation_options(self, transformation_options: TransformationOptions) -> None:
        """Set how records are pushed through transformations. On a view, this holds for that view alone."""
        self._leave_ingestion_to_parent()
        await super().set_transformation_options(transformation_options)

    async def set_client_api_key(self, api_key: str) -> None:
        """Set a new API key for searches and, where no `insights_config` was given, for events."""
        await super().set_client_api_key(api_key)
        self._set_insights_api_key(api_key)

    async def close(self) -> None:
        """Deliver the events that are queued, and close what this client opened. On a view, this does nothing.

        Call it once, when the application ends: events that are sent after it are dropped, counted and logged. An
        `async with` block opens the client again.
        """
        if self._parent is not None:
            return
        try:
            events = self._begin_close()
            if events is not None:
                await events.aclose()
            if self._given_events is not None:
                await self._given_events.aflush(self._given_events.close_timeout)
        finally:
            try:
                insights = self.__dict__.get("_made_insights")
                if insights is not None:
                    await insights.close()
            finally:
                await super().close()


class TokenAwareClientSync(_TokenAwareClient[TransporterSync], SearchClientSync):
    """algoliasearch's `SearchClientSync`, which names in each request the user for whom the call is made.

        client = TokenAwareClientSync("APP_ID", "API_KEY")
        with identity_scope("user-1"):
            client.search_single_index("products", {"query": "shoes"})

    Args:
        app_id: The id of the application. By default, the value of the environment variable `ALGOLIA_APP_ID`.
        api_key: An API key. By default, the value of the environment variable `ALGOLIA_API_KEY`.
        transporter: The object that sends the requests. By default, algoliasearch's own transporter.
        config: A `SearchConfig` of algoliasearch, which is used instead of `app_id` and `api_key`.
        user_token: The user of a call if nothing else names one, for example the name of a background job.
        token_provider: The `TokenProvider` that decides who the user of each call is. It cannot be given together with
            `user_token`. By default, a new one, which asks the context.
        user_token_in: The place of the user token in a request: `"header"` (`X-Algolia-UserToken`), `"parameter"` (the
            search parameter `userToken`, which Personalization and Recommend need) or `"both"`.
        on_missing_user_token: What to do with a search for which no identity is known: `"ignore"` sends it, `"warn"`
            sends it and issues a `MissingUserTokenWarning`, `"raise"` raises a `MissingUserTokenError` instead.
        forward_client_ip: Whether a search with a user token also sends the visitor's IP address (`X-Forwarded-For`),
            for geo search and analytics by country. By default, only searches without a token send it.
        searches_without_user: What to do with a query that has neither a user token nor an IP address, so that Algolia
            takes your server for its user: `"count"` sends it as it is, `"no_ab_test"` keeps it out of A/B tests,
            `"no_analytics"` out of analytics too. What the query itself sets (`enableABTest`, `analytics`) is not
            changed.
        insights_config: An `InsightsConfig` for `insights` and `events`. By default, one with the client's application
            and key.
        insights_region: The region in which Algolia keeps the application's events: `"us"` or `"de"`. It cannot be
            given together with `insights_config`. By default, the events go to a host that forwards them.
        events: An `EventSender`, whose token provider the client then uses too; or options (`EventOptions`, for example
            `{"strict": True}`) for a sender that the client makes, and that is closed with the client.

    Raises:
        ValueError: Two arguments name the user of the calls, or the region; or an option is out of its range.
        TypeError: An argument is of the wrong type, or `events` has an option that does not exist.
        InvalidUserTokenError: Algolia does not accept `user_token` as a user token.

    https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
    """

    @property
    def insights(self) -> algolia_usertoken.TokenAwareInsightsClientSync:
        """An Insights client that shares `token_provider`. It is made when it is first used."""
        client: algolia_usertoken.TokenAwareInsightsClientSync = self._insights()
        return client

    def _new_insights(self) -> algolia_usertoken.TokenAwareInsightsClientSync:
        from .insights import TokenAwareInsightsClientSync

        return TokenAwareInsightsClientSync(config=self._used_insights_config(), token_provider=self._provider)

    def secured_api_key(
        self, parent_api_key: str, restrictions: dict[str, Any] | SecuredApiKeyRestrictions | None = None
    ) -> str:
        """Make a secured API key for a front end, which is bound to the current user token.

        Anybody can read the token in the key. So, under a web integration, this makes the response private, as
        `browser.script` does. Call it before the response begins.

        Args:
            parent_api_key: The search-only key to restrict.
            restrictions: More restrictions, as `generate_secured_api_key` takes them. If they have a `userToken`, that
                one is used.

        Returns:
            The key.

        Raises:
            MissingUserTokenError: No user token is known.

        https://www.algolia.com/doc/guides/security/api-keys/how-to/user-restricted-access-to-data
        """
        return self.generate_secured_api_key(parent_api_key, self._restricted_to_user(restrictions))

    # algoliasearch's own method is typed in such a way that mypy takes it for Any on Python 3.10.
    def __enter__(self) -> Self:
        """This client; `with` closes it at the end of the block."""
        self._open_again()
        return self

    def set_transformation_options(self, transformation_options: TransformationOptions) -> None:
        """Set how records are pushed through transformations. On a view, this holds for that view alone."""
        self._leave_ingestion_to_parent()
        super().set_transformation_options(transformation_options)

    def set_client_api_key(self, api_key: str) -> None:
        """Set a new API key for searches and, where no `insights_config` was given, for events."""
        super().set_client_api_key(api_key)
        self._set_insights_api_key(api_key)

    def close(self) -> None:
        """Deliver the events that are queued, and close what this client opened. On a view, this does nothing.

        Call it once, when the application ends: events that are sent after it are dropped, counted and logged. A `with`
        block opens the client again.
        """
        if self._parent is not None:
            return
        try:
            events = self._begin_close()
            if events is not None:
                events.close()
            if self._given_events is not None:
                self._given_events.flush(self._given_events.close_timeout)
        finally:
            try:
                insights = self.__dict__.get("_made_insights")
                if insights is not None:
                    insights.close()
            finally:
                super().close()


def _checked_options(options: Mapping[str, object]) -> dict[str, Any]:
    """A copy of the options for a client's own sender. That sender checks their values.

    Raises:
        TypeError: They are not a mapping, or one of them is not an option.
    """
    check_type("events", options, Mapping, "an EventSender, or its options as a mapping (EventOptions)")
    for name in options:
        if isinstance(name, str) and name in _FROM_CLIENT:
            raise TypeError(f"events cannot have the option {name!r}: give {_FROM_CLIENT[name]} to the client itself")
        if name not in EventOptions.__annotations__:
            known = ", ".join(EventOptions.__annotations__)
            is_value = isinstance(name, str) and not name.isidentifier()  # a value may be personal, and is not quoted
            said = "of that name" if is_value else repr(name)
            raise TypeError(f"events has no option {said}: its options are {known}")
    return dict(options)


def make_token_aware(
    client: Client,
    token_provider: TokenProvider | None = None,
    *,
    user_token_in: UserTokenIn = "header",
    on_missing_user_token: OnMissingUserToken = "ignore",
    forward_client_ip: bool = False,
    searches_without_user: SearchesWithoutUser = "count",
) -> Client:
    """Make any client of algoliasearch token-aware: recommend, composition, or a search client that others made.

    Args:
        client: The client, sync or async. It is changed. If you call this twice for a client, the last call counts.
        token_provider: The `TokenProvider` that decides who the user of each call is. By default, a new one, which asks
            the context.
        user_token_in: The place of the user token in a request: `"header"` (`X-Algolia-UserToken`), `"parameter"` (the
            search parameter `userToken`, which Personalization and Recommend need) or `"both"`.
        on_missing_user_token: What to do with a search for which no identity is known: `"ignore"` sends it, `"warn"`
            sends it and issues a `MissingUserTokenWarning`, `"raise"` raises a `MissingUserTokenError` instead.
        forward_client_ip: Whether a search with a user token also sends the visitor's IP address (`X-Forwarded-For`).
        searches_without_user: What to do with a query that has neither a user token nor an IP address: `"count"` sends
            it as it is, `"no_ab_test"` keeps it out of A/B tests, `"no_analytics"` out of analytics too.

    Returns:
        The same client.

    Raises:
        TypeError: `client` is not a client of algoliasearch, `token_provider` is not a TokenProvider, or
            `forward_client_ip` is neither True nor False.
        ValueError: Another option does not have one of the values above.

    https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
    """
    transporter = getattr(client, "_transporter", None)
    if transporter is None:
        raise wrong_type("client", "an algoliasearch client", client)
    is_async = isinstance(transporter, Transporter) or inspect.iscoroutinefunction(transporter.request)
    transporter_class = TokenAwareTransporter if is_async else TokenAwareTransporterSync
    options: dict[str, Any] = {
        "user_token_in": user_token_in,
        "on_missing_user_token": on_missing_user_token,
        "forward_client_ip": forward_client_ip,
        "searches_without_user": searches_without_user,
    }
    provider = TokenProvider() if token_provider is None else token_provider
    client._transporter = transporter_class(transporter, provider, **options)  # type: ignore[attr-defined]
    if isinstance(client, _TokenAwareClient):
        client._provider, client._options = provider, options
    # A search client pushes records through a client of its own, for transformations.
    if getattr(client, "_ingestion_transporter", None) is not None:
        make_token_aware(client._ingestion_transporter, provider, **options)  # type: ignore[attr-defined]
    return client
