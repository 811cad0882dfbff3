"""Interrupts the first use of `client.events` by a second one: after a fork, in a signal's handler or in a `__del__`.

The argument says which: "fork", "signal" or "del". What is imported is there before: a fork in the middle of an import
leaves the child with half a module.
"""

import gc
import os
import signal
import sys
import threading

from algoliasearch.http.transporter_sync import EchoTransporterSync
from algoliasearch.search.config import SearchConfig

import algolia_usertoken.events.sender as module
from algolia_usertoken import TokenAwareClientSync

client = TokenAwareClientSync("A", "k", EchoTransporterSync(SearchConfig("A", "k")), user_token="u")
inside, go_on = threading.Event(), threading.Event()
seen = []


def in_the_middle(interrupt):
    """The first to make the sender is interrupted, where a second one comes."""
    make = module.EventSender.__init__

    def once(*args, **kwargs):
        module.EventSender.__init__ = make
        interrupt()
        make(*args, **kwargs)

    module.EventSender.__init__ = once


def wait() -> None:
    inside.set()
    go_on.wait()


def by_a_fork() -> None:
    in_the_middle(wait)
    threading.Thread(target=lambda: client.events).start()
    inside.wait()
    child = os.fork()
    if not child:
        os._exit(0 if client.events.stats.accepted == 0 else 3)
    assert os.waitpid(child, 0)[1] == 0
    go_on.set()


def by_a_signal() -> None:
    signal.signal(signal.SIGUSR1, lambda *_: seen.append(client.events))
    in_the_middle(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert client.events is client.events is seen[0]


class Cycle:
    def __del__(self) -> None:
        seen.append(client.events)


def collect() -> None:
    cycle = Cycle()
    cycle.itself = cycle
    del cycle
    gc.collect()


def by_a_del() -> None:
    in_the_middle(collect)
    assert client.events is client.events is seen[0]


{"fork": by_a_fork, "signal": by_a_signal, "del": by_a_del}[sys.argv[1]]()
