"""Records, in files beside a file of events, whether it is being sent, and how many of its events are settled."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from ..dead_letters import locked_file

_LOOKED_AT = 1 << 16  # bytes at the start of the file, whose hash identifies the file


@contextlib.contextmanager
def only_run(path: str) -> Iterator[None]:
    """Let no other run send this file meanwhile. This is a lock on a file beside it, which ends with the process.

    If no file can be made there, there is no lock.

    Raises:
        ValueError: Another run has the lock.
    """
    beside = f"{os.path.realpath(path)}.progress.lock"
    with contextlib.ExitStack() as stack:
        try:
            _, locked = stack.enter_context(locked_file(beside, 0.0))
        except OSError:
            locked = True
        else:
            if locked:
                stack.callback(_remove, beside)
        if not locked:
            raise ValueError(f"{path}: another `algolia-usertoken send` is sending it: wait until that one has ended")
        yield


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


class NotResumableError(Exception):
    """A part of the file was sent already, or it is not known how much was sent."""


class Done:
    """The numbers of the settled events of a file: all up to a count, and some beyond it.

    They are kept in a second file, whose name is `path` with `.progress` appended. Each write replaces this file.

    Args:
        path: The file with the events.

    Attributes:
        count: All events up to this number are settled.
        last: The highest number that an earlier run settled.
    """

    def __init__(self, path: str) -> None:
        self.path = f"{path}.progress"
        self.count = self.last = 0
        self._of = path
        self._beyond: set[int] = set()
        self._lock = threading.Lock()
        self._start: dict[str, Any] = {}

    def begin(self, *, resume: bool) -> None:
        """Read the progress file of an earlier run, if there is one.

        Raises:
            NotResumableError: There is a progress file, but `resume` is False, or it can't be read, or it is about
                another file.
        """
        try:
            with open(self.path, encoding="utf-8") as file:
                text = file.read(1 << 24)
        except FileNotFoundError:
            self._start = self._start_of(_LOOKED_AT)
            return
        except (OSError, UnicodeDecodeError) as error:
            raise NotResumableError(f"{self.path}: {getattr(error, 'strerror', None) or 'is not text'}") from None
        try:
            found = json.loads(text)
            self.count = int(found["sent"])
            for first, last in found["also"]:
                self._beyond.update(range(int(first), int(last) + 1))
            self._start = {"bytes": int(found["bytes"]), "sha256": str(found["sha256"])}
        except (ValueError, TypeError, KeyError, RecursionError):
            raise NotResumableError(
                f"{self.path}: does not say how many events were sent: look at it, and remove it"
            ) from None
        if not resume:
            raise NotResumableError(
                f"{self._of}: {self.count:,} of its events were sent already: use --resume to go on from there, or "
                f"remove {self.path} to send all of them again"
            )
        if self._start != self._start_of(self._start["bytes"]):
            raise NotResumableError(f"{self.path}: belongs to another file: the beginning of {self._of} has changed")
        self.last = max(self._beyond, default=self.count)

    def _start_of(self, size: int) -> dict[str, Any]:
        with open(self._of, "rb") as file:
            start = file.read(max(0, min(size, _LOOKED_AT)))
        return {"bytes": len(start), "sha256": hashlib.sha256(start).hexdigest()}

    def has(self, number: int) -> bool:
        """Whether the event with this number was settled."""
        return number <= self.count or number in self._beyond

    def add(self, numbers: Sequence[int]) -> None:
        """Note that the events with these numbers are settled; none of them may be noted already."""
        with self._lock:
            if not self._beyond and min(numbers) == self.count + 1 and max(numbers) == self.count + len(numbers):
                self.count += len(numbers)  # the usual case
                return
            self._beyond.update(numbers)
            while self.count + 1 in self._beyond:
                self.count += 1
                self._beyond.discard(self.count)

    def write(self) -> None:
        """Write the progress file.

        Raises:
            OSError: The file can't be written.
        """
        with self._lock:
            state = {"sent": self.count, "also": _runs(self._beyond), **self._start}
        new = f"{self.path}.new"
        with open(new, "w", encoding="utf-8") as file:
            json.dump(state, file)
        os.replace(new, self.path)

    def remove(self) -> None:
        """Remove the progress file, because all events are sent."""
        _remove(self.path)


def _runs(numbers: set[int]) -> list[tuple[int, int]]:
    """The first and the last number of each run of consecutive numbers."""
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
