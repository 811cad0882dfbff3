"""Searches and events that carry the same user token, for the Algolia Python client."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # typing takes longer to import than all of this; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

    from .clients import EventOptions, TokenAwareClient, TokenAwareClientSync, make_token_aware
    from .context import current_identity, identity_scope, set_authenticated_user_token, set_user_token
    from .dead_letters import DeadLetters
    from .errors import (
        BatchRejectedError,
        DeliveryError,
        InvalidClientIPError,
        InvalidEventError,
        InvalidReferenceError,
        InvalidUserTokenError,
        MissingUserTokenError,
        MissingUserTokenWarning,
        OutboxError,
        RetryableDeliveryError,
        UnauthorizedDeliveryError,
        UserTokenError,
    )
    from .events.delivery import Batch, Delivery, InsightsDelivery, MemoryDelivery
    from .events.hits.reference import HitReference
    from .events.outbox import SQLiteOutbox
    from .events.reporting import EventStats
    from .events.sender import EventSender
    from .identity import Identity, anonymous_user_token, pseudonymous_user_token, validate_user_token
    from .insights import TokenAwareInsightsClient, TokenAwareInsightsClientSync
    from .provider import TokenProvider, bind
    from .query_memory import QueryMemory
    from .transporter import TokenAwareTransporter, TokenAwareTransporterSync

# Where each name lives. It is imported on first use (PEP 562): algoliasearch alone takes a third of a second, and a
# test runner that merely has the plugin installed needs none of this.
_HOME = {
    "Batch": "events.delivery",
    "BatchRejectedError": "errors",
    "DeadLetters": "dead_letters",
    "Delivery": "events.delivery",
    "DeliveryError": "errors",
    "EventOptions": "clients",
    "EventSender": "events.sender",
    "EventStats": "events.reporting",
    "HitReference": "events.hits.reference",
    "Identity": "identity",
    "InsightsDelivery": "events.delivery",
    "InvalidClientIPError": "errors",
    "InvalidEventError": "errors",
    "InvalidReferenceError": "errors",
    "InvalidUserTokenError": "errors",
    "MemoryDelivery": "events.delivery",
    "MissingUserTokenError": "errors",
    "MissingUserTokenWarning": "errors",
    "OutboxError": "errors",
    "QueryMemory": "query_memory",
    "RetryableDeliveryError": "errors",
    "SQLiteOutbox": "events.outbox",
    "TokenAwareClient": "clients",
    "TokenAwareClientSync": "clients",
    "TokenAwareInsightsClient": "insights",
    "TokenAwareInsightsClientSync": "insights",
    "TokenAwareTransporter": "transporter",
    "TokenAwareTransporterSync": "transporter",
    "TokenProvider": "provider",
    "UnauthorizedDeliveryError": "errors",
    "UserTokenError": "errors",
    "anonymous_user_token": "identity",
    "bind": "provider",
    "current_identity": "context",
    "identity_scope": "context",
    "make_token_aware": "clients",
    "pseudonymous_user_token": "identity",
    "set_authenticated_user_token": "context",
    "set_user_token": "context",
    "validate_user_token": "identity",
}

__all__ = [
    "Batch",
    "BatchRejectedError",
    "DeadLetters",
    "Delivery",
    "DeliveryError",
    "EventOptions",
    "EventSender",
    "EventStats",
    "HitReference",
    "Identity",
    "InsightsDelivery",
    "InvalidClientIPError",
    "InvalidEventError",
    "InvalidReferenceError",
    "InvalidUserTokenError",
    "MemoryDelivery",
    "MissingUserTokenError",
    "MissingUserTokenWarning",
    "OutboxError",
    "QueryMemory",
    "RetryableDeliveryError",
    "SQLiteOutbox",
    "TokenAwareClient",
    "TokenAwareClientSync",
    "TokenAwareInsightsClient",
    "TokenAwareInsightsClientSync",
    "TokenAwareTransporter",
    "TokenAwareTransporterSync",
    "TokenProvider",
    "UnauthorizedDeliveryError",
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
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
