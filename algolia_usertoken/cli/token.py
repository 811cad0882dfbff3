"""algolia-usertoken token"""

from __future__ import annotations

import argparse
import io
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from .common import add_command, refuse, wrapped

_SECRET = "ALGOLIA_USERTOKEN_SECRET"
_MORE = f"""\
environment:
  {_SECRET}  the secret for `pseudonymous`

examples:
  algolia-usertoken token anonymous
  {_SECRET}=... algolia-usertoken token pseudonymous 1234
  algolia-usertoken token validate user-1 jane@example.com
  cut -d, -f1 users.csv | algolia-usertoken token validate -

"""


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "token",
        help="make a user token, or find out what is wrong with one",
        description="Makes user tokens as the library does, and says whether Algolia would accept a token.",
        more=_MORE,
    )
    kinds = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    anonymous = add_command(
        kinds,
        "anonymous",
        help="print a new anonymous token",
        description="Prints a new anonymous token, of the kind that Algolia's browser libraries make: "
        "`anonymous-` and a random UUID.",
    )
    anonymous.set_defaults(run=_anonymous)
    pseudonymous = add_command(
        kinds,
        "pseudonymous",
        help="print the token of a user id",
        description="Prints the token that pseudonymous_user_token() makes of a user id: the same one each time, "
        "without personal data, and of no use to anybody who does not know the secret.",
        more=f"environment:\n  {_SECRET}  the secret, if --secret-file is not given\n\n",
    )
    pseudonymous.add_argument("user_id", metavar="USER_ID", help="the id in your database, an e-mail address, ...")
    pseudonymous.add_argument("--prefix", default="user-", metavar="TEXT", help="how the token begins (default: user-)")
    pseudonymous.add_argument(
        "--secret-file", metavar="FILE", help="a file with the secret; a line end after it is ignored"
    )
    pseudonymous.set_defaults(run=_pseudonymous)
    validate = add_command(
        kinds,
        "validate",
        help="say whether tokens are valid, and what is wrong with the others",
        description="Says for each token whether Algolia would accept it, and if not, what is wrong with it.",
    )
    validate.add_argument(
        "tokens", nargs="+", metavar="TOKEN", help="a token; or -, to read tokens from the standard input, one per line"
    )
    validate.set_defaults(run=_validate)


def _anonymous(arguments: argparse.Namespace) -> int:
    from .. import anonymous_user_token

    print(anonymous_user_token())
    return 0


def _pseudonymous(arguments: argparse.Namespace) -> int:
    from .. import pseudonymous_user_token

    secret: str | bytes = os.environ.get(_SECRET, "")
    if arguments.secret_file is not None:
        try:
            secret = pathlib.Path(arguments.secret_file).read_bytes().rstrip(b"\r\n")
        except (OSError, ValueError) as error:
            return refuse(f"--secret-file cannot be read: {getattr(error, 'strerror', None) or error}")
    if not secret:
        return refuse(f"the secret is missing: set {_SECRET}, or give --secret-file")
    try:
        print(pseudonymous_user_token(arguments.user_id, secret=secret, prefix=arguments.prefix))
    except (ValueError, TypeError) as error:
        return refuse(error)
    return 0


def _validate(arguments: argparse.Namespace) -> int:
    from .. import InvalidUserTokenError, validate_user_token

    if "-" in arguments.tokens and sys.stdin is None:
        return refuse("the input is closed: no tokens can be read")
    if "-" in arguments.tokens and isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="backslashreplace")  # a line that is no text is not a valid token either
    wrong = False
    for name, token in _named(arguments.tokens):
        try:
            validate_user_token(token)
        except InvalidUserTokenError as error:
            wrong = True
            print(wrapped(f"invalid  {name}: {error}", " " * len("invalid  ")))
        else:
            print(f"valid    {token}")
    return 1 if wrong else 0


def _named(tokens: list[str]) -> Iterator[tuple[str, str]]:
    """The tokens to look at, each with the place where it was given: a token that is not valid is not quoted."""
    for number, given in enumerate(tokens, start=1):
        if given == "-":
            for line_number, line in enumerate(sys.stdin, start=1):
                yield f"line {line_number}", line.rstrip("\r\n")
        else:
            yield f"argument {number}", given
