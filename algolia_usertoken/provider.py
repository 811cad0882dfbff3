"""The token provider, which decides for whom a call is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from .checks import check_type, wrong_type
from .context import LOGGED_OUT, current_identity, identity_scope
from .identity import Identity, as_identity

F = TypeVar("F", bound=Callable[..., Any])


class TokenProvider:
    """Decides for whom a client makes a call or sends an event.

    It asks in this order, and takes the first answer as a whole:

    1. the context: `identity_scope`, `set_user_token`, or a web integration;
    2. `resolve()`, if it was given;
    3. `default`.

    None is no answer, and the next source is asked. `Identity()` is an answer: the call is made for nobody. There is
    one exception: if the context knows the login but no user token, the user token that `resolve()` returns is added.
    If `resolve()` says that the visitor opted out, that is the answer. If it returns no user token, the login is the
    user token too.

    If the visitor of a web request was known by the login alone and logs out, `resolve()` is asked again, but the
    default is not, as it stands for a background job and not for a visitor.

    Args:
        default: For whom a call is made if the context and `resolve` have no answer, for example the name of a
            background job.
        resolve: A function without arguments, which is called for each request for which the context has no answer. It
            must be fast, and must not block. If it raises an error, a search raises that error, and an event is
            refused, counted and reported.

    Raises:
        InvalidUserTokenError: `default` is not what Algolia accepts.
        TypeError: `resolve` is not callable.

    https://www.algolia.com/doc/guides/sending-events/concepts/usertoken
    """

    def __init__(
        self, default: Identity | str | None = None, *, resolve: Callable[[], Identity | str | None] | None = None
    ) -> None:
        if resolve is not None and not callable(resolve):
            raise wrong_type("resolve", "callable", resolve)
        default = as_identity(default, "default")
        self._default = default and _with_user_token(default)
        self._resolve = resolve

    def identity(self) -> Identity | None:
        """Decide for whom the current call is made.

        Returns:
            The identity, or None if there is no answer.

        Raises:
            InvalidUserTokenError: `resolve()` returned something that is not an identity.
        """
        identity = current_identity()
        if identity is None:
            identity = self._resolved() if self._resolve is not None else None
            if identity is None:
                return self._default
        elif identity.user_token is None and identity.authenticated_user_token is not None:
            resolved = self._resolved()
            if resolved is not None and resolved.opted_out:
                return resolved
            if resolved is not None and resolved.user_token is not None:
                return replace(identity, user_token=resolved.user_token)
        elif identity is LOGGED_OUT:
            # The request names nobody any more. The default would name somebody else.
            identity = self._resolved() or identity
        return _with_user_token(identity) if identity.user_token is None else identity

    def with_identity(self, identity: Identity | str | None) -> TokenProvider:
        """A provider that always answers `identity`.

        Args:
            identity: The answer: a string is a user token. None leaves the answer to this provider.

        Raises:
            InvalidUserTokenError: `identity` is neither an Identity nor a valid token nor None.
        """
        return _BoundProvider(self, identity)

    def _resolved(self) -> Identity | None:
        if self._resolve is None:
            return None
        return as_identity(self._resolve(), "the value that resolve() returned")


def bind(function: F, token_provider: TokenProvider | None = None) -> F:
    """Make a function that always runs as the identity that is current now.

        executor.submit(bind(recommend), "products")

    Use it where the context is not handed on: for `threading.Thread`, executors and `loop.run_in_executor`.
    `asyncio.to_thread` and `asyncio.create_task` hand it on themselves. A process of `multiprocessing` can't take the
    returned function, which can't be pickled: pass the identity as an argument, and open an `identity_scope` there.

    Args:
        function: A function, coroutine function, generator or async generator.
        token_provider: The `TokenProvider` that decides which identity is current. Give the client's if its `resolve`
            knows the visitor. Its current answer is used, even if that is its default. Without a provider, only the
            context is asked.

    Returns:
        A function with the same arguments and result.

    Raises:
        TypeError: `token_provider` is not a TokenProvider.

    https://docs.python.org/3/library/contextvars.html
    """
    if token_provider is None:
        return identity_scope(current_identity())(function)
    check_provider(token_provider)
    return identity_scope(token_provider.identity())(function)


class _BoundProvider(TokenProvider):
    def __init__(self, parent: TokenProvider, identity: Identity | str | None) -> None:
        identity = as_identity(identity)
        self._identity = identity and _with_user_token(identity)
        self._parent = parent

    def identity(self) -> Identity | None:
        return self._parent.identity() if self._identity is None else self._identity


def _with_user_token(identity: Identity) -> Identity:
    if identity.user_token is None and identity.authenticated_user_token is not None:
        return replace(identity, user_token=identity.authenticated_user_token)
    return identity


def one_provider(
    user_token: Identity | str | None,
    token_provider: TokenProvider | None,
    events_provider: TokenProvider | None = None,
) -> TokenProvider:
    """The one provider that the arguments of a client or a sender mean.

    Raises:
        ValueError: The arguments mean two providers.
        TypeError: `token_provider` is not a TokenProvider.
    """
    if token_provider is not None:
        check_provider(token_provider)
    if user_token is not None and token_provider is not None:
        raise ValueError(
            "user_token and token_provider both say whose calls these are: "
            "give one, or TokenProvider(default=user_token, …)"
        )
    if events_provider is not None:
        if user_token is not None or token_provider not in (None, events_provider):
            raise ValueError(
                "events has a token_provider of its own, and searches and events must share one: "
                "leave user_token and token_provider out, or give the client token_provider=events.token_provider"
            )
        return events_provider
    return token_provider or TokenProvider(as_identity(user_token, "user_token"))


def check_provider(token_provider: object) -> None:
    """Check that the argument `token_provider` is one.

    Raises:
        TypeError: It is not a TokenProvider.
    """
    check_type("token_provider", token_provider, TokenProvider, "a TokenProvider")
