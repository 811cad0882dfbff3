"""
A stand-in for Algolia that real clients talk to over HTTP, and that says who searched and clicked.

It imports nothing else of this package, so that neither can borrow a mistake of the other's. Its files:

- `stand_in`: `LocalAlgolia` itself; `faults`: what it can be told to do wrong;
- the wire: `server`, `calls`, `api`, `keys`, `errors`, and the table `routes`, into which the `…_routes` write;
- what is kept: `application`, `records`, `index`; what is `absent`;
- how it searches: `query`, `parameters`, `matching`, `filter_grammar`, `filters`, `columns`, `facets`, `hits`,
  `recommend`;
- what arrived: `received`, `mismatches`, `hints`, `inspector`, `analytics`;
- `insights_rules`: which events Algolia takes.

Importing this package costs nothing: its names are loaded when they are first used. They are public as those of
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
