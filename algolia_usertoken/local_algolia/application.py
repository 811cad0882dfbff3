"""What the stand-in has: one application of Algolia's, with its keys, its indices, and what arrived for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .keys import Keys
from .received import Received
from .records import Records


@dataclass(frozen=True, slots=True)
class Application:
    """What those who answer a call may read and change. Any thread may, as its parts promise."""

    app_id: str
    keys: Keys
    records: Records
    received: Received
    # By objectID, as they were saved.
    compositions: dict[str, dict[str, Any]] = field(default_factory=dict)
    # The strategy of Personalization, or nothing.
    strategy: dict[str, Any] = field(default_factory=dict)
