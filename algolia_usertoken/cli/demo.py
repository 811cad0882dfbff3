"""algolia-usertoken demo"""

from __future__ import annotations

import argparse
from typing import Any

from .common import add_command, refuse


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "demo",
        help="see how users are told apart, without an account",
        description="Lets several visitors search and click at the same time, each under an identity of their own, on "
        "a stand-in for Algolia that runs inside this process, and prints what that server received "
        "from whom. Needs no account and no network.",
    )
    parser.add_argument("--records", metavar="FILE.json", help="your own records: a JSON list of objects with objectID")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from .. import demo

    try:
        records = demo.read_records(arguments.records) if arguments.records is not None else demo.catalogue()
    except demo.RecordsError as error:
        return refuse(error)
    return demo.run(records, as_json=arguments.json)
