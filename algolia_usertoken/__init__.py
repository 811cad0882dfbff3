"""Searches and events that carry the same user token, for the Algolia Python client."""

from __future__ import annotations

from importlib import import_module

# The public names, by the module that each is in. A module is imported when one of its names is first used (PEP 562):
# the import of algoliasearch alone takes a third of a second, and a test runner that merely has the plugin installed
# needs none of this.
_NAMES = {
    "clients": ("EventOptions", "TokenAwareClient", "TokenAwareClientSync", "make_token_aware"),
    "context": ("current_identity", "identity_scope", "set_authenticated_user_token", "set_user_token"),
    "dead_letters": ("DeadLetters",),
    "errors": (
        "BatchRejectedError",
        "DeliveryError",
        "InvalidClientIPError",
        "InvalidEventError",
        "InvalidReferenceError",
        "InvalidUserTokenError",
        "MissingUserTokenError",
        "MissingUserTokenWarning",
        "OutboxError",
        "RetryableDeliveryError",
        "UnauthorizedDeliveryError",
        "UserTokenError",
    ),
    "events.delivery": ("Batch", "Delivery", "InsightsDelivery", "MemoryDelivery"),
    "events.hits.reference": ("HitReference",),
    "events.outbox": ("SQLiteOutbox",),
    "events.reporting": ("EventStats",),
    "events.sender": ("EventSender",),
    "identity": ("Identity", "anonymous_user_token", "pseudonymous_user_token", "validate_user_token"),
    "insights": ("TokenAwareInsightsClient", "TokenAwareInsightsClientSync"),
    "provider": ("TokenProvider", "bind"),
    "query_memory": ("QueryMemory",),
    "transporter": ("TokenAwareTransporter", "TokenAwareTransporterSync"),
}

_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)

TYPE_CHECKING = False  # the import of typing takes longer than all of this; type checkers know the name
if TYPE_CHECKING:  # they take `as` for the promise that a name is public, and need it here
    from typing import Any

    from .clients import EventOptions as EventOptions
    from .clients import TokenAwareClient as TokenAwareClient
    from .clients import TokenAwareClientSync as TokenAwareClientSync
    from .clients import make_token_aware as make_token_aware
    from .context import current_identity as current_identity
    from .context import identity_scope as identity_scope
    from .context import set_authenticated_user_token as set_authenticated_user_token
    from .context import set_user_token as set_user_token
    from .dead_letters import DeadLetters as DeadLetters
    from .errors import BatchRejectedError as BatchRejectedError
    from .errors import DeliveryError as DeliveryError
    from .errors import InvalidClientIPError as InvalidClientIPError
    from .errors import InvalidEventError as InvalidEventError
    from .errors import InvalidReferenceError as InvalidReferenceError
    from .errors import InvalidUserTokenError as InvalidUserTokenError
    from .errors import MissingUserTokenError as MissingUserTokenError
    from .errors import MissingUserTokenWarning as MissingUserTokenWarning
    from .errors import OutboxError as OutboxError
    from .errors import RetryableDeliveryError as RetryableDeliveryError
    from .errors import UnauthorizedDeliveryError as UnauthorizedDeliveryError
    from .errors import UserTokenError as UserTokenError
    from .events.delivery import Batch as Batch
    from .events.delivery import Delivery as Delivery
    from .events.delivery import InsightsDelivery as InsightsDelivery
    from .events.delivery import MemoryDelivery as MemoryDelivery
    from .events.hits.reference import HitReference as HitReference
    from .events.outbox import SQLiteOutbox as SQLiteOutbox
    from .events.reporting import EventStats as EventStats
    from .events.sender import EventSender as EventSender
    from .identity import Identity as Identity
    from .identity import anonymous_user_token as anonymous_user_token
    from .identity import pseudonymous_user_token as pseudonymous_user_token
    from .identity import validate_user_token as validate_user_token
    from .insights import TokenAwareInsightsClient as TokenAwareInsightsClient
    from .insights import TokenAwareInsightsClientSync as TokenAwareInsightsClientSync
    from .provider import TokenProvider as TokenProvider
    from .provider import bind as bind
    from .query_memory import QueryMemory as QueryMemory
    from .transporter import TokenAwareTransporter as TokenAwareTransporter
    from .transporter import TokenAwareTransporterSync as TokenAwareTransporterSync


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
