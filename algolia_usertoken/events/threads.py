"""Waiting for others, but not for ever."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable


def bounded(function: Callable[[], object], seconds: float) -> None:
    """Run what may take any time, and wait for it for some seconds only; what it raises is raised here."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="algolia-usertoken-bounded", daemon=True)
    try:
        if seconds < math.inf:
            thread.start()
    except RuntimeError:  # no thread can be started
        seconds = math.inf
    if seconds == math.inf:
        run()
    else:
        thread.join(for_a_lock(max(0.05, seconds)))
    for error in errors:
        raise error


def for_a_lock(seconds: float) -> float:
    """As long as a lock can wait."""
    return min(max(0.0, seconds), threading.TIMEOUT_MAX)
