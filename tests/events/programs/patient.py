"""Has the library wait longer than it usually does: on a busy machine, a thread may stop for seconds anywhere."""

from __future__ import annotations

LONG = 100.0  # seconds


def with_files(closing: bool = True) -> None:
    """Wait for a thread or process that is in the middle of using the file of an outbox.

    Args:
        closing: Whether a close and a fork wait, too. Not for a program that exits without a close: the interpreter may
            stop the outbox's thread in the middle of a call, and the last `__del__` would wait for it.
    """
    from algolia_usertoken.events import sqlite

    sqlite.BUSY_TIMEOUT = sqlite.SET_UP_TIMEOUT = LONG
    if closing:
        sqlite.CLOSE_TIMEOUT = LONG


def with_reports() -> None:
    """Wait for the threads that call `on_error` when a sender is closed, or the process ends."""
    from algolia_usertoken.events import crew, process, worker

    crew.ON_ERROR_S = worker.ON_ERROR_S = process.LONGEST_REPORT_S = LONG
