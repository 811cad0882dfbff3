"""Tools for tests: a stand-in for Algolia that real clients can talk to, a mock, and assertions about who the user is.

Importing this package costs nothing. The names that are slow to import are loaded when they are first used, because
the pytest plugin is here too: a project that only has it installed should not have to import aiohttp and algoliasearch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..local_algolia import (
        Hint,
        LocalAlgolia,
        Mismatch,
        ReceivedEvent,
        ReceivedRequest,
        ReceivedSearch,
        UserSummary,
    )
    from .assertions import assert_anonymous, assert_same_identity
    from .mocker import AlgoliaMocker, AlgoliaRouter

__all__ = [
    "AlgoliaMocker",
    "AlgoliaRouter",
    "Hint",
    "LocalAlgolia",
    "Mismatch",
    "ReceivedEvent",
    "ReceivedRequest",
    "ReceivedSearch",
    "UserSummary",
    "assert_anonymous",
    "assert_same_identity",
]

_HOME = {
    "AlgoliaMocker": ".mocker",
    "AlgoliaRouter": ".mocker",
    "Hint": "..local_algolia",
    "LocalAlgolia": "..local_algolia",
    "Mismatch": "..local_algolia",
    "ReceivedEvent": "..local_algolia",
    "ReceivedRequest": "..local_algolia",
    "ReceivedSearch": "..local_algolia",
    "UserSummary": "..local_algolia",
    "assert_anonymous": ".assertions",
    "assert_same_identity": ".assertions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
