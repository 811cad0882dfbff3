"""What the commands share."""

from __future__ import annotations

import argparse
import sys
import textwrap
from typing import Any

EXIT_CODES = """\
exit codes:
  0    all is well
  1    a mismatch (demo), a fault (check) or an invalid token was found
  2    wrong usage, or input that cannot be used
  130  interrupted (Ctrl-C)
"""


def add_command(commands: Any, name: str, *, help: str, description: str, more: str = "") -> argparse.ArgumentParser:
    """A parser whose --help reads as a page: what it does, its options, whatever `more` says, the exit codes."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=textwrap.fill(description, 79),
        epilog=f"{more}{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def refuse(error: Exception | str) -> int:
    """Say why, in one line, and return the exit code."""
    print(f"algolia-usertoken: {error}", file=sys.stderr)
    return 2
