"""
What tests need: a stand-in for Algolia that real clients can talk to.

Importing this package costs nothing. The heavy names are loaded when they are first used, because the pytest plugin
lives here too, and a project that merely has it installed should not pay for aiohttp and algoliasearch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .local_algolia import LocalAlgolia
    from .mocker import AlgoliaMocker
    from .received import (
        Mismatch,
        ReceivedEvent,
        ReceivedRequest,
        ReceivedSearch,
        UserSummary,
    )

__all__ = [
    "AlgoliaMocker",
    "LocalAlgolia",
    "Mismatch",
    "ReceivedEvent",
    "ReceivedRequest",
    "ReceivedSearch",
    "UserSummary",
]

_HOME = {
    "AlgoliaMocker": "mocker",
    "LocalAlgolia": "local_algolia",
    "Mismatch": "received",
    "ReceivedEvent": "received",
    "ReceivedRequest": "received",
    "ReceivedSearch": "received",
    "UserSummary": "received",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
