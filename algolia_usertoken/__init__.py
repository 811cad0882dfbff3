"""Searches and events that carry the same user token, for the Algolia Python client."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .context import bind, current_identity, identity_scope, set_authenticated_user_token, set_user_token
from .errors import (
    InvalidClientIPError,
    InvalidEventError,
    InvalidUserTokenError,
    MissingUserTokenError,
    MissingUserTokenWarning,
    UserTokenError,
)
from .identity import Identity, anonymous_user_token, pseudonymous_user_token, validate_user_token
from .provider import TokenProvider

if TYPE_CHECKING:
    from .clients import TokenAwareClient, TokenAwareClientSync, make_token_aware
    from .events.sender import EventSender, EventStats
    from .insights import TokenAwareInsightsClient, TokenAwareInsightsClientSync
    from .transporter import TokenAwareTransporter, TokenAwareTransporterSync

# Importing algoliasearch takes a third of a second, so what rests on it is imported on first use (PEP 562).
_LAZY = {
    "EventSender": "events.sender",
    "EventStats": "events.sender",
    "TokenAwareClient": "clients",
    "TokenAwareClientSync": "clients",
    "TokenAwareInsightsClient": "insights",
    "TokenAwareInsightsClientSync": "insights",
    "TokenAwareTransporter": "transporter",
    "TokenAwareTransporterSync": "transporter",
    "make_token_aware": "clients",
}

__all__ = [
    "EventSender",
    "EventStats",
    "Identity",
    "InvalidClientIPError",
    "InvalidEventError",
    "InvalidUserTokenError",
    "MissingUserTokenError",
    "MissingUserTokenWarning",
    "TokenAwareClient",
    "TokenAwareClientSync",
    "TokenAwareInsightsClient",
    "TokenAwareInsightsClientSync",
    "TokenAwareTransporter",
    "TokenAwareTransporterSync",
    "TokenProvider",
    "UserTokenError",
    "anonymous_user_token",
    "bind",
    "current_identity",
    "identity_scope",
    "make_token_aware",
    "pseudonymous_user_token",
    "set_authenticated_user_token",
    "set_user_token",
    "validate_user_token",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
