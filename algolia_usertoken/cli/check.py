"""algolia-usertoken check"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .common import add_command, refuse

if TYPE_CHECKING:
    from ..check import Check, Finding

_REGIONS = ("us", "de")
_LOCAL = {"app_id": "LOCALALGOLIA", "api_key": "local-api-key", "index": "products"}  # what `serve` serves
_COLOURS = {"ok": "32", "wrong": "31", "unknown": "33", "skipped": "2"}
_WIDTH = 80
_MORE = """\
environment:
  ALGOLIA_APP_ID      the application, where --app-id is not given
  ALGOLIA_API_KEY     the key, where --api-key is not given; better there than
                      on a command line, which all users of the machine see
  ALGOLIA_INDEX_NAME  the index, where --index is not given
  ALGOLIA_REGION      the region, where --region is not given
  NO_COLOR            set: no colours

examples:
  ALGOLIA_APP_ID=... ALGOLIA_API_KEY=... algolia-usertoken check --index NAME
  algolia-usertoken check --host 127.0.0.1:8108   (what `serve` serves)

"""


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "check",
        help="find out what is wrong with a real application's set-up",
        description="Sends one search and one event to a real application, under a throw-away user token, and "
        "says in plain words what works, what is wrong, and what to do about it: whether the key is "
        "accepted, the header with the token arrives (where the key may read logs), the response has "
        "a queryID, the event is accepted, and the region is right. Both count in the application's "
        "analytics, under the tag and event name algolia-usertoken-check; the last line says how to "
        "erase the user.",
        more=_MORE,
    )
    parser.add_argument("--app-id", metavar="ID", help="the application's id")
    parser.add_argument(
        "--api-key", metavar="KEY", help="a key with the ACL `search`, and `logs` for all of the answers"
    )
    parser.add_argument("--index", metavar="NAME", help="an index to search")
    parser.add_argument(
        "--region", choices=_REGIONS, help="where the application's events are kept (default: by geography)"
    )
    parser.add_argument("--host", type=_host, metavar="HOST:PORT", help="a LocalAlgolia to check instead of Algolia")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    given: dict[str, str] = {}
    for name, variable in (
        ("app_id", "ALGOLIA_APP_ID"),
        ("api_key", "ALGOLIA_API_KEY"),
        ("index", "ALGOLIA_INDEX_NAME"),
    ):
        value = getattr(arguments, name) or (_LOCAL[name] if arguments.host is not None else os.environ.get(variable))
        if not value:
            return refuse(f"give --{name.replace('_', '-')}, or set {variable}")
        if name != "index" and not (value.isascii() and value.isprintable() and " " not in value):
            return refuse(f"--{name.replace('_', '-')} has characters that none has")
        if name == "app_id" and not re.fullmatch(r"[\w-]+", value):  # hosts are named after it
            return refuse("--app-id has characters that none has")
        if name == "app_id" and re.fullmatch("[0-9a-f]{32}", value):
            return refuse("--app-id looks like a key")
        if name == "index" and value.encode("utf-8", "replace").decode() != value:
            return refuse(f"--index is not text: {value!a}")
        if name == "index" and value in (".", ".."):  # in a URL they are none
            return refuse(f"--index is no name: {value!a}")
        given[name] = value
    region = arguments.region or (None if arguments.host is not None else os.environ.get("ALGOLIA_REGION") or None)
    if region not in (None, *_REGIONS):
        return refuse("ALGOLIA_REGION must be us or de")

    from ..check import Check

    check = Check(given["app_id"], given["api_key"], given["index"], region, arguments.host)
    return _as_json(check) if arguments.json else _as_text(check)


def _host(text: str) -> tuple[str, str, int | None]:
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        if url.scheme in ("http", "https") and url.hostname and url.path in ("", "/") and url.username is None:
            name = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
            return url.scheme, name, url.port
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("must be as 127.0.0.1:8108 or http://127.0.0.1:8108")


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
        _wrapped(
            f"One search and one event, to the index {check.index} of the application {check.app_id}, as the user "
            f"{check.user_token}:"
        ),
        end="\n\n",
        flush=True,
    )
    faults = 0
    for finding in check.run():
        faults += finding.state == "wrong"
        print(_shown(finding), flush=True)
    print(f"\n{faults} to mend." if faults else "\nNothing is wrong.")
    print(f"To erase this user, with a key that may:\n  client.insights.delete_user_token({check.user_token!r})")
    return 1 if faults else 0


def _shown(finding: Finding) -> str:
    indent = " " * 22
    lines = textwrap.wrap(
        finding.said, _WIDTH, initial_indent=f"{finding.state:8}  {finding.step:10}  ", subsequent_indent=indent
    )
    lines += textwrap.wrap(finding.remedy, _WIDTH, initial_indent=f"{indent}→ ", subsequent_indent=f"{indent}  ")
    text = "\n".join(_printable(line) for line in lines)
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        state = finding.state
        return f"\033[{_COLOURS[state]}m{state}\033[0m{text[len(state) :]}"
    return text


def _wrapped(text: str) -> str:
    return _printable("\n".join(textwrap.wrap(text, _WIDTH, break_on_hyphens=False)))


def _printable(text: str) -> str:
    """What the output cannot encode, and what would steer the terminal, escaped."""
    text = "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)
