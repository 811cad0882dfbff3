"""The data of the stand-in: one Algolia application, with its keys, its indices, and what arrived for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .keys import Keys
from .received import Received
from .records import Records


@dataclass(frozen=True, slots=True)
class Application:
    """The data that the functions that answer a call may read and change. Its parts are thread-safe."""

    app_id: str
    keys: Keys
    records: Records
    received: Received
    # The compositions by objectID, as they were saved.
    compositions: dict[str, dict[str, Any]] = field(default_factory=dict)
    # The strategy of Personalization; empty if there is none.
    strategy: dict[str, Any] = field(default_factory=dict)
