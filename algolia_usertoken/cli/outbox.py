"""algolia-usertoken outbox"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import OutboxError
from .common import (
    APPLICATION,
    add_application,
    add_command,
    application,
    counted,
    finding_as_text,
    insights_config,
    printable,
    progress,
    refuse,
    wrapped,
)

if TYPE_CHECKING:
    from ..events.inspection import Status

_PATIENCE = 60.0  # after so many seconds without a settled event `drain` leaves the rest in the file
_LOOK = 0.5  # seconds between two looks at the file
_EXAMPLES = """\
examples:
  algolia-usertoken outbox status events.db
  export ALGOLIA_APP_ID=... ALGOLIA_API_KEY=...
  algolia-usertoken outbox drain events.db
  algolia-usertoken outbox check events.db

"""


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "outbox",
        help="look at the events on disk, deliver them, check the file",
        description="Shows the person on call which events wait in the file of an SQLiteOutbox, and delivers them. The "
        "application may run meanwhile.",
        more=_EXAMPLES,
    )
    kinds = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    status = add_command(
        kinds,
        "status",
        help="print how many events wait, in which processes, and how old they are",
        description="Prints how many events wait in the file; how many of them belong to running processes, which "
        "deliver them, and how many to processes that have ended; how old the oldest event is; how large the file and "
        "its log are; and how many damaged events are in its table `damaged`. Changes nothing.",
    )
    status.add_argument("--json", action="store_true", help="print JSON instead of text")
    status.set_defaults(run=_status)
    drain = add_command(
        kinds,
        "drain",
        help="deliver the events of processes that have ended",
        description="Delivers the events of processes that have ended, as the next start of the application would. "
        "Running processes deliver their own events. The command ends when all is delivered, when nothing could be "
        "delivered for a minute, or with Ctrl-C. Events that are not delivered stay in the file.",
        more=f"{APPLICATION}  ALGOLIA_REGION      the region, if --region is not given\n\n",
    )
    add_application(
        drain,
        key="the key that the application sends events with",
        host_is="a LocalAlgolia to deliver to instead of Algolia",
    )
    drain.set_defaults(run=_drain)
    check = add_command(
        kinds,
        "check",
        help="find out whether the file is damaged",
        description="Reads the whole file, which takes some seconds for a million events, and prints what is "
        "damaged and what to do about it. Changes nothing.",
    )
    check.add_argument("--json", action="store_true", help="print JSON instead of text")
    check.set_defaults(run=_check)
    for command in (status, drain, check):
        command.add_argument("file", metavar="FILE", help="the path that was given to SQLiteOutbox")


def _status(arguments: argparse.Namespace) -> int:
    from ..events.inspection import status_of

    try:
        status = status_of(arguments.file)
    except OutboxError as error:
        return refuse(printable(str(error)))
    print(json.dumps(asdict(status), indent=2) if arguments.json else _status_as_text(status))
    return 0


def _status_as_text(status: Status) -> str:
    lines = [f"{status.waiting:>12,}  {'event waits' if status.waiting == 1 else 'events wait'} in the file"]
    if status.oldest is not None:
        lines[0] += f", the oldest for {_ago(status.oldest)}"
    for owner in (owner for owner in status.owners if owner.alive):
        process = f"process {owner.pid}" if owner.pid else "a process"
        lines.append(f"{owner.events:>12,}    of {process}, which runs and delivers them")
    if status.of_the_dead:
        dead = "of processes that have ended: the next start delivers them, or `drain`"
        lines.append(f"{status.of_the_dead:>12,}    {dead}")
    if not status.is_whole:
        lines.append("              The file is damaged, and there may be more: `check` tells what to do.")
    if status.damaged:
        lines.append(f"{status.damaged:>12,}  more were damaged, and are in the table damaged")
    lines.append(f"{_megabytes(status.file_bytes):>12}  the file")
    lines.append(f"{_megabytes(status.log_bytes):>12}  the log beside it")
    return "\n".join(lines)


def _check(arguments: argparse.Namespace) -> int:
    from ..events.inspection import check

    findings = []
    try:
        with progress() as say:
            for finding in check(arguments.file, lambda done, of: say(f"{done:,} of {of:,} events read")):
                findings.append(finding)
                if not arguments.json:
                    say("")
                    state, colour = ("wrong", "31") if finding.wrong else ("ok", "32")
                    print(finding_as_text(colour, state, finding.step, finding.said, finding.remedy), flush=True)
    except OutboxError as error:
        return refuse(printable(str(error)))
    faults = sum(finding.wrong for finding in findings)
    if arguments.json:
        print(json.dumps({"faults": faults, "findings": list(map(asdict, findings))}, indent=2))
    return 1 if faults else 0


def _drain(arguments: argparse.Namespace) -> int:
    from ..events.inspection import status_of

    try:
        given = application(arguments, "app_id", "api_key")
        before = status_of(arguments.file)  # raises an error if there is no file; `_Drained` would create one
        with progress() as say:
            drained = _Drained(arguments, given)
            try:
                drained.run(say)
            finally:
                drained.close()
        after = status_of(arguments.file)
    except (OutboxError, ValueError) as error:
        return refuse(printable(str(error)))
    print(f"{drained.delivered:,} of {counted(before.of_the_dead)} delivered.")
    if after.of_the_living:
        print(f"Left to running processes, which deliver them: {after.of_the_living:,}.")
    for text, count in drained.refused.items():
        print(wrapped(f"{counted(count)} refused: {text}", "  "))
    if after.of_the_dead:
        print(f"{counted(after.of_the_dead)} could not be delivered, and stay in the file.")
    for text in drained.said:
        print(wrapped(text, "  "))
    return 1 if after.of_the_dead or drained.refused else 0


class _Drained:
    """Delivers the events of processes that have ended, with a sender, and keeps the result."""

    def __init__(self, arguments: argparse.Namespace, given: dict[str, str | None]) -> None:
        import math

        from .. import EventSender, SQLiteOutbox

        self.refused: dict[str, int] = {}  # for each reason of Algolia the number of events
        self.said: set[str] = set()  # errors of the outbox
        self.delivered = 0
        self._file = arguments.file
        # No event is given up: what can't be delivered stays in the file.
        self._outbox = SQLiteOutbox(arguments.file)
        self._sender = EventSender(
            config=insights_config(arguments, given),
            outbox=self._outbox,
            flush_interval=0,
            max_retry_time=math.inf,
            on_error=self._on_error,
        )

    def _on_error(self, error: Exception, events: Sequence[Any]) -> None:
        if not isinstance(error, OutboxError):
            self.refused[str(error)] = self.refused.get(str(error), 0) + len(events)
        else:
            self.said.add(str(error))

    def run(self, say: Any) -> None:
        from ..events.inspection import status_of

        settled, since = -1, time.monotonic()
        while True:
            self._sender.flush(_LOOK)
            # Count the others' events in the file first, then our own: an event adopted in between counts twice. The
            # sender's own count lags behind the file, and would leave out events that are just being adopted; the
            # outbox leaves out those that the sender has taken to deliver them.
            of_the_dead = status_of(self._file).of_the_dead
            waiting = len(self._outbox)
            left = of_the_dead + max(waiting, self._sender.stats.queued)
            if not left:
                self._sender.flush(_LOOK)  # so that `stats` counts all events that have left the file
            stats = self._sender.stats
            say(f"{stats.delivered:,} delivered, {left:,} left")
            if not left:
                return
            now = time.monotonic()
            if stats.delivered + stats.rejected != settled:
                settled, since = stats.delivered + stats.rejected, now
            elif now - since > _PATIENCE:
                return
            time.sleep(_LOOK / 5)

    def close(self) -> None:
        self._sender.close()
        self.delivered = self._sender.stats.delivered


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} seconds"
