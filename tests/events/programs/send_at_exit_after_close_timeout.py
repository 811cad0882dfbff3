"""Sends in a handler of atexit, for which a minute has passed since the exit began."""

import atexit
import time


def late() -> None:
    now = time.monotonic
    time.monotonic = lambda: now() + 60
    send(events, range(10))
    print(events.stats.delivered)


atexit.register(late)
from prelude import send, sender

events = sender()
