"""Sends after the exit's own hook, while nothing can be delivered, with an `on_error` that sends again."""

import atexit
import sys
from typing import Any


def late() -> None:
    send(events, [1])
    print(events.stats.accepted == events.stats.failed > 1)


atexit.register(late)  # runs after the hook of the library
from prelude import send, sender


def on_error(*_: Any) -> None:
    send(events, [2])


events = sender(int(sys.argv[1]), close_timeout=0.1, on_error=on_error)
