"""What the stand-in has: one application of Algolia's, with its keys, its indices, and what arrived for it."""

from __future__ import annotations

from dataclasses import dataclass

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
