"""Reads events from files, one after the other: NDJSON, a JSON array, or dead letters, also compressed with gzip.

Only a part of the file is in memory at any time, however long the file is.
"""

from __future__ import annotations

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import IO, Any, NamedTuple

MOST_BYTES = 16_000_000  # of one event: more than a whole request may have even if each character is escaped
_CHUNK = 1 << 18
_CUT_OFF = 16  # characters: an error this close to the end of the buffer may only mean that the rest is not read yet
_WHITESPACE = " \t\r\n"

_LINE_ENDS = ("\n", "\r\n", "")

_decoder = json.JSONDecoder()
_new = tuple.__new__  # does the same as Item(…) in half the time
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once  # type: ignore[attr-defined]


class Item(NamedTuple):
    """An item of a file, which should be an event.

    Attributes:
        number: Its place among the items of the file, from 1.
        line: The line on which it begins, from 1.
        value: Its decoded JSON value.
        wrong: Why the item can't be read; None if it can.
    """

    number: int
    line: int
    value: Any
    wrong: str | None = None


class UnreadableError(Exception):
    """The file can't be read from the line `line` on."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


def items_of(file: IO[bytes]) -> Iterator[Item]:
    """Yield the items of a file while the file is read.

    Args:
        file: A file, a pipe or any other source of bytes.

    Raises:
        UnreadableError: The rest of the file can't be read.
    """
    line = 0
    try:
        reader = _unpacked(file)
        first = True
        number = 0
        while text := reader.readline(MOST_BYTES + 1):
            line += 1
            try:  # the fast path for nearly all lines: it saves the function calls of `_of_line`
                string = text.decode()
                value, end = _scan(string, 0)
            except (StopIteration, ValueError, RecursionError):
                pass
            else:
                if type(value) is dict and string[end:] in _LINE_ENDS:
                    number += 1
                    first = False
                    yield _new(Item, (number, line, value, None))
                    continue
            if text.isspace():
                continue
            if first and text.lstrip().startswith(b"["):
                yield from _of_array(text, reader, line)
                return
            number += 1
            yield _of_line(text, reader, number, line, first)
            first = False
    except EOFError:
        raise UnreadableError(line, "the gzip data ends too early") from None
    except (gzip.BadGzipFile, zlib.error):
        raise UnreadableError(line, "the gzip data is damaged") from None
    except OSError as error:
        raise UnreadableError(line, error.strerror or "it can't be read") from None


def _unpacked(file: IO[bytes]) -> io.BufferedReader:
    """The content of the file, decompressed if it is gzip, and without a byte order mark."""
    reader, start = _looked_at(file)
    if start.startswith(b"\x1f\x8b"):
        reader, start = _looked_at(gzip.GzipFile(fileobj=reader))
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UnreadableError(1, "it is UTF-16, and must be UTF-8")
    if start.startswith(codecs.BOM_UTF8):
        reader.read(len(codecs.BOM_UTF8))
    return reader


def _looked_at(file: Any) -> tuple[io.BufferedReader, bytes]:
    start = file.read(4)
    return io.BufferedReader(_Rejoined(start, file), _CHUNK), start


class _Rejoined(io.RawIOBase):
    """A file whose first bytes were read already; it gives them again."""

    def __init__(self, start: bytes, file: Any) -> None:
        self._start = start
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._start:
            part, self._start = self._start[: len(buffer)], self._start[len(buffer) :]
        else:
            # Read only what a pipe has now, so that events are sent as they arrive.
            part = self._file.read1(len(buffer)) if hasattr(self._file, "read1") else self._file.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)


# NDJSON.


def _of_line(text: bytes, reader: io.BufferedReader, number: int, line: int, first: bool) -> Item:
    if len(text) > MOST_BYTES and not text.endswith(b"\n"):
        while (rest := reader.readline(_CHUNK)) and not rest.endswith(b"\n"):
            pass
        return Item(number, line, None, f"has more than {MOST_BYTES:,} bytes")
    try:
        return Item(number, line, json.loads(text.decode()))
    except UnicodeDecodeError:
        return Item(number, line, None, "is not UTF-8")
    except RecursionError:
        return Item(number, line, None, "is nested too deeply")
    except ValueError:
        hint = ": each line must be one event, as `jq -c .` writes them" if first and text.strip() == b"{" else ""
        return Item(number, line, None, f"is not JSON{hint}")


# A JSON array.


class _Buffer:
    """The part of a text that is read so far, and a position in it; more may follow."""

    def __init__(self, start: bytes, reader: io.BufferedReader, line: int) -> None:
        # Bytes that are not UTF-8 are kept as surrogates, so that only the event that contains them is refused.
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._reader = reader
        self.text = self._decode(start)
        self.at = 0
        self.line = line  # of `at`
        self.ended = False

    def more(self, size: int) -> bool:
        """Read more of the file; False if its end was reached before."""
        if self.ended:
            return False
        data = self._reader.read(size)
        self.ended = len(data) < size
        self.text = self.text[self.at :] + self._decode(data, self.ended)
        self.at = 0
        return True

    def move_to(self, at: int) -> None:
        self.line += self.text.count("\n", self.at, at)
        self.at = at

    def next_letter(self) -> str:
        """Move to the next character that is not white space, and return it; an empty string at the end."""
        while True:
            at = self.at
            while at < len(self.text) and self.text[at] in _WHITESPACE:
                at += 1
            self.move_to(at)
            if at < len(self.text):
                return self.text[at]
            if not self.more(_CHUNK):
                return ""


def _of_array(start: bytes, reader: io.BufferedReader, line: int) -> Iterator[Item]:
    buffer = _Buffer(start, reader, line)
    buffer.next_letter()
    buffer.move_to(buffer.at + 1)
    number = 0
    while (letter := buffer.next_letter()) != "]":
        if number:
            if letter != ",":
                raise UnreadableError(buffer.line, _end_or("a comma must come here", letter))
            buffer.move_to(buffer.at + 1)
            letter = buffer.next_letter()
        number += 1
        begins = buffer.line
        if not letter:
            raise UnreadableError(begins, _end_or("", letter))
        yield Item(number, begins, _value(buffer))
    buffer.move_to(buffer.at + 1)
    if buffer.next_letter():
        raise UnreadableError(buffer.line, "what comes after the end of the array is not read")


def _value(buffer: _Buffer) -> Any:
    """Decode the value that begins at the buffer's position, and move behind it."""
    size = _CHUNK
    while True:
        try:
            value, end = _decoder.raw_decode(buffer.text, buffer.at)
        except json.JSONDecodeError as error:
            whole = not error.msg.startswith("Unterminated") and error.pos < len(buffer.text) - _CUT_OFF
            failure = "the event is not JSON" if whole or buffer.ended else None
        except (ValueError, RecursionError) as error:
            failure = "the event is nested too deeply" if isinstance(error, RecursionError) else "the event is not JSON"
        else:
            # A number may go on behind the end of the buffer; then up to two characters of it are not decoded: `1.5e+`.
            if type(value) not in (int, float) or end < len(buffer.text) - 2 or buffer.ended:
                buffer.move_to(end)
                return value
            failure = None
        if failure is None and len(buffer.text) - buffer.at > MOST_BYTES:
            failure = f"the event has more than {MOST_BYTES:,} characters"
        if failure is not None:
            raise UnreadableError(buffer.line, f"{failure}, so the rest of the array can't be read")
        buffer.more(size)
        size *= 2  # so that a long value is not decoded again too often


def _end_or(what: str, letter: str) -> str:
    return what if letter else "the file ends before the array does"


# Dead letters.


def event_of(value: Any) -> Any:
    """The event in a dead letter; any other value as it is.

    If the event has no timestamp, it gets the time at which the dead letter was written.
    """
    if type(value) is not dict or "event" not in value or "reason" not in value or "eventType" in value:
        return value
    event = value["event"]
    if type(event) is dict and event.get("timestamp") is None:
        written = _milliseconds(value.get("time"))
        if written is not None:
            event["timestamp"] = written
    return event


def _milliseconds(text: Any) -> int | None:
    try:
        written = datetime.fromisoformat(text)
        return None if written.tzinfo is None else int(written.timestamp() * 1000)
    except (ValueError, TypeError, OverflowError, OSError):
        return None
