"""Waiting for others, but not for ever."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable


def bounded(function: Callable[[], object], seconds: float, lock: threading.Condition) -> None:
    """Run what may take any time, and wait for it for some seconds only; what it raises is raised here.

    Args:
        function: What to run.
        seconds: For how long to wait.
        lock: Let go of meanwhile. Who calls this in a signal handler may have interrupted his own thread while it held
            the lock, which `function` or other threads need.
    """
    errors: list[BaseException] = []
    is_done = False

    def run() -> None:
        nonlocal is_done
        try:
            function()
        except BaseException as error:
            errors.append(error)
        with lock:
            is_done = True
            lock.notify_all()

    thread = threading.Thread(target=run, name="algolia-usertoken-bounded", daemon=True)
    try:
        if seconds < math.inf:
            thread.start()
    except RuntimeError:  # no thread can be started
        seconds = math.inf
    if seconds == math.inf:
        run()
    else:
        with lock:
            lock.wait_for(lambda: is_done, for_a_lock(max(0.05, seconds)))
    for error in errors:
        raise error


def for_a_lock(seconds: float) -> float:
    """As long as a lock can wait."""
    return min(max(0.0, seconds), threading.TIMEOUT_MAX)
