"""Exits while nothing can be delivered, with 300 senders, each of which has an `on_error` that takes its time."""

import atexit
import sys
import time
from typing import Any

told: list[None] = []


def report() -> None:
    until = time.monotonic() + 30  # the exit waited a moment for them; on a busy machine, some begin later
    while len(told) < 300 and time.monotonic() < until:
        time.sleep(0.01)
    print(len(told))


atexit.register(report)  # runs last
from prelude import send, sender


def on_error(*_: Any) -> None:
    told.append(None)
    time.sleep(60)


events = [sender(int(sys.argv[1]), close_timeout=0.5, on_error=on_error) for _ in range(300)]
for one in events:
    send(one, [0])
