"""algolia-usertoken audit"""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .common import (
    APPLICATION,
    COLOURS,
    WIDTH,
    add_application,
    add_command,
    application,
    counted,
    finding_as_text,
    is_coloured,
    printable,
    refuse,
)

if TYPE_CHECKING:
    from ..audit import Figures, Traffic
    from ..check import Finding
    from ..traffic import Application

_MAX_DAYS = 365
_BARS, _ASCII_BARS, _NONE = "▁▂▃▄▅▆▇█", ".:-=+*#@", " "
_NAME = 19  # the width of the first column
_MORE = f"""\
{APPLICATION}\
  ALGOLIA_INDEX_NAME  the index, if --index is not given
  ALGOLIA_REGION      the region, if --region is not given
  NO_COLOR            if it is set, the output has no colours

examples:
  ALGOLIA_APP_ID=... ALGOLIA_API_KEY=... algolia-usertoken audit --index NAME
  algolia-usertoken audit --host 127.0.0.1:8108   (what `serve` serves)

"""


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "audit",
        help="find out what is wrong with a real application's traffic",
        description="Asks Algolia for the figures of the last days. Prints in plain words what is wrong with them and "
        "what to do about it: searches without a user token, searches with a new token each, searches that are not "
        "tracked, clicks and purchases that are not counted, days on which something stopped. Fewer than 100 searches "
        "are too few to judge, and it says so. It needs a key with the ACL `analytics`, which the Premium and Elevate "
        "plans have.",
        more=_MORE,
    )
    add_application(
        parser,
        key="a key with the ACL `analytics`",
        index="the index whose searches to look at",
        region="where Algolia keeps the analytics (default: us)",
        host_is="a LocalAlgolia to ask instead of Algolia",
    )
    parser.add_argument(
        "--days", type=_days, default=7, metavar="N", help="how many days, today included, in UTC (default: 7)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def _days(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= _MAX_DAYS:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a number from 1 to {_MAX_DAYS}")


def run(arguments: argparse.Namespace) -> int:
    try:
        given = application(arguments, "app_id", "api_key", "index")
    except ValueError as error:
        return refuse(error)

    from ..audit import judge
    from ..traffic import Application, CannotAskError, traffic_of

    asked = Application(**given, host=arguments.host)  # type: ignore[arg-type]
    try:
        traffic = traffic_of(asked, arguments.days)
    except CannotAskError as error:
        return refuse(printable(str(error)))
    findings = judge(traffic)
    (_as_json if arguments.json else _as_text)(asked, traffic, findings)
    return 1 if _faults(findings) else 0


def _faults(findings: Sequence[Finding]) -> int:
    return sum(finding.state == "wrong" for finding in findings)


def _as_json(asked: Application, traffic: Traffic, findings: Sequence[Finding]) -> None:
    report = {
        "app_id": asked.app_id,
        "index": asked.index,
        "faults": _faults(findings),
        "findings": list(map(asdict, findings)),
        "total": asdict(traffic.total),
        "days": [{"date": day.date, "is_over": day.is_over, **asdict(day.figures)} for day in traffic.days],
        "positions": list(map(asdict, traffic.positions)),
    }
    print(json.dumps(report, indent=2))


def _as_text(asked: Application, traffic: Traffic, findings: Sequence[Finding]) -> None:
    first, last = traffic.days[0], traffic.days[-1]
    period = last.date if first is last else f"{first.date} to {last.date}"
    heading = f"The index {asked.index} of the application {asked.app_id}, {period} (UTC; today is not over):"
    print(printable("\n".join(textwrap.wrap(heading, WIDTH, break_on_hyphens=False))), end="\n\n")
    print("\n".join(_table(traffic)), end="\n\n")
    for finding in findings:
        print(finding_as_text(COLOURS[finding.state], finding.state, finding.step, finding.said, finding.remedy))
    faults = _faults(findings)
    if faults:
        print(f"\n{counted(faults, 'problem', 'problems')} found.")
    elif len(findings) == 1:
        print("\nToo few searches to tell.")
    else:
        print("\nNothing is wrong.")


# -- The table --------------------------------------------------------------------------------------------------------


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


_ROWS: Sequence[tuple[str, str, Callable[[Figures], float | None]]] = (
    ("searches", ",.0f", lambda figures: figures.searches),
    ("users", ",.0f", lambda figures: figures.users),
    ("searches per user", ",.1f", lambda figures: _ratio(figures.searches, figures.users)),
    ("without results", ".1%", lambda figures: _ratio(figures.without_results, figures.searches)),
    ("tracked searches", ",.0f", lambda figures: figures.tracked),
    ("click rate", ".1%", lambda figures: figures.click_rate),
    ("conversion rate", ".1%", lambda figures: figures.conversion_rate),
    ("clicks", ",.0f", lambda figures: figures.clicks),
    ("conversions", ",.0f", lambda figures: figures.conversions),
    ("  into a cart", ",.0f", lambda figures: figures.added_to_cart),
    ("  purchases", ",.0f", lambda figures: figures.purchases),
)


def _table(traffic: Traffic) -> list[str]:
    """A row for each figure: the total, a bar for each day, and each day's number if the terminal is wide enough."""
    width = max(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    days = [day.figures for day in traffic.days]
    rows = [[_shown(number_of(figures), form) for figures in (traffic.total, *days)] for _, form, number_of in _ROWS]
    of_total = max(len(row[0]) for row in rows) + 4
    of_day = max(len(text) for row in rows for text in row[1:]) + 3
    per_bar = -(-len(days) // (width - _NAME - of_total - 2))
    bars = -(-len(days) // per_bar)
    with_days = len(days) > 1 and _NAME + of_total + 2 + bars + len(days) * of_day <= width
    head = ["", "in all", "a day each" if per_bar == 1 else f"{per_bar} days each"]
    if with_days:
        head[2:] = [" " * bars, *(f"{day.date[5:]:>{of_day}}" for day in traffic.days)]
    lines = [_dim(f"{head[0]:{_NAME}}{head[1]:>{of_total}}  {''.join(head[2:])}")]
    for (name, _, number_of), (in_all, *each) in zip(_ROWS, rows, strict=True):
        line = f"{name:{_NAME}}{in_all:>{of_total}}  {_sparkline([*map(number_of, days)], per_bar):{bars}}"
        lines.append((line + "".join(f"{text:>{of_day}}" for text in each) * with_days).rstrip())
    return lines


def _shown(number: float | None, form: str) -> str:
    return "-" if number is None else format(number, form)


def _sparkline(numbers: Sequence[float | None], per_bar: int) -> str:
    """One bar for every `per_bar` days, the mean of the days with a number; a space if no day has one, or for 0."""
    groups = [numbers[at : at + per_bar] for at in range(0, len(numbers), per_bar)]
    known = [[number for number in group if number is not None] for group in groups]
    means = [sum(group) / len(group) if group else 0.0 for group in known]
    most = max(means, default=0.0)
    bars = _BARS if printable(_BARS) == _BARS else _ASCII_BARS
    return "".join(bars[min(int(mean / most * len(bars)), len(bars) - 1)] if mean > 0 else _NONE for mean in means)


def _dim(text: str) -> str:
    return f"\033[2m{text}\033[0m" if is_coloured() else text
