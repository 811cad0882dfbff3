"""algolia-usertoken send"""

from __future__ import annotations

import argparse
import os
import signal
import stat
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from typing import IO, TYPE_CHECKING, Any

from .common import (
    APPLICATION,
    WIDTH,
    add_application,
    add_command,
    application,
    counted,
    insights_config,
    printable,
    progress,
    refuse,
)

if TYPE_CHECKING:
    from ..events.backfill import Backfill, Text
    from .done import Done

_PATIENCE = 60.0  # after so many seconds without an answer nothing more is sent
_PATIENCE_AT_END = 5.0  # seconds that Ctrl-C waits for the current request
_BATCH = 1_000  # events in one request
_LOOK_EVERY = 256  # events read between two calls of `_look`
_REDRAW = 0.1  # seconds between two updates of the progress bar
_BAR = 20  # characters
_MORE = f"""\
{APPLICATION}\
  ALGOLIA_REGION      the region, if --region is not given

examples:
  algolia-usertoken send --dry-run orders.ndjson
  ALGOLIA_APP_ID=... ALGOLIA_API_KEY=... algolia-usertoken send orders.ndjson
  zcat 2026-*.gz | algolia-usertoken send -

"""


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "send",
        help="send events from files: the orders of a database, or events that could not be sent",
        description="Sends Insights events from files. A file has one JSON event per line (NDJSON), a JSON array of "
        "events, or dead letters as DeadLetters writes them; it may be compressed with gzip. Each event is checked "
        "first, as the library checks it. If an event is refused, here or by Algolia, the command prints FILE:LINE: "
        "reason on stderr, and still sends the other events. An event must have a userToken. An event without a "
        "timestamp counts as happening now. An event of more than 30 days ago is refused. While a file is sent, "
        "FILE.progress beside it says how many of its events were sent.",
        more=_MORE,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="a file; or -, to read the standard input")
    parser.add_argument("--dry-run", action="store_true", help="only check: send nothing; needs no key")
    parser.add_argument("--index", metavar="NAME", help="the index for events that name none")
    parser.add_argument(
        "--resume", action="store_true", help="go on where an earlier run stopped, which FILE.progress tells"
    )
    add_application(parser, key="a key with the ACL `search`", host_is="a LocalAlgolia to send to instead of Algolia")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from .done import NotResumableError

    with ExitStack() as locks:
        try:
            given = None if arguments.dry_run else application(arguments, "app_id", "api_key")
            sources = _sources(arguments, locks)
        except (ValueError, NotResumableError) as error:
            return refuse(printable(str(error)))
        with progress() as say, _as_ctrl_c(signal.SIGTERM):
            sending = _Sending(arguments, sources, say)
            return sending.check() if given is None else sending.send(given)


class _Source:
    """A file to read events from, and how many of its events are settled."""

    def __init__(self, path: str, done: Done | None, size: int | None) -> None:
        self.path = path
        self.name = printable(path)
        self.done = done  # None for a source that can't be read twice, and in a dry run
        self.size = size  # None for a source that can't be read twice

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        if self.path == "-":
            yield sys.stdin.buffer
        else:
            from ..events.reading import UnreadableError

            try:
                file = open(self.path, "rb")  # noqa: SIM115
            except OSError as error:
                raise UnreadableError(1, error.strerror or "") from None
            with file:
                yield file


def _sources(arguments: argparse.Namespace, locks: ExitStack) -> list[_Source]:
    """The sources to read. This checks all of them before anything is sent, and locks them.

    Raises:
        ValueError: A source can't be read, is given twice, or is being sent by another run.
        NotResumableError: A part of a file was sent already, or it is not known how much was sent.
    """
    from .done import Done, only_run

    sources = []
    seen: set[object] = set()
    identity: object
    for path in arguments.files:
        if path == "-":
            if sys.stdin is None or not hasattr(sys.stdin, "buffer"):
                raise ValueError("there is no input to read events from")
            identity, is_file, size = "-", False, 0
        else:
            try:
                with open(path, "rb") if not _is_pipe(path) else nullcontext():
                    status = os.stat(path)
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"{path}: {getattr(error, 'strerror', None) or 'a file cannot have this name'}"
                ) from None
            identity, is_file, size = (status.st_dev, status.st_ino), stat.S_ISREG(status.st_mode), status.st_size
        if identity in seen:
            raise ValueError(f"{path}: is given twice")
        seen.add(identity)
        if arguments.resume and not is_file and not arguments.dry_run:
            raise ValueError(f"{path}: --resume works only with files, and this is not a file")
        done = Done(path) if is_file and not arguments.dry_run else None
        if done is not None:
            locks.enter_context(only_run(path))
            done.begin(resume=arguments.resume)
        sources.append(_Source(path, done, size if is_file else None))
    return sources


def _is_pipe(path: str) -> bool:
    return stat.S_ISFIFO(os.stat(path).st_mode)  # to open a pipe would wait for its writer


class _Sending:
    """One run of the command."""

    def __init__(self, arguments: argparse.Namespace, sources: Sequence[_Source], say: Any) -> None:
        self._arguments = arguments
        self._sources = sources
        self._say = say
        self._bar = _Bar(sources)
        self._read = self._refused = self._untimed = self._resumed = 0
        self._unreadable = False  # whether the rest of a file could not be read
        self._trouble: str | None = None  # why FILE.progress can't be written; reported once
        self._told = False
        self._backfill: Backfill | None = None

    def check(self) -> int:
        """Send nothing; only report what would be refused."""
        for _ in self._texts():
            pass
        self._say("")
        print(f"{counted(self._read)} would be sent, {self._refused:,} refused.{self._of_now()}")
        return self._code()

    def send(self, given: dict[str, str | None]) -> int:
        """Send the events that are not refused."""
        from ..events.backfill import Backfill
        from ..events.delivery import InsightsDelivery

        delivery = InsightsDelivery(insights_config(self._arguments, given))
        backfill = self._backfill = Backfill(
            delivery, self._settled, self._look, patience_s=_PATIENCE, batch_size=_BATCH
        )
        try:
            with closing(self._texts()) as texts:
                if all(map(backfill.put, texts)):
                    backfill.finish()
        except BaseException as error:
            backfill.end(_PATIENCE_AT_END)
            if isinstance(error, KeyboardInterrupt):
                self._look()
                self._say("")
                print(f"Interrupted. {self._so_far()}", file=sys.stderr)
            raise
        finally:
            delivery.close()
        self._look()
        self._say("")
        if backfill.stopped is not None:
            why = (
                "the key is not accepted: it must be one of this application, with the ACL `search`"
                if backfill.unauthorized
                else "Algolia can't be reached"
            )
            return refuse(f"{why} ({printable(backfill.stopped)}). {self._so_far()}")
        print(f"{counted(backfill.accepted)} accepted, {self._refused:,} refused.{self._of_now()}")
        if self._resumed:
            print(f"{self._resumed:,} were settled by an earlier run.")
        if not self._unreadable:
            for source in self._sources:
                if source.done is not None:
                    source.done.remove()
        return self._code()

    def _code(self) -> int:
        return 2 if self._unreadable else 1 if self._refused else 0

    def _of_now(self) -> str:
        if not self._untimed:
            return ""
        return f"\nThat includes {counted(self._untimed)} without a timestamp, counted as happening now."

    def _so_far(self) -> str:
        assert self._backfill is not None
        resumable = all(source.done is not None for source in self._sources) and self._trouble is None
        hint = " --resume goes on from there." if resumable else ""
        return f"{counted(self._backfill.accepted)} accepted, {self._refused:,} refused so far.{hint}"

    def _texts(self) -> Generator[Text, None, None]:
        """Yield the texts of the events to send; report refused events and unreadable files."""
        from ..errors import UserTokenError
        from ..events.accepting import text_of
        from ..events.backfill import Text
        from ..events.reading import UnreadableError, event_of, items_of

        index = self._arguments.index
        for place_of_source, source in enumerate(self._sources):
            done = source.done
            last = 0 if done is None else done.last
            try:
                with source.opened() as file:
                    self._bar.begin(source, file)
                    for number, line, value, wrong in items_of(file):
                        if not number % _LOOK_EVERY:
                            self._look()
                        if number <= last and done is not None and done.has(number):
                            self._resumed += 1
                            continue
                        body = None
                        untimed = False
                        if wrong is None:
                            event = event_of(value) if type(value) is dict and "event" in value else value
                            if type(event) is dict:
                                if index is not None and event.get("index") is None:
                                    event = _with_index(event, index)
                                untimed = event.get("timestamp") is None
                            try:
                                body = text_of(event, None, int(time.time() * 1000) if untimed else 0)
                            except UserTokenError as error:
                                wrong = str(error)
                        if body is None:
                            self._refuse(source, line, wrong or "is nobody's")
                            if done is not None:
                                done.add((number,))
                            continue
                        self._read += 1
                        self._untimed += untimed
                        text = Text(body)
                        text.place = place_of_source, number, line
                        yield text
            except UnreadableError as error:
                self._unreadable = True
                self._tell(f"{source.name}:{error.line}: {error}")

    def _settled(self, texts: Sequence[Text]) -> None:
        """Called by the thread that delivers, after each request."""
        places = [text.place for text in texts]
        for number in {place[0] for place in places}:
            done = self._sources[number].done
            if done is not None:
                done.add([place[1] for place in places if place[0] == number])
                try:
                    done.write()
                except OSError as error:
                    self._trouble = f"{done.path}: {error.strerror}"

    def _look(self) -> None:
        """Report new refusals and troubles, and update the progress bar."""
        backfill = self._backfill
        while backfill is not None and backfill.rejected:
            text, reason = backfill.rejected.popleft()
            self._refuse(self._sources[text.place[0]], text.place[2], reason)
        if self._trouble is not None and not self._told:
            self._told = True
            why = printable(self._trouble)
            self._tell(f"algolia-usertoken: the progress cannot be saved, so --resume will not work: {why}")
        self._bar.draw(self._say, self._read if backfill is None else backfill.accepted, self._refused)

    def _refuse(self, source: _Source, line: int, reason: str) -> None:
        self._refused += 1
        self._tell(f"{source.name}:{line}: {printable(reason)}")

    def _tell(self, text: str) -> None:
        self._say("")
        print(text, file=sys.stderr)


class _Bar:
    """The progress bar on a terminal."""

    def __init__(self, sources: Sequence[_Source]) -> None:
        sizes = [source.size for source in sources if source.size is not None]
        self._total = sum(sizes) if len(sizes) == len(sources) else 0  # 0: not known
        self._before = 0  # bytes of the files read completely
        self._size = 0  # bytes of the current file
        self._file: IO[bytes] | None = None
        self._start = self._next = time.monotonic()

    def begin(self, source: _Source, file: IO[bytes]) -> None:
        self._before += self._size
        self._size, self._file = source.size or 0, file

    def draw(self, say: Any, done: int, refused: int) -> None:
        now = time.monotonic()
        if now < self._next or sys.stderr is None or not sys.stderr.isatty():
            return
        self._next = now + _REDRAW
        seconds = now - self._start
        text = f"{done:,} events  {done / seconds if seconds else 0:,.0f}/s  {refused:,} refused"
        if self._total and self._file is not None:
            read = self._before + (self._size if self._file.closed else os.lseek(self._file.fileno(), 0, os.SEEK_CUR))
            share = min(1.0, read / self._total)
            left = f"  {_clock(seconds / share - seconds)} left" if share else ""
            text = f"[{'#' * int(share * _BAR):.<{_BAR}}] {share:4.0%}  {text}{left}"
        say(text[: WIDTH - 1])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _with_index(event: dict[str, Any], index: str) -> dict[str, Any]:
    return event if event.get("eventType") == "instantsearch" else {**event, "index": index}


@contextmanager
def _as_ctrl_c(signum: int) -> Iterator[None]:
    """Make this signal end the command as Ctrl-C does."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signum, interrupt)
    try:
        yield
    finally:
        signal.signal(signum, before)
