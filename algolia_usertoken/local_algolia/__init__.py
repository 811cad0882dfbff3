"""A stand-in for Algolia that real clients talk to over HTTP, and that shows who searched and clicked.

It imports nothing else of this package, so that the two cannot share a mistake. Its files:

- `stand_in`: `LocalAlgolia` itself; `faults`: the errors that a test can ask it to make;
- HTTP: `server`, `calls`, `api`, `keys`, `errors`, and the table `routes`, into which the `…_routes` modules write;
- stored data: `application`, `records`, `index`; the parts of Algolia that are missing: `absent`;
- searching: `query`, `parameters`, `matching`, `filter_grammar`, `filters`, `columns`, `facets`, `hits`, `recommend`;
- what arrived: `received`, `mismatches`, `hints`, `inspector`, `analytics`;
- `insights_rules`: which events Algolia accepts.

Importing this package costs nothing: its names are loaded when they are first used. Users import them from
`algolia_usertoken.testing`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .hints import Hint
    from .mismatches import Mismatch
    from .received import ReceivedEvent, ReceivedRequest, ReceivedSearch, UserSummary
    from .stand_in import LocalAlgolia

__all__ = ["Hint", "LocalAlgolia", "Mismatch", "ReceivedEvent", "ReceivedRequest", "ReceivedSearch", "UserSummary"]

_HOME = {
    "Hint": "hints",
    "LocalAlgolia": "stand_in",
    "Mismatch": "mismatches",
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
