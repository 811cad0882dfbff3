"""algolia-usertoken serve"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from .common import add_command, check_index, refuse

if TYPE_CHECKING:
    from ..testing import LocalAlgolia


def add(commands: Any) -> None:
    parser = add_command(
        commands,
        "serve",
        help="run the stand-in for Algolia, and watch in a browser who searches and clicks",
        description="Runs a stand-in for Algolia on this machine's loopback interface, for your application and its "
        "pages to talk to, until Ctrl-C. Open its address in a browser: the page shows each search and "
        "event as it arrives, by user token, and marks what does not fit. Everything is kept in memory.",
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
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name, such as shop.test, that requests may use besides localhost; may be given several times",
    )
    parser.set_defaults(run=run)


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65_535:
        return int(text)
    raise argparse.ArgumentTypeError("must be a number from 0 to 65535")


def run(arguments: argparse.Namespace) -> int:
    import signal
    import threading

    from .. import demo
    from ..testing import LocalAlgolia

    try:
        records = demo.read_records(arguments.records) if arguments.records is not None else demo.catalogue()
        check_index("--index", arguments.index)
        algolia = LocalAlgolia(port=arguments.port, allowed_hosts=arguments.allow_host)
        algolia.save_objects(arguments.index, records)
    except ValueError as error:  # a RecordsError, too
        return refuse(error)
    terminated = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: terminated.set())
    try:
        algolia.start()
    except OSError as error:
        signal.signal(signal.SIGTERM, before)
        why = os.strerror(error.errno) if error.errno else error
        return refuse(f"cannot listen on {algolia.host} port {arguments.port}: {why}")
    try:
        with algolia:
            print(_how_to_use(algolia, arguments.index, len(records)), flush=True)
            # With a time limit, for on Windows a wait without one is not interrupted by Ctrl-C.
            while not terminated.wait(3600):
                pass  # pragma: no cover - an hour later
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
  client = TokenAwareClientSync.create_with_config(
      there.search_config(), insights_config=there.insights_config()
  )

For an async client, write TokenAwareClient instead of TokenAwareClientSync.

algoliasearch reads no address from the environment, but your application can:
see "Connecting an application" in the docs. With the code from there, set

  export ALGOLIA_URL={algolia.url}
  export ALGOLIA_APP_ID={algolia.app_id} ALGOLIA_API_KEY={algolia.api_key}

check, audit, send, erase and outbox drain take --host {algolia.host}:{algolia.port}.

Ctrl-C ends it."""
