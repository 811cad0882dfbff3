"""The command `algolia-usertoken`. What a command needs is imported when it runs, so that --help stays fast."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

_EXIT_CODES = """\
exit codes:
  0    all is well
  1    the demo found a mismatch
  2    wrong usage, or input that cannot be used
  130  interrupted (Ctrl-C)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv[1:]`) and return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough. The interpreter flushes once more at exit: give it a place to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="algolia-usertoken",
        description="Searches and events that carry the same user token, for the Algolia Python client.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_demo(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="see how users are told apart, without an account",
        description="Lets several visitors search and click at the same time, each under an identity of their own, on\n"
        "a stand-in for Algolia that runs inside this process, and prints what that server received\n"
        "from whom. Needs no account and no network.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--records", metavar="FILE.json", help="your own records: a JSON list of objects with objectID")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from . import demo

    try:
        records = demo.read_records(arguments.records) if arguments.records is not None else demo.catalogue()
    except demo.RecordsError as error:
        return _refuse(error)
    return demo.run(records, as_json=arguments.json)


def _refuse(error: Exception) -> int:
    print(f"algolia-usertoken: {error}", file=sys.stderr)
    return 2


class _PrintVersion(argparse.Action):
    """argparse's own wants the version before it is asked for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"algolia-usertoken {version('algolia-usertoken')}")
        parser.exit()
