"""Compares what the server received with what each visitor did, as a table or as JSON."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .visitors import LOGGED_IN, Visitor

if TYPE_CHECKING:
    from ..testing import LocalAlgolia, ReceivedEvent, ReceivedSearch

_HEADINGS = ("who", "client", "seen as", "searches", "events", "logged in as", "ok?")
_WIDTH = 80
_WIDEST = 14  # characters of a token in the table, so that no line is wider than that


@dataclass(frozen=True)
class Line:
    """One visitor, as the server saw them."""

    who: str
    client: str
    user_tokens: list[str]  # the different tokens received; normally one
    client_ips: list[str]
    searches: int
    events: int
    logged_in_as: list[str]
    verdict: str
    mismatches: int


@dataclass(frozen=True)
class Report:
    users: list[Line]
    searches: int  # all searches that the server received, from any visitor
    events: int
    mismatches: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(visitors: Sequence[Visitor], algolia: LocalAlgolia) -> Report:
    """Compare what the server received with what each visitor did.

    The analytics tags of a search tell who made it, whatever identity it has. An event belongs to whoever made the
    search that it names.
    """
    searches: dict[str, list[ReceivedSearch]] = {visitor.tag: [] for visitor in visitors}
    events: dict[str, list[tuple[ReceivedEvent, str]]] = {visitor.tag: [] for visitor in visitors}
    found_by: dict[str, tuple[str, str]] = {}
    strays = 0
    for search in algolia.searches:
        tag, stage = _tags(search)
        if tag in searches:
            searches[tag].append(search)
            found_by[search.query_id or ""] = tag, stage
        else:
            strays += 1
    for event in algolia.events:
        tag, stage = found_by.get(next(iter(event.query_ids), ""), ("", ""))
        if tag in events:
            events[tag].append((event, stage))
        else:
            strays += 1
    lines = [_line(visitor, searches[visitor.tag], events[visitor.tag]) for visitor in visitors]
    return Report(
        users=lines,
        searches=len(algolia.searches),
        events=len(algolia.events),
        mismatches=strays + sum(line.mismatches for line in lines),
    )


def as_table(report: Report) -> str:
    """The report as text in 80 columns: a line for each visitor, the errors of each visitor, and the sums."""
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    rows = [_HEADINGS, *(_cells(line) for line in report.users)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = [_aligned(row, widths) for row in rows]
    if colour:
        lines[0] = _paint(lines[0], "1")
        for number, line in enumerate(report.users, start=1):
            before = lines[number].removesuffix(_is_ok(line))
            lines[number] = before + _paint(_is_ok(line), "31" if line.mismatches else "32")
    wrong = [
        textwrap.fill(f"{line.who} ({line.client}): {line.verdict}", _WIDTH, subsequent_indent="  ")
        for line in report.users
        if line.mismatches
    ]
    total = f"{report.searches} searches, {report.events} events, {report.mismatches} mismatches"
    return "\n".join([*lines, "", *wrong, *([""] if wrong else []), total])


def _tags(search: ReceivedSearch) -> tuple[str, str]:
    tags = search.params.get("analyticsTags")
    return (tags[0], tags[1]) if isinstance(tags, list) and len(tags) == 2 else ("", "")


def _line(visitor: Visitor, searches: list[ReceivedSearch], events: list[tuple[ReceivedEvent, str]]) -> Line:
    expected = visitor.expected
    logins = [visitor.login if stage == LOGGED_IN else None for _, stage in events]
    problems = {
        "searches missing": max(visitor.searches - len(searches), 0),
        "searches too many": max(len(searches) - visitor.searches, 0),
        "events missing": max(visitor.clicks - len(events), 0),
        "events too many": max(len(events) - visitor.clicks, 0),
        "searches under a wrong token": sum(search.user_token != expected.user_token for search in searches),
        "searches from a wrong address": sum(search.forwarded_for != expected.client_ip for search in searches),
        "events under a wrong token": sum(event.user_token != expected.user_token for event, _ in events),
        "events with a wrong login": sum(
            event.authenticated_user_token != login for (event, _), login in zip(events, logins, strict=True)
        ),
    }
    return Line(
        who=visitor.name,
        client=visitor.client,
        user_tokens=_different([s.user_token for s in searches] + [e.user_token for e, _ in events]),
        client_ips=_different(search.forwarded_for for search in searches),
        searches=len(searches),
        events=len(events),
        logged_in_as=_different(event.authenticated_user_token for event, _ in events),
        verdict=", ".join(f"{count} {problem}" for problem, count in problems.items() if count) or "ok",
        mismatches=sum(problems.values()),
    )


def _different(values: Iterable[str | None]) -> list[str]:
    return sorted({value for value in values if value})


def _cells(line: Line) -> tuple[str, ...]:
    return (
        line.who,
        line.client,
        _in_short(line.user_tokens or line.client_ips),
        str(line.searches),
        str(line.events),
        _in_short(line.logged_in_as),
        _is_ok(line),
    )


def _is_ok(line: Line) -> str:
    """The last cell of a visitor. The lines below the table say what is wrong."""
    return "no" if line.mismatches else "yes"


def _in_short(values: list[str]) -> str:
    """The only token or address, shortened to its beginning and its end, which tell it from others."""
    if not values:
        return "-"
    if len(values) > 1:
        return f"{len(values)} different"
    value = values[0]
    return value if len(value) <= _WIDEST else f"{value[:6]}...{value[6 - _WIDEST + 3 :]}"


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (_HEADINGS.index("searches"), _HEADINGS.index("events"))
    cells = [
        cell.rjust(width) if column in numbers else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"
