"""The transporters: each is wrapped around one of algoliasearch, and puts on a request the user that its call is for.

The transporter is algoliasearch's own extension point. Each method, helper, page and stream of each client calls
`transporter.request(…)` or `.request_stream(…)`. So this one place covers them all, those of future versions included.
The decision (`apply_identity`) does no I/O, and the sync and the async transporter share it.
"""

from __future__ import annotations

import base64
import sys
import warnings
from collections.abc import Mapping
from functools import partial
from types import FrameType
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qsl

from algoliasearch.http.base_config import BaseConfig
from algoliasearch.http.request_options import RequestOptions
from algoliasearch.http.transporter import Transporter
from algoliasearch.http.transporter_sync import TransporterSync
from algoliasearch.http.verb import Verb

from .checks import check_bool, check_choice, type_name
from .errors import InvalidUserTokenError, MissingUserTokenError, MissingUserTokenWarning
from .identity import Identity, is_public_client_ip, is_user_token
from .provider import TokenProvider, check_provider
from .search_request import AB_TEST, HEADER, PARAMETER, SearchParameters, header_in_url, may_name_user, search_kind
from .sessions import close_sessions, leave_to_parent_in_a_fork, what_prepares_for_loops

if sys.version_info >= (3, 12):  # pragma: no cover - the coverage is measured with one version of Python
    from inspect import markcoroutinefunction
else:  # pragma: no cover - the same
    from asyncio.coroutines import _is_coroutine  # type: ignore[attr-defined]

    _Function = TypeVar("_Function")

    def markcoroutinefunction(function: _Function) -> _Function:
        """Do what Python 3.12 does, in the way of asgiref: asyncio and unittest.mock look at this attribute."""
        function._is_coroutine = _is_coroutine  # type: ignore[attr-defined]
        return function


FORWARDED_FOR = "X-Forwarded-For"
_HEADER = HEADER.lower()
_UPSTREAM_HEADERS = frozenset({"x-algolia-application-id", "x-algolia-api-key", "user-agent", "content-type"})
_FORWARDED_FOR = FORWARDED_FOR.lower()
_KEY = "x-algolia-api-key"
_DIGITS_OF_SIGNATURE = 64  # in a secured API key, the restrictions come after them

_PACKAGES = ("algoliasearch.", "algolia_usertoken.")

AnyTransporter = TypeVar("AnyTransporter", Transporter, TransporterSync)
UserTokenIn = Literal["header", "parameter", "both"]
OnMissingUserToken = Literal["ignore", "warn", "raise"]
SearchesWithoutUser = Literal["count", "no_ab_test", "no_analytics"]
_PARAMETERS_WITHOUT_USER: dict[str, dict[str, bool]] = {
    "count": {},
    "no_ab_test": {AB_TEST: False},
    "no_analytics": {AB_TEST: False, "analytics": False},
}


class _IdentifiedOptions(RequestOptions):
    """Request options with other headers and data. `copy.copy` works too, but costs more than the rest of a call."""

    __slots__ = ("_options",)  # so it is not among the attributes that to_dict() shows

    def __init__(self, options: RequestOptions, headers: dict[str, str], data: Any) -> None:
        self._options = options
        self._config = options._config
        self.query_parameters = options.query_parameters
        self.timeouts = options.timeouts
        self.headers = headers
        self.data = data

    def __getattr__(self, name: str) -> Any:  # for attributes that algoliasearch may add one day
        if name.startswith("__"):  # otherwise a copy would not be of this class
            raise AttributeError(name)
        return getattr(object.__getattribute__(self, "_options"), name)


class _Call:
    """One outgoing request: the user that the caller has named on it, and what has to be added to it."""

    def __init__(self, verb: str, path: str, options: RequestOptions) -> None:
        self.verb, self.path, self.options = verb, path, options
        self.kind = search_kind(verb, path)
        self.parameters: SearchParameters | None = None
        # The values that the header has already, in whatever case its name is written.
        self.present = self._values_of(_HEADER)
        self.token: Any = None
        self.config_token: Any = None
        if self.present:
            self.token, self.config_token = _own_and_config_token(self.present, options)
        # A header in the URL stays there, so the other one has to follow it.
        self.may_name_user = may_name_user(path, options)
        self.in_url = header_in_url(path, options) if self.may_name_user else None
        if self.in_url is not None:
            self.token = self.in_url
        # The value that the header is to have.
        self.header: Any = self.token if self.in_url is None or is_user_token(self.in_url) else None
        self.client_ip: str | None = None
        self.data = options.data

    def read_parameters(self) -> None:
        """Look for tokens in the parameters of a search."""
        if self.kind is not None:
            self.parameters = SearchParameters(self.kind, self.options, self.path)

    def forward(self, client_ip: str) -> None:
        """Forward an address, if the request is a search, and the caller does not forward another address."""
        if self.kind is not None and is_public_client_ip(client_ip) and not self._values_of(_FORWARDED_FOR):
            self.client_ip = client_ip

    def is_without_user(self) -> bool:
        """Whether the request has neither a token for each of its queries nor an address nor an API key of a user."""
        return (
            self.header is None
            and self.in_url is None
            and self.client_ip is None
            and not any(self._values_of(_FORWARDED_FOR))
            and not any(map(_names_user, self._values_of(_KEY)))
        )

    def write_without_user(self, parameters: Mapping[str, bool]) -> None:
        """Put parameters into each query that names no user."""
        if self.parameters is None:
            self.read_parameters()
        if self.parameters is not None:  # pragma: no branch - a search always has parameters
            self.data = self.parameters.write_without_user(parameters) or self.data

    def outgoing_options(self) -> RequestOptions:
        """The options to send the request with; these are the given options if there is nothing to change."""
        options, headers = self.options, self.options.headers
        as_present = self.present == ([] if self.header is None else [self.header])
        if as_present and self.client_ip is None and self.data is options.data:
            return options
        if self.present:
            headers = {name: value for name, value in headers.items() if _lower(name) != _HEADER}
        else:
            headers = headers.copy()
        if self.header is not None:
            headers[HEADER] = self.header
        if self.client_ip is not None:
            headers[FORWARDED_FOR] = self.client_ip
        return _IdentifiedOptions(options, headers, self.data)

    def _values_of(self, header: str) -> list[Any]:
        """The values of a header, whose name is given in lower case."""
        return [value for name, value in self.options.headers.items() if _lower(name) == header]


def _lower(name: Any) -> str:
    if type(name) is str:
        return name.lower()
    # requests takes a name in bytes too, and raises an error for anything else.
    return (name.decode("latin-1") if isinstance(name, bytes) else str(name)).lower()


def _names_user(api_key: Any) -> bool:
    """Whether an API key is a secured one that is bound to a user token.

    https://www.algolia.com/doc/guides/security/api-keys/how-to/user-restricted-access-to-data
    """
    if not isinstance(api_key, str):
        return False
    try:
        restrictions = base64.b64decode(api_key)[_DIGITS_OF_SIGNATURE:].decode("latin-1")  # the name is ASCII
    except ValueError:
        return False  # it is an ordinary key
    return any(name == PARAMETER for name, _ in parse_qsl(restrictions))


class _WarningText(str):
    """The text of a warning. Two of one kind are equal, whatever indices they name.

    For each line of code that warns, Python remembers the texts that it has shown. So it shows one warning of each kind
    per line, and what it remembers does not grow with the number of indices.
    """

    kind: str

    def __eq__(self, other: object) -> bool:
        return self.kind == other.kind if isinstance(other, _WarningText) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.kind)


class _TokenAware:
    """The common part of the async and the sync transporter: everything but the I/O.

    An attribute that is set, patched or deleted here is set, patched or deleted on the transporter inside, unless this
    class itself has it.
    """

    def __init__(
        self,
        transporter: Any,
        token_provider: TokenProvider,
        *,
        user_token_in: UserTokenIn = "header",
        on_missing_user_token: OnMissingUserToken = "ignore",
        forward_client_ip: bool = False,
        searches_without_user: SearchesWithoutUser = "count",
    ) -> None:
        check_provider(token_provider)
        check_choice("user_token_in", user_token_in, UserTokenIn)
        check_choice("on_missing_user_token", on_missing_user_token, OnMissingUserToken)
        check_choice("searches_without_user", searches_without_user, SearchesWithoutUser)
        check_bool("forward_client_ip", forward_client_ip)
        # If the transporter is token-aware already, this one takes its place, so that only one decides.
        inside: Any = transporter._transporter if isinstance(transporter, _TokenAware) else transporter
        leave_to_parent_in_a_fork(inside)
        self.token_provider = token_provider
        self._in_parameter = user_token_in != "header"
        self._in_parameter_only = user_token_in == "parameter"
        self._on_missing_user_token = on_missing_user_token
        self._forward_client_ip = forward_client_ip
        self._header_only = not self._in_parameter and not forward_client_ip
        self._parameters_without_user = _PARAMETERS_WITHOUT_USER[searches_without_user]
        self._prepare_for_loop = what_prepares_for_loops(inside)
        if inside is not transporter:
            for name in ("request", "request_stream"):
                if name in transporter.__dict__:  # a mock, which the new view has to use too
                    self.__dict__[name] = partial(self._send_with, transporter.__dict__[name])
        self._transporter: Any = inside  # set last: any later attribute is set on the transporter inside

    def apply_identity(self, verb: str, path: str, options: RequestOptions) -> RequestOptions:
        """Add the user that a call is for to the options of its request.

        Args:
            verb: The HTTP method, "POST" for example.
            path: The path, with the query string where there is one.
            options: The options as the caller gave them. They are not changed.

        Returns:
            The options to send the request with.

        Raises:
            MissingUserTokenError: No identity is known for a search, and `on_missing_user_token` is `"raise"`.
            InvalidUserTokenError: The caller's own header is no string, or `resolve()` returned no identity.

        https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
        """
        headers = options.headers
        if not (self._header_only and _UPSTREAM_HEADERS.issuperset(headers)) or may_name_user(path, options):
            return self._apply_all(_Call(verb, path, options))
        # This is the ordinary call: it names no user itself, and there is only a header to add.
        identity = self.token_provider.identity()
        if identity is None or identity.user_token is None or identity.opted_out:
            return self._apply_all(_Call(verb, path, options), identity)
        headers = headers.copy()
        headers[HEADER] = identity.user_token
        return _IdentifiedOptions(options, headers, options.data)

    def _apply_all(self, call: _Call, *asked: Identity | None) -> RequestOptions:
        """As `apply_identity`, for any call; `asked` is the answer of the provider, if it was asked already."""
        if self._in_parameter or call.may_name_user:
            call.read_parameters()
        self._decide(call, *asked)
        if call.parameters is not None:
            self._follow_parameters(call, call.parameters)
        if self._parameters_without_user and call.kind is not None and call.is_without_user():
            call.write_without_user(self._parameters_without_user)
        return call.outgoing_options()

    def _decide(self, call: _Call, *asked: Identity | None) -> None:
        """Decide for whom the call is made: the call itself names the user, or else the provider or the config does."""
        if call.token is not None or (call.parameters is not None and call.parameters.complete):
            return
        (identity,) = asked or (self.token_provider.identity(),)
        if identity is None:
            call.token = call.config_token
            if call.token is None and self._on_missing_user_token != "ignore":
                self._report_missing(call.verb, call.path)
        elif not identity.opted_out:
            call.token = identity.user_token
            if identity.client_ip is not None and (call.token is None or self._forward_client_ip):
                call.forward(identity.client_ip)
        call.header = call.token

    def _follow_parameters(self, call: _Call, parameters: SearchParameters) -> None:
        """Have the header name the user that the parameters name: one request never has two different tokens."""
        if self._in_parameter and parameters.writable and not parameters.complete and is_user_token(call.token):
            call.data = parameters.write(call.token)
        if parameters.named:
            call.header = parameters.single if is_user_token(parameters.single) else None
            if call.in_url not in (None, parameters.single):
                call.header = None
        if self._in_parameter_only and parameters.written and call.header not in call.present:
            call.header = None

    # These methods return what the transporter inside returns: an awaitable or a response, or an iterator.
    # They decide whose call it is when they are called. algoliasearch's async methods call them when they are first
    # awaited, and its streams at the first event. So an identity_scope has no effect on a coroutine that is made in it
    # and awaited after it.

    def request(self, verb: Verb, path: str, request_options: RequestOptions, use_read_transporter: bool) -> Any:
        """Send a request with the identity of the call on it."""
        return self._transporter.request(
            verb=verb,
            path=path,
            request_options=self.apply_identity(verb, path, request_options),
            use_read_transporter=use_read_transporter,
        )

    def request_stream(self, verb: Verb, path: str, request_options: RequestOptions, use_read_transporter: bool) -> Any:
        """Send a request with the identity of the call on it, and iterate over the events of its answer."""
        return self._transporter.request_stream(
            verb=verb,
            path=path,
            request_options=self.apply_identity(verb, path, request_options),
            use_read_transporter=use_read_transporter,
        )

    def _send_with(
        self, send: Any, verb: Verb, path: str, request_options: RequestOptions, use_read_transporter: bool
    ) -> Any:
        return send(
            verb=verb,
            path=path,
            request_options=self.apply_identity(verb, path, request_options),
            use_read_transporter=use_read_transporter,
        )

    def close(self) -> Any:
        """Close the transporter inside."""
        return self._transporter.close()

    def _report_missing(self, verb: str, path: str) -> None:
        kind = search_kind(verb, path)
        if kind is None or kind.endswith("browse"):  # an export: no user waits for it, and analytics ignore it
            return
        verb, path = getattr(verb, "value", verb), path.partition("?")[0]
        message = _WarningText(
            f"{verb} {path} has no user token: set one with identity_scope(), or search as Identity() for nobody"
        )
        message.kind = f"{verb} {kind}"
        if self._on_missing_user_token == "raise":
            raise MissingUserTokenError(str(message))
        caller = _caller()
        warnings.warn_explicit(
            message,
            MissingUserTokenWarning,
            caller.f_code.co_filename,
            caller.f_lineno,
            caller.f_globals.get("__name__"),
            caller.f_globals.setdefault("__warningregistry__", {}),  # the warnings that were shown already
        )

    @property
    def config(self) -> BaseConfig:
        """The config of the transporter inside."""
        config: BaseConfig = self._transporter.config
        return config

    def __getattr__(self, name: str) -> Any:
        # A custom transporter may have more attributes. While this one is copied or unpickled, it has none inside.
        if name.startswith("__") or "_transporter" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = getattr(self._transporter, name)
        if name in getattr(self._transporter, "__dict__", ()):
            setattr(_TokenAware, name, _InsideValue(name))
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._is_own(name):
            setattr(self._transporter, name, value)
        elif getattr(value, "__self__", None) is self and getattr(value, "__func__", None) is getattr(type(self), name):
            # One of our own methods is put back, as pytest's monkeypatch does after a test. In `__dict__`, this method
            # would be taken for a mock, and a view would use it.
            self.__dict__.pop(name, None)
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if self._is_own(name):
            object.__delattr__(self, name)
        else:
            delattr(self._transporter, name)

    def _is_own(self, name: str) -> bool:
        if "_transporter" not in self.__dict__ or name in self.__dict__:
            return True
        attribute = getattr(type(self), name, None)
        return attribute is not None and not isinstance(attribute, _Inside)


class _Inside:
    """An attribute that all transporters of algoliasearch have. It is read from the transporter inside."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, transporter: _TokenAware | None, owner: type) -> Any:
        return self if transporter is None else getattr(transporter._transporter, self._name)


class _InsideValue(_Inside):
    """An attribute that the transporter inside has in its `__dict__`, and whose value can be set.

    After a test, pytest's monkeypatch puts the value of such an attribute back. It deletes an attribute that has no
    `__set__`, as it takes it for a method that was set on the instance.
    """

    def __set__(self, transporter: _TokenAware, value: Any) -> None:
        setattr(transporter._transporter, self._name, value)


_TokenAware._session = _InsideValue("_session")  # type: ignore[attr-defined]  # before respx, which patches the class
for _name in {*dir(Transporter), *dir(TransporterSync)}:
    if not _name.startswith("__") and not hasattr(_TokenAware, _name):
        setattr(_TokenAware, _name, _Inside(_name))


class TokenAwareTransporter(_TokenAware, Transporter):
    """An async transporter around any other, which puts on each request the user that the call is for.

    It serves every event loop, each with connections of its own, and closes them when their loop ends. With
    algoliasearch alone, a second loop fails. A forked process opens connections of its own.

    Args:
        transporter: The object that sends the requests: algoliasearch's `Transporter`, an echo transporter, or your
            own.
        token_provider: The `TokenProvider` that decides who the user of each call is.
        user_token_in: The place of the user token in a request: `"header"` (`X-Algolia-UserToken`), `"parameter"` (the
            search parameter `userToken`, which Personalization and Recommend need; requests that are no searches keep
            the header) or `"both"`.
        on_missing_user_token: What to do with a search for which no identity is known: `"ignore"` sends it, `"warn"`
            sends it and issues a `MissingUserTokenWarning`, `"raise"` raises a `MissingUserTokenError` instead.
        forward_client_ip: Whether a search with a user token also sends the visitor's IP address (`X-Forwarded-For`),
            for geo search and analytics by country. By default, only searches without a token send it.
        searches_without_user: What to do with a query that has neither a user token nor an IP address, so that Algolia
            takes your server for its user: `"count"` sends it as it is, `"no_ab_test"` keeps it out of A/B tests,
            `"no_analytics"` out of analytics too. What the query itself sets (`enableABTest`, `analytics`) is not
            changed. Exports and GET requests are not changed either.

    Raises:
        TypeError: `token_provider` is not a TokenProvider, or `forward_client_ip` is neither True nor False.
        ValueError: Another option does not have one of the values above.

    https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
    """

    # This is a plain function, so that it decides whose call it is when it is called, and not when it is awaited. It is
    # marked as a coroutine function, as unittest.mock puts an AsyncMock only in the place of one.
    @markcoroutinefunction
    def request(self, verb: Verb, path: str, request_options: RequestOptions, use_read_transporter: bool) -> Any:
        """Send a request with the identity of the call on it."""
        inside, prepare = self._transporter, self._prepare_for_loop
        if prepare is not None:
            prepare(inside)
        return inside.request(
            verb=verb,
            path=path,
            request_options=self.apply_identity(verb, path, request_options),
            use_read_transporter=use_read_transporter,
        )

    def request_stream(self, verb: Verb, path: str, request_options: RequestOptions, use_read_transporter: bool) -> Any:
        """Send a request with the identity of the call on it, and iterate over the events of its answer."""
        if self._prepare_for_loop is not None:
            self._prepare_for_loop(self._transporter)
        return super().request_stream(verb, path, request_options, use_read_transporter)

    async def close(self) -> None:
        """Close the transporter inside: the connections of the running loop, and those of loops that are closed."""
        await close_sessions(self._transporter)


class TokenAwareTransporterSync(_TokenAware, TransporterSync):
    """A sync transporter around any other, which puts on each request the user that the call is for.

    A forked process opens connections of its own. With algoliasearch alone it uses those of its parent, too, and an
    answer may reach the wrong process.

    Args:
        transporter: The object that sends the requests: algoliasearch's `TransporterSync`, an echo transporter, or
            your own.
        token_provider: The `TokenProvider` that decides who the user of each call is.
        user_token_in: The place of the user token in a request: `"header"` (`X-Algolia-UserToken`), `"parameter"` (the
            search parameter `userToken`, which Personalization and Recommend need; requests that are no searches keep
            the header) or `"both"`.
        on_missing_user_token: What to do with a search for which no identity is known: `"ignore"` sends it, `"warn"`
            sends it and issues a `MissingUserTokenWarning`, `"raise"` raises a `MissingUserTokenError` instead.
        forward_client_ip: Whether a search with a user token also sends the visitor's IP address (`X-Forwarded-For`),
            for geo search and analytics by country. By default, only searches without a token send it.
        searches_without_user: What to do with a query that has neither a user token nor an IP address, so that Algolia
            takes your server for its user: `"count"` sends it as it is, `"no_ab_test"` keeps it out of A/B tests,
            `"no_analytics"` out of analytics too. What the query itself sets (`enableABTest`, `analytics`) is not
            changed. Exports and GET requests are not changed either.

    Raises:
        TypeError: `token_provider` is not a TokenProvider, or `forward_client_ip` is neither True nor False.
        ValueError: Another option does not have one of the values above.

    https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
    """


def _caller() -> FrameType:
    """The frame of the code that searches: the first one that is neither of this package nor of algoliasearch."""
    # Once Python 3.12 is the oldest, `skip_file_prefixes` can do this.
    frame = sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(_PACKAGES):
        frame = frame.f_back
    return frame


def _own_and_config_token(present: list[Any], options: RequestOptions) -> tuple[Any, Any]:
    """The token of the call's own header, and the one of `config.headers`. algoliasearch has merged these headers.

    So a token of the call that equals the one in the config counts as that of the config.
    """
    in_config = [value for name, value in options._config.headers.items() if _lower(name) == _HEADER and value]
    own = next((value for value in present if value and value not in in_config), None)
    if own is not None and not isinstance(own, str):
        raise InvalidUserTokenError(f"the header {HEADER} in request_options must be a string, not {type_name(own)}")
    return own, next((value for value in present if value in in_config), None)
