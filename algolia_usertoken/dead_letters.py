"""Keeps events that could not be sent in a file: an `on_error` that writes one JSON line per event.

How the file stays in order although several threads and processes write to it:

- Each call opens the file, locks it (flock), writes whole lines at its end, and closes it. So nothing is open across a
  fork, and a call notices that the file was moved away: a lock counts only if the path still leads to the locked file.
- If the file ends with half a line, as a kill or a full disk leaves it, a call begins a new line. If a call can't
  write a line to its end, it removes the part that it has written.
- No call waits long for the lock. A call that does not get the lock in time, or whose thread holds it already (the call
  comes from a signal handler), still appends its lines, which the operating system does in one piece. It leaves the
  rotation to other calls. If the file was replaced meanwhile, it appends them to the new one, too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import stat
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import IO, Any, NamedTuple

from .checks import check_number, file_path
from .errors import OutboxError, UserTokenError, kind_of
from .events import plain
from .events.rules import Event

try:
    import fcntl
except ImportError:  # pragma: no cover - on Windows, where the file is not locked
    fcntl = None  # type: ignore[assignment]

PATIENCE_S = 0.25  # how long a call waits for the lock
_ERASING_PATIENCE_S = 10.0
_POLL_S = 0.002
_MOST_TRIES = 100  # attempts to open a file that others move away again and again
_LONGEST_REASON = 1_000  # characters
_LEAST_BYTES = 10_000
_DEEPEST = 20  # levels of a value that JSON can't encode as it is
_MOST_VALUES = 10_000  # values in a value that JSON can't encode as it is
_OPEN = os.O_RDWR | os.O_APPEND | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

_logger = logging.getLogger("algolia_usertoken.dead_letters")


class DeadLetters:
    """An `on_error` that keeps the events it gets in a file, where you can look at them, correct them and resend them.

    There is one JSON line per event, `{"time": …, "reason": …, "event": {…}}`: when it was written (ISO 8601), the
    error's text, and the event as `on_error` gets it. `algolia-usertoken send` reads such a file. The file holds
    whatever was refused, for example an e-mail address used as a token. So a new file can be read by its owner only
    (mode 0600); an existing file keeps its mode.

    Any number of senders, threads and processes may write to the same file, also across a fork. A call never raises an
    error: if it can't write (a full disk, a missing directory), it logs the problem, each kind once.

    Args:
        path: The path of the file, which is created if it does not exist. Its directory must exist.
        max_bytes: How many bytes the file and its predecessor may have together: at least 10,000. When the file has
            half of that, it is renamed to `PATH.1`, which replaces its predecessor, and a new file is begun. So the
            oldest letters are lost first.

    Raises:
        TypeError, ValueError: An argument has a wrong type or a wrong value.

    Example::

        events = EventSender("YOUR_APP_ID", "YOUR_API_KEY", on_error=DeadLetters("failed.ndjson"))
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int = 100_000_000) -> None:
        check_number("max_bytes", max_bytes, _LEAST_BYTES, whole=True, unit="bytes")
        self.path = file_path(path)
        self.max_bytes = max_bytes
        self._said: set[str] = set()
        self._writing: set[tuple[int, int]] = set()  # threads, each with its process
        self._in_vain = False  # a call has waited for the lock in vain, and no call has got it since

    def __repr__(self) -> str:
        return f"DeadLetters({self.path!r}, max_bytes={self.max_bytes})"

    def __call__(self, error: Exception, events: Sequence[Event]) -> None:
        """Write one line per event.

        Nothing is written if an outbox reports that it could not remove settled events from its file.

        Args:
            error: Why the events were refused, rejected or given up.
            events: The events; they may be of any type.
        """
        try:
            if not (isinstance(error, OutboxError) and error.settled):
                self._write([_line(error, event) for event in events])
        except OSError as failure:
            self._say(f"{type(failure).__name__} {failure.errno}", f"nothing can be written: {kind_of(failure)}")
        except Exception as failure:
            self._say(type(failure).__name__, f"nothing can be written: {kind_of(failure)}")

    def _say(self, kind: str, what: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            with contextlib.suppress(Exception):  # raised by a logging handler of the application
                _logger.warning("dead letters %s: %s", self.path, what)

    def _write(self, lines: list[bytes]) -> None:
        me = (os.getpid(), threading.get_ident())
        outer = me in self._writing
        self._writing.add(me)
        try:
            left = [line for line in lines if self._may_be_kept(line)]
            mode: int | None = None  # of the file that was renamed
            while left:
                with locked_file(self.path, 0 if outer or self._in_vain else PATIENCE_S) as (file, locked):
                    if not outer:
                        self._in_vain = not locked
                    left, mode = self._write_some(file, left, locked, mode)
        finally:
            if not outer:
                self._writing.discard(me)

    def _may_be_kept(self, line: bytes) -> bool:
        if len(line) <= self.max_bytes // 2:
            return True
        self._say("long", f"a line of {len(line)} bytes is left out: it is longer than half of max_bytes")
        return False

    def _write_some(
        self, file: int, lines: list[bytes], locked: bool, mode: int | None
    ) -> tuple[list[bytes], int | None]:
        """Write as many lines as there is room for; return the other lines, and the mode for the next file."""
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        if mode is not None and hasattr(os, "fchmod"):
            with contextlib.suppress(OSError):  # another user has created the file
                os.fchmod(file, mode)
        elif stat.S_IMODE(status.st_mode) & 0o077:
            self._say(
                "mode", f"other users may read it: its mode is {stat.S_IMODE(status.st_mode):03o}, and should be 600"
            )
        if not locked:
            _append(file, b"".join(lines), None)
            # Without links, `erase` has replaced the file, and may have looked for late lines before these came. Then
            # they are written again: a letter that is there twice is better than one that is lost.
            return ([] if os.fstat(file).st_nlink else lines), None
        size = status.st_size
        begun = b"\n" if size and not _ends_with_a_line(file, size) else b""
        count, room = 0, self.max_bytes // 2 - size - len(begun)
        while count < len(lines) and len(lines[count]) <= room:
            room -= len(lines[count])
            count += 1
        if count:
            _append(file, begun + b"".join(lines[:count]), size)
        if count == len(lines):
            return [], None
        there = os.path.realpath(self.path)
        os.replace(there, f"{there}.1")
        return lines[count:], stat.S_IMODE(status.st_mode)


class Erased(NamedTuple):
    """What became of a file of dead letters.

    Attributes:
        removed: How many lines were removed because they named one of the users.
        unreadable: How many lines are not JSON, and stay.
    """

    removed: int
    unreadable: int


def erase(path: str | os.PathLike[str], tokens: Collection[str]) -> Erased:
    """Remove each line that names one of the users from a file of dead letters and from its predecessor.

    A line names a user if one of its strings, at any place, equals a token. The file is replaced in one step, under its
    lock, and keeps its mode.

    Args:
        path: The path given to `DeadLetters`.
        tokens: User tokens, including those of logins and other values that were used as tokens.

    Raises:
        OSError: Neither file exists, or a file can't be read or replaced, or another process keeps it locked.
    """
    there = os.path.realpath(path)
    before = f"{there}.1"
    found = [file for file in (before, there) if os.path.exists(file)]
    if not found:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    wanted = frozenset(tokens)
    removed = unreadable = 0
    # The lock of the current file guards its predecessor, too: only the holder of the lock renames the file.
    with locked_file(found[-1], _ERASING_PATIENCE_S, make=False) as (_, locked):
        if not locked:
            raise OSError(errno.EBUSY, "another process keeps it locked")
        for file in found:
            one = _erased(file, wanted)
            removed, unreadable = removed + one.removed, unreadable + one.unreadable
    return Erased(removed, unreadable)


def _erased(path: str, tokens: frozenset[str]) -> Erased:
    removed = unreadable = 0
    new = f"{path}.erasing"
    with open(path, "rb") as old:
        mode = stat.S_IMODE(os.fstat(old.fileno()).st_mode)
        with contextlib.suppress(FileNotFoundError):  # the file exists if an earlier run was killed here
            os.unlink(new)
        made = os.open(new, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(made, "ab") as kept:
                if hasattr(os, "fchmod"):
                    os.fchmod(made, mode)
                removed, unreadable = _copy(old, kept, tokens)
                kept.flush()
                os.fsync(made)
                if removed:
                    os.replace(new, path)
                    # Calls that did not get the lock in time have appended their lines to the old file.
                    more = _copy(old, kept, tokens)
                    removed, unreadable = removed + more[0], unreadable + more[1]
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
    return Erased(removed, unreadable)


def _copy(old: IO[bytes], kept: IO[bytes], tokens: frozenset[str]) -> tuple[int, int]:
    removed = unreadable = 0
    while line := old.readline():
        try:
            names_one = _has_text(json.loads(line), tokens)
        except (ValueError, RecursionError):
            names_one = False
            unreadable += bool(line.strip())
        removed += names_one
        if not names_one:
            kept.write(line)
    return removed, unreadable


def _has_text(value: Any, texts: frozenset[str]) -> bool:
    if isinstance(value, str):
        return value in texts
    if isinstance(value, dict):
        return any(key in texts or _has_text(one, texts) for key, one in value.items())
    return isinstance(value, list) and any(_has_text(one, texts) for one in value)


# The file.


@contextlib.contextmanager
def locked_file(path: str, patience_s: float, *, make: bool = True) -> Iterator[tuple[int, bool]]:
    """Open the file at the path for appending, and lock it; yield its descriptor, and whether it is locked.

    The lock ends with the block, and with the process. On Windows and on file systems without locks, there is none, and
    the file counts as locked.

    Args:
        path: The file.
        patience_s: How many seconds to wait if another process has locked it.
        make: Whether to make the file if it does not exist.

    Raises:
        OSError: The file can't be opened.
    """
    deadline = time.monotonic() + patience_s
    for _ in range(_MOST_TRIES):
        file = _open(path, make)
        try:
            locked = _lock(file, deadline)
            if locked and not _is_at(path, file):
                continue  # the file was moved away
            yield file, locked
            return
        finally:
            # To close the file is not enough: a child that was forked in between would keep the lock.
            if fcntl is not None:
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)
            os.close(file)
    raise OSError(errno.EBUSY, "other processes rename it again and again")


def _open(path: str, make: bool) -> int:
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, _OPEN)
    if not make:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    try:
        file = os.open(os.path.realpath(path), _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, _OPEN)
    if hasattr(os, "fchmod"):  # sets the mode whatever the umask is
        os.fchmod(file, 0o600)
    return file


def _lock(file: int, deadline: float) -> bool:
    while fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
        except OSError:  # the file system has no locks
            return True
        else:
            return True
    return True  # on Windows


def _is_at(path: str, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _ends_with_a_line(file: int, size: int) -> bool:
    os.lseek(file, size - 1, os.SEEK_SET)
    return os.read(file, 1) == b"\n"


def _append(file: int, data: bytes, size: int | None) -> None:
    """Write all of `data` or nothing; `size` is the file's size before, None if other calls may write meanwhile."""
    written = 0
    try:
        while written < len(data):
            written += os.write(file, data[written:] if written else data)
    except OSError:
        # Lines that a signal handler has written behind the data stay.
        if size is not None and written and os.fstat(file).st_size == size + written:
            os.ftruncate(file, size)
        raise


# The lines.


def _line(error: BaseException, event: object) -> bytes:
    time_of_it = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    reason = _shown(error) if isinstance(error, UserTokenError) else f"{type(error).__name__}: {_shown(error)}"
    letter = {"time": time_of_it, "reason": reason[:_LONGEST_REASON], "event": event}
    try:
        text = json.dumps(letter, allow_nan=False, default=_for_json)
    except Exception:  # the event has no JSON form, or an object in it raised an error
        letter["event"] = _Plain().of(event)
        text = json.dumps(letter)
    return f"{text}\n".encode("ascii")


def _shown(value: object) -> str:
    try:
        text = str(value)
        return str.__str__(text)[:_LONGEST_REASON]
    except Exception:
        return f"({type(value).__name__})"


def _for_json(value: Any) -> Any:
    """Convert a value that `json` can't encode: as the sender does, or else to text."""
    try:
        return plain.json_form(value)
    except Exception:
        return list(value) if isinstance(value, set | frozenset) else _shown(value)


class _Plain:
    """Makes JSON of values without a JSON form: texts replace unknown objects, and endless values are cut off."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def of(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            return "…"
        try:
            if isinstance(value, Mapping):
                made = plain.mapping(value)
                if isinstance(made, dict):
                    return {_shown(key): self.of(one, depth + 1) for key, one in dict.items(made) if self._left > 0}
            if isinstance(value, list | tuple | set | frozenset):
                return [self.of(one, depth + 1) for one in value if self._left > 0]
            return json.loads(json.dumps(value, allow_nan=False, default=_for_json))
        except Exception:
            return _shown(value)
