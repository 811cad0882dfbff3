"""Functions that the commands share."""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from algoliasearch.insights.config import InsightsConfig

EXIT_CODES = """\
exit codes:
  0    all is well
  1    a mismatch (demo), a fault (check, audit, outbox check) or an invalid
       token (token validate) was found, or some events were not delivered
       (outbox drain) or accepted (send), or some data was not erased (erase)
  2    wrong usage, or input that cannot be used; or Algolia gave no figures
       (audit), or could not be reached or did not accept the key (send)
  130  interrupted (Ctrl-C)
"""


WIDTH = 80
COLOURS = {"ok": "32", "wrong": "31", "unknown": "33", "skipped": "2"}  # of the states of a finding
REGIONS = ("us", "de")
APPLICATION = """\
environment:
  ALGOLIA_APP_ID      the application's id, if --app-id is not given
  ALGOLIA_API_KEY     the key, if --api-key is not given. Here it is safer: all
                      users of the machine can see the options of a command
"""
# What `serve` serves. With --host these are the defaults, if neither an option nor the environment says otherwise.
_LOCAL = {"app_id": "LOCALALGOLIA", "api_key": "local-api-key", "index": "products"}
_VARIABLES = {"app_id": "ALGOLIA_APP_ID", "api_key": "ALGOLIA_API_KEY", "index": "ALGOLIA_INDEX_NAME"}


def add_command(commands: Any, name: str, *, help: str, description: str, more: str = "") -> argparse.ArgumentParser:
    """Add a command whose --help reads as a page: what it does, its options, whatever `more` says, the exit codes."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=textwrap.fill(description, WIDTH - 1),
        epilog=f"{more}{EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a new option could change what an abbreviation in a script means
    )
    return parser


def add_application(
    parser: argparse.ArgumentParser,
    *,
    key: str,
    host_is: str,
    index: str | None = None,
    region: str = "where Algolia keeps the events (default: chosen by geography)",
) -> None:
    """Add the options that `application` and `insights_config` read.

    Args:
        parser: The parser of the command.
        key: The help text of --api-key: which key the command needs.
        host_is: The help text of --host: what the stand-in is for.
        index: The help text of --index; None if the command takes no index.
        region: The help text of --region.
    """
    parser.add_argument("--app-id", metavar="ID", help="the application's id")
    parser.add_argument("--api-key", metavar="KEY", help=key)
    if index is not None:
        parser.add_argument("--index", metavar="NAME", help=index)
    parser.add_argument("--region", choices=REGIONS, help=region)
    parser.add_argument("--host", type=host, metavar="HOST:PORT", help=host_is)


def refuse(error: Exception | str) -> int:
    """Say on stderr why the command cannot do its work, in one line, and return its exit code."""
    with suppress(OSError):  # stderr can't be written
        print(f"algolia-usertoken: {error}", file=sys.stderr)
    return 2


def host(text: str) -> tuple[str, str, int | None]:
    """The scheme, name and port of a stand-in."""
    try:
        url = urlsplit(text if "://" in text else f"http://{text}")
        if url.scheme in ("http", "https") and url.hostname and url.path in ("", "/") and url.username is None:
            name = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
            return url.scheme, name, url.port
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("must have the form 127.0.0.1:8108 or http://127.0.0.1:8108")


def application(arguments: argparse.Namespace, *names: str) -> dict[str, str | None]:
    """The values that a command needs about the application, and the application's region.

    A value comes from its option, or else from the environment, or else, with --host, from the defaults of `serve`.

    Args:
        arguments: The options of the command: `names`, `host` and `region`.
        names: The values that the command needs: "app_id", "api_key", "index".

    Raises:
        ValueError: A value is missing or cannot be valid.
    """
    given: dict[str, str | None] = {}
    for name in names:
        option, variable = f"--{name.replace('_', '-')}", _VARIABLES[name]
        value, source = getattr(arguments, name), option
        if not value and os.environ.get(variable):
            value, source = os.environ[variable], variable
        if not value and arguments.host is not None:
            value = _LOCAL[name]
        if not value:
            raise ValueError(f"{option} is missing: give it, or set {variable}")
        _CHECKS[name](source, value)
        given[name] = value
    region = arguments.region or os.environ.get("ALGOLIA_REGION") or None
    if region not in (None, *REGIONS):
        raise ValueError("ALGOLIA_REGION must be us or de")
    given["region"] = region
    return given


def check_index(source: str, value: str) -> None:
    """Check that an index can have this name; the error names its source, such as "--index".

    Raises:
        ValueError: No index can have this name.
    """
    if not value:
        raise ValueError(f"{source} is empty: it must be the name of an index")
    if value in (".", ".."):
        raise ValueError(f"{source} {value!r} cannot be an index name: it has a special meaning in URLs")
    if value.encode("utf-8", "replace").decode() != value:
        raise ValueError(f"{source} {value!a} cannot be an index name: it has characters that UTF-8 cannot encode")


def _check_api_key(source: str, value: str, what: str = "an API key") -> None:
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise ValueError(f"{source} cannot be {what}: it has characters that are not allowed in one")


def _check_app_id(source: str, value: str) -> None:
    what = "the id of an application"
    _check_api_key(source, value, what)
    if not re.fullmatch(r"[\w-]+", value):  # the id is a part of the host names
        raise ValueError(f"{source} cannot be {what}: it has characters that are not allowed in one")
    if re.fullmatch("[0-9a-f]{32}", value):
        raise ValueError(f"{source} cannot be {what}: it looks like an API key")


_CHECKS: dict[str, Callable[[str, str], None]] = {
    "app_id": _check_app_id,
    "api_key": _check_api_key,
    "index": check_index,
}


def wrapped(text: str, indent: str = "") -> str:
    """Wrap text to lines that fit a terminal; all lines but the first are indented, and no word is broken."""
    return printable(
        textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    )


def counted(count: int, one: str = "event", several: str = "events") -> str:
    """A number with its noun: "1 event", "2,000 events"."""
    return f"{count:,} {one if count == 1 else several}"


def insights_config(arguments: argparse.Namespace, given: dict[str, str | None]) -> InsightsConfig:
    """The config to reach the Insights API of the application, or the stand-in."""
    from algoliasearch.insights.config import InsightsConfig

    config = InsightsConfig(given["app_id"], given["api_key"], given["region"])
    lead(config, arguments)
    return config


def lead(config: Any, arguments: argparse.Namespace) -> None:
    """Make a config of algoliasearch use the stand-in, if one is given."""
    from algoliasearch.http.hosts import Host, HostsCollection

    if arguments.host is not None:
        scheme, name, port = arguments.host
        config.hosts = HostsCollection([Host(url=name, scheme=scheme, port=port)])


@contextmanager
def progress() -> Iterator[Any]:
    """Yield a function that shows progress on one line of the terminal, and does nothing without a terminal."""
    shown = False

    def say(text: str) -> None:
        nonlocal shown
        if sys.stderr is not None and sys.stderr.isatty() and (text or shown):
            sys.stderr.write(f"\r\033[K{text}")
            sys.stderr.flush()
            shown = bool(text)

    try:
        yield say
    finally:
        say("")


def finding_as_text(colour: str, state: str, step: str, said: str, remedy: str) -> str:
    """What a step of a check found, in lines that fit a terminal, and in colour if the output is a terminal."""
    indent = " " * 22
    lines = textwrap.wrap(said, WIDTH, initial_indent=f"{state:8}  {step:10}  ", subsequent_indent=indent)
    lines += textwrap.wrap(remedy, WIDTH, initial_indent=f"{indent}→ ", subsequent_indent=f"{indent}  ")
    text = "\n".join(printable(line) for line in lines)
    if is_coloured():
        return f"\033[{colour}m{state}\033[0m{text[len(state) :]}"
    return text


def is_coloured() -> bool:
    """Whether the output is a terminal whose user wants colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def printable(text: str) -> str:
    """The text, with those characters escaped that the output cannot encode or that would control the terminal."""
    text = "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "backslashreplace").decode(encoding)
