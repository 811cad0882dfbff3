"""How long a test waits for what must come."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 120.0  # seconds: what takes longer hangs, on a busy machine too


def wait_until(true: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
