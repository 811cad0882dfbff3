"""The command `algolia-usertoken`. Each command imports what it needs when it runs, so that --help is fast."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from . import audit, check, demo, erase, outbox, send, serve, token
from .common import EXIT_CODES, refuse

_DESCRIPTION = """\
Searches and events that carry the same user token, for the Algolia Python
client.

`demo` shows what this is about. `serve` runs a stand-in for Algolia, to develop
and test without an account, and to watch in a browser. `check` finds out what
is wrong with the set-up of a real application, `audit` what is wrong with its
traffic.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: `sys.argv[1:]`) and return the exit code."""
    for closed in ("stdout", "stderr"):  # a shell's `>&-` closes them
        if getattr(sys, closed) is None:
            setattr(sys, closed, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    try:
        arguments = _parsed(argv)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        # The interpreter flushes the output once more when it exits, and needs a place to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # whoever read our output has seen enough
            return 141
        return refuse(error.strerror or error)  # a full disk
    return code


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    try:
        return _parser().parse_args(argv)
    except SystemExit:  # of --help and --version
        sys.stdout.flush()  # `main` reports a disk that is full, as it does for any command
        raise


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="algolia-usertoken",
        description=_DESCRIPTION,
        epilog=f"`algolia-usertoken COMMAND --help` describes a command.\n\n{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (demo, serve, check, audit, send, outbox, erase, token):
        command.add(commands)
    return parser


class _Parser(argparse.ArgumentParser):
    """The parser of the command line, and that of each command, as argparse makes the latter of the same class.

    It takes no abbreviated options: `--secret`, with the secret after it, would be taken for `--secret-file`. And its
    errors do not repeat what was given, which may be anything.
    """

    _given: tuple[str, ...] = ()

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "allow_abbrev": False})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._given = tuple(sys.argv[1:] if args is None else args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        for given in self._given:
            for value in (given, given.partition("=")[2]):
                message = message.replace(repr(value), "...") if value else message
        start, unrecognized, given = message.partition("unrecognized arguments: ")
        names = [_option_of(one) or "..." for one in given.split(" ")] if unrecognized else []
        super().error(" ".join([start + unrecognized.rstrip(), *names]))


def _option_of(argument: str) -> str | None:
    found = re.fullmatch(r"(--[a-z-]+)(=.*)?", argument)
    return found and found[1]


class _PrintVersion(argparse.Action):
    """Reads the version only if it is asked for; argparse's own action needs it when the parser is made."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"algolia-usertoken {version('algolia-usertoken')}")
        parser.exit()
