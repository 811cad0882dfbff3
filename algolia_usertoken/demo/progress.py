"""Shows on a terminal which step is running, if the step takes longer than a second."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 1.0  # seconds
_CLEAR_LINE = "\r\x1b[K"


@contextmanager
def step(text: str) -> Iterator[None]:
    """While the block runs, show `text` and the seconds so far on stderr, from the first second on."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_show, args=(text, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show(text: str, done: threading.Event) -> None:
    start = time.monotonic()
    if done.wait(PATIENCE):
        return
    while not done.is_set():
        sys.stderr.write(f"{_CLEAR_LINE}{text} ... {time.monotonic() - start:.0f} s")
        sys.stderr.flush()
        done.wait(0.5)
    sys.stderr.write(_CLEAR_LINE)
    sys.stderr.flush()
