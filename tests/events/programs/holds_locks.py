"""A thread that holds the locks of a sender for ever, in a module of its own: its names stay alive with the thread."""

from __future__ import annotations

import threading
from typing import Any


def hold(worker: Any, go_on: threading.Event, held: threading.Event) -> None:
    """Wait for `go_on`, take the locks of the worker, set `held`, and spin until the interpreter stops this thread."""
    go_on.wait()
    with worker._crew.lock, worker._inline, worker._reporter.dropped._lock:
        held.set()
        while True:
            pass
