"""Decides whose call this is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from .checks import check_type, wrong_type
from .context import LOGGED_OUT, current_identity, identity_scope
from .identity import Identity, as_identity

F = TypeVar("F", bound=Callable[..., Any])


class TokenProvider:
    """Answers "whose request is this?" for a client and its events, by asking in this order:

    1. the context: `identity_scope`, `set_user_token`, or a web integration;
    2. `resolve()`, if given;
    3. `default`.

    The first answer is taken whole; None is no answer, `Identity()` ("nobody") is one. One exception: a context that
    knows the login but no user token takes the user token that `resolve()` gives, or its word that the visitor
    opted out. Where there is none either, the login is the user token too. A visitor of a web request who was known by
    the login alone and has logged out is asked for once more with `resolve()`; the default is not meant then.

    Args:
        default: Who is meant where nobody else says, for example the name of a background job.
        resolve: A function without arguments, called for each request that the context does not answer. It must be
            fast and must not block. An error in it reaches the caller of a search; an event is refused, counted and
            reported, as one with nobody to attribute it to.

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
        """Who the current call is for, or None where nobody knows.

        Raises:
            InvalidUserTokenError: `resolve()` returned something that is no identity.
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
            # Nothing is left of what the request said. The default is somebody else: a visitor is no background job.
            identity = self._resolved() or identity
        return _with_user_token(identity) if identity.user_token is None else identity

    def with_identity(self, identity: Identity | str | None) -> TokenProvider:
        """A provider that always answers `identity`; None leaves the answer to this one."""
        return _BoundProvider(self, identity)

    def _resolved(self) -> Identity | None:
        if self._resolve is None:
            return None
        return as_identity(self._resolve(), "the value that resolve() returned")


def bind(function: F, token_provider: TokenProvider | None = None) -> F:
    """`function`, run as the identity that is current now, wherever and however often it is called.

    For what does not carry the context along: `threading.Thread`, executors, `loop.run_in_executor`.
    `asyncio.to_thread` and `asyncio.create_task` carry it by themselves.

        executor.submit(bind(recommend), "products")

    Args:
        function: A function, coroutine function, generator or async generator.
        token_provider: Decides who is current: give the client's, where its `resolve` knows the visitor. What it
            answers now is bound, its default included. Without it the context alone is asked.

    Returns:
        A function with the same arguments and result.

    Raises:
        TypeError: `token_provider` is no TokenProvider.

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
    """The one provider that a client's arguments mean.

    Raises:
        ValueError: They mean two.
        TypeError: `token_provider` is no TokenProvider.
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
    """Refuse what is no TokenProvider.

    Raises:
        TypeError: It names the argument `token_provider`.
    """
    check_type("token_provider", token_provider, TokenProvider, "a TokenProvider")
