"""How long a test waits for something that must happen."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 120.0  # seconds: anything that takes longer hangs, even on a busy machine


def wait_until(true: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


_DAY_S = 86_400
_LONGEST_TEST_THAT_NAMES_THE_DATE_S = 20


def stay_within_one_day() -> None:
    """Wait for the next day if it is nearly midnight in UTC, so that no test that names the date runs on two days."""
    left = _DAY_S - time.time() % _DAY_S
    if left < _LONGEST_TEST_THAT_NAMES_THE_DATE_S:
        time.sleep(left)
