"""A parent that sends 200 events, and a child of multiprocessing that sends 1000 and returns."""

from __future__ import annotations

import multiprocessing
import sys

from prelude import send, sender


def work() -> None:
    global events
    events = sender()
    send(events, range(1000, 2000))


if __name__ == "__main__":
    events = sender()
    send(events, range(200))
    child = multiprocessing.get_context(sys.argv[1]).Process(target=work)
    child.start()
    child.join()
