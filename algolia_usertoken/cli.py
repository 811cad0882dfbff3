"""The command `algolia-usertoken`. What a command needs is imported when it runs, so that --help stays fast."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .testing import LocalAlgolia

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
    _add_serve(commands)
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


def _add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "serve",
        help="run the stand-in for Algolia, and watch in a browser who searches and clicks",
        description="Runs a stand-in for Algolia on this machine's loopback interface, for your application and its\n"
        "pages to talk to, until Ctrl-C. Open its address in a browser: the page shows each search and\n"
        "event as it arrives, by user token, and marks what does not fit. Everything is kept in memory.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port", type=_port, default=8108, metavar="N", help="the port to listen on (default: 8108; 0: a free one)"
    )
    parser.add_argument("--index", default="products", metavar="NAME", help="the index to fill (default: products)")
    parser.add_argument(
        "--records",
        metavar="FILE.json",
        help="your own records: a JSON list of objects with objectID (default: the demo's catalogue)",
    )
    parser.set_defaults(run=_serve)


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, not {text!a}")


def _serve(arguments: argparse.Namespace) -> int:
    import signal
    import threading

    from . import demo
    from .testing import LocalAlgolia

    try:
        records = demo.read_records(arguments.records) if arguments.records is not None else demo.catalogue()
        algolia = LocalAlgolia(port=arguments.port)
        algolia.save_objects(arguments.index, records)
    except ValueError as error:  # a RecordsError, too
        return _refuse(error)
    terminated = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    try:
        algolia.start()
    except OSError as error:
        signal.signal(signal.SIGTERM, before)
        why = os.strerror(error.errno) if error.errno else error
        return _refuse(f"cannot listen on {algolia.host} port {arguments.port}: {why}")
    try:
        with algolia:
            print(_how_to_use(algolia, arguments.index, len(records)), flush=True)
            # With a time limit, for on Windows a wait without one is not interrupted by Ctrl-C.
            while not terminated.wait(3600):
                pass
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _how_to_use(algolia: LocalAlgolia, index: str, count: int) -> str:
    return f"""\
{algolia.url}/ shows who searches and clicks: open it in a browser.

  app id   {algolia.app_id}
  API key  {algolia.api_key}
  index    {index} ({count:,} {"record" if count == 1 else "records"})

Lead a Python client here:

  from algolia_usertoken import TokenAwareClientSync, testing
  there = testing.LocalAlgolia(port={algolia.port})
  client = TokenAwareClientSync.create_with_config(there.search_config(), insights_config=there.insights_config())

Ctrl-C ends it."""


def _refuse(error: Exception | str) -> int:
    print(f"algolia-usertoken: {error}", file=sys.stderr)
    return 2


class _PrintVersion(argparse.Action):
    """argparse's own wants the version before it is asked for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print(f"algolia-usertoken {version('algolia-usertoken')}")
        parser.exit()
