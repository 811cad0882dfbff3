"""Imports the library and sends in a handler of atexit."""

import atexit
import threading  # noqa: F401  # as in any program that runs for a while: at exit it is too late for it


def late() -> None:
    from prelude import send, sender

    events = sender()
    send(events, range(100))
    send(sender(), range(100, 200))


atexit.register(late)
