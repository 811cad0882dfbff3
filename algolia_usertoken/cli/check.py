"""algolia-usertoken check"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .common import (
    APPLICATION,
    COLOURS,
    add_application,
    add_command,
    application,
    counted,
    finding_as_text,
    refuse,
    wrapped,
)

if TYPE_CHECKING:
    from ..check import Check, Finding

_MORE = f"""\
{APPLICATION}\
  ALGOLIA_INDEX_NAME  the index, if --index is not given
  ALGOLIA_REGION      the region, if --region is not given
  NO_COLOR            if it is set, the output has no colours

examples:
  ALGOLIA_APP_ID=... ALGOLIA_API_KEY=... algolia-usertoken check --index NAME
  algolia-usertoken check --host 127.0.0.1:8108   (what `serve` serves)

"""


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "check",
        help="find out what is wrong with a real application's set-up",
        description="Sends one search and one event to a real application, under a throw-away user token. Prints in "
        "plain words what works, what is wrong, and what to do about it: whether the key is accepted, whether the "
        "header with the token arrives (which only a key that may read logs can tell), whether the response has a "
        "queryID, whether the event is accepted, and whether the region is right. The search and the event count in "
        "the application's analytics, under the tag and the event name algolia-usertoken-check. The last lines say how "
        "to erase the user.",
        more=_MORE,
    )
    add_application(
        parser,
        key="a key with the ACL `search`; only one with `logs` too can tell whether the header arrived",
        index="an index to search",
        host_is="a LocalAlgolia to check instead of Algolia; by default, with the id, key and index of `serve`",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    try:
        given = application(arguments, "app_id", "api_key", "index")
    except ValueError as error:
        return refuse(error)

    from ..check import Check

    check = Check(**given, host=arguments.host)  # type: ignore[arg-type]
    return _as_json(check) if arguments.json else _as_text(check)


def _as_json(check: Check) -> int:
    findings = list(check.run())
    faults = sum(finding.state == "wrong" for finding in findings)
    print(
        json.dumps(
            {"user_token": check.user_token, "faults": faults, "findings": list(map(asdict, findings))}, indent=2
        )
    )
    return 1 if faults else 0


def _as_text(check: Check) -> int:
    print(
        wrapped(
            f"One search and one event, to the index {check.index} of the application {check.app_id}, as the user "
            f"{check.user_token}:"
        ),
        end="\n\n",
        flush=True,
    )
    faults = 0
    has_arrived = False
    for finding in check.run():
        faults += finding.state == "wrong"
        has_arrived |= finding.step == "index" and finding.state == "ok"  # the search was answered, so it counts
        print(_as_lines(finding), flush=True)
    print(f"\n{counted(faults, 'problem', 'problems')} found." if faults else "\nNothing is wrong.")
    if has_arrived and not check.is_of_stand_in:
        print("To erase this user, with a key that has the ACL `deleteObject`:")
        print(f"  user_token = {check.user_token!r}\n  client.insights.delete_user_token(user_token)")
    return 1 if faults else 0


def _as_lines(finding: Finding) -> str:
    return finding_as_text(COLOURS[finding.state], finding.state, finding.step, finding.said, finding.remedy)
