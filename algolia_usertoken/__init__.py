"""Searches and events that carry the same user token, for the Algolia Python client."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .context import bind, current_identity, identity_scope, set_authenticated_user_token, set_user_token
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
from .identity import Identity, anonymous_user_token, pseudonymous_user_token, validate_user_token
from .provider import TokenProvider

if TYPE_CHECKING:
    from .clients import TokenAwareClient, TokenAwareClientSync, make_token_aware
    from .events.delivery import Batch, Delivery, InsightsDelivery, MemoryDelivery
    from .events.outbox import SQLiteOutbox
    from .events.references import HitReference
    from .events.reporting import EventStats
    from .events.sender import EventSender
    from .insights import TokenAwareInsightsClient, TokenAwareInsightsClientSync
    from .transporter import TokenAwareTransporter, TokenAwareTransporterSync

# Importing algoliasearch takes a third of a second, so what rests on it is imported on first use (PEP 562).
_LAZY = {
    "Batch": "events.delivery",
    "Delivery": "events.delivery",
    "EventSender": "events.sender",
    "EventStats": "events.reporting",
    "HitReference": "events.references",
    "InsightsDelivery": "events.delivery",
    "MemoryDelivery": "events.delivery",
    "SQLiteOutbox": "events.outbox",
    "TokenAwareClient": "clients",
    "TokenAwareClientSync": "clients",
    "TokenAwareInsightsClient": "insights",
    "TokenAwareInsightsClientSync": "insights",
    "TokenAwareTransporter": "transporter",
    "TokenAwareTransporterSync": "transporter",
    "make_token_aware": "clients",
}

__all__ = [
    "Batch",
    "BatchRejectedError",
    "Delivery",
    "DeliveryError",
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
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
