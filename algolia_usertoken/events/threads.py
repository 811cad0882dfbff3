"""Starting threads, and waiting for other threads, but not for ever."""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable

MOMENT_S = 0.05  # the shortest wait for another thread, which needs a moment to run at all


def start(thread: threading.Thread) -> None:
    """Start a thread.

    Raises:
        RuntimeError: No thread can be started, as the interpreter ends. Before Python 3.12, `Thread.start` would wait
            for the thread for ever then.
    """
    if sys.is_finalizing():  # pragma: no cover - coverage is not measured any more
        raise RuntimeError("no thread can be started: the interpreter ends")
    thread.start()


def bounded(function: Callable[[], object], seconds: float, lock: threading.Condition) -> None:
    """Run a function that may take any time, and wait for it for some seconds only; its errors are raised here.

    Args:
        function: What to run.
        seconds: For how long to wait.
        lock: Released during the wait. If a signal handler calls this, the thread that it interrupted may hold this
            lock, which `function` or other threads need.
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
            start(thread)
    except RuntimeError:  # no thread can be started
        seconds = math.inf
    if seconds == math.inf:
        run()
    else:
        with lock:
            lock.wait_for(lambda: is_done, for_a_lock(max(MOMENT_S, seconds)))
    for error in errors:
        raise error


def for_a_lock(seconds: float) -> float:
    """`seconds`, limited to what a lock takes as a timeout."""
    return min(max(0.0, seconds), threading.TIMEOUT_MAX)
